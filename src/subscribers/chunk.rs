//! Up to 64 waiters under one set of bits.
//!
//! **Role.** A [`Chunk`] is a row of waiters; one word each says which are claimed, which are armed (parked and waiting
//! for a wake), which want heartbeats and which got one. The topic's first waiter is a chunk of one.
//!
//! **Invariants.**
//! * K1: bit `i` of `occupied` is set by the claim and cleared by the leave of the one subscription that owns waiter `i`, or by the
//!   clock in its place (W4 of `waiter`).
//! * K2: bit `i` of `armed` is set by the owner, after its waker is in the cell and the cell is lent (W1 of `waiter`), and
//!   cleared by whoever takes it; whoever takes it takes the waker next, or is the owner and reclaims the cell.
//!
//! Orderings: see `subscribers`.

use std::task::Waker;

use arrayvec::ArrayVec;

use super::waiter::Waiter;
use crate::sync::{AtomicU64, Ordering};

/// Most waiters of a chunk: the bits of a word.
pub(crate) const CHUNK_WAITERS: usize = 64;

/// Wakers on their way from the cells to their wake.
pub(crate) type Wakers = ArrayVec<Waker, CHUNK_WAITERS>;

#[derive(Debug)]
pub(crate) struct Chunk<W> {
    armed: AtomicU64,
    occupied: AtomicU64,
    wants_beat: AtomicU64,
    beaten: AtomicU64,
    waiters: W,
}

impl<W: AsRef<[Waiter]>> Chunk<W> {
    pub(crate) fn new(waiters: W) -> Self {
        Self {
            armed: AtomicU64::new(0),
            occupied: AtomicU64::new(0),
            wants_beat: AtomicU64::new(0),
            beaten: AtomicU64::new(0),
            waiters,
        }
    }

    /// Claims a free waiter. With it the caller reads what its last owner's leave wrote.
    pub(crate) fn claim(&self) -> Option<usize> {
        let all = u64::MAX >> (CHUNK_WAITERS - self.waiters.as_ref().len());
        // Relaxed: the CAS decides.
        let mut occupied = self.occupied.load(Ordering::Relaxed);
        loop {
            let free = !occupied & all;
            if free == 0 {
                return None;
            }
            let bit = free & free.wrapping_neg();
            // AcqRel: the last owner's leave is complete. P6
            match self.occupied.compare_exchange_weak(
                occupied,
                occupied | bit,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(bit.trailing_zeros() as usize),
                Err(now) => occupied = now,
            }
        }
    }

    /// Gives the waiter back, clean. Returns the waker that was in it, to be dropped by the caller.
    pub(crate) fn leave(&self, index: usize) -> Option<Waker> {
        let bit = 1 << index;
        let waiter = self.waiter(index);
        // Lent still: somebody is on the way to the waker, and wakes it.
        let waker = self.reclaim(index).then(|| waiter.empty()).flatten();
        // Relaxed: heartbeat bits carry no data, and the clear below orders them.
        self.wants_beat.fetch_and(!bit, Ordering::Relaxed);
        self.beaten.fetch_and(!bit, Ordering::Relaxed);
        waiter.set_passed(0);
        waiter.clear_standing();
        // AcqRel: the next owner finds it clean. P6
        self.occupied.fetch_and(!bit, Ordering::AcqRel);
        waker
    }

    #[inline]
    pub(crate) fn waiter(&self, index: usize) -> &Waiter {
        &self.waiters.as_ref()[index]
    }

    /// Steps 1 and 2 of parking: the waker, then the leaf bit. `false` if a taker is at the waker of the last time: then
    /// `waker` was woken, and its owner is to come again.
    #[must_use]
    #[inline]
    pub(crate) fn arm(&self, index: usize, waker: &Waker) -> bool {
        if !self.reclaim(index) {
            // W2
            waker.wake_by_ref();
            return false;
        }
        let old = self.waiter(index).lend(waker);
        // AcqRel: publishes the waker; reads the last taker's exit. P2
        self.armed.fetch_or(1 << index, Ordering::AcqRel);
        // User code. Should it panic, the upper bits are not set: the poll that panics is not parked either.
        drop(old);
        true
    }

    /// Makes the cell the owner's, if need be by taking its own bit back. `false` if somebody else has taken the bit, and is
    /// not out of the cell yet.
    #[inline]
    fn reclaim(&self, index: usize) -> bool {
        let waiter = self.waiter(index);
        if !waiter.is_lent() {
            return true;
        }
        let bit = 1 << index;
        // AcqRel: whoever clears the bit has the cell. P2
        let mine = self.armed.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if mine {
            waiter.reclaim();
        }
        mine
    }

    /// The owner goes on without a wake; if somebody has its bit already, there is a superfluous one.
    #[inline]
    pub(crate) fn disarm(&self, index: usize) {
        self.reclaim(index);
    }

    /// Takes all armed bits and moves their wakers out.
    #[inline]
    pub(crate) fn take(&self, wakers: &mut Wakers) {
        // AcqRel: the parkers' wakers. P3
        let armed = self.armed.swap(0, Ordering::AcqRel);
        self.take_wakers(armed, wakers);
    }

    /// Takes one waiter's bit, always by an RMW, and with the bit its waker: an owner that parks after this reads what the
    /// caller did before.
    pub(crate) fn take_one(&self, index: usize) -> Option<Waker> {
        let bit = 1 << index;
        // AcqRel: the parker's waker. P3
        let armed = self.armed.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        armed.then(|| self.waiter(index).take()).flatten()
    }

