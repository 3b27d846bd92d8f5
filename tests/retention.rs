//! What a log keeps: by count, bytes and age, and until its readers have passed it.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Got, WAYS, Way, events, eventually};
use fanfare::{Event, Hub, HubBuilder, Topic};

/// The largest segment, in events.
const SEGMENT: u64 = 64;
const SEGMENT_BYTES: u64 = 64 * 1024;
/// Many times what the clock of these hubs needs.
const PROMPT: Duration = Duration::from_secs(5);

fn publish(topic: &Topic, count: u64, bytes: usize) {
    let text = "x".repeat(bytes);
    for _ in 0..count {
        let _ = topic.publish(Event::text(&text)).unwrap();
    }
}

/// A hub whose clock is quick.
fn quick() -> HubBuilder {
    Hub::builder()
        .heartbeat(Duration::from_millis(60))
        .idle_after(Duration::from_millis(20))
}

#[test]
fn count_keeps_at_least_so_many_and_less_than_a_segment_more() {
    for keep in [1, 2, 63, 64, 65, 1000] {
        for history in [false, true] {
            let hub = Hub::builder().retain_events(keep).history(history);
            let hub = hub.build().unwrap();
            let topic = hub.topic("a").unwrap();
            let stalled = hub.subscribe("a").unwrap();
            let keep = keep as u64;
            for published in 1..=2500 {
                publish(&topic, 1, 10);
                let retained = topic.retained_events();
                assert!(retained >= keep.min(published), "{retained} of {keep}");
                assert!(retained < keep + SEGMENT, "{retained} of {keep}");
            }
            drop(stalled);
        }
    }
}

#[test]
fn bytes_keep_at_most_so_many_and_a_segment() {
    for (keep, event) in [(10_000, 100), (200_000, 1000), (200_000, 150_000)] {
        let hub = Hub::builder()
            .retain_events(1 << 20)
            .retain_bytes(keep as usize)
            .max_event_bytes(event.min(keep as usize))
            .history(true)
            .build()
            .unwrap();
        let topic = hub.topic("a").unwrap();
        let segment = SEGMENT_BYTES.max(2 * event as u64);
        for _ in 0..1000 {
            publish(&topic, 1, event);
            let bytes = topic.retained_bytes();
            assert!(bytes <= keep + segment, "{bytes} of {keep}");
            assert!(bytes >= event as u64);
        }
        // Not much less, either: what is kept is worth its limit, but for the segment that was evicted last.
        let bytes = topic.retained_bytes();
        assert!(
            bytes + segment + SEGMENT * event as u64 >= keep,
            "{bytes} of {keep}"
        );
    }
}

#[test]
fn large_events_seal_their_segment() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let topic = hub.topic("a").unwrap();
    let stalled = hub.subscribe("a").unwrap();
    publish(&topic, 300, 10);
    publish(&topic, 30, 70_000);
    // Each stands in a segment of its own, but for the first.
    assert!(topic.retained_events() <= 2);
    drop(stalled);
}

#[test]
fn bytes_count_what_is_there() {
    let hub = Hub::builder().event_ids(false).history(true);
    let hub = hub.build().unwrap();
    let topic = hub.topic("a").unwrap();
    assert_eq!(topic.retained_bytes(), 0);
    publish(&topic, 10, 10);
    assert_eq!(
        topic.retained_bytes(),
        10 * (10 + "data: \n\n".len() as u64)
    );
}

#[test]
fn age_drops_what_nobody_read() {
    for history in [false, true] {
        let hub = quick()
            .retain_age(Duration::from_millis(40))
            .history(history)
            .build()
            .unwrap();
        let topic = hub.topic("a").unwrap();
        let mut stalled = hub.subscribe("a").unwrap();
        publish(&topic, 100, 10);
        eventually("age", || topic.retained_events() == 0);
        assert_eq!(topic.retained_bytes(), 0);
        assert_eq!(Way::Recv.read(&mut stalled), [Got::Lag(Some(100))]);
    }
}

#[test]
fn age_drops_the_old_part_of_a_busy_topic() {
    let hub = quick()
        .retain_age(Duration::from_millis(100))
        .retain_events(1 << 20)
        .build()
        .unwrap();
    let topic = hub.topic("a").unwrap();
    let mut stalled = hub.subscribe("a").unwrap();
    let mut published = 0;
    // Never silent, and no other limit near: only age can drop something.
    eventually("age", || {
        publish(&topic, 1, 10);
        published += 1;
        topic.retained_events() < published
    });
    let mut rest = published - topic.retained_events();
    for got in Way::TryRecv.read(&mut stalled) {
        match got {
            Got::Lag(Some(missed)) => assert!(missed >= rest),
            _ => rest += 1,
        }
    }
    assert!(rest <= published);
}

