//! What operators see: numbers that are exact when nothing goes on, who is behind and why, whether the hub works.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "in a test a panic is the report, and locks are std's"
)]

mod common;

use std::task::Context;
use std::time::Duration;

use common::{Wakes, eventually};
use fanfare::{
    EncodeError, EndReason, Event, Holding, Hub, HubBuilder, Item, LagPolicy, Problem,
    PublishError, Subscription,
};

fn drain(subscription: &mut Subscription) -> (u64, u64) {
    let (mut frames, mut missed) = (0, 0);
    while let Ok(item) = subscription.try_recv() {
        match item {
            Item::Frame(_) => frames += 1,
            Item::Lagged(lag) => missed += lag.missed().unwrap(),
            _ => {}
        }
    }
    (frames, missed)
}

fn park(subscription: &mut Subscription) {
    let (_, waker) = Wakes::new();
    assert!(
        subscription
            .poll_recv(&mut Context::from_waker(&waker))
            .is_pending()
    );
}

fn publish(hub: &Hub, key: &str, events: usize) {
    for _ in 0..events {
        let _ = hub.publish(key, Event::text("on and on")).unwrap();
    }
}

/// The clock goes by hand, and keeps a hundred events.
fn small() -> HubBuilder {
    Hub::builder()
        .clock_by_hand()
        .history(true)
        .retain_events(100)
}

#[test]
fn the_sums_are_exact() {
    let hub = small().build().unwrap();
    let mut slow = hub.subscribe("a").unwrap();
    let mut strict = hub
        .subscribe("a")
        .unwrap()
        .lag_policy(LagPolicy::Disconnect);
    let mut bytes = 0;
    for number in 0..1000 {
        let published = hub.publish("a", Event::json(&number)).unwrap();
        bytes += published.bytes() as u64;
    }
    let (read, missed) = drain(&mut slow);
    assert_eq!(read + missed, 1000);
    assert!(missed > 0);
    let (none, all) = drain(&mut strict);
    assert_eq!((none, strict.end_reason()), (0, Some(EndReason::Lagged)));
    let stats = hub.stats();
    assert_eq!((stats.published, stats.published_bytes), (1000, bytes));
    assert_eq!((stats.lag_notices, stats.missed), (2, missed + all));
    assert_eq!(
        (stats.subscribed, stats.subscribers, stats.lagged),
        (2, 2, 0)
    );

    let mut requested = hub.subscribe("b").unwrap();
    assert!(requested.end_handle().end(EndReason::Requested));
    assert!(requested.try_recv().is_err());
    let mut closed = hub.subscribe("b").unwrap();
    hub.topic("b").unwrap().close();
    assert!(closed.try_recv().is_err());
    drop((slow, strict, requested, closed));
    let stats = hub.stats();
    assert_eq!(
        (stats.subscribed, stats.subscribers, stats.lagged),
        (4, 0, 1)
    );
    assert_eq!((stats.requested, stats.topic_closed), (1, 1));
    assert_eq!(
        (stats.replaced, stats.unregistered, stats.evicted),
        (0, 0, 0)
    );
}

/// What a refused subscription was on its way to is not counted.
#[test]
fn a_refused_subscription_is_none() {
    let hub = Hub::builder().max_connections(1).build().unwrap();
    let one = hub.subscribe("a").unwrap();
    assert!(hub.subscribe("a").is_err());
    assert_eq!(hub.stats().subscribed, 1);
    drop(one);
}

#[test]
fn a_topic_tells_how_its_readers_stand() {
    let hub = small().build().unwrap();
    assert_eq!(hub.topic_stats("a"), None);
    let behind = hub.subscribe("a").unwrap();
    let mut prompt = hub.subscribe("a").unwrap();
    publish(&hub, "a", 1000);
    drain(&mut prompt);
    park(&mut prompt);
    let stats = hub.topic_stats("a").unwrap();
    assert_eq!((stats.subscribers, stats.parked, stats.lagging), (2, 1, 1));
    assert_eq!(stats.next, 1001);
    assert_eq!(stats.retained_events, stats.next - stats.first_retained);
    assert!((100..164).contains(&stats.retained_events), "{stats:?}");
    assert!(stats.retained_bytes > 0 && !stats.closed);
    assert_eq!(stats.quiet_for, Duration::ZERO);
    hub.go_on(10);
    assert_eq!(
        hub.topic_stats("a").unwrap().quiet_for,
        hub.tick() * 10,
        "time goes by"
    );
    drop(behind);
}

/// A publish tells of readers that lag from the clock's next visit on, until the one after they have caught up.
#[test]
fn a_publisher_learns_who_lags() {
    let hub = small().heartbeat(Duration::from_secs(6)).build().unwrap();
    let mut behind = hub.subscribe("a").unwrap();
    behind.set_heartbeats(true);
    let mut prompt = hub.subscribe("a").unwrap();
    publish(&hub, "a", 1000);
    drain(&mut prompt);
    let before = hub.publish("a", Event::text("before")).unwrap();
    assert_eq!((before.subscribers(), before.lagging()), (2, 0));
    let round = 20;
    hub.go_on(round);
    let after = hub.publish("a", Event::text("after")).unwrap();
    assert_eq!((after.subscribers(), after.lagging()), (2, 1));
    let many = hub.publish_many(["a", "b"], Event::text("many")).unwrap();
    assert_eq!(many.lagging(), 1);
    drain(&mut behind);
    hub.go_on(round);
    assert_eq!(hub.publish("a", Event::text("more")).unwrap().lagging(), 0);
}

