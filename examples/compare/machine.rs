//! What ran this, as far as it can be found out without a build script.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;

use crate::engines;

/// What was not found out.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) system: String,
    /// What `rustc` on the path says of itself.
    pub(crate) rustc: String,
    pub(crate) commit: String,
    /// Without optimisation no figure means anything.
    pub(crate) optimised: bool,
}

impl Machine {
    pub(crate) fn look() -> Self {
        Self {
            cpu: cpu().unwrap_or_else(|| UNKNOWN.to_owned()),
            cores: engines::cores(),
            memory_bytes: meminfo("MemTotal"),
            system: system(),
            rustc: said(Command::new("rustc").arg("--version")),
            commit: said(
                Command::new("git")
                    .current_dir(root())
                    .args(["describe", "--always", "--dirty", "--tags"]),
            ),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// Bytes that processes can still take, where the system says so.
pub(crate) fn free_bytes() -> Option<u64> {
    meminfo("MemAvailable")
}

/// Where cargo found the package, or else here.
fn root() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn said(command: &mut Command) -> String {
    let output = command.output().ok().filter(|done| done.status.success());
    let text = output.and_then(|done| String::from_utf8(done.stdout).ok());
    text.map_or_else(|| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn meminfo(field: &str) -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with(field))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn system() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = format!(
        "{} {} {}",
        env::consts::OS,
        kernel.trim(),
        env::consts::ARCH
    );
    system.replace("  ", " ")
}
