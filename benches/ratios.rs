//! The figures that fanfare is held to, as ratios measured within one run.
//!
//! A machine that other work shares changes its speed from one second to the next, so a time measured now says little
//! about a time measured a minute ago. Here every round measures all that is compared, one right after the other, in
//! an order that rotates; a ratio is taken within its round, and the median of the rounds is printed.
//!
//! ```text
//! cargo bench --bench ratios -- --section all
//! cargo bench --bench ratios -- --section fan-out --subscribers 10000 --rounds 15
//! ```
//!
//! | section | compares | limit |
//! |---|---|---|
//! | `fan-out` | fanfare with its peers until all have received, one task per subscriber | by peer and shape |
//! | `publish-idle` | `publish` beside 1,000,000 subscribers with 1,000, nobody parked; the same with one parked | 1.2; 6 |
//! | `churn` | subscribe and drop beside 1,000,000 others with 1,000 | 3 |
//! | `joins` | 30,000 joins on one topic with 3,000, per join, from one thread and from all cores | 1.5 |
//!
//! The limits are for the default sizes. `--check` makes a limit that does not hold an error. Without `--bench`, which
//! `cargo bench` passes, or with `--test` everything runs once at a small size and no figure means anything.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench counts and starts threads for itself; src/sync.rs is for what loom checks"
)]

mod engines;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::RangedI64ValueParser;
use clap::{Parser, ValueEnum, value_parser};
use fanfare::{Event, Hub, Subscription};

use crate::engines::{ENGINES, Tick, interleave, median};

const KEY: &str = "ticks";

/// Rounds of one engine that are timed together in its turn; one more before them checks the order and warms its memory up.
const PASSES: u32 = 3;

/// Publishes, or subscribes and drops, that are timed together.
const OPERATIONS: u32 = 10_000;

#[derive(Debug, Parser)]
struct Options {
    /// What to measure.
    #[arg(long, value_enum, default_value = "all")]
    section: Section,
    /// Rounds, each of which measures everything once; the medians are printed.
    #[arg(long, default_value_t = 15, value_parser = positive())]
    rounds: u32,
    /// Subscribers of `fan-out`.
    #[arg(long, default_value_t = 10_000, value_parser = positive())]
    subscribers: u32,
    /// The bursts of `fan-out`, in events.
    #[arg(long, default_value_t = 16, value_parser = positive())]
    burst: u32,
    /// The small crowd of `publish-idle` and `churn`.
    #[arg(long, default_value_t = 1_000, value_parser = positive())]
    few: u32,
    /// The large crowd of `publish-idle` and `churn`.
    #[arg(long, default_value_t = 1_000_000, value_parser = positive())]
    many: u32,
    /// The larger number of `joins`; the smaller is a tenth of it.
    #[arg(long, default_value_t = 30_000, value_parser = value_parser!(u32).range(1_000..))]
    joins: u32,
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

fn positive() -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    All,
    FanOut,
    PublishIdle,
    Churn,
    Joins,
}

impl Section {
    fn includes(self, other: Self) -> bool {
        self == Self::All || self == other
    }
}

/// Prints the median of `times`, in nanoseconds, one per round.
fn print_time(what: &str, unit: &str, times: &[f64]) {
    println!("  {what:<46} {:>10.1} ns per {unit}", median(times));
}

/// Prints ratios and remembers whether every limit held.
#[derive(Debug)]
struct Report {
    /// Not in a smoke run: limits are for the default sizes.
    judges: bool,
    not_held: u32,
}

impl Report {
    /// The ratio of `times` to `others`, round by round, beside what it may be at most.
    fn ratio(&mut self, what: &str, times: &[f64], others: &[f64], limit: Option<f64>) {
        let ratio = median(&engines::ratios(times, others));
        let verdict = match limit.filter(|_| self.judges) {
            None => String::new(),
            Some(limit) if ratio <= limit => format!("at most {limit}: holds"),
            Some(limit) => {
                self.not_held += 1;
                format!("at most {limit}: DOES NOT HOLD")
            }
        };
        println!("  {what:<46} {ratio:>10.3}    {verdict}");
    }
}

fn nanoseconds_per(elapsed: Duration, operations: u32) -> f64 {
    elapsed.as_secs_f64() * 1e9 / f64::from(operations)
}

fn size(count: u32) -> usize {
    usize::try_from(count).expect("32 bits fit")
}

