//! Ending one subscription from outside: a connection that was replaced, a session that was revoked.
//!
//! **Role.** An [`EndHandle`] belongs to one subscription and goes with it, also onto a transport whose readers share one.
//! Whoever holds a clone ends that one reader: it is woken, reads no more, and can say why.
//!
//! **State.** `reason`: why it was ended, 0 while it goes on, [`GONE`] if its reader went before. `spot`: where its reader is to be found, as long as there is
//! one.
//!
//! **Invariants.**
//! * E1: the reason is set once; who sets it reaches the reader.
//! * E2: whoever takes a reader over (a transport) puts its own spot in and looks at the reason after that. So either the
//!   one who ends finds the new spot, or the new owner finds the reason.
//! * E3: a spot is reached outside the lock, and dropped outside it.
//!
//! **Protocol.** *End*: set the reason; take the spot's handle under the lock; reach it. For a subscription that is: clear
//! its armed bit, and wake it if the bit was set. *Read*: look at the reason before the log, also after parking. Both sides
//! make an RMW of the `armed` word: the later one of the two sees the earlier one's side.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | E-a | `end` | CAS of `reason` | `AcqRel` | E-b | — (P2 and P3, or the lock of the spot, order it) |
//! | E-b | `reason` | load | Acquire | E-a | — (the reason is all that is read) |
//!
//! **Progress.** `end` takes a lock of this one subscription; reading takes none.

use std::fmt;

use crate::interest::Watcher;
use crate::subscribers::Seat;
use crate::sync::{Arc, AtomicU32, HostArc, Ordering, PoisonError, StepMutex, StepMutexGuard};
use crate::topic::TopicCore;
use crate::unwind::FirstPanic;

/// Why a subscription has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The topic or the hub was closed, and all of it was read.
    TopicClosed,
    /// Events were dropped before it read them, and its policy is [`LagPolicy::Disconnect`](crate::LagPolicy::Disconnect).
    Lagged,
    /// Another connection was registered with the same id.
    Replaced,
    /// It was unregistered.
    Unregistered,
    /// The server wanted it so: what an application gives for reasons of its own.
    Requested,
    /// It took no event for the hub's [`evict_after`](crate::HubBuilder::evict_after), while its topic moved on.
    Evicted,
    /// The hub is [drained](crate::Hub::drain).
    Drained,
    /// It was there for the hub's [`max_connection_age`](crate::HubBuilder::max_connection_age).
    Aged,
}

impl EndReason {
    const fn number(self) -> u32 {
        match self {
            Self::TopicClosed => 1,
            Self::Lagged => 2,
            Self::Replaced => 3,
            Self::Unregistered => 4,
            Self::Requested => 5,
            Self::Evicted => 6,
            Self::Drained => 7,
            Self::Aged => 8,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::TopicClosed),
            2 => Some(Self::Lagged),
            3 => Some(Self::Replaced),
            4 => Some(Self::Unregistered),
            5 => Some(Self::Requested),
            6 => Some(Self::Evicted),
            7 => Some(Self::Drained),
            8 => Some(Self::Aged),
            _ => None,
        }
    }

    /// What a client is told last, as one line.
    #[must_use]
    pub const fn notice(self) -> &'static str {
        match self {
            Self::TopicClosed => "end of stream",
            Self::Lagged => "this connection fell too far behind",
            Self::Replaced => "this connection was replaced by a newer one with the same id",
            Self::Unregistered => "this connection was unregistered",
            Self::Requested => "this connection was ended by the server",
            Self::Evicted => "this connection stood still for too long",
            Self::Drained => "this server is going away",
            Self::Aged => "this connection is to be made anew",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.notice())
    }
}

/// Where a reader is to be found.
pub(crate) trait Spot: Send + Sync {
    /// Has the reader look at its reason.
    fn reach(&self);
}

