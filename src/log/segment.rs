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
//!  bytes:     bit 63 = EVICTED, bit 62 = CONTROL: a slot holds a control frame; below them the bytes of the filled slots
//!  link:      …000 segment or null      base<<2 | 1 vacant      end<<2 | 3 closed
//! ```
//!
//! A segment is one allocation, its slots behind its other fields. A word that leads to it has no space for their number,
//! so it holds a [`Thin`] pointer, and the number stands in the segment.
//!
//! **Invariants.**
//! * S1: a slot is written once, by the thread that reserved its index, and is null before.
//! * S2: after SEALED no index at or above `frozen` is given out, and every index below it was given out.
//! * S3: `next` leaves null once, and only when the segment is sealed or full.
//! * S4: `first`, `prev` and the number of slots do not change after the segment is linked.
//! * S5: only a closing log seals an empty segment, and then nothing but "closed" follows. So a segment that can be
//!   evicted holds at least one offset, and a cursor can tell by its offset alone whether its segment is still there.
//! * S6: a [`Thin`] pointer that leads to a segment came from a box of the whole, by [`Segment::into_raw`], and `len` is the
//!   number of slots that it was made with.

use std::array::from_fn;
use std::ptr::{NonNull, null_mut, slice_from_raw_parts_mut, without_provenance_mut};

use crate::frame::{Frame, FrameRef, RawFrame};
use crate::memory::{Paid, Payer, allocated};
use crate::sync::{AtomicPtr, AtomicU64, HostAtomicU64, Ordering, Witness};

/// Most slots of a segment.
const MAX_SLOTS: usize = 1 << MAX_SLOTS_LOG2;

/// Segments of 2^6 slots are the largest.
pub(crate) const MAX_SLOTS_LOG2: u32 = 6;

/// What a segment takes of the process at most, without its frames.
pub(crate) const LARGEST_SEGMENT: usize = allocated(size_of::<Segment<[Slot; MAX_SLOTS]>>());

/// A segment with this many bytes in it is sealed.
pub(crate) const SEAL_BYTES: u64 = 64 * 1024;

const SEALED: u64 = 1 << 63;
const FROZEN_SHIFT: u32 = 32;
const FROZEN_MASK: u64 = 0x7f;
const COUNT_MASK: u64 = 0xffff_ffff;

const EVICTED: u64 = 1 << 63;
const CONTROL: u64 = 1 << 62;

/// What a link word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not decided yet. Only a segment's `next` is ever undecided.
    Undecided,
    /// The segment that follows.
    Segment(NonNull<Thin>),
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
    pub(crate) fn from_raw(raw: *mut Thin) -> Self {
        let offset = (raw.addr() >> Self::TAG_BITS) as u64;
        match raw.addr() & Self::TAG_MASK {
            Self::VACANT => Self::Vacant(offset),
            Self::CLOSED => Self::Closed(offset),
            _ => NonNull::new(raw).map_or(Self::Undecided, Self::Segment),
        }
    }

    #[inline]
    pub(crate) fn into_raw(self) -> *mut Thin {
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

/// One write-once slot, which owns the frame in it.
#[derive(Debug)]
pub(crate) struct Slot(AtomicPtr<RawFrame>);

impl Slot {
    #[inline]
    fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: `&mut self`; whoever handed the segment over ordered all fills before.
        if let Some(raw) = NonNull::new(self.0.load(Ordering::Relaxed)) {
            // SAFETY: S1: the slot's reference is given back here and nowhere else.
            drop(unsafe { Frame::from_raw(raw) });
        }
    }
}

/// A row of slots. In the order of the fields: what appends and reads look at stands together, next to the first slots.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Segment<S: ?Sized = [Slot]> {
    witness: Witness,
    /// When the segment was made, in ticks of the hub's clock.
    born: u64,
    /// When it got its last event, if that is known already.
    last: HostAtomicU64,
    /// The segment before this one in its chain; followed only under the rule L4 of `log`.
    prev: *mut Thin,
    /// How many slots there are (S6).
    len: u32,
    /// Who pays for the segment.
    paid: Paid,
    /// Offset of slot 0 (S4).
    first: u64,
    reserved: AtomicU64,
    bytes: AtomicU64,
    next: AtomicPtr<Thin>,
    slots: S,
}

/// A segment whose number of slots is not known: what a link word points at.
pub(crate) type Thin = Segment<[Slot; 0]>;

