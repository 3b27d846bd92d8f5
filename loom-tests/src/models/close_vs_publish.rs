//! A topic is closed while it is published to and read, over two segments: a publish that succeeded is delivered, the
//! others are refused, and the reader ends after the last one. A hub that closes leaves no topic open (H1).
//!
//! **Bound.** 3 preemptions; 2 with two publishers.
//!
//! **Teeth.** A close that does not seal; an append that goes on behind an empty sealed segment; a topic that is made
//! without a look at the hub after it.

use loom::thread;

use super::{KEEP_ONE, Seen, append_slowly, check, event, frame, tag, text};
use crate::error::{PublishError, SubscribeError, TryRecvError};
use crate::event_id::EventId;
use crate::hub::Hub;
use crate::log::{Cursor, Log};
use crate::memory::Payer;
use crate::subscription::{Item, Subscription};
use crate::sync::{Arc, epoch};

/// Reads what is there; tells whether the subscription has ended.
fn read(subscription: &mut Subscription, seen: &mut Vec<String>) -> bool {
    loop {
        match subscription.try_recv() {
            Ok(Item::Frame(frame)) => seen.push(tag(&frame.data())),
            Ok(Item::Lagged(lag)) => panic!("nothing was evicted unread: {lag:?}"),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed) => return true,
        }
    }
}

fn close(name: &str, bound: usize, before: usize, scripts: &'static [&'static [&'static str]]) {
    check(name, Some(bound), move || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let mut subscription = hub.subscribe("t").expect("open");
        for _ in 0..before {
            let _ = topic.publish(event(&text("0"))).expect("open");
        }
        let publishers: Vec<_> = scripts
            .iter()
            .map(|script| {
                let topic = topic.clone();
                thread::spawn(move || {
                    let publish = |what: &&&str| match topic.publish(event(&text(what))) {
                        Ok(_) => true,
                        Err(PublishError::Closed) => false,
                        Err(error) => panic!("{error}"),
                    };
                    script.iter().filter(publish).count()
                })
            })
            .collect();
        let closer = {
            let hub = hub.clone();
            thread::spawn(move || hub.close())
        };
        let mut seen = Vec::new();
        let mut ended = read(&mut subscription, &mut seen);
        let at_first_end = ended.then_some(seen.len());
        closer.join().expect("no panic");
        let accepted: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("no panic"))
            .collect();
        ended |= read(&mut subscription, &mut seen);
        assert!(ended, "a closed topic ends: {seen:?} of {accepted:?}");
        assert!(
            at_first_end.is_none_or(|len| len == seen.len()),
            "the end was too early"
        );
        assert_eq!(seen.len(), before + accepted.iter().sum::<usize>());
        for (script, accepted) in scripts.iter().zip(accepted) {
            // A refusal is for good, so the first ones were accepted.
            for what in &script[..accepted] {
                assert!(seen.iter().any(|seen| seen == what), "{what} was lost");
            }
        }
        let refused = topic.publish(event(&text("late")));
        assert!(matches!(refused, Err(PublishError::Closed)));
    });
}

#[test]
fn close_vs_publish() {
    close("close_vs_publish", 3, 0, &[&["a", "b"]]);
}

/// The first segment is full, so the race is for what follows it.
#[test]
fn close_vs_publish_at_an_end() {
    close("close_vs_publish_at_an_end", 3, 1, &[&["a"]]);
}

#[test]
fn close_vs_two_publishers() {
    close("close_vs_two_publishers", 2, 1, &[&["a"], &["b"]]);
}

#[test]
fn close_vs_subscribe() {
    check("close_vs_subscribe", Some(3), || {
        let hub = Hub::new();
        let closer = {
            let hub = hub.clone();
            thread::spawn(move || hub.close())
        };
        let subscribed = hub.subscribe("t");
        closer.join().expect("no panic");
        match subscribed {
            Err(error) => assert_eq!(error, SubscribeError::Closed),
            Ok(mut subscription) => {
                assert!(read(&mut subscription, &mut Vec::new()), "never ends");
            }
        }
        assert_eq!(hub.topics(), 0);
    });
}

/// T4: a topic is closed by itself while somebody subscribes to its key: the subscription ends, or it is one of a new topic that
/// publishers find.
#[test]
fn topic_close_vs_subscribe() {
    check("topic_close_vs_subscribe", Some(3), || {
        let hub = Hub::new();
        let topic = hub.topic("t").expect("open");
        let closer = thread::spawn(move || topic.close());
        let mut subscription = hub.subscribe("t").expect("the hub is open");
        closer.join().expect("no panic");
        let published = hub.publish("t", event(&text("a"))).expect("open");
        let ended = read(&mut subscription, &mut Vec::new());
        assert_eq!(published.subscribers(), usize::from(!ended));
    });
}

/// T4: a topic is closed by itself while somebody publishes to its key: the publish succeeds, and the event is in the old life or in
/// the new one.
#[test]
fn topic_close_vs_publish() {
    check("topic_close_vs_publish", Some(3), || {
        let hub = Hub::builder().history(true).build().expect("valid");
        let topic = hub.topic("t").expect("open");
        let mut before = topic.subscribe().expect("open");
        let closer = thread::spawn(move || topic.close());
        let published = hub
            .publish("t", event(&text("a")))
            .expect("the hub is open");
        closer.join().expect("no panic");
        let mut seen = Vec::new();
        assert!(read(&mut before, &mut seen), "never ends");
        let after = EventId::new(published.id().expect("kept").epoch(), 0);
        let mut again = hub.subscribe_from("t", after).expect("the hub is open");
        let kept = matches!(again.try_recv(), Ok(Item::Frame(_)));
        assert_eq!(
            (seen.len(), kept),
            if seen.is_empty() {
                (0, true)
            } else {
                (1, false)
            }
        );
    });
}

/// S5: whatever a close seals, a reader that stands in it reads no freed memory.
#[test]
fn close_vs_evict() {
    check("close_vs_evict", Some(3), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "old");
        let mut cursor = Cursor::at(1);
        let mut seen = Seen::default();
        seen.read(&log, &mut cursor);
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let guard = epoch::pin();
                let appended = log
                    .append(frame("a"), 7, 100, (|| 100, Payer::NOBODY), &guard)
                    .is_ok();
                if appended {
                    log.retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &guard);
                }
                appended
            })
        };
        let closer = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.close(&epoch::pin()))
        };
        seen.read(&log, &mut cursor);
        closer.join().expect("no panic");
        let appended = publisher.join().expect("no panic");
        seen.read(&log, &mut cursor);
        assert!(seen.ended, "a closed log ends");
        let all = 1 + u64::from(appended);
        assert_eq!(seen.frames.len() as u64 + seen.missed, all);
    });
}
