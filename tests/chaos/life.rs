//! The oracle's side of a topic: all that was published in one life of it, and how far its log may and must have been cut.
//!
//! **State.** The log's oldest offset is not known exactly, but from two sides. `may` is the highest that the documented
//! limits allow: whatever is told to be lost from there on was lost too early. `must` is the lowest that they allow:
//! whatever is delivered before it was kept too long. `seen` is the highest that was told by the engine: it never goes
//! back. So `max(must, seen) <= oldest <= may`.

use crate::scenario::{Scenario, Times};

/// Most events of a segment, and the bytes at which one is ended: what "one segment more" means in the limits.
const SEGMENT: u64 = 64;
const SEGMENT_BYTES: u64 = 64 * 1024;

/// By this share of the age events may stay longer.
pub(crate) const AGE_SHARE: u64 = 8;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) number: u64,
    /// Of the payload.
    pub(crate) size: u64,
    pub(crate) name: Option<&'static str>,
    pub(crate) with_id: bool,
    pub(crate) tick: u64,
}

/// One life of a topic.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) key: usize,
    pub(crate) epoch: u64,
    /// The event at offset `n` is `events[n - 1]`.
    pub(crate) events: Vec<Fact>,
    /// `bytes[n]` are those of the first `n` events.
    bytes: Vec<u64>,
    pub(crate) subscriptions: usize,
    pub(crate) handles: usize,
    pub(crate) closed: bool,
    pub(crate) may: u64,
    pub(crate) must: u64,
    pub(crate) seen: u64,
    /// When it last changed what could be given back: a publish, a read, a subscriber who came or went.
    pub(crate) touched: u64,
}

impl Life {
    pub(crate) fn new(key: usize, epoch: u64, now: u64) -> Self {
        Self {
            key,
            epoch,
            events: Vec::new(),
            bytes: vec![0],
            subscriptions: 0,
            handles: 0,
            closed: false,
            may: 1,
            must: 1,
            seen: 1,
            touched: now,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.events.len() as u64 + 1
    }

    pub(crate) fn users(&self) -> usize {
        self.subscriptions + self.handles
    }

    pub(crate) fn event(&self, offset: u64) -> Option<&Fact> {
        self.events
            .get(usize::try_from(offset.checked_sub(1)?).ok()?)
    }

    /// Bytes of the events from `first` on, and before `end`.
    pub(crate) fn bytes_between(&self, first: u64, end: u64) -> u64 {
        let before = |offset: u64| self.bytes[offset as usize - 1];
        before(end.max(first)) - before(first)
    }

    /// An event was appended, which takes so many bytes of the log.
    pub(crate) fn append(&mut self, fact: Fact, bytes: u64, limits: &Scenario, times: Times) {
        let now = fact.tick;
        self.bytes.push(self.bytes[self.events.len()] + bytes);
        self.events.push(fact);
        self.touched = now;
        let end = self.end();
        // At least so many are kept, and fewer than a segment more.
        self.may = self.may.max(end.saturating_sub(limits.retain_events));
        let kept = limits.retain_events + SEGMENT - 1;
        self.must = self.must.max(end.saturating_sub(kept));
        // By bytes a segment goes when all there is is above the limit; the last one stays.
        let over = self.first_within(limits.retain_bytes, end);
        if over > 1 {
            self.may = self.may.max((over - 1 + SEGMENT).min(end - 1));
        }
        // At most the limit and one segment: of so many events, and of so many bytes.
        let without_last = end.saturating_sub(SEGMENT).max(1);
        let by_count = self.first_within(limits.retain_bytes, without_last);
        let and_last = limits.retain_bytes + SEGMENT_BYTES + limits.max_event_bytes;
        let by_bytes = self.first_within(and_last, end);
        self.must = self.must.max(by_count).max(by_bytes);
        self.grow_old(times, now);
    }

    /// The first offset from which on there are at most so many bytes before `end`.
    fn first_within(&self, bytes: u64, end: u64) -> u64 {
        let upto = self.bytes[end as usize - 1];
        let before = &self.bytes[..end as usize];
        before.partition_point(|&sum| upto - sum > bytes) as u64 + 1
    }

    /// The first offset whose event is not older than `age`.
    fn first_younger(&self, age: u64, now: u64) -> u64 {
        self.events.partition_point(|event| now - event.tick > age) as u64 + 1
    }

    /// Some time went by.
    pub(crate) fn grow_old(&mut self, times: Times, now: u64) {
        self.may = self.may.max(self.first_younger(times.age, now));
        // The last events of a closed topic stay for those who have not read them.
        if !self.closed {
            let most = times.age + times.age / AGE_SHARE + times.slack;
            self.must = self.must.max(self.first_younger(most, now));
        }
    }

    /// Without history what all have passed may go at any time. When all is quiet it must.
    pub(crate) fn passed(&mut self, least: Option<u64>, noted: bool, times: Times, now: u64) {
        self.may = self.may.max(least.unwrap_or(self.end()));
        if noted && !self.closed && now - self.touched > times.idle + times.slack {
            self.must = self.end();
        }
    }

    /// The log begins at `oldest` now.
    pub(crate) fn observe(&mut self, oldest: u64) {
        assert!(
            oldest <= self.may,
            "events before {oldest} are gone, but those from {} on are to be kept",
            self.may
        );
        self.observe_at_least(oldest);
        self.seen = oldest;
    }

    /// `offset` was found in the log.
    pub(crate) fn observe_at_least(&self, offset: u64) {
        assert!(
            offset >= self.must,
            "event {offset} is there, but those before {} are to be gone",
            self.must
        );
        assert!(
            offset >= self.seen,
            "event {offset} is there, but those before {} were gone already",
            self.seen
        );
    }
}
