//! What is measured: one file per question.

mod balance;
mod deliver;
mod fairness;
mod latency;
mod limits;
mod memory;
mod stage;
mod storm;
mod users;
mod window;

use super::failure::Failure;
use super::options::{Engine, Options, Scenario};

pub(crate) use limits::{Bound, Limit};

/// A figure of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Microseconds on the core, per delivery.
    Cpu,
    /// Microseconds on the core, per accepted connection.
    CpuPerConnection,
    /// Microseconds on the core, per publish.
    CpuPerPublish,
    /// Thousands of deliveries per second.
    Rate,
    /// Connections per second.
    ConnectRate,
    /// Milliseconds.
    P50,
    /// Milliseconds.
    P99,
    /// Part of its core's time that the server was on it.
    Busy,
    /// Cores that neither the server nor the client used: more than a few hundredths, and the machine was not quiet.
    Others,
    /// Bytes of user-space memory per connection that never got an event.
    Idle,
    /// Bytes of user-space memory per connection after an event.
    Used,
    /// Bytes that user-space memory grew by.
    Growth,
    /// Bytes in the kernel per stalled connection.
    Kernel,
    /// The same as a multiple of what `SO_SNDBUF` was set to.
    KernelPerBuffer,
    /// Rate of the hot topic beside a calm one, as a part of its rate alone.
    Kept,
    /// Greatest less least number of connections of a shard, as a part of the mean.
    Spread,
}

impl Metric {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU µs/delivery",
            Self::CpuPerConnection => "CPU µs/connect",
            Self::CpuPerPublish => "CPU µs/publish",
            Self::Rate => "k deliveries/s",
            Self::ConnectRate => "connects/s",
            Self::P50 => "p50 ms",
            Self::P99 => "p99 ms",
            Self::Busy => "core busy",
            Self::Others => "cores of others",
            Self::Idle => "B/connection",
            Self::Used => "B after event",
            Self::Growth => "grown KiB",
            Self::Kernel => "kernel KiB each",
            Self::KernelPerBuffer => "× SO_SNDBUF",
            Self::Kept => "hot rate kept",
            Self::Spread => "shard spread",
        }
    }
}

pub(crate) type Values = Vec<(Metric, f64)>;

/// A scenario at one size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) scenario: Scenario,
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    /// Whether the limits are meant for this size.
    pub(crate) is_judged: bool,
}

/// Scenario, connections, bytes of a frame.
const CELLS: [(Scenario, usize, usize); 13] = [
    (Scenario::Single, 1_000, 100),
    (Scenario::Single, 10_000, 100),
    (Scenario::Single, 1_000, 1_000),
    (Scenario::Single, 10_000, 1_000),
    (Scenario::Backlog, 1_000, 100),
    (Scenario::Pipeline, 1_000, 100),
    (Scenario::Memory, 19_500, 100),
    (Scenario::Stalled, 100, 1_000),
    (Scenario::Fairness, 10_000, 100),
    (Scenario::Balance, 10_000, 100),
    (Scenario::Latency, 5_000, 100),
    (Scenario::Users, 10_000, 100),
    (Scenario::Storm, 19_500, 100),
];

/// Connections of a smoke run.
const SMOKE_CONNECTIONS: usize = 60;

impl Cell {
    /// The cells of the run. A size that is given replaces the scenario's own ones.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let mut cells: Vec<Self> = Vec::new();
        for (scenario, connections, bytes) in CELLS {
            if !options.includes(scenario) {
                continue;
            }
            let least = if options.is_smoke() {
                SMOKE_CONNECTIONS
            } else {
                usize::MAX
            };
            let cell = Self {
                scenario,
                connections: options.connections.unwrap_or(connections).min(least),
                bytes: options.bytes.unwrap_or(bytes),
                is_judged: false,
            };
            let is_own = CELLS.contains(&(scenario, cell.connections, cell.bytes));
            let cell = Self {
                is_judged: is_own,
                ..cell
            };
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }

    /// A name for files.
    pub(crate) fn key(&self) -> String {
        let scenario = format!("{:?}", self.scenario).to_lowercase();
        format!("{scenario}-{}-{}", self.connections, self.bytes)
    }

