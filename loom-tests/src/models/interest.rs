//! Who waits for subscribers, or for none, is told: J1 of `interest`. What it publishes then is read: J2.
//!
//! The `Interest` is made amid the race: one that is seen to be there is told under the lock of its waker, and that lock
//! orders the rest without the fences.
//!
//! **Bound.** All interleavings of one that waits and one that comes, or goes; 3 preemptions with another one that stops to
//! watch meanwhile.
//!
//! **Teeth.** No fence in `poll_subscribed`; none in `Subscription::start`; none in `poll_deserted`; none in `exit`; looking before the
//! waker is in; watchers told before the subscription is counted out.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use loom::thread;

use super::{Woken, check, event, text};
use crate::hub::Hub;

fn first_comes(name: &str, bound: Option<usize>, beside_another: bool) {
    check(name, bound, move || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let other = beside_another.then(|| topic.interest());
        let comes = {
            let hub = hub.clone();
            thread::spawn(move || hub.subscribe("t").expect("open"))
        };
        let stops = other.map(|other| thread::spawn(move || drop(other)));
        let mut interest = topic.interest();
        let (woken, waker) = Woken::new();
        let seen = pin!(interest.subscribed()).poll(&mut Context::from_waker(&waker));
        let subscription = comes.join().expect("no panic");
        if let Some(stops) = stops {
            stops.join().expect("no panic");
        }
        assert!(seen != Poll::Pending || woken.is(), "lost news");
        drop(subscription);
    });
}

/// J2: what is published as soon as somebody is there is read.
#[test]
fn interest_first_event() {
    check("interest_first_event", None, || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let mut interest = topic.interest();
        let comes = {
            let hub = hub.clone();
            thread::spawn(move || hub.subscribe("t").expect("open"))
        };
        let (_, waker) = Woken::new();
        let there = pin!(interest.subscribed()).poll(&mut Context::from_waker(&waker));
        if there.is_ready() {
            let published = topic.publish(event(&text("a")));
            assert_eq!(published.expect("open").subscribers(), 1);
        }
        let mut subscription = comes.join().expect("no panic");
        assert_eq!(
            subscription.try_recv().is_ok(),
            there.is_ready(),
            "the first event"
        );
    });
}

#[test]
fn interest_first_comes() {
    first_comes("interest_first_comes", None, false);
}

#[test]
fn interest_beside_another() {
    first_comes("interest_beside_another", Some(3), true);
}

#[test]
fn interest_last_leaves() {
    check("interest_last_leaves", None, || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let subscription = hub.subscribe("t").expect("open");
        let leaves = thread::spawn(move || drop(subscription));
        let mut interest = topic.interest();
        let (woken, waker) = Woken::new();
        let deserted = pin!(interest.deserted(Duration::ZERO));
        let seen = deserted.poll(&mut Context::from_waker(&waker));
        leaves.join().expect("no panic");
        assert!(seen == Poll::Ready(()) || woken.is(), "lost news");
    });
}
