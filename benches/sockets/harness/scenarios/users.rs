//! A topic per user with one connection each; random users are published to over HTTP keep-alive connections, with so many
//! requests outstanding that the server always has work.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::SockRef;

use super::stage::Stage;
use super::{Cell, Metric, Values, float};
use crate::harness::client::{Patience, Wanted};
use crate::harness::failure::{During as _, Failure};
use crate::harness::http;
use crate::harness::options::{Engine, Options};
use crate::harness::servers::Setup;
use crate::harness::wire;

/// Keep-alive connections that publish: enough for the server to have work always.
const POSTERS: usize = 64;

/// Events that a user's broadcast channel keeps.
const CAPACITY: usize = 16;

/// Part of the time that is not counted at the beginning.
const WARM_UP: f64 = 0.2;

pub(super) fn run(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let setup = Setup {
        capacity: CAPACITY,
        ..options.setup()
    };
    let mut stage = Stage::bare(cell, engine, &setup)?;
    let users = u32::try_from(cell.connections).unwrap_or(u32::MAX);
    let address = stage.server.address;
    let prepared = stage.client.prepare((0..users).map(Wanted::topic))?;
    stage.client.connect(address, prepared)?;
    let mut posters = Posters::connect(address, users, cell.bytes, options)?;

    let mut run = Run {
        posted: 0,
        delivered: 0,
    };
    run.go(&mut stage, &mut posters, |elapsed, _| {
        elapsed < options.seconds * WARM_UP
    })?;
    let (meter, _profile) = stage.begin(cell, engine, options)?;
    let before = run.delivered;
    run.go(&mut stage, &mut posters, |elapsed, _| {
        elapsed < options.seconds
    })?;
    let used = meter.read()?;
    let delivered = float(run.delivered - before);
    // What is on its way has to arrive, and nothing else.
    posters.is_open = false;
    run.go(&mut stage, &mut posters, |_, run| {
        run.delivered < run.posted
    })?;
    Ok(vec![
        (Metric::Rate, delivered / used.wall / 1e3),
        (Metric::CpuPerPublish, used.cpu * 1e6 / delivered),
        (Metric::Busy, used.busy()),
        (Metric::Others, used.others()),
    ])
}

#[derive(Debug, Clone, Copy)]
struct Run {
    posted: u64,
    delivered: u64,
}

impl Run {
    fn go(
        &mut self,
        stage: &mut Stage,
        posters: &mut Posters,
        goes_on: impl Fn(f64, &Self) -> bool,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let mut patience = Patience::new();
        while goes_on(start.elapsed().as_secs_f64(), self) {
            self.posted += posters.poll()?;
            let delivered = &mut self.delivered;
            let read = stage.client.poll(Some(Duration::ZERO), &mut |arrival| {
                *delivered += arrival.count;
            })?;
            patience.look(read > 0, || {
                format!("{} of {} events", self.posted - self.delivered, self.posted)
            })?;
        }
        Ok(())
    }
}

/// The publishing side. A user's events all go over the same connection, which keeps them in order.
struct Posters {
    epoll: OwnedFd,
    connections: Vec<Poster>,
    events: Vec<Event>,
    /// Number of each user's next event.
    next: Vec<u64>,
    random: u64,
    /// Requests that are outstanding on each connection.
    depth: usize,
    bytes: usize,
    out: Vec<u8>,
    scratch: Vec<u8>,
    /// Whether new requests are sent.
    is_open: bool,
}

#[derive(Debug)]
struct Poster {
    socket: TcpStream,
    outstanding: usize,
    /// Bytes of an answer that is not complete.
    partial: Vec<u8>,
}

impl Posters {
    fn connect(
        address: SocketAddr,
        users: u32,
        bytes: usize,
        options: &Options,
    ) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).during("making an epoll")?;
        let mut connections = Vec::new();
        for index in 0..POSTERS.min(users as usize) {
            let socket = TcpStream::connect(address).during("connecting a publisher")?;
            socket.set_nodelay(true).during("connecting a publisher")?;
            options.congestion.set(&SockRef::from(&socket))?;
            socket
                .set_nonblocking(true)
                .during("connecting a publisher")?;
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, &socket, data, EventFlags::IN).during("watching a publisher")?;
            connections.push(Poster {
                socket,
                outstanding: 0,
                partial: Vec::new(),
            });
        }
        Ok(Self {
            epoll,
            connections,
            events: Vec::with_capacity(POSTERS),
            next: vec![0; users as usize],
            random: 0x9E37_79B9_7F4A_7C15,
            bytes,
            depth: options.depth,
            out: Vec::new(),
            scratch: vec![0; 64 * 1024],
            is_open: true,
        })
    }

    /// Reads the answers that are there and sends new requests in their place; how many.
    fn poll(&mut self) -> Result<u64, Failure> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&now))
            .during("waiting for answers")?;
        for at in 0..self.events.len() {
            let index = usize::try_from(self.events[at].data.u64()).unwrap_or_default();
            self.connections[index].read_answers(&mut self.scratch)?;
        }
        let mut posted = 0;
        for index in 0..self.connections.len() {
            // In few large writes rather than many small ones.
            if self.is_open && self.connections[index].outstanding <= self.depth / 2 {
                posted += self.post(index)?;
            }
        }
        Ok(posted)
    }

    fn post(&mut self, index: usize) -> Result<u64, Failure> {
        let count = self.depth - self.connections[index].outstanding;
        self.out.clear();
        for _ in 0..count {
            let user = self.random_user(index);
            let payload = wire::payload(self.next[user], self.bytes);
            self.next[user] += 1;
            let topic = u32::try_from(user).unwrap_or_default();
            wire::publish_request(&mut self.out, topic, &payload);
        }
        let poster = &mut self.connections[index];
        poster.outstanding += count;
        // A few KiB for an empty send buffer: it takes them all.
        poster
            .socket
            .write_all(&self.out)
            .during("sending publishes")?;
        Ok(count as u64)
    }

    /// One of the users whose events go over connection `index`.
    fn random_user(&mut self, index: usize) -> usize {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let posters = self.connections.len();
        let share = (self.next.len() - index).div_ceil(posters);
        let draw = usize::try_from(self.random >> 33).unwrap_or_default();
        index + draw % share * posters
    }
}

impl Poster {
    fn read_answers(&mut self, scratch: &mut [u8]) -> Result<(), Failure> {
        match self.socket.read(scratch) {
            Ok(0) => return Err(Failure::Closed { connection: 0 }),
            Ok(len) => self.partial.extend_from_slice(&scratch[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).during("reading answers"),
        }
        let mut used = 0;
        while let Some(answer) = http::message(&self.partial[used..]) {
            if !http::is_success(answer.start) {
                return Err(Failure::Refused {
                    head: answer.start.to_owned(),
                });
            }
            used += answer.len;
            self.outstanding -= 1;
        }
        self.partial.drain(..used);
        Ok(())
    }
}
