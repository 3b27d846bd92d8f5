//! A million sockets at the cost of a cursor each: threads that own sockets and serve them from the log.
//!
//! **Role.** [`Reactor`] deals connections to its shards. A shard is one thread, one poll, and one subscription per topic; a
//! connection is a socket and a place, with no task and no buffer.

mod batch;
mod config;
mod connection;
mod crowd;
mod driver;
mod inbox;
mod shard;
#[cfg(feature = "_simulate")]
pub(crate) mod simulate;
mod socket;
#[cfg(test)]
mod tests;
mod totals;
mod wheel;

use std::fmt;
use std::io;
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use socket2::SockRef;

use config::OnClose;
pub use config::{ReactorBuilder, ReactorError};
use driver::{Command, Driver, ShardInbox, Teller};
use shard::{Joiner, Limits};
use totals::Totals;
use wheel::Wheel;

use super::sse::Sse;
use crate::sync::{
    AtomicBool, HostArc, JoinHandle, Mutex, Ordering, PoisonError, ThreadBuilder, ThreadId,
    core_count, fence, this_thread,
};
use crate::unwind::FirstPanic;

/// Names one connection of a [`Reactor`], for as long as the reactor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a connection of a [`Reactor`] has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed the connection, or its side of it: who streams has nothing more to ask.
    PeerClosed,
    /// The client reset the connection, or the network did.
    PeerReset,
    /// The client took no byte for the `stall_timeout`.
    Stalled,
    /// Nothing was published for the `idle_timeout`.
    Idle,
    /// Events were dropped before the client took them, and its policy is
    /// [`LagPolicy::Disconnect`](crate::LagPolicy::Disconnect). It was told how many.
    Lagged,
    /// The topics were closed, and the client has got all their events.
    TopicClosed,
    /// The client sent more than 64 KiB, where it had nothing to say.
    TooMuchInput,
    /// The reactor was shut down.
    Shutdown,
    /// The system refused to go on with the socket.
    Failed(io::ErrorKind),
}

impl CloseReason {
    fn of(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut => Self::PeerReset,
            kind => Self::Failed(kind),
        }
    }

    const fn number(self) -> usize {
        match self {
            Self::PeerClosed => 0,
            Self::PeerReset => 1,
            Self::Stalled => 2,
            Self::Idle => 3,
            Self::Lagged => 4,
            Self::TopicClosed => 5,
            Self::TooMuchInput => 6,
            Self::Shutdown => 7,
            Self::Failed(_) => 8,
        }
    }
}

/// A connection that has ended; see [`ReactorBuilder::on_close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Which connection: what [`Reactor::adopt`] gave.
    pub connection: ConnectionId,
    /// Why it ended.
    pub reason: CloseReason,
}

/// What a reactor holds and has done; see [`Reactor::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorStats {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were adopted since the start.
    pub adopted: u64,
    /// Ended with [`CloseReason::PeerClosed`].
    pub closed_by_peer: u64,
    /// Ended with [`CloseReason::PeerReset`].
    pub reset_by_peer: u64,
    /// Ended with [`CloseReason::Stalled`].
    pub stalled: u64,
    /// Ended with [`CloseReason::Idle`].
    pub idle: u64,
    /// Ended with [`CloseReason::Lagged`].
    pub lagged: u64,
    /// Ended with [`CloseReason::TopicClosed`].
    pub topic_closed: u64,
    /// Ended with [`CloseReason::TooMuchInput`].
    pub too_much_input: u64,
    /// Ended with [`CloseReason::Shutdown`].
    pub shut_down: u64,
    /// Ended with [`CloseReason::Failed`].
    pub failed: u64,
}

/// Why a connection was not adopted. The socket is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The reactor was shut down.
    #[error("the reactor is shut down")]
    ShutDown,
    /// The socket refused an option, so it is none that can be served.
    #[error("the socket cannot be set up: {0}")]
    Socket(#[source] io::Error),
}

