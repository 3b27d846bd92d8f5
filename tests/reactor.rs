//! The reactor on loopback sockets: what each client gets, how connections end, and what is left when they are gone.
//!
//! Few tests run beside each other: those that count threads, descriptors or memory have the process to themselves.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

#[path = "reactor/crowds.rs"]
mod crowds;
#[path = "reactor/delivery.rs"]
mod delivery;
#[path = "reactor/endings.rs"]
mod endings;
#[path = "reactor/handle.rs"]
mod handle;
#[path = "reactor/net.rs"]
mod net;
