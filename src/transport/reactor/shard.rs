//! The connections of one thread, without the thread: who stands where, and who is served next.
//!
//! **Role.** A [`Shard`] owns its connections and has one subscription per topic. It knows nothing of polls and wakers: the
//! driver tells it what happened, and calls [`turn`](Shard::turn) while it [is busy](Shard::is_busy).
//!
//! **Protocol.** A topic with something new begins a walk: one batch, sent to each member. A member whose socket is full
//! falls behind: it leaves its crowds with a place of its own, and goes on from the log when the socket takes bytes again.
//! When it stands where its topics' subscriptions stand, it joins them again. New connections begin as if behind.
//!
//! A connection that was ended from outside is told so last, as soon as its socket takes it.
//!
//! **Invariants.** Those of [`connection`](super::connection), [`crowd`](super::crowd) and `belongings`, and S1: no more
//! is done in a turn than the budgets allow, whatever is published and whoever can go on; what is left stands in a queue.

mod behind;
mod belongings;
mod leaving;
mod serving;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::Waker;
use std::time::Duration;

use belongings::{Belongings, let_go};
use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use super::CloseReason;
use super::MAX_RECEIVED_BYTES;
use super::batch::{Batch, End};
use super::connection::{Behind, Connection, Key, Place, Rest, State, Stream};
use super::crowd::{Crowd, Member, Moved};
use super::inbox::Clear;
use super::socket::Socket;
use super::wheel::Wheel;
use crate::ending::{EndReason, Spot};
use crate::position::OnLag;
use crate::subscription::Subscription;
use crate::sync::{Arc, HostArc};
use crate::topic::{TopicCore, User};
use crate::unwind::FirstPanic;

/// A connection that comes to the shard.
#[derive(Debug)]
pub(super) struct Joiner<S> {
    pub(super) id: u64,
    pub(super) socket: S,
    /// What is sent first.
    pub(super) first: Bytes,
    pub(super) subscriptions: SmallVec<[Subscription; 1]>,
}

impl<S> Joiner<S> {
    /// Closes what does not come in. Tells which it was.
    pub(super) fn refuse(self) -> u64 {
        drop(self.socket);
        for subscription in self.subscriptions {
            let_go(subscription);
        }
        self.id
    }
}

/// A connection that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) id: u64,
    pub(super) reason: CloseReason,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) tick: Duration,
    /// In ticks.
    pub(super) stall: u64,
    /// In ticks.
    pub(super) idle: Option<u64>,
    /// What is gathered for one send: about what a socket takes. One larger frame makes a batch of its own.
    pub(super) batch_bytes: usize,
}

#[derive(Debug)]
enum Timer {
    /// A connection that is behind must have taken a byte.
    Stall(Key),
    /// Something must have been published.
    Idle(u64),
    /// A connection is old at this tick.
    Age(Key, u64),
}

/// Makes the signal of a topic that the shard numbers so.
type MakeSignal = Box<dyn Fn(u64) -> (Waker, HostArc<dyn Clear>) + Send>;

/// Makes the spot at which a connection is found that is ended from outside: it has [`Shard::end`] called.
type MakeSpot = Box<dyn Fn(Key) -> HostArc<dyn Spot> + Send>;

pub(super) struct Shard<S> {
    limits: Limits,
    make_signal: MakeSignal,
    make_spot: MakeSpot,
    connections: Slab<Connection<S>>,
    crowds: Slab<(u32, Crowd<S>)>,
    /// Which crowd reads a topic, for each way to tell of lag.
    by_topic: HashMap<(usize, OnLag), u32>,
    generations: u32,
    /// Topics that have work.
    queue: VecDeque<u64>,
    /// Connections that are behind and can go on.
    resumes: VecDeque<Key>,
    wheel: Wheel<Timer>,
    /// Timers that are due.
    due: VecDeque<Timer>,
    now: u64,
    /// The batch that was last gathered for a connection that was behind, and of which topic: others may stand there too.
    recent: (u64, Box<Batch>),
    #[expect(clippy::vec_box, reason = "crowds take the boxes as they are")]
    spare: Vec<Box<Batch>>,
    /// How far the connections were closed, when all are.
    closed_below: usize,
    belongings: Belongings,
    /// Who is gone since the driver last asked.
    pub(super) gone: Vec<Gone>,
}

fn topic_id(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half")]
const fn index_of(id: u64) -> u32 {
    id as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a process has fewer descriptors than 2^32"
)]
const fn narrow(index: usize) -> u32 {
    index as u32
}