/// Threads that own connections and stream topics to them.
///
/// A connection costs a socket and a place in the log: about 60 bytes beside what the kernel keeps. It has no task, no
/// buffer and no timer of its own. A publish wakes each thread that serves the topic at most once; that thread writes the new
/// events, gathered once, to each of its sockets. A client that does not read costs nothing but its place, until it is so far
/// behind that its [lag policy](crate::LagPolicy) applies, or it has taken no byte for the
/// [`stall_timeout`](ReactorBuilder::stall_timeout).
///
/// Clones are cheap and share everything. Dropping the last one closes all connections.
///
/// # Delivery
///
/// As on the task path: see [`Sse`]. What a client sends is dropped, and one that sends more than 64 KiB is closed. One that
/// closes its sending side is taken for gone.
///
/// # Examples
///
/// ```
/// use std::io::Read as _;
/// use std::net::{TcpListener, TcpStream};
/// use fanfare::{Event, Hub, Reactor, Sse};
///
/// let hub = Hub::new();
/// let reactor = Reactor::builder().shards(1).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (socket, _) = listener.accept()?;
///
/// let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
/// reactor.adopt(socket, head, hub.subscribe("news")?.into_sse())?;
/// hub.publish("news", Event::text("hello"))?;
/// hub.close();
///
/// let mut received = String::new();
/// client.read_to_string(&mut received)?;
/// assert!(received.ends_with("data: hello\n\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Reactor {
    inner: HostArc<Inner>,
}

struct Inner {
    inboxes: Box<[HostArc<ShardInbox>]>,
    totals: HostArc<Totals>,
    on_close: Option<OnClose>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The same threads, to be told apart without the lock.
    ids: Box<[ThreadId]>,
    stopped: AtomicBool,
    send_buffer_bytes: usize,
}

impl Reactor {
    /// Sets limits.
    pub fn builder() -> ReactorBuilder {
        ReactorBuilder::new()
    }

    /// A reactor with the default limits.
    ///
    /// # Errors
    ///
    /// [`ReactorError`] if the system refuses a thread or a poll.
    pub fn new() -> Result<Self, ReactorError> {
        Self::builder().build()
    }

