//! A publisher's handle on one topic.

use std::fmt;

use super::{Published, TopicCore, User, append_to};
use crate::encode::{EncodeError, encode};
use crate::error::{PublishError, SubscribeError};
use crate::event::{Event, Payload};
use crate::event_id::EventId;
use crate::frame::Frame;
use crate::interest::Interest;
use crate::observe;
use crate::position::Start;
use crate::resume::LastEventId;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::stats::TopicStats;
use crate::subscription::Subscription;
use crate::sync::epoch;
use crate::sync::{Arc, Ordering, fence};
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
