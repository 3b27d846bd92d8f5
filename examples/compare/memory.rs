//! Bytes on the heap, by a counting allocator.
//!
//! Each figure comes from a process of its own, in which only one engine runs: this program again, with `--memory-child`.
//! Only there the allocator counts. Where times are measured it has been told not to, and an allocation costs one relaxed
//! load more.
//!
//! A subscriber's figure holds its handle and what the engine keeps for it, and its place in a vector of handles.

use std::env;
use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::Hub;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::alloc::live_bytes;
use crate::args::{Question, Settings, grouped};
use crate::contest::Progress;
use crate::engines::{
    self, Arena, AsyncBroadcast, Broadcast, DashMapOfSenders, Engine, Fanfare, Keyed, LockedMaps,
    Named, Reader, Senders, Tick,
};
use crate::report::{Head, Row, Table, Unit};
use crate::size;
use crate::users::{self, DashMapOfBroadcasts};

/// Events that each user gets.
const EVENTS: u32 = 20;

/// The hub's silence before an idle topic gives its log back; the default is 10 s, which is longer to wait for.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Memory has settled when it stands still for so long: the sweep looks at a topic more often than that.
const STILL: Duration = Duration::from_secs(3);

/// The same where no thread tidies up.
const NOTHING_RUNS: Duration = Duration::from_millis(100);

/// Longest wait for memory to settle.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The figures of one topic.
const TOPIC: [&str; 2] = ["parked", "parked, with its task"];

/// The figures of a user, and what fanfare's may be of those of a `DashMap` of queues.
const USER: [(&str, f64); 4] = [
    ("before traffic", 0.4),
    ("20 events each, not read yet", 1.0),
    ("20 events each, read", 1.0),
    ("after the idle sweep", 0.4),
];

/// Measures one topic of so many subscribers.
type Topic = fn(usize) -> Vec<f64>;

/// What a child measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Topic,
    Users,
}

/// The work of a child: `topic:ENGINE:N` or `users:ENGINE:N`.
struct Job {
    kind: Kind,
    engine: String,
    size: u32,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Topic => "topic",
            Kind::Users => "users",
        };
        write!(f, "{kind}:{}:{}", self.engine, self.size)
    }
}

impl FromStr for Job {
    type Err = io::Error;

    fn from_str(text: &str) -> Result<Self, io::Error> {
        let job = || {
            let mut parts = text.split(':');
            let kind = match parts.next()? {
                "topic" => Kind::Topic,
                "users" => Kind::Users,
                _ => return None,
            };
            Some(Self {
                kind,
                engine: parts.next()?.to_owned(),
                size: parts.next()?.parse().ok()?,
            })
        };
        job().ok_or_else(|| io::Error::other(format!("no job of memory: {text:?}")))
    }
}

/// What a child prints: bytes per subscriber or user, in the order of the labels.
#[derive(Debug, Serialize, Deserialize)]
struct Figures(Vec<f64>);

/// The child: measures and prints.
pub(crate) fn child(job: &str) -> io::Result<()> {
    let job: Job = job.parse()?;
    let measured = match job.kind {
        Kind::Topic => topic_of(&job.engine, size(job.size)),
        Kind::Users => users_of(&job.engine, job.size),
    };
    let figures = measured.ok_or_else(|| io::Error::other("no such engine"))?;
    println!("{}", serde_json::to_string(&Figures(figures))?);
    Ok(())
}

fn topic_of(engine: &str, subscribers: usize) -> Option<Vec<f64>> {
    let all: [(&str, Topic); 6] = [
        (Fanfare::NAME, topic::<Fanfare>),
        (Broadcast::NAME, topic::<Broadcast>),
        (AsyncBroadcast::NAME, topic::<AsyncBroadcast>),
        (Senders::NAME, topic::<Senders>),
        (DashMapOfSenders::NAME, topic::<DashMapOfSenders>),
        (LockedMaps::NAME, topic::<LockedMaps>),
    ];
    let (_, measure) = all.into_iter().find(|(name, _)| *name == engine)?;
    Some(measure(subscribers))
}

fn users_of(engine: &str, topics: u32) -> Option<Vec<f64>> {
    let figures = match engine {
        Fanfare::NAME => {
            let hub = Hub::builder()
                .event_ids(false)
                .idle_after(IDLE_AFTER)
                .build()
                .ok()?;
            users(&Fanfare(hub), topics, STILL)
        }
        DashMapOfSenders::NAME => users(&DashMapOfSenders::new(), topics, NOTHING_RUNS),
        DashMapOfBroadcasts::NAME => users(&DashMapOfBroadcasts::new(), topics, NOTHING_RUNS),
        LockedMaps::NAME => users(&LockedMaps::new(), topics, NOTHING_RUNS),
        _ => return None,
    };
    Some(figures)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
fn each(bytes: i64, count: usize) -> f64 {
    bytes as f64 / count as f64
}

/// The lower figure: readers that have looked once and found nothing. The upper: readers that wait in a task.
fn topic<E: Engine>(subscribers: usize) -> Vec<f64> {
    let before = live_bytes();
    let (engine, mut readers) = E::open(subscribers);
    for reader in &mut readers {
        park(reader);
    }
    let alone = live_bytes() - before;
    drop((engine, readers));

    let runtime: Runtime = engines::runtime();
    let before = live_bytes();
    let arena = Arena::<E>::open(runtime.handle(), subscribers);
    arena.parked();
    let with_task = live_bytes() - before;
    drop(arena);
    vec![each(alone, subscribers), each(with_task, subscribers)]
}

fn park(reader: &mut impl Reader) {
    let mut receive = std::pin::pin!(reader.receive(|_| ()));
    let poll = receive
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending(), "nothing was published");
}

