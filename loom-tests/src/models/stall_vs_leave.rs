//! The clock gives a reader up that stood still, at the moment when that one reads on, or goes and another one takes its
//! place. It is counted out once, by whoever was first, and nobody else is given up for it.
//!
//! **Bound.** All interleavings of the clock's second look and the owner; 3 preemptions with one who comes after it.
//!
//! **Teeth.** A drop that looks and then stores, in place of its swap; an eviction that does the same.

use loom::thread;

use super::{check, event, text};
use crate::ending::EndReason;
use crate::error::TryRecvError;
use crate::hub::Hub;
use crate::subscription::Subscription;
use crate::topic::Topic;

fn stands_still() -> (Hub, Topic, Subscription) {
    let evict_after = std::time::Duration::from_millis(10);
    let hub = Hub::builder().evict_after(evict_after).build();
    let hub = hub.expect("valid");
    let reader = hub.subscribe("t").expect("open");
    let topic = hub.topic("t").expect("open");
    let _ = topic.publish(event(&text("a"))).expect("open");
    // The clock stands in a model: the topic moves on at the time of every look.
    topic.core().look_for_stalled(0, 0);
    assert_eq!(hub.subscribers(), 1, "given up at the first look");
    (hub, topic, reader)
}

fn look(topic: &Topic) -> thread::JoinHandle<()> {
    let topic = topic.clone();
    thread::spawn(move || topic.core().look_for_stalled(0, 0))
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
        topic.core().look_for_stalled(0, 0);
        topic.core().look_for_stalled(0, 0);
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
