//! What all topics of a hub share.

use crate::clock::Clock;
use crate::config::Config;
use crate::drain::come_back_after;
use crate::error::{PublishError, SubscribeError};
use crate::eviction::Evictions;
use crate::interest::Watchers;
use crate::memory::Memory;
use crate::observe::Holes;
use crate::stats::{Counts, StripedCounter};
use crate::sync::{AtomicBool, AtomicUsize, HostArc, HostAtomicU32, Ordering};
/// What all topics of a hub share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) subscribers: StripedCounter,
    pub(crate) counts: Counts,
    pub(crate) holes: Holes,
    pub(crate) lagged: StripedCounter,
    pub(crate) watchers: Watchers,
    pub(crate) evictions: Evictions,
    /// Where the bytes are limited.
    pub(crate) memory: Option<HostArc<Memory>>,
    /// Subscriptions, and topics, where their number is limited.
    connections: AtomicUsize,
    pub(super) topics: AtomicUsize,
    /// Whether the hub takes in nobody any more.
    draining: AtomicBool,
    drained_part: HostAtomicU32,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        let memory = config.memory.and_then(Memory::new).map(HostArc::new);
        Self {
            config,
            clock: Clock::new(config, memory.clone()),
            subscribers: StripedCounter::new(),
            counts: Counts::new(),
            holes: Holes::default(),
            lagged: StripedCounter::new(),
            watchers: Watchers::new(),
            evictions: Evictions::new(),
            memory,
            connections: AtomicUsize::new(0),
            topics: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            drained_part: HostAtomicU32::new(0),
        }
    }

    /// How much of a drain's time is over; see [`WHOLE`](crate::drain::WHOLE).
    #[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
    pub(crate) fn drained_part(&self) -> u32 {
        // Relaxed: whoever is asked to leave is woken after the store.
        self.drained_part.load(Ordering::Relaxed)
    }

    pub(crate) fn set_drained_part(&self, part: u32) {
        self.drained_part.store(part, Ordering::Relaxed);
    }

    /// Takes in nobody any more. `false` if that was so before.
    pub(crate) fn begin_to_drain(&self) -> bool {
        // Relaxed: who comes in beside it is asked to leave later.
        !self.draining.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        // Relaxed: a drain that begins has who waits for the clock look again.
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more are within the budget, or it can be made so.
    ///
    /// Called before the publisher pins: what it retired itself could not be freed otherwise.
    #[inline]
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), PublishError> {
        match &self.memory {
            Some(memory) if !memory.has_room(bytes) => memory.make_room(bytes, &self.clock),
            _ => Ok(()),
        }
    }

    /// Whether [`admit`](Self::admit) has nothing to do.
    #[inline]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let memory = self.memory.as_ref();
        memory.is_none_or(|memory| memory.has_room(bytes))
    }

    /// The age above which history goes: what was set, or less while memory is short.
    #[inline]
    pub(super) fn age_ticks(&self) -> u64 {
        let age = self.config.retention.age_ticks;
        let memory = self.memory.as_ref();
        memory.map_or(age, |memory| memory.age_ticks(age))
    }

    /// Takes the place of one more subscription, or tells why there is none.
    pub(crate) fn take_place(&self) -> Result<PlaceOf<'_>, SubscribeError> {
        if self.is_draining() {
            let retry_after = come_back_after();
            return Err(SubscribeError::Draining { retry_after });
        }
        if let Some(limit) = self.config.caps.connections {
            take_one(&self.connections, limit)
                .map_err(|connections| SubscribeError::TooManyConnections { limit, connections })?;
        }
        Ok(PlaceOf(self))
    }

    pub(super) fn give_place_back(&self) {
        if self.config.caps.connections.is_some() {
            // Relaxed: a count.
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts one more topic, if their number is limited. Tells whether it is.
    pub(super) fn count_topic(&self) -> Result<bool, SubscribeError> {
        let Some(limit) = self.config.caps.topics else {
            return Ok(false);
        };
        take_one(&self.topics, limit)
            .map_err(|topics| SubscribeError::TooManyTopics { limit, topics })?;
        Ok(true)
    }
}

/// Counts one more, if that is not above `limit`. Otherwise tells how many there are.
fn take_one(count: &AtomicUsize, limit: usize) -> Result<(), usize> {
    // Relaxed: a count.
    let (seen, changed) = (Ordering::Relaxed, Ordering::Relaxed);
    count
        .fetch_update(changed, seen, |count| (count < limit).then_some(count + 1))
        .map(drop)
}

/// The place of a subscription that is on its way. Given back if it does not come.
pub(crate) struct PlaceOf<'a>(&'a Shared);

impl PlaceOf<'_> {
    /// The subscription is counted on its topic: with it goes the place.
    pub(crate) fn take(self) {
        std::mem::forget(self);
    }
}

impl Drop for PlaceOf<'_> {
    fn drop(&mut self) {
        self.0.give_place_back();
    }
}
