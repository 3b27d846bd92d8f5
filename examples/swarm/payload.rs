//! What is published, and how it is found again in what a server made of it.
//!
//! ```text
//! {"run":"5f0c92ab","t":0,"n":123,"at":4567890,"pad":"xxxx"}
//!    │               │    │       │
//!    │               │    │       └ nanoseconds since this process began to count
//!    │               │    └ number of the event on its path, from 0 without gap
//!    │               └ number of the path
//!    └ which run it belongs to: what an earlier one left in a history is foreign
//! ```
//!
//! A server that passes the text on is read by its fixed form, without a search. One that writes the JSON anew, with
//! spaces, in another order, within an object of its own or as a string in one, is read by looking for the names.

use std::io::Write as _;

use memchr::memmem;

/// Which event this is, and when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) path: u32,
    pub(crate) number: u64,
    /// Nanoseconds since the run's epoch.
    pub(crate) at: u64,
}

/// What has been found of a stamp: an event's data may come in several lines.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fields {
    is_ours: bool,
    path: Option<u32>,
    number: Option<u64>,
    at: Option<u64>,
}

impl Fields {
    /// `None` if the event is not of this run.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        if !self.is_ours {
            return None;
        }
        Some(Stamp {
            path: self.path?,
            number: self.number?,
            at: self.at?,
        })
    }
}

/// The form of one run's payloads.
#[derive(Debug)]
pub(crate) struct Format {
    run: String,
    /// Everything before the path.
    prefix: Vec<u8>,
}

impl Format {
    /// `run` has no characters that JSON escapes.
    pub(crate) fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            prefix: format!(r#"{{"run":"{run}","t":"#).into_bytes(),
        }
    }

    /// Appends the payload, padded to `size` bytes; longer only if the stamp alone is.
    pub(crate) fn write(&self, out: &mut Vec<u8>, stamp: Stamp, size: usize) {
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        let Stamp { path, number, at } = stamp;
        // Writing to a vector does not fail.
        drop(write!(out, r#"{path},"n":{number},"at":{at},"pad":""#));
        let end = start + size.saturating_sub(2);
        if out.len() < end {
            out.resize(end, b'x');
        }
        out.extend_from_slice(b"\"}");
    }

    /// Looks into one line of data.
    pub(crate) fn read(&self, data: &[u8], fields: &mut Fields) {
        if let Some(stamp) = self.read_verbatim(data) {
            *fields = Fields {
                is_ours: true,
                path: Some(stamp.path),
                number: Some(stamp.number),
                at: Some(stamp.at),
            };
        } else {
            self.search(data, fields);
        }
    }

    fn read_verbatim(&self, data: &[u8]) -> Option<Stamp> {
        let rest = data.strip_prefix(self.prefix.as_slice())?;
        let (path, rest) = digits(rest)?;
        let (number, rest) = digits(rest.strip_prefix(br#","n":"#)?)?;
        let (at, _) = digits(rest.strip_prefix(br#","at":"#)?)?;
        let path = u32::try_from(path).ok()?;
        Some(Stamp { path, number, at })
    }

    fn search(&self, data: &[u8], fields: &mut Fields) {
        if !fields.is_ours {
            fields.is_ours = values(data, b"\"run").any(|value| {
                let value = unescaped_quote(value);
                value.is_some_and(|value| value.starts_with(self.run.as_bytes()))
            });
        }
        let number = |name| values(data, name).find_map(|value| Some(digits(value)?.0));
        fields.path = fields
            .path
            .or_else(|| number(b"\"t").and_then(|path| u32::try_from(path).ok()));
        fields.number = fields.number.or_else(|| number(b"\"n"));
        fields.at = fields.at.or_else(|| number(b"\"at"));
    }
}

/// What follows each `"name":`, also where quotes are escaped because the JSON is a string in another.
fn values<'a>(data: &'a [u8], quoted: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    memmem::find_iter(data, quoted).filter_map(move |at| {
        let rest = unescaped_quote(&data[at + quoted.len()..])?.trim_ascii_start();
        Some(rest.strip_prefix(b":")?.trim_ascii_start())
    })
}

/// What follows a quote, with any backslashes before it.
fn unescaped_quote(mut text: &[u8]) -> Option<&[u8]> {
    while let Some(rest) = text.strip_prefix(b"\\") {
        text = rest;
    }
    text.strip_prefix(b"\"")
}

/// The number at the start, and what follows it.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    let mut len = 0;
    for digit in text.iter().map(|byte| byte.wrapping_sub(b'0')) {
        if digit > 9 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        len += 1;
    }
    (len > 0).then(|| (value, &text[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        path: 7,
        number: 123,
        at: 4_567_890,
    };

    fn read(lines: &[&str]) -> Option<Stamp> {
        let mut fields = Fields::default();
        for line in lines {
            Format::new("5f0c92ab").read(line.as_bytes(), &mut fields);
        }
        fields.stamp()
    }

    #[test]
    fn a_payload_has_its_size_and_is_json() {
        for size in [0, 80, 81, 1000] {
            let mut out = Vec::new();
            Format::new("5f0c92ab").write(&mut out, STAMP, size);
            assert!(size == 0 || out.len() == size, "{} bytes", out.len());
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(json["n"], 123);
            assert_eq!(json["at"], 4_567_890);
            assert_eq!(read(&[std::str::from_utf8(&out).unwrap()]), Some(STAMP));
        }
    }

    #[test]
    fn what_a_server_wrote_anew_is_understood() {
        for lines in [
            &[r#"{"at": 4567890, "n": 123, "pad": "x", "run": "5f0c92ab", "t": 7}"#][..],
            &[r#"{"id":9,"body":{"run":"5f0c92ab","t":7,"n":123,"at":4567890,"pad":""}}"#],
            &[r#"{"body":"{\"run\":\"5f0c92ab\",\"t\":7,\"n\":123,\"at\":4567890}"}"#],
            &[
                "{",
                r#""run" : "5f0c92ab","#,
                r#""t": 7, "n": 123,"#,
                r#""at": 4567890}"#,
            ],
        ] {
            assert_eq!(read(lines), Some(STAMP), "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_of_this_run_is_foreign() {
        for line in [
            "",
            "hello",
            r#"{"n":1,"at":2,"t":0}"#,
            r#"{"run":"00000000","t":7,"n":123,"at":4567890}"#,
            r#"{"run":"5f0c92ab","t":7,"n":99999999999999999999999,"at":1}"#,
        ] {
            assert_eq!(read(&[line]), None, "{line}");
        }
    }
}
