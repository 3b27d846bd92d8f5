//! The hub's clock sleeps while it has nothing to do; what is published when it wakes is not taken for old.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Wakes, eventually};
use fanfare::{Event, Hub};

#[test]
fn a_clock_that_slept_ages_nothing() {
    let age = Duration::from_millis(200);
    let hub = Hub::builder()
        .history(true)
        .heartbeat(Duration::from_millis(60))
        .idle_after(Duration::from_millis(10))
        .retain_age(age)
        .build()
        .unwrap();
    for _ in 0..3 {
        let begin = Instant::now();
        let _ = hub
            .publish("news", Event::text("kept for its age"))
            .unwrap();
        eventually("the event to get old", || hub.topics() == 0);
        let kept = begin.elapsed();
        assert!(
            kept >= age,
            "gone after {kept:?}, before it was {age:?} old"
        );
        // The clock has no topic now. Let it sleep for longer than the age.
        let asleep = Instant::now();
        eventually("time to pass", || asleep.elapsed() > 2 * age);
    }
}

#[test]
fn a_reader_that_stays_behind_has_nobody_woken_at_every_visit() {
    let hub = Hub::builder()
        .history(true)
        .retain_events(1)
        .heartbeat(Duration::from_millis(60))
        .idle_after(Duration::from_millis(10))
        .build()
        .unwrap();
    let behind = hub.subscribe("news").unwrap();
    let mut parked = hub.subscribe("news").unwrap();
    for _ in 0..10 {
        let _ = hub.publish("news", Event::text("x")).unwrap();
    }
    while parked.try_recv().is_ok() {}
    let (count, waker) = Wakes::new();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(parked.poll_recv(&mut cx).is_pending());
    // Dozens of visits.
    let begin = Instant::now();
    eventually("time to pass", || {
        begin.elapsed() > Duration::from_millis(300)
    });
    assert_eq!(count.count(), 0);
    let _ = hub.publish("news", Event::text("x")).unwrap();
    assert_eq!(count.count(), 1);
    drop(behind);
}
