//! Up to 64 chunks under one summary word: up to 4,096 waiters.
//!
//! **Role.** The unit by which the list of a topic grows and shrinks.
//!
//! **Invariants.**
//! * G1: `live` counts the tickets to waiters of this group. A ticket is taken before a waiter is claimed and given
//!   back after it was left, so whoever holds one finds a free waiter.
//! * G2: RETIRED is set once, when no ticket is out, and then none is given out any more.
//! * G3: a group's place in the list does not change while it is in the list.
//! * G4: the upper half of `live` counts the owners who were given up, lost their waiters to others, and hold the group still. With
//!   one of them it is not retired, so that those who come next use it: otherwise each of them might keep a group of its own.
//!
//! Orderings: see `subscribers`.

use std::task::Waker;

use super::chunk::{CHUNK_WAITERS, Chunk};
use super::waiter::Waiter;
use crate::sync::{AtomicU64, Ordering};

const RETIRED: u64 = 1 << 31;

/// One owner who lost its waiter. Their number may be below 0 while the clock is about to say so.
const LOST: u64 = 1 << 32;

/// No place of any list.
const NOWHERE: usize = usize::MAX;

#[derive(Debug)]
pub(crate) struct Group {
    index: usize,
    summary: AtomicU64,
    /// Bit = chunk that may have a free waiter. A hint.
    vacant: AtomicU64,
    live: AtomicU64,
    capacity: u32,
    chunks: Box<[Chunk<Box<[Waiter]>>]>,
}

/// Chunks and waiters per chunk of the group at a place of the list: small topics stay small.
#[cfg(not(fanfare_loom))]
const fn geometry(index: usize) -> (usize, usize) {
    match index {
        0 => (1, 8),
        1 => (1, 64),
        2 => (8, 64),
        3 => (16, 64),
        _ => (64, 64),
    }
}

/// Models want all the levels with few waiters.
#[cfg(fanfare_loom)]
const fn geometry(_: usize) -> (usize, usize) {
    (2, 2)
}

/// Tickets that are out; more than any capacity if the group is retired.
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn tickets(live: u64) -> u32 {
    live as u32
}

impl Group {
    /// A group for the place `index`, with one ticket out: the maker's.
    pub(crate) fn with_ticket(index: usize) -> Self {
        Self::of(index, geometry(index))
    }

    /// A group of one waiter, for no place, with its ticket out.
    pub(crate) fn nowhere() -> Self {
        Self::of(NOWHERE, (1, 1))
    }

    fn of(index: usize, (chunks, waiters): (usize, usize)) -> Self {
        let chunk = || Chunk::new((0..waiters).map(|_| Waiter::new()).collect::<Box<[_]>>());
        Self {
            index,
            summary: AtomicU64::new(0),
            vacant: AtomicU64::new(u64::MAX >> (64 - chunks)),
            live: AtomicU64::new(1),
            #[expect(clippy::cast_possible_truncation, reason = "at most 4,096")]
            capacity: (chunks * waiters) as u32,
            chunks: (0..chunks).map(|_| chunk()).collect(),
        }
    }

    /// Tells it from other groups while it lives.
    pub(crate) fn address(&self) -> usize {
        (&raw const *self).addr()
    }

    /// The place in the list (G3).
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn is_nowhere(&self) -> bool {
        self.index == NOWHERE
    }

    pub(crate) fn has_room(&self) -> bool {
        // Relaxed: a hint. A retired group is above its capacity.
        tickets(self.live.load(Ordering::Relaxed)) < self.capacity
    }

