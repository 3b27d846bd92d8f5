//! What is published arrives: in order, once, or as lag with an exact count; by every way of reading.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::sync::{Arc, Barrier};
use std::task::{Context, Poll};
use std::thread;

use common::{BOUND, Got, WAYS, Wakes, block_on, event, events, frame, lag};
use fanfare::{Event, EventId, Hub, LagPolicy, PublishError, SubscribeError, TryRecvError};
use futures_util::FutureExt as _;

/// Publishes the numbers as texts.
fn publish(hub: &Hub, key: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let _ = hub.publish(key, Event::text(&number.to_string())).unwrap();
    }
}

/// A hub that keeps as little as it may: 1 to 64 events.
fn forgetful() -> Hub {
    Hub::builder().retain_events(1).build().unwrap()
}

#[test]
fn every_way_reads_each_event_once_and_in_order() {
    for way in WAYS {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("a").unwrap();
        assert_eq!(way.read(&mut subscription), [], "{way:?}");
        publish(&hub, "a", 0..1);
        assert_eq!(way.read(&mut subscription), events(0..1), "{way:?}");
        publish(&hub, "a", 1..500);
        assert_eq!(way.read(&mut subscription), events(1..500), "{way:?}");
        assert_eq!(way.read(&mut subscription), [], "{way:?}");
    }
}

#[test]
fn ways_of_reading_mix() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let mut got = Vec::new();
    for (round, way) in (0_u64..).zip(WAYS.into_iter().cycle().take(70)) {
        publish(&hub, "a", round * 10..(round + 1) * 10);
        got.extend(way.read(&mut subscription));
    }
    assert_eq!(got, events(0..700));
}

#[test]
fn only_what_is_published_after_the_subscribe_arrives() {
    let hub = Hub::new();
    let mut early = hub.subscribe("a").unwrap();
    publish(&hub, "a", 0..100);
    let mut late = hub.subscribe("a").unwrap();
    publish(&hub, "a", 100..110);
    for way in WAYS {
        let mut other = hub.subscribe("a").unwrap();
        assert_eq!(way.read(&mut other), []);
    }
    assert_eq!(common::Way::TryRecv.read(&mut early), events(0..110));
    assert_eq!(common::Way::TryBatch.read(&mut late), events(100..110));
}

#[test]
fn topics_are_apart() {
    let hub = Hub::new();
    let mut a = hub.subscribe("a").unwrap();
    let mut b = hub.subscribe("b").unwrap();
    publish(&hub, "a", [1]);
    publish(&hub, "b", [2]);
    assert_eq!(common::Way::Recv.read(&mut a), events([1]));
    assert_eq!(common::Way::Recv.read(&mut b), events([2]));
}

#[test]
fn keys_of_any_type() {
    let hub: Hub<(u32, bool)> = Hub::default();
    let mut subscription = hub.subscribe(&(7, true)).unwrap();
    assert_eq!(
        hub.publish(&(7, false), Event::text("no")).unwrap().id(),
        None
    );
    assert_eq!(
        hub.publish(&(7, true), Event::text("yes"))
            .unwrap()
            .subscribers(),
        1
    );
    assert_eq!(frame(subscription.try_recv()).data(), "yes");
    assert_eq!(hub.keys(), [(7, true)]);
}

#[test]
fn notify_tells_the_exact_number_and_goes_on() {
    for way in WAYS {
        let hub = forgetful();
        let mut subscription = hub.subscribe("a").unwrap();
        publish(&hub, "a", 1..=1000);
        let got = way.read(&mut subscription);
        let Some((Got::Lag(Some(missed)), rest)) = got.split_first() else {
            panic!("{way:?}: {got:?}");
        };
        assert!((936..=999).contains(missed), "{way:?}: {missed}");
        assert_eq!(rest, events(missed + 1..=1000), "{way:?}");
        publish(&hub, "a", [1001]);
        assert_eq!(way.read(&mut subscription), events([1001]), "{way:?}");
    }
}

#[test]
fn lag_names_the_id_before_the_next_event() {
    let hub = forgetful();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&hub, "a", 1..=300);
    let lag = lag(subscription.try_recv());
    assert_eq!(lag.resumed_after(), subscription.position());
    assert_eq!(Some(lag.resumed_after().offset()), lag.missed());
    let next = frame(subscription.try_recv()).id().unwrap();
    assert_eq!(next.epoch(), lag.resumed_after().epoch());
    assert_eq!(next.offset(), lag.resumed_after().offset() + 1);
}

