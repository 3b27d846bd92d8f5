//! Tables: for people on the terminal, for programs as JSON.

use std::fmt::{self, Write as _};

use comfy_table::{CellAlignment, Table as Grid, TableComponent, presets};
use serde::Serialize;

use crate::args::{Question, Settings, grouped};
use crate::engines::{median, ratios};
use crate::machine::Machine;

/// Everything a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    pub(crate) tables: Vec<Table>,
}

/// One cell of a question: its engines, fanfare first.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Head {
    pub(crate) question: Question,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// Subscribers, topics or others: what the title says.
    pub(crate) size: u32,
    /// Events published back to back.
    pub(crate) burst: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "ns per delivery")]
    Delivery,
    #[serde(rename = "ns per publish")]
    Publish,
    #[serde(rename = "ns per subscribe and drop")]
    Membership,
    #[serde(rename = "bytes")]
    Bytes,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) engine: String,
    /// In the table's unit; absent if it was not measured.
    pub(crate) value: Option<Spread>,
    /// How often it was measured.
    pub(crate) rounds: usize,
    /// fanfare's value as a part of this one, each taken within its round; none for fanfare itself.
    pub(crate) ratio: Option<Spread>,
    /// What the ratio may be at most.
    pub(crate) limit: Option<f64>,
    pub(crate) holds: Option<bool>,
    /// Why it was not measured.
    pub(crate) note: Option<String>,
}

/// What rounds gave.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: median(values),
            least: values.iter().copied().reduce(f64::min)?,
            most: values.iter().copied().reduce(f64::max)?,
        })
    }
}

impl Row {
    /// `values` of `engine` beside `ours`, which are fanfare's; nothing if this is fanfare.
    pub(crate) fn new(
        engine: impl Into<String>,
        values: &[f64],
        ours: &[f64],
        limit: Option<f64>,
    ) -> Self {
        let ratio = Spread::of(&ratios(ours, values));
        Self {
            engine: engine.into(),
            value: Spread::of(values),
            rounds: values.len(),
            ratio,
            limit,
            holds: limit.zip(ratio).map(|(limit, ratio)| ratio.median <= limit),
            note: None,
        }
    }

    pub(crate) fn absent(engine: impl Into<String>, note: String) -> Self {
        Self {
            engine: engine.into(),
            value: None,
            rounds: 0,
            ratio: None,
            limit: None,
            holds: None,
            note: Some(note),
        }
    }
}

impl Report {
    /// How many limits hold, and how many do not.
    pub(crate) fn verdicts(&self) -> (usize, usize) {
        let rows = self.tables.iter().flat_map(|table| &table.rows);
        let verdicts: Vec<bool> = rows.filter_map(|row| row.holds).collect();
        let held = verdicts.iter().filter(|holds| **holds).count();
        (held, verdicts.len() - held)
    }
}

/// What a run is about to do, and on what.
pub(crate) fn heading(machine: &Machine, settings: &Settings) -> String {
    let list = |list: &[u32]| {
        let texts: Vec<_> = list.iter().map(grouped).collect();
        texts.join(" ")
    };
    let memory = machine.memory_bytes.map_or_else(String::new, |bytes| {
        format!(", {} GiB", bytes.div_ceil(1 << 30))
    });
    let mut text = format!(
        "machine      {}, {} cores{memory}, {}\n\
         program      {}, commit {}\n\
         subscribers  {}; bursts of {}\n\
         settings     {} workers, {} rounds, {} topics, {} publishers, {} parked{}\n\
         ratio        fanfare's figure as a part of the peer's, within each round: below 1 fanfare takes less\n",
        machine.cpu,
        machine.cores,
        machine.system,
        machine.rustc,
        machine.commit,
        list(&settings.subscribers),
        list(&settings.bursts),
        settings.workers,
        settings.rounds,
        grouped(settings.topics),
        settings.publishers,
        grouped(settings.parked),
        if settings.quick { ", quick" } else { "" },
    );
    if !machine.optimised {
        text.push_str("warning      built without --release: no figure means anything\n");
    }
    text
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = self.head.unit != Unit::Bytes;
        let mut grid = Grid::new();
        grid.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        grid.remove_style(TableComponent::HorizontalLines);
        grid.remove_style(TableComponent::MiddleIntersections);
        let mut header = vec!["engine", self.head.unit.name()];
        if timed {
            header.extend(["min–max", "per second", "rounds"]);
        }
        header.push("ratio");
        if timed {
            header.push("min–max");
        }
        header.extend(["limit", ""]);
        grid.set_header(header);
        for row in &self.rows {
            grid.add_row(row.cells(timed));
        }
        for column in grid.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "\n{}", self.head.title)?;
        for line in grid.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        for row in &self.rows {
            if let Some(note) = &row.note {
                writeln!(f, "  {}: {note}", row.engine)?;
            }
        }
        Ok(())
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Delivery => "ns/delivery",
            Self::Publish => "ns/publish",
            Self::Membership => "ns/subscribe+drop",
            Self::Bytes => "bytes",
        }
    }
}

impl Row {
    fn cells(&self, timed: bool) -> Vec<String> {
        let median = |spread: &Spread| figure(spread.median);
        let range = |spread: &Spread| {
            let (least, most) = (figure(spread.least), figure(spread.most));
            format!("{least}–{most}")
        };
        let text = |spread: &Option<Spread>, show: &dyn Fn(&Spread) -> String| {
            spread.as_ref().map_or_else(|| "–".to_owned(), show)
        };
        let mut cells = vec![self.engine.clone(), text(&self.value, &median)];
        if timed {
            cells.push(text(&self.value, &range));
            cells.push(text(&self.value, &|spread| rate(1e9 / spread.median)));
            cells.push(self.rounds.to_string());
        }
        let ratio = |spread: &Spread| fraction(spread.median);
        cells.push(text(&self.ratio, &ratio));
        if timed {
            cells.push(text(&self.ratio, &|spread| {
                let (least, most) = (fraction(spread.least), fraction(spread.most));
                format!("{least}–{most}")
            }));
        }
        cells.push(self.limit.map_or_else(String::new, |limit| {
            let mut text = String::from("≤ ");
            // Writing to a string does not fail.
            let _ = write!(text, "{}", (limit * 1e4).round() / 1e4);
            text
        }));
        cells.push(match self.holds {
            None => String::new(),
            Some(true) => "ok".to_owned(),
            Some(false) => "MISS".to_owned(),
        });
        cells
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => grouped(format!("{value:.0}")),
    }
}

fn fraction(value: f64) -> String {
    match value.abs() {
        small if small < 0.1 => format!("{value:.4}"),
        _ => format!("{value:.3}"),
    }
}

fn rate(value: f64) -> String {
    match value {
        billions if billions >= 1e9 => format!("{:.2} G", billions / 1e9),
        millions if millions >= 1e6 => format!("{:.2} M", millions / 1e6),
        thousands => format!("{:.1} k", thousands / 1e3),
    }
}
