//! Readers that stand still while their topic moves on: found by the hub's clock, ended, and told of.
//!
//! **Role.** A server's body that is stalled is not polled, so its subscription cannot notice anything by itself. Here the
//! clock decides, and everybody who has to do with it learns of it: the counters, the callback, the ring of the last ones,
//! and whoever holds the [`Evicted`] of that subscription, to close its socket.
//!
//! **State.** For each waiter one byte, its standing, and the number of its generation (see `subscribers`). `Tags`: what few subscriptions have that are to
//! be named or heard of, by topic and seat.
//!
//! **Invariants.**
//! * V1: a subscription is counted out once: by the clock, if its step to EVICTED succeeds, by its drop otherwise. Both are
//!   RMWs of the same byte: one of them finds the other's.
//! * V2: only the clock suspects and evicts, and only who is suspected already. Whoever takes the place of one that left is
//!   not suspected, so it is never taken for it.
//! * V3: no lock is held while a waker, the callback, or a key's clone or drop runs.
//! * V4: a tag is in `Tags` while its subscription has its seat; it leaves under the lock under which the seat is evicted.
//! * V5: the place of who was given up is left by the clock, when the collector has said that no pin of before is held. What was done
//!   under those pins is done by then: Release by who says so, Acquire by the clock (model `stall_vs_newcomer`).
//!
//! **Progress.** Readers load a byte and a generation of their own. Who was given up makes a waiter for itself when it finds out. The
//! rest is the clock's.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use crate::ending::EndReason;
use crate::event_id::EventId;
use crate::observe;
use crate::stats::StripedCounter;
use crate::subscribers::{SeatId, Waiter};
use crate::sync::{HostArc, Mutex, MutexGuard, OnceLock, PoisonError, StepMutex, StepMutexGuard};
use crate::topic::TopicCore;
use crate::unwind::FirstPanic;

/// So many evictions are remembered.
const RING: usize = 64;

/// A power of two.
#[cfg(not(fanfare_loom))]
const SHARDS: usize = 16;
#[cfg(fanfare_loom)]
const SHARDS: usize = 1;

/// A key, whatever its type.
pub(crate) type AnyKey = Box<dyn Any + Send + Sync>;

/// A connection that the hub gave up, and why. Told to [`Hub::on_eviction`](crate::Hub::on_eviction), and kept for
/// [`Hub::evictions`](crate::Hub::evictions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction<K = String> {
    pub(crate) key: K,
    pub(crate) what: What,
}

/// An eviction without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct What {
    label: Option<HostArc<str>>,
    reason: EndReason,
    position: EventId,
    behind: u64,
    at: SystemTime,
}

impl<K> Eviction<K> {
    /// The key of its topic.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// What it was called, if it was [labelled](crate::Subscription::label).
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.what.label.as_deref()
    }

    /// [`EndReason::Evicted`] for a reader that stood still, [`EndReason::Lagged`] for one that fell behind the retained log
    /// and whose policy is to end then.
    #[must_use]
    pub fn reason(&self) -> EndReason {
        self.what.reason
    }

    /// The id of the last event that it is known to have read. It may have read some more: up to the end of a segment, 64 events
    /// at most, is not noted.
    #[must_use]
    pub fn position(&self) -> EventId {
        self.what.position
    }

    /// Events that its topic had published after that.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.what.behind
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.what.at
    }
}

impl<K: fmt::Debug> fmt::Display for Eviction<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let What {
            reason,
            position,
            behind,
            ..
        } = self.what;
        write!(f, "{:?}", self.key)?;
        if let Some(label) = self.label() {
            write!(f, " ({label})")?;
        }
        write!(f, ": {reason}; {behind} events behind, after {position}")
    }
}

type Callback = Box<dyn Fn(&dyn Any, &What) + Send + Sync>;

type Tags = HashMap<(usize, SeatId), HostArc<Tag>>;

/// A reader that was given up, and its tag.
#[derive(Debug)]
pub(crate) struct GivenUp(pub(crate) Option<HostArc<Tag>>);

