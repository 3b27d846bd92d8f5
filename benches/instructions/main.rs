//! How many instructions does an operation take? Counted by callgrind, and held against a committed baseline.
//!
//! A count does not depend on what else the machine does, so a change of a few percent is seen in one run. What it cannot
//! show is contention, cache misses and system calls: for those there are the other benches.
//!
//! ```text
//! cargo bench --bench instructions                      a table: the counts beside the baseline
//! cargo bench --bench instructions -- publish           only cases with this in their name
//! cargo bench --bench instructions -- --check           an error if one is above the baseline by more than its tolerance
//! cargo bench --bench instructions -- --accept          writes the baseline
//! cargo bench --bench instructions -- --keep DIRECTORY  leaves callgrind's files there, for callgrind_annotate
//! ```
//!
//! The program starts itself under valgrind, once for each case. Without valgrind, with `--test`, and without
//! `--bench`, which `cargo bench` passes, every case runs once and nothing is counted. The profile of `cargo bench` is part
//! of what is measured: other settings give other counts.
//!
//! **What is counted.** The instructions of this program: fanfare, its dependencies and what it uses of std. Those of the
//! system's libraries (allocator, copies) differ from system to system: they have a column and are not judged. How often the
//! allocator is called is what `tests/counts.rs` pins down.
//!
//! **Why not gungraun.** It compares with callgrind's own files under `target`, not with numbers that can be committed, and
//! needs a runner that is installed apart, in exactly its version: without it a plain `cargo bench` could not pass.

mod baseline;
mod callgrind;
mod cases;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::baseline::Baseline;
use crate::callgrind::Valgrind;
use crate::cases::{CASES, Case, Rounds};

/// How many instructions an operation takes
#[derive(Debug, Parser)]
#[command(name = "instructions")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Options {
    /// Only cases with one of these in their name
    filters: Vec<String>,
    /// End with an error if a count is above its baseline by more than the tolerance, or cannot be taken
    #[arg(long)]
    check: bool,
    /// Write the counts to the baseline
    #[arg(long, conflicts_with = "check")]
    accept: bool,
    /// Leave callgrind's files in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Run everything once, without counting
    #[arg(long)]
    test: bool,
    /// Run this one case: what is started under valgrind
    #[arg(long, hide = true)]
    case: Option<String>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// Why there are no counts, or why they are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no case has any of {0:?} in its name")]
    NoCase(Vec<String>),
    #[error(
        "valgrind is missing, and nothing was counted: install it, for example `apt-get install valgrind`"
    )]
    NoValgrind,
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
    #[error("`{case}` failed under valgrind:\n{stderr}")]
    Run { case: String, stderr: String },
    #[error("`{case}`: callgrind's file has no instructions of this program: {line}")]
    Counts { case: String, line: String },
    #[error("the baseline cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "{0} of the counts are refused; if they are meant to be so: cargo bench --bench instructions -- --accept"
    )]
    Refused(usize),
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("instructions: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if let Some(name) = &options.case {
        let case = CASES.iter().find(|case| case.name == name);
        let case = case.ok_or_else(|| Failure::NoCase(vec![name.clone()]))?;
        (case.run)(&mut Rounds::counted());
        return Ok(());
    }
    let chosen = chosen(&options.filters)?;
    let smoke = options.test || !(options.bench || options.check || options.accept);
    let valgrind = if smoke { None } else { Valgrind::find() };
    let Some(valgrind) = valgrind else {
        for case in &chosen {
            (case.run)(&mut Rounds::once());
        }
        if options.check || options.accept {
            return Err(Failure::NoValgrind);
        }
        let why = if smoke {
            "as asked for"
        } else {
            "valgrind is missing"
        };
        println!(
            "{} cases ran once, nothing was counted: {why}",
            chosen.len()
        );
        return Ok(());
    };
    let mut baseline = Baseline::load()?;
    let mut refused = 0;
    baseline.print_head();
    for case in &chosen {
        let counts = valgrind.count(case, options.keep.as_deref())?;
        if !baseline.judge(case.name, &counts) && !options.accept {
            refused += 1;
        }
        if options.accept {
            baseline.accept(case.name, &counts);
        }
    }
    if options.accept {
        return baseline.store();
    }
    if refused > 0 && options.check {
        return Err(Failure::Refused(refused));
    }
    Ok(())
}

fn chosen(filters: &[String]) -> Result<Vec<&'static Case>, Failure> {
    let named =
        |case: &&Case| filters.is_empty() || filters.iter().any(|part| case.name.contains(part));
    let chosen: Vec<_> = CASES.iter().filter(named).collect();
    if chosen.is_empty() {
        return Err(Failure::NoCase(filters.to_vec()));
    }
    Ok(chosen)
}
