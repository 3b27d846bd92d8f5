//! The program: a server of one engine, or the measurement of many.

mod child;
mod client;
mod failure;
mod http;
mod nchan;
mod options;
mod proc;
mod publisher;
mod report;
mod scenarios;
mod servers;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use self::failure::Failure;
use self::options::Options;
use self::report::Report;
use self::scenarios::Cell;

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.server {
        Some(engine) => servers::run(engine, &options.setup()).map(|()| true),
        None => measure(options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("sockets: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be measured; a limit that does not hold is no failure unless `--check` says so.
fn measure(mut options: Options) -> Result<bool, Failure> {
    options.settle();
    proc::pin(options.client_core)?;
    let mut report = Report::begin(&options);
    for cell in Cell::all(&options) {
        let mut engines = options.engines_for(&cell);
        for rep in 0..options.reps {
            for &engine in &engines {
                report.add(&cell, engine, rep, scenarios::run(&cell, engine, &options));
            }
            if !engines.is_empty() {
                engines.rotate_left(1);
            }
        }
        report.print(&cell);
    }
    report.finish(&options)
}
