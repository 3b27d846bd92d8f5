//! The hub's clock: one thread for heartbeats, ages and idle logs, started by the first topic that needs it.
//!
//! **Role.** Keeps the coarse time that publishers read, and visits the topics that hold a log or whose subscribers
//! want heartbeats. Topics that need neither cost nothing.
//!
//! **State.** A tick is a fraction of the heartbeat interval `T`, at most 250 ms. Scheduled topics stand in
//! `ticks_per_visit` buckets, one of which is visited each tick, so each topic is visited every `T/6`. Waiters are split
//! into [`PHASES`] phases; a visit beats one of them, so each waiter's turn comes every `2T/3`. On its turn a waiter of
//! a topic that was quiet for `T/3` gets a heartbeat: a silence lasts at most `T/3 + 2T/3 = T`, plus a tick.
//!
//! **Invariant.** T1: a topic that holds a chain, or has a subscriber that wants heartbeats, is scheduled or about to
//! be: whoever makes that so sets the flag after a fence; the clock clears the flag, and looks again after a fence.
//!
//! **Progress.** Publishers only load the time; they take the inbox's lock when a topic goes from idle to active.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::sync::{
    Arc, AtomicU32, Condvar, HostArc, HostWeak, Mutex, MutexGuard, Ordering, PoisonError,
    ThreadBuilder, Weak, downgrade, epoch,
};
use crate::topic::TopicCore;

/// Turns among the waiters of a topic.
pub(crate) const PHASES: usize = 4;

/// Visits in one heartbeat interval: `PHASES` of them make two thirds of it.
const VISITS_PER_INTERVAL: u32 = 6;

/// Buckets of scheduled topics, for intervals that allow it.
const BUCKETS: u32 = 10;

const MAX_TICK: Duration = Duration::from_millis(250);
const MIN_TICK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Clock {
    face: HostArc<Face>,
}

/// What the thread shares with the hub.
#[derive(Debug)]
struct Face {
    start: Instant,
    config: Config,
    now: AtomicU32,
    inbox: Mutex<Inbox>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    arrived: Vec<Weak<TopicCore>>,
    running: bool,
    stopped: bool,
}

impl Clock {
    pub(crate) fn tick(heartbeat: Duration, idle_after: Duration) -> Duration {
        (heartbeat / (VISITS_PER_INTERVAL * BUCKETS))
            .min(idle_after / 4)
            .clamp(MIN_TICK, MAX_TICK)
    }

    pub(crate) fn ticks_per_visit(heartbeat: Duration, tick: Duration) -> u32 {
        let visit = heartbeat / VISITS_PER_INTERVAL;
        u32::try_from(visit.as_nanos() / tick.as_nanos())
            .unwrap_or(u32::MAX)
            .max(1)
    }

    pub(crate) fn new(config: Config) -> Self {
        Self {
            face: HostArc::new(Face {
                start: Instant::now(),
                config,
                now: AtomicU32::new(0),
                inbox: Mutex::default(),
                called: Condvar::new(),
            }),
        }
    }

    /// The time in ticks: exact to a tick while any topic is scheduled.
    pub(crate) fn now(&self) -> u32 {
        // Relaxed: a time.
        self.face.now.load(Ordering::Relaxed)
    }

    /// The time in ticks, read from the system: for the start of a segment.
    pub(crate) fn refresh(&self) -> u32 {
        self.face.refresh()
    }

    /// Has `topic` visited from now on. The caller set its flag.
    pub(crate) fn schedule(&self, topic: &Arc<TopicCore>) {
        if cfg!(fanfare_loom) {
            return;
        }
        let mut inbox = self.face.lock();
        inbox.arrived.push(downgrade(topic));
        if inbox.running {
            // The thread looks at the inbox on every tick; it sleeps without a limit only when it has no topic.
            if inbox.arrived.len() == 1 {
                self.face.called.notify_one();
            }
            return;
        }
        let face = HostArc::downgrade(&self.face);
        // Without a thread (the system refuses one) the next topic tries again; until then there are no heartbeats and
        // idle logs stay.
        inbox.running = ThreadBuilder::new()
            .name("fanfare-clock".to_owned())
            .spawn(move || run(&face))
            .is_ok();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.face.lock().stopped = true;
        self.face.called.notify_one();
    }
}

impl Face {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics under this lock; were it to happen, the inbox would still be whole.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self) -> u32 {
        let ticks = self.start.elapsed().as_nanos() / self.config.tick.as_nanos();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ticks are compared modulo 2^32"
        )]
        let now = ticks as u32;
        // Relaxed: a time.
        self.now.store(now, Ordering::Relaxed);
        now
    }
}

fn run(face: &HostWeak<Face>) {
    let mut buckets: VecDeque<Vec<Weak<TopicCore>>> = VecDeque::new();
    let mut visits = 0_u32;
    loop {
        // Held for one turn only, so that the hub's end is noticed. The wait itself keeps the face alive; `Clock::drop`
        // ends it.
        let Some(face) = face.upgrade() else { return };
        if buckets.is_empty() {
            buckets.resize_with(face.config.ticks_per_visit as usize, Vec::new);
        }
        let idle = buckets.iter().all(Vec::is_empty);
        let mut inbox = face.lock();
        if inbox.stopped {
            return;
        }
        if inbox.arrived.is_empty() {
            inbox = if idle {
                face.called
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                face.called
                    .wait_timeout(inbox, face.config.tick)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
        if inbox.stopped {
            return;
        }
        let arrived = std::mem::take(&mut inbox.arrived);
        drop(inbox);
        let now = face.refresh();
        // New topics go to the bucket that is due last.
        if let Some(last) = buckets.back_mut() {
            last.extend(arrived);
        }
        let due = now.wrapping_sub(visits);
        for _ in 0..due.min(face.config.ticks_per_visit) {
            if let Some(mut bucket) = buckets.pop_front() {
                // The phase changes once per round of all buckets.
                let phase = (visits / face.config.ticks_per_visit) as usize % PHASES;
                bucket.retain(|topic| {
                    let topic = topic.upgrade();
                    topic.is_some_and(|topic| {
                        // A waker that panics is its executor's fault; the other topics still need the clock.
                        catch_unwind(AssertUnwindSafe(|| topic.visit(now, phase))).unwrap_or(true)
                    })
                });
                bucket.shrink_to(bucket.len() * 2);
                buckets.push_back(bucket);
            }
            visits = visits.wrapping_add(1);
        }
        visits = now;
        // What publishers retired on threads that then fell silent.
        epoch::pin().flush();
    }
}
