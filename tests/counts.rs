//! How often an operation allocates, and how much: counts, which are the same on every machine.
//!
//! Where a count is exact, it is exact for every single operation, in a state that the test sets up: the thread has its
//! encoding buffer and its place in the collector. Where it is amortised, the bound says over what. If one of these
//! changes, either the change is meant and the number with its reason is changed here, or something was lost.
//!
//! Only what the operation's own thread allocates is counted, so tests run beside each other. Bytes in all, with what the
//! map and the clock add, are in `memory.rs`; instructions in the bench `instructions`; system calls in `syscalls.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

mod common;

use std::collections::BTreeMap;
use std::task::{Context, Waker};

use common::alloc::{Counting, allocations, bytes};
use fanfare::{Event, Hub, HubBuilder, Item, Subscription, Topic};
use futures_util::{FutureExt as _, StreamExt as _};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Slots of the largest segment.
const SEGMENT: u64 = 64;

/// The frame: header and bytes in one. The wakes of those who are parked add nothing: wakers are moved.
const PUBLISH: u64 = 1;
/// A publish that begins a segment: the frame, and the segment with its slots.
const PUBLISH_IN_NEW_SEGMENT: u64 = 2;

/// How many operations allocated how often.
type Histogram = BTreeMap<u64, u64>;

fn count(histogram: &mut Histogram, operation: impl FnOnce()) {
    *histogram.entry(allocations(operation)).or_default() += 1;
}

/// A hub that evicts nothing, so that nothing is handed to the collector, whose lists are allocated too.
fn keeps_all() -> HubBuilder {
    Hub::builder()
        .history(true)
        .retain_events(1 << 20)
        .retain_bytes(1 << 30)
}

fn publish(topic: &Topic) {
    let _ = topic.publish(Event::text("x")).unwrap();
}

fn park(subscription: &mut Subscription) {
    let mut cx = Context::from_waker(Waker::noop());
    while subscription.poll_recv(&mut cx).is_ready() {}
}

/// Each of `events` publishes cost `least`, but for those that began segments: these cost `most`.
#[track_caller]
fn only_segments_add(histogram: &Histogram, least: u64, most: u64, events: u64) {
    let began = histogram.get(&most).copied().unwrap_or(0);
    assert_eq!(
        histogram.values().sum::<u64>(),
        histogram.get(&least).copied().unwrap_or(0) + began,
        "allocations of one publish, and how often: {histogram:?}"
    );
    // A segment has 64 slots at the full rate; a machine that stands still for seconds gets smaller ones.
    assert!(began >= events / SEGMENT, "{histogram:?}");
    assert!(began <= events / 8, "{histogram:?}");
}

// ------------------------------------------------------------------------------------------------------- publish

/// One allocation for each event, whoever listens: with ids or without, parked or not.
#[test]
fn a_publish_allocates_its_frame() {
    const EVENTS: u64 = 10 * SEGMENT;
    for ids in [true, false] {
        for (subscribers, parked) in [(0, 0), (1, 0), (1, 1), (1000, 0), (1000, 10)] {
            let hub = keeps_all().event_ids(ids).build().unwrap();
            let topic = hub.topic("a").unwrap();
            let mut all: Vec<_> = (0..subscribers)
                .map(|_| hub.subscribe("a").unwrap())
                .collect();
            // The first event begins the log: the hub's clock is told of it.
            publish(&topic);
            let (mut by_topic, mut by_hub) = (Histogram::new(), Histogram::new());
            for n in 0..2 * EVENTS {
                all.iter_mut().take(parked).for_each(park);
                if n % 2 == 0 {
                    count(&mut by_topic, || publish(&topic));
                } else {
                    // A lookup by borrowed key adds none.
                    count(&mut by_hub, || {
                        let _ = hub.publish("a", Event::text("x")).unwrap();
                    });
                }
            }
            let mut both = by_topic;
            for (allocations, times) in by_hub {
                *both.entry(allocations).or_default() += times;
            }
            only_segments_add(&both, PUBLISH, PUBLISH_IN_NEW_SEGMENT, 2 * EVENTS);
        }
    }
}

