//! One reader frees what all have read while another subscriber joins: the new one misses nothing from its place on, and
//! is told of no lag.
//!
//! **Bound.** 3 preemptions.
//!
//! **Teeth.** No fence in `claim`; no fence in `least_passed`; a joining waiter that holds nothing back.

use loom::thread;

use super::{Seen, append_pinned, append_slowly, check, event, tag, text};
use crate::error::TryRecvError;
use crate::hub::Hub;
use crate::log::{Cursor, Log};
use crate::subscribers::Subscribers;
use crate::subscription::Item;
use crate::sync::{Arc, epoch};

/// The parts, without the pins between them that a hub has.
#[test]
fn passed_vs_subscribe() {
    check("passed_vs_subscribe", Some(3), || {
        let feed = Arc::new((Log::new(), Subscribers::new()));
        let seat = feed.1.claim();
        append_slowly(&feed.0, "1");
        let reader = {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                // One pin for all: a pin inside another has no fence, and the ones of the protocol have to do.
                let guard = epoch::pin();
                append_pinned(&feed.0, "2", &guard);
                append_pinned(&feed.0, "3", &guard);
                let mut cursor = Cursor::at(1);
                let mut seen = Seen::default();
                seen.read_pinned(&feed.0, &mut cursor, &guard);
                feed.1.set_passed(&seat, cursor.offset());
                let passed = feed.1.least_passed(usize::MAX).expect("a short list");
                feed.0.evict_passed(passed, &guard);
                assert_eq!(seen.offsets(), [1, 2, 3]);
            })
        };
        // The same here: a subscriber that holds a batch of another topic.
        let guard = epoch::pin();
        let seat = feed.1.claim();
        let mut cursor = Cursor::at_end(&feed.0, &guard);
        let place = cursor.offset();
        feed.1.set_passed(&seat, place);
        drop(guard);
        let mut seen = Seen::default();
        seen.read(&feed.0, &mut cursor);
        reader.join().expect("no panic");
        seen.read(&feed.0, &mut cursor);
        assert_eq!(seen.missed, 0, "evicted before it was read");
        assert_eq!(seen.offsets(), (place..=3).collect::<Vec<_>>());
    });
}

#[test]
fn passed_vs_subscribe_hub() {
    check("passed_vs_subscribe_hub", Some(3), || {
        let hub = Hub::new();
        let mut old = hub.subscribe("t").expect("open");
        let publish = |what| {
            let _ = hub.publish("t", event(&text(what))).expect("open");
        };
        publish("1");
        publish("2");
        let reader = thread::spawn(move || {
            let mut read = 0;
            while let Ok(Item::Frame(_)) = old.try_recv() {
                read += 1;
            }
            assert!(read >= 2);
            old
        });
        let mut new = hub.subscribe("t").expect("open");
        publish("3");
        let old = reader.join().expect("no panic");
        let mut seen = Vec::new();
        loop {
            match new.try_recv() {
                Ok(Item::Frame(frame)) => seen.push(tag(&frame.data())),
                Ok(Item::Lagged(lag)) => panic!("evicted before it was read: {lag:?}"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        assert_eq!(seen.last().map(String::as_str), Some("3"));
        drop(old);
    });
}
