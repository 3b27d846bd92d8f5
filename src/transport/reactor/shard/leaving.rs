//! Connections that are asked to leave: because their hub is drained, or because they are there for long.
//!
//! A connection in sync whose topics' walks are done, and have nothing before them, has read what there was; so it is ended
//! where it stands; if its topics are never idle, after some patience. One that is behind goes on until it has caught up, and is ended then.

use std::time::Duration;

use super::super::batch::{Cut, End};
use super::super::connection::{Key, Place, Rest, State};
use super::super::crowd::Crowd;
use super::super::socket::Socket;
use super::{Shard, Timer};
use crate::drain::WHOLE;
use crate::ending::EndReason;
use crate::error::random_below;
use crate::subscription::Subscription;
use crate::sync::epoch;

/// For so long one that is old waits for a moment in which it has read all there is.
const PATIENCE: Duration = Duration::from_secs(10);

/// When this part of all should have left and has not, they leave whatever comes.
const LATE: usize = 8;

/// Connections that are ended before other topics and the poll have their turn.
const ENDS_PER_TURN: usize = 64;

impl<S: Socket> Shard<S> {
    /// Ends so many of a topic's connections as the drain of its hub has come to.
    pub(super) fn see_off(&mut self, topic: u32) {
        let Some((_, crowd)) = self.crowds.get_mut(topic as usize) else {
            return;
        };
        if crowd.batch.is_some() || !crowd.feed.is_asked_to_leave() {
            return;
        }
        let part = crowd.feed.topic().shared.drained_part();
        let leaving = crowd.leaving(part);
        // A topic may be so busy that there is always something more: they are not to go all at once in the end.
        let late = leaving > crowd.to_leave.unwrap_or(0) / LATE;
        if !late && !crowd.has_read_all() {
            return;
        }
        for _ in 0..leaving.min(ENDS_PER_TURN) {
            let crowd = self.crowd(topic);
            let last = crowd.and_then(|crowd| crowd.members.last().map(|last| last.connection));
            let Some(key) = last.and_then(|connection| self.key(connection)) else {
                return;
            };
            if !late && !self.has_read_all(key) {
                // With the next tick of the drain, or the next walk.
                return;
            }
            self.ask_to_leave(key, EndReason::Drained);
        }
        if leaving > ENDS_PER_TURN {
            self.enqueue(topic);
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
        let now = self.now;
        let Some(connection) = self.connection(key) else {
            return;
        };
        let behind = matches!(connection.state, State::Behind(_));
        // A topic may be so busy that there is always something more.
        let patience = PATIENCE.as_nanos() / self.limits.tick.as_nanos().max(1);
        let patient = u128::from(now.saturating_sub(due)) < patience;
        if now < due || behind || patient && !self.has_read_all(key) {
            // The ring is shorter than a life, and who is behind catches up, or stalls.
            self.wheel.set(due.max(now + 1), Timer::Age(key, due));
        } else {
            self.ask_to_leave(key, EndReason::Aged);
        }
    }

    /// Whether a connection in sync has got all there is of all its topics.
    fn has_read_all(&mut self, key: Key) -> bool {
        let Some(at) = self.connections.get(key.index as usize) else {
            return true;
        };
        let places = match &at.state {
            State::One(place) => std::slice::from_ref(place),
            State::Many(many) => &many.places,
            State::Behind(_) => return false,
        };
        let read = |place: &Place| {
            let crowd = self.crowds.get(place.topic as usize);
            crowd.is_none_or(|(_, crowd)| crowd.has_read_all())
        };
        places.iter().all(read)
    }

    /// Ends a connection in sync, which stands between two entries in all of its topics.
    fn ask_to_leave(&mut self, key: Key, reason: EndReason) {
        let cut = Cut {
            rest: Rest::default(),
            offset: 0,
            end: Some(End::Ending(reason)),
        };
        self.fall_behind(key, u32::MAX, cut);
        self.resume(key);
    }
}

impl<S> Crowd<S> {
    /// Whether all members stand at the end of the log.
    fn has_read_all(&self) -> bool {
        let end = self.feed.topic().log.end(&epoch::pin());
        self.batch.is_none() && self.feed.offset() >= end
    }

    /// So many members are to leave, if `part` of [`WHOLE`] is to have left of all that there were.
    pub(super) fn leaving(&mut self, part: u32) -> usize {
        let all = *self.to_leave.get_or_insert(self.connections());
        let left = all as u64 * u64::from(WHOLE.saturating_sub(part)) / u64::from(WHOLE);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        self.connections()
            .saturating_sub(left)
            .min(self.members.len())
    }
}
