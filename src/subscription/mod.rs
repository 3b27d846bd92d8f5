//! The reader's handle: frames in order, lag as it is, and the end.
//!
//! **Role.** A [`Subscription`] owns a waiter of its topic and a cursor into its log. Dropping it gives both back.
//!
//! **Protocol.** *Read*: under one pin, step the cursor; nothing there: note how far it got, park, look once more.
//! *Leave*: give the waiter back, then count out; the last user has the topic removed. Neither needs a runtime.

mod batch;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use batch::{Batch, RecvBatch};
use futures_core::Stream;

use crate::choice::{Choice, Conflation, Look};
use crate::ending::{EndHandle, EndReason, OwnSeat};
use crate::envelope::Envelope;
use crate::error::{SubscribeError, TryRecvError, random_below};
use crate::event_id::EventId;
use crate::eviction::{Evicted, Tag, Then};
use crate::frame::Frame;
#[cfg(feature = "compat")]
use crate::interest::Watcher;
use crate::log::{self, Known, Reader, Step};
use crate::observe;
use crate::position::{Ahead, Lag, LagPolicy, Notices, Position, Start, State};
use crate::reader_id::ReaderId;
use crate::resume::Resumed;
use crate::snapshot::{ATTEMPTS, Snapshot, SnapshotError};
use crate::subscribers::Seat;
use crate::sync::epoch::{self, Guard};
use crate::sync::{Arc, HostArc, Ordering, fence};
use crate::topic::{TopicCore, User, schedule, stands_for};
use crate::unwind::FirstPanic;

/// What a subscription yields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Item {
    /// The next event.
    Frame(Frame),
    /// Events are missing at this place.
    Lagged(Lag),
}

/// What [`Subscription::poll_ready`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// There is something to read: a batch or an item.
    Readable,
    /// Nothing to read, and the topic was silent for long: time for a sign of life.
    Heartbeat,
    /// The subscription has ended.
    Closed,
}

/// A reader of one topic. A [`Stream`] of [`Item`]s; dropping it unsubscribes.
///
/// A subscription that is not read holds no events: they leave the log by the hub's limits, and the subscription is
/// told how many it missed. It costs an offset and a place for a waker.
///
/// # Delivery
///
/// See [`Hub`](crate::Hub#delivery).
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub, Item};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let hub = Hub::new();
/// let mut subscription = hub.subscribe("news")?;
/// hub.publish("news", Event::text("one"))?;
/// while let Some(item) = subscription.recv().await {
///     match item {
///         Item::Frame(frame) => assert_eq!(frame.data(), "one"),
///         Item::Lagged(lag) => eprintln!("missed {:?}", lag.missed()),
///         _ => {}
///     }
///     hub.close();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Frames are read without any reference count in batches:
///
/// ```
/// # use fanfare::{Event, Hub};
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// # let hub = Hub::new();
/// # let mut subscription = hub.subscribe("news")?;
/// # hub.publish("news", Event::text("one"))?;
/// # hub.close();
/// let mut bytes = 0;
/// while let Some(mut batch) = subscription.recv_batch().await {
///     batch.for_each(|frame| bytes += frame.len());
/// }
/// # assert!(bytes > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a subscription unsubscribes"]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent of each other, and a byte each"
)]
pub struct Subscription {
    topic: Arc<TopicCore>,
    position: Position,
    seat: Seat,
    beats: bool,
    /// Whether its drop counts it out: not if it reads for others, who are counted one by one.
    counted: bool,
    /// Whether it reads for others that may be behind: what it has read is not to be freed yet.
    held: bool,
    /// Whether the clock watches that it goes on.
    watched: bool,
    /// Whether the batch that is read now passed the end of a segment. Here, for batches are moved about.
    crossed: bool,
    /// In a box, for most have none of it.
    extra: Option<Box<Extra>>,
}

/// What few subscriptions have.
#[derive(Default)]
struct Extra {
    /// What was missed before the batch that is read now.
    lag: Option<Lag>,
    /// Frames of its own, which come before those of the log, and the one that was given last.
    first: VecDeque<Frame>,
    given: Option<Frame>,
    /// What follows them, if that is an end.
    then: Option<EndReason>,
    /// Whether they are control frames that were missed, of which the reader may not want all.
    first_is_lost: bool,
    /// Whether it wants the first of them.
    first_is_wanted: bool,
    /// Whether some of them came late: their ids are older than what the reader has got since.
    first_is_late: bool,
    /// What was missed, where control frames may come late.
    missed: Option<Missed>,
    envelope: Option<Envelope>,
    end_handle: Option<EndHandle>,
    tag: Option<HostArc<Tag>>,
    reader: Option<ReaderId>,
    /// What it wants of its topic, if not all.
    choice: Option<Choice>,
    /// What is dropped when the reader is gone.
    kept: Option<Kept>,
}

/// What a reader missed in its last lags, and what it knows of the control frames that came late there.
struct Missed {
    ranges: Vec<Range<u64>>,
    known: Known,
}

/// A control frame that is filled after its reader has lagged so many times more is not told to that reader.
const MISSED_RANGES: usize = 4;

/// What goes with a reader also where another subscription reads for it.
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
pub(crate) struct Belonging {
    pub(crate) envelope: Option<Envelope>,
    pub(crate) end_handle: Option<EndHandle>,
    pub(crate) kept: Option<Kept>,
}

/// Something that goes with its reader: the entry of a connection in a table.
pub(crate) type Kept = Box<dyn Send + Sync>;

/// What one look at the log gave.
enum Found {
    Frame(Frame),
    Lagged(Lag),
    Nothing,
    Ended,
}

