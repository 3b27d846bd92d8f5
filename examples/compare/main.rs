//! fanfare beside other in-process broadcasters, in one interleaved run.
//!
//! ```text
//! cargo run --release --example compare
//! cargo run --release --example compare -- --quick
//! cargo run --release --example compare -- --only fan-out --subscribers 1000,1_000_000 --svg fan-out.svg --json all.json
//! ```
//!
//! | question | what is measured |
//! |---|---|
//! | [`fan-out`](fan_out) | one topic, a task per subscriber: time per delivery until all have received |
//! | [`shards`] | the same with a task per core that serves its share of the subscribers |
//! | [`users`] | many topics with a subscriber each, random publishes: time per publish, delivery included |
//! | [`churn`] | a subscribe and a drop beside 1,000 others |
//! | [`publish`](fan_out::publish) | time until `publish` returns, all subscribers parked |
//! | [`memory`] | bytes per subscriber and per user |
//!
//! The engines are those of `benches/engines`, which says what each does and what a round is. All engines of a table are
//! measured in each of its rounds, one right after the other, in an order that rotates; a ratio is taken within its round.
//! An engine that takes long is measured less often, never left out. Readers check the order of events in a round that
//! is not timed, and that they got each of them once in all rounds; one that did not ends the program.
//!
//! It ends with 2 if it was asked for what it cannot do, before anything is measured, and with 1 if it could not finish.
//! A limit that does not hold is marked and is no error.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an instrument counts and starts threads for itself; src/sync.rs is for what loom checks"
)]

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../../tests/common/alloc.rs"]
mod alloc;
mod args;
mod chart;
mod churn;
mod contest;
#[path = "../../benches/engines/mod.rs"]
mod engines;
mod fan_out;
mod machine;
mod memory;
mod report;
mod shards;
mod users;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::alloc::Counting;
use crate::args::{Options, Question, Settings, grouped};
use crate::contest::Progress;
use crate::machine::Machine;
use crate::report::{Report, Table};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn size(count: u32) -> usize {
    usize::try_from(count).expect("32 bits fit")
}

