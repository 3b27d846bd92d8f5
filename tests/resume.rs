//! `subscribe_from`: continuing after an id without gap or duplicate, or with a gap that is told.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Got, WAYS, Way, block_on, event, events, eventually, lag};
use fanfare::{Event, EventId, Hub, HubBuilder, Item, LagPolicy, LastEventId, Resumed};

fn publish(hub: &Hub, key: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let _ = hub.publish(key, Event::text(&number.to_string())).unwrap();
    }
}

fn with_history() -> HubBuilder {
    Hub::builder().history(true)
}

/// The id of the event at `offset` in the present life of the topic.
fn id_at(hub: &Hub, key: &str, offset: u64) -> EventId {
    EventId::new(hub.topic(key).unwrap().position().epoch(), offset)
}

#[test]
fn continues_without_gap_or_duplicate() {
    for way in WAYS {
        let hub = with_history().build().unwrap();
        publish(&hub, "a", 1..=200);
        for after in [0, 1, 2, 99, 199, 200] {
            let id = id_at(&hub, "a", after);
            let mut subscription = hub.subscribe_from("a", id).unwrap();
            assert_eq!(subscription.position(), id);
            let got = way.read(&mut subscription);
            assert_eq!(got, events(after + 1..=200), "{way:?} after {after}");
        }
    }
}

#[test]
fn replay_then_live() {
    for way in WAYS {
        let hub = with_history().build().unwrap();
        publish(&hub, "a", 1..=10);
        let id = id_at(&hub, "a", 4);
        let mut subscription = hub.subscribe_from("a", id).unwrap();
        publish(&hub, "a", 11..=20);
        assert_eq!(way.read(&mut subscription), events(5..=20));
        publish(&hub, "a", 21..=30);
        assert_eq!(way.read(&mut subscription), events(21..=30));
    }
}

#[test]
fn a_gap_is_told_with_the_exact_number() {
    for way in WAYS {
        let hub = with_history().retain_events(1).build().unwrap();
        publish(&hub, "a", 1..=200);
        let id = id_at(&hub, "a", 30);
        let mut subscription = hub.subscribe_from("a", id).unwrap();
        let got = way.read(&mut subscription);
        let Some((Got::Lag(Some(missed)), rest)) = got.split_first() else {
            panic!("{way:?}: {got:?}");
        };
        assert!((106..=169).contains(missed), "{missed}");
        assert_eq!(rest, events(30 + missed + 1..=200), "{way:?}");
    }
}

#[test]
fn an_id_of_another_life_is_an_unknown_gap_and_then_all_that_is_there() {
    for way in WAYS {
        let hub = with_history().build().unwrap();
        publish(&hub, "a", 1..=10);
        let here = id_at(&hub, "a", 5);
        for offset in [0, 5, 10, u64::MAX] {
            let other = EventId::new(here.epoch() ^ 1, offset);
            let mut subscription = hub.subscribe_from("a", other).unwrap();
            let mut expected = vec![Got::Lag(None)];
            expected.extend(events(1..=10));
            assert_eq!(way.read(&mut subscription), expected, "{way:?}");
        }
        // Nothing there yet: the notice comes all the same.
        let other = EventId::new(here.epoch(), 5);
        let mut subscription = hub.subscribe_from("b", other).unwrap();
        assert_eq!(way.read(&mut subscription), [Got::Lag(None)], "{way:?}");
        publish(&hub, "b", [1]);
        assert_eq!(way.read(&mut subscription), events([1]), "{way:?}");
    }
}

#[test]
fn an_id_of_the_future_is_an_unknown_gap_and_then_what_comes() {
    for way in WAYS {
        let hub = with_history().build().unwrap();
        publish(&hub, "a", 1..=10);
        for offset in [11, 1000, u64::MAX] {
            let id = id_at(&hub, "a", offset);
            let mut subscription = hub.subscribe_from("a", id).unwrap();
            assert_eq!(way.read(&mut subscription), [Got::Lag(None)], "{way:?}");
        }
        let id = id_at(&hub, "a", 1000);
        let mut subscription = hub.subscribe_from("a", id).unwrap();
        publish(&hub, "a", [11]);
        let got = way.read(&mut subscription);
        assert_eq!(got, [Got::Lag(None), event(11)], "{way:?}");
    }
}

#[test]
fn an_unknown_gap_names_the_id_before_the_next_event() {
    let hub = with_history().retain_events(1).build().unwrap();
    publish(&hub, "a", 1..=200);
    let other = EventId::new(id_at(&hub, "a", 0).epoch() ^ 1, 5);
    let mut subscription = hub.subscribe_from("a", other).unwrap();
    // What is evicted before the first look is part of the unknown.
    publish(&hub, "a", 201..=400);
    let lag = lag(subscription.try_recv());
    assert_eq!(lag.missed(), None);
    let Ok(Item::Frame(next)) = subscription.try_recv() else {
        panic!("no frame");
    };
    assert_eq!(
        next.id().unwrap().offset(),
        lag.resumed_after().offset() + 1
    );
    assert!(lag.resumed_after().offset() > 300);
}