/// A thousand wakes allocate no more than none.
#[test]
fn wakes_allocate_nothing() {
    let hub = keeps_all().build().unwrap();
    let topic = hub.topic("a").unwrap();
    let mut all: Vec<_> = (0..1000).map(|_| hub.subscribe("a").unwrap()).collect();
    publish(&topic);
    let mut histogram = Histogram::new();
    for _ in 0..SEGMENT {
        all.iter_mut().for_each(park);
        count(&mut histogram, || publish(&topic));
    }
    only_segments_add(&histogram, PUBLISH, PUBLISH_IN_NEW_SEGMENT, SEGMENT);
}

/// To nobody, without history: the event is encoded, so that its errors are told, and dropped.
#[test]
fn a_publish_to_nobody_allocates_its_frame() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    publish(&topic);
    for _ in 0..10 * SEGMENT {
        assert_eq!(allocations(|| publish(&topic)), 1);
        let to_no_topic = || drop(hub.publish("b", Event::text("x")));
        assert_eq!(allocations(to_no_topic), 1);
    }
}

/// Without ids all topics share one frame; with ids each gets a copy of the encoded one.
#[test]
fn publish_many_encodes_once() {
    const TOPICS: u64 = 16;
    const EVENTS: u64 = 10 * SEGMENT;
    for (ids, frames) in [(true, 1 + TOPICS), (false, 1)] {
        let hub = keeps_all().event_ids(ids).build().unwrap();
        let keys: Vec<String> = (0..TOPICS).map(|n| format!("key {n}")).collect();
        let all: Vec<_> = keys
            .iter()
            .map(|key| hub.subscribe(key.as_str()).unwrap())
            .collect();
        let publish = || {
            let keys = keys.iter().map(String::as_str);
            let sent = hub.publish_many(keys, Event::text("x")).unwrap();
            assert_eq!(sent.topics(), all.len());
        };
        publish();
        let mut histogram = Histogram::new();
        for _ in 0..EVENTS {
            count(&mut histogram, publish);
        }
        // All topics begin their segments with the same event.
        let segments = TOPICS * (PUBLISH_IN_NEW_SEGMENT - PUBLISH);
        only_segments_add(&histogram, frames, frames + segments, EVENTS);
    }
}

/// A log that evicts: a bag of the collector now and then. The scratch of the encoder stays as it is.
#[test]
fn evicting_adds_little() {
    const EVENTS: u64 = 100 * SEGMENT;
    for history in [false, true] {
        let hub = Hub::builder().history(history).build().unwrap();
        let topic = hub.topic("a").unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        // More than it retains.
        for _ in 0..2000 {
            publish(&topic);
        }
        let mut histogram = Histogram::new();
        for _ in 0..EVENTS {
            count(&mut histogram, || publish(&topic));
        }
        let sum: u64 = histogram.iter().map(|(made, times)| made * times).sum();
        let worst = histogram.keys().max().copied().unwrap_or(0);
        // One for each segment of 64, and what lists the retired ones: one in 64 KiB, and what that retires in turn.
        let most = EVENTS + EVENTS / SEGMENT + EVENTS / SEGMENT;
        assert!(sum <= most, "{sum} allocations, expected at most {most}");
        assert!(worst <= 6, "{worst} allocations in one publish");
        assert!(matches!(subscription.try_recv(), Ok(Item::Lagged(_))));
    }
}

// ------------------------------------------------------------------------------------------------------ subscribe

/// Waiters come in groups. A subscription that finds a free one allocates nothing; the first is in the topic itself.
#[test]
fn a_subscription_allocates_only_with_a_new_group() {
    // With the number of the subscription: the list, its count, the group, its row of chunks, a row of waiters for each
    // chunk.
    let expected = |number: usize| match number {
        2 | 10 => 4 + 1,
        74 => 4 + 8,
        586 => 4 + 16,
        1610 => 4 + 64,
        _ => 0,
    };
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    drop(hub.subscribe("a").unwrap());
    let mut all = Vec::with_capacity(5000);
    for number in 1..=5000 {
        let made = allocations(|| all.push(hub.subscribe("a").unwrap()));
        assert_eq!(made, expected(number), "subscription {number}");
    }
    // Whoever leaves a group empty takes it from the list, which is copied: the list and its count. Nobody is left
    // after the last one, so no list is either.
    for number in (1..=5000).rev() {
        let last = allocations(|| drop(all.pop()));
        let copies = match number {
            2 => 1,
            10 | 74 | 586 | 1610 => 2,
            _ => 0,
        };
        assert_eq!(last, copies, "the drop of subscription {number}");
    }
    assert_eq!(topic.subscribers(), 0);
}