    fn start(builder: &ReactorBuilder) -> Result<Self, ReactorError> {
        let shards = builder.shards.unwrap_or_else(core_count).clamp(1, 1024);
        let totals = HostArc::new(Totals::new(shards));
        let tick = Wheel::<()>::tick_for(builder.stall_timeout);
        let ticks = |duration: std::time::Duration| {
            u64::try_from(duration.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u64::MAX)
        };
        let limits = Limits {
            // One more: the first is cut short.
            stall: ticks(builder.stall_timeout) + 1,
            idle: builder.idle_timeout.map(ticks),
            // Half of it: a socket that is drained takes a batch while the one before is on its way.
            batch_bytes: (builder.send_buffer_bytes / 2).clamp(16 * 1024, 256 * 1024),
        };
        let mut inboxes = Vec::with_capacity(shards);
        let mut threads = Vec::with_capacity(shards);
        let mut failed = None;
        for shard in 0..shards {
            let teller = Teller {
                totals: HostArc::clone(&totals),
                shard,
                on_close: builder.on_close.clone(),
            };
            let driver = Driver::new(teller, tick, limits);
            let started = driver.and_then(|driver| {
                inboxes.push(HostArc::clone(driver.inbox()));
                let pin = builder.pin_to_cores;
                ThreadBuilder::new()
                    .name(format!("fanfare-shard-{shard}"))
                    .spawn(move || {
                        if pin {
                            pin_to_core(shard);
                        }
                        driver.run();
                    })
            });
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(ReactorError::Start { shard, error });
                    break;
                }
            }
        }
        let reactor = Self {
            inner: HostArc::new(Inner {
                inboxes: inboxes.into_boxed_slice(),
                totals,
                on_close: builder.on_close.clone(),
                ids: threads.iter().map(|thread| thread.thread().id()).collect(),
                threads: Mutex::new(threads),
                stopped: AtomicBool::new(false),
                send_buffer_bytes: builder.send_buffer_bytes,
            }),
        };
        match failed {
            // Dropping it stops the threads that were started.
            Some(error) => Err(error),
            None => Ok(reactor),
        }
    }

    /// Streams `sse` on `socket` after `first`, which is usually the head of a response. The connection goes to the shard
    /// with the fewest.
    ///
    /// The socket is made non-blocking, `TCP_NODELAY` is set, and `SO_SNDBUF` is set to the builder's `send_buffer_bytes`.
    /// `first` is sent as it is, and then bytes without framing until the connection closes: the head must say neither
    /// `content-length` nor `transfer-encoding`. Bytes that the client has sent already are dropped.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] if the reactor is shut down or the socket cannot be set up.
    pub fn adopt(
        &self,
        socket: TcpStream,
        first: impl Into<Bytes>,
        sse: Sse,
    ) -> Result<ConnectionId, AdoptError> {
        let prepare = || {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)
        };
        prepare().map_err(AdoptError::Socket)?;
        self.adopt_prepared(socket, &first.into(), sse)
    }

    /// [`adopt`](Self::adopt), for a socket that is non-blocking and does not delay already.
    pub(crate) fn adopt_prepared(
        &self,
        socket: TcpStream,
        first: &[u8],
        sse: Sse,
    ) -> Result<ConnectionId, AdoptError> {
        // Acquire: pairs with `shutdown`.
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err(AdoptError::ShutDown);
        }
        SockRef::from(&socket)
            .set_send_buffer_size(self.inner.send_buffer_bytes)
            .map_err(AdoptError::Socket)?;
        let (opening, subscription, others) = sse.into_parts();
        let mut all = BytesMut::with_capacity(first.len() + opening.len());
        all.extend_from_slice(first);
        all.extend_from_slice(opening.as_bytes());
        let (id, shard) = self.inner.totals.deal().ok_or(AdoptError::ShutDown)?;
        let mut subscriptions = SmallVec::new();
        subscriptions.push(subscription);
        subscriptions.extend(others);
        self.inner.inboxes[shard].command(Command::Join(Box::new(Joiner {
            id,
            socket,
            first: all.freeze(),
            subscriptions,
        })));
        // Either the shard takes it, or the shutdown is seen here.
        fence(Ordering::SeqCst);
        if self.inner.stopped.load(Ordering::Relaxed) || self.inner.totals.is_dead(shard) {
            self.inner.drain(shard);
        }
        Ok(ConnectionId(id))
    }

    /// Connections that are open, or about to be.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.stats().connections
    }

    /// Connections of each shard.
    #[must_use]
    pub fn connections_per_shard(&self) -> Vec<usize> {
        let shards = 0..self.inner.inboxes.len();
        shards
            .map(|shard| self.inner.totals.connections(shard))
            .collect()
    }

    /// What the reactor holds and has done. Exact at quiescence.
    #[must_use]
    pub fn stats(&self) -> ReactorStats {
        self.inner.totals.stats()
    }

    /// Closes all connections, ends the threads and waits for them. On a thread of the reactor's own (in a callback) it
    /// does not wait.
    pub fn shutdown(&self) {
        self.inner.stop();
        if self.inner.ids.contains(&this_thread()) {
            return;
        }
        // Held while they are waited for: a second one who shuts down waits too.
        let threads = self.inner.threads.lock();
        for thread in threads.unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that has panicked has said so.
            drop(thread.join());
        }
    }
}

impl Inner {
    fn stop(&self) {
        // AcqRel: pairs with `adopt_prepared`.
        if !self.stopped.swap(true, Ordering::AcqRel) {
            for inbox in &self.inboxes {
                inbox.command(Command::Shutdown);
            }
        }
    }

    /// Closes what was adopted while the shard was going: by now nobody else takes it.
    fn drain(&self, shard: usize) {
        while let Some(command) = self.inboxes[shard].next_command() {
            match command {
                Command::Join(joiner) => {
                    let id = joiner.id;
                    drop(joiner);
                    let on_close = self.on_close.clone();
                    let totals = HostArc::clone(&self.totals);
                    let teller = Teller {
                        totals,
                        shard,
                        on_close,
                    };
                    teller.tell(id, CloseReason::Shutdown);
                }
                // The shard's own, which has not come to it yet.
                Command::Shutdown => {
                    self.inboxes[shard].command(Command::Shutdown);
                    return;
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        FirstPanic::default().run(|| self.stop());
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("shards", &self.inner.inboxes.len())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// Keeps this thread on one of the cores that the process may use.
#[cfg(target_os = "linux")]
fn pin_to_core(shard: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&core| allowed.is_set(core))
        .collect();
    if cores.is_empty() {
        return;
    }
    let mut only = CpuSet::new();
    only.set(cores[shard % cores.len()]);
    // Unpinned is slower at worst.
    let _ = sched_setaffinity(None, &only);
}

#[cfg(not(target_os = "linux"))]
fn pin_to_core(_: usize) {}
