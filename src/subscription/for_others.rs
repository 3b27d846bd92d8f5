//! A subscription that reads for connections of a reactor, which are counted one by one.

use std::task::Waker;

use super::{Kept, Subscription};
use crate::ending::EndHandle;
use crate::envelope::Envelope;
use crate::log;
use crate::position::{Position, Start};
use crate::sync::Arc;
use crate::sync::epoch;
use crate::topic::TopicCore;

/// What goes with a reader also where another subscription reads for it.
pub(crate) struct Belonging {
    pub(crate) envelope: Option<Envelope>,
    pub(crate) end_handle: Option<EndHandle>,
    pub(crate) kept: Option<Kept>,
}

/// What a transport needs whose readers share one subscription.
impl Subscription {
    /// A subscription that reads for subscribers who are counted on `topic` already.
    pub(crate) fn for_others(topic: &Arc<TopicCore>, on_lag: crate::position::OnLag) -> Self {
        let mut this = Self {
            seat: topic.subscribers.claim(),
            position: Position::first(),
            beats: false,
            counted: false,
            held: false,
            watched: false,
            evicted: false,
            crossed: false,
            extra: None,
            topic: Arc::clone(topic),
        };
        this.position.on_lag = on_lag;
        topic.subscribers.feeds(&this.seat);
        let guard = epoch::pin();
        this.position.begin(topic, Start::Live, &guard);
        this.note_passed();
        drop(guard);
        this.set_heartbeats(true);
        this
    }

    pub(crate) fn topic(&self) -> &Arc<TopicCore> {
        &self.topic
    }

    pub(crate) fn parts(&mut self) -> (&TopicCore, &mut Position) {
        (&self.topic, &mut self.position)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.position.state.is_ended()
    }

    /// Whether those it reads for are asked to leave.
    pub(crate) fn is_asked_to_leave(&self) -> bool {
        self.topic.subscribers.asked(&self.seat).is_some()
    }

    /// The next offset to read.
    pub(crate) fn offset(&self) -> u64 {
        self.position.offset()
    }

    /// A copy of its place. The subscription itself stays where it is, and so does what it has not read.
    pub(crate) fn place(&self) -> Position {
        self.position.clone()
    }

    /// Takes what somebody else sees to from here on, if there is any. The handle still finds this subscription.
    pub(crate) fn take_belonging(&mut self) -> Option<Belonging> {
        let extra = self.extra.as_mut()?;
        let belonging = Belonging {
            envelope: extra.envelope.take(),
            end_handle: extra.end_handle.take(),
            kept: extra.kept.take(),
        };
        let none = belonging.envelope.is_none()
            && belonging.end_handle.is_none()
            && belonging.kept.is_none();
        (!none).then_some(belonging)
    }

    /// From here on somebody else sees to it. It was [counted out](Self::unwatch_seat) already if it has ended by that.
    pub(crate) fn hand_over(&mut self) {
        self.unwatch_seat();
        self.untag();
    }

    /// From here on somebody else counts the subscriber out.
    pub(crate) fn hand_over_count(&mut self) {
        self.counted = false;
    }

    /// Parks one that has ended, for those it reads for: they may stand before a place that is not filled yet.
    pub(crate) fn park_ended(&self, waker: &Waker) {
        debug_assert!(self.is_ended(), "others look for more when they park");
        self.topic.subscribers.arm(&self.seat, waker);
    }

    /// Whether those it reads for may need what it has read.
    pub(crate) fn hold(&mut self, held: bool) {
        if self.held == held {
            return;
        }
        self.held = held;
        if !held {
            let guard = epoch::pin();
            self.passed_segment(&guard);
            log::flush_retired(&guard);
        }
    }
}
