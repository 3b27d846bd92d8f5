//! The `text/event-stream` form of an event.
//!
//! Rules: WHATWG HTML 9.2.5 and 9.2.6. The encoder always writes one space after the colon, ends lines with LF and
//! the block with an empty line, and never writes a byte-order mark. CR, LF and CRLF inside data separate lines.

use std::io;

use serde::Serialize;

use super::{EncodeError, MAX_NAME_BYTES};
use crate::event_id::EventId;
use crate::frame::Layout;

const ID_FIELD: &[u8] = b"id: ";
const NAME_FIELD: &[u8] = b"event: ";
const DATA_FIELD: &[u8] = b"data: ";

/// Bytes left at the front of a block for `id: <epoch>-<offset>\n`.
pub(crate) const ID_SPACE: usize = ID_FIELD.len() + EventId::MAX_LEN + 1;

/// Writes the `id:` line right-aligned into `space` and returns where it begins.
pub(crate) fn write_id(space: &mut [u8; ID_SPACE], id: EventId) -> usize {
    let mut digits = [0; EventId::MAX_LEN];
    let digits = id.format(&mut digits).as_bytes();
    let digits_at = ID_SPACE - 1 - digits.len();
    let start = digits_at - ID_FIELD.len();
    space[start..digits_at].copy_from_slice(ID_FIELD);
    space[digits_at..ID_SPACE - 1].copy_from_slice(digits);
    space[ID_SPACE - 1] = b'\n';
    start
}

/// Writes the `event:` line.
pub(super) fn write_name(out: &mut Vec<u8>, name: &str) -> Result<(), EncodeError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(EncodeError::NameTooLong {
            limit: MAX_NAME_BYTES,
            len: name.len(),
        });
    }
    if let Some(position) = memchr::memchr3(b'\n', b'\r', 0, name.as_bytes()) {
        return Err(EncodeError::Name {
            byte: name.as_bytes()[position],
            position,
        });
    }
    out.extend_from_slice(NAME_FIELD);
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    Ok(())
}

/// The place where a payload writes its `data:` lines.
#[derive(Debug)]
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub struct DataLine<'a> {
    out: &'a mut Vec<u8>,
    layout: &'a mut Layout,
    max_bytes: usize,
}

impl<'a> DataLine<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, layout: &'a mut Layout, max_bytes: usize) -> Self {
        Self {
            out,
            layout,
            max_bytes,
        }
    }

    pub(crate) fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.out.extend_from_slice(DATA_FIELD);
        let at = self.out.len();
        let mut counter = Limited {
            out: self.out,
            room: self.max_bytes,
            size: 0,
        };
        serde_json::to_writer(&mut counter, value).map_err(EncodeError::Serialize)?;
        let size = counter.size;
        check_size(self.max_bytes, size)?;
        // Compact JSON has no line break of its own, but an embedded `RawValue` may. Outside strings it is white
        // space, and inside strings it cannot stand, so a space says the same.
        unbreak(&mut self.out[at..]);
        self.layout.payload = Some(at..at + size);
        self.out.push(b'\n');
        Ok(())
    }

    pub(crate) fn raw_json(self, json: &str) -> Result<(), EncodeError> {
        check_size(self.max_bytes, json.len())?;
        self.out.extend_from_slice(DATA_FIELD);
        let at = self.out.len();
        self.out.extend_from_slice(json.as_bytes());
        unbreak(&mut self.out[at..]);
        self.layout.payload = Some(at..self.out.len());
        self.out.push(b'\n');
        Ok(())
    }

    pub(crate) fn text(self, text: &str) -> Result<(), EncodeError> {
        // Each break costs a field of its own, so a short text can become a long block.
        // CRLF is one break, and written as one byte.
        let pairs = text.matches("\r\n").count();
        let breaks = memchr::memchr2_iter(b'\n', b'\r', text.as_bytes()).count() - pairs;
        check_size(
            self.max_bytes,
            text.len() - pairs + breaks * DATA_FIELD.len(),
        )?;
        let mut rest = text.as_bytes();
        let mut lines = 0;
        loop {
            lines += 1;
            self.out.extend_from_slice(DATA_FIELD);
            let at = self.out.len();
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.out.extend_from_slice(rest);
                if lines == 1 {
                    self.layout.payload = Some(at..self.out.len());
                }
                self.out.push(b'\n');
                return Ok(());
            };
            self.out.extend_from_slice(&rest[..end]);
            self.out.push(b'\n');
            let crlf = rest[end..].starts_with(b"\r\n");
            rest = &rest[end + 1 + usize::from(crlf)..];
        }
    }
}

fn check_size(limit: usize, size: usize) -> Result<(), EncodeError> {
    if size > limit {
        return Err(EncodeError::TooLarge { limit, size });
    }
    Ok(())
}

fn unbreak(json: &mut [u8]) {
    let mut from = 0;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &json[from..]) {
        json[from + found] = b' ';
        from += found + 1;
    }
}

/// Stores what fits and counts the rest, so that the error can name the size.
struct Limited<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    size: usize,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= self.room {
            self.out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
