//! What a reader wants of its topic: filters, all but its own events, the newest of a kind; and how fast ([`rate`]).
//!
//! **Role.** A [`Choice`] moves a reader's cursor on to the next frame that it wants. It stands between a subscription and
//! its [`Position`], and only where something was chosen. Publishers know nothing of it.
//!
//! **Protocol.** *Seek*: judge the frame at the cursor, once; step over it if it is not wanted; stop at a frame that is, at a
//! notice, at the end, or at what was not visible when the look began. *Judge*: filters first; of what they let pass, the
//! newest of each kind ([`window`]). A window is what is visible when it begins. Reading frame by frame it is read to its end; a poll
//! or a batch begins it anew with what is visible by then.
//!
//! **Invariants.**
//! * W1: a frame is noted as not wanted before a filter is asked about it. So a filter that panics is not asked again about
//!   that frame, unless the reader lags meanwhile, and the reader goes on behind it.
//! * W2: no more is stepped over in one look than was visible when it began. So a look ends, however fast publishers are;
//!   whoever parks looks after it armed, and is woken for what came later.

mod rate;
mod window;

use std::fmt;
use std::num::NonZeroU32;
use std::task::Waker;
use std::time::Duration;

use rate::Rate;
use window::{Verdict, Window};

use crate::clock::Clock;
use crate::frame::Frame;
use crate::interest::Watcher;
use crate::log::{Reader, Step};
use crate::position::{Ahead, Position};
use crate::reader_id::ReaderId;
use crate::sync::epoch::Guard;
use crate::sync::{HostArc, Mutex, PoisonError};
use crate::topic::TopicCore;

/// Of which events a reader gets only the newest; see [`Subscription::conflate`](crate::Subscription::conflate).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conflation {
    /// Of those with the same [name](crate::Event::name). Events without a name all pass.
    ByName,
    /// Of those with the same [key](crate::Event::key). Events without a key all pass.
    ByKey,
}

impl Conflation {
    /// The kind of a frame, if it has one.
    fn kind(self, frame: &Frame) -> Option<&str> {
        match self {
            // They are told of one by one.
            _ if frame.is_control() => None,
            Self::ByName => frame.name(),
            Self::ByKey => frame.key(),
        }
    }
}

type Filter = Box<dyn Fn(&Frame) -> bool + Send>;

#[derive(Default)]
pub(crate) struct Choice {
    /// The lock is never taken: it makes what is only `Send` a part of a subscription that is `Sync`.
    filters: Vec<Mutex<Filter>>,
    excluded: Option<ReaderId>,
    conflation: Option<Conflation>,
    conflated: u64,
    window: Window,
    /// Whether the next look is at all that is visible: the reader had to wait.
    looks_anew: bool,
    /// When the reader gave a sign of life last, in ticks.
    signed: Option<u64>,
    rate: Option<Rate>,
}

/// How far a look may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A window that has begun is read to its end.
    Item,
    /// All that is visible belongs to the window.
    All,
}

impl Choice {
    pub(crate) fn filter(&mut self, filter: Filter) {
        self.filters.push(Mutex::new(filter));
    }

    pub(crate) fn exclude(&mut self, reader: ReaderId) {
        self.excluded = Some(reader);
    }

    pub(crate) fn excludes(&self) -> bool {
        self.excluded.is_some()
    }

    pub(crate) fn conflate(&mut self, conflation: Conflation) {
        self.conflation = Some(conflation);
    }

    pub(crate) fn conflated(&self) -> u64 {
        self.conflated
    }

    /// Sets how fast the reader reads at most. Gives what it waits at.
    pub(crate) fn limit_rate(&mut self, events: NonZeroU32, every: Duration) -> HostArc<Watcher> {
        let rate = self.rate.insert(Rate::new(events, every));
        HostArc::clone(rate.watcher())
    }

    /// What a reader waits at that has had its share.
    pub(crate) fn waits_at(&self) -> Option<&HostArc<Watcher>> {
        self.rate.as_ref().map(Rate::watcher)
    }

    /// Looks at the time: whether the reader has had its share. When it may go on, it does so with what is newest by then.
    pub(crate) fn has_to_wait(&mut self, clock: &Clock) -> bool {
        let Some(rate) = &mut self.rate else {
            return false;
        };
        let (waits, waited) = rate.look(clock);
        self.looks_anew |= waited && !waits;
        waits
    }

    /// Has the clock wake a reader that [has to wait](Self::has_to_wait). `look_after`: ticks after which it is to show that
    /// it goes on.
    pub(crate) fn wait(&self, clock: &Clock, look_after: Option<u64>, waker: &Waker) {
        if let Some(rate) = &self.rate {
            rate.wait(clock, look_after, waker);
        }
    }