fn crowd(hub: &Hub, subscribers: u32) -> Vec<Subscription> {
    (0..subscribers)
        .map(|_| hub.subscribe(KEY).expect("the hub is open"))
        .collect()
}

/// What fanfare may take at most, as a part of what each of [`ENGINES`] takes: single events, bursts of 16.
const FAN_OUT_LIMITS: [(Option<f64>, Option<f64>); ENGINES.len()] = [
    (None, None),
    (Some(0.65), Some(0.4)),
    (None, None),
    (None, None),
    (None, None),
    (Some(0.25), Some(0.08)),
];

fn fan_out(options: &Options, report: &mut Report) {
    let runtime = engines::runtime();
    let mut contenders = ENGINES.map(|(_, open)| open(runtime.handle(), size(options.subscribers)));
    for burst in [1, options.burst] {
        let deliveries = PASSES * burst * options.subscribers;
        let times = interleave(options.rounds, &mut contenders, |contender| {
            contender.check(burst);
            nanoseconds_per(contender.run(PASSES, burst).received, deliveries)
        });
        println!(
            "\nfan-out: {} subscribers, a task each, {} workers, {burst} at a time, until all have received",
            options.subscribers,
            engines::cores(),
        );
        for ((name, _), times) in ENGINES.iter().zip(&times) {
            print_time(name, "delivery", times);
        }
        for (peer, (single, bursts)) in FAN_OUT_LIMITS.into_iter().enumerate().skip(1) {
            let what = format!("fanfare / {}", ENGINES[peer].0);
            let limit = if burst == 1 { single } else { bursts };
            report.ratio(&what, &times[0], &times[peer], limit);
        }
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A topic that somebody publishes to, and its subscribers.
struct Idle {
    hub: Hub,
    crowd: Vec<Subscription>,
}

impl Idle {
    fn open(subscribers: u32) -> Self {
        let hub = Hub::new();
        let crowd = crowd(&hub, subscribers);
        Self { hub, crowd }
    }

    fn publish(&self, n: u32) {
        let published = self.hub.publish(KEY, Event::json(&Tick::new(n)));
        black_box(published.expect("the hub is open").subscribers());
    }

    /// Nanoseconds per publish, timed together.
    fn publish_all(&self) -> f64 {
        let start = Instant::now();
        for n in 0..OPERATIONS {
            self.publish(n);
        }
        nanoseconds_per(start.elapsed(), OPERATIONS)
    }

    /// Nanoseconds per publish, each timed on its own, less what looking at the clock takes. Before each of them one
    /// subscriber parks if `park` says so.
    fn publish_each(&mut self, park: bool) -> f64 {
        let middle = self.crowd.len() / 2;
        let reader = &mut self.crowd[middle];
        let counter = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut cx = Context::from_waker(&waker);
        let mut clock = Duration::ZERO;
        let mut total = Duration::ZERO;
        for n in 0..OPERATIONS {
            if park {
                while reader.poll_recv(&mut cx).is_ready() {}
            }
            let start = Instant::now();
            clock += start.elapsed();
            let start = Instant::now();
            let published = self.hub.publish(KEY, Event::json(&Tick::new(n)));
            black_box(published.expect("the hub is open").subscribers());
            total += start.elapsed();
        }
        assert_eq!(
            counter.0.load(Ordering::Relaxed),
            if park { OPERATIONS } else { 0 },
            "a publish wakes who is parked, and nobody else"
        );
        nanoseconds_per(total.saturating_sub(clock), OPERATIONS)
    }
}

fn publish_idle(options: &Options, report: &mut Report) {
    let mut topics = [Idle::open(options.few), Idle::open(options.many)];
    for topic in &topics {
        topic.publish_all();
    }

    println!("\npublish-idle: nobody parked, {OPERATIONS} publishes timed together");
    let times = interleave(options.rounds, &mut topics, |topic| topic.publish_all());
    print_time(
        &format!("{} subscribers", options.few),
        "publish",
        &times[0],
    );
    print_time(
        &format!("{} subscribers", options.many),
        "publish",
        &times[1],
    );
    report.ratio("many / few", &times[1], &times[0], Some(1.2));

    println!(
        "\npublish-idle: each publish timed on its own, one subscriber of many parked before each"
    );
    let [few, many] = &mut topics;
    let mut subjects = [(few, false), (many, true)];
    let times = interleave(options.rounds, &mut subjects, |(topic, park)| {
        topic.publish_each(*park)
    });
    print_time(
        &format!("{} subscribers, none parked", options.few),
        "publish",
        &times[0],
    );
    print_time(
        &format!("{} subscribers, one parked", options.many),
        "publish",
        &times[1],
    );
    report.ratio(
        "many, one parked / few, none parked",
        &times[1],
        &times[0],
        Some(6.0),
    );
}

fn churn(options: &Options, report: &mut Report) {
    let mut topics = [Idle::open(options.few), Idle::open(options.many)];
    println!("\nchurn: subscribe and drop beside others, {OPERATIONS} timed together");
    let times = interleave(options.rounds, &mut topics, |topic| {
        let start = Instant::now();
        for _ in 0..OPERATIONS {
            drop(black_box(
                topic.hub.subscribe(KEY).expect("the hub is open"),
            ));
        }
        nanoseconds_per(start.elapsed(), OPERATIONS)
    });
    print_time(
        &format!("{} others", options.few),
        "subscribe and drop",
        &times[0],
    );
    print_time(
        &format!("{} others", options.many),
        "subscribe and drop",
        &times[1],
    );
    report.ratio("many / few", &times[1], &times[0], Some(3.0));

    println!("\nchurn: somebody from anywhere in the crowd is replaced (bound by memory)");
    let times = interleave(options.rounds, &mut topics, |Idle { hub, crowd }| {
        let mut leaver = 0;
        let start = Instant::now();
        for _ in 0..OPERATIONS {
            leaver = (leaver + 618_033) % crowd.len();
            crowd[leaver] = hub.subscribe(KEY).expect("the hub is open");
        }
        nanoseconds_per(start.elapsed(), OPERATIONS)
    });
    print_time(
        &format!("{} others", options.few),
        "subscribe and drop",
        &times[0],
    );
    print_time(
        &format!("{} others", options.many),
        "subscribe and drop",
        &times[1],
    );
    report.ratio("many / few", &times[1], &times[0], None);
}

/// Lets `threads` threads join one new topic together, `joins` times in all; nanoseconds per join, from the first
/// that begins to the last that has joined.
fn join_storm(threads: u32, joins: u32) -> f64 {
    let hub = Hub::new();
    let barrier = Barrier::new(size(threads));
    let share = joins / threads;
    let storm: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let start = Instant::now();
                    let crowd = crowd(&hub, share);
                    (start, Instant::now(), crowd)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("subscribing does not panic"))
            .collect()
    });
    let joined: usize = storm.iter().map(|(.., crowd)| crowd.len()).sum();
    assert_eq!(hub.subscribers_of(KEY), joined);
    let begin = storm.iter().map(|(start, ..)| *start).min();
    let end = storm.iter().map(|(_, end, _)| *end).max();
    let elapsed = end.zip(begin).map(|(end, begin)| end - begin);
    nanoseconds_per(elapsed.expect("at least one thread"), share * threads)
}

