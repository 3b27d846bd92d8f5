//! Heads: what a request's first bytes say, and the first bytes of a stream's answer.
//!
//! **Role.** Decides from the bytes seen so far whether to wait for more, to refuse, to ask the application for a stream, or
//! to let hyper have the connection. When in doubt it is hyper: only what is surely a plain `GET` of a streaming route, with
//! no body and nothing to negotiate, is a stream.
//!
//! **Invariants.**
//! * H1: what is refused here, hyper would refuse as well or RFC 9112 asks every server to refuse.
//! * H2: what becomes of a complete head does not depend on how its bytes were split. A head that is surely malformed
//!   may be refused before its end was seen.

use std::mem::MaybeUninit;
use std::time::SystemTime;

use axum_core::body::Body;
use axum_core::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, EXPECT, HOST, HeaderName, HeaderValue,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, StatusCode, Uri, Version, response};

/// More header fields than this are too large a head. hyper's number.
const MAX_FIELDS: usize = 100;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Fields that speak of one connection or of framing: the stream's head has its own.
const OURS: [HeaderName; 5] = [
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    TRAILER,
    HeaderName::from_static("keep-alive"),
];

/// Fields of a request with which a client wants to send a body or to negotiate.
const MORE_THAN_A_GET: [HeaderName; 3] = [TRANSFER_ENCODING, UPGRADE, EXPECT];

/// What to do with a connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart on the stack where it was made"
)]
pub(super) enum Verdict {
    /// The head is not complete.
    Wait,
    /// A request for a streaming route, with the bytes it was made of and what followed them.
    Stream(Request<()>, Bytes),
    /// Anything else that is a request.
    Hyper,
    Refuse(Refusal),
}

/// Why a head is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    TooLarge,
    TooSlow,
}

impl Refusal {
    /// The whole answer.
    pub(super) fn answer(self) -> Bytes {
        let (status, text) = match self {
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "the head of the request is malformed\n",
            ),
            Self::TooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the head of the request is too large\n",
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "the head of the request took too long\n",
            ),
        };
        let mut answer = BytesMut::with_capacity(256);
        put_status(&mut answer, status);
        put_field(&mut answer, b"content-type", b"text/plain; charset=utf-8");
        put_field(
            &mut answer,
            b"content-length",
            itoa::Buffer::new().format(text.len()).as_bytes(),
        );
        put_field(&mut answer, b"connection", b"close");
        put_date(&mut answer);
        answer.put_slice(b"\r\n");
        answer.put_slice(text.as_bytes());
        answer.freeze()
    }
}

/// How heads are judged.
#[derive(Debug)]
pub(super) struct Rules {
    /// Streaming routes.
    pub(super) routes: matchit::Router<()>,
    pub(super) max_head_bytes: usize,
}

impl Rules {
    /// Judges the bytes that a connection began with.
    pub(super) fn judge(&self, seen: &[u8]) -> Verdict {
        if HTTP2_PREFACE.starts_with(seen) && seen.len() < HTTP2_PREFACE.len() {
            return Verdict::Wait;
        }
        if seen.starts_with(HTTP2_PREFACE) {
            return Verdict::Hyper;
        }
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut []);
        match head.parse_with_uninit_headers(seen, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length > self.max_head_bytes => {
                Verdict::Refuse(Refusal::TooLarge)
            }
            Ok(httparse::Status::Complete(_)) => self.judge_complete(&head, seen),
            Ok(httparse::Status::Partial) if seen.len() > self.max_head_bytes => {
                Verdict::Refuse(Refusal::TooLarge)
            }
            Ok(httparse::Status::Partial) => Verdict::Wait,
            Err(httparse::Error::TooManyHeaders) => Verdict::Refuse(Refusal::TooLarge),
            Err(_) => Verdict::Refuse(Refusal::Malformed),
        }
    }

    fn judge_complete(&self, head: &httparse::Request<'_, '_>, seen: &[u8]) -> Verdict {
        let hosts = count(head, &HOST);
        // RFC 9112, section 3.2.
        if hosts > 1 || (hosts == 0 && head.version == Some(1)) {
            return Verdict::Refuse(Refusal::Malformed);
        }
        match self.stream_request(head, seen) {
            Some((request, seen)) => Verdict::Stream(request, seen),
            None => Verdict::Hyper,
        }
    }

    /// The request, if it is one for a stream.
    fn stream_request(
        &self,
        head: &httparse::Request<'_, '_>,
        seen: &[u8],
    ) -> Option<(Request<()>, Bytes)> {
        let target = head.path?;
        let path = target.split(['?', '#']).next()?;
        if head.method != Some("GET") || self.routes.at(path).is_err() || !is_plain(head) {
            return None;
        }
        // One copy, which every value of the request is a part of.
        let copy = Bytes::copy_from_slice(seen);
        let shared = |part: &[u8]| {
            let start = part.as_ptr().addr().checked_sub(seen.as_ptr().addr())?;
            (start + part.len() <= copy.len()).then(|| copy.slice(start..start + part.len()))
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::GET;
        *request.version_mut() = match head.version? {
            0 => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        *request.uri_mut() = Uri::from_maybe_shared(shared(target.as_bytes())?).ok()?;
        request.headers_mut().reserve(head.headers.len());
        for field in &*head.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            let value = HeaderValue::from_maybe_shared(shared(field.value)?).ok()?;
            request.headers_mut().append(name, value);
        }
        Some((request, copy))
    }

    /// Whether a request that hyper has read is one for a stream, by the same rules.
    pub(super) fn is_for_stream<B>(&self, request: &Request<B>) -> bool {
        let fields = request.headers();
        let lengths = fields.get_all(CONTENT_LENGTH).iter();
        request.method() == Method::GET
            && matches!(request.version(), Version::HTTP_10 | Version::HTTP_11)
            && request.uri().authority().is_none()
            && self.routes.at(request.uri().path()).is_ok()
            && no_length(lengths.map(HeaderValue::as_bytes))
            && !MORE_THAN_A_GET.iter().any(|name| fields.contains_key(name))
    }
}

