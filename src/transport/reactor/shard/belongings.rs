//! What few connections have: envelopes, handles that end them, and what is kept until they are gone.
//!
//! **Role.** [`Belongings`] stands beside the connections of a shard, so that those without cost nothing: who has an
//! envelope is marked at its connection, and the rest is only looked for where a stream ends.
//!
//! **Invariants.**
//! * B2: the belongings of a stream go when the stream does: handles find nobody from then on, and what was kept is dropped
//!   after the subscriber was counted out. That drop is user code, whose panic hurts no other connection.
//! * B3: a connection that was ended from outside sends no frame that was not begun: what is left of one that was, a last
//!   comment, and then it closes. The stall timeout holds meanwhile.
//! * E2 of [`ending`](crate::ending): a handle gets the spot before its reason is looked at.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::super::batch::{Cut, End};
use super::super::connection::{Key, Rest, State};
use super::super::socket::Socket;
use super::Shard;
use crate::ending::{EndHandle, EndReason};
use crate::envelope::Envelope;
use crate::subscription::{Belonging, Subscription};
use crate::unwind::FirstPanic;

/// Of the connections of a shard, by index, and their topics.
#[derive(Default)]
pub(super) struct Belongings(HashMap<u32, SmallVec<[(u32, Belonging); 1]>>);

impl Belongings {
    pub(super) fn envelope(&self, connection: u32, topic: u32) -> Option<&Envelope> {
        let all = self.0.get(&connection)?;
        let (_, belonging) = all.iter().find(|(of, _)| *of == topic)?;
        belonging.envelope.as_ref()
    }

    /// Why a connection was ended from outside, if it was, and in which of its topics.
    fn ended(&self, connection: u32) -> Option<(u32, EndReason)> {
        let mut handles = self.0.get(&connection)?.iter();
        handles.find_map(|(topic, belonging)| {
            let reason = belonging.end_handle.as_ref().and_then(EndHandle::reason);
            reason.map(|reason| (*topic, reason))
        })
    }

    fn insert(&mut self, connection: u32, topic: u32, belonging: Belonging) {
        self.0
            .entry(connection)
            .or_default()
            .push((topic, belonging));
    }

    /// Takes what a connection has.
    pub(super) fn take(&mut self, connection: u32) -> SmallVec<[(u32, Belonging); 1]> {
        if self.0.is_empty() {
            return SmallVec::new();
        }
        self.0.remove(&connection).unwrap_or_default()
    }

    /// Takes what it has for one of its topics.
    fn take_one(&mut self, connection: u32, topic: u32) -> Option<Belonging> {
        if self.0.is_empty() {
            return None;
        }
        let all = self.0.get_mut(&connection)?;
        let at = all.iter().position(|(of, _)| *of == topic)?;
        let (_, belonging) = all.swap_remove(at);
        if all.is_empty() {
            self.0.remove(&connection);
        }
        Some(belonging)
    }
}

impl Belonging {
    /// Its handle finds nobody any more.
    pub(super) fn unhand(&self) {
        if let Some(handle) = &self.end_handle {
            handle.let_go();
        }
    }

    /// Drops it, at the end.
    pub(super) fn let_go(self) {
        self.unhand();
        if let Some(kept) = self.kept {
            FirstPanic::default().run(move || drop(kept));
        }
    }
}

/// Drops a subscription that is not read here, and then what it keeps: both are user code.
pub(super) fn let_go(mut subscription: Subscription) {
    let belonging = subscription.take_belonging();
    if let Some(belonging) = &belonging {
        belonging.unhand();
    }
    FirstPanic::default().run(move || drop(subscription));
    if let Some(belonging) = belonging {
        belonging.let_go();
    }
}

impl<S: Socket> Shard<S> {
    /// Takes over what goes with the reader of a stream that comes. Tells whether it has an envelope, and why it was ended
    /// before, if it was.
    pub(super) fn take_over(
        &mut self,
        key: Key,
        topic: u32,
        belonging: Belonging,
    ) -> (bool, Option<EndReason>) {
        let wrapped = belonging.envelope.is_some();
        let mut ended = None;
        if let Some(handle) = &belonging.end_handle {
            // E2
            handle.move_to((self.make_spot)(key));
            ended = handle.reason();
        }
        self.belongings.insert(key.index, topic, belonging);
        (wrapped, ended)
    }

    /// A stream of a connection that goes on has ended, and was counted out.
    pub(super) fn let_go_of(&mut self, connection: u32, topic: u32) {
        if let Some(belonging) = self.belongings.take_one(connection, topic) {
            belonging.let_go();
        }
    }

    /// A connection may have been ended from outside.
    pub(in super::super) fn end(&mut self, key: Key) {
        if self.connection(key).is_none() {
            return;
        }
        let Some((topic, reason)) = self.belongings.ended(key.index) else {
            return;
        };
        let Some(connection) = self.connection(key) else {
            return;
        };
        if let State::Behind(behind) = &connection.state
            && behind.end.is_some()
        {
            return;
        }
        if reason == EndReason::Lagged {
            self.count_lagged(topic);
        }
        let (end, now) = (End::Ending(reason), self.now);
        if let Some(connection) = self.connection(key)
            && let State::Behind(behind) = &mut connection.state
        {
            // B3
            behind.end = Some(end);
            behind.wait_no_more(now);
            self.writable(key);
        } else {
            let cut = Cut {
                rest: Rest::default(),
                offset: 0,
                end: Some(end),
            };
            // It stands between two entries in all of its topics.
            self.fall_behind(key, u32::MAX, cut);
            self.resume(key);
        }
    }
}
