//! A million sockets at the cost of a cursor each: threads that own sockets and serve them from the log.
//!
//! **Role.** [`Reactor`] is what applications see. Its engine is `shards` on Unix: a shard is one thread, one poll, and one
//! subscription per topic; a connection is a socket and a place, with no task and no buffer. Elsewhere it is `tasks`: a
//! connection is a task of tokio's. Limits, errors and counts are the same; `--cfg fanfare_tasks` builds the tasks on Unix,
//! to be tested there.

mod config;
mod totals;

#[cfg(all(any(not(unix), fanfare_tasks), not(feature = "tasks")))]
compile_error!("on this system the reactor runs on tokio: enable fanfare's feature `tasks`");

#[cfg(all(unix, not(fanfare_tasks)))]
mod batch;
#[cfg(all(unix, not(fanfare_tasks)))]
mod connection;
#[cfg(all(unix, not(fanfare_tasks)))]
mod crowd;
#[cfg(all(unix, not(fanfare_tasks)))]
mod driver;
#[cfg(all(unix, not(fanfare_tasks)))]
mod inbox;
#[cfg(test)]
mod kept_tests;
#[cfg(all(unix, not(fanfare_tasks)))]
mod shard;
#[cfg(all(unix, not(fanfare_tasks)))]
mod shards;
#[cfg(all(feature = "_simulate", unix, not(fanfare_tasks)))]
pub(crate) mod simulate;
#[cfg(all(unix, not(fanfare_tasks)))]
mod socket;
#[cfg(any(not(unix), fanfare_tasks))]
mod tasks;
#[cfg(test)]
#[cfg(all(unix, not(fanfare_tasks)))]
mod tests;
#[cfg(all(unix, not(fanfare_tasks)))]
mod view;
#[cfg(all(unix, not(fanfare_tasks)))]
mod wheel;

use std::fmt;
use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};

use bytes::Bytes;
use socket2::SockRef;

pub use config::{ReactorBuilder, ReactorError};
#[cfg(all(unix, not(fanfare_tasks)))]
use shards::Engine;
#[cfg(any(not(unix), fanfare_tasks))]
use tasks::Engine;

use super::sse::Sse;
use crate::ending::EndReason;
use crate::sync::HostArc;

/// Bytes that a client may send on a stream, where nothing is expected: a few pipelined requests.
const MAX_RECEIVED_BYTES: u32 = 64 * 1024;

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
    /// It was ended from outside ([`EndHandle`](crate::EndHandle)), for this reason. The client was told if it took bytes.
    Ended(EndReason),
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

    /// The close of a connection whose subscription has ended.
    const fn of_end(reason: EndReason) -> Self {
        match reason {
            EndReason::TopicClosed => Self::TopicClosed,
            EndReason::Lagged => Self::Lagged,
            reason => Self::Ended(reason),
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
            Self::Ended(_) => 9,
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
    /// Ended with [`CloseReason::Ended`].
    pub ended: u64,
}

/// Why a connection was not adopted. The socket is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The reactor was shut down.
    #[error("the reactor is shut down")]
    ShutDown,
    /// One of the subscriptions [filters](crate::Subscription::filter), [leaves out its
    /// own](crate::Subscription::exclude_own), [conflates](crate::Subscription::conflate) or has a
    /// [rate](crate::Subscription::max_rate). The threads of a reactor send the same to all connections of a topic; return such a
    /// stream as a response, which is a task.
    #[error(
        "a subscription of the stream filters, leaves out its own events, conflates or has a rate; serve it as a response"
    )]
    Choice,
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
/// That is Unix, where the system tells one thread of all its sockets. On other systems a connection is a task of the tokio runtime in
/// which the reactor was built: the same streams, limits and counts, at the price of a task and its buffers.
///
/// # Delivery
///
/// As on the task path: see [`Sse`]. The event stays shared also if a connection has an [`Envelope`](crate::Envelope)
/// around it: the system gathers the parts. A connection that is [ended from outside](crate::EndHandle) gets the rest of
/// an event that was begun and the last comment, and is closed when its socket has taken both, or by the
/// [`stall_timeout`](ReactorBuilder::stall_timeout).
///
/// What a client sends is dropped, and one that sends more than 64 KiB is closed. One that closes its sending side is
/// taken for gone.
///
/// # Examples
///
/// ```
/// use std::io::Read as _;
/// use std::net::{TcpListener, TcpStream};
/// use fanfare::{Event, Hub, Reactor, Sse};
///
/// # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// # let _inside = runtime.enter();
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
    engine: HostArc<Engine>,
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
    /// [`ReactorError`] if the system refuses a thread or a poll, or a runtime is needed and there is none.
    pub fn new() -> Result<Self, ReactorError> {
        Self::builder().build()
    }

    fn start(builder: &ReactorBuilder) -> Result<Self, ReactorError> {
        Ok(Self {
            engine: HostArc::new(Engine::start(builder)?),
            send_buffer_bytes: builder.send_buffer_bytes,
        })
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
    /// [`AdoptError`] if the reactor is shut down, the socket cannot be set up, or a subscription has a choice that the
    /// reactor's threads do not serve ([`AdoptError::Choice`]; not where connections are tasks).
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
        if self.engine.is_stopped() {
            return Err(AdoptError::ShutDown);
        }
        if !serves(&sse) {
            return Err(AdoptError::Choice);
        }
        SockRef::from(&socket)
            .set_send_buffer_size(self.send_buffer_bytes)
            .map_err(AdoptError::Socket)?;
        self.engine.adopt(socket, first, sse)
    }

    /// Connections that are open, or about to be.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.stats().connections
    }

    /// Connections of each shard; of all together, where connections are tasks.
    #[must_use]
    pub fn connections_per_shard(&self) -> Vec<usize> {
        let totals = self.engine.totals();
        let shards = 0..totals.shards();
        shards.map(|shard| totals.connections(shard)).collect()
    }

    /// What the reactor holds and has done. Exact at quiescence.
    #[must_use]
    pub fn stats(&self) -> ReactorStats {
        self.engine.totals().stats()
    }

    /// Closes all connections, ends the threads and waits for them. On a thread of the reactor's own (in a callback) it
    /// does not wait; nor does it for connections that are tasks, which close when their runtime comes to them.
    pub fn shutdown(&self) {
        self.engine.shutdown();
    }
}

/// Whether a reactor can serve the stream: a shard reads a topic once for all.
pub(super) fn serves(sse: &Sse) -> bool {
    cfg!(any(not(unix), fanfare_tasks)) || !sse.has_choice()
}

/// Ends the sending side before the socket is closed, and reads what is there: a socket that is closed with bytes unread
/// resets the connection, and the client may lose what was sent last.
fn finish(socket: &mut TcpStream) {
    // What fails here fails because the connection is gone.
    drop(socket.shutdown(Shutdown::Write));
    let mut unread = [0; 4096];
    for _ in 0..16 {
        if !matches!(socket.read(&mut unread), Ok(1..)) {
            break;
        }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("shards", &self.engine.totals().shards())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
