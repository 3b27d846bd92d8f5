//! One event on several streams, in one order.
//!
//! **Role.** A [`Route`] is the streams that an event goes to, and in which form; the [`EventRouter`] takes events along
//! routes. An event is serialized once, whatever the number of streams and connections.
//!
//! **Invariants.**
//! * O1: an event is appended to all its streams under one lock of its user's. So of two events of a user that this router
//!   takes, the same one is first on every stream that gets both.
//! * O2: what can fail or allocate comes before the lock, waking after it. No user code runs under it: no serializer, no
//!   waker, no key. Keys are looked up before.
//!
//! **Protocol.** *Route*: encode the forms; find the topics; pin; lock; append to each; unlock; collect; wake. Users share
//! the locks by the hash of their key: two users on one lock wait for each other for the two appends, no longer.
//!
//! Two logs cannot agree on an order without something that they share. What does not go through the router, or goes
//! through another one, has no place in its order.
//!
//! **Progress.** Takes one of [`LOCKS`] locks for as long as the appends take. They are lock-free.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use arrayvec::ArrayVec;

use crate::broadcaster::{Broadcaster, ToSse};
use crate::config::Config;
use crate::encode::Forms;
use crate::envelope::Envelope;
use crate::error::{EventError, EventResult};
use crate::frame::Frame;
use crate::hub::{Found, Hub};
use crate::log;
use crate::sync::{HostArc, Ordering, PoisonError, StepMutex, epoch, fence};
use crate::topic::{Pending, Published, Topic, after_append};
use crate::unwind::FirstPanic;
use crate::user_id::UserId;

/// Most streams of a [`Route`].
pub const MAX_ROUTE_STREAMS: usize = 8;

/// Locks that the users share.
#[cfg(not(fanfare_loom))]
const LOCKS: usize = 256;
#[cfg(fanfare_loom)]
const LOCKS: usize = 1;

/// Where an event goes: to which streams, and what goes around it there. Made once, used for every event.
///
/// # Examples
///
/// ```
/// use fanfare::{Broadcaster, Event, Hub, Payload, Route, EventRouter, ToSse, UserId};
///
/// #[derive(serde::Serialize)]
/// struct Order { id: u64 }
/// impl ToSse for Order {
///     fn to_sse(&self) -> Event<'_, impl Payload> { Event::json(self) }
/// }
///
/// let orders = Broadcaster::<Order>::new();
/// let audit = Hub::builder().history(true).build_keyed::<UserId>()?;
/// let route = Route::new().bare(&orders)?.wrapped_to(&audit, r#"{"kind":"order","event":"#, "}")?;
///
/// let router = EventRouter::new();
/// let ann = UserId::from("ann");
/// let tab = orders.register(&ann, "tab-1")?;
/// let routed = router.route(&ann, &Order { id: 7 }, &route)?;
/// assert_eq!((routed.streams().len(), routed.subscribers()), (2, 1));
/// # drop(tab);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a route does nothing until an event takes it"]
pub struct Route<K = UserId>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
{
    legs: ArrayVec<Leg<K>, MAX_ROUTE_STREAMS>,
}

struct Leg<K: Eq + Hash + Clone + Send + Sync + 'static> {
    to: Target<K>,
    around: Option<Envelope>,
}

