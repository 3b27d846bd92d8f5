//! One topic, a task per subscriber: from the publish until all have received everything. And of single events to many
//! who are parked, the time until `publish` returns.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::args::{Question, Settings, grouped};
use crate::contest::{Entry, Progress, hold, passes, rounds_within};
use crate::engines::{Broadcast, Contender, ENGINES, Named, Senders};
use crate::machine::free_bytes;
use crate::report::{Head, Table, Unit};
use crate::{gibibytes, size};

/// Roughly what the engines take per subscriber, its task included, and per event that waits for it. Bytes, in the order
/// of [`ENGINES`].
const WEIGHTS: [(u64, u64); ENGINES.len()] = [
    (500, 0),
    (500, 0),
    (700, 0),
    (1_900, 34),
    (1_900, 34),
    (2_700, 200),
];

/// Of the memory that is free, what a cell may take, in percent.
const SHARE: u64 = 80;

/// A round that takes longer is not repeated only to learn how long it takes.
const LONG: Duration = Duration::from_secs(1);

/// What all engines side by side take with so many subscribers, before they have anything to keep. Bytes.
pub(crate) fn bytes_of_all(subscribers: u32) -> u64 {
    let each: u64 = WEIGHTS.iter().map(|(reader, _)| reader).sum();
    each * u64::from(subscribers)
}

/// What may be used now. Bytes.
pub(crate) fn usable_bytes() -> Option<u64> {
    free_bytes().map(|free| free / 100 * SHARE)
}

/// What single events to 10,000, and bursts of 16 and 256, may take of tokio's time at most; nothing may take longer
/// than with any peer, up to 100,000 subscribers.
fn limit(engine: &str, subscribers: u32, burst: u32) -> Option<f64> {
    match (subscribers, burst) {
        (10_000, 1) if engine == Broadcast::NAME => Some(0.5),
        (10_000, 16) if engine == Broadcast::NAME => Some(0.25),
        (10_000, 256) if engine == Broadcast::NAME => Some(0.12),
        (..=100_000, 1 | 16 | 256) => Some(1.0),
        _ => None,
    }
}

type Open = (&'static str, Box<dyn Contender>);

fn open_all(runtime: &Runtime, subscribers: u32) -> Vec<Open> {
    let open = ENGINES.map(|(name, open)| (name, open(runtime.handle(), size(subscribers))));
    open.into()
}

/// An engine's part in a cell. Its readers check the order once before they are timed.
pub(crate) fn entry<'a>(
    engine: impl Into<String>,
    contender: &'a mut dyn Contender,
    (subscribers, burst): (u32, u32),
    settings: &Settings,
) -> Entry<'a> {
    let once = warm_up(contender, burst);
    let passes = passes(once);
    let deliveries = f64::from(subscribers) * f64::from(burst) * f64::from(passes);
    Entry {
        engine: engine.into(),
        rounds: rounds_within(settings.rounds, once * passes, settings.quick),
        limit: None,
        turn: Ok(Box::new(move || {
            contender.run(passes, burst).received.as_secs_f64() * 1e9 / deliveries
        })),
    }
}

/// Checks, and returns what a round takes.
fn warm_up(contender: &mut dyn Contender, burst: u32) -> Duration {
    let checked = contender.check(burst).received;
    if checked > LONG {
        // A second one would tell little more.
        return checked;
    }
    contender.run(1, burst).received
}

/// The part in a cell of the engine `index` of [`ENGINES`], whose subscribers are tasks: not if its queues would be too
/// heavy.
pub(crate) fn entry_of_tasks<'a>(
    index: usize,
    name: impl Into<String>,
    contender: &'a mut dyn Contender,
    (subscribers, burst): (u32, u32),
    settings: &Settings,
) -> Entry<'a> {
    let (_, queued) = WEIGHTS[index];
    let bytes = queued * u64::from(subscribers) * u64::from(burst);
    match usable_bytes() {
        Some(usable) if bytes > usable => Entry {
            engine: name.into(),
            rounds: 0,
            limit: None,
            turn: Err(format!(
                "not measured: its queues would hold about {}, and {} may be used",
                gibibytes(bytes),
                gibibytes(usable)
            )),
        },
        _ => entry(name, contender, (subscribers, burst), settings),
    }
}

/// What is published at a time.
pub(crate) fn events(burst: u32) -> String {
    match burst {
        1 => "single events".to_owned(),
        burst => format!("bursts of {burst}"),
    }
}

/// Every number of subscribers with every burst.
pub(crate) fn measure(
    runtime: &Runtime,
    settings: &Settings,
    progress: &Progress,
    mut done: impl FnMut(Table),
) {
    for &subscribers in &settings.subscribers {
        progress.cell(&format!("{} subscribers join", grouped(subscribers)));
        let mut contenders = open_all(runtime, subscribers);
        for &burst in &settings.bursts {
            let title = format!(
                "fan-out: {} to {}, a task each, until all have received",
                events(burst),
                grouped(subscribers)
            );
            progress.cell(&title);
            let entries = contenders
                .iter_mut()
                .enumerate()
                .map(|(index, (name, contender))| {
                    let cell = (subscribers, burst);
                    let mut entry = entry_of_tasks(index, *name, &mut **contender, cell, settings);
                    entry.limit = limit(name, subscribers, burst).filter(|_| index > 0);
                    entry
                });
            let entries = entries.collect();
            let head = Head {
                question: Question::FanOut,
                title,
                unit: Unit::Delivery,
                size: subscribers,
                burst: Some(burst),
            };
            done(hold(head, progress, entries));
        }
    }
}

/// How long `publish` takes to return.
pub(crate) fn publish(
    runtime: &Runtime,
    settings: &Settings,
    progress: &Progress,
    done: impl FnOnce(Table),
) {
    let title = format!(
        "publish: until it returns, {} subscribers parked, a task each",
        grouped(settings.parked)
    );
    progress.cell(&title);
    let mut contenders = open_all(runtime, settings.parked);
    let entries = contenders.iter_mut().map(|(name, contender)| {
        let once = warm_up(&mut **contender, 1);
        // Most of a round is not `publish`.
        let passes = 4 * passes(once);
        let limited = *name == Senders::NAME && settings.parked == 10_000;
        Entry {
            engine: (*name).to_owned(),
            rounds: rounds_within(settings.rounds, once * passes, settings.quick),
            limit: limited.then_some(0.5),
            turn: Ok(Box::new(move || {
                contender.run(passes, 1).publish.as_secs_f64() * 1e9 / f64::from(passes)
            })),
        }
    });
    let entries = entries.collect();
    let head = Head {
        question: Question::Publish,
        title,
        unit: Unit::Publish,
        size: settings.parked,
        burst: Some(1),
    };
    done(hold(head, progress, entries));
}
