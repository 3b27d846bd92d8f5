//! The log of a topic: a chain of segments that publishers append to and cursors read.
//!
//! **Role.** Append never waits for another publisher; a read is one acquire load under a pin. Nothing on the read
//! path counts references, so a reader that stands still holds no memory.
//!
//! **State.**
//!
//! ```text
//!  oldest ──▶ ┌────────┐ next ┌────────┐ next ┌────────┐ next
//!             │ 1…4    │─────▶│ 5…12   │─────▶│ 13…    │─────▶ undecided | vacant(base) | closed(end)
//!             └────────┘◀─────└────────┘◀─────└────────┘ ◀── tail
//!                        prev           prev
//!  a log without segments: oldest = tail = vacant(base)
//! ```
//!
//! `oldest_offset` is the first offset that may still be read. `bytes` counts the frames of the chain.
//!
//! **Invariants.**
//! * L1: a segment is retired only after `oldest_offset` was raised to its end, and neither `oldest`, nor `tail`, nor
//!   an unretired segment leads to it as a successor.
//! * L2: a thread that is pinned and has seen `oldest_offset <= o` since may reach the segment that holds `o`, and all
//!   after it, until it unpins.
//! * L3: offsets are handed out once, in order, without gaps.
//! * L4: `prev` of a segment is followed only while pinned and after `oldest_offset < first` was seen under the pin.
//! * L5: at most one chain is not reachable from `oldest`, and then `oldest` is vacant at its base, and `tail` stands in
//!   it. Whoever makes `oldest` vacant, and whoever appends to a vacant tail, looks at the other side after a fence and
//!   links the two. Neither a close nor a release takes `tail` off such a chain.
//!
//! **Protocol.**
//! *Append*: reserve an index of the tail; write the id; fill the slot; count bytes. No index left: decide `next`
//! with an empty segment, move `tail` on, try again. *Evict* (one thread at a time, by a flag that nobody waits for):
//! move `tail` and `oldest` past the segment, take its bytes off, raise `oldest_offset`, retire it. *Release* (an idle
//! log): under the same flag, seal the tail, decide its `next` as vacant, evict it all. *Close*: seal the tail, decide
//! its `next` as closed; `tail` stays, until a release evicts the last segment: then both ends say "closed".
//! A slot that is reserved but not filled is a hole: readers stop before it. Evicted, it counts as missed; the
//! publisher that fills it then still succeeds.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | O1 | `Segment::{reserve, reserved}` | RMW / load of `reserved` | Release / Acquire | each other: the time noted before | — (the clock stands in models) |
//! | O2 | `Segment::{fill, get}` | slot store / load | Release / Acquire | each other | `two_publishers` |
//! | O3 | `Segment::{fill, evict_bytes}` | RMW of `bytes` | Relaxed | nothing: one word | — |
//! | O4 | `Segment::{decide_next, next}` | CAS / load of `next` | Release / Acquire | each other | `two_publishers` |
//! | O5 | `advance_tail`, `tail` | CAS / load of `tail` | Release / Acquire | each other | `two_publishers` |
//! | O6 | `evict_one`, `link_oldest`, `oldest` | store, CAS / load of `oldest` | Release / Acquire | each other | store: `evict_vs_reader`, load: `release_vs_append` |
//! | O7 | `evict`, `oldest_offset` | store / load | Release / Acquire | each other, and the fences of pin and retire | load: `evict_vs_reader` |
//! | O8 | `evict`, `append` | fence between own write and the look at the other side | `SeqCst` | each other | `release_vs_append` |
//! | O9 | `begin_evicting`, `end_evicting` | swaps of the flag | `AcqRel` | each other | `evict_vs_evict` |
//! | O10 | `close`, `is_closed` | store / load of `closed` | Release / Acquire | each other | — (a hint) |
//! | O11 | `Segment::{fill, evict_bytes}` | RMWs of `bytes` | Release / Acquire | each other: the slot of a control frame | `control_vs_eviction` |
//!
//! `loom-tests/TEETH.md` has each of them, and why some weakenings cannot be seen.
//!
//! **Progress.** Append and close are lock-free, a read is wait-free but for moving on when the log is evicted under
//! it, evict is wait-free when the flag is taken and lock-free otherwise.
//!
//! The chain of segments follows the "unbounded MPMC array queue" family (crossbeam's `SegQueue`, tokio's `mpsc` block
//! list); what differs is that frames are read by many cursors and leave by retention, not by a pop.

