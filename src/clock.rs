//! The hub's clock: one thread for heartbeats, ages and idle logs, started by the first topic that needs it.
//!
//! **Role.** Keeps the coarse time that publishers read, and visits the topics that hold a log or whose subscribers
//! want heartbeats. Topics that need neither cost nothing.
//!
//! **State.** Scheduled topics stand in buckets, one of which is visited each tick (at most 250 ms), so each topic is
//! visited once in a round of the buckets: every `T/6`, where `T` is the heartbeat interval, or more often if the limits
//! on age and idleness want it. A topic that only waits for its events to get old stands in `later` instead, by the tick
//! at which the first of them does: so a million topics that nobody reads cost what expires. Waiters are split into [`PHASES`] phases; every `T/6` one of them has its turn, so each
//! waiter's turn comes every `2T/3`. On its turn a waiter of a topic that was quiet for `T/3` gets a heartbeat: a silence
//! lasts at most `T/3 + 2T/3 = T`, plus a few ticks.
//!
//! **Invariant.** T1: a topic that holds a chain, or has a subscriber that wants heartbeats, is scheduled or about to
//! be: whoever makes that so says so in the topic's `scheduled` after a fence; the clock takes that back, and looks again
//! after a fence. An entry of `later` counts only while the topic's word names its tick.
//!
//! **Progress.** Publishers only load the time; they take the inbox's lock when a topic goes from idle to active.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::interest::Watcher;
use crate::memory::Memory;
use crate::sync::{
    Arc, AtomicU64, Condvar, HostArc, HostAtomicU64, HostWeak, Mutex, MutexGuard, Ordering,
    PoisonError, ThreadBuilder, Weak, downgrade, epoch,
};
use crate::topic::TopicCore;
use crate::unwind::FirstPanic;

/// Turns among the waiters of a topic.
pub(crate) const PHASES: u64 = 4;

/// Turns in one heartbeat interval: `PHASES` of them make two thirds of it.
const TURNS_PER_INTERVAL: u32 = 6;

/// Buckets of scheduled topics, for limits that allow it.
const BUCKETS: u32 = 10;

const MAX_TICK: Duration = Duration::from_millis(250);
const MIN_TICK: Duration = Duration::from_millis(1);

/// How the clock goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) tick: Duration,
    /// Buckets: ticks from one visit of a topic to the next.
    ticks_per_visit: u64,
    /// Visits from one heartbeat turn to the next.
    visits_per_turn: u64,
}

impl Pace {
    /// `tidy` is the shortest of the durations after which something is dropped.
    pub(crate) fn new(heartbeat: Duration, tidy: Duration) -> Self {
        let turn = heartbeat / TURNS_PER_INTERVAL;
        let visit = turn.min(tidy / 2);
        let tick = (visit / BUCKETS).clamp(MIN_TICK, MAX_TICK);
        let times = |long: Duration, short: Duration| {
            u64::try_from(long.as_nanos() / short.as_nanos().max(1))
                .unwrap_or(u64::MAX)
                .max(1)
        };
        let ticks_per_visit = times(visit, tick);
        Self {
            tick,
            ticks_per_visit,
            visits_per_turn: (times(turn, tick) / ticks_per_visit).max(1),
        }
    }

    /// Whose turn it is in the visits of this round, if anybody's.
    fn phase(self, round: u64) -> Option<u64> {
        round
            .is_multiple_of(self.visits_per_turn)
            .then(|| round / self.visits_per_turn % PHASES)
    }
}

/// When the clock is to visit a topic again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Not until it is scheduled anew.
    Never,
    /// In the next round.
    Soon,
    /// When the time is so many ticks.
    At(u64),
}

impl Again {
    pub(crate) fn comes_before(self, other: Self) -> bool {
        match (self, other) {
            (Self::Soon, other) => other != Self::Soon,
            (Self::At(at), Self::At(other)) => at < other,
            (Self::At(_), other) => other == Self::Never,
            (Self::Never, _) => false,
        }
    }
}

/// How the clock's thread goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gait {
    /// Or nothing needs it to.
    Goes,
    /// There is something to do, and the system gave no thread.
    NoThread,
    /// Time since it began its last turn.
    Late(Duration),
}

