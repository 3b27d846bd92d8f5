//! One reader's place in one topic, and what it does where events are missing.
//!
//! **Role.** A [`Position`] is what a [`Subscription`](crate::Subscription) and a transport with readers of its own have in
//! common: a cursor, a lag policy, and how the reader stands.

use std::ops::Range;

use crate::ending::EndReason;
use crate::event_id::EventId;
use crate::frame::Frame;
use crate::log::{self, Cursor, Reader, Seen, Step};
use crate::observe;
use crate::resume::Resumed;
use crate::sync::epoch::{self, Guard};
use crate::topic::TopicCore;

/// What a subscription does when events were dropped from the log before it read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LagPolicy {
    /// Tell how many were missed, and go on with the first retained one.
    #[default]
    Notify,
    /// Tell how many were missed, and end. For streams in which no event may be skipped.
    Disconnect,
    /// Tell how many were missed or skipped, and go on with the newest one.
    SkipToLatest,
}

/// How a subscription's client is told of what is no event of its topic: that it lagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Notices {
    /// As an event named `lag`, which the client's code can listen to.
    #[default]
    Events,
    /// As a comment, which no client takes for an event: for protocols that know only events of their own.
    Comments,
}

/// What a reader does where events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OnLag {
    pub(crate) policy: LagPolicy,
    pub(crate) notices: Notices,
}

/// Events that a subscription missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    missed: Option<u64>,
    resumed_after: EventId,
}

impl Lag {
    /// How many events were missed: exact. `None` if the subscription was to continue after an id of another life of
    /// the topic, or of the future: then nobody can tell.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        self.missed
    }

    /// The id just before the next event that the subscription yields.
    #[must_use]
    pub fn resumed_after(&self) -> EventId {
        self.resumed_after
    }
}

/// The control frames of what a reader missed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost {
    pub(crate) frames: Vec<Frame>,
    pub(crate) range: Range<u64>,
    pub(crate) seen: Seen,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    Live,
    After(EventId),
    /// After something that is not known here.
    Unknown,
    /// Behind the events before the first hole.
    Filled,
}

/// How a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It must tell first that what it missed is unknown.
    Unknown,
    Reading,
    /// Frames of its own come first, before those of the log.
    Opening,
    Ended(EndReason),
}

impl State {
    #[inline]
    pub(crate) const fn is_ended(self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// What stands before a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    Nothing,
    Frame,
    /// First of all it must be told of what it missed.
    Notice,
    /// Nothing, and for so long that a sign of life is due.
    Heartbeat,
    Closed,
}

#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) cursor: Cursor,
    pub(crate) on_lag: OnLag,
    pub(crate) state: State,
    /// What is left of the batch that is read now, in events: it ends where the log ended when it began, however fast
    /// publishers are.
    pub(crate) left: u32,
}

impl Position {
    /// Before the first event.
    pub(crate) fn first() -> Self {
        Self::at(log::FIRST_OFFSET, OnLag::default())
    }

    /// Before the event at `offset`.
    pub(crate) fn at(offset: u64, on_lag: OnLag) -> Self {
        Self {
            cursor: Cursor::at(offset),
            on_lag,
            state: State::Reading,
            left: 0,
        }
    }

    /// Where a reader of `topic` begins that is counted there already.
    pub(crate) fn begin(&mut self, topic: &TopicCore, start: Start, guard: &Guard) {
        self.cursor = Cursor::at_end(&topic.log, guard);
        match start {
            Start::Live => {}
            Start::Filled => {
                self.cursor.jump(topic.log.oldest_offset());
                self.skim(topic);
            }
            Start::After(id) => self.begin_after(topic, id),
            Start::Unknown => self.begin_unknown(topic),
        }
    }

    fn begin_after(&mut self, topic: &TopicCore, id: EventId) {
        if id.epoch() != topic.epoch {
            self.begin_unknown(topic);
        } else if id.offset() >= self.cursor.offset() {
            self.state = State::Unknown;
        } else {
            self.cursor.jump(id.offset() + 1);
        }
    }

    fn begin_unknown(&mut self, topic: &TopicCore) {
        self.state = State::Unknown;
        self.cursor.jump(topic.log.oldest_offset());
    }

    /// What a reader that has not read yet finds missing.
    pub(crate) fn resumed(&self, topic: &TopicCore) -> Resumed {
        let missed = topic.log.oldest_offset().saturating_sub(self.offset());
        match (self.state, missed) {
            (State::Unknown, _) => Resumed::Unknown,
            (_, 0) => Resumed::Continued,
            (_, missed) => Resumed::Gap { missed },
        }
    }

    /// Goes on to `offset`, which is not before where it stands.
    #[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
    pub(crate) fn advance_to(&mut self, topic: &TopicCore, offset: u64) {
        let guard = epoch::pin();
        let mut reader = Reader::new(&topic.log, &guard, &mut self.cursor);
        // Step by step, so that it need not be looked up again: what is passed is in the cache.
        while reader.offset() < offset && matches!(reader.step_in_order(), Step::Frame(_)) {}
        if reader.offset() != offset {
            self.cursor.jump(offset);
        }
        self.state = State::Reading;
        log::flush_retired(&guard);
    }

    /// Reads to the end, or to the first hole, without looking at anything.
    pub(crate) fn skim(&mut self, topic: &TopicCore) {
        let guard = epoch::pin();
        let end = topic.log.end(&guard);
        let mut reader = Reader::new(&topic.log, &guard, &mut self.cursor);
        while reader.offset() < end && matches!(reader.step(), Step::Frame(_) | Step::Lagged(_)) {}
        log::flush_retired(&guard);
    }