mod controls;
mod cursor;
mod segment;
#[cfg(all(test, not(fanfare_loom)))]
pub(crate) mod tests;

use std::cell::Cell;
use std::ptr::NonNull;

use controls::Controls;
pub(crate) use controls::{Kept, Known, Seen};
pub(crate) use cursor::{Cursor, Reader, Step};
pub(crate) use segment::LARGEST_SEGMENT;
use segment::{Link, MAX_SLOTS_LOG2, SEAL_BYTES, Segment, Thin};

use crate::event_id::EventId;
use crate::frame::Frame;
use crate::memory::Payer;
use crate::sync::epoch::{self, Guard};
use crate::sync::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU64, HostAtomicBool, HostAtomicU32, Ordering, fence,
};

/// Offset of the first frame of a log.
pub(crate) const FIRST_OFFSET: u64 = 1;

/// Retired memory above this many bytes is handed to the collector at once.
const FLUSH_BYTES: u64 = 64 * 1024;

/// What a log keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// At least this many events, fewer than this plus one segment.
    pub(crate) events: u64,
    /// At most this many bytes plus one segment.
    pub(crate) bytes: u64,
    /// At most this old, in ticks, and an eighth more.
    pub(crate) age_ticks: u64,
}

/// The log refused a frame because it is closed. Here it is.
#[derive(Debug)]
pub(crate) struct LogClosed(pub(crate) Frame);

/// What an append did.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) offset: u64,
    /// The log had no segment: its topic must be visited by the hub's clock from now on.
    pub(crate) began_chain: bool,
    /// A segment that is not full yet stands behind others now: what it holds gets old by itself.
    pub(crate) began_segment: bool,
}

#[derive(Debug)]
pub(crate) struct Log {
    tail: AtomicPtr<Thin>,
    oldest: AtomicPtr<Thin>,
    oldest_offset: AtomicU64,
    /// Signed: an eviction may be counted before the late fill that it takes off.
    bytes: AtomicI64,
    evicting: AtomicBool,
    /// A hint for those who do not append or read: `close` is through.
    closed: AtomicBool,
    /// Whether a control frame was ever appended, or is about to be.
    has_controls: AtomicBool,
    /// Those that were evicted.
    pub(crate) controls: Controls,
    /// The topic's note of readers that stood behind the oldest offset. Here it costs no room.
    pub(crate) lagging: HostAtomicU32,
    /// The topic's note that it has a place among those of its hub. Here it costs no room.
    pub(crate) counted: HostAtomicBool,
}

thread_local! {
    /// Bytes that this thread retired since it last flushed.
    static RETIRED: Cell<u64> = const { Cell::new(0) };
}

/// Hands retired memory to the collector when much has gathered. Runs deferred destructors, so no lock is held here.
#[inline]
pub(crate) fn flush_retired(guard: &Guard) {
    RETIRED.with(|retired| {
        if retired.get() >= FLUSH_BYTES {
            retired.set(0);
            guard.flush();
        }
    });
}

/// [`flush_retired`] for who needs nothing under the guard any more: also frees it, if no other thread holds a pin. What a
/// publisher retires would otherwise wait until it has retired as much again, twice.
#[inline]
pub(crate) fn free_retired(guard: &mut Guard) {
    let much = RETIRED.with(|retired| retired.get() >= FLUSH_BYTES);
    flush_retired(guard);
    if much {
        // Each pin anew lets the epoch move on by one.
        for _ in 0..2 {
            guard.repin();
            guard.flush();
        }
    }
}

/// Has the collector free what it may: for who needs memory and is not pinned.
#[cold]
pub(crate) fn free_all_retired() {
    RETIRED.with(|retired| retired.set(0));
    let mut guard = epoch::pin();
    // Each pin anew lets the epoch move on by one.
    for _ in 0..3 {
        guard.flush();
        guard.repin();
    }
}

