//! The reader's handle: frames in order, lag as it is, and the end.
//!
//! **Role.** A [`Subscription`] owns a waiter of its topic and a cursor into its log. Dropping it gives both back.
//!
//! **Protocol.** *Read*: under one pin, step the cursor; nothing there: note how far it got, park, look once more.
//! *Leave*: give the waiter back, then count out; the last user has the topic removed. Neither needs a runtime.

#[cfg(feature = "compat")]
mod apart;
mod batch;
mod choices;
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
mod for_others;
mod opening;
mod standing;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub use batch::{Batch, RecvBatch};
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
pub(crate) use for_others::Belonging;
use futures_core::Stream;
use opening::Missed;

use crate::choice::{Choice, Look};
use crate::ending::{EndHandle, EndReason};
use crate::envelope::Envelope;
use crate::error::{SubscribeError, TryRecvError, random_below};
use crate::event_id::EventId;
use crate::eviction::Tag;
use crate::frame::Frame;
use crate::log::{self, Reader, Step};
use crate::observe;
use crate::position::{Ahead, Lag, LagPolicy, Notices, Position, Start, State};
use crate::reader_id::ReaderId;
use crate::resume::Resumed;
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
    /// Whether the clock watches that it goes on. Then it looks whether it has its seat still, under the pin under which it uses it.
    watched: bool,
    /// Whether it is known to have been given up.
    evicted: bool,
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
            evicted: false,
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
        if let Some(age) = this.topic.config().max_age_ticks {
            // Less up to a tenth: those who came together leave apart.
            let at = this.topic.shared.clock.refresh() + age - random_below(age / 10);
            this.topic.subscribers.leaves_at(&this.seat, stands_for(at));
            schedule(&this.topic);
        }
        // From here on the seat may be lost.
        if reads && this.topic.config().evict_ticks.is_some() {
            this.watch();
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

    /// The envelope, for transports of one's own.
    #[must_use]
    pub fn wrapped_in(&self) -> Option<&Envelope> {
        self.extra.as_ref()?.envelope.as_ref()
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

    /// Whether it is more than a cursor: then there is more to look at than the log.
    #[inline]
    const fn has_more(&self) -> bool {
        self.watched || self.extra.is_some()
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
            let guard = epoch::pin();
            self.see_eviction(&guard);
            self.topic.subscribers.want_beats(&self.seat, wanted);
            drop(guard);
            if wanted {
                schedule(&self.topic);
            }
        }
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
        } else if matches!(found, Found::Ended) {
            self.note_passed();
        }
        if matches!(found, Found::Lagged(_)) {
            self.after_lag(from, guard);
        }
        found
    }

    /// What is looked at before the log. `None`: it is the log's turn.
    fn look_at_more(&mut self, guard: &Guard) -> Option<Found> {
        self.see_ends(guard);
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

    /// Parks; the caller looks once more.
    #[inline]
    fn park(&mut self, cx: &Context<'_>) {
        if !self.has_choice() || !self.waits(cx) {
            self.topic.subscribers.arm(&self.seat, cx.waker());
        }
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

    /// What there is to read, without taking it.
    #[inline]
    fn peek(&mut self, guard: &Guard) -> Ahead {
        if self.has_more() {
            self.see_ends(guard);
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
        if found == Ahead::Closed {
            self.note_passed();
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
        let mut found = self.peek(&guard);
        let beat = self.beats && self.topic.subscribers.take_beat(&self.seat);
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

impl Stream for Subscription {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.poll_recv(cx)
    }
}

impl Subscription {
    /// Whether it was to end for lag, behind what comes first.
    #[cold]
    fn was_to_end_lagged(&self) -> bool {
        let then = self.extra.as_ref().and_then(|it| it.then);
        then == Some(EndReason::Lagged)
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
        // First of all: who was evicted has been told of, and its seat may be another's.
        self.unwatch_seat();
        let lagged = self.position.state == State::Ended(EndReason::Lagged)
            || self.position.state == State::Opening && self.was_to_end_lagged();
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
