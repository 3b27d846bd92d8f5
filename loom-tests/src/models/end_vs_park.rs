//! A subscription is seen from outside while it parks: it sees that, or is woken to see it.
//!
//! **Bound.** All interleavings of one reader that polls and one that ends it, for the topic's first waiter; 3 preemptions
//! with a publisher beside them, and for a waiter of a group.
//!
//! A reader that has had its share for now parks at a watcher instead (R1 of `choice::rate`).
//!
//! **Teeth.** `take_one` without its RMW when the bit is clear; no look at the reason after parking; the watcher is not reached.

use std::num::NonZeroU32;
use std::task::{Context, Poll};
use std::time::Duration;

use loom::thread;

use super::{Woken, check, event, text};
use crate::ending::EndReason;
use crate::hub::Hub;

fn end(name: &str, bound: Option<usize>, first: bool, publish: bool) {
    check(name, bound, move || {
        let hub = Hub::new();
        let before = (!first).then(|| hub.subscribe("t").expect("open"));
        let mut subscription = hub.subscribe("t").expect("open");
        let handle = subscription.end_handle();
        let ender = thread::spawn(move || assert!(handle.end(EndReason::Requested)));
        let publisher = publish.then(|| {
            let hub = hub.clone();
            thread::spawn(move || hub.publish("t", event(&text("a"))).map(|_| ()))
        });
        let (woken, waker) = Woken::new();
        let mut seen = false;
        while let Poll::Ready(item) = subscription.poll_recv(&mut Context::from_waker(&waker)) {
            if item.is_none() {
                seen = true;
                break;
            }
        }
        ender.join().expect("no panic");
        if let Some(publisher) = publisher {
            publisher.join().expect("no panic").expect("open");
        }
        assert!(seen || woken.is(), "lost end");
        let polled = subscription.poll_recv(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Ready(None)), "it has seen");
        assert_eq!(subscription.end_reason(), Some(EndReason::Requested));
        drop(before);
    });
}

#[test]
fn end_vs_park() {
    end("end_vs_park", None, true, false);
}

#[test]
fn end_vs_park_in_group() {
    end("end_vs_park_in_group", Some(3), false, false);
}

#[test]
fn end_vs_park_vs_publish() {
    end("end_vs_park_vs_publish", Some(2), true, true);
}

#[test]
fn end_vs_wait_for_the_clock() {
    check("end_vs_wait_for_the_clock", None, || {
        let hub = Hub::new();
        let one = NonZeroU32::MIN;
        let subscription = hub.subscribe("t").expect("open");
        let mut subscription = subscription.max_rate(one, Duration::from_secs(60));
        let handle = subscription.end_handle();
        for name in ["a", "b"] {
            let _ = hub.publish("t", event(&text(name))).expect("open");
        }
        let ender = thread::spawn(move || assert!(handle.end(EndReason::Requested)));
        let (woken, waker) = Woken::new();
        let mut cx = Context::from_waker(&waker);
        let mut read = 0;
        let seen = loop {
            match subscription.poll_recv(&mut cx) {
                Poll::Ready(Some(_)) => read += 1,
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        assert!(read <= 1, "more than its share");
        ender.join().expect("no panic");
        assert!(seen || woken.is(), "lost end");
        let polled = subscription.poll_recv(&mut cx);
        assert!(matches!(polled, Poll::Ready(None)), "it has seen");
    });
}
