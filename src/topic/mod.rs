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

mod handle;
mod published;
mod shared;
mod visit;

use std::fmt;

pub use handle::Topic;
pub use published::Published;
pub(crate) use shared::Shared;
use visit::UNSCHEDULED;
pub(crate) use visit::{schedule, stands_for};

use crate::config::Config;
use crate::error::{PublishError, SubscribeError};
use crate::event_id::EventId;
use crate::eviction::AnyKey;
use crate::frame::Frame;
use crate::log::{self, Log};
use crate::memory::Payer;
use crate::observe;
use crate::subscribers::Subscribers;
use crate::sync::epoch::{self, Guard};
use crate::sync::{Arc, AtomicU32, AtomicU64, HostArc, HostAtomicU32, Ordering, fence};
use crate::unwind::FirstPanic;
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

pub(crate) struct TopicCore<H: ?Sized = dyn Home> {
    pub(crate) log: Log,
    pub(crate) subscribers: Subscribers,
    users: AtomicU64,
    last_append: AtomicU64,
    /// [`UNSCHEDULED`], [`SOON`](visit), or what [stands for](stands_for) the tick at which the clock is to come (T1 of `clock`).
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
        Self::watch_closed(this);
    }

    /// Has the clock look for those who do not read up to the end.
    pub(crate) fn watch_closed(this: &Arc<Self>) {
        if this.config().evict_ticks.is_some() && this.subscriber_count() > 0 {
            schedule(this);
        }
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