#[test]
fn the_policies_hold_for_what_was_missed_before() {
    for way in WAYS {
        let hub = with_history().retain_events(1).build().unwrap();
        publish(&hub, "a", 1..=200);
        let old = id_at(&hub, "a", 30);
        let unknown = EventId::new(old.epoch() ^ 1, 30);
        let read = |id, policy| {
            let subscription = hub.subscribe_from("a", id).unwrap();
            way.read(&mut subscription.lag_policy(policy))
        };
        let got = read(old, LagPolicy::Disconnect);
        assert!(
            matches!(got[..], [Got::Lag(Some(_)), Got::End]),
            "{way:?}: {got:?}"
        );
        let got = read(unknown, LagPolicy::Disconnect);
        assert_eq!(got, [Got::Lag(None), Got::End], "{way:?}");
        let got = read(old, LagPolicy::SkipToLatest);
        assert_eq!(got, [Got::Lag(Some(169)), event(200)], "{way:?}");
        let got = read(unknown, LagPolicy::SkipToLatest);
        assert_eq!(got, [Got::Lag(None), event(200)], "{way:?}");
    }
}

#[test]
fn without_history_a_topic_goes_with_its_last_user() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&hub, "a", 1..=10);
    let id = EventId::new(subscription.position().epoch(), 5);
    assert_eq!(Way::Recv.read(&mut subscription), events(1..=10));
    drop(subscription);
    assert_eq!(hub.topics(), 0);
    let mut subscription = hub.subscribe_from("a", id).unwrap();
    assert_ne!(subscription.position().epoch(), id.epoch());
    publish(&hub, "a", [1]);
    let got = Way::Recv.read(&mut subscription);
    assert_eq!(got, [Got::Lag(None), event(1)]);
}

#[test]
fn without_history_what_others_still_need_is_there_to_continue_with() {
    for way in WAYS {
        let hub = Hub::new();
        let stalled = hub.subscribe("a").unwrap();
        publish(&hub, "a", 1..=100);
        let id = EventId::new(stalled.position().epoch(), 40);
        let mut subscription = hub.subscribe_from("a", id).unwrap();
        assert_eq!(way.read(&mut subscription), events(41..=100), "{way:?}");
    }
}

#[test]
fn with_history_a_topic_stays_without_subscribers() {
    let hub = with_history().build().unwrap();
    let published = hub.publish("a", Event::text("1")).unwrap();
    assert_eq!(published.subscribers(), 0);
    assert_eq!(published.id().map(EventId::offset), Some(1));
    assert_eq!(hub.topics(), 1);
    drop(hub.subscribe("a").unwrap());
    drop(hub.topic("a").unwrap());
    assert_eq!(hub.topics(), 1);
    let sent = hub.publish_many(["a", "b"], Event::text("2")).unwrap();
    assert_eq!((sent.topics(), sent.subscribers()), (2, 0));
    let mut subscription = hub.subscribe_from("a", id_at(&hub, "a", 0)).unwrap();
    assert_eq!(Way::Recv.read(&mut subscription), events(1..=2));
    // Nothing was ever published to it: nothing to keep.
    drop(hub.subscribe("c").unwrap());
    assert_eq!(hub.topics(), 2);
    hub.close();
    drop(subscription);
    assert_eq!(hub.topics(), 0);
}

#[test]
fn with_history_an_aged_topic_goes_and_comes_back_as_another() {
    let hub = with_history()
        .retain_age(Duration::from_millis(20))
        .idle_after(Duration::from_millis(10))
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let first = hub.publish("a", Event::text("1")).unwrap().id().unwrap();
    eventually("the topic to go", || hub.topics() == 0);
    let again = hub.publish("a", Event::text("1")).unwrap().id().unwrap();
    assert_ne!(first.epoch(), again.epoch());
    assert_eq!(again.offset(), 1);
    let mut subscription = hub.subscribe_from("a", first).unwrap();
    assert_eq!(lag(subscription.try_recv()).missed(), None);
}

#[test]
fn with_history_aged_events_are_an_exact_gap() {
    let hub = with_history()
        .retain_age(Duration::from_millis(20))
        .idle_after(Duration::from_millis(10))
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let topic = hub.topic("a").unwrap();
    publish(&hub, "a", 1..=10);
    let id = EventId::new(topic.position().epoch(), 3);
    eventually("the events to age", || topic.retained_events() == 0);
    assert_eq!(topic.retained_bytes(), 0);
    let mut subscription = hub.subscribe_from("a", id).unwrap();
    publish(&hub, "a", [11]);
    let got = Way::Recv.read(&mut subscription);
    assert_eq!(got, [Got::Lag(Some(7)), event(11)]);
}

