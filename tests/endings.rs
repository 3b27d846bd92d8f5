//! Subscriptions that are ended from outside: however they are read, and as the body of a response; and who is counted as
//! lagged.

#![cfg(feature = "http-body")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use common::{Got, WAYS, Wakes, Way, block_on, event, events, eventually};
use fanfare::{
    EndHandle, EndReason, Event, Hub, Item, LagPolicy, SseBody, Subscription, TryRecvError,
};
use futures_util::{FutureExt as _, StreamExt as _};
use http_body_util::BodyExt as _;

const REASONS: [EndReason; 5] = [
    EndReason::TopicClosed,
    EndReason::Lagged,
    EndReason::Replaced,
    EndReason::Unregistered,
    EndReason::Requested,
];

fn publish(hub: &Hub, key: &str, text: &str) {
    let _ = hub.publish(key, Event::text(text)).unwrap();
}

const ROUNDS: usize = if cfg!(miri) { 3 } else { 300 };

fn park(subscription: &mut Subscription, waker: &Waker) {
    let poll = subscription.poll_recv(&mut Context::from_waker(waker));
    assert!(poll.is_pending());
}

/// The next chunk, waited for; `None` at the end.
fn chunk(body: &mut SseBody) -> Option<String> {
    let frame = block_on(body.frame())?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

#[test]
fn an_ended_subscription_reads_no_more() {
    for way in WAYS {
        for reason in REASONS {
            let hub = Hub::new();
            let mut subscription = hub.subscribe("a").unwrap();
            let handle = subscription.end_handle();
            publish(&hub, "a", "read");
            assert_eq!(way.read(&mut subscription), [event("read")]);
            assert_eq!(subscription.end_reason(), None);
            publish(&hub, "a", "not read");
            assert!(handle.end(reason));
            assert!(!handle.clone().end(EndReason::Requested), "once");
            assert_eq!(way.read(&mut subscription), [Got::End], "{way:?}");
            assert_eq!(subscription.end_reason(), Some(reason));
            // The hub's end is not its end.
            hub.close();
            assert_eq!(way.read(&mut subscription), [Got::End]);
            assert_eq!(subscription.end_reason(), Some(reason));
        }
    }
}

#[test]
fn an_end_wakes_who_waits() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let other = hub.subscribe("a").unwrap().into_sse().into_body();
    let handle = subscription.end_handle();
    let (woken, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(subscription.poll_recv(cx).is_pending());
    assert!(handle.end(EndReason::Replaced));
    assert_eq!(woken.count(), 1);
    assert!(matches!(subscription.poll_recv(cx), Poll::Ready(None)));
    assert_eq!(
        (hub.subscribers(), subscription.end_reason()),
        (2, Some(EndReason::Replaced))
    );
    drop(subscription);
    assert!(!handle.end(EndReason::Requested), "it is gone");
    drop(other);
}

/// From another thread, at any moment.
#[test]
fn no_end_is_missed() {
    let hub = Hub::new();
    for round in 0..if cfg!(miri) { 10 } else { 1000 } {
        let mut subscription = hub.subscribe("a").unwrap();
        let handle = subscription.end_handle();
        thread::scope(|scope| {
            scope.spawn(|| assert!(handle.end(EndReason::Requested)));
            if round % 2 == 0 {
                assert!(block_on(subscription.recv()).is_none());
                assert_eq!(subscription.end_reason(), Some(EndReason::Requested));
            } else {
                let mut body = subscription.into_sse().into_body();
                while chunk(&mut body).is_some() {}
            }
        });
    }
    assert_eq!(hub.subscribers(), 0);
}

#[test]
fn a_body_ends_with_a_comment_that_says_why() {
    for reason in REASONS {
        for several in [false, true] {
            let hub = Hub::new();
            let mut subscription = hub.subscribe("a").unwrap();
            let handle = subscription.end_handle();
            let mut sse = subscription.into_sse();
            if several {
                sse = hub.subscribe("b").unwrap().into_sse();
                let mut subscription = hub.subscribe("a").unwrap();
                let other = subscription.end_handle();
                sse = sse.with(subscription);
                assert!(!handle.end(reason), "its stream is dropped");
                ends(&hub, sse.into_body(), &other, reason);
            } else {
                ends(&hub, sse.into_body(), &handle, reason);
            }
        }
    }
}

fn ends(hub: &Hub, mut body: SseBody, handle: &EndHandle, reason: EndReason) {
    assert_eq!(chunk(&mut body).unwrap(), ":\n\n");
    publish(hub, "a", "sent");
    assert!(chunk(&mut body).unwrap().ends_with("data: sent\n\n"));
    let (woken, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(body.frame().poll_unpin(cx).is_pending());
    assert!(handle.end(reason));
    assert_eq!(woken.count(), 1);
    publish(hub, "a", "not sent");
    assert_eq!(chunk(&mut body).unwrap(), format!(": {reason}\n\n"));
    assert_eq!(chunk(&mut body), None);
    drop(body);
    assert_eq!(hub.subscribers(), 0);
    assert!(!handle.end(reason));
}

#[test]
fn a_body_whose_topic_was_closed_ends_without_a_word() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let handle = subscription.end_handle();
    let mut body = subscription.into_sse().into_body();
    publish(&hub, "a", "last");
    hub.close();
    assert_eq!(chunk(&mut body).unwrap(), ":\n\n");
    assert!(chunk(&mut body).unwrap().ends_with("data: last\n\n"));
    assert_eq!(chunk(&mut body), None);
    assert_eq!(
        body.subscription().end_reason(),
        Some(EndReason::TopicClosed)
    );
    drop(handle);
}

#[test]
fn subscriptions_that_lagged_are_counted() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    for way in WAYS {
        let before = hub.stats().lagged;
        let subscribe = |policy| hub.subscribe("a").unwrap().lag_policy(policy);
        let mut ended = subscribe(LagPolicy::Disconnect);
        let mut notified = subscribe(LagPolicy::Notify);
        let never_read = subscribe(LagPolicy::Disconnect);
        for _ in 0..1000 {
            publish(&hub, "a", "lost");
        }
        way.read(&mut ended);
        way.read(&mut notified);
        assert_eq!(ended.end_reason(), Some(EndReason::Lagged), "{way:?}");
        drop((ended, notified, never_read));
        assert_eq!(hub.stats().lagged, before + 1, "{way:?}");
    }
}

