//! The engine that a server embeds.
//!
//! **Role.** Ties the registry, the topics and the clock together: publish and subscribe by key.
//!
//! **Invariant.** H1: a topic that is put into the map after the hub was closed is closed by whoever put it there.

use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use crate::config::{Config, HubBuilder};
use crate::drain::{self, Drain};
use crate::encode::{EncodeError, encode};
use crate::error::{PublishError, SubscribeError};
use crate::event::{Event, Payload};
use crate::event_id::EventId;
use crate::eviction::{AnyKey, Eviction, What};
use crate::frame::Frame;
use crate::log;
use crate::observe::{self, Behind, Health, top};
use crate::position::Start;
use crate::registry::Registry;
use crate::resume::LastEventId;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::stats::{HubStats, TopicStats};
use crate::subscription::Subscription;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, HostArc, HostWeak, Ordering, arc_unsized, epoch, fence,
};
use crate::topic::{
    Home, Pending, Published, Shared, Topic, TopicClosed, TopicCore, User, after_append, append_to,
};
use crate::unwind::FirstPanic;

/// A set of topics: publish an event once, and every subscriber of its topic reads it.
///
/// Topics come into being with their first subscription or [`Topic`] handle and go with their last. Clones of a hub are
/// cheap and share everything; dropping the last clone closes it.
///
/// Keys are `String` unless said otherwise; any `Eq + Hash + Clone + Send + Sync` type will do
/// ([`HubBuilder::build_keyed`], or `Hub::<u64>::default()`), and lookups take any borrowed form of it. The key's `Hash`
/// and `Eq` run under a lock of the map, and in [`keys`](Self::keys) its `Clone`: they must not call the hub.
///
/// # Delivery
///
/// Every publish that begins after a subscribe returned reaches that subscription, once, or is counted in a lag notice.
/// All subscribers of a topic see its events in the same order, which agrees with the order of each publisher; events
/// of publishers on different threads are ordered by who reserved a place first. There is no order across topics. After
/// an unsubscribe nothing is delivered. An event that is being published by a preempted thread holds back, for readers
/// of its topic only, those published after it, until that thread goes on or the event is evicted.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub, Item};
///
/// let hub = Hub::new();
/// let mut subscription = hub.subscribe("room:1")?;
/// hub.publish("room:1", Event::json(&"hello"))?;
/// assert!(matches!(subscription.try_recv(), Ok(Item::Frame(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Hub<K = String>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
{
    inner: HostArc<Inner<K>>,
}

struct Inner<K: Eq + Hash> {
    registry: Registry<K>,
    shared: HostArc<Shared>,
    next_epoch: AtomicU64,
    closed: AtomicBool,
}

