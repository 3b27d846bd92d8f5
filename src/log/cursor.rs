//! A reader's place in a log.
//!
//! **Role.** A [`Cursor`] is an offset and an address. It owns nothing and pins nothing while it stands still. A
//! [`Reader`] is a cursor under a pin: it yields frames borrowed from the log.
//!
//! **State.** `offset` is the next one to read. `segment` is null, or the segment that holds `offset` (low bit 0), or
//! the one that holds `offset - 1` (low bit 1, "behind": the next frame may be in its next slot or in the next
//! segment).
//!
//! **Invariant.** C1: the address is followed only under a pin, and only after `oldest_offset` was seen under that pin
//! to be at most the offset that ties the cursor to it (`offset`, or `offset - 1` when behind). By L2 the segment is
//! alive then. Otherwise the place is looked up again from `oldest` or `tail`.

use std::ptr::{NonNull, null_mut};

use super::segment::{Link, Segment, Thin};
use super::{FIRST_OFFSET, Log};
use crate::frame::FrameRef;
use crate::sync::epoch::Guard;

#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    offset: u64,
    segment: *mut Thin,
}

// SAFETY: the address is followed only under C1, from whatever thread.
unsafe impl Send for Cursor {}
// SAFETY: a shared cursor cannot read.
unsafe impl Sync for Cursor {}

const BEHIND: usize = 1;

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Step<'g> {
    Frame(FrameRef<'g>),
    /// So many frames were evicted before they were read; the reader stands at the first retained one.
    Lagged(u64),
    /// Nothing that can be delivered yet.
    Pending,
    /// The log is closed and all of it was read.
    Ended,
}

/// Where an offset was found.
#[derive(Clone, Copy)]
enum Place<'g> {
    In(&'g Segment),
    /// After the last segment, or where none is.
    Vacant,
    Closed,
}

impl Cursor {
    /// A cursor at `offset`, to be looked up at the first read.
    pub(crate) fn at(offset: u64) -> Self {
        Self {
            offset,
            segment: null_mut(),
        }
    }

    /// A cursor after all that was handed out so far: whatever is reserved later, it reads.
    #[inline]
    pub(crate) fn at_end(log: &Log, guard: &Guard) -> Self {
        let mut cursor = Self::at(FIRST_OFFSET);
        match log.tail() {
            Link::Segment(tail) => {
                // SAFETY: read from `tail` under `guard`.
                let segment = unsafe { log.reach(tail, guard) };
                cursor.stand(segment.first() + segment.reserved() as u64, segment);
            }
            Link::Vacant(end) | Link::Closed(end) => cursor.offset = end,
            Link::Undecided => {}
        }
        cursor
    }

    /// The next offset to read.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves to `offset`, to be looked up at the next read.
    #[inline]
    pub(crate) fn jump(&mut self, offset: u64) {
        *self = Self::at(offset);
    }

    /// Stands at `offset`, which `segment` holds or just ends before.
    #[inline]
    fn stand(&mut self, offset: u64, segment: &Segment) {
        let address = segment.thin().as_ptr();
        let behind = usize::from(offset > segment.first());
        self.offset = offset;
        self.segment = address.map_addr(|address| address | behind);
    }

    /// The segment, if the cursor may still follow its address (C1).
    #[inline]
    fn follow<'g>(&self, log: &'g Log, guard: &'g Guard) -> Option<&'g Segment> {
        let segment = NonNull::new(self.segment.map_addr(|address| address & !BEHIND))?;
        let behind = (self.segment.addr() & BEHIND) as u64;
        // C1: seen under the guard that the caller holds.
        // SAFETY: C1.
        (self.offset - behind >= log.oldest_offset()).then(|| unsafe { log.reach(segment, guard) })
    }
}

/// A cursor at work: it holds a pin, so it is short-lived and stays on its thread.
#[derive(Debug)]
pub(crate) struct Reader<'g> {
    log: &'g Log,
    guard: &'g Guard,
    cursor: &'g mut Cursor,
    /// Found under this pin; so it stays reachable (L2), and so do those after it.
    segment: Option<&'g Segment>,
    crossed: bool,
}

impl<'g> Reader<'g> {
    #[inline]
    pub(crate) fn new(log: &'g Log, guard: &'g Guard, cursor: &'g mut Cursor) -> Self {
        Self {
            segment: cursor.follow(log, guard),
            log,
            guard,
            cursor,
            crossed: false,
        }
    }

