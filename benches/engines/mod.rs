//! The engines that `fan_out` and `ratios` set side by side, and the round that both of them time.
//!
//! A **round** begins with every reader parked. The publisher, itself a task of the same runtime, starts the clock,
//! publishes one event or a burst, and stops the clock when the last reader has received the last of it. Every engine
//! is given the same work: the same value, encoded once per publish by the publisher, one task per reader, and the
//! same two marks that a reader leaves behind, one shared decrement per round and one plain store when it parks.
//!
//! | engine | sends | reads |
//! |---|---|---|
//! | [`Fanfare`] | `hub.publish(key, event)` | `recv_batch`, as its docs advise |
//! | [`Broadcast`] | `tokio::sync::broadcast` of `Bytes` | `recv`, the only way it has |
//! | [`Senders`] | a `Vec` of `tokio::sync::mpsc` senders of `Bytes` | `recv_many`, its best form |
//! | [`LockedMaps`] | `RwLock<HashMap<user, HashMap<connection, mpsc::Sender>>>` of axum's `Event` | `recv`, as `ReceiverStream` does |
//!
//! [`LockedMaps`] is the broadcaster that servers write by hand. It is modelled on a published one: under the read lock
//! it copies the user's connections out, then it offers each a clone of the event, and a clone of an axum `Event` is a
//! copy of its text. All connections belong to one user here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::response::sse;
use bytes::Bytes;
use crossbeam_utils::CachePadded;
use fanfare::{Event, Hub, Subscription};
use serde::Serialize;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, RwLock, broadcast, mpsc};
use tokio::task::JoinHandle;

/// The key that every reader listens to.
const KEY: &str = "ticks";

/// What a queue holds before it refuses, in events. No round comes near it.
const CAPACITY: usize = 1024;

/// How many events a reader of a `Vec` of senders takes out of its queue at a time.
const READ_MANY: usize = 64;

/// How many lines the countdown of a round is spread over.
const COUNTERS: usize = 64;

/// What is published: 100 bytes as JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tick {
    symbol: &'static str,
    sequence: u32,
    bid: &'static str,
    ask: &'static str,
    venue: &'static str,
}

impl Tick {
    pub(crate) const JSON_BYTES: usize = 100;

    /// The `n`th tick; `n` below 900,000 keeps the length.
    pub(crate) fn new(n: u32) -> Self {
        Self {
            symbol: "FANFARE",
            sequence: 100_000 + n % 900_000,
            bid: "1234.5678",
            ask: "1234.5699",
            venue: "trading-floor-1",
        }
    }

    /// The SSE block that the peers send, encoded once per publish as fanfare does.
    fn to_sse(&self) -> Bytes {
        let mut block = Vec::with_capacity(Self::JSON_BYTES + 8);
        block.extend_from_slice(b"data: ");
        serde_json::to_writer(&mut block, self)
            .expect("a tick has no map keys and writes to memory");
        block.extend_from_slice(b"\n\n");
        Bytes::from(block)
    }
}

/// One way to tell many readers.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    const NAME: &'static str;
    type Reader: Reader;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>);

    fn publish(&self, tick: &Tick) -> impl Future<Output = ()> + Send;
}

/// One reader of an [`Engine`].
pub(crate) trait Reader: Send + 'static {
    /// Waits until there is something and returns how many events it took.
    fn receive(&mut self) -> impl Future<Output = u32> + Send;
}

/// This crate: one log, one cursor per reader.
pub(crate) struct Fanfare(Hub);

impl Engine for Fanfare {
    const NAME: &'static str = "fanfare";
    type Reader = Subscription;

    fn open(readers: usize) -> (Self, Vec<Subscription>) {
        let hub = Hub::new();
        let subscriptions = (0..readers)
            .map(|_| hub.subscribe(KEY).expect("the hub is open"))
            .collect();
        (Self(hub), subscriptions)
    }

    async fn publish(&self, tick: &Tick) {
        let published = self.0.publish(KEY, Event::json(tick));
        black_box(
            published
                .expect("the hub is open and a tick is small")
                .subscribers(),
        );
    }
}

impl Reader for Subscription {
    async fn receive(&mut self) -> u32 {
        let mut batch = self.recv_batch().await.expect("the hub is open");
        assert_eq!(
            batch.lag(),
            None,
            "a round is far shorter than what a log retains"
        );
        let events = batch.for_each(|frame| {
            black_box(frame.as_sse());
        });
        u32::try_from(events).expect("at most a burst")
    }
}

