//! One connection: connect, request, head, stream, and perhaps again.
//!
//! **Invariant.** N1: every byte that was read goes through the body's decoder and the scanner, and every event through the
//! ledger: nothing is sampled.

use std::cmp::Ordering;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol as Transport, Socket, Type};

use crate::http::{Body, Head};
use crate::ledger::{Ledger, Verdict};
use crate::reason::Reason;
use crate::scan::Scanner;
use crate::shared::{Plan, Tally, nanos};

/// Before a stream is opened again, if the server does not say how long.
const RETRY: Duration = Duration::from_secs(1);

/// Most of a refusal's body that is kept to be shown.
const MAX_SAMPLE_BYTES: usize = 200;

#[derive(Debug)]
pub(crate) struct Connection {
    /// Over the whole run, from 0.
    pub(crate) number: usize,
    pub(crate) path: u32,
    pub(crate) is_slow: bool,
    /// How often it was connected: a deadline of an earlier time means nothing.
    pub(crate) attempt: u32,
    pub(crate) ledger: Ledger,
    /// Whether a stream of it has ever begun.
    pub(crate) has_begun: bool,
    socket: Option<TcpStream>,
    stage: Stage,
    began: Instant,
    scanner: Scanner,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    /// The response head as far as it has come.
    Head(Vec<u8>),
    Stream(Body),
    /// Not connected; it may be again.
    Apart,
}

impl Connection {
    pub(crate) fn new(number: usize, path: u32, plan: &Plan) -> Self {
        Self {
            number,
            path,
            is_slow: plan.is_slow(number),
            attempt: 0,
            has_begun: false,
            ledger: Ledger::default(),
            socket: None,
            stage: Stage::Apart,
            began: plan.epoch,
            scanner: Scanner::new(plan.options.reconnect || plan.listens()),
        }
    }

