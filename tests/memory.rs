//! What topics, subscribers and publishes cost in memory, measured by a counting allocator.
//!
//! One test only: nothing else may allocate meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::task::{Context, Waker};
use std::time::Duration;

use common::alloc::{Counting, allocations, live_bytes};
use common::{Wakes, Way, events, eventually};
use fanfare::{Event, Hub, Subscription};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the issue allows a topic of one user, in bytes, its key aside.
const TOPIC_LIMIT: i64 = 512;
/// What it allows one more subscriber on a big topic beyond the `Subscription` itself, in bytes.
const SUBSCRIBER_LIMIT: f64 = 48.0;
/// A `u64`.
const KEY_BYTES: i64 = 8;

/// `live_bytes`, once it stands still: what was retired is freed, what the clock lists is listed.
fn settled_bytes() -> i64 {
    let mut last = i64::MAX;
    let mut same = 0;
    eventually("memory to settle", || {
        let now = live_bytes();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 100
    });
    last
}

#[test]
fn figures() {
    subscription_size();
    per_user_topics();
    big_topic();
    allocations_per_publish();
    allocations_per_delivery();
}

fn subscription_size() {
    let size = size_of::<Subscription>();
    println!("size_of::<Subscription>(): {size} bytes (limit 96, goal 64)");
    assert!(size <= 96);
}

/// A topic with one subscriber, all in: the map's entry with its slack, the topic, the waiter, the `Subscription` in
/// its vector, what the hub's clock lists. Only the bytes of the key are taken off.
fn per_user_topics() {
    for (users, parked) in [(10_000_u64, false), (15_000, false), (20_000, true)] {
        let hub: Hub<u64> = Hub::builder()
            .heartbeat(Duration::from_millis(60))
            .idle_after(Duration::from_millis(20))
            .build_keyed()
            .unwrap();
        let before = live_bytes();
        let mut all: Vec<Subscription> = Vec::with_capacity(users as usize);
        all.extend((0..users).map(|user| hub.subscribe(&user).unwrap()));
        let park = |all: &mut Vec<Subscription>| {
            for subscription in all.iter_mut().filter(|_| parked) {
                let poll = subscription.poll_recv(&mut Context::from_waker(Waker::noop()));
                assert!(poll.is_pending());
            }
        };
        park(&mut all);
        let per_user = |bytes: i64| (bytes - before) / users.cast_signed() - KEY_BYTES;
        let fresh = per_user(live_bytes());
        for user in 0..users {
            for n in 0..20 {
                let published = hub.publish(&user, Event::json(&n)).unwrap();
                assert_eq!(published.subscribers(), 1);
            }
        }
        let busy = per_user(live_bytes());
        for subscription in &mut all {
            assert_eq!(Way::RecvBatch.read(subscription), events(0..20));
        }
        let idle = || per_user(live_bytes()) <= fresh + 64;
        eventually("the idle sweep", idle);
        let swept = per_user(settled_bytes());
        println!(
            "per-user topic with one subscriber, {users} users, parked {parked}: {fresh} bytes before its first \
                 event, {busy} with 20 events, {swept} after an idle sweep (limit {TOPIC_LIMIT})"
        );
        assert!(fresh <= TOPIC_LIMIT, "{fresh} bytes");
        assert!(swept <= TOPIC_LIMIT, "{swept} bytes");
        drop(all);
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    }
}