/// A topic's place in its hub.
struct Keyed<K: Eq + Hash> {
    key: K,
    hub: HostWeak<Inner<K>>,
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Home for Keyed<K> {
    fn key(&self) -> AnyKey {
        Box::new(self.key.clone())
    }

    fn closing(&self, topic: &TopicCore) {
        if let Some(hub) = self.hub.upgrade() {
            hub.registry.remove(&self.key, topic);
        }
    }

    fn vacated(&self, topic: &TopicCore) {
        if let Some(hub) = self.hub.upgrade() {
            let removed = hub.registry.remove_dead(&self.key, topic);
            if removed || topic.is_gone() {
                topic.count_out();
            }
        }
    }
}

impl Hub {
    /// A hub with the default limits and string keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets limits, and the type of the keys.
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Default for Hub<K> {
    fn default() -> Self {
        match HubBuilder::new().check() {
            Ok(config) => Self::with_config(config),
            Err(error) => unreachable!("the default limits are valid: {error}"),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Hub<K> {
    pub(crate) fn with_config(config: Config) -> Self {
        let inner = HostArc::new(Inner {
            registry: Registry::new(config.shards),
            shared: HostArc::new(Shared::new(config)),
            // Unpredictable and different in each process: std seeds it from the system.
            next_epoch: AtomicU64::new(RandomState::new().hash_one("fanfare")),
            closed: AtomicBool::new(false),
        });
        if let Some(memory) = &inner.shared.memory {
            let hub = HostArc::downgrade(&inner);
            let topics = move || hub.upgrade().map(|hub| hub.registry.topics());
            memory.set_topics(Box::new(move || topics().unwrap_or_default()));
        }
        Self { inner }
    }

    /// Subscribes to the events published to `key` from now on.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the hub is closed.
    pub fn subscribe<Q>(&self, key: &Q) -> Result<Subscription, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        self.start(key, Start::Live)
    }

    fn start<Q>(&self, key: &Q, start: Start) -> Result<Subscription, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let shared = &self.inner.shared;
        loop {
            let place = shared.take_place().inspect_err(observe::not_subscribed)?;
            let topic = self
                .enter(key, User::Subscription)
                .inspect_err(observe::not_subscribed)?;
            place.take();
            let started = Subscription::start(topic, start);
            if started.is_ok() || self.is_closed() {
                return started;
            }
            // T4
            self.inner.registry.remove_closed(key);
        }
    }

    /// Subscribes to the events after `id`: an [`EventId`], or the [`LastEventId`] of a client, which may be none.
    ///
    /// If what followed `id` is still in the log, the subscription continues without gap or duplicate. If some of it is
    /// gone, the first item is [`Lagged`](crate::Item::Lagged) with the exact number. If `id` belongs to another life of
    /// the topic, the first item is `Lagged` with an unknown number, followed by all that is retained; if it lies in the
    /// future, by what comes from now on. [`Subscription::resumed`] tells which.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the hub is closed.
    pub fn subscribe_from<Q>(
        &self,
        key: &Q,
        id: impl Into<LastEventId>,
    ) -> Result<Subscription, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        self.start(key, id.into().start())
    }

    /// Subscribes with a snapshot first: what the application knows, and then the events that follow it.
    ///
    /// `snapshot` is asked for frames, and for the last event that they include. The subscription stands in the log before
    /// it is asked, so events flow meanwhile and none is lost. The frames come first, then the events after that one.
    ///
    /// *Exact*, without gap or repetition, is the stream of an application that records with its state the id of the last
    /// event in it (what [`Published::id`] told), both under one lock of its own around the publish, and gives it to [`Snapshot::as_of`].
    ///
    /// *Without an id*, or with one of another life of the topic, the stream begins behind the place that `snapshot` is
    /// given. Then the application must change its state before it publishes; no event is lost, and those that were
    /// published while it was asked may be in the snapshot and come again. That is right for events that say what is
    /// now, not for those that say what is added.
    ///
    /// If what follows the snapshot has left the log by the time it is there, it is asked for again, up to three times in
    /// all; then the lag is told. Retention must be longer than a snapshot takes.
    ///
    /// Finding the place costs a look at each event that the topic holds.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Snapshot`] with what `snapshot` failed with, or [`SnapshotError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future unsubscribes. Nothing else was done.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::sync::Mutex;
    /// use fanfare::{Event, EventId, Hub, Item, Snapshot};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let hub = Hub::new();
    /// // The sum, and the event that it includes last.
    /// let state = Mutex::new((0, None::<EventId>));
    /// let add = |number: i32| {
    ///     let mut state = state.lock().unwrap();
    ///     state.0 += number;
    ///     state.1 = hub.publish("sum", Event::json(&number))?.id();
    ///     Ok::<_, fanfare::PublishError>(())
    /// };
    /// add(3)?;
    /// let snapshot = |_position| {
    ///     let (sum, last) = *state.lock().unwrap();
    ///     let frame = hub.encode(Event::json(&sum).name("sum"));
    ///     async move { frame.map(|frame| Snapshot::new(vec![frame]).as_of(last)) }
    /// };
    /// let mut subscription = hub.subscribe_with_snapshot("sum", snapshot).await?;
    /// add(4)?;
    /// let Ok(Item::Frame(first)) = subscription.try_recv() else { panic!() };
    /// let Ok(Item::Frame(second)) = subscription.try_recv() else { panic!() };
    /// assert_eq!((&*first.data(), &*second.data()), ("3", "4"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn subscribe_with_snapshot<Q, E, F>(
        &self,
        key: &Q,
        snapshot: impl FnMut(EventId) -> F,
    ) -> Result<Subscription, SnapshotError<E>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
        F: Future<Output = Result<Snapshot, E>>,
    {
        let subscription = self.start(key, Start::Filled)?;
        subscription.after_snapshot(snapshot).await
    }