/// What a client sends is taken as it is: nothing, an id, or what is none, which nobody can continue after.
#[test]
fn the_last_event_id_of_a_client_says_how_it_goes_on() {
    let hub = with_history().retain_events(64).build().unwrap();
    publish(&hub, "a", 1..=10);
    let begun = |last: LastEventId| hub.subscribe_from("a", last).unwrap();
    let sent = |text: &str| LastEventId::parse(text.as_bytes());

    assert_eq!(begun(sent("")).resumed(), Resumed::Continued);
    assert!(!sent("").is_given());
    assert!(begun(sent("")).try_recv().is_err());

    let third = id_at(&hub, "a", 3);
    assert_eq!(sent(&third.to_string()).id(), Some(third));
    assert_eq!(
        begun(sent(&third.to_string())).resumed(),
        Resumed::Continued
    );

    let too_long = "a".repeat(LastEventId::MAX_LEN + 1);
    let strange = [
        "4711",
        "\u{fffd}",
        "00c0ffee00c0ffee-1",
        "00c0ffee00c0ffee-01",
        &too_long,
    ];
    for strange in strange {
        let mut subscription = begun(sent(strange));
        assert_eq!(subscription.resumed(), Resumed::Unknown, "{strange}");
        let Ok(Item::Lagged(lag)) = subscription.try_recv() else {
            panic!("the gap is told");
        };
        assert_eq!(lag.missed(), None);
        assert_eq!(subscription.resumed(), Resumed::Continued);
    }
    assert_eq!(
        begun(LastEventId::parse(&[0xff, 0])).resumed(),
        Resumed::Unknown
    );

    publish(&hub, "a", 11..=300);
    let mut behind = begun(LastEventId::from(third));
    let Resumed::Gap { missed } = behind.resumed() else {
        panic!("a gap");
    };
    let Ok(Item::Lagged(lag)) = behind.try_recv() else {
        panic!("the gap is told");
    };
    assert_eq!(lag.missed(), Some(missed));
}

#[test]
fn lives_of_a_topic_never_share_an_epoch() {
    let hub = Hub::new();
    let mut epochs: Vec<_> = (0..100)
        .map(|_| hub.subscribe("a").unwrap().position().epoch())
        .collect();
    let other = Hub::new();
    epochs.extend((0..100).map(|_| other.subscribe("a").unwrap().position().epoch()));
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 200);
}

#[test]
fn the_position_of_a_handle_is_where_to_continue() {
    let hub = with_history().build().unwrap();
    let topic = hub.topic("a").unwrap();
    let start = topic.position();
    publish(&hub, "a", 1..=5);
    let mut all = hub.subscribe_from("a", start).unwrap();
    let mut rest = hub.subscribe_from("a", topic.position()).unwrap();
    publish(&hub, "a", [6]);
    assert_eq!(Way::Recv.read(&mut all), events(1..=6));
    assert_eq!(Way::Recv.read(&mut rest), events([6]));
}

/// Clients lose their connection all the time, while publishers on other threads go on: each sees every event once.
#[test]
fn reconnecting_under_load_leaves_no_gap_and_no_duplicate() {
    const PUBLISHERS: u64 = 2;
    const EVENTS: u64 = 5_000;
    let hub = with_history()
        .retain_events((PUBLISHERS * EVENTS) as usize)
        .retain_bytes(1 << 30)
        .build()
        .unwrap();
    let topic = hub.topic("a").unwrap();
    let start = topic.position();
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let hub = &hub;
            scope.spawn(move || publish(hub, "a", (0..EVENTS).map(|n| n * PUBLISHERS + publisher)));
        }
        for reader in 0..3_u64 {
            let (hub, failed) = (&hub, &failed);
            scope.spawn(move || {
                let mut last = start;
                let mut seen = vec![false; (PUBLISHERS * EVENTS) as usize];
                let mut connections = 0;
                while last.offset() < PUBLISHERS * EVENTS && !failed.load(Ordering::Relaxed) {
                    let mut subscription = hub.subscribe_from("a", last).unwrap();
                    connections += 1;
                    // Now a short connection, now a long one.
                    for _ in 0..=(connections * 7 + reader) % 200 {
                        let Some(Item::Frame(frame)) = block_on(subscription.recv()) else {
                            failed.store(true, Ordering::Relaxed);
                            panic!("lag or end after {last}");
                        };
                        let id = frame.id().unwrap();
                        assert_eq!(id, EventId::new(last.epoch(), last.offset() + 1));
                        let number: usize = frame.data().parse().unwrap();
                        assert!(!std::mem::replace(&mut seen[number], true));
                        last = id;
                        if last.offset() == PUBLISHERS * EVENTS {
                            break;
                        }
                    }
                }
                assert!(seen.into_iter().all(|seen| seen));
            });
        }
    });
}
