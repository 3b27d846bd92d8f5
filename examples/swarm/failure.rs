//! Why a run cannot begin or end, in words that say what to do.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot use the URL {url:?}: {why}; an example is http://127.0.0.1:8080/events/news")]
    Url { url: String, why: &'static str },
    #[error(
        "cannot use {0:?}: TLS is not supported, it would measure the cipher of this program; use the server's \
         plain port, or put a proxy that ends TLS in front of this program (socat, stunnel) and give http://"
    )]
    Tls(String),
    #[error("cannot find the host {host:?}: {error}; check the name, or give an IP address")]
    Resolve { host: String, error: io::Error },
    #[error("nobody answers at {authority}: {error}; is the server running, and on this port?")]
    Connect { authority: String, error: io::Error },
    #[error("{0}")]
    Options(String),
    #[error(
        "this run needs {needs} file descriptors and the limit is {has}: run {command} in this shell first, or ask for at \
         most {fits} connections with --connections {fits}",
        command = raise(*needs, *is_hard)
    )]
    Files {
        needs: u64,
        has: u64,
        /// Whether the limit cannot be raised without root.
        is_hard: bool,
        fits: u64,
    },
    #[error(
        "cannot read /proc/{pid}: {error}; --pid takes the id of a running process of this machine, on Linux only"
    )]
    Pid { pid: u32, error: io::Error },
    #[error("cannot write {}: {why}", file.display())]
    Write { file: PathBuf, why: String },
    #[error("{what}: {error}")]
    Io {
        what: &'static str,
        error: io::Error,
    },
}

/// Says what was being done when the system refused.
pub(crate) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Io { what, error })
    }
}

/// The command that raises the limit of the shell that it is typed into.
fn raise(needs: u64, is_hard: bool) -> String {
    if is_hard {
        format!(
            "`sudo prlimit --pid $$ --nofile={needs}:{needs}` (the hard limit is as low, and only root can raise it)"
        )
    } else {
        format!("`ulimit -n {needs}`")
    }
}
