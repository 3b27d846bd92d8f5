//! A publisher is preempted between its reservation and its fill. Readers stop before the hole, whatever stands behind
//! it, and the filler of the hole wakes them. If the hole is evicted instead, whoever evicts it wakes them, and the hole
//! counts as missed. A subscription that began behind the hole, and is parked, is woken for those that stand before it.
//!
//! **Bound.** 3 preemptions; 2 with eviction; all of one publisher and a subscription behind it.
//!
//! **Teeth.** A reader that steps over a hole; no fence in `needs_wake`. (None in `arm`: the pin of the look that follows has one.)

use loom::thread;

use super::{KEEP_ONE, Seen, Woken, append, append_slowly, check};
use crate::log::{Cursor, Log};
use crate::subscribers::{Seat, Subscribers};
use crate::sync::{Arc, epoch};

struct Feed {
    log: Log,
    subscribers: Subscribers,
}

impl Feed {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            log: Log::new(),
            subscribers: Subscribers::new(),
        })
    }

    /// Parks, and looks again. Tells the waker's mark if nothing was found.
    fn poll(
        &self,
        seat: &Seat,
        cursor: &mut Cursor,
        seen: &mut Seen,
    ) -> Option<std::sync::Arc<Woken>> {
        let before = cursor.offset();
        let (woken, waker) = Woken::new();
        self.subscribers.arm(seat, &waker);
        // `read` asserts that nothing is stepped over.
        seen.read(&self.log, cursor);
        if cursor.offset() > before {
            self.subscribers.disarm(seat);
            return None;
        }
        Some(woken)
    }

    /// After all threads: whoever is parked had seen all, or was woken.
    fn assert_not_lost(
        &self,
        parked: Option<std::sync::Arc<Woken>>,
        cursor: &mut Cursor,
        seen: &mut Seen,
    ) {
        let before = cursor.offset();
        seen.read(&self.log, cursor);
        if let Some(woken) = parked {
            assert!(cursor.offset() == before || woken.is(), "lost wake-up");
        }
    }
}

#[test]
fn hole() {
    check("hole", Some(3), || {
        let feed = Feed::new();
        let seat = feed.subscribers.claim();
        // Segments of 1, 2 and 4 slots: three are free.
        for _ in 0..4 {
            append(&feed.log, "old");
        }
        let mut cursor = Cursor::at_end(&feed.log, &epoch::pin());
        let publishers = ["a", "b"].map(|tag| {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                append(&feed.log, tag);
                feed.subscribers.wake();
            })
        });
        let mut seen = Seen::default();
        feed.poll(&seat, &mut cursor, &mut seen);
        let parked = feed.poll(&seat, &mut cursor, &mut seen);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        feed.assert_not_lost(parked, &mut cursor, &mut seen);
        assert_eq!(seen.offsets(), [5, 6]);
        assert_eq!(seen.sorted_tags(), ["a", "b"]);
    });
}

/// One subscription is parked, and another reader goes on when that one is woken: the last look of a connection of the reactor,
/// after the park. That there is one is tested where it is done; how a shard hears of the wake is `inbox`.
#[test]
fn hole_below_the_parked() {
    check("hole_below_the_parked", None, || {
        let feed = Feed::new();
        let seat = feed.subscribers.claim();
        append(&feed.log, "old");
        append(&feed.log, "old");
        let publisher = {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                append(&feed.log, "a");
                feed.subscribers.wake();
            })
        };
        let mut ahead = Cursor::at_end(&feed.log, &epoch::pin());
        let parked = feed.poll(&seat, &mut ahead, &mut Seen::default());
        // It looks after the other one has parked, if at all.
        let mut cursor = Cursor::at(3);
        let mut seen = Seen::default();
        if cursor.offset() < ahead.offset() {
            seen.read(&feed.log, &mut cursor);
        }
        publisher.join().expect("no panic");
        feed.assert_not_lost(parked, &mut cursor, &mut seen);
        assert_eq!(seen.offsets(), [3]);
    });
}

#[test]
fn hole_evicted() {
    check("hole_evicted", Some(2), || {
        let feed = Feed::new();
        let seat = feed.subscribers.claim();
        let mut cursor = Cursor::at(1);
        let publishers = [(); 2].map(|()| {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                append_slowly(&feed.log, "a");
                feed.log
                    .retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &epoch::pin());
                feed.subscribers.wake();
            })
        });
        let mut seen = Seen::default();
        feed.poll(&seat, &mut cursor, &mut seen);
        let parked = feed.poll(&seat, &mut cursor, &mut seen);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        feed.assert_not_lost(parked, &mut cursor, &mut seen);
        assert_eq!(seen.frames.len() as u64 + seen.missed, 2);
    });
}
