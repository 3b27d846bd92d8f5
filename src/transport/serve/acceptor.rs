//! The thread that accepts connections and reads their heads.
//!
//! **Role.** One thread with a poll of its own takes connections from the listener and reads until it knows where each
//! one goes. A head that is there at once, which is the common case, costs no registration and no allocation of its own.
//!
//! **State.** The *gate* is the listener in the poll. It is shut while too many heads are being read, and for a moment
//! when the system has no more descriptors: a shut gate is not in the poll, so nothing spins.
//!
//! **Invariants.**
//! * P1: the poll is edge-triggered. `ready` says that the listener may have more, and is cleared by `WouldBlock` alone;
//!   a registered connection is read until `WouldBlock` or until it is gone from here.
//! * P2: a turn accepts at most [`ACCEPTS`] connections; what is left makes the next turn begin at once.
//! * P3: a connection whose head is not complete has a deadline, and there are at most `max_heads` of them.
//! * P4: nothing here waits but the poll.

use std::io::{self, ErrorKind, Read as _};
use std::net::{self, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memchr;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::runtime::Handle;

use super::handover::{App, Handover, guarded};
use super::head::{Refusal, Rules, Verdict};
use super::heads::{Head, Heads};
use crate::sync::{AtomicBool, HostArc, Ordering};

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
/// Tokens of connections begin here.
const FIRST: usize = 2;

/// Connections accepted in one turn.
const ACCEPTS: usize = 64;

/// How long the gate stays shut when the system refuses a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends the acceptor's thread, from any other, at its next turn.
#[derive(Clone)]
pub(super) struct Stop {
    stop: HostArc<AtomicBool>,
    waker: HostArc<Waker>,
}

impl Stop {
    pub(super) fn stop(&self) {
        // Release: pairs with the acquire at the head of a turn. The wake-up itself orders as much; this does not rest on it.
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the acceptor cannot be woken; it stops at its next connection");
        }
    }
}

/// Whether the listener is in the poll.
enum Gate {
    Open,
    /// Too many heads are being read.
    Full,
    /// The system refused a connection.
    Paused {
        until: Instant,
    },
}

pub(super) struct Acceptor<S> {
    poll: Poll,
    listener: TcpListener,
    gate: Gate,
    ready: bool,
    /// Whether the log has been told that connections are refused.
    warned: bool,
    heads: Heads,
    max_heads: usize,
    rules: HostArc<Rules>,
    /// Every read goes here; holds one byte more than a head may have, at least.
    buffer: Vec<u8>,
    handover: Handover<S>,
    runtime: Handle,
    stop: Stop,
}

/// A frame is one small write: Nagle's algorithm would only hold it back. Connections inherit it from the listener on Linux;
/// elsewhere it is set for each.
fn set_options(socket: &socket2::SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)
}

