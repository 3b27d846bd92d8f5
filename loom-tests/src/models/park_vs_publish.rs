//! The first waiter, under the top word alone: whoever is parked has seen everything, or was woken. No wake is lost.
//!
//! **Bound.** All interleavings of one parker that polls twice and one publisher of two events; 3 preemptions with two
//! publishers; 2 through a hub.
//!
//! **Teeth.** No fence in `arm`; no fence in `needs_wake`; the top bit set before the leaf; the top word cleared after
//! the scan; the leaf armed without Acquire; no wake after an append.

use std::task::{Context, Poll};

use loom::thread;

use super::{Bell, Listener, Woken, check, event, text};
use crate::hub::Hub;
use crate::sync::Arc;

fn park(name: &str, bound: Option<usize>, times: usize, events: &'static [usize]) {
    check(name, bound, move || {
        let bell = Arc::new(Bell::new());
        let seat = bell.subscribers.claim();
        let publishers: Vec<_> = events
            .iter()
            .map(|count| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || (0..*count).for_each(|_| bell.publish()))
            })
            .collect();
        let mut listener = Listener::default();
        for _ in 0..times {
            listener.poll(&bell, &seat);
        }
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        listener.assert_not_lost(&bell);
    });
}

#[test]
fn park_vs_publish() {
    park("park_vs_publish", None, 2, &[2]);
}

#[test]
fn park_vs_two_publishers() {
    park("park_vs_two_publishers", Some(3), 2, &[1, 1]);
}

/// The whole way: by key and by handle, each event with its own wake.
#[test]
fn park_vs_publish_hub() {
    check("park_vs_publish_hub", Some(2), || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let mut subscription = hub.subscribe("t").expect("open");
        let by_key = {
            let hub = hub.clone();
            thread::spawn(move || hub.publish("t", event(&text("a"))).map(drop_outcome))
        };
        let by_handle = thread::spawn(move || topic.publish(event(&text("b"))).map(drop_outcome));
        let (woken, waker) = Woken::new();
        let mut seen = 0;
        while let Poll::Ready(item) = subscription.poll_recv(&mut Context::from_waker(&waker)) {
            assert!(item.is_some(), "the topic is open");
            seen += 1;
        }
        by_key.join().expect("no panic").expect("open");
        by_handle.join().expect("no panic").expect("open");
        assert!(seen == 2 || woken.is(), "lost wake-up");
    });
}

fn drop_outcome(_: crate::topic::Published) {}
