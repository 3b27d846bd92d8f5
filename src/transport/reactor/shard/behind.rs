//! Connections whose sockets were full: each goes on from the log by itself, until it stands where its topics'
//! subscriptions stand.

use std::io;

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::CloseReason;
use super::super::batch::{Batch, Cut, End};
use super::super::connection::{Behind, Key, Many, Place, Rest, State, Stream};
use super::super::crowd::{Crowd, Member};
use super::super::socket::Socket;
use super::super::view::{Pieces, View, push};
use super::{Shard, Timer, topic_id};
use crate::ending::EndReason;
use crate::envelope::Envelope;
use crate::position::{Position, State as Standing};
use crate::topic::TopicCore;
use crate::transport::sse::end_notice;

/// What a connection that is behind is to get next.
struct Next<'a> {
    view: View<'a>,
    /// Where it stands when it has got all, if the batch was gathered for it.
    position: Option<Position>,
}

impl<S: Socket> Shard<S> {
    /// The socket of a connection in sync is full: it goes on by itself from where it stands (K1).
    pub(super) fn fall_behind(&mut self, key: Key, topic: u32, cut: Cut) {
        let (now, stall) = (self.now, self.limits.stall);
        let Some(connection) = self.connection(key) else {
            return;
        };
        let (mut socket, places, wrapped): (_, SmallVec<[Place; 1]>, _) =
            match &mut connection.state {
                State::One(place) => (None, SmallVec::from_buf([*place]), false),
                State::Many(_) => {
                    let nowhere = State::One(Place {
                        topic: u32::MAX,
                        member: u32::MAX,
                    });
                    match std::mem::replace(&mut connection.state, nowhere) {
                        State::Many(many) => (Some(many.socket), many.places.into(), many.wrapped),
                        _ => return,
                    }
                }
                State::Behind(_) => return,
            };
        let timed = std::mem::replace(&mut connection.timed, true);
        let mut streams = SmallVec::new();
        let mut leaves = false;
        for place in places {
            let Some(crowd) = self.crowd(place.topic) else {
                continue;
            };
            let offset = if place.topic == topic {
                cut.offset
            } else {
                crowd.offset_of(place.member)
            };
            let on_lag = crowd.feed.on_lag();
            leaves |= crowd.asked_behind;
            // First: an empty crowd would be let go.
            crowd.fell_behind();
            if let Some(member) = self.take_member(place) {
                socket = member.socket.or(socket);
            }
            streams.push(Stream {
                topic: place.topic,
                position: Position::at(offset, on_lag),
                own: None,
                goal: u64::MAX,
                hole: false,
                listed: false,
            });
        }
        let Some(socket) = socket else {
            debug_assert!(false, "K1: a connection has a socket");
            return;
        };
        if let Some(connection) = self.connection(key) {
            connection.state = State::Behind(Box::new(Behind {
                socket,
                rest: cut.rest,
                streams,
                progress: now,
                queued: false,
                waits: false,
                wrapped,
                end: cut.end,
                leaving: None,
            }));
        }
        if cut.end == Some(End::Lagged) {
            self.count_lagged(topic);
        }
        if !timed {
            self.wheel.set(now + stall, Timer::Stall(key));
        }
        if leaves {
            self.ask_to_leave(key, EndReason::Drained);
        }
    }

