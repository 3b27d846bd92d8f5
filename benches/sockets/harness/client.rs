//! The reading side: very many SSE connections on one thread, as cheap as possible.
//!
//! **Invariant.** C1: a connection's events are numbered from [`Wanted::next`] without gap or repetition; the first that is
//! not ends the measurement.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use memchr::{memchr, memmem};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::{Domain, SockRef, Socket, Type};

use super::failure::{During as _, Failure};
use super::http;
use super::options::Congestion;
use super::wire::{self, DIGITS, MARK};

/// Longest wait for anything to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes of one read.
const READ_BYTES: usize = 256 * 1024;

/// Most connections that are taken from the poll at once.
const TURN: usize = 512;

/// Addresses that connections come from. One has 28,000 ports by default, fewer at hand.
const SOURCES: usize = 16;

/// After so many connects it is looked whether response heads came.
const SLICE: usize = 16;

/// Connections that may wait for their response head: fewer than a listener's queue holds.
const IN_FLIGHT: usize = 1000;

/// Events that one read brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// A stream to open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) topic: u32,
    /// Number of the event that comes first.
    pub(crate) next: u64,
    /// Receive buffer, in bytes. The system's choice if not given.
    pub(crate) receive_buffer: Option<usize>,
}

impl Wanted {
    pub(crate) fn topic(topic: u32) -> Self {
        Self {
            topic,
            next: 0,
            receive_buffer: None,
        }
    }
}

pub(crate) struct Client {
    congestion: Congestion,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// Connections whose response head has not come.
    opening: usize,
}

impl Client {
    pub(crate) fn new(congestion: Congestion) -> Result<Self, Failure> {
        Ok(Self {
            congestion,
            epoll: epoll::create(CreateFlags::CLOEXEC).during("making an epoll")?,
            connections: Vec::new(),
            events: Vec::with_capacity(TURN),
            buffer: vec![0; READ_BYTES],
            opening: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Makes the sockets of streams, which [`connect`](Self::connect) opens: the part that can be done before.
    pub(crate) fn prepare(
        &self,
        wanted: impl IntoIterator<Item = Wanted>,
    ) -> Result<Vec<Prepared>, Failure> {
        let prepare = |(index, wanted)| Prepared::new(wanted, index, self.congestion);
        wanted.into_iter().enumerate().map(prepare).collect()
    }

    /// Opens streams until one cannot be opened, and returns when all have their response head.
    pub(crate) fn connect(
        &mut self,
        address: SocketAddr,
        prepared: Vec<Prepared>,
    ) -> Result<(), Failure> {
        self.connections.reserve(prepared.len());
        for prepared in prepared {
            let index = self.connections.len();
            let connection = prepared.connect(address)?;
            epoll::add(
                &self.epoll,
                &connection.socket,
                EventData::new_u64(index as u64),
                EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
            )
            .during("watching a connection")?;
            self.connections.push(connection);
            self.opening += 1;
            if index.is_multiple_of(SLICE) {
                self.poll(Some(Duration::ZERO), &mut |_| ())?;
            }
            let mut patience = Patience::new();
            while self.opening >= IN_FLIGHT {
                self.poll_opening(&mut patience)?;
            }
        }
        let mut patience = Patience::new();
        while self.opening > 0 {
            self.poll_opening(&mut patience)?;
        }
        Ok(())
    }

    fn poll_opening(&mut self, patience: &mut Patience) -> Result<(), Failure> {
        let read = self.poll(Some(Duration::ZERO), &mut |_| ())?;
        patience.look(read > 0, || format!("{} response heads", self.opening))
    }

    /// Stops reading from a connection.
    pub(crate) fn stall(&mut self, index: usize) -> Result<(), Failure> {
        epoll::delete(&self.epoll, &self.connections[index].socket)
            .during("unwatching a connection")
    }

    /// Reads what is there, waiting for at most `timeout` if nothing is; how many connections had something.
    pub(crate) fn poll(
        &mut self,
        timeout: Option<Duration>,
        sink: &mut impl FnMut(Arrival),
    ) -> Result<usize, Failure> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Err(rustix::io::Errno::INTR) => return Ok(0),
            waited => waited.during("waiting for events")?,
        };
        for event in &self.events {
            let Ok(index) = usize::try_from(event.data.u64()) else {
                continue;
            };
            let connection = &mut self.connections[index];
            let was_opening = connection.head.is_some();
            connection.read(index, &mut self.buffer, sink)?;
            if was_opening && connection.head.is_none() {
                self.opening -= 1;
            }
        }
        Ok(self.events.len())
    }

    /// Polls without sleeping until `done` says so.
    pub(crate) fn poll_until<S>(
        &mut self,
        state: &mut S,
        mut sink: impl FnMut(&mut S, Arrival),
        mut done: impl FnMut(&S) -> bool,
        missing: impl Fn(&S) -> String,
    ) -> Result<(), Failure> {
        let mut patience = Patience::new();
        while !done(state) {
            let read = self.poll(Some(Duration::ZERO), &mut |arrival| sink(state, arrival))?;
            patience.look(read > 0, || missing(state))?;
        }
        Ok(())
    }

    /// Lets `time` pass; nothing is expected to come.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.poll(Some(left), &mut |_| ())?;
        }
        Ok(())
    }
}

