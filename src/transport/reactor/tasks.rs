//! The engine where the system has no poll for foreign sockets: each connection is a task.
//!
//! **Role.** A task writes what is to be sent first and then the chunks of the stream's body, and reads to learn that the
//! peer is gone. Limits, counts and reasons are those of the other engine.
//!
//! **Invariants.**
//! * T1: a connection is counted out once, however its task ends, also if its runtime drops it: the count is a guard that
//!   the task owns. The socket is closed before.
//! * T2: no task outlives [`Engine::shutdown`], or the engine, for longer than its next poll.
//! * T3: nothing waits for a peer for longer than the stall timeout without a byte going out.
//! * T4: the idle timeout runs only while all that was published is sent, and signs of life do not stop it.
//! * T5: what subscriptions keep lives until the task ends, and its drop, which is user code, does not keep the connection from
//!   being counted out for the right reason.

use std::future::{self, poll_fn};
use std::io::ErrorKind;
use std::net;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::config::{OnClose, ReactorBuilder, ReactorError};
use super::totals::{Teller, Totals};
use super::{AdoptError, CloseReason, ConnectionId, MAX_RECEIVED_BYTES, finish};
use crate::sync::HostArc;
use crate::transport::sse::{HEARTBEAT, Sse, SseBody};

pub(super) struct Engine {
    runtime: Handle,
    timeouts: Timeouts,
    on_close: Option<OnClose>,
    /// Of one shard: all tasks together.
    totals: HostArc<Totals>,
    stop: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Timeouts {
    stall: Duration,
    idle: Option<Duration>,
}

/// One connection in the counts. T1.
struct Counted {
    id: u64,
    teller: Teller,
    /// Until the task says otherwise it was stopped from outside.
    reason: CloseReason,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.teller.tell(self.id, self.reason);
    }
}

impl Engine {
    pub(super) fn start(builder: &ReactorBuilder) -> Result<Self, ReactorError> {
        Ok(Self {
            runtime: Handle::try_current().map_err(|_| ReactorError::NoRuntime)?,
            timeouts: Timeouts {
                stall: builder.stall_timeout,
                idle: builder.idle_timeout,
            },
            on_close: builder.on_close.clone(),
            totals: HostArc::new(Totals::new(1)),
            stop: watch::Sender::new(false),
        })
    }

    /// Streams `sse` on a socket that is set up.
    pub(super) fn adopt(
        &self,
        socket: net::TcpStream,
        first: &[u8],
        sse: Sse,
    ) -> Result<ConnectionId, AdoptError> {
        // Who stops after this is seen by the task.
        let mut stop = self.stop.subscribe();
        if *stop.borrow_and_update() {
            return Err(AdoptError::ShutDown);
        }
        let socket = {
            let _inside = self.runtime.enter();
            TcpStream::from_std(socket).map_err(AdoptError::Socket)?
        };
        let (id, shard) = self.totals.deal().ok_or(AdoptError::ShutDown)?;
        let counted = Counted {
            id,
            teller: Teller {
                totals: HostArc::clone(&self.totals),
                shard,
                on_close: self.on_close.clone(),
            },
            reason: CloseReason::Shutdown,
        };
        let connection = Connection {
            socket,
            counted,
            timeouts: self.timeouts,
        };
        let first = BytesMut::from(first).freeze();
        drop(self.runtime.spawn(connection.serve(first, sse, stop)));
        Ok(ConnectionId(id))
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// T2.
    pub(super) fn shutdown(&self) {
        self.stop.send_replace(true);
    }
}

/// The socket stands before the count, so it is closed before. T1.
struct Connection {
    socket: TcpStream,
    counted: Counted,
    timeouts: Timeouts,
}

impl Connection {
    async fn serve(mut self, first: Bytes, sse: Sse, mut stop: watch::Receiver<bool>) {
        let mut body = sse.into_body();
        let reason = tokio::select! {
            biased;
            // An error means that the engine is gone.
            _ = stop.wait_for(|stop| *stop) => CloseReason::Shutdown,
            reason = self.write(first, &mut body) => reason,
            reason = self.watch_peer() => reason,
        };
        self.counted.reason = reason;
        // Its subscriptions end with it, before the connection is counted out.
        body.let_go();
        let Self {
            socket, counted, ..
        } = self;
        if let Ok(mut socket) = socket.into_std() {
            finish(&mut socket);
        }
        drop(counted);
    }

    /// Sends `first` and the body, to the end.
    async fn write(&self, first: Bytes, body: &mut SseBody) -> CloseReason {
        let mut chunk = first;
        let mut last_event = Instant::now();
        loop {
            if let Err(reason) = self.write_all(&chunk).await {
                return reason;
            }
            if let Some(reason) = body.last() {
                return CloseReason::of_end(reason);
            }
            let next = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            let idle = self.timeouts.idle.map(|idle| last_event + idle);
            chunk = tokio::select! {
                biased;
                next = next => match next {
                    None => return CloseReason::TopicClosed,
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                },
                () = at(idle) => return CloseReason::Idle,
            };
            if chunk != HEARTBEAT {
                last_event = Instant::now();
            }
        }
    }

    /// T3. The timer is only set up when the socket is full.
    async fn write_all(&self, mut bytes: &[u8]) -> Result<(), CloseReason> {
        while !bytes.is_empty() {
            match self.socket.try_write(bytes) {
                Ok(0) => return Err(CloseReason::PeerReset),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match timeout(self.timeouts.stall, self.socket.writable()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(CloseReason::of(error.kind())),
                        Err(_) => return Err(CloseReason::Stalled),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CloseReason::of(error.kind())),
            }
        }
        Ok(())
    }

    /// Reads and drops what the peer sends, until it sends no more. A peer that shut down its side is taken for gone.
    async fn watch_peer(&self) -> CloseReason {
        let mut left = MAX_RECEIVED_BYTES as usize;
        loop {
            if let Err(error) = self.socket.readable().await {
                return CloseReason::of(error.kind());
            }
            // On the stack only between two waits, so the task does not carry it.
            let mut bin = [0; 1024];
            match self.socket.try_read(&mut bin) {
                Ok(0) => return CloseReason::PeerClosed,
                Ok(read) if read > left => return CloseReason::TooMuchInput,
                Ok(read) => left -= read,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return CloseReason::of(error.kind()),
            }
        }
    }
}

/// Resolves at a time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => future::pending().await,
    }
}
