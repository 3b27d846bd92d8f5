//! What operators see: events for `tracing`, numbers for `metrics`, how readers stand, whether fan-out makes progress.
//!
//! **Role.** The one place that names those crates. Each function here is a line of the log, a number, or both; without
//! the features they are nothing.
//!
//! **Invariants.**
//! * Nothing here is called for a delivery, and nothing is given a payload.
//! * A `tracing` subscriber and a `metrics` recorder are user code: neither runs under a lock, and where one of them runs in a
//!   drop, its panic stays there.

mod health;
pub(crate) mod top;

pub(crate) use health::Holes;
pub use health::{Health, Problem};
pub use top::{Behind, Holding};

use crate::drain::DrainReport;
use crate::encode::EncodeError;
use crate::ending::EndReason;
use crate::error::SubscribeError;
use crate::position::Lag;
#[cfg(feature = "metrics")]
use crate::stats::HubStats;
use crate::topic::Published;

/// An event for `tracing`, if that is on.
macro_rules! event {
    ($level:ident, $($what:tt)*) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "fanfare", tracing::Level::$level, $($what)*);
    }};
}

/// [`event`] in a drop, or amid something that has to go on: a `tracing` subscriber that panics has said so already.
macro_rules! event_in_drop {
    ($($what:tt)*) => {{
        #[cfg(feature = "tracing")]
        let _ = crate::unwind::FirstPanic::default().run(|| event!($($what)*));
    }};
}

/// The epoch of a topic as it stands in the ids of its events.
#[cfg(feature = "tracing")]
struct Hex(u64);

#[cfg(feature = "tracing")]
impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Nothing: takes what only some features look at.
#[inline]
fn unseen<T>(_: T) {}

/// A publish came through.
#[inline]
pub(crate) fn published(published: &Published) {
    event!(
        TRACE,
        topic = published
            .id()
            .map(|id| tracing::field::display(Hex(id.epoch()))),
        offset = published.id().map(crate::EventId::offset),
        bytes = published.bytes(),
        subscribers = published.subscribers(),
        lagging = published.lagging(),
        "published"
    );
    unseen(published);
}

/// An event could not be encoded.
#[cold]
pub(crate) fn not_encoded(error: &EncodeError) {
    event!(DEBUG, %error, "event not encoded");
    #[cfg(feature = "metrics")]
    metrics::counter!("fanfare_refused_total", "what" => "event").increment(1);
    unseen(error);
}

/// A subscription was refused.
#[cold]
pub(crate) fn not_subscribed(error: &SubscribeError) {
    let (what, limit, value) = match *error {
        SubscribeError::Closed => ("closed", 0, 0),
        SubscribeError::TooManyConnections { limit, connections } => {
            ("max_connections", limit, connections)
        }
        SubscribeError::TopicFull { limit, connections } => {
            ("max_connections_per_topic", limit, connections)
        }
        SubscribeError::TooManyTopics { limit, topics } => ("max_topics", limit, topics),
        _ => ("draining", 0, 0),
    };
    refused(what, limit as u64, value as u64);
}

/// Something was refused at a limit: what, its limit, and the value that there was.
#[cold]
pub(crate) fn refused(what: &'static str, limit: u64, value: u64) {
    event!(DEBUG, what, limit, value, "refused");
    #[cfg(feature = "metrics")]
    metrics::counter!("fanfare_refused_total", "what" => what).increment(1);
    unseen((what, limit, value));
}

/// A subscription has its place: its next event is at `offset`.
#[inline]
pub(crate) fn subscribed(epoch: u64, offset: u64) {
    event!(DEBUG, topic = %Hex(epoch), offset, "subscribed");
    unseen((epoch, offset));
}

/// A subscription has gone. `reason`: why it had ended, if it had.
#[inline]
pub(crate) fn left(epoch: u64, offset: u64, reason: Option<EndReason>) {
    event_in_drop!(DEBUG, topic = %Hex(epoch), offset, reason = reason.map(EndReason::notice), "left");
    unseen((epoch, offset, reason));
}