fn users<E: Keyed>(engine: &E, topics: u32, still: Duration) -> Vec<f64> {
    let keys = users::keys(topics);
    let before = live_bytes();
    let mut readers = Vec::with_capacity(keys.len());
    readers.extend(keys.iter().map(|key| engine.join(key)));
    for reader in &mut readers {
        park(reader);
    }
    let mut figures = vec![each(live_bytes() - before, keys.len())];
    for event in 0..EVENTS {
        for key in &*keys {
            let published = engine.publish_to(key, &Tick::new(event)).now_or_never();
            assert!(published.is_some(), "nobody else is at the map");
        }
    }
    figures.push(each(live_bytes() - before, keys.len()));
    for reader in &mut readers {
        let mut events = 0;
        while events < EVENTS {
            let received = reader.receive(|_| events += 1).now_or_never();
            assert!(received.is_some(), "each event once");
        }
        assert_eq!(events, EVENTS, "each event once");
        park(reader);
        reader.rest();
    }
    figures.push(each(live_bytes() - before, keys.len()));
    figures.push(each(settled(still) - before, keys.len()));
    figures
}

/// `live_bytes`, once it was the same for `still`.
fn settled(still: Duration) -> i64 {
    let begin = Instant::now();
    let mut last = live_bytes();
    let mut since = Instant::now();
    while since.elapsed() < still && begin.elapsed() < SETTLES_WITHIN {
        thread::sleep(LOOK);
        let now = live_bytes();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Runs `job` in a process of its own.
fn ask(job: &Job) -> io::Result<Vec<f64>> {
    let output = Command::new(env::current_exe()?)
        .arg(format!("--memory-child={job}"))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        let status = output.status;
        return Err(io::Error::other(format!("memory of {job}: {status}")));
    }
    let Figures(figures) = serde_json::from_slice(&output.stdout)?;
    Ok(figures)
}

/// Asks for each of `engines`, and makes a table of each figure.
fn tables(
    (kind, size): (Kind, u32),
    engines: &[&str],
    figures: &[(String, Option<f64>)],
    progress: &Progress,
    done: &mut impl FnMut(Table),
) -> io::Result<()> {
    let mut columns = Vec::new();
    for engine in engines {
        progress.cell(&format!("memory: {engine}"));
        columns.push(ask(&Job {
            kind,
            engine: (*engine).to_owned(),
            size,
        })?);
        progress.step(1);
    }
    for (index, (title, limit)) in figures.iter().enumerate() {
        let value = |column: &Vec<f64>| column.get(index).copied().unwrap_or(f64::NAN);
        let ours = columns.first().map_or(f64::NAN, value);
        let rows = engines.iter().zip(&columns).map(|(engine, column)| {
            let ours = (*engine != Fanfare::NAME).then_some(ours);
            let limit = limit.filter(|_| *engine == DashMapOfSenders::NAME);
            Row::new(*engine, &[value(column)], ours.as_slice(), limit)
        });
        done(Table {
            head: Head {
                question: Question::Memory,
                title: title.clone(),
                unit: Unit::Bytes,
                size,
                burst: None,
            },
            rows: rows.collect(),
        });
    }
    Ok(())
}

/// How many processes it takes.
pub(crate) const STEPS: u64 = (engines::ENGINES.len() + USERS.len()) as u64;

const USERS: [&str; 4] = [
    Fanfare::NAME,
    DashMapOfSenders::NAME,
    DashMapOfBroadcasts::NAME,
    LockedMaps::NAME,
];

pub(crate) fn measure(
    settings: &Settings,
    progress: &Progress,
    mut done: impl FnMut(Table),
) -> io::Result<()> {
    let subscribers = settings.most();
    let title = |what: &&str| {
        let many = grouped(subscribers);
        (
            format!("memory: bytes per subscriber, {many} on one topic, {what}"),
            None,
        )
    };
    let names = engines::ENGINES.map(|(name, _)| name);
    let figures: Vec<_> = TOPIC.iter().map(title).collect();
    tables(
        (Kind::Topic, subscribers),
        &names,
        &figures,
        progress,
        &mut done,
    )?;

    let topics = settings.topics;
    let title = |(what, limit): &(&str, f64)| {
        let many = grouped(topics);
        let limit = (topics == 100_000).then_some(*limit);
        (
            format!("memory: bytes per user, {many} topics with a subscriber each, {what}"),
            limit,
        )
    };
    let figures: Vec<_> = USER.iter().map(title).collect();
    tables((Kind::Users, topics), &USERS, &figures, progress, &mut done)
}