    /// Whether a segment's end was passed.
    pub(crate) fn crossed(&self) -> bool {
        self.crossed
    }

    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.cursor.offset
    }

    /// Takes the next frame, or moves past what was evicted, or tells why not.
    #[inline]
    pub(crate) fn step(&mut self) -> Step<'g> {
        let found = self.find(true);
        self.take(&found);
        found
    }

    /// Takes the next frame unless frames before it were evicted: those are left to be told of.
    #[inline]
    pub(crate) fn step_in_order(&mut self) -> Step<'g> {
        let found = self.find(false);
        self.take(&found);
        found
    }

    /// Moves past what was evicted; takes nothing.
    pub(crate) fn settle(&mut self) -> Step<'g> {
        self.find(true)
    }

    /// Looks at what [`step`](Self::step) would give.
    #[inline]
    pub(crate) fn peek(&mut self) -> Step<'g> {
        self.find(false)
    }

    #[inline]
    fn take(&mut self, found: &Step<'g>) {
        if let (Step::Frame(_), Some(segment)) = (found, self.segment) {
            self.cursor.stand(self.cursor.offset + 1, segment);
        }
    }

    /// Finds the frame at the cursor. With `skip` the cursor moves past evicted frames; without, it stays before them.
    #[inline]
    fn find(&mut self, skip: bool) -> Step<'g> {
        // What nearly every look finds: the next slot of the segment that the cursor stands in, filled or not yet.
        if let Some(segment) = self.segment {
            let index = self.index_in(segment);
            if let Some(frame) = segment.get(index) {
                return Step::Frame(frame);
            }
            // As in the loop: an evicted hole is never waited for.
            if index < segment.limit() && self.cursor.offset >= self.log.oldest_offset() {
                return Step::Pending;
            }
        }
        self.find_on(skip)
    }

    /// Where the cursor stands in `segment`: at a slot, or at the end.
    #[inline]
    fn index_in(&self, segment: &Segment) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 64: the cursor stands in the segment or at its end"
        )]
        let index = (self.cursor.offset - segment.first()) as usize;
        index
    }

    fn find_on(&mut self, skip: bool) -> Step<'g> {
        loop {
            let Some(segment) = self.segment else {
                let (place, offset) = self.locate();
                let missed = offset - self.cursor.offset;
                if missed > 0 && !skip {
                    return Step::Lagged(missed);
                }
                match place {
                    Place::In(segment) => {
                        self.cursor.stand(offset, segment);
                        self.segment = Some(segment);
                    }
                    Place::Vacant | Place::Closed => self.cursor.jump(offset),
                }
                match place {
                    _ if missed > 0 => return Step::Lagged(missed),
                    Place::In(_) => continue,
                    Place::Vacant => return Step::Pending,
                    Place::Closed => return Step::Ended,
                }
            };
            let index = self.index_in(segment);
            if let Some(frame) = segment.get(index) {
                return Step::Frame(frame);
            }
            if index < segment.limit() {
                // A hole, or nothing yet. An evicted hole is never waited for.
                if self.cursor.offset < self.log.oldest_offset() {
                    self.segment = None;
                    continue;
                }
                return Step::Pending;
            }
            match segment.next() {
                Link::Undecided => return Step::Pending,
                Link::Closed(_) => return Step::Ended,
                Link::Segment(next) => {
                    // SAFETY: read from a reachable segment under the guard.
                    let next = unsafe { self.log.reach(next, self.guard) };
                    self.crossed = true;
                    self.cursor.stand(next.first(), next);
                    self.segment = Some(next);
                }
                vacant @ Link::Vacant(base) => {
                    // Whoever cut the log off may not have come to this yet; the look-up needs it.
                    self.log.advance_tail(segment.thin(), vacant);
                    self.crossed = true;
                    self.cursor.jump(base);
                    self.segment = None;
                }
            }
        }
    }

    /// Looks up the cursor's offset, or the first retained one above it.
    fn locate(&self) -> (Place<'g>, u64) {
        loop {
            let floor = self.log.oldest_offset();
            let offset = self.cursor.offset.max(floor);
            // Whoever lagged stands at the oldest segment.
            if offset == floor
                && let Link::Segment(oldest) = self.log.oldest()
            {
                // SAFETY: read from `oldest` under the guard.
                let oldest = unsafe { self.log.reach(oldest, self.guard) };
                if oldest.first() == offset {
                    return (Place::In(oldest), offset);
                }
            }
            let found = match self.log.tail() {
                Link::Segment(tail) => self.search_back(tail, offset),
                Link::Vacant(end) if end == offset => return (Place::Vacant, offset),
                Link::Closed(end) if end == offset => return (Place::Closed, offset),
                Link::Vacant(_) | Link::Closed(_) | Link::Undecided => None,
            };
            // What was cut off as idle but is not evicted yet is reached from the old end only.
            if let Some(segment) = found.or_else(|| self.search_forward(offset)) {
                return (Place::In(segment), offset);
            }
            // Evicted meanwhile, or the tail was moving: the next look finds something newer.
        }
    }

    /// From the tail backwards: short for a reader that is nearly up to date.
    fn search_back(&self, tail: NonNull<Thin>, offset: u64) -> Option<&'g Segment> {
        // SAFETY: read from `tail` under the guard.
        let mut segment = unsafe { self.log.reach(tail, self.guard) };
        while segment.first() > offset {
            // L4: the one before is alive if not all before this one was evicted.
            if segment.first() <= self.log.oldest_offset() {
                return None;
            }
            let prev = segment.prev()?;
            // SAFETY: L4.
            segment = unsafe { self.log.reach(prev, self.guard) };
        }
        Some(segment)
    }

    /// From the oldest onwards.
    fn search_forward(&self, offset: u64) -> Option<&'g Segment> {
        let mut link = self.log.oldest();
        while let Link::Segment(segment) = link {
            // SAFETY: read from `oldest`, or from a reachable segment, under the guard.
            let segment = unsafe { self.log.reach(segment, self.guard) };
            if segment.first() > offset {
                return None;
            }
            if offset < segment.end() {
                return Some(segment);
            }
            link = segment.next();
            if link == Link::Undecided {
                return Some(segment);
            }
        }
        None
    }
}
