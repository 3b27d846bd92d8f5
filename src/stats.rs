//! Counting without a common cache line, and what the numbers are called.

use std::cell::Cell;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::ending::EndReason;
use crate::sync::{AtomicUsize, HostAtomicU64, Ordering};

#[cfg(not(fanfare_loom))]
const STRIPES: usize = 16;
/// Models have few objects to spend.
#[cfg(fanfare_loom)]
const STRIPES: usize = 1;

/// Counters in stripes: each thread adds to its own, a reader sums them all. Exact at quiescence. Those of one stripe stand
/// side by side, so that what is counted together costs one line.
#[derive(Debug)]
pub(crate) struct StripedCounter<const N: usize = 1>([CachePadded<[HostAtomicU64; N]>; STRIPES]);

impl<const N: usize> StripedCounter<N> {
    pub(crate) fn new() -> Self {
        let counts = || std::array::from_fn(|_| HostAtomicU64::new(0));
        Self(std::array::from_fn(|_| CachePadded::new(counts())))
    }

    #[inline]
    fn stripe(&self) -> &[HostAtomicU64; N] {
        &self.0[stripe()]
    }

    fn sum_at(&self, index: usize) -> u64 {
        // Relaxed: a count. Modulo 2^64, as the additions are.
        let sum = self.0.iter().fold(0_u64, |sum, stripe| {
            sum.wrapping_add(stripe[index].load(Ordering::Relaxed))
        });
        // Below zero only while an addition and its subtraction are seen in the wrong order.
        u64::try_from(sum.cast_signed()).unwrap_or(0)
    }
}

impl StripedCounter {
    #[inline]
    pub(crate) fn add(&self, count: i64) {
        // Relaxed: a count.
        self.stripe()[0].fetch_add(count.cast_unsigned(), Ordering::Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum_at(0)
    }
}

/// What a hub counts that only grows.
#[derive(Debug)]
pub(crate) struct Counts(StripedCounter<COUNTS>);

#[derive(Debug, Clone, Copy)]
enum Count {
    Published,
    PublishedBytes,
    Subscribed,
    Notices,
    Missed,
    TopicClosed,
    Replaced,
    Unregistered,
    Requested,
    Drained,
    Aged,
}

const COUNTS: usize = Count::Aged as usize + 1;

impl Counts {
    pub(crate) fn new() -> Self {
        Self(StripedCounter::new())
    }