impl<S: Socket> Shard<S> {
    pub(super) fn new(limits: Limits, make_signal: MakeSignal, make_spot: MakeSpot) -> Self {
        Self {
            limits,
            make_signal,
            make_spot,
            connections: Slab::new(),
            crowds: Slab::new(),
            by_topic: HashMap::new(),
            generations: 0,
            queue: VecDeque::new(),
            resumes: VecDeque::new(),
            wheel: Wheel::new(),
            due: VecDeque::new(),
            now: 0,
            recent: (u64::MAX, Box::default()),
            spare: Vec::new(),
            closed_below: 0,
            belongings: Belongings::default(),
            gone: Vec::new(),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How often connections stand in the lists of those that wait for topics' subscriptions.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let crowds = self.crowds.iter();
        crowds.map(|(_, (_, crowd))| crowd.waiting()).sum()
    }

    /// Whether there is work that waits for nothing.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.resumes.is_empty() || !self.due.is_empty()
    }

    pub(super) fn has_deadlines(&self) -> bool {
        !self.wheel.is_empty()
    }

    /// Numbers are not used twice before 2^32 others were: what is stale is told apart.
    fn next_generation(&mut self) -> u32 {
        self.generations = (self.generations + 1) % u32::MAX;
        self.generations
    }

    fn connection(&mut self, key: Key) -> Option<&mut Connection<S>> {
        let connection = self.connections.get_mut(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    fn key(&self, index: u32) -> Option<Key> {
        let generation = self.connections.get(index as usize)?.generation;
        Some(Key { index, generation })
    }

    fn crowd(&mut self, topic: u32) -> Option<&mut Crowd<S>> {
        self.crowds.get_mut(topic as usize).map(|(_, crowd)| crowd)
    }

    // ---- coming

    /// Takes a connection in. `register` has the poll watch it.
    pub(super) fn join(
        &mut self,
        mut joiner: Joiner<S>,
        register: impl FnOnce(&S, Key) -> io::Result<()>,
    ) {
        let key = Key {
            index: narrow(self.connections.vacant_key()),
            generation: self.next_generation(),
        };
        if let Err(error) = register(&joiner.socket, key) {
            self.gone.push(Gone {
                id: joiner.id,
                reason: CloseReason::Failed(error.kind()),
            });
            joiner.refuse();
            return;
        }
        let mut streams = SmallVec::<[Stream; 1]>::new();
        let mut end = None;
        let mut wrapped = false;
        let mut leaves = false;
        for mut subscription in joiner.subscriptions.drain(..) {
            subscription.hand_over();
            if let Some(reason) = subscription.end_reason() {
                // It was read before it came here.
                if reason != EndReason::TopicClosed || subscription.is_ended_from_outside() {
                    end = end.or(Some(End::Ending(reason)));
                }
                let_go(subscription);
                continue;
            }
            let topic = self.crowd_of(&subscription);
            if streams.iter().any(|stream| stream.topic == topic) {
                // The topic is read once.
                let_go(subscription);
                continue;
            }
            if let Some(belonging) = subscription.take_belonging() {
                let (has_envelope, ended) = self.take_over(key, topic, belonging);
                wrapped |= has_envelope;
                if let Some(reason) = ended {
                    end = end.or(Some(End::Ending(reason)));
                    if reason == EndReason::Lagged {
                        self.count_lagged(topic);
                    }
                }
            }
            if streams.is_empty() {
                self.let_age(key, &subscription);
            }
            subscription.hand_over_count();
            if let Some(crowd) = self.crowd(topic) {
                leaves |= crowd.asked_behind;
                crowd.fell_behind();
            }
            streams.push(Stream {
                topic,
                position: subscription.place(),
                own: Some(subscription),
                goal: u64::MAX,
                hole: false,
                listed: false,
            });
        }
        if streams.is_empty() {
            end = end.or(Some(End::Closed));
        }
        self.connections.insert(Connection {
            id: joiner.id,
            generation: key.generation,
            received: 0,
            timed: false,
            state: State::Behind(Box::new(Behind {
                socket: joiner.socket,
                rest: Rest::from(joiner.first),
                streams,
                progress: self.now,
                queued: false,
                waits: false,
                wrapped,
                end,
                leaving: None,
            })),
        });
        if leaves {
            self.ask_to_leave(key, EndReason::Drained);
        }
        self.resume(key);
    }

    /// The crowd that reads the topic of `subscription` as it wants it.
    fn crowd_of(&mut self, subscription: &Subscription) -> u32 {
        let core = subscription.topic();
        let on_lag = subscription.on_lag();
        let name = (Arc::as_ptr(core).addr_of(), on_lag);
        if let Some(&topic) = self.by_topic.get(&name) {
            return topic;
        }
        let generation = self.next_generation();
        let topic = narrow(self.crowds.vacant_key());
        let id = topic_id(topic, generation);
        let feed = Subscription::for_others(core, on_lag);
        let crowd = Crowd::new(feed, (self.make_signal)(id), self.now);
        self.crowds.insert((generation, crowd));
        self.by_topic.insert(name, topic);
        // It parks at its first turn.
        self.enqueue(topic);
        if let Some(idle) = self.limits.idle {
            self.wheel.set(self.now + idle, Timer::Idle(id));
        }
        topic
    }

    // ---- what the driver tells

    /// A topic's subscription was woken.
    pub(super) fn signalled(&mut self, id: u64) {
        if self.is_topic(id)
            && let Some(crowd) = self.crowd(index_of(id))
        {
            crowd.heard();
            self.enqueue(index_of(id));
        }
    }

    fn is_topic(&self, id: u64) -> bool {
        let crowd = self.crowds.get(index_of(id) as usize);
        crowd.is_some_and(|&(generation, _)| topic_id(index_of(id), generation) == id)
    }

    fn enqueue(&mut self, topic: u32) {
        if let Some((generation, crowd)) = self.crowds.get_mut(topic as usize)
            && !crowd.queued
        {
            crowd.queued = true;
            self.queue.push_back(topic_id(topic, *generation));
        }
    }

    /// A socket takes bytes again.
    pub(super) fn writable(&mut self, key: Key) {
        if let Some(connection) = self.connection(key)
            && let State::Behind(behind) = &mut connection.state
            && !behind.queued
            && !behind.waits
        {
            behind.queued = true;
            self.resumes.push_back(key);
        }
    }

    /// Bytes have come, which nobody expects: they are dropped, up to a bound.
    pub(super) fn readable(&mut self, key: Key, scratch: &mut [u8]) {
        loop {
            let Some(connection) = self.connections.get_mut(key.index as usize) else {
                return;
            };
            if connection.generation != key.generation {
                return;
            }
            let socket = match &mut connection.state {
                State::Behind(behind) => &mut behind.socket,
                State::Many(many) => &mut many.socket,
                State::One(place) => {
                    let member = self
                        .crowds
                        .get_mut(place.topic as usize)
                        .and_then(|(_, crowd)| crowd.members.get_mut(place.member as usize));
                    let Some(socket) = member.and_then(|member| member.socket.as_mut()) else {
                        return;
                    };
                    socket
                }
            };
            let reason = match socket.receive(scratch) {
                Ok(0) => CloseReason::PeerClosed,
                Ok(received) => {
                    connection.received = connection.received.saturating_add(narrow(received));
                    if connection.received <= MAX_RECEIVED_BYTES {
                        continue;
                    }
                    CloseReason::TooMuchInput
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return,
                    kind => CloseReason::of(kind),
                },
            };
            self.close(key, reason);
            return;
        }
    }

    /// The time in ticks: what is due is looked at in the next turns.
    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        self.due.extend(self.wheel.due(now));
    }

    fn check_stall(&mut self, key: Key) {
        let (now, stall) = (self.now, self.limits.stall);
        let Some(connection) = self.connection(key) else {
            return;
        };
        let State::Behind(behind) = &connection.state else {
            connection.timed = false;
            return;
        };
        let due = behind.progress + stall;
        // One that waits for its turn, or for its topic, does not stall.
        if behind.queued || behind.waits {
            self.wheel.set(now + stall, Timer::Stall(key));
        } else if now < due {
            self.wheel.set(due, Timer::Stall(key));
        } else {
            // The poll tells of room only when there is much: a slow client may have taken bytes without an event.
            self.resume(key);
            match self.connection(key).map(|connection| &connection.state) {
                None => {}
                // One that can go on, or waits for a publisher, was not seen with a full socket.
                Some(State::Behind(behind))
                    if behind.progress < now && !behind.queued && !behind.waits =>
                {
                    self.close(key, CloseReason::Stalled);
                }
                Some(_) => self.wheel.set(now + stall, Timer::Stall(key)),
            }
        }
    }

    fn check_idle(&mut self, id: u64) {
        let Some(idle) = self.limits.idle.filter(|_| self.is_topic(id)) else {
            return;
        };
        let now = self.now;
        let topic = index_of(id);
        let Some((_, crowd)) = self.crowds.get_mut(topic as usize) else {
            return;
        };
        let mut next = crowd.last_event + idle;
        if now >= next {
            next = now + idle;
            // On its turn it is seen whether something was published that nobody has heard of.
            crowd.expired = true;
            self.enqueue(topic);
        }
        self.wheel.set(next, Timer::Idle(id));
    }

    // ---- members

    /// Takes a member out of its crowd.
    fn take_member(&mut self, place: Place) -> Option<Member<S>> {
        let (member, moved) = self.crowd(place.topic)?.leave(place.member);
        for moved in moved.into_iter().flatten() {
            self.member_moved(place.topic, moved);
        }
        member
    }

    fn member_moved(&mut self, topic: u32, moved: Moved) {
        let Some(connection) = self.connections.get_mut(moved.connection as usize) else {
            return;
        };
        match &mut connection.state {
            State::One(place) => place.member = moved.member,
            State::Many(many) => {
                for place in many.places.iter_mut().filter(|place| place.topic == topic) {
                    place.member = moved.member;
                }
            }
            State::Behind(_) => debug_assert!(false, "K1: who is behind is no member"),
        }
    }

    // ---- going

    /// Ends a connection, whatever it was doing: its socket is closed and its memory is free when this returns.
    pub(super) fn close(&mut self, key: Key, reason: CloseReason) {
        if self.connection(key).is_none() {
            return;
        }
        let connection = self.connections.remove(key.index as usize);
        self.gone.push(Gone {
            id: connection.id,
            reason,
        });
        let belongings = self.belongings.take(key.index);
        for (_, belonging) in &belongings {
            belonging.unhand();
        }
        let flush = reason.is_ours();
        match connection.state {
            State::One(place) => {
                if let Some(Member {
                    socket: Some(socket),
                    ..
                }) = self.take_member(place)
                {
                    end_socket(socket, flush);
                }
                self.count_out(place.topic);
            }
            State::Many(mut many) => {
                end_socket(many.socket, flush);
                while let Some(place) = many.places.pop() {
                    drop(self.take_member(place));
                    self.count_out(place.topic);
                }
            }
            State::Behind(behind) => {
                end_socket(behind.socket, flush);
                let left = usize::from(behind.leaving.is_some());
                for stream in behind.streams {
                    drop(stream.own);
                    if let Some(crowd) = self.crowd(stream.topic) {
                        crowd.leaving -= left;
                        crowd.no_longer_behind();
                    }
                    self.count_out(stream.topic);
                }
            }
        }
        // B2
        for (_, belonging) in belongings {
            belonging.let_go();
        }
    }

    /// A reader of a topic has ended because it lagged.
    fn count_lagged(&mut self, topic: u32) {
        if let Some(crowd) = self.crowd(topic) {
            crowd.feed.topic().shared.lagged.add(1);
        }
    }

    /// Counts a subscriber of a topic out; the crowd goes with its last one.
    fn count_out(&mut self, topic: u32) {
        let Some((_, crowd)) = self.crowds.get(topic as usize) else {
            return;
        };
        let core = Arc::clone(crowd.feed.topic());
        if crowd.is_empty() {
            let (_, crowd) = self.crowds.remove(topic as usize);
            self.by_topic
                .remove(&(Arc::as_ptr(&core).addr_of(), crowd.feed.on_lag()));
        }
        // The last one drops the key, which is user code; this thread has other connections.
        FirstPanic::default().run(move || {
            core.exit(User::Subscription);
            drop(core);
        });
    }

    /// Ends up to `most` connections. Whether any are left. Nobody joins any more.
    pub(super) fn close_some(&mut self, most: usize, reason: CloseReason) -> bool {
        for _ in 0..most {
            if self.connections.is_empty() {
                return false;
            }
            let index = self.closed_below;
            self.closed_below += 1;
            if let Some(key) = u32::try_from(index).ok().and_then(|index| self.key(index)) {
                self.close(key, reason);
            }
        }
        !self.connections.is_empty()
    }
}

/// Closes a socket. `flush`: the client is to get what was sent.
fn end_socket<S: Socket>(mut socket: S, flush: bool) {
    if flush {
        socket.finish();
    }
}

impl CloseReason {
    /// Whether it was this side that ended the connection, in order.
    const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Idle | Self::Lagged | Self::TopicClosed | Self::Ended(_) | Self::Shutdown
        )
    }
}

impl From<End> for CloseReason {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::TopicClosed,
            End::Lagged => Self::Lagged,
            End::Idle => Self::Idle,
            End::Ending(reason) | End::Ended(reason) => Self::of_end(reason),
        }
    }
}

/// The address of a topic, to tell it from others while it lives.
trait AddrOf {
    fn addr_of(self) -> usize;
}

impl AddrOf for *const TopicCore {
    fn addr_of(self) -> usize {
        self.cast::<()>().addr()
    }
}
