//! Many topics with one subscriber each, and threads that publish to random ones: time per publish until everything is
//! received. A task per subscriber; keys are strings, made beforehand.
//!
//! U1: `left` is set before the publishers begin, and each event is taken off it once, so 0 is reached once a turn.
//! U2: which topics a publisher chooses follows from the turn and its number, so what each user must have got is known.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use dashmap::DashMap;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::args::{Question, Settings, grouped};
use crate::contest::{Entry, Progress, hold, rounds_within};
use crate::engines::{
    AbortOnPanic, DashMapOfSenders, Fanfare, Keyed, LockedMaps, Named, Numbered, Reader, Tick,
};
use crate::report::{Head, Table, Unit};
use crate::size;

/// Events per topic and turn, on average.
const EVENTS_PER_TOPIC: u32 = 2;

/// What the ring of one user holds: it is allocated whole, and no user gets near it.
const USER_CAPACITY: usize = 32;

/// Longest wait for a turn: far more than the slowest engine needs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Roughly what all engines side by side take per topic. Bytes.
const BYTES_PER_TOPIC: u64 = 11_000;

/// What all engines side by side take. Bytes.
pub(crate) fn bytes_of_all(topics: u32) -> u64 {
    BYTES_PER_TOPIC * u64::from(topics)
}

/// The keys of so many topics.
pub(crate) fn keys(topics: u32) -> Arc<[String]> {
    (0..topics).map(|user| format!("user-{user:07}")).collect()
}

/// A `DashMap` of topics, each with a `tokio::sync::broadcast` of its own.
pub(crate) struct DashMapOfBroadcasts(DashMap<String, broadcast::Sender<Bytes>>);

impl Named for DashMapOfBroadcasts {
    const NAME: &'static str = "dashmap of broadcast";
}

impl Keyed for DashMapOfBroadcasts {
    type Reader = broadcast::Receiver<Bytes>;

    fn new() -> Self {
        Self(DashMap::new())
    }

    fn join(&self, key: &str) -> Self::Reader {
        let topic = self.0.entry(key.to_owned());
        let topic = topic.or_insert_with(|| broadcast::channel(USER_CAPACITY).0);
        topic.subscribe()
    }

    fn leave(&self, key: &str, reader: Self::Reader) {
        drop(reader);
        self.0
            .remove_if(key, |_, sender| sender.receiver_count() == 0);
    }

    async fn publish_to(&self, key: &str, tick: &Tick) {
        let block = tick.to_sse();
        let sender = self.0.get(key).expect("every topic has a reader");
        black_box(sender.send(block).expect("there is a receiver"));
    }
}

/// What publishers and readers share.
struct Crowd {
    /// Events of this turn that no reader has had yet.
    left: CachePadded<AtomicU32>,
    /// The reader of the last one tells here.
    done: mpsc::Sender<()>,
    checked: AtomicBool,
    /// Per user, the events it has had in all turns.
    received: Box<[AtomicU32]>,
}

impl Crowd {
    fn take(&self, user: usize, received: u32, events: u32) {
        self.received[user].store(received, Ordering::Relaxed);
        if self.left.fetch_sub(events, Ordering::AcqRel) == events {
            // Nobody waits any more: then this has taken too long, and that was said.
            let _ = self.done.send(());
        }
    }
}

/// How a turn's events are spread over the publishers.
#[derive(Debug, Clone, Copy)]
struct Plan {
    publishers: u32,
    /// Events of each publisher.
    events: u32,
    topics: u32,
}

impl Plan {
    fn new(settings: &Settings) -> Self {
        let Settings {
            topics, publishers, ..
        } = *settings;
        let events = (topics * EVENTS_PER_TOPIC / publishers).min(Tick::NUMBERS / publishers);
        Self {
            publishers,
            events,
            topics,
        }
    }

    fn total(self) -> u32 {
        self.publishers * self.events
    }

    /// The tick's number says who published it.
    fn number(self, publisher: u32, event: u32) -> u32 {
        publisher * self.events + event
    }

    /// Whom `publisher` tells in `turn`, one event after the other (U2).
    fn users(self, turn: u32, publisher: u32) -> impl Iterator<Item = usize> {
        let mut state = (u64::from(turn) << 32) | u64::from(publisher);
        (0..self.events).map(move |_| {
            // SplitMix64, scaled to the topics by its upper half.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let upper = (bits ^ (bits >> 31)) >> 32;
            let user = (upper * u64::from(self.topics)) >> 32;
            usize::try_from(user).expect("below 2^32")
        })
    }
}

/// The task of a user.
async fn read<R: Reader>(mut reader: R, crowd: Arc<Crowd>, user: usize, plan: Plan) {
    let _guard = AbortOnPanic;
    let mut received = 0;
    let mut next = vec![0; size(plan.publishers)];
    loop {
        let mut events = 0;
        let look = |event: &R::Event| {
            if crowd.checked.load(Ordering::Relaxed) {
                let number = event.number().expect("a tick");
                let next = &mut next[size(number / plan.events)];
                assert!(*next <= number, "each publisher's order");
                *next = number + 1;
            }
            black_box(event.text());
            events += 1;
        };
        reader.receive(look).await;
        received += events;
        crowd.take(user, received, events);
    }
}

