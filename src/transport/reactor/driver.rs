//! The thread of a shard: the poll, the inbox, the clock.
//!
//! **Protocol.** A turn: sleep if there is nothing to do; what the poll says; what the inbox says; a bounded part of the
//! work. Each part is bounded, so none keeps the others waiting.
//!
//! Sockets are watched edge-triggered for both directions from the beginning: that is one system call for the life of a
//! connection. So whatever is left unread or unsent must be remembered here: reading goes on until nothing is left, and
//! who is behind stands still only after its socket was seen full.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::CloseReason;
use super::connection::Key;
use super::inbox::{Inbox, Rouse, Signal};
use super::shard::{Joiner, Limits, Shard};
use super::totals::Teller;
use crate::ending::Spot;
use crate::sync::{HostArc, Ordering, fence};
use crate::unwind::FirstPanic;

/// Of the poll itself. No key makes it: its generation would be `u32::MAX`.
const WAKER: Token = Token(usize::MAX);

const EVENTS_PER_TURN: usize = 1024;
/// New connections and signals taken in at once.
const COMMANDS_PER_TURN: usize = 64;
const SIGNALS_PER_TURN: usize = 4096;
const CLOSES_PER_TURN: usize = 1024;

#[derive(Debug)]
pub(super) enum Command {
    Join(Box<Joiner<TcpStream>>),
    /// A connection was ended from outside.
    End(Key),
    Shutdown,
}

pub(super) struct WakePoll(mio::Waker);

impl Rouse for WakePoll {
    fn rouse(&self) {
        // The only way for it to fail is a poll that is gone, and then nobody sleeps.
        drop(self.0.wake());
    }
}

pub(super) type ShardInbox = Inbox<Command, WakePoll>;

/// Where a connection is found that is ended from outside.
struct ConnectionSpot {
    inbox: HostArc<ShardInbox>,
    key: Key,
}

impl Spot for ConnectionSpot {
    fn reach(&self) {
        self.inbox.command(Command::End(self.key));
    }
}

pub(super) struct Driver {
    poll: Poll,
    events: Events,
    inbox: HostArc<ShardInbox>,
    shard: Shard<TcpStream>,
    teller: Teller,
    begin: Instant,
    tick: Duration,
    scratch: Box<[u8]>,
    stopping: bool,
}

impl Key {
    const fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.index as usize)
    }

    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    const fn from_token(token: Token) -> Self {
        Self {
            index: token.0 as u32,
            generation: (token.0 >> 32) as u32,
        }
    }
}

impl Driver {
    pub(super) fn new(teller: Teller, tick: Duration, limits: Limits) -> io::Result<Self> {
        let poll = Poll::new()?;
        let inbox = Inbox::new(WakePoll(mio::Waker::new(poll.registry(), WAKER)?));
        let signals = HostArc::clone(&inbox);
        let make_signal = move |topic| Signal::new(&signals, topic).for_shard();
        let commands = HostArc::clone(&inbox);
        let make_spot = move |key| -> HostArc<dyn Spot> {
            HostArc::new(ConnectionSpot {
                inbox: HostArc::clone(&commands),
                key,
            })
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            inbox,
            shard: Shard::new(limits, Box::new(make_signal), Box::new(make_spot)),
            teller,
            begin: Instant::now(),
            tick,
            scratch: vec![0; 16 * 1024].into_boxed_slice(),
            stopping: false,
        })
    }

    pub(super) fn inbox(&self) -> &HostArc<ShardInbox> {
        &self.inbox
    }

    /// Runs until it is told to shut down. Whatever ends it, its connections are closed and counted out.
    pub(super) fn run(mut self) {
        let mut panics = FirstPanic::default();
        panics.run(|| {
            while !(self.stopping && self.shard.connections() == 0) {
                self.turn();
            }
        });
        // Left over only by a panic: a bug of ours, which it has told of. The other shards go on.
        if !self.stopping {
            self.teller.totals.died(self.teller.shard);
        }
        if self.shard.connections() > 0 {
            let mut more = true;
            while more {
                let closed = panics.run(|| self.shard.close_some(1, CloseReason::Shutdown));
                more = closed.unwrap_or(true);
            }
            panics.run(|| self.tell_gone());
        }
        // Pairs with the fence in `Reactor::adopt`: who is not seen here sees that the shard has ended.
        fence(Ordering::SeqCst);
        while let Some(command) = self.inbox.next_command() {
            panics.run(|| self.refuse(command));
        }
    }

    fn turn(&mut self) {
        self.poll_events();
        self.tick();
        self.take_events();
        self.take_inbox();
        self.shard.turn();
        if self.stopping {
            self.shard
                .close_some(CLOSES_PER_TURN, CloseReason::Shutdown);
        }
        self.tell_gone();
    }

    /// Closes what came too late.
    fn refuse(&self, command: Command) {
        if let Command::Join(joiner) = command {
            let id = joiner.refuse();
            self.teller.tell(id, CloseReason::Shutdown);
        }
    }

    fn poll_events(&mut self) {
        let timeout = if self.shard.is_busy() || self.stopping || !self.inbox.try_sleep() {
            Some(Duration::ZERO)
        } else if self.shard.has_deadlines() {
            Some(self.tick)
        } else {
            None
        };
        if self.poll.poll(&mut self.events, timeout).is_err() {
            // Interrupted, or out of memory: the next turn tries again.
            self.events.clear();
        }
        self.inbox.stay_awake();
    }

    fn tick(&mut self) {
        let ticks = self.begin.elapsed().as_nanos() / self.tick.as_nanos().max(1);
        self.shard.tick(u64::try_from(ticks).unwrap_or(u64::MAX));
    }

    fn take_events(&mut self) {
        for event in &self.events {
            if event.token() == WAKER {
                continue;
            }
            let key = Key::from_token(event.token());
            if event.is_error() {
                self.shard.close(key, CloseReason::PeerReset);
            } else if event.is_read_closed() {
                // Also a client that has only ended its own side: who streams has nothing more to ask.
                self.shard.close(key, CloseReason::PeerClosed);
            } else {
                if event.is_readable() {
                    self.shard.readable(key, &mut self.scratch);
                }
                if event.is_writable() {
                    self.shard.writable(key);
                }
            }
        }
    }

    fn take_inbox(&mut self) {
        for _ in 0..COMMANDS_PER_TURN {
            match self.inbox.next_command() {
                None => break,
                Some(Command::Shutdown) => self.stopping = true,
                Some(Command::End(key)) => self.shard.end(key),
                Some(command @ Command::Join(_)) if self.stopping => self.refuse(command),
                Some(Command::Join(joiner)) => {
                    let registry = self.poll.registry();
                    self.shard.join(*joiner, |socket, key| {
                        registry.register(
                            &mut SourceFd(&socket.as_raw_fd()),
                            key.token(),
                            Interest::READABLE | Interest::WRITABLE,
                        )
                    });
                }
            }
        }
        for _ in 0..SIGNALS_PER_TURN {
            let Some(topic) = self.inbox.next_topic() else {
                break;
            };
            self.shard.signalled(topic);
        }
    }

    fn tell_gone(&mut self) {
        if self.shard.gone.is_empty() {
            return;
        }
        for gone in std::mem::take(&mut self.shard.gone) {
            self.teller.tell(gone.id, gone.reason);
        }
    }
}