#[test]
fn lag_that_was_not_told_yet_is_not_told_any_more() {
    for way in WAYS {
        let hub = Hub::builder().retain_events(1).build().unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        for number in 0..500 {
            let _ = hub.publish("a", Event::json(&number)).unwrap();
        }
        assert!(subscription.end_handle().end(EndReason::Requested));
        assert_eq!(way.read(&mut subscription), [Got::End], "{way:?}");
        assert_eq!(subscription.end_reason(), Some(EndReason::Requested));
    }
}

#[test]
fn the_first_reason_stands() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let (handle, again) = (subscription.end_handle(), subscription.end_handle());
    let clone = handle.clone();
    assert!(handle.end(EndReason::Replaced));
    assert!(!handle.end(EndReason::Requested));
    assert!(!again.end(EndReason::Requested));
    assert!(!clone.end(EndReason::Unregistered));
    assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Closed));
    assert_eq!(subscription.end_reason(), Some(EndReason::Replaced));
    // Made after the end: it is the same one.
    assert!(!subscription.end_handle().end(EndReason::Requested));
    assert_eq!(subscription.end_reason(), Some(EndReason::Replaced));
}

#[test]
fn an_end_of_another_kind_that_was_read_stands() {
    let hub = Hub::new();
    let mut closed = hub.subscribe("a").unwrap();
    let handle = closed.end_handle();
    hub.close();
    assert_eq!(closed.end_reason(), None, "not read yet");
    assert_eq!(closed.try_recv().err(), Some(TryRecvError::Closed));
    let _ = handle.end(EndReason::Requested);
    assert_eq!(closed.try_recv().err(), Some(TryRecvError::Closed));
    assert_eq!(closed.end_reason(), Some(EndReason::TopicClosed));

    let hub = Hub::builder().retain_events(1).build().unwrap();
    let mut lagged = hub
        .subscribe("a")
        .unwrap()
        .lag_policy(LagPolicy::Disconnect);
    let handle = lagged.end_handle();
    for number in 0..500 {
        let _ = hub.publish("a", Event::json(&number)).unwrap();
    }
    assert!(matches!(lagged.try_recv(), Ok(Item::Lagged(_))));
    let _ = handle.end(EndReason::Requested);
    assert_eq!(lagged.try_recv().err(), Some(TryRecvError::Closed));
    assert_eq!(lagged.end_reason(), Some(EndReason::Lagged));
}

#[test]
fn a_handle_outlives_its_subscription_and_keeps_nothing() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let handle = subscription.end_handle();
    drop(subscription);
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    assert!(!handle.end(EndReason::Requested));
    assert!(!handle.end(EndReason::Requested));
    // Whoever has its place now is not concerned.
    let mut next = hub.subscribe("a").unwrap();
    let (woken, waker) = Wakes::new();
    park(&mut next, &waker);
    assert!(!handle.end(EndReason::Requested));
    assert_eq!(woken.count(), 0);
    publish(&hub, "a", "x");
    assert_eq!(woken.count(), 1);
    drop((next, hub));
    assert!(!handle.end(EndReason::Requested));
    assert!(format!("{handle:?}").contains("EndHandle"));
}

