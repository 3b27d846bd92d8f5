//! How fast a reader reads at most.
//!
//! **Role.** A reader that has had its share is not parked on the topic, where every event would wake it: the hub's clock
//! wakes it when there is more.
//!
//! **State.** `next`: the time at which all that was read would have been read one after the other, at the rate (the theoretical
//! arrival time of the generic cell rate algorithm, ITU-T I.371). A reader may run ahead of it by `burst`.
//!
//! **Invariants.**
//! * R1: while `watcher` holds the reader's waker and the reader has had its share, an alarm of the clock stands that wakes
//!   it; so it needs no place among the armed ones. Whoever ends it from outside wakes the watcher too.

use std::num::NonZeroU32;
use std::task::Waker;
use std::time::Duration;

use crate::clock::Clock;
use crate::interest::Watcher;
use crate::sync::HostArc;

/// Nanoseconds, as everything here.
pub(super) struct Rate {
    interval: u64,
    burst: u64,
    next: u64,
    /// The time of the last look.
    now: u64,
    /// Whether it had its share at that look.
    waits: bool,
    watcher: HostArc<Watcher>,
}

/// A reader that waits looks for an end that it is asked for (its age, a drain that begins) so often.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Rate {
    pub(super) fn new(events: NonZeroU32, every: Duration) -> Self {
        let events = u64::from(events.get());
        // A hundred years are enough, and two of them can be added up.
        let interval = (nanos(every).min(u64::MAX / 4) / events).max(1);
        Self {
            interval,
            burst: interval.saturating_mul(events),
            next: 0,
            now: 0,
            waits: false,
            watcher: Watcher::new(),
        }
    }

    pub(super) fn watcher(&self) -> &HostArc<Watcher> {
        &self.watcher
    }

    /// When the next event may be read.
    fn free_at(&self) -> u64 {
        self.next
            .saturating_add(self.interval)
            .saturating_sub(self.burst)
    }

    /// Whether the reader has had its share, at the time of the last look.
    pub(super) fn is_used_up(&self) -> bool {
        self.now < self.free_at()
    }

    /// An event was read.
    pub(super) fn take(&mut self) {
        self.next = self.next.max(self.now).saturating_add(self.interval);
    }

    /// Looks at the time. Tells whether the reader has to wait, and whether it had to until now.
    pub(super) fn look(&mut self, clock: &Clock) -> (bool, bool) {
        self.now = clock.nanos();
        let waits = self.is_used_up();
        let waited = std::mem::replace(&mut self.waits, waits);
        (self.waits, waited)
    }

    /// Has the clock wake the reader, which has to wait. `look_after`: when it is to show that it goes on, if it is watched.
    pub(super) fn wait(&self, clock: &Clock, look_after: Option<u64>, waker: &Waker) {
        self.watcher.park(Some(waker.clone()));
        let look = clock
            .ticks(nanos(LOOKS_EVERY))
            .min(look_after.unwrap_or(u64::MAX));
        let due = clock
            .ticks(self.free_at())
            .min(clock.refresh().saturating_add(look.max(1)));
        self.watcher.wake_by(due, clock);
    }
}

impl Drop for Rate {
    fn drop(&mut self) {
        // An alarm may hold the watcher for a moment more.
        self.watcher.park(None);
    }
}
