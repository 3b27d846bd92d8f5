//! Readers that stand still are given up: who, when, and who is told. The clock goes by hand.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Wakes, block_on};
use fanfare::{
    EndReason, Event, Hub, HubBuilder, Item, LagPolicy, Snapshot, Subscription, TryRecvError,
};
use futures_util::future::FutureExt as _;

const T: Duration = Duration::from_secs(10);

fn builder() -> HubBuilder {
    Hub::builder().clock_by_hand().evict_after(T)
}

fn publish(hub: &Hub) {
    let _ = hub.publish("a", Event::text("on and on")).unwrap();
}

/// Time goes by, and the topic goes on meanwhile.
fn moves_on(hub: &Hub, time: Duration) {
    let ticks = u64::try_from(time.as_nanos() / hub.tick().as_nanos()).unwrap();
    for _ in 0..ticks {
        publish(hub);
        hub.go_on(1);
    }
}

fn drain(subscription: &mut Subscription) -> u64 {
    let mut count = 0;
    while subscription.try_recv().is_ok() {
        count += 1;
    }
    count
}

fn is_over(subscription: &mut Subscription) -> bool {
    subscription.try_recv().err() == Some(TryRecvError::Closed)
}

#[test]
fn who_stands_still_is_given_up_between_once_and_twice_the_time() {
    let hub = builder().build().unwrap();
    let mut still = hub.subscribe("a").unwrap();
    let mut prompt = hub.subscribe("a").unwrap();
    let mut waited = Duration::ZERO;
    while hub.stats().evicted == 0 {
        moves_on(&hub, hub.tick());
        waited += hub.tick();
        assert!(drain(&mut prompt) > 0);
        assert!(
            waited <= 2 * T + 2 * hub.tick(),
            "{waited:?} and still there"
        );
    }
    assert!(waited >= T, "given up after {waited:?}");
    // Counted out at once, though it is there still.
    assert_eq!((hub.subscribers(), hub.subscribers_of("a")), (1, 1));
    // However long it stays.
    for _ in 0..5 {
        moves_on(&hub, T + hub.tick());
        drain(&mut prompt);
    }
    let counted = (
        hub.stats().evicted,
        hub.subscribers(),
        hub.subscribers_of("a"),
    );
    assert_eq!(counted, (1, 1, 1));
    assert_eq!(hub.evictions().len(), 1);
    assert!(is_over(&mut still));
    assert_eq!(still.end_reason(), Some(EndReason::Evicted));
    drop(still);
    assert_eq!(hub.subscribers(), 1, "counted out once");
    moves_on(&hub, hub.tick());
    assert_eq!(drain(&mut prompt), 1);
}

/// One that takes something now and then, however little, by whatever way, stays.
#[test]
fn who_goes_on_stays() {
    let hub = builder().retain_events(1 << 20).build().unwrap();
    let mut one = hub.subscribe("a").unwrap();
    let mut batch = hub.subscribe("a").unwrap();
    let mut parked = hub.subscribe("a").unwrap();
    let (_, waker) = Wakes::new();
    for _ in 0..10 {
        moves_on(&hub, T / 2);
        assert!(one.try_recv().is_ok());
        assert!(batch.try_batch().unwrap().next_frame().is_some());
        while parked
            .poll_recv(&mut Context::from_waker(&waker))
            .is_ready()
        {}
    }
    assert_eq!((hub.subscribers(), hub.stats().evicted), (3, 0));
}

/// A reader that has read all is not blamed for a topic that is silent, nor is one that has something to read and whose
/// topic is silent.
#[test]
fn a_silent_topic_gives_up_nobody() {
    let hub = builder().build().unwrap();
    let mut all_read = hub.subscribe("a").unwrap();
    let unread = hub.subscribe("a").unwrap();
    publish(&hub);
    assert_eq!(drain(&mut all_read), 1);
    let second = u64::try_from(Duration::from_secs(1).as_nanos() / hub.tick().as_nanos()).unwrap();
    hub.go_on(200 * second);
    assert_eq!((hub.subscribers(), hub.stats().evicted), (2, 0));
    drop(unread);
}

/// Nothing comes after a close, and the reader holds what is left, its topic and its place.
#[test]
fn who_does_not_read_a_closed_topic_is_given_up() {
    let hub = builder().max_connections(1).build().unwrap();
    let topic = hub.topic("a").unwrap();
    let mut still = hub.subscribe("a").unwrap();
    let mut evicted = still.evicted();
    publish(&hub);
    topic.close();
    drop(topic);
    let ticks = u64::try_from(T.as_nanos() / hub.tick().as_nanos()).unwrap();
    hub.go_on(3 * ticks);
    assert_eq!((&mut evicted).now_or_never(), Some(true));
    assert!(hub.subscribe("b").is_ok());
    assert!(is_over(&mut still));
}