#[test]
fn nobody_and_an_error_are_told_apart() {
    let hub = Hub::builder().max_event_bytes(64).build().unwrap();
    // Nobody: Ok, with no id, and the size that it would have had.
    let nobody = hub.publish("a", Event::text("hello")).unwrap();
    assert_eq!((nobody.subscribers(), nobody.id()), (0, None));
    assert_eq!(nobody.lagging(), 0);
    assert!(nobody.bytes() > 0);
    // An error: the same with and without somebody.
    let large = "x".repeat(100);
    let refused = |hub: &Hub| {
        let error = hub.publish("a", Event::text(&large)).unwrap_err();
        matches!(
            error,
            PublishError::Encode(EncodeError::TooLarge { limit: 64, .. })
        )
    };
    assert!(refused(&hub));
    let subscription = hub.subscribe("a").unwrap();
    assert!(refused(&hub));
    assert_eq!(hub.stats().published, 0);
    drop(subscription);
}

#[test]
fn the_last_ones_are_told_in_order_and_why() {
    let hub = small().build().unwrap();
    assert!(hub.most_behind(3).is_empty());
    let gone = hub.subscribe("a").unwrap().label("10.0.0.1");
    publish(&hub, "a", 1000);
    let near = hub.subscribe("a").unwrap();
    publish(&hub, "a", 30);
    let other = hub.subscribe("b").unwrap().label("10.0.0.2");
    publish(&hub, "b", 40);
    let mut prompt = hub.subscribe("b").unwrap();
    drain(&mut prompt);

    let found = hub.most_behind(10);
    let told: Vec<_> = found
        .iter()
        .map(|it| (it.key().as_str(), it.label(), it.events(), it.missed() > 0))
        .collect();
    assert_eq!(
        told,
        [
            ("a", Some("10.0.0.1"), 1030, true),
            ("b", Some("10.0.0.2"), 40, false),
            ("a", None, 30, false),
        ]
    );
    assert_eq!(found[0].position().offset(), 0);
    assert!(
        found
            .iter()
            .all(|it| !it.is_parked() && it.holding().is_none())
    );
    assert!(
        found[0]
            .to_string()
            .starts_with("\"a\" (10.0.0.1): 1030 events behind")
    );
    assert_eq!(hub.most_behind(1), found[..1]);
    assert!(hub.most_behind(0).is_empty());
    assert!(hub.most_holding(10).is_empty(), "history is for everybody");
    drop((gone, near, other, prompt));
}

#[test]
fn who_holds_back_memory_is_told_with_the_reason() {
    let hub = Hub::builder()
        .clock_by_hand()
        .idle_after(Duration::from_secs(10))
        .build()
        .unwrap();
    let mut small = hub.subscribe("small").unwrap();
    let mut prompt = hub.subscribe("small").unwrap();
    publish(&hub, "small", 30);
    drain(&mut prompt);
    let held = hub.most_holding(10);
    assert_eq!(held.len(), 1, "the one that has not read: {held:?}");
    let bytes = hub.topic_stats("small").unwrap().retained_bytes;
    assert_eq!(held[0].key(), "small");
    assert_eq!(held[0].holding(), Some(Holding::SmallTopic { bytes }));
    drain(&mut small);
    assert!(hub.most_holding(10).is_empty());

    // Many: nobody holds anything back, until the topic is idle.
    let mut crowd: Vec<_> = (0..100).map(|_| hub.subscribe("large").unwrap()).collect();
    publish(&hub, "large", 10);
    for reader in &mut crowd[1..] {
        drain(reader);
    }
    assert!(hub.most_holding(10).is_empty());
    assert_eq!(hub.most_behind(10).len(), 1);
    let idle = 10_000 / u64::try_from(hub.tick().as_millis()).unwrap();
    hub.go_on(idle + 1);
    let held = hub.most_holding(10);
    assert!(matches!(held[0].holding(), Some(Holding::IdleTopic { bytes }) if bytes > 0));
    assert_eq!(held.len(), 1);
}

#[test]
fn a_hub_that_works_says_so() {
    let hub = Hub::builder()
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    assert!(hub.health().is_ok(), "nothing needs a clock yet");
    let mut subscription = hub.subscribe("a").unwrap();
    subscription.set_heartbeats(true);
    publish(&hub, "a", 10);
    assert!(hub.health().is_ok());
    assert_eq!(hub.health().to_string(), "ok");
    drain(&mut subscription);
    assert!(hub.health().is_ok());
    hub.close();
    assert_eq!(hub.health().problems(), [Problem::Closed]);
    assert_eq!(hub.health().to_string(), "the hub is closed");
}

/// A waker that does not return holds up the clock, which gives heartbeats.
#[test]
fn a_clock_that_stands_is_told() {
    use std::sync::{Arc, Condvar, Mutex};
    use std::task::Wake;

    #[derive(Default)]
    struct Blocks(Mutex<bool>, Condvar);

    impl Wake for Blocks {
        fn wake(self: Arc<Self>) {
            let go = self.0.lock().unwrap();
            drop(self.1.wait_while(go, |go| !*go).unwrap());
        }
    }

    let hub = Hub::builder()
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    subscription.set_heartbeats(true);
    let blocks = Arc::new(Blocks::default());
    let waker = Arc::clone(&blocks).into();
    assert!(
        subscription
            .poll_ready(&mut Context::from_waker(&waker))
            .is_pending()
    );
    eventually("the clock to stand", || {
        let health = hub.health();
        matches!(health.problems(), [Problem::ClockLate { by }] if *by > Duration::from_secs(1))
    });
    *blocks.0.lock().unwrap() = true;
    blocks.1.notify_all();
    eventually("the clock to go on", || hub.health().is_ok());
}
