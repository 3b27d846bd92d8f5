//! How a subscription stands with its hub: who ends it from outside, asks it to leave, or gives it up.

use super::Subscription;
use crate::choice::Choice;
use crate::ending::{EndHandle, EndReason, OwnSeat};
use crate::eviction::{Evicted, Tag, Then};
use crate::position::State;
#[cfg(all(test, feature = "_simulate", not(fanfare_loom)))]
use crate::subscribers::SeatId;
use crate::subscribers::Standing;
use crate::sync::HostArc;
use crate::sync::epoch::{self, Guard};
use crate::topic::schedule;
use crate::unwind::FirstPanic;

impl Subscription {
    /// What ends this subscription from outside: from any thread, wherever it is read by then.
    #[must_use]
    pub fn end_handle(&mut self) -> EndHandle {
        if let Some(handle) = self.extra.as_ref().and_then(|it| it.end_handle.as_ref()) {
            return handle.clone();
        }
        let choice = self.extra.as_ref().and_then(|it| it.choice.as_ref());
        let waits_at = choice.and_then(Choice::waits_at).cloned();
        let spot = OwnSeat::new(&self.topic, &self.seat, waits_at);
        let handle = EndHandle::new(HostArc::new(spot));
        self.extra().end_handle = Some(handle.clone());
        handle
    }

    /// Gives it a name, for those who look at the hub's [evictions](crate::Hub::evictions): the client's address, say.
    pub fn label(mut self, label: impl Into<HostArc<str>>) -> Self {
        self.tag().set_label(label.into());
        self
    }

    /// Resolves when the hub's clock gives this subscription up (see [`HubBuilder::evict_after`](crate::HubBuilder::evict_after)), or at the
    /// deadline of a [drain](crate::Hub::drain): for a host that then closes the socket. A subscription that a `Reactor` takes over is not evicted from then on.
    pub fn evicted(&mut self) -> Evicted {
        Evicted(HostArc::clone(self.tag()))
    }

    /// Has something done when the clock gives it up, if the hub gives anybody up. A transport that takes it over sees to what it
    /// [keeps](Self::keep).
    pub(crate) fn when_evicted(&mut self, then: impl FnOnce() + Send + 'static) {
        if self.watched {
            self.tag().set_then(Then(Box::new(then)));
        }
    }

    pub(super) fn tag(&mut self) -> &HostArc<Tag> {
        if self.extra().tag.is_none() {
            let guard = epoch::pin();
            let topic = HostArc::clone(&self.topic.shared);
            let tags = &topic.evictions;
            let tag = tags.tag(self.topic.address(), self.seat.id(), || {
                self.see_eviction(&guard);
                !self.evicted
            });
            self.extra().tag = Some(tag);
        }
        self.extra().tag.get_or_insert_default()
    }

    /// Has the clock watch it: the hub gives up who stands still.
    #[cold]
    pub(super) fn watch(&mut self) {
        self.watched = true;
        self.topic.subscribers.watch(&mut self.seat);
        schedule(&self.topic);
    }

    /// Has the clock watch it no more. Whoever was evicted before has ended, and was counted out.
    #[inline]
    pub(super) fn unwatch_seat(&mut self) {
        if self.watched {
            self.unwatch_watched();
        }
    }

    #[cold]
    #[inline(never)]
    fn unwatch_watched(&mut self) {
        // The collector's destructors may be anybody's and panic, which has been said then. This may be a drop: it goes on. The next
        // pin does not collect.
        let guard = loop {
            if let Some(guard) = FirstPanic::default().run(epoch::pin) {
                break guard;
            }
        };
        let standing = self.topic.subscribers.unwatch(&self.seat, &guard);
        self.watched = false;
        self.note_standing(standing);
    }

    /// Where it has its place.
    #[cfg(all(test, feature = "_simulate", not(fanfare_loom)))]
    pub(crate) fn seat_id(&self) -> SeatId {
        self.seat.id()
    }

    pub(super) fn untag(&mut self) {
        let tag = self.extra.as_mut().and_then(|extra| extra.tag.take());
        if let Some(tag) = tag {
            let tags = &self.topic.shared.evictions;
            let seat = (!self.evicted).then(|| self.seat.id());
            // A waker that panics has said so already; this is called in drops.
            FirstPanic::default().run(|| tags.untag(self.topic.address(), seat, &tag));
        }
    }

    /// Sees whether it was ended from outside, or given up.
    #[cfg(feature = "http-body")]
    pub(crate) fn see_end(&mut self) {
        if self.has_more() {
            self.see_ends(&epoch::pin());
        }
    }

    /// Sees whether it was given up. While the guard lives it may use its seat after this, whatever that is by then.
    #[inline]
    pub(super) fn see_eviction(&mut self, guard: &Guard) {
        if self.watched {
            let standing = self.topic.subscribers.go_on(&self.seat, guard);
            self.note_standing(standing);
        }
    }

    #[inline]
    fn note_standing(&mut self, standing: Standing) {
        if standing != Standing::Owned {
            self.end_evicted(standing);
        }
    }

    /// It was given up: the clock counted it out.
    #[cold]
    fn end_evicted(&mut self, standing: Standing) {
        self.watched = false;
        self.counted = false;
        self.evicted = true;
        if standing == Standing::Lost {
            self.topic.subscribers.lose(&mut self.seat);
            let extra = self.extra.as_ref();
            if let Some(handle) = extra.and_then(|extra| extra.end_handle.as_ref()) {
                // There is nobody to be found at the seat any more, and nothing to be ended.
                handle.let_go();
            }
        }
        if !self.position.state.is_ended() {
            self.position.state = State::Ended(EndReason::Evicted);
        }
    }

    pub(super) fn see_ends(&mut self, guard: &Guard) {
        self.see_eviction(guard);
        if let Some(extra) = &self.extra
            && let Some(handle) = &extra.end_handle
            && let Some(reason) = handle.reason()
            && !self.position.state.is_ended()
        {
            self.position.state = State::Ended(reason);
        }
    }

    /// Has it leave as if it had been asked to, when it has read all there is. It is polled next.
    #[cfg(feature = "http-body")]
    pub(crate) fn leave_with(&mut self, reason: EndReason) {
        let guard = epoch::pin();
        self.see_eviction(&guard);
        self.topic.subscribers.leave_with(&self.seat, reason);
    }

    #[cold]
    pub(super) fn leaves_as_asked(&mut self) -> bool {
        // Who reads for others sees to them first.
        let asked = self.topic.subscribers.asked(&self.seat);
        let reason = asked.filter(|_| self.counted);
        if let Some(reason) = reason {
            self.position.state = State::Ended(reason);
        }
        reason.is_some()
    }

    /// Whether what it ended with came from outside.
    #[cfg(feature = "http-body")]
    pub(crate) fn is_ended_from_outside(&self) -> bool {
        let handle = self.extra.as_ref().and_then(|it| it.end_handle.as_ref());
        let reason = handle.and_then(EndHandle::reason);
        reason.is_some() && reason == self.end_reason()
    }

    #[cold]
    pub(super) fn count_lagged(&self) {
        let shared = &self.topic.shared;
        shared.lagged.add(1);
        let (passed, end) = (self.position.offset(), self.topic.log.end(&epoch::pin()));
        let tag = self.extra.as_ref().and_then(|extra| extra.tag.as_deref());
        let told = &shared.evictions;
        // A callback that panics has said so already.
        FirstPanic::default().run(|| told.tell(&self.topic, tag, EndReason::Lagged, (passed, end)));
    }
}
