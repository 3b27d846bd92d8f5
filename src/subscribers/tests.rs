//! Places of those who were given up.

use std::time::{Duration, Instant};

use super::SeatId;
use crate::sync::epoch;
use crate::{EndReason, Event, Hub, Subscription, TryRecvError};

const T: Duration = Duration::from_secs(10);

/// A hub whose topic has one reader, which was given up and is there still, and where its place is.
fn given_up(hub: &Hub) -> (Subscription, SeatId) {
    let reader = hub.subscribe("a").expect("open");
    let seat = reader.seat_id();
    let before = hub.stats().evicted;
    while hub.stats().evicted == before {
        let _ = hub.publish("a", Event::text("on and on")).expect("open");
        hub.go_on(1);
    }
    (reader, seat)
}

fn hub() -> Hub {
    let builder = Hub::builder().clock_by_hand().evict_after(T);
    builder.build().expect("valid")
}

/// A subscription at a place, as soon as it is given back: other tests may hold pins for a moment.
fn newcomer(hub: &Hub, seat: SeatId) -> Subscription {
    let begin = Instant::now();
    loop {
        let newcomer = hub.subscribe("a").expect("open");
        if newcomer.seat_id() == seat {
            return newcomer;
        }
        drop(newcomer);
        hub.go_on(1);
        assert!(begin.elapsed() < T, "the place is not given back");
    }
}