    /// Encodes an event with this hub's limits, without an id: for a [`Snapshot`].
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if it cannot be encoded or is too large.
    pub fn encode<P: Payload>(&self, event: Event<'_, P>) -> Result<Frame, EncodeError> {
        encode(event, self.config().max_event_bytes, false)
    }

    /// A handle on the topic at `key`, for publishing without a lookup.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the hub is closed.
    pub fn topic<Q>(&self, key: &Q) -> Result<Topic, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        loop {
            let handle = Topic::counted(self.enter(key, User::Handle)?);
            if !handle.is_closed() {
                return Ok(handle);
            }
            if self.is_closed() {
                return Err(SubscribeError::Closed);
            }
            // T4
            self.inner.registry.remove_closed(key);
        }
    }

    /// Publishes `event` to the subscribers of `key`.
    ///
    /// The event is encoded once. Takes one shard's read lock for one probe; no user code runs under it.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the event cannot be encoded, the hub is closed, or one of its limits was reached. Nothing was
    /// appended then.
    ///
    /// # Panics
    ///
    /// If the waker of a subscriber panics: after all others were woken.
    pub fn publish<Q, P>(&self, key: &Q, event: Event<'_, P>) -> Result<Published, PublishError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
        P: Payload,
    {
        let config = &self.inner.shared.config;
        let frame = encode(event, config.max_event_bytes, config.event_ids)
            .inspect_err(observe::not_encoded)?;
        self.append(key, frame.len(), Pending::Made(frame))
    }

    /// Publishes one event to many keys: encoded once for all of them.
    ///
    /// Without ids one frame serves all the topics; with ids each topic gets a copy of the bytes with its own id.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the event cannot be encoded, the hub is closed, or one of its limits was reached. In the latter
    /// cases topics that come earlier in `keys` may have got it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Event, Hub};
    ///
    /// let hub = Hub::new();
    /// let ann = hub.subscribe("ann")?;
    /// let bob = hub.subscribe("bob")?;
    /// let sent = hub.publish_many(["ann", "bob", "cid"], Event::text("lunch"))?;
    /// assert_eq!((sent.topics(), sent.subscribers()), (2, 2));
    /// # drop((ann, bob));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_many<'q, Q, P>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
        event: Event<'_, P>,
    ) -> Result<PublishedMany, PublishError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized + 'q,
        P: Payload,
    {
        let config = &self.inner.shared.config;
        let frame = encode(event, config.max_event_bytes, config.event_ids)
            .inspect_err(observe::not_encoded)?;
        let mut sum = Ok(PublishedMany::default());
        let mut panics = FirstPanic::default();
        for key in keys {
            match panics.run(|| self.append(key, frame.len(), Pending::Of(&frame))) {
                Some(Ok(published)) => {
                    if let Ok(sum) = &mut sum {
                        sum.count(published);
                    }
                }
                Some(Err(error)) => {
                    sum = Err(error);
                    break;
                }
                None => {}
            }
        }
        panics.resume();
        sum
    }

