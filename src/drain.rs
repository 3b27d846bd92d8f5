//! Ending a hub's subscriptions over a time, so that their clients do not come back all at once.
//!
//! **Role.** A [`Drain`] is under way from when it is made: the hub takes in nobody any more, and its clock asks the
//! subscriptions to leave, some at every tick. Whoever is asked reads what is there and ends then. What is left at the
//! deadline is closed.
//!
//! **Invariant.** D1: whoever is asked has its standing changed before the armed word of its chunk is taken by an RMW, and
//! looks at its standing after it has parked, with an RMW of the same word. So it sees that, or is woken to see it.
//!
//! **Progress.** The clock's thread does it all; readers look at a byte of their own when they find nothing to read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock::Job;
use crate::error::random_below;
use crate::observe;
use crate::subscribers::{Asked, Place};
use crate::sync::epoch;
use crate::sync::{Arc, HostArc, Mutex, MutexGuard, PoisonError};
use crate::topic::{Shared, TopicCore};
use crate::unwind::FirstPanic;

/// Of the time, so much is for asking; the rest is for those who were asked last to write what is left.
const ASKING: (u64, u64) = (4, 5);

/// Ticks after the deadline in which readers that were woken by the close read what is left.
const GRACE: u64 = 2;

/// What stands for the whole where a part is told.
pub(crate) const WHOLE: u32 = 1 << 16;

/// The deadline of a drain is at most so far away: a day.
pub(crate) const MOST: Duration = Duration::from_secs(86_400);

/// When a client should come back, by chance: not all of them at once.
pub(crate) fn come_back_after() -> Duration {
    Duration::from_millis(1000 + random_below(4000))
}

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Subscriptions that there were when it began.
    pub subscriptions: usize,
    /// Those that were left at the deadline, and were cut: they had more to read, or did not read.
    pub cut: usize,
    /// How long it took: less than was given, if nobody was left before.
    pub took: Duration,
}

/// A hub that is being drained. Made by [`Hub::drain`](crate::Hub::drain); resolves when nobody is left, or at the deadline.
///
/// It is under way whether or not it is polled, and dropping it does not stop it.
#[derive(Debug)]
#[must_use = "resolves when the hub is drained; `drop` it if nobody waits"]
pub struct Drain(HostArc<Outcome>);

