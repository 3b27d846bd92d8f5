//! A reader that stands still while its segments are evicted, wherever it stands: it reads no freed memory, and frames
//! and lag together make every offset, once and in order.
//!
//! **Bound.** 3 preemptions. Segments have one slot; a frame counts as freed when the last pin that could see it goes.
//!
//! **Teeth.** `oldest_offset` raised, or `oldest` moved, after the retirement; a reader that follows its address
//! without a look at `oldest_offset` under its pin, or looks one offset too late; `oldest` stored Relaxed;
//! `oldest_offset` loaded Relaxed.

use loom::thread;

use super::{KEEP_ONE, Seen, append_pinned, append_slowly, check};
use crate::log::{Cursor, Log, Reader};
use crate::sync::{Arc, epoch};

/// Where the reader stands when the race begins.
#[derive(Clone, Copy)]
enum Stand {
    /// At an offset, with no address.
    Lost(u64),
    /// In the first segment, whose frame it has not read.
    In,
    /// At the end of the first segment.
    Behind,
}

/// A log of `old` segments, to which `new` are appended; all but the last one are evicted while a reader reads.
fn evict(name: &str, stand: Stand, [old, new]: [u64; 2], reads: usize) {
    check(name, Some(3), move || {
        let log = Arc::new(Log::new());
        for _ in 0..old {
            append_slowly(&log, "old");
        }
        let (mut cursor, from) = match stand {
            Stand::Lost(offset) => (Cursor::at(offset), offset),
            Stand::In | Stand::Behind => (Cursor::at(1), 1),
        };
        {
            let guard = epoch::pin();
            let mut reader = Reader::new(&log, &guard, &mut cursor);
            match stand {
                Stand::Lost(_) => {}
                Stand::In => drop(reader.peek()),
                Stand::Behind => drop(reader.step()),
            }
        }
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                // One pin for all: a second one would order what came before it.
                let guard = epoch::pin();
                for _ in 0..new {
                    append_pinned(&log, "new", &guard);
                }
                log.retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &guard);
            })
        };
        let mut seen = Seen::default();
        for _ in 0..reads {
            seen.read(&log, &mut cursor);
        }
        publisher.join().expect("no panic");
        seen.read(&log, &mut cursor);
        let read_before = u64::from(matches!(stand, Stand::Behind));
        let sum = from - 1 + read_before + seen.missed + seen.frames.len() as u64;
        assert_eq!(sum, old + new, "{seen:?}");
        assert_eq!(log.oldest_offset(), old + new);
    });
}

#[test]
fn evict_vs_reader() {
    evict("evict_vs_reader", Stand::In, [3, 1], 2);
}

#[test]
fn evict_vs_reader_behind() {
    evict("evict_vs_reader_behind", Stand::Behind, [3, 1], 2);
}

#[test]
fn evict_vs_lost_reader() {
    evict("evict_vs_lost_reader", Stand::Lost(1), [3, 1], 1);
}

/// What becomes the oldest is new to the reader.
#[test]
fn evict_vs_lost_reader_new() {
    evict("evict_vs_lost_reader_new", Stand::Lost(1), [1, 1], 1);
}

/// The first retained offset lies behind what the reader knows as the tail.
#[test]
fn evict_vs_lost_reader_old_tail() {
    evict("evict_vs_lost_reader_old_tail", Stand::Lost(1), [1, 2], 1);
}

/// The reader is found from the tail by `prev`.
#[test]
fn evict_vs_search_back() {
    evict("evict_vs_search_back", Stand::Lost(2), [3, 1], 1);
}
