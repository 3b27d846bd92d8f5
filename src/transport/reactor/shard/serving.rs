//! A turn: timers, connections that were behind, and the walks, each up to a bound (S1).

use super::super::CloseReason;
use super::super::batch::End;
use super::super::connection::{Connection, Key, State};
use super::super::crowd::{Budget, Sent, Stop, send_view};
use super::super::socket::Socket;
use super::super::view::View;
use super::{Shard, Timer, index_of};
use crate::subscription::Readiness;

/// Sends to members before other topics and the poll have their turn; about half a millisecond.
const SENDS_PER_WALK: usize = 128;
/// And bytes.
const BYTES_PER_WALK: usize = 1024 * 1024;
/// Topics whose walks go on in one turn take so many sends together.
const SENDS_PER_TURN: usize = 256;
/// Connections that were behind and can go on, in one turn.
const RESUMES_PER_TURN: usize = 64;
/// Deadlines that are looked at in one turn: each may cost a send.
const TIMERS_PER_TURN: usize = 64;
/// Bytes of the walks of one turn, and of those who were behind.
const BYTES_PER_TURN: usize = 4 * 1024 * 1024;
/// Batches kept for the next walks.
const SPARE_BATCHES: usize = 4;

impl<S: Socket> Shard<S> {
    /// Does a bounded part of what there is to do (S1).
    pub(in super::super) fn turn(&mut self) {
        for _ in 0..TIMERS_PER_TURN {
            match self.due.pop_front() {
                None => break,
                Some(Timer::Stall(key)) => self.check_stall(key),
                Some(Timer::Idle(id)) => self.check_idle(id),
                Some(Timer::Age(key, due)) => self.check_age(key, due),
            }
        }
        let mut bytes = BYTES_PER_TURN;
        for _ in 0..RESUMES_PER_TURN.min(self.resumes.len()) {
            let Some(key) = self.resumes.pop_front() else {
                break;
            };
            bytes = bytes.saturating_sub(self.resume(key));
            if bytes == 0 {
                break;
            }
        }
        if self.resumes.is_empty() {
            // Nothing is kept alive for those who may come.
            self.recent.0 = u64::MAX;
            self.recent.1.shrink();
        }
        let mut turn = Budget {
            sends: SENDS_PER_TURN,
            bytes: BYTES_PER_TURN,
        };
        for _ in 0..self.queue.len() {
            if turn.is_spent() {
                break;
            }
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            if self.is_topic(id) {
                // Looking at a topic costs about as much as a send.
                turn.sends -= 1;
                self.serve(index_of(id), &mut turn);
            }
        }
    }

    /// Serves one topic, with its share of what is left of the turn.
    fn serve(&mut self, topic: u32, turn: &mut Budget) {
        let Some((_, crowd)) = self.crowds.get_mut(topic as usize) else {
            return;
        };
        crowd.queued = false;
        if crowd.batch.is_none() {
            let found = crowd.look();
            let expired = std::mem::take(&mut crowd.expired)
                && self.now
                    >= crowd
                        .last_event
                        .saturating_add(self.limits.idle.unwrap_or(u64::MAX));
            match found {
                None | Some(Readiness::Heartbeat) if expired => crowd.begin_end(End::Idle),
                None => {}
                Some(found) => {
                    crowd.begin(found, &mut self.spare, self.limits.batch_bytes, self.now);
                }
            }
        }
        let mut budget = turn.share(SENDS_PER_WALK, BYTES_PER_WALK);
        let done = self.walk(topic, &mut budget);
        turn.return_share(&budget);
        if !done {
            self.see_off(topic);
            self.enqueue(topic);
            return;
        }
        let Some((_, crowd)) = self.crowds.get_mut(topic as usize) else {
            return;
        };
        if let Some(mut batch) = crowd.finish() {
            if self.spare.len() < SPARE_BATCHES {
                batch.shrink();
                self.spare.push(batch);
            }
            // Either it parks, or it has its turn again: then the next batch is gathered, not before.
            match crowd.look() {
                None if !crowd.expired => {}
                None | Some(Readiness::Readable) => self.enqueue(topic),
                Some(found) => {
                    crowd.begin(found, &mut self.spare, self.limits.batch_bytes, self.now);
                    self.enqueue(topic);
                }
            }
        }
        let now = self.now;
        for key in self.reached(topic) {
            if let Some(connection) = self.connection(key)
                && let State::Behind(behind) = &mut connection.state
            {
                behind.wait_no_more(now);
                let streams = behind.streams.iter_mut();
                for stream in streams.filter(|stream| stream.topic == topic) {
                    (stream.hole, stream.listed) = (false, false);
                }
                self.writable(key);
            }
        }
        self.see_off(topic);
    }

