//! Waiters in a group, under leaf, summary and top: whoever is parked has seen everything, or was woken.
//!
//! **Bound.** All interleavings with one parker, and with one who joins; otherwise 3 preemptions.
//!
//! **Teeth.** The summary bit set only when the leaf was empty; the top bit set only when the summary, or its bit, was
//! clear; set from the top down; taken from the leaf up; the summary set or tested Relaxed, or spared by a look; the
//! leaf armed without Acquire or taken without Release; no fence between the top word and the list.

use loom::thread;

use super::{Bell, Listener, check};
use crate::subscribers::Seat;
use crate::sync::{Arc, Ordering};

/// The seats in order: first the one outside the groups, then group by group and chunk by chunk.
fn seats(bell: &Bell, count: usize) -> Vec<Seat> {
    (0..count).map(|_| bell.subscribers.claim()).collect()
}

/// Two parkers at seats `at` (of the last chunk or of neighbours), one publisher.
fn two_parkers(name: &str, bound: Option<usize>, at: [usize; 2]) {
    check(name, bound, move || {
        let bell = Arc::new(Bell::new());
        let mut seats = seats(&bell, at[1] + 1);
        let parkers = at.map(|at| {
            let bell = Arc::clone(&bell);
            // The others stay claimed: a seat that is dropped is not left.
            let other = || bell.subscribers.claim();
            let seat = std::mem::replace(&mut seats[at], other());
            thread::spawn(move || {
                let mut listener = Listener::default();
                listener.poll(&bell, &seat);
                listener
            })
        });
        bell.publish();
        for late in parkers {
            late.join().expect("no panic").assert_not_lost(&bell);
        }
    });
}

/// One late that polls twice, two publishers.
fn two_publishers(name: &str, bound: Option<usize>, at: usize) {
    check(name, bound, move || {
        let bell = Arc::new(Bell::new());
        let seats = seats(&bell, at + 1);
        let publishers = [(); 2].map(|()| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.publish())
        });
        let mut listener = Listener::default();
        listener.poll(&bell, &seats[at]);
        listener.poll(&bell, &seats[at]);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        listener.assert_not_lost(&bell);
    });
}

/// One waiter is parked, another one parks while two events are published: it meets what the first one has set and the
/// publisher has taken.
fn beside_a_parked(name: &str, bound: Option<usize>, at: [usize; 2]) {
    check(name, bound, move || {
        let bell = Arc::new(Bell::new());
        let seats = seats(&bell, at[1] + 1);
        let [mut parked, mut late] = [Listener::default(), Listener::default()];
        parked.poll(&bell, &seats[at[0]]);
        let publisher = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                bell.publish();
                bell.publish();
            })
        };
        late.poll(&bell, &seats[at[1]]);
        late.poll(&bell, &seats[at[1]]);
        publisher.join().expect("no panic");
        parked.assert_not_lost(&bell);
        late.assert_not_lost(&bell);
    });
}

/// A waiter of a group is parked, an event is published, and its publisher has yet to wake; then it publishes another.
/// The listeners that it gives have seen the first event.
fn beside_a_late_wake<const N: usize>(
    bell: &Arc<Bell>,
    seat: &Seat,
) -> (thread::JoinHandle<()>, Listener, [Listener; N]) {
    let mut parked = Listener::default();
    parked.poll(bell, seat);
    bell.count.fetch_add(1, Ordering::Release);
    let publisher = {
        let bell = Arc::clone(bell);
        thread::spawn(move || {
            bell.subscribers.wake();
            bell.publish();
        })
    };
    let others = [(); N].map(|()| Listener {
        seen: 1,
        parked: None,
    });
    (publisher, parked, others)
}

/// Two park in the chunk beside, one after the other's bits.
#[test]
fn two_beside_a_late_wake() {
    check("two_beside_a_late_wake", Some(3), || {
        let bell = Arc::new(Bell::new());
        let mut seats = seats(&bell, 4);
        let (publisher, parked, [mut late, mut other]) = beside_a_late_wake(&bell, &seats[3]);
        let other = {
            let (bell, seat) = (Arc::clone(&bell), seats.remove(1));
            thread::spawn(move || {
                other.poll(&bell, &seat);
                other
            })
        };
        late.poll(&bell, &seats[1]);
        publisher.join().expect("no panic");
        for listener in [parked, late, other.join().expect("no panic")] {
            listener.assert_not_lost(&bell);
        }
    });
}

/// One parks in a group that is new, at the place of another that left its bit in the top word.
#[test]
fn join_beside_a_late_wake() {
    check("join_beside_a_late_wake", None, || {
        let bell = Arc::new(Bell::new());
        let _first = bell.subscribers.claim();
        let gone = bell.subscribers.claim();
        let (publisher, _, [mut late]) = beside_a_late_wake(&bell, &gone);
        bell.leave(&gone);
        let seat = bell.subscribers.claim();
        late.poll(&bell, &seat);
        publisher.join().expect("no panic");
        late.assert_not_lost(&bell);
    });
}

#[test]
fn park_vs_publish_list() {
    check("park_vs_publish_list", None, || {
        let bell = Arc::new(Bell::new());
        let seats = seats(&bell, 2);
        let publisher = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                bell.publish();
                bell.publish();
            })
        };
        let mut listener = Listener::default();
        listener.poll(&bell, &seats[1]);
        listener.poll(&bell, &seats[1]);
        publisher.join().expect("no panic");
        listener.assert_not_lost(&bell);
    });
}

#[test]
fn two_parkers_of_one_chunk() {
    two_parkers("two_parkers_of_one_chunk", Some(3), [1, 2]);
}

#[test]
fn two_parkers_of_one_group() {
    two_parkers("two_parkers_of_one_group", Some(3), [2, 3]);
}

#[test]
fn two_publishers_one_parker() {
    two_publishers("two_publishers_one_parker", Some(3), 1);
}

#[test]
fn beside_a_parked_in_the_chunk() {
    beside_a_parked("beside_a_parked_in_the_chunk", Some(3), [1, 2]);
}

#[test]
fn beside_a_parked_in_the_group() {
    beside_a_parked("beside_a_parked_in_the_group", Some(3), [1, 3]);
}

#[test]
fn beside_a_parked_first() {
    beside_a_parked("beside_a_parked_first", Some(3), [0, 1]);
}