fn big_topic() {
    const HALF: usize = 100_000;
    let hub = Hub::new();
    let mut all: Vec<Subscription> = Vec::with_capacity(2 * HALF);
    all.extend((0..HALF).map(|_| hub.subscribe("a").unwrap()));
    let before = live_bytes();
    all.extend((0..HALF).map(|_| hub.subscribe("a").unwrap()));
    for subscription in &mut all {
        let poll = subscription.poll_recv(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
    let each = (live_bytes() - before) as f64 / HALF as f64;
    println!(
        "one more subscriber on a topic with {HALF} to {} of them: {each:.1} bytes of heap (limit {SUBSCRIBER_LIMIT})",
        2 * HALF
    );
    assert!(each <= SUBSCRIBER_LIMIT, "{each} bytes");
}

/// Allocations on the publisher's thread: one for the frame, and a new segment, or what the collector lists, now and then.
fn allocations_per_publish() {
    for (subscribers, events) in [(0, 6_400), (1, 6_400), (9, 6_400), (1000, 1_280)] {
        for (armed, history) in [(false, false), (true, false), (true, true)] {
            let hub = Hub::builder().history(history).build().unwrap();
            let topic = hub.topic("a").unwrap();
            let mut all: Vec<_> = (0..subscribers)
                .map(|_| hub.subscribe("a").unwrap())
                .collect();
            let (_, waker) = Wakes::new();
            let run = |events: u64, all: &mut [Subscription]| {
                let (mut sum, mut worst) = (0, 0);
                for n in 0..events {
                    // Arming 1,000 takes its time in a debug build: now and then is enough.
                    if armed && n % 20 == 0 {
                        for subscription in &mut *all {
                            if let Ok(mut batch) = subscription.try_batch() {
                                batch.for_each(|_| {});
                            }
                            let cx = &mut Context::from_waker(&waker);
                            assert!(subscription.poll_recv(cx).is_pending());
                        }
                    }
                    let once = allocations(|| {
                        let _ = topic.publish(Event::json(&n)).unwrap();
                    });
                    worst = worst.max(once);
                    sum += once;
                }
                (sum, worst)
            };
            // The encoding buffer of the thread, its place in the collector, the segments' size.
            run(200, &mut all);
            let (sum, worst) = run(events, &mut all);
            #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
            let each = sum as f64 / events as f64;
            println!(
                "publish to {subscribers} subscribers, armed {armed}, history {history}: {each:.3} allocations, at most \
                 {worst} in one"
            );
            assert!(each <= 1.1, "{each} allocations");
            assert!(worst <= 6, "{worst} allocations in one publish");
        }
    }
    // A lookup by borrowed key adds none.
    let hub = Hub::new();
    let keys: Vec<String> = (0..100).map(|n| format!("key {n}")).collect();
    let all: Vec<_> = keys
        .iter()
        .map(|key| hub.subscribe(key.as_str()).unwrap())
        .collect();
    let round = || {
        for key in &keys {
            let _ = hub.publish(key.as_str(), Event::text("x")).unwrap();
        }
    };
    for _ in 0..200 {
        round();
    }
    let sum = allocations(|| (0..100).for_each(|_| round()));
    println!("publish by key: {sum} allocations in 10000");
    assert!(sum <= 11_000);
    drop(all);
}

fn allocations_per_delivery() {
    const EVENTS: u64 = 64 * 20;
    for subscribers in [1, 9, 1000] {
        for history in [false, true] {
            let hub = Hub::builder()
                .retain_events(2 * EVENTS as usize)
                .history(history)
                .build()
                .unwrap();
            let topic = hub.topic("a").unwrap();
            let mut all: Vec<_> = (0..subscribers)
                .map(|_| hub.subscribe("a").unwrap())
                .collect();
            let mut deliveries = 0;
            let mut sum = 0;
            for burst in [1, 16, 64, EVENTS - 81] {
                for _ in 0..burst {
                    let _ = topic.publish(Event::text("x")).unwrap();
                }
                for subscription in &mut all {
                    sum += allocations(|| {
                        let mut batch = subscription.try_batch().unwrap();
                        deliveries +=
                            batch.for_each(|frame| assert_eq!(frame.payload(), Some(&b"x"[..])));
                    });
                }
            }
            assert_eq!(deliveries as u64, EVENTS * subscribers);
            println!(
                "{deliveries} deliveries in batches to {subscribers} subscribers, history {history}: {sum} allocations"
            );
            // A small topic frees what was read: the collector lists 64 segments in one allocation.
            let allowed = u64::from(subscribers < 10 && !history);
            assert!(sum <= allowed, "{sum} allocations");
        }
    }
}