    /// Publishes one event to every topic that exists now: encoded once for all of them.
    ///
    /// Locks one shard of the map after the other, not while it publishes. Without ids one frame serves all the topics; with ids each topic gets a copy of
    /// the bytes with its own id.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the event cannot be encoded, the hub is closed, or its memory limit was reached. In the latter
    /// cases some of the topics may have got it.
    pub fn publish_all<P: Payload>(
        &self,
        event: Event<'_, P>,
    ) -> Result<PublishedMany, PublishError> {
        let config = &self.inner.shared.config;
        let frame = encode(event, config.max_event_bytes, config.event_ids)
            .inspect_err(observe::not_encoded)?;
        if self.is_closed() {
            return Err(PublishError::Closed);
        }
        let mut sum = PublishedMany::default();
        let mut closed = false;
        let mut refused = None;
        let mut panics = FirstPanic::default();
        let mut append = |topic: &Arc<TopicCore>| {
            if refused.is_none() {
                refused = topic.admit(&frame).err();
            }
            if refused.is_some() {
                return;
            }
            match panics.run(|| append_to(topic, frame.for_another())) {
                Some(Ok(published)) => sum.count(published),
                Some(Err(TopicClosed)) => closed = true,
                None => {}
            }
        };
        if config.history {
            // With a handle each: a topic without users may go at any time, and the event is to be found again.
            let topics = self.inner.registry.held_topics();
            let handles: Vec<_> = topics.into_iter().map(Topic::counted).collect();
            for topic in &handles {
                append(topic.core());
            }
        } else {
            // Who has left the map meanwhile has no subscribers that were there before.
            self.inner.registry.topics().iter().for_each(append);
        }
        panics.resume();
        if let Some(refused) = refused {
            return Err(refused);
        }
        if closed && self.is_closed() {
            return Err(PublishError::Closed);
        }
        Ok(sum)
    }

    /// The topic at `key`, to publish to once. With history it is made if need be, and the handle holds it until then; without,
    /// it is held by its subscribers, and by no one if there are none to be told.
    pub(crate) fn find<Q>(&self, key: &Q) -> Result<Option<Found>, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if self.is_closed() {
            return Err(SubscribeError::Closed);
        }
        if self.config().history {
            return self.topic(key).map(|topic| Some(Found::Held(topic)));
        }
        loop {
            match self.inner.registry.view(key, Arc::clone) {
                // T4
                Some(topic) if topic.log.is_closed() && !self.is_closed() => {
                    self.inner.registry.remove_closed(key);
                }
                found => return Ok(found.map(Found::Seen)),
            }
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.shared.config
    }

    /// Shards of the map.
    pub(crate) fn shards(&self) -> Option<usize> {
        self.inner.shared.config.shards
    }

    fn append<Q>(
        &self,
        key: &Q,
        bytes: usize,
        mut pending: Pending<'_>,
    ) -> Result<Published, PublishError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if !self.inner.shared.has_room(pending.whole_bytes()) {
            self.make_room(key, pending.whole_bytes())?;
        }
        loop {
            match self.append_once(key, bytes, &mut pending) {
                Ok(published) => {
                    observe::published(&published);
                    return Ok(published);
                }
                // T4: it was closed alone. The frame is still here.
                Err(PublishError::Closed) if !self.is_closed() => {
                    self.inner.registry.remove_closed(key);
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Has the budget take an event for `key`, unless there is nobody to keep it for.
    #[cold]
    fn make_room<Q>(&self, key: &Q, bytes: usize) -> Result<(), PublishError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if self.config().history || self.subscribers_of(key) > 0 {
            self.inner.shared.admit(bytes)?;
        }
        Ok(())
    }

    #[inline]
    fn append_once<Q>(
        &self,
        key: &Q,
        bytes: usize,
        pending: &mut Pending<'_>,
    ) -> Result<Published, PublishError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let inner = &*self.inner;
        // Pinned before the lock: pinning may run deferred destructors, and those could be anybody's.
        let mut guard = epoch::pin();
        let mut append = |topic: &Arc<TopicCore>| {
            let appended = topic.append(bytes, pending, &guard);
            if appended.is_err() {
                // The closer may be on its way still: nobody waits for it.
                topic.log.close(&guard);
            }
            appended.map(|(published, visit)| {
                let wake = topic.subscribers.needs_wake();
                // The topic is held on to only if there is something to do after the lock.
                let topic = (visit || wake).then(|| Arc::clone(topic));
                (published, visit, wake, topic)
            })
        };
        let mut appended = inner.registry.view(key, &mut append);
        let mut handle = None;
        if appended.is_none() && inner.shared.config.history {
            // A topic is made to keep the event for those who come later. The handle holds it meanwhile.
            let topic = self.enter(key, User::Handle)?;
            appended = Some(append(&topic));
            handle = Some(Topic::counted(topic));
        }
        log::free_retired(&mut guard);
        drop(guard);
        drop(handle);
        let Some(appended) = appended else {
            if self.is_closed() {
                return Err(PublishError::Closed);
            }
            return Ok(Published::to_nobody(bytes));
        };
        let (published, visit, wake, topic) = appended?;
        if let Some(topic) = topic {
            after_append(&topic, visit, wake);
        }
        Ok(published)
    }

    /// Finds or makes the topic at `key` and counts `user` in.
    fn enter<Q>(&self, key: &Q, user: User) -> Result<Arc<TopicCore>, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let inner = &self.inner;
        let topic = inner.registry.enter(key, user, |key| {
            if self.is_closed() {
                return Err(SubscribeError::Closed);
            }
            // Relaxed: only that each number is given once.
            let epoch = inner.next_epoch.fetch_add(1, Ordering::Relaxed);
            let home = Keyed {
                key: key.clone(),
                hub: HostArc::downgrade(inner),
            };
            let shared = HostArc::clone(&inner.shared);
            let core = TopicCore::counted(shared, epoch, home)?;
            observe::topic_made(epoch);
            Ok(arc_unsized!(core => TopicCore))
        })?;
        // H1: either the closer finds the topic in the map, or this sees that the hub is closed.
        fence(Ordering::SeqCst);
        if self.is_closed() {
            topic.close();
        }
        Ok(topic)
    }

