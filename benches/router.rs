//! What does it cost to route one AG-UI event to a user who has 10 connections on the AG-UI stream and 10 on the context
//! stream, where it is wrapped?
//!
//! ```text
//! cargo bench --bench router --features protocols
//! cargo bench --bench router --features protocols -- --rounds 31 --check
//! ```
//!
//! Each event goes to 20 connections, in two forms. fanfare serializes it once and appends each form to a log. Its peers
//! are what servers write by hand: `RwLock<HashMap<user, HashMap<connection, mpsc::Sender>>>`, one for each stream, each of
//! which serializes for itself and offers a clone to every connection.
//!
//! | peer | a connection's queue holds | how it offers |
//! |---|---|---|
//! | `maps of axum events` | axum's `Event`, whose clone is a copy | to senders that it copied out under the read lock; the event is cloned into its wrapped form |
//! | `maps of bytes` | `Bytes`, whose clone is a count | under the read lock, and the wrapped form borrows: the least that this shape can cost |
//!
//! | section | times | limit |
//! |---|---|---|
//! | `route` | the publisher alone: events one after the other, read between the passes and untimed | at least 8 times as fast as `maps of axum events` |
//! | `route and read` | the same thread routes, then reads on behalf of all 20: fanfare in batches, an `mpsc` by `recv` | |
//! | `all received` | a task for each connection, parked, until the last one has everything | |
//!
//! All are measured in every round, one right after the other, in an order that rotates; a ratio is taken within its
//! round, and the median of the rounds is printed. `--check` makes a limit that does not hold an error. Without `--bench`,
//! which `cargo bench` passes, or with `--test` everything runs once and no figure means anything.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench counts for itself; src/sync.rs is for what loom checks"
)]

mod engines;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::marker::PhantomData;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::response::sse;
use bytes::Bytes;
use clap::{Parser, value_parser};
use fanfare::protocol::{ag_ui, context};
use fanfare::{AgentRouter, EventBroadcasters, EventRouter, Subscription, UserId};
use futures_util::FutureExt as _;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::RwLock;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::engines::{Arena, CAPACITY, Contender, Engine, Named, Reader, Tick, interleave, median};

/// Whose connections they are.
const USER: &str = "user_01J9ZC4W8M";

/// Connections on each of the two streams.
const CONNECTIONS: usize = 10;
const READERS: usize = 2 * CONNECTIONS;

/// Events that are routed before anybody reads: as many as a reader that is busy finds, and far fewer than a queue or a log
/// holds.
const PASS: u32 = 16;

/// Passes, or rounds of events, that are timed together.
const PASSES: u32 = 320;

/// How many times as fast as `maps of axum events` routing has to be.
const LIMIT: f64 = 8.0;

#[derive(Debug, Parser)]
struct Options {
    /// Rounds, each of which measures everything once; the medians are printed.
    #[arg(long, default_value_t = 21, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// End with an error if a limit does not hold.
    #[arg(long)]
    check: bool,
    /// Run everything once, small.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// An event that is routed.
trait Sample: Send + Sync + 'static {
    const NAME: &'static str;
    /// Of the event as JSON.
    const BYTES: usize;

    fn event() -> ag_ui::Event;

    fn sized_event() -> ag_ui::Event {
        let event = Self::event();
        let json = serde_json::to_string(&event).map(|json| json.len());
        assert_eq!(json.ok(), Some(Self::BYTES), "what the figures speak of");
        event
    }
}

/// A few words of an answer.
struct Delta;

impl Sample for Delta {
    const NAME: &'static str = "TEXT_MESSAGE_CONTENT";
    const BYTES: usize = 150;

    fn event() -> ag_ui::Event {
        let words = r#"The tables for "Saint-Malo" say high tide at 6:42"#;
        ag_ui::Event::text_message_content("msg_01J9ZC6T3H8Q", words).timestamp(1_700_000_000_000)
    }
}

/// The state of a small application.
struct Snapshot;

impl Sample for Snapshot {
    const NAME: &'static str = "STATE_SNAPSHOT";
    const BYTES: usize = 2_048;

