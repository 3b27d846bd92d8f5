//! From subscription to wire. The only files that know HTTP or sockets. The task path reads through the public API; the
//! reactor, whose readers share a subscription, reads the log.

mod last_event_id;
#[cfg(feature = "reactor")]
pub(crate) mod reactor;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod slot;
mod sse;

#[cfg(feature = "serve")]
pub use serve::{IntoListener, PeerAddr, ReclaimError, Serve, ServeError, reclaim, serve};
pub use sse::{Sse, SseBody};
