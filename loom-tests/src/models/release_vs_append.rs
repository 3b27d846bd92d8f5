//! An idle log gives its chain back while a publisher appends: the frame is not lost, a reader that waits at the end
//! finds it, and the two ends of the log are linked again, so that eviction goes on. A log that is closed meanwhile gives its last
//! segment back too, and its reader comes to the end, with all counted.
//!
//! **Bound.** All interleavings of a release and a reader; 3 preemptions with a publisher; 2 with two, or with two
//! releases at once; 3 with a close and a reader.
//!
//! **Teeth.** No fence in `begin_chain`; no fence in `evict_one`; one of the two does not link `oldest`; `oldest`
//! loaded Relaxed; `tail` not moved on; a chain cut that `oldest` does not lead to; a reader at the cut that waits; an
//! empty tail sealed.

use loom::thread;

use super::{Seen, append_slowly, check, slow_append};
use crate::log::{Cursor, Log, Reader, Step};
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

/// A log is closed and given back while its reader is on the way, and another one begins at its end.
#[test]
fn release_vs_close() {
    check("release_vs_close", Some(3), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "a");
        append_slowly(&log, "b");
        let closer = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                log.close(&epoch::pin());
                log.release(u64::MAX, &epoch::pin());
            })
        };
        let mut seen = Seen::default();
        let mut cursor = Cursor::at(1);
        seen.read(&log, &mut cursor);
        let mut late = Cursor::at_end(&log, &epoch::pin());
        closer.join().expect("no panic");
        seen.read(&log, &mut cursor);
        assert_eq!(seen.frames.len() as u64 + seen.missed, 2);
        assert_eq!(log.oldest_offset(), 3, "all is given back");
        assert!(!log.has_chain());
        let guard = epoch::pin();
        for cursor in [&mut cursor, &mut late] {
            let mut reader = Reader::new(&log, &guard, cursor);
            assert!(matches!(reader.step(), Step::Ended), "it is closed");
            assert_eq!(reader.offset(), 3);
        }
    });
}

/// A close that has sealed an empty segment: it stays, for a cursor that stands at its first offset may follow it (S5).
#[test]
fn an_empty_last_segment_stays() {
    check("an_empty_last_segment_stays", Some(3), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "a");
        let closer = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                log.close(&epoch::pin());
                log.release(u64::MAX, &epoch::pin());
            })
        };
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || slow_append(&log, "b").is_some())
        };
        let mut seen = Seen::default();
        let mut cursor = Cursor::at(1);
        seen.read(&log, &mut cursor);
        closer.join().expect("no panic");
        let appended = publisher.join().expect("no panic");
        seen.read(&log, &mut cursor);
        log.release(u64::MAX, &epoch::pin());
        seen.read(&log, &mut cursor);
        let all = 1 + u64::from(appended);
        assert_eq!(seen.frames.len() as u64 + seen.missed, all);
        let guard = epoch::pin();
        let mut reader = Reader::new(&log, &guard, &mut cursor);
        assert!(matches!(reader.step(), Step::Ended), "it is closed");
        assert_eq!(reader.offset(), all + 1);
    });
}
