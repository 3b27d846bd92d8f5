//! The command line, and the settings that come of it.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::engines;

/// fanfare beside other in-process broadcasters, in one interleaved run.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub(crate) struct Options {
    /// Subscribers of one topic, 1 to 1,000,000 each [default: 1,10,100,1000,10000,100000]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count::<1, 1_000_000>)]
    subscribers: Vec<u32>,

    /// Events published back to back, 1 to 512 each [default: 1,16,256]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count::<1, 512>)]
    bursts: Vec<u32>,

    /// Topics of `users`, each with one subscriber, 1,000 to 1,000,000 [default: 100000]
    #[arg(long, value_name = "N", value_parser = count::<1_000, 1_000_000>)]
    topics: Option<u32>,

    /// Threads that publish in `users`, 1 to 64 [default: 2]
    #[arg(long, value_name = "N", value_parser = count::<1, 64>)]
    publishers: Option<u32>,

    /// Subscribers parked in `publish`, 1 to 1,000,000 [default: 10000]
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>)]
    parked: Option<u32>,

    /// Times that everything is measured, 1 to 1,000; an engine that takes long is measured less often [default: 11]
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000>)]
    rounds: Option<u32>,

    /// Worker threads of the runtime, and shards [default: one for each core]
    #[arg(long, value_name = "N", value_parser = count::<1, 512>)]
    workers: Option<u32>,

    /// What to measure [default: all]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    only: Vec<Question>,

    /// Smaller and fewer, in less than half a minute; says little about medians
    #[arg(long)]
    quick: bool,

    /// Write the tables to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a chart of `fan-out` to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Measure memory in this process and print it; what `memory` starts.
    #[arg(long, value_name = "JOB", hide = true)]
    pub(crate) memory_child: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// Time per delivery until all have received, a task per subscriber
    FanOut,
    /// The same, a task per core
    Shards,
    /// Time per publish over many topics with one subscriber each, delivery included
    Users,
    /// Time of a subscribe and a drop beside 1,000 others
    Churn,
    /// Time until `publish` returns, subscribers parked
    Publish,
    /// Bytes per subscriber and per user
    Memory,
}

/// What a run does.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    pub(crate) questions: Vec<Question>,
    pub(crate) subscribers: Vec<u32>,
    pub(crate) bursts: Vec<u32>,
    pub(crate) topics: u32,
    pub(crate) publishers: u32,
    pub(crate) parked: u32,
    pub(crate) rounds: u32,
    pub(crate) workers: usize,
    pub(crate) quick: bool,
}

impl Options {
    pub(crate) fn settings(&self) -> Settings {
        let list = |given: &[u32], full: &[u32], quick: &[u32]| {
            let mut list = match (given, self.quick) {
                ([], true) => quick.to_vec(),
                ([], false) => full.to_vec(),
                (given, _) => given.to_vec(),
            };
            list.sort_unstable();
            list.dedup();
            list
        };
        let number = |given: Option<u32>, full, quick| {
            given.unwrap_or(if self.quick { quick } else { full })
        };
        let mut questions = self.only.clone();
        if questions.is_empty() {
            questions = Question::value_variants().to_vec();
        }
        Settings {
            questions,
            subscribers: list(
                &self.subscribers,
                &[1, 10, 100, 1_000, 10_000, 100_000],
                &[1, 100, 10_000],
            ),
            bursts: list(&self.bursts, &[1, 16, 256], &[1, 16]),
            topics: number(self.topics, 100_000, 20_000),
            publishers: number(self.publishers, 2, 2),
            parked: number(self.parked, 10_000, 10_000),
            rounds: number(self.rounds, 11, 3),
            workers: self.workers.map_or_else(engines::cores, crate::size),
            quick: self.quick,
        }
    }
}

impl Settings {
    pub(crate) fn asks(&self, question: Question) -> bool {
        self.questions.contains(&question)
    }

    /// The most subscribers of one topic.
    pub(crate) fn most(&self) -> u32 {
        self.subscribers.last().copied().unwrap_or(1)
    }
}

/// A number from `LEAST` to `MOST`; `_` may part its digits.
fn count<const LEAST: u32, const MOST: u32>(text: &str) -> Result<u32, String> {
    let number = u32::from_str(&text.replace('_', ""));
    let number = number.map_err(|error| format!("not a number: {error}"))?;
    if (LEAST..=MOST).contains(&number) {
        return Ok(number);
    }
    let (least, most) = (grouped(LEAST), grouped(MOST));
    Err(format!("it must be {least} to {most}"))
}

/// With a comma between thousands.
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
