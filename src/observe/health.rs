//! Whether fan-out makes progress.
//!
//! **Role.** Looks for what would keep readers from getting events though nobody is closed: a clock that stands, and holes
//! at which readers wait.
//!
//! **State.** [`Holes`]: the hole of each topic that the last look found, and when it was first found.
//!
//! A hole that matters is at the place up to which the foremost reader has read: no reader gets past one. So one slot of
//! each topic is looked at.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::clock::Gait;
use crate::event_id::EventId;
use crate::log::{Cursor, Reader, Step};
use crate::stats::TopicStats;
use crate::sync::epoch;
use crate::sync::{Arc, Mutex, PoisonError};
use crate::topic::{Shared, TopicCore};

/// What takes longer than this is a problem.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most holes that are told.
const MAX_HOLES: usize = 16;

/// Whether fan-out makes progress; see [`Hub::health`](crate::Hub::health).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it says whether the hub works"]
pub struct Health {
    problems: Vec<Problem>,
}

/// Something that keeps a hub from delivering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The hub is closed.
    Closed,
    /// The system gave the hub no thread for its clock: no heartbeats, no ages, no evictions.
    NoClock,
    /// The hub's clock has not begun a turn for so long: the process gets no time, or a waker or a callback that the clock
    /// calls does not return.
    ClockLate {
        /// Time since its last turn began.
        by: Duration,
    },
    /// A publisher has reserved this place and not filled it: the readers of its topic wait before it.
    Hole {
        /// The id that the event will have.
        id: EventId,
        /// It was first found so long ago.
        since: Duration,
    },
}

impl Health {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong, at most 16 holes of it.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(crate) fn look(
        shared: &Shared,
        closed: bool,
        topics: impl FnOnce() -> Vec<Arc<TopicCore>>,
    ) -> Self {
        if closed {
            return Self {
                problems: vec![Problem::Closed],
            };
        }
        let clock = match shared.clock.gait() {
            Gait::Goes => None,
            Gait::NoThread => Some(Problem::NoClock),
            Gait::Late(by) => (by > PATIENCE).then_some(Problem::ClockLate { by }),
        };
        let mut problems: Vec<_> = clock.into_iter().collect();
        let found = topics()
            .iter()
            .filter_map(|topic| topic.hole())
            .collect::<Vec<_>>();
        problems.extend(shared.holes.note(&found, Instant::now()));
        Self { problems }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ok() {
            return f.write_str("ok");
        }
        for (at, problem) in self.problems.iter().enumerate() {
            let comma = if at > 0 { "; " } else { "" };
            write!(f, "{comma}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the hub is closed"),
            Self::NoClock => f.write_str("the system gave no thread for the hub's clock"),
            Self::ClockLate { by } => {
                write!(f, "the hub's clock stands since {} ms", by.as_millis())
            }
            Self::Hole { id, since } => write!(
                f,
                "event {id} is reserved and not published, for {} ms at least",
                since.as_millis()
            ),
        }
    }
}

/// The holes that the last look found: epoch of the topic, offset, and when it was first found.
#[derive(Debug, Default)]
pub(crate) struct Holes(Mutex<HashMap<u64, (u64, Instant)>>);

impl Holes {
    /// Takes what this look found. Tells those that are there for long.
    fn note(&self, found: &[EventId], now: Instant) -> Vec<Problem> {
        // Nothing panics under the lock.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        let mut problems = Vec::new();
        for id in found {
            let same = before.get(&id.epoch()).filter(|seen| seen.0 == id.offset());
            let first = same.map_or(now, |seen| seen.1);
            known.insert(id.epoch(), (id.offset(), first));
            let since = now.saturating_duration_since(first);
            if since >= PATIENCE && problems.len() < MAX_HOLES {
                problems.push(Problem::Hole { id: *id, since });
            }
        }
        problems
    }
}

impl TopicCore {
    /// The event at which its foremost reader waits, though later ones are there or on the way.
    fn hole(&self) -> Option<EventId> {
        if !self.log.has_chain() || self.subscriber_count() == 0 {
            return None;
        }
        let mut foremost = 0;
        self.subscribers
            .survey(|_, _, passed| foremost = foremost.max(passed));
        if foremost == 0 {
            return None;
        }
        let guard = epoch::pin();
        let end = self.log.end(&guard);
        let mut cursor = Cursor::at(foremost);
        let found = Reader::new(&self.log, &guard, &mut cursor).peek();
        let waits = matches!(found, Step::Pending) && foremost < end;
        waits.then(|| EventId::new(self.epoch, foremost))
    }

    pub(crate) fn stats(&self) -> TopicStats {
        let (mut parked, mut least) = (0, u64::MAX);
        // First: who joins later stands at this offset or behind it.
        let oldest = self.log.oldest_offset();
        let mut lagging = 0;
        self.subscribers.survey(|_, waits, passed| {
            parked += usize::from(waits);
            lagging += usize::from(passed < oldest);
            least = least.min(passed);
        });
        let next = self.log.end(&epoch::pin());
        let tick = u128::from(self.quiet_ticks()) * self.config().pace.tick.as_nanos();
        TopicStats {
            epoch: self.epoch,
            subscribers: self.subscriber_count(),
            parked,
            lagging,
            first_retained: oldest,
            next,
            retained_events: next.saturating_sub(oldest),
            retained_bytes: self.log.bytes(),
            quiet_for: Duration::from_nanos(u64::try_from(tick).unwrap_or(u64::MAX)),
            closed: self.log.is_closed(),
        }
    }
}

#[cfg(all(test, not(fanfare_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_told_by_the_second_look_that_finds_it_and_not_before_its_time() {
        let holes = Holes::default();
        let start = Instant::now();
        let hole = EventId::new(7, 3);
        assert!(holes.note(&[hole], start).is_empty());
        assert!(holes.note(&[hole], start + PATIENCE / 2).is_empty());
        let told = holes.note(&[hole], start + PATIENCE);
        assert_eq!(
            told,
            [Problem::Hole {
                id: hole,
                since: PATIENCE
            }]
        );
        // Another place of the same topic is another hole.
        let next = EventId::new(7, 4);
        assert!(holes.note(&[next], start + PATIENCE * 2).is_empty());
        assert!(holes.note(&[], start + PATIENCE * 3).is_empty());
        assert!(holes.note(&[next], start + PATIENCE * 4).is_empty());
    }
}