    /// From here on it reads as fast as it can.
    pub(crate) fn lift_rate(&mut self) {
        self.rate = None;
        self.looks_anew = true;
    }

    /// A frame of the log was read.
    pub(crate) fn taken(&mut self, clock: &Clock) {
        if let Some(rate) = &mut self.rate {
            rate.take();
        }
        self.gave_sign(clock);
    }

    /// The reader gave a frame or a heartbeat.
    pub(crate) fn gave_sign(&mut self, clock: &Clock) {
        self.signed = Some(clock.now());
    }

    /// Whether the reader gave neither for so many ticks. They count from the first look.
    pub(crate) fn is_silent(&mut self, clock: &Clock, ticks: u64) -> bool {
        let now = clock.now();
        now.saturating_sub(*self.signed.get_or_insert(now)) >= ticks
    }

    /// The offset at which a batch ends that begins now, if what is newest was decided up to there only.
    pub(crate) fn until(&self) -> Option<u64> {
        self.conflation.map(|_| self.window.until())
    }

    /// Begins anew: the reader lagged.
    pub(crate) fn reset(&mut self) {
        self.window.clear();
    }

    /// Whether the reader wants a frame that stands alone.
    pub(crate) fn wants(&mut self, frame: &Frame) -> bool {
        if self.excluded.is_some() && frame.sender() == self.excluded {
            return false;
        }
        self.filters.iter_mut().all(|filter| {
            let filter = filter.get_mut().unwrap_or_else(PoisonError::into_inner);
            filter(frame)
        })
    }

    /// Moves the position past what is not wanted, up to `until`, and tells what stands before it then; and whether a segment's end
    /// was passed.
    pub(crate) fn seek(
        &mut self,
        topic: &TopicCore,
        position: &mut Position,
        guard: &Guard,
        (look, until): (Look, u64),
    ) -> (Ahead, bool) {
        let look = if std::mem::take(&mut self.looks_anew) {
            Look::All
        } else {
            look
        };
        let mut passed = false;
        loop {
            let used_up = self.rate.as_ref().is_some_and(Rate::is_used_up);
            if used_up && !position.state.is_ended() {
                return (Ahead::Nothing, passed);
            }
            let (ahead, crossed) = position.peek(topic, guard);
            passed |= crossed;
            if ahead == Ahead::Notice {
                self.reset();
            }
            if ahead != Ahead::Frame {
                return (ahead, passed);
            }
            // W2
            if position.offset() >= until {
                return (Ahead::Nothing, passed);
            }
            let verdict = self.judge(topic, position, guard, look);
            if verdict == Some(Verdict::Wanted) {
                return (Ahead::Frame, passed);
            }
            let mut reader = Reader::new(&topic.log, guard, &mut position.cursor);
            // If it was evicted meanwhile, the next round finds the gap.
            let stepped = reader.step_in_order();
            if matches!(stepped, Step::Frame(_)) && verdict == Some(Verdict::Superseded) {
                self.conflated += 1;
            }
            passed |= reader.crossed();
        }
    }

    /// The verdict on the frame at the position.
    fn judge(
        &mut self,
        topic: &TopicCore,
        position: &Position,
        guard: &Guard,
        look: Look,
    ) -> Option<Verdict> {
        let at = position.offset();
        let known = self.window.stand(at);
        let until = match self.conflation {
            None => at + 1,
            Some(_) if look == Look::All || !known => topic.log.end(guard),
            Some(_) => self.window.until(),
        };
        if self.window.judged() < until {
            let mut cursor = position.cursor.clone();
            let mut reader = Reader::new(&topic.log, guard, &mut cursor);
            while reader.offset() < until
                && let Step::Frame(frame) = reader.step_in_order()
            {
                if reader.offset() > self.window.judged() {
                    // W1
                    self.window.push_unwanted();
                    if self.wants(&frame) {
                        self.window.want();
                    }
                }
            }
        }
        if let Some(conflation) = self.conflation
            && self.window.is_undecided()
        {
            let mut cursor = position.cursor.clone();
            let mut reader = Reader::new(&topic.log, guard, &mut cursor);
            let frames = std::iter::from_fn(|| match reader.step_in_order() {
                Step::Frame(frame) => Some(frame),
                _ => None,
            });
            self.window.decide(frames, |frame| conflation.kind(frame));
        }
        self.window.first()
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice")
            .field("filters", &self.filters.len())
            .field("excluded", &self.excluded)
            .field("conflation", &self.conflation)
            .field("conflated", &self.conflated)
            .finish_non_exhaustive()
    }
}
