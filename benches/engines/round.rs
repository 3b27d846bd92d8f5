//! A round: what the publisher and the readers of one engine share while it is timed, and the task of a reader.
//!
//! R1: `begin` happens before the round's first publish, so a reader that has an event of the round sees its settings.
//! R2: `done` is notified once per round, by the reader that completes it.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use super::engine::{Numbered, Reader};

/// How many lines the countdown of a round is spread over.
const COUNTERS: usize = 64;

/// Of events that hide their number, how many a reader looks into in a checked round.
const LOOKED_INTO: u32 = 16;

pub(crate) struct Round {
    /// Events of this round; set before the first of them is published.
    burst: AtomicU32,
    /// Whether readers look at the number of each event.
    checked: AtomicBool,
    /// Readers of each shard that have not had everything yet.
    counters: Box<[CachePadded<AtomicUsize>]>,
    /// Shards that have not counted down yet.
    shards: CachePadded<AtomicUsize>,
    /// The last reader tells the publisher here.
    done: Notify,
    /// Per reader, the rounds it had behind it when it last parked.
    parked: Box<[AtomicU32]>,
}

impl Round {
    pub(crate) fn new(readers: usize) -> Self {
        let shards = COUNTERS.min(readers);
        Self {
            burst: AtomicU32::new(0),
            checked: AtomicBool::new(false),
            counters: (0..shards)
                .map(|_| CachePadded::new(AtomicUsize::new(0)))
                .collect(),
            shards: CachePadded::new(AtomicUsize::new(0)),
            done: Notify::new(),
            // No reader has parked yet: that would be 0 rounds.
            parked: (0..readers).map(|_| AtomicU32::new(u32::MAX)).collect(),
        }
    }

    /// Neighbours share a shard, so two workers seldom write the same line.
    fn shard_of(&self, reader: usize) -> usize {
        reader * self.counters.len() / self.parked.len()
    }

    /// Sets the counters. Readers see them because they act on events that are published after this (R1).
    pub(crate) fn begin(&self, burst: u32, checked: bool) {
        self.burst.store(burst, Ordering::Relaxed);
        self.checked.store(checked, Ordering::Relaxed);
        self.shards.store(self.counters.len(), Ordering::Relaxed);
        for counter in &self.counters {
            counter.store(0, Ordering::Relaxed);
        }
        for reader in 0..self.parked.len() {
            self.counters[self.shard_of(reader)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events of this round. For readers that have had one of them.
    pub(crate) fn burst(&self) -> u32 {
        self.burst.load(Ordering::Relaxed)
    }

    /// Whether readers look at the number of each event. For readers that have had one of them.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    /// Polls `receive` until it is ready, and leaves a mark if `reader` parks in it with `rounds` behind it.
    pub(crate) async fn wait(&self, reader: usize, rounds: u32, receive: impl Future<Output = ()>) {
        let mut receive = pin!(receive);
        poll_fn(|cx| {
            let polled = receive.as_mut().poll(cx);
            if polled.is_pending() {
                self.parked[reader].store(rounds, Ordering::Release);
            }
            polled
        })
        .await;
    }

    /// `reader` has had the whole round.
    pub(crate) fn arrive(&self, reader: usize) {
        if self.counters[self.shard_of(reader)].fetch_sub(1, Ordering::AcqRel) == 1
            && self.shards.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.done.notify_one();
        }
    }

    /// Returns once every reader has arrived.
    pub(crate) async fn all_arrived(&self) {
        self.done.notified().await;
    }

    /// Returns once every reader waits for the round after `rounds`.
    pub(crate) async fn all_parked(&self, rounds: u32) {
        for reader in &self.parked {
            while reader.load(Ordering::Acquire) != rounds {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A reader that fails would leave its publisher waiting for ever: end the run instead.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// What one reader has seen of a round.
struct Seen<'a> {
    round: &'a Round,
    events: u32,
    checked: bool,
}

impl Seen<'_> {
    fn take<E: Numbered>(&mut self, event: &E) {
        if self.events == 0 {
            self.checked = self.round.is_checked();
        }
        if self.checked && (E::CHEAP || self.events < LOOKED_INTO) {
            assert_eq!(event.number(), Some(self.events), "in order");
        }
        black_box(event.text());
        self.events += 1;
    }
}

/// The task of one reader: it reads whole rounds until it is aborted.
pub(crate) async fn read_rounds<R: Reader>(mut reader: R, round: Arc<Round>, index: usize) {
    let _guard = AbortOnPanic;
    for rounds in 0.. {
        let mut seen = Seen {
            round: &round,
            events: 0,
            checked: false,
        };
        let first = reader.receive(|event| seen.take(event));
        round.wait(index, rounds, first).await;
        let burst = round.burst();
        while seen.events < burst {
            reader.receive(|event| seen.take(event)).await;
        }
        assert_eq!(seen.events, burst, "each event once");
        round.arrive(index);
    }
}
