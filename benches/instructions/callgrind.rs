//! This program under callgrind: one case, and the instructions of its counted sections by object file.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::Failure;
use crate::cases::{Case, ROUNDS, SECTION};

/// Instructions of one round, on average.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    /// Of this program.
    pub(crate) own: f64,
    /// Of the system's libraries.
    pub(crate) system: f64,
}

#[derive(Debug)]
pub(crate) struct Valgrind(());

impl Valgrind {
    pub(crate) fn find() -> Option<Self> {
        let found = Command::new("valgrind")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found
            .is_ok_and(|status| status.success())
            .then_some(Self(()))
    }

    /// Runs `case` in a process of its own. What it counts is left in `keep`, if that is given.
    #[expect(clippy::unused_self, reason = "proves that valgrind is there")]
    pub(crate) fn count(&self, case: &Case, keep: Option<&Path>) -> Result<Counts, Failure> {
        let program = env::current_exe().map_err(Failure::io("the path of this program"))?;
        let name = case
            .name
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let directory = keep.map_or_else(env::temp_dir, Path::to_path_buf);
        let process = std::process::id();
        let file = match keep {
            Some(_) => directory.join(format!("callgrind.{name}.out")),
            None => directory.join(format!("fanfare-instructions.{process}.out")),
        };
        fs::create_dir_all(&directory).map_err(Failure::io(directory.display().to_string()))?;
        let run = Command::new("valgrind")
            .args([
                "--tool=callgrind",
                "--collect-atstart=no",
                "--compress-strings=no",
            ])
            .arg(format!("--toggle-collect=*{SECTION}*"))
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(&program)
            .args(["--case", case.name])
            .stdin(Stdio::null())
            .output()
            .map_err(Failure::io("valgrind"))?;
        let text = fs::read_to_string(&file);
        if keep.is_none() {
            // It may not have been written.
            drop(fs::remove_file(&file));
        }
        if !run.status.success() {
            return Err(Failure::Run {
                case: case.name.to_owned(),
                stderr: String::from_utf8_lossy(&run.stderr).into_owned(),
            });
        }
        let text = text.map_err(Failure::io(file.display().to_string()))?;
        let counts = sum(&text, &program);
        counts.map_err(|line| Failure::Counts {
            case: case.name.to_owned(),
            line,
        })
    }
}

/// Adds up what each object file spent itself. The error is the line that is not understood, or empty.
fn sum(text: &str, program: &Path) -> Result<Counts, String> {
    let (mut own, mut system) = (0, 0);
    let mut in_program = false;
    // The line after `calls=` tells what the called functions spent, which they tell themselves.
    let mut is_call = false;
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            in_program = Path::new(object) == program;
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !std::mem::take(&mut is_call)
        {
            let cost = line.split_ascii_whitespace().nth(1);
            let cost: u64 = cost.and_then(|cost| cost.parse().ok()).ok_or(line)?;
            *if in_program { &mut own } else { &mut system } += cost;
        }
    }
    if own == 0 {
        return Err(String::new());
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_round = |sum: u64| sum as f64 / f64::from(ROUNDS);
    Ok(Counts {
        own: per_round(own),
        system: per_round(system),
    })
}