/// Gives up when nothing happens for long.
#[derive(Debug)]
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn look(
        &mut self,
        progress: bool,
        missing: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if progress {
            self.0 = Instant::now();
        } else if self.0.elapsed() > PATIENCE {
            return Err(Failure::Stuck {
                seconds: PATIENCE.as_secs(),
                missing: missing(),
            });
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    next: u64,
    /// Digits that are missing of a number whose mark was read; 0 while a mark is looked for.
    digits_left: u8,
    /// What was read of that number.
    number: u64,
    /// The response head as far as it has come; `None` when it is complete.
    head: Option<Vec<u8>>,
}

/// A socket that is not connected.
#[derive(Debug)]
pub(crate) struct Prepared {
    socket: Socket,
    wanted: Wanted,
}

impl Prepared {
    fn new(wanted: Wanted, index: usize, congestion: Congestion) -> Result<Self, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).during("making a socket")?;
        congestion.set(&SockRef::from(&socket))?;
        // A reset instead of a farewell: thousands of connections of one measurement must not fill the ports of the next.
        socket
            .set_linger(Some(Duration::ZERO))
            .during("setting the linger time")?;
        if let Some(bytes) = wanted.receive_buffer {
            socket
                .set_recv_buffer_size(bytes)
                .during("setting the receive buffer")?;
        }
        let last = u8::try_from(2 + index % SOURCES).unwrap_or(2);
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&source.into()).during("binding a source")?;
        Ok(Self { socket, wanted })
    }

    /// Connects and sends the request.
    fn connect(self, address: SocketAddr) -> Result<Connection, Failure> {
        // On the loopback device the handshake is over at once, as long as the listener's queue has room.
        self.socket.connect(&address.into()).during("connecting")?;
        let mut request = Vec::with_capacity(256);
        wire::stream_request(&mut request, self.wanted.topic);
        let mut socket = TcpStream::from(self.socket);
        socket.write_all(&request).during("sending a request")?;
        socket.set_nonblocking(true).during("connecting")?;
        Ok(Connection {
            socket,
            next: self.wanted.next,
            digits_left: 0,
            number: 0,
            head: Some(Vec::new()),
        })
    }
}

impl Connection {
    fn read(
        &mut self,
        index: usize,
        buffer: &mut [u8],
        sink: &mut impl FnMut(Arrival),
    ) -> Result<(), Failure> {
        loop {
            let len = match self.socket.read(buffer) {
                Ok(0) => return Err(Failure::Closed { connection: index }),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).during("reading"),
            };
            let first = self.next;
            self.feed(index, &buffer[..len])?;
            let count = self.next - first;
            if count > 0 {
                sink(Arrival { first, count });
            }
            // A read that does not fill the buffer has emptied the socket: what comes now is a new edge.
            if len < buffer.len() {
                return Ok(());
            }
        }
    }

    fn feed(&mut self, index: usize, bytes: &[u8]) -> Result<(), Failure> {
        let Some(head) = &mut self.head else {
            return self.count(index, bytes);
        };
        head.extend_from_slice(bytes);
        let Some(end) = memmem::find(head, b"\r\n\r\n") else {
            return Ok(());
        };
        let head = self.head.take().unwrap_or_default();
        let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\r').next().unwrap_or(&[]));
        if !http::is_success(&line) {
            return Err(Failure::Refused {
                head: line.into_owned(),
            });
        }
        self.count(index, &head[end + 4..])
    }

    /// Checks the number of every event that begins in `bytes`.
    fn count(&mut self, index: usize, mut bytes: &[u8]) -> Result<(), Failure> {
        loop {
            if self.digits_left == 0 {
                let Some(at) = memchr(MARK, bytes) else {
                    return Ok(());
                };
                bytes = &bytes[at + 1..];
                self.digits_left = DIGITS;
                self.number = 0;
            }
            while self.digits_left > 0 {
                let Some((&digit, rest)) = bytes.split_first() else {
                    return Ok(());
                };
                if !digit.is_ascii_digit() {
                    return Err(Failure::Garbled { connection: index });
                }
                self.number = self.number * 10 + u64::from(digit - b'0');
                self.digits_left -= 1;
                bytes = rest;
            }
            if self.number != self.next {
                return Err(Failure::Disorder {
                    connection: index,
                    expected: self.next,
                    got: self.number,
                });
            }
            self.next += 1;
        }
    }
}