#[test]
fn disconnect_ends_after_the_notice() {
    for way in WAYS {
        let hub = forgetful();
        let subscription = hub.subscribe("a").unwrap();
        let mut subscription = subscription.lag_policy(LagPolicy::Disconnect);
        publish(&hub, "a", 1..=10);
        assert_eq!(subscription.position().offset(), 0);
        publish(&hub, "a", 11..=300);
        let got = way.read(&mut subscription);
        let [Got::Lag(Some(missed)), Got::End] = got[..] else {
            panic!("{way:?}: {got:?}");
        };
        assert!((236..=299).contains(&missed), "{way:?}: {missed}");
        publish(&hub, "a", [301]);
        assert_eq!(way.read(&mut subscription), [Got::End], "{way:?}");
        // It is a subscriber until it is dropped.
        assert_eq!(hub.subscribers_of("a"), 1);
        drop(subscription);
        assert_eq!(hub.topics(), 0);
    }
}

#[test]
fn disconnect_without_lag_reads_all() {
    for way in WAYS {
        let hub = Hub::new();
        let subscription = hub.subscribe("a").unwrap();
        let mut subscription = subscription.lag_policy(LagPolicy::Disconnect);
        publish(&hub, "a", 0..1000);
        assert_eq!(way.read(&mut subscription), events(0..1000), "{way:?}");
    }
}

#[test]
fn skip_to_latest_goes_on_with_the_newest() {
    for way in WAYS {
        let hub = forgetful();
        let subscription = hub.subscribe("a").unwrap();
        let mut subscription = subscription.lag_policy(LagPolicy::SkipToLatest);
        publish(&hub, "a", 1..=300);
        let newest = [Got::Lag(Some(299)), event(300)];
        assert_eq!(way.read(&mut subscription), newest, "{way:?}");
        // Nothing is skipped while nothing is lost.
        publish(&hub, "a", 301..=302);
        let goes_on = events(301..=302);
        assert_eq!(way.read(&mut subscription), goes_on, "{way:?}");
    }
}

#[test]
fn a_poll_that_finds_nothing_is_woken_once() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let (woken, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(subscription.poll_recv(cx).is_pending());
    publish(&hub, "a", 0..3);
    assert_eq!(woken.count(), 1, "armed once, woken once");
    for number in 0..3 {
        let Poll::Ready(Some(item)) = subscription.poll_recv(cx) else {
            panic!("pending");
        };
        assert_eq!(Got::from(item), event(number));
    }
    assert!(subscription.poll_recv(cx).is_pending());
    drop(subscription);
    publish(&hub, "a", [3]);
    assert_eq!(woken.count(), 1, "nobody is woken for a subscription gone");
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let ((old, old_waker), (new, new_waker)) = (Wakes::new(), Wakes::new());
    assert!(
        subscription
            .poll_recv(&mut Context::from_waker(&old_waker))
            .is_pending()
    );
    assert!(
        subscription
            .poll_ready(&mut Context::from_waker(&new_waker))
            .is_pending()
    );
    publish(&hub, "a", [1]);
    assert_eq!((old.count(), new.count()), (0, 1));
    // The old one was dropped with the poll that replaced it.
    assert_eq!(Arc::strong_count(&old), 2);
}

#[test]
fn a_dropped_recv_loses_nothing() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    for number in 0..200 {
        // Parked, then dropped, before and after the event.
        assert!(subscription.recv().now_or_never().is_none());
        let (_, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut recv = Box::pin(subscription.recv());
        assert!(recv.poll_unpin(&mut cx).is_pending());
        publish(&hub, "a", [number]);
        drop(recv);
        drop(Box::pin(subscription.recv_batch()));
        assert_eq!(
            frame(subscription.try_recv()).data(),
            number.to_string(),
            "each once"
        );
    }
    assert_eq!(subscription.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn a_batch_that_is_not_read_stays() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&hub, "a", 0..100);
    drop(subscription.try_batch().unwrap());
    let mut batch = subscription.try_batch().unwrap();
    assert_eq!(batch.next_frame().unwrap().data(), "0");
    assert_eq!(batch.next_frame().unwrap().data(), "1");
    drop(batch);
    assert_eq!(
        common::Way::RecvBatch.read(&mut subscription),
        events(2..100)
    );
}

