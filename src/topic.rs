//! A named stream of frames: a log and its subscribers.
//!
//! **Role.** [`TopicCore`] joins the two halves: publish is append, then wake; subscribe is a waiter, then a place in the
//! log. [`Topic`] is the handle that a publisher keeps.
//!
//! **Invariants.**
//! * T2: `users` counts the subscriptions (low half) and handles (high half). It is raised only under a guard of the
//!   registry that found the topic there, or by somebody who is counted already.
//! * T3: a subscriber is counted before it takes its place in the log. So a publisher that starts after the
//!   subscription was made sees it, and may skip the append only when there is none.
//! * T4: a topic that is closed alone is closed from the moment its log is. Whoever finds it at its key after that takes it out
//!   of the registry and looks again, so nobody waits for the closer.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | U1 | `enter` | RMW of `users` | Relaxed | the registry's lock orders it | — |
//! | U2 | `exit` | RMW of `users` | `AcqRel` | the remover's load | — (the fence U4 follows) |
//! | U4 | `exit`, `offer_to_go` | fences between the users and the log | `SeqCst` | each other | `exit`: `visit_vs_leave` |
//! | U3 | `visit`, publishers | fences around `scheduled` | `SeqCst` | each other | — (no model runs the clock) |

use std::fmt;

use crate::clock::{Again, Clock};
use crate::config::Config;
use crate::drain::come_back_after;
use crate::encode::{EncodeError, encode};
use crate::ending::EndReason;
use crate::error::{PublishError, SubscribeError};
use crate::event::{Event, Payload};
use crate::event_id::EventId;
use crate::eviction::{AnyKey, Evictions, GivenUp};
use crate::frame::Frame;
use crate::interest::{Interest, Watchers};
use crate::log::{self, Kept, Log};
use crate::memory::{Cut, Memory, Payer, part};
use crate::observe::{self, Holes};
use crate::position::Start;
use crate::resume::LastEventId;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::stats::{Counts, StripedCounter, TopicStats};
use crate::subscribers::Subscribers;
use crate::subscription::Subscription;
use crate::sync::epoch::{self, Guard};
use crate::sync::{
    Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, HostArc, HostAtomicU32, Ordering, fence,
};
use crate::unwind::FirstPanic;

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
    topics: AtomicUsize,
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
    fn age_ticks(&self) -> u64 {
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

    fn give_place_back(&self) {
        if self.config.caps.connections.is_some() {
            // Relaxed: a count.
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts one more topic, if their number is limited. Tells whether it is.
    fn count_topic(&self) -> Result<bool, SubscribeError> {
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

/// Where a topic stands: told when its last user left, so that it can go.
pub(crate) trait Home: Send + Sync {
    fn vacated(&self, topic: &TopicCore);

    /// Told when the topic was closed by itself: its key is for another from now on.
    fn closing(&self, topic: &TopicCore);

    /// A copy of its key.
    fn key(&self) -> AnyKey;
}

/// Who uses a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Subscription,
    Handle,
}

/// The half of `users` that counts subscriptions.
const SUBSCRIPTIONS: u64 = 0xffff_ffff;

impl User {
    const fn one(self) -> u64 {
        match self {
            Self::Subscription => 1,
            Self::Handle => 1 << 32,
        }
    }
}

/// The clock does not know the topic.
const UNSCHEDULED: u32 = 0;
/// The clock visits it every round.
const SOON: u32 = 1;

/// What stands for a tick in a word of 32 bits: two ticks that are the same for it are 2^32 apart, or first ones of a hub.
#[expect(clippy::cast_possible_truncation, reason = "the low half")]
pub(crate) const fn stands_for(tick: u64) -> u32 {
    match tick as u32 {
        UNSCHEDULED | SOON => 2,
        low => low,
    }
}

/// Ticks from the one whose low half is given.
#[expect(clippy::cast_possible_truncation, reason = "the low half")]
const fn ticks_since(low: u32, now: u64) -> u64 {
    (now as u32).wrapping_sub(low) as u64
}

pub(crate) struct TopicCore<H: ?Sized = dyn Home> {
    pub(crate) log: Log,
    pub(crate) subscribers: Subscribers,
    users: AtomicU64,
    last_append: AtomicU64,
    /// [`UNSCHEDULED`], [`SOON`], or what [stands for](stands_for) the tick at which the clock is to come (T1 of `clock`).
    scheduled: AtomicU32,
    /// When the clock last looked for readers that stand still: the low half of the tick. It alone writes.
    looked: HostAtomicU32,
    pub(crate) epoch: u64,
    pub(crate) shared: HostArc<Shared>,
    home: H,
}

/// Topics whose subscribers stand in at most this many places of the list are watched for what all have passed: at
/// most nine subscribers, so the look is short.
const SMALL_TOPIC_PLACES: usize = 1;

/// What a publish did.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub};
///
/// let hub = Hub::new();
/// let nobody = hub.publish("news", Event::text("hello"))?;
/// assert_eq!((nobody.subscribers(), nobody.id()), (0, None));
///
/// let subscription = hub.subscribe("news")?;
/// let somebody = hub.publish("news", Event::text("hello"))?;
/// assert_eq!(somebody.subscribers(), 1);
/// assert_eq!(somebody.id().map(|id| id.offset()), Some(1));
/// # drop(subscription);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "publishing to nobody is not an error: it is told here"]
pub struct Published {
    /// As few bits as a topic's count has.
    subscribers: u32,
    lagging: u32,
    id: Option<EventId>,
    bytes: usize,
}

impl Published {
    pub(crate) fn to_nobody(bytes: usize) -> Self {
        Self {
            subscribers: 0,
            lagging: 0,
            id: None,
            bytes,
        }
    }

    /// Subscribers that the topic had when the event was appended: each gets it, or is told that it missed it.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers as usize
    }

    /// Of these, the readers that stood behind the retained log, and will be told of lag, when the hub's clock last visited
    /// the topic. It costs the publisher one load.
    ///
    /// The clock visits a topic in every round, a sixth of the `heartbeat` or less, while it has subscriptions that want
    /// heartbeats (those of SSE do) and at least every `evict_after` if that is set; otherwise when its events come of age, which may be
    /// long after. [`Topic::stats`] looks anew.
    #[must_use]
    pub fn lagging(&self) -> usize {
        self.lagging as usize
    }

    /// Where the event stands, whether or not the id is sent with it. `None` if the event was not kept: nobody was
    /// there, and the hub keeps no history.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        self.id
    }

    /// Size of the encoded event, in bytes, without its id.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<H: Home> TopicCore<H> {
    /// A topic that is counted, or why there may not be one more.
    pub(crate) fn counted(
        shared: HostArc<Shared>,
        epoch: u64,
        home: H,
    ) -> Result<Self, SubscribeError> {
        let counted = shared.count_topic()?;
        let this = Self::new(shared, epoch, home);
        // Relaxed: nobody else has it yet.
        this.log.counted.store(counted, Ordering::Relaxed);
        Ok(this)
    }

    pub(crate) fn new(shared: HostArc<Shared>, epoch: u64, home: H) -> Self {
        Self {
            log: Log::new(),
            subscribers: Subscribers::new(),
            users: AtomicU64::new(0),
            last_append: AtomicU64::new(shared.clock.now()),
            scheduled: AtomicU32::new(UNSCHEDULED),
            looked: HostAtomicU32::new(0),
            epoch,
            shared,
            home,
        }
    }
}

impl TopicCore {
    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Counts a user in (T2), unless the topic is full.
    pub(crate) fn try_enter(&self, user: User) -> Result<(), SubscribeError> {
        let (User::Subscription, Some(limit)) = (user, self.config().caps.connections_per_topic)
        else {
            self.enter(user);
            return Ok(());
        };
        let one_more = |users: u64| {
            let subscriptions = (users & SUBSCRIPTIONS) as usize;
            (subscriptions < limit).then_some(users + user.one())
        };
        // Relaxed: as in `enter`. U1
        let counted = self
            .users
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.map_err(|users| SubscribeError::TopicFull {
            limit,
            connections: (users & SUBSCRIPTIONS) as usize,
        })?;
        self.shared.subscribers.add(1);
        Ok(())
    }

    /// Counts a user in (T2).
    pub(crate) fn enter(&self, user: User) {
        // Relaxed: the guard, or the user that is there, orders it. U1
        self.users.fetch_add(user.one(), Ordering::Relaxed);
        if user == User::Subscription {
            self.shared.subscribers.add(1);
        }
    }

    /// Counts a user out; the last one has the topic removed.
    pub(crate) fn exit(&self, user: User) {
        if user == User::Subscription {
            self.shared.subscribers.add(-1);
            self.shared.give_place_back();
        }
        // AcqRel: what the users did is done before the topic goes. U2
        let before = self.users.fetch_sub(user.one(), Ordering::AcqRel);
        let deserted = user == User::Subscription && before & SUBSCRIPTIONS == 1;
        let last = before == user.one();
        if deserted || last {
            // U4: either this sees that the log is empty, or whoever emptied it sees that nobody is left. J-b: and the
            // same with those who wait for that.
            fence(Ordering::SeqCst);
        }
        if last {
            self.home.vacated(self);
        } else if deserted {
            // Who watches is a user: there is none if this was the last.
            // A waker that panics has said so already; this is called in drops.
            let tell = || self.shared.watchers.tell(self.address(), false);
            FirstPanic::default().run(tell);
        }
    }

    /// Tells those who wait for it that a subscription has its place. The caller has a fence behind that.
    #[inline]
    pub(crate) fn tell_joined(&self) {
        self.shared.watchers.tell(self.address(), true);
    }

    /// Tells it from other topics while it lives.
    pub(crate) fn address(&self) -> usize {
        (&raw const *self).cast::<()>().addr()
    }

    /// Has the topic removed if it is dead: for changes other than a user's exit.
    pub(crate) fn offer_to_go(&self) {
        // U4
        fence(Ordering::SeqCst);
        // Relaxed: the registry looks again under its lock.
        if self.users.load(Ordering::Relaxed) == 0 {
            self.home.vacated(self);
        }
    }

    /// Whether the registry may drop the topic; asked under its write lock.
    pub(crate) fn is_dead(&self) -> bool {
        // Acquire: pairs with `exit`. U2
        let users = self.users.load(Ordering::Acquire);
        users == 0 && !(self.config().history && !self.log.is_closed() && self.log.has_chain())
    }

    /// Whether it is closed, and has no users.
    pub(crate) fn is_gone(&self) -> bool {
        self.log.is_closed() && self.is_dead()
    }

    #[inline]
    pub(crate) fn subscriber_count(&self) -> usize {
        // Relaxed: T3 is an order that the callers have among themselves.
        (self.users.load(Ordering::Relaxed) & SUBSCRIPTIONS) as usize
    }

    /// Appends a frame, unless nobody could ever read it. The caller wakes afterwards, without the guard.
    #[inline]
    pub(crate) fn append(
        &self,
        bytes: usize,
        pending: &mut Pending<'_>,
        guard: &Guard,
    ) -> Result<(Published, bool), TopicClosed> {
        let subscribers = self.subscriber_count();
        if subscribers == 0 && !self.config().history {
            if self.log.is_closed() {
                return Err(TopicClosed);
            }
            return Ok((Published::to_nobody(bytes), false));
        }
        let Some(frame) = pending.take() else {
            debug_assert!(false, "a frame is appended once");
            return Ok((Published::to_nobody(bytes), false));
        };
        let mut payer = Payer::NOBODY;
        if let Some(memory) = &self.shared.memory {
            frame.charge(memory);
            payer = memory.payer();
        }
        let clock = &self.shared.clock;
        // The clock sleeps while no topic has a chain; then its time is old.
        let now = if self.log.has_chain() {
            clock.now()
        } else {
            clock.refresh()
        };
        // Before the append: whoever counts the new offset finds the topic not quiet (O1 of `log`). Stored only when
        // changed, so that the line stays shared among publishers. Relaxed: a time.
        if self.last_append.load(Ordering::Relaxed) < now {
            self.last_append.fetch_max(now, Ordering::Relaxed);
        }
        let appended =
            match self
                .log
                .append(frame, self.epoch, now, (|| clock.refresh(), payer), guard)
            {
                Ok(appended) => appended,
                Err(log::LogClosed(frame)) => {
                    pending.give_back(frame);
                    return Err(TopicClosed);
                }
            };
        let retention = &self.config().retention;
        self.log
            .retain(retention, self.shared.age_ticks(), now, guard);
        self.shared.counts.published(bytes);
        let published = Published {
            #[expect(clippy::cast_possible_truncation, reason = "a count of 32 bits")]
            subscribers: subscribers as u32,
            // Relaxed: a count.
            lagging: self.log.lagging.load(Ordering::Relaxed),
            id: Some(EventId::new(self.epoch, appended.offset)),
            bytes,
        };
        let visit = appended.began_chain || (appended.began_segment && self.waits_for_long());
        Ok((published, visit))
    }

    /// What a reader does when it has passed the end of a segment: a small topic frees what all have read.
    pub(crate) fn consumed(&self, guard: &Guard) {
        if self.config().history {
            return;
        }
        // Before the look at the subscribers: whoever joins unseen begins at this end or later (P7).
        let end = self.log.end(guard);
        if let Some(passed) = self.subscribers.least_passed(SMALL_TOPIC_PLACES) {
            self.log.evict_passed(passed.min(end), guard);
        }
    }

    /// Ends the topic: its log, and its readers when they have read it.
    pub(crate) fn close(&self) {
        self.close_log();
        self.tell_closed();
    }

    /// Ends this topic alone, and gives up its place.
    fn close_alone(this: &Arc<Self>) {
        observe::topic_closed(this.epoch);
        let was_open = !this.log.is_closed();
        this.close_log();
        if let Some(memory) = &this.shared.memory
            && was_open
            && this.log.has_chain()
        {
            memory.keep_in_view(this);
        }
        // T4: whoever found it closed may have been here first.
        this.home.closing(this);
        this.tell_closed();
    }

    fn close_log(&self) {
        let guard = epoch::pin();
        self.log.close(&guard);
    }

    /// Wakes its readers, and those who wait for some, of whom there will be none.
    fn tell_closed(&self) {
        let mut panics = FirstPanic::default();
        // The fence in it is J-b too.
        panics.run(|| self.subscribers.wake());
        panics.run(|| self.shared.watchers.tell(self.address(), false));
        panics.resume();
    }

    /// One visit of the hub's clock, with the heartbeat phase whose turn it is. Tells when the topic needs the next one.
    pub(crate) fn visit(&self, now: u64, phase: Option<u64>) -> Again {
        let config = self.config();
        let quiet = self.tidy(now, self.shared.age_ticks());
        if let Some(after) = config.evict_ticks {
            self.look_for_stalled(now, after);
        }
        if config.max_age_ticks.is_some() {
            let due = |time| ticks_since(time, now) < u64::from(u32::MAX / 2);
            self.subscribers.ask(|waiter| waiter.ask_if_old(due));
        }
        if let Some(phase) = phase
            && quiet >= config.quiet_ticks
        {
            self.subscribers.beat(phase, crate::clock::PHASES);
        }
        let again = self.next_visit(now);
        let word = match again {
            Again::Soon => return again,
            Again::At(due) => stands_for(due),
            Again::Never => UNSCHEDULED,
        };
        // Relaxed, and a fence: U3.
        self.scheduled.store(word, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sooner = self.next_visit(now).comes_before(again);
        // Relaxed: whoever turns the word to `SOON` schedules the topic.
        if sooner {
            return if self.scheduled.swap(SOON, Ordering::Relaxed) == SOON {
                Again::Never
            } else {
                Again::Soon
            };
        }
        if again == Again::Never {
            self.offer_to_go();
        }
        again
    }

    /// Whether the clock comes at a certain tick only: later than it may have to now.
    #[cold]
    fn waits_for_long(&self) -> bool {
        // U3: pairs with the fence in `visit`.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        self.scheduled.load(Ordering::Relaxed) > SOON
    }

    /// Whether this is what the clock was to come for. Then it has the topic, and nobody schedules it meanwhile.
    pub(crate) fn comes_due(&self, tick: u64) -> bool {
        // Relaxed: whoever turns the word to `SOON` has the topic visited.
        self.scheduled
            .compare_exchange(stands_for(tick), SOON, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives up who has taken nothing since the last look, if the topic has moved on.
    pub(crate) fn look_for_stalled(&self, now: u64, after: u64) {
        // Relaxed: the clock's own, and a time.
        let since = ticks_since(self.looked.load(Ordering::Relaxed), now);
        if since < after {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the low half")]
        self.looked.store(now as u32, Ordering::Relaxed);
        // Nothing comes after a close: whoever has not read up to it holds its topic, and its place, for nothing.
        let moved = now.saturating_sub(self.last_append.load(Ordering::Relaxed)) <= since
            || self.log.is_closed();
        let end = self.log.end(&epoch::pin());
        let told = &self.shared.evictions;
        let mut given_up = Vec::new();
        self.subscribers.suspect(end, |seat, waiter, passed| {
            if moved && let Some(who) = told.evict(self.address(), seat, waiter) {
                given_up.push((who, passed));
            }
        });
        let mut panics = FirstPanic::default();
        for (GivenUp(tag), passed) in given_up {
            // V1
            panics.run(|| self.exit(User::Subscription));
            panics.run(|| told.tell(self, tag.as_deref(), EndReason::Evicted, (passed, end)));
        }
    }

    /// Counts the readers that have not read all below `lost`; `least` is what all have.
    fn count_lagging(&self, least: u64, lost: u64) {
        let mut lagging = 0;
        if least < lost {
            self.subscribers
                .survey(|_, _, passed| lagging += u32::from(passed < lost));
        }
        // Relaxed: the clock's own. Stored only when changed, so that the line stays shared among publishers.
        if self.log.lagging.load(Ordering::Relaxed) != lagging {
            self.log.lagging.store(lagging, Ordering::Relaxed);
        }
    }

    /// Time since the last event, in ticks.
    pub(crate) fn quiet_ticks(&self) -> u64 {
        let now = self.shared.clock.refresh();
        // Relaxed: a time.
        now.saturating_sub(self.last_append.load(Ordering::Relaxed))
    }

    /// Whether what all have read is freed as soon as it is read.
    pub(crate) fn is_small(&self) -> bool {
        self.subscribers.least_passed(SMALL_TOPIC_PLACES).is_some()
    }

    /// A copy of its key.
    pub(crate) fn key(&self) -> AnyKey {
        self.home.key()
    }

    /// When the clock has something to do here.
    fn next_visit(&self, now: u64) -> Again {
        let ages = self.config().max_age_ticks.is_some() && self.subscriber_count() > 0;
        if ages || self.subscribers.has_beat_wanters() {
            return Again::Soon;
        }
        let controls = self.controls_due(now);
        if !self.log.has_chain() {
            return controls.map_or(Again::Never, Again::At);
        }
        let config = self.config();
        // Relaxed: a time.
        let last = self.last_append.load(Ordering::Relaxed);
        let age = config.retention.age_ticks;
        // What all have read goes when the topic is idle; whoever has not may come to read it at any time.
        let idle = if config.history {
            age
        } else {
            config.idle_ticks
        };
        let mut due = self.log.next_expiry(age, &epoch::pin()).min(last + idle);
        if let Some(after) = config.evict_ticks
            && self.subscriber_count() > 0
        {
            // Relaxed: the clock's own. One tick is added below.
            let looked = self.looked.load(Ordering::Relaxed);
            let left = after.saturating_sub(ticks_since(looked, now));
            due = due.min((now + left).saturating_sub(1));
        }
        due = due.min(controls.unwrap_or(u64::MAX));
        if due < now {
            return Again::Soon;
        }
        Again::At(due + 1)
    }

    /// Drops what is too old, and the whole chain of an idle log. Tells for how long the topic was quiet.
    fn tidy(&self, now: u64, age: u64) -> u64 {
        let guard = epoch::pin();
        // First of all: what is appended from here on is not touched, however old or passed the rest is.
        let end = self.log.end(&guard);
        // Relaxed: a time. It may be ahead of the visit's.
        let quiet = now.saturating_sub(self.last_append.load(Ordering::Relaxed));
        if !self.log.has_chain() {
            self.forget_controls(now, end);
            // Relaxed: the clock's own.
            if self.log.lagging.load(Ordering::Relaxed) > 0 {
                self.count_lagging(0, end);
            }
            return quiet;
        }
        let config = self.config();
        let oldest = self.log.oldest_offset();
        self.log.evict_aged(age, now, &guard);
        let least = self.subscribers.least_passed(usize::MAX).unwrap_or(0);
        let least = least.min(end);
        let lost = if quiet > age {
            end
        } else {
            self.log.oldest_offset()
        };
        self.count_lagging(least, lost);
        if quiet > age {
            self.log.release(end, &guard);
        } else if !config.history && quiet >= config.idle_ticks {
            self.log.release(least, &guard);
        }
        self.forget_controls(now, end);
        // Only what this visit took away: a reader that stays behind must not have the others woken at every visit.
        let now_oldest = self.log.oldest_offset();
        let lost_unread = oldest < now_oldest && least < now_oldest;
        log::flush_retired(&guard);
        drop(guard);
        if lost_unread {
            // Somebody may be parked before a hole that is gone.
            self.subscribers.wake();
        }
        quiet
    }
}

/// The control frames that left the log.
impl TopicCore {
    /// Lets those go that nobody needs: with history when they are old, otherwise when all have passed them. `end` is where the
    /// log ended before this looks at its readers.
    fn forget_controls(&self, now: u64, end: u64) {
        if !self.log.controls.any() {
            return;
        }
        if self.config().history {
            let age = self.controls_age();
            let over = |kept: &Kept| now.saturating_sub(kept.born) > age;
            self.log.controls.forget(over);
        } else {
            let least = self.subscribers.least_passed(usize::MAX).unwrap_or(0);
            let least = least.min(end);
            self.log.controls.forget(|kept| kept.offset < least);
        }
    }

    /// When the clock is to look at them again.
    fn controls_due(&self, now: u64) -> Option<u64> {
        let oldest = self.log.controls.oldest()?;
        let due = if self.config().history {
            oldest.saturating_add(self.controls_age() + 1)
        } else {
            now + self.config().idle_ticks
        };
        Some(due.max(now + 1))
    }

    /// For how long they are kept after they were published, with history, in ticks.
    fn controls_age(&self) -> u64 {
        self.config().retention.age_ticks.saturating_mul(2)
    }
}

impl TopicCore {
    /// Whether the publisher of `frame` may go on; see [`Shared::admit`].
    #[inline]
    pub(crate) fn admit(&self, frame: &Frame) -> Result<(), PublishError> {
        let bytes = frame.whole_bytes();
        if self.shared.has_room(bytes) || self.keeps_nothing() {
            return Ok(());
        }
        self.shared.admit(bytes)
    }

    /// Whether an event that came now would go to nobody.
    #[cold]
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.subscriber_count() == 0 && !self.config().history
    }

    /// Tells the age in ticks and the bytes of all that the log holds, part by part.
    pub(crate) fn survey(&self, now: u64, tell: impl FnMut(u64, u64)) {
        // Relaxed: a time. It may be ahead.
        let quiet = now.saturating_sub(self.last_append.load(Ordering::Relaxed));
        self.log.survey(now, quiet, &epoch::pin(), tell);
    }

    /// Drops what `cut` says, in bytes as [`survey`](Self::survey) tells them, and of `owed` what it can. Tells how many went.
    pub(crate) fn shed(&self, now: u64, cut: &Cut, owed: &mut u64) -> u64 {
        let whole = |divided: bool| {
            let mut sum = 0;
            self.survey(now, |age, bytes| {
                if !divided || cut.divides(age) {
                    sum += bytes;
                }
            });
            sum
        };
        let before = whole(false);
        self.tidy(now, cut.horizon.min(self.config().retention.age_ticks));
        let (held, divided) = (whole(false), whole(true));
        *owed += cut.share(divided);
        let more = divided.min(*owed);
        if more > 0 {
            let guard = epoch::pin();
            let end = self.log.end(&guard);
            let bytes = self.log.bytes();
            // The last segment of a log goes whole or not at all.
            if more == held {
                self.log.release(end, &guard);
            } else {
                self.log.evict_by(part(bytes, more, held), &guard);
            }
            drop(guard);
            *owed -= held.saturating_sub(whole(false)).min(*owed);
            self.subscribers.wake();
        }
        if !self.log.has_chain() {
            self.offer_to_go();
        }
        before.saturating_sub(whole(false))
    }
}

/// Has the hub's clock visit `topic`: it came to hold a chain, or to have a subscriber that wants heartbeats.
pub(crate) fn schedule(topic: &Arc<TopicCore>) {
    // U3: pairs with the fence in `visit`.
    fence(Ordering::SeqCst);
    // Relaxed: the one who turns the word schedules.
    if topic.scheduled.swap(SOON, Ordering::Relaxed) != SOON {
        topic.shared.clock.refresh();
        topic.shared.clock.schedule(topic);
    }
}

/// What follows an append, when the guards are gone: the clock, the collector, the wakes.
#[inline]
pub(crate) fn after_append(topic: &Arc<TopicCore>, visit: bool, wake: bool) {
    if visit {
        schedule(topic);
    }
    if wake {
        topic.subscribers.wake_armed();
    }
}

/// The topic is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicClosed;

impl From<TopicClosed> for PublishError {
    fn from(TopicClosed: TopicClosed) -> Self {
        Self::Closed
    }
}

/// A frame on its way to a log. What a closed log refuses is here again.
#[derive(Debug)]
pub(crate) enum Pending<'a> {
    Made(Frame),
    /// It is made of this one, for each topic anew.
    Of(&'a Frame),
    Gone,
}

impl Pending<'_> {
    #[inline]
    fn take(&mut self) -> Option<Frame> {
        match std::mem::replace(self, Self::Gone) {
            Self::Made(frame) => Some(frame),
            Self::Of(model) => {
                *self = Self::Of(model);
                Some(model.for_another())
            }
            Self::Gone => None,
        }
    }

    /// Bytes that it will take.
    #[inline]
    pub(crate) fn whole_bytes(&self) -> usize {
        match self {
            Self::Made(frame) => frame.whole_bytes(),
            Self::Of(frame) => frame.whole_bytes(),
            Self::Gone => 0,
        }
    }

    #[cold]
    fn give_back(&mut self, frame: Frame) {
        if matches!(self, Self::Gone) {
            *self = Self::Made(frame);
        }
    }
}

/// Appends a frame and wakes whoever waits.
#[inline]
pub(crate) fn append_to(topic: &Arc<TopicCore>, frame: Frame) -> Result<Published, TopicClosed> {
    let mut guard = epoch::pin();
    let bytes = frame.len();
    let (published, visit) = topic.append(bytes, &mut Pending::Made(frame), &guard)?;
    log::free_retired(&mut guard);
    drop(guard);
    let wake = topic.subscribers.needs_wake();
    after_append(topic, visit, wake);
    observe::published(&published);
    Ok(published)
}

impl<H: ?Sized> Drop for TopicCore<H> {
    fn drop(&mut self) {
        observe::topic_gone(self.epoch);
        self.count_out();
    }
}

impl<H: ?Sized> TopicCore<H> {
    /// It has no users any more, and nobody finds it: another topic may take its place, whoever still holds it.
    pub(crate) fn count_out(&self) {
        // Relaxed: a count, and the swap decides.
        if self.log.counted.load(Ordering::Relaxed)
            && self.log.counted.swap(false, Ordering::Relaxed)
        {
            self.shared.topics.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<H: ?Sized> fmt::Debug for TopicCore<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("epoch", &format_args!("{:016x}", self.epoch))
            .finish_non_exhaustive()
    }
}

/// A handle on one topic: publishes without looking the topic up.
///
/// The topic stays as long as the handle, also without subscribers. Clones are cheap. Dropping the hub's last clone
/// closes the topic.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub};
///
/// let hub = Hub::new();
/// let prices = hub.topic("prices")?;
/// let mut subscription = hub.subscribe("prices")?;
/// assert_eq!(prices.publish(Event::json(&42))?.subscribers(), 1);
/// # let _ = subscription.try_recv();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a handle does nothing by itself"]
pub struct Topic(Arc<TopicCore>);

impl Topic {
    /// Takes over a topic on which the handle is counted already.
    pub(crate) fn counted(core: Arc<TopicCore>) -> Self {
        Self(core)
    }

    pub(crate) fn core(&self) -> &Arc<TopicCore> {
        &self.0
    }

    /// Publishes to the subscribers of this topic; see [`Hub::publish`](crate::Hub::publish).
    ///
    /// Lock-free: no map is looked at.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the event cannot be encoded or the topic is closed.
    pub fn publish<P: Payload>(&self, event: Event<'_, P>) -> Result<Published, PublishError> {
        let config = self.0.config();
        let frame = encode(event, config.max_event_bytes, config.event_ids)
            .inspect_err(observe::not_encoded)?;
        self.0.admit(&frame)?;
        Ok(append_to(&self.0, frame)?)
    }

    /// Publishes a frame: what [`Hub::encode`](crate::Hub::encode) made, or a subscription to another topic gave. It gets an id of this
    /// topic's if events of this hub have ids, and none otherwise; that is a copy, if the frame was not made so.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if it is larger than the hub's `max_event_bytes`, or the topic is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Event, Hub};
    ///
    /// let hub = Hub::new();
    /// let run = hub.topic("run:1")?;
    /// let mut record = Vec::new();
    /// let frame = hub.encode(Event::json(&"started"))?;
    /// run.publish_frame(&frame)?;
    /// record.push(frame); // What a late client gets first.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_frame(&self, frame: &Frame) -> Result<Published, PublishError> {
        let limit = self.0.config().max_event_bytes;
        let size = frame.data_len();
        if size > limit {
            return Err(EncodeError::TooLarge { limit, size }.into());
        }
        let with_id = self.0.config().event_ids;
        let frame = frame.for_hub(with_id);
        self.0.admit(&frame)?;
        Ok(append_to(&self.0, frame)?)
    }

    /// Subscribes to what is published from now on; see [`Hub::subscribe`](crate::Hub::subscribe).
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the topic is closed.
    pub fn subscribe(&self) -> Result<Subscription, SubscribeError> {
        Subscription::start(self.enter()?, Start::Live)
    }

    /// Subscribes to the events after `id`; see [`Hub::subscribe_from`](crate::Hub::subscribe_from).
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the topic is closed.
    pub fn subscribe_from(
        &self,
        id: impl Into<LastEventId>,
    ) -> Result<Subscription, SubscribeError> {
        Subscription::start(self.enter()?, id.into().start())
    }

    /// Subscribes with a snapshot first; see [`Hub::subscribe_with_snapshot`](crate::Hub::subscribe_with_snapshot).
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Snapshot`] with what `snapshot` failed with, or [`SnapshotError::Closed`] if the topic is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future unsubscribes. Nothing else was done.
    pub async fn subscribe_with_snapshot<E, F>(
        &self,
        snapshot: impl FnMut(EventId) -> F,
    ) -> Result<Subscription, SnapshotError<E>>
    where
        F: Future<Output = Result<Snapshot, E>>,
    {
        let subscription = Subscription::start(self.enter()?, Start::Filled)?;
        subscription.after_snapshot(snapshot).await
    }

    /// Counts a subscription in (T2: by the handle).
    fn enter(&self) -> Result<Arc<TopicCore>, SubscribeError> {
        let place = self
            .0
            .shared
            .take_place()
            .inspect_err(observe::not_subscribed)?;
        self.0
            .try_enter(User::Subscription)
            .inspect_err(observe::not_subscribed)?;
        place.take();
        // J-b
        fence(Ordering::SeqCst);
        Ok(Arc::clone(&self.0))
    }

    /// Ends the topic: publishing to it is refused from now on, and its subscriptions end once they have read what was
    /// published before. The key is free at once: who subscribes to it, or takes a handle, gets a new topic.
    ///
    /// # Panics
    ///
    /// If the waker of a subscriber panics: after all others were woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{EndReason, Event, Hub, Item};
    ///
    /// let hub = Hub::new();
    /// let run = hub.topic("run:1")?;
    /// let mut subscription = run.subscribe()?;
    /// run.publish(Event::text("done"))?;
    /// run.close();
    /// assert!(matches!(subscription.try_recv(), Ok(Item::Frame(_))));
    /// assert!(subscription.try_recv().is_err());
    /// assert_eq!(subscription.end_reason(), Some(EndReason::TopicClosed));
    /// assert!(run.subscribe().is_err() && hub.subscribe("run:1").is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        TopicCore::close_alone(&self.0);
    }

    /// Subscriptions on this topic now.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.0.subscriber_count()
    }

    /// Waits for subscribers to come, or for all of them to have left.
    pub fn interest(&self) -> Interest {
        Interest::new(self.clone())
    }

    /// The id after which the next event comes.
    #[must_use]
    pub fn position(&self) -> EventId {
        EventId::new(self.0.epoch, self.0.log.end(&epoch::pin()) - 1)
    }

    /// Bytes of encoded events that the topic's log holds now.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.0.log.bytes()
    }

    /// Events that the topic's log holds now, including those being published.
    #[must_use]
    pub fn retained_events(&self) -> u64 {
        let end = self.0.log.end(&epoch::pin());
        end.saturating_sub(self.0.log.oldest_offset())
    }

    /// What the topic holds, and how its readers stand. Costs a look at each reader.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Event, Hub};
    ///
    /// let hub = Hub::new();
    /// let news = hub.topic("news")?;
    /// let subscription = news.subscribe()?;
    /// news.publish(Event::text("hello"))?;
    /// let stats = news.stats();
    /// assert_eq!((stats.subscribers, stats.retained_events, stats.next), (1, 1, 2));
    /// # drop(subscription);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> TopicStats {
        self.0.stats()
    }

    /// Whether the topic is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.log.is_closed()
    }
}

impl Clone for Topic {
    fn clone(&self) -> Self {
        self.0.enter(User::Handle);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.0.exit(User::Handle);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