/// `tokio::sync::broadcast`: one ring, one lock and one counter per slot.
pub(crate) struct Broadcast(broadcast::Sender<Bytes>);

impl Engine for Broadcast {
    const NAME: &'static str = "tokio broadcast";
    type Reader = broadcast::Receiver<Bytes>;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>) {
        let (sender, _) = broadcast::channel(CAPACITY);
        let receivers = (0..readers).map(|_| sender.subscribe()).collect();
        (Self(sender), receivers)
    }

    async fn publish(&self, tick: &Tick) {
        black_box(self.0.send(tick.to_sse()).expect("there are receivers"));
    }
}

impl Reader for broadcast::Receiver<Bytes> {
    async fn receive(&mut self) -> u32 {
        black_box(
            self.recv()
                .await
                .expect("open, and a round is shorter than the ring"),
        );
        1
    }
}

/// A `Vec` of bounded queues, one per reader.
pub(crate) struct Senders(Vec<mpsc::Sender<Bytes>>);

/// A queue and the room that its reader takes a backlog into.
pub(crate) struct ManyReceiver {
    queue: mpsc::Receiver<Bytes>,
    taken: Vec<Bytes>,
}

impl Engine for Senders {
    const NAME: &'static str = "vec of mpsc";
    type Reader = ManyReceiver;

    fn open(readers: usize) -> (Self, Vec<ManyReceiver>) {
        let (senders, receivers) = (0..readers)
            .map(|_| {
                let (sender, queue) = mpsc::channel(CAPACITY);
                (
                    sender,
                    ManyReceiver {
                        queue,
                        taken: Vec::new(),
                    },
                )
            })
            .unzip();
        (Self(senders), receivers)
    }

    async fn publish(&self, tick: &Tick) {
        let block = tick.to_sse();
        for sender in &self.0 {
            sender
                .try_send(block.clone())
                .expect("open, and a round is shorter than the queue");
        }
    }
}

impl Reader for ManyReceiver {
    async fn receive(&mut self) -> u32 {
        let events = self.queue.recv_many(&mut self.taken, READ_MANY).await;
        for block in self.taken.drain(..) {
            black_box(block);
        }
        u32::try_from(events).expect("at most READ_MANY")
    }
}

type SseResult = Result<sse::Event, Infallible>;
type Connections = HashMap<String, mpsc::Sender<SseResult>>;

/// The broadcaster that servers write by hand: users, their connections, a queue for each.
pub(crate) struct LockedMaps(RwLock<HashMap<String, Connections>>);

impl Engine for LockedMaps {
    const NAME: &'static str = "rwlock of maps";
    type Reader = mpsc::Receiver<SseResult>;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>) {
        let mut connections = Connections::with_capacity(readers);
        let mut receivers = Vec::with_capacity(readers);
        for n in 0..readers {
            let (sender, receiver) = mpsc::channel(CAPACITY);
            connections.insert(format!("connection-{n:08}"), sender);
            receivers.push(receiver);
        }
        let users = HashMap::from([(KEY.to_owned(), connections)]);
        (Self(RwLock::new(users)), receivers)
    }

    async fn publish(&self, tick: &Tick) {
        let json =
            serde_json::to_string(tick).expect("a tick has no map keys and writes to memory");
        let event = sse::Event::default().data(json);
        let connections: Vec<_> = {
            let users = self.0.read().await;
            let connections = users.get(KEY).expect("the one user is there");
            connections
                .iter()
                .map(|(id, sender)| (id.clone(), sender.clone()))
                .collect()
        };
        for (id, sender) in connections {
            let sent = sender.try_send(Ok(event.clone()));
            assert!(
                sent.is_ok(),
                "{id}: open, and a round is shorter than the queue"
            );
        }
    }
}

impl Reader for mpsc::Receiver<SseResult> {
    async fn receive(&mut self) -> u32 {
        let event = self.recv().await.expect("the sender is in the map");
        drop(black_box(event));
        1
    }
}

