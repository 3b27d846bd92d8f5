//! A topic is closed while its reader parks: the reader sees the end or is woken, whether the log has segments or not.
//!
//! **Bound.** All interleavings of the log and the bits; 3 preemptions with a publisher,
//! and through a hub.
//!
//! **Teeth.** A close that does not wake. (The fences: `park_vs_publish`.)

use std::task::{Context, Poll};

use loom::thread;

use super::{Seen, Woken, append, check};
use crate::hub::Hub;
use crate::log::{Cursor, Log};
use crate::memory::Payer;
use crate::subscribers::Subscribers;
use crate::sync::{Arc, epoch};

fn close(name: &str, bound: Option<usize>, before: usize, publish: bool) {
    check(name, bound, move || {
        let feed = Arc::new((Log::new(), Subscribers::new()));
        let seat = feed.1.claim();
        for _ in 0..before {
            append(&feed.0, "0");
        }
        let mut cursor = Cursor::at_end(&feed.0, &epoch::pin());
        let closer = {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                feed.0.close(&epoch::pin());
                feed.1.wake();
            })
        };
        let publisher = publish.then(|| {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                let guard = epoch::pin();
                let appended =
                    feed.0
                        .append(super::frame("a"), 7, 0, (|| 0, Payer::NOBODY), &guard);
                drop(guard);
                feed.1.wake();
                appended.is_ok()
            })
        });
        let mut seen = Seen::default();
        let (woken, waker) = Woken::new();
        feed.1.arm(&seat, &waker);
        seen.read(&feed.0, &mut cursor);
        let parked = !seen.ended;
        let found = seen.frames.len();
        closer.join().expect("no panic");
        let accepted = publisher.is_some_and(|publisher| publisher.join().expect("no panic"));
        seen.read(&feed.0, &mut cursor);
        assert!(seen.ended, "a closed log ends");
        assert_eq!(seen.frames.len(), usize::from(accepted));
        // Whoever found a frame polls again without a wake.
        assert!(!parked || found > 0 || woken.is(), "lost wake-up");
    });
}

#[test]
fn close_vs_park() {
    close("close_vs_park", None, 1, false);
}

#[test]
fn close_empty_vs_park() {
    close("close_empty_vs_park", None, 0, false);
}

#[test]
fn close_vs_park_and_publish() {
    close("close_vs_park_and_publish", Some(3), 1, true);
}

#[test]
fn close_vs_park_hub() {
    check("close_vs_park_hub", Some(3), || {
        let hub = Hub::new();
        let mut subscription = hub.subscribe("t").expect("open");
        let closer = {
            let hub = hub.clone();
            thread::spawn(move || hub.close())
        };
        let (woken, waker) = Woken::new();
        let polled = subscription.poll_recv(&mut Context::from_waker(&waker));
        closer.join().expect("no panic");
        match polled {
            Poll::Ready(None) => {}
            Poll::Ready(Some(item)) => panic!("nothing was published: {item:?}"),
            Poll::Pending => assert!(woken.is(), "lost wake-up"),
        }
        assert!(
            subscription
                .poll_recv(&mut Context::from_waker(&waker))
                .is_ready()
        );
    });
}
