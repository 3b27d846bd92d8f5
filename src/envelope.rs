//! What one connection has around every event.
//!
//! **Role.** Some protocols wrap each event in something of the connection's own, such as the id of the request that it
//! answers. The event stays shared: a transport writes prefix, payload and suffix one after the other.

use std::fmt;

use crate::sync::HostArc;

/// Most bytes of an envelope, prefix and suffix together.
pub const MAX_ENVELOPE_BYTES: usize = 4096;

/// What goes before and behind the payload of every event of one subscription. Clones share it.
///
/// In an SSE stream the block `data: {"a":1}` becomes `data: PREFIX{"a":1}SUFFIX`; a payload of several lines gets the
/// prefix on its first and the suffix on its last. Notices and comments are not wrapped. The shared frames stay as they
/// are: the reactor sends the three parts in one gathering write, an HTTP body copies them.
///
/// # Examples
///
/// ```
/// use fanfare::{Envelope, Event, Hub};
///
/// let hub = Hub::new();
/// let answer = Envelope::new(r#"{"jsonrpc":"2.0","id":7,"result":"#, "}")?;
/// let sse = hub.subscribe("task:1")?.envelope(answer).into_sse();
/// hub.publish("task:1", Event::json(&[1, 2]))?; // data: {"jsonrpc":"2.0","id":7,"result":[1,2]}
/// # drop(sse);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(HostArc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    prefix: Box<str>,
    suffix: Box<str>,
}

/// Why an envelope was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// It has a line break, which would end the field and let a caller forge events.
    #[error("envelope has the byte {byte:#04x} at position {position}; CR and LF are refused")]
    LineBreak {
        /// The refused byte: 0x0A or 0x0D.
        byte: u8,
        /// Where it stands, in bytes from the start of the part.
        position: usize,
    },
    /// It is longer than [`MAX_ENVELOPE_BYTES`].
    #[error("envelope has {len} bytes; the limit is {limit}")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length of prefix and suffix, in bytes.
        len: usize,
    },
}

impl Envelope {
    /// An envelope of one line each.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] if one of the parts has CR or LF, or both together have more than [`MAX_ENVELOPE_BYTES`].
    pub fn new(
        prefix: impl Into<String>,
        suffix: impl Into<String>,
    ) -> Result<Self, EnvelopeError> {
        let (prefix, suffix) = (prefix.into(), suffix.into());
        let len = prefix.len() + suffix.len();
        if len > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLong {
                limit: MAX_ENVELOPE_BYTES,
                len,
            });
        }
        for part in [&prefix, &suffix] {
            if let Some(position) = memchr::memchr2(b'\n', b'\r', part.as_bytes()) {
                return Err(EnvelopeError::LineBreak {
                    byte: part.as_bytes()[position],
                    position,
                });
            }
        }
        Ok(Self(HostArc::new(Parts {
            prefix: prefix.into(),
            suffix: suffix.into(),
        })))
    }

    /// What goes before the payload.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// What goes behind it.
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.0.suffix
    }
}

impl fmt::Debug for Envelope {
    /// Shows no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("prefix_len", &self.prefix().len())
            .field("suffix_len", &self.suffix().len())
            .finish()
    }
}
