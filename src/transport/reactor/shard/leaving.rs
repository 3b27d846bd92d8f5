//! Connections that are asked to leave: because their hub is drained, or because they are there for long.
//!
//! Whoever is asked goes on by itself, as if it were behind, up to where the logs of its topics end at that moment, and is
//! told why it ends then. So it gets all that there was, however busy its topics are and wherever their walks stand.

use super::super::batch::Cut;
use super::super::connection::{Key, Rest, State, Stream};
use super::super::crowd::Crowd;
use super::super::socket::Socket;
use super::{Shard, Timer};
use crate::drain::WHOLE;
use crate::ending::EndReason;
use crate::error::random_below;
use crate::subscription::Subscription;
use crate::sync::{HostArc, epoch};

/// Connections that are asked before other topics and the poll have their turn.
const ASKED_PER_TURN: usize = 64;

impl<S: Socket> Shard<S> {
    /// Asks so many of a topic's connections as the drain of its hub has come to.
    pub(super) fn see_off(&mut self, topic: u32) {
        let Some(crowd) = self.crowd(topic) else {
            return;
        };
        if !crowd.feed.is_asked_to_leave() {
            return;
        }
        let part = crowd.feed.topic().shared.drained_part();
        let due = crowd.due_to_leave(part);
        for _ in 0..due.min(ASKED_PER_TURN) {
            let next = self.crowd(topic).and_then(|crowd| crowd.next_to_leave());
            let Some(key) = next.and_then(|connection| self.key(connection)) else {
                break;
            };
            self.ask_to_leave(key, EndReason::Drained);
        }
        if due > ASKED_PER_TURN {
            self.enqueue(topic);
        }
        if part >= WHOLE {
            self.see_off_behind(topic);
        }
    }

    /// Asks those that are behind too, of all topics of the hub at once: nothing else comes to them. Once for a drain.
    fn see_off_behind(&mut self, topic: u32) {
        let Some(crowd) = self.crowd(topic).filter(|crowd| !crowd.asked_behind) else {
            return;
        };
        let hub = HostArc::clone(&crowd.feed.topic().shared);
        for (_, (_, crowd)) in &mut self.crowds {
            crowd.asked_behind |= HostArc::ptr_eq(&crowd.feed.topic().shared, &hub);
        }
        let is_of_hub = |stream: &Stream| {
            let crowd = self.crowds.get(stream.topic as usize);
            crowd.is_some_and(|(_, crowd)| HostArc::ptr_eq(&crowd.feed.topic().shared, &hub))
        };
        let keys: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| match &connection.state {
                State::Behind(behind) => behind.streams.iter().any(is_of_hub),
                _ => false,
            })
            .filter_map(|(index, _)| self.key(u32::try_from(index).ok()?))
            .collect();
        for key in keys {
            self.ask_to_leave(key, EndReason::Drained);
        }
    }

    /// Has a new connection leave when it is old.
    pub(super) fn let_age(&mut self, key: Key, subscription: &Subscription) {
        let config = subscription.topic().config();
        if let Some(ticks) = config.max_age_ticks {
            let age = config.pace.tick.as_nanos() * u128::from(ticks);
            let ticks = u64::try_from(age.div_ceil(self.limits.tick.as_nanos().max(1)));
            let ticks = ticks.unwrap_or(u64::MAX);
            let due = self
                .now
                .saturating_add(ticks - random_below(ticks / 10).min(ticks));
            self.wheel.set(due, Timer::Age(key, due));
        }
    }

    /// A connection may be old.
    pub(super) fn check_age(&mut self, key: Key, due: u64) {
        if self.now < due {
            if self.connection(key).is_some() {
                // The ring is shorter than a life.
                self.wheel.set(due, Timer::Age(key, due));
            }
        } else {
            self.ask_to_leave(key, EndReason::Aged);
        }
    }

    /// Has a connection end when it has got what there is now.
    pub(in super::super) fn ask_to_leave(&mut self, key: Key, reason: EndReason) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let in_sync = !matches!(connection.state, State::Behind(_));
        if in_sync {
            // It stands between two entries in all of its topics.
            let cut = Cut {
                rest: Rest::default(),
                offset: 0,
                end: None,
            };
            self.fall_behind(key, u32::MAX, cut);
        }
        let now = self.now;
        let connection = self.connections.get_mut(key.index as usize);
        let Some(State::Behind(behind)) = connection.map(|found| &mut found.state) else {
            return;
        };
        // It may have come to its goal already.
        let can_go_on = behind.wait_no_more(now) || in_sync;
        if behind.end.is_none() && behind.leaving.is_none() {
            behind.leaving = Some(reason);
            for stream in &mut behind.streams {
                if let Some((_, crowd)) = self.crowds.get_mut(stream.topic as usize) {
                    stream.goal = crowd.feed.topic().log.end(&epoch::pin());
                    crowd.leaving += 1;
                }
            }
        }
        if can_go_on {
            // With the others that can go on (S1).
            self.writable(key);
        }
    }
}

impl<S> Crowd<S> {
    /// So many more are to be asked, if `part` of [`WHOLE`] is to have left of all that there were.
    fn due_to_leave(&mut self, part: u32) -> usize {
        let all = *self.to_leave.get_or_insert(self.connections());
        let left = all as u64 * u64::from(WHOLE.saturating_sub(part)) / u64::from(WHOLE);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let stay = self.connections().saturating_sub(self.leaving);
        stay.saturating_sub(left).min(self.members.len())
    }

    /// The connection of a member that may leave: of one that has the batch, while a walk goes on.
    fn next_to_leave(&self) -> Option<u32> {
        let last = if self.position > 0 {
            self.members.get(self.position - 1)
        } else {
            self.members.last()
        };
        last.map(|member| member.connection)
    }
}