/// What a hub knows about them.
pub(crate) struct Evictions {
    pub(crate) count: StripedCounter,
    tags: [StepMutex<Tags>; SHARDS],
    ring: Mutex<VecDeque<HostArc<(AnyKey, What)>>>,
    callback: OnceLock<Callback>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a subscription is called, and who waits for its eviction.
#[derive(Debug, Default)]
pub(crate) struct Tag {
    state: Mutex<TagState>,
}

#[derive(Debug, Default)]
struct TagState {
    label: Option<HostArc<str>>,
    waker: Option<Waker>,
    /// Whether it was evicted, once that is decided.
    evicted: Option<bool>,
    /// What is to be done then.
    then: Option<Then>,
}

/// What is done when a subscription is evicted; dropped if it is not.
pub(crate) struct Then(pub(crate) Box<dyn FnOnce() + Send>);

impl fmt::Debug for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Then")
    }
}

impl Tag {
    pub(crate) fn set_label(&self, label: HostArc<str>) {
        let old = lock(&self.state).label.replace(label);
        drop(old);
    }

    /// Has something done when its subscription is evicted, or now if it was.
    pub(crate) fn set_then(&self, then: Then) {
        let mut state = lock(&self.state);
        if state.evicted == Some(true) {
            drop(state);
            then.0();
            return;
        }
        let old = state.then.replace(then);
        drop(state);
        drop(old);
    }

    fn label(&self) -> Option<HostArc<str>> {
        lock(&self.state).label.clone()
    }

    /// Says what became of it, and wakes who waits for that.
    fn decide(&self, evicted: bool) {
        let (waker, then) = {
            let mut state = lock(&self.state);
            state.evicted.get_or_insert(evicted);
            (state.waker.take(), state.then.take())
        };
        let mut panics = FirstPanic::default();
        if let Some(Then(then)) = then {
            panics.run(|| if evicted { then() } else { drop(then) });
        }
        if let Some(waker) = waker {
            panics.run(|| waker.wake());
        }
        panics.resume();
    }
}

impl Evictions {
    pub(crate) fn new() -> Self {
        Self {
            count: StripedCounter::new(),
            tags: std::array::from_fn(|_| StepMutex::default()),
            ring: Mutex::default(),
            callback: OnceLock::new(),
        }
    }

    fn shard(&self, topic: usize) -> StepMutexGuard<'_, Tags> {
        // Topics are some hundred bytes apart. Nothing panics under the lock.
        let tags = &self.tags[(topic >> 8) & (SHARDS - 1)];
        tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tags the subscription at a seat. `has_seat` tells whether it has not been evicted.
    pub(crate) fn tag(
        &self,
        topic: usize,
        seat: SeatId,
        has_seat: impl FnOnce() -> bool,
    ) -> HostArc<Tag> {
        let tag = HostArc::<Tag>::default();
        let mut tags = self.shard(topic);
        if has_seat() {
            tags.insert((topic, seat), HostArc::clone(&tag));
            drop(tags);
        } else {
            drop(tags);
            tag.decide(true);
        }
        tag
    }

    /// What the subscription at a seat is called.
    pub(crate) fn label(&self, topic: usize, seat: SeatId) -> Option<HostArc<str>> {
        let tag = self.shard(topic).get(&(topic, seat)).cloned();
        tag?.label()
    }

    /// The tagged subscription gives up its seat, or has lost it already: `seat` is what it has now. What it had on it says
    /// whether it was evicted, if that is open still.
    pub(crate) fn untag(&self, topic: usize, seat: Option<SeatId>, tag: &Tag) {
        let removed = seat.and_then(|seat| self.shard(topic).remove(&(topic, seat)));
        drop(removed);
        tag.decide(seat.is_none());
    }

    /// Says of those readers of a topic that have not read all below `end`, and are not about to, that they were given up: their
    /// hub is at its end.
    ///
    /// # Panics
    ///
    /// If a waker panics: after all others were woken.
    pub(crate) fn give_up(&self, topic: &TopicCore, end: u64) {
        let mut left = Vec::new();
        topic.subscribers.survey(|seat, parked, passed| {
            if !parked && passed < end {
                left.push(seat);
            }
        });
        let mut panics = FirstPanic::default();
        for seat in left {
            // V3
            let tag = self
                .shard(topic.address())
                .get(&(topic.address(), seat))
                .cloned();
            if let Some(tag) = tag {
                panics.run(|| tag.decide(true));
            }
        }
        panics.resume();
    }

