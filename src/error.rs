//! What publishers and readers are told when something is refused. What is wrong with an event itself is
//! [`EncodeError`], with a hub's limits [`ConfigError`](crate::ConfigError).

use crate::encode::EncodeError;

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
    /// The hub is closed.
    #[error("the hub is closed")]
    Closed,
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
