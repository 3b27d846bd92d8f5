//! A thread that opens its share of the connections and reads from them: one poll, one buffer.
//!
//! **Invariants.** W1: a connection is unopened (at or behind `cursor`), opening, open, resting until it is opened again, or
//! over. W2: `opening` counts the opening ones, and each of them has an entry in `deadlines`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::connection::Connection;
use crate::failure::{During as _, Failure};
use crate::ledger::Account;
use crate::reason::{Reason, Reasons};
use crate::shared::{Phase, Plan, Shared, Tally};

/// Most bytes of one read.
const READ_BYTES: usize = 256 * 1024;

/// Most connections that are taken from the poll at once.
const TURN: usize = 1024;

/// Connects between two looks at what came.
const SLICE: usize = 16;

/// How often it is looked for what time brings: slow readers, deadlines, reconnects, the main thread's wishes.
const TICK: Duration = Duration::from_millis(50);

/// After so many failures and no success the rest is not tried.
const HOPELESS: usize = 32;

/// Different reasons that are told apart; a server's answers may have a number each.
const MAX_REASONS: usize = 64;

/// What became of a thread's connections.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Connections that never had a stream.
    pub(crate) failures: Reasons,
    /// Streams that ended before the run did, each time.
    pub(crate) ends: Reasons,
    pub(crate) reconnects: u64,
    /// Connections that were not tried, as all before them had failed.
    pub(crate) untried: u64,
    pub(crate) account: Account,
    pub(crate) slow: Account,
    pub(crate) slow_connections: u64,
    pub(crate) slow_ended: u64,
    /// Events published on the path of connections that had ended by then.
    pub(crate) cut_off: u64,
}

pub(crate) struct Worker<'run> {
    plan: &'run Plan,
    shared: &'run Shared,
    /// Which of the threads.
    index: usize,
    poll: Poll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    tally: Tally,
    outcome: Outcome,
    /// The next connection to open for the first time.
    cursor: usize,
    opening: usize,
    opened: usize,
    failed: usize,
    settled: bool,
    deadlines: VecDeque<(Instant, usize, u32)>,
    /// Connections to be opened again, by time.
    resting: BTreeSet<(Instant, usize)>,
    /// Slow ones that are open.
    slow: BTreeSet<usize>,
    began: Instant,
}

