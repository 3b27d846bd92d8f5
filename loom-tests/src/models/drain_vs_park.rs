//! A subscriber is asked to leave while it parks: it sees that, or is woken to see it (D1). What was published before is
//! read first.
//!
//! **Bound.** All interleavings of one reader that polls and one that asks, for the topic's first waiter; 3 preemptions for a
//! waiter of a group.
//!
//! **Teeth.** `ask` without its RMW when nobody is parked; no look at the standing after parking.

use std::task::{Context, Poll};

use loom::thread;

use super::{Woken, check, event, text};
use crate::ending::EndReason;
use crate::hub::Hub;
use crate::subscription::Item;

fn ask(name: &str, bound: Option<usize>, first: bool) {
    check(name, bound, move || {
        let hub = Hub::new();
        let before = (!first).then(|| hub.subscribe("t").expect("open"));
        let mut subscription = hub.subscribe("t").expect("open");
        let topic = hub.topic("t").expect("open");
        let _ = topic.publish(event(&text("a"))).expect("open");
        let asker = {
            let topic = topic.clone();
            thread::spawn(move || topic.core().subscribers.ask(|waiter| waiter.ask(false)))
        };
        let (woken, waker) = Woken::new();
        let mut cx = Context::from_waker(&waker);
        let frame = subscription.poll_recv(&mut cx);
        assert!(
            matches!(frame, Poll::Ready(Some(Item::Frame(_)))),
            "left unread"
        );
        let left = matches!(subscription.poll_recv(&mut cx), Poll::Ready(None));
        asker.join().expect("no panic");
        assert!(left || woken.is(), "never asked");
        let polled = subscription.poll_recv(&mut cx);
        assert!(matches!(polled, Poll::Ready(None)), "it has seen");
        assert_eq!(subscription.end_reason(), Some(EndReason::Drained));
        drop(before);
    });
}

#[test]
fn drain_vs_park() {
    ask("drain_vs_park", None, true);
}

#[test]
fn drain_vs_park_in_group() {
    ask("drain_vs_park_in_group", Some(3), false);
}
