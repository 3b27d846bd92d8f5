//! Subscriptions, handles, topics and hubs that come and go: whoever drops them, wherever, and whatever panics.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Got, Wakes, Way, block_on, events, frame};
use fanfare::{
    Batch, ConfigError, EncodeError, Event, EventId, Frame, FrameRef, Hub, HubBuilder, Item, Lag,
    PublishError, Published, PublishedMany, SubscribeError, Subscription, Topic, TryRecvError,
};

fn publish(hub: &Hub, key: &str, text: &str) {
    let _ = hub.publish(key, Event::text(text)).unwrap();
}

fn park(subscription: &mut Subscription, waker: &Waker) {
    let poll = subscription.poll_recv(&mut Context::from_waker(waker));
    assert!(poll.is_pending());
}

// ------------------------------------------------------------------------------------------------- what is what

/// Which marker traits a type has: a method of the type itself hides that of the trait.
macro_rules! implements {
    ($marker:path, $type:ty) => {{
        #[allow(dead_code, reason = "hidden where the bound holds")]
        trait Fallback {
            const YES: bool = false;
        }
        impl<T: ?Sized> Fallback for T {}
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "used only where the bound holds")]
        impl<T: ?Sized + $marker> Probe<T> {
            const YES: bool = true;
        }
        <Probe<$type>>::YES
    }};
}

#[test]
fn marker_traits() {
    macro_rules! check {
        ($($type:ty: $send:literal $sync:literal $unpin:literal,)*) => {$(
            let name = stringify!($type);
            assert_eq!(implements!(Send, $type), $send, "{name}: Send");
            assert_eq!(implements!(Sync, $type), $sync, "{name}: Sync");
            assert_eq!(implements!(Unpin, $type), $unpin, "{name}: Unpin");
        )*};
    }
    check! {
        Hub: true true true,
        Hub<u64>: true true true,
        HubBuilder: true true true,
        Topic: true true true,
        Subscription: true true true,
        // A batch holds a pin, which is its thread's.
        Batch<'static>: false false true,
        FrameRef<'static>: true true true,
        Frame: true true true,
        Item: true true true,
        Lag: true true true,
        Event<'static, fanfare::Text<'static>>: true true true,
        EventId: true true true,
        Published: true true true,
        PublishedMany: true true true,
        ConfigError: true true true,
        EncodeError: true true true,
        PublishError: true true true,
        SubscribeError: true true true,
        TryRecvError: true true true,
    }
    // What a batch holds stays usable after a panic of the caller's closure; see below.
    assert!(!implements!(Clone, Subscription));
}

#[test]
fn futures_of_reading_can_be_sent() {
    fn sendable<T: Send>(_: &T) {}
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    sendable(&subscription.recv());
    sendable(&async move {
        let mut bytes = 0;
        while let Some(item) = subscription.recv().await {
            if let Item::Frame(frame) = item {
                bytes += frame.len();
            }
        }
        bytes
    });
}

#[test]
fn debug_prints_no_payload() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let secret = Event::text("secret\npassword").name("n");
    let published = topic.publish(secret).unwrap();
    let mut texts = vec![
        format!("{hub:?} {hub:#?}"),
        format!("{topic:?} {topic:#?}"),
        format!("{subscription:?} {subscription:#?}"),
        format!("{published:?}"),
    ];
    let mut batch = subscription.try_batch().unwrap();
    texts.push(format!("{batch:?}"));
    let frame = batch.next_frame().unwrap();
    texts.push(format!("{frame:?} {frame:#?}"));
    texts.push(format!("{:?}", Item::Frame(frame.clone())));
    drop(batch);
    for text in texts {
        assert!(!text.is_empty());
        assert!(
            !text.contains("secret") && !text.contains("password"),
            "{text}"
        );
    }
}

// ------------------------------------------------------------------------------------------------- coming and going

#[test]
fn counts_follow() {
    let hub = Hub::new();
    let counts = |key| (hub.topics(), hub.subscribers(), hub.subscribers_of(key));
    assert_eq!(counts("a"), (0, 0, 0));
    let a = hub.subscribe("a").unwrap();
    let also_a = hub.subscribe("a").unwrap();
    let b = hub.subscribe("b").unwrap();
    assert_eq!(counts("a"), (2, 3, 2));
    assert_eq!((a.subscribers(), b.subscribers()), (2, 1));
    let mut keys = hub.keys();
    keys.sort();
    assert_eq!(keys, ["a", "b"]);
    drop(a);
    assert_eq!(counts("a"), (2, 2, 1));
    drop(also_a);
    assert_eq!(counts("a"), (1, 1, 0));
    drop(b);
    assert_eq!(counts("b"), (0, 0, 0));
}

