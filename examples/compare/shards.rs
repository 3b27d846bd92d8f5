//! One topic, a task per core: each serves its share of the subscribers, as a server does that has no task for a
//! connection. Beside that, the engines as they are normally used, a task per subscriber.
//!
//! A subscriber is a [`Sink`] here: it is handed each event, insists on the order, reads the event's text and counts.

use std::future::poll_fn;
use std::hint::black_box;
use std::sync::Arc;
use std::task::Poll;

use fanfare::{Readiness, Subscription};
use tokio::runtime::{Handle, Runtime};

use crate::args::{Question, Settings, grouped};
use crate::contest::{Progress, hold};
use crate::engines::{
    AbortOnPanic, Arena, AsyncBroadcast, Broadcast, Contender, DashMapOfSenders, ENGINES, Engine,
    Fanfare, KEY, Keyed, LockedMaps, Named, Numbered, Reader, Round, Senders,
};
use crate::fan_out;
use crate::report::{Head, Table, Unit};
use crate::size;

/// What each delivery may take of tokio's as it is used: 30 times the deliveries per second.
const LIMIT: f64 = 1.0 / 30.0;

/// A subscriber that a shard serves.
#[derive(Debug, Clone, Default)]
struct Sink {
    events: u64,
    bytes: u64,
}

impl Sink {
    /// Takes the event that is the `place`th of all.
    fn take(&mut self, place: u64, text: &[u8]) {
        assert_eq!(self.events, place, "each event once, in order");
        self.events += 1;
        self.bytes += black_box(text).len() as u64;
    }
}

/// How many of `subscribers` the shard `index` serves.
fn share(subscribers: usize, shards: usize, index: usize) -> usize {
    subscribers / shards + usize::from(index < subscribers % shards)
}

/// A shard with one reader for all its sinks.
async fn serve<R: Reader>(mut reader: R, round: Arc<Round>, index: usize, sinks: usize) {
    let _guard = AbortOnPanic;
    let mut sinks = vec![Sink::default(); sinks];
    let mut backlog: Vec<R::Event> = Vec::new();
    let mut behind = 0;
    for rounds in 0.. {
        let first = reader.receive(|event| backlog.push(event.clone()));
        round.wait(index, rounds, first).await;
        let burst = round.burst();
        let mut events = 0;
        loop {
            for event in &backlog {
                assert_eq!(event.number(), Some(events), "in order");
                events += 1;
            }
            {
                let texts: Vec<&[u8]> = backlog.iter().map(Numbered::text).collect();
                for sink in &mut sinks {
                    for (place, text) in (behind..).zip(&texts) {
                        sink.take(place, text);
                    }
                }
            }
            behind += backlog.len() as u64;
            backlog.clear();
            if events == burst {
                break;
            }
            reader.receive(|event| backlog.push(event.clone())).await;
        }
        black_box(&sinks);
        round.arrive(index);
    }
}

fn open<E: Engine>(runtime: &Handle, shards: usize, subscribers: usize) -> Box<dyn Contender> {
    let (engine, readers) = E::open(shards);
    let serve =
        move |reader, round, index| serve(reader, round, index, share(subscribers, shards, index));
    Box::new(Arena::start(runtime, engine, readers, serve))
}

/// A shard with a subscription for each of its subscribers, each with its own place, polled in turn with one waker.
async fn poll_in_turn(mut all: Vec<Subscription>, round: Arc<Round>, index: usize) {
    let _guard = AbortOnPanic;
    let mut sinks = vec![Sink::default(); all.len()];
    let mut behind = 0;
    for rounds in 0.. {
        let poll = poll_fn(|cx| {
            let mut complete = true;
            for (subscription, sink) in all.iter_mut().zip(&mut sinks) {
                while let Poll::Ready(ready) = subscription.poll_ready(cx) {
                    assert_eq!(ready, Readiness::Readable, "the hub is open");
                    let mut batch = subscription.try_batch().expect("readable");
                    batch.for_each(|frame| {
                        if round.is_checked() {
                            let place = frame.number().map(u64::from);
                            assert_eq!(place, Some(sink.events - behind), "in order");
                        }
                        sink.take(sink.events, frame.text());
                    });
                }
                complete &=
                    sink.events > behind && sink.events == behind + u64::from(round.burst());
            }
            if complete {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        round.wait(index, rounds, poll).await;
        behind += u64::from(round.burst());
        round.arrive(index);
    }
}

fn open_polled(runtime: &Handle, shards: usize, subscribers: usize) -> Box<dyn Contender> {
    let engine = <Fanfare as Keyed>::new();
    let shards = (0..shards)
        .map(|shard| {
            let share = share(subscribers, shards, shard);
            (0..share).map(|_| engine.join(KEY)).collect()
        })
        .collect();
    Box::new(Arena::start(runtime, engine, shards, poll_in_turn))
}

type Open = fn(&Handle, usize, usize) -> Box<dyn Contender>;

/// How many take part.
pub(crate) const CONTENDERS: u64 = (SHARDED.len() + 1 + ENGINES.len()) as u64;

/// With one reader per shard.
const SHARDED: [(&str, Open); ENGINES.len()] = [
    ("fanfare, one subscription per shard", open::<Fanfare>),
    ("tokio broadcast, one receiver per shard", open::<Broadcast>),
    (
        "async-broadcast, one receiver per shard",
        open::<AsyncBroadcast>,
    ),
    ("vec of mpsc, one queue per shard", open::<Senders>),
    (
        "dashmap of mpsc, one queue per shard",
        open::<DashMapOfSenders>,
    ),
    ("rwlock of maps, one queue per shard", open::<LockedMaps>),
];

/// The most subscribers, with every burst.
pub(crate) fn measure(
    runtime: &Runtime,
    settings: &Settings,
    progress: &Progress,
    mut done: impl FnMut(Table),
) {
    let subscribers = settings.most();
    let (shards, many) = (settings.workers, size(subscribers));
    progress.cell("shards: subscribers join");
    let handle = runtime.handle();
    // The index in `ENGINES` of those whose subscribers are tasks.
    let mut contenders: Vec<(String, Option<usize>, Box<dyn Contender>)> = Vec::new();
    for (name, open) in SHARDED {
        contenders.push((name.to_owned(), None, open(handle, shards, many)));
    }
    let polled = "fanfare, a subscription per subscriber, polled in turn".to_owned();
    contenders.push((polled, None, open_polled(handle, shards, many)));
    let tokio = format!("{}, a task per subscriber", Broadcast::NAME);
    for (index, (name, open)) in ENGINES.into_iter().enumerate() {
        let name = format!("{name}, a task per subscriber");
        contenders.push((name, Some(index), open(handle, many)));
    }
    for &burst in &settings.bursts {
        let title = format!(
            "shards: {} to {}, a task per core, until all have received",
            fan_out::events(burst),
            grouped(subscribers)
        );
        progress.cell(&title);
        let entries = contenders.iter_mut().map(|(name, tasks, contender)| {
            let (name, contender) = (name.as_str(), &mut **contender);
            let cell = (subscribers, burst);
            let mut entry = match *tasks {
                Some(index) => fan_out::entry_of_tasks(index, name, contender, cell, settings),
                None => fan_out::entry(name, contender, cell, settings),
            };
            entry.limit = (name == tokio && subscribers == 100_000).then_some(LIMIT);
            entry
        });
        let entries = entries.collect();
        let head = Head {
            question: Question::Shards,
            title,
            unit: Unit::Delivery,
            size: subscribers,
            burst: Some(burst),
        };
        done(hold(head, progress, entries));
    }
}
