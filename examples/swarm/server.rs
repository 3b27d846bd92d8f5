//! What the system says about a process: time on its cores, and memory.

use std::fs;
use std::io;

use crate::failure::Failure;

/// At one moment, over all of the processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) resident_bytes: u64,
}

/// Adds up the processes; an error names the first that cannot be read.
pub(crate) fn sample(pids: &[u32]) -> Result<Sample, Failure> {
    let mut sum = Sample::default();
    for &pid in pids {
        let one = read(&format!("/proc/{pid}")).map_err(|error| Failure::Pid { pid, error })?;
        sum.user_seconds += one.user_seconds;
        sum.system_seconds += one.system_seconds;
        sum.resident_bytes += one.resident_bytes;
    }
    Ok(sum)
}

/// This process; `None` where there is no `/proc`.
pub(crate) fn own() -> Option<Sample> {
    read("/proc/self").ok()
}

fn read(directory: &str) -> io::Result<Sample> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "not in the form of Linux");
    let stat = fs::read_to_string(format!("{directory}/stat"))?;
    // The name, in parentheses, may have spaces and parentheses itself. User and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(strange)?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    let user = ticks().ok_or_else(strange)?;
    let system = ticks().ok_or_else(strange)?;
    let status = fs::read_to_string(format!("{directory}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    Ok(Sample {
        user_seconds: user / ticks_per_second(),
        system_seconds: system / ticks_per_second(),
        resident_bytes: resident.unwrap_or(0_u64) * 1024,
    })
}

#[cfg(unix)]
fn ticks_per_second() -> f64 {
    let ticks = rustix::param::clock_ticks_per_second();
    u32::try_from(ticks).map_or(100.0, f64::from)
}

#[cfg(not(unix))]
fn ticks_per_second() -> f64 {
    100.0
}
