//! Reading many frames under one pin.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Subscription;
use crate::choice::Look;
#[cfg(feature = "http-body")]
use crate::envelope::Envelope;
#[cfg(feature = "http-body")]
use crate::event_id::EventId;
use crate::frame::{Frame, FrameRef};
use crate::log::{self, Reader, Step};
use crate::position::{Ahead, Lag, State};
use crate::sync::epoch::Guard;

/// Waits for a [`Batch`]; see [`Subscription::recv_batch`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct RecvBatch<'a> {
    /// `None` once it is over.
    pub(super) subscription: Option<&'a mut Subscription>,
}

impl<'a> Future for RecvBatch<'a> {
    type Output = Option<Batch<'a>>;

    /// Over after it was ready: `None` again.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Taken out only at the end: a waker that panics in between leaves the future as it was.
        while let Some(subscription) = self.subscription.as_deref_mut() {
            // The pin comes out of the poll that is the last one: it is never held while the future waits.
            match subscription.poll_pinned(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready((Ahead::Heartbeat, _)) => {}
                Poll::Ready((Ahead::Closed, _)) => self.subscription = None,
                Poll::Ready((ahead, guard)) => {
                    let subscription = self.subscription.take();
                    let batch = |subscription| Batch::new(subscription, guard, ahead);
                    return Poll::Ready(subscription.map(batch));
                }
            }
        }
        Poll::Ready(None)
    }
}

/// Frames borrowed from the log, in order. What is not taken stays for the next read.
///
/// A batch holds a pin, which keeps retired memory of the whole process from being freed: take what is needed and drop
/// it. It is not `Send`.
#[must_use = "a batch reads nothing by itself"]
pub struct Batch<'a> {
    guard: Guard,
    subscription: &'a mut Subscription,
}

impl<'a> Batch<'a> {
    /// `ahead` is what was found under `guard`.
    #[inline]
    pub(crate) fn new(subscription: &'a mut Subscription, guard: Guard, ahead: Ahead) -> Self {
        subscription.count_left(&guard);
        if let Some(extra) = &mut subscription.extra {
            extra.lag = None;
        }
        let mut batch = Self {
            guard,
            subscription,
        };
        if ahead != Ahead::Frame {
            batch.settle();
        }
        batch
    }

    /// Moves past what was evicted.
    #[cold]
    fn settle(&mut self) {
        let Subscription {
            topic,
            position,
            crossed,
            ..
        } = &mut *self.subscription;
        let from = position.lost_from();
        let (lag, passed) = position.settle(topic, &self.guard);
        *crossed |= passed;
        self.subscription.count_left(&self.guard);
        if lag.is_some() {
            self.subscription.extra().lag = lag;
            self.subscription.after_lag(from, &self.guard);
        }
    }

    /// What was missed before the first frame of this batch.
    #[must_use]
    pub fn lag(&self) -> Option<Lag> {
        self.subscription.extra.as_ref()?.lag
    }

