//! A simulator that finds faults: the real engine, random publishers and readers, and an oracle that knows what each
//! reader is to be given. A seed is a run, and a run is the same each time. See docs/testing.md.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "in a test a panic is the report, and pointers have 64 bits"
)]

mod life;
mod reader;
mod rng;
mod scenario;
mod shard;
mod world;

use std::any::Any;
use std::env;
use std::io::{self, Write as _};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use world::{SharedTrace, Trace, World};

/// What a plain `cargo test` spends here.
const PLAIN: Duration = Duration::from_secs(4);
const PLAIN_SEEDS: Range<u64> = 0..2_000;
/// Lines of the trace that a failure shows.
const TAIL: usize = 40;

fn traced() -> SharedTrace {
    SharedTrace::new(std::cell::RefCell::new(Trace {
        step: 0,
        lines: Some(Vec::new()),
    }))
}

/// One run. `Err` is what went wrong.
fn run(seed: u64, trace: &SharedTrace) -> Result<(), String> {
    let run = || World::new(seed, trace.clone()).run();
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Runs a seed; a failure is told with the last steps of the same run once more, with a trace.
fn check(seed: u64) {
    let trace = SharedTrace::default();
    let Err(error) = run(seed, &trace) else {
        return;
    };
    let step = trace.borrow().step;
    let again = traced();
    let same = run(seed, &again).err().as_deref() == Some(&*error) && again.borrow().step == step;
    let trace = again.borrow();
    let lines = trace.lines.as_deref().unwrap_or_default();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    let again = if same {
        ""
    } else {
        " (and it does not replay)"
    };
    panic!(
        "seed {seed}, step {step}: {error}{again}\n{}\n…\n{tail}\n\
         replay: FANFARE_SEED={seed} cargo test --features _simulate --test chaos -- replay --nocapture",
        lines.first().map_or("", String::as_str)
    );
}

fn print(line: &str) {
    // Around the capture of the test harness, so that CI's log says what ran.
    drop(writeln!(io::stderr(), "{line}"));
}

/// `FANFARE_SEEDS=a..b`, or as many as a plain run has time for.
#[test]
fn seeds() {
    let given = env::var("FANFARE_SEEDS").ok().map(|text| {
        let (first, end) = text.split_once("..").expect("FANFARE_SEEDS=a..b");
        first.parse().unwrap()..end.parse().unwrap()
    });
    let limit = given.is_none().then_some(PLAIN);
    let begin = Instant::now();
    let mut ran = 0_u64;
    for seed in given.unwrap_or(PLAIN_SEEDS) {
        check(seed);
        ran += 1;
        if limit.is_some_and(|limit| begin.elapsed() > limit) {
            break;
        }
    }
    assert!(ran > 0, "no seed ran");
    print(&format!("chaos: {ran} seeds passed"));
}

/// The shard of a reactor: fewer seeds will do for the less that is seen of it.
#[test]
fn seeds_of_a_shard() {
    let many = env::var_os("FANFARE_SEEDS").is_some();
    for seed in 0..if many { 500 } else { 80 } {
        let ran = panic::catch_unwind(|| shard::run(seed));
        ran.unwrap_or_else(|panic| panic!("seed {seed} of a shard: {}", message(&*panic)));
    }
}

/// `FANFARE_SEED=n` with a trace of all its steps.
#[test]
fn replay() {
    let Ok(seed) = env::var("FANFARE_SEED") else {
        return;
    };
    let seed = seed.parse().expect("FANFARE_SEED is a number");
    let trace = traced();
    let result = run(seed, &trace);
    for line in trace.borrow().lines.iter().flatten() {
        print(line);
    }
    if let Err(error) = result {
        panic!("seed {seed}, step {}: {error}", trace.borrow().step);
    }
}

/// The same seed is the same run, line by line.
#[test]
fn a_seed_replays() {
    for seed in 0..24 {
        let (first, second) = (traced(), traced());
        assert_eq!(run(seed, &first), run(seed, &second));
        assert_eq!(first.borrow().lines, second.borrow().lines, "seed {seed}");
    }
}