impl Subscription {
    /// Takes a place on `topic`, on which the subscription is counted already.
    pub(crate) fn start(topic: Arc<TopicCore>, start: Start) -> Result<Self, SubscribeError> {
        let mut this = Self {
            seat: topic.subscribers.claim(),
            position: Position::first(),
            beats: false,
            counted: true,
            held: false,
            watched: false,
            crossed: false,
            extra: None,
            topic,
        };
        if this.topic.log.is_closed() {
            return Err(SubscribeError::Closed);
        }
        // Whoever waits for a snapshot does not stand still.
        let reads = !matches!(start, Start::Filled);
        let guard = epoch::pin();
        this.position.begin(&this.topic, start, &guard);
        this.note_passed();
        drop(guard);
        // J-b. A waker that panics takes the subscription down with it.
        fence(Ordering::SeqCst);
        this.topic.tell_joined();
        if reads {
            this.watch();
        }
        if let Some(age) = this.topic.config().max_age_ticks {
            // Less up to a tenth: those who came together leave apart.
            let at = this.topic.shared.clock.refresh() + age - random_below(age / 10);
            this.topic.subscribers.leaves_at(&this.seat, stands_for(at));
            schedule(&this.topic);
        }
        this.topic.shared.counts.subscribed();
        observe::subscribed(this.topic.epoch, this.position.offset());
        Ok(this)
    }

    /// Sets what happens on lag. [`LagPolicy::Notify`] unless set.
    pub fn lag_policy(mut self, policy: LagPolicy) -> Self {
        self.position.on_lag.policy = policy;
        self
    }

    /// Sets how a client is told of lag. [`Notices::Events`] unless set.
    pub fn notices(mut self, notices: Notices) -> Self {
        self.position.on_lag.notices = notices;
        self
    }

    /// Has transports put `envelope` around the payload of every event. Who reads the frames finds them as they are
    /// published.
    pub fn envelope(mut self, envelope: Envelope) -> Self {
        self.extra().envelope = Some(envelope);
        self
    }

