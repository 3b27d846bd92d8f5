//! What the threads of a run have in common: the plan, which nobody changes, and the state, which is counters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::args::{Options, Targets};
use crate::payload::Format;

/// Longest time that a histogram can hold, in nanoseconds; what is longer counts as this.
const LONGEST: u64 = 3_600_000_000_000;

/// Nanoseconds, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constant and valid; the other histogram covers the range by growing.
    Histogram::new_with_bounds(64, LONGEST, 3).unwrap_or_else(|_| resizing())
}

fn resizing() -> Histogram<u64> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are valid"))
}

/// Nanoseconds, for as long as a run may last.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) targets: Targets,
    /// Where the streams are.
    pub(crate) address: SocketAddr,
    pub(crate) publish_address: Option<SocketAddr>,
    /// Empty where the system chooses.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) format: Format,
    /// What stamps count from.
    pub(crate) epoch: Instant,
}

impl Plan {
    /// Whether this run only listens.
    pub(crate) fn listens(&self) -> bool {
        self.targets.publish.is_none()
    }

    /// Now, as stamps have it.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    /// The sequence of events that a connection is to get.
    pub(crate) fn sequence(&self, path: u32) -> u32 {
        if self.targets.sequences == 1 { 0 } else { path }
    }

    /// Whether connection `number` reads slowly: the share, spread evenly.
    pub(crate) fn is_slow(&self, number: usize) -> bool {
        // Fixed point with 2^20 for 1, as floats would round differently from connection to connection.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share is from 0 to 1"
        )]
        let share = (self.options.slow * f64::from(1 << 20)).ceil() as u64;
        let number = number as u64;
        ((number + 1) * share) >> 20 > (number * share) >> 20
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened, and events published or waited for.
    Running,
    /// Everything was published; what is missing may still come.
    Draining,
    Stopping,
}

#[derive(Debug)]
pub(crate) struct Shared {
    phase: AtomicU8,
    /// Connections whose stream began, once each.
    pub(crate) opened: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    /// Threads that have no connection left to open for the first time.
    pub(crate) settled: AtomicUsize,
    /// Of each thread: connections to which something is still to come. `usize::MAX` before it has looked.
    pub(crate) incomplete: Box<[AtomicUsize]>,
    /// Of each sequence: the number of the event that is published next.
    pub(crate) published: Box<[AtomicU64]>,
    /// Publishes that the server took, and that it did not.
    pub(crate) taken: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Of each sequence: events of which nobody knows whether the server took them.
    uncertain: Mutex<BTreeMap<u32, BTreeSet<u64>>>,
    /// Of each thread: what came since the last look.
    windows: Box<[Mutex<Tally>]>,
}

impl Shared {
    pub(crate) fn new(plan: &Plan) -> Self {
        let threads = plan.options.threads;
        let sequences = 0..plan.targets.sequences;
        Self {
            phase: AtomicU8::new(Phase::Running as u8),
            opened: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            incomplete: (0..threads).map(|_| AtomicUsize::new(usize::MAX)).collect(),
            published: sequences.map(|_| AtomicU64::new(0)).collect(),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            uncertain: Mutex::default(),
            windows: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        // Acquire: pairs with the release below, so that the final counts of the publishers are seen.
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Events published in a sequence, so far.
    pub(crate) fn published(&self, sequence: u32) -> u64 {
        let count = self.published.get(sequence as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn uncertain(&self) -> MutexGuard<'_, BTreeMap<u32, BTreeSet<u64>>> {
        self.uncertain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what the main thread will look at, and empties `tally`.
    pub(crate) fn flush(&self, thread: usize, tally: &mut Tally) {
        if let Some(window) = self.windows.get(thread) {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            tally.drain_into(&mut window);
        }
    }

    /// What came since the last call.
    pub(crate) fn collect(&self, into: &mut Tally) {
        for window in &self.windows {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            window.drain_into(into);
        }
    }
}

/// What was received, by all connections of a thread or of the run.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Publish to parse, of connections that are not slow.
    pub(crate) latency: Histogram<u64>,
    /// From the connect to the response head.
    pub(crate) connect: Histogram<u64>,
    /// Events of this run, repeated ones too, and without those of slow connections.
    pub(crate) deliveries: u64,
    pub(crate) slow_deliveries: u64,
    /// Events that this run did not publish.
    pub(crate) foreign: u64,
    /// Events of this run on a path that is not theirs.
    pub(crate) misrouted: u64,
    /// Ids that were the one before again, and that were less.
    pub(crate) ids_repeated: u64,
    pub(crate) ids_backward: u64,
    /// Bytes that were read, heads and framing included.
    pub(crate) bytes: u64,
    /// When the last delivery was read, in nanoseconds since the epoch.
    pub(crate) last: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: histogram(),
            connect: histogram(),
            deliveries: 0,
            slow_deliveries: 0,
            foreign: 0,
            misrouted: 0,
            ids_repeated: 0,
            ids_backward: 0,
            bytes: 0,
            last: 0,
        }
    }
}

impl Tally {
    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        for (into, from) in [
            (&mut self.latency, &other.latency),
            (&mut self.connect, &other.connect),
        ] {
            // Adding looks at each of thousands of counters.
            if !from.is_empty() {
                // Both have the same bounds, so nothing is out of range.
                *into += from;
            }
        }
        self.deliveries += other.deliveries;
        self.slow_deliveries += other.slow_deliveries;
        self.foreign += other.foreign;
        self.misrouted += other.misrouted;
        self.ids_repeated += other.ids_repeated;
        self.ids_backward += other.ids_backward;
        self.bytes += other.bytes;
        self.last = self.last.max(other.last);
    }

    /// Moves all of it over, and keeps its memory for what comes next.
    fn drain_into(&mut self, into: &mut Self) {
        into.add(self);
        for histogram in [&mut self.latency, &mut self.connect] {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        self.deliveries = 0;
        self.slow_deliveries = 0;
        self.foreign = 0;
        self.misrouted = 0;
        self.ids_repeated = 0;
        self.ids_backward = 0;
        self.bytes = 0;
    }
}