const _: () = assert!(
    align_of::<Thin>() > Link::TAG_MASK,
    "the tags of a link stand below an address"
);

// SAFETY: `prev` is an address that is followed only under L4; the slots own frames, which are `Send` and `Sync`.
unsafe impl Send for Segment {}
// SAFETY: as above; everything that changes is atomic.
unsafe impl Sync for Segment {}

impl<const N: usize> Segment<[Slot; N]> {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "`MAX_SLOTS` at most")]
    fn boxed(born: u64) -> Box<Self> {
        // The place first: what `Box::new` is given stands on the stack and is copied.
        let place = Box::new_uninit();
        let made = Self {
            witness: Witness::new(),
            born,
            last: HostAtomicU64::new(u64::MAX),
            prev: null_mut(),
            len: N as u32,
            paid: Paid::by_nobody(),
            first: 0,
            reserved: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            next: AtomicPtr::new(null_mut()),
            slots: from_fn(|_| Slot::new()),
        };
        Box::write(place, made)
    }
}

impl Segment {
    /// A segment of one slot.
    #[inline]
    pub(crate) fn of_one(born: u64) -> Box<Self> {
        Segment::<[Slot; 1]>::boxed(born)
    }

    /// A segment of `1 << slots_log2` slots, at most [`MAX_SLOTS`].
    pub(crate) fn new(slots_log2: u32, born: u64) -> Box<Self> {
        debug_assert!(slots_log2 <= MAX_SLOTS_LOG2);
        match slots_log2 {
            0 => Self::of_one(born),
            1 => Segment::<[Slot; 2]>::boxed(born),
            2 => Segment::<[Slot; 4]>::boxed(born),
            3 => Segment::<[Slot; 8]>::boxed(born),
            4 => Segment::<[Slot; 16]>::boxed(born),
            5 => Segment::<[Slot; 32]>::boxed(born),
            _ => Segment::<[Slot; MAX_SLOTS]>::boxed(born),
        }
    }

    /// Gives the segment up for a pointer that a link word can hold.
    #[inline]
    pub(crate) fn into_raw(self: Box<Self>) -> NonNull<Thin> {
        NonNull::from(Box::leak(self)).cast()
    }

    /// Takes the segment back.
    ///
    /// # Safety
    ///
    /// `segment` came from [`into_raw`](Self::into_raw), it is taken back once, and nobody else reaches it.
    #[inline]
    pub(crate) unsafe fn from_raw(segment: NonNull<Thin>) -> Box<Self> {
        // SAFETY: the caller's promise.
        let whole = unsafe { Self::whole(segment) };
        // SAFETY: the caller's promise, and S6: the whole that was given up.
        unsafe { Box::from_raw(whole) }
    }

    /// The pointer to all of a segment, slots included: what `Box::into_raw` would have told.
    ///
    /// # Safety
    ///
    /// The segment is not freed yet.
    #[inline]
    pub(crate) unsafe fn whole(segment: NonNull<Thin>) -> *mut Segment {
        // SAFETY: the caller's promise; `len` does not change (S6).
        let len = unsafe { (*segment.as_ptr()).len };
        slice_from_raw_parts_mut(segment.as_ptr().cast::<Slot>(), len as usize) as *mut Segment
    }

    /// The address of this segment, for words that are compared with it and for those who look before they follow.
    #[inline]
    pub(crate) fn thin(&self) -> NonNull<Thin> {
        NonNull::from(self).cast()
    }

    /// Has the segment paid for by `payer`, before it is linked.
    pub(crate) fn paid_by(mut self: Box<Self>, payer: Payer) -> Box<Self> {
        self.paid = Paid::by(payer, self.allocated());
        self
    }

    /// Sets where the segment will stand, before it is linked.
    pub(crate) fn place(&mut self, first: u64, prev: *mut Thin) {
        self.first = first;
        self.prev = prev;
    }