/// Coming and going on a topic that is there, whoever else is on it.
#[test]
fn churn_allocates_nothing() {
    let hub = Hub::new();
    let _topic = hub.topic("a").unwrap();
    for others in [0, 1000] {
        let _others: Vec<_> = (0..others).map(|_| hub.subscribe("a").unwrap()).collect();
        let churn = || drop(hub.subscribe("a").unwrap());
        churn();
        assert_eq!(allocations(|| (0..1000).for_each(|_| churn())), 0);
    }
}

/// The topic of a user: one allocation, and the key's own twice, for the map and for the topic's way home.
#[test]
fn a_topic_is_one_allocation() {
    const TOPICS: u64 = 1000;
    // Shards of the map that grow: each doubles a few times, one allocation each.
    let most_grow = TOPICS / 10;
    let mut histogram = Histogram::new();
    let hub = Hub::<u64>::default();
    let mut all = Vec::with_capacity(2 * 1000);
    drop(hub.subscribe(&0).unwrap());
    let mut sizes = BTreeMap::new();
    for user in 0..TOPICS {
        let mut bytes_of_one = 0;
        count(&mut histogram, || {
            bytes_of_one = bytes(|| all.push(hub.subscribe(&user).unwrap()));
        });
        *sizes.entry(bytes_of_one).or_insert(0) += 1;
    }
    assert!(histogram.keys().all(|&made| made == 1 || made == 2));
    assert!(histogram[&1] >= TOPICS - most_grow, "{histogram:?}");
    // The topic with its log, its first waiter, its key and the way to its hub.
    if cfg!(target_pointer_width = "64") {
        assert!(sizes[&TOPIC_BYTES] >= TOPICS - most_grow, "{sizes:?}");
    }

    let mut histogram = Histogram::new();
    let hub = Hub::new();
    let keys: Vec<String> = (0..TOPICS).map(|user| format!("user {user}")).collect();
    for key in &keys {
        count(&mut histogram, || {
            all.push(hub.subscribe(key.as_str()).unwrap());
        });
    }
    assert!(histogram.keys().all(|&made| made == 3 || made == 4));
    assert!(histogram[&3] >= TOPICS - most_grow, "{histogram:?}");
}

/// Of the allocation of a topic with a `u64` for a key, subscriber included.
const TOPIC_BYTES: i64 = 216;

// ------------------------------------------------------------------------------------------------------- delivery

/// A way to take one event, or all that are there. Tells how many.
type Take = fn(&mut Subscription) -> u64;

fn try_recv(subscription: &mut Subscription) -> u64 {
    u64::from(matches!(subscription.try_recv(), Ok(Item::Frame(_))))
}

fn poll_recv(subscription: &mut Subscription) -> u64 {
    let mut cx = Context::from_waker(Waker::noop());
    u64::from(subscription.poll_recv(&mut cx).is_ready())
}

fn recv(subscription: &mut Subscription) -> u64 {
    u64::from(subscription.recv().now_or_never().is_some())
}

fn next(subscription: &mut Subscription) -> u64 {
    u64::from(subscription.next().now_or_never().is_some())
}

fn try_batch(subscription: &mut Subscription) -> u64 {
    let batch = subscription.try_batch();
    batch.map_or(0, |mut batch| batch.for_each(|_| {}) as u64)
}

fn recv_batch(subscription: &mut Subscription) -> u64 {
    let batch = subscription.recv_batch().now_or_never().flatten();
    batch.map_or(0, |mut batch| batch.for_each(|_| {}) as u64)
}

const TAKES: [(&str, Take); 6] = [
    ("try_recv", try_recv),
    ("poll_recv", poll_recv),
    ("recv", recv),
    ("Stream", next),
    ("try_batch", try_batch),
    ("recv_batch", recv_batch),
];

/// A frame is borrowed from the log, or counted up: whoever reads allocates nothing, parking included.
#[test]
fn a_delivery_allocates_nothing() {
    for (name, take) in TAKES {
        for subscribers in [1, 9, 1000] {
            let hub = keeps_all().build().unwrap();
            let topic = hub.topic("a").unwrap();
            let mut all: Vec<_> = (0..subscribers)
                .map(|_| hub.subscribe("a").unwrap())
                .collect();
            for burst in [1, 1, 16, SEGMENT] {
                for _ in 0..burst {
                    publish(&topic);
                }
                for subscription in &mut all {
                    let mut taken = 0;
                    let made = allocations(|| {
                        while taken < burst {
                            taken += take(subscription);
                        }
                        // And parks, if the way of reading does.
                        taken += take(subscription);
                    });
                    assert_eq!(
                        (made, taken),
                        (0, burst),
                        "{name}, {subscribers} subscribers"
                    );
                }
            }
        }
    }
}