#[derive(Debug, Default)]
struct Outcome {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: Option<DrainReport>,
    waker: Option<Waker>,
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, report: DrainReport) {
        let waker = {
            let mut state = self.lock();
            state.report = Some(report);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Drain {
    type Output = DrainReport;

    /// Only the waker of the last poll is woken.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<DrainReport> {
        // User code, before the lock and after it.
        let waker = cx.waker().clone();
        let mut state = self.0.lock();
        if let Some(report) = state.report {
            drop(state);
            return Poll::Ready(report);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

/// What a drain needs of its hub.
pub(crate) trait Drained: Send {
    fn topics(&self) -> Vec<Arc<TopicCore>>;
    fn close(&self);
}

/// How far it is.
struct Walk<H: Drained> {
    hub: H,
    shared: HostArc<Shared>,
    outcome: HostArc<Outcome>,
    begin: Instant,
    /// In ticks.
    from: u64,
    until: u64,
    subscriptions: usize,
    /// Those that read for themselves, once they are counted. The others are asked by who reads for them.
    readers: Option<u64>,
    /// Of these, asked so far.
    asked: u64,
    /// The tick at which those that have not read to the end are told of, once the hub is closed and it was told how it went.
    ends: Option<u64>,
    /// Those that there were.
    all: Vec<Arc<TopicCore>>,
    /// Topics whose subscribers are still to be asked, and where in the first of them it goes on.
    topics: Vec<Arc<TopicCore>>,
    place: Place,
}

/// Begins to drain: the job is for the clock. The hub refuses whoever comes from now on.
pub(crate) fn begin<H: Drained + 'static>(
    hub: H,
    shared: &HostArc<Shared>,
    now: u64,
    ticks: u64,
) -> (Drain, Job) {
    let outcome = HostArc::<Outcome>::default();
    let topics = hub.topics();
    let subscriptions = usize::try_from(shared.subscribers.sum()).unwrap_or(usize::MAX);
    let mut walk = Walk {
        all: topics.clone(),
        hub,
        shared: HostArc::clone(shared),
        outcome: HostArc::clone(&outcome),
        begin: Instant::now(),
        from: now,
        until: now.saturating_add(ticks),
        subscriptions,
        readers: None,
        asked: 0,
        ends: None,
        topics,
        place: Place::default(),
    };
    (Drain(outcome), Job::new(move |now| walk.step(now)))
}

impl<H: Drained> Walk<H> {
    /// One tick of it. `false`: it is done.
    fn step(&mut self, now: u64) -> bool {
        let left = self.shared.subscribers.sum();
        match self.ends {
            None if left > 0 && now < self.until => self.ask(now),
            None => {
                self.ends = Some(now.saturating_add(GRACE));
                self.end(left);
            }
            Some(ends) if now >= ends => {
                self.give_up();
                return false;
            }
            Some(_) => {}
        }
        left > 0
    }

    /// The end of it, whoever is left.
    fn end(&mut self, left: u64) {
        let mut panics = FirstPanic::default();
        panics.run(|| self.hub.close());
        let report = DrainReport {
            subscriptions: self.subscriptions,
            cut: usize::try_from(left).unwrap_or(0),
            took: self.begin.elapsed(),
        };
        panics.run(|| observe::drained(&report));
        panics.run(|| self.outcome.tell(report));
    }

    /// Tells of those who cannot notice the close, for nobody polls them.
    fn give_up(&self) {
        let told = &self.shared.evictions;
        for topic in &self.all {
            let end = topic.log.end(&epoch::pin());
            FirstPanic::default().run(|| told.give_up(topic, end));
        }
        let known = self.all.iter().map(|topic| topic.address()).collect();
        FirstPanic::default().run(|| told.give_up_elsewhere(&known));
    }

    /// Asks so many that their part of all is the part of the time that is over.
    fn ask(&mut self, now: u64) {
        let time = (self.until - self.from) * ASKING.0 / ASKING.1;
        // The clock may have taken its time before the drain began.
        let over = now.saturating_sub(self.from).min(time);
        let part = u64::from(WHOLE) * over / time.max(1);
        self.shared
            .set_drained_part(u32::try_from(part).unwrap_or(WHOLE));
        // Those that read for others end so many of them at every tick.
        for topic in &self.all {
            FirstPanic::default().run(|| topic.subscribers.ask(|waiter| waiter.ask(true)));
        }
        let count = || {
            let readers = self
                .all
                .iter()
                .map(|topic| topic.subscribers.count_readers());
            readers.sum::<usize>() as u64
        };
        let all = *self.readers.get_or_insert_with(count);
        let due = if over == time {
            u64::MAX
        } else {
            u64::try_from(u128::from(all) * u128::from(over) / u128::from(time.max(1)))
                .unwrap_or(u64::MAX)
        };
        if due == u64::MAX {
            // All, with those who came in beside the beginning and were not there then.
            self.topics = self.hub.topics();
            self.all.clone_from(&self.topics);
            self.place = Place::default();
        }
        while self.asked < due {
            let Some(topic) = self.topics.last() else {
                return;
            };
            // A waker that panics is its owner's fault.
            let asked = FirstPanic::default().run(|| topic.subscribers.ask_some(self.place));
            match asked {
                Some(Asked::Some(count, next)) => {
                    self.asked = self.asked.saturating_add(count as u64);
                    self.place = next;
                }
                // A waker has panicked: after all of its chunk were woken. The last pass comes to the rest.
                Some(Asked::NoMore) | None => {
                    self.place = Place::default();
                    self.topics.pop();
                }
            }
        }
    }
}

/// What goes away before its end, by a panic of somebody's code, ends at once: nobody is to wait for it for ever.
impl<H: Drained> Drop for Walk<H> {
    fn drop(&mut self) {
        if self.ends.is_none() {
            self.end(self.shared.subscribers.sum());
            self.give_up();
        }
    }
}

impl<H: Drained> fmt::Debug for Walk<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