/// A reader that is busy with the event that it took last has nothing to read, and is not blamed when there is something
/// at last.
#[test]
fn who_is_busy_with_the_last_event_is_not_given_up() {
    let hub = builder().build().unwrap();
    let mut busy = hub.subscribe("a").unwrap();
    publish(&hub);
    assert!(busy.try_recv().is_ok());
    let ticks = u64::try_from(6 * T.as_nanos() / hub.tick().as_nanos()).unwrap();
    hub.go_on(ticks);
    publish(&hub);
    // Less than the time in which it would have to go on.
    hub.go_on(ticks / 6 - 1);
    assert_eq!(hub.stats().evicted, 0);
    assert!(busy.try_recv().is_ok());
}

/// Who is given up before its own lag has been told of is told of once.
#[test]
fn an_eviction_is_not_a_lag_as_well() {
    let hub = builder().retain_events(1).build().unwrap();
    let still = hub.subscribe("a").unwrap();
    let mut still = still.lag_policy(LagPolicy::Disconnect);
    for _ in 0..200 {
        publish(&hub);
    }
    assert!(matches!(still.try_recv(), Ok(Item::Lagged(_))));
    while hub.stats().evicted == 0 {
        moves_on(&hub, hub.tick());
    }
    drop(still);
    let stats = hub.stats();
    assert_eq!((stats.evicted, stats.lagged, stats.subscribers), (1, 0, 0));
    assert_eq!(hub.evictions().len(), 1);
}

#[test]
fn everybody_is_told_why() {
    let hub = builder().build().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let callback = {
        let told = Arc::clone(&told);
        move |eviction: &fanfare::Eviction| told.lock().unwrap().push(eviction.clone())
    };
    assert!(hub.on_eviction(callback));
    assert!(!hub.on_eviction(|_| panic!("it is another's")));
    let mut still = hub.subscribe("a").unwrap().label("10.0.0.7:4711");
    publish(&hub);
    assert!(still.try_recv().is_ok());
    assert!(still.try_recv().is_err());
    let mut evicted = pin!(still.evicted());
    let (woken, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    assert!(evicted.as_mut().poll(&mut cx).is_pending());
    moves_on(&hub, 2 * T + 2 * hub.tick());
    assert_eq!(woken.count(), 1);
    assert_eq!(evicted.as_mut().poll(&mut cx), Poll::Ready(true));
    assert_eq!(hub.topics(), 0, "nobody else used it");
    let told = told.lock().unwrap();
    assert_eq!(*told, hub.evictions());
    let [eviction] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (eviction.key().as_str(), eviction.label()),
        ("a", Some("10.0.0.7:4711"))
    );
    assert_eq!(eviction.reason(), EndReason::Evicted);
    assert_eq!(eviction.position().offset(), 1);
    assert!(eviction.behind() > 0);
    let line = eviction.to_string();
    assert!(
        line.starts_with("\"a\" (10.0.0.7:4711): this connection stood still"),
        "{line}"
    );
}

/// Who asks learns too that it was not.
#[test]
fn a_subscription_that_goes_was_not_given_up() {
    let hub = builder().build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let evicted = subscription.evicted();
    let again = subscription.evicted();
    assert!(subscription.evicted().now_or_never().is_none());
    drop(subscription);
    assert!(!block_on(evicted));
    assert!(!block_on(again));
    // Its place is another's, who has nothing to do with it.
    let mut next = hub.subscribe("a").unwrap();
    assert!(next.evicted().now_or_never().is_none());
}

/// Without the limit nobody is given up, and whoever lagged out is in the same list.
#[test]
fn who_lagged_out_is_remembered() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let mut strict = hub
        .subscribe("a")
        .unwrap()
        .lag_policy(LagPolicy::Disconnect)
        .label("tab 1");
    for _ in 0..300 {
        publish(&hub);
    }
    assert!(matches!(strict.try_recv(), Ok(Item::Lagged(_))));
    drop(strict);
    let [lagged] = &hub.evictions()[..] else {
        panic!("{:?}", hub.evictions())
    };
    assert_eq!(lagged.reason(), EndReason::Lagged);
    assert_eq!(lagged.label(), Some("tab 1"));
    assert_eq!((hub.stats().lagged, hub.stats().evicted), (1, 0));
}

