//! For servers that come from `systemprompt-events`: connections with channels of their own, its constants, and broadcasters
//! for the whole process.
//!
//! What new code writes instead stands at each item, and in the repository's `docs/migrating.md`.

use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use axum::response::sse;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::broadcaster::{Broadcaster, ToSse};
use crate::broadcasters::{
    A2ABroadcaster, AgUiBroadcaster, AnalyticsBroadcaster, ContextBroadcaster,
};
use crate::ending::EndReason;
use crate::error::{EventError, EventResult};
use crate::frame::Frame;
use crate::subscription::{Item, Subscription};
use crate::sync::LazyLock;
use crate::user_id::UserId;

/// How often an idle connection gets a sign of life from [`standard_keep_alive`]: 15 s.
///
/// A hub does it by itself, for all of its connections together, and as a comment: [`HubBuilder::heartbeat`](crate::HubBuilder::heartbeat),
/// 15 s unless set.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// The data of a heartbeat that is an event, as [`standard_keep_alive`] sends it.
///
/// A hub's heartbeats are comments, which no client takes for an event of its protocol.
pub const HEARTBEAT_JSON: &str = r#"{"type":"heartbeat"}"#;

/// Messages that a connection's channel usually holds.
///
/// A subscription needs no channel and no buffer: it reads the topic's log, which keeps
/// [`retain_events`](crate::HubBuilder::retain_events), 1,024 unless set, for all connections together.
pub const SSE_BUFFER: usize = 1024;

/// The sending side of a connection's channel, as axum's `Sse` takes its messages.
///
/// [`Subscription::into_sse`] is a response without a channel.
pub type EventSender = mpsc::Sender<Result<sse::Event, Infallible>>;

/// A keep-alive for axum's own `Sse`: every [`HEARTBEAT_INTERVAL`] an event named `heartbeat` with [`HEARTBEAT_JSON`].
///
/// The response of [`Subscription::into_sse`] has one already.
pub fn standard_keep_alive() -> sse::KeepAlive {
    let heartbeat = sse::Event::default()
        .event("heartbeat")
        .data(HEARTBEAT_JSON);
    sse::KeepAlive::new()
        .interval(HEARTBEAT_INTERVAL)
        .event(heartbeat)
}

/// AG-UI events of this process. [`EventBroadcasters`](crate::EventBroadcasters), made once and passed down, lets tests and tenants have their own.
pub static AGUI_BROADCASTER: LazyLock<AgUiBroadcaster> = LazyLock::new(AgUiBroadcaster::new);
/// A2A responses of this process; see [`AGUI_BROADCASTER`].
pub static A2A_BROADCASTER: LazyLock<A2ABroadcaster> = LazyLock::new(A2ABroadcaster::new);
/// Context events of this process; see [`AGUI_BROADCASTER`].
pub static CONTEXT_BROADCASTER: LazyLock<ContextBroadcaster> =
    LazyLock::new(ContextBroadcaster::new);
/// Analytics of this process; see [`AGUI_BROADCASTER`].
pub static ANALYTICS_BROADCASTER: LazyLock<AnalyticsBroadcaster> =
    LazyLock::new(AnalyticsBroadcaster::new);

/// What a channel carries: made of a frame, or of the last notice.
pub trait Message: Send + Sized + 'static {
    /// An event.
    fn event(frame: &Frame) -> Self;

    /// What the connection is told before it ends, as a comment, if the messages have such a thing.
    fn notice(notice: &str) -> Option<Self>;
}

/// The event's whole block of `text/event-stream`.
impl Message for Bytes {
    fn event(frame: &Frame) -> Self {
        frame.to_bytes()
    }

    fn notice(notice: &str) -> Option<Self> {
        Some(format!(": {notice}\n\n").into())
    }
}

/// The event, shared.
impl Message for Frame {
    fn event(frame: &Frame) -> Self {
        frame.clone()
    }

    fn notice(_: &str) -> Option<Self> {
        None
    }
}

/// The event as axum's `Sse` takes it. It is formatted once more for each connection.
impl Message for Result<sse::Event, Infallible> {
    fn event(frame: &Frame) -> Self {
        let mut event = sse::Event::default().data(frame.data());
        if let Some(name) = frame.name() {
            event = event.event(name);
        }
        if let Some(id) = frame.id() {
            event = event.id(id.to_string());
        }
        Ok(event)
    }

    fn notice(notice: &str) -> Option<Self> {
        Some(Ok(sse::Event::default().comment(notice)))
    }
}

