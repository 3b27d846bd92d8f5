//! `fanfare::serve`: every way in, byte by byte, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod client;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod heads;
mod http2;
mod kept;
mod life;
#[cfg(target_os = "linux")]
mod limits;
mod reclaim;
mod server;
mod storm;
mod streams;