#[test]
fn the_last_64_are_remembered() {
    let hub = builder().build().unwrap();
    let all: Vec<_> = (0..100)
        .map(|number| hub.subscribe("a").unwrap().label(number.to_string()))
        .collect();
    moves_on(&hub, 2 * T + 2 * hub.tick());
    assert_eq!(hub.stats().evicted, 100);
    assert_eq!(hub.evictions().len(), 64);
    drop(all);
    assert_eq!(hub.subscribers(), 0);
}

/// A body that is not polled: what the host is told makes room at once, and the body says why should it be polled again.
#[test]
fn a_body_that_is_not_polled_gives_its_place_up() {
    let hub = builder().max_connections(1).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let evicted = subscription.evicted();
    let mut body = Box::pin(subscription.into_sse().into_body());
    assert!(hub.subscribe("a").is_err());
    moves_on(&hub, 2 * T + 2 * hub.tick());
    assert!(block_on(evicted));
    let next = hub.subscribe("a").unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut last = Vec::new();
    while let Poll::Ready(Some(Ok(chunk))) = http_body::Body::poll_frame(body.as_mut(), &mut cx) {
        last = chunk.into_data().unwrap().to_vec();
    }
    assert_eq!(last, format!(": {}\n\n", EndReason::Evicted).as_bytes());
    drop(next);
}

/// A snapshot may take its time: whoever waits for it does not stand still, and is watched from then on.
#[test]
fn a_slow_snapshot_is_no_eviction() {
    let hub = builder().build().unwrap();
    let (ready, wait) = futures_channel();
    let mut wait = Some(wait);
    let taken = hub.subscribe_with_snapshot("a", |_| {
        let wait = wait.take().unwrap();
        async {
            wait.await;
            Ok::<_, ()>(Snapshot::default())
        }
    });
    let mut taken = pin!(taken);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(taken.as_mut().poll(&mut cx).is_pending());
    moves_on(&hub, 4 * T);
    assert_eq!((hub.stats().evicted, hub.subscribers()), (0, 1));
    ready();
    let mut subscription = block_on(taken).unwrap();
    assert!(drain(&mut subscription) > 0);
    assert_eq!(subscription.end_reason(), None);
    moves_on(&hub, 2 * T + 2 * hub.tick());
    assert_eq!(hub.stats().evicted, 1);
    assert!(is_over(&mut subscription));
}