/// Registers connections that have a channel of their own.
///
/// # Examples
///
/// ```
/// use fanfare::compat::{EventSender, RegisterSender as _};
/// use fanfare::{AgUiBroadcaster, UserId, protocol::ag_ui};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let broadcaster = AgUiBroadcaster::new();
/// let ann = UserId::from("ann");
/// let (sender, mut receiver) = tokio::sync::mpsc::channel(fanfare::compat::SSE_BUFFER);
/// let sender: EventSender = sender;
/// let guard = broadcaster.register_sender(&ann, "tab-1", sender)?;
/// broadcaster.broadcast(&ann, &ag_ui::Event::step_started("plan"))?;
/// assert!(receiver.recv().await.is_some());
/// drop(guard);
/// assert_eq!(broadcaster.connection_count(&ann), 0);
/// # Ok::<(), fanfare::EventError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait RegisterSender<K>: sealed::Sealed
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
{
    /// Registers a connection whose events are sent into `sender`, by a task of the tokio runtime that this is called in. It is
    /// unregistered when the guard is dropped or the receiver is, whichever is first.
    ///
    /// A receiver that does not keep up holds back nobody: the channel stays full, the task waits, and when the log has gone on too far the
    /// connection lags, as any other; and it is given up, as any other, if the hub has [`evict_after`](crate::HubBuilder::evict_after). If it ends for a reason of the server's, the last message is a comment that says so.
    ///
    /// [`Broadcaster::register`] needs neither channel nor task.
    ///
    /// # Errors
    ///
    /// [`EventError`] as of `register`; [`EventError::NoRuntime`] outside a tokio runtime.
    fn register_sender<M: Message>(
        &self,
        user: &K,
        connection_id: &str,
        sender: mpsc::Sender<M>,
    ) -> EventResult<ConnectionGuard<K>>;
}

mod sealed {
    /// More methods may come.
    #[expect(unnameable_types, reason = "this is what seals the public trait")]
    pub trait Sealed {}
}

impl<E: ToSse, K: Eq + Hash + Clone + Send + Sync + 'static> sealed::Sealed for Broadcaster<E, K> {}

impl<E: ToSse, K: Eq + Hash + Clone + Send + Sync + 'static> RegisterSender<K>
    for Broadcaster<E, K>
{
    fn register_sender<M: Message>(
        &self,
        user: &K,
        connection_id: &str,
        sender: mpsc::Sender<M>,
    ) -> EventResult<ConnectionGuard<K>> {
        let runtime = Handle::try_current().map_err(|_| EventError::NoRuntime)?;
        let mut subscription = self.register(user, connection_id)?;
        let leave = self.leave_with(user, connection_id, subscription.end_handle());
        let (ended, watch) = watch::channel(None);
        let forwarding = async move {
            let reason = forward(subscription, sender).await;
            ended.send_replace(Some(reason));
        };
        drop(runtime.spawn(forwarding));
        Ok(ConnectionGuard {
            user: user.clone(),
            connection_id: connection_id.to_owned(),
            leave: Some(leave),
            ended: watch,
        })
    }
}

/// Sends what a subscription reads until either side ends. Why it ended; a receiver that is gone has unregistered it.
async fn forward<M: Message>(mut subscription: Subscription, sender: mpsc::Sender<M>) -> EndReason {
    let apart = subscription.waits_apart();
    loop {
        let item = tokio::select! {
            biased;
            () = sender.closed() => return EndReason::Unregistered,
            item = subscription.recv() => item,
        };
        let message = match item {
            Some(Item::Frame(frame)) => Some(M::event(&frame)),
            Some(Item::Lagged(lag)) => M::notice(&match lag.missed() {
                Some(missed) => format!("lag, {missed} events missed"),
                None => "lag, unknown how many events missed".to_owned(),
            }),
            None => break,
        };
        // Ended from outside while the channel is full: it is not waited for.
        let Some(message) = message else { continue };
        tokio::select! {
            biased;
            sent = sender.send(message) => if sent.is_err() { return EndReason::Unregistered },
            () = subscription.ended(&apart) => break,
        }
    }
    let reason = subscription.end_reason().unwrap_or(EndReason::TopicClosed);
    if !matches!(reason, EndReason::TopicClosed | EndReason::Lagged)
        && let Some(notice) = M::notice(reason.notice())
    {
        // A full channel has no room for it, and need not be told in words.
        drop(sender.try_send(notice));
    }
    reason
}

/// Keeps a connection registered that has a channel of its own. Dropping it unregisters the connection, at once; it needs
/// no runtime, and leaves a newer connection of the same id alone.
///
/// Who has a [`Subscription`] needs no guard: it is one.
#[must_use = "dropping the guard unregisters the connection"]
pub struct ConnectionGuard<K = UserId> {
    user: K,
    connection_id: String,
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
    ended: watch::Receiver<Option<EndReason>>,
}

impl<K> ConnectionGuard<K> {
    /// Whose connection it is.
    pub fn user(&self) -> &K {
        &self.user
    }

    /// What it was registered by.
    #[must_use]
    pub fn connection_id(&self) -> &str {
        &self.connection_id
    }

    /// Why nothing is forwarded any more, once it is so.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        *self.ended.borrow()
    }

    /// Waits until nothing is forwarded any more: the connection was replaced, fell behind, or its receiver is gone. A server that has clones of
    /// the sender closes the connection then, for its receiver does not end by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn ended(&mut self) -> EndReason {
        let ended = self.ended.wait_for(Option::is_some).await;
        // Without a reason the runtime has dropped the task.
        ended
            .ok()
            .and_then(|reason| *reason)
            .unwrap_or(EndReason::Requested)
    }
}

impl<K> Drop for ConnectionGuard<K> {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

impl<K> fmt::Debug for ConnectionGuard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionGuard")
            .field("connection_id", &self.connection_id)
            .finish_non_exhaustive()
    }
}
