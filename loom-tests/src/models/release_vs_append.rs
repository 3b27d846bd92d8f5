//! An idle log gives its chain back while a publisher appends: the frame is not lost, a reader that waits at the end
//! finds it, and the two ends of the log are linked again, so that eviction goes on.
//!
//! **Bound.** All interleavings of a release and a reader; 3 preemptions with a publisher; 2 with two, or with two
//! releases at once.
//!
//! **Teeth.** No fence in `begin_chain`; no fence in `evict_one`; one of the two does not link `oldest`; `oldest`
//! loaded Relaxed; `tail` not moved on; a chain cut that `oldest` does not lead to; a reader at the cut that waits; an
//! empty tail sealed.

use loom::thread;

use super::{Seen, append_slowly, check};
use crate::log::{Cursor, Log};
use crate::sync::{Arc, epoch};

fn release(name: &str, bound: usize, passed: u64, scripts: &'static [&'static [&'static str]]) {
    check(name, Some(bound), move || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "old");
        let mut cursor = Cursor::at(1);
        let mut seen = Seen::default();
        seen.read(&log, &mut cursor);
        assert_eq!(seen.offsets(), [1]);
        let publishers: Vec<_> = scripts
            .iter()
            .map(|script| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    for tag in *script {
                        append_slowly(&log, tag);
                    }
                })
            })
            .collect();
        log.release(passed, &epoch::pin());
        seen.read(&log, &mut cursor);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        seen.read(&log, &mut cursor);
        let all: usize = scripts.iter().map(|script| script.len()).sum();
        if passed == 2 {
            assert_eq!((seen.frames.len(), seen.missed), (1 + all, 0));
        } else {
            assert_eq!(seen.frames.len() as u64 + seen.missed, 1 + all as u64);
        }
        // L5: eviction finds what there is.
        let last = append_slowly(&log, "last");
        log.evict_passed(u64::MAX, &epoch::pin());
        assert_eq!(log.oldest_offset(), last, "the ends are not linked");
        seen.read(&log, &mut cursor);
        assert_eq!(seen.tags().last(), Some(&"last"));
    });
}

#[test]
fn release_vs_append() {
    release("release_vs_append", 3, 2, &[&["a", "b"]]);
}

#[test]
fn release_vs_two_publishers() {
    release("release_vs_two_publishers", 2, 2, &[&["a"], &["b"]]);
}

/// As for a log that is idle for longer than frames may live: whatever is in it goes.
#[test]
fn release_all_vs_append() {
    release("release_all_vs_append", 3, u64::MAX, &[&["a", "b"]]);
}

/// Two chains are cut in a row, by two at a time: nothing that is appended between them is lost.
#[test]
fn release_twice_vs_append() {
    check("release_twice_vs_append", Some(2), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "old");
        let releaser = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.release(u64::MAX, &epoch::pin()))
        };
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || append_slowly(&log, "a"))
        };
        log.release(u64::MAX, &epoch::pin());
        append_slowly(&log, "b");
        releaser.join().expect("no panic");
        publisher.join().expect("no panic");
        let mut seen = Seen::default();
        seen.read(&log, &mut Cursor::at(1));
        assert_eq!(seen.frames.len() as u64 + seen.missed, 3);
        let last = append_slowly(&log, "last");
        log.evict_passed(u64::MAX, &epoch::pin());
        assert_eq!(log.oldest_offset(), last, "the ends are not linked");
    });
}

/// A reader at the cut does not wait for the one who cuts.
#[test]
fn release_vs_reader() {
    check("release_vs_reader", None, || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "old");
        let mut cursor = Cursor::at(1);
        let mut seen = Seen::default();
        seen.read(&log, &mut cursor);
        let releaser = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.release(2, &epoch::pin()))
        };
        seen.read(&log, &mut cursor);
        releaser.join().expect("no panic");
        append_slowly(&log, "a");
        seen.read(&log, &mut cursor);
        assert_eq!(seen.tags(), ["old", "a"]);
    });
}

/// A chain that its publisher has not linked yet is not cut: a reader would wait for that publisher.
#[test]
fn release_vs_unlinked_chain() {
    check("release_vs_unlinked_chain", Some(3), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "old");
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || append_slowly(&log, "a"))
        };
        let releaser = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                log.release(u64::MAX, &epoch::pin());
                append_slowly(&log, "b");
                log.release(u64::MAX, &epoch::pin());
            })
        };
        releaser.join().expect("no panic");
        let mut cursor = Cursor::at(1);
        let mut seen = Seen::default();
        seen.read(&log, &mut cursor);
        publisher.join().expect("no panic");
        seen.read(&log, &mut cursor);
        assert_eq!(seen.frames.len() as u64 + seen.missed, 3);
    });
}

/// The log goes while the old chain is not evicted: nothing leaks (the check counts frames).
#[test]
fn release_then_drop() {
    check("release_then_drop", Some(3), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "old");
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                append_slowly(&log, "a");
                append_slowly(&log, "b");
            })
        };
        let releaser = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.release(2, &epoch::pin()))
        };
        // An evictor that holds the flag may leave the releaser's chain where it is.
        log.evict_passed(1, &epoch::pin());
        publisher.join().expect("no panic");
        releaser.join().expect("no panic");
    });
}
