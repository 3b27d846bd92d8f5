//! What publishers and readers are told when something is refused. What is wrong with an event itself is
//! [`EncodeError`], with a hub's limits [`ConfigError`](crate::ConfigError).

use crate::encode::EncodeError;
use crate::envelope::EnvelopeError;

/// Why an event was not published. Nothing was appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The event could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The hub or the topic is closed.
    #[error("the topic is closed")]
    Closed,
}

/// Why a subscription or a handle could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The hub is closed, or the topic whose handle was asked.
    #[error("the hub or the topic is closed")]
    Closed,
}

/// Why a broadcaster or a router refused something. Nothing was done, unless the method says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The event could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The hub is closed, or one of the topics.
    #[error("the hub or the topic is closed")]
    Closed,
    /// The id of a connection is longer than [`MAX_CONNECTION_ID_BYTES`](crate::MAX_CONNECTION_ID_BYTES).
    #[error("connection id has {len} bytes; the limit is {limit}")]
    ConnectionIdTooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length of the id, in bytes.
        len: usize,
    },
    /// A route has more than [`MAX_ROUTE_STREAMS`](crate::MAX_ROUTE_STREAMS) streams.
    #[error("a route has at most {limit} streams")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// There is no tokio runtime to run a task in.
    #[error("no tokio runtime to forward events in")]
    NoRuntime,
    /// What is to go around an event cannot.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// What the methods of broadcasters and routers give.
pub type EventResult<T> = Result<T, EventError>;

impl From<PublishError> for EventError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Encode(error) => Self::Encode(error),
            PublishError::Closed => Self::Closed,
        }
    }
}

impl From<SubscribeError> for EventError {
    fn from(SubscribeError::Closed: SubscribeError) -> Self {
        Self::Closed
    }
}

/// Why [`Subscription::try_recv`](crate::Subscription::try_recv) has nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum TryRecvError {
    /// Nothing was published that was not read yet.
    #[error("nothing to read yet")]
    Empty,
    /// The subscription has ended: the topic was closed and all of it was read, or the lag policy ended it.
    #[error("the subscription has ended")]
    Closed,
}
