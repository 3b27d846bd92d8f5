//! From publish to receive, when the server has time.

use std::time::{Duration, Instant};

use super::stage::{Stage, cpu_per_delivery};
use super::{Cell, Metric, Values, percentile};
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};

const INTERVAL: Duration = Duration::from_millis(200);

/// A rate this low needs a longer look.
const LONGER: f64 = 3.0;

pub(super) fn run(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::open(cell, engine, options)?;
    let (meter, _profile) = stage.begin(cell, engine, options)?;
    let start = Instant::now();
    let mut latencies = Vec::new();
    let mut due = start;
    while due.duration_since(start).as_secs_f64() < options.seconds * LONGER {
        while Instant::now() < due {
            // Keeps the client awake, as it is while it reads.
            stage.client.poll(Some(Duration::ZERO), &mut |_| ())?;
        }
        due += INTERVAL;
        let published = Instant::now();
        stage.server.publisher.publish(0, stage.next, stage.bytes)?;
        stage.next += 1;
        let before = latencies.len();
        let wanted = before + cell.connections;
        stage.client.poll_until(
            &mut latencies,
            |latencies, _| latencies.push(published.elapsed().as_secs_f64() * 1e3),
            |latencies| latencies.len() == wanted,
            |latencies| format!("{} of one event's deliveries", wanted - latencies.len()),
        )?;
    }
    let mut values = vec![
        (Metric::P50, percentile(&mut latencies, 0.5)),
        (Metric::P99, percentile(&mut latencies, 0.99)),
    ];
    values.extend(cpu_per_delivery(&meter, latencies.len() as u64)?);
    Ok(values)
}
