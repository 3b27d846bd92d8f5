//! Where an event stands: a topic's life and the offset in it.

use std::fmt;
use std::str::FromStr;

/// The id of an event: the topic's epoch and the event's offset in the topic's log.
///
/// On the wire it is the epoch as 16 lower-case hexadecimal digits, a hyphen, and the offset in decimal without
/// leading zeros: at most 37 characters of `[0-9a-f-]`, which a browser sends back in `Last-Event-ID` without a CORS
/// preflight.
///
/// The epoch is drawn anew for each life of a topic, so an id is never used twice, not even after the topic was
/// removed and made again or the process was restarted. The first event of a life has the offset 1; offset 0 stands
/// for "before the first".
///
/// An id that comes back from a client is under the client's control: it says where to continue, not what the client
/// may see.
///
/// # Examples
///
/// ```
/// let id: fanfare::EventId = "00c0ffee00c0ffee-42".parse()?;
/// assert_eq!(id.offset(), 42);
/// assert_eq!(id.to_string(), "00c0ffee00c0ffee-42");
/// # Ok::<(), fanfare::ParseEventIdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    epoch: u64,
    offset: u64,
}

impl EventId {
    const EPOCH_DIGITS: usize = 16;
    const MAX_OFFSET_DIGITS: usize = 20;
    /// The longest written form, in bytes.
    pub const MAX_LEN: usize = Self::EPOCH_DIGITS + 1 + Self::MAX_OFFSET_DIGITS;

    /// Puts an id together from its parts.
    #[must_use]
    pub const fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// The life of the topic that the event belongs to.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// The position in the topic's log; the first event has 1.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// Writes the id at the end of `buffer`, which has room for [`MAX_LEN`](Self::MAX_LEN) bytes, and returns its length.
    pub(crate) fn write_back(self, buffer: &mut [u8]) -> usize {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(self.offset).as_bytes();
        let len = Self::EPOCH_DIGITS + 1 + digits.len();
        let at = buffer.len() - len;
        let (epoch, offset) = buffer[at..].split_at_mut(Self::EPOCH_DIGITS);
        for (pair, byte) in epoch.chunks_exact_mut(2).zip(self.epoch.to_be_bytes()) {
            pair.copy_from_slice(&HEX_PAIRS[usize::from(byte)]);
        }
        offset[0] = b'-';
        offset[1..].copy_from_slice(digits);
        len
    }
}

/// Each byte as two lower-case hexadecimal digits.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; Self::MAX_LEN];
        let at = buffer.len() - self.write_back(&mut buffer);
        f.pad(std::str::from_utf8(&buffer[at..]).unwrap_or_default())
    }
}

/// A text that is not an [`EventId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an event id: expected 16 lower-case hexadecimal digits, '-' and a decimal offset, at most {} bytes",
    EventId::MAX_LEN
)]
pub struct ParseEventIdError(());

impl FromStr for EventId {
    type Err = ParseEventIdError;

    /// Accepts exactly what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (epoch, offset) = text.split_once('-')?;
            let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if epoch.len() != Self::EPOCH_DIGITS || !epoch.bytes().all(lower_hex) {
                return None;
            }
            let canonical = offset == "0" || !offset.starts_with(['0', '+']);
            if !canonical {
                return None;
            }
            Some(Self {
                epoch: u64::from_str_radix(epoch, 16).ok()?,
                offset: offset.parse().ok()?,
            })
        };
        parse().ok_or(ParseEventIdError(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        for id in [
            EventId::new(0, 0),
            EventId::new(u64::MAX, u64::MAX),
            EventId::new(0x00c0_ffee, 10),
        ] {
            let text = id.to_string();
            assert!(text.len() <= EventId::MAX_LEN);
            assert_eq!(text.parse(), Ok(id));
        }
    }

    #[test]
    fn refuses_what_it_would_not_write() {
        for text in [
            "",
            "-",
            "1-1",
            "00c0ffee00c0ffee",
            "00c0ffee00c0ffee-",
            "00c0ffee00c0ffee-01",
            "00c0ffee00c0ffee-+1",
            "00C0FFEE00C0FFEE-1",
            "+0c0ffee00c0ffee-1",
            "00c0ffee00c0ffee-18446744073709551616",
            "00c0ffee00c0ffee-1 ",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text:?}");
        }
    }
}
