//! What the hub tells `tracing` and `metrics`: the right lines at the right levels, none for a delivery, no payloads.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "in a test a panic is the report, and locks are std's"
)]

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare::{Event, Hub, LagPolicy};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata};

/// Keeps the lines of the hub, down to a level.
#[derive(Clone)]
struct Lines(Level, Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.1.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.0, " {value:?}").unwrap(),
            // Another one in each run.
            "topic" => write!(self.0, " topic=_").unwrap(),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "fanfare" && *metadata.level() <= self.0
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.1.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// `tracing` notes for each place in the code who wants to hear of it, and works that out anew when a subscriber comes or
/// goes: one that does so in another thread at the same time may miss a line.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn logged(level: Level, f: impl FnOnce(&Lines)) {
    let _alone = alone();
    let lines = Lines(level, Arc::default());
    tracing::subscriber::with_default(lines.clone(), || f(&lines));
}

const SECRET: &str = "a payload that no line may show";

#[test]
fn lines_of_a_life() {
    logged(Level::DEBUG, |lines| {
        let hub = Hub::builder()
            .history(true)
            .retain_events(1)
            .max_connections(2)
            .build()
            .unwrap();
        let mut strict = hub
            .subscribe("a")
            .unwrap()
            .lag_policy(LagPolicy::Disconnect);
        let mut mild = hub.subscribe("a").unwrap();
        assert_eq!(
            lines.take(),
            [
                "DEBUG topic made topic=_",
                "DEBUG subscribed topic=_ offset=1",
                "DEBUG subscribed topic=_ offset=1",
            ]
        );
        assert!(hub.subscribe("a").is_err());
        assert_eq!(
            lines.take(),
            ["DEBUG refused what=\"max_connections\" limit=2 value=2"]
        );
        for _ in 0..1000 {
            let _ = hub.publish("a", Event::text(SECRET)).unwrap();
        }
        assert!(lines.take().is_empty(), "no line for a publish");
        while strict.try_recv().is_ok() {}
        let told = lines.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("WARN ended by lag topic=_ missed="),
            "{told:?}"
        );
        while mild.try_recv().is_ok() {}
        let told = lines.take();
        assert_eq!(told.len(), 1, "none for a delivery: {told:?}");
        assert!(
            told[0].starts_with("DEBUG lagged topic=_ missed="),
            "{told:?}"
        );
        drop(strict);
        drop(mild);
        assert_eq!(
            lines.take(),
            [
                "DEBUG left topic=_ offset=1 reason=\"this connection fell too far behind\""
                    .to_owned(),
                "DEBUG left topic=_ offset=1001".to_owned(),
            ]
            .map(|line| line.replace("offset=1 ", &told_offset(&told)))
        );
        hub.close();
        assert_eq!(
            lines.take(),
            ["INFO hub closed subscribers=0", "DEBUG topic gone topic=_"]
        );
    });
}

/// Where the lag notice stood: the reader that it ended stays there.
fn told_offset(told: &[String]) -> String {
    let after = told[0].split("after=").nth(1).unwrap();
    format!("offset={} ", after.parse::<u64>().unwrap() + 1)
}

#[test]
fn a_publish_is_a_line_of_the_finest_level_and_shows_no_payload() {
    logged(Level::TRACE, |lines| {
        let hub = Hub::new();
        let subscription = hub.subscribe("a").unwrap();
        lines.take();
        let bytes = hub.publish("a", Event::text(SECRET)).unwrap().bytes();
        let topic = hub.topic("a").unwrap();
        let _ = topic.publish(Event::text(SECRET)).unwrap();
        let _ = hub.publish("nobody", Event::text(SECRET)).unwrap();
        let line = |offset| {
            format!("TRACE published topic=_ offset={offset} bytes={bytes} subscribers=1 lagging=0")
        };
        let nobody = format!("TRACE published bytes={bytes} subscribers=0 lagging=0");
        assert_eq!(lines.take(), [line(1), line(2), nobody]);
        drop(subscription);
    });
}

#[test]
fn an_eviction_is_a_warning() {
    logged(Level::WARN, |lines| {
        let after = Duration::from_secs(10);
        let hub = Hub::builder()
            .clock_by_hand()
            .evict_after(after)
            .build()
            .unwrap();
        let still = hub.subscribe("a").unwrap().label("10.0.0.1");
        while hub.stats().evicted == 0 {
            let _ = hub.publish("a", Event::text(SECRET)).unwrap();
            hub.go_on(1);
        }
        let told = lines.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("WARN evicted topic=_ offset=1 behind="),
            "{told:?}"
        );
        assert!(told[0].ends_with(" label=\"10.0.0.1\""), "{told:?}");
        drop(still);
    });
}

#[test]
fn numbers_are_recorded_when_they_are_asked_for() {
    let _alone = alone();
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let hub = Hub::builder()
            .history(true)
            .retain_events(1)
            .max_event_bytes(8)
            .build()
            .unwrap();
        let mut behind = hub.subscribe("a").unwrap();
        for _ in 0..200 {
            let _ = hub.publish("a", Event::text("event")).unwrap();
        }
        assert_eq!(exporter.render(), "", "nothing on the way of a publish");
        while behind.try_recv().is_ok() {}
        assert!(hub.publish("a", Event::text("too large")).is_err());
        hub.record_metrics_as("one");
        let page = exporter.render();
        let missed = hub.stats().missed;
        for line in [
            "fanfare_published_events_total{hub=\"one\"} 200".to_owned(),
            "fanfare_subscribers{hub=\"one\"} 1".to_owned(),
            "fanfare_lag_notices_total{hub=\"one\"} 1".to_owned(),
            format!("fanfare_missed_events_total{{hub=\"one\"}} {missed}"),
            "fanfare_ended_total{hub=\"one\",reason=\"lagged\"} 0".to_owned(),
            "fanfare_refused_total{what=\"event\"} 1".to_owned(),
            format!("fanfare_lag_missed_events_sum {missed}"),
        ] {
            assert!(page.lines().any(|it| it == line), "{line} not in\n{page}");
        }
    });
}
