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

use common::alloc::{Counting, live_bytes};
use common::{Way, events, eventually};
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