    /// Closes the hub: publishing and subscribing are refused from now on, and subscriptions end once they have read
    /// what was published before.
    ///
    /// # Panics
    ///
    /// If the waker of a subscriber panics: after all topics were closed.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Whether the hub was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Acquire: what was done before the close.
        self.inner.closed.load(Ordering::Acquire)
    }

    /// Ends all subscriptions over a time, and then the hub: before a server is stopped.
    ///
    /// From now on nobody is taken in ([`SubscribeError::Draining`]); publishing goes on. The subscriptions are asked to leave one
    /// after the other, spread over four fifths of `within`: each reads what is there and ends, with
    /// [`EndReason::Drained`](crate::EndReason::Drained). An SSE client is told to come back after 1 to 5 s, by chance. What is left at the deadline
    /// is cut: the hub is closed, readers end when they have read to its end, and [`Subscription::evicted`] resolves for those
    /// that have not done so two ticks of the hub's clock later (250 ms or less each). `within` is at most a day. With axum, whose graceful shutdown waits for streams, drain the hub when the
    /// signal comes; a stream whose client does not read ends only if you close its socket (example `stalled`).
    ///
    /// It is under way at once. `None` if it was before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use fanfare::Hub;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let hub = Hub::new();
    /// if let Some(drain) = hub.drain(Duration::from_secs(30)) {
    ///     let report = drain.await;
    ///     println!("{} of {} were cut", report.cut, report.subscriptions);
    /// }
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn drain(&self, within: Duration) -> Option<Drain> {
        let shared = &self.inner.shared;
        if !shared.begin_to_drain() {
            return None;
        }
        let tick = self.config().pace.tick;
        let ticks = within.min(drain::MOST).as_nanos().div_ceil(tick.as_nanos());
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        let hub = HostArc::downgrade(&self.inner);
        let (drain, job) = drain::begin(hub, shared, shared.clock.refresh(), ticks);
        shared.clock.ring_all();
        shared.clock.employ(job);
        Some(drain)
    }

    /// Has `f` called for each connection that the hub gives up: those that stood still
    /// ([`HubBuilder::evict_after`]), and those that ended because they lagged. Once for a hub: `false` if there was a
    /// callback before, which stays.
    ///
    /// It is called on the hub's clock or where a subscription is dropped: it should be short, and not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use fanfare::Hub;
    ///
    /// let hub = Hub::builder().evict_after(Duration::from_secs(30)).build()?;
    /// hub.on_eviction(|eviction| eprintln!("gave up {eviction}"));
    /// assert!(hub.evictions().is_empty());
    /// # Ok::<(), fanfare::ConfigError>(())
    /// ```
    pub fn on_eviction(&self, f: impl Fn(&Eviction<K>) + Send + Sync + 'static) -> bool {
        let callback = move |key: &dyn Any, what: &What| {
            if let Some(key) = key.downcast_ref::<K>() {
                f(&Eviction {
                    key: key.clone(),
                    what: what.clone(),
                });
            }
        };
        self.inner.shared.evictions.set_callback(Box::new(callback))
    }

    /// The last 64 connections that the hub gave up, the oldest first: for the one who asks why a connection was dropped.
    #[must_use]
    pub fn evictions(&self) -> Vec<Eviction<K>> {
        self.inner.shared.evictions.last()
    }

    /// Lets so many ticks of its clock go by, if that goes by hand. Tells how many topics it visited.
    #[cfg(feature = "_simulate")]
    #[doc(hidden)]
    pub fn go_on(&self, ticks: u64) -> u64 {
        self.inner.shared.clock.go_on(ticks)
    }

    /// How long a tick of its clock is.
    #[cfg(feature = "_simulate")]
    #[doc(hidden)]
    pub fn tick(&self) -> Duration {
        self.config().pace.tick
    }

    /// Bytes of encoded events that this hub has published and that are not freed yet, with what belongs to each and the logs around
    /// them: those in logs, those that readers hold, and those whose memory the collector has still to give back. An event that more topics
    /// share counts once. `None` without a [`memory_limit`](HubBuilder::memory_limit).
    ///
    /// Exact at quiescence; takes no lock.
    #[must_use]
    pub fn memory_used(&self) -> Option<u64> {
        let memory = self.inner.shared.memory.as_ref();
        memory.map(|memory| memory.used())
    }

    /// Topics that exist. Exact at quiescence; locks one shard after the other.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.inner.registry.len()
    }

    /// Subscriptions in all. Exact at quiescence; takes no lock.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "pointers have 64 bits")]
    pub fn subscribers(&self) -> usize {
        self.inner.shared.subscribers.sum() as usize
    }

    /// Subscriptions on the topic at `key`; 0 if there is no such topic.
    #[must_use]
    pub fn subscribers_of<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let count = |topic: &Arc<TopicCore>| topic.subscriber_count();
        self.inner.registry.view(key, count).unwrap_or(0)
    }

    /// The keys of the topics that exist, in no order. Locks one shard after the other.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.inner.registry.keys()
    }

    /// What the hub holds and has done. Sums its counters, and locks one shard of the map after the other to count the
    /// topics; walks over nothing.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let shared = &self.inner.shared;
        shared.counts.fill(HubStats {
            memory_used: self.memory_used(),
            topics: self.topics(),
            subscribers: self.subscribers(),
            lagged: shared.lagged.sum(),
            evicted: shared.evictions.count.sum(),
            ..HubStats::default()
        })
    }

    /// What the topic at `key` holds, if there is one; see [`Topic::stats`].
    #[must_use]
    pub fn topic_stats<Q>(&self, key: &Q) -> Option<TopicStats>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // The look at the readers is not for under the lock.
        let topic = self.inner.registry.view(key, Arc::clone)?;
        Some(topic.stats())
    }

    /// The `n` readers that are the most events behind, the last one first. Those that are up to date are not among them.
    ///
    /// For a page that somebody looks at: it walks all topics and all readers.
    #[must_use]
    pub fn most_behind(&self, n: usize) -> Vec<Behind<K>> {
        top::most_behind(&self.inner.registry.topics(), n)
    }

    /// The `n` readers that hold back the most bytes, the most first. Only where the hub keeps no history: then a topic of few
    /// readers, or an idle one, keeps what one of its readers has not read, within the limits of retention.
    ///
    /// For a page that somebody looks at: it walks all topics and all readers.
    #[must_use]
    pub fn most_holding(&self, n: usize) -> Vec<Behind<K>> {
        top::most_holding(&self.inner.registry.topics(), n)
    }

    /// Whether fan-out makes progress: the hub is open, its clock goes, and no event that is not there yet holds back those
    /// behind it.
    ///
    /// Such a hole is left by a publisher's thread that the system has taken off its core, or that a debugger holds, between
    /// two steps of a publish. When it came is not noted; so it is told by the second look that finds it, a
    /// second after the first or later. Look every few seconds, from one place.
    ///
    /// It walks all topics and all readers.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Hub, Problem};
    ///
    /// let hub = Hub::new();
    /// assert!(hub.health().is_ok());
    /// hub.close();
    /// assert_eq!(hub.health().problems(), [Problem::Closed]);
    /// ```
    pub fn health(&self) -> Health {
        let inner = &self.inner;
        let closed = self.is_closed();
        Health::look(&inner.shared, closed, || inner.registry.topics())
    }

    /// Tells the recorder of the `metrics` crate what [`stats`](Self::stats) tells: an exporter calls it before each scrape.
    /// For a process with one hub.
    ///
    /// `docs/operating.md` lists the names. What is rare is told when it happens: refusals, and the sizes of gaps.
    #[cfg(feature = "metrics")]
    pub fn record_metrics(&self) {
        observe::record(&self.stats(), None);
    }

    /// [`record_metrics`](Self::record_metrics), with the label `hub`: for a process with several.
    #[cfg(feature = "metrics")]
    pub fn record_metrics_as(&self, hub: &str) {
        observe::record(&self.stats(), Some(hub));
    }
}

