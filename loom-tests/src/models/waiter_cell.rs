//! The cell of one waker: register, take and leave at the same time. The cell has one user at a time (loom watches it),
//! and a waker that was in it, or was about to be, when a taker came is woken by somebody (W2).
//!
//! **Bound.** All interleavings with one taker; 3 preemptions with two takers.
//!
//! **Teeth.** The owner's entry, or a taker's exit, Relaxed; the owner's exit without Release; a taker's entry without
//! Acquire; an owner that meets a taker and does not wake itself.

use loom::thread;

use super::{Woken, check};
use crate::sync::Arc;

#[path = "../../../src/subscribers/waiter.rs"]
#[expect(dead_code, reason = "a model uses a part of it")]
#[allow(
    clippy::duplicate_mod,
    reason = "the cell is private to `subscribers`, and alone it makes small models"
)]
mod waiter;

use waiter::Waiter;

/// The owner registers `times`; `takers` take what they find. Whoever comes last finds the cell in order.
fn cell(name: &str, bound: Option<usize>, takers: usize, times: usize) {
    check(name, bound, move || {
        let waiter = Arc::new(Waiter::new());
        let (first, waker) = Woken::new();
        waiter.register(waker);
        let takers: Vec<_> = (0..takers)
            .map(|_| {
                let waiter = Arc::clone(&waiter);
                thread::spawn(move || {
                    if let Some(waker) = waiter.take() {
                        waker.wake();
                    }
                })
            })
            .collect();
        let mut registered = vec![first];
        for _ in 0..times {
            let (woken, waker) = Woken::new();
            waiter.register(waker);
            registered.push(woken);
        }
        for taker in takers {
            taker.join().expect("no panic");
        }
        // W2: the takers came to a cell that was full or about to be.
        assert!(registered.iter().any(|woken| woken.is()), "a wake was lost");
        let last = registered.last().expect("one at least");
        let left = waiter.take();
        assert!(last.is() || left.is_some(), "a waker was lost");
        if let Some(waker) = left {
            waker.wake();
            assert!(last.is(), "an old waker was left");
        }
    });
}

#[test]
fn waiter_cell() {
    cell("waiter_cell", None, 1, 2);
}

#[test]
fn waiter_cell_two_takers() {
    cell("waiter_cell_two_takers", Some(3), 2, 1);
}

/// A taker that comes after the owner is in the cell, and before another look of the owner, is not forgotten: the shape
/// of parking without the bits.
#[test]
fn waiter_cell_dekker() {
    use crate::sync::{AtomicBool, Ordering};
    check("waiter_cell_dekker", None, || {
        let shared = Arc::new((Waiter::new(), AtomicBool::new(false)));
        let publishers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1.store(true, Ordering::Release);
                // The RMW in `take` and the one in `register` order the two looks.
                if let Some(waker) = shared.0.take() {
                    waker.wake();
                }
            })
        });
        let (woken, waker) = Woken::new();
        shared.0.register(waker);
        let seen = shared.1.load(Ordering::Acquire);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        assert!(seen || woken.is(), "lost wake-up");
    });
}
