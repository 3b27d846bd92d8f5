//! Every limit of a hub, named and checked once.

use std::hash::Hash;
use std::time::Duration;

use crate::clock::Pace;
use crate::hub::Hub;
use crate::log::Retention;
use crate::memory::{Limits, MOST_AROUND};

/// A hub that could not be built: a limit is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The limit is too small to work with.
    #[error("{limit} is {value}; the least is {least}")]
    TooSmall {
        /// The builder method that set it.
        limit: &'static str,
        /// The refused value, in the unit of the method (milliseconds for durations).
        value: u128,
        /// The least value that is accepted.
        least: u128,
    },
    /// The limit is larger than the engine can keep.
    #[error("{limit} is {value}; the most is {most}")]
    TooLarge {
        /// The builder method that set it.
        limit: &'static str,
        /// The refused value, in the unit of the method (milliseconds for durations).
        value: u128,
        /// The largest value that is accepted.
        most: u128,
    },
    /// One event could be larger than all that a topic may keep, so a reader could never get it.
    #[error("max_event_bytes is {event}, above retain_bytes, which is {retain}")]
    EventAboveRetention {
        /// `max_event_bytes`.
        event: usize,
        /// `retain_bytes`.
        retain: usize,
    },
    /// The map of topics needs a power of two above one.
    #[error("shards is {value}; it must be a power of two from 2 to 65536")]
    Shards {
        /// The refused value.
        value: usize,
    },
    /// An event of the largest size would not fit into the hub's memory, whatever it dropped.
    #[error("max_event_bytes is {event}; with memory_limit at {limit} the most is {most}")]
    EventAboveMemory {
        /// `max_event_bytes`.
        event: usize,
        /// `memory_limit`.
        limit: usize,
        /// The largest `max_event_bytes` that is accepted with it.
        most: usize,
    },
    /// There is to be a soft limit above the hard one, or without one.
    #[error("memory_soft_limit is {soft}, above memory_limit, which is {hard}")]
    SoftAboveHard {
        /// `memory_soft_limit`.
        soft: usize,
        /// `memory_limit`; 0 if it was not set.
        hard: usize,
    },
    /// Idle logs would be given back later than their frames get too old.
    #[error("idle_after is {idle_ms} ms, above retain_age, which is {age_ms} ms")]
    IdleAboveAge {
        /// `idle_after`, in milliseconds.
        idle_ms: u128,
        /// `retain_age`, in milliseconds.
        age_ms: u128,
    },
}

/// The limits of a hub, as checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) retention: Retention,
    pub(crate) history: bool,
    pub(crate) event_ids: bool,
    pub(crate) max_event_bytes: usize,
    pub(crate) idle_ticks: u64,
    pub(crate) quiet_ticks: u64,
    /// After which a reader is given up that does not go on.
    pub(crate) evict_ticks: Option<u64>,
    /// After which a subscription is asked to leave, and what is taken off that by chance.
    pub(crate) max_age_ticks: Option<u64>,
    pub(crate) pace: Pace,
    pub(crate) shards: Option<usize>,
    pub(crate) caps: Caps,
    pub(crate) memory: Option<Limits>,
    /// Whether the clock goes only when it is told to, in simulations.
    pub(crate) by_hand: bool,
}

/// How many of what there may be; `None`: as many as come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caps {
    pub(crate) connections: Option<usize>,
    pub(crate) connections_per_topic: Option<usize>,
    pub(crate) topics: Option<usize>,
}