fn gibibytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil((1 << 30) / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if let Some(job) = &options.memory_child {
        memory::child(job).map_err(Failure::Memory)
    } else {
        alloc::stop_counting();
        run(&options)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The failure is also the exit code, so a closed stderr loses nothing that matters.
            drop(writeln!(io::stderr(), "compare: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let settings = options.settings();
    check(options, &settings)?;
    let mut report = Report {
        machine: Machine::look(),
        settings,
        tables: Vec::new(),
    };
    print(&report::heading(&report.machine, &report.settings))?;
    let progress = Progress::new(steps(&report.settings));
    report.tables = measure(&report.settings, &progress)?;
    progress.finish();
    let (held, missed) = report.verdicts();
    print(&format!("\n{held} limits hold, {missed} do not\n"))?;

    if let Some(file) = &options.json {
        let json = serde_json::to_vec_pretty(&report).map_err(io::Error::from);
        let written = json.and_then(|json| fs::write(file, json));
        written.map_err(|error| Failure::Write(file.clone(), error))?;
    }
    if let Some(file) = &options.svg {
        chart::draw(&report, file)
            .map_err(|error| Failure::Write(file.clone(), io::Error::other(error.to_string())))?;
    }
    Ok(())
}

fn measure(settings: &Settings, progress: &Progress) -> Result<Vec<Table>, Failure> {
    let runtime = engines::runtime_of(settings.workers);
    let mut tables = Vec::new();
    let mut printed = Ok(());
    // Figures that nobody sees are still measured: they may be written to a file.
    let mut done = |table: Table| {
        let print = progress.aside(|| print(&table.to_string()));
        if printed.is_ok() {
            printed = print;
        }
        tables.push(table);
    };
    if settings.asks(Question::FanOut) {
        fan_out::measure(&runtime, settings, progress, &mut done);
    }
    if settings.asks(Question::Shards) {
        shards::measure(&runtime, settings, progress, &mut done);
    }
    if settings.asks(Question::Users) {
        users::measure(&runtime, settings, progress, &mut done);
    }
    if settings.asks(Question::Churn) {
        churn::measure(settings, progress, &mut done);
    }
    if settings.asks(Question::Publish) {
        fan_out::publish(&runtime, settings, progress, &mut done);
    }
    if settings.asks(Question::Memory) {
        memory::measure(settings, progress, &mut done).map_err(Failure::Memory)?;
    }
    printed?;
    Ok(tables)
}

/// Turns in all, roughly: `contest` counts those that it leaves out.
fn steps(settings: &Settings) -> u64 {
    let (engines, rounds) = (engines::ENGINES.len() as u64, u64::from(settings.rounds));
    let bursts = settings.bursts.len() as u64;
    let of = |question, steps| if settings.asks(question) { steps } else { 0 };
    let cells = settings.subscribers.len() as u64 * bursts;
    of(Question::FanOut, cells * engines * rounds)
        + of(Question::Shards, bursts * shards::CONTENDERS * rounds)
        + of(Question::Users, users::CONTENDERS * rounds)
        + of(Question::Churn, engines * rounds)
        + of(Question::Publish, engines * rounds)
        + of(Question::Memory, memory::STEPS)
}

/// What can be refused before anything runs.
fn check(options: &Options, settings: &Settings) -> Result<(), Failure> {
    let files: Vec<&PathBuf> = options.json.iter().chain(&options.svg).collect();
    if let [json, svg] = *files
        && json == svg
    {
        return Err(Failure::Refused(format!(
            "--json and --svg are both {}; they need a file each",
            json.display()
        )));
    }
    if options.svg.is_some() && !settings.asks(Question::FanOut) {
        let reason = "--svg draws fan-out; add it to --only";
        return Err(Failure::Refused(reason.to_owned()));
    }
    if let Some(usable) = fan_out::usable_bytes() {
        fits(settings, usable)?;
    }
    files.into_iter().try_for_each(|file| writable(file))
}

fn fits(settings: &Settings, usable: u64) -> Result<(), Failure> {
    let crowd = |flag: &str, subscribers: u32| {
        let subject = format!("{} subscribers of each engine", grouped(subscribers));
        (flag.to_owned(), subject, fan_out::bytes_of_all(subscribers))
    };
    let mut needs = Vec::new();
    if settings.asks(Question::FanOut) || settings.asks(Question::Shards) {
        needs.push(crowd("--subscribers", settings.most()));
    }
    if settings.asks(Question::Publish) {
        needs.push(crowd("--parked", settings.parked));
    }
    if settings.asks(Question::Users) {
        let subject = format!("{} topics of each engine", grouped(settings.topics));
        let bytes = users::bytes_of_all(settings.topics);
        needs.push(("--topics".to_owned(), subject, bytes));
    }
    for (flag, subject, bytes) in needs {
        if bytes > usable {
            return Err(Failure::Refused(format!(
                "{subject} need about {}, and {} may be used of this machine's free memory; use a lower {flag}",
                gibibytes(bytes),
                gibibytes(usable)
            )));
        }
    }
    Ok(())
}

/// Opens `file` for writing, and leaves what is in it.
fn writable(file: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened
        .map(drop)
        .map_err(|error| Failure::Refused(format!("{} cannot be written: {error}", file.display())))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::Print)
}

/// Why there are no figures, or not all of them.
#[derive(Debug)]
enum Failure {
    /// Asked for what it cannot do.
    Refused(String),
    Memory(io::Error),
    Print(io::Error),
    Write(PathBuf, io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Memory(_) | Self::Print(_) | Self::Write(..) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::Memory(error) => write!(f, "memory was not measured: {error}"),
            Self::Print(error) => write!(f, "cannot print: {error}"),
            Self::Write(file, error) => write!(f, "cannot write {}: {error}", file.display()),
        }
    }
}