    pub(crate) fn title(&self) -> String {
        let what = match self.scenario {
            Scenario::Single => "one event at a time",
            Scenario::Backlog => "16 events outstanding",
            Scenario::Pipeline => "50 pipelined publishes, until all have them",
            Scenario::Memory => "user-space memory of idle connections",
            Scenario::Stalled => "a tenth of the clients stands still while 26 MB are sent",
            Scenario::Fairness => "a calm topic beside a saturated one",
            Scenario::Balance => "connections of 4 shards",
            Scenario::Latency => "5 events/s, from publish to receive",
            Scenario::Users => "a topic per user, publishes over HTTP",
            Scenario::Storm => "connecting as fast as possible",
            Scenario::All => "everything",
        };
        format!(
            "{}: {what}; {} connections, {} B",
            self.key(),
            self.connections,
            self.bytes
        )
    }

    /// What the ratios are taken to.
    pub(crate) fn floor(&self) -> Engine {
        match self.scenario {
            Scenario::Backlog | Scenario::Pipeline => Engine::BatchFloor,
            _ => Engine::SingleFloor,
        }
    }

    /// The figure that the ratios are taken of.
    pub(crate) fn main_metric(&self) -> Metric {
        match self.scenario {
            Scenario::Single | Scenario::Backlog | Scenario::All => Metric::Cpu,
            Scenario::Pipeline | Scenario::Latency => Metric::P50,
            Scenario::Memory => Metric::Idle,
            Scenario::Stalled => Metric::Growth,
            Scenario::Fairness => Metric::P99,
            Scenario::Balance => Metric::Spread,
            Scenario::Users => Metric::Rate,
            Scenario::Storm => Metric::CpuPerConnection,
        }
    }

    /// The engines that the scenario compares.
    pub(crate) fn engines(&self) -> &'static [Engine] {
        use Engine as E;
        match self.scenario {
            Scenario::Backlog | Scenario::Pipeline => &[
                E::BatchFloor,
                E::SingleFloor,
                E::FanfareReactor,
                E::FanfareServe,
                E::FanfareAxum,
                E::AxumFramed,
                E::AxumIdiomatic,
                E::Nchan,
            ],
            Scenario::Stalled => &[
                E::FanfareReactor,
                E::FanfareServe,
                E::FanfareAxum,
                E::AxumFramed,
            ],
            Scenario::Fairness => &[
                E::FanfareReactor,
                E::FanfareServe,
                E::FanfareAxum,
                E::AxumFramed,
                E::BatchFloor,
            ],
            Scenario::Balance => &[E::FanfareReactor, E::FanfareServe],
            Scenario::Users => &[
                E::SingleFloor,
                E::FanfareServe,
                E::FanfareAxum,
                E::AxumFramed,
                E::AxumIdiomatic,
            ],
            _ => &[
                E::SingleFloor,
                E::FanfareReactor,
                E::FanfareServe,
                E::FanfareAxum,
                E::AxumFramed,
                E::AxumIdiomatic,
                E::Nchan,
            ],
        }
    }
}

/// Measures `engine` once, on a server made for it.
pub(crate) fn run(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    match cell.scenario {
        Scenario::Single => deliver::single(cell, engine, options),
        Scenario::Backlog => deliver::backlog(cell, engine, options),
        Scenario::Pipeline => deliver::pipeline(cell, engine, options),
        Scenario::Memory => memory::idle(cell, engine, options),
        Scenario::Stalled => memory::stalled(cell, engine, options),
        Scenario::Fairness => fairness::run(cell, engine, options),
        Scenario::Balance => balance::run(cell, engine, options),
        Scenario::Latency => latency::run(cell, engine, options),
        Scenario::Users => users::run(cell, engine, options),
        Scenario::Storm => storm::run(cell, engine, options),
        Scenario::All => Ok(Values::new()),
    }
}

/// A count as a number to divide by.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// The value below which `part` of the values lie. Sorts them.
fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length is a length"
    )]
    let at = (float(values.len() as u64) * part) as usize;
    let last = values.len().saturating_sub(1);
    values.get(at.min(last)).copied().unwrap_or(f64::NAN)
}