#[test]
fn an_old_subscription_dropped_late_removes_no_later_one() {
    let hub = Hub::new();
    let old = hub.subscribe("a").unwrap();
    let mut new = hub.subscribe("a").unwrap();
    drop(old);
    publish(&hub, "a", "x");
    assert_eq!(Way::Recv.read(&mut new), events(["x"]));
    // Of an earlier life of the topic: the hub of the old one is another.
    let other = Hub::new();
    let old = other.subscribe("a").unwrap();
    other.close();
    drop(old);
    publish(&hub, "a", "y");
    assert_eq!(Way::Recv.read(&mut new), events(["y"]));
    assert_eq!(hub.subscribers_of("a"), 1);
}

#[test]
fn places_are_used_again() {
    let hub = Hub::new();
    let mut all: Vec<_> = (0..500).map(|_| hub.subscribe("a").unwrap()).collect();
    for round in 0..20 {
        // Some leave, others come; parked or not.
        let (_, waker) = Wakes::new();
        for subscription in &mut all {
            park(subscription, &waker);
        }
        let mut n = 0;
        all.retain(|_| {
            n += 1;
            n % (2 + round % 5) != 0
        });
        all.extend((0..500 - all.len()).map(|_| hub.subscribe("a").unwrap()));
        assert_eq!(hub.subscribers_of("a"), 500);
        let published = hub.publish("a", Event::json(&round)).unwrap();
        assert_eq!(published.subscribers(), 500);
        for subscription in &mut all {
            assert_eq!(Way::TryRecv.read(subscription), events([round]));
        }
    }
    all.clear();
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn drop_without_a_runtime() {
    let hub = Hub::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let publisher = hub.clone();
    let (mut subscription, item) = runtime.block_on(async move {
        let reading = tokio::spawn(async move {
            let item = subscription.recv().await;
            (subscription, item)
        });
        tokio::task::yield_now().await;
        publish(&publisher, "a", "x");
        reading.await.unwrap()
    });
    assert!(matches!(item, Some(Item::Frame(_))));
    // Parked on a task of a runtime that is gone.
    let (_, waker) = Wakes::new();
    park(&mut subscription, &waker);
    drop(runtime);
    publish(&hub, "a", "y");
    assert_eq!(frame(subscription.try_recv()).data(), "y");
    drop(subscription);
    assert_eq!(hub.topics(), 0);
}

#[test]
fn publish_from_outside_a_runtime() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let publisher = hub.clone();
    let ready = Arc::new(Barrier::new(2));
    let thread = thread::spawn({
        let ready = ready.clone();
        move || {
            ready.wait();
            for n in 0..1000 {
                publish(&publisher, "a", &n.to_string());
            }
            publisher.close();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let got = runtime.block_on(async {
        let mut got = Vec::new();
        ready.wait();
        while let Some(item) = subscription.recv().await {
            got.push(Got::from(item));
        }
        got
    });
    thread.join().unwrap();
    assert_eq!(got, events(0..1000));
}

#[test]
fn drop_in_another_thread() {
    let hub = Hub::new();
    for round in 0..100 {
        let subscriptions: Vec<_> = (0..5).map(|_| hub.subscribe("a").unwrap()).collect();
        let handle = hub.topic("a").unwrap();
        publish(&hub, "a", "x");
        thread::scope(|scope| {
            for mut subscription in subscriptions {
                scope.spawn(move || {
                    if round % 2 == 0 {
                        assert_eq!(Way::TryRecv.read(&mut subscription), events(["x"]));
                    }
                    drop(subscription);
                });
            }
            scope.spawn(move || drop(handle));
        });
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    }
}

#[test]
fn drop_while_panicking() {
    let hub = Hub::new();
    let mut other = hub.subscribe("a").unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut parked = hub.subscribe("a").unwrap();
        park(&mut parked, Waker::noop());
        let _alone = hub.subscribe("b").unwrap();
        let _handle = hub.topic("c").unwrap();
        publish(&hub, "a", "x");
        let mut reading = hub.subscribe("a").unwrap();
        publish(&hub, "a", "y");
        let mut batch = reading.try_batch().unwrap();
        batch.for_each(|_| panic!("as the test wants"));
    }));
    assert!(panicked.is_err());
    assert_eq!((hub.topics(), hub.subscribers()), (1, 1));
    publish(&hub, "a", "z");
    assert_eq!(Way::TryRecv.read(&mut other), events(["x", "y", "z"]));
}