    /// Reads only events of which `filter` says so. Called several times, all of the filters must.
    ///
    /// The others are stepped over: they count neither as delivered nor as missed, and wake nobody for longer than the look.
    /// What is lost by lag was asked about by nobody, and counts as missed whatever it was. A filter runs where the
    /// subscription is read, once for an event, or once more after a lag; it should be quick. The frames of a
    /// [snapshot](crate::Hub::subscribe_with_snapshot) are not filtered.
    ///
    /// # Panics
    ///
    /// If the filter panics, the panic comes out of the read. The next read goes on after the event.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Event, Hub, Item};
    ///
    /// let hub = Hub::new();
    /// let mut deaths = hub.subscribe("game")?.filter(|frame| frame.name() == Some("death"));
    /// hub.publish("game", Event::text("a").name("move"))?;
    /// hub.publish("game", Event::text("b").name("death"))?;
    /// assert!(matches!(deaths.try_recv(), Ok(Item::Frame(frame)) if frame.data() == "b"));
    /// assert!(deaths.try_recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter(mut self, filter: impl Fn(&Frame) -> bool + Send + 'static) -> Self {
        self.choice().filter(Box::new(filter));
        self
    }

    /// Says whose subscription this is, for events that say [who sent them](crate::Event::sent_by). Several subscriptions
    /// may be of one reader.
    pub fn reader(mut self, id: ReaderId) -> Self {
        let extra = self.extra();
        extra.reader = Some(id);
        if let Some(choice) = &mut extra.choice
            && choice.excludes()
        {
            choice.exclude(id);
        }
        self
    }

    /// Whose subscription this is: what [`reader`](Self::reader) said, or an id of its own.
    #[must_use]
    pub fn reader_id(&mut self) -> ReaderId {
        *self.extra().reader.get_or_insert_with(ReaderId::unique)
    }

    /// Leaves out the events that [this reader sent](crate::Event::sent_by). They are stepped over, as those that a
    /// [`filter`](Self::filter) does not want.
    pub fn exclude_own(mut self) -> Self {
        let own = self.reader_id();
        self.choice().exclude(own);
        self
    }

    /// Reads only the newest event of each kind, of those that are there at the same time.
    ///
    /// That is: of the events that are visible when the subscription is polled, or a batch begins, it reads of each name or key only
    /// the newest one, at that one's place; the events before it of the same kind are stepped over. Who reads item by item first
    /// reads what was visible at the first item, and then looks again. A reader that keeps up reads everything, one that is
    /// slow reads less. After a lag it begins anew with what is retained. [Control events](crate::Event::control) all pass. Filters come first: what they do not want supersedes
    /// nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Conflation, Event, Hub, Item};
    ///
    /// let hub = Hub::new();
    /// let mut prices = hub.subscribe("prices")?.conflate(Conflation::ByKey);
    /// for (key, price) in [("a", 1), ("b", 2), ("a", 3)] {
    ///     hub.publish("prices", Event::json(&price).key(key))?;
    /// }
    /// let mut read = Vec::new();
    /// while let Ok(Item::Frame(frame)) = prices.try_recv() {
    ///     read.push(frame.data().into_owned());
    /// }
    /// assert_eq!(read, ["2", "3"]);
    /// assert_eq!(prices.conflated(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn conflate(mut self, by: Conflation) -> Self {
        self.choice().conflate(by);
        self
    }

    /// How many events were stepped over because a newer one of their kind was there.
    #[must_use]
    pub fn conflated(&self) -> u64 {
        let choice = self.extra.as_ref().and_then(|it| it.choice.as_ref());
        choice.map_or(0, Choice::conflated)
    }

    /// Reads at most so many events in each time of this length, over the long run: after a silence up to `events` come at
    /// once, and then one for each `every / events`.
    ///
    /// What comes faster stays in the log until it is this reader's turn, and is lost to it when the log's limits say so: it is
    /// told of that as of every lag. With [`conflate`](Self::conflate) it reads what is newest when its turn comes: a price four
    /// times a second, however often it changes. What a [`filter`](Self::filter) leaves out costs nothing of the rate, and
    /// neither do the frames of a snapshot, the notice of a lag, and control events that come after one.
    ///
    /// Who has to wait is woken by the hub's clock and not by publishers. It ticks every 250 ms or more often, so with 10
    /// events in a second two or three come together; give `events` and `every` so that `every` is some ticks long, for what a
    /// reader has not used up after that time is not saved for later.
    /// A subscription that is asked to leave ([drain](crate::Hub::drain), [age](crate::HubBuilder::max_connection_age))
    /// reads the rest without a limit; one whose topic is closed goes on at its rate. With an `every` of zero there is no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use std::time::Duration;
    /// use fanfare::{Event, Hub, Item};
    ///
    /// let hub = Hub::new();
    /// let three = NonZeroU32::new(3).ok_or("not zero")?;
    /// let mut slow = hub.subscribe("prices")?.max_rate(three, Duration::from_secs(3600));
    /// for price in 0..10 {
    ///     hub.publish("prices", Event::json(&price))?;
    /// }
    /// let read = std::iter::from_fn(|| slow.try_recv().ok()).count();
    /// assert_eq!(read, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_rate(mut self, events: NonZeroU32, every: Duration) -> Self {
        if every.is_zero() {
            return self;
        }
        let watcher = self.choice().limit_rate(events, every);
        let spot = HostArc::new(OwnSeat::new(&self.topic, &self.seat, Some(watcher)));
        if let Some(handle) = &self.extra().end_handle {
            handle.move_to(spot);
        }
        self
    }

    fn choice(&mut self) -> &mut Choice {
        self.extra().choice.get_or_insert_default()
    }

    /// Whether it does not want all of its topic.
    #[inline]
    pub(crate) fn has_choice(&self) -> bool {
        matches!(&self.extra, Some(extra) if extra.choice.is_some())
    }

    /// Moves on to what is wanted of what is visible.
    #[cold]
    fn seek(&mut self, guard: &Guard, until: u64, look: Look) -> (Ahead, bool) {
        self.pass_unwanted();
        if self.position.state == State::Opening {
            return (Ahead::Frame, false);
        }
        let Self {
            topic,
            position,
            extra,
            ..
        } = self;
        match extra.as_mut().and_then(|it| it.choice.as_mut()) {
            Some(choice) => choice.seek(topic, position, guard, (look, until)),
            None => position.peek(topic, guard),
        }
    }

    /// [`seek`](Self::seek) among all that is visible.
    fn seek_visible(&mut self, guard: &Guard, look: Look) -> Ahead {
        let until = self.topic.log.end(guard);
        let (found, crossed) = self.seek(guard, until, look);
        if crossed {
            self.passed_segment(guard);
        }
        found
    }

    /// The envelope, for transports of one's own.
    #[must_use]
    pub fn wrapped_in(&self) -> Option<&Envelope> {
        self.extra.as_ref()?.envelope.as_ref()
    }

    /// What ends this subscription from outside: from any thread, wherever it is read by then.
    #[must_use]
    pub fn end_handle(&mut self) -> EndHandle {
        if let Some(handle) = self.extra.as_ref().and_then(|it| it.end_handle.as_ref()) {
            return handle.clone();
        }
        let choice = self.extra.as_ref().and_then(|it| it.choice.as_ref());
        let waits_at = choice.and_then(Choice::waits_at).cloned();
        let spot = OwnSeat::new(&self.topic, &self.seat, waits_at);
        let handle = EndHandle::new(HostArc::new(spot));
        self.extra().end_handle = Some(handle.clone());
        handle
    }

    /// Why the subscription has ended, once it has: when the end was read.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        match self.position.state {
            State::Ended(reason) => Some(reason),
            _ => None,
        }
    }

    /// Keeps something until the reader is gone.
    pub(crate) fn keep(&mut self, kept: Kept) {
        self.extra().kept = Some(kept);
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Gives it a name, for those who look at the hub's [evictions](crate::Hub::evictions): the client's address, say.
    pub fn label(mut self, label: impl Into<HostArc<str>>) -> Self {
        self.tag().set_label(label.into());
        self
    }

    /// Resolves when the hub's clock gives this subscription up (see [`HubBuilder::evict_after`](crate::HubBuilder::evict_after)), or at the
    /// deadline of a [drain](crate::Hub::drain): for a host that then closes the socket. A subscription that a `Reactor` takes over is not evicted from then on.
    pub fn evicted(&mut self) -> Evicted {
        Evicted(HostArc::clone(self.tag()))
    }

    /// Has something done when the clock gives it up, if the hub gives anybody up. A transport that takes it over sees to what it
    /// [keeps](Self::keep).
    pub(crate) fn when_evicted(&mut self, then: impl FnOnce() + Send + 'static) {
        if self.watched {
            self.tag().set_then(Then(Box::new(then)));
        }
    }

    fn tag(&mut self) -> &HostArc<Tag> {
        let (topic, seat) = (self.topic.address(), self.seat.id());
        let shared = HostArc::clone(&self.topic.shared);
        let tag = || shared.evictions.tag(topic, seat);
        self.extra().tag.get_or_insert_with(tag)
    }

    /// Has the clock watch it, if the hub gives anybody up.
    fn watch(&mut self) {
        if self.topic.config().evict_ticks.is_some() {
            self.watched = true;
            self.topic.subscribers.watch(&self.seat);
            schedule(&self.topic);
        }
    }

    /// Has the clock watch it no more. Whoever was evicted before has ended, and was counted out.
    fn unwatch_seat(&mut self) {
        if std::mem::take(&mut self.watched) && self.topic.subscribers.unwatch(&self.seat) {
            self.counted = false;
            self.position.state = State::Ended(EndReason::Evicted);
        }
    }

    fn untag(&mut self) {
        let tag = self.extra.as_mut().and_then(|extra| extra.tag.take());
        if let Some(tag) = tag {
            let tags = &self.topic.shared.evictions;
            // A waker that panics has said so already; this is called in drops.
            FirstPanic::default().run(|| tags.untag(self.topic.address(), self.seat.id(), &tag));
        }
    }

    /// Sees whether it was ended from outside, or given up.
    #[cfg(feature = "http-body")]
    pub(crate) fn see_end(&mut self) {
        if self.has_more() {
            self.see_ends();
        }
    }

    /// Whether it is more than a cursor: then there is more to look at than the log.
    #[inline]
    const fn has_more(&self) -> bool {
        self.watched || self.extra.is_some()
    }

    fn see_ends(&mut self) {
        if self.watched
            && self.topic.subscribers.go_on(&self.seat)
            && !self.position.state.is_ended()
        {
            self.position.state = State::Ended(EndReason::Evicted);
        }
        if let Some(extra) = &self.extra
            && let Some(handle) = &extra.end_handle
            && let Some(reason) = handle.reason()
            && !self.position.state.is_ended()
        {
            self.position.state = State::Ended(reason);
        }
    }

    /// Asks for a snapshot, and goes on behind it.
    pub(crate) async fn after_snapshot<E, F>(
        mut self,
        mut snapshot: impl FnMut(EventId) -> F,
    ) -> Result<Self, SnapshotError<E>>
    where
        F: Future<Output = Result<Snapshot, E>>,
    {
        let mut attempt = 1;
        loop {
            let asked = snapshot(self.position()).await;
            let taken = asked.map_err(SnapshotError::Snapshot)?;
            // At last the lag stands between the snapshot and what is there.
            if self.go_on_after(taken.as_of) || attempt == ATTEMPTS {
                self.begin_with(taken.frames);
                self.watch();
                return Ok(self);
            }
            self.begin_again();
            attempt += 1;
        }
    }

    /// Goes on after `id` if that is an event of this topic's life, or stays where it is. `false` if what comes next has
    /// left the log.
    fn go_on_after(&mut self, id: Option<EventId>) -> bool {
        let guard = epoch::pin();
        let Self {
            topic, position, ..
        } = self;
        let own = id.filter(|id| id.epoch() == topic.epoch && id.offset() < topic.log.end(&guard));
        if let Some(id) = own {
            position.cursor.jump(id.offset() + 1);
        }
        // First, so that nobody takes away what is there: P7.
        self.note_passed();
        fence(Ordering::SeqCst);
        self.position.offset() >= self.topic.log.oldest_offset()
    }

    /// Stands behind the events before the first hole, again.
    fn begin_again(&mut self) {
        let guard = epoch::pin();
        self.position.begin(&self.topic, Start::Filled, &guard);
        self.note_passed();
    }

    /// Has these frames come before those of the log.
    fn begin_with(&mut self, frames: Vec<Frame>) {
        if !frames.is_empty() && self.position.state == State::Reading {
            self.extra().first = frames.into();
            self.position.state = State::Opening;
        }
    }

    /// The next of the frames that come first.
    #[cold]
    fn pop_first(&mut self) -> Option<Frame> {
        self.pass_unwanted();
        if self.position.state != State::Opening {
            return None;
        }
        let extra = self.extra.as_mut()?;
        extra.first_is_wanted = false;
        let frame = extra.first.pop_front();
        self.end_opening();
        frame
    }

    /// Goes on with what follows the frames that come first, if they are through.
    fn end_opening(&mut self) {
        if let Some(extra) = &mut self.extra
            && extra.first.is_empty()
        {
            // A snapshot may be large.
            extra.first = VecDeque::new();
            extra.first_is_lost = false;
            extra.first_is_late = false;
            self.position.state = extra.then.take().map_or(State::Reading, State::Ended);
        }
    }

    /// Drops the frames that are not wanted of those that come first, up to one that is.
    #[inline]
    fn pass_unwanted(&mut self) {
        if self.position.state == State::Opening {
            self.drop_unwanted();
        }
    }

    #[cold]
    fn drop_unwanted(&mut self) {
        while self.position.state == State::Opening
            && let Some(extra) = &mut self.extra
            && extra.first_is_lost
            && !extra.first_is_wanted
            && let Some(choice) = &mut extra.choice
        {
            // Out of the row before anybody is asked: a filter that panics is not asked again.
            if let Some(frame) = extra.first.pop_front()
                && choice.wants(&frame)
            {
                extra.first.push_front(frame);
                extra.first_is_wanted = true;
            }
            self.end_opening();
        }
    }

    /// Has the control frames of what is missing come next.
    fn after_lag(&mut self, from: u64, guard: &Guard) {
        if let Some(extra) = &mut self.extra
            && let Some(choice) = &mut extra.choice
        {
            choice.reset();
        }
        if self.topic.log.has_controls() {
            self.begin_with_lost(from, guard);
        }
    }

    #[cold]
    fn begin_with_lost(&mut self, from: u64, guard: &Guard) {
        let lost = self.position.lost_controls(&self.topic, from, guard);
        let then = match self.position.state {
            State::Ended(reason) => Some(reason),
            _ => None,
        };
        let extra = self.extra();
        let mut first = VecDeque::new();
        let known = lost.seen.known;
        let missed = extra.missed.get_or_insert_with(|| Missed {
            ranges: Vec::new(),
            known,
        });
        let late = lost.seen.late(missed.known, &missed.ranges);
        first.extend(late.map(|(_, frame)| frame));
        extra.first_is_late = !first.is_empty();
        first.extend(lost.frames);
        missed.known = known;
        if missed.ranges.len() == MISSED_RANGES {
            missed.ranges.remove(0);
        }
        missed.ranges.push(lost.range);
        if !first.is_empty() {
            extra.first = first;
            extra.then = then;
            extra.first_is_lost = true;
            self.position.state = State::Opening;
        }
    }

    /// Has control frames come next that were filled after they were missed.
    #[inline]
    fn see_late(&mut self) {
        if let Some(extra) = &self.extra
            && let Some(missed) = &extra.missed
            && self.topic.log.controls.has_late(missed.known)
        {
            self.begin_with_late();
        }
    }

    #[cold]
    fn begin_with_late(&mut self) {
        let Self {
            topic,
            position,
            extra,
            ..
        } = self;
        if let Some(extra) = extra
            && position.state == State::Reading
            && let Some(missed) = &mut extra.missed
        {
            let seen = topic.log.controls.look();
            let late: VecDeque<_> = seen
                .late(missed.known, &missed.ranges)
                .map(|(_, frame)| frame)
                .collect();
            missed.known = seen.known;
            if !late.is_empty() {
                extra.first = late;
                extra.first_is_lost = true;
                extra.first_is_late = true;
                position.state = State::Opening;
            }
        }
    }

    /// [`pop_first`](Self::pop_first), to be borrowed until the next one or the end of the batch.
    #[cold]
    fn next_first(&mut self) -> Option<&Frame> {
        let frame = self.pop_first()?;
        Some(self.extra().given.insert(frame))
    }

    /// The id after which the next event comes.
    #[must_use]
    pub fn position(&self) -> EventId {
        self.position.id(&self.topic)
    }

    /// What is missing before the next event, if anything is. Right after [`subscribe_from`](crate::Hub::subscribe_from) it says how that
    /// went; a gap is told once more as [`Item::Lagged`], with what has been lost by then.
    #[must_use]
    pub fn resumed(&self) -> Resumed {
        self.position.resumed(&self.topic)
    }

    /// Subscriptions on this topic now, this one included.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.topic.subscriber_count()
    }

    /// Whether [`poll_ready`](Self::poll_ready) tells when the topic is silent for long (the hub's `heartbeat`). Off
    /// unless set; [`into_sse`](Self::into_sse) sets it.
    pub fn set_heartbeats(&mut self, wanted: bool) {
        if self.beats != wanted {
            self.beats = wanted;
            self.topic.subscribers.want_beats(&self.seat, wanted);
            if wanted {
                schedule(&self.topic);
            }
        }
    }

    /// Whether what it ended with came from outside.
    #[cfg(feature = "http-body")]
    pub(crate) fn is_ended_from_outside(&self) -> bool {
        let handle = self.extra.as_ref().and_then(|it| it.end_handle.as_ref());
        let reason = handle.and_then(EndHandle::reason);
        reason.is_some() && reason == self.end_reason()
    }

    /// Takes the frames that come first.
    #[cfg(feature = "http-body")]
    pub(crate) fn take_first(&mut self) -> VecDeque<Frame> {
        self.see_end();
        if self.position.state != State::Opening {
            return VecDeque::new();
        }
        std::iter::from_fn(|| self.pop_first()).collect()
    }

    #[cfg(feature = "http-body")]
    pub(crate) fn on_lag(&self) -> crate::position::OnLag {
        self.position.on_lag
    }

    #[cfg(feature = "http-body")]
    pub(crate) fn is_on_topic_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topic, &other.topic)
    }

    /// Whether events of this hub carry ids, which clients can resume from.
    #[cfg(feature = "http-body")]
    pub(crate) fn has_ids(&self) -> bool {
        self.topic.config().event_ids
    }

    /// Whether [`position`](Self::position) is a place that a client can come back to without missing anything that it
    /// was not told of.
    #[cfg(feature = "http-body")]
    pub(crate) fn can_resume(&self) -> bool {
        let config = self.topic.config();
        config.event_ids && config.history && self.position.state == State::Reading
    }

    #[inline]
    fn note_passed(&self) {
        if !self.held {
            self.topic
                .subscribers
                .set_passed(&self.seat, self.position.offset());
        }
    }

    /// The cursor went on to another segment: perhaps nobody needs the last one any more.
    fn passed_segment(&self, guard: &Guard) {
        self.note_passed();
        self.topic.consumed(guard);
    }

    /// One look, without parking.
    #[inline]
    fn look(&mut self, guard: &Guard) -> Found {
        if self.has_more() {
            self.look_with_more(guard)
        } else {
            self.look_at_log(guard)
        }
    }

    #[inline(never)]
    fn look_with_more(&mut self, guard: &Guard) -> Found {
        if let Some(found) = self.look_at_more(guard) {
            return found;
        }
        let found = self.look_at_log(guard);
        if self.watched {
            // The clock must not take it for one that stands still.
            self.note_passed();
        }
        if matches!(found, Found::Frame(_))
            && let Some(extra) = &mut self.extra
            && let Some(choice) = &mut extra.choice
        {
            choice.taken(&self.topic.shared.clock);
        }
        found
    }

    #[inline]
    fn look_at_log(&mut self, guard: &Guard) -> Found {
        let Self {
            topic, position, ..
        } = self;
        if position.state.is_ended() {
            return Found::Ended;
        }
        let from = position.lost_from();
        if let Some(lag) = position.unknown_start(topic) {
            self.after_lag(from, guard);
            return Found::Lagged(lag);
        }
        let mut reader = Reader::new(&topic.log, guard, &mut position.cursor);
        let step = reader.step();
        let crossed = reader.crossed();
        let found = match step {
            Step::Frame(frame) => Found::Frame(Frame::clone(&frame)),
            Step::Lagged(missed) => Found::Lagged(position.apply_policy(topic, Some(missed))),
            Step::Pending => {
                if self.leaves() {
                    Found::Ended
                } else {
                    Found::Nothing
                }
            }
            Step::Ended => {
                position.state = State::Ended(EndReason::TopicClosed);
                Found::Ended
            }
        };
        if crossed {
            self.passed_segment(guard);
        }
        if matches!(found, Found::Lagged(_)) {
            self.after_lag(from, guard);
        }
        found
    }

    /// Whether it has had its share of the log for now.
    #[cold]
    fn has_to_wait(&mut self) -> bool {
        let extra = self.extra.as_mut();
        let Some(choice) = extra.and_then(|it| it.choice.as_mut()) else {
            return false;
        };
        if !choice.has_to_wait(&self.topic.shared.clock) {
            return false;
        }
        // Who is asked to leave does not keep others waiting.
        let leaves = self.topic.subscribers.asked(&self.seat).is_some();
        if leaves {
            choice.lift_rate();
        }
        !leaves
    }

    /// What is looked at before the log. `None`: it is the log's turn.
    fn look_at_more(&mut self, guard: &Guard) -> Option<Found> {
        self.see_ends();
        self.see_late();
        if self.position.state == State::Opening
            && let Some(frame) = self.pop_first()
        {
            return Some(Found::Frame(frame));
        }
        if !self.has_choice() || self.position.state != State::Reading {
            return None;
        }
        if self.has_to_wait() {
            return Some(Found::Nothing);
        }
        if self.seek_visible(guard, Look::Item) != Ahead::Nothing {
            return None;
        }
        Some(if self.leaves() {
            Found::Ended
        } else {
            Found::Nothing
        })
    }

    /// Notes that it is up to date: an idle log may go. Tells whether it ends here, because it was asked to leave.
    #[inline]
    fn leaves(&mut self) -> bool {
        if self.held {
            return false;
        }
        let offset = self.position.offset();
        let subscribers = &self.topic.subscribers;
        subscribers.is_up_to_date(&self.seat, offset) && self.leaves_as_asked()
    }

    /// Has it leave as if it had been asked to, when it has read all there is. It is polled next.
    #[cfg(feature = "http-body")]
    pub(crate) fn leave_with(&self, reason: EndReason) {
        self.topic.subscribers.leave_with(&self.seat, reason);
    }

    #[cold]
    fn leaves_as_asked(&mut self) -> bool {
        // Who reads for others sees to them first.
        let asked = self.topic.subscribers.asked(&self.seat);
        let reason = asked.filter(|_| self.counted);
        if let Some(reason) = reason {
            self.position.state = State::Ended(reason);
        }
        reason.is_some()
    }

    /// Parks; the caller looks once more.
    #[inline]
    fn park(&mut self, cx: &Context<'_>) {
        if !self.has_choice() || !self.waits(cx) {
            self.topic.subscribers.arm(&self.seat, cx.waker());
        }
    }

    /// Has the clock wake it, if it has had its share. R1 of `choice::rate`
    #[cold]
    fn waits(&mut self, cx: &Context<'_>) -> bool {
        let waits = self.position.state == State::Reading && self.has_to_wait();
        let choice = self.extra.as_ref().and_then(|it| it.choice.as_ref());
        if waits && let Some(choice) = choice {
            let shared = &self.topic.shared;
            let config = self.topic.config();
            let evict = config.evict_ticks.map(|ticks| ticks / 4);
            let beat = self.beats.then_some(config.quiet_ticks);
            // While the hub is drained it may be asked to leave at every tick.
            let drain = shared.is_draining().then_some(1);
            let look_after = [evict, beat, drain].into_iter().flatten().min();
            choice.wait(&shared.clock, look_after, cx.waker());
        }
        waits
    }

    /// Takes the next item if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`] if there is none yet, or the subscription has ended.
    pub fn try_recv(&mut self) -> Result<Item, TryRecvError> {
        let guard = epoch::pin();
        let found = self.look(&guard);
        log::flush_retired(&guard);
        match found {
            Found::Frame(frame) => Ok(Item::Frame(frame)),
            Found::Lagged(lag) => Ok(Item::Lagged(lag)),
            Found::Nothing => Err(TryRecvError::Empty),
            Found::Ended => Err(TryRecvError::Closed),
        }
    }

    /// Polls for the next item; `None` when the subscription has ended. Only the waker of the last poll is woken.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let guard = epoch::pin();
        let mut found = self.look(&guard);
        if matches!(found, Found::Nothing) {
            self.park(cx);
            found = self.look(&guard);
            if !matches!(found, Found::Nothing) {
                self.topic.subscribers.disarm(&self.seat);
            }
        }
        log::flush_retired(&guard);
        match found {
            Found::Frame(frame) => Poll::Ready(Some(Item::Frame(frame))),
            Found::Lagged(lag) => Poll::Ready(Some(Item::Lagged(lag))),
            Found::Nothing => Poll::Pending,
            Found::Ended => Poll::Ready(None),
        }
    }

    /// Waits for the next item; `None` when the subscription has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Item> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Makes what it waits at when its reader is busy: see [`ended`](Self::ended).
    #[cfg(feature = "compat")]
    pub(crate) fn waits_apart(&mut self) -> HostArc<Watcher> {
        let watcher = Watcher::new();
        let spot = OwnSeat::new(&self.topic, &self.seat, Some(HostArc::clone(&watcher)));
        self.end_handle().move_to(HostArc::new(spot));
        watcher
    }

    /// Waits until it is ended from outside, or given up; reads nothing. Meanwhile it stands still, for the clock as for the
    /// publishers: it waits at what [`waits_apart`](Self::waits_apart) gave.
    #[cfg(feature = "compat")]
    pub(crate) async fn ended(&mut self, apart: &Watcher) {
        let handle = self.end_handle();
        let mut evicted = self.watched.then(|| self.evicted());
        poll_fn(|cx| {
            // First: whoever ends it later wakes this.
            apart.park(Some(cx.waker().clone()));
            let evicted = evicted.as_mut();
            let given_up = evicted.is_some_and(|it| Pin::new(it).poll(cx).is_ready());
            if given_up || handle.reason().is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        apart.park(None);
        self.see_ends();
    }

    /// Sets what a batch that begins now may take.
    #[inline]
    fn count_left(&mut self, guard: &Guard) {
        let left = self
            .topic
            .log
            .end(guard)
            .saturating_sub(self.position.offset());
        self.position.left = u32::try_from(left).unwrap_or(u32::MAX);
        if self.has_choice() {
            self.count_chosen();
        }
    }

    /// A batch ends where it is not decided yet what is newest.
    #[cold]
    fn count_chosen(&mut self) {
        let choice = self.extra.as_ref().and_then(|it| it.choice.as_ref());
        let Some(until) = choice.and_then(Choice::until) else {
            return;
        };
        if let Some(left) = until.checked_sub(self.position.offset())
            && left > 0
        {
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            self.position.left = self.position.left.min(left);
        }
    }

    /// Whether it gave no sign of life for long though its topic moves on, for it does not want what is there, or not yet. Publishers
    /// or the clock have it polled meanwhile.
    #[inline]
    fn is_silent(&mut self) -> bool {
        self.beats && self.has_choice() && self.gave_nothing()
    }

    #[cold]
    fn gave_nothing(&mut self) -> bool {
        // See `clock`: with the third for which a topic is left alone, it makes one interval.
        let long = 2 * self.topic.config().quiet_ticks;
        let choice = self.extra.as_mut().and_then(|it| it.choice.as_mut());
        choice.is_some_and(|choice| choice.is_silent(&self.topic.shared.clock, long))
    }

    fn gave_sign(&mut self) {
        let choice = self.extra.as_mut().and_then(|it| it.choice.as_mut());
        if let Some(choice) = choice {
            choice.gave_sign(&self.topic.shared.clock);
        }
    }

    /// What there is to read, without taking it.
    #[inline]
    fn peek(&mut self, guard: &Guard) -> Ahead {
        if self.has_more() {
            self.see_ends();
            self.see_late();
        }
        let found = if self.has_choice() {
            // Also before frames that come first: those of the log may follow in the same batch.
            let waits = self.has_to_wait();
            if waits && self.position.state == State::Reading {
                return Ahead::Nothing;
            }
            self.seek_visible(guard, Look::All)
        } else {
            let (found, crossed) = self.position.peek(&self.topic, guard);
            if crossed {
                self.passed_segment(guard);
            }
            found
        };
        if found == Ahead::Nothing && self.leaves() {
            return Ahead::Closed;
        }
        found
    }

    /// Polls until there is something to read, the subscription has ended, or a heartbeat is due.
    ///
    /// This is what a transport builds on: once it is readable, [`try_batch`](Self::try_batch) borrows the frames.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Readiness> {
        self.poll_pinned(cx).map(|(ahead, _)| match ahead {
            Ahead::Closed => Readiness::Closed,
            Ahead::Heartbeat => Readiness::Heartbeat,
            Ahead::Frame | Ahead::Notice | Ahead::Nothing => Readiness::Readable,
        })
    }

    /// [`poll_ready`](Self::poll_ready), with the pin under which it looked. Never ready with [`Ahead::Nothing`].
    #[inline]
    pub(crate) fn poll_pinned(&mut self, cx: &mut Context<'_>) -> Poll<(Ahead, Guard)> {
        let guard = epoch::pin();
        let beat = self.beats && self.topic.subscribers.take_beat(&self.seat);
        let mut found = self.peek(&guard);
        if found == Ahead::Nothing && (beat || self.is_silent()) {
            found = Ahead::Heartbeat;
            self.gave_sign();
        }
        if found == Ahead::Nothing {
            self.park(cx);
            found = self.peek(&guard);
            if found == Ahead::Nothing {
                return Poll::Pending;
            }
            self.topic.subscribers.disarm(&self.seat);
        }
        Poll::Ready((found, guard))
    }

    /// Borrows what is visible now, without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`] if there is nothing yet, or the subscription has ended.
    pub fn try_batch(&mut self) -> Result<Batch<'_>, TryRecvError> {
        let guard = epoch::pin();
        match self.peek(&guard) {
            Ahead::Closed => Err(TryRecvError::Closed),
            Ahead::Nothing | Ahead::Heartbeat => Err(TryRecvError::Empty),
            ahead => Ok(Batch::new(self, guard, ahead)),
        }
    }

    /// Waits until something is visible and borrows it; `None` when the subscription has ended.
    ///
    /// The way to read at full speed: no reference is counted, and a burst is read under one pin. A batch must not be
    /// held across an `.await`; the compiler sees to that for futures that have to be `Send`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub fn recv_batch(&mut self) -> RecvBatch<'_> {
        RecvBatch {
            subscription: Some(self),
        }
    }
}

