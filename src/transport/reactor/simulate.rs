//! A shard on sockets that take everything, for this repository's benches: what the walks cost without the kernel.

use std::fmt;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::num::NonZeroU32;
use std::time::Duration;

use smallvec::smallvec;

use super::inbox::{Inbox, Rouse, Signal};
use super::shard::{Joiner, Limits, Shard};
use super::socket::Socket;
use crate::ending::Spot;
use crate::sync::HostArc;
use crate::transport::Sse;

/// As small as a descriptor.
#[derive(Debug)]
struct Sink(NonZeroU32);

impl Socket for Sink {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        black_box((self.0, bytes.as_ptr()));
        Ok(bytes.len())
    }

    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        pieces.iter().map(|piece| self.send(piece)).sum()
    }

    fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

struct NoThread;

impl Rouse for NoThread {
    fn rouse(&self) {}
}

/// Nobody ends these connections from outside.
struct Nowhere;

impl Spot for Nowhere {
    fn reach(&self) {}
}

/// A shard without a thread and without a kernel.
pub struct SimulatedShard {
    shard: Shard<Sink>,
    inbox: HostArc<Inbox<(), NoThread>>,
    joined: u64,
}

impl fmt::Debug for SimulatedShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedShard").finish_non_exhaustive()
    }
}

impl Default for SimulatedShard {
    fn default() -> Self {
        let inbox = Inbox::new(NoThread);
        let signals = HostArc::clone(&inbox);
        let limits = Limits {
            tick: Duration::from_millis(100),
            stall: 50,
            idle: None,
            batch_bytes: 64 * 1024,
        };
        let signal = move |topic| Signal::new(&signals, topic).for_shard();
        Self {
            shard: Shard::new(
                limits,
                Box::new(signal),
                Box::new(|_| HostArc::new(Nowhere)),
            ),
            inbox,
            joined: 0,
        }
    }
}

impl SimulatedShard {
    /// Takes a connection in.
    pub fn join(&mut self, sse: Sse) {
        let (opening, subscription, _) = sse.into_parts();
        self.joined += 1;
        let joiner = Joiner {
            id: self.joined,
            socket: Sink(NonZeroU32::MIN),
            first: opening,
            subscriptions: smallvec![subscription],
        };
        self.shard.join(joiner, |_, _| Ok(()));
    }

    /// One turn. Whether there is more to do.
    pub fn turn(&mut self) -> bool {
        while let Some(topic) = self.inbox.next_topic() {
            self.shard.signalled(topic);
        }
        self.shard.turn();
        self.shard.is_busy()
    }
}