    fn event() -> ag_ui::Event {
        let steps: Vec<_> = (0..19)
            .map(|n| {
                serde_json::json!({
                    "id": format!("step-{n:02}"),
                    "title": "Compare the tide tables",
                    "done": n % 2 == 0,
                    "progress": 10 + n,
                    "tool": "read_table",
                })
            })
            .collect();
        let note = ".".repeat(127);
        let state = serde_json::json!({ "steps": steps, "cursor": 7, "note": note });
        ag_ui::Event::state_snapshot(state)
    }
}

// ------------------------------------------------------------------------------------------------------- fanfare

struct Fanfare<S> {
    router: AgentRouter,
    user: UserId,
    event: ag_ui::Event,
    sample: PhantomData<S>,
}

impl<S> Named for Fanfare<S> {
    const NAME: &'static str = "fanfare";
}

impl<S: Sample> Engine for Fanfare<S> {
    type Reader = Subscription;

    fn open(readers: usize) -> (Self, Vec<Subscription>) {
        let streams = EventBroadcasters::new();
        let user = UserId::from(USER);
        let register = |n: usize| {
            let id = name_of(n);
            let registered = if n.is_multiple_of(2) {
                streams.ag_ui.register(&user, &id)
            } else {
                streams.context.register(&user, &id)
            };
            registered.expect("the hub is open")
        };
        let readers = (0..readers).map(register).collect();
        let engine = Self {
            router: EventRouter::over(streams.clone()),
            user,
            event: S::sized_event(),
            sample: PhantomData,
        };
        (engine, readers)
    }

    async fn publish(&self, _: &Tick) {
        let routed = self.router.route_ag_ui(&self.user, &self.event);
        black_box(routed.expect("the hub is open").subscribers());
    }
}

// --------------------------------------------------------------------------------------------------------- peers

/// A connection's name.
fn name_of(connection: usize) -> String {
    format!("connection-{connection:08}")
}

/// What a peer's queues hold, and how the peer treats it.
trait Message: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    /// How the event looks on the AG-UI stream, and on the context stream.
    fn bare(event: &ag_ui::Event) -> Self;
    fn wrapped(event: &ag_ui::Event) -> Self;

    /// Offers it to every connection of a user; how many took it.
    fn offer(self, to: &RwLock<Users<Self>>) -> impl Future<Output = usize> + Send;
}

type Users<M> = HashMap<String, HashMap<String, Sender<M>>>;

type AxumEvent = Result<sse::Event, Infallible>;

fn axum_event(json: &impl Serialize) -> sse::Event {
    let json = serde_json::to_string(json).expect("writes to memory");
    sse::Event::default().data(json)
}

impl Message for AxumEvent {
    const NAME: &'static str = "maps of axum events";

    fn bare(event: &ag_ui::Event) -> Self {
        Ok(axum_event(event))
    }

    fn wrapped(event: &ag_ui::Event) -> Self {
        Ok(axum_event(&context::Event::from(event.clone())))
    }

    async fn offer(self, to: &RwLock<Users<Self>>) -> usize {
        let connections: Vec<_> = {
            let users = to.read().await;
            let connections = users.get(USER).expect("the user is connected");
            let copy = |(id, sender): (&String, &Sender<_>)| (id.clone(), sender.clone());
            connections.iter().map(copy).collect()
        };
        let mut took = 0;
        for (id, sender) in connections {
            let sent = sender.try_send(self.clone());
            assert!(sent.is_ok(), "{id}: open, and longer than a pass");
            took += 1;
        }
        took
    }
}

#[derive(Serialize)]
struct Wrapped<'a> {
    protocol: context::Protocol,
    event: &'a ag_ui::Event,
}

fn block(json: &impl Serialize) -> Bytes {
    let mut block = Vec::with_capacity(256);
    block.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut block, json).expect("writes to memory");
    block.extend_from_slice(b"\n\n");
    Bytes::from(block)
}

impl Message for Bytes {
    const NAME: &'static str = "maps of bytes";

    fn bare(event: &ag_ui::Event) -> Self {
        block(event)
    }

    fn wrapped(event: &ag_ui::Event) -> Self {
        block(&Wrapped {
            protocol: context::Protocol::AgUi,
            event,
        })
    }