#[test]
fn an_ended_subscription_counts_until_it_is_dropped() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    assert!(subscription.end_handle().end(EndReason::Requested));
    assert_eq!(hub.publish("a", Event::text("x")).unwrap().subscribers(), 1);
    assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Closed));
    assert_eq!(hub.subscribers_of("a"), 1);
    drop(subscription);
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn only_the_one_who_is_ended_is_woken() {
    let hub = Hub::new();
    let mut all: Vec<_> = (0..200).map(|_| hub.subscribe("a").unwrap()).collect();
    let told: Vec<_> = all
        .iter_mut()
        .map(|subscription| {
            let (woken, waker) = Wakes::new();
            park(subscription, &waker);
            woken
        })
        .collect();
    // The topic's first waiter, and the ends and middles of chunks.
    let ended = [0, 1, 8, 63, 64, 65, 128, 150, 199];
    for (done, &one) in ended.iter().enumerate() {
        assert!(all[one].end_handle().end(EndReason::Requested));
        for (at, woken) in told.iter().enumerate() {
            let expected = usize::from(ended[..=done].contains(&at));
            assert_eq!(woken.count(), expected, "{at} when {one} was ended");
        }
    }
    publish(&hub, "a", "x");
    for (at, (subscription, woken)) in all.iter_mut().zip(&told).enumerate() {
        assert_eq!(woken.count(), 1, "{at}");
        let expected = if ended.contains(&at) {
            vec![Got::End]
        } else {
            events(["x"])
        };
        assert_eq!(Way::PollRecv.read(subscription), expected, "{at}");
    }
}

#[test]
fn whoever_waits_on_a_thread_is_woken() {
    let waits: [fn(&mut Subscription) -> bool; 3] = [
        |subscription| block_on(subscription.recv()).is_none(),
        |subscription| block_on(subscription.recv_batch()).is_none(),
        |subscription| block_on(subscription.next()).is_none(),
    ];
    let hub = Hub::new();
    let _first = hub.subscribe("a").unwrap();
    for wait in waits {
        for _ in 0..ROUNDS {
            let mut subscription = hub.subscribe("a").unwrap();
            let handle = subscription.end_handle();
            let waiting = thread::spawn(move || {
                let ended = wait(&mut subscription);
                (ended, subscription.end_reason())
            });
            assert!(handle.end(EndReason::Requested));
            assert_eq!(waiting.join().unwrap(), (true, Some(EndReason::Requested)));
        }
    }
}

#[test]
fn of_many_who_end_it_one_does() {
    let hub = Hub::new();
    for round in 0..ROUNDS {
        let mut subscription = hub.subscribe("a").unwrap();
        let handle = subscription.end_handle();
        let (begin, done) = (Barrier::new(3), AtomicUsize::new(0));
        let end = |handle: EndHandle, reason| {
            begin.wait();
            done.fetch_add(usize::from(handle.end(reason)), Ordering::SeqCst);
        };
        thread::scope(|scope| {
            scope.spawn(|| end(handle.clone(), EndReason::Replaced));
            scope.spawn(|| end(handle.clone(), EndReason::Unregistered));
            begin.wait();
            if round % 2 == 0 {
                assert!(block_on(subscription.recv()).is_none());
            } else {
                drop(subscription);
            }
        });
        let done = done.into_inner();
        // Against the drop nobody may have been in time.
        assert!(
            done == 1 || (done == 0 && round % 2 == 1),
            "{done} of round {round}"
        );
    }
    assert_eq!(hub.subscribers(), 0);
}

#[test]
fn amid_a_stream_of_events_it_ends_without_a_gap_before() {
    let most = if cfg!(miri) { 100 } else { 1000 };
    for _ in 0..ROUNDS.div_ceil(10) {
        let hub = Hub::builder().retain_events(1 << 16).build().unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        let handle = subscription.end_handle();
        let reader = thread::spawn(move || {
            let mut next = 0_u64;
            while let Some(item) = block_on(subscription.recv()) {
                let Item::Frame(frame) = item else {
                    panic!("{item:?}")
                };
                assert_eq!(frame.data(), next.to_string());
                next += 1;
            }
            assert_eq!(subscription.end_reason(), Some(EndReason::Requested));
        });
        let mut number = 0_u64;
        while number < most || !reader.is_finished() {
            let _ = hub.publish("a", Event::json(&number)).unwrap();
            number += 1;
            if number == most / 2 {
                assert!(handle.end(EndReason::Requested));
            }
            if number > most {
                eventually("the reader's end", || reader.is_finished());
            }
        }
        reader.join().unwrap();
    }
}

#[test]
fn a_waker_that_panics_panics_where_it_is_ended() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as it was told");
        }
    }
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let handle = subscription.end_handle();
    park(&mut subscription, &Waker::from(Arc::new(Panics)));
    let end = catch_unwind(AssertUnwindSafe(|| handle.end(EndReason::Requested)));
    assert!(end.is_err());
    assert!(!handle.end(EndReason::Requested), "ended all the same");
    assert!(block_on(subscription.recv()).is_none());
}

#[test]
fn each_reason_has_a_notice_of_one_line() {
    for reason in REASONS {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("a").unwrap();
        assert!(subscription.end_handle().end(reason));
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Closed));
        assert_eq!(subscription.end_reason(), Some(reason));
        assert_eq!(reason.to_string(), reason.notice());
        assert!(!reason.notice().is_empty() && !reason.notice().contains(['\r', '\n']));
    }
}
