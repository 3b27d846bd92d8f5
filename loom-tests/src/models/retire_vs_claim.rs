//! The last one leaves a group while another joins: nobody sits in a group that is out of the list, and the list stays
//! whole.
//!
//! **Bound.** 3 preemptions; 2 with two who join, and with the clock beside them.
//!
//! **Teeth.** A group that is retired by a look and a store (check, then remove), or by whoever counts down to nobody;
//! a hint set or cleared Relaxed (the claim turns in circles); owners who were given up and are not counted, or not only
//! counted.

use loom::thread;

use super::{Bell, Listener, Woken, check};
use crate::subscribers::Seat;
use crate::sync::Arc;

/// Whoever sits is found by a publisher.
fn assert_in_list(bell: &Bell, seat: &Seat) {
    let (woken, waker) = Woken::new();
    bell.subscribers.arm(seat, &waker);
    bell.publish();
    assert!(woken.is(), "a claim landed outside the list");
}

fn retire(name: &str, bound: usize, joiners: usize, pass: bool) {
    check(name, Some(bound), move || {
        let bell = Arc::new(Bell::new());
        let first = bell.subscribers.claim();
        let last = bell.subscribers.claim();
        let joiners: Vec<_> = (0..joiners)
            .map(|_| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let seat = bell.subscribers.claim();
                    // It may be gone again: then the group is retired once more.
                    if pass {
                        bell.leave(&seat);
                        return None;
                    }
                    let mut listener = Listener::default();
                    listener.poll(&bell, &seat);
                    Some((seat, listener))
                })
            })
            .collect();
        bell.leave(&last);
        if !pass {
            bell.publish();
        }
        let mut seats: Vec<_> = joiners
            .into_iter()
            .filter_map(|joiner| joiner.join().expect("no panic"))
            .map(|(seat, listener)| {
                listener.assert_not_lost(&bell);
                seat
            })
            .collect();
        seats.push(bell.subscribers.claim());
        for seat in &seats {
            assert_in_list(&bell, seat);
        }
        for seat in &seats {
            bell.leave(seat);
        }
        // Nobody but the first: what is looked at is as short as it was.
        bell.subscribers.set_passed(&first, 5);
        assert_eq!(bell.subscribers.least_passed(0), Some(5), "a group stayed");
    });
}

/// The clock leaves in place of an owner that finds out meanwhile, and somebody joins and goes again.
#[test]
fn retire_vs_lost() {
    check("retire_vs_lost", Some(2), || {
        let bell = Arc::new(Bell::new());
        let first = bell.subscribers.claim();
        let mut lost = bell.subscribers.claim();
        let vacated = lost.vacated();
        let clock = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || drop(bell.subscribers.vacate(&vacated)))
        };
        let passer = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                let seat = bell.subscribers.claim();
                bell.leave(&seat);
            })
        };
        bell.subscribers.lose(&mut lost);
        let seat = bell.subscribers.claim();
        assert_in_list(&bell, &seat);
        clock.join().expect("no panic");
        passer.join().expect("no panic");
        assert_in_list(&bell, &seat);
        bell.leave(&seat);
        // Nobody holds it.
        bell.subscribers.set_passed(&first, 5);
        assert_eq!(bell.subscribers.least_passed(0), Some(5), "a group stayed");
    });
}

/// The clock and the owner are the last to have to do with the group: the later one of them retires it.
#[test]
fn vacate_vs_lose() {
    check("vacate_vs_lose", None, || {
        let bell = Arc::new(Bell::new());
        let first = bell.subscribers.claim();
        let mut lost = bell.subscribers.claim();
        let vacated = lost.vacated();
        let clock = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || drop(bell.subscribers.vacate(&vacated)))
        };
        bell.subscribers.lose(&mut lost);
        clock.join().expect("no panic");
        bell.subscribers.set_passed(&first, 5);
        assert_eq!(bell.subscribers.least_passed(0), Some(5), "a group stayed");
    });
}

/// Who comes next uses the group that an owner holds who was given up and does not know.
#[test]
fn held_by_the_lost() {
    check("held_by_the_lost", Some(3), || {
        let bell = Arc::new(Bell::new());
        let first = bell.subscribers.claim();
        let mut lost = bell.subscribers.claim();
        let passer = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                let seat = bell.subscribers.claim();
                bell.leave(&seat);
            })
        };
        drop(bell.subscribers.vacate(&lost.vacated()));
        passer.join().expect("no panic");
        bell.subscribers.set_passed(&first, 5);
        assert_eq!(bell.subscribers.least_passed(0), None, "it left the list");
        let seat = bell.subscribers.claim();
        bell.subscribers.lose(&mut lost);
        assert_in_list(&bell, &seat);
        bell.leave(&seat);
        assert_eq!(bell.subscribers.least_passed(0), Some(5), "a group stayed");
    });
}

#[test]
fn retire_vs_claim() {
    retire("retire_vs_claim", 3, 1, false);
}

#[test]
fn retire_vs_claim_and_leave() {
    retire("retire_vs_claim_and_leave", 3, 1, true);
}

#[test]
fn retire_vs_two_claims() {
    retire("retire_vs_two_claims", 2, 2, false);
}

/// A group with one free place more than tickets: whoever has a ticket finds its place, and does not turn in circles
/// (loom would count its branches).
#[test]
fn leave_vs_claims_of_the_rest() {
    check("leave_vs_claims_of_the_rest", Some(3), || {
        let bell = Arc::new(Bell::new());
        // The first waiter, and three of the four of a group.
        let mut seats: Vec<_> = (0..4).map(|_| bell.subscribers.claim()).collect();
        let joiners = [(); 2].map(|()| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.subscribers.claim())
        });
        bell.leave(&seats.remove(1));
        seats.extend(joiners.map(|joiner| joiner.join().expect("no panic")));
        for seat in &seats {
            assert_in_list(&bell, seat);
        }
    });
}
