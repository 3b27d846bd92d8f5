//! A hub at its memory limit: many subscribers of whom some never read again, and more events than it may hold.
//!
//! ```text
//! cargo run --release --example budget -- --events 1000000 --subscribers 10000 --stalled 1000
//! ```
//!
//! Every topic keeps history, so that all topics together would hold more than the limit. The readers that go on are served
//! by threads; a publisher waits when they are a window behind, so what they lose is lost to the limit alone. Prints what was
//! used at most, what the whole process has allocated, its resident memory, and what was lost. Those that never read are given up after `--evict-after`, and
//! the log says so. Ends with a failure if a reader that went on lost anything, if one that stood still was not given up in
//! time, or if the hub, or all that the process has allocated since the first event, exceeded the limit by more than 5 %. What
//! an allocator keeps of what was freed is not in that, but it is in the resident memory: docs/operating.md has figures.

#![allow(
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a program of its own has std's threads, and prints rounded figures"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fanfare::{ConfigError, Event, Hub, Item, Subscription, Topic};

const MIB: f64 = 1024.0 * 1024.0;

/// The system's allocator, and what lives of what it gave: an account of its own beside the hub's.
struct Counted;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST_LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: everything is passed on to `System`; counting does not allocate.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        if live > MOST_LIVE.load(Ordering::Relaxed) {
            MOST_LIVE.fetch_max(live, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Publishes to a hub at its memory limit.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Events in all.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Bytes of one event.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Subscribers in all.
    #[arg(long, default_value_t = 10_000)]
    subscribers: u64,
    /// Those of them that never read.
    #[arg(long, default_value_t = 1000)]
    stalled: u64,
    /// Topics, which share the subscribers evenly.
    #[arg(long, default_value_t = 100)]
    topics: u64,
    /// The limit, in bytes.
    #[arg(long, default_value_t = 64 << 20)]
    limit: usize,
    /// Threads that publish, and as many that read.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Events that readers may be behind.
    #[arg(long, default_value_t = 10_000)]
    window: u64,
    /// Milliseconds without progress after which a reader is given up.
    #[arg(long, default_value_t = 500)]
    evict_after: u64,
}

/// What all threads share.
struct Run {
    options: Options,
    hub: Hub,
    topics: Vec<Topic>,
    published: AtomicU64,
    /// Events published before the last round that each reading thread has finished.
    read: Vec<AtomicU64>,
    done: AtomicBool,
    most_used: AtomicU64,
    most_resident: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Seen {
    events: u64,
    lost: u64,
}

/// Memory of this process, in bytes. 0 where `/proc` is not.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Run {
    fn note(&self) {
        let used = self.hub.memory_used().unwrap_or(0);
        self.most_used.fetch_max(used, Ordering::Relaxed);
        self.most_resident.fetch_max(resident(), Ordering::Relaxed);
    }

    /// One publisher's share.
    fn publish(&self, publisher: u64) {
        let text = "x".repeat(self.options.bytes);
        let mine = (publisher..self.options.events).step_by(self.options.threads as usize);
        for (at, event) in mine.enumerate() {
            let is_behind = |read: &AtomicU64| {
                event.saturating_sub(read.load(Ordering::Acquire)) > self.options.window
            };
            while self.read.iter().any(is_behind) {
                thread::yield_now();
            }
            let topic = &self.topics[(event % self.options.topics) as usize];
            while topic.publish(Event::text(&text)).is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
            self.published.fetch_add(1, Ordering::AcqRel);
            if at % 256 == 0 {
                self.note();
            }
        }
    }