impl<'run> Worker<'run> {
    pub(crate) fn new(
        plan: &'run Plan,
        shared: &'run Shared,
        index: usize,
    ) -> Result<Self, Failure> {
        let all = index..plan.options.connections;
        let connections = all.step_by(plan.options.threads).map(|number| {
            let path = number as u64 % u64::from(plan.targets.paths);
            // Less than the number of paths.
            Connection::new(number, u32::try_from(path).unwrap_or_default(), plan)
        });
        Ok(Self {
            plan,
            shared,
            index,
            poll: Poll::new().during("making a poll")?,
            connections: connections.collect(),
            buffer: vec![0; READ_BYTES],
            tally: Tally::default(),
            outcome: Outcome::default(),
            cursor: 0,
            opening: 0,
            opened: 0,
            failed: 0,
            settled: false,
            deadlines: VecDeque::new(),
            resting: BTreeSet::new(),
            slow: BTreeSet::new(),
            began: Instant::now(),
        })
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) -> Result<Outcome, Failure> {
        let mut events = Events::with_capacity(TURN);
        let mut ticked = Instant::now();
        self.began = ticked;
        loop {
            let more = self.open_some();
            let timeout = if more { Duration::ZERO } else { TICK };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.during("waiting for events")?,
            }
            for event in &events {
                self.ready(event);
            }
            let now = Instant::now();
            let passed = now - ticked;
            if passed >= TICK {
                ticked = now;
                if self.tick(now, passed) == Phase::Stopping {
                    return Ok(self.finish());
                }
            }
        }
    }

    /// Opens what may be opened now; whether there is more.
    fn open_some(&mut self) -> bool {
        let in_flight = self
            .plan
            .options
            .in_flight
            .div_ceil(self.plan.options.threads);
        let mut slice = SLICE;
        while self.cursor < self.connections.len() && self.opening < in_flight && self.is_due() {
            if slice == 0 {
                return true;
            }
            slice -= 1;
            self.cursor += 1;
            self.open(self.cursor - 1);
        }
        false
    }

    /// Whether the ramp allows the next connection.
    fn is_due(&self) -> bool {
        let Some(per_second) = self.plan.options.ramp else {
            return true;
        };
        let number = u32::try_from(self.connections[self.cursor].number).unwrap_or(u32::MAX);
        self.began.elapsed().as_secs_f64() * per_second >= f64::from(number)
    }

    fn open(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        match connection.open(self.plan, self.poll.registry(), Token(at)) {
            Ok(()) => {
                self.opening += 1;
                let deadline = Instant::now() + self.plan.options.connect_timeout();
                self.deadlines.push_back((deadline, at, connection.attempt));
            }
            Err(reason) => self.broken(at, false, reason),
        }
    }

    fn ready(&mut self, event: &Event) {
        let at = event.token().0;
        let connection = &self.connections[at];
        if connection.is_slow && connection.is_open() {
            // What it may read, the tick reads. One that never reads sees its end here only.
            if self.plan.options.slow_rate == 0 && (event.is_read_closed() || event.is_error()) {
                self.broken(at, true, Reason::Ended);
            }
        } else {
            self.advance(at, usize::MAX);
        }
    }

    /// Lets a connection go on, reading at most `budget` bytes.
    fn advance(&mut self, at: usize, budget: usize) {
        let connection = &mut self.connections[at];
        let (was_opening, was_open) = (connection.is_opening(), connection.is_open());
        // A slow one gets its head, and no more than comes with it.
        let budget = if connection.is_slow && was_opening {
            4096
        } else {
            budget
        };
        let result = connection.advance(self.plan, &mut self.buffer, budget, &mut self.tally);
        let is_open = connection.is_open();
        if was_opening && (result.is_err() || !connection.is_opening()) {
            self.opening -= 1;
        }
        if is_open && !was_open {
            self.began_stream(at);
        }
        if let Err(reason) = result {
            self.broken(at, is_open, reason);
        }
    }

    fn began_stream(&mut self, at: usize) {
        let connection = &self.connections[at];
        if connection.is_slow {
            self.slow.insert(at);
        }
        if connection.has_begun {
            self.outcome.reconnects += 1;
        } else {
            self.connections[at].has_begun = true;
            self.opened += 1;
            count(&self.shared.opened);
        }
    }

    /// Closes a connection that failed, or whose stream ended.
    fn broken(&mut self, at: usize, was_open: bool, reason: Reason) {
        let connection = &mut self.connections[at];
        connection.part();
        self.slow.remove(&at);
        if was_open {
            if connection.is_slow {
                self.outcome.slow_ended += 1;
            }
            note(&mut self.outcome.ends, reason);
        } else if connection.has_begun {
            // A reconnect that failed is tried again, except where the answer will be the same.
            let is_final = !matches!(
                reason,
                Reason::Refused
                    | Reason::Reset
                    | Reason::TimedOut
                    | Reason::NoHead
                    | Reason::NoPorts
            );
            note(&mut self.outcome.ends, reason);
            if is_final {
                return;
            }
        } else {
            note(&mut self.outcome.failures, reason);
            self.failed += 1;
            count(&self.shared.failed);
            if self.opened == 0 && self.failed >= HOPELESS {
                self.outcome.untried += (self.connections.len() - self.cursor) as u64;
                self.cursor = self.connections.len();
            }
            return;
        }
        if self.plan.options.reconnect {
            let due = Instant::now() + self.connections[at].retry();
            self.resting.insert((due, at));
        }
    }

    fn tick(&mut self, now: Instant, passed: Duration) -> Phase {
        while let Some(&(due, at)) = self.resting.first()
            && due <= now
        {
            self.resting.pop_first();
            self.open(at);
        }
        while let Some(&(deadline, at, attempt)) = self.deadlines.front() {
            let connection = &self.connections[at];
            let is_current = connection.attempt == attempt && connection.is_opening();
            if is_current && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if is_current {
                self.opening -= 1;
                self.broken(at, false, Reason::TimedOut);
            }
        }
        self.read_slowly(passed);
        if !self.settled && self.cursor == self.connections.len() && self.opening == 0 {
            self.settled = true;
            count(&self.shared.settled);
        }
        self.shared.flush(self.index, &mut self.tally);
        let phase = self.shared.phase();
        if phase == Phase::Draining {
            let incomplete = self
                .connections
                .iter()
                .filter(|connection| self.lacks(connection));
            let incomplete = incomplete.count();
            // Relaxed: a number that the main thread acts upon, and nothing that it points to.
            self.shared.incomplete[self.index]
                .store(incomplete, std::sync::atomic::Ordering::Relaxed);
        }
        phase
    }

    fn read_slowly(&mut self, passed: Duration) {
        let rate = f64::from(self.plan.options.slow_rate);
        if rate <= 0.0 || self.slow.is_empty() {
            return;
        }
        // Rounded up, so that the slowest reads at all; a tick is far less than an hour.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and less than 2^32"
        )]
        let more = (rate * passed.as_secs_f64()).ceil() as usize;
        let slow: Vec<usize> = self.slow.iter().copied().collect();
        for at in slow {
            // What it did not read for want of events does not become a right to read fast later.
            self.advance(at, more);
        }
    }

    /// Whether something is still to come to a connection.
    fn lacks(&self, connection: &Connection) -> bool {
        let alive = connection.is_open() || (self.plan.options.reconnect && connection.has_begun);
        let counted = !connection.is_slow || self.plan.options.count_slow;
        let published = self.shared.published(self.plan.sequence(connection.path));
        alive && counted && !connection.ledger.is_complete(published)
    }

    fn finish(mut self) -> Outcome {
        self.shared.flush(self.index, &mut self.tally);
        let uncertain = self.shared.uncertain();
        let none = BTreeSet::new();
        for connection in &self.connections {
            if !connection.has_begun {
                continue;
            }
            let sequence = self.plan.sequence(connection.path);
            let published = self.shared.published(sequence);
            let uncertain = uncertain.get(&sequence).unwrap_or(&none);
            let stays = connection.is_open() || self.plan.options.reconnect;
            let ledger = &connection.ledger;
            let account = if stays {
                ledger.close(published, uncertain)
            } else {
                self.outcome.cut_off += published.saturating_sub(ledger.next());
                ledger.close(0, uncertain)
            };
            if connection.is_slow {
                self.outcome.slow_connections += 1;
                self.outcome.slow += account;
            } else {
                self.outcome.account += account;
            }
        }
        drop(uncertain);
        self.outcome
    }
}

/// Relaxed: a statistic, read by itself.
fn count(counter: &std::sync::atomic::AtomicUsize) {
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

fn note(reasons: &mut Reasons, reason: Reason) {
    let reason = match reason {
        Reason::Status(status, _) if reasons.len() >= MAX_REASONS => {
            Reason::Status(status, String::new())
        }
        reason => reason,
    };
    *reasons.entry(reason).or_default() += 1;
}

/// Adds the reasons of one thread to those of all.
pub(crate) fn merge(into: &mut BTreeMap<Reason, u64>, from: BTreeMap<Reason, u64>) {
    for (reason, count) in from {
        *into.entry(reason).or_default() += count;
    }
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Self) {
        merge(&mut self.failures, other.failures);
        merge(&mut self.ends, other.ends);
        self.reconnects += other.reconnects;
        self.untried += other.untried;
        self.account += other.account;
        self.slow += other.slow;
        self.slow_connections += other.slow_connections;
        self.slow_ended += other.slow_ended;
        self.cut_off += other.cut_off;
    }
}