#[test]
fn a_closure_that_panics_costs_a_batch_reader_at_most_its_frame() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    for n in 0..3 {
        publish(&hub, "a", &n.to_string());
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut batch = subscription.try_batch().unwrap();
        batch.for_each(|frame| assert_eq!(frame.data(), "0", "as the test wants"));
    }));
    assert!(panicked.is_err());
    let got = Way::TryBatch.read(&mut subscription);
    assert!(
        got == events([1, 2]) || got == events([2]),
        "nothing twice, and only what was being looked at may be gone: {got:?}"
    );
}

#[test]
fn a_dropped_hub_closes_its_topics() {
    for history in [false, true] {
        let hub = Hub::builder().history(history).build().unwrap();
        let topic = hub.topic("a").unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        let mut parked = hub.subscribe("a").unwrap();
        let (woken, waker) = Wakes::new();
        park(&mut parked, &waker);
        let clone = hub.clone();
        drop(hub);
        publish(&clone, "a", "x");
        assert_eq!(woken.count(), 1);
        assert_eq!(Way::Recv.read(&mut parked), events(["x"]));
        park(&mut parked, &waker);
        drop(clone);
        assert_eq!(woken.count(), 2);
        assert_eq!(Way::Recv.read(&mut parked), [Got::End]);
        let mut expected = events(["x"]);
        expected.push(Got::End);
        assert_eq!(Way::Recv.read(&mut subscription), expected);
        assert!(topic.is_closed());
        let refused = topic.publish(Event::text("y"));
        assert!(matches!(refused, Err(PublishError::Closed)));
        drop((subscription, parked, topic.clone(), topic));
    }
}

// ------------------------------------------------------------------------------------------------- what panics

/// Panics when it is woken.
struct PanicsOnWake;

impl Wake for PanicsOnWake {
    fn wake(self: Arc<Self>) {
        panic!("as the test wants");
    }
}

fn panics_on_wake() -> Waker {
    Waker::from(Arc::new(PanicsOnWake))
}

/// A waker whose clone or drop panics, once it is told to.
fn panics_on(event: &'static str) -> Waker {
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            assert!(told(data) != "clone", "as the test wants");
            RawWaker::new(data, &VTABLE)
        },
        |_| {},
        |_| {},
        |data| {
            assert!(told(data) != "drop", "as the test wants");
        },
    );
    fn told(data: *const ()) -> &'static str {
        // SAFETY: made below from a reference that lives for ever.
        unsafe { *data.cast::<&'static str>() }
    }
    let event: &'static &'static str = Box::leak(Box::new(event));
    // SAFETY: the functions look at data that is never freed, and count nothing.
    unsafe { Waker::new(std::ptr::from_ref(event).cast(), &VTABLE) }
}

#[test]
fn a_waker_that_panics_keeps_no_other_from_its_wake() {
    // In the first waiter, in small and in large groups.
    for at in [0, 1, 8, 30, 99, 199] {
        let hub = Hub::new();
        let mut all: Vec<_> = (0..200).map(|_| hub.subscribe("a").unwrap()).collect();
        let (woken, waker) = Wakes::new();
        for (n, subscription) in all.iter_mut().enumerate() {
            let panics = n == at || n == (at + 1) % 200;
            park(
                subscription,
                if panics {
                    const { Waker::noop() }
                } else {
                    &waker
                },
            );
            if panics {
                park(subscription, &panics_on_wake());
            }
        }
        let publishing = catch_unwind(AssertUnwindSafe(|| publish(&hub, "a", "x")));
        assert!(publishing.is_err(), "the publisher sees the panic");
        assert_eq!(woken.count(), 198);
        // It was published all the same, and later ones work.
        publish(&hub, "a", "y");
        for subscription in &mut all {
            assert_eq!(Way::TryRecv.read(subscription), events(["x", "y"]));
            park(subscription, &waker);
        }
        publish(&hub, "a", "z");
        assert_eq!(woken.count(), 398);
    }
}

