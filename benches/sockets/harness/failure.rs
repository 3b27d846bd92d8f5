//! Why a measurement has no figure.

use std::io;

use super::options::Engine;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{what}: {error}")]
    Io {
        what: &'static str,
        #[source]
        error: io::Error,
    },
    #[error("connection {connection} got event {got} where {expected} was next: {}", if got > expected { "lost" } else { "twice or out of order" })]
    Disorder {
        connection: usize,
        expected: u64,
        got: u64,
    },
    #[error("connection {connection} got bytes that are no event")]
    Garbled { connection: usize },
    #[error("the server closed connection {connection}")]
    Closed { connection: usize },
    #[error("the server answered {head:?}")]
    Refused { head: String },
    #[error("nothing came for {seconds} s; missing: {missing}")]
    Stuck { seconds: u64, missing: String },
    #[error("{engine} is not built in: enable the feature `{feature}`")]
    #[cfg_attr(
        all(feature = "reactor", feature = "serve"),
        expect(dead_code, reason = "everything is built in")
    )]
    NotBuilt {
        engine: Engine,
        feature: &'static str,
    },
    #[error("{engine} did not start: {why}")]
    Start { engine: Engine, why: String },
    #[error("the server said {line:?}")]
    Protocol { line: String },
    #[error("{what} has no number where one was expected: {text:?}")]
    Number { what: &'static str, text: String },
}

/// Says what was being done when the system refused.
pub(crate) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Io {
            what,
            error: error.into(),
        })
    }
}