    /// The next offset to read.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.cursor.offset()
    }

    /// The id after which the next event comes.
    pub(crate) fn id(&self, topic: &TopicCore) -> EventId {
        EventId::new(topic.epoch, self.offset() - 1)
    }

    /// The notice that a reader begins with when it cannot tell what it missed.
    pub(crate) fn unknown_start(&mut self, topic: &TopicCore) -> Option<Lag> {
        if self.state != State::Unknown {
            return None;
        }
        // What is evicted between the start and the first look is part of the unknown.
        let oldest = topic.log.oldest_offset();
        if self.offset() < oldest {
            self.cursor.jump(oldest);
        }
        Some(self.apply_policy(topic, None))
    }

    /// Does what the policy says about `missed` events, and tells about it.
    pub(crate) fn apply_policy(&mut self, topic: &TopicCore, missed: Option<u64>) -> Lag {
        self.state = State::Reading;
        let mut missed = missed;
        match self.on_lag.policy {
            LagPolicy::Notify => {}
            LagPolicy::Disconnect => self.state = State::Ended(EndReason::Lagged),
            LagPolicy::SkipToLatest => {
                let guard = epoch::pin();
                let mut newest = topic.log.end(&guard) - 1;
                if topic.log.has_controls() {
                    newest = self.filled_before(topic, newest, &guard);
                }
                let skipped = newest.saturating_sub(self.offset());
                if skipped > 0 {
                    self.cursor.jump(newest);
                    missed = missed.map(|missed| missed + skipped);
                }
            }
        }
        let lag = Lag {
            missed,
            resumed_after: self.id(topic),
        };
        topic.shared.counts.told_lag(missed);
        observe::lagged(&lag, self.state.is_ended());
        lag
    }

    /// The first hole before `newest`, or that: what is still to be filled may be a control frame, and is not skipped.
    #[cold]
    fn filled_before(&self, topic: &TopicCore, newest: u64, guard: &Guard) -> u64 {
        let mut cursor = self.cursor.clone();
        let mut reader = Reader::new(&topic.log, guard, &mut cursor);
        while reader.offset() < newest && matches!(reader.step(), Step::Frame(_) | Step::Lagged(_))
        {
        }
        reader.offset().min(newest)
    }

    /// The first offset of what is missing, if something is.
    #[inline]
    pub(crate) fn lost_from(&self) -> u64 {
        match self.state {
            State::Unknown => log::FIRST_OFFSET,
            _ => self.offset(),
        }
    }

    /// The control frames of what is missing from `from` to where it stands now, in order.
    #[inline]
    pub(crate) fn lost_controls(&self, topic: &TopicCore, from: u64, guard: &Guard) -> Lost {
        if topic.log.has_controls() {
            self.find_controls(topic, from..self.offset(), guard)
        } else {
            Lost::default()
        }
    }

    #[cold]
    fn find_controls(&self, topic: &TopicCore, range: Range<u64>, guard: &Guard) -> Lost {
        let mut found = Vec::new();
        if self.on_lag.policy == LagPolicy::SkipToLatest {
            // Those that were skipped and are retained. First: what is evicted meanwhile is in the list by then.
            let mut cursor = Cursor::at(range.start.max(topic.log.oldest_offset()));
            let mut reader = Reader::new(&topic.log, guard, &mut cursor);
            while reader.offset() < range.end {
                let offset = reader.offset();
                match reader.step() {
                    Step::Frame(frame) if frame.is_control() => {
                        found.push((offset, Frame::clone(&frame)));
                    }
                    Step::Frame(_) | Step::Lagged(_) => {}
                    Step::Pending | Step::Ended => break,
                }
            }
        }
        let seen = topic.log.controls.look();
        found.extend(seen.of(&range));
        found.sort_by_key(|&(offset, _)| offset);
        found.dedup_by_key(|&mut (offset, _)| offset);
        Lost {
            frames: found.into_iter().map(|(_, frame)| frame).collect(),
            range,
            seen,
        }
    }

    /// What a batch begins with: the notice of what is missing, if anything is. Tells too whether a segment's end was
    /// passed.
    pub(crate) fn settle(&mut self, topic: &TopicCore, guard: &Guard) -> (Option<Lag>, bool) {
        if let Some(lag) = self.unknown_start(topic) {
            return (Some(lag), false);
        }
        if self.state != State::Reading {
            return (None, false);
        }
        let mut reader = Reader::new(&topic.log, guard, &mut self.cursor);
        let found = reader.settle();
        let crossed = reader.crossed();
        let lag = match found {
            Step::Lagged(missed) => Some(self.apply_policy(topic, Some(missed))),
            _ => None,
        };
        (lag, crossed)
    }

    /// What there is to read, without taking it; and whether a segment's end was passed.
    #[inline]
    pub(crate) fn peek(&mut self, topic: &TopicCore, guard: &Guard) -> (Ahead, bool) {
        match self.state {
            State::Ended(_) => return (Ahead::Closed, false),
            State::Unknown => return (Ahead::Notice, false),
            State::Opening => return (Ahead::Frame, false),
            State::Reading => {}
        }
        let mut reader = Reader::new(&topic.log, guard, &mut self.cursor);
        let found = match reader.peek() {
            Step::Frame(_) => Ahead::Frame,
            Step::Lagged(_) => Ahead::Notice,
            Step::Ended => Ahead::Closed,
            Step::Pending => Ahead::Nothing,
        };
        let crossed = reader.crossed();
        if found == Ahead::Closed {
            self.state = State::Ended(EndReason::TopicClosed);
        }
        (found, crossed)
    }
}
