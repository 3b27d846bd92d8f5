//! A client that says exactly what it is told to, and waits for no longer than a bound.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::BOUND;

#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

/// The head of an answer, and its body if that has a length.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Whether the body is a stream of the reactor's: only its answers say that they close, and are not framed.
    pub(crate) fn is_on_reactor(&self) -> bool {
        self.header("connection") == "close"
            && self.header("transfer-encoding").is_empty()
            && self.header("content-length").is_empty()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        socket.set_write_timeout(Some(BOUND)).unwrap();
        Self(BufReader::new(socket))
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.0.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the server takes: it may close before it has all.
    pub(crate) fn send_some(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.0.get_mut().write_all(bytes.as_ref()));
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        self.answer()
    }

    /// Reads a head.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Answer {
        let status = self.line();
        assert!(status.starts_with("HTTP/1."), "{status:?}");
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.insert(name.to_owned(), value.to_owned());
        }
        Answer {
            status,
            headers,
            body: String::new(),
        }
    }

    /// Reads a head and the body that it announces.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length = answer.header("content-length").parse().unwrap_or(0);
        answer.body = String::from_utf8(self.bytes(length)).unwrap();
        answer
    }

    #[track_caller]
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the connection ended in {line:?}");
        line.trim_end().to_owned()
    }

    /// Reads up to and with the line.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != wanted) {
            lines.push(self.line());
        }
        lines
    }

    /// Everything up to the end of the connection, however it ends.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        String::from_utf8(rest).unwrap()
    }

    /// Whether the server says nothing for this long.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.socket().set_read_timeout(Some(time)).unwrap();
        let silent = match self.0.fill_buf() {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.socket().set_read_timeout(Some(BOUND)).unwrap();
        silent
    }

    pub(crate) fn shut_down(&self, how: Shutdown) {
        self.socket().shutdown(how).unwrap();
    }
}