/// Ends one subscription from outside. Made by [`Subscription::end_handle`](crate::Subscription::end_handle); clones end the same one.
///
/// It does not keep the subscription, and outlives it.
///
/// # Examples
///
/// ```
/// use fanfare::{EndReason, Hub, TryRecvError};
///
/// let hub = Hub::new();
/// let mut subscription = hub.subscribe("news")?;
/// let handle = subscription.end_handle();
/// assert!(handle.end(EndReason::Requested));
/// assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Closed));
/// assert_eq!(subscription.end_reason(), Some(EndReason::Requested));
/// # Ok::<(), fanfare::SubscribeError>(())
/// ```
#[derive(Clone)]
pub struct EndHandle(HostArc<Ending>);

/// The number of no reason: the reader went first.
const GONE: u32 = u32::MAX;

struct Ending {
    reason: AtomicU32,
    spot: StepMutex<Option<HostArc<dyn Spot>>>,
}

impl Ending {
    fn spot(&self) -> StepMutexGuard<'_, Option<HostArc<dyn Spot>>> {
        // Nothing panics under this lock.
        self.spot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndHandle {
    pub(crate) fn new(spot: HostArc<dyn Spot>) -> Self {
        Self(HostArc::new(Ending {
            reason: AtomicU32::new(0),
            spot: StepMutex::new(Some(spot)),
        }))
    }

    /// Ends the subscription: what it has not read is not delivered any more. Over HTTP the client gets a last comment with
    /// the [reason's notice](EndReason::notice). A connection of a `Reactor` is ended by its shard, as soon as that comes to
    /// it: what is published in between may still be sent.
    ///
    /// `false` if it was ended this way before, or is gone.
    ///
    /// # Panics
    ///
    /// If the subscription's waker panics.
    pub fn end(&self, reason: EndReason) -> bool {
        // AcqRel: E-a
        let first =
            self.0
                .reason
                .compare_exchange(0, reason.number(), Ordering::AcqRel, Ordering::Relaxed);
        if first.is_err() {
            return false;
        }
        // E3: the guard goes with the statement. None: the reader has found the reason, and has gone.
        let spot = self.0.spot().clone();
        if let Some(spot) = spot {
            spot.reach();
        }
        true
    }

    /// Why it was ended, if it was.
    #[inline]
    pub(crate) fn reason(&self) -> Option<EndReason> {
        // Acquire: E-b
        EndReason::from_number(self.0.reason.load(Ordering::Acquire))
    }

    /// Puts another owner's spot in. The caller looks at the reason next (E2).
    pub(crate) fn move_to(&self, spot: HostArc<dyn Spot>) {
        self.put(Some(spot));
    }

    /// The reader goes: there is nobody to end any more.
    pub(crate) fn let_go(&self) {
        // Relaxed: one word, and nothing is read through it.
        let _ = self
            .0
            .reason
            .compare_exchange(0, GONE, Ordering::Relaxed, Ordering::Relaxed);
        self.put(None);
    }

    fn put(&self, spot: Option<HostArc<dyn Spot>>) {
        let old = std::mem::replace(&mut *self.0.spot(), spot);
        // E3
        drop(old);
    }

    /// Whether both end the same subscription.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        HostArc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for EndHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndHandle")
            .field("ended", &self.reason())
            .finish_non_exhaustive()
    }
}

/// A subscription that reads for itself: found by its waiter.
pub(crate) struct OwnSeat {
    topic: Arc<TopicCore>,
    seat: Seat,
    /// Where it waits that has a rate, instead.
    waits_at: Option<HostArc<Watcher>>,
}

impl OwnSeat {
    pub(crate) fn new(
        topic: &Arc<TopicCore>,
        seat: &Seat,
        waits_at: Option<HostArc<Watcher>>,
    ) -> Self {
        Self {
            topic: Arc::clone(topic),
            seat: seat.alias(),
            waits_at,
        }
    }
}

impl Spot for OwnSeat {
    fn reach(&self) {
        let mut panics = FirstPanic::default();
        panics.run(|| self.topic.subscribers.wake_one(&self.seat));
        if let Some(watcher) = &self.waits_at {
            panics.run(|| watcher.wake());
        }
        panics.resume();
    }
}