fn count(head: &httparse::Request<'_, '_>, name: &HeaderName) -> usize {
    values(head, name).count()
}

fn values<'a>(
    head: &'a httparse::Request<'_, '_>,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    head.headers
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name.as_str()))
        .map(|field| field.value)
}

/// No body follows, and the client wants to negotiate nothing.
fn is_plain(head: &httparse::Request<'_, '_>) -> bool {
    no_length(values(head, &CONTENT_LENGTH))
        && MORE_THAN_A_GET.iter().all(|name| count(head, name) == 0)
}

/// No length is said, or it is 0 and said once.
fn no_length<'a>(mut lengths: impl Iterator<Item = &'a [u8]>) -> bool {
    lengths.next().is_none_or(|length| length == b"0") && lengths.next().is_none()
}

/// Whether a response can be a stream that ends with its connection: a success that may have a body, and a body that
/// is sent as it is.
pub(super) fn may_stream(response: &Response<Body>) -> bool {
    response.status().is_success()
        && !matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT
        )
        && !response.headers().contains_key(CONTENT_ENCODING)
}

/// The head of a stream. There is no length and no framing: the end of the connection is the end of the body (RFC
/// 9112, section 6.3), which is why the connection closes.
pub(super) fn response_head(parts: &response::Parts) -> Bytes {
    let mut head = BytesMut::with_capacity(256);
    put_status(&mut head, parts.status);
    for (name, value) in &parts.headers {
        if !OURS.contains(name) {
            put_field(&mut head, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    put_field(&mut head, b"connection", b"close");
    if !parts.headers.contains_key(DATE) {
        put_date(&mut head);
    }
    head.put_slice(b"\r\n");
    head.freeze()
}

fn put_status(head: &mut BytesMut, status: StatusCode) {
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.put_slice(b"\r\n");
}

fn put_field(head: &mut BytesMut, name: &[u8], value: &[u8]) {
    head.put_slice(name);
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}

fn put_date(head: &mut BytesMut) {
    let date = httpdate::HttpDate::from(SystemTime::now()).to_string();
    put_field(head, b"date", date.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(max_head_bytes: usize) -> Rules {
        let mut routes = matchit::Router::new();
        routes.insert("/events/{topic}", ()).unwrap();
        Rules {
            routes,
            max_head_bytes,
        }
    }

    fn kind(head: &str) -> &'static str {
        match rules(1024).judge(head.as_bytes()) {
            Verdict::Wait => "wait",
            Verdict::Stream(..) => "stream",
            Verdict::Hyper => "hyper",
            Verdict::Refuse(Refusal::Malformed) => "malformed",
            Verdict::Refuse(_) => "too large",
        }
    }

    #[test]
    fn only_a_plain_get_of_a_streaming_route_is_a_stream() {
        for (head, expected) in [
            ("GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n", "stream"),
            (
                "GET /events/a?x=/y HTTP/1.1\r\nHost: h\r\n\r\nmore",
                "stream",
            ),
            ("GET /events/a HTTP/1.0\r\n\r\n", "stream"),
            ("\r\nGET /events/a HTTP/1.1\r\nHost: h\r\n\r\n", "stream"),
            ("GET /events/a HTTP/1.1\nHost: h\n\n", "stream"),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
                "stream",
            ),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n",
                "hyper",
            ),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
                "hyper",
            ),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
                "hyper",
            ),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
                "hyper",
            ),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
                "hyper",
            ),
            ("GET /events/a/b HTTP/1.1\r\nHost: h\r\n\r\n", "hyper"),
            ("GET http://h/events/a HTTP/1.1\r\nHost: h\r\n\r\n", "hyper"),
            ("HEAD /events/a HTTP/1.1\r\nHost: h\r\n\r\n", "hyper"),
            ("get /events/a HTTP/1.1\r\nHost: h\r\n\r\n", "hyper"),
            ("GET /events/a HTTP/1.1\r\n\r\n", "malformed"),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
                "malformed",
            ),
            (
                "GET /events/a HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
                "malformed",
            ),
            ("GET /events/a HTTP/1.1\r\nHost: h\0\r\n\r\n", "malformed"),
            ("GET /events/a HTTP/2.0\r\nHost: h\r\n\r\n", "malformed"),
            ("GET /events/a HTTP/1.1\r\nHost : h\r\n\r\n", "malformed"),
            ("\u{16}\u{3}\u{1}", "malformed"),
            ("", "wait"),
            ("GET /events/a HTTP/1.1\r\nHost: h\r\n", "wait"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n", "wait"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "hyper"),
        ] {
            assert_eq!(kind(head), expected, "{head:?}");
            if expected != "malformed"
                && let Some(request) = as_hyper_reads(head)
            {
                let streams = rules(1024).is_for_stream(&request);
                assert_eq!(streams, expected == "stream", "{head:?}");
            }
        }
        let mut request = as_hyper_reads("GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert!(rules(1024).is_for_stream(&request));
        *request.version_mut() = Version::HTTP_2;
        assert!(!rules(1024).is_for_stream(&request));
    }

    /// The request of a complete head.
    fn as_hyper_reads(head: &str) -> Option<Request<()>> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        let complete = parsed.parse(head.as_bytes()).is_ok_and(|s| s.is_complete());
        if !complete {
            return None;
        }
        let version = if parsed.version == Some(0) {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        };
        let mut request = Request::builder()
            .method(parsed.method?)
            .uri(parsed.path?)
            .version(version);
        for field in parsed.headers.iter() {
            request = request.header(field.name, field.value);
        }
        request.body(()).ok()
    }

    #[test]
    fn the_size_limit_is_exact() {
        let head = |bytes: usize| {
            let around = "GET /events/a HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n".len();
            let filler = "x".repeat(bytes - around);
            format!("GET /events/a HTTP/1.1\r\nHost: h\r\nX: {filler}\r\n\r\n")
        };
        assert_eq!(kind(&head(1024)), "stream");
        assert_eq!(kind(&head(1025)), "too large");
        assert_eq!(kind(&head(2000)[..1024]), "wait");
        assert_eq!(kind(&head(2000)[..1025]), "too large");
        let fields = "a:\r\n".repeat(MAX_FIELDS);
        assert_eq!(
            kind(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}")),
            "too large"
        );
    }

    #[test]
    fn the_request_is_what_was_sent() {
        let head = b"GET /events/a%20b?q=1 HTTP/1.0\r\nHost: h\r\nX-A: 1\r\nx-a:  2 \r\n\r\nrest";
        let Verdict::Stream(request, seen) = rules(1024).judge(head) else {
            panic!("not a stream");
        };
        assert_eq!(seen, &head[..]);
        assert_eq!(request.uri(), "/events/a%20b?q=1");
        assert_eq!(request.version(), Version::HTTP_10);
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
    }

    #[test]
    fn the_head_of_a_stream_has_no_framing() {
        let (parts, ()) = http::Response::builder()
            .header("X-Kept", "yes")
            .header(CONTENT_LENGTH, "5")
            .header(CONNECTION, "keep-alive")
            .header(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")
            .body(())
            .unwrap()
            .into_parts();
        let expected = "HTTP/1.1 200 OK\r\nx-kept: yes\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            connection: close\r\n\r\n";
        assert_eq!(response_head(&parts), expected);
    }
}
