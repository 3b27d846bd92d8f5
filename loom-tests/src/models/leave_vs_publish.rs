//! A subscriber leaves while a publisher wakes: the other one, under the same bits, is woken all the same, and nothing of
//! the one that left stays behind.
//!
//! **Bound.** 3 preemptions.
//!
//! **Teeth.** A leave that clears the leaf of its neighbours; a leave that leaves its waker behind.

use loom::thread;

use super::{Bell, Listener, Woken, check};
use crate::sync::Arc;

fn leave(name: &str, leaver: usize, stayer: usize) {
    check(name, Some(3), move || {
        let bell = Arc::new(Bell::new());
        let seats: Vec<_> = (0..=leaver.max(stayer))
            .map(|_| bell.subscribers.claim())
            .collect();
        let (gone, waker) = Woken::new();
        bell.subscribers.arm(&seats[leaver], &waker);
        drop(waker);
        let seats = Arc::new(seats);
        let leaver = {
            let (bell, seats) = (Arc::clone(&bell), Arc::clone(&seats));
            thread::spawn(move || bell.leave(&seats[leaver]))
        };
        let publisher = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.publish())
        };
        let mut listener = Listener::default();
        listener.poll(&bell, &seats[stayer]);
        leaver.join().expect("no panic");
        publisher.join().expect("no panic");
        listener.assert_not_lost(&bell);
        // Whether or not it was woken, its waker is nowhere any more.
        bell.publish();
        assert_eq!(std::sync::Arc::strong_count(&gone), 1, "a waker stayed");
    });
}

#[test]
fn leave_vs_publish() {
    leave("leave_vs_publish", 1, 2);
}

#[test]
fn leave_first_vs_publish() {
    leave("leave_first_vs_publish", 0, 1);
}
