//! Event to frame: everything that can fail or allocate, before the log is touched.

mod sse;
#[cfg(all(test, not(fanfare_loom)))]
mod tests;

use std::cell::Cell;

pub(crate) use sse::{DATA_FIELD, DataLine, ID_FIELD, ID_SPACE, NAME_FIELD, write_id};

use crate::event::{Event, Payload};
use crate::frame::{Frame, Layout};

/// Longest event name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// Longest key of an event, in bytes.
pub const MAX_EVENT_KEY_BYTES: usize = 256;

/// A thread keeps its encoding buffer between events if it is at most this large, in bytes.
const KEEP_SCRATCH_BYTES: usize = 64 * 1024;

/// Why an event could not be encoded. Nothing was appended, nobody was woken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The name has a byte that would end its field and let a caller forge events.
    #[error(
        "event name has the byte {byte:#04x} at position {position}; CR, LF and NUL are refused"
    )]
    Name {
        /// The refused byte: 0x0A, 0x0D or 0x00.
        byte: u8,
        /// Where it stands, in bytes from the start of the name.
        position: usize,
    },
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("event name has {len} bytes; the limit is {limit}")]
    NameTooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length of the name, in bytes.
        len: usize,
    },
    /// The key is longer than [`MAX_EVENT_KEY_BYTES`].
    #[error("event key has {len} bytes; the limit is {limit}")]
    KeyTooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length of the key, in bytes.
        len: usize,
    },
    /// The payload is larger than `max_event_bytes` allows.
    #[error("event payload has {size} bytes; the limit (max_event_bytes) is {limit}")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// The size of the payload, in bytes.
        size: usize,
    },
    /// The serializer of the payload failed.
    #[error("event payload could not be serialized: {0}")]
    Serialize(#[source] serde_json::Error),
}

thread_local! {
    /// The encoding buffer of this thread. It is taken out while in use, so a serializer that publishes finds none
    /// and makes its own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes `event` with at most `max_bytes` of payload. With `ids`, space for an id is left at the front.
///
/// One allocation: the frame. The scratch buffer is the thread's own.
pub(crate) fn encode<P: Payload>(
    event: Event<'_, P>,
    max_bytes: usize,
    ids: bool,
) -> Result<Frame, EncodeError> {
    // At the end of a thread its buffer may be gone already.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    let result =
        write(event, max_bytes, ids, &mut scratch).map(|layout| Frame::new(layout, &scratch));
    if scratch.capacity() <= KEEP_SCRATCH_BYTES {
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }
    result
}

/// One event that goes to several streams, in several forms: serialized once.
pub(crate) struct Forms {
    /// The event as it is, with its tail, and behind it the form that was made last.
    scratch: Vec<u8>,
    bare: Layout,
    /// Without the tail.
    bare_len: usize,
    /// Size of the payload as it is written: with the fields' names between its lines.
    size: usize,
}

impl Forms {
    /// Serializes `event`.
    pub(crate) fn of<P: Payload>(event: Event<'_, P>) -> Result<Self, EncodeError> {
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        scratch.clear();
        let bare = write(event, usize::MAX, false, &mut scratch)?;
        let bare_len = scratch.len() - bare.tail_len;
        Ok(Self {
            size: bare_len - bare.data_at - DATA_FIELD.len() - 2,
            scratch,
            bare,
            bare_len,
        })
    }

    /// The event with `around` before and behind its payload, for a hub with these limits. One allocation.
    pub(crate) fn frame(
        &mut self,
        (prefix, suffix): (&str, &str),
        max_bytes: usize,
        ids: bool,
    ) -> Result<Frame, EncodeError> {
        let size = self.size + prefix.len() + suffix.len();
        sse::check_size(max_bytes, size)?;
        let Self {
            scratch,
            bare,
            bare_len,
            ..
        } = self;
        let made_at = *bare_len + bare.tail_len;
        if prefix.is_empty() && suffix.is_empty() && !ids {
            return Ok(Frame::new(bare.clone(), &scratch[..made_at]));
        }
        let fields_at = if ids { ID_SPACE } else { 0 };
        let payload_at = bare.data_at + DATA_FIELD.len();
        let layout = Layout {
            fields_at,
            name_len: bare.name_len,
            data_at: fields_at + bare.data_at,
            payload: bare.payload.as_ref().map(|_| {
                let at = fields_at + payload_at;
                at..at + size
            }),
            ..*bare
        };
        scratch.truncate(made_at);
        scratch.resize(made_at + fields_at, b' ');
        scratch.extend_from_within(..payload_at);
        scratch.extend_from_slice(prefix.as_bytes());
        scratch.extend_from_within(payload_at..*bare_len - 2);
        scratch.extend_from_slice(suffix.as_bytes());
        scratch.extend_from_slice(b"\n\n");
        scratch.extend_from_within(*bare_len..made_at);
        Ok(Frame::new(layout, &scratch[made_at..]))
    }
}

impl Drop for Forms {
    fn drop(&mut self) {
        if self.scratch.capacity() <= KEEP_SCRATCH_BYTES {
            let scratch = std::mem::take(&mut self.scratch);
            let _ = SCRATCH.try_with(|kept| kept.set(scratch));
        }
    }
}

fn write<P: Payload>(
    event: Event<'_, P>,
    max_bytes: usize,
    ids: bool,
    out: &mut Vec<u8>,
) -> Result<Layout, EncodeError> {
    let Event {
        payload,
        name,
        with_id,
        tail,
    } = event;
    let mut layout = Layout::default();
    if ids && with_id {
        out.resize(ID_SPACE, b' ');
    }
    layout.fields_at = out.len();
    if let Some(name) = name {
        sse::write_name(out, name)?;
        layout.name_len = name.len();
    }
    layout.data_at = out.len();
    payload.write(DataLine::new(out, &mut layout, max_bytes))?;
    out.push(b'\n');
    let end = out.len();
    if let Some(key) = tail.key {
        if key.len() > MAX_EVENT_KEY_BYTES {
            return Err(EncodeError::KeyTooLong {
                limit: MAX_EVENT_KEY_BYTES,
                len: key.len(),
            });
        }
        out.extend_from_slice(key.as_bytes());
    }
    if let Some(sender) = tail.sender {
        out.extend_from_slice(&sender.to_bytes());
        layout.has_sender = true;
    }
    layout.tail_len = out.len() - end;
    layout.control = tail.control;
    Ok(layout)
}
