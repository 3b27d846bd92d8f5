//! Why a connection failed, or ended before the run did.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::http::Malformed;

/// How often each reason occurred.
pub(crate) type Reasons = BTreeMap<Reason, u64>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Refused,
    NoPorts,
    NoFiles,
    TimedOut,
    Reset,
    NoHead,
    /// With the beginning of the body.
    Status(u16, String),
    ContentType(String),
    Encoding(String),
    NotHttp(Malformed),
    Ended,
    Truncated,
    Aborted,
    Garbled(Malformed),
    LineTooLong,
    System(String),
}

impl Reason {
    pub(crate) fn connecting(error: &io::Error) -> Self {
        #[cfg(unix)]
        {
            use rustix::io::Errno;

            let errno = error.raw_os_error();
            if [Errno::MFILE, Errno::NFILE]
                .map(|e| Some(e.raw_os_error()))
                .contains(&errno)
            {
                return Self::NoFiles;
            }
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::NoPorts,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::ConnectionReset => Self::Reset,
            _ => Self::System(error.to_string()),
        }
    }

    pub(crate) fn reading(error: &io::Error, is_open: bool) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if is_open => Self::Aborted,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::connecting(error),
        }
    }

    /// What the user can do about it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused => "is the server running, and does it keep up? --ramp opens more slowly",
            Self::NoPorts => {
                "no local port is free: give more local addresses with --source, e.g. 127.0.0.1-127.0.0.8"
            }
            Self::NoFiles => "raise `ulimit -n`",
            Self::TimedOut => {
                "a server has to send the response head before the first event; --connect-timeout waits longer"
            }
            Self::Reset | Self::NoHead => {
                "the server took the connection and dropped it: has it a limit of connections or descriptors?"
            }
            Self::Status(300..=399, _) => "give the URL that it points to",
            Self::Status(404, _) => "is the path right? The server's routes say which one streams",
            Self::Status(..) => "the server's answer says why",
            Self::ContentType(_) => "is this the route that streams? SSE is text/event-stream",
            Self::Encoding(_) => "compression was not asked for; switch it off for this route",
            Self::Aborted | Self::Ended | Self::Truncated => {
                "--reconnect opens streams again, as a browser does"
            }
            Self::NotHttp(_) | Self::Garbled(_) | Self::LineTooLong | Self::System(_) => {
                return None;
            }
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::NoPorts => f.write_str("no local address or port available"),
            Self::NoFiles => f.write_str("out of file descriptors"),
            Self::TimedOut => f.write_str("no response head in time"),
            Self::Reset => f.write_str("reset before the response head"),
            Self::NoHead => f.write_str("closed before the response head"),
            Self::Status(status, sample) if sample.is_empty() => write!(f, "answered {status}"),
            Self::Status(status, sample) => write!(f, "answered {status}: {sample}"),
            Self::ContentType(found) if found.is_empty() => {
                f.write_str("not an SSE response: no content type")
            }
            Self::ContentType(found) => write!(f, "not an SSE response: content type {found}"),
            Self::Encoding(found) => write!(f, "content encoding {found}"),
            Self::NotHttp(why) => write!(f, "{why}"),
            Self::Ended => f.write_str("the server ended the stream"),
            Self::Truncated => f.write_str("closed in the middle of the response"),
            Self::Aborted => f.write_str("the stream was reset"),
            Self::Garbled(why) => write!(f, "garbled: {why}"),
            Self::LineTooLong => f.write_str("a line of more than 4 MiB"),
            Self::System(text) => f.write_str(text),
        }
    }
}
