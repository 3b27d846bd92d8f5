//! A row of write-once slots, and the tagged word that links rows into a chain.
//!
//! **Role.** A [`Segment`] holds up to 64 consecutive frames of a topic. A [`Link`] says what stands at the end of a
//! chain: another segment, nothing yet, nothing any more (closed), or nothing until the next event (vacant).
//!
//! **State.**
//!
//! ```text
//!  reserved:  63       39      32 31                 0
//!            ┌──┬─────┬──────────┬────────────────────┐
//!            │S │  0  │ frozen   │ reservations       │   S = sealed; then `frozen` slots count, whatever comes
//!            └──┴─────┴──────────┴────────────────────┘
//!  bytes:     bit 63 = EVICTED, below it the bytes of the filled slots
//!  link:      …000 segment or null      base<<2 | 1 vacant      end<<2 | 3 closed
//! ```
//!
//! **Invariants.**
//! * S1: a slot is written once, by the thread that reserved its index, and is null before.
//! * S2: after SEALED no index at or above `frozen` is given out, and every index below it was given out.
//! * S3: `next` leaves null once, and only when the segment is sealed or full.
//! * S4: `first`, `prev` and the number of slots do not change after the segment is linked.
//! * S5: only a closing log seals an empty segment, and then nothing but "closed" follows. So a segment that can be
//!   evicted holds at least one offset, and a cursor can tell by its offset alone whether its segment is still there.

use std::ptr::{NonNull, null_mut, without_provenance_mut};

use crate::frame::{Frame, FrameRef, RawFrame};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, Witness};

/// Most slots of a segment.
pub(crate) const MAX_SLOTS: usize = 64;

/// A segment with this many bytes in it is sealed.
pub(crate) const SEAL_BYTES: u64 = 64 * 1024;

const SEALED: u64 = 1 << 63;
const FROZEN_SHIFT: u32 = 32;
const FROZEN_MASK: u64 = 0x7f;
const COUNT_MASK: u64 = 0xffff_ffff;

const EVICTED: u64 = 1 << 63;

/// What a link word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not decided yet. Only a segment's `next` is ever undecided.
    Undecided,
    /// The segment that follows.
    Segment(NonNull<Segment>),
    /// No segment. The next event gets this offset.
    Vacant(u64),
    /// No segment, and there will be none: the log ends before this offset.
    Closed(u64),
}

impl Link {
    const TAG_MASK: usize = 0b11;
    const TAG_BITS: u32 = 2;
    const VACANT: usize = 0b01;
    const CLOSED: usize = 0b11;

    #[inline]
    pub(crate) fn from_raw(raw: *mut Segment) -> Self {
        let offset = (raw.addr() >> Self::TAG_BITS) as u64;
        match raw.addr() & Self::TAG_MASK {
            Self::VACANT => Self::Vacant(offset),
            Self::CLOSED => Self::Closed(offset),
            _ => NonNull::new(raw).map_or(Self::Undecided, Self::Segment),
        }
    }

    #[inline]
    pub(crate) fn into_raw(self) -> *mut Segment {
        // Offsets have 62 bits: at a billion events a second that lasts 146 years.
        #[expect(clippy::cast_possible_truncation, reason = "pointers have 64 bits")]
        let tagged = |offset: u64, tag| {
            debug_assert!(offset >> (u64::BITS - Self::TAG_BITS) == 0);
            without_provenance_mut((offset as usize) << Self::TAG_BITS | tag)
        };
        match self {
            Self::Undecided => null_mut(),
            Self::Segment(segment) => segment.as_ptr(),
            Self::Vacant(base) => tagged(base, Self::VACANT),
            Self::Closed(end) => tagged(end, Self::CLOSED),
        }
    }
}

/// One write-once slot.
#[derive(Debug)]
struct Slot(AtomicPtr<RawFrame>);

impl Slot {
    fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }
}

/// A row of slots.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Offset of slot 0 (S4).
    first: u64,
    reserved: AtomicU64,
    bytes: AtomicU64,
    next: AtomicPtr<Segment>,
    /// The segment before this one in its chain; followed only under the rule L4 of `log`.
    prev: *mut Segment,
    /// When the segment was made, in ticks of the hub's clock.
    born: u64,
    witness: Witness,
    /// Slot 0 stands here, so that a segment of one slot is one allocation.
    head: Slot,
    rest: Box<[Slot]>,
}

// SAFETY: `prev` is an address that is followed only under L4; the slots own frames, which are `Send` and `Sync`.
unsafe impl Send for Segment {}
// SAFETY: as above; everything that changes is atomic.
unsafe impl Sync for Segment {}

impl Segment {
    pub(crate) fn new(slots: usize, born: u64) -> Self {
        debug_assert!((1..=MAX_SLOTS).contains(&slots));
        Self {
            first: 0,
            reserved: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            next: AtomicPtr::new(null_mut()),
            prev: null_mut(),
            born,
            witness: Witness::new(),
            head: Slot::new(),
            rest: (1..slots).map(|_| Slot::new()).collect(),
        }
    }

    /// Sets where the segment will stand, before it is linked.
    pub(crate) fn place(&mut self, first: u64, prev: *mut Segment) {
        self.first = first;
        self.prev = prev;
    }

    /// Follows a pointer to a segment.
    ///
    /// # Safety
    ///
    /// The segment is not freed during the lifetime: see L1 to L4 of `log`.
    #[inline]
    pub(crate) unsafe fn deref<'a>(segment: NonNull<Segment>) -> &'a Segment {
        // SAFETY: the caller's promise.
        let segment: &Segment = unsafe { segment.as_ref() };
        segment.witness.check();
        segment
    }

