//! How fast a reader reads at most. The clock goes by hand, but for one test.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::num::NonZeroU32;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::{Wakes, block_on};
use fanfare::{
    Conflation, EndReason, Event, Hub, HubBuilder, Item, Lag, Readiness, Subscription, TryRecvError,
};

const SECOND: Duration = Duration::from_secs(1);

fn builder() -> HubBuilder {
    Hub::builder().clock_by_hand()
}

fn of(events: u32) -> NonZeroU32 {
    NonZeroU32::new(events).unwrap()
}

fn publish(hub: &Hub, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let event = Event::json(&number).name("n");
        let _ = hub.publish("a", event).unwrap();
    }
}

/// Time goes by.
fn go_on(hub: &Hub, time: Duration) {
    hub.go_on(u64::try_from(time.as_nanos().div_ceil(hub.tick().as_nanos())).unwrap());
}

fn read(subscription: &mut Subscription) -> Vec<u64> {
    let mut read = Vec::new();
    while let Ok(Item::Frame(frame)) = subscription.try_recv() {
        read.push(frame.data().parse().unwrap());
    }
    read
}

fn read_batch(subscription: &mut Subscription) -> Vec<u64> {
    let mut read = Vec::new();
    while let Ok(mut batch) = subscription.try_batch() {
        let before = read.len();
        batch.for_each(|frame| read.push(frame.data().parse().unwrap()));
        assert!(read.len() > before, "a batch is not empty");
    }
    read
}

#[test]
fn after_a_silence_a_burst_and_then_one_by_one() {
    for way in [read, read_batch] {
        let hub = builder().build().unwrap();
        let mut slow = hub.subscribe("a").unwrap().max_rate(of(4), 4 * SECOND);
        publish(&hub, 0..100);
        assert_eq!(way(&mut slow), [0, 1, 2, 3]);
        assert_eq!(slow.try_recv().err(), Some(TryRecvError::Empty));
        for number in 4..10 {
            go_on(&hub, SECOND);
            assert_eq!(way(&mut slow), [number]);
        }
        // What it does not use in a long silence does not count for more than a burst.
        go_on(&hub, 100 * SECOND);
        assert_eq!(way(&mut slow), [10, 11, 12, 13]);
        assert_eq!(slow.position().offset(), 14);
    }
}

#[test]
fn over_the_long_run_the_rate_is_what_was_asked_for() {
    let hub = builder()
        .retain_events(10_000)
        .retain_age(3600 * SECOND)
        .build()
        .unwrap();
    // Three in 400 ms: not a whole number of ticks.
    let every = Duration::from_millis(400);
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(3), every);
    publish(&hub, 0..10_000);
    assert_eq!(read(&mut slow).len(), 3);
    let mut events = 0;
    let ticks = 4_000;
    for _ in 0..ticks {
        hub.go_on(1);
        events += u32::try_from(read(&mut slow).len()).unwrap();
    }
    let expected = f64::from(ticks) * hub.tick().as_secs_f64() * 3.0 / 0.4;
    assert!(
        (f64::from(events) - expected).abs() < 4.0,
        "{events}, {expected}"
    );
}

#[test]
fn who_has_to_wait_is_woken_by_the_clock_alone() {
    let hub = builder().build().unwrap();
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(1), 2 * SECOND);
    let (woken, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    publish(&hub, [0, 1]);
    assert!(slow.poll_recv(&mut cx).is_ready());
    assert!(slow.poll_recv(&mut cx).is_pending());
    publish(&hub, 2..50);
    assert_eq!(woken.count(), 0, "publishers have nothing to do with it");
    let mut polled = 0;
    while slow.poll_recv(&mut cx).is_pending() {
        let before = woken.count();
        go_on(&hub, hub.tick());
        polled += 1;
        assert!(
            polled * hub.tick() <= 3 * SECOND,
            "it is its turn after 2 s"
        );
        if polled * hub.tick() >= 2 * SECOND {
            assert!(woken.count() > before.min(1), "not woken");
        }
    }
    assert!(polled * hub.tick() >= 2 * SECOND);
    // Who has not had its share parks like everybody.
    let mut quick = hub.subscribe("b").unwrap().max_rate(of(1), 2 * SECOND);
    assert!(quick.poll_recv(&mut cx).is_pending());
    let before = woken.count();
    let _ = hub.publish("b", Event::text("now")).unwrap();
    assert_eq!(woken.count(), before + 1, "its turn, and armed");
}

#[test]
fn with_conflation_the_newest_when_its_turn_comes() {
    let hub = builder().build().unwrap();
    let mut ticker = hub
        .subscribe("a")
        .unwrap()
        .conflate(Conflation::ByName)
        .max_rate(of(1), SECOND);
    publish(&hub, 0..10);
    assert_eq!(read(&mut ticker), [9]);
    publish(&hub, 10..20);
    assert!(read(&mut ticker).is_empty());
    publish(&hub, 20..30);
    go_on(&hub, SECOND);
    assert_eq!(read(&mut ticker), [29]);
    assert_eq!(ticker.conflated(), 9 + 19);
}

