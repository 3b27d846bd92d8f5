//! What a reactor has done, counted by its shards.

use crossbeam_utils::CachePadded;

use super::config::OnClose;
use super::{CloseReason, Closed, ConnectionId, ReactorStats};
use crate::ending::EndReason;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, HostArc, Ordering};
use crate::unwind::FirstPanic;

/// Kinds of [`CloseReason`].
pub(super) const REASONS: usize = 10;

#[derive(Debug, Default)]
struct ShardTotals {
    /// Dealt to the shard and not gone.
    connections: AtomicUsize,
    closed: [AtomicU64; REASONS],
    /// Whether its thread has ended before it was told to.
    dead: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Totals {
    shards: Box<[CachePadded<ShardTotals>]>,
    next: AtomicUsize,
    adopted: AtomicU64,
}

impl Totals {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(CachePadded::default)
                .take(shards)
                .collect(),
            next: AtomicUsize::new(0),
            adopted: AtomicU64::new(0),
        }
    }

    /// Deals a connection: to the shard with the fewest, in turn among equals. Tells the connection's number and the shard;
    /// `None` if no shard lives.
    pub(super) fn deal(&self) -> Option<(u64, usize)> {
        // Relaxed, all of it: counts. Two who deal at once may deal to the same shard.
        let id = self.adopted.fetch_add(1, Ordering::Relaxed);
        let begin = self.next.fetch_add(1, Ordering::Relaxed);
        let shards = self.shards.len();
        let in_turn = (0..shards).map(|step| (begin + step) % shards);
        let alive = in_turn.filter(|&shard| !self.shards[shard].dead.load(Ordering::Relaxed));
        let shard = alive.min_by_key(|&shard| self.connections(shard))?;
        self.shards[shard]
            .connections
            .fetch_add(1, Ordering::Relaxed);
        Some((id, shard))
    }

    #[cfg(all(unix, not(fanfare_tasks)))]
    pub(super) fn died(&self, shard: usize) {
        // Relaxed: who deals to it all the same looks again.
        self.shards[shard].dead.store(true, Ordering::Relaxed);
    }

    #[cfg(all(unix, not(fanfare_tasks)))]
    pub(super) fn is_dead(&self, shard: usize) -> bool {
        self.shards[shard].dead.load(Ordering::Relaxed)
    }

    pub(super) fn closed(&self, shard: usize, reason: CloseReason) {
        // Relaxed: counts.
        self.shards[shard].closed[reason.number()].fetch_add(1, Ordering::Relaxed);
        self.shards[shard]
            .connections
            .fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn connections(&self, shard: usize) -> usize {
        // Relaxed: a count.
        self.shards[shard].connections.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> ReactorStats {
        let closed = |reason: CloseReason| {
            self.shards
                .iter()
                // Relaxed: a count.
                .map(|shard| shard.closed[reason.number()].load(Ordering::Relaxed))
                .sum()
        };
        ReactorStats {
            connections: (0..self.shards.len()).map(|s| self.connections(s)).sum(),
            adopted: self.adopted.load(Ordering::Relaxed),
            closed_by_peer: closed(CloseReason::PeerClosed),
            reset_by_peer: closed(CloseReason::PeerReset),
            stalled: closed(CloseReason::Stalled),
            idle: closed(CloseReason::Idle),
            lagged: closed(CloseReason::Lagged),
            topic_closed: closed(CloseReason::TopicClosed),
            too_much_input: closed(CloseReason::TooMuchInput),
            shut_down: closed(CloseReason::Shutdown),
            failed: closed(CloseReason::Failed(std::io::ErrorKind::Other)),
            ended: closed(CloseReason::Ended(EndReason::Requested)),
        }
    }
}

/// Counts the connections of a shard out, and tells of them.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) totals: HostArc<Totals>,
    pub(super) shard: usize,
    pub(super) on_close: Option<OnClose>,
}

impl Teller {
    pub(super) fn tell(&self, id: u64, reason: CloseReason) {
        self.totals.closed(self.shard, reason);
        if let Some(on_close) = &self.on_close {
            let closed = Closed {
                connection: ConnectionId(id),
                reason,
            };
            // A callback that panics has said so; the other connections still need this thread.
            FirstPanic::default().run(|| on_close(&closed));
        }
    }
}
