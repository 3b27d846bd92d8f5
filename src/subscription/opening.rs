//! The frames that come before those of the log: a snapshot, and control frames that were missed.

use std::collections::VecDeque;
use std::ops::Range;

use super::Subscription;
use crate::event_id::EventId;
use crate::frame::Frame;
use crate::log::Known;
use crate::position::{Start, State};
use crate::snapshot::{ATTEMPTS, Snapshot, SnapshotError};
use crate::sync::epoch::{self, Guard};
use crate::sync::{Ordering, fence};

/// What a reader missed in its last lags, and what it knows of the control frames that came late there.
pub(super) struct Missed {
    ranges: Vec<Range<u64>>,
    known: Known,
}

/// A control frame that is filled after its reader has lagged so many times more is not told to that reader.
const MISSED_RANGES: usize = 4;

impl Subscription {
    /// Asks for a snapshot, and goes on behind it.
    pub(crate) async fn after_snapshot<E, F>(
        mut self,
        mut snapshot: impl FnMut(EventId) -> F,
    ) -> Result<Self, SnapshotError<E>>
    where
        F: Future<Output = Result<Snapshot, E>>,
    {
        let mut attempt = 1;
        loop {
            let asked = snapshot(self.position()).await;
            let taken = asked.map_err(SnapshotError::Snapshot)?;
            // At last the lag stands between the snapshot and what is there.
            if self.go_on_after(taken.as_of) || attempt == ATTEMPTS {
                self.begin_with(taken.frames);
                if self.topic.config().evict_ticks.is_some() {
                    self.watch();
                }
                return Ok(self);
            }
            self.begin_again();
            attempt += 1;
        }
    }

    /// Goes on after `id` if that is an event of this topic's life, or stays where it is. `false` if what comes next has
    /// left the log.
    pub(super) fn go_on_after(&mut self, id: Option<EventId>) -> bool {
        let guard = epoch::pin();
        let Self {
            topic, position, ..
        } = self;
        let own = id.filter(|id| id.epoch() == topic.epoch && id.offset() < topic.log.end(&guard));
        if let Some(id) = own {
            position.cursor.jump(id.offset() + 1);
        }
        // First, so that nobody takes away what is there: P7.
        self.note_passed();
        fence(Ordering::SeqCst);
        self.position.offset() >= self.topic.log.oldest_offset()
    }

    /// Stands behind the events before the first hole, again.
    pub(super) fn begin_again(&mut self) {
        let guard = epoch::pin();
        self.position.begin(&self.topic, Start::Filled, &guard);
        self.note_passed();
    }

    /// Has these frames come before those of the log.
    pub(super) fn begin_with(&mut self, frames: Vec<Frame>) {
        if !frames.is_empty() && self.position.state == State::Reading {
            self.extra().first = frames.into();
            self.position.state = State::Opening;
        }
    }

    /// The next of the frames that come first.
    #[cold]
    pub(super) fn pop_first(&mut self) -> Option<Frame> {
        self.pass_unwanted();
        if self.position.state != State::Opening {
            return None;
        }
        let extra = self.extra.as_mut()?;
        extra.first_is_wanted = false;
        let frame = extra.first.pop_front();
        self.end_opening();
        frame
    }

    /// Goes on with what follows the frames that come first, if they are through.
    pub(super) fn end_opening(&mut self) {
        if let Some(extra) = &mut self.extra
            && extra.first.is_empty()
        {
            // A snapshot may be large.
            extra.first = VecDeque::new();
            extra.first_is_lost = false;
            extra.first_is_late = false;
            self.position.state = extra.then.take().map_or(State::Reading, State::Ended);
        }
    }

    /// Drops the frames that are not wanted of those that come first, up to one that is.
    #[inline]
    pub(super) fn pass_unwanted(&mut self) {
        if self.position.state == State::Opening {
            self.drop_unwanted();
        }
    }

    #[cold]
    pub(super) fn drop_unwanted(&mut self) {
        while self.position.state == State::Opening
            && let Some(extra) = &mut self.extra
            && extra.first_is_lost
            && !extra.first_is_wanted
            && let Some(choice) = &mut extra.choice
        {
            // Out of the row before anybody is asked: a filter that panics is not asked again.
            if let Some(frame) = extra.first.pop_front()
                && choice.wants(&frame)
            {
                extra.first.push_front(frame);
                extra.first_is_wanted = true;
            }
            self.end_opening();
        }
    }

    /// Has the control frames of what is missing come next.
    pub(super) fn after_lag(&mut self, from: u64, guard: &Guard) {
        if let Some(extra) = &mut self.extra
            && let Some(choice) = &mut extra.choice
        {
            choice.reset();
        }
        if self.topic.log.has_controls() {
            self.begin_with_lost(from, guard);
        }
    }

    #[cold]
    pub(super) fn begin_with_lost(&mut self, from: u64, guard: &Guard) {
        let lost = self.position.lost_controls(&self.topic, from, guard);
        let then = match self.position.state {
            State::Ended(reason) => Some(reason),
            _ => None,
        };
        let extra = self.extra();
        let mut first = VecDeque::new();
        let known = lost.seen.known;
        let missed = extra.missed.get_or_insert_with(|| Missed {
            ranges: Vec::new(),
            known,
        });
        let late = lost.seen.late(missed.known, &missed.ranges);
        first.extend(late.map(|(_, frame)| frame));
        extra.first_is_late = !first.is_empty();
        first.extend(lost.frames);
        missed.known = known;
        if missed.ranges.len() == MISSED_RANGES {
            missed.ranges.remove(0);
        }
        missed.ranges.push(lost.range);
        if !first.is_empty() {
            extra.first = first;
            extra.then = then;
            extra.first_is_lost = true;
            self.position.state = State::Opening;
        }
    }

    /// Has control frames come next that were filled after they were missed.
    #[inline]
    pub(super) fn see_late(&mut self) {
        if let Some(extra) = &self.extra
            && let Some(missed) = &extra.missed
            && self.topic.log.controls.has_late(missed.known)
        {
            self.begin_with_late();
        }
    }

    #[cold]
    pub(super) fn begin_with_late(&mut self) {
        let Self {
            topic,
            position,
            extra,
            ..
        } = self;
        if let Some(extra) = extra
            && position.state == State::Reading
            && let Some(missed) = &mut extra.missed
        {
            let seen = topic.log.controls.look();
            let late: VecDeque<_> = seen
                .late(missed.known, &missed.ranges)
                .map(|(_, frame)| frame)
                .collect();
            missed.known = seen.known;
            if !late.is_empty() {
                extra.first = late;
                extra.first_is_lost = true;
                extra.first_is_late = true;
                position.state = State::Opening;
            }
        }
    }

    /// [`pop_first`](Self::pop_first), to be borrowed until the next one or the end of the batch.
    #[cold]
    pub(super) fn next_first(&mut self) -> Option<&Frame> {
        let frame = self.pop_first()?;
        Some(self.extra().given.insert(frame))
    }

    /// Takes the frames that come first.
    #[cfg(feature = "http-body")]
    pub(crate) fn take_first(&mut self) -> VecDeque<Frame> {
        self.see_end();
        if self.position.state != State::Opening {
            return VecDeque::new();
        }
        std::iter::from_fn(|| self.pop_first()).collect()
    }
}
