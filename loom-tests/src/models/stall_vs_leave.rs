//! The clock gives a reader up that stood still, at the moment when that one reads on, or goes and another one takes its
//! place. It is counted out once, by whoever was first, and nobody else is given up for it. Its waiter is somebody else's as
//! soon as it can be at it no more, and then it leaves that one alone.
//!
//! **Bound.** All interleavings of the clock's second look and the owner, also with one who takes its waiter and parks there, and if
//! the owner parks too; 3 preemptions with one who comes after an owner that goes.
//!
//! **Teeth.** A drop that looks and then stores, in place of its RMW; an eviction that does the same; a waiter that is left at
//! once, or whose generation stays, or that its owner looks for without a pin.

use std::task::{Context, Poll};

use loom::thread;

use super::{Woken, check, event, text};
use crate::ending::EndReason;
use crate::error::TryRecvError;
use crate::hub::Hub;
use crate::subscription::Subscription;
use crate::sync::{Arc, AtomicBool, Ordering, epoch};
use crate::topic::{Topic, TopicCore};

fn stands_still() -> (Hub, Topic, Subscription) {
    epoch::will_defer();
    let evict_after = std::time::Duration::from_millis(10);
    let hub = Hub::builder().evict_after(evict_after).build();
    let hub = hub.expect("valid");
    let reader = hub.subscribe("t").expect("open");
    let topic = hub.topic("t").expect("open");
    let _ = topic.publish(event(&text("a"))).expect("open");
    // The clock stands in a model: the topic moves on at the time of every look.
    TopicCore::look_for_stalled(topic.core(), 0, 0);
    assert_eq!(hub.subscribers(), 1, "given up at the first look");
    (hub, topic, reader)
}

fn look(topic: &Topic) -> thread::JoinHandle<()> {
    let topic = topic.clone();
    thread::spawn(move || TopicCore::look_for_stalled(topic.core(), 0, 0))
}

#[test]
fn stall_vs_read() {
    check("stall_vs_read", None, || {
        let (hub, topic, mut reader) = stands_still();
        let clock = look(&topic);
        let read = reader.try_recv();
        clock.join().expect("no panic");
        let last = reader.try_recv().map(drop);
        let given_up = last == Err(TryRecvError::Closed);
        assert_eq!(hub.subscribers(), usize::from(!given_up));
        if given_up {
            assert_eq!(reader.end_reason(), Some(EndReason::Evicted));
        } else {
            assert!(read.is_ok(), "neither read nor ended");
        }
        // Later looks find nothing new.
        TopicCore::look_for_stalled(topic.core(), 0, 0);
        TopicCore::look_for_stalled(topic.core(), 0, 0);
        assert_eq!(hub.subscribers(), usize::from(!given_up));
        drop(reader);
        assert_eq!(hub.subscribers(), 0);
    });
}

#[test]
fn stall_vs_leave() {
    check("stall_vs_leave", Some(3), || {
        let (hub, topic, reader) = stands_still();
        let clock = look(&topic);
        drop(reader);
        let mut next = topic.subscribe().expect("open");
        let _ = topic.publish(event(&text("b"))).expect("open");
        clock.join().expect("no panic");
        assert!(next.try_recv().is_ok(), "given up for another");
        assert_eq!(hub.subscribers(), 1);
        assert_eq!(topic.subscribers(), 1);
        drop(next);
        assert_eq!(hub.subscribers(), 0);
    });
}

/// Whoever comes next parks where the reader was that was given up.
fn newcomer(name: &str, polls: usize) {
    check(name, None, move || {
        let (hub, topic, mut reader) = stands_still();
        let done = Arc::new(AtomicBool::new(false));
        let clock = {
            let (topic, at_end) = (topic.clone(), Arc::clone(&done));
            thread::spawn(move || {
                TopicCore::look_for_stalled(topic.core(), 0, 0);
                let mut next = topic.subscribe().expect("open");
                let (woken, waker) = Woken::new();
                let polled = next.poll_recv(&mut Context::from_waker(&waker));
                assert!(polled.is_pending(), "nothing new");
                at_end.store(true, Ordering::Relaxed);
                (next, woken)
            })
        };
        // Here the clock may be through: it may not between a pin and what it is for.
        let _ = done.load(Ordering::Relaxed);
        let (reader_woken, waker) = Woken::new();
        let mut ended = false;
        for _ in 0..polls {
            let polled = reader.poll_recv(&mut Context::from_waker(&waker));
            ended = matches!(polled, Poll::Ready(None));
        }
        let mut reader = (polls > 0).then_some(reader);
        let (mut next, woken) = clock.join().expect("no panic");
        if let Some(reader) = &mut reader {
            let given_up = hub.subscribers() == 1;
            assert!(!given_up || ended || reader_woken.is(), "parked for ever");
            assert_eq!(
                reader
                    .try_recv()
                    .is_err_and(|it| it == TryRecvError::Closed),
                given_up
            );
            assert!(!given_up || reader.end_reason() == Some(EndReason::Evicted));
        }
        drop(reader);
        assert_eq!(hub.subscribers(), 1);
        let _ = topic.publish(event(&text("b"))).expect("open");
        assert!(woken.is(), "its waiter is not its own");
        assert!(next.try_recv().is_ok());
        drop(next);
        assert_eq!(hub.subscribers(), 0);
        // Whoever was given up holds nothing back, wherever it is.
        let least = topic.core().subscribers.least_passed(usize::MAX);
        assert_eq!(least, Some(u64::MAX));
    });
}

#[test]
fn stall_vs_newcomer() {
    newcomer("stall_vs_newcomer", 0);
}

#[test]
fn stall_vs_park() {
    newcomer("stall_vs_park", 2);
}
