//! What a publish did.

use crate::event_id::EventId;

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
    pub(super) subscribers: u32,
    pub(super) lagging: u32,
    pub(super) id: Option<EventId>,
    pub(super) bytes: usize,
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
    /// long after. [`Topic::stats`](crate::Topic::stats) looks anew.
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