/// A window of many kinds is not read to its end with what was newest when it began.
#[test]
fn who_waited_looks_for_what_is_newest_again() {
    let hub = builder().build().unwrap();
    let mut ticker = hub
        .subscribe("a")
        .unwrap()
        .conflate(Conflation::ByKey)
        .max_rate(of(1), SECOND);
    let publish = |key: &str, number: u64| {
        let _ = hub.publish("a", Event::json(&number).key(key)).unwrap();
    };
    publish("x", 1);
    publish("y", 2);
    publish("z", 3);
    assert_eq!(read(&mut ticker), [1]);
    publish("y", 4);
    go_on(&hub, SECOND);
    assert_eq!(read(&mut ticker), [3]);
    go_on(&hub, SECOND);
    assert_eq!(read(&mut ticker), [4]);
}

#[test]
fn what_is_not_wanted_costs_nothing() {
    let hub = builder().build().unwrap();
    let mut slow = hub
        .subscribe("a")
        .unwrap()
        .filter(|frame| frame.data().ends_with('0'))
        .max_rate(of(2), SECOND);
    publish(&hub, 0..100);
    assert_eq!(read(&mut slow), [0, 10]);
    go_on(&hub, SECOND);
    assert_eq!(read(&mut slow), [20, 30]);
}

#[test]
fn what_it_is_too_slow_for_is_told_as_lag() {
    let hub = builder().retain_events(8).build().unwrap();
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(2), SECOND);
    publish(&hub, 0..2);
    assert_eq!(read(&mut slow), [0, 1]);
    publish(&hub, 2..100);
    go_on(&hub, SECOND);
    let Ok(Item::Lagged(lag)) = slow.try_recv() else {
        panic!("it has lagged");
    };
    let missed = Lag::missed(&lag).unwrap();
    // The notice costs nothing.
    assert_eq!(read(&mut slow), [2 + missed, 3 + missed]);
}

#[test]
fn a_batch_that_begins_with_what_was_lost_counts_from_now_on() {
    let hub = builder().retain_events(8).build().unwrap();
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(2), 2 * SECOND);
    let _ = hub.publish("a", Event::text("1000").control()).unwrap();
    publish(&hub, 0..200);
    go_on(&hub, 100 * SECOND);
    assert!(matches!(slow.try_recv(), Ok(Item::Lagged(_))));
    go_on(&hub, 100 * SECOND);
    // What survives it, and two.
    let mut read = Vec::new();
    while let Ok(mut batch) = slow.try_batch() {
        batch.for_each(|frame| read.push(frame.data().parse::<u64>().unwrap()));
    }
    assert_eq!((read.len(), read[0]), (3, 1000), "{read:?}");
}