    async fn offer(self, to: &RwLock<Users<Self>>) -> usize {
        let users = to.read().await;
        let connections = users.get(USER).expect("the user is connected");
        for (id, sender) in connections {
            let sent = sender.try_send(self.clone());
            assert!(sent.is_ok(), "{id}: open, and longer than a pass");
        }
        connections.len()
    }
}

/// A map of connections for each of the two streams.
struct Maps<M, S> {
    ag_ui: RwLock<Users<M>>,
    context: RwLock<Users<M>>,
    event: ag_ui::Event,
    sample: PhantomData<S>,
}

/// A connection's queue. `recv`, as `ReceiverStream` does.
struct Queue<M>(Receiver<M>);

impl<M> Reader for Queue<M>
where
    M: Message + engines::Numbered,
{
    type Event = M;

    async fn receive(&mut self, mut each: impl FnMut(&M) + Send) {
        each(&self.0.recv().await.expect("the sender is in the map"));
    }
}

impl<M: Message, S> Named for Maps<M, S> {
    const NAME: &'static str = M::NAME;
}

impl<M: Message + engines::Numbered, S: Sample> Engine for Maps<M, S> {
    type Reader = Queue<M>;

    fn open(readers: usize) -> (Self, Vec<Queue<M>>) {
        let (mut ag_ui, mut context) = (Users::new(), Users::new());
        let register = |n: usize| {
            let stream = if n.is_multiple_of(2) {
                &mut ag_ui
            } else {
                &mut context
            };
            let (sender, queue) = mpsc::channel(CAPACITY);
            let connections = stream.entry(USER.to_owned()).or_default();
            connections.insert(name_of(n), sender);
            Queue(queue)
        };
        let readers = (0..readers).map(register).collect();
        let engine = Self {
            ag_ui: RwLock::new(ag_ui),
            context: RwLock::new(context),
            event: S::sized_event(),
            sample: PhantomData,
        };
        (engine, readers)
    }

    async fn publish(&self, _: &Tick) {
        let bare = M::bare(&self.event).offer(&self.ag_ui).await;
        let wrapped = M::wrapped(&self.event).offer(&self.context).await;
        black_box(bare + wrapped);
    }
}

// --------------------------------------------------------------------------------------------------- measurement

/// A way to route, whose readers are read on behalf of. In nanoseconds per event.
trait Subject {
    /// The publisher alone.
    fn route(&mut self, passes: u32) -> f64;

    /// Routes `burst` events, then reads them all.
    fn route_and_read(&mut self, passes: u32, burst: u32) -> f64;

    /// What a connection of each stream gets, if it shows its text.
    fn texts(&mut self) -> [String; 2];
}

struct InPlace<E: Engine> {
    engine: E,
    readers: Vec<E::Reader>,
    tick: Tick,
}

impl<E: Engine> InPlace<E> {
    fn open() -> Self {
        let (engine, readers) = E::open(READERS);
        Self {
            engine,
            readers,
            tick: Tick::new(0),
        }
    }

    fn publish(&self, events: u32) {
        for _ in 0..events {
            let published = self.engine.publish(&self.tick).now_or_never();
            published.expect("nobody else is at the map");
        }
    }

    fn read(&mut self, events: u32) {
        for reader in &mut self.readers {
            let mut read = 0;
            while read < events {
                let each = |event: &_| {
                    black_box(engines::Numbered::text(event));
                    read += 1;
                };
                let received = reader.receive(each).now_or_never();
                received.expect("all was published");
            }
            assert_eq!(read, events, "each event once");
        }
    }
}

impl<E: Engine> Subject for InPlace<E> {
    fn route(&mut self, passes: u32) -> f64 {
        let mut total = Duration::ZERO;
        for _ in 0..passes {
            let start = Instant::now();
            self.publish(PASS);
            total += start.elapsed();
            self.read(PASS);
        }
        nanoseconds_per(total, passes * PASS)
    }

    fn route_and_read(&mut self, passes: u32, burst: u32) -> f64 {
        let start = Instant::now();
        for _ in 0..passes * PASS / burst {
            self.publish(burst);
            self.read(burst);
        }
        nanoseconds_per(start.elapsed(), passes * PASS)
    }