impl Log {
    pub(crate) fn new() -> Self {
        let vacant = Link::Vacant(FIRST_OFFSET).into_raw();
        Self {
            tail: AtomicPtr::new(vacant),
            oldest: AtomicPtr::new(vacant),
            oldest_offset: AtomicU64::new(FIRST_OFFSET),
            bytes: AtomicI64::new(0),
            evicting: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            has_controls: AtomicBool::new(false),
            controls: Controls::new(),
            lagging: HostAtomicU32::new(0),
            counted: HostAtomicBool::new(false),
        }
    }

    #[inline]
    fn tail(&self) -> Link {
        // Acquire: pairs with the release in `append` and `advance_tail`. O5
        Link::from_raw(self.tail.load(Ordering::Acquire))
    }

    #[inline]
    fn oldest(&self) -> Link {
        // Acquire: pairs with the release in `evict` and `link_oldest`. O6
        Link::from_raw(self.oldest.load(Ordering::Acquire))
    }

    /// The first offset that may still be read.
    #[inline]
    pub(crate) fn oldest_offset(&self) -> u64 {
        // Acquire: pairs with the release in `evict`. O7
        self.oldest_offset.load(Ordering::Acquire)
    }

    /// Bytes of the frames that the chain holds.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        // Relaxed: a count.
        u64::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The offset after the last one that was handed out.
    #[inline]
    pub(crate) fn end(&self, guard: &Guard) -> u64 {
        match self.tail() {
            Link::Segment(tail) => {
                // SAFETY: read from `tail` under `guard`.
                let tail = unsafe { self.reach(tail, guard) };
                tail.first() + tail.reserved() as u64
            }
            Link::Vacant(end) | Link::Closed(end) => end,
            Link::Undecided => FIRST_OFFSET,
        }
    }

