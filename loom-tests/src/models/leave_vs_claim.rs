//! A waiter changes hands while a publisher, on its way with the old owner's bit, still takes from it: the new owner's
//! wake is not lost, and it finds the waiter clean.
//!
//! **Bound.** 3 preemptions.
//!
//! **Teeth.** `occupied` cleared Relaxed, or before the waiter is clean.

use loom::thread;

use super::{Bell, Listener, Woken, check};
use crate::sync::Arc;

/// The owner of the seat number `at` leaves it, another claims, and a publisher takes.
fn reuse(name: &str, at: usize) {
    check(name, Some(3), move || {
        let bell = Arc::new(Bell::new());
        let mut seats: Vec<_> = (0..=at).map(|_| bell.subscribers.claim()).collect();
        let old = seats.pop().expect("claimed");
        let (_, waker) = Woken::new();
        bell.subscribers.arm(&old, &waker);
        bell.subscribers.set_passed(&old, 100);
        let publisher = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.publish())
        };
        let leaver = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.leave(&old))
        };
        let new = bell.subscribers.claim();
        // A waiter that was claimed anew holds everything back.
        assert_eq!(bell.subscribers.least_passed(usize::MAX), Some(0));
        let mut listener = Listener::default();
        listener.poll(&bell, &new);
        publisher.join().expect("no panic");
        leaver.join().expect("no panic");
        listener.assert_not_lost(&bell);
        if listener.parked.as_ref().is_some_and(|woken| !woken.is()) {
            bell.publish();
            listener.assert_not_lost(&bell);
        }
    });
}

#[test]
fn leave_vs_claim() {
    reuse("leave_vs_claim", 0);
}

#[test]
fn leave_vs_claim_list() {
    reuse("leave_vs_claim_list", 1);
}
