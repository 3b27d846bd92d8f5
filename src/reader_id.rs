//! Who reads, where events are to say who sent them.

use std::fmt;
use std::num::NonZeroU64;

use crate::sync::{HostAtomicU64, Ordering};

/// Names one reader of this process: a subscription, or all subscriptions of one connection.
///
/// What a client sends and the server publishes comes back to that client too, if it subscribes to the topic. The server
/// says who sent the event ([`Event::sent_by`](crate::Event::sent_by)), and the client's subscription leaves out what is its own
/// ([`Subscription::exclude_own`](crate::Subscription::exclude_own)).
///
/// The id is never written to a client. It is unique in this process, and means nothing in another one.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub, Item, ReaderId};
///
/// let hub = Hub::new();
/// // One for the whole connection of a client, which may have several subscriptions.
/// let client = ReaderId::unique();
/// let mut own = hub.subscribe("room")?.reader(client).exclude_own();
/// let mut other = hub.subscribe("room")?;
///
/// hub.publish("room", Event::text("hello").sent_by(client))?;
/// assert!(own.try_recv().is_err());
/// assert!(matches!(other.try_recv(), Ok(Item::Frame(frame)) if frame.sender() == Some(client)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReaderId(NonZeroU64);

static LAST: HostAtomicU64 = HostAtomicU64::new(0);

impl ReaderId {
    /// Size of an id in a frame, in bytes.
    pub(crate) const LEN: usize = size_of::<u64>();

    /// An id that was not given before. At a billion a second they last for 584 years.
    #[must_use]
    pub fn unique() -> Self {
        // Relaxed: a count.
        let before = LAST.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::MIN.saturating_add(before))
    }

    pub(crate) const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.get().to_le_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        NonZeroU64::new(u64::from_le_bytes(bytes)).map(Self)
    }
}

impl fmt::Display for ReaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
