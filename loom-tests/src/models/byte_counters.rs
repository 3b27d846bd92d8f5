//! A publisher that fills a slot after its segment was evicted: it succeeds, the bytes of the log are exact in the end,
//! and the frame is freed once.
//!
//! **Bound.** 3 preemptions with one evictor, 2 with two.
//!
//! **Teeth.** The filler adds to the log's bytes whether or not the segment was evicted; EVICTED set by a load and a
//! store.

use loom::thread;

use super::{KEEP_ONE, Seen, append_slowly, check, frame};
use crate::log::{Cursor, Log};
use crate::sync::{Arc, epoch};

fn counters(name: &str, bound: usize, publishers: usize, appends: usize) {
    check(name, Some(bound), move || {
        let log = Arc::new(Log::new());
        let publishers: Vec<_> = (0..publishers)
            .map(|_| {
                let log = Arc::clone(&log);
                thread::spawn(move || append_slowly(&log, "late"))
            })
            .collect();
        for _ in 0..appends {
            append_slowly(&log, "next");
            log.retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &epoch::pin());
        }
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        log.retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &epoch::pin());
        let mut seen = Seen::default();
        seen.read(&log, &mut Cursor::at(1));
        let each = frame("x").retained_bytes();
        assert_eq!(log.bytes(), seen.frames.len() as u64 * each, "{seen:?}");
    });
}

#[test]
fn byte_counters() {
    counters("byte_counters", 3, 1, 2);
}

#[test]
fn byte_counters_two_late() {
    counters("byte_counters_two_late", 2, 2, 1);
}