/// What a transport needs whose readers share one subscription.
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
impl Subscription {
    /// A subscription that reads for subscribers who are counted on `topic` already.
    pub(crate) fn for_others(topic: &Arc<TopicCore>, on_lag: crate::position::OnLag) -> Self {
        let mut this = Self {
            seat: topic.subscribers.claim(),
            position: Position::first(),
            beats: false,
            counted: false,
            held: false,
            watched: false,
            crossed: false,
            extra: None,
            topic: Arc::clone(topic),
        };
        this.position.on_lag = on_lag;
        topic.subscribers.feeds(&this.seat);
        let guard = epoch::pin();
        this.position.begin(topic, Start::Live, &guard);
        this.note_passed();
        drop(guard);
        this.set_heartbeats(true);
        this
    }

    pub(crate) fn topic(&self) -> &Arc<TopicCore> {
        &self.topic
    }

    pub(crate) fn parts(&mut self) -> (&TopicCore, &mut Position) {
        (&self.topic, &mut self.position)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.position.state.is_ended()
    }

    /// Whether those it reads for are asked to leave.
    pub(crate) fn is_asked_to_leave(&self) -> bool {
        self.topic.subscribers.asked(&self.seat).is_some()
    }

    /// The next offset to read.
    pub(crate) fn offset(&self) -> u64 {
        self.position.offset()
    }

