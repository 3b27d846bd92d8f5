//! A hub's budget: what is counted, what goes first, and what is refused.
//!
//! The allocator counts what really lives. One test at a time, so that nothing else allocates.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::items_after_statements,
    clippy::similar_names,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, pointers have 64 bits, and names are short"
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use common::alloc::{Counting, live_bytes};
use common::{eventually, frame};
use fanfare::{
    Event, EventError, EventRouter, Frame, Hub, HubBuilder, Item, PublishError, Route,
    Subscription, UserId,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

const MIB: usize = 1 << 20;

/// One event of 1 KB as it is counted: its text, what stands around it, and what it takes beside.
const EVENT: u64 = 1024 + 100;

/// The part of a log that it may need.
const SEGMENT: u64 = 64 * 8 + 100;

fn limited(limit: usize) -> HubBuilder {
    Hub::builder()
        .max_event_bytes(64 * 1024)
        .memory_limit(limit)
}

fn by_hand(limit: usize) -> HubBuilder {
    limited(limit).clock_by_hand().history(true)
}

fn text() -> String {
    "x".repeat(1024)
}

/// The next event, unless memory was so short that it went before it was read.
fn read(subscription: &mut Subscription) -> Option<fanfare::Frame> {
    match subscription.try_recv() {
        Ok(Item::Frame(frame)) => Some(frame),
        Ok(Item::Lagged(_)) => None,
        other => panic!("nothing is there: {other:?}"),
    }
}

/// Publishes until the hub refuses. Tells how many it took, and what it said then.
fn fill(hub: &Hub, key: &str, mut kept: impl FnMut()) -> (u64, PublishError) {
    let text = text();
    for count in 0..1_000_000 {
        match hub.publish(key, Event::text(&text)) {
            Ok(_) => kept(),
            Err(refused) => return (count, refused),
        }
    }
    panic!("no limit");
}

/// A topic whose reader keeps all that it reads.
fn hoard(hub: &Hub, key: &str) -> (Vec<Frame>, Subscription, PublishError) {
    let mut subscription = hub.subscribe(key).unwrap();
    let mut frames = Vec::new();
    loop {
        let (count, refused) = fill(hub, key, || frames.extend(read(&mut subscription)));
        if count == 0 {
            return (frames, subscription, refused);
        }
        // The clock may have been pinned: what was shed meanwhile is room for more.
        fanfare_collect();
    }
}

/// Four publishers, sixteen topics that could keep twice the limit, and readers that stand still.
#[test]
fn what_lives_stays_within_the_limit() {
    let _alone = alone();
    const LIMIT: usize = 8 * MIB;
    const PUBLISHERS: u64 = 4;
    const TOPICS: u64 = 16;
    let events: u64 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let before = live_bytes();
    let (most, refusals) = (AtomicI64::new(0), AtomicU64::new(0));
    let hub = limited(LIMIT).build().unwrap();
    let topics: Vec<_> = (0..TOPICS)
        .map(|topic| hub.topic(topic.to_string().as_str()).unwrap())
        .collect();
    let stalled: Vec<_> = topics
        .iter()
        .map(|topic| topic.subscribe().unwrap())
        .collect();
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (topics, most, refusals) = (&topics, &most, &refusals);
            scope.spawn(move || {
                let text = text();
                for event in 0..events / PUBLISHERS {
                    let topic = &topics[((event * 7 + publisher) % TOPICS) as usize];
                    while topic.publish(Event::text(&text)).is_err() {
                        refusals.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                    }
                    if event % 16 == 0 {
                        most.fetch_max(live_bytes() - before, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // Segments (72 bytes for 64 KiB), subscriptions, topics, the hub's counters, four threads with their buffers and bags.
    let rest = 256 * 1024;
    let most = most.load(Ordering::Relaxed);
    let percent = most as f64 * 100.0 / LIMIT as f64;
    println!(
        "{events} events: {most} bytes at most, {percent:.1} % of the limit; {} refusals",
        refusals.load(Ordering::Relaxed)
    );
    assert!(most <= (LIMIT + LIMIT / 20 + rest) as i64, "{most} bytes");
    assert!(
        most >= (LIMIT / 2) as i64,
        "the budget is used: {most} bytes"
    );
    drop(stalled);
}

#[test]
fn the_history_of_an_idle_topic_goes_first() {
    let _alone = alone();
    let hub = by_hand(4 * MIB)
        .retain_bytes(4 * MIB)
        .retain_events(1 << 20);
    let hub = hub.build().unwrap();
    let (idle, busy) = (hub.topic("idle").unwrap(), hub.topic("busy").unwrap());
    let text = text();
    for _ in 0..2000 {
        let _ = idle.publish(Event::text(&text)).unwrap();
    }
    hub.go_on(50);
    for event in 0..2000 {
        let _ = busy.publish(Event::text(&text)).unwrap();
        if event % 200 == 0 {
            hub.go_on(1);
        }
    }
    assert_eq!(busy.retained_events(), 2000, "the younger are all there");
    hub.go_on(1);
    assert!(idle.retained_events() < 1500, "{}", idle.retained_events());
    assert!(hub.memory_used().unwrap() <= (4 * MIB) as u64 / 8 * 7);
    assert_eq!(busy.retained_events(), 2000);
}

/// When the clock does not come, the publisher that needs the room looks after it.
#[test]
fn a_publisher_sheds_what_others_hold() {
    let _alone = alone();
    let hub = by_hand(2 * MIB).build().unwrap();
    let text = text();
    for topic in 0..100 {
        for _ in 0..100 {
            let key = topic.to_string();
            let _ = hub.publish(key.as_str(), Event::text(&text)).unwrap();
        }
    }
    let used = hub.memory_used().unwrap();
    assert!(used <= (2 * MIB) as u64, "{used} bytes");
    assert!(used >= MIB as u64, "{used} bytes");
}

/// The horizon rises again when there is no need for it any more.
#[test]
fn the_age_is_the_configured_one_again() {
    let _alone = alone();
    let hub = by_hand(2 * MIB).build().unwrap();
    let text = text();
    for _ in 0..20 {
        for topic in 0..100 {
            let key = topic.to_string();
            let _ = hub.publish(key.as_str(), Event::text(&text)).unwrap();
        }
        hub.go_on(1);
    }
    for topic in 0..100 {
        hub.topic(topic.to_string().as_str()).unwrap().close();
    }
    hub.go_on(200);
    let _ = hub.publish("kept", Event::text("long")).unwrap();
    hub.go_on(100);
    assert_eq!(hub.keys(), ["kept"]);
    assert_eq!(hub.topic("kept").unwrap().retained_events(), 1);
}

#[test]
fn what_readers_keep_is_refused_in_the_end() {
    let _alone = alone();
    for history in [false, true] {
        let hub = limited(MIB).history(history).build().unwrap();
        let (frames, mut subscription, refused) = hoard(&hub, "a");
        let taken = frames.len() as u64;
        assert!((MIB as u64 - 70_000) / EVENT <= taken && taken <= (MIB as u64 + 70_000) / 1024);
        let PublishError::OverMemoryLimit { limit, used, size } = refused else {
            panic!("{refused}");
        };
        assert_eq!(limit, MIB as u64);
        assert!(
            used + size as u64 > limit && used <= limit,
            "{used} + {size}"
        );
        assert!((1024..EVENT + SEGMENT).contains(&(size as u64)), "{size}");
        // The text tells them.
        assert!(refused.to_string().contains(&used.to_string()), "{refused}");
        // Nobody is there: nothing would be kept.
        if !history {
            assert_eq!(hub.publish("b", Event::text("")).unwrap().id(), None);
        }
        assert!(subscription.try_recv().is_err(), "nothing was appended");
        let shown = frames[0].len();
        drop(frames);
        let _ = hub.publish("a", Event::text("again")).unwrap();
        assert!(matches!(subscription.try_recv(), Ok(Item::Frame(frame)) if frame.len() < shown));
    }
}

#[test]
fn a_frame_of_two_topics_counts_once() {
    let _alone = alone();
    let hub = limited(MIB).event_ids(false).build().unwrap();
    let (mut a, mut b) = (hub.subscribe("a").unwrap(), hub.subscribe("b").unwrap());
    assert_eq!(hub.memory_used(), Some(0));
    let _ = hub.publish_many(["a", "b"], Event::text(&text())).unwrap();
    let used = hub.memory_used().unwrap();
    // Each log has a segment of one place.
    assert!((1024..EVENT + 2 * 100).contains(&used), "{used} bytes");
    let (a, b) = (frame(a.try_recv()), frame(b.try_recv()));
    assert_eq!(a.as_sse().as_ptr(), b.as_sse().as_ptr());
    drop(hub);
    assert_eq!(a.payload(), b.payload());
}

/// Small events in small logs are more logs than events.
#[test]
fn what_is_counted_is_what_is_taken() {
    let _alone = alone();
    for (topics, events, text) in [
        (1000, 1, "a"),
        (1000, 3, "abc"),
        (10, 1000, "a"),
        (10, 100, &text()),
    ] {
        let hub = by_hand(64 * MIB).build().unwrap();
        let topics: Vec<_> = (0..topics)
            .map(|topic: u32| hub.topic(topic.to_string().as_str()).unwrap())
            .collect();
        let before = live_bytes();
        for _ in 0..events {
            for topic in &topics {
                let _ = topic.publish(Event::text(text)).unwrap();
            }
        }
        let taken = live_bytes() - before;
        let counted = i64::try_from(hub.memory_used().unwrap()).unwrap();
        // Allocators round up, and the clock has a list of the topics.
        let clock = 40 * i64::try_from(topics.len()).unwrap();
        assert!(counted >= taken - clock, "{counted} counted, {taken} taken");
        assert!(counted <= taken / 4 * 5, "{counted} counted, {taken} taken");
    }
}

#[test]
fn all_that_was_charged_is_given_back() {
    let _alone = alone();
    let hub = limited(MIB).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    for _ in 0..10_000 {
        let _ = hub.publish("a", Event::text(&text())).unwrap();
        drop(subscription.try_recv());
    }
    drop(subscription);
    eventually("the collector", || {
        fanfare_collect();
        hub.memory_used() == Some(0)
    });
}

/// Has the collector free what this thread retired.
fn fanfare_collect() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let topic = hub.topic("a").unwrap();
    let stalled = hub.subscribe("a").unwrap();
    let text = "x".repeat(100_000);
    for _ in 0..8 {
        let _ = topic.publish(Event::text(&text)).unwrap();
    }
    drop(stalled);
}

#[test]
fn a_hub_that_goes_leaves_its_account_to_others() {
    let _alone = alone();
    let mut kept = Vec::new();
    let mut round = |keep: bool| {
        let hub = limited(MIB).build().unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        let _ = hub.publish("a", Event::text("x")).unwrap();
        let frame = frame(subscription.try_recv());
        if keep {
            kept.push(frame);
        }
    };
    (0..8).for_each(|_| round(true));
    (0..100).for_each(|_| round(false));
    fanfare_collect();
    let before = live_bytes();
    for _ in 0..1000 {
        round(false);
        fanfare_collect();
    }
    eventually("the collector", || {
        fanfare_collect();
        live_bytes() - before < 100_000
    });
    drop(kept);
}

#[test]
fn what_was_published_to_many_stays() {
    let _alone = alone();
    let hub = limited(MIB).build().unwrap();
    let (frames, hoarder, _) = hoard(&hub, "hoard");
    let mut first = hub.subscribe("first").unwrap();
    let mut last = hub.subscribe("last").unwrap();
    // Room for one event of the two, and what is counted late.
    let mut room = frames.into_iter();
    let big = "x".repeat(60_000);
    while let Err(refused) = hub.publish_many(["first", "last"], Event::text(&big)) {
        assert!(matches!(refused, PublishError::OverMemoryLimit { .. }));
        if first.try_recv().is_ok() {
            assert!(last.try_recv().is_err());
        }
        drop(room.by_ref().take(8).collect::<Vec<_>>());
    }
    // What a refused one had left on the first topic may have been shed for the next.
    for reached in [&mut first, &mut last] {
        assert!(reached.try_recv().is_ok());
        while reached.try_recv().is_ok() {}
    }
    drop((room, hoarder));
    let (_frames, _hoarder, _) = hoard(&hub, "hoard");
    let all = hub.publish_all(Event::text(&big)).map(drop);
    assert!(matches!(all, Err(PublishError::OverMemoryLimit { .. })));
    assert!(first.try_recv().is_err() && last.try_recv().is_err());
    let topic = hub.topic("first").unwrap();
    let refused = topic.publish(Event::text(&big)).map(drop);
    assert!(matches!(refused, Err(PublishError::OverMemoryLimit { .. })));
    let frame = hub.encode(Event::text(&big)).unwrap();
    let refused = topic.publish_frame(&frame).map(drop);
    assert!(matches!(refused, Err(PublishError::OverMemoryLimit { .. })));
    assert!(first.try_recv().is_err());
}

/// An event of two streams of which one is full is on neither.
#[test]
fn a_route_is_taken_whole_or_not_at_all() {
    let _alone = alone();
    struct Text(String);
    impl fanfare::ToSse for Text {
        fn to_sse(&self) -> Event<'_, impl fanfare::Payload> {
            Event::text(&self.0)
        }
    }
    let free = Hub::builder().build_keyed::<UserId>().unwrap();
    let full = limited(MIB).build_keyed::<UserId>().unwrap();
    let ann = UserId::from("ann");
    let (mut of_free, mut of_full) = (free.subscribe(&ann).unwrap(), full.subscribe(&ann).unwrap());
    let route = Route::new().bare_to(&free).unwrap().bare_to(&full).unwrap();
    let router = EventRouter::new();
    let event = Text(text());
    let mut frames = Vec::new();
    let refused = loop {
        match router.route(&ann, &event, &route) {
            Ok(routed) => assert_eq!(routed.subscribers(), 2),
            Err(refused) => break refused,
        }
        drop(frame(of_free.try_recv()));
        frames.extend(read(&mut of_full));
        assert!(frames.len() < 10_000);
    };
    assert!(matches!(refused, EventError::OverMemoryLimit { limit, .. } if limit == MIB as u64));
    assert!(of_free.try_recv().is_err() && of_full.try_recv().is_err());
}

/// Publishers at the limit, readers that keep and let go: none is stuck, and all goes on in the end.
#[test]
fn refusals_end_when_there_is_room() {
    let _alone = alone();
    let hub = limited(MIB).build().unwrap();
    let done = AtomicBool::new(false);
    let mut subscription = hub.subscribe("a").unwrap();
    thread::scope(|scope| {
        let (hub, done) = (&hub, &done);
        let publisher = scope.spawn(move || {
            let (text, mut refused) = (text(), 0_u64);
            for _ in 0..5000 {
                while hub.publish("a", Event::text(&text)).is_err() {
                    refused += 1;
                    thread::yield_now();
                }
            }
            done.store(true, Ordering::Release);
            refused
        });
        let mut kept = Vec::new();
        while !done.load(Ordering::Acquire) {
            match subscription.try_recv() {
                Ok(Item::Frame(frame)) => kept.push(frame),
                _ => thread::yield_now(),
            }
            if kept.len() == 2000 || hub.memory_used().unwrap() > (MIB - 4096) as u64 {
                kept.clear();
            }
        }
        println!("{} refusals", publisher.join().unwrap());
    });
}

/// What was closed and is not read is history as any other: it goes before anybody is refused.
#[test]
fn the_log_of_a_closed_topic_goes_too() {
    let _alone = alone();
    for history in [false, true] {
        let hub = Hub::builder()
            .clock_by_hand()
            .history(history)
            .max_event_bytes(64 * 1024)
            .memory_limit(4 * MIB)
            .build()
            .unwrap();
        let text = "x".repeat(40_000);
        let mut unread = Vec::new();
        for run in 0..40 {
            let key = format!("run:{run}");
            let topic = hub.topic(key.as_str()).unwrap();
            unread.push(topic.subscribe().unwrap());
            for _ in 0..20 {
                let _ = topic.publish(Event::text(&text)).unwrap();
            }
            topic.close();
            topic.close();
        }
        assert_eq!(hub.topics(), 0);
        assert!(hub.memory_used().unwrap() <= (4 * MIB) as u64);
        // Their readers are told, and end.
        for subscription in &mut unread {
            let mut events = 0;
            while let Ok(item) = subscription.try_recv() {
                events += match item {
                    Item::Lagged(lag) => lag.missed().unwrap(),
                    _ => 1,
                };
            }
            assert_eq!(events, 20);
            assert_eq!(
                subscription.end_reason(),
                Some(fanfare::EndReason::TopicClosed)
            );
        }
    }
}

/// It gets old, too, though nobody reads it.
#[test]
fn the_log_of_a_closed_topic_is_given_back_when_it_is_old() {
    let _alone = alone();
    let hub = Hub::builder()
        .clock_by_hand()
        .memory_limit(4 * MIB)
        .retain_age(std::time::Duration::from_secs(60))
        .build()
        .unwrap();
    let topic = hub.topic("run").unwrap();
    let mut unread = topic.subscribe().unwrap();
    let _ = topic.publish(Event::text("x")).unwrap();
    topic.close();
    drop(topic);
    hub.go_on(u64::try_from(70_000 / hub.tick().as_millis()).unwrap());
    eventually("the collector", || {
        fanfare_collect();
        hub.memory_used() == Some(0)
    });
    assert!(matches!(unread.try_recv(), Ok(Item::Lagged(_))));
    assert!(unread.try_recv().is_err());
}

/// What the application holds is not to be had from the logs: they stay as they are, above the soft limit.
#[test]
fn what_no_log_holds_empties_no_log() {
    let _alone = alone();
    let hub = by_hand(4 * MIB).build().unwrap();
    let text = text();
    let small = hub.topic("small").unwrap();
    for _ in 0..50 {
        let _ = small.publish(Event::text(&text)).unwrap();
    }
    hub.go_on(1);
    // Above the soft limit, which is 7/8, and gone from their log.
    let record = hub.topic("record").unwrap();
    let mut reader = record.subscribe().unwrap();
    let mut kept = Vec::new();
    while hub.memory_used().unwrap() < (4 * MIB) as u64 / 100 * 93 {
        let _ = record.publish(Event::text(&text)).unwrap();
        kept.extend(read(&mut reader));
    }
    record.close();
    drop((record, reader));
    for _ in 0..1000 {
        hub.go_on(1);
    }
    assert!(hub.memory_used().unwrap() > (4 * MIB) as u64 / 8 * 7);
    assert_eq!(small.retained_events(), 50);
    // And publishers go on.
    let _ = small.publish(Event::text(&text)).unwrap();
    drop(kept);
}

/// What retention took and the collector has not freed is no reason to take more.
#[test]
fn what_is_on_its_way_costs_no_history() {
    let _alone = alone();
    let hub = by_hand(4 * MIB).retain_events(1000).build().unwrap();
    let text = text();
    let calm = hub.topic("calm").unwrap();
    for _ in 0..500 {
        let _ = calm.publish(Event::text(&text)).unwrap();
    }
    hub.go_on(1);
    // A reader's pin: nothing is freed.
    let mut subscription = hub.subscribe("calm").unwrap();
    let _ = calm.publish(Event::text(&text)).unwrap();
    let batch = subscription.try_batch().unwrap();
    let busy = hub.topic("busy").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while hub.memory_used().unwrap() < (4 * MIB) as u64 / 100 * 90 {
                let _ = busy.publish(Event::text(&text)).unwrap();
            }
            hub.go_on(1);
        });
    });
    assert_eq!(calm.retained_events(), 501);
    drop(batch);
}

/// With a soft limit at the hard one, and many threads, it is exceeded by what they are about to append.
#[test]
fn the_limit_holds_without_a_gap() {
    const THREADS: usize = 16;
    let _alone = alone();
    let hub = Hub::builder()
        .max_event_bytes(32 * 1024)
        .retain_bytes(MIB)
        .memory_limit(MIB / 4)
        .memory_soft_limit(MIB / 4)
        .build()
        .unwrap();
    let stalled = hub.subscribe("a").unwrap();
    let most = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let text = text();
                for _ in 0..300 {
                    // Refused or not.
                    drop(hub.publish("a", Event::text(&text)));
                    most.fetch_max(hub.memory_used().unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    let most = most.into_inner();
    let allowed = (MIB / 4) as u64 + THREADS as u64 * (EVENT + 1000);
    assert!(most <= allowed, "{most} of {allowed} bytes");
    drop(stalled);
}