/// On a small topic without history who is the last to read a segment retires it: the collector's lists, and no more.
#[test]
fn who_reads_a_small_topic_frees_it() {
    const EVENTS: u64 = 200 * SEGMENT;
    for (name, take) in TAKES {
        let hub = Hub::new();
        let topic = hub.topic("a").unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        let mut sum = 0;
        for _ in 0..EVENTS {
            publish(&topic);
            sum += allocations(|| assert_eq!(take(&mut subscription), 1));
        }
        // One list in 64 KiB, and what taking it down retires.
        assert!(sum <= EVENTS / SEGMENT / 4, "{name}: {sum} allocations");
    }
}

#[cfg(feature = "http-body")]
mod body {
    use fanfare::SseBody;
    use http_body_util::BodyExt as _;

    use super::*;

    /// Polls until the body waits. Tells how many bytes came.
    fn poll(body: &mut SseBody) -> usize {
        let mut bytes = 0;
        while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
            bytes += frame.data_ref().unwrap().len();
        }
        bytes
    }

    /// What one event costs each of `streams` that are polled one after the other.
    fn per_stream(streams: usize, event: &str) -> Vec<u64> {
        let hub = keeps_all().build().unwrap();
        let topic = hub.topic("a").unwrap();
        let body = |_| hub.subscribe("a").unwrap().into_sse().into_body();
        let mut all: Vec<SseBody> = (0..streams).map(body).collect();
        for body in &mut all {
            assert!(poll(body) > 0, "the opening");
        }
        let mut each: Option<Vec<u64>> = None;
        for _ in 0..2 * SEGMENT {
            let _ = topic.publish(Event::text(event)).unwrap();
            let polled = |body: &mut SseBody| allocations(|| assert!(poll(body) > event.len()));
            let now: Vec<u64> = all.iter_mut().map(polled).collect();
            assert_eq!(each.get_or_insert_with(|| now.clone()), &now);
        }
        each.unwrap()
    }

    /// Alone: the chunk. Beside others: the chunk and its count, for all of them together.
    #[test]
    fn a_chunk_is_shared() {
        assert_eq!(per_stream(1, "x"), [1]);
        let mut shared = vec![0; 100];
        shared[0] = 2;
        assert_eq!(per_stream(100, "x"), shared);
    }

    /// A large event is not copied: only the handle of each stream that has it in hand.
    #[test]
    fn a_large_event_is_not_copied() {
        assert_eq!(per_stream(3, &"x".repeat(20_000)), [1, 1, 1]);
    }

    /// A backlog is gathered into one chunk, made for all of it at once. Now and then the collector needs a bag for what
    /// was passed.
    #[test]
    fn a_backlog_is_one_chunk() {
        let hub = keeps_all().build().unwrap();
        let topic = hub.topic("a").unwrap();
        let mut body = hub.subscribe("a").unwrap().into_sse().into_body();
        poll(&mut body);
        for _ in 0..2 * SEGMENT {
            for _ in 0..16 {
                publish(&topic);
            }
            let made = allocations(|| assert!(poll(&mut body) > 16 * "data: x\n\n".len()));
            assert!((1..=3).contains(&made), "{made} allocations for 16 events");
        }
    }

    /// A subscription that becomes a body adds nothing: what opens the stream is the same for all.
    #[test]
    fn a_body_costs_nothing() {
        let hub = Hub::new();
        let _topic = hub.topic("a").unwrap();
        let body = || drop(hub.subscribe("a").unwrap().into_sse().into_body());
        body();
        assert_eq!(allocations(body), 0);
    }
}

// --------------------------------------------------------------------------------------------------------- router

#[cfg(feature = "protocols")]
mod router {
    use fanfare::protocol::{a2a, ag_ui, analytics, system};
    use fanfare::{
        AgentRouter, Broadcaster, EventBroadcasters, EventRouter, Routed, ToSse, UserId,
    };

    use super::*;

    const CONNECTIONS: usize = 10;

    fn keeps<E: ToSse>() -> Broadcaster<E> {
        let hub = keeps_all().event_ids(false).build_keyed();
        Broadcaster::with_hub(hub.unwrap())
    }