/// The frame is in the logs of all topics before, or in spite of, a waker that panics in one of them.
#[test]
fn a_waker_that_panics_keeps_no_other_topic_from_its_event() {
    let keys: Vec<String> = (0..8).map(|n| format!("topic {n}")).collect();
    let hub = Hub::new();
    let mut panicking = hub.subscribe("topic 3").unwrap();
    let mut all: Vec<_> = keys
        .iter()
        .map(|key| hub.subscribe(key.as_str()).unwrap())
        .collect();
    park(&mut panicking, &panics_on_wake());
    let publishing = catch_unwind(AssertUnwindSafe(|| {
        let _ = hub
            .publish_many(keys.iter().map(String::as_str), Event::text("x"))
            .unwrap();
    }));
    assert!(publishing.is_err(), "the publisher sees the panic");
    for (key, subscription) in keys.iter().zip(&mut all) {
        assert_eq!(Way::TryRecv.read(subscription), events(["x"]), "{key}");
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_topic_from_its_end() {
    let hub = Hub::new();
    let mut panicking: Vec<_> = (0..4)
        .map(|n| hub.subscribe(format!("panics {n}").as_str()).unwrap())
        .collect();
    let mut all: Vec<_> = (0..32)
        .map(|n| hub.subscribe(format!("topic {n}").as_str()).unwrap())
        .collect();
    let (woken, waker) = Wakes::new();
    for subscription in &mut panicking {
        park(subscription, &panics_on_wake());
    }
    for subscription in &mut all {
        park(subscription, &waker);
    }
    let closing = catch_unwind(AssertUnwindSafe(|| hub.close()));
    assert!(closing.is_err(), "the closer sees the panic");
    assert_eq!(woken.count(), 32);
    for subscription in all.iter_mut().chain(&mut panicking) {
        assert_eq!(Way::Recv.read(subscription), [Got::End]);
    }
}

#[test]
fn a_waker_whose_clone_panics_leaves_the_subscription_usable() {
    let hub = Hub::new();
    for first in [true, false] {
        let keep = (!first).then(|| hub.subscribe("a").unwrap());
        let mut subscription = hub.subscribe("a").unwrap();
        let bad = panics_on("clone");
        let polling = catch_unwind(AssertUnwindSafe(|| {
            subscription
                .poll_recv(&mut Context::from_waker(&bad))
                .is_ready()
        }));
        assert!(polling.is_err());
        let (woken, waker) = Wakes::new();
        park(&mut subscription, &waker);
        publish(&hub, "a", "x");
        assert_eq!(woken.count(), 1);
        assert_eq!(Way::TryRecv.read(&mut subscription), events(["x"]));
        drop((subscription, keep));
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    }
}

#[test]
fn a_waker_whose_drop_panics_does_not_spoil_the_counts() {
    for first in [true, false] {
        let hub = Hub::new();
        let keep = (!first).then(|| hub.subscribe("a").unwrap());
        let mut subscription = hub.subscribe("a").unwrap();
        let bad = std::mem::ManuallyDrop::new(panics_on("drop"));
        park(&mut subscription, &bad);
        let leaving = catch_unwind(AssertUnwindSafe(|| drop(subscription)));
        assert!(leaving.is_err());
        drop(keep);
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    }
}

/// Publishes when it is woken, subscribes, and drops: user code may do anything.
struct Busybody(Hub, AtomicUsize);

impl Wake for Busybody {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        let mut own = self.0.subscribe("a").unwrap();
        publish(&self.0, "a", "from the waker");
        assert_eq!(frame(own.try_recv()).data(), "from the waker");
        publish(&self.0, "b", "to another topic");
        drop(self.0.topic("c").unwrap());
    }
}

#[test]
fn a_waker_may_use_the_hub() {
    let hub = Hub::new();
    let busybody = Arc::new(Busybody(hub.clone(), AtomicUsize::new(0)));
    let mut all: Vec<_> = (0..20).map(|_| hub.subscribe("a").unwrap()).collect();
    for subscription in &mut all {
        park(subscription, &Waker::from(busybody.clone()));
    }
    publish(&hub, "a", "x");
    assert_eq!(busybody.1.load(Ordering::SeqCst), 20);
    let mut expected = events(["x"]);
    expected.extend(events(["from the waker"; 20]));
    for subscription in &mut all {
        assert_eq!(Way::TryRecv.read(subscription), expected);
    }
}

// ------------------------------------------------------------------------------------------------- many threads

#[test]
fn counts_are_exact_after_churn() {
    const THREADS: usize = 4;
    let hub = Hub::new();
    let start = Barrier::new(THREADS);
    let kept: Vec<Subscription> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (hub, start) = (&hub, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut mine = Vec::new();
                    for n in 0..3_000 {
                        let key = ["a", "b", "c"][(n + thread) % 3];
                        mine.push(hub.subscribe(key).unwrap());
                        if n % 7 == 0 {
                            drop(hub.topic(key).unwrap());
                        }
                        let published = hub.publish(key, Event::text("x")).unwrap();
                        assert!(published.subscribers() >= 1, "one's own, at least");
                        if n % 5 != 0 {
                            let mut leaving = mine.swap_remove(n * 31 % mine.len());
                            // A publisher that was preempted may hold its event back for a moment.
                            let began = Instant::now();
                            while n >= 20 && leaving.try_recv().is_err() {
                                assert!(began.elapsed() < Duration::from_secs(30));
                                thread::yield_now();
                            }
                        }
                        if mine.len() > 20 {
                            mine.truncate(3);
                        }
                    }
                    mine
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(hub.subscribers(), kept.len());
    let by_topic: usize = ["a", "b", "c"]
        .map(|key| hub.subscribers_of(key))
        .iter()
        .sum();
    assert_eq!(by_topic, kept.len());
    assert_eq!(hub.topics(), hub.keys().len());
    drop(kept);
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

/// Subscribe, publish, receive: on topics that live and die with each round, a subscription gets what its own thread
/// publishes after it, whatever others do to the topic.
#[test]
fn a_topic_that_dies_takes_no_new_subscriber_with_it() {
    const THREADS: usize = 4;
    // No lag, however long a thread is preempted.
    let hub = Hub::builder()
        .retain_events(1 << 20)
        .retain_bytes(1 << 30)
        .build()
        .unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (hub, start) = (&hub, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..3_000 {
                    let mut subscription = hub.subscribe("a").unwrap();
                    let token = format!("{thread} {n}");
                    publish(hub, "a", &token);
                    loop {
                        match block_on(subscription.recv()) {
                            Some(Item::Frame(frame)) if frame.data() == token => break,
                            Some(Item::Frame(_)) => {}
                            other => panic!("{other:?} instead of {token}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn a_join_storm_ends_and_so_does_the_leaving() {
    const THREADS: usize = 4;
    let hub = Hub::new();
    let all: Vec<Subscription> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let hub = &hub;
                scope.spawn(move || {
                    let join = |_| hub.subscribe("a").unwrap();
                    (0..5_000).map(join).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(hub.subscribers_of("a"), all.len());
    let published = hub.publish("a", Event::text("x")).unwrap();
    assert_eq!(published.subscribers(), all.len());
    let mut parts: Vec<Vec<_>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (n, subscription) in all.into_iter().enumerate() {
        parts[n % THREADS].push(subscription);
    }
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || {
                for mut subscription in part {
                    assert_eq!(frame(subscription.try_recv()).data(), "x");
                }
            });
        }
    });
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn close_against_publish_and_subscribe() {
    for _ in 0..200 {
        let hub = Hub::new();
        let start = Barrier::new(3);
        thread::scope(|scope| {
            let (hub, start) = (&hub, &start);
            let mut subscription = hub.subscribe("a").unwrap();
            let publishing = scope.spawn(move || {
                start.wait();
                let accepted = |_: &u64| hub.publish("a", Event::text("x")).is_ok();
                (0..1000).take_while(accepted).count()
            });
            let subscribing = scope.spawn(move || {
                start.wait();
                while let Ok(mut late) = hub.subscribe("a") {
                    while let Poll::Ready(Some(_)) =
                        late.poll_recv(&mut Context::from_waker(Waker::noop()))
                    {
                    }
                }
            });
            start.wait();
            hub.close();
            let accepted = publishing.join().unwrap();
            subscribing.join().unwrap();
            let got = Way::Recv.read(&mut subscription);
            assert_eq!(got.len(), accepted + 1, "what was accepted, and the end");
            assert_eq!(got.last(), Some(&Got::End));
        });
        assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
    }
}
