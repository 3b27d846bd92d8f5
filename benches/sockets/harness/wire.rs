//! What goes over the sockets: events that carry their number, and the lines of the control connection.
//!
//! **Invariant.** W1: [`MARK`] occurs nowhere but before an event's number: not in heads, chunk sizes, ids or comments. So
//! the reader finds every event whatever the server wraps around it.

use std::fmt::Write as _;

/// Stands before the number of each event.
pub(crate) const MARK: u8 = b'#';

/// Digits of the number of an event.
pub(crate) const DIGITS: u8 = 10;

/// The field name and the empty line of an event that is one line of data.
const FRAMING: usize = "data: \n\n".len();

/// Least size of an event, in bytes of its frame.
pub(crate) const LEAST_BYTES: usize = FRAMING + 1 + DIGITS as usize;

/// The head that the servers without an HTTP library send.
pub(crate) const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache, no-transform\r\nconnection: close\r\n\r\n";

/// The data of event `number`, so long that its frame has `bytes` bytes.
pub(crate) fn payload(number: u64, bytes: usize) -> String {
    let mut payload = String::with_capacity(bytes);
    // Writing to a string does not fail.
    let _ = write!(payload, "#{number:010}");
    let fill = bytes.saturating_sub(LEAST_BYTES);
    payload.extend(std::iter::repeat_n('x', fill));
    payload
}

/// Appends `payload` as a frame.
pub(crate) fn frame(out: &mut Vec<u8>, payload: &str) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// A line of the control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Publish one event.
    Publish {
        topic: u32,
        number: u64,
        bytes: usize,
    },
    /// Answer with a line: how many connections each shard has.
    Shards,
}

impl Command {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        match words.next()? {
            "publish" => Some(Self::Publish {
                topic: words.next()?.parse().ok()?,
                number: words.next()?.parse().ok()?,
                bytes: words.next()?.parse().ok()?,
            }),
            "shards" => Some(Self::Shards),
            _ => None,
        }
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let line = match self {
            Self::Publish {
                topic,
                number,
                bytes,
            } => format!("publish {topic} {number} {bytes}\n"),
            Self::Shards => "shards\n".to_owned(),
        };
        out.extend_from_slice(line.as_bytes());
    }
}

/// Appends the request that opens the stream of `topic`, with what a browser sends along.
pub(crate) fn stream_request(out: &mut Vec<u8>, topic: u32) {
    let request = format!(
        "GET /stream/{topic} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\ncache-control: no-cache\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64) sockets\r\naccept-language: en\r\n\r\n"
    );
    out.extend_from_slice(request.as_bytes());
}

/// Appends the request that publishes `payload` to `topic`.
pub(crate) fn publish_request(out: &mut Vec<u8>, topic: u32, payload: &str) {
    let request = format!(
        "POST /publish/{topic} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{payload}",
        payload.len()
    );
    out.extend_from_slice(request.as_bytes());
}
