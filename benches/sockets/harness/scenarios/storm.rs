//! Connecting as fast as possible: request to response head. One that fails ends the measurement.

use super::stage::Stage;
use super::{Cell, Metric, Values, float};
use crate::harness::client::Wanted;
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};

pub(super) fn run(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::bare(cell, engine, &options.setup())?;
    let wanted = std::iter::repeat_n(Wanted::topic(0), cell.connections);
    let prepared = stage.client.prepare(wanted)?;
    let (meter, _profile) = stage.begin(cell, engine, options)?;
    stage.client.connect(stage.server.address, prepared)?;
    let used = meter.read()?;
    // All of them are there and alive.
    stage.deliver(1)?;
    let connections = float(cell.connections as u64);
    Ok(vec![
        (Metric::CpuPerConnection, used.cpu * 1e6 / connections),
        (Metric::ConnectRate, connections / used.wall),
        (Metric::Busy, used.busy()),
        (Metric::Others, used.others()),
    ])
}
