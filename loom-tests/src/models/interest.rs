//! Who waits for subscribers, or for none, is told: J1 of `interest`.
//!
//! **Bound.** All interleavings of one that waits and one that comes, or goes.
//!
//! **Teeth.** No fence in `poll_subscribed`; none in `Hub::enter`; none in `poll_deserted`; none in `exit`; counting before the
//! waker is in.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use loom::thread;

use super::{Woken, check};
use crate::hub::Hub;

#[test]
fn interest_first_comes() {
    check("interest_first_comes", None, || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let mut interest = topic.interest();
        let comes = {
            let hub = hub.clone();
            thread::spawn(move || hub.subscribe("t").expect("open"))
        };
        let (woken, waker) = Woken::new();
        let seen = pin!(interest.subscribed()).poll(&mut Context::from_waker(&waker));
        let subscription = comes.join().expect("no panic");
        assert!(seen == Poll::Ready(()) || woken.is(), "lost news");
        drop(subscription);
    });
}

#[test]
fn interest_last_leaves() {
    check("interest_last_leaves", None, || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let mut interest = topic.interest();
        let subscription = hub.subscribe("t").expect("open");
        let leaves = thread::spawn(move || drop(subscription));
        let (woken, waker) = Woken::new();
        let deserted = pin!(interest.deserted(Duration::ZERO));
        let seen = deserted.poll(&mut Context::from_waker(&waker));
        leaves.join().expect("no panic");
        assert!(seen == Poll::Ready(()) || woken.is(), "lost news");
    });
}
