//! The limits of a reactor, named and checked once.

use std::fmt;
use std::io;
use std::time::Duration;

use super::{Closed, Reactor};
use crate::sync::HostArc;

/// A reactor that could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactorError {
    /// A limit is out of its range.
    #[error("{limit} is {value}; it must be from {least} to {most}")]
    OutOfRange {
        /// The builder method that set it.
        limit: &'static str,
        /// The refused value, in the unit of the method (milliseconds for durations).
        value: u128,
        /// The least value that is accepted.
        least: u128,
        /// The largest value that is accepted.
        most: u128,
    },
    /// Connections are tasks on this system, and there is no tokio runtime here.
    #[error("a reactor has to be built inside a tokio runtime on this system")]
    NoRuntime,
    /// The system refused a poll or a thread.
    #[error("cannot start shard {shard}: {error}")]
    Start {
        /// Which shard, from 0.
        shard: usize,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

pub(super) type OnClose = HostArc<dyn Fn(&Closed) + Send + Sync>;

/// Sets the limits of a [`Reactor`]. Made by [`Reactor::builder`].
///
/// | method | default | range |
/// |---|---|---|
/// | [`shards`](Self::shards) | one per core | 1 to 1,024 |
/// | [`stall_timeout`](Self::stall_timeout) | 30 s | 10 ms to 1 hour |
/// | [`idle_timeout`](Self::idle_timeout) | none | 10 ms to 30 days |
/// | [`send_buffer_bytes`](Self::send_buffer_bytes) | 64 KiB | 4 KiB to 64 MiB |
/// | [`pin_to_cores`](Self::pin_to_cores) | `false` | |
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct ReactorBuilder {
    pub(super) shards: Option<usize>,
    pub(super) stall_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) send_buffer_bytes: usize,
    pub(super) pin_to_cores: bool,
    pub(super) on_close: Option<OnClose>,
}

impl ReactorBuilder {
    pub(super) fn new() -> Self {
        Self {
            shards: None,
            stall_timeout: Duration::from_secs(30),
            idle_timeout: None,
            send_buffer_bytes: 64 * 1024,
            pin_to_cores: false,
            on_close: None,
        }
    }

    /// Where sockets are served by threads: how many, `fanfare-shard-0` and so on. Connections are dealt to them evenly.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// How long a socket may take no byte while there are bytes for it. Then the connection is closed, with
    /// [`CloseReason::Stalled`](super::CloseReason::Stalled); it happens at most a fiftieth of the time late.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// How long a topic may be without an event. Then its streams end, with [`CloseReason::Idle`](super::CloseReason::Idle).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// `SO_SNDBUF` of each socket: what the kernel keeps at most for a client that does not read. Linux accounts for twice
    /// as much, overhead included.
    ///
    /// It bounds the throughput of one connection to this much per round trip. Without a bound the kernel keeps several
    /// megabytes for each stalled client.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        self.send_buffer_bytes = bytes;
        self
    }

    /// Whether each shard's thread stays on one of the cores that the process may use, as far as they go round. Linux only;
    /// elsewhere nothing happens.
    pub fn pin_to_cores(mut self, pin: bool) -> Self {
        self.pin_to_cores = pin;
        self
    }

    /// Runs `callback` for each connection that has ended, on the thread of its shard: it must be short and must not block.
    /// A callback that keeps a clone of the reactor keeps it from ending by being dropped.
    pub fn on_close(mut self, callback: impl Fn(&Closed) + Send + Sync + 'static) -> Self {
        self.on_close = Some(HostArc::new(callback));
        self
    }

    /// Starts the threads. Where connections are tasks, they are tasks of the tokio runtime that this is called in.
    ///
    /// # Errors
    ///
    /// [`ReactorError`] if a limit is out of range, the system refuses a thread or a poll, or a runtime is needed and there
    /// is none.
    pub fn build(self) -> Result<Reactor, ReactorError> {
        const MS: fn(Duration) -> u128 = |d| d.as_millis();
        let ranges = [
            ("shards", self.shards.map(|shards| shards as u128), 1, 1024),
            ("stall_timeout", Some(MS(self.stall_timeout)), 10, 3_600_000),
            (
                "idle_timeout",
                self.idle_timeout.map(MS),
                10,
                30 * 86_400_000,
            ),
            (
                "send_buffer_bytes",
                Some(self.send_buffer_bytes as u128),
                4 * 1024,
                64 * 1024 * 1024,
            ),
        ];
        for (limit, value, least, most) in ranges {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return Err(ReactorError::OutOfRange {
                    limit,
                    value,
                    least,
                    most,
                });
            }
        }
        Reactor::start(&self)
    }
}

impl fmt::Debug for ReactorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorBuilder")
            .field("shards", &self.shards)
            .field("stall_timeout", &self.stall_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("send_buffer_bytes", &self.send_buffer_bytes)
            .field("pin_to_cores", &self.pin_to_cores)
            .finish_non_exhaustive()
    }
}
