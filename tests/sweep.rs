//! What the hub's clock looks at: what expires, and not what waits for that. The clock goes by hand.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use fanfare::{Event, Hub, HubBuilder, Item};

const TOPICS: u64 = 500;

fn history() -> HubBuilder {
    Hub::builder()
        .history(true)
        .clock_by_hand()
        .retain_age(Duration::from_secs(600))
        .idle_after(Duration::from_secs(1))
}

fn publish(hub: &Hub, topics: impl Iterator<Item = u64>) {
    for topic in topics {
        let _ = hub
            .publish(topic.to_string().as_str(), Event::text("kept"))
            .unwrap();
    }
}

fn ticks(hub: &Hub, time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / hub.tick().as_nanos()).unwrap()
}

/// Topics that nobody reads keep their history for its age, and are looked at a bounded number of times on the way.
#[test]
fn the_sweep_costs_what_expires() {
    let hub = history().build().unwrap();
    publish(&hub, 0..TOPICS);
    let minute = ticks(&hub, Duration::from_secs(60));
    let mut visits = hub.go_on(9 * minute);
    assert_eq!(hub.topics() as u64, TOPICS, "younger than their age");
    visits += hub.go_on(2 * minute);
    assert_eq!(hub.topics(), 0);
    assert!(visits <= 4 * TOPICS, "{visits} visits of {TOPICS} topics");
    assert_eq!(hub.go_on(10 * minute), 0, "nothing is left to look at");
}

/// What is published meanwhile puts it off.
#[test]
fn a_topic_goes_when_its_last_event_is_old() {
    let hub = history().build().unwrap();
    publish(&hub, 0..2);
    let minute = ticks(&hub, Duration::from_secs(60));
    hub.go_on(6 * minute);
    publish(&hub, 1..2);
    hub.go_on(6 * minute);
    assert_eq!(hub.keys(), ["1"]);
    let first = hub.topic("1").unwrap();
    assert_eq!(first.retained_events(), 1, "the other is too old");
    drop(first);
    hub.go_on(6 * minute);
    assert_eq!(hub.topics(), 0);
}

/// A subscriber that wants signs of life has the topic visited again.
#[test]
fn heartbeats_come_to_a_topic_that_was_left_alone() {
    let hub = history()
        .heartbeat(Duration::from_secs(15))
        .build()
        .unwrap();
    publish(&hub, 0..1);
    let second = ticks(&hub, Duration::from_secs(1));
    hub.go_on(20 * second);
    let mut subscription = hub.subscribe("0").unwrap();
    subscription.set_heartbeats(true);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(subscription.poll_ready(&mut cx).is_pending());
    hub.go_on(16 * second);
    let ready = subscription.poll_ready(&mut cx);
    assert_eq!(ready, std::task::Poll::Ready(fanfare::Readiness::Heartbeat));
    publish(&hub, 0..1);
    assert!(matches!(subscription.try_recv(), Ok(Item::Frame(_))));
}

/// The log of an idle topic goes as before.
#[test]
fn an_idle_topic_gives_its_log_back() {
    let hub = Hub::builder()
        .clock_by_hand()
        .idle_after(Duration::from_secs(10))
        .build()
        .unwrap();
    let mut subscription = hub.subscribe("0").unwrap();
    let topic = hub.topic("0").unwrap();
    publish(&hub, 0..1);
    let second = ticks(&hub, Duration::from_secs(1));
    hub.go_on(30 * second);
    assert_eq!(topic.retained_events(), 1, "it was not read");
    assert!(matches!(subscription.try_recv(), Ok(Item::Frame(_))));
    assert!(subscription.try_recv().is_err());
    hub.go_on(15 * second);
    assert_eq!(topic.retained_events(), 0);
    assert!(hub.go_on(60 * second) <= 1, "it is left alone");
}

/// An event that is alone in its segment gets old by itself, however full the segments before it were when the clock
/// last came.
#[test]
fn no_event_stays_for_longer_than_its_age_and_an_eighth() {
    let hub = history()
        .retain_age(Duration::from_secs(100))
        .build()
        .unwrap();
    let topic = hub.topic("0").unwrap();
    let second = ticks(&hub, Duration::from_secs(1));
    // Segments of 1, 2 and 4, all full.
    publish(&hub, std::iter::repeat_n(0, 7));
    hub.go_on(8 * second);
    publish(&hub, 0..1);
    hub.go_on(87 * second);
    publish(&hub, 0..1);
    hub.go_on(28 * second);
    assert_eq!(topic.retained_events(), 1, "the eighth is 115 s old");
    hub.go_on(85 * second);
    assert_eq!(topic.retained_events(), 0);
}
