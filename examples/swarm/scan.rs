//! From bytes to events: the least of an `EventSource` that sees every event.
//!
//! **Invariants.** S1: what is reported does not depend on where the reads split the stream. S2: a line that came whole
//! is not copied.

use std::cmp::Ordering;

use memchr::memchr2;

use crate::ledger;
use crate::payload::{Fields, Format, Stamp};

/// Longest line that is kept while its end has not come, in bytes.
const MAX_LINE_BYTES: usize = 4 << 20;

/// One event, or one comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// `None` if the event is not of this run.
    pub(crate) stamp: Option<Stamp>,
    /// How its id stands to the one before, where ids are looked at and the two can be compared.
    pub(crate) id: Option<Ordering>,
}

/// A line had more than 4 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineTooLong;

#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// The line whose end has not come.
    partial: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    /// A byte-order mark may still come.
    began: bool,
    has_data: bool,
    fields: Fields,
    /// `None` if ids are not kept: they are a copy for each event, which only resuming and listening need.
    ids: Option<Ids>,
    /// What the server wants to be waited before a reconnect, in milliseconds.
    retry: Option<u64>,
}

#[derive(Debug, Default)]
struct Ids {
    /// That of the event that is not complete, if a line named one.
    next: Option<Vec<u8>>,
    last: Vec<u8>,
}

impl Scanner {
    pub(crate) fn new(keep_ids: bool) -> Self {
        Self {
            ids: keep_ids.then(Ids::default),
            ..Self::default()
        }
    }

    /// Empty if none has come.
    pub(crate) fn last_id(&self) -> &[u8] {
        self.ids.as_ref().map_or(&[], |ids| &ids.last)
    }

    pub(crate) fn retry_millis(&self) -> Option<u64> {
        self.retry
    }

    /// Forgets what a stream that broke off left unfinished; ids and the server's `retry` stay.
    pub(crate) fn restart(&mut self) {
        let mut ids = self.ids.take();
        if let Some(ids) = &mut ids {
            ids.next = None;
        }
        *self = Self {
            ids,
            retry: self.retry,
            ..Self::default()
        };
    }

    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        format: &Format,
        heard: &mut impl FnMut(Heard),
    ) -> Result<(), LineTooLong> {
        while !bytes.is_empty() {
            if self.after_return {
                self.after_return = false;
                if let Some(rest) = bytes.strip_prefix(b"\n") {
                    bytes = rest;
                    continue;
                }
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                if self.partial.len() + bytes.len() > MAX_LINE_BYTES {
                    return Err(LineTooLong);
                }
                self.partial.extend_from_slice(bytes);
                break;
            };
            if self.partial.is_empty() {
                self.line(&bytes[..end], format, heard);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&bytes[..end]);
                self.line(&line, format, heard);
                line.clear();
                // A long line's buffer is not kept for the next.
                if line.capacity() <= 4096 {
                    self.partial = line;
                }
            }
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    fn line(&mut self, mut line: &[u8], format: &Format, heard: &mut impl FnMut(Heard)) {
        if !self.began {
            self.began = true;
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(heard);
        } else if let Some(value) = value(line, b"data") {
            self.has_data = true;
            format.read(value, &mut self.fields);
        } else if let Some(value) = value(line, b"id") {
            if let Some(ids) = &mut self.ids
                && !value.contains(&0)
            {
                let id = ids.next.get_or_insert_default();
                id.clear();
                id.extend_from_slice(value);
            }
        } else if let Some(value) = value(line, b"retry") {
            let millis = std::str::from_utf8(value).ok();
            self.retry = millis.and_then(|text| text.parse().ok()).or(self.retry);
        }
    }

    fn dispatch(&mut self, heard: &mut impl FnMut(Heard)) {
        let mut id = None;
        if let Some(ids) = &mut self.ids
            && let Some(next) = ids.next.take()
        {
            id = ledger::compare_ids(&ids.last, &next);
            ids.last = next;
        }
        if self.has_data {
            let stamp = self.fields.stamp();
            heard(Heard { stamp, id });
            self.has_data = false;
            self.fields = Fields::default();
        }
    }
}

/// The value of a line `name: value`, `name:value` or `name`.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "\u{feff}: hello\n\nretry: 250\n\n",
        "id: a-1\ndata: {\"run\":\"ab\",\"t\":0,\"n\":0,\"at\":5,\"pad\":\"\"}\n\n",
        "event: other\rdata\r\r",
        "id: a-2\r\ndata: {\"run\":\"ab\",\r\ndata: \"t\":0,\"n\":1,\"at\":6}\r\n\r\n",
        "data:{\"run\":\"ab\",\"t\":0,\"n\":2,\"at\":7}\n\nid: a-1\ndatatype: no\n\n",
        "id: a-9\ndata: this event is not finished\n",
    );

    fn stamp(number: u64, at: u64) -> Stamp {
        let path = 0;
        Stamp { path, number, at }
    }

    fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Heard>, Scanner) {
        let mut scanner = Scanner::new(true);
        let mut all = Vec::new();
        for piece in pieces {
            let format = Format::new("ab");
            scanner
                .feed(piece, &format, &mut |heard| all.push(heard))
                .unwrap();
        }
        (all, scanner)
    }

    #[test]
    fn a_stream_is_the_same_wherever_it_is_split() {
        let wanted = [
            (Some(stamp(0, 5)), None),
            (None, None),
            (Some(stamp(1, 6)), Some(Ordering::Greater)),
            (Some(stamp(2, 7)), None),
        ]
        .map(|(stamp, id)| Heard { stamp, id });
        let stream = STREAM.as_bytes();
        assert_eq!(scan([stream]).0, wanted);
        assert_eq!(scan(stream.chunks(1)).0, wanted, "byte by byte");
        for at in 0..=stream.len() {
            let (heard, scanner) = scan([&stream[..at], &stream[at..]]);
            assert_eq!(heard, wanted, "split at {at}");
            assert_eq!(
                scanner.last_id(),
                b"a-1",
                "an id counts once its event is complete"
            );
            assert_eq!(scanner.retry_millis(), Some(250));
        }
    }

    #[test]
    fn a_restart_forgets_the_unfinished_event_and_keeps_the_id() {
        let (_, mut scanner) = scan([STREAM.as_bytes()]);
        scanner.restart();
        let mut count = 0;
        scanner
            .feed(b"\n", &Format::new("ab"), &mut |_| count += 1)
            .unwrap();
        assert_eq!(count, 0);
        assert_eq!(scanner.last_id(), b"a-1");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut scanner = Scanner::new(false);
        let format = Format::new("ab");
        let piece = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(scanner.feed(&piece, &format, &mut |_| ()), Ok(()));
        assert_eq!(scanner.feed(b"x", &format, &mut |_| ()), Err(LineTooLong));
    }
}