impl<K: Eq + Hash + Send + Sync + 'static> drain::Drained for HostWeak<Inner<K>> {
    fn topics(&self) -> Vec<Arc<TopicCore>> {
        let hub = self.upgrade();
        hub.map(|hub| hub.registry.topics()).unwrap_or_default()
    }

    fn close(&self) {
        if let Some(hub) = self.upgrade() {
            hub.close();
        }
    }
}

impl<K: Eq + Hash> Inner<K> {
    fn close(&self) {
        // Release: pairs with `is_closed`.
        if !self.closed.swap(true, Ordering::Release) {
            observe::hub_closed(self.shared.subscribers.sum());
        }
        // H1
        fence(Ordering::SeqCst);
        let mut panics = FirstPanic::default();
        for topic in self.registry.topics() {
            panics.run(|| {
                topic.close();
                TopicCore::watch_closed(&topic);
                topic.offer_to_go();
            });
        }
        panics.resume();
    }
}

impl<K: Eq + Hash> Drop for Inner<K> {
    fn drop(&mut self) {
        // A waker that panics has said so already; a panic out of a drop could end the process.
        FirstPanic::default().run(|| self.close());
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Clone for Hub<K> {
    fn clone(&self) -> Self {
        Self {
            inner: HostArc::clone(&self.inner),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> fmt::Debug for Hub<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("topics", &self.topics())
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}

/// A topic that was looked up to publish to it once.
pub(crate) enum Found {
    /// By a handle.
    Held(Topic),
    /// It may have left the map since: then who was subscribed at the look has gone.
    Seen(Arc<TopicCore>),
}

impl Found {
    #[inline]
    pub(crate) fn core(&self) -> &Arc<TopicCore> {
        match self {
            Self::Held(topic) => topic.core(),
            Self::Seen(core) => core,
        }
    }
}

/// What a publish to many keys did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "publishing to nobody is not an error: it is told here"]
pub struct PublishedMany {
    topics: usize,
    subscribers: usize,
    lagging: usize,
}

impl PublishedMany {
    fn count(&mut self, published: Published) {
        self.topics += usize::from(published.id().is_some());
        self.subscribers += published.subscribers();
        self.lagging += published.lagging();
    }

    /// Topics that got the event: those with subscribers, or all of them if the hub keeps history.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics
    }

    /// Subscribers that these topics had, in all.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// Of these, those that were behind the retained logs; see [`Published::lagging`].
    #[must_use]
    pub fn lagging(&self) -> usize {
        self.lagging
    }
}
