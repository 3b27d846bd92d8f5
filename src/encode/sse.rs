//! The `text/event-stream` form of an event.
//!
//! Rules: WHATWG HTML 9.2.5 and 9.2.6. The encoder always writes one space after the colon, ends lines with LF and
//! the block with an empty line, and never writes a byte-order mark. CR, LF and CRLF inside data separate lines.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use super::{EncodeError, MAX_NAME_BYTES};
use crate::event_id::EventId;
use crate::frame::Layout;

pub(crate) const ID_FIELD: &[u8] = b"id: ";
pub(crate) const NAME_FIELD: &[u8] = b"event: ";
pub(crate) const DATA_FIELD: &[u8] = b"data: ";

/// Bytes left at the front of a block for `id: <epoch>-<offset>\n`.
pub(crate) const ID_SPACE: usize = ID_FIELD.len() + EventId::MAX_LEN + 1;

/// Writes the `id:` line right-aligned into `space` and returns where it begins.
pub(crate) fn write_id(space: &mut [u8; ID_SPACE], id: EventId) -> usize {
    let digits_at = ID_SPACE - 1 - id.write_back(&mut space[..ID_SPACE - 1]);
    let start = digits_at - ID_FIELD.len();
    space[start..digits_at].copy_from_slice(ID_FIELD);
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
        // Straight into the buffer, and measured afterwards: a check for each of the many small pieces that a serializer
        // writes costs a third of the encoding.
        let mut serializer = serde_json::Serializer::with_formatter(&mut *self.out, OneLine);
        value
            .serialize(&mut serializer)
            .map_err(EncodeError::Serialize)?;
        let size = self.out.len() - at;
        check_size(self.max_bytes, size)?;
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

pub(super) fn check_size(limit: usize, size: usize) -> Result<(), EncodeError> {
    if size > limit {
        return Err(EncodeError::TooLarge { limit, size });
    }
    Ok(())
}

/// Compact JSON in one line. It has no line break of its own, but an embedded `RawValue` may.
struct OneLine;

impl Formatter for OneLine {
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment.as_bytes();
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            writer.write_all(&rest[..end])?;
            writer.write_all(b" ")?;
            rest = &rest[end + 1..];
        }
        writer.write_all(rest)
    }

    /// Numbers of any precision are text too, and that of whoever made them.
    fn write_number_str<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        value: &str,
    ) -> io::Result<()> {
        self.write_raw_fragment(writer, value)
    }
}

/// Makes one line of JSON. Outside strings a break is white space, and inside strings it cannot stand, so a space says the
/// same.
fn unbreak(json: &mut [u8]) {
    let mut from = 0;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &json[from..]) {
        json[from + found] = b' ';
        from += found + 1;
    }
}
