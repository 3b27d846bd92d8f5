//! The engine as this server embeds it: one hub, its limits, and what the server counts beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanfare::{
    ConfigError, Event, Hub, LastEventId, Payload, PublishError, Published, SubscribeError,
    Subscription,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::engine::{Engine, EngineStats};

/// Largest body of a publish, in bytes, and so about the largest event.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;

/// Most topics that may exist at a time: anyone may name one, and each keeps a history.
pub(crate) const MAX_TOPICS: usize = 1024;

/// Most topics that one answer of `/stats` lists.
const MAX_LISTED_TOPICS: usize = 50;

/// Most readers that one answer of `/stats` lists, of those behind and of those given up.
const MAX_LISTED_READERS: usize = 5;

/// A publish stays readable for those who reconnect until one of these is exceeded, per topic.
const RETAIN_EVENTS: usize = 2048;
const RETAIN_BYTES: usize = 1024 * 1024;
const RETAIN_AGE: Duration = Duration::from_secs(5 * 60);

/// Events and deliveries per second over the last two seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Rates {
    pub(crate) published_per_s: f64,
    pub(crate) deliveries_per_s: f64,
}

/// What every request handler shares; a clone is two reference counts.
#[derive(Clone, Debug)]
pub(crate) struct App {
    hub: Hub,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Sum of `Published::subscribers` over all publishes.
    deliveries: AtomicU64,
    /// Written by the demo feed, twice a second.
    rates: watch::Receiver<Rates>,
    engine: Engine,
    started: Instant,
}

/// The answer of `GET /stats`.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    topics: usize,
    subscribers: usize,
    published: u64,
    deliveries: u64,
    rates: Rates,
    uptime_s: f64,
    /// What carries the streams.
    engine: EngineStats,
    /// Resident memory of this process; `null` where `/proc` does not tell.
    rss_bytes: Option<u64>,
    /// The topics with the most subscribers, at most 50.
    top: Vec<TopicStats>,
    seen: Seen,
}

/// What an operator looks at first.
#[derive(Debug, Serialize)]
struct Seen {
    /// What is wrong; empty if the hub works.
    problems: Vec<String>,
    published_bytes: u64,
    subscribed: u64,
    lag_notices: u64,
    missed: u64,
    lagged: u64,
    evicted: u64,
    /// The readers that are the most events behind, at most 5.
    behind: Vec<ReaderBehind>,
    /// The last connections that the hub gave up, the newest first, at most 5.
    evictions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ReaderBehind {
    topic: String,
    label: Option<String>,
    events: u64,
    missed: u64,
}

impl Seen {
    fn of(hub: &Hub) -> Self {
        let stats = hub.stats();
        let behind = hub.most_behind(MAX_LISTED_READERS);
        let evictions = hub.evictions();
        Self {
            problems: hub
                .health()
                .problems()
                .iter()
                .map(ToString::to_string)
                .collect(),
            published_bytes: stats.published_bytes,
            subscribed: stats.subscribed,
            lag_notices: stats.lag_notices,
            missed: stats.missed,
            lagged: stats.lagged,
            evicted: stats.evicted,
            behind: behind
                .into_iter()
                .map(|it| ReaderBehind {
                    topic: it.key().clone(),
                    label: it.label().map(str::to_owned),
                    events: it.events(),
                    missed: it.missed(),
                })
                .collect(),
            evictions: evictions
                .iter()
                .rev()
                .take(MAX_LISTED_READERS)
                .map(ToString::to_string)
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct TopicStats {
    topic: String,
    subscribers: usize,
}

/// Why a topic could not be used.
#[derive(Debug)]
pub(crate) enum Refused<E> {
    /// It would be one more than [`MAX_TOPICS`].
    TooManyTopics,
    Hub(E),
}

impl App {
    pub(crate) fn new(engine: Engine, rates: watch::Receiver<Rates>) -> Result<Self, ConfigError> {
        let hub = Hub::builder()
            // A browser that lost its connection comes back with Last-Event-ID: keep what it missed.
            .history(true)
            .retain_events(RETAIN_EVENTS)
            .retain_bytes(RETAIN_BYTES)
            .retain_age(RETAIN_AGE)
            .max_event_bytes(MAX_BODY_BYTES)
            .build()?;
        let shared = Shared {
            deliveries: AtomicU64::new(0),
            rates,
            engine,
            started: Instant::now(),
        };
        Ok(Self {
            hub,
            shared: Arc::new(shared),
        })
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn publish<P: Payload>(
        &self,
        topic: &str,
        event: Event<'_, P>,
    ) -> Result<Published, Refused<PublishError>> {
        self.admit(topic)?;
        let published = self.hub.publish(topic, event).map_err(Refused::Hub)?;
        let subscribers = u64::try_from(published.subscribers()).unwrap_or(u64::MAX);
        // Relaxed: a statistic, read by itself.
        self.shared
            .deliveries
            .fetch_add(subscribers, Ordering::Relaxed);
        Ok(published)
    }

    /// Subscribes from now, or from just after what the client has.
    pub(crate) fn subscribe(
        &self,
        topic: &str,
        last: LastEventId,
    ) -> Result<Subscription, Refused<SubscribeError>> {
        self.admit(topic)?;
        self.hub.subscribe_from(topic, last).map_err(Refused::Hub)
    }

    /// Refuses a new topic once there are [`MAX_TOPICS`]. Requests that race may pass it by one each, which is fine.
    fn admit<E>(&self, topic: &str) -> Result<(), Refused<E>> {
        let full = self.hub.topics() >= MAX_TOPICS;
        if full && !self.hub.keys().iter().any(|key| key == topic) {
            return Err(Refused::TooManyTopics);
        }
        Ok(())
    }

    /// Events and deliveries since the start.
    pub(crate) fn totals(&self) -> (u64, u64) {
        // Relaxed: a statistic, read by itself.
        (
            self.hub.stats().published,
            self.shared.deliveries.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn stats(&self) -> Stats {
        let (published, deliveries) = self.totals();
        let mut top: Vec<TopicStats> = self
            .hub
            .keys()
            .into_iter()
            .map(|topic| TopicStats {
                subscribers: self.hub.subscribers_of(topic.as_str()),
                topic,
            })
            .collect();
        top.sort_unstable_by(|a, b| {
            b.subscribers
                .cmp(&a.subscribers)
                .then_with(|| a.topic.cmp(&b.topic))
        });
        top.truncate(MAX_LISTED_TOPICS);
        Stats {
            topics: self.hub.topics(),
            subscribers: self.hub.subscribers(),
            published,
            deliveries,
            rates: *self.shared.rates.borrow(),
            uptime_s: (self.shared.started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            engine: self.shared.engine.stats(),
            rss_bytes: crate::machine::resident_bytes(),
            top,
            seen: Seen::of(&self.hub),
        }
    }
}