    /// An event of so many bytes was appended.
    #[inline]
    pub(crate) fn published(&self, bytes: usize) {
        let stripe = self.0.stripe();
        // Relaxed: counts.
        stripe[Count::Published as usize].fetch_add(1, Ordering::Relaxed);
        stripe[Count::PublishedBytes as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A subscription has its place.
    #[inline]
    pub(crate) fn subscribed(&self) {
        self.add(Count::Subscribed, 1);
    }

    /// A reader is told that it missed events.
    pub(crate) fn told_lag(&self, missed: Option<u64>) {
        self.add(Count::Notices, 1);
        self.add(Count::Missed, missed.unwrap_or(0));
    }

    /// A subscription has gone that had ended. Lag and eviction are counted where they are told.
    pub(crate) fn ended(&self, reason: EndReason) {
        let count = match reason {
            EndReason::TopicClosed => Count::TopicClosed,
            EndReason::Replaced => Count::Replaced,
            EndReason::Unregistered => Count::Unregistered,
            EndReason::Requested => Count::Requested,
            EndReason::Drained => Count::Drained,
            EndReason::Aged => Count::Aged,
            EndReason::Lagged | EndReason::Evicted => return,
        };
        self.add(count, 1);
    }

    #[inline]
    fn add(&self, count: Count, more: u64) {
        // Relaxed: a count.
        self.0.stripe()[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    fn of(&self, count: Count) -> u64 {
        self.0.sum_at(count as usize)
    }

    /// The numbers, put into what the hub knows besides.
    pub(crate) fn fill(&self, stats: HubStats) -> HubStats {
        HubStats {
            published: self.of(Count::Published),
            published_bytes: self.of(Count::PublishedBytes),
            subscribed: self.of(Count::Subscribed),
            lag_notices: self.of(Count::Notices),
            missed: self.of(Count::Missed),
            topic_closed: self.of(Count::TopicClosed),
            replaced: self.of(Count::Replaced),
            unregistered: self.of(Count::Unregistered),
            requested: self.of(Count::Requested),
            drained: self.of(Count::Drained),
            aged: self.of(Count::Aged),
            ..stats
        }
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
///
/// The sums are exact when nobody publishes, subscribes or leaves; otherwise each may miss what happens during the look.
/// `docs/operating.md` says what to make of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HubStats {
    /// Topics that exist.
    pub topics: usize,
    /// Subscriptions on all topics.
    pub subscribers: usize,
    /// Subscriptions made since the hub was made. Those that left are these less [`subscribers`](Self::subscribers).
    pub subscribed: u64,
    /// Events appended since the hub was made: an event published to three topics counts three times.
    pub published: u64,
    /// Bytes of these events as they are encoded, without their ids.
    pub published_bytes: u64,
    /// Times that a reader was told that it missed events. A shard of a `Reactor` counts one for those of its connections
    /// that stand at the same place, and perhaps another one when it comes back to them.
    pub lag_notices: u64,
    /// Events that these notices told of, in all. Notices of an unknown number count none.
    pub missed: u64,
    /// Bytes that its events hold, if the hub has a [`memory_limit`](crate::HubBuilder::memory_limit): those in logs, those that
    /// readers keep, and those that are not freed yet.
    pub memory_used: Option<u64>,
    /// Subscriptions that were ended because they lagged. A [`Subscription`](crate::Subscription) is counted when it is
    /// dropped after it has read its end, a connection of a reactor when its lag is told, or about to be.
    pub lagged: u64,
    /// Subscriptions that were given up because they stood still; see [`HubBuilder::evict_after`](crate::HubBuilder::evict_after).
    pub evicted: u64,
    /// Subscriptions that read the end of a closed topic. These and the following are counted when the
    /// [`Subscription`](crate::Subscription) is dropped; those of a reactor's connections are in its own numbers.
    pub topic_closed: u64,
    /// Subscriptions that ended because another connection came with the same id.
    pub replaced: u64,
    /// Subscriptions that ended because they were unregistered.
    pub unregistered: u64,
    /// Subscriptions that the application ended for reasons of its own.
    pub requested: u64,
    /// Subscriptions that left because the hub was drained.
    pub drained: u64,
    /// Subscriptions that left because they were there for [`HubBuilder::max_connection_age`](crate::HubBuilder::max_connection_age).
    pub aged: u64,
}

/// What one topic holds; see [`Topic::stats`](crate::Topic::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// The epoch in the ids of its events: another one for each life of a topic.
    pub epoch: u64,
    /// Subscriptions on it.
    pub subscribers: usize,
    /// Readers that are parked: they have read all there is, and wait to be woken. A shard of a `Reactor` is one reader,
    /// however many connections it serves.
    pub parked: usize,
    /// Readers that stand behind the retained log: their next item is a lag notice. A reader that has read on within the
    /// last segment that left (64 events at most) may be among them.
    pub lagging: usize,
    /// Offset of the first retained event.
    pub first_retained: u64,
    /// Offset that the next event will have.
    pub next: u64,
    /// Events that the log holds, including those being published.
    pub retained_events: u64,
    /// Bytes of these events as they are encoded.
    pub retained_bytes: u64,
    /// Time since the last event, or since the topic was made; exact to a tick of the hub's clock, 250 ms at most.
    pub quiet_for: Duration,
    /// Whether it is closed.
    pub closed: bool,
}
