//! One cell: engines take turns, round by round, and a table comes of it.
//!
//! An engine that takes long is measured less often, never left out: `rounds_within` says how often.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engines::interleave_some;
use crate::report::{Head, Row, Table};

/// What a turn should take at least: rounds of small cells are timed together.
const TURN: Duration = Duration::from_millis(20);

/// What an engine may take of one cell, in all its turns, unless fewer than [`FEW`] fit.
const BUDGET: Duration = Duration::from_millis(2_500);

/// The rounds of an engine that is slow, and of one whose single round takes as long as [`VERY_SLOW`].
const FEW: u32 = 3;
const VERY_SLOW: Duration = Duration::from_secs(5);

/// An engine in a cell.
pub(crate) struct Entry<'a> {
    pub(crate) engine: String,
    /// How often it is measured; the first entry, fanfare, as often as any other.
    pub(crate) rounds: u32,
    /// What the ratio of fanfare's time to its may be at most.
    pub(crate) limit: Option<f64>,
    /// Measures once, in the table's unit; or says why it cannot.
    pub(crate) turn: Result<Box<dyn FnMut() -> f64 + 'a>, String>,
}

/// How often an engine is measured of `rounds`, if a turn takes `turn`.
pub(crate) fn rounds_within(rounds: u32, turn: Duration, quick: bool) -> u32 {
    let budget = if quick { BUDGET / 16 } else { BUDGET };
    let very_slow = if quick { VERY_SLOW / 8 } else { VERY_SLOW };
    let least = if turn > very_slow { 1 } else { FEW };
    let turns = budget.as_nanos() / turn.as_nanos().max(1);
    let turns = u32::try_from(turns).unwrap_or(u32::MAX);
    turns.max(least).min(rounds)
}

/// How many rounds of `round` make a turn.
pub(crate) fn passes(round: Duration) -> u32 {
    let passes = TURN.as_nanos() / round.as_nanos().max(1);
    u32::try_from(passes).unwrap_or(u32::MAX).clamp(1, 500)
}

/// Measures `entries` in turns.
pub(crate) fn hold(head: Head, progress: &Progress, mut entries: Vec<Entry<'_>>) -> Table {
    let most = entries.iter().map(|entry| entry.rounds).max().unwrap_or(0);
    let mut rounds: Vec<u32> = entries
        .iter()
        .map(|entry| if entry.turn.is_ok() { entry.rounds } else { 0 })
        .collect();
    if let Some(ours) = rounds.first_mut() {
        *ours = most;
    }
    progress.cell(&head.title);
    let times = interleave_some(&rounds, &mut entries, |entry| {
        let time = match &mut entry.turn {
            Ok(turn) => turn(),
            Err(_) => f64::NAN,
        };
        progress.step(1);
        time
    });
    let left_out = rounds.iter().map(|rounds| most - rounds).sum::<u32>();
    progress.step(u64::from(left_out));
    let rows = entries
        .into_iter()
        .zip(&times)
        .enumerate()
        .map(|(index, (entry, row))| match entry.turn {
            Ok(_) => {
                let ours: &[f64] = if index > 0 { &times[0] } else { &[] };
                Row::new(entry.engine, row, ours, entry.limit)
            }
            Err(note) => Row::absent(entry.engine, note),
        })
        .collect();
    Table { head, rows }
}

/// A bar on stderr, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of `steps` turns.
    pub(crate) fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed:>4} {bar:30} {percent:>3} % {msg}")
        {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(crate) fn cell(&self, title: &str) {
        self.0.set_message(title.to_owned());
    }

    pub(crate) fn step(&self, turns: u64) {
        self.0.inc(turns);
    }

    /// Without the bar, so that it does not mix with what is printed.
    pub(crate) fn aside<T>(&self, f: impl FnOnce() -> T) -> T {
        self.0.suspend(f)
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
