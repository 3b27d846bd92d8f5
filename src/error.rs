//! What publishers and readers are told when something is refused. What is wrong with an event itself is
//! [`EncodeError`], with a hub's limits [`ConfigError`](crate::ConfigError).

use std::time::Duration;

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
    /// The hub keeps history, the event is the first of its topic, and there are as many as
    /// [`max_topics`](crate::HubBuilder::max_topics) allows.
    #[error("the hub has {topics} topics; the limit (max_topics) is {limit}")]
    TooManyTopics {
        /// The limit.
        limit: usize,
        /// Topics that there were.
        topics: usize,
    },
    /// The events of the hub hold as much memory as [`memory_limit`](crate::HubBuilder::memory_limit) allows, though it
    /// has dropped the history that it could: readers hold them, or another thread delays their release.
    #[error(
        "{used} bytes of memory are used, and the event takes {size}; the limit (memory_limit) is {limit}"
    )]
    OverMemoryLimit {
        /// The limit, in bytes.
        limit: u64,
        /// What was used, in bytes.
        used: u64,
        /// What the event takes, in bytes, with a part of a log for it.
        size: usize,
    },
}

/// Why a subscription or a handle could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The hub is closed, or the topic whose handle was asked.
    #[error("the hub or the topic is closed")]
    Closed,
    /// The hub has as many subscriptions as [`max_connections`](crate::HubBuilder::max_connections) allows.
    #[error("the hub has {connections} connections; the limit (max_connections) is {limit}")]
    TooManyConnections {
        /// The limit.
        limit: usize,
        /// Subscriptions that there were.
        connections: usize,
    },
    /// The topic has as many subscriptions as
    /// [`max_connections_per_topic`](crate::HubBuilder::max_connections_per_topic) allows.
    #[error(
        "the topic has {connections} connections; the limit (max_connections_per_topic) is {limit}"
    )]
    TopicFull {
        /// The limit.
        limit: usize,
        /// Subscriptions that there were.
        connections: usize,
    },
    /// The hub has as many topics as [`max_topics`](crate::HubBuilder::max_topics) allows, and there is none at the key.
    #[error("the hub has {topics} topics; the limit (max_topics) is {limit}")]
    TooManyTopics {
        /// The limit.
        limit: usize,
        /// Topics that there were.
        topics: usize,
    },
    /// The hub is being [drained](crate::Hub::drain).
    #[error("the hub is draining; come back in {} ms", retry_after.as_millis())]
    Draining {
        /// When to come back: another server, or this one after its restart.
        retry_after: Duration,
    },
}

impl SubscribeError {
    /// When a client that was refused should try again. `None`: never here, the hub is closed.
    ///
    /// Where a limit was reached it is 2 to 6 s, by chance: clients that were refused together come back apart.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Closed => None,
            Self::Draining { retry_after } => Some(*retry_after),
            _ => Some(Duration::from_millis(2000 + random_below(4000))),
        }
    }

    /// The status of an HTTP response that says so: 429 where one topic is full, 503 otherwise.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            // RFC 6585, section 4
            Self::TopicFull { .. } => 429,
            // RFC 9110, section 15.6.4
            _ => 503,
        }
    }
}

/// The refusal as a response: [`status`](Self::status), the reason as text, and `Retry-After` in whole seconds (RFC 9110,
/// section 10.2.3), rounded up.
#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for SubscribeError {
    fn into_response(self) -> axum_core::response::Response {
        let mut response = self.to_string().into_response();
        if let Ok(status) = http::StatusCode::from_u16(self.status()) {
            *response.status_mut() = status;
        }
        if let Some(after) = self.retry_after() {
            let seconds = after.as_millis().div_ceil(1000);
            if let Ok(value) = http::HeaderValue::from_str(&seconds.to_string()) {
                response
                    .headers_mut()
                    .insert(http::header::RETRY_AFTER, value);
            }
        }
        response
    }
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
    /// A limit of the hub was reached.
    #[error(transparent)]
    Refused(SubscribeError),
    /// The events of the hub hold as much memory as [`memory_limit`](crate::HubBuilder::memory_limit) allows, though it
    /// has dropped the history that it could: readers hold them, or another thread delays their release.
    #[error(
        "{used} bytes of memory are used, and the event takes {size}; the limit (memory_limit) is {limit}"
    )]
    OverMemoryLimit {
        /// The limit, in bytes.
        limit: u64,
        /// What was used, in bytes.
        used: u64,
        /// What the event takes, in bytes, with a part of a log for it.
        size: usize,
    },
}

/// What the methods of broadcasters and routers give.
pub type EventResult<T> = Result<T, EventError>;

impl From<PublishError> for EventError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Encode(error) => Self::Encode(error),
            PublishError::Closed => Self::Closed,
            PublishError::OverMemoryLimit { limit, used, size } => {
                Self::OverMemoryLimit { limit, used, size }
            }
            PublishError::TooManyTopics { limit, topics } => {
                Self::Refused(SubscribeError::TooManyTopics { limit, topics })
            }
        }
    }
}

impl From<SubscribeError> for EventError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Closed => Self::Closed,
            refused => Self::Refused(refused),
        }
    }
}

impl From<SubscribeError> for PublishError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::TooManyTopics { limit, topics } => {
                Self::TooManyTopics { limit, topics }
            }
            _ => Self::Closed,
        }
    }
}

/// A number below `bound`, by chance.
pub(crate) fn random_below(bound: u64) -> u64 {
    use std::hash::BuildHasher as _;
    // Each state of std's has keys of its own.
    std::hash::RandomState::new().hash_one(bound) % bound.max(1)
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