impl<S: App> Acceptor<S> {
    pub(super) fn new(
        listener: net::TcpListener,
        handover: Handover<S>,
        runtime: Handle,
        rules: HostArc<Rules>,
        head_timeout: Duration,
        max_heads: usize,
    ) -> io::Result<Self> {
        set_options(&socket2::SockRef::from(&listener))?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        let waker = HostArc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            gate: Gate::Open,
            ready: true,
            warned: false,
            heads: Heads::new(head_timeout),
            max_heads,
            buffer: vec![0; rules.max_head_bytes.max(16 * 1024) + 1],
            rules,
            handover,
            runtime,
            stop: Stop {
                stop: HostArc::new(AtomicBool::new(false)),
                waker,
            },
        })
    }

    pub(super) fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Runs until it is stopped. The listener is closed then, and so is every connection without a whole head.
    ///
    /// # Errors
    ///
    /// If the poll fails.
    pub(super) fn run(mut self) -> io::Result<()> {
        let runtime = self.runtime.clone();
        let _inside = runtime.enter();
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                polled => polled?,
            }
            // Acquire: pairs with the release in `Stop::stop`.
            if self.stop.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            for event in &events {
                self.happened(event);
            }
            self.refuse_late();
            self.open_gate()?;
            self.accept()?;
        }
    }

    /// How long the poll may wait.
    fn timeout(&mut self) -> Option<Duration> {
        let late = self.heads.next_deadline();
        let until = match self.gate {
            Gate::Open if self.ready => return Some(Duration::ZERO),
            Gate::Open | Gate::Full => late,
            Gate::Paused { until } => Some(late.map_or(until, |late| late.min(until))),
        };
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    fn happened(&mut self, event: &Event) {
        match event.token() {
            // The flag says it.
            WAKER => {}
            LISTENER => self.ready = true,
            Token(token) => self.read_on(token - FIRST),
        }
    }

    // ---------------------------------------------------------------------------------------------- the gate

    /// Takes the listener out of the poll.
    fn shut_gate(&mut self, gate: Gate) -> io::Result<()> {
        self.gate = gate;
        self.poll.registry().deregister(&mut self.listener)
    }

    /// Puts the listener into the poll again, if it is time.
    fn open_gate(&mut self) -> io::Result<()> {
        let open = match self.gate {
            Gate::Open => false,
            Gate::Full => self.heads.len() < self.max_heads,
            Gate::Paused { until } => until <= Instant::now(),
        };
        if open {
            self.gate = Gate::Open;
            self.ready = true;
            self.poll
                .registry()
                .register(&mut self.listener, LISTENER, Interest::READABLE)?;
        }
        Ok(())
    }

    /// One turn's connections. P2.
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            if !self.ready || !matches!(self.gate, Gate::Open) {
                break;
            }
            if self.heads.len() >= self.max_heads {
                return self.shut_gate(Gate::Full);
            }
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    self.warned = false;
                    self.arrived(socket, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.ready = false,
                    // The connection's own trouble.
                    ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::TimedOut
                    | ErrorKind::NetworkDown
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::HostUnreachable => {}
                    // The system's: no descriptors, no memory.
                    _ => {
                        if !self.warned {
                            self.warned = true;
                            tracing::warn!(
                                %error,
                                "connections are not accepted; trying again every {} ms",
                                PAUSE.as_millis()
                            );
                        }
                        let until = Instant::now() + PAUSE;
                        return self.shut_gate(Gate::Paused { until });
                    }
                },
            }
        }
        Ok(())
    }

    // ----------------------------------------------------------------------------------------- connections

    /// A connection came: most often its head is there already.
    fn arrived(&mut self, mut socket: TcpStream, peer: SocketAddr) {
        if !cfg!(any(target_os = "linux", target_os = "android"))
            && let Err(error) = set_options(&socket2::SockRef::from(&socket))
        {
            tracing::debug!(%peer, %error, "a connection refused its options");
            return;
        }
        match read(&mut socket, &mut self.buffer) {
            Read::Bytes(length) => match self.rules.judge(&self.buffer[..length]) {
                Verdict::Wait => {
                    let seen = self.buffer[..length].to_vec();
                    self.wait_for(socket, peer, seen);
                }
                verdict => self.go(socket.into(), peer, verdict, length),
            },
            Read::Nothing => self.wait_for(socket, peer, Vec::new()),
            Read::Gone => {}
        }
    }

    /// Keeps a connection until more of its head comes. What came since the read makes an event at once.
    fn wait_for(&mut self, mut socket: TcpStream, peer: SocketAddr, seen: Vec<u8>) {
        let token = Token(FIRST + self.heads.next_key());
        match self
            .poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)
        {
            Ok(()) => self.heads.insert(socket, peer, seen),
            Err(error) => tracing::debug!(%peer, %error, "a connection cannot be polled"),
        }
    }

    /// Reads more of a head. P1.
    fn read_on(&mut self, key: usize) {
        // An event of a connection that went in this turn finds nothing, or its successor, which it does not harm.
        while let Some(head) = self.heads.get_mut(key) {
            let before = head.seen.len();
            // Room for more is there: what is kept is not too large, and the buffer holds a byte more than that.
            match read(&mut head.socket, &mut self.buffer[before..]) {
                Read::Nothing => return,
                Read::Gone => {
                    self.forget(key);
                    return;
                }
                Read::Bytes(length) => {
                    let all = before + length;
                    self.buffer[..before].copy_from_slice(&head.seen);
                    // Without a line end nothing becomes complete: a head that comes byte by byte is parsed once a line.
                    // The first bytes are looked at in any case: a client that speaks TLS sends no lines, and waits.
                    let ends_line = memchr(b'\n', &self.buffer[before..all]).is_some();
                    if before > 0 && !ends_line && all <= self.rules.max_head_bytes {
                        head.seen.extend_from_slice(&self.buffer[before..all]);
                        continue;
                    }
                    match self.rules.judge(&self.buffer[..all]) {
                        Verdict::Wait => {
                            head.seen.extend_from_slice(&self.buffer[before..all]);
                        }
                        verdict => {
                            if let Some(head) = self.forget(key) {
                                self.go(head.socket.into(), head.peer, verdict, all);
                            }
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Takes a connection out of the poll.
    fn forget(&mut self, key: usize) -> Option<Head> {
        let mut head = self.heads.remove(key)?;
        self.leave_poll(&mut head);
        Some(head)
    }

    fn leave_poll(&self, head: &mut Head) {
        if let Err(error) = self.poll.registry().deregister(&mut head.socket) {
            tracing::debug!(peer = %head.peer, %error, "a connection was not in the poll");
        }
    }

    /// Gives a connection away. The first `length` bytes of the buffer are what was read of it.
    fn go(&self, socket: net::TcpStream, peer: SocketAddr, verdict: Verdict, length: usize) {
        guarded(peer, || match verdict {
            Verdict::Stream(request, seen) => self.handover.stream(socket, peer, request, seen),
            // Nothing that has to wait comes here; hyper would wait as well.
            Verdict::Hyper | Verdict::Wait => {
                let seen = Bytes::copy_from_slice(&self.buffer[..length]);
                self.handover.hyper(socket, peer, seen, None);
            }
            Verdict::Refuse(refusal) => self.handover.refuse(socket, peer, refusal),
        });
    }

    /// Refuses what took too long. A client that has sent nothing gets nothing.
    fn refuse_late(&mut self) {
        let now = Instant::now();
        while let Some(mut head) = self.heads.pop_late(now) {
            self.leave_poll(&mut head);
            if !head.seen.is_empty() {
                let peer = head.peer;
                let socket = head.socket.into();
                guarded(peer, || {
                    self.handover.refuse(socket, peer, Refusal::TooSlow);
                });
            }
        }
    }
}

/// What a read gave.
enum Read {
    Bytes(usize),
    Nothing,
    /// The peer closed its side, or the connection broke.
    Gone,
}

fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> Read {
    loop {
        match socket.read(buffer) {
            Ok(0) => return Read::Gone,
            Ok(length) => return Read::Bytes(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Read::Nothing,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Read::Gone,
        }
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn connections_inherit_the_listeners_options() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        set_options(&socket2::SockRef::from(&listener)).unwrap();
        let _client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
    }
}