    /// Goes on with a connection that is behind, by one send. Tells how many bytes it tried to send.
    pub(super) fn resume(&mut self, key: Key) -> usize {
        let Self {
            connections,
            crowds,
            recent,
            limits,
            now,
            belongings,
            ..
        } = self;
        let connection = connections.get_mut(key.index as usize);
        let Some(connection) = connection.filter(|at| at.generation == key.generation) else {
            return 0;
        };
        let State::Behind(behind) = &mut connection.state else {
            return 0;
        };
        behind.queued = false;
        let mut chosen = None;
        // Also of one whose socket is never seen with room for all.
        if behind.end.is_none() && !behind.ends_at_goal() {
            let leaving = behind.leaving.is_some();
            chosen = behind.streams.iter().position(|stream| {
                let crowd = crowds.get(stream.topic as usize);
                let has_more = crowd.is_some_and(|(_, crowd)| stream.has_more(crowd.feed.offset()));
                has_more && !stream.hole && !(leaving && stream.is_at_goal())
            });
        }
        let next = chosen.and_then(|at| {
            let stream = &behind.streams[at];
            let (generation, crowd) = crowds.get(stream.topic as usize)?;
            let id = topic_id(stream.topic, *generation);
            let envelope = if behind.wrapped {
                belongings.envelope(key.index, stream.topic)
            } else {
                None
            };
            Some(stream.next((id, envelope), crowd, recent, limits.batch_bytes))
        });
        let notice = match behind.end {
            Some(End::Ending(reason)) => end_notice(reason),
            _ => Bytes::new(),
        };
        let tail = match &next {
            Some(next) => Tail::View(next.view),
            None => Tail::Notice(&notice),
        };
        let head = behind.rest.len();
        let (tried, sent) = match behind.send(tail) {
            Ok(sent) => sent,
            Err(error) => {
                self.close(key, CloseReason::of(error.kind()));
                return 0;
            }
        };
        if sent > 0 {
            behind.progress = *now;
        }
        let full = sent < tried;
        if sent < head {
            behind.rest.advance(sent);
        } else {
            behind.rest = Rest::default();
            if let Some(End::Ending(reason)) = behind.end {
                behind.rest = Rest::from(notice.slice(sent - head..));
                behind.end = Some(End::Ended(reason));
            } else if let (Some(next), Some(at)) = (next, chosen) {
                let topic = behind.streams[at].topic as usize;
                let found_nothing = next.is_nothing();
                if let Some((_, crowd)) = crowds.get(topic) {
                    let core = crowd.feed.topic();
                    behind.advance(at, next, sent - head, core);
                    if behind.end == Some(End::Lagged) {
                        core.shared.lagged.add(1);
                    }
                }
                if found_nothing && let Some((_, crowd)) = crowds.get_mut(topic) {
                    behind.streams[at].meet_hole(key, crowd);
                }
                // In turn, so that a busy topic does not keep the others back.
                behind.streams.rotate_left(at + 1);
            }
        }
        self.after_resume(key, full);
        tried
    }

    /// Decides how a connection that is behind goes on.
    fn after_resume(&mut self, key: Key, full: bool) {
        let (now, stall) = (self.now, self.limits.stall);
        let Some(connection) = self.connections.get_mut(key.index as usize) else {
            return;
        };
        let State::Behind(behind) = &mut connection.state else {
            return;
        };
        if full {
            // The poll tells when it can go on.
            if !std::mem::replace(&mut connection.timed, true) {
                self.wheel.set(now + stall, Timer::Stall(key));
            }
            return;
        }
        if let Some(end) = behind.end {
            self.close(key, CloseReason::from(end));
            return;
        }
        if behind.ends_at_goal() {
            self.writable(key);
            return;
        }
        let leaving = behind.leaving.is_some();
        let mut more = false;
        let mut waits = false;
        let mut ended = SmallVec::<[u32; 1]>::new();
        for stream in &mut behind.streams {
            let Some((_, crowd)) = self.crowds.get(stream.topic as usize) else {
                continue;
            };
            let (own, feed) = (stream.position.offset(), crowd.feed.offset());
            if leaving && stream.is_at_goal() {
                // It has its share, and the others have not.
            } else if stream.hole {
                waits = true;
            } else if stream.has_more(feed) {
                more = true;
            } else if own > feed || leaving && !crowd.feed.is_ended() {
                waits = true;
            } else {
                if stream.own.take().is_some() {
                    debug_assert!(own == feed, "caught up");
                }
                if crowd.feed.is_ended() {
                    ended.push(stream.topic);
                }
            }
        }
        behind.waits = !more && waits;
        if !ended.is_empty() {
            behind
                .streams
                .retain(|stream| !ended.contains(&stream.topic));
            let left = behind.streams.len();
            for topic in ended {
                if let Some(crowd) = self.crowd(topic) {
                    crowd.leaving -= usize::from(leaving);
                    crowd.no_longer_behind();
                }
                self.count_out(topic);
                self.let_go_of(key.index, topic);
            }
            if left == 0 {
                self.close(key, CloseReason::TopicClosed);
                return;
            }
            if let Some(connection) = self.connection(key)
                && let State::Behind(behind) = &mut connection.state
                && behind.ends_at_goal()
            {
                self.writable(key);
                return;
            }
        }
        if more {
            self.writable(key);
        } else if waits {
            self.wait(key);
        } else {
            self.rejoin(key);
        }
    }

