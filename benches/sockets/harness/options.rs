//! The command line, and the names of engines and scenarios.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use socket2::SockRef;

use super::failure::{During as _, Failure};
use super::nchan;
use super::scenarios::Cell;
use super::servers::Setup;
use super::wire;

#[derive(Debug, Parser)]
#[command(name = "sockets", about = "What a delivery over a socket costs")]
pub(crate) struct Options {
    /// What to measure; everything briefly if not given
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// Engines, separated by commas [default: those that the scenario compares]
    #[arg(long, value_enum, value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Connections, instead of the scenario's own numbers
    #[arg(long, value_parser = positive())]
    pub(crate) connections: Option<usize>,
    /// Size of an event's frame, instead of the scenario's own
    #[arg(long, value_parser = count_from(wire::LEAST_BYTES))]
    pub(crate) bytes: Option<usize>,
    /// Repetitions, each of which measures every engine once
    #[arg(long, default_value_t = 7, value_parser = positive())]
    pub(crate) reps: usize,
    /// How long one measurement takes, where time is what ends it
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// The core of the servers
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The core of the client
    #[arg(long, default_value_t = 1)]
    pub(crate) client_core: usize,
    /// Worker threads of axum's runtime; 0 is the current-thread runtime
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Congestion control of all sockets but nginx's
    #[arg(long, value_enum, default_value = "reno")]
    pub(crate) congestion: Congestion,
    /// Writes every figure to this file as JSON
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Runs `perf record` on each server while it is measured; the profiles go into this directory
    #[arg(long)]
    pub(crate) perf: Option<PathBuf>,
    /// End with an error if a limit does not hold
    #[arg(long)]
    pub(crate) check: bool,
    /// Run everything once, briefly
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the server of this engine
    #[arg(long, value_enum)]
    pub(crate) server: Option<Engine>,
    /// Requests that are outstanding on each publishing connection; servers and proxies wait for each answer
    #[arg(long, default_value_t = 1, value_parser = positive())]
    pub(crate) depth: usize,
    /// Shards of a reactor
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Events that a broadcast channel keeps
    #[arg(long, default_value_t = 1024)]
    capacity: usize,
}

fn positive() -> RangedU64ValueParser<usize> {
    count_from(1)
}

fn count_from(least: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least as u64..=1 << 20)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.01 to 3600".to_owned()),
    }
}

impl Options {
    /// Makes a smoke run of what names no scenario.
    pub(crate) fn settle(&mut self) {
        if self.is_smoke() {
            println!("smoke run: these figures mean nothing");
            self.reps = 1;
            self.seconds = self.seconds.min(0.1);
        }
    }

    pub(crate) fn is_smoke(&self) -> bool {
        self.test || self.scenario.is_none()
    }

    pub(crate) fn includes(&self, scenario: Scenario) -> bool {
        self.scenario
            .is_none_or(|chosen| chosen == Scenario::All || chosen == scenario)
    }

    /// The engines that are asked for, or else those that the cell compares; of these, the ones that can run here.
    pub(crate) fn engines_for(&self, cell: &Cell) -> Vec<Engine> {
        let wanted: &[Engine] = if self.engines.is_empty() {
            cell.engines()
        } else {
            &self.engines
        };
        wanted
            .iter()
            .copied()
            .filter(|engine| engine.is_available())
            .collect()
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup {
            core: self.core,
            workers: self.workers,
            shards: self.shards,
            capacity: self.capacity,
            congestion: self.congestion,
        }
    }

    /// Where the profile of one measurement goes.
    pub(crate) fn perf_file(&self, cell: &Cell, engine: Engine) -> Option<PathBuf> {
        let name = format!("{}-{engine}.data", cell.key());
        self.perf.as_deref().map(|dir: &Path| dir.join(name))
    }
}

/// Congestion control. An algorithm that paces (BBR) sets a timer per send and, where the peer is on the same machine,
/// waits for it: what is measured then is the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Congestion {
    /// Every Linux has it and lets everybody choose it
    Reno,
    Cubic,
    Bbr,
    /// The system's default
    System,
}

impl Congestion {
    pub(crate) fn set(self, socket: &SockRef<'_>) -> Result<(), Failure> {
        if self == Self::System {
            return Ok(());
        }
        let name = self.to_string();
        socket
            .set_tcp_congestion(name.as_bytes())
            .during("choosing the congestion control")
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("?", |value| value.get_name()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// One event at a time: the next is published when all have the last
    Single,
    /// 16 events outstanding
    Backlog,
    /// 50 pipelined publishes, until all have them
    Pipeline,
    /// Memory of idle connections
    Memory,
    /// Memory while some clients do not read
    Stalled,
    /// A calm topic beside a saturated one
    Fairness,
    /// How evenly connections are dealt to shards
    Balance,
    /// From publish to receive at a low rate
    Latency,
    /// A topic per user, publishes over HTTP
    Users,
    /// Connecting as fast as possible
    Storm,
    /// Everything
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Engine {
    SingleFloor,
    BatchFloor,
    AxumIdiomatic,
    AxumFramed,
    FanfareAxum,
    FanfareReactor,
    FanfareServe,
    Nchan,
}

impl Engine {
    fn is_available(self) -> bool {
        match self {
            Self::FanfareReactor => cfg!(feature = "reactor"),
            Self::FanfareServe => cfg!(feature = "serve"),
            Self::Nchan => nchan::is_installed(),
            _ => true,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("?", |value| value.get_name()))
    }
}