    /// Reads all of these subscriptions again and again until they have all there is.
    fn read(&self, reader: usize, mut subscriptions: Vec<Subscription>) -> Seen {
        let mut seen = Seen::default();
        loop {
            let done = self.done.load(Ordering::Acquire);
            let published = self.published.load(Ordering::Acquire);
            for subscription in &mut subscriptions {
                while let Ok(item) = subscription.try_recv() {
                    match item {
                        Item::Frame(_) => seen.events += 1,
                        Item::Lagged(lag) => seen.lost += lag.missed().unwrap_or(1),
                        _ => {}
                    }
                }
            }
            self.read[reader].store(published, Ordering::Release);
            if done {
                return seen;
            }
            thread::yield_now();
        }
    }
}

/// When readers were given up.
type GivenUp = Arc<Mutex<Vec<Instant>>>;

fn limited(options: &Options) -> Result<(Hub, GivenUp), ConfigError> {
    let hub = Hub::builder()
        .history(true)
        .max_event_bytes(1 << 20)
        .memory_limit(options.limit)
        .evict_after(Duration::from_millis(options.evict_after))
        .build()?;
    let given_up = GivenUp::default();
    let note = Arc::clone(&given_up);
    hub.on_eviction(move |eviction| {
        let mut given_up = note.lock().unwrap_or_else(PoisonError::into_inner);
        // The log: one line each; here the first ones will do.
        if given_up.len() < 3 {
            eprintln!("gave up {eviction}");
        }
        given_up.push(Instant::now());
    });
    Ok((hub, given_up))
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let (hub, given_up) = limited(options)?;
    let topics = (0..options.topics).map(|topic| hub.topic(topic.to_string().as_str()));
    let topics = topics.collect::<Result<Vec<_>, _>>()?;
    let mut stalled = Vec::new();
    let mut healthy: Vec<Vec<_>> = (0..options.threads).map(|_| Vec::new()).collect();
    for subscriber in 0..options.subscribers {
        let subscription = topics[(subscriber % options.topics) as usize].subscribe()?;
        if subscriber / options.topics < options.stalled.div_ceil(options.topics) {
            stalled.push(subscription.label(format!("client {subscriber}")));
        } else {
            healthy[(subscriber % options.threads) as usize].push(subscription);
        }
    }
    let (still, going) = (stalled.len(), options.subscribers as usize - stalled.len());
    let run = Run {
        read: (0..options.threads).map(|_| AtomicU64::new(0)).collect(),
        options: options.clone(),
        hub,
        topics,
        published: AtomicU64::new(0),
        done: AtomicBool::new(false),
        most_used: AtomicU64::new(0),
        most_resident: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    let before = resident();
    let live_before = LIVE.load(Ordering::Relaxed);
    MOST_LIVE.store(live_before, Ordering::Relaxed);
    let begun = Instant::now();
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let run = &run;
        let readers: Vec<_> = healthy
            .into_iter()
            .enumerate()
            .map(|(reader, subscriptions)| scope.spawn(move || run.read(reader, subscriptions)))
            .collect();
        let publishers: Vec<_> = (0..run.options.threads)
            .map(|publisher| scope.spawn(move || run.publish(publisher)))
            .collect();
        for publisher in publishers {
            drop(publisher.join());
        }
        run.done.store(true, Ordering::Release);
        for reader in readers {
            let part = reader.join().unwrap_or_default();
            seen.events += part.events;
            seen.lost += part.lost;
        }
    });
    run.note();
    let (limit, used) = (
        run.options.limit as f64,
        run.most_used.load(Ordering::Relaxed) as f64,
    );
    println!(
        "{} events of {} bytes, {} topics, {going} readers and {still} that stand still, in {:.1?}",
        run.options.events,
        run.options.bytes,
        run.options.topics,
        begun.elapsed()
    );
    println!(
        "used:   at most {:.1} MiB of {:.1} MiB, {:.1} %; now {:.1} MiB",
        used / MIB,
        limit / MIB,
        used * 100.0 / limit,
        run.hub.memory_used().unwrap_or(0) as f64 / MIB
    );
    let allocated = MOST_LIVE.load(Ordering::Relaxed) - live_before;
    println!(
        "allocated by the whole process since the first event: at most {:.1} MiB, {:.1} %",
        allocated as f64 / MIB,
        allocated as f64 * 100.0 / limit
    );
    println!(
        "memory: {:.1} MiB before, at most {:.1} MiB",
        before as f64 / MIB,
        run.most_resident.load(Ordering::Relaxed) as f64 / MIB
    );
    println!(
        "read:   {} events, {} lost; {} publishes refused and tried again",
        seen.events,
        seen.lost,
        run.refused.load(Ordering::Relaxed)
    );
    let given_up = given_up.lock().unwrap_or_else(PoisonError::into_inner);
    let times = given_up.iter().map(|at| at.duration_since(begun));
    let (first, last) = (times.clone().min(), times.max().unwrap_or_default());
    println!(
        "given up: {} of {still}, {:.1?} to {last:.1?} after the beginning",
        given_up.len(),
        first.unwrap_or_default(),
    );
    drop(stalled);
    // Twice the time, and a round of the clock.
    let in_time = Duration::from_millis(options.evict_after * 3 + 500);
    let within = used <= limit * 1.05 && allocated as f64 <= limit * 1.05;
    Ok(seen.lost == 0 && within && given_up.len() == still && last <= in_time)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let holds = run(&Options::parse())?;
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