/// Sets the limits of a [`Hub`]. Made by [`Hub::builder`].
///
/// | method | default | range |
/// |---|---|---|
/// | [`retain_events`](Self::retain_events) | 1,024 per topic | 1 to 2^32 |
/// | [`retain_bytes`](Self::retain_bytes) | 1 MiB per topic | 1 KiB to 2^40 |
/// | [`retain_age`](Self::retain_age) | 5 minutes | 10 ms to 30 days |
/// | [`history`](Self::history) | `false` | |
/// | [`event_ids`](Self::event_ids) | `true` | |
/// | [`max_event_bytes`](Self::max_event_bytes) | 1 MiB | 1 to 1 GiB, at most `retain_bytes` |
/// | [`heartbeat`](Self::heartbeat) | 15 s | 60 ms to 1 hour |
/// | [`idle_after`](Self::idle_after) | 10 s | 10 ms to 1 day, at most `retain_age` |
/// | [`evict_after`](Self::evict_after) | never | 10 ms to 1 day |
/// | [`max_connection_age`](Self::max_connection_age) | none | 1 s to 30 days |
/// | [`max_connections`](Self::max_connections) | none | 1 to 2^32 - 1 |
/// | [`max_connections_per_topic`](Self::max_connections_per_topic) | none | 1 to 2^32 - 1 |
/// | [`max_topics`](Self::max_topics) | none | 1 to 2^32 - 1 |
/// | [`memory_limit`](Self::memory_limit) | none | 64 KiB to 2^44, at least `max_event_bytes` and 1 KiB |
/// | [`memory_soft_limit`](Self::memory_soft_limit) | 7/8 of `memory_limit` | 1 to `memory_limit` |
/// | [`shards`](Self::shards) | 4 per core, rounded up to a power of two | power of two, 2 to 65,536 |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use fanfare::{ConfigError, Hub};
///
/// let hub = Hub::builder().history(true).retain_age(Duration::from_secs(60)).build()?;
/// # drop(hub);
/// let refused = Hub::builder().retain_events(0).build();
/// assert!(matches!(refused, Err(ConfigError::TooSmall { limit: "retain_events", value: 0, .. })));
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct HubBuilder {
    retain_events: usize,
    retain_bytes: usize,
    retain_age: Duration,
    history: bool,
    event_ids: bool,
    max_event_bytes: usize,
    heartbeat: Duration,
    idle_after: Duration,
    evict_after: Option<Duration>,
    max_connection_age: Option<Duration>,
    shards: Option<usize>,
    caps: Caps,
    memory_limit: Option<usize>,
    memory_soft_limit: Option<usize>,
    by_hand: bool,
}

impl HubBuilder {
    pub(crate) fn new() -> Self {
        Self {
            retain_events: 1024,
            retain_bytes: 1024 * 1024,
            retain_age: Duration::from_secs(5 * 60),
            history: false,
            event_ids: true,
            max_event_bytes: 1024 * 1024,
            heartbeat: Duration::from_secs(15),
            idle_after: Duration::from_secs(10),
            evict_after: None,
            max_connection_age: None,
            shards: None,
            caps: Caps::default(),
            memory_limit: None,
            memory_soft_limit: None,
            by_hand: false,
        }
    }

