//! What this server takes at most. A request that asks for more is told the limit and its value.

use std::time::Duration;

/// Largest body of a request, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;

/// Longest time a body may take to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest name of a user, a run, a thread or a connection, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// Most runs that are remembered, and most tasks. One that is over makes room for the next.
pub(crate) const MAX_KEPT: usize = 128;

/// Most contexts of all users that are remembered; the oldest makes room.
pub(crate) const MAX_CONTEXTS: usize = 1024;

/// Most connections to one stream of one user.
pub(crate) const MAX_CONNECTIONS: usize = 64;

/// Most milliseconds between two events.
pub(crate) const MAX_PACE_MS: u64 = 10_000;

/// Most words that the agent writes when it is asked for some number of words.
pub(crate) const MAX_WORDS: usize = 5_000;

/// What the agent hears of a prompt, in characters.
pub(crate) const MAX_PROMPT_CHARS: usize = 2_000;

/// What a run's topic keeps for those who are behind: more than the longest run has, so that nobody lags within one.
pub(crate) const RETAIN_EVENTS: usize = MAX_WORDS + 1_000;
pub(crate) const RETAIN_BYTES: usize = 4 * 1024 * 1024;