    /// From the highest bit down: the buffer is emptied from its end, so the first comer is woken first.
    #[inline]
    fn take_wakers(&self, mut bits: u64, wakers: &mut Wakers) {
        while let Some(index) = bits.checked_ilog2() {
            let index = index as usize;
            bits &= !(1 << index);
            if let Some(waker) = self.waiter(index).take() {
                // There is room: at most one waker for each of the 64 bits.
                drop(wakers.try_push(waker));
            }
        }
    }

    pub(crate) fn want_beats(&self, index: usize, wanted: bool) {
        let bit = 1 << index;
        // Relaxed: the clock may see it one visit later.
        if wanted {
            self.wants_beat.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.wants_beat.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_beat_wanters(&self) -> bool {
        // Relaxed: as in `want_beats`.
        self.wants_beat.load(Ordering::Relaxed) != 0
    }

    /// Marks a heartbeat for those who want one and are parked, and moves their wakers out.
    pub(crate) fn beat(&self, wakers: &mut Wakers) {
        // Relaxed: a parker that is missed gets the next heartbeat.
        let wanted = self.wants_beat.load(Ordering::Relaxed) & self.armed.load(Ordering::Relaxed);
        if wanted == 0 {
            return;
        }
        // Release through the RMW on `armed`: whoever is woken finds its mark.
        self.beaten.fetch_or(wanted, Ordering::Relaxed);
        let taken = self.armed.fetch_and(!wanted, Ordering::AcqRel) & wanted;
        self.take_wakers(taken, wakers);
    }

    /// Takes the owner's heartbeat mark.
    #[inline]
    pub(crate) fn take_beat(&self, index: usize) -> bool {
        let bit = 1 << index;
        // Relaxed: the wake that follows the mark orders it.
        self.beaten.load(Ordering::Relaxed) & bit != 0
            && self.beaten.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    /// Suspects those who are not parked and have something below `end` to read. Who is suspected since an earlier look is
    /// given to `f`, with how far it has read.
    pub(crate) fn suspect(&self, end: u64, mut f: impl FnMut(usize, &Waiter, u64)) {
        // Relaxed: who parks or leaves meanwhile is seen next time, and its standing decides.
        let mut running =
            self.occupied.load(Ordering::Relaxed) & !self.armed.load(Ordering::Relaxed);
        while running != 0 {
            let index = running.trailing_zeros() as usize;
            running &= running - 1;
            let waiter = self.waiter(index);
            let passed = waiter.passed();
            if passed > 0 && passed < end && waiter.suspect() {
                f(index, waiter, passed);
            }
        }
    }

    /// The numbers of the claimed waiters for which `f` holds, as bits.
    fn which(&self, mut f: impl FnMut(&Waiter) -> bool) -> u64 {
        // Relaxed: who comes or goes meanwhile is not meant.
        let mut occupied = self.occupied.load(Ordering::Relaxed);
        let mut found = 0;
        while occupied != 0 {
            let index = occupied.trailing_zeros() as usize;
            occupied &= occupied - 1;
            if f(self.waiter(index)) {
                found |= 1 << index;
            }
        }
        found
    }

    /// How many claimed waiters there are for which `f` holds.
    pub(crate) fn count(&self, f: impl FnMut(&Waiter) -> bool) -> usize {
        self.which(f).count_ones() as usize
    }

    /// Asks those to leave for whom `f` says so, and moves their wakers out. Tells how many.
    pub(crate) fn ask(&self, wakers: &mut Wakers, f: impl FnMut(&Waiter) -> bool) -> usize {
        let asked = self.which(f);
        if asked != 0 {
            // AcqRel, and always an RMW: D1 of `drain`. P3
            let armed = self.armed.fetch_and(!asked, Ordering::AcqRel) & asked;
            self.take_wakers(armed, wakers);
        }
        asked.count_ones() as usize
    }

    /// Gives to `f` each claimed waiter that has noted a place and was not given up: its number, whether it is parked, and
    /// how far it has read.
    pub(crate) fn survey(&self, mut f: impl FnMut(usize, bool, u64)) {
        // Acquire: as for `least_passed`. P7
        let mut occupied = self.occupied.load(Ordering::Acquire);
        // Relaxed: a look.
        let armed = self.armed.load(Ordering::Relaxed);
        while occupied != 0 {
            let index = occupied.trailing_zeros() as usize;
            occupied &= occupied - 1;
            let passed = self.waiter(index).holds();
            if passed > 0 && passed < u64::MAX {
                f(index, armed & 1 << index != 0, passed);
            }
        }
    }

    /// Whether a claimed waiter has noted a place.
    pub(crate) fn has_reader(&self) -> bool {
        // Acquire: as for `least_passed`. P7
        let mut occupied = self.occupied.load(Ordering::Acquire);
        while occupied != 0 {
            let index = occupied.trailing_zeros() as usize;
            occupied &= occupied - 1;
            if self.waiter(index).passed() > 0 {
                return true;
            }
        }
        false
    }

    /// The least that any claimed waiter has read, apart from those that were given up.
    pub(crate) fn least_passed(&self) -> u64 {
        // Acquire: the claim's bit, then what its owner stored. P7
        let mut occupied = self.occupied.load(Ordering::Acquire);
        let mut least = u64::MAX;
        while occupied != 0 {
            let index = occupied.trailing_zeros() as usize;
            occupied &= occupied - 1;
            least = least.min(self.waiter(index).holds());
        }
        least
    }
}