    /// Has a connection that is behind go on when one of its topics' subscriptions has.
    fn wait(&mut self, key: Key) {
        let Self {
            connections,
            crowds,
            ..
        } = self;
        let Some(State::Behind(behind)) = connections
            .get_mut(key.index as usize)
            .map(|connection| &mut connection.state)
        else {
            return;
        };
        let leaving = behind.leaving.is_some();
        let mut served = SmallVec::<[u32; 1]>::new();
        for stream in &mut behind.streams {
            let Some((_, crowd)) = crowds.get_mut(stream.topic as usize) else {
                continue;
            };
            if leaving && stream.is_at_goal() {
                continue;
            }
            let (own, feed) = (stream.position.offset(), crowd.feed.offset());
            // Also where it has caught up: the others may be held up for long.
            let next = if leaving { stream.goal } else { own + 1 };
            if stream.wait_for(if own == feed { next } else { own }, key, crowd) {
                // Once: two that wait crosswise would have each other's topics served for ever. And each time, for that
                // turn strikes those off the list who wait no more.
                served.push(stream.topic);
            }
        }
        for topic in served {
            self.enqueue(topic);
        }
    }

    /// A connection that has caught up with all its topics is in sync again (K1).
    fn rejoin(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let nowhere = State::One(Place {
            topic: u32::MAX,
            member: u32::MAX,
        });
        let State::Behind(behind) = std::mem::replace(&mut connection.state, nowhere) else {
            debug_assert!(false, "only who is behind comes back");
            return;
        };
        let Behind {
            socket,
            streams,
            wrapped,
            ..
        } = *behind;
        if let [stream] = &streams[..]
            && !wrapped
        {
            let place = self.add_member(stream.topic, key.index, Some(socket));
            if let (Some(connection), Some(place)) = (self.connection(key), place) {
                connection.state = State::One(place);
            }
            return;
        }
        if let Some(connection) = self.connection(key) {
            connection.state = State::Many(Box::new(Many {
                socket,
                places: Vec::with_capacity(streams.len()),
                wrapped,
            }));
        }
        for stream in &streams {
            let place = self.add_member(stream.topic, key.index, None);
            if let Some(connection) = self.connection(key)
                && let State::Many(many) = &mut connection.state
            {
                many.places.extend(place);
            }
        }
    }

    fn add_member(&mut self, topic: u32, connection: u32, socket: Option<S>) -> Option<Place> {
        let crowd = self.crowd(topic)?;
        let (member, moved) = crowd.join(Member { socket, connection });
        crowd.no_longer_behind();
        if let Some(moved) = moved {
            self.member_moved(topic, moved);
        }
        Some(Place { topic, member })
    }
}

impl<S> Behind<S> {
    /// It need not wait for its topics' subscriptions. Tells whether it did.
    pub(super) fn wait_no_more(&mut self, now: u64) -> bool {
        let waited = std::mem::replace(&mut self.waits, false);
        if waited {
            // It did not stall.
            self.progress = now;
        }
        waited
    }

    /// Has it end, if it leaves and has got all that there was when it was asked to.
    fn ends_at_goal(&mut self) -> bool {
        let reason = self.leaving;
        let reason = reason.filter(|_| self.streams.iter().all(Stream::is_at_goal));
        if let Some(reason) = reason {
            self.end = Some(End::Ending(reason));
            self.waits = false;
        }
        reason.is_some()
    }
}

impl<S: Socket> Behind<S> {
    /// Sends what is left of the last entry, and then `tail`. Tells how many bytes it tried to send, and how many were
    /// taken: none by a full socket.
    fn send(&mut self, tail: Tail<'_>) -> io::Result<(usize, usize)> {
        loop {
            let sent = match (self.rest.in_one(), tail.in_one()) {
                (Some([]), Some([])) => Ok((0, 0)),
                (Some([]), Some(all)) | (Some(all), Some([])) => {
                    self.socket.send(all).map(|sent| (all.len(), sent))
                }
                _ => self.send_in_pieces(tail),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It does not matter how many: there is some.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((1, 0)),
                sent => return sent,
            }
        }
    }

    /// The same, whatever it is.
    #[inline(never)]
    fn send_in_pieces(&mut self, tail: Tail<'_>) -> io::Result<(usize, usize)> {
        let mut pieces = Pieces::new();
        self.rest.pieces(&mut pieces);
        let tried = self.rest.len() + tail.pieces(&mut pieces);
        Ok((tried, self.socket.send_pieces(&pieces)?))
    }

