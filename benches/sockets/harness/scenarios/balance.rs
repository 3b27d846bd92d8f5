//! How evenly connections are dealt to shards.

use super::stage::Stage;
use super::{Cell, Metric, Values, float};
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};
use crate::harness::servers::Setup;

const SHARDS: usize = 4;

pub(super) fn run(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let setup = Setup {
        shards: SHARDS,
        ..options.setup()
    };
    let mut stage = Stage::bare(cell, engine, &setup)?;
    stage.connect(cell.connections)?;
    stage.warm_up()?;
    let counts = stage.server.publisher.shards()?;
    let sum: u64 = counts.iter().sum();
    if counts.len() != SHARDS || sum != cell.connections as u64 {
        return Err(Failure::Protocol {
            line: format!("{counts:?}"),
        });
    }
    let spread = counts.iter().max().zip(counts.iter().min());
    let spread = spread.map_or(0, |(most, least)| most - least);
    let mean = float(sum) / float(SHARDS as u64);
    Ok(vec![(Metric::Spread, float(spread) / mean)])
}