/// However fast publishers are, a batch ends.
#[test]
fn a_batch_is_what_was_there_when_it_began() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&hub, "a", 0..10);
    let mut batch = subscription.try_batch().unwrap();
    publish(&hub, "a", 10..20);
    assert_eq!(batch.next_frame().unwrap().data(), "0");
    let mut next = 1;
    let rest = batch.for_each(|frame| {
        assert_eq!(frame.data(), next.to_string());
        next += 1;
        publish(&hub, "a", [19 + next - 1]);
    });
    assert_eq!(rest, 9);
    assert!(batch.next_frame().is_none());
    drop(batch);
    assert_eq!(common::Way::Recv.read(&mut subscription), events(10..29));
}

#[test]
fn cancelled_by_select() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("a").unwrap();
        let publisher = hub.clone();
        let publishing = tokio::spawn(async move {
            for number in 0..1000 {
                publish(&publisher, "a", [number]);
                tokio::task::yield_now().await;
            }
        });
        let mut got = Vec::new();
        while got.len() < 1000 {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                item = subscription.recv() => got.extend(item.map(Got::from)),
            }
            tokio::select! {
                item = subscription.recv() => got.extend(item.map(Got::from)),
                () = tokio::task::yield_now() => {}
            }
        }
        tokio::time::timeout(BOUND, publishing)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(got, events(0..1000));
    });
}

#[test]
fn a_frame_of_a_batch_outlives_its_eviction() {
    let hub = Hub::builder().retain_events(10).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&hub, "a", 1..=10);
    let mut batch = subscription.try_batch().unwrap();
    assert_eq!(batch.next_frame().unwrap().data(), "1");
    let second = batch.next_frame().unwrap();
    // All that the batch could see is evicted while the frame is borrowed.
    publish(&hub, "a", 11..=1000);
    assert_eq!(second.data(), "2");
    assert!(second.as_sse().ends_with(b"data: 2\n\n"));
    // Lag in the middle ends a batch, and the next one tells of it.
    assert!(batch.next_frame().is_none());
    assert_eq!(batch.for_each(|_| panic!("a frame after lag")), 0);
    assert_eq!(batch.lag(), None);
    drop(batch);
    let mut batch = subscription.try_batch().unwrap();
    let missed = batch.lag().unwrap().missed().unwrap();
    let mut next = 2 + missed;
    let count = batch.for_each(|frame| {
        next += 1;
        assert_eq!(frame.data(), next.to_string());
    });
    assert_eq!(2 + missed + count as u64, 1000);
}

#[test]
fn a_frame_kept_outlives_hub_and_subscription() {
    let hub = forgetful();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&hub, "a", [1]);
    let kept = frame(subscription.try_recv());
    publish(&hub, "a", 2..=500);
    let bytes = kept.to_bytes();
    drop((subscription, hub));
    assert_eq!(kept.data(), "1");
    assert_eq!(bytes, kept.as_sse());
}

#[test]
fn close_delivers_what_was_published_before() {
    for way in WAYS {
        for published in [0, 1, 2, 100] {
            let hub = Hub::new();
            let topic = hub.topic("a").unwrap();
            let mut subscription = hub.subscribe("a").unwrap();
            publish(&hub, "a", 0..published);
            hub.close();
            let mut expected = events(0..published);
            expected.push(Got::End);
            assert_eq!(way.read(&mut subscription), expected, "{way:?}");
            assert_eq!(way.read(&mut subscription), [Got::End], "{way:?}");
            assert!(hub.is_closed() && topic.is_closed());
        }
    }
}