    /// A copy of its place. The subscription itself stays where it is, and so does what it has not read.
    pub(crate) fn place(&self) -> Position {
        self.position.clone()
    }

    /// Takes what somebody else sees to from here on, if there is any. The handle still finds this subscription.
    pub(crate) fn take_belonging(&mut self) -> Option<Belonging> {
        let extra = self.extra.as_mut()?;
        let belonging = Belonging {
            envelope: extra.envelope.take(),
            end_handle: extra.end_handle.take(),
            kept: extra.kept.take(),
        };
        let none = belonging.envelope.is_none()
            && belonging.end_handle.is_none()
            && belonging.kept.is_none();
        (!none).then_some(belonging)
    }

    /// From here on somebody else sees to it. It was [counted out](Self::unwatch_seat) already if it has ended by that.
    pub(crate) fn hand_over(&mut self) {
        self.unwatch_seat();
        self.untag();
    }

    /// From here on somebody else counts the subscriber out.
    pub(crate) fn hand_over_count(&mut self) {
        self.counted = false;
    }

    /// Whether those it reads for may need what it has read.
    pub(crate) fn hold(&mut self, held: bool) {
        if self.held == held {
            return;
        }
        self.held = held;
        if !held {
            let guard = epoch::pin();
            self.passed_segment(&guard);
            log::flush_retired(&guard);
        }
    }
}

