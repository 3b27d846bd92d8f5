//! What a seed is like: its hub, its crowd, and how often what happens.

use std::time::Duration;

use fanfare::{Hub, HubBuilder, LagPolicy};

use crate::rng::Rng;

/// One step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Publish,
    Burst,
    PublishMany,
    PublishAll,
    PublishByHandle,
    PublishTooLarge,
    TakeHandle,
    DropHandle,
    CloseTopic,
    Subscribe,
    SubscribeFrom,
    /// A client that went away comes back with the id it has.
    Return,
    Drop,
    /// A reader does what is in its nature.
    Act,
    /// All of them do.
    AllAct,
    Park,
    ChangePolicy,
    /// A reader holds a batch while others publish.
    HoldBatch,
    GoOn,
    /// Time goes by in which something expires.
    LongPause,
    End,
    Inspect,
}

/// The nature of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads all, and parks.
    Prompt,
    /// Reads a little.
    Slow,
    /// Reads nothing, nearly always.
    Stalled,
    /// Leaves without a word, and comes again as somebody new.
    Flapping,
    /// Leaves, and comes back with the id it has.
    Reconnecting,
}

/// What a seed draws first.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) shape: &'static str,
    pub(crate) history: bool,
    pub(crate) ids: bool,
    pub(crate) retain_events: u64,
    pub(crate) retain_bytes: u64,
    pub(crate) max_event_bytes: u64,
    retain_age: Duration,
    idle_after: Duration,
    heartbeat: Duration,
    pub(crate) keys: usize,
    pub(crate) readers: usize,
    /// Readers that are there from the beginning.
    pub(crate) first: usize,
    pub(crate) handles: usize,
    pub(crate) burst: u64,
    /// Sizes of payloads, by weight: each is the most that is drawn.
    pub(crate) sizes: Vec<(u64, u64)>,
    pub(crate) steps: usize,
    pub(crate) ops: Vec<(u64, Op)>,
    pub(crate) kinds: Vec<(u64, Kind)>,
    pub(crate) policies: Vec<(u64, LagPolicy)>,
    /// Whether the hub is closed in the end, or left to the clock.
    pub(crate) closes: bool,
}

/// Heartbeat, idleness and age, in milliseconds: from 1 ms to 250 ms a tick.
const PACES: [(u64, u64, u64); 4] = [
    (15_000, 10_000, 60_000),
    (600, 100, 1_000),
    (6_000, 10, 160),
    (3_000, 2_000, 3_000),
];

fn usual() -> Vec<(u64, Op)> {
    vec![
        (60, Op::Publish),
        (14, Op::Burst),
        (10, Op::PublishMany),
        (4, Op::PublishAll),
        (10, Op::PublishByHandle),
        (1, Op::PublishTooLarge),
        (5, Op::TakeHandle),
        (4, Op::DropHandle),
        (2, Op::CloseTopic),
        (16, Op::Subscribe),
        (12, Op::SubscribeFrom),
        (10, Op::Return),
        (10, Op::Drop),
        (90, Op::Act),
        (2, Op::AllAct),
        (25, Op::Park),
        (3, Op::ChangePolicy),
        (8, Op::HoldBatch),
        (14, Op::GoOn),
        (2, Op::LongPause),
        (4, Op::End),
        (12, Op::Inspect),
    ]
}

/// Makes some ops so many times as frequent.
fn more(ops: &mut [(u64, Op)], times: u64, which: &[Op]) {
    for (weight, op) in ops {
        if which.contains(op) {
            *weight *= times;
        }
    }
}