#[test]
fn close_wakes_those_who_wait() {
    let hub = Hub::new();
    let mut subscriptions: Vec<_> = (0..200)
        .map(|n| hub.subscribe(["a", "b"][n % 2]).unwrap())
        .collect();
    let (woken, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    for subscription in &mut subscriptions {
        assert!(subscription.poll_recv(cx).is_pending());
    }
    hub.close();
    assert_eq!(woken.count(), 200);
    for subscription in &mut subscriptions {
        assert!(matches!(subscription.poll_recv(cx), Poll::Ready(None)));
    }
}

#[test]
fn a_closed_hub_refuses() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let subscription = hub.subscribe("a").unwrap();
    let id = subscription.position();
    hub.close();
    hub.close();
    for key in ["a", "b"] {
        assert_eq!(hub.subscribe(key).unwrap_err(), SubscribeError::Closed);
        assert_eq!(
            hub.subscribe_from(key, id).unwrap_err(),
            SubscribeError::Closed
        );
        assert_eq!(hub.topic(key).unwrap_err(), SubscribeError::Closed);
        let refused = hub.publish(key, Event::text("x"));
        assert!(matches!(refused, Err(PublishError::Closed)));
        let refused = hub.publish_many([key], Event::text("x"));
        assert!(matches!(refused, Err(PublishError::Closed)));
    }
    let refused = topic.publish(Event::text("x"));
    assert!(matches!(refused, Err(PublishError::Closed)));
    drop((topic, subscription));
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn close_with_lag_tells_of_both() {
    for way in WAYS {
        let hub = forgetful();
        let mut subscription = hub.subscribe("a").unwrap();
        publish(&hub, "a", 1..=300);
        hub.close();
        let got = way.read(&mut subscription);
        let Some((Got::Lag(Some(missed)), rest)) = got.split_first() else {
            panic!("{way:?}: {got:?}");
        };
        let mut expected = events(missed + 1..=300);
        expected.push(Got::End);
        assert_eq!(rest, expected, "{way:?}");
    }
}

#[test]
fn publishing_to_nobody_is_an_outcome() {
    let hub = Hub::new();
    let nobody = hub.publish("a", Event::text("x")).unwrap();
    assert_eq!((nobody.subscribers(), nobody.id()), (0, None));
    assert_eq!(nobody.bytes(), "data: x\n\n".len());
    assert_eq!(hub.topics(), 0, "and makes no topic");
    // A topic that has a handle but no subscriber keeps nothing either.
    let topic = hub.topic("a").unwrap();
    let nobody = topic.publish(Event::text("x")).unwrap();
    assert_eq!((nobody.subscribers(), nobody.id()), (0, None));
    assert_eq!((topic.retained_events(), topic.position().offset()), (0, 0));
    assert_eq!(hub.stats().published, 0);
}

#[test]
fn publishing_tells_what_happened() {
    let hub = Hub::new();
    let subscriptions: Vec<_> = (0..100).map(|_| hub.subscribe("a").unwrap()).collect();
    let published = hub.publish("a", Event::text("x")).unwrap();
    assert_eq!(published.subscribers(), 100);
    assert_eq!(published.id().map(EventId::offset), Some(1));
    assert_eq!(published.bytes(), "data: x\n\n".len());
    assert_eq!(hub.stats().published, 1);
    assert_eq!(hub.stats().subscribers, 100);
    assert_eq!(hub.stats().topics, 1);
    drop(subscriptions);
}

#[test]
fn ids_count_up_and_stand_in_the_frame() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let before = subscription.position();
    assert_eq!(before.offset(), 0);
    for offset in 1..=200 {
        let id = hub.publish("a", Event::text("x")).unwrap().id().unwrap();
        assert_eq!(id, EventId::new(before.epoch(), offset));
        let frame = frame(subscription.try_recv());
        assert_eq!(frame.id(), Some(id));
        let block = format!("id: {id}\ndata: x\n\n");
        assert_eq!(frame.as_sse(), block.as_bytes());
        assert_eq!(subscription.position(), id);
    }
}

#[test]
fn ids_can_be_left_out() {
    let without = Hub::builder().event_ids(false).build().unwrap();
    let with = Hub::new();
    for (hub, event) in [
        (&without, Event::text("x")),
        (&with, Event::text("x").without_id()),
    ] {
        let mut subscription = hub.subscribe("a").unwrap();
        let published = hub.publish("a", event).unwrap();
        let frame = frame(subscription.try_recv());
        assert_eq!(frame.id(), None);
        assert_eq!(frame.as_sse(), b"data: x\n\n");
        // The place in the log is told all the same.
        assert_eq!(published.id(), Some(subscription.position()));
    }
}

#[test]
fn publish_many_reaches_each_topic_under_its_own_id() {
    let hub = Hub::new();
    let mut a = hub.subscribe("a").unwrap();
    let mut b = [hub.subscribe("b").unwrap(), hub.subscribe("b").unwrap()];
    publish(&hub, "b", [0]);
    let sent = hub
        .publish_many(["a", "b", "nobody"], Event::text("x").name("n"))
        .unwrap();
    assert_eq!((sent.topics(), sent.subscribers()), (2, 3));
    let in_a = frame(a.try_recv());
    assert_eq!(in_a.id(), Some(a.position()));
    assert_eq!(a.position().offset(), 1);
    for b in &mut b {
        assert_eq!(frame(b.try_recv()).data(), "0");
        let in_b = frame(b.try_recv());
        assert_eq!(in_b.id(), Some(b.position()));
        assert_eq!(b.position().offset(), 2);
        assert_ne!(in_b.id().unwrap().epoch(), in_a.id().unwrap().epoch());
        assert_eq!((in_b.name(), in_b.data().as_ref()), (Some("n"), "x"));
    }
    assert_eq!(hub.topics(), 2);
}