impl Stream for Subscription {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.poll_recv(cx)
    }
}

impl Subscription {
    #[cold]
    fn count_lagged(&self) {
        let shared = &self.topic.shared;
        shared.lagged.add(1);
        let (passed, end) = (self.position.offset(), self.topic.log.end(&epoch::pin()));
        let tag = self.extra.as_ref().and_then(|extra| extra.tag.as_deref());
        let told = &shared.evictions;
        // A callback that panics has said so already.
        FirstPanic::default().run(|| told.tell(&self.topic, tag, EndReason::Lagged, (passed, end)));
    }
}

impl Extra {
    /// Drops what few have, when all else is done: it is user code, as the waker is, and may panic.
    #[cold]
    fn let_go(self, waker: Option<Waker>) {
        let mut panics = FirstPanic::default();
        panics.run(move || drop(waker));
        panics.run(move || drop(self.choice));
        panics.run(move || drop(self.kept));
        panics.resume();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // First of all: who was evicted has been told of.
        self.unwatch_seat();
        let lagged = match self.position.state {
            State::Ended(reason) => reason == EndReason::Lagged,
            // It was to end behind what comes first.
            State::Opening => {
                let then = self.extra.as_ref().and_then(|it| it.then);
                then == Some(EndReason::Lagged)
            }
            _ => false,
        };
        if self.counted && lagged {
            self.count_lagged();
        }
        if self.extra.is_some() {
            self.untag();
        }
        if self.counted {
            let reason = self.end_reason();
            if let Some(reason) = reason {
                self.topic.shared.counts.ended(reason);
            }
            observe::left(self.topic.epoch, self.position.offset(), reason);
        }
        let extra = self.extra.take();
        if let Some(extra) = &extra
            && let Some(handle) = &extra.end_handle
        {
            // There is no reader to be found any more.
            handle.let_go();
        }
        let waker = self.topic.subscribers.leave(&self.seat);
        if self.counted {
            self.topic.exit(User::Subscription);
        }
        // Last: it is user code, and may panic.
        match extra {
            None => drop(waker),
            Some(extra) => extra.let_go(waker),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("position", &self.position())
            .field("policy", &self.position.on_lag.policy)
            .field("state", &self.position.state)
            .finish_non_exhaustive()
    }
}