    /// A hub whose clock goes only by [`Hub::go_on`]: for simulations.
    #[cfg(feature = "_simulate")]
    #[doc(hidden)]
    pub fn clock_by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }

    /// Events that a topic keeps for readers that are behind: at least this many, fewer than this plus one segment
    /// (at most 64), unless bytes or age end them earlier.
    pub fn retain_events(mut self, events: usize) -> Self {
        self.retain_events = events;
        self
    }

    /// Bytes of encoded events that a topic keeps: at most this plus one segment (64 KiB, or one larger event).
    pub fn retain_bytes(mut self, bytes: usize) -> Self {
        self.retain_bytes = bytes;
        self
    }

    /// Age above which events are dropped, whoever may not have read them: at most this plus an eighth. Applied by
    /// publishers as they go and by the hub's clock.
    pub fn retain_age(mut self, age: Duration) -> Self {
        self.retain_age = age;
        self
    }

    /// Whether events are kept for those who come later (`subscribe_from`, `Last-Event-ID`).
    ///
    /// With `false` a frame goes as soon as all subscribers of a small topic have passed it, or when its topic fell
    /// idle, and a topic goes with its last subscription or handle. With `true` frames stay until count, bytes or age
    /// end them, and a topic stays as long as it has any.
    pub fn history(mut self, history: bool) -> Self {
        self.history = history;
        self
    }

    /// Whether events carry an id (`id:` in SSE), which clients send back to resume.
    pub fn event_ids(mut self, ids: bool) -> Self {
        self.event_ids = ids;
        self
    }

    /// Largest payload of one event, in bytes after serialization. In a text each line break counts seven: it starts
    /// another `data:` field.
    ///
    /// JSON is measured when it is written: a payload that is far too large takes its size in memory until it is refused.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Longest silence on an SSE response; a comment breaks it. One timer serves the whole hub.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// Silence after which a topic without history gives its log memory back, once all its subscribers have read it.
    pub fn idle_after(mut self, silence: Duration) -> Self {
        self.idle_after = silence;
        self
    }

    /// Gives up readers that stand still: who has something to read and takes nothing for this long, up to twice as long,
    /// while its topic goes on or when it was closed, is evicted. It is counted out at once, told to [`Hub::on_eviction`] and to its
    /// [`Evicted`](crate::Evicted), and ends with [`EndReason::Evicted`](crate::EndReason::Evicted) should it come back.
    ///
    /// For bodies and streams of one's own: a connection of a `Reactor` has the reactor's limit on stalled sockets.
    pub fn evict_after(mut self, standstill: Duration) -> Self {
        self.evict_after = Some(standstill);
        self
    }

    /// Ends a subscription after this long, less up to a tenth by chance: so that connections spread anew over the servers
    /// behind a balancer. It reads what is there and ends with [`EndReason::Aged`](crate::EndReason::Aged); an SSE client is
    /// told to come back within 1 to 5 s.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.max_connection_age = Some(age);
        self
    }

    /// Shards of the topic map.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Most subscriptions of the hub at a time. Who comes above it is refused with
    /// [`SubscribeError::TooManyConnections`](crate::SubscribeError::TooManyConnections).
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.caps.connections = Some(connections);
        self
    }

    /// Most subscriptions of one topic at a time: where a topic is a user, connections of one user. Who comes above it is
    /// refused with [`SubscribeError::TopicFull`](crate::SubscribeError::TopicFull).
    pub fn max_connections_per_topic(mut self, connections: usize) -> Self {
        self.caps.connections_per_topic = Some(connections);
        self
    }

    /// Most topics of the hub at a time, those included that are closed and still read: by others than those that were
    /// [given up](Self::evict_after). A key that would need one more is
    /// refused, to subscribers, for handles, and with history to publishers.
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.caps.topics = Some(topics);
        self
    }

    /// Most bytes that the events of the hub and its logs hold, in all its topics together: encoded once each, with their
    /// headers, rounded as an allocator does. Counted are events in logs, those that readers keep, and those whose memory has
    /// still to be given back. Not counted are topics and subscriptions, and what an allocator keeps of what was given back to
    /// it: `docs/operating.md` has figures.
    ///
    /// A publish above it first drops history: the oldest of the whole hub, whatever topic that is in. Should that not do, it
    /// is refused with [`PublishError::OverMemoryLimit`](crate::PublishError::OverMemoryLimit). Publishers at the same
    /// time may exceed it by an event each, and 600 bytes of a log for it.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Bytes above which history is dropped before the limit is reached: by the hub's clock, and by publishers as they go. Needs a
    /// [`memory_limit`](Self::memory_limit).
    pub fn memory_soft_limit(mut self, bytes: usize) -> Self {
        self.memory_soft_limit = Some(bytes);
        self
    }

    /// The budget, if there is one.
    fn memory(&self) -> Result<Option<Limits>, ConfigError> {
        let soft = self.memory_soft_limit;
        let Some(hard) = self.memory_limit else {
            return match soft {
                Some(soft) => Err(ConfigError::SoftAboveHard { soft, hard: 0 }),
                None => Ok(None),
            };
        };
        let soft = soft.unwrap_or(hard / 8 * 7);
        if soft > hard {
            return Err(ConfigError::SoftAboveHard { soft, hard });
        }
        let most = hard.saturating_sub(MOST_AROUND);
        if self.max_event_bytes > most {
            return Err(ConfigError::EventAboveMemory {
                event: self.max_event_bytes,
                limit: hard,
                most,
            });
        }
        Ok(Some(Limits {
            hard: hard as u64,
            soft: soft as u64,
        }))
    }

    /// Builds a hub whose topics have string keys.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a limit is impossible.
    pub fn build(self) -> Result<Hub, ConfigError> {
        self.build_keyed()
    }

    /// Builds a hub whose topics have keys of type `K`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a limit is impossible.
    pub fn build_keyed<K>(self) -> Result<Hub<K>, ConfigError>
    where
        K: Eq + Hash + Clone + Send + Sync + 'static,
    {
        Ok(Hub::with_config(self.check()?))
    }

    pub(crate) fn check(self) -> Result<Config, ConfigError> {
        const MS: fn(Duration) -> u128 = |d| d.as_millis();
        const MOST: u128 = u32::MAX as u128;
        let cap = |cap: Option<usize>| cap.map_or(1, |cap| cap as u128);
        let evict_after = self.evict_after.map_or(10, MS);
        let max_age = self.max_connection_age.map_or(1000, MS);
        let per_topic = cap(self.caps.connections_per_topic);
        let memory_limit = self.memory_limit.map_or(1 << 16, |limit| limit as u128);
        let memory_soft_limit = cap(self.memory_soft_limit);
        let ranges: [(&'static str, u128, u128, u128); 13] = [
            ("retain_events", self.retain_events as u128, 1, 1 << 32),
            ("retain_bytes", self.retain_bytes as u128, 1 << 10, 1 << 40),
            ("retain_age", MS(self.retain_age), 10, 30 * 86_400_000),
            ("max_event_bytes", self.max_event_bytes as u128, 1, 1 << 30),
            ("heartbeat", MS(self.heartbeat), 60, 3_600_000),
            ("idle_after", MS(self.idle_after), 10, 86_400_000),
            ("evict_after", evict_after, 10, 86_400_000),
            ("max_connection_age", max_age, 1000, 30 * 86_400_000),
            ("max_connections", cap(self.caps.connections), 1, MOST),
            ("max_connections_per_topic", per_topic, 1, MOST),
            ("max_topics", cap(self.caps.topics), 1, MOST),
            ("memory_limit", memory_limit, 1 << 16, 1 << 44),
            ("memory_soft_limit", memory_soft_limit, 1, 1 << 44),
        ];
        for (limit, value, least, most) in ranges {
            if value < least {
                return Err(ConfigError::TooSmall {
                    limit,
                    value,
                    least,
                });
            }
            if value > most {
                return Err(ConfigError::TooLarge { limit, value, most });
            }
        }
        if self.max_event_bytes > self.retain_bytes {
            return Err(ConfigError::EventAboveRetention {
                event: self.max_event_bytes,
                retain: self.retain_bytes,
            });
        }
        let memory = self.memory()?;
        if self.idle_after > self.retain_age {
            return Err(ConfigError::IdleAboveAge {
                idle_ms: MS(self.idle_after),
                age_ms: MS(self.retain_age),
            });
        }
        if let Some(value) = self.shards
            && !(value.is_power_of_two() && (2..=65_536).contains(&value))
        {
            return Err(ConfigError::Shards { value });
        }
        // `idle_after` is at most `retain_age`: it says how often to tidy up, or the search for those who stand still.
        let tidy = self.evict_after.unwrap_or(self.idle_after);
        let pace = Pace::new(self.heartbeat, tidy.min(self.idle_after));
        let ticks = |duration: Duration| {
            u64::try_from(duration.as_nanos().div_ceil(pace.tick.as_nanos())).unwrap_or(u64::MAX)
        };
        Ok(Config {
            retention: Retention {
                events: self.retain_events as u64,
                bytes: self.retain_bytes as u64,
                age_ticks: ticks(self.retain_age),
            },
            history: self.history,
            event_ids: self.event_ids,
            max_event_bytes: self.max_event_bytes,
            idle_ticks: ticks(self.idle_after),
            // See `clock`: a third of the interval, rounded down so that the sum stays within it.
            quiet_ticks: (ticks(self.heartbeat) / 3).max(1),
            evict_ticks: self.evict_after.map(ticks),
            // Times of leaving are compared in 32 bits.
            max_age_ticks: self
                .max_connection_age
                .map(|age| ticks(age).min(u64::from(u32::MAX / 2))),
            pace,
            shards: self.shards,
            caps: self.caps,
            memory,
            by_hand: self.by_hand,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let base = HubBuilder::new;
        let cases = [
            (
                base().retain_events(0),
                "retain_events is 0; the least is 1",
            ),
            (
                base().retain_bytes(1),
                "retain_bytes is 1; the least is 1024",
            ),
            (
                base().retain_age(Duration::ZERO),
                "retain_age is 0; the least is 10",
            ),
            (
                base().max_event_bytes(0),
                "max_event_bytes is 0; the least is 1",
            ),
            (
                base().max_event_bytes(2 << 20),
                "max_event_bytes is 2097152, above retain_bytes, which is 1048576",
            ),
            (
                base().heartbeat(Duration::from_secs(7200)),
                "heartbeat is 7200000; the most is 3600000",
            ),
            (
                base().idle_after(Duration::from_secs(3600)),
                "idle_after is 3600000 ms, above retain_age, which is 300000 ms",
            ),
            (
                base().memory_limit(1000),
                "memory_limit is 1000; the least is 65536",
            ),
            (
                base().memory_limit(1 << 20),
                "max_event_bytes is 1048576; with memory_limit at 1048576 the most is 1047552",
            ),
            (
                base().memory_limit(2 << 20).memory_soft_limit(3 << 20),
                "memory_soft_limit is 3145728, above memory_limit, which is 2097152",
            ),
            (
                base().memory_soft_limit(7),
                "memory_soft_limit is 7, above memory_limit, which is 0",
            ),
            (base().max_topics(0), "max_topics is 0; the least is 1"),
            (
                base().max_connections_per_topic(1 << 32),
                "max_connections_per_topic is 4294967296; the most is 4294967295",
            ),
            (
                base().shards(3),
                "shards is 3; it must be a power of two from 2 to 65536",
            ),
        ];
        for (builder, message) in cases {
            let error = builder.check().map(drop).map_err(|e| e.to_string());
            assert_eq!(error, Err(message.to_owned()));
        }
    }
}
