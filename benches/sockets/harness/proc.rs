//! What the system says about processes: time on a core, memory, sockets.

use std::fs;
use std::process::Command;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::failure::{During as _, Failure};

/// Keeps the calling thread, and those that it starts, on `core`.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).during("pinning to a core")
}

/// Nanoseconds that the threads of `pid` have been on a core.
pub(crate) fn cpu_nanoseconds(pid: u32) -> Result<u64, Failure> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).during("listing a server's threads")? {
        let path = task.during("listing a server's threads")?.path();
        // A thread may end between the listing and the look.
        if let Ok(text) = fs::read_to_string(path.join("schedstat")) {
            sum += first_number("schedstat", &text)?;
        }
    }
    Ok(sum)
}

/// Seconds that all cores together were busy since the system started, in hundredths.
pub(crate) fn busy_seconds() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/stat").during("reading the cores' times")?;
    // user, nice, system, idle, iowait, irq, softirq, steal: in hundredths of a second.
    let fields = text.split_ascii_whitespace().skip(1).take(8).enumerate();
    let mut sum = 0.0;
    for (at, field) in fields.filter(|(at, _)| !(3..=4).contains(at)) {
        let ticks: u32 = field.parse().map_err(|_| Failure::Number {
            what: "stat",
            text: format!("{field} (field {at})"),
        })?;
        sum += f64::from(ticks) / 100.0;
    }
    Ok(sum)
}

/// Bytes of memory of `pid` that no file backs, counted page by page.
pub(crate) fn anonymous_bytes(pid: u32) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .during("reading a server's memory")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    Ok(first_number("smaps_rollup", line.unwrap_or_default())? * 1024)
}

/// The processes that `parent` started.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>, Failure> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").during("listing processes")? {
        let name = entry.during("listing processes")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let found = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if found.and_then(|pid| pid.trim().parse().ok()) == Some(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

fn first_number(what: &'static str, text: &str) -> Result<u64, Failure> {
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    word.parse().map_err(|_| Failure::Number {
        what,
        text: text.to_owned(),
    })
}

/// What the kernel keeps for sockets, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SocketMemory {
    /// All that is accounted to the sockets: queued, and allocated ahead.
    pub(crate) held: u64,
    /// Of the socket that may hold most: the limit of its send queue, which is twice what `SO_SNDBUF` was set to.
    pub(crate) send_limit: u64,
}

/// The memory of the connections accepted on `port`, as `ss` of iproute2 shows it. `None` where it is not installed.
pub(crate) fn socket_memory(port: u16) -> Option<SocketMemory> {
    let output = Command::new("ss")
        .args([
            "-tnmH",
            "state",
            "established",
            "sport",
            "=",
            &format!(":{port}"),
        ])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut sum = SocketMemory::default();
    for skmem in text.split("skmem:(").skip(1) {
        for field in skmem.split(')').next()?.split(',') {
            let digits = field.find(|byte: char| byte.is_ascii_digit())?;
            let (name, value) = field.split_at(digits);
            let value: u64 = value.parse().ok()?;
            match name {
                // Received, allocated ahead, in the send queue, options, backlog.
                "r" | "f" | "w" | "o" | "bl" => sum.held += value,
                "tb" => sum.send_limit = sum.send_limit.max(value),
                _ => {}
            }
        }
    }
    Some(sum)
}

/// The model of the processor, and the number of cores.
pub(crate) fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = text
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| line.split(": ").nth(1));
    let model = models.next().unwrap_or("unknown processor").to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{model}, {} cores, Linux {}",
        models.count() + 1,
        kernel.trim()
    )
}

/// Processes that ran in the last minute, on average: a core that others use measures them too.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.unwrap_or("unknown").to_owned()
}

/// The commit of the sources, with a plus if they were changed since.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let hash = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    let changed = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
    format!("{}{}", hash.trim(), if changed { "+" } else { "" })
}