    /// Who waited for a topic's subscription, and waits no more.
    fn reached(&mut self, topic: u32) -> Vec<Key> {
        let Self {
            connections,
            crowds,
            ..
        } = self;
        let Some((_, crowd)) = crowds.get_mut(topic as usize) else {
            return Vec::new();
        };
        crowd.reached(|key| {
            let connection = connections.get(key.index as usize);
            let connection = connection.filter(|at| at.generation == key.generation);
            matches!(connection.map(|at| &at.state), Some(State::Behind(behind))
                if behind.streams.iter().any(|stream| stream.topic == topic && stream.listed))
        })
    }

    /// Goes on with a topic's walk. Whether it is done.
    fn walk(&mut self, topic: u32, budget: &mut Budget) -> bool {
        loop {
            let Some((_, crowd)) = self.crowds.get_mut(topic as usize) else {
                return true;
            };
            let mut envelope = None;
            let sent = match crowd.walk(budget) {
                Stop::Done => return true,
                Stop::Paused => return false,
                Stop::At(sent) => sent,
                Stop::Elsewhere => {
                    let (Some(batch), Some(member)) =
                        (&crowd.batch, crowd.members.get(crowd.position))
                    else {
                        return true;
                    };
                    let connection = self.connections.get_mut(member.connection as usize);
                    let Some(State::Many(many)) = connection.map(|found| &mut found.state) else {
                        debug_assert!(
                            false,
                            "K1: a member without a socket has several topics or an envelope"
                        );
                        crowd.position += 1;
                        continue;
                    };
                    if many.wrapped {
                        envelope = self.belongings.envelope(member.connection, topic).cloned();
                    }
                    let view = View::new(batch, 0, envelope.as_ref());
                    if !budget.take(view.len()) {
                        return false;
                    }
                    match send_view(&mut many.socket, &view) {
                        None => {
                            crowd.position += 1;
                            continue;
                        }
                        Some(sent) => sent,
                    }
                }
            };
            let cut = match (&sent, &crowd.batch) {
                (Sent::Part(sent) | Sent::More(sent), Some(batch)) => {
                    Some(View::new(batch, 0, envelope.as_ref()).cut(*sent))
                }
                _ => None,
            };
            let member = crowd.members.get(crowd.position).map(|at| at.connection);
            let Some(key) = member.and_then(|connection| self.key(connection)) else {
                debug_assert!(false, "a member is a connection");
                return true;
            };
            match (sent, cut) {
                (Sent::Failed(error), _) => self.close(key, CloseReason::of(error.kind())),
                (Sent::Last(End::Idle), _) if self.is_busy_elsewhere(key) => {
                    if let Some(crowd) = self.crowd(topic) {
                        crowd.position += 1;
                    }
                }
                (Sent::Last(end), _) => self.end_stream(key, topic, end),
                (Sent::Part(_), Some(cut)) => self.fall_behind(key, topic, cut),
                (Sent::More(_), Some(cut)) => {
                    self.fall_behind(key, topic, cut);
                    // Its socket was not seen full.
                    self.writable(key);
                }
                (Sent::Part(_) | Sent::More(_), None) => return true,
            }
        }
    }

    /// Whether one of the topics of a connection in sync is not idle.
    fn is_busy_elsewhere(&mut self, key: Key) -> bool {
        let (now, idle) = (self.now, self.limits.idle.unwrap_or(u64::MAX));
        let Self {
            connections,
            crowds,
            ..
        } = self;
        let Some(State::Many(many)) = connections.get(key.index as usize).map(|at| &at.state)
        else {
            return false;
        };
        let mut topics = many.places.iter().map(|place| place.topic as usize);
        topics.any(|topic| {
            let crowd = crowds.get(topic);
            crowd.is_some_and(|(_, crowd)| now < crowd.last_event.saturating_add(idle))
        })
    }

    /// A topic of a connection in sync has ended.
    fn end_stream(&mut self, key: Key, topic: u32, end: End) {
        if let Some(Connection {
            state: State::Many(many),
            ..
        }) = self.connection(key)
            && end == End::Closed
            && many.places.len() > 1
            && let Some(at) = many.places.iter().position(|place| place.topic == topic)
        {
            let place = many.places.swap_remove(at);
            drop(self.take_member(place));
            self.count_out(topic);
            self.let_go_of(key.index, topic);
        } else {
            if end == End::Lagged {
                self.count_lagged(topic);
            }
            self.close(key, CloseReason::from(end));
        }
    }
}
