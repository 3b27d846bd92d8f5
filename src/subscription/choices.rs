//! What the reader of a subscription does not want, and how fast it reads: see [`choice`](crate::choice).

use std::num::NonZeroU32;
use std::task::Context;
use std::time::Duration;

use super::Subscription;
use crate::choice::{Choice, Conflation, Look};
use crate::ending::OwnSeat;
use crate::frame::Frame;
use crate::position::{Ahead, State};
use crate::reader_id::ReaderId;
use crate::sync::HostArc;
use crate::sync::epoch::Guard;

impl Subscription {
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

    pub(super) fn choice(&mut self) -> &mut Choice {
        self.extra().choice.get_or_insert_default()
    }

    /// Whether it does not want all of its topic.
    #[inline]
    pub(crate) fn has_choice(&self) -> bool {
        matches!(&self.extra, Some(extra) if extra.choice.is_some())
    }

    /// Moves on to what is wanted of what is visible.
    #[cold]
    pub(super) fn seek(&mut self, guard: &Guard, until: u64, look: Look) -> (Ahead, bool) {
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
    pub(super) fn seek_visible(&mut self, guard: &Guard, look: Look) -> Ahead {
        let until = self.topic.log.end(guard);
        let (found, crossed) = self.seek(guard, until, look);
        if crossed {
            self.passed_segment(guard);
        }
        found
    }

    /// Whether it has had its share of the log for now.
    #[cold]
    pub(super) fn has_to_wait(&mut self) -> bool {
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

    /// Has the clock wake it, if it has had its share. R1 of `choice::rate`
    #[cold]
    pub(super) fn waits(&mut self, cx: &Context<'_>) -> bool {
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
            if drain.is_none() && shared.is_draining() {
                // It began before there was an alarm that it could ring.
                choice.wait(&shared.clock, Some(1), cx.waker());
            }
        }
        waits
    }

    /// A batch ends where it is not decided yet what is newest.
    #[cold]
    pub(super) fn count_chosen(&mut self) {
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
    pub(super) fn is_silent(&mut self) -> bool {
        self.beats && self.has_choice() && self.gave_nothing()
    }

    #[cold]
    pub(super) fn gave_nothing(&mut self) -> bool {
        // See `clock`: with the third for which a topic is left alone, it makes one interval.
        let long = 2 * self.topic.config().quiet_ticks;
        let choice = self.extra.as_mut().and_then(|it| it.choice.as_mut());
        choice.is_some_and(|choice| choice.is_silent(&self.topic.shared.clock, long))
    }

    pub(super) fn gave_sign(&mut self) {
        let choice = self.extra.as_mut().and_then(|it| it.choice.as_mut());
        if let Some(choice) = choice {
            choice.gave_sign(&self.topic.shared.clock);
        }
    }
}