    /// Whether `close` has returned, or is about to.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: pairs with `close`. O10
        self.closed.load(Ordering::Acquire)
    }

    /// Whether a control frame was appended below an offset that is known to be handed out.
    #[inline]
    pub(crate) fn has_controls(&self) -> bool {
        // Relaxed: whoever counts the reservation sees what was noted before it. O1
        self.has_controls.load(Ordering::Relaxed)
    }

    /// Whether there is a chain to give back.
    #[inline]
    pub(crate) fn has_chain(&self) -> bool {
        matches!(self.tail(), Link::Segment(_)) || matches!(self.oldest(), Link::Segment(_))
    }

    /// Follows a pointer that `tail`, `oldest`, or a segment reached under the same guard gave out.
    ///
    /// # Safety
    ///
    /// `segment` was read from one of these words under `guard`; or from a cursor, under C1; or from `prev`, under L4.
    #[expect(
        clippy::unused_self,
        reason = "ties the borrow to the log, whose drop frees the chain"
    )]
    #[inline]
    unsafe fn reach<'g>(&'g self, segment: NonNull<Thin>, _: &'g Guard) -> &'g Segment {
        // SAFETY: L1 and L2: what these words lead to under a pin is not freed before the pin ends.
        unsafe { Segment::deref(segment) }
    }

    /// Moves `tail` on from `segment` to what follows it.
    fn advance_tail(&self, segment: NonNull<Thin>, next: Link) {
        // Release: whoever reads the new tail reads its fields. Relaxed on failure: somebody else moved it. O5
        let _ = self.tail.compare_exchange(
            segment.as_ptr(),
            next.into_raw(),
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// How many slots the segment after `last` gets, as a power of two: more when it filled within a tick, fewer when it
    /// took long.
    fn next_slots_log2(last: &Segment, now: u64) -> u32 {
        let log2 = last.slots_log2();
        match now.saturating_sub(last.born()) {
            0..=1 => (log2 + 1).min(MAX_SLOTS_LOG2),
            2..=7 => log2,
            _ => log2.saturating_sub(1),
        }
    }

    /// Appends `frame`, with the id of `epoch` if there is space for one. Times are in ticks of the hub's clock: `about` may
    /// be a tick old, `now` is read for new segments, which `payer` pays for.
    pub(crate) fn append(
        &self,
        mut frame: Frame,
        epoch: u64,
        about: u64,
        (now, payer): (impl Fn() -> u64, Payer),
        guard: &Guard,
    ) -> Result<Appended, LogClosed> {
        let mut began_chain = false;
        let mut began_segment = false;
        if frame.is_control() {
            // Relaxed: the reservation below publishes it. O1
            self.has_controls.store(true, Ordering::Relaxed);
        }
        // A segment that lost the race for its place is used for the next one.
        let mut spare: Option<Box<Segment>> = None;
        loop {
            match self.tail() {
                Link::Closed(_) | Link::Undecided => return Err(LogClosed(frame)),
                Link::Vacant(base) => {
                    let mut fresh = spare
                        .take()
                        .unwrap_or_else(|| Segment::of_one(now()).paid_by(payer));
                    fresh.place(base, std::ptr::null_mut());
                    match self.begin_chain(base, fresh) {
                        Ok(()) => began_chain = true,
                        Err(back) => spare = Some(back),
                    }
                }
                Link::Segment(tail_ptr) => {
                    // SAFETY: read from `tail` under `guard`.
                    let tail = unsafe { self.reach(tail_ptr, guard) };
                    if let Some(index) = tail.reserve() {
                        let offset = tail.first() + index as u64;
                        frame.stamp(EventId::new(epoch, offset));
                        self.fill(tail, index, frame, about);
                        return Ok(Appended {
                            offset,
                            began_chain,
                            began_segment,
                        });
                    }
                    let next = match tail.next() {
                        Link::Closed(_) => return Err(LogClosed(frame)),
                        // S5: only a closing log has an empty sealed segment; nothing may follow it.
                        Link::Undecided if tail.limit() == 0 => return Err(LogClosed(frame)),
                        Link::Undecided => {
                            let mut fresh = spare.take().unwrap_or_else(|| {
                                let now = now();
                                Segment::new(Self::next_slots_log2(tail, now), now).paid_by(payer)
                            });
                            fresh.place(tail.end(), tail_ptr.as_ptr());
                            match extend(tail, fresh) {
                                Ok(next) => {
                                    began_segment = true;
                                    next
                                }
                                Err((back, next)) => {
                                    spare = Some(back);
                                    next
                                }
                            }
                        }
                        decided => decided,
                    };
                    if matches!(next, Link::Closed(_)) {
                        return Err(LogClosed(frame));
                    }
                    self.advance_tail(tail_ptr, next);
                }
            }
        }
    }

    #[inline]
    fn fill(&self, segment: &Segment, index: usize, frame: Frame, now: u64) {
        let bytes = frame.retained_bytes();
        if index + 1 == segment.slots() {
            segment.note_last(now);
        }
        let control = frame.is_control().then(|| frame.clone());
        if let Some(total) = segment.fill(index, frame) {
            // Relaxed: a count.
            self.bytes.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
            if total >= SEAL_BYTES {
                segment.note_last(now);
                segment.seal();
            }
        } else if let Some(frame) = control {
            let offset = segment.first() + index as u64;
            self.controls.keep_late(offset, &frame, now);
        }
    }

    /// Puts the first segment into a log that has none.
    fn begin_chain(&self, base: u64, fresh: Box<Segment>) -> Result<(), Box<Segment>> {
        let vacant = Link::Vacant(base).into_raw();
        let address = fresh.into_raw();
        let fresh = address.as_ptr();
        // Release: publishes the segment's fields. Relaxed on failure: the loop reads `tail` again. O5
        if self
            .tail
            .compare_exchange(vacant, fresh, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: the segment was not linked, so it is ours again.
            return Err(unsafe { Segment::from_raw(address) });
        }
        // L5: either this sees the vacant `oldest`, or the evictor that makes it vacant sees our tail. O8
        fence(Ordering::SeqCst);
        self.link_oldest(base, fresh);
        Ok(())
    }

    /// Makes `oldest` lead to the segment that begins at `base`, if it is vacant there.
    fn link_oldest(&self, base: u64, segment: *mut Thin) {
        // Release: readers reach the segment's fields through `oldest`. O6
        let _ = self.oldest.compare_exchange(
            Link::Vacant(base).into_raw(),
            segment,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Applies `retention`, with this age. Cheap when there is nothing to do.
    #[inline]
    pub(crate) fn retain(&self, retention: &Retention, age_ticks: u64, now: u64, guard: &Guard) {
        self.evict(guard, |next| {
            self.end(guard).saturating_sub(next.first) >= retention.events
                || self.bytes() > retention.bytes
                || next.older_than(age_ticks, now)
        });
    }

    /// Evicts the segments whose last event is older than `age_ticks`.
    pub(crate) fn evict_aged(&self, age_ticks: u64, now: u64, guard: &Guard) {
        if let Link::Segment(tail) = self.tail() {
            // SAFETY: read from `tail` under `guard`.
            let tail = unsafe { self.reach(tail, guard) };
            // A slow topic's tail would keep its first frame until it is full. S5: not an empty one.
            let reserved = tail.reserved();
            let old = now.saturating_sub(tail.born()) > age_ticks / 8;
            if old && reserved > 0 && reserved < tail.limit() {
                tail.note_last(now);
                tail.seal();
            }
        }
        self.evict(guard, |next| next.older_than(age_ticks, now));
    }

    /// The tick after which something of the log is too old, or its last segment is to be sealed so that it can get
    /// old by itself.
    pub(crate) fn next_expiry(&self, age_ticks: u64, guard: &Guard) -> u64 {
        let oldest = self.oldest_and_next(guard, false);
        let oldest = oldest.and_then(|oldest| oldest.last);
        let mut due = oldest.map_or(u64::MAX, |last| last.saturating_add(age_ticks));
        if let Link::Segment(tail) = self.tail() {
            // SAFETY: read from `tail` under `guard`.
            let tail = unsafe { self.reach(tail, guard) };
            if tail.reserved() > 0 && tail.reserved() < tail.limit() {
                due = due.min(tail.born().saturating_add(age_ticks / 8));
            }
        }
        due
    }

    /// Evicts the oldest segments, the last excepted, whose bytes are no more than `bytes` together.
    pub(crate) fn evict_by(&self, bytes: u64, guard: &Guard) {
        let least = self.bytes().saturating_sub(bytes);
        self.evict(guard, |oldest| {
            // SAFETY: read from `oldest` under `guard`.
            let segment = unsafe { self.reach(oldest.segment, guard) };
            self.bytes() >= least + segment.bytes()
        });
    }

    /// Tells the age in ticks and the bytes of each segment, those of its frames included. The last one is as old as `quiet`.
    pub(crate) fn survey(
        &self,
        now: u64,
        quiet: u64,
        guard: &Guard,
        mut tell: impl FnMut(u64, u64),
    ) {
        let mut link = self.oldest();
        while let Link::Segment(segment) = link {
            // SAFETY: read from `oldest`, and then from reachable segments, under `guard`.
            let segment = unsafe { self.reach(segment, guard) };
            link = segment.next();
            let age = match link {
                Link::Segment(next) => {
                    // SAFETY: read from a reachable segment under `guard`.
                    let next = unsafe { self.reach(next, guard) };
                    now.saturating_sub(segment.last().min(next.born()))
                }
                _ => quiet,
            };
            let frames = Frame::whole_bytes_of(segment.reserved(), segment.bytes());
            tell(age, frames + segment.allocated() as u64);
        }
    }

    /// Evicts the segments that end at or before `passed`.
    pub(crate) fn evict_passed(&self, passed: u64, guard: &Guard) {
        self.evict(guard, |next| next.first <= passed);
    }

    /// Gives the whole chain back if nothing at or above `passed` was handed out. The next event begins a new chain.
    pub(crate) fn release(&self, passed: u64, guard: &Guard) {
        if !self.begin_evicting() {
            return;
        }
        // L5: cut only what `oldest` leads to, and evict all of it before the flag is free again: so there is never more
        // than one chain that `oldest` does not lead to yet.
        if let (Link::Segment(_), Link::Segment(tail_ptr)) = (self.oldest(), self.tail()) {
            // SAFETY: read from `tail` under `guard`.
            let tail = unsafe { self.reach(tail_ptr, guard) };
            let reserved = tail.reserved();
            // S5: an empty tail stays; its publisher is on the way.
            if reserved > 0 && tail.first() + reserved as u64 <= passed {
                tail.seal();
                let end = tail.end();
                // A reservation may have come before the seal; then the segment is merely shorter than it could be.
                if end <= passed && tail.decide_next(Link::Vacant(end)).is_ok() {
                    self.advance_tail(tail_ptr, Link::Vacant(end));
                }
            }
        }
        while let Some(next) = self.oldest_and_next(guard, true)
            && next.first <= passed
        {
            self.evict_one(&next, guard);
        }
        self.end_evicting();
    }

    /// Takes the flag. Its holder alone moves `oldest` on and retires segments.
    fn begin_evicting(&self) -> bool {
        // Acquire: the last holder's writes. Release: should the flag be taken, then what we appended. O9
        !self.evicting.swap(true, Ordering::AcqRel)
    }

    fn end_evicting(&self) {
        // Release: our writes. Acquire: what those appended who found the flag taken; we look again for them. O9
        self.evicting.swap(false, Ordering::AcqRel);
    }

    /// The oldest segment and what follows it, if that is decided and the log goes on; with `closed` also if it ends there.
    #[inline]
    fn oldest_and_next(&self, guard: &Guard, closed: bool) -> Option<Oldest> {
        let Link::Segment(segment) = self.oldest() else {
            return None;
        };
        // SAFETY: read from `oldest` under `guard`.
        let oldest = unsafe { self.reach(segment, guard) };
        let link = oldest.next();
        let (first, last) = match link {
            Link::Segment(next) => {
                // SAFETY: read from a reachable segment under `guard`.
                let next = unsafe { self.reach(next, guard) };
                (next.first(), Some(oldest.last().min(next.born())))
            }
            Link::Vacant(base) => (base, None),
            // S5: not an empty one.
            Link::Closed(end) if closed && end > oldest.first() => (end, None),
            Link::Undecided | Link::Closed(_) => return None,
        };
        Some(Oldest {
            segment,
            next: link,
            first,
            last,
        })
    }

    /// Evicts from the oldest segment on while `should` says so. One thread at a time: another one leaves, and whoever
    /// holds the flag looks again, by its own measure, before it is done.
    #[inline]
    fn evict(&self, guard: &Guard, should: impl Fn(&Oldest) -> bool) {
        let evictable = || self.oldest_and_next(guard, false).filter(&should);
        while evictable().is_some() && self.begin_evicting() {
            while let Some(oldest) = evictable() {
                self.evict_one(&oldest, guard);
            }
            self.end_evicting();
        }
    }

    /// Evicts the oldest segment. The flag is held.
    fn evict_one(&self, oldest: &Oldest, guard: &Guard) {
        // L1: `tail` does not lead to it …
        self.advance_tail(oldest.segment, oldest.next);
        // SAFETY: read from `oldest` under `guard`.
        let segment = unsafe { self.reach(oldest.segment, guard) };
        // Acquire (O1): what publishers did before they reserved here is passed on by O7. Whoever begins at the oldest offset
        // has that behind it, though it reads no slot of this segment (N1 of `snapshot`).
        let _ = segment.reserved();
        let (bytes, has_controls) = segment.evict_bytes();
        segment.note_retired(bytes);
        // Relaxed: a count.
        self.bytes.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
        if has_controls {
            // K1 of `controls`: before the offset is raised.
            self.controls.keep(&segment.controls(), segment.born());
        }
        // … no cursor follows its address … Release: pairs with the readers' check. O7
        self.oldest_offset.store(oldest.first, Ordering::Release);
        // … and `oldest` does not lead to it. Release: readers reach the next segment's fields through it. O6
        self.oldest.store(oldest.next.into_raw(), Ordering::Release);
        if let Link::Vacant(base) = oldest.next {
            // L5: either the appender sees the vacant `oldest`, or this sees its segment. O8
            fence(Ordering::SeqCst);
            if let Link::Segment(mut first) = self.tail() {
                // The chain that began at `base` is whole: nobody evicts while `oldest` is vacant.
                loop {
                    // SAFETY: read from `tail` under `guard`, and then from segments of a whole chain.
                    let segment = unsafe { self.reach(first, guard) };
                    match segment.prev() {
                        Some(prev) if segment.first() > base => first = prev,
                        _ => break,
                    }
                }
                self.link_oldest(base, first.as_ptr());
            }
        }
        RETIRED.with(|retired| retired.set(retired.get() + bytes));
        // SAFETY: not retired yet, so not freed.
        let segment = unsafe { Segment::whole(oldest.segment) };
        // SAFETY: L1 holds from here on, and only the holder of the flag retires, each segment once.
        unsafe { epoch::retire(guard, segment) };
    }

    /// Ends the log. What was reserved before is delivered; what comes later is refused.
    pub(crate) fn close(&self, guard: &Guard) {
        loop {
            match self.tail() {
                Link::Closed(_) | Link::Undecided => break,
                Link::Vacant(base) => {
                    // Release, though no memory hangs on the word: one order for all of `tail`. O5
                    let closed = self.tail.compare_exchange(
                        Link::Vacant(base).into_raw(),
                        Link::Closed(base).into_raw(),
                        Ordering::Release,
                        Ordering::Relaxed,
                    );
                    if closed.is_ok() {
                        break;
                    }
                }
                // The tail stays where it is: its chain may not be linked to `oldest` yet (L5).
                Link::Segment(tail_ptr) => {
                    // SAFETY: read from `tail` under `guard`.
                    let tail = unsafe { self.reach(tail_ptr, guard) };
                    tail.seal();
                    match tail.decide_next(Link::Closed(tail.end())) {
                        Ok(()) | Err(Link::Closed(_)) => break,
                        Err(next) => self.advance_tail(tail_ptr, next),
                    }
                }
            }
        }
        // Release: whoever sees it is after the close. O10
        self.closed.store(true, Ordering::Release);
    }
}

/// A segment that may be evicted, and what follows it.
#[derive(Debug)]
struct Oldest {
    segment: NonNull<Thin>,
    next: Link,
    /// The offset at which what follows begins.
    first: u64,
    /// When the last event of the segment came, or a little later.
    last: Option<u64>,
}

impl Oldest {
    fn older_than(&self, age_ticks: u64, now: u64) -> bool {
        self.last
            .is_some_and(|last| now.saturating_sub(last) > age_ticks)
    }
}

/// Links `fresh` behind `tail`; tells what follows `tail` now, and gives `fresh` back if that is another.
fn extend(tail: &Segment, fresh: Box<Segment>) -> Result<Link, (Box<Segment>, Link)> {
    let fresh = fresh.into_raw();
    let link = Link::Segment(fresh);
    match tail.decide_next(link) {
        Ok(()) => Ok(link),
        // SAFETY: the segment was not linked, so it is ours again.
        Err(winner) => Err((unsafe { Segment::from_raw(fresh) }, winner)),
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let free_chain = |mut link: Link| {
            while let Link::Segment(segment) = link {
                // SAFETY: `&mut self`: no reader or publisher is left, and the chain owns its segments.
                let segment = unsafe { Segment::from_raw(segment) };
                link = segment.next();
            }
            link
        };
        // A chain that was cut off as idle and is not evicted yet may stand beside the one that began after it.
        if let Link::Vacant(_) = free_chain(self.oldest())
            && let Link::Segment(mut first) = self.tail()
        {
            // SAFETY: as above; nothing of the chain that `tail` ends was evicted, since `oldest` never got there.
            while let Some(prev) = unsafe { Segment::deref(first) }.prev() {
                first = prev;
            }
            free_chain(Link::Segment(first));
        }
    }
}
