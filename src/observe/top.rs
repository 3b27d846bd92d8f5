//! The readers that are furthest behind, and those that hold back memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use crate::event_id::EventId;
use crate::subscribers::SeatId;
use crate::sync::epoch;
use crate::sync::{Arc, HostArc};
use crate::topic::TopicCore;

/// A reader that is behind; see [`Hub::most_behind`](crate::Hub::most_behind).
///
/// A reader is a subscription, or a shard of a `Reactor`, however many connections it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind<K = String> {
    key: K,
    label: Option<HostArc<str>>,
    position: EventId,
    events: u64,
    missed: u64,
    parked: bool,
    holding: Option<Holding>,
}

/// Why a reader's place holds back memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holding {
    /// The topic has so few readers that it keeps what one of them has not read, within the limits of retention.
    SmallTopic {
        /// Bytes that the topic's log holds.
        bytes: u64,
    },
    /// The topic has been idle for long, and would drop its log if all had read it.
    IdleTopic {
        /// Bytes that the topic's log holds.
        bytes: u64,
    },
}

impl Holding {
    /// Bytes that the topic's log holds.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::SmallTopic { bytes } | Self::IdleTopic { bytes } => bytes,
        }
    }
}

impl<K> Behind<K> {
    /// The key of its topic.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// What it is called, if it was [labelled](crate::Subscription::label).
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The id of the last event that it is known to have read. It may have read some more: up to the end of a segment, 64
    /// events at most, is not noted.
    #[must_use]
    pub fn position(&self) -> EventId {
        self.position
    }

    /// Events that its topic had published after that.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Of these, the events that have left the log already: it will be told that it missed them.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether it waits to be woken: then it is behind only until it is. Otherwise its task has not come to read.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked
    }

    /// Why its place holds back memory, if it does. Where the hub keeps history, no reader does.
    #[must_use]
    pub fn holding(&self) -> Option<Holding> {
        self.holding
    }
}

impl<K: fmt::Debug> fmt::Display for Behind<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.key)?;
        if let Some(label) = self.label() {
            write!(f, " ({label})")?;
        }
        let (events, after) = (self.events, self.position);
        write!(f, ": {events} events behind, after {after}")?;
        if self.missed > 0 {
            write!(f, "; {} of them are gone", self.missed)?;
        }
        match self.holding {
            Some(Holding::SmallTopic { bytes }) => write!(f, "; a small topic keeps {bytes} bytes"),
            Some(Holding::IdleTopic { bytes }) => write!(f, "; an idle topic keeps {bytes} bytes"),
            None => Ok(()),
        }
    }
}

/// A reader, to be told of if it is among the first ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    score: u64,
    /// The topic, by its place among those that are walked.
    topic: usize,
    passed: u64,
    end: u64,
    oldest: u64,
    parked: bool,
    seat: SeatId,
}

/// The `n` greatest.
struct Greatest {
    n: usize,
    heap: BinaryHeap<Reverse<Seen>>,
}

impl Greatest {
    fn take(&mut self, seen: Seen) {
        if seen.score == 0 {
            return;
        }
        if self.heap.len() < self.n {
            self.heap.push(Reverse(seen));
        } else if let Some(mut least) = self.heap.peek_mut()
            && least.0 < seen
        {
            *least = Reverse(seen);
        }
    }
}

impl TopicCore {
    /// Why a place holds back what the log has, if one can.
    fn holding(&self) -> Option<Holding> {
        let config = self.config();
        if config.history {
            return None;
        }
        let bytes = self.log.bytes();
        if self.is_small() {
            return Some(Holding::SmallTopic { bytes });
        }
        let idle = self.quiet_ticks() >= config.idle_ticks;
        idle.then_some(Holding::IdleTopic { bytes })
    }
}

/// The topics' readers with the highest scores: what `score` makes of how far one has read, how far all have, the oldest
/// offset, the end, and the topic.
fn walk<K: Clone + 'static>(
    topics: &[Arc<TopicCore>],
    n: usize,
    score: impl Fn(&TopicCore, &Place) -> u64,
) -> Vec<Behind<K>> {
    let mut greatest = Greatest {
        n,
        heap: BinaryHeap::new(),
    };
    for (at, topic) in topics.iter().enumerate() {
        let least = if topic.subscriber_count() == 0 {
            continue;
        } else {
            topic.subscribers.least_passed(usize::MAX).unwrap_or(0)
        };
        let end = topic.log.end(&epoch::pin());
        if least >= end {
            continue;
        }
        let oldest = topic.log.oldest_offset();
        topic.subscribers.survey(|seat, parked, passed| {
            let place = Place {
                passed,
                least,
                oldest,
                end,
            };
            greatest.take(Seen {
                score: score(topic, &place),
                topic: at,
                passed,
                end,
                oldest,
                parked,
                seat,
            });
        });
    }
    let found = greatest.heap.into_sorted_vec();
    found
        .into_iter()
        .filter_map(|Reverse(seen)| tell(topics.get(seen.topic)?, &seen))
        .collect()
}

/// Where a reader stands in its topic.
struct Place {
    passed: u64,
    least: u64,
    oldest: u64,
    end: u64,
}

impl Place {
    /// Whether nobody stands before it, at something that the log has still.
    fn holds(&self) -> bool {
        self.passed == self.least && self.passed >= self.oldest && self.passed < self.end
    }
}

fn tell<K: Clone + 'static>(topic: &TopicCore, seen: &Seen) -> Option<Behind<K>> {
    let least = topic.subscribers.least_passed(usize::MAX).unwrap_or(0);
    let place = Place {
        passed: seen.passed,
        least: least.min(seen.passed),
        oldest: seen.oldest,
        end: seen.end,
    };
    Some(Behind {
        key: topic.key().downcast_ref::<K>()?.clone(),
        label: topic.shared.evictions.label(topic.address(), seen.seat),
        position: EventId::new(topic.epoch, seen.passed.saturating_sub(1)),
        events: seen.end.saturating_sub(seen.passed),
        missed: seen.oldest.saturating_sub(seen.passed),
        parked: seen.parked,
        holding: place.holds().then(|| topic.holding()).flatten(),
    })
}

pub(crate) fn most_behind<K: Clone + 'static>(
    topics: &[Arc<TopicCore>],
    n: usize,
) -> Vec<Behind<K>> {
    walk(topics, n, |_, place| place.end.saturating_sub(place.passed))
}

pub(crate) fn most_holding<K: Clone + 'static>(
    topics: &[Arc<TopicCore>],
    n: usize,
) -> Vec<Behind<K>> {
    walk(topics, n, |topic, place| {
        if place.holds() {
            topic.holding().map_or(0, Holding::bytes)
        } else {
            0
        }
    })
}
