//! From subscription to wire. The only files that know HTTP; they use nothing but the public API.

mod sse;

pub use sse::{Sse, SseBody};