enum Target<K: Eq + Hash + Clone + Send + Sync + 'static> {
    /// The user's topic there.
    Hub(Hub<K>),
    Topic(Topic),
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Leg<K> {
    fn config(&self) -> &Config {
        match &self.to {
            Target::Hub(hub) => hub.config(),
            Target::Topic(topic) => topic.core().config(),
        }
    }

    /// Its topic for `user`, if there is one.
    fn find(&self, user: &K) -> EventResult<Option<Found>> {
        match &self.to {
            Target::Hub(hub) => Ok(hub.find(user)?),
            Target::Topic(topic) if topic.is_closed() => Err(EventError::Closed),
            Target::Topic(topic) => Ok(Some(Found::Held(topic.clone()))),
        }
    }

    fn around(&self) -> (&str, &str) {
        let around = self.around.as_ref();
        around.map_or(("", ""), |around| (around.prefix(), around.suffix()))
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Route<K> {
    /// A route to nowhere.
    pub fn new() -> Self {
        Self {
            legs: ArrayVec::new(),
        }
    }

    /// Adds a stream that gets the event as it is.
    ///
    /// # Errors
    ///
    /// [`EventError::TooManyStreams`] above [`MAX_ROUTE_STREAMS`].
    pub fn bare<E: ToSse>(self, to: &Broadcaster<E, K>) -> EventResult<Self> {
        self.bare_to(to.hub())
    }

    /// Adds a stream that gets the event's payload between `prefix` and `suffix`.
    ///
    /// # Errors
    ///
    /// [`EventError::TooManyStreams`], or [`EventError::Envelope`] if the two parts are too long or have line breaks.
    pub fn wrapped<E: ToSse>(
        self,
        to: &Broadcaster<E, K>,
        prefix: impl Into<String>,
        suffix: impl Into<String>,
    ) -> EventResult<Self> {
        self.wrapped_to(to.hub(), prefix, suffix)
    }

    /// [`bare`](Self::bare), to a hub.
    ///
    /// # Errors
    ///
    /// As `bare`.
    pub fn bare_to(self, to: &Hub<K>) -> EventResult<Self> {
        self.with(Target::Hub(to.clone()), None)
    }

    /// [`bare`](Self::bare), to one topic, whoever the user is: a stream of this one run or task. The route keeps the topic, as
    /// a handle does; once the topic is closed, it takes no event any more.
    ///
    /// # Errors
    ///
    /// As `bare`.
    pub fn bare_topic(self, to: &Topic) -> EventResult<Self> {
        self.with(Target::Topic(to.clone()), None)
    }

    /// [`wrapped`](Self::wrapped), to one topic, whoever the user is.
    ///
    /// # Errors
    ///
    /// As `wrapped`.
    pub fn wrapped_topic(
        self,
        to: &Topic,
        prefix: impl Into<String>,
        suffix: impl Into<String>,
    ) -> EventResult<Self> {
        let around = Envelope::new(prefix, suffix)?;
        self.with(Target::Topic(to.clone()), Some(around))
    }

    /// [`wrapped`](Self::wrapped), to a hub.
    ///
    /// # Errors
    ///
    /// As `wrapped`.
    pub fn wrapped_to(
        self,
        to: &Hub<K>,
        prefix: impl Into<String>,
        suffix: impl Into<String>,
    ) -> EventResult<Self> {
        let around = Envelope::new(prefix, suffix)?;
        self.with(Target::Hub(to.clone()), Some(around))
    }

    fn with(mut self, to: Target<K>, around: Option<Envelope>) -> EventResult<Self> {
        match self.legs.try_push(Leg { to, around }) {
            Ok(()) => Ok(self),
            Err(_) => Err(EventError::TooManyStreams {
                limit: MAX_ROUTE_STREAMS,
            }),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Clone for Route<K> {
    fn clone(&self) -> Self {
        let clone = |leg: &Leg<K>| Leg {
            to: match &leg.to {
                Target::Hub(hub) => Target::Hub(hub.clone()),
                Target::Topic(topic) => Target::Topic(topic.clone()),
            },
            around: leg.around.clone(),
        };
        Self {
            legs: self.legs.iter().map(clone).collect(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Default for Route<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> fmt::Debug for Route<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = self.legs.iter().map(|leg| &leg.around);
        f.debug_list().entries(forms).finish()
    }
}

/// Takes events along their [`Route`]s, those of one user in one order. Clones share it.
///
/// # Delivery
///
/// On each stream as in its [`Hub`]. Two events of one user that go through the same router are in the same order on
/// all streams that get both, whichever threads route them; what is published to a stream directly comes in between.
///
/// Publishing is lock-free, routing is not: for the time of the appends it holds one of 256 locks, which the users share by
/// the hash of their key.
pub struct EventRouter<S = ()>(HostArc<Inner<S>>);

struct Inner<S> {
    locks: Box<[StepMutex<()>]>,
    hasher: RandomState,
    streams: S,
}

impl EventRouter {
    /// A router without streams of its own. Routes that are to agree on an order go through one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_streams(())
    }
}

impl<S> EventRouter<S> {
    pub(crate) fn with_streams(streams: S) -> Self {
        Self(HostArc::new(Inner {
            locks: std::iter::repeat_with(|| StepMutex::new(()))
                .take(LOCKS)
                .collect(),
            hasher: RandomState::new(),
            streams,
        }))
    }

    #[cfg(feature = "protocols")]
    pub(crate) fn streams(&self) -> &S {
        &self.0.streams
    }

    /// Publishes `event` to `user` on every stream of `route`.
    ///
    /// # Errors
    ///
    /// [`EventError`] if the event cannot be encoded, is too large for one of the streams, a hub or [topic](Route::bare_topic)
    /// of the route is closed, or a hub's memory limit was reached: nothing was published then. A topic that is closed at this very moment has nobody to reach.
    ///
    /// # Panics
    ///
    /// If the waker of a connection panics: after all others were woken.
    pub fn route<E: ToSse, K: Eq + Hash + Clone + Send + Sync + 'static>(
        &self,
        user: &K,
        event: &E,
        route: &Route<K>,
    ) -> EventResult<Routed> {
        let mut frames = encode(event, route)?;
        // O2: user code, all of this.
        let lock = &self.0.locks[self.index_of(user)];
        let mut topics = ArrayVec::<Option<Found>, MAX_ROUTE_STREAMS>::new();
        for leg in &route.legs {
            topics.push(leg.find(user)?);
        }
        admit(&topics, &frames)?;
        let mut landed = ArrayVec::<_, MAX_ROUTE_STREAMS>::new();
        let mut guard = epoch::pin();
        // Nothing panics under it.
        let locked = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // O1
        for (topic, frame) in topics.iter().zip(&mut frames) {
            let bytes = frame.as_ref().map_or(0, Frame::len);
            landed.push(match (topic, frame.take()) {
                (Some(topic), Some(frame)) => {
                    let appended = topic
                        .core()
                        .append(bytes, &mut Pending::Made(frame), &guard);
                    // It was closed since it was looked up. The event is on none of its lives then.
                    appended.unwrap_or((Published::to_nobody(bytes), false))
                }
                _ => (Published::to_nobody(bytes), false),
            });
        }
        drop(locked);
        log::free_retired(&mut guard);
        drop(guard);
        // P5 of `subscribers`: one fence for all the streams.
        fence(Ordering::SeqCst);
        let mut panics = FirstPanic::default();
        let mut routed = Routed::default();
        for (topic, (published, visit)) in topics.iter().zip(landed) {
            if let Some(topic) = topic {
                panics.run(|| {
                    let wake = topic.core().subscribers.is_armed();
                    after_append(topic.core(), visit, wake);
                });
            }
            routed.0.push(published);
        }
        panics.resume();
        Ok(routed)
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the number of locks")]
    fn index_of<K: Hash>(&self, user: &K) -> usize {
        (self.0.hasher.hash_one(user) % LOCKS as u64) as usize
    }
}

/// Whether each hub takes what its streams get, all of it together: otherwise nothing is published.
fn admit(topics: &[Option<Found>], frames: &[Option<Frame>]) -> EventResult<()> {
    let legs = || topics.iter().flatten().zip(frames.iter().flatten());
    for (topic, frame) in legs() {
        let shared = &topic.core().shared;
        if shared.memory.is_none() {
            continue;
        }
        let same = legs().filter(|(other, _)| HostArc::ptr_eq(&other.core().shared, shared));
        let bytes = same.map(|(_, frame)| frame.whole_bytes()).sum();
        if !shared.has_room(bytes) && !topic.core().keeps_nothing() {
            shared.admit(bytes.max(frame.whole_bytes()))?;
        }
    }
    Ok(())
}

/// The event in the form of each of the route's streams, in its order.
fn encode<E: ToSse, K: Eq + Hash + Clone + Send + Sync + 'static>(
    event: &E,
    route: &Route<K>,
) -> EventResult<ArrayVec<Option<Frame>, MAX_ROUTE_STREAMS>> {
    let event = event.to_sse();
    let with_id = event.with_id;
    let mut forms = Forms::of(event)?;
    let mut frames = ArrayVec::<Option<Frame>, MAX_ROUTE_STREAMS>::new();
    for (at, leg) in route.legs.iter().enumerate() {
        let config = leg.config();
        let ids = with_id && config.event_ids;
        // Two streams that get the same bytes share them.
        let same = route.legs[..at].iter().position(|other| {
            let shares = !ids && !other.config().event_ids;
            shares && other.around() == leg.around()
        });
        let made = same.and_then(|at| frames[at].clone());
        let made = made.filter(|frame| frame.len() <= config.max_event_bytes);
        frames.push(Some(match made {
            Some(frame) => frame,
            None => forms.frame(leg.around(), config.max_event_bytes, ids)?,
        }));
    }
    Ok(frames)
}

impl Default for EventRouter {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Clone for EventRouter<S> {
    fn clone(&self) -> Self {
        Self(HostArc::clone(&self.0))
    }
}

impl<S: fmt::Debug> fmt::Debug for EventRouter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRouter")
            .field("streams", &self.0.streams)
            .finish_non_exhaustive()
    }
}

/// What routing an event did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "routing to nobody is not an error: it is told here"]
pub struct Routed(ArrayVec<Published, MAX_ROUTE_STREAMS>);

impl Routed {
    /// What became of it on each stream, in the order of the route.
    pub fn streams(&self) -> &[Published] {
        &self.0
    }

    /// Connections that it reached, on all streams together.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.0.iter().map(Published::subscribers).sum()
    }
}
