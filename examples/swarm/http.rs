//! The parts of HTTP/1.1 that a client of streams needs: the head of a response, and where its body ends.

use std::fmt;

use httparse::{EMPTY_HEADER, Status};

/// Longest head, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The bytes are no HTTP/1.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Head {
    /// Its own length, in bytes.
    pub(crate) len: usize,
    pub(crate) status: u16,
    /// Without parameters, in lower case; empty if there is none.
    pub(crate) content_type: String,
    /// Empty if the body is not compressed.
    pub(crate) content_encoding: String,
    pub(crate) location: String,
    pub(crate) body: Body,
    /// The connection ends with this response.
    pub(crate) closes: bool,
}

impl Head {
    /// `None` while its end has not come.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut headers = [EMPTY_HEADER; 100];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(bytes) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
            Ok(Status::Partial) => return Err(Malformed("a response head of more than 64 KiB")),
            Err(_) => return Err(Malformed("an answer that is not HTTP/1.1")),
        };
        let value = |name: &str| {
            let mut headers = response.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name));
            let value = header.map_or(&b""[..], |header| header.value);
            String::from_utf8_lossy(value).trim().to_ascii_lowercase()
        };
        let status = response.code.unwrap_or_default();
        let content_type = value("content-type");
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let connection = value("connection");
        let old = response.version == Some(0);
        let mut headers = response.headers.iter();
        let location = headers
            .find(|header| header.name.eq_ignore_ascii_case("location"))
            .map(|header| String::from_utf8_lossy(header.value).into_owned());
        let mut content_encoding = value("content-encoding");
        if content_encoding == "identity" {
            content_encoding.clear();
        }
        let body = if matches!(status, 100..=199 | 204 | 304) {
            Body::Length(0)
        } else if value("transfer-encoding").ends_with("chunked") {
            Body::Chunked(Chunked::START)
        } else {
            match value("content-length") {
                length if length.is_empty() => Body::UntilClose,
                length => Body::Length(
                    length
                        .parse()
                        .map_err(|_| Malformed("a content-length that is no number"))?,
                ),
            }
        };
        Ok(Some(Self {
            len,
            status,
            content_type: content_type.to_owned(),
            content_encoding,
            location: location.unwrap_or_default(),
            closes: body == Body::UntilClose
                || connection.contains("close")
                || (old && !connection.contains("keep-alive")),
            body,
        }))
    }
}

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Chunked(Chunked),
    Length(u64),
    UntilClose,
}

impl Body {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Chunked(Chunked::Over) | Self::Length(0))
    }

    /// The next content in `bytes`, which moves behind it; `None` if there is no more in it.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        match self {
            Self::Chunked(chunked) => chunked.next(bytes),
            Self::Length(left) => Ok(take(bytes, left)),
            Self::UntilClose => {
                let mut endless = u64::MAX;
                Ok(take(bytes, &mut endless))
            }
        }
    }
}

/// At most `left` bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], left: &mut u64) -> Option<&'a [u8]> {
    let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    *left -= len as u64;
    (len > 0).then_some(taken)
}

/// Where in a chunked body the next byte is (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// In the size, of which so many digits have come.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size, up to the end of the line.
    Extension(u64),
    Data(u64),
    /// The line end behind the data: whether its carriage return has come.
    DataEnd {
        returned: bool,
    },
    /// In the trailer: whether the line has anything but a carriage return yet.
    Trailer {
        empty: bool,
    },
    Over,
}

impl Chunked {
    const START: Self = Self::Size { size: 0, digits: 0 };

    fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        loop {
            if let Self::Data(left) = self {
                let data = take(bytes, left);
                if *left == 0 {
                    *self = Self::DataEnd { returned: false };
                }
                return Ok(data);
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(None);
            };
            *bytes = rest;
            *self = self.step(byte)?;
        }
    }

    fn step(self, byte: u8) -> Result<Self, Malformed> {
        const BAD_SIZE: Malformed = Malformed("a chunk without a valid size");
        Ok(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                if digits == 15 {
                    return Err(BAD_SIZE);
                }
                Self::Size {
                    size: size * 16 + u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(BAD_SIZE),
            (Self::Size { size, .. } | Self::Extension(size), b'\n') if size == 0 => {
                Self::Trailer { empty: true }
            }
            (Self::Size { size, .. } | Self::Extension(size), b'\n') => Self::Data(size),
            (Self::Size { size, .. }, b'\r' | b';' | b' ' | b'\t') | (Self::Extension(size), _) => {
                Self::Extension(size)
            }
            (Self::Size { .. }, _) => return Err(BAD_SIZE),
            (Self::DataEnd { returned: false }, b'\r') => Self::DataEnd { returned: true },
            (Self::DataEnd { .. }, b'\n') => Self::START,
            (Self::DataEnd { .. }, _) => {
                return Err(Malformed("a chunk longer than its size"));
            }
            (Self::Trailer { empty: true }, b'\n') => Self::Over,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { empty: true },
            (Self::Trailer { empty }, b'\r') => Self::Trailer { empty },
            (Self::Trailer { .. }, _) => Self::Trailer { empty: false },
            (Self::Over | Self::Data(_), _) => {
                return Err(Malformed("bytes behind the end of the body"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, bool), Malformed> {
        let mut body = Body::Chunked(Chunked::START);
        let mut out = Vec::new();
        for mut piece in pieces {
            while let Some(data) = body.next(&mut piece)? {
                out.extend_from_slice(data);
            }
        }
        Ok((out, body.is_over()))
    }

    #[test]
    fn a_chunked_body_is_the_same_wherever_it_is_split() {
        let wire =
            b"5\r\nhello\r\n1;ext=\"a\"\r\n \r\n0B \r\nwide\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
        let wanted = (b"hello wide\r\nworld".to_vec(), true);
        assert_eq!(decode([&wire[..]]), Ok(wanted.clone()));
        assert_eq!(decode(wire.chunks(1)), Ok(wanted.clone()));
        for at in 0..=wire.len() {
            let split = decode([&wire[..at], &wire[at..]]);
            assert_eq!(split, Ok(wanted.clone()), "split at {at}");
        }
        let (_, over) = decode([&wire[..wire.len() - 1]]).unwrap();
        assert!(!over, "the last byte belongs to it");
    }

    #[test]
    fn a_malformed_chunk_is_refused() {
        for wire in [
            &b"\r\n"[..],
            b"x\r\n",
            b"5x\r\n",
            b"2\r\nabc\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\n\r\nmore",
        ] {
            assert!(
                decode([wire]).is_err(),
                "{:?}",
                String::from_utf8_lossy(wire)
            );
        }
    }

    #[test]
    fn a_head_tells_where_the_body_ends() {
        let parse = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap();
        let head = parse(
            "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        assert_eq!(head.content_type, "text/event-stream");
        assert!(matches!(head.body, Body::Chunked(_)) && !head.closes);
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n");
        assert!(head.body == Body::Length(12) && !head.closes);
        let head = parse("HTTP/1.1 200 OK\r\n\r\n");
        assert!(head.body == Body::UntilClose && head.closes);
        let head = parse("HTTP/1.1 204 No Content\r\n\r\n");
        assert!(head.body.is_over() && !head.closes);
        assert!(matches!(
            Head::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n"),
            Ok(None)
        ));
        assert!(Head::parse(b"SSH-2.0-OpenSSH\r\n").is_err());
    }
}