    /// Whether the stream has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Stream(_))
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Connecting | Stage::Head(_))
    }

    /// How long to wait before the stream is opened again.
    pub(crate) fn retry(&self) -> Duration {
        let millis = self.scanner.retry_millis();
        millis.map_or(RETRY, |millis| Duration::from_millis(millis.min(600_000)))
    }

    /// Begins to connect.
    pub(crate) fn open(
        &mut self,
        plan: &Plan,
        registry: &Registry,
        token: Token,
    ) -> Result<(), Reason> {
        self.attempt += 1;
        self.began = Instant::now();
        self.scanner.restart();
        let mut socket = connect(plan, self.number).map_err(|error| Reason::connecting(&error))?;
        registry
            .register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| Reason::connecting(&error))?;
        self.socket = Some(socket);
        self.stage = Stage::Connecting;
        Ok(())
    }

    /// Closes it. It can be opened again.
    pub(crate) fn part(&mut self) {
        if let Some(socket) = self.socket.take() {
            // It may be gone already.
            drop(socket.shutdown(Shutdown::Both));
        }
        self.stage = Stage::Apart;
    }

    /// Goes on with whatever is next, reading at most `budget` bytes, until the socket has no more. An error ends the
    /// connection; [`is_open`](Self::is_open) tells whether its stream had begun.
    pub(crate) fn advance(
        &mut self,
        plan: &Plan,
        buffer: &mut [u8],
        mut budget: usize,
        tally: &mut Tally,
    ) -> Result<(), Reason> {
        if self.stage == Stage::Connecting && !self.request(plan)? {
            return Ok(());
        }
        while let Some(socket) = &mut self.socket
            && budget > 0
        {
            let room = buffer.len().min(budget);
            let len = match socket.read(&mut buffer[..room]) {
                Ok(0) => return Err(self.closed()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Reason::reading(&error, self.is_open())),
            };
            budget -= len;
            tally.bytes += len as u64;
            self.feed(plan, &buffer[..len], tally)?;
            // On Unix a short read has emptied the socket, and what comes next is a new edge.
            if cfg!(unix) && len < room {
                break;
            }
        }
        Ok(())
    }

    /// Sends the request once the connection stands; whether it does.
    fn request(&mut self, plan: &Plan) -> Result<bool, Reason> {
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return Err(Reason::connecting(&error));
        }
        if socket.peer_addr().is_err() {
            return Ok(false);
        }
        let mut request = Vec::with_capacity(256);
        let url = &plan.targets.stream;
        let (path, host) = (url.path(self.path), &url.authority);
        // Writing to a vector does not fail.
        drop(write!(
            request,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\nUser-Agent: fanfare-swarm\r\n"
        ));
        if !self.scanner.last_id().is_empty() {
            request.extend_from_slice(b"Last-Event-ID: ");
            request.extend_from_slice(self.scanner.last_id());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        // It is less than the send buffer of a new socket.
        socket
            .write_all(&request)
            .map_err(|error| Reason::reading(&error, false))?;
        self.stage = Stage::Head(Vec::new());
        Ok(true)
    }

    fn closed(&self) -> Reason {
        match &self.stage {
            Stage::Stream(Body::Chunked(_) | Body::Length(_)) => Reason::Truncated,
            Stage::Stream(Body::UntilClose) => Reason::Ended,
            _ => Reason::NoHead,
        }
    }

    fn feed(&mut self, plan: &Plan, bytes: &[u8], tally: &mut Tally) -> Result<(), Reason> {
        let Stage::Head(head) = &mut self.stage else {
            return self.stream(plan, bytes, tally);
        };
        head.extend_from_slice(bytes);
        let bytes = std::mem::take(head);
        let mut rest = bytes.as_slice();
        loop {
            let Some(parsed) = Head::parse(rest).map_err(Reason::NotHttp)? else {
                self.stage = Stage::Head(rest.to_vec());
                return Ok(());
            };
            rest = &rest[parsed.len..];
            if (100..200).contains(&parsed.status) {
                continue;
            }
            accept(&parsed, rest)?;
            self.stage = Stage::Stream(parsed.body);
            tally.connect.saturating_record(nanos(self.began.elapsed()));
            return self.stream(plan, rest, tally);
        }
    }

    fn stream(&mut self, plan: &Plan, mut bytes: &[u8], tally: &mut Tally) -> Result<(), Reason> {
        let Stage::Stream(body) = &mut self.stage else {
            return Ok(());
        };
        let now = plan.now();
        let (ledger, is_slow) = (&mut self.ledger, self.is_slow);
        let sequence = plan.sequence(self.path);
        while let Some(content) = body.next(&mut bytes).map_err(Reason::Garbled)? {
            let scanned = self.scanner.feed(content, &plan.format, &mut |heard| {
                match heard.id {
                    Some(Ordering::Equal) => tally.ids_repeated += 1,
                    Some(Ordering::Less) => tally.ids_backward += 1,
                    Some(Ordering::Greater) | None => {}
                }
                let Some(stamp) = heard.stamp else {
                    tally.foreign += 1;
                    return;
                };
                if stamp.path != sequence {
                    tally.misrouted += 1;
                    return;
                }
                let verdict = ledger.enter(stamp.number);
                if is_slow {
                    tally.slow_deliveries += 1;
                    return;
                }
                tally.deliveries += 1;
                tally.last = now;
                if verdict != Verdict::Duplicate {
                    tally
                        .latency
                        .saturating_record(now.saturating_sub(stamp.at));
                }
            });
            scanned.map_err(|_| Reason::LineTooLong)?;
        }
        if body.is_over() {
            return Err(Reason::Ended);
        }
        Ok(())
    }
}

/// Refuses what is not a stream of events.
fn accept(head: &Head, rest: &[u8]) -> Result<(), Reason> {
    if head.status != 200 {
        let sample = if head.location.is_empty() {
            let sample = &rest[..rest.len().min(MAX_SAMPLE_BYTES)];
            String::from_utf8_lossy(sample).trim().to_owned()
        } else {
            format!("it points to {}", head.location)
        };
        return Err(Reason::Status(head.status, sample));
    }
    if head.content_type != "text/event-stream" {
        return Err(Reason::ContentType(head.content_type.clone()));
    }
    if !head.content_encoding.is_empty() {
        return Err(Reason::Encoding(head.content_encoding.clone()));
    }
    Ok(())
}

/// A socket that connects, from the source that is the connection's own.
fn connect(plan: &Plan, number: usize) -> io::Result<TcpStream> {
    let domain = Domain::for_address(plan.address);
    let socket = Socket::new(domain, Type::STREAM, Some(Transport::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // A reset instead of a farewell: thousands of ports that wait to be free again would be missing in the next run.
    socket.set_linger(Some(Duration::ZERO))?;
    if !plan.sources.is_empty() {
        let source = plan.sources[number % plan.sources.len()];
        socket.bind(&std::net::SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&plan.address.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}