trait Users {
    /// Lets the publishers publish, and returns the time until everything is received.
    fn run(&mut self, checked: bool) -> Duration;
}

struct City<E> {
    runtime: Handle,
    engine: E,
    keys: Arc<[String]>,
    crowd: Arc<Crowd>,
    done: mpsc::Receiver<()>,
    tasks: Vec<JoinHandle<()>>,
    plan: Plan,
    turn: u32,
    /// Per user, the events that were published for it in all turns.
    published: Vec<u32>,
}

impl<E: Keyed> City<E> {
    fn open(runtime: &Handle, keys: &Arc<[String]>, plan: Plan) -> Self {
        let engine = E::new();
        let (done_in, done) = mpsc::channel();
        let crowd = Arc::new(Crowd {
            left: CachePadded::new(AtomicU32::new(0)),
            done: done_in,
            checked: AtomicBool::new(false),
            received: keys.iter().map(|_| AtomicU32::new(0)).collect(),
        });
        let readers: Vec<_> = keys.iter().map(|key| engine.join(key)).collect();
        let tasks = readers
            .into_iter()
            .enumerate()
            .map(|(user, reader)| runtime.spawn(read(reader, Arc::clone(&crowd), user, plan)))
            .collect();
        Self {
            runtime: runtime.clone(),
            engine,
            keys: Arc::clone(keys),
            crowd,
            done,
            tasks,
            plan,
            turn: 0,
            published: vec![0; keys.len()],
        }
    }
}

impl<E: Keyed> Users for City<E> {
    fn run(&mut self, checked: bool) -> Duration {
        self.turn += 1;
        let plan = self.plan;
        self.crowd.checked.store(checked, Ordering::Relaxed);
        self.crowd.left.store(plan.total(), Ordering::Release);
        let barrier = Barrier::new(size(plan.publishers) + 1);
        let (engine, keys, turn) = (&self.engine, &self.keys, self.turn);
        let publish = |publisher| async move {
            let users = plan.users(turn, publisher);
            for (event, user) in (0..).zip(users) {
                let tick = Tick::new(plan.number(publisher, event));
                engine.publish_to(&keys[user], &tick).await;
            }
        };
        let taken = thread::scope(|scope| {
            for publisher in 0..plan.publishers {
                let (barrier, runtime) = (&barrier, &self.runtime);
                scope.spawn(move || {
                    let _guard = AbortOnPanic;
                    barrier.wait();
                    runtime.block_on(publish(publisher));
                });
            }
            // Before they begin: afterwards this thread might have to wait for a core.
            let start = Instant::now();
            barrier.wait();
            self.done.recv_timeout(PATIENCE).expect(
                "an event was lost, or this machine is very slow: not all users have received all",
            );
            start.elapsed()
        });
        for publisher in 0..plan.publishers {
            for user in plan.users(self.turn, publisher) {
                self.published[user] += 1;
            }
        }
        for (received, published) in self.crowd.received.iter().zip(&self.published) {
            let received = received.load(Ordering::Relaxed);
            assert_eq!(received, *published, "each event once");
        }
        taken
    }
}

impl<E> Drop for City<E> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.runtime.block_on(async {
            for task in self.tasks.drain(..) {
                drop(task.await);
            }
        });
    }
}

fn open<E: Keyed>(runtime: &Handle, keys: &Arc<[String]>, plan: Plan) -> Box<dyn Users> {
    Box::new(City::<E>::open(runtime, keys, plan))
}

type Open = fn(&Handle, &Arc<[String]>, Plan) -> Box<dyn Users>;

const CITIES: [(&str, Open); 4] = [
    (Fanfare::NAME, open::<Fanfare>),
    (DashMapOfSenders::NAME, open::<DashMapOfSenders>),
    (DashMapOfBroadcasts::NAME, open::<DashMapOfBroadcasts>),
    (LockedMaps::NAME, open::<LockedMaps>),
];

/// How many take part.
pub(crate) const CONTENDERS: u64 = CITIES.len() as u64;

pub(crate) fn measure(
    runtime: &Runtime,
    settings: &Settings,
    progress: &Progress,
    done: impl FnOnce(Table),
) {
    let plan = Plan::new(settings);
    let title = format!(
        "users: {} topics with a subscriber each, random publishes from {} threads, until all is received",
        grouped(plan.topics),
        plan.publishers
    );
    progress.cell(&title);
    let keys = keys(plan.topics);
    let limited = (plan.topics, plan.publishers) == (100_000, 2);
    let mut cities = CITIES.map(|(name, open)| (name, open(runtime.handle(), &keys, plan)));
    let entries = cities.iter_mut().map(|(name, city)| {
        city.run(true);
        let once = city.run(false);
        Entry {
            engine: (*name).to_owned(),
            rounds: rounds_within(settings.rounds, once, settings.quick),
            limit: (limited && *name == DashMapOfSenders::NAME).then_some(1.0),
            turn: Ok(Box::new(move || {
                city.run(false).as_secs_f64() * 1e9 / f64::from(plan.total())
            })),
        }
    });
    let entries = entries.collect();
    let head = Head {
        question: Question::Users,
        title,
        unit: Unit::Publish,
        size: plan.topics,
        burst: None,
    };
    done(hold(head, progress, entries));
}
