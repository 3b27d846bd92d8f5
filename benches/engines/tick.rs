//! What is published: 100 bytes as JSON, with a number at a fixed place so that readers can check the order.

use bytes::Bytes;
use serde::Serialize;

/// What its JSON begins with, up to the number.
const BEFORE_NUMBER: &[u8] = br#"{"symbol":"FANFARE","sequence":"#;

/// Added to a number, so that all of them have six digits.
const FIRST: u32 = 100_000;

/// A quote.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tick {
    symbol: &'static str,
    sequence: u32,
    bid: &'static str,
    ask: &'static str,
    venue: &'static str,
}

impl Tick {
    pub(crate) const JSON_BYTES: usize = 100;

    /// How many numbers there are.
    pub(crate) const NUMBERS: u32 = 900_000;

    /// The `n`th tick, modulo [`NUMBERS`](Self::NUMBERS): the length is always the same.
    pub(crate) fn new(n: u32) -> Self {
        Self {
            symbol: "FANFARE",
            sequence: FIRST + n % Self::NUMBERS,
            bid: "1234.5678",
            ask: "1234.5699",
            venue: "trading-floor-1",
        }
    }

    /// The SSE block that the peers send, encoded once per publish as fanfare does.
    pub(crate) fn to_sse(&self) -> Bytes {
        let mut block = Vec::with_capacity(Self::JSON_BYTES + 8);
        block.extend_from_slice(b"data: ");
        serde_json::to_writer(&mut block, self)
            .expect("a tick has no map keys and writes to memory");
        block.extend_from_slice(b"\n\n");
        Bytes::from(block)
    }

    /// The number of the tick whose JSON `text` begins with; `None` if it is no tick.
    pub(crate) fn number_in(text: &[u8]) -> Option<u32> {
        let digits = text.strip_prefix(BEFORE_NUMBER)?.get(..6)?;
        number(digits)?.checked_sub(FIRST)
    }

    /// The number of the tick in something that prints its JSON, quotes escaped or not. Slow.
    pub(crate) fn number_printed(text: &str) -> Option<u32> {
        let (_, after) = text.split_once("sequence")?;
        let digits = after.trim_start_matches(|c: char| !c.is_ascii_digit());
        number(digits.as_bytes().get(..6)?)?.checked_sub(FIRST)
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}
