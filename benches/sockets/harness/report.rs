//! Medians, ratios within repetitions, limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::failure::{During as _, Failure};
use super::options::{Engine, Options};
use super::proc;
use super::scenarios::{Bound, Cell, Limit, Metric, Values};

#[derive(Debug)]
pub(crate) struct Report {
    /// In the order of the repetitions.
    figures: BTreeMap<(Cell, Engine, Metric), BTreeMap<usize, f64>>,
    verdicts: Vec<Value>,
    failures: usize,
    not_held: usize,
    judges: bool,
}

impl Report {
    pub(crate) fn begin(options: &Options) -> Self {
        println!(
            "{}; commit {}; {} repetitions; congestion control {}; load before {}",
            proc::machine(),
            proc::commit(),
            options.reps,
            options.congestion,
            proc::load()
        );
        Self {
            figures: BTreeMap::new(),
            verdicts: Vec::new(),
            failures: 0,
            not_held: 0,
            judges: !options.is_smoke(),
        }
    }

    pub(crate) fn add(
        &mut self,
        cell: &Cell,
        engine: Engine,
        rep: usize,
        outcome: Result<Values, Failure>,
    ) {
        match outcome {
            Ok(values) => {
                for (metric, value) in values {
                    self.figures
                        .entry((cell.clone(), engine, metric))
                        .or_default()
                        .insert(rep, value);
                }
            }
            Err(failure) => {
                self.failures += 1;
                println!(
                    "FAILED {} {engine}, repetition {rep}: {failure}",
                    cell.key()
                );
            }
        }
    }

    /// The table of a cell and what became of its limits.
    pub(crate) fn print(&mut self, cell: &Cell) {
        println!("\n{}", cell.title());
        let metrics: BTreeSet<Metric> = self
            .figures
            .keys()
            .filter(|(of, ..)| of == cell)
            .map(|(.., metric)| *metric)
            .collect();
        let (floor, main) = (cell.floor(), cell.main_metric());
        print!("  {:<16}", "");
        for metric in &metrics {
            print!("{:>17}", metric.title());
        }
        println!("   {} / {floor}", main.title());
        for engine in Engine::value_variants() {
            let of = |metric| self.figures.get(&(cell.clone(), *engine, metric));
            if metrics.iter().all(|metric| of(*metric).is_none()) {
                continue;
            }
            print!("  {engine:<16}");
            for metric in &metrics {
                let values: Vec<f64> = of(*metric).into_iter().flatten().map(|(_, v)| *v).collect();
                print!("{:>17}", figure(median(&values)));
            }
            println!("   {}", spread(&self.ratios(cell, main, *engine, floor)));
        }
        for limit in cell.limits() {
            self.judge(cell, limit);
        }
    }

    /// The repetitions' ratios of one engine's figure to another's.
    fn ratios(&self, cell: &Cell, metric: Metric, engine: Engine, to: Engine) -> Vec<f64> {
        let of = |engine| self.figures.get(&(cell.clone(), engine, metric));
        let (Some(figures), Some(others)) = (of(engine), of(to)) else {
            return Vec::new();
        };
        figures
            .iter()
            .filter_map(|(rep, value)| Some(value / others.get(rep)?))
            .collect()
    }

    fn judge(&mut self, cell: &Cell, limit: Limit) {
        let Limit {
            metric,
            engine,
            to,
            bound,
        } = limit;
        let values = match to {
            Some(to) => self.ratios(cell, metric, engine, to),
            None => self
                .figures
                .get(&(cell.clone(), engine, metric))
                .into_iter()
                .flatten()
                .map(|(_, value)| *value)
                .collect(),
        };
        if values.is_empty() || !self.judges {
            return;
        }
        let value = median(&values);
        let holds = bound.holds(value);
        self.not_held += usize::from(!holds);
        let to = to.map_or(String::new(), |to| format!(" / {to}"));
        let what = format!("{engine}{to}, {}", metric.title());
        let (word, edge) = match bound {
            Bound::AtMost(edge) => ("at most", edge),
            Bound::AtLeast(edge) => ("at least", edge),
        };
        let verdict = if holds { "ok" } else { "MISS" };
        println!(
            "    {verdict:<4} {what}: {}, {word} {}",
            spread(&values),
            figure(edge)
        );
        self.verdicts.push(json!({
            "cell": cell.key(), "limit": what, "value": value, "values": values, "bound": word, "edge": edge, "holds": holds,
        }));
    }

    /// Writes what was asked for; whether all went well.
    pub(crate) fn finish(self, options: &Options) -> Result<bool, Failure> {
        if self.judges && self.not_held + self.failures > 0 {
            println!(
                "\n{} limits do not hold, {} measurements failed",
                self.not_held, self.failures
            );
        }
        if let Some(file) = &options.json {
            let figures: Vec<Value> = self
                .figures
                .iter()
                .map(|((cell, engine, metric), values)| {
                    json!({
                        "cell": cell.key(),
                        "engine": engine.to_string(),
                        "metric": metric.title(),
                        "median": median(&values.values().copied().collect::<Vec<_>>()),
                        "values": values,
                    })
                })
                .collect();
            let text = json!({
                "machine": proc::machine(),
                "commit": proc::commit(),
                "reps": options.reps,
                "figures": figures,
                "limits": self.verdicts,
            });
            fs::write(file, format!("{text:#}\n")).during("writing the figures")?;
        }
        Ok(self.failures == 0 && (self.not_held == 0 || !options.check))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Median, least and greatest.
fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        0 => String::new(),
        1 => figure(values[0]),
        _ => format!(
            "{} [{}–{}]",
            figure(median(values)),
            figure(least),
            figure(most)
        ),
    }
}

/// Three digits or so.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "-".to_owned(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