    /// A user with 10 connections on each stream.
    fn connected(streams: &EventBroadcasters, user: &UserId) -> Vec<Subscription> {
        let register = |n| {
            let id = format!("tab-{n}");
            let to = (
                streams.ag_ui.register(user, &id),
                streams.a2a.register(user, &id),
            );
            let and = (
                streams.context.register(user, &id),
                streams.analytics.register(user, &id),
            );
            [to.0, to.1, and.0, and.1].map(Result::unwrap)
        };
        (0..CONNECTIONS).flat_map(register).collect()
    }

    /// An event of about 150 bytes: the frame for each stream that it goes to, whoever listens there. The wrapped form is
    /// made of the bytes of the bare one, in the thread's own buffer.
    #[test]
    fn routing_allocates_one_frame_for_each_stream() {
        const EVENTS: u64 = 10 * SEGMENT;
        type Way<'a> = &'a dyn Fn(&AgentRouter, &UserId) -> Routed;
        let ag_ui = ag_ui::Event::text_message_content("m1", "x".repeat(90));
        let message = a2a::Message::new("m1", a2a::Role::Agent, [a2a::Part::text("x".repeat(90))]);
        let a2a = a2a::StreamResponse::from(message);
        let system = system::Event::from(system::ContextDeleted::new("c1"));
        let analytics = analytics::Event::from(analytics::PageView::new("s1", "/pricing"));
        let ways: [(u64, Way<'_>); 4] = [
            (2, &|router, user| router.route_ag_ui(user, &ag_ui).unwrap()),
            (2, &|router, user| router.route_a2a(user, &a2a).unwrap()),
            (1, &|router, user| {
                router.route_system(user, &system).unwrap()
            }),
            (1, &|router, user| {
                router.route_analytics(user, &analytics).unwrap()
            }),
        ];
        for (streams_of_it, take) in ways {
            for parked in [false, true] {
                let mut streams = EventBroadcasters::new();
                streams.ag_ui = keeps();
                streams.a2a = keeps();
                streams.context = keeps();
                streams.analytics = keeps();
                let ann = UserId::from("ann");
                let mut all = connected(&streams, &ann);
                let router = EventRouter::over(streams);
                // The first event begins the logs.
                assert_eq!(take(&router, &ann).subscribers() as u64, streams_of_it * 10);
                let mut histogram = Histogram::new();
                for _ in 0..EVENTS {
                    if parked {
                        all.iter_mut().for_each(park);
                    }
                    count(&mut histogram, || drop(take(&router, &ann)));
                }
                let most = streams_of_it * PUBLISH_IN_NEW_SEGMENT;
                // Logs of one user get the same events, so they begin their segments together, unless the machine stands
                // still between the two.
                let between = histogram.remove(&(PUBLISH + PUBLISH_IN_NEW_SEGMENT));
                if let Some(times) = between.filter(|_| streams_of_it == 2) {
                    *histogram.entry(most).or_default() += times;
                }
                only_segments_add(&histogram, streams_of_it * PUBLISH, most, EVENTS);
            }
        }
    }

    /// As it is by default, with readers that keep up, who also retire what they passed: two frames, and two segments now and
    /// then. The clock and the collector may add to one call in a thousand.
    #[test]
    fn routing_allocates_at_most_four_times() {
        const EVENTS: u64 = 100 * SEGMENT;
        let streams = EventBroadcasters::new();
        let ann = UserId::from("ann");
        let mut all = connected(&streams, &ann);
        let router = EventRouter::over(streams);
        let event = ag_ui::Event::text_message_content("m1", "x".repeat(90));
        let route = || drop(router.route_ag_ui(&ann, &event).unwrap());
        // The first event begins the logs: the hubs' clocks are told.
        route();
        all.iter_mut().for_each(park);
        let mut histogram = Histogram::new();
        for _ in 0..EVENTS {
            count(&mut histogram, route);
            all.iter_mut().for_each(park);
        }
        let most = 2 * PUBLISH_IN_NEW_SEGMENT;
        // When the machine stands still the logs may have been given back meanwhile, and begin anew; or the collector has what this
        // thread retired, which needs a bag of its own.
        let beyond: u64 = histogram.range(most + 1..).map(|(_, calls)| calls).sum();
        assert!(beyond <= EVENTS / 1000, "{histogram:?}");
        assert!(histogram[&2] >= EVENTS / 10 * 9, "{histogram:?}");
    }
}