#[test]
fn publish_many_without_ids_shares_one_frame() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let mut a = hub.subscribe("a").unwrap();
    let mut b = hub.subscribe("b").unwrap();
    let sent = hub.publish_many(["a", "b"], Event::json(&[1, 2])).unwrap();
    assert_eq!((sent.topics(), sent.subscribers()), (2, 2));
    let (in_a, in_b) = (frame(a.try_recv()), frame(b.try_recv()));
    assert_eq!(in_a.payload(), Some(&b"[1,2]"[..]));
    assert!(std::ptr::eq(in_a.as_sse(), in_b.as_sse()));
}

#[test]
fn publish_many_to_a_key_twice_is_two_events() {
    for ids in [true, false] {
        let hub = Hub::builder().event_ids(ids).build().unwrap();
        let mut a = hub.subscribe("a").unwrap();
        let sent = hub.publish_many(["a", "a"], Event::text("x")).unwrap();
        assert_eq!((sent.topics(), sent.subscribers()), (2, 2));
        assert_eq!(common::Way::TryRecv.read(&mut a), events(["x", "x"]));
        assert_eq!(a.position().offset(), 2);
    }
}

#[test]
fn a_handle_publishes_to_the_same_topic() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    assert_eq!(topic.subscribers(), 1);
    let first = topic.publish(Event::text("0")).unwrap().id().unwrap();
    publish(&hub, "a", [1]);
    let other = topic.clone();
    drop(topic);
    let third = other.publish(Event::text("2")).unwrap().id().unwrap();
    assert_eq!(first.epoch(), third.epoch());
    assert_eq!((first.offset(), third.offset()), (1, 3));
    assert_eq!(other.position(), third);
    let got = common::Way::TryRecv.read(&mut subscription);
    assert_eq!(got, events(0..3));
    drop(subscription);
    assert_eq!(hub.topics(), 1, "the handle keeps the topic");
    drop(other);
    assert_eq!(hub.topics(), 0);
}

/// Each publisher's events arrive in its order, and all subscribers see one order.
#[test]
fn one_order_for_all_that_agrees_with_each_publisher() {
    const PUBLISHERS: u64 = 4;
    const EVENTS: u64 = 2_000;
    const READERS: usize = 4;
    let hub = Hub::builder()
        .retain_events((PUBLISHERS * EVENTS) as usize)
        .retain_bytes(1 << 30)
        .build()
        .unwrap();
    let start = Barrier::new(READERS + PUBLISHERS as usize);
    let orders: Vec<Vec<String>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (hub, start) = (&hub, &start);
                scope.spawn(move || {
                    let mut subscription = hub.subscribe("a").unwrap();
                    start.wait();
                    let mut got = Vec::new();
                    while got.len() < (PUBLISHERS * EVENTS) as usize {
                        if reader % 2 == 0 {
                            let item = block_on(subscription.recv());
                            got.extend(item.map(Got::from));
                        } else if let Some(mut batch) = block_on(subscription.recv_batch()) {
                            assert_eq!(batch.lag(), None);
                            batch.for_each(|frame| got.push(event(frame.data())));
                        }
                    }
                    got.into_iter()
                        .map(|got| match got {
                            Got::Event(data) => data,
                            other => panic!("{other:?}"),
                        })
                        .collect()
                })
            })
            .collect();
        for publisher in 0..PUBLISHERS {
            let (hub, start) = (&hub, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..EVENTS {
                    let published = hub
                        .publish("a", Event::text(&format!("{publisher} {n}")))
                        .unwrap();
                    assert_eq!(published.subscribers(), READERS);
                }
            });
        }
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for order in &orders {
        assert_eq!(order, &orders[0]);
    }
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher} ");
        let own = orders[0].iter().filter_map(|e| e.strip_prefix(&prefix));
        assert!(own.eq((0..EVENTS).map(|n| n.to_string())));
    }
}
