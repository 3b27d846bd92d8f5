//! A snapshot of the state first, then the events that follow it.
//!
//! **Role.** A client that comes late gets what the application knows, and then what happens, without a gap between them. The
//! subscription is made before the application is asked, so nothing that happens meanwhile is lost.
//!
//! **Protocol.** *Subscribe*: claim a waiter, stand behind the filled prefix of the log: the events before the first hole.
//! *Ask* the application, with that place. *Go on* after the event that the snapshot includes, if it says which; else from
//! the place itself. If that fell out of retention meanwhile, ask again, a few times.
//!
//! **Invariants.**
//! * N1: the place is the filled prefix, never what is reserved. Reading a slot as filled reads all that its publisher did
//!   before; so who changes the state first and publishes then has changed the state of every event before the place.
//! * N2: what is published after the place is in the log, or is counted as lag.

use std::fmt;

use crate::error::SubscribeError;
use crate::event_id::EventId;
use crate::frame::Frame;

/// How often the application is asked, if the place falls out of retention each time.
pub(crate) const ATTEMPTS: usize = 3;

/// What an application knows at one moment: frames that a client gets first, and which event they include last.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub, Snapshot};
///
/// let hub = Hub::new();
/// let state = hub.encode(Event::json(&[1, 2, 3]).name("state"))?;
/// let snapshot = Snapshot::new(vec![state]).as_of(None);
/// # drop(snapshot);
/// # Ok::<(), fanfare::EncodeError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a snapshot does nothing until it is given to a subscription"]
pub struct Snapshot {
    pub(crate) frames: Vec<Frame>,
    pub(crate) as_of: Option<EventId>,
}

impl Snapshot {
    /// A snapshot of these frames, which [`Hub::encode`](crate::Hub::encode) makes. There may be none.
    pub fn new(frames: Vec<Frame>) -> Self {
        Self {
            frames,
            as_of: None,
        }
    }

    /// Says which event is the last one that the snapshot includes: what [`Published::id`](crate::Published::id) told when it was
    /// published. The stream then continues with the next one.
    #[expect(clippy::wrong_self_convention, reason = "the words for it")]
    pub fn as_of(mut self, id: Option<EventId>) -> Self {
        self.as_of = id;
        self
    }
}

/// Why there is no subscription with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError<E> {
    /// The hub is closed, or the topic whose handle was asked.
    Closed,
    /// The id of the connection is longer than [`MAX_CONNECTION_ID_BYTES`](crate::MAX_CONNECTION_ID_BYTES).
    ConnectionIdTooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length of the id, in bytes.
        len: usize,
    },
    /// A limit of the hub was reached, or it is being drained.
    Refused(SubscribeError),
    /// The application has no snapshot.
    Snapshot(E),
}

impl<E> From<SubscribeError> for SnapshotError<E> {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Closed => Self::Closed,
            refused => Self::Refused(refused),
        }
    }
}

impl<E: fmt::Display> fmt::Display for SnapshotError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the hub or the topic is closed"),
            Self::ConnectionIdTooLong { limit, len } => {
                write!(f, "connection id has {len} bytes; the limit is {limit}")
            }
            Self::Refused(error) => error.fmt(f),
            Self::Snapshot(error) => write!(f, "no snapshot: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for SnapshotError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Closed | Self::ConnectionIdTooLong { .. } => None,
            Self::Refused(error) => Some(error),
            Self::Snapshot(error) => Some(error),
        }
    }
}
