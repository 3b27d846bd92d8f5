//! Counting without a common cache line.

use std::cell::Cell;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicI64, AtomicUsize, Ordering};

#[cfg(not(fanfare_loom))]
const STRIPES: usize = 16;
/// Models have few objects to spend.
#[cfg(fanfare_loom)]
const STRIPES: usize = 1;

/// A counter in stripes: each thread adds to one, a reader sums them all. Exact at quiescence.
#[derive(Debug)]
pub(crate) struct StripedCounter([CachePadded<AtomicI64>; STRIPES]);

impl StripedCounter {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| CachePadded::new(AtomicI64::new(0))))
    }

    #[inline]
    pub(crate) fn add(&self, count: i64) {
        // Relaxed: a count.
        self.0[stripe()].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        let sum: i64 = self.0.iter().map(|s| s.load(Ordering::Relaxed)).sum();
        // Below zero only while an addition and its subtraction are seen in the wrong order.
        u64::try_from(sum).unwrap_or(0)
    }
}

/// This thread's stripe: threads take turns.
#[cfg(not(fanfare_loom))]
#[inline]
pub(crate) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            // Relaxed: any spread will do.
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    })
}

#[cfg(fanfare_loom)]
pub(crate) fn stripe() -> usize {
    let _: (Option<Cell<()>>, Option<AtomicUsize>) = (None, None);
    0
}

/// What a hub holds and has done; see [`Hub::stats`](crate::Hub::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Topics that exist.
    pub topics: usize,
    /// Subscriptions on all topics.
    pub subscribers: usize,
    /// Events appended since the hub was made: an event published to three topics counts three times.
    pub published: u64,
    /// Subscriptions that were ended because they lagged. A [`Subscription`](crate::Subscription) is counted when it is
    /// dropped after it has read its end, a connection of a reactor when its lag is told, or about to be.
    pub lagged: u64,
}