fn joins(options: &Options, report: &mut Report) {
    let cores = u32::try_from(engines::cores()).expect("32 bits hold the cores");
    for threads in [1, cores] {
        println!("\njoins: one topic, {threads} threads at once");
        let mut storms = [options.joins / 10, options.joins];
        let times = interleave(options.rounds, &mut storms, |joins| {
            join_storm(threads, *joins)
        });
        print_time(&format!("{} joins", storms[0]), "join", &times[0]);
        print_time(&format!("{} joins", storms[1]), "join", &times[1]);
        report.ratio(
            "ten times the joins, per join",
            &times[1],
            &times[0],
            Some(1.5),
        );
    }
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    let smoke = options.test || !options.bench;
    if smoke {
        println!("smoke run: these figures mean nothing");
        options.rounds = 1;
        options.subscribers = options.subscribers.min(200);
        options.many = options.many.min(10_000);
        options.joins = options.joins.min(3_000);
    }
    let mut report = Report {
        judges: !smoke,
        not_held: 0,
    };
    if options.section.includes(Section::FanOut) {
        fan_out(&options, &mut report);
    }
    if options.section.includes(Section::PublishIdle) {
        publish_idle(&options, &mut report);
    }
    if options.section.includes(Section::Churn) {
        churn(&options, &mut report);
    }
    if options.section.includes(Section::Joins) {
        joins(&options, &mut report);
    }
    if options.check && report.not_held > 0 {
        eprintln!("\n{} limits do not hold", report.not_held);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
