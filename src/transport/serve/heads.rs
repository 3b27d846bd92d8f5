//! Connections whose head is not complete.
//!
//! **Role.** Keeps each with the bytes it has sent so far, and the order in which their time is up.
//!
//! **Invariants.**
//! * W1: the timeout is the same for all, so the order of arrival is the order of deadlines.
//! * W2: a place is used again; the serial tells whether a deadline is still its connection's.
//! * W3: there are at most twice as many deadlines as connections, and [`SPARE`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use slab::Slab;

/// Deadlines of connections that are gone, which are kept before they are looked for.
const SPARE: usize = 64;

/// A connection whose head is not complete.
pub(super) struct Head {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    /// Its bytes so far.
    pub(super) seen: Vec<u8>,
    serial: u64,
}

struct Deadline {
    at: Instant,
    key: usize,
    serial: u64,
}

pub(super) struct Heads {
    slab: Slab<Head>,
    deadlines: VecDeque<Deadline>,
    serial: u64,
    timeout: Duration,
}

impl Heads {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            slab: Slab::new(),
            deadlines: VecDeque::new(),
            serial: 0,
            timeout,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The key of the next connection that is put here.
    pub(super) fn next_key(&self) -> usize {
        self.slab.vacant_key()
    }

    pub(super) fn insert(&mut self, socket: TcpStream, peer: SocketAddr, seen: Vec<u8>) {
        self.serial += 1;
        let serial = self.serial;
        let key = self.slab.insert(Head {
            socket,
            peer,
            seen,
            serial,
        });
        if self.deadlines.len() >= 2 * self.slab.len() + SPARE {
            let slab = &self.slab;
            self.deadlines.retain(|deadline| is_live(slab, deadline));
        }
        self.deadlines.push_back(Deadline {
            at: Instant::now() + self.timeout,
            key,
            serial,
        });
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Head> {
        self.slab.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: usize) -> Option<Head> {
        self.slab.try_remove(key)
    }

    /// When the next connection's time is up.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(first) = self.deadlines.front() {
            if is_live(&self.slab, first) {
                return Some(first.at);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Takes out a connection whose time is up.
    pub(super) fn pop_late(&mut self, now: Instant) -> Option<Head> {
        if self.next_deadline()? > now {
            return None;
        }
        let late = self.deadlines.pop_front()?;
        self.remove(late.key)
    }
}

/// W2.
fn is_live(slab: &Slab<Head>, deadline: &Deadline) -> bool {
    slab.get(deadline.key)
        .is_some_and(|head| head.serial == deadline.serial)
}