impl Scenario {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let (heartbeat, idle, age) = rng.pick(&PACES);
        let ms = Duration::from_millis;
        let retain_bytes = rng.pick(&[1 << 10, 4 << 10, 20 << 10, 100 << 10, 1 << 20]);
        let mut this = Self {
            shape: "mixed",
            history: rng.percent(50),
            ids: rng.percent(75),
            retain_events: rng.pick(&[1, 2, 3, 7, 16, 64, 100, 1000]),
            retain_bytes,
            max_event_bytes: retain_bytes.min(8 << 10),
            retain_age: ms(age),
            idle_after: ms(idle),
            heartbeat: ms(heartbeat),
            keys: rng.between(1, 6) as usize,
            readers: 12,
            first: 0,
            handles: 3,
            burst: rng.pick(&[5, 20, 90, 200]),
            sizes: vec![(60, 12), (30, 200), (10, 8 << 10)],
            steps: rng.between(60, 300) as usize,
            ops: usual(),
            kinds: vec![
                (4, Kind::Prompt),
                (4, Kind::Slow),
                (2, Kind::Stalled),
                (2, Kind::Flapping),
                (4, Kind::Reconnecting),
            ],
            policies: vec![
                (6, LagPolicy::Notify),
                (2, LagPolicy::Disconnect),
                (3, LagPolicy::SkipToLatest),
            ],
            closes: rng.percent(50),
        };
        this.shape(rng);
        this
    }

    fn shape(&mut self, rng: &mut Rng) {
        let ops = &mut self.ops;
        match rng.below(8) {
            0 => {
                self.shape = "many small topics";
                (self.keys, self.readers, self.handles) = (40, 60, 10);
                self.burst = 5;
            }
            1 => {
                self.shape = "one large topic";
                (self.keys, self.readers) = (1, rng.pick(&[30, 80, 200]));
                self.first = self.readers * 4 / 5;
                more(ops, 4, &[Op::Subscribe, Op::Park]);
                more(ops, 2, &[Op::Act, Op::AllAct]);
                self.kinds = vec![
                    (8, Kind::Prompt),
                    (2, Kind::Slow),
                    (1, Kind::Stalled),
                    (1, Kind::Flapping),
                    (1, Kind::Reconnecting),
                ];
            }
            2 => {
                self.shape = "tiny retention";
                self.retain_events = rng.pick(&[1, 1, 2]);
                more(ops, 3, &[Op::Burst, Op::Inspect]);
            }
            3 => {
                self.shape = "large events";
                self.sizes = vec![(1, 12), (4, 8 << 10)];
                self.retain_events = 1000;
                more(ops, 2, &[Op::Burst, Op::Inspect]);
            }
            4 => {
                self.shape = "comings and goings";
                (self.history, self.ids) = (true, true);
                more(ops, 4, &[Op::Return, Op::SubscribeFrom, Op::CloseTopic]);
                self.kinds = vec![(1, Kind::Flapping), (4, Kind::Reconnecting)];
            }
            5 => {
                self.shape = "quiet";
                more(ops, 5, &[Op::GoOn, Op::LongPause]);
                more(ops, 2, &[Op::Inspect]);
                self.burst = 5;
            }
            6 => {
                self.shape = "churn of topics";
                more(ops, 8, &[Op::CloseTopic, Op::TakeHandle, Op::DropHandle]);
                more(ops, 3, &[Op::Drop, Op::Subscribe]);
            }
            _ => {}
        }
    }

    pub(crate) fn builder(&self) -> HubBuilder {
        Hub::builder()
            .clock_by_hand()
            .history(self.history)
            .event_ids(self.ids)
            .retain_events(self.retain_events as usize)
            .retain_bytes(self.retain_bytes as usize)
            .max_event_bytes(self.max_event_bytes as usize)
            .retain_age(self.retain_age)
            .idle_after(self.idle_after)
            .heartbeat(self.heartbeat)
    }

    /// The limits, in ticks of `tick`.
    pub(crate) fn times(&self, tick: Duration) -> Times {
        let ticks = |time: Duration| time.as_nanos().div_ceil(tick.as_nanos()) as u64;
        let visit = (self.heartbeat / 6).min(self.idle_after / 2);
        Times {
            age: ticks(self.retain_age),
            idle: ticks(self.idle_after),
            heartbeat: ticks(self.heartbeat),
            slack: 2 * ticks(visit) + 2,
        }
    }
}

/// The hub's limits in ticks of its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) age: u64,
    pub(crate) idle: u64,
    pub(crate) heartbeat: u64,
    /// What the clock may be late: it comes to a topic so often.
    pub(crate) slack: u64,
}
