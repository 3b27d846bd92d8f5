//! As much of HTTP/1.1 as the client and the bare loops need.

use memchr::memmem;

/// A head and the length of the body that its `content-length` announces.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The first line.
    pub(crate) start: &'a str,
    pub(crate) body: &'a [u8],
    /// Bytes of head and body.
    pub(crate) len: usize,
}

/// The first message in `bytes`, if it is all there.
pub(crate) fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let head_len = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = &bytes[..head_len];
    let line_len = memmem::find(head, b"\r\n")?;
    let body_len = content_length(head);
    Some(Message {
        start: std::str::from_utf8(&head[..line_len]).unwrap_or_default(),
        body: bytes.get(head_len..head_len + body_len)?,
        len: head_len + body_len,
    })
}

/// 0 without the header. Names are matched as the client and the servers here write them.
fn content_length(head: &[u8]) -> usize {
    let at = memmem::find(head, b"ontent-length: ")
        .or_else(|| memmem::find(head, b"ontent-Length: "))
        .map(|at| at + "ontent-length: ".len());
    head.get(at.unwrap_or(head.len())..)
        .into_iter()
        .flatten()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}

/// Whether the status line says that all is well.
pub(crate) fn is_success(status_line: &str) -> bool {
    status_line.starts_with("HTTP/1.1 2") || status_line.starts_with("HTTP/1.0 2")
}

/// What the two routes of the servers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Stream(u32),
    Publish(u32),
}

impl Route {
    pub(crate) fn parse(request_line: &str) -> Option<Self> {
        let mut words = request_line.split(' ');
        let route: fn(u32) -> Self = match words.next()? {
            "GET" => Self::Stream,
            "POST" => Self::Publish,
            _ => return None,
        };
        let (_, topic) = words.next()?.rsplit_once('/')?;
        topic.parse().ok().map(route)
    }
}