    #[inline]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    #[inline]
    pub(crate) fn born(&self) -> u64 {
        self.born
    }

    pub(crate) fn prev(&self) -> Option<NonNull<Segment>> {
        NonNull::new(self.prev)
    }

    #[inline]
    pub(crate) fn slots(&self) -> usize {
        1 + self.rest.len()
    }

    #[inline]
    fn slot(&self, index: usize) -> Option<&Slot> {
        match index {
            0 => Some(&self.head),
            _ => self.rest.get(index - 1),
        }
    }

    /// Reserves a slot, or says that none is left.
    #[inline]
    pub(crate) fn reserve(&self) -> Option<usize> {
        // The load first keeps a full segment's count from running away. Relaxed: the RMW below decides. O1
        let seen = self.reserved.load(Ordering::Relaxed);
        if seen & SEALED != 0 || (seen & COUNT_MASK) as usize >= self.slots() {
            return None;
        }
        // Release: whoever counts this reservation sees what was noted before it. O1
        let before = self.reserved.fetch_add(1, Ordering::Release);
        let index = (before & COUNT_MASK) as usize;
        (before & SEALED == 0 && index < self.slots()).then_some(index)
    }

    /// Stops reservations. Indices given out before stay good (S2).
    pub(crate) fn seal(&self) {
        // Relaxed: as O1. What the freezer decides is read by whoever meets the word itself.
        let mut seen = self.reserved.load(Ordering::Relaxed);
        loop {
            let count = seen & COUNT_MASK;
            if seen & SEALED != 0 || count as usize >= self.slots() {
                return;
            }
            let sealed = seen | SEALED | count << FROZEN_SHIFT;
            match self.reserved.compare_exchange_weak(
                seen,
                sealed,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Most frames that this segment can still come to hold: all its slots, or fewer once it is sealed.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        // Relaxed: once sealed, the value is fixed for good; before, the larger answer is right.
        let seen = self.reserved.load(Ordering::Relaxed);
        if seen & SEALED != 0 {
            (seen >> FROZEN_SHIFT & FROZEN_MASK) as usize
        } else {
            self.slots()
        }
    }

    /// Slots that were given out so far.
    #[inline]
    pub(crate) fn reserved(&self) -> usize {
        // Acquire: pairs with `reserve`. O1
        let seen = self.reserved.load(Ordering::Acquire);
        if seen & SEALED != 0 {
            (seen >> FROZEN_SHIFT & FROZEN_MASK) as usize
        } else {
            ((seen & COUNT_MASK) as usize).min(self.slots())
        }
    }

    /// The offset after the last one that this segment can hold.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.first + self.limit() as u64
    }

    /// Fills a reserved slot and counts its bytes. Tells the bytes of the segment so far, or `None` if it was evicted
    /// meanwhile: then the frame is reachable for nobody new.
    #[inline]
    pub(crate) fn fill(&self, index: usize, frame: Frame) -> Option<u64> {
        let bytes = frame.retained_bytes();
        if let Some(slot) = self.slot(index) {
            // Release: pairs with the acquire load in `get`. O2
            slot.0.store(frame.into_raw().as_ptr(), Ordering::Release);
        }
        // Relaxed: a count; the EVICTED bit decides in the order of this word alone. O3
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        (before & EVICTED == 0).then(|| before + bytes)
    }

    /// Marks the bytes as no longer counted and tells how many they were.
    #[inline]
    pub(crate) fn evict_bytes(&self) -> u64 {
        // Relaxed: see `fill`. O3
        self.bytes.fetch_or(EVICTED, Ordering::Relaxed) & !EVICTED
    }

    /// The frame in a slot, if it is filled.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<FrameRef<'_>> {
        // Acquire: pairs with the release store in `fill`. O2
        let raw = self.slot(index)?.0.load(Ordering::Acquire);
        // SAFETY: S1: a filled slot keeps its reference until the segment is dropped, which outlives this borrow.
        NonNull::new(raw).map(|raw| unsafe { FrameRef::from_raw(raw) })
    }

    /// What follows.
    #[inline]
    pub(crate) fn next(&self) -> Link {
        // Acquire: pairs with the release in `decide_next`; the next segment's fields are read through it. O4
        Link::from_raw(self.next.load(Ordering::Acquire))
    }

    /// Decides what follows, unless that is decided already; then tells what it is.
    pub(crate) fn decide_next(&self, next: Link) -> Result<(), Link> {
        debug_assert!(self.reserved() == self.limit(), "S3");
        // Release: publishes the new segment's fields. Acquire on failure: the winner's are read. O4
        self.next
            .compare_exchange(
                null_mut(),
                next.into_raw(),
                Ordering::Release,
                Ordering::Acquire,
            )
            .map(drop)
            .map_err(Link::from_raw)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for index in 0..self.slots() {
            let Some(slot) = self.slot(index) else { break };
            // Relaxed: `&mut self`; whoever handed the segment over ordered all fills before.
            let raw = slot.0.load(Ordering::Relaxed);
            if let Some(raw) = NonNull::new(raw) {
                // SAFETY: S1: the slot's reference is given back here and nowhere else.
                drop(unsafe { Frame::from_raw(raw) });
            }
        }
    }
}

#[cfg(fanfare_loom)]
impl crate::sync::epoch::Probed for Segment {
    fn witness(&self) -> &Witness {
        &self.witness
    }
}
