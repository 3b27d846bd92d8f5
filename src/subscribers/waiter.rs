//! The place where one subscriber parks: its waker, and how far it has read.
//!
//! **Role.** The owner puts a waker in before it parks; a publisher, or the hub's clock, takes it out to wake.
//!
//! **State.** `lent`: whether the cell belongs to whoever clears the waiter's bit of its chunk's `armed` word, or to the
//! owner.
//!
//! **Invariants.**
//! * W1: the cell is touched by the owner alone while `lent` is false, and while it is true by the one thread that cleared
//!   the bit, alone.
//! * W2: a waker that was in the cell when a taker came is woken by that taker. An owner that finds a taker in the cell
//!   wakes itself.
//! * W3: no user code runs inside the cell, nor between a taker's clearing of the bit and its word that it is out. What a
//!   waker does in its clone, the owner lets it do as an owner; what it does in its drop, when the bit is set.
//! * W4: whoever is given up loses the waiter. The clock makes another generation of it first, and leaves it once no pin of before is
//!   held. The owner of a watched waiter touches it only under a pin under which it saw its own generation: so it is the
//!   owner, or the clock in its place, never both, and never an owner of before.
//!
//! **Protocol.** *Lend*: put the waker in, say that it is lent; then the chunk sets the bit. *Take*: the chunk cleared the
//! bit; move the waker out, say that the cell is the owner's again. *Reclaim*: the owner cleared its own bit; it says so too.
//! The bit is what decides, so neither side makes an RMW here. Between a taker's swap of the bits and its word that it
//! is out of the cell the owner cannot park; it wakes itself and comes again.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | W-a | `is_lent` | load of `lent` | Acquire | W-b: the taker is out | `waiter_cell` |
//! | W-b | `take` | store of `lent` | Release | W-a | `waiter_cell` |
//! | W-c | `lend`, `reclaim` | stores of `lent` | Relaxed | the RMWs of the bit: P2, P3 | — |
//! | W-e | `standing` | RMWs, load | Relaxed | nothing: one byte decides (V1 of `eviction`) | — |
//! | W-f | `generation` | store / load | Relaxed | the fences of `defer` and of the pin | — (of no use without the store: `stall_vs_newcomer`) |
//! | W-g | `watch` | RMW of `standing` | Release | the clock's fences, between its look and its store to `generation` | — (a model has no load that takes what is stored later) |
//! | W-d | `passed` | store / load | Release / Acquire | each other: a segment passed is a segment read | — (the pin holds what is read) |
//!
//! **Progress.** Wait-free.

use std::task::Waker;

use crate::ending::EndReason;
use crate::sync::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU64, HostAtomicU32, Ordering, ProtocolCell,
};

/// The clock looks whether the owner goes on.
const WATCHED: u8 = 1;
/// The owner has not gone on since the clock last looked.
const SUSPECT: u8 = 2;
/// The clock has given the owner up, and counted it out.
const EVICTED: u8 = 4;
/// The owner is asked to leave when it has read what is there: the hub is drained.
const DRAINED: u8 = 8;
/// The same: it is there for as long as a connection may be.
const AGED: u8 = 16;
/// The owner reads for others.
const FEED: u8 = 32;

const fn is_suspected(standing: u8) -> bool {
    standing & (WATCHED | SUSPECT | EVICTED) == WATCHED | SUSPECT
}

#[derive(Debug)]
pub(crate) struct Waiter {
    lent: AtomicBool,
    /// How many owners of it were given up: W4. At the highest number nobody loses it any more.
    generation: AtomicU16,
    /// How the owner stands with the clock: V1 and V2 of `eviction`.
    standing: AtomicU8,
    /// When the owner is to be asked to leave: what stands for that tick, or 0.
    leaves_at: HostAtomicU32,
    /// All offsets below were read. 0 while vacant and until the first look: holds everything back.
    passed: AtomicU64,
    waker: ProtocolCell<Option<Waker>>,
}