    /// Notes that so many bytes of `next` were sent.
    fn advance(&mut self, stream: usize, next: Next<'_>, sent: usize, topic: &TopicCore) {
        let stream = &mut self.streams[stream];
        let on_lag = stream.position.on_lag;
        let view = next.view;
        if sent == view.len() {
            stream.position = next
                .position
                .unwrap_or_else(|| Position::at(view.batch().to(), on_lag));
            self.end = view.batch().end().filter(|&end| end == End::Lagged);
        } else if sent > 0 {
            let cut = view.cut(sent);
            if cut.offset >= stream.position.offset() {
                stream.position.advance_to(topic, cut.offset);
            }
            self.rest = cut.rest;
            self.end = cut.end;
        }
    }
}

/// What follows what is left of the last entry.
#[derive(Clone, Copy)]
enum Tail<'a> {
    View(View<'a>),
    /// Empty, unless the stream ends.
    Notice(&'a [u8]),
}

impl<'a> Tail<'a> {
    fn in_one(self) -> Option<&'a [u8]> {
        match self {
            Self::View(view) => view.plain(),
            Self::Notice(notice) => Some(notice),
        }
    }

    fn pieces(self, into: &mut Pieces<'a>) -> usize {
        match self {
            Self::View(view) => view.pieces(into),
            Self::Notice(notice) => {
                push(into, notice);
                notice.len()
            }
        }
    }
}

impl Next<'_> {
    /// Whether there is neither an event nor a notice.
    fn is_nothing(&self) -> bool {
        let batch = self.view.batch();
        batch.entries() == 0 && batch.end().is_none()
    }
}

impl Stream {
    /// Nothing can be read of what the crowd's subscription has passed: mostly, that one began behind a publisher that has not
    /// filled its place yet. Whoever fills or evicts it wakes the subscription, which is parked, or has its turn still to come.
    fn meet_hole<S>(&mut self, key: Key, crowd: &mut Crowd<S>) {
        self.hole = true;
        // At once: what is filled while the connection is busy with other topics must not be missed.
        self.wait_for(self.position.offset(), key, crowd);
    }

    /// Has the connection go on when the crowd's subscription has had its turn and stands at `offset`. Whether it did not wait
    /// there already.
    fn wait_for<S>(&mut self, offset: u64, key: Key, crowd: &mut Crowd<S>) -> bool {
        let is_new = !std::mem::replace(&mut self.listed, true);
        if is_new {
            crowd.wait_for(key, offset);
        }
        is_new
    }

    /// Whether one that leaves has got what there was when it was asked to.
    fn is_at_goal(&self) -> bool {
        self.position.state != Standing::Unknown && self.position.offset() >= self.goal
    }

    /// Whether there is something for it that its topic's subscription has read.
    fn has_more(&self, feed: u64) -> bool {
        self.position.state == Standing::Unknown || self.position.offset() < feed
    }

    /// What it is to get. What its topic's walk, or the last one that was behind, has gathered already serves it too.
    fn next<'a, S>(
        &self,
        (id, envelope): (u64, Option<&'a Envelope>),
        crowd: &'a Crowd<S>,
        recent: &'a mut (u64, Box<Batch>),
        limit: usize,
    ) -> Next<'a> {
        let offset = self.position.offset();
        let plain = self.position.state == Standing::Reading;
        let (until, feed) = (crowd.feed.offset(), &crowd.feed);
        // An empty one says nothing of what is there now.
        let place_in = |batch: &Batch| {
            let skip = batch.skip_to(offset);
            skip.filter(|_| plain && batch.from() < batch.to())
        };
        let walk = crowd.batch.as_deref();
        if let Some((batch, skip)) = walk.and_then(|walk| Some((walk, place_in(walk)?))) {
            return Next {
                view: View::new(batch, skip, envelope),
                position: None,
            };
        }
        let (recent_id, batch) = recent;
        if *recent_id == id
            && let Some(skip) = place_in(batch)
        {
            return Next {
                view: View::new(batch, skip, envelope),
                position: None,
            };
        }
        let mut position = self.position.clone();
        *recent_id = id;
        batch.gather(feed.topic(), &mut position, until, limit);
        Next {
            view: View::new(batch, 0, envelope),
            position: Some(position),
        }
    }
}