    fn texts(&mut self) -> [String; 2] {
        self.publish(1);
        let mut texts = [String::new(), String::new()];
        for (n, reader) in self.readers.iter_mut().enumerate() {
            let mut text = String::new();
            let each = |event: &_| {
                text = String::from_utf8_lossy(engines::Numbered::text(event)).into_owned();
            };
            let received = reader.receive(each).now_or_never();
            received.expect("an event was published");
            texts[n % 2] = text;
        }
        texts
    }
}

fn nanoseconds_per(elapsed: Duration, events: u32) -> f64 {
    elapsed.as_secs_f64() * 1e9 / f64::from(events)
}

/// Prints what was measured and remembers whether every limit held.
#[derive(Debug)]
struct Report {
    /// Not in a smoke run.
    judges: bool,
    not_held: u32,
}

impl Report {
    /// The engines in their order, fanfare first; `limit` is for the first peer.
    fn table(&mut self, what: &str, names: [&str; 3], times: &[Vec<f64>], limit: Option<f64>) {
        println!("\n{what}");
        for (n, (name, times_of_it)) in names.iter().zip(times).enumerate() {
            print!("  {name:<22} {:>10.1} ns per event", median(times_of_it));
            if n > 0 {
                let ratio = median(&engines::ratios(times_of_it, &times[0]));
                print!("   fanfare is {ratio:>6.2} times as fast");
                if let Some(limit) = limit.filter(|_| n == 1 && self.judges) {
                    let holds = ratio >= limit;
                    self.not_held += u32::from(!holds);
                    let verdict = if holds { "holds" } else { "DOES NOT HOLD" };
                    print!("   at least {limit}: {verdict}");
                }
            }
            println!();
        }
    }
}

fn measure<S: Sample>(runtime: &Handle, rounds: u32, passes: u32, report: &mut Report) {
    let names = [
        Fanfare::<S>::NAME,
        Maps::<AxumEvent, S>::NAME,
        Maps::<Bytes, S>::NAME,
    ];
    let what = format!("{}, {} bytes", S::NAME, S::BYTES);

    let mut subjects: [Box<dyn Subject>; 3] = [
        Box::new(InPlace::<Fanfare<S>>::open()),
        Box::new(InPlace::<Maps<AxumEvent, S>>::open()),
        Box::new(InPlace::<Maps<Bytes, S>>::open()),
    ];
    assert_eq!(subjects[0].texts(), subjects[2].texts(), "the same bytes");
    let times = interleave(rounds, &mut subjects, |subject| subject.route(passes));
    report.table(&format!("{what}: route"), names, &times, Some(LIMIT));
    for burst in [1, 16] {
        let times = interleave(rounds, &mut subjects, |subject| {
            subject.route_and_read(passes, burst)
        });
        let what = format!("{what}: route and read, {burst} at a time");
        report.table(&what, names, &times, None);
    }
    drop(subjects);

    let mut contenders: [Box<dyn Contender>; 3] = [
        Box::new(Arena::<Fanfare<S>>::open(runtime, READERS)),
        Box::new(Arena::<Maps<AxumEvent, S>>::open(runtime, READERS)),
        Box::new(Arena::<Maps<Bytes, S>>::open(runtime, READERS)),
    ];
    for burst in [1, 16] {
        let times = interleave(rounds, &mut contenders, |contender| {
            nanoseconds_per(contender.run(passes, burst).received, passes * burst)
        });
        let what = format!("{what}: all received, {burst} at a time");
        report.table(&what, names, &times, None);
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let smoke = options.test || !options.bench;
    let (rounds, passes) = if smoke {
        println!("smoke run: these figures mean nothing");
        (1, 1)
    } else {
        (options.rounds, PASSES)
    };
    println!(
        "one user, {CONNECTIONS} connections on each of two streams, {} workers",
        engines::cores()
    );
    let mut report = Report {
        judges: !smoke,
        not_held: 0,
    };
    let runtime = engines::runtime();
    measure::<Delta>(runtime.handle(), rounds, passes, &mut report);
    measure::<Snapshot>(runtime.handle(), rounds, passes, &mut report);
    if options.check && report.not_held > 0 {
        eprintln!("\n{} limits do not hold", report.not_held);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
