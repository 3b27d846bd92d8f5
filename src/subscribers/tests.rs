//! Places of those who were given up.

use std::time::{Duration, Instant};

use super::SeatId;
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