/// A reader is told that it missed events; `ended` if its policy is to end then.
#[cold]
pub(crate) fn lagged(lag: &Lag, ended: bool) {
    let (missed, after) = (lag.missed(), lag.resumed_after());
    #[cfg(feature = "tracing")]
    if ended {
        event!(WARN, topic = %Hex(after.epoch()), missed, after = after.offset(), "ended by lag");
    } else {
        event!(DEBUG, topic = %Hex(after.epoch()), missed, after = after.offset(), "lagged");
    }
    #[cfg(feature = "metrics")]
    if let Some(missed) = missed {
        #[expect(clippy::cast_precision_loss, reason = "histograms are of floats")]
        metrics::histogram!("fanfare_lag_missed_events").record(missed as f64);
    }
    unseen((missed, after, ended));
}

/// The hub gave a reader up that stood at `offset`.
#[cold]
pub(crate) fn evicted(epoch: u64, offset: u64, behind: u64, label: Option<&str>) {
    event!(WARN, topic = %Hex(epoch), offset, behind, label, "evicted");
    #[cfg(feature = "metrics")]
    #[expect(clippy::cast_precision_loss, reason = "histograms are of floats")]
    metrics::histogram!("fanfare_eviction_behind_events").record(behind as f64);
    unseen((epoch, offset, behind, label));
}

/// The hub was drained: the subscriptions that there were, those that were cut, and how long it took.
#[cold]
pub(crate) fn drained(report: &DrainReport) {
    let DrainReport {
        subscriptions,
        cut,
        took,
    } = *report;
    event_in_drop!(INFO, subscriptions, cut, ?took, "drained");
    #[cfg(feature = "metrics")]
    let _ = crate::unwind::FirstPanic::default()
        .run(|| metrics::histogram!("fanfare_drain_seconds").record(took.as_secs_f64()));
    unseen((subscriptions, cut, took));
}

/// A topic came into being.
#[inline]
pub(crate) fn topic_made(epoch: u64) {
    event!(DEBUG, topic = %Hex(epoch), "topic made");
    unseen(epoch);
}

/// A topic is gone: nobody has it any more.
#[inline]
pub(crate) fn topic_gone(epoch: u64) {
    event_in_drop!(DEBUG, topic = %Hex(epoch), "topic gone");
    unseen(epoch);
}

/// A topic is closed by itself.
#[cold]
pub(crate) fn topic_closed(epoch: u64) {
    event!(DEBUG, topic = %Hex(epoch), "topic closed");
    unseen(epoch);
}

/// The hub is closed, which had so many subscribers.
#[cold]
pub(crate) fn hub_closed(subscribers: u64) {
    event_in_drop!(INFO, subscribers, "hub closed");
    unseen(subscribers);
}

/// Tells the recorder of `metrics` what a hub has counted.
#[cfg(feature = "metrics")]
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub(crate) fn record(stats: &HubStats, hub: Option<&str>) {
    use metrics::{Label, counter, gauge};
    let labels = |reason: Option<&'static str>| {
        let hub = hub.map(|hub| Label::new("hub", hub.to_owned()));
        let reason = reason.map(|reason| Label::from_static_parts("reason", reason));
        hub.into_iter().chain(reason).collect::<Vec<_>>()
    };
    gauge!("fanfare_topics", labels(None)).set(stats.topics as f64);
    gauge!("fanfare_subscribers", labels(None)).set(stats.subscribers as f64);
    if let Some(used) = stats.memory_used {
        gauge!("fanfare_memory_used_bytes", labels(None)).set(used as f64);
    }
    for (name, value) in [
        ("fanfare_published_events_total", stats.published),
        ("fanfare_published_bytes_total", stats.published_bytes),
        ("fanfare_subscribed_total", stats.subscribed),
        ("fanfare_lag_notices_total", stats.lag_notices),
        ("fanfare_missed_events_total", stats.missed),
    ] {
        counter!(name, labels(None)).absolute(value);
    }
    for (reason, value) in [
        ("lagged", stats.lagged),
        ("evicted", stats.evicted),
        ("topic_closed", stats.topic_closed),
        ("replaced", stats.replaced),
        ("unregistered", stats.unregistered),
        ("requested", stats.requested),
        ("drained", stats.drained),
        ("aged", stats.aged),
    ] {
        counter!("fanfare_ended_total", labels(Some(reason))).absolute(value);
    }
}