#[test]
fn an_end_from_outside_does_not_wait() {
    for handle_first in [true, false] {
        let hub = builder().build().unwrap();
        let mut slow = hub.subscribe("a").unwrap();
        let handle = handle_first.then(|| slow.end_handle());
        slow = slow.max_rate(of(1), 3600 * SECOND);
        let handle = handle.unwrap_or_else(|| slow.end_handle());
        publish(&hub, 0..9);
        assert_eq!(read(&mut slow), [0]);
        let (woken, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        assert!(slow.poll_recv(&mut cx).is_pending());
        assert!(handle.end(EndReason::Requested));
        assert_eq!(woken.count(), 1);
        assert!(matches!(slow.poll_recv(&mut cx), Poll::Ready(None)));
        assert_eq!(slow.end_reason(), Some(EndReason::Requested));
    }
}

/// Also who waits for batches, as transports do.
#[test]
fn an_end_from_outside_is_readiness_too() {
    let hub = builder().build().unwrap();
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(1), 3600 * SECOND);
    let handle = slow.end_handle();
    publish(&hub, 0..9);
    assert_eq!(read_batch(&mut slow), [0]);
    let (woken, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    assert!(slow.poll_ready(&mut cx).is_pending());
    assert!(handle.end(EndReason::Requested));
    assert_eq!(woken.count(), 1);
    assert_eq!(slow.poll_ready(&mut cx), Poll::Ready(Readiness::Closed));
    assert!(matches!(slow.try_batch(), Err(TryRecvError::Closed)));
    assert_eq!(slow.end_reason(), Some(EndReason::Requested));
}

#[test]
fn who_is_asked_to_leave_reads_the_rest_at_once() {
    for way in [read, read_batch] {
        let hub = builder().build().unwrap();
        let mut slow = hub.subscribe("a").unwrap().max_rate(of(1), 3600 * SECOND);
        publish(&hub, 0..9);
        assert_eq!(way(&mut slow), [0]);
        let (woken, waker) = Wakes::new();
        assert!(
            slow.poll_ready(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let drain = hub.drain(10 * SECOND).unwrap();
        // It is asked at some time, and looks every second.
        go_on(&hub, 9 * SECOND);
        assert!(woken.count() > 0);
        assert_eq!(way(&mut slow), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(slow.try_recv().err(), Some(TryRecvError::Closed));
        assert_eq!(slow.end_reason(), Some(EndReason::Drained));
        drop(slow);
        go_on(&hub, 3 * SECOND);
        assert_eq!(block_on(drain).cut, 0);
    }
}

#[test]
fn a_closed_topic_is_read_at_the_rate() {
    let hub = builder().build().unwrap();
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(1), SECOND);
    publish(&hub, 0..2);
    hub.close();
    assert_eq!(read(&mut slow), [0]);
    assert_eq!(slow.try_recv().err(), Some(TryRecvError::Empty));
    go_on(&hub, SECOND);
    assert_eq!(read(&mut slow), [1]);
    go_on(&hub, SECOND);
    assert_eq!(slow.try_recv().err(), Some(TryRecvError::Closed));
}

/// Waiting for its turn is not standing still; not being polled is.
#[test]
fn who_waits_is_not_given_up() {
    let hub = builder().evict_after(4 * SECOND).build().unwrap();
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(1), 3600 * SECOND);
    let mut stalled = hub.subscribe("a").unwrap().max_rate(of(1), 3600 * SECOND);
    publish(&hub, 0..2);
    let (woken, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    for subscription in [&mut slow, &mut stalled] {
        assert!(subscription.poll_recv(&mut cx).is_ready());
        assert!(subscription.poll_recv(&mut cx).is_pending());
    }
    for number in 0..60 {
        publish(&hub, [number]);
        let before = woken.count();
        go_on(&hub, hub.tick());
        if woken.count() > before {
            assert!(slow.poll_recv(&mut cx).is_pending());
        }
    }
    go_on(&hub, SECOND);
    assert_eq!(slow.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(stalled.try_recv().err(), Some(TryRecvError::Closed));
    assert_eq!(stalled.end_reason(), Some(EndReason::Evicted));
    assert_eq!(hub.stats().evicted, 1);
}

/// A client that is told nothing for long, for it wants little or its turn is far, gets heartbeats though its topic moves on.
#[test]
fn who_wants_little_has_heartbeats_on_a_busy_topic() {
    type Choose = fn(Subscription) -> Subscription;
    let choices: [Choose; 2] = [
        |it| it.filter(|_| false),
        |it| it.max_rate(of(1), 3600 * SECOND),
    ];
    let beats = [15 * SECOND, SECOND * 6 / 10];
    for (choose, heartbeat) in choices
        .into_iter()
        .flat_map(|it| beats.map(|beat| (it, beat)))
    {
        let hub = builder().heartbeat(heartbeat).build().unwrap();
        let mut reader = choose(hub.subscribe("a").unwrap());
        reader.set_heartbeats(true);
        let (woken, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut silence = Duration::ZERO;
        let mut beats = 0;
        let mut seen = None;
        for number in 0..1_000 {
            publish(&hub, [number]);
            hub.go_on(1);
            silence += hub.tick();
            assert!(
                silence <= heartbeat * 16 / 15 + 2 * hub.tick(),
                "{silence:?}"
            );
            // Who was woken is polled.
            if seen.replace(woken.count()) == Some(woken.count()) {
                continue;
            }
            while let Poll::Ready(found) = reader.poll_ready(&mut cx) {
                silence = Duration::ZERO;
                if found == Readiness::Heartbeat {
                    beats += 1;
                } else {
                    let _ = reader.try_batch().unwrap().for_each(|_| ());
                }
            }
        }
        let time = 1_000 * hub.tick();
        let due = time.div_duration_f64(heartbeat);
        let beats = f64::from(beats);
        assert!(beats > 0.9 * due && beats < 2.0 * due, "{beats} of {due}");
    }
}

/// With the clock's own thread.
#[test]
fn a_reader_that_only_waits_goes_on_by_itself() {
    let hub = Hub::builder()
        .heartbeat(Duration::from_millis(600))
        .build()
        .unwrap();
    let every = Duration::from_millis(40);
    let mut slow = hub.subscribe("a").unwrap().max_rate(of(2), every);
    publish(&hub, 0..20);
    let begin = Instant::now();
    for number in 0..20 {
        let Some(Item::Frame(frame)) = block_on(slow.recv()) else {
            panic!("it goes on");
        };
        assert_eq!(frame.data(), number.to_string());
    }
    assert!(begin.elapsed() >= 9 * every, "faster than it may");
}

#[test]
fn no_time_is_no_limit() {
    let hub = builder().build().unwrap();
    let mut all = hub.subscribe("a").unwrap().max_rate(of(1), Duration::ZERO);
    publish(&hub, 0..100);
    assert_eq!(read(&mut all).len(), 100);
    let mut ages = hub
        .subscribe("a")
        .unwrap()
        .max_rate(of(u32::MAX), Duration::MAX);
    publish(&hub, 0..100);
    assert_eq!(read(&mut ages).len(), 100);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(ages.poll_recv(&mut cx).is_pending());
    let mut once = hub.subscribe("a").unwrap().max_rate(of(1), Duration::MAX);
    publish(&hub, 0..100);
    assert_eq!(read(&mut once), [0]);
    go_on(&hub, 100 * SECOND);
    assert!(once.poll_recv(&mut cx).is_pending());
}
