//! What fanfare is held to, at the scenarios' own sizes.

use super::{Cell, Metric};
use crate::harness::options::{Engine, Scenario};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// `metric` of `engine`, absolute or as a ratio to that of another engine in the same repetition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    pub(crate) metric: Metric,
    pub(crate) engine: Engine,
    pub(crate) to: Option<Engine>,
    pub(crate) bound: Bound,
}

/// The reactor's two ways in.
const REACTOR: [Engine; 2] = [Engine::FanfareReactor, Engine::FanfareServe];

/// Least memory that a topic may keep by default and give back only to a reader that is behind: the retention, one
/// segment more, and the rest of a frame for each of ten clients.
#[expect(clippy::cast_precision_loss, reason = "a few KiB")]
const fn retention_kib(cell: &Cell) -> f64 {
    1024.0 + 64.0 + (cell.connections / 10 * cell.bytes) as f64 / 1024.0
}

impl Cell {
    pub(crate) fn limits(&self) -> Vec<Limit> {
        use Bound::{AtLeast, AtMost};
        use Engine::{
            AxumFramed, AxumIdiomatic, BatchFloor, FanfareAxum, FanfareServe, SingleFloor,
        };

        if !self.is_judged {
            return Vec::new();
        }
        let mut limits = Vec::new();
        let mut reactor = |metric, to, bound| {
            limits.extend(REACTOR.map(|engine| Limit {
                metric,
                engine,
                to,
                bound,
            }));
        };
        match self.scenario {
            Scenario::Single => {
                let (floor, idiomatic) = if self.connections <= 1_000 {
                    (1.1, 0.6)
                } else {
                    (1.2, 0.5)
                };
                reactor(Metric::Cpu, Some(SingleFloor), AtMost(floor));
                reactor(Metric::Cpu, Some(AxumIdiomatic), AtMost(idiomatic));
            }
            Scenario::Backlog => reactor(Metric::Cpu, Some(BatchFloor), AtMost(1.2)),
            Scenario::Pipeline => reactor(Metric::P50, Some(BatchFloor), AtMost(1.4)),
            Scenario::Memory => {
                reactor(Metric::Idle, None, AtMost(128.0));
                reactor(Metric::Used, None, AtMost(128.0));
            }
            Scenario::Stalled => {
                reactor(Metric::Growth, None, AtMost(retention_kib(self)));
                reactor(Metric::KernelPerBuffer, None, AtMost(2.0));
            }
            Scenario::Fairness => {
                reactor(Metric::P99, None, AtMost(20.0));
                reactor(Metric::Kept, None, AtLeast(0.95));
            }
            Scenario::Balance => reactor(Metric::Spread, None, AtMost(0.05)),
            Scenario::Latency => {
                reactor(Metric::P50, Some(SingleFloor), AtMost(1.1));
                reactor(Metric::P99, Some(SingleFloor), AtMost(1.1));
            }
            Scenario::Storm => {
                reactor(Metric::CpuPerConnection, Some(SingleFloor), AtMost(1.15));
                reactor(Metric::ConnectRate, Some(SingleFloor), AtLeast(0.85));
            }
            Scenario::Users | Scenario::All => {}
        }
        let mut one = |engine, metric, to, bound| {
            limits.push(Limit {
                metric,
                engine,
                to: Some(to),
                bound,
            });
        };
        match self.scenario {
            Scenario::Single | Scenario::Backlog => {
                one(FanfareAxum, Metric::Cpu, AxumFramed, AtMost(0.95));
            }
            Scenario::Users => {
                one(FanfareServe, Metric::Rate, SingleFloor, AtLeast(0.75));
                one(FanfareServe, Metric::Rate, AxumFramed, AtLeast(1.1));
            }
            _ => {}
        }
        limits
    }
}
