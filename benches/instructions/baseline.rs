//! What the counts were when they were last accepted, and how far they may be from that.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::callgrind::Counts;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/baseline.json"
);

/// How far above its baseline a count may be, in percent, with the compiler that the baseline was made with.
const TOLERANCE: f64 = 3.0;
/// With another compiler, which is not pinned and inlines differently.
const TOLERANCE_ELSEWHERE: f64 = 10.0;
/// So many instructions more are always allowed: of a short operation a few percent is less than one spill.
const SLACK: f64 = 2.0;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The compiler that the counts are of.
    rustc: String,
    /// The architecture and system that they are of: others are not judged by them.
    target: String,
    /// Instructions of this program in one round, by case.
    instructions: BTreeMap<String, f64>,
    #[serde(skip)]
    here: Here,
}

/// What this run was built with.
#[derive(Debug)]
struct Here {
    rustc: String,
    target: String,
}

impl Default for Here {
    fn default() -> Self {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let version = Command::new(rustc).arg("--version").output();
        let version =
            version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Self {
            rustc: version.unwrap_or_default(),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        }
    }
}

impl Baseline {
    /// The committed one; an empty one if there is none yet.
    pub(crate) fn load() -> Result<Self, Failure> {
        match fs::read(FILE) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::io(FILE)(error)),
        }
    }

    fn is_foreign(&self) -> bool {
        self.target != self.here.target
    }

    fn tolerance(&self) -> f64 {
        if self.rustc == self.here.rustc {
            TOLERANCE
        } else {
            TOLERANCE_ELSEWHERE
        }
    }

    pub(crate) fn print_head(&self) {
        let Here { rustc, target } = &self.here;
        println!(
            "{target}, {rustc}; the baseline is of {}, {}",
            self.target, self.rustc
        );
        if self.is_foreign() {
            println!("the baseline is of another system: nothing is judged by it");
        } else {
            println!("tolerance: {} % and {SLACK} instructions", self.tolerance());
        }
        println!(
            "\n{:<44} {:>12} {:>12} {:>7}   {:>9}",
            "instructions of one round", "here", "baseline", "ratio", "(system)"
        );
    }

    /// Prints a row. Whether the count is within the tolerance, or below it.
    pub(crate) fn judge(&self, case: &str, counts: &Counts) -> bool {
        let Counts { own, system } = *counts;
        let Some(&before) = self.instructions.get(case) else {
            println!(
                "{case:<44} {own:>12.1} {:>12} {:>7}   {system:>9.1}  new",
                "-", "-"
            );
            return self.is_foreign();
        };
        let most = before * (1.0 + self.tolerance() / 100.0) + SLACK;
        let least = before * (1.0 - self.tolerance() / 100.0) - SLACK;
        let (verdict, fine) = match own {
            _ if self.is_foreign() => ("", true),
            own if own > most => ("  MORE", false),
            own if own < least => ("  fewer: accept them", true),
            _ => ("", true),
        };
        let ratio = own / before;
        println!("{case:<44} {own:>12.1} {before:>12.1} {ratio:>7.3}   {system:>9.1}{verdict}");
        fine
    }

    pub(crate) fn accept(&mut self, case: &str, counts: &Counts) {
        let rounded = (counts.own * 10.0).round() / 10.0;
        self.instructions.insert(case.to_owned(), rounded);
    }

    /// Writes it, as of the compiler and system of this run.
    pub(crate) fn store(&mut self) -> Result<(), Failure> {
        self.rustc.clone_from(&self.here.rustc);
        self.target.clone_from(&self.here.target);
        // What is no case any more is forgotten.
        self.instructions
            .retain(|name, _| crate::CASES.iter().any(|case| case.name == name));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(FILE, text).map_err(Failure::io(FILE))?;
        println!("\nwritten to {FILE}");
        Ok(())
    }
}
