//! A control frame is published while its segment is evicted and its reader lags: the reader gets it once, as a frame of the log, with
//! the notice of its lag, or late.
//!
//! **Bound.** 3 preemptions; 2 with another event. Segments have one slot.
//!
//! **Teeth.** The mark of a control frame not set, or set without an order behind the slot (O11); the list filled after
//! `oldest_offset` is raised; a publisher that does not keep what it filled too late; a reader that does not look for what
//! came late.

use std::ops::Range;

use loom::thread;

use super::{KEEP_ONE, TICKS, append_pinned, check, event, heap, text};
use crate::encode::encode;
use crate::log::{Cursor, Known, Log, Reader, Step};
use crate::memory::Payer;
use crate::sync::{Arc, epoch};

fn append_control(log: &Log) {
    let text = text("control");
    let control = event(&text).control();
    let frame = encode(control, heap::PAYLOAD_BYTES, true).expect("a valid event");
    let now = || {
        TICKS.set(TICKS.get() + 100);
        TICKS.get()
    };
    let appended = log.append(frame, 7, now(), (now, Payer::NOBODY), &epoch::pin());
    assert!(appended.is_ok(), "the log is open");
}

/// As a subscription does it.
#[derive(Default)]
struct Told {
    controls: Vec<u64>,
    ranges: Vec<Range<u64>>,
    known: Option<Known>,
}

impl Told {
    fn read(&mut self, log: &Log, cursor: &mut Cursor) {
        let guard = epoch::pin();
        if let Some(known) = &mut self.known
            && log.controls.has_late(*known)
        {
            let seen = log.controls.look();
            let late = seen.late(*known, &self.ranges);
            self.controls.extend(late.map(|(offset, _)| offset));
            *known = seen.known;
        }
        loop {
            let from = cursor.offset();
            let mut reader = Reader::new(log, &guard, cursor);
            match reader.step() {
                Step::Frame(frame) if frame.is_control() => self.controls.push(from),
                Step::Frame(_) => {}
                Step::Lagged(missed) => {
                    if !log.has_controls() {
                        continue;
                    }
                    let range = from..from + missed;
                    let seen = log.controls.look();
                    if let Some(known) = self.known {
                        let late = seen.late(known, &self.ranges);
                        self.controls.extend(late.map(|(offset, _)| offset));
                    }
                    self.controls
                        .extend(seen.of(&range).map(|(offset, _)| offset));
                    self.known = Some(seen.known);
                    self.ranges.push(range);
                }
                Step::Pending | Step::Ended => return,
            }
        }
    }
}

fn race(name: &str, bound: usize, others: usize) {
    check(name, Some(bound), move || {
        let log = Arc::new(Log::new());
        let mut cursor = Cursor::at(1);
        let control = {
            let log = Arc::clone(&log);
            thread::spawn(move || append_control(&log))
        };
        let evictor = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let guard = epoch::pin();
                for _ in 0..others {
                    append_pinned(&log, "other", &guard);
                }
                log.retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &guard);
            })
        };
        let mut told = Told::default();
        told.read(&log, &mut cursor);
        control.join().expect("no panic");
        evictor.join().expect("no panic");
        told.read(&log, &mut cursor);
        assert_eq!(told.controls.len(), 1, "{:?}", told.controls);
    });
}

#[test]
fn control_vs_eviction() {
    race("control_vs_eviction", 3, 1);
}

#[test]
fn control_vs_eviction_twice() {
    race("control_vs_eviction_twice", 2, 2);
}
