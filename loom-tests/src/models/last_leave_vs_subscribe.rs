//! The last subscription of a topic goes while another comes: the new one gets what is published after it, and the topic
//! is removed exactly when nobody uses it. With history, a topic that holds an event stays.
//!
//! **Bound.** 3 preemptions.
//!
//! **Teeth.** A removal that does not look at the users under the lock; a user counted in outside the lock.

use loom::thread;

use super::{check, event, tag, text};
use crate::hub::Hub;
use crate::subscription::{Item, Subscription};

fn subscribe_publish_read(hub: &Hub, what: &str) -> Subscription {
    let mut subscription = hub.subscribe("t").expect("open");
    let published = hub.publish("t", event(&text(what))).expect("open");
    assert!(published.subscribers() > 0, "published to nobody");
    loop {
        match subscription.try_recv() {
            Ok(Item::Frame(frame)) if tag(&frame.data()) == what => return subscription,
            // Another's.
            Ok(Item::Frame(_)) => {}
            other => panic!("{what} was lost: {other:?}"),
        }
    }
}

#[test]
fn last_leave_vs_subscribe() {
    check("last_leave_vs_subscribe", Some(3), || {
        let hub = Hub::new();
        let old = hub.subscribe("t").expect("open");
        let leaver = thread::spawn(move || drop(old));
        let new = subscribe_publish_read(&hub, "a");
        leaver.join().expect("no panic");
        assert_eq!((hub.topics(), hub.subscribers_of("t")), (1, 1));
        drop(new);
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    });
}

/// The late drop of an old subscription meets the topic of a later one.
#[test]
fn late_leave_vs_two_lives() {
    check("late_leave_vs_two_lives", Some(2), || {
        let hub = Hub::new();
        let old = hub.subscribe("t").expect("open");
        let leaver = thread::spawn(move || drop(old));
        let other = {
            let hub = hub.clone();
            thread::spawn(move || drop(hub.subscribe("t").expect("open")))
        };
        let new = subscribe_publish_read(&hub, "a");
        leaver.join().expect("no panic");
        other.join().expect("no panic");
        assert_eq!((hub.topics(), hub.subscribers_of("t")), (1, 1));
        drop(new);
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    });
}

/// U2: the last user sees what the one before it did, and leaves a topic that has history.
#[test]
fn last_leave_with_history() {
    check("last_leave_with_history", Some(3), || {
        let hub = Hub::builder().history(true).build().expect("valid");
        let [publisher, idler] = [(); 2].map(|()| hub.topic("t").expect("open"));
        let publisher = thread::spawn(move || {
            let _ = publisher.publish(event(&text("a"))).expect("open");
        });
        drop(idler);
        publisher.join().expect("no panic");
        assert_eq!(hub.topics(), 1, "a topic with history was removed");
    });
}