    /// Takes the next frame. `None` at the end of what was published when the batch began.
    pub fn next_frame(&mut self) -> Option<FrameRef<'_>> {
        if self.subscription.position.state == State::Opening {
            self.subscription.pass_unwanted();
        }
        if self.subscription.position.state == State::Opening {
            return self.subscription.next_first().map(FrameRef::of);
        }
        if self.subscription.has_choice() && !self.seek() {
            return None;
        }
        let Subscription {
            topic,
            position,
            crossed,
            extra,
            ..
        } = &mut *self.subscription;
        if position.state != State::Reading || position.left == 0 {
            return None;
        }
        let mut reader = Reader::new(&topic.log, &self.guard, &mut position.cursor);
        // Lag in the middle ends the batch; the next one tells of it.
        let step = reader.step_in_order();
        *crossed |= reader.crossed();
        match step {
            Step::Frame(frame) => {
                position.left -= 1;
                if let Some(extra) = extra
                    && let Some(choice) = &mut extra.choice
                {
                    choice.taken(&topic.shared.clock);
                }
                Some(frame)
            }
            _ => None,
        }
    }

    /// Moves on to the next frame of the batch that is wanted. `false`: there is none.
    #[cold]
    fn seek(&mut self) -> bool {
        let reader = &mut *self.subscription;
        if reader.position.state != State::Reading || reader.position.left == 0 {
            return false;
        }
        let until = reader.position.offset() + u64::from(reader.position.left);
        let (found, passed) = reader.seek(&self.guard, until, Look::Item);
        reader.crossed |= passed;
        // What was stepped over belongs to the batch.
        let left = until.saturating_sub(reader.position.offset());
        reader.position.left = u32::try_from(left).unwrap_or(u32::MAX);
        found == Ahead::Frame
    }

    /// Whether its reader does not want all of the topic.
    #[cfg(feature = "http-body")]
    pub(crate) fn has_choice(&self) -> bool {
        self.subscription.has_choice()
    }

    /// Whether frames come next that stand before those of the log.
    #[cfg(feature = "http-body")]
    pub(crate) fn is_opening(&mut self) -> bool {
        if self.subscription.position.state == State::Opening {
            self.subscription.pass_unwanted();
        }
        self.subscription.position.state == State::Opening
    }

    /// Whether some of these are older than what was read before.
    #[cfg(feature = "http-body")]
    pub(crate) fn is_late(&self) -> bool {
        let extra = self.subscription.extra.as_ref();
        extra.is_some_and(|extra| extra.first_is_late)
    }

    /// What goes around its frames.
    #[cfg(feature = "http-body")]
    pub(crate) fn wrapped_in(&self) -> Option<&Envelope> {
        self.subscription.wrapped_in()
    }

    /// The id after which the batch goes on.
    #[cfg(feature = "http-body")]
    pub(crate) fn position(&self) -> EventId {
        self.subscription.position()
    }

    /// The id of the last event that the batch may reach.
    #[cfg(feature = "http-body")]
    pub(crate) fn end(&self) -> EventId {
        let at = self.position();
        EventId::new(
            at.epoch(),
            at.offset() + u64::from(self.subscription.position.left),
        )
    }

    /// Subscriptions on the topic.
    #[cfg(feature = "http-body")]
    pub(crate) fn subscribers(&self) -> usize {
        self.subscription.subscribers()
    }

    /// Goes on after `id` without looking at the frames up to it: the caller has them. Not if that is behind.
    #[cfg(feature = "http-body")]
    pub(crate) fn pass(&mut self, id: EventId) -> bool {
        if id.offset() <= self.position().offset() {
            return false;
        }
        while self.position().offset() < id.offset() {
            if self.next_frame().is_none() {
                // Evicted meanwhile: the caller has them all the same.
                let passed = id.offset() - self.position().offset();
                self.subscription.position.cursor.jump(id.offset() + 1);
                let passed = u32::try_from(passed).unwrap_or(u32::MAX);
                self.subscription.position.left =
                    self.subscription.position.left.saturating_sub(passed);
            }
        }
        true
    }

    /// Gives each frame of the batch that is left to `f` and tells how many there were.
    pub fn for_each(&mut self, mut f: impl FnMut(&Frame)) -> usize {
        let mut count = 0;
        while let Some(frame) = self.subscription.next_first() {
            count += 1;
            f(frame);
        }
        if self.subscription.has_choice() {
            while let Some(frame) = self.next_frame() {
                count += 1;
                f(&frame);
            }
            return count;
        }
        let Subscription {
            topic,
            position,
            crossed,
            ..
        } = &mut *self.subscription;
        if position.state != State::Reading {
            return count;
        }
        let mut reader = Reader::new(&topic.log, &self.guard, &mut position.cursor);
        while position.left > 0
            && let Step::Frame(frame) = reader.step_in_order()
        {
            position.left -= 1;
            count += 1;
            f(&frame);
        }
        *crossed |= reader.crossed();
        count
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(extra) = &mut self.subscription.extra {
            extra.given = None;
        }
        if std::mem::take(&mut self.subscription.crossed) {
            self.subscription.passed_segment(&self.guard);
        } else {
            self.subscription.note_passed();
        }
        log::flush_retired(&self.guard);
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("lag", &self.lag())
            .finish_non_exhaustive()
    }
}