    /// Takes a ticket, unless the group is full or retired.
    pub(crate) fn take_ticket(&self) -> bool {
        let more = |live| (tickets(live) < self.capacity).then_some(live + 1);
        // Acquire: the leave that gave the ticket back has cleared its waiter. P8
        self.live
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Claims a waiter with a ticket that is out. Tells its number in the group.
    pub(crate) fn claim(&self) -> usize {
        loop {
            // Relaxed: hints.
            let mut vacant = self.vacant.load(Ordering::Relaxed);
            while vacant != 0 {
                let chunk = vacant.trailing_zeros() as usize;
                vacant &= vacant - 1;
                if let Some(waiter) = self.chunks[chunk].claim() {
                    return chunk * CHUNK_WAITERS + waiter;
                }
                // Acquire: with the bit we clear what its setter did. P8
                self.vacant.fetch_and(!(1 << chunk), Ordering::Acquire);
                // A leave that set the bit before it was cleared must not be forgotten: look once more.
                if let Some(waiter) = self.chunks[chunk].claim() {
                    self.vacant.fetch_or(1 << chunk, Ordering::Relaxed);
                    return chunk * CHUNK_WAITERS + waiter;
                }
            }
            // G1: somewhere is a free one; hints can be late.
            for (at, chunk) in self.chunks.iter().enumerate() {
                if let Some(waiter) = chunk.claim() {
                    return at * CHUNK_WAITERS + waiter;
                }
            }
        }
    }

    /// Leaves a waiter and gives its ticket back. Tells the waker that was in it, and whether this retired the group.
    pub(crate) fn leave(&self, number: usize) -> (Option<Waker>, bool) {
        let waker = self.empty(number);
        // Release, and the retirer's acquire: all leaves are complete before the group goes. P8
        let retired = self.live.fetch_sub(1, Ordering::Release) == 1 && self.retire();
        (waker, retired)
    }

    /// [`leave`](Self::leave) in place of an owner who was given up, and who [lets go](Self::let_go) of the group later, or has already.
    pub(crate) fn vacate(&self, number: usize) -> (Option<Waker>, bool) {
        let waker = self.empty(number);
        // Release: as in `leave`. P8, G4
        let before = self.live.fetch_add(LOST - 1, Ordering::Release);
        (waker, before.wrapping_add(LOST - 1) == 0 && self.retire())
    }

    /// An owner who was given up, and knows it now, has no more to do with the group. Tells whether this retired it.
    pub(crate) fn let_go(&self) -> bool {
        // Release: as in `leave`. P8, G4
        self.live.fetch_sub(LOST, Ordering::Release) == LOST && self.retire()
    }

    fn empty(&self, number: usize) -> Option<Waker> {
        let chunk = number / CHUNK_WAITERS;
        let waker = self.chunks[chunk].leave(number % CHUNK_WAITERS);
        // Release: whoever clears the bit finds the waiter free. P8
        self.vacant.fetch_or(1 << chunk, Ordering::Release);
        waker
    }

    fn retire(&self) -> bool {
        // Acquire: P8
        self.live
            .compare_exchange(0, RETIRED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    pub(crate) fn chunk(&self, number: usize) -> (&Chunk<Box<[Waiter]>>, usize) {
        (&self.chunks[number / CHUNK_WAITERS], number % CHUNK_WAITERS)
    }

    /// Step 3 of parking: the summary bit, whatever the leaf held before.
    #[inline]
    pub(crate) fn arm_summary(&self, number: usize) {
        let bit = 1 << (number / CHUNK_WAITERS);
        // Acquire: whoever set the bit after a taker makes us see that the taker was at the top word. AcqRel: P4
        if self.summary.load(Ordering::Acquire) & bit == 0 {
            self.summary.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Takes the summary and gives each chunk in it to `f`.
    #[inline]
    pub(crate) fn take_armed(&self, mut f: impl FnMut(&Chunk<Box<[Waiter]>>)) {
        // AcqRel, and always: a parker that found the top bit set must find in this word that we were there. P4
        let mut armed = self.summary.swap(0, Ordering::AcqRel);
        while armed != 0 {
            f(&self.chunks[armed.trailing_zeros() as usize]);
            armed &= armed - 1;
        }
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = (usize, &Chunk<Box<[Waiter]>>)> {
        self.chunks.iter().enumerate()
    }
}
