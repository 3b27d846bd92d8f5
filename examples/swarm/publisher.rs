//! A thread that publishes: one keep-alive connection, one POST at a time, on a schedule.
//!
//! **Invariants.** P1: the events of a sequence are published by one thread, each after the answer to the one before, so that
//! their order is the server's to keep. P2: an event that the server certainly did not take gives its number to the next; one of
//! which nobody knows is noted as uncertain, and nobody misses it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::http::Head;
use crate::payload::Stamp;
use crate::reason::{Reason, Reasons};
use crate::shared::{Phase, Plan, Shared, histogram, nanos};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so many failures and no success no more is tried.
const HOPELESS: u64 = 10;

/// After so long without a request it is looked whether the server closed the connection meanwhile.
const IDLE: Duration = Duration::from_millis(100);

/// Between a failure and the next try.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a thread's events.
#[derive(Debug)]
pub(crate) struct Published {
    /// What the server took.
    pub(crate) taken: u64,
    /// What it did not take, or did not say whether it took.
    pub(crate) failures: Reasons,
    /// From the first byte of the request to the end of the answer.
    pub(crate) answer: Histogram<u64>,
    /// How far the schedule was ahead of what was done, at most.
    pub(crate) behind: Duration,
}

pub(crate) struct Publisher<'run> {
    plan: &'run Plan,
    shared: &'run Shared,
    index: u32,
    threads: u32,
    address: SocketAddr,
    socket: Option<TcpStream>,
    used: Instant,
    request: Vec<u8>,
    payload: Vec<u8>,
    answer: Vec<u8>,
    published: Published,
    failed: u64,
}

/// How a publish failed.
struct Refused {
    reason: Reason,
    /// Whether the server may have taken it all the same.
    is_uncertain: bool,
}

impl<'run> Publisher<'run> {
    /// `threads` is at most the number of sequences.
    pub(crate) fn new(
        plan: &'run Plan,
        shared: &'run Shared,
        index: u32,
        threads: u32,
        address: SocketAddr,
    ) -> Self {
        Self {
            plan,
            shared,
            index,
            threads,
            address,
            socket: None,
            used: Instant::now(),
            request: Vec::new(),
            payload: Vec::new(),
            answer: Vec::new(),
            published: Published {
                taken: 0,
                failures: Reasons::new(),
                answer: histogram(),
                behind: Duration::ZERO,
            },
            failed: 0,
        }
    }

    /// Publishes until the time or the events are over.
    pub(crate) fn run(mut self) -> Published {
        let options = &self.plan.options;
        let share = f64::from(self.threads);
        let interval = (options.rate > 0.0).then(|| {
            let burst = u32::try_from(options.burst).unwrap_or(u32::MAX);
            Duration::from_secs_f64((f64::from(burst) * share / options.rate).min(1e6))
        });
        let events = options.events.map(|events| {
            let (index, threads) = (u64::from(self.index), u64::from(self.threads));
            events / threads + u64::from(index < events % threads)
        });
        let start = Instant::now();
        let end = options.events.is_none().then(|| start + options.duration());
        // The threads of one rate take turns.
        let mut due = start + interval.map_or(Duration::ZERO, |i| i / self.threads * self.index);
        let mut left = events.unwrap_or(u64::MAX);
        let mut sequence = self.index;
        while left > 0 && end.is_none_or(|end| due.max(Instant::now()) < end) {
            wait_until(due);
            if interval.is_some() {
                self.published.behind = self.published.behind.max(due.elapsed());
            }
            for _ in 0..options.burst.max(1) {
                if left == 0 || end.is_some_and(|end| Instant::now() >= end) {
                    break;
                }
                left -= 1;
                self.publish(sequence);
                sequence += self.threads;
                if sequence >= self.plan.targets.sequences {
                    sequence = self.index;
                }
            }
            let hopeless = self.published.taken == 0 && self.failed >= HOPELESS;
            if hopeless || self.shared.phase() == Phase::Stopping {
                break;
            }
            due = interval.map_or_else(Instant::now, |interval| due + interval);
        }
        self.published
    }