// SAFETY: W1 gives the waker's cell one user at a time; `Waker` is `Send` and `Sync`.
unsafe impl Sync for Waiter {}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self {
            lent: AtomicBool::new(false),
            generation: AtomicU16::new(0),
            standing: AtomicU8::new(0),
            leaves_at: HostAtomicU32::new(0),
            passed: AtomicU64::new(0),
            waker: ProtocolCell::new(None),
        }
    }

    /// Whether the cell is not the owner's now.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        // Acquire: a taker that says that it is out is out. W-a
        self.lent.load(Ordering::Acquire)
    }

    /// Puts `waker` in and lends the cell out. The owner has it, and sets its bit next. Tells what was in it, to be dropped.
    #[inline]
    pub(crate) fn lend(&self, waker: &Waker) -> Option<Waker> {
        // W1: the cell is the owner's.
        let same = self.waker.with_mut(|cell| {
            // SAFETY: W1.
            let old = unsafe { &*cell };
            old.as_ref().is_some_and(|old| old.will_wake(waker))
        });
        // Cloned, if it must be, before the cell is touched: a clone that panics leaves it as it was.
        let old = if same {
            None
        } else {
            self.replace(Some(waker.clone()))
        };
        // Relaxed: the RMW that sets the bit publishes it. W-c
        self.lent.store(true, Ordering::Relaxed);
        old
    }

    /// The owner cleared its own bit: the cell is its own again, with the waker in it.
    #[inline]
    pub(crate) fn reclaim(&self) {
        // Relaxed: nobody else has been there. W-c
        self.lent.store(false, Ordering::Relaxed);
    }

    /// Moves the waker out, to be woken. The caller has cleared the bit.
    #[inline]
    pub(crate) fn take(&self) -> Option<Waker> {
        let waker = self.replace(None);
        // Release: out of the cell. W-b
        self.lent.store(false, Ordering::Release);
        waker
    }

    /// Empties the cell, which is the owner's.
    pub(crate) fn empty(&self) -> Option<Waker> {
        self.replace(None)
    }

    /// W1: the caller is the one in the cell.
    #[inline]
    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: W1.
        self.waker
            .with_mut(|cell| unsafe { std::ptr::replace(cell, waker) })
    }

    /// The owner wants to be watched. W-e
    pub(crate) fn watch(&self) {
        // It may have been asked to leave. Release: the clock makes no other generation before the owner has looked which is its
        // own. W-g
        self.standing.fetch_or(WATCHED, Ordering::Release);
    }

    /// The owner reads for others. W-e
    #[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
    pub(crate) fn feeds(&self) {
        self.standing.store(FEED, Ordering::Relaxed);
    }

    /// The owner is to be asked to leave at a time.
    pub(crate) fn leaves_at(&self, time: u32) {
        self.leaves_at.store(time, Ordering::Relaxed);
    }

    /// The owner has gone.
    pub(crate) fn clear_standing(&self) {
        // Most have none. W-e
        if self.standing.load(Ordering::Relaxed) != 0 {
            self.standing.store(0, Ordering::Relaxed);
        }
        self.leaves_at.store(0, Ordering::Relaxed);
    }

    /// Whether the owner reads for others. W-e
    pub(crate) fn is_feed(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & FEED != 0
    }

    /// Asks an owner that reads for itself, or one that reads for others, to leave. Tells whether it was one. W-e
    pub(crate) fn ask(&self, feed: bool) -> bool {
        let asked = self.is_feed() == feed;
        if asked {
            self.standing.fetch_or(DRAINED, Ordering::Relaxed);
        }
        asked
    }

    /// The owner asks itself. W-e
    #[cfg(feature = "http-body")]
    pub(crate) fn leave_with(&self, reason: EndReason) {
        let asked = if reason == EndReason::Aged {
            AGED
        } else {
            DRAINED
        };
        self.standing.fetch_or(asked, Ordering::Relaxed);
    }

    /// Asks an owner to leave that is there for too long, by `is_due`. Tells whether it did. W-e
    ///
    /// Another one may have come in its place meanwhile, and then leaves early.
    pub(crate) fn ask_if_old(&self, is_due: impl FnOnce(u32) -> bool) -> bool {
        let time = self.leaves_at.load(Ordering::Relaxed);
        time != 0 && is_due(time) && self.standing.fetch_or(AGED, Ordering::Relaxed) & AGED == 0
    }

    /// Whether the owner is asked to leave. W-e
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & (DRAINED | AGED) != 0
    }

    /// Why the owner is asked to leave, if it is. W-e
    pub(crate) fn asked(&self) -> Option<EndReason> {
        match self.standing.load(Ordering::Relaxed) {
            standing if standing & DRAINED != 0 => Some(EndReason::Drained),
            standing if standing & AGED != 0 => Some(EndReason::Aged),
            _ => None,
        }
    }

    /// The owner goes, or reads in another way. Tells whether it was evicted before: that stays. W-e
    pub(crate) fn unwatch(&self) -> bool {
        self.standing.fetch_and(EVICTED, Ordering::Relaxed) & EVICTED != 0
    }

    /// W-f
    #[inline]
    pub(crate) fn generation(&self) -> u16 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The clock has given the owner up, and takes the waiter from it. `false` if the owner is to keep it until it goes. W-f
    pub(crate) fn next_generation(&self) -> bool {
        let next = self.generation().checked_add(1);
        if let Some(next) = next {
            self.generation.store(next, Ordering::Relaxed);
        }
        next.is_some()
    }

    /// The owner goes on. Tells whether it was evicted. W-e
    #[inline]
    pub(crate) fn go_on(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & (SUSPECT | EVICTED) != 0 && self.clear_suspicion()
    }

    #[cold]
    fn clear_suspicion(&self) -> bool {
        self.standing.fetch_and(!SUSPECT, Ordering::Relaxed) & EVICTED != 0
    }

    /// The clock looks at an owner that has something to read. `true` if it is suspected from an earlier look. W-e
    pub(crate) fn suspect(&self) -> bool {
        let seen = self.standing.load(Ordering::Relaxed);
        if seen & (WATCHED | SUSPECT | EVICTED) == WATCHED {
            self.turn(seen, seen | SUSPECT);
        }
        is_suspected(seen)
    }

    /// The clock gives an owner up, if it is suspected still. Tells whether it did: once for an owner (V1). W-e
    pub(crate) fn evict(&self) -> bool {
        let seen = self.standing.load(Ordering::Relaxed);
        is_suspected(seen) && self.turn(seen, seen & !SUSPECT | EVICTED)
    }

    fn turn(&self, seen: u8, next: u8) -> bool {
        self.standing
            .compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// How far the owner has read, if that is to be waited for.
    #[inline]
    pub(crate) fn holds(&self) -> u64 {
        let passed = self.passed();
        if self.standing.load(Ordering::Relaxed) & EVICTED == 0 {
            passed
        } else {
            u64::MAX
        }
    }

    #[inline]
    pub(crate) fn passed(&self) -> u64 {
        // Acquire: pairs with `set_passed`. W-d
        self.passed.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn set_passed(&self, offset: u64) {
        // An idle reader's polls leave the line alone. Relaxed: the owner alone stores.
        if self.passed.load(Ordering::Relaxed) != offset {
            // Release: what was read is read. W-d
            self.passed.store(offset, Ordering::Release);
        }
    }
}