/// Resolves when it is told to.
fn futures_channel() -> (impl FnOnce(), impl Future<Output = ()>) {
    let told = Arc::new(Mutex::new(false));
    let tell = Arc::clone(&told);
    let wait = std::future::poll_fn(move |_| {
        if *told.lock().unwrap() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    (move || *tell.lock().unwrap() = true, wait)
}

/// One chunk of one topic at each poll, and the others have to wait for their turn: the client goes on all the same.
#[test]
fn a_slow_body_of_many_topics_goes_on() {
    const TOPICS: usize = 5;
    let hub = builder().build().unwrap();
    let keys: Vec<_> = (0..TOPICS).map(|topic| topic.to_string()).collect();
    let mut all = keys.iter().map(|key| hub.subscribe(key.as_str()).unwrap());
    let first = all.next().unwrap().into_sse();
    let mut body = Box::pin(all.fold(first, fanfare::Sse::with).into_body());
    let mut cx = Context::from_waker(Waker::noop());
    let large = "x".repeat(70 * 1024);
    let step = T * 9 / 10;
    for _ in 0..4 * TOPICS {
        for key in &keys {
            for _ in 0..2 {
                let _ = hub.publish(key.as_str(), Event::text(&large)).unwrap();
            }
        }
        let ticks = u64::try_from(step.as_nanos() / hub.tick().as_nanos()).unwrap();
        hub.go_on(ticks);
        let poll = http_body::Body::poll_frame(body.as_mut(), &mut cx);
        assert!(matches!(poll, Poll::Ready(Some(Ok(_)))));
    }
    assert_eq!(hub.stats().evicted, 0);
    assert_eq!(hub.subscribers(), TOPICS);
}

/// Also where the log was given back meanwhile, so that the clock had nothing else to come for.
#[test]
fn who_lost_all_is_given_up() {
    let second = Duration::from_secs(1);
    let hub = builder()
        .idle_after(second)
        .retain_age(2 * second)
        .build()
        .unwrap();
    let ticks = |time: Duration| u64::try_from(time.as_nanos() / hub.tick().as_nanos()).unwrap();
    let mut still = hub.subscribe("a").unwrap();
    hub.go_on(ticks(15 * second));
    publish(&hub);
    hub.go_on(ticks(5 * second));
    publish(&hub);
    hub.go_on(ticks(4 * second));
    assert_eq!(hub.topic("a").unwrap().retained_events(), 0);
    assert_eq!(hub.stats().evicted, 0);
    hub.go_on(ticks(7 * second));
    assert_eq!((hub.stats().evicted, hub.subscribers()), (1, 0));
    assert!(is_over(&mut still));
    // One that was closed, too.
    let run = hub.topic("run").unwrap();
    let still = run.subscribe().unwrap();
    let _ = run.publish(Event::text("x")).unwrap();
    run.close();
    drop(run);
    hub.go_on(ticks(2 * T + 2 * second));
    assert_eq!((hub.stats().evicted, hub.subscribers()), (2, 0));
    drop(still);
    // And one that was closed when its log was gone.
    let run = hub.topic("run").unwrap();
    let still = run.subscribe().unwrap();
    let _ = run.publish(Event::text("x")).unwrap();
    hub.go_on(ticks(3 * T));
    assert_eq!(hub.stats().evicted, 2, "the topic does not move on");
    run.close();
    drop(run);
    hub.go_on(ticks(2 * T + 2 * second));
    assert_eq!((hub.stats().evicted, hub.subscribers()), (3, 0));
    drop(still);
}

/// The place of its topic too, though the body keeps the topic itself.
#[test]
fn who_is_given_up_leaves_the_place_of_its_topic() {
    let hub = builder().max_topics(1).build().unwrap();
    let still = hub.subscribe("a").unwrap();
    assert!(hub.subscribe("b").is_err());
    moves_on(&hub, 2 * T + 2 * hub.tick());
    // With nobody there, nothing is kept.
    publish(&hub);
    assert_eq!((hub.stats().evicted, hub.topics()), (1, 0));
    let next = hub.subscribe("b").unwrap();
    assert!(hub.subscribe("c").is_err());
    drop(still);
    assert!(hub.subscribe("c").is_err(), "counted out once");
    drop(next);
    // One that is closed, and read by nobody who counts.
    let run = hub.topic("run").unwrap();
    let still = hub.subscribe("run").unwrap();
    let _ = run.publish(Event::text("x")).unwrap();
    run.close();
    drop(run);
    assert!(hub.subscribe("c").is_err());
    hub.go_on(u64::try_from(3 * T.as_nanos() / hub.tick().as_nanos()).unwrap());
    assert_eq!(hub.stats().evicted, 2);
    assert!(hub.subscribe("c").is_ok());
    drop(still);
}

/// What a broadcaster lists is who is there, though the body that was given up is not dropped.
#[test]
fn who_is_given_up_is_on_no_list() {
    let hub = builder().build().unwrap();
    let broadcaster = fanfare::Broadcaster::<Ping, String>::with_hub(hub.clone());
    let still = broadcaster.register(&"a".to_owned(), "tab-1").unwrap();
    let mut reads = broadcaster.register(&"a".to_owned(), "tab-2").unwrap();
    for _ in 0..3 {
        moves_on(&hub, T);
        drain(&mut reads);
    }
    let listed = broadcaster.connections(&"a".to_owned());
    assert_eq!(
        listed.iter().map(|it| &*it.id).collect::<Vec<_>>(),
        ["tab-2"]
    );
    let stats = broadcaster.stats();
    assert_eq!((stats.connections, stats.evicted), (1, 1));
    // The place is free, and the old one has no say in it.
    let newer = broadcaster.register(&"a".to_owned(), "tab-1").unwrap();
    drop(still);
    assert_eq!(broadcaster.connection_count(&"a".to_owned()), 2);
    drop((newer, reads));
    assert_eq!(broadcaster.total_connections(), 0);
}

struct Ping;

impl fanfare::ToSse for Ping {
    fn to_sse(&self) -> Event<'_, impl fanfare::Payload> {
        Event::text("ping")
    }
}

/// One that ended for a reason and would have ended for lag is counted once.
#[test]
fn an_end_before_the_lost_control_events_is_no_lag() {
    let hub = Hub::builder()
        .clock_by_hand()
        .retain_events(1)
        .build()
        .unwrap();
    let subscription = hub.subscribe("a").unwrap();
    let mut subscription = subscription.lag_policy(LagPolicy::Disconnect);
    let handle = subscription.end_handle();
    let control = Event::text("last words").control();
    let _ = hub.publish("a", control).unwrap();
    for _ in 0..200 {
        publish(&hub);
    }
    assert!(matches!(subscription.try_recv(), Ok(Item::Lagged(_))));
    assert!(handle.end(EndReason::Requested));
    assert!(is_over(&mut subscription));
    drop(subscription);
    assert_eq!(hub.stats().lagged, 0);
    assert!(hub.evictions().is_empty());
}