/// In a process of its own: the collector is everybody's, and so are the panics in it.
fn alone(test: &str, f: impl FnOnce()) {
    const ALONE: &str = "FANFARE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        f();
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let mut child = std::process::Command::new(program);
    let name = format!("{}::{test}", module_path!().trim_start_matches("fanfare::"));
    let out = child.args(["--exact", &name]).env(ALONE, "1").output();
    let out = out.expect("it runs");
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && told.contains(" 1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn caught<R>(f: impl FnOnce() -> R) -> Option<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).ok()
}

/// A destructor of somebody else that panics, for whoever collects next.
fn leaves_a_panic(others: usize) {
    let _ = caught(|| {
        let guard = epoch::pin();
        guard.defer(|| panic!("a neighbour's destructor"));
        (0..others).for_each(|_| guard.defer(|| ()));
    });
}

fn is_over(reader: &mut Subscription) -> bool {
    reader.try_recv().err() == Some(TryRecvError::Closed)
}

#[test]
fn who_is_given_up_leaves_the_place_to_others() {
    let hub = hub();
    let _topic = hub.topic("a").expect("open");
    let (mut gone, seat) = given_up(&hub);
    let mut next = newcomer(&hub, seat);
    // Whatever it does, it does not do it there.
    gone.set_heartbeats(true);
    assert!(is_over(&mut gone));
    assert_eq!(gone.end_reason(), Some(EndReason::Evicted));
    assert_ne!(gone.seat_id(), seat);
    drop(gone);
    let (gone, again) = {
        drop(next);
        given_up(&hub)
    };
    assert_eq!(seat, again, "the newcomer gave it back");
    next = newcomer(&hub, seat);
    // Nor when it goes without having noticed.
    drop(gone);
    assert_eq!(hub.subscribers(), 1);
    let _ = hub.publish("a", Event::text("one")).expect("open");
    assert!(next.try_recv().is_ok());
    drop(next);
    assert_eq!(hub.subscribers(), 0);
}

#[test]
fn a_tag_is_that_of_the_one_who_has_the_place() {
    let hub = hub();
    let _topic = hub.topic("a").expect("open");
    let (mut gone, seat) = given_up(&hub);
    let next = newcomer(&hub, seat);
    let mut next = next.label("new");
    // Too late: it is told at once, and nobody is called by its name.
    let told = gone.evicted();
    assert_eq!(futures_util::FutureExt::now_or_never(told), Some(true));
    let gone = gone.label("old");
    let told = next.evicted();
    drop(gone);
    assert_eq!(hub.evictions().last().expect("one").label(), None);
    while hub.stats().evicted == 1 {
        let _ = hub.publish("a", Event::text("on and on")).expect("open");
        hub.go_on(1);
    }
    assert_eq!(hub.evictions().last().expect("one").label(), Some("new"));
    assert_eq!(futures_util::FutureExt::now_or_never(told), Some(true));
}

#[test]
fn panics_of_the_collector_keep_no_place() {
    alone("panics_of_the_collector_keep_no_place", || {
        let hub = hub();
        let _topic = hub.topic("a").expect("open");
        let reader = hub.subscribe("a").expect("open");
        let seat = reader.seat_id();
        let before = hub.stats().evicted;
        while hub.stats().evicted == before {
            drop(caught(|| hub.publish("a", Event::text("on and on"))));
            leaves_a_panic(0);
            let _ = caught(|| hub.go_on(1));
        }
        let mut quiet = 0;
        while quiet < 9 {
            let collected = caught(|| epoch::pin().flush());
            quiet = collected.map_or(0, |()| quiet + 1);
        }
        assert_eq!(newcomer(&hub, seat).seat_id(), seat);
    });
}

#[test]
fn a_drop_goes_on_when_the_collector_panics() {
    alone("a_drop_goes_on_when_the_collector_panics", || {
        let hub = hub();
        let _topic = hub.topic("a").expect("open");
        for round in 0..2_000 {
            // Each pin's turn to collect.
            (0..round % 3).for_each(|_| drop(caught(epoch::pin)));
            let subscription = caught(|| hub.subscribe("a").expect("open"));
            // A full bag goes to the queue, and nobody is made to collect.
            leaves_a_panic(70);
            let dropped = caught(move || drop(subscription));
            assert!(dropped.is_some(), "it is no panic of its own");
        }
        assert_eq!(hub.subscribers(), 0);
    });
}

/// However many crowds come and go, they use one group, though some of each stand still.
#[test]
fn those_who_stand_still_keep_one_group() {
    let hub = hub();
    let topic = hub.topic("a").expect("open");
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let mut crowd: Vec<_> = (0..40).map(|_| hub.subscribe("a").expect("open")).collect();
        stalled.extend(crowd.pop());
        let before = hub.stats().evicted;
        while hub.stats().evicted == before {
            let _ = hub.publish("a", Event::text("on and on")).expect("open");
            for reader in &mut crowd {
                while reader.try_recv().is_ok() {}
            }
            hub.go_on(1);
        }
        let seat = stalled.last().expect("one").seat_id();
        crowd.push(newcomer(&hub, seat));
    }
    let seat = stalled[0].seat_id();
    assert!(stalled.iter().all(|it| it.seat_id().group == seat.group));
    assert_eq!(hub.subscribers(), 0);
    assert_ne!(topic.core().subscribers.least_passed(0), Some(u64::MAX));
    drop(stalled);
    // Nobody is left, so no group.
    assert_eq!(topic.core().subscribers.least_passed(0), Some(u64::MAX));
}

/// A place whose generations are used up stays with who is given up until it goes.
#[test]
fn generations_do_not_come_again() {
    let hub = hub();
    let topic = hub.topic("a").expect("open");
    let first = topic.core().subscribers.first.waiter(0);
    for _ in 0..u16::MAX {
        assert!(first.next_generation());
    }
    let (mut gone, seat) = given_up(&hub);
    for _ in 0..100 {
        let other = hub.subscribe("a").expect("open");
        assert_ne!(other.seat_id(), seat, "two have one place");
    }
    assert!(is_over(&mut gone));
    assert_eq!(gone.seat_id(), seat);
    drop(gone);
    assert_eq!(newcomer(&hub, seat).seat_id(), seat);
    let (gone, again) = given_up(&hub);
    assert_eq!(seat, again);
    drop(gone);
    assert_eq!(newcomer(&hub, seat).seat_id(), seat);
}