    fn publish(&mut self, sequence: u32) {
        let number = self.shared.published(sequence);
        let result = self.post(sequence, number);
        let mut advance = true;
        match result {
            Ok(took) => {
                self.published.taken += 1;
                self.published.answer.saturating_record(nanos(took));
                self.shared.taken.fetch_add(1, Ordering::Relaxed);
            }
            Err(refused) => {
                self.failed += 1;
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                *self.published.failures.entry(refused.reason).or_default() += 1;
                if refused.is_uncertain {
                    let mut uncertain = self.shared.uncertain();
                    uncertain.entry(sequence).or_default().insert(number);
                } else {
                    advance = false;
                }
                wait_until(Instant::now() + PAUSE);
            }
        }
        if advance {
            // Relaxed: this thread is the only writer, and who needs the final count is told by the phase.
            self.shared.published[sequence as usize].store(number + 1, Ordering::Relaxed);
        }
    }

    fn post(&mut self, sequence: u32, number: u64) -> Result<Duration, Refused> {
        let certain = |error: &io::Error| Refused {
            reason: Reason::connecting(error),
            is_uncertain: false,
        };
        if self.socket.is_some() && self.used.elapsed() > IDLE && self.is_closed() {
            self.socket = None;
        }
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(self.address).map_err(|error| certain(&error))?,
        };
        let began = Instant::now();
        self.write_request(sequence, number);
        let exchanged = socket
            .write_all(&self.request)
            .map_err(|error| Reason::reading(&error, false))
            .and_then(|()| read_answer(&mut socket, &mut self.answer));
        let took = began.elapsed();
        let head = exchanged.map_err(|reason| Refused {
            reason,
            is_uncertain: true,
        })?;
        self.used = Instant::now();
        if !head.closes {
            self.socket = Some(socket);
        }
        if (200..300).contains(&head.status) {
            return Ok(took);
        }
        let body = self.answer.get(head.len..).unwrap_or_default();
        let sample = String::from_utf8_lossy(&body[..body.len().min(200)]);
        Err(Refused {
            reason: Reason::Status(head.status, sample.trim().to_owned()),
            is_uncertain: head.status >= 500,
        })
    }

    fn write_request(&mut self, sequence: u32, number: u64) {
        let Some(url) = &self.plan.targets.publish else {
            return;
        };
        let stamp = Stamp {
            path: sequence,
            number,
            at: self.plan.now(),
        };
        self.payload.clear();
        let size = self.plan.options.size;
        self.plan.format.write(&mut self.payload, stamp, size);
        self.request.clear();
        let (path, host) = (url.path(sequence), &url.authority);
        let (content_type, len) = (&self.plan.options.content_type, self.payload.len());
        // Writing to a vector does not fail.
        drop(write!(
            self.request,
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\nUser-Agent: fanfare-swarm\r\n\r\n"
        ));
        self.request.extend_from_slice(&self.payload);
    }

    /// Whether the server closed the connection while nothing was asked of it.
    fn is_closed(&self) -> bool {
        let Some(socket) = &self.socket else {
            return true;
        };
        let looked = socket
            .set_nonblocking(true)
            .and_then(|()| socket.peek(&mut [0]));
        let idle = matches!(&looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).is_err() || !idle
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Reads one response into `answer`: head, and body as it came.
fn read_answer(socket: &mut TcpStream, answer: &mut Vec<u8>) -> Result<Head, Reason> {
    let mut buffer = [0; 4096];
    answer.clear();
    let mut head: Option<Head> = None;
    let mut begin = 0;
    loop {
        if let Some(head) = head.take_if(|head| head.body.is_over()) {
            return Ok(head);
        }
        let len = match socket.read(&mut buffer) {
            Ok(0) => match head.take() {
                Some(head) if head.body == crate::http::Body::UntilClose => return Ok(head),
                Some(_) => return Err(Reason::Truncated),
                None => return Err(Reason::NoHead),
            },
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Reason::TimedOut);
            }
            Err(error) => return Err(Reason::reading(&error, false)),
        };
        answer.extend_from_slice(&buffer[..len]);
        let mut fresh = &buffer[..len];
        if head.is_none() {
            // Interim answers come before the one that counts.
            while let Some(parsed) = Head::parse(&answer[begin..]).map_err(Reason::NotHttp)? {
                if (100..200).contains(&parsed.status) {
                    begin += parsed.len;
                    continue;
                }
                answer.drain(..begin);
                head = Some(parsed);
                break;
            }
            let Some(head) = &head else {
                continue;
            };
            fresh = &answer[head.len..];
        }
        if let Some(head) = &mut head {
            while head
                .body
                .next(&mut fresh)
                .map_err(Reason::Garbled)?
                .is_some()
            {}
        }
    }
}

fn wait_until(due: Instant) {
    while let Some(left) = due.checked_duration_since(Instant::now())
        && !left.is_zero()
    {
        thread::park_timeout(left);
    }
}
