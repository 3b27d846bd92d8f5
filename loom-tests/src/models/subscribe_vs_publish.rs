//! Every publish that begins after a subscribe returned arrives, once. So a publisher may skip the append only if nobody
//! can have been promised the frame (T3), and a subscription may take its place only after it was counted.
//!
//! **Bound.** 3 preemptions with one publisher, 2 with two.
//!
//! **Teeth.** A place at the end of the tail segment, not at what is reserved of it.

use loom::thread;

use super::{check, event, tag, text};
use crate::error::TryRecvError;
use crate::hub::Hub;
use crate::subscription::{Item, Subscription};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::topic::Topic;

/// Publishes; tells whether that began after the subscribe returned.
fn publish(topic: &Topic, subscribed: &AtomicBool, what: &str) -> bool {
    let owed = subscribed.load(Ordering::Acquire);
    let _ = topic.publish(event(&text(what))).expect("open");
    owed
}

fn read(subscription: &mut Subscription) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match subscription.try_recv() {
            Ok(Item::Frame(frame)) => seen.push(tag(&frame.data())),
            Ok(Item::Lagged(lag)) => panic!("nothing was evicted unread: {lag:?}"),
            Err(TryRecvError::Empty) => return seen,
            Err(TryRecvError::Closed) => panic!("the topic is open"),
        }
    }
}

/// `before`: events that are there already, unread by somebody else.
fn subscriber_and(
    name: &str,
    bound: usize,
    before: usize,
    scripts: &'static [&'static [&'static str]],
) {
    check(name, Some(bound), move || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let other = (before > 0).then(|| hub.subscribe("t").expect("open"));
        for _ in 0..before {
            let _ = topic.publish(event(&text("old"))).expect("open");
        }
        let subscribed = Arc::new(AtomicBool::new(false));
        let publishers: Vec<_> = scripts
            .iter()
            .map(|script| {
                let (topic, subscribed) = (topic.clone(), Arc::clone(&subscribed));
                thread::spawn(move || {
                    let owed = script.iter().map(|what| publish(&topic, &subscribed, what));
                    owed.collect::<Vec<_>>()
                })
            })
            .collect();
        let mut subscription = hub.subscribe("t").expect("open");
        subscribed.store(true, Ordering::Release);
        let mut seen = read(&mut subscription);
        let owed: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("no panic"))
            .collect();
        seen.extend(read(&mut subscription));
        drop(other);
        assert!(!seen.contains(&"old".to_owned()), "from before");
        for (script, owed) in scripts.iter().zip(owed) {
            for (what, owed) in script.iter().zip(owed) {
                let times = seen.iter().filter(|seen| seen == what).count();
                assert!(times <= 1, "{what} came {times} times");
                assert!(times == 1 || !owed, "{what} was lost");
            }
        }
    });
}

#[test]
fn subscribe_vs_publish() {
    subscriber_and("subscribe_vs_publish", 3, 0, &[&["a", "b"]]);
}

#[test]
fn subscribe_vs_two_publishers() {
    subscriber_and("subscribe_vs_two_publishers", 2, 0, &[&["a"], &["b"]]);
}

/// The tail has a free slot when the subscriber takes its place.
#[test]
fn subscribe_amid_a_segment() {
    subscriber_and("subscribe_amid_a_segment", 3, 2, &[&["a", "b"]]);
}
