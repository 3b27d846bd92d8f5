//! From subscription to wire. The only files that know HTTP. They read through the public API.

mod sse;

pub use sse::{Sse, SseBody};
