//! Publishers and a reader across the end of a segment: every frame once, in offset order, fully written.
//!
//! **Bound.** 3 preemptions with two frames (both cross a segment's end), 2 with three frames, where the reader follows
//! `next` twice and segments grow, and where a publisher helps another's new segment to become the tail.
//!
//! **Teeth.** A slot stored or loaded Relaxed; `next` decided or loaded Relaxed, also by the loser of its race; `tail`
//! moved on or loaded Relaxed; the first segment linked Relaxed.

use loom::thread;

use super::{Seen, append, check};
use crate::log::{Cursor, Log};
use crate::sync::Arc;

fn publishers(name: &str, bound: usize, scripts: [&'static [&'static str]; 2]) {
    check(name, Some(bound), move || {
        let log = Arc::new(Log::new());
        let publishers = scripts.map(|script| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let offsets: Vec<_> = script.iter().map(|tag| append(&log, tag)).collect();
                assert!(offsets.is_sorted(), "a publisher's order is kept");
            })
        });
        let mut cursor = Cursor::at(1);
        let mut seen = Seen::default();
        seen.read(&log, &mut cursor);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        seen.read(&log, &mut cursor);
        let mut all = scripts.concat();
        all.sort_unstable();
        assert_eq!(seen.sorted_tags(), all);
        for script in scripts {
            let of_script = |tag: &&str| script.contains(tag);
            let order: Vec<_> = seen.tags().into_iter().filter(of_script).collect();
            assert_eq!(order, script);
        }
        assert_eq!(seen.missed, 0);
    });
}

#[test]
fn two_publishers() {
    publishers("two_publishers", 3, [&["a"], &["b"]]);
}

#[test]
fn two_publishers_three_frames() {
    publishers("two_publishers_three_frames", 2, [&["a", "b"], &["c"]]);
}
