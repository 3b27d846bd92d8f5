//! The place where one subscriber parks: its waker, and how far it has read.
//!
//! **Role.** The owner puts a waker in before it parks; a publisher, or the hub's clock, takes it out to wake.
//!
//! **State.** `state`: 0 idle, bit 0 REGISTERING (the owner is in the cell), bit 1 TAKING (somebody takes).
//!
//! **Invariants.**
//! * W1: the cell is touched only by the owner in REGISTERING, or by the one thread that turned idle into TAKING.
//! * W2: a waker that was in the cell, or was about to be, when a taker came is woken: by that taker, by the taker that
//!   was there before, or by the owner itself.
//! * W3: no user code runs while the cell is held: wakers are cloned before it is entered and dropped outside.
//!
//! **Protocol.** It is that of `AtomicWaker` (futures, tokio), less the clone and drop inside. *Register*: idle →
//! REGISTERING, swap the waker, REGISTERING → idle; if a taker came meanwhile, wake oneself. *Take*: set TAKING; if
//! the cell was idle, move the waker out and clear TAKING; otherwise leave the wake to whoever is in.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | W-a | `register` enter | CAS | Acquire | the taker's release | `waiter_cell` |
//! | W-b | `register` leave | CAS / swap | `AcqRel` | the taker's acquire | Release: `waiter_cell` |
//! | W-c | `take` enter | `fetch_or` | `AcqRel` | the owner's release | Acquire: `waiter_cell` |
//! | W-d | `take` leave | `fetch_and` | Release | the owner's acquire | `waiter_cell` |
//! | W-e | `passed` | store / load | Release / Acquire | each other: a segment passed is a segment read | — (the pin holds what is read) |
//!
//! **Progress.** Wait-free.

use std::task::Waker;

use crate::sync::{AtomicU32, AtomicU64, Ordering, ProtocolCell};

const IDLE: u32 = 0;
const REGISTERING: u32 = 0b01;
const TAKING: u32 = 0b10;

#[derive(Debug)]
pub(crate) struct Waiter {
    state: AtomicU32,
    /// All offsets below were read. 0 while vacant and until the first look: holds everything back.
    passed: AtomicU64,
    waker: ProtocolCell<Option<Waker>>,
}

// SAFETY: W1 gives the waker's cell one user at a time; `Waker` is `Send` and `Sync`.
unsafe impl Sync for Waiter {}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU32::new(IDLE),
            passed: AtomicU64::new(0),
            waker: ProtocolCell::new(None),
        }
    }

    /// Puts `waker` in. If a taker comes at the same time, wakes it instead.
    pub(crate) fn register(&self, waker: Waker) {
        // Acquire: a taker's exit. W-a
        if self
            .state
            .compare_exchange(IDLE, REGISTERING, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            // W2: whoever is taking may find the old waker.
            waker.wake();
            return;
        }
        let old = self.replace(Some(waker));
        // AcqRel: hands the cell to takers; on failure a taker's entry is read. W-b
        let left =
            self.state
                .compare_exchange(REGISTERING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if left.is_err() {
            // W2: a taker came, saw us here, and left the wake to us. The cell stays ours until the swap.
            let mine = self.replace(None);
            self.state.swap(IDLE, Ordering::AcqRel);
            if let Some(waker) = mine {
                waker.wake();
            }
        }
        drop(old);
    }

    /// Moves the waker out, to be woken. `None` if there is none, or if somebody else sees to it.
    pub(crate) fn take(&self) -> Option<Waker> {
        // AcqRel: the owner's exit; and the owner, if it is in, reads that we came. W-c
        if self.state.fetch_or(TAKING, Ordering::AcqRel) != IDLE {
            return None;
        }
        let waker = self.replace(None);
        // Release: hands the cell to the owner. W-d
        self.state.fetch_and(!TAKING, Ordering::Release);
        waker
    }

    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: W1: the caller is the one in the cell.
        self.waker
            .with_mut(|cell| unsafe { std::ptr::replace(cell, waker) })
    }

    pub(crate) fn passed(&self) -> u64 {
        // Acquire: pairs with `set_passed`. W-e
        self.passed.load(Ordering::Acquire)
    }

    pub(crate) fn set_passed(&self, offset: u64) {
        // Release: what was read is read. W-e
        self.passed.store(offset, Ordering::Release);
    }
}