/// What the publisher and the readers of one engine share.
struct Round {
    /// Events of this round; set before the first of them is published.
    burst: AtomicU32,
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
    fn new(readers: usize) -> Self {
        let shards = COUNTERS.min(readers);
        Self {
            burst: AtomicU32::new(0),
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

    /// Sets the counters. Readers see them because they act on events that are published after this.
    fn begin(&self, burst: u32) {
        self.burst.store(burst, Ordering::Relaxed);
        self.shards.store(self.counters.len(), Ordering::Relaxed);
        for counter in &self.counters {
            counter.store(0, Ordering::Relaxed);
        }
        for reader in 0..self.parked.len() {
            self.counters[self.shard_of(reader)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A reader of `shard` has had the whole round.
    fn arrive(&self, shard: usize) {
        if self.counters[shard].fetch_sub(1, Ordering::AcqRel) == 1
            && self.shards.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.done.notify_one();
        }
    }

    /// Returns once every reader waits for the round after `rounds`.
    async fn all_parked(&self, rounds: u32) {
        for reader in &self.parked {
            while reader.load(Ordering::Acquire) != rounds {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A reader that fails would leave its publisher waiting for ever: end the run instead.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The task of one reader: it reads whole rounds until it is aborted.
async fn read_rounds<R: Reader>(mut reader: R, round: Arc<Round>, index: usize) {
    let _guard = AbortOnPanic;
    let shard = round.shard_of(index);
    for rounds in 0.. {
        let mut events = {
            let mut first = pin!(reader.receive());
            poll_fn(|cx| {
                let polled = first.as_mut().poll(cx);
                if polled.is_pending() {
                    round.parked[index].store(rounds, Ordering::Release);
                }
                polled
            })
            .await
        };
        let burst = round.burst.load(Ordering::Relaxed);
        while events < burst {
            events += reader.receive().await;
        }
        assert_eq!(events, burst, "each event once");
        round.arrive(shard);
    }
}

/// An engine whose readers wait, ready to run rounds.
pub(crate) trait Contender {
    /// Runs `rounds` rounds of `burst` events and returns the time that they took together.
    fn run(&mut self, rounds: u32, burst: u32) -> Duration;
}

struct Arena<E> {
    runtime: Handle,
    engine: Arc<E>,
    round: Arc<Round>,
    readers: Vec<JoinHandle<()>>,
    rounds: u32,
}

impl<E: Engine> Arena<E> {
    fn open(runtime: &Handle, readers: usize) -> Self {
        let (engine, readers) = E::open(readers);
        let round = Arc::new(Round::new(readers.len()));
        let readers = readers
            .into_iter()
            .enumerate()
            .map(|(index, reader)| runtime.spawn(read_rounds(reader, Arc::clone(&round), index)))
            .collect();
        Self {
            runtime: runtime.clone(),
            engine: Arc::new(engine),
            round,
            readers,
            rounds: 0,
        }
    }
}

impl<E: Engine> Contender for Arena<E> {
    fn run(&mut self, rounds: u32, burst: u32) -> Duration {
        let behind = self.rounds;
        self.rounds += rounds;
        let (engine, round) = (Arc::clone(&self.engine), Arc::clone(&self.round));
        let publisher = self.runtime.spawn(async move {
            let mut total = Duration::ZERO;
            for n in 0..rounds {
                round.all_parked(behind + n).await;
                round.begin(burst);
                let start = Instant::now();
                for event in 0..burst {
                    engine.publish(&Tick::new(event)).await;
                }
                round.done.notified().await;
                total += start.elapsed();
            }
            total
        });
        self.runtime
            .block_on(publisher)
            .expect("the publisher does not panic")
    }
}

impl<E> Drop for Arena<E> {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
        self.runtime.block_on(async {
            for reader in self.readers.drain(..) {
                drop(reader.await);
            }
        });
    }
}

type Open = fn(&Handle, usize) -> Box<dyn Contender>;

fn open<E: Engine>(runtime: &Handle, readers: usize) -> Box<dyn Contender> {
    Box::new(Arena::<E>::open(runtime, readers))
}

/// All engines, fanfare first: names, and how to open one with so many readers.
pub(crate) const ENGINES: [(&str, Open); 4] = [
    (Fanfare::NAME, open::<Fanfare>),
    (Broadcast::NAME, open::<Broadcast>),
    (Senders::NAME, open::<Senders>),
    (LockedMaps::NAME, open::<LockedMaps>),
];

/// A multi-thread runtime with one worker per core.
pub(crate) fn runtime() -> Runtime {
    let length = serde_json::to_string(&Tick::new(0)).map(|json| json.len());
    assert_eq!(
        length.ok(),
        Some(Tick::JSON_BYTES),
        "the payload that the figures speak of"
    );
    Builder::new_multi_thread()
        .worker_threads(cores())
        .build()
        .expect("threads can be started")
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