    /// The same of all readers of topics that are none of `known`: these were closed before, and somebody has them still.
    ///
    /// # Panics
    ///
    /// As `give_up`.
    pub(crate) fn give_up_elsewhere(&self, known: &HashSet<usize>) {
        let mut panics = FirstPanic::default();
        for shard in &self.tags {
            // V3
            let all: Vec<_> = {
                let tags = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let elsewhere = tags.iter().filter(|((topic, _), _)| !known.contains(topic));
                elsewhere.map(|(_, tag)| HostArc::clone(tag)).collect()
            };
            for tag in all {
                panics.run(|| tag.decide(true));
            }
        }
        panics.resume();
    }

    /// Sets who is told. `false` if there is somebody already.
    pub(crate) fn set_callback(&self, callback: Callback) -> bool {
        self.callback.set(callback).is_ok()
    }

    /// The last ones, the oldest first.
    pub(crate) fn last<K: Clone + 'static>(&self) -> Vec<Eviction<K>> {
        // V3: a key's clone is user code.
        let ring = lock(&self.ring).clone();
        let known = ring.iter().filter_map(|known| {
            let (key, what) = &**known;
            Some(Eviction {
                key: key.downcast_ref::<K>()?.clone(),
                what: what.clone(),
            })
        });
        known.collect()
    }

    /// Gives up the owner of a waiter, if it is suspected still, and takes its tag. Under one lock: whoever is tagged
    /// gives its tag back before its seat, so the tag is that of the one who was given up.
    pub(crate) fn evict(&self, topic: usize, seat: SeatId, waiter: &Waiter) -> Option<GivenUp> {
        let mut tags = self.shard(topic);
        let evicted = waiter.evict();
        evicted.then(|| GivenUp(tags.remove(&(topic, seat))))
    }

    /// Tells of a reader that it was given up: how far it had read, and what there was.
    pub(crate) fn tell(
        &self,
        topic: &TopicCore,
        tag: Option<&Tag>,
        reason: EndReason,
        (passed, end): (u64, u64),
    ) {
        self.count.add(i64::from(reason == EndReason::Evicted));
        let what = What {
            label: tag.and_then(Tag::label),
            reason,
            position: EventId::new(topic.epoch, passed.saturating_sub(1)),
            behind: end.saturating_sub(passed),
            at: SystemTime::now(),
        };
        let mut panics = FirstPanic::default();
        if reason == EndReason::Evicted {
            let label = what.label.as_deref();
            panics.run(|| observe::evicted(topic.epoch, passed, what.behind, label));
        }
        // The key's clone and drop are user code, and so is the callback.
        panics.run(|| {
            let key = topic.key();
            if let Some(callback) = self.callback.get() {
                callback(&*key, &what);
            }
            let known = HostArc::new((key, what));
            let mut ring = lock(&self.ring);
            let oldest = if ring.len() < RING {
                None
            } else {
                ring.pop_front()
            };
            ring.push_back(known);
            drop(ring);
            drop(oldest);
        });
        if reason == EndReason::Evicted
            && let Some(tag) = tag
        {
            panics.run(|| tag.decide(true));
        }
        panics.resume();
    }
}

impl fmt::Debug for Evictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evictions")
            .field("count", &self.count.sum())
            .finish_non_exhaustive()
    }
}

/// Resolves when a subscription is evicted, or has not read to the end right after the deadline of a [drain](crate::Hub::drain): so that
/// the host closes a socket whose stalled body is never polled again. Made by [`Subscription::evicted`](crate::Subscription::evicted).
///
/// `true` if it was, `false` if the subscription went before that. It does not keep the subscription.
///
/// # Cancel safety
///
/// Dropping it loses nothing; `evicted` gives another one.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Evicted(pub(crate) HostArc<Tag>);

impl Future for Evicted {
    type Output = bool;

    /// Only the waker of the last poll is woken, of all the `Evicted` of a subscription.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        // User code, before the lock and after it.
        let waker = cx.waker().clone();
        let mut state = lock(&self.0.state);
        if let Some(evicted) = state.evicted {
            drop(state);
            return Poll::Ready(evicted);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}
