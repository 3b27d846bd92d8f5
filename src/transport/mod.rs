//! From subscription to wire. The only files that know HTTP or sockets. The task path reads through the public API; the
//! reactor, whose readers share a subscription, reads the log.

#[cfg(feature = "reactor")]
pub(crate) mod reactor;
mod sse;

pub use sse::{Sse, SseBody};
