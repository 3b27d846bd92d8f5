//! The hub's clock sleeps while it has nothing to do; what is published when it wakes is not taken for old.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

mod common;

use std::time::{Duration, Instant};

use common::eventually;
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