#[derive(Debug)]
pub(crate) struct Clock {
    face: HostArc<Face>,
}

/// Something that is done at every tick, until it says that it is done.
pub(crate) struct Job(Box<dyn FnMut(u64) -> bool + Send>);

impl Job {
    pub(crate) fn new(step: impl FnMut(u64) -> bool + Send + 'static) -> Self {
        Self(Box::new(step))
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

/// What the thread shares with the hub.
#[derive(Debug)]
struct Face {
    start: Instant,
    tick_nanos: u64,
    config: Config,
    memory: Option<HostArc<Memory>>,
    now: AtomicU64,
    /// The tick of the thread's last turn, or of its last waking. Beside [`Inbox::asleep`] it tells whether it goes.
    turned: HostAtomicU64,
    inbox: Mutex<Inbox>,
    called: Condvar,
    /// Of a clock that goes by hand.
    #[cfg(feature = "_simulate")]
    rounds: Mutex<Rounds>,
}

#[derive(Debug, Default)]
struct Inbox {
    arrived: Vec<Weak<TopicCore>>,
    /// Who is to be woken, and when.
    alarms: Vec<(u64, HostWeak<Watcher>)>,
    jobs: Vec<Job>,
    running: bool,
    /// Whether the thread sleeps until it is called.
    asleep: bool,
    stopped: bool,
}

impl Clock {
    pub(crate) fn new(config: Config, memory: Option<HostArc<Memory>>) -> Self {
        Self {
            face: HostArc::new(Face {
                start: Instant::now(),
                tick_nanos: u64::try_from(config.pace.tick.as_nanos()).unwrap_or(u64::MAX),
                config,
                memory,
                now: AtomicU64::new(0),
                turned: HostAtomicU64::new(0),
                inbox: Mutex::default(),
                called: Condvar::new(),
                #[cfg(feature = "_simulate")]
                rounds: Mutex::new(Rounds::new(config.pace)),
            }),
        }
    }

    /// The time in ticks: exact to a tick while any topic is scheduled.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        // Relaxed: a time.
        self.face.now.load(Ordering::Relaxed)
    }

    /// The time in ticks, read from the system: for the start of a segment.
    pub(crate) fn refresh(&self) -> u64 {
        self.face.refresh()
    }

    /// The time in nanoseconds.
    pub(crate) fn nanos(&self) -> u64 {
        let face = &self.face;
        if cfg!(fanfare_loom) || face.config.by_hand {
            return face.refresh().saturating_mul(face.tick_nanos);
        }
        u64::try_from(face.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// So many nanoseconds in ticks, rounded up.
    pub(crate) fn ticks(&self, nanos: u64) -> u64 {
        nanos.div_ceil(self.face.tick_nanos.max(1))
    }

    /// Lets so many ticks go by, with a turn after each: a clock that goes by hand. Tells how many topics it visited.
    #[cfg(feature = "_simulate")]
    pub(crate) fn go_on(&self, ticks: u64) -> u64 {
        let rounds = &self.face.rounds;
        let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let before = rounds.visits;
        for _ in 0..ticks {
            // Relaxed: a time.
            let now = self.face.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.face.turn(&mut rounds, now);
        }
        rounds.visits - before
    }

    /// Has `topic` visited from now on. The caller set its flag.
    pub(crate) fn schedule(&self, topic: &Arc<TopicCore>) {
        if cfg!(fanfare_loom) {
            return;
        }
        let mut inbox = self.face.lock();
        inbox.arrived.push(downgrade(topic));
        // The thread looks at the inbox on every tick; it sleeps without a limit only when it has nothing to do.
        let first = inbox.arrived.len() == 1;
        self.call(&mut inbox, first);
    }

    /// Has `watcher` woken when the time is `due` ticks.
    pub(crate) fn wake_at(&self, due: u64, watcher: &HostArc<Watcher>) {
        if cfg!(fanfare_loom) {
            return;
        }
        let mut inbox = self.face.lock();
        // Those whose watchers have gone need no place.
        if inbox.alarms.len() == inbox.alarms.capacity() {
            inbox
                .alarms
                .retain(|(_, watcher)| watcher.strong_count() > 0);
        }
        inbox.alarms.push((due, HostArc::downgrade(watcher)));
        let first = inbox.alarms.len() == 1;
        self.call(&mut inbox, first);
    }

    /// Has `job` done at every tick. If there is no thread that could, it is dropped.
    pub(crate) fn employ(&self, job: Job) {
        if cfg!(fanfare_loom) {
            return;
        }
        let mut inbox = self.face.lock();
        inbox.jobs.push(job);
        self.call(&mut inbox, true);
        if !inbox.running && !self.face.config.by_hand {
            let jobs = std::mem::take(&mut inbox.jobs);
            drop(inbox);
            drop(jobs);
        }
    }

    /// Has everybody woken with the next turn who waits for some time.
    pub(crate) fn ring_all(&self) {
        for (due, _) in &mut self.face.lock().alarms {
            *due = 0;
        }
    }

    /// How the thread goes.
    pub(crate) fn gait(&self) -> Gait {
        let face = &self.face;
        if face.config.by_hand {
            return Gait::Goes;
        }
        let inbox = face.lock();
        if !inbox.running {
            let needed =
                !inbox.arrived.is_empty() || !inbox.alarms.is_empty() || !inbox.jobs.is_empty();
            return if needed { Gait::NoThread } else { Gait::Goes };
        }
        if inbox.asleep {
            return Gait::Goes;
        }
        drop(inbox);
        // Relaxed: a time.
        let turned = face.turned.load(Ordering::Relaxed);
        let late = face.refresh().saturating_sub(turned);
        Gait::Late(Duration::from_nanos(face.tick_nanos.saturating_mul(late)))
    }

    /// Has a turn come at once, for memory that is short. The caller said so in its `Memory`.
    pub(crate) fn come(&self) {
        if cfg!(fanfare_loom) {
            return;
        }
        let mut inbox = self.face.lock();
        self.call(&mut inbox, true);
    }

    /// Has the thread look at the inbox if it may be asleep, and starts it if it was never needed.
    fn call(&self, inbox: &mut Inbox, may_sleep: bool) {
        if self.face.config.by_hand {
            return;
        }
        if inbox.running {
            if may_sleep {
                self.face.called.notify_one();
            }
            return;
        }
        self.face.turned_at(self.face.refresh());
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
    fn turned_at(&self, now: u64) {
        // Relaxed: a time.
        self.turned.store(now, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics under this lock; were it to happen, the inbox would still be whole.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One turn: the alarms that are due, and the topics.
    fn turn(&self, rounds: &mut Rounds, now: u64) {
        let mut inbox = self.lock();
        let arrived = std::mem::take(&mut inbox.arrived);
        let alarms: Vec<_> = inbox
            .alarms
            .extract_if(.., |(due, _)| *due <= now)
            .collect();
        rounds.jobs.append(&mut inbox.jobs);
        drop(inbox);
        for (_, watcher) in alarms {
            FirstPanic::default().run(|| {
                if let Some(watcher) = watcher.upgrade() {
                    watcher.ring();
                }
            });
        }
        if let Some(memory) = &self.memory {
            memory.turn(now, self.config.retention.age_ticks);
        }
        rounds.turn(self.config.pace, arrived, now);
        // One that panics is over.
        rounds
            .jobs
            .retain_mut(|job| FirstPanic::default().run(|| (job.0)(now)) == Some(true));
    }

    fn refresh(&self) -> u64 {
        if cfg!(fanfare_loom) || self.config.by_hand {
            // A model's run must not depend on how long it takes.
            return self.now.load(Ordering::Relaxed);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "64 bits of nanoseconds are 584 years"
        )]
        let now = self.start.elapsed().as_nanos() as u64 / self.tick_nanos;
        // Relaxed: a time. Stored only when changed, so that the line stays shared, and never set back.
        if self.now.load(Ordering::Relaxed) < now {
            self.now.fetch_max(now, Ordering::Relaxed).max(now)
        } else {
            now
        }
    }
}

/// Whom the clock visits, and when.
#[derive(Debug, Default)]
struct Rounds {
    buckets: VecDeque<Vec<Weak<TopicCore>>>,
    later: BTreeMap<u64, Vec<Weak<TopicCore>>>,
    jobs: Vec<Job>,
    visited: u64,
    idle_turns: u32,
    #[cfg(feature = "_simulate")]
    visits: u64,
}

impl Rounds {
    fn new(pace: Pace) -> Self {
        let count = usize::try_from(pace.ticks_per_visit).unwrap_or(usize::MAX);
        let mut rounds = Self::default();
        rounds.buckets.resize_with(count, Vec::new);
        rounds
    }

    /// Whether nobody needs the time. Freeing takes a few turns: the epoch has to move on twice.
    fn is_idle(&self) -> bool {
        self.idle_turns > 3 && self.jobs.is_empty()
    }

    /// One turn of the clock: what is due at `now`.
    fn turn(&mut self, pace: Pace, arrived: Vec<Weak<TopicCore>>, now: u64) {
        // New topics go to the bucket that is due last.
        self.soon(arrived);
        let mut panics = FirstPanic::default();
        while let Some(entry) = self.later.first_entry()
            && *entry.key() <= now
        {
            let (due, topics) = entry.remove_entry();
            for topic in topics {
                let due = topic.upgrade().filter(|topic| topic.comes_due(due));
                if let Some(core) = due {
                    self.visit(&mut panics, topic, &core, now, None);
                }
            }
        }
        // After a pause each bucket is visited once, not once per tick slept.
        let due = now.saturating_sub(self.visited).min(pace.ticks_per_visit);
        for tick in (0..due).rev() {
            let Some(bucket) = self.buckets.pop_front() else {
                break;
            };
            let phase = pace.phase((now - tick) / pace.ticks_per_visit);
            self.buckets.push_back(Vec::with_capacity(bucket.len()));
            for topic in bucket {
                if let Some(core) = topic.upgrade() {
                    self.visit(&mut panics, topic, &core, now, phase);
                }
            }
            if let Some(bucket) = self.buckets.back_mut() {
                bucket.shrink_to(bucket.len() * 2);
            }
        }
        self.visited = now;
        // What publishers retired on threads that then fell silent. Its destructors may be anybody's.
        panics.run(|| epoch::pin().flush());
        self.idle_turns = if self.later.is_empty() && self.buckets.iter().all(Vec::is_empty) {
            self.idle_turns.saturating_add(1)
        } else {
            0
        };
    }

    fn soon(&mut self, topics: impl IntoIterator<Item = Weak<TopicCore>>) {
        if let Some(last) = self.buckets.back_mut() {
            last.extend(topics);
        }
    }

    fn visit(
        &mut self,
        panics: &mut FirstPanic,
        topic: Weak<TopicCore>,
        core: &Arc<TopicCore>,
        now: u64,
        phase: Option<u64>,
    ) {
        #[cfg(feature = "_simulate")]
        {
            self.visits += 1;
        }
        // A waker or a key that panics is its owner's fault; the other topics still need the clock.
        match panics.run(|| TopicCore::visit(core, now, phase)) {
            Some(Again::Never) => {}
            Some(Again::At(due)) => self.later.entry(due).or_default().push(topic),
            Some(Again::Soon) | None => self.soon([topic]),
        }
    }
}

fn run(face: &HostWeak<Face>) {
    let Some(pace) = face.upgrade().map(|face| face.config.pace) else {
        return;
    };
    let mut rounds = Rounds::new(pace);
    loop {
        // Held for one turn only, so that the hub's end is noticed. The wait itself keeps the face alive; `Clock::drop`
        // ends it.
        let Some(face) = face.upgrade() else { return };
        let mut inbox = face.lock();
        let memory = face.memory.as_deref();
        let short = memory.is_some_and(Memory::wants_clock);
        let called = memory.is_some_and(Memory::is_called);
        let idle = rounds.is_idle() && inbox.alarms.is_empty() && inbox.jobs.is_empty() && !short;
        if inbox.stopped {
            return;
        }
        if inbox.arrived.is_empty() && !called {
            inbox = if idle {
                inbox.asleep = true;
                let mut inbox = face
                    .called
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner);
                inbox.asleep = false;
                face.turned_at(face.refresh());
                inbox
            } else {
                face.called
                    .wait_timeout(inbox, pace.tick)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
        if inbox.stopped {
            return;
        }
        drop(inbox);
        let now = face.refresh();
        face.turned_at(now);
        face.turn(&mut rounds, now);
    }
}
