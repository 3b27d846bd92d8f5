//! Subscriptions that are ended from outside: however they are read, and as the body of a response; and who is counted as
//! lagged.

#![cfg(feature = "http-body")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::task::{Context, Poll};
use std::thread;

use common::{Got, WAYS, Wakes, block_on, event};
use fanfare::{EndReason, Event, Hub, LagPolicy, SseBody};
use futures_util::FutureExt as _;
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

fn ends(hub: &Hub, mut body: SseBody, handle: &fanfare::EndHandle, reason: EndReason) {
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
