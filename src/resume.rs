//! Where a client wants to go on, and what becomes of that.

use crate::event_id::EventId;
use crate::position::Start;

/// The `Last-Event-ID` of a client: none, an id, or something that is no id of ours.
///
/// It is under the client's control: it says where to go on, not what the client may see. What is no id (of another server
/// that had the same address, or made up) is not refused, for a client that is refused does not come back: it counts as an
/// id of another life of the topic. Then the client is told that it may have missed something.
///
/// With the feature `axum` it is an extractor. It takes the header, and where there is none the query parameter `lastEventId`, for
/// clients that cannot set headers.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub, LastEventId, Resumed};
///
/// let hub = Hub::builder().history(true).build()?;
/// let first = hub.publish("news", Event::text("one"))?.id();
/// let _ = hub.publish("news", Event::text("two"))?;
///
/// let last = LastEventId::from(first);
/// let subscription = hub.subscribe_from("news", last)?;
/// assert_eq!(subscription.resumed(), Resumed::Continued);
///
/// let strange = LastEventId::parse(b"4711");
/// assert_eq!(hub.subscribe_from("news", strange)?.resumed(), Resumed::Unknown);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LastEventId(Given);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Given {
    #[default]
    Nothing,
    Id(EventId),
    Foreign,
}

impl LastEventId {
    /// Ids are shorter; what is longer than this, in bytes, is not looked at.
    pub const MAX_LEN: usize = 128;

    /// A client that comes for the first time.
    #[must_use]
    pub const fn none() -> Self {
        Self(Given::Nothing)
    }

    /// What a client sent, as it came: any bytes. Nothing is none.
    #[must_use]
    pub fn parse(sent: &[u8]) -> Self {
        if sent.is_empty() {
            return Self::none();
        }
        if sent.len() > Self::MAX_LEN {
            return Self(Given::Foreign);
        }
        let text = std::str::from_utf8(sent).ok();
        let id = text.and_then(|text| text.parse().ok());
        Self(id.map_or(Given::Foreign, Given::Id))
    }

    /// The id, if it is one.
    #[must_use]
    pub const fn id(self) -> Option<EventId> {
        match self.0 {
            Given::Id(id) => Some(id),
            _ => None,
        }
    }

    pub(crate) const fn start(self) -> Start {
        match self.0 {
            Given::Nothing => Start::Live,
            Given::Id(id) => Start::After(id),
            Given::Foreign => Start::Unknown,
        }
    }

    /// Whether the client sent anything.
    #[must_use]
    pub const fn is_given(self) -> bool {
        !matches!(self.0, Given::Nothing)
    }
}

impl From<EventId> for LastEventId {
    fn from(id: EventId) -> Self {
        Self(Given::Id(id))
    }
}

impl From<Option<EventId>> for LastEventId {
    fn from(id: Option<EventId>) -> Self {
        id.map_or_else(Self::none, Self::from)
    }
}

/// How a subscription begins; see [`Subscription::resumed`](crate::Subscription::resumed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resumed {
    /// Nothing is missing: it goes on right after the id, or begins now.
    Continued,
    /// Events after the id have left the log.
    Gap {
        /// How many, as of now.
        missed: u64,
    },
    /// The id is of another life of the topic, lies in the future, or is none: nobody can tell what is missing.
    Unknown,
}