    /// Follows a pointer to a segment.
    ///
    /// # Safety
    ///
    /// The segment is not freed during the lifetime: see L1 to L4 of `log`.
    #[inline]
    pub(crate) unsafe fn deref<'a>(segment: NonNull<Thin>) -> &'a Segment {
        // SAFETY: the caller's promise.
        let whole = unsafe { Self::whole(segment) };
        // SAFETY: the caller's promise, and S6: so many slots are there.
        let segment = unsafe { &*whole };
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

    /// Notes that no event comes after `now`.
    #[inline]
    pub(crate) fn note_last(&self, now: u64) {
        // Relaxed: a time.
        self.last.store(now, Ordering::Relaxed);
    }

    /// The time of the last event, or more.
    #[inline]
    pub(crate) fn last(&self) -> u64 {
        // Relaxed: a time.
        self.last.load(Ordering::Relaxed)
    }

    pub(crate) fn prev(&self) -> Option<NonNull<Thin>> {
        NonNull::new(self.prev)
    }

    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// [`slots`](Self::slots) as the power of two that it is.
    #[inline]
    pub(crate) fn slots_log2(&self) -> u32 {
        self.slots().ilog2()
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
        let control = frame.is_control();
        if let Some(slot) = self.slots.get(index) {
            // Release: pairs with the acquire load in `get`. O2
            slot.0.store(frame.into_raw().as_ptr(), Ordering::Release);
        }
        if control {
            // Release: whoever evicts and sees the mark sees the slot. O11
            self.bytes.fetch_or(CONTROL, Ordering::Release);
        }
        // Relaxed: a count; the EVICTED bit decides in the order of this word alone. O3
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before & EVICTED == 0 {
            return Some((before & !CONTROL) + bytes);
        }
        // What was evicted is as large as it was then. O3
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        None
    }

    /// Bytes of the filled slots.
    pub(crate) fn bytes(&self) -> u64 {
        // Relaxed: a count. O3
        self.bytes.load(Ordering::Relaxed) & !(EVICTED | CONTROL)
    }

    /// Marks the bytes as no longer counted and tells how many they were, and whether there are control frames: those that are
    /// not seen by now find the mark.
    #[inline]
    pub(crate) fn evict_bytes(&self) -> (u64, bool) {
        // Acquire: the slots of control frames, see `fill`. O3, O11
        let before = self.bytes.fetch_or(EVICTED, Ordering::Acquire);
        (before & !(EVICTED | CONTROL), before & CONTROL != 0)
    }

    /// The control frames that are filled, with their offsets.
    #[cold]
    pub(crate) fn controls(&self) -> Vec<(u64, Frame)> {
        let slots = (0..self.slots()).filter_map(|index| {
            let frame = self.get(index)?;
            let offset = self.first + index as u64;
            frame.is_control().then(|| (offset, Frame::clone(&frame)))
        });
        slots.collect()
    }

    /// The frame in a slot, if it is filled.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<FrameRef<'_>> {
        // Acquire: pairs with the release store in `fill`. O2
        let raw = self.slots.get(index)?.0.load(Ordering::Acquire);
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

impl<S: ?Sized> Segment<S> {
    /// What the segment takes of the process, without its frames.
    pub(crate) fn allocated(&self) -> usize {
        allocated(size_of_val(self))
    }

    /// Notes with who pays that the segment and its frames, of so many bytes when it was evicted, are on their way to be freed.
    pub(crate) fn note_retired(&self, bytes: u64) {
        if let Some(payer) = self.paid.payer() {
            payer.retire(self.retired_bytes(bytes));
        }
    }

    /// What an evicted segment takes with frames of so many bytes.
    fn retired_bytes(&self, bytes: u64) -> u64 {
        // Relaxed: it does not change any more.
        let seen = self.reserved.load(Ordering::Relaxed);
        let reserved = if seen & SEALED != 0 {
            seen >> FROZEN_SHIFT & FROZEN_MASK
        } else {
            (seen & COUNT_MASK).min(u64::from(self.len))
        };
        #[expect(clippy::cast_possible_truncation, reason = "64 at most")]
        let frames = Frame::whole_bytes_of(reserved as usize, bytes);
        frames + self.allocated() as u64
    }
}

impl<S: ?Sized> Drop for Segment<S> {
    #[inline]
    fn drop(&mut self) {
        if let Some(payer) = self.paid.payer() {
            // Relaxed: whoever drops has all that was done with it before it. What came late was taken off again.
            let bytes = self.bytes.load(Ordering::Relaxed);
            if bytes & EVICTED != 0 {
                payer.free(self.retired_bytes(bytes & !(EVICTED | CONTROL)));
            }
            let bytes = self.allocated();
            self.paid.give_back(bytes);
        }
    }
}

#[cfg(fanfare_loom)]
impl crate::sync::epoch::Probed for Segment {
    fn witness(&self) -> &Witness {
        &self.witness
    }
}
