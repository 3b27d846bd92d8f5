//! The cell of one waker and the bit that lends it: park, take and leave at the same time. The cell has one user at a time
//! (loom watches it), and a waker that was parked, or was about to be, when a taker came is woken by somebody (W2).
//!
//! **Bound.** All interleavings with one taker; 3 preemptions with two takers.
//!
//! **Teeth.** The owner's look, or a taker's exit, Relaxed; a taker that says that it is out before it is; an owner that meets
//! a taker and does not wake itself; an owner that parks where a taker is.

use loom::thread;

use super::{Woken, check};
use crate::sync::Arc;

#[path = "../../../src/subscribers/chunk.rs"]
#[expect(dead_code, reason = "a model uses a part of it")]
#[allow(
    clippy::duplicate_mod,
    reason = "a chunk is private to `subscribers`, and alone it makes small models"
)]
mod chunk;
#[path = "../../../src/subscribers/waiter.rs"]
#[expect(dead_code, reason = "a model uses a part of it")]
#[allow(
    clippy::duplicate_mod,
    reason = "the cell is private to `subscribers`, and alone it makes small models"
)]
mod waiter;

use chunk::{Chunk, Wakers};
use waiter::Waiter;

type One = Chunk<[Waiter; 1]>;

/// A chunk of one waiter, claimed.
fn one() -> One {
    let chunk = Chunk::new([Waiter::new()]);
    assert_eq!(chunk.claim(), Some(0));
    chunk
}

/// What a publisher does.
fn wake_taken(chunk: &One) -> bool {
    wake(chunk, One::take)
}

/// What the hub's clock does.
fn wake_beaten(chunk: &One) -> bool {
    wake(chunk, One::beat)
}

fn wake(chunk: &One, take: fn(&One, &mut Wakers)) -> bool {
    let mut wakers = Wakers::new();
    take(chunk, &mut wakers);
    let some = !wakers.is_empty();
    for waker in wakers {
        waker.wake();
    }
    some
}

/// The owner parks `times` anew; `takers` take what they find. Whoever comes last finds the cell in order.
fn cell(name: &str, bound: Option<usize>, takers: &'static [fn(&One) -> bool], times: usize) {
    check(name, bound, move || {
        let chunk = Arc::new(one());
        chunk.want_beats(0, true);
        let (first, waker) = Woken::new();
        assert!(chunk.arm(0, &waker), "nobody was there yet");
        let takers: Vec<_> = takers
            .iter()
            .map(|take| {
                let chunk = Arc::clone(&chunk);
                thread::spawn(move || take(&chunk))
            })
            .collect();
        let mut parked = vec![first];
        for _ in 0..times {
            let (woken, waker) = Woken::new();
            let armed = chunk.arm(0, &waker);
            assert!(armed || woken.is(), "the owner is to come again");
            parked.push(woken);
        }
        let mut took = false;
        for taker in takers {
            took |= taker.join().expect("no panic");
        }
        let woken = parked.iter().any(|woken| woken.is());
        assert!(!took || woken, "a wake was lost");
        let last = parked.last().expect("one at least");
        let left = wake_taken(&chunk);
        assert!(last.is(), "a waker was lost, or an old one was left");
        // The takers came to a waiter that was parked or about to be: somebody found it.
        assert!(took || left);
        let (_, waker) = Woken::new();
        assert!(chunk.arm(0, &waker), "everybody is out");
    });
}

#[test]
fn waiter_cell() {
    cell("waiter_cell", None, &[wake_taken], 2);
}

#[test]
fn waiter_cell_beat() {
    cell("waiter_cell_beat", None, &[wake_beaten], 2);
}

#[test]
fn waiter_cell_beat_and_publish() {
    cell(
        "waiter_cell_beat_and_publish",
        Some(3),
        &[wake_beaten, wake_taken],
        1,
    );
}

#[test]
fn waiter_cell_two_takers() {
    cell(
        "waiter_cell_two_takers",
        Some(3),
        &[wake_taken, wake_taken],
        1,
    );
}

/// The owner leaves and another one comes, while a taker is on its way: the new owner parks in a cell of its own.
#[test]
fn waiter_cell_changes_hands() {
    check("waiter_cell_changes_hands", None, || {
        let chunk = Arc::new(one());
        let (old, waker) = Woken::new();
        assert!(chunk.arm(0, &waker));
        let taker = {
            let chunk = Arc::clone(&chunk);
            thread::spawn(move || wake_taken(&chunk))
        };
        let left = chunk.leave(0);
        assert_eq!(chunk.claim(), Some(0));
        let (new, waker) = Woken::new();
        let armed = chunk.arm(0, &waker);
        let took = taker.join().expect("no panic");
        assert!(armed || new.is(), "the owner is to come again");
        assert_eq!(
            left.is_some(),
            !old.is(),
            "the old waker is given back or woken"
        );
        assert!(took || !old.is());
        wake_taken(&chunk);
        assert!(new.is(), "the new owner's waker was lost");
    });
}

/// A taker that comes after the owner is parked, and before another look of the owner, is not forgotten: parking with the
/// leaf bit alone.
#[test]
fn waiter_cell_dekker() {
    use crate::sync::{AtomicBool, Ordering};
    check("waiter_cell_dekker", None, || {
        let shared = Arc::new((one(), AtomicBool::new(false)));
        let publishers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1.store(true, Ordering::Release);
                // The RMW in `take` and the one in `arm` order the two looks.
                wake_taken(&shared.0);
            })
        });
        let (woken, waker) = Woken::new();
        let armed = shared.0.arm(0, &waker);
        assert!(armed, "nobody was parked before");
        let seen = shared.1.load(Ordering::Acquire);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        assert!(seen || woken.is(), "lost wake-up");
    });
}
