//! How many connections this process may have.

use crate::failure::Failure;

/// Descriptors beside the connections: the polls, the output files, the system's own.
const SPARE: u64 = 32;

/// Raises the soft limit as far as it may be raised, and refuses what does not fit.
#[cfg(unix)]
pub(crate) fn allow(connections: usize, publishers: usize) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let others = SPARE + publishers as u64;
    let needs = connections as u64 + others;
    let limit = getrlimit(Resource::Nofile);
    let has = limit.current.unwrap_or(u64::MAX);
    if has >= needs {
        return Ok(());
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let wanted = Rlimit {
        current: Some(needs.min(hard)),
        maximum: limit.maximum,
    };
    if hard >= needs && setrlimit(Resource::Nofile, wanted).is_ok() {
        return Ok(());
    }
    let has = if hard < needs { hard } else { has };
    Err(Failure::Files {
        needs,
        has,
        is_hard: hard < needs,
        fits: has.saturating_sub(others),
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same as on Unix")]
pub(crate) fn allow(_connections: usize, _publishers: usize) -> Result<(), Failure> {
    Ok(())
}