/// While the clock goes through many topics, publishers begin segments at times that the clock has not read yet.
#[test]
fn a_clock_that_is_behind_ages_nothing() {
    const TOPICS: u64 = 15_000;
    let hub: Hub<u64> = quick().build_keyed().unwrap();
    let mut all: Vec<_> = (0..TOPICS)
        .map(|topic| hub.subscribe(&topic).unwrap())
        .collect();
    for topic in 0..TOPICS {
        for n in 0..20 {
            let _ = hub.publish(&topic, Event::json(&n)).unwrap();
        }
    }
    for subscription in &mut all {
        assert_eq!(Way::TryBatch.read(subscription), events(0..20));
    }
}

/// Whatever its heartbeat interval, a hub applies its ages "a few ticks later", and gives idle logs back.
#[test]
fn age_and_idleness_do_not_wait_for_heartbeats() {
    for history in [false, true] {
        let hub = Hub::builder()
            .heartbeat(Duration::from_secs(3600))
            .idle_after(Duration::from_millis(40))
            .retain_age(Duration::from_millis(80))
            .history(history)
            .build()
            .unwrap();
        let topic = hub.topic("a").unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        publish(&topic, 10, 10);
        assert_eq!(Way::Recv.read(&mut subscription).len(), 10);
        let released = || topic.retained_events() == 0;
        let begin = Instant::now();
        while !released() && begin.elapsed() < PROMPT {
            thread::park_timeout(Duration::from_millis(5));
        }
        assert!(released(), "still there after {:?}", begin.elapsed());
    }
}

/// One reader that keeps up has the log freed behind it, by whatever way it reads.
#[test]
fn a_small_topic_frees_what_its_readers_have_passed() {
    for way in WAYS {
        for subscribers in [1, 2, 9] {
            let hub = Hub::new();
            let topic = hub.topic("a").unwrap();
            let mut all: Vec<_> = (0..subscribers)
                .map(|_| hub.subscribe("a").unwrap())
                .collect();
            for _ in 0..1000 {
                publish(&topic, 1, 10);
                for subscription in &mut all {
                    assert_eq!(way.read(subscription).len(), 1);
                }
            }
            let retained = topic.retained_events();
            assert!(
                retained <= 2 * SEGMENT,
                "{way:?}, {subscribers} subscribers: {retained} events"
            );
        }
    }
}

#[test]
fn a_small_topic_frees_bursts_that_were_read() {
    for way in WAYS {
        let hub = Hub::new();
        let topic = hub.topic("a").unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        for _ in 0..10 {
            publish(&topic, 1000, 10);
            assert_eq!(way.read(&mut subscription).len(), 1000);
        }
        let retained = topic.retained_events();
        assert!(retained <= SEGMENT, "{way:?}: {retained} events");
    }
}

#[test]
fn with_history_what_was_read_stays() {
    let hub = Hub::builder().history(true).build().unwrap();
    let topic = hub.topic("a").unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    publish(&topic, 1000, 10);
    assert_eq!(Way::Recv.read(&mut subscription).len(), 1000);
    assert_eq!(topic.retained_events(), 1000);
}

#[test]
fn the_slowest_reader_of_a_small_topic_holds_up_to_the_limit() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut slow = hub.subscribe("a").unwrap();
    let mut quick = hub.subscribe("a").unwrap();
    publish(&topic, 1000, 10);
    assert_eq!(Way::Recv.read(&mut quick).len(), 1000);
    assert_eq!(topic.retained_events(), 1000);
    assert_eq!(Way::Recv.read(&mut slow).len(), 1000);
    assert!(topic.retained_events() <= SEGMENT);
}

/// Whichever way its subscribers read.
#[test]
fn an_idle_topic_gives_its_log_back() {
    for way in WAYS {
        let hub = quick().build().unwrap();
        let topic = hub.topic("a").unwrap();
        let mut all: Vec<_> = (0..3).map(|_| hub.subscribe("a").unwrap()).collect();
        for round in 1..=3 {
            publish(&topic, 20, 10);
            for subscription in &mut all {
                assert_eq!(way.read(subscription).len(), 20);
            }
            let begin = Instant::now();
            while topic.retained_events() > 0 {
                let waited = begin.elapsed();
                assert!(waited < PROMPT, "{way:?}: not idle after {waited:?}");
                thread::park_timeout(Duration::from_millis(5));
            }
            assert_eq!(topic.retained_bytes(), 0);
            // Offsets go on.
            assert_eq!(topic.position().offset(), 20 * round);
        }
    }
}

#[test]
fn an_idle_topic_keeps_what_somebody_has_not_read() {
    let hub = quick().build().unwrap();
    let topic = hub.topic("a").unwrap();
    let mut read = hub.subscribe("a").unwrap();
    let mut unread = hub.subscribe("a").unwrap();
    let witness = hub.topic("b").unwrap();
    let mut of_witness = hub.subscribe("b").unwrap();
    publish(&topic, 20, 10);
    publish(&witness, 20, 10);
    assert_eq!(Way::Recv.read(&mut read).len(), 20);
    assert_eq!(Way::Recv.read(&mut of_witness).len(), 20);
    // The clock came by: it freed the other topic.
    eventually("an idle log", || witness.retained_events() == 0);
    assert_eq!(Way::Recv.read(&mut unread).len(), 20);
    eventually("an idle log", || topic.retained_events() == 0);
}
