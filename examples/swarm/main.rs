//! A swarm of SSE connections: opens very many, publishes, and checks what every one of them receives.
//!
//! ```text
//! cargo run --release --features serve --example live
//! cargo run --release --example swarm -- http://127.0.0.1:8080/events/news --publish /publish/news
//! ```
//!
//! ```text
//!  publisher.rs ── POST {"run","t","n","at"} ──▶ the server ── SSE ──▶ worker.rs: a poll and thousands of connections
//!     a thread, on a schedule                                            │ connection.rs: connect, head, stream
//!        │                                                               │ http.rs ▸ scan.rs ▸ payload.rs: bytes to stamps
//!        └───────── shared.rs: how far each sequence is ──────────────▶  │ ledger.rs: lost? twice? out of order?
//!                                                                        ▼
//!                     run.rs: the phases of a run, and a look at all of it 4 times a second ──▶ report.rs, plot.rs
//! ```
//!
//! It works with any server that streams events to a GET and, to measure latency and to find loss, passes the body of a
//! POST on to them. Every event of every connection is checked: its number has to be the next. Latency is from just
//! before the POST is written to when the event was read and parsed, on one clock.
//!
//! It publishes when all connections have their response head, and not before. A server that subscribes only after that
//! loses the first events, and is told so.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example counts and starts threads for itself; src/sync.rs is for what loom checks"
)]

mod args;
mod connection;
mod failure;
mod http;
mod ledger;
mod limits;
mod payload;
mod plot;
mod progress;
mod publisher;
mod reason;
mod report;
mod run;
mod scan;
mod server;
mod shared;
mod target;
mod verdict;
mod worker;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Options;
use crate::failure::Failure;

fn main() -> ExitCode {
    match measure(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // The failure is also the exit code, so a closed stderr loses nothing that matters.
            drop(writeln!(io::stderr(), "swarm: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as it should be.
fn measure(options: Options) -> Result<bool, Failure> {
    let (json, svg, html) = (
        options.json.clone(),
        options.svg.clone(),
        options.html.clone(),
    );
    let report = run::run(options)?;
    // The table first: a file that cannot be written must not take it away.
    drop(write!(io::stdout(), "{report}"));
    if let Some(file) = json {
        write(
            &file,
            serde_json::to_string_pretty(&report).map_err(Into::into),
        )?;
    }
    if let Some(file) = svg {
        write(&file, plot::svg(&report))?;
    }
    if let Some(file) = html {
        write(&file, plot::html(&report))?;
    }
    Ok(report.verdict.ok)
}

fn write(file: &Path, text: Result<String, Box<dyn std::error::Error>>) -> Result<(), Failure> {
    let text = text.and_then(|text| fs::write(file, text).map_err(Into::into));
    text.map_err(|error| Failure::Write {
        file: file.to_owned(),
        why: error.to_string(),
    })
}
