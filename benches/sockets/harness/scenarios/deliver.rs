//! What a delivery costs, alone and with a backlog.

use std::time::Instant;

use super::stage::{Stage, cpu_per_delivery};
use super::{Cell, Metric, Values, percentile};
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};

/// Events outstanding in a backlog.
const BACKLOG: u64 = 16;

/// Publishes that are sent in one write.
const PIPELINE: u64 = 50;

/// The next event is published when all connections have the last.
pub(super) fn single(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::open(cell, engine, options)?;
    let (meter, _profile) = stage.begin(cell, engine, options)?;
    let start = Instant::now();
    let mut deliveries = 0;
    while start.elapsed().as_secs_f64() < options.seconds {
        deliveries += stage.deliver(1)?;
    }
    cpu_per_delivery(&meter, deliveries)
}

pub(super) fn backlog(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::open(cell, engine, options)?;
    let (meter, _profile) = stage.begin(cell, engine, options)?;
    let start = Instant::now();
    let deliveries = stage.deliver_many(cell.connections, BACKLOG, |_| {
        Ok(start.elapsed().as_secs_f64() >= options.seconds)
    })?;
    cpu_per_delivery(&meter, deliveries)
}

pub(super) fn pipeline(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::open(cell, engine, options)?;
    let (meter, _profile) = stage.begin(cell, engine, options)?;
    let start = Instant::now();
    let mut deliveries = 0;
    let mut times = Vec::new();
    while start.elapsed().as_secs_f64() < options.seconds {
        let begin = Instant::now();
        deliveries += stage.deliver(PIPELINE)?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let mut values = vec![
        (Metric::P50, percentile(&mut times, 0.5)),
        (Metric::P99, percentile(&mut times, 0.99)),
    ];
    values.extend(cpu_per_delivery(&meter, deliveries)?);
    Ok(values)
}
