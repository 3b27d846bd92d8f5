//! The shape of the chain, which readers do not see.

use super::*;
use crate::encode::encode;
use crate::event::Event;

const KEEP_ALL: Retention = Retention {
    events: 1 << 32,
    bytes: 1 << 40,
    age_ticks: u64::MAX,
};

fn append(log: &Log, text: &str, now: u64) -> u64 {
    let frame = encode(Event::text(text), 1 << 20, true).expect("a valid event");
    let guard = epoch::pin();
    let appended = log.append(frame, 7, now, (|| now, Payer::NOBODY), &guard);
    appended.expect("the log is open").offset
}

/// A publisher that is held up between taking its place and filling it. It is pinned all the while.
#[derive(Debug)]
pub(crate) struct HeldUp {
    segment: NonNull<Thin>,
    index: usize,
    guard: Guard,
}

impl Log {
    /// `None` if there is no room without another segment.
    pub(crate) fn reserve(&self) -> Option<HeldUp> {
        let guard = epoch::pin();
        let Link::Segment(segment) = self.tail() else {
            return None;
        };
        // SAFETY: read from `tail` under the guard.
        let index = unsafe { self.reach(segment, &guard) }.reserve()?;
        Some(HeldUp {
            segment,
            index,
            guard,
        })
    }

    /// It goes on. Its caller wakes who is parked.
    pub(crate) fn fill_reserved(&self, held_up: HeldUp, text: &str, epoch: u64) {
        let HeldUp {
            segment,
            index,
            guard,
        } = held_up;
        let mut frame = encode(Event::text(text), 1 << 20, true).expect("a valid event");
        // SAFETY: read from `tail` under the guard.
        let segment = unsafe { self.reach(segment, &guard) };
        frame.stamp(EventId::new(epoch, segment.first() + index as u64));
        self.fill(segment, index, frame, 0);
    }
}

/// First offset, slots, and slots that count, of each segment.
fn shape(log: &Log) -> Vec<(u64, usize, usize)> {
    let guard = epoch::pin();
    let mut shape = Vec::new();
    let mut link = log.oldest();
    while let Link::Segment(segment) = link {
        // SAFETY: read from `oldest`, or from a reachable segment, under the guard.
        let segment = unsafe { log.reach(segment, &guard) };
        shape.push((segment.first(), segment.slots(), segment.limit()));
        link = segment.next();
    }
    shape
}

fn slots(log: &Log) -> Vec<usize> {
    shape(log).into_iter().map(|(_, slots, _)| slots).collect()
}

#[test]
fn segments_grow_with_traffic_and_shrink_again() {
    let log = Log::new();
    for _ in 0..200 {
        append(&log, "fast", 0);
    }
    assert_eq!(slots(&log), [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    for now in 1..200 {
        append(&log, "slow", now * 10);
    }
    assert_eq!(slots(&log)[9..15], [32, 16, 8, 4, 2, 1]);
    assert!(slots(&log)[15..].iter().all(|slots| *slots == 1));
}

#[test]
fn segments_are_sealed_by_bytes() {
    let log = Log::new();
    for _ in 0..200 {
        append(&log, "small", 0);
    }
    let large = "x".repeat(30 * 1024);
    for _ in 0..9 {
        append(&log, &large, 0);
    }
    // The tail had nine small ones; three large ones make 64 KiB.
    let ends: Vec<_> = shape(&log)[8..].iter().map(|s| (s.1, s.2)).collect();
    assert_eq!(ends, [(64, 12), (64, 3), (64, 3)]);
}

#[test]
fn an_evicted_hole_counts_as_missed_and_its_publisher_succeeds() {
    let (log, mut cursor) = (Log::new(), Cursor::at(FIRST_OFFSET));
    append(&log, "1", 0);
    append(&log, "2", 0);
    let guard = epoch::pin();
    let hole = log.reserve().unwrap();
    assert_eq!(log.end(&guard), 4);
    assert_eq!(append(&log, "4", 0), 4);

    let mut reader = Reader::new(&log, &guard, &mut cursor);
    assert!(matches!(reader.step(), Step::Frame(_)));
    assert!(matches!(reader.step(), Step::Frame(_)));
    assert!(matches!(reader.step(), Step::Pending), "4 waits for 3");

    for _ in 0..4 {
        append(&log, "more", 0);
    }
    let keep_four = Retention {
        events: 4,
        ..KEEP_ALL
    };
    log.retain(&keep_four, keep_four.age_ticks, 0, &guard);
    assert_eq!(log.oldest_offset(), 4);
    assert!(
        matches!(reader.step(), Step::Lagged(1)),
        "the hole is missed"
    );
    assert!(matches!(reader.step(), Step::Frame(frame) if frame.data() == "4"));

    let bytes = log.bytes();
    log.fill_reserved(hole, "3", 7);
    assert_eq!(log.bytes(), bytes, "what is evicted is not counted");
}
