//! Many threads on the real crates: order, loss and duplicates per subscriber, lost wakes, counts.
//!
//! `FANFARE_STRESS=N` multiplies the events. Under miri the sizes are small. Also run under ThreadSanitizer
//! (`ci/tsan.sh`).

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::block_on;
use fanfare::{EndReason, Event, Frame, Hub, HubBuilder, Item, Lag, Subscription};

/// `full` events, or few under miri, times the knob.
fn sized(full: u64, under_miri: u64) -> u64 {
    let knob = std::env::var("FANFARE_STRESS").ok();
    let knob: u64 = knob.map_or(1, |knob| knob.parse().unwrap());
    knob * if cfg!(miri) { under_miri } else { full }
}

const PUBLISHERS: u64 = 3;
const READERS: u64 = if cfg!(miri) { 2 } else { 4 };

/// What a subscriber must see: offsets without a hole that is not told, each publisher's numbers in order.
#[derive(Debug)]
struct Checker {
    /// The offset of the last event or missed one.
    at: u64,
    /// The last number of each publisher.
    last: [Option<u64>; PUBLISHERS as usize],
    delivered: u64,
    missed: u64,
}

impl Checker {
    fn new(subscription: &Subscription) -> Self {
        Self {
            at: subscription.position().offset(),
            last: [None; PUBLISHERS as usize],
            delivered: 0,
            missed: 0,
        }
    }

    fn frame(&mut self, frame: &Frame) {
        let id = frame.id().unwrap();
        assert_eq!(id.offset(), self.at + 1, "no gap, no duplicate");
        self.at += 1;
        self.delivered += 1;
        let data = frame.data();
        let (publisher, number) = data.split_once(' ').unwrap();
        let (publisher, number): (usize, u64) =
            (publisher.parse().unwrap(), number.parse().unwrap());
        let last = self.last[publisher].replace(number);
        if let Some(last) = last {
            assert!(number > last, "order of a publisher");
            assert!(self.missed > 0 || number == last + 1, "all of a publisher");
        }
    }

    fn lag(&mut self, lag: Lag) {
        let missed = lag.missed().unwrap();
        assert!(missed > 0);
        self.at += missed;
        self.missed += missed;
        assert_eq!(lag.resumed_after().offset(), self.at);
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Frame(frame) => self.frame(&frame),
            Item::Lagged(lag) => self.lag(lag),
            other => panic!("{other:?}"),
        }
    }

    /// All that is visible in one batch.
    fn batch(&mut self, mut batch: fanfare::Batch<'_>) {
        if let Some(lag) = batch.lag() {
            self.lag(lag);
        }
        batch.for_each(|frame| self.frame(frame));
    }
}

/// Publishes `events` numbers, with a burst now and a pause then.
fn publish(hub: &Hub, publisher: u64, events: u64) {
    let topic = hub.topic("a").unwrap();
    for number in 0..events {
        let text = format!("{publisher} {number}");
        let event = Event::text(&text);
        let sent = if number % 3 == 0 {
            hub.publish("a", event)
        } else {
            topic.publish(event)
        };
        assert!(sent.unwrap().id().is_some());
        if number % 97 == publisher {
            thread::yield_now();
        }
    }
}

/// Reads with a parking waker until `total` offsets were seen.
fn read_on_a_thread(mut subscription: Subscription, total: u64, batches: bool) -> Checker {
    let mut checker = Checker::new(&subscription);
    while checker.at < total {
        if batches {
            let batch = block_on(subscription.recv_batch()).unwrap();
            checker.batch(batch);
        } else {
            checker.item(block_on(subscription.recv()).unwrap());
        }
    }
    checker
}

/// Reads on a task until `total` offsets were seen.
async fn read_on_a_task(mut subscription: Subscription, total: u64, batches: bool) -> Checker {
    let mut checker = Checker::new(&subscription);
    while checker.at < total {
        if batches {
            if let Some(batch) = subscription.recv_batch().await {
                checker.batch(batch);
            }
        } else {
            checker.item(subscription.recv().await.unwrap());
        }
    }
    checker
}

/// Subscribes for a while, reads some, leaves; again and again. Tells how often.
fn come_and_go(hub: &Hub, seed: u64, done: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !done.load(Ordering::Relaxed) {
        rounds += 1;
        let mut subscriptions: Vec<_> = (0..=(seed + rounds) % 12)
            .map(|_| hub.subscribe("a").unwrap())
            .collect();
        for (n, subscription) in subscriptions.iter_mut().enumerate() {
            let mut checker = Checker::new(subscription);
            if n % 4 == 3 {
                // Leaves while parked.
                let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
                if let std::task::Poll::Ready(item) = subscription.poll_recv(cx) {
                    checker.item(item.unwrap());
                }
                continue;
            }
            for _ in 0..n + 2 {
                match subscription.try_recv() {
                    Ok(item) => checker.item(item),
                    Err(_) => break,
                }
            }
            if let Ok(batch) = subscription.try_batch() {
                checker.batch(batch);
            }
        }
    }
    rounds
}

fn run(hub: &HubBuilder, events: u64, may_lag: bool) {
    let hub = hub.clone().build().unwrap();
    let keeper = hub.subscribe("a").unwrap();
    let total = PUBLISHERS * events;
    let done = AtomicBool::new(false);
    let start = Barrier::new((PUBLISHERS + READERS) as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..READERS * 4)
        .map(|n| {
            let subscription = hub.subscribe("a").unwrap();
            runtime.spawn(read_on_a_task(subscription, total, n % 2 == 0))
        })
        .collect();
    let mut checkers: Vec<Checker> = thread::scope(|scope| {
        let (hub, done, start) = (&hub, &done, &start);
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                let subscription = hub.subscribe("a").unwrap();
                scope.spawn(move || {
                    start.wait();
                    read_on_a_thread(subscription, total, n % 2 == 0)
                })
            })
            .collect();
        let goers: Vec<_> = (0..2)
            .map(|seed| scope.spawn(move || come_and_go(hub, seed, done)))
            .collect();
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || {
                start.wait();
                publish(hub, publisher, events);
            });
        }
        let checkers = readers.into_iter().map(|r| r.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        for goer in goers {
            assert!(goer.join().unwrap() > 0);
        }
        checkers
    });
    for task in tasks {
        checkers.push(block_on(task).unwrap());
    }
    checkers.push(read_on_a_thread(keeper, total, true));
    for checker in &checkers {
        assert_eq!(checker.delivered + checker.missed, total);
        assert!(may_lag || checker.missed == 0, "nothing to miss");
    }
    assert_eq!(hub.stats().published, total);
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn all_arrives_when_all_is_kept() {
    let events = sized(8_000, 20);
    let hub = Hub::builder()
        .retain_events((PUBLISHERS * events) as usize)
        .retain_bytes(1 << 40);
    run(&hub, events, false);
}

#[test]
fn what_is_missed_is_counted() {
    let hub = Hub::builder().retain_events(1);
    run(&hub, sized(8_000, 20), true);
}

/// Small limits of bytes, ages of a few ticks and a clock that is never idle: every way of eviction at once.
#[test]
fn every_way_of_eviction_at_once() {
    let quick = Duration::from_millis(10);
    let hub = Hub::builder()
        .retain_events(300)
        .retain_bytes(20_000)
        .max_event_bytes(1000)
        .retain_age(quick)
        .idle_after(quick)
        .heartbeat(Duration::from_millis(60));
    run(&hub, sized(8_000, 20), true);
}

/// One event at a time, to and fro: a lost wake would end it.
#[test]
fn no_wake_is_lost() {
    let rounds = sized(5_000, 30);
    let hub = Hub::new();
    let mut there = hub.subscribe("there").unwrap();
    let mut back = hub.subscribe("back").unwrap();
    // In the list, too, not only in the first waiter.
    let mut others: Vec<_> = (0..2).map(|_| hub.subscribe("there").unwrap()).collect();
    let answers = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                let item = block_on(there.recv()).unwrap();
                assert!(matches!(item, Item::Frame(frame) if frame.data() == round.to_string()));
                let _ = hub.publish("back", Event::json(&round)).unwrap();
            }
        });
        for other in &mut others {
            scope.spawn(|| {
                for round in 0..rounds {
                    let mut batch = block_on(other.recv_batch()).unwrap();
                    assert_eq!(batch.next_frame().unwrap().data(), round.to_string());
                    drop(batch);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..rounds {
            let _ = hub.publish("there", Event::json(&round)).unwrap();
            let item = block_on(back.recv()).unwrap();
            assert!(matches!(item, Item::Frame(frame) if frame.data() == round.to_string()));
        }
    });
    assert_eq!(answers.into_inner(), 2 * rounds);
}

/// Readers are given up while they stand still, park, read on or go, and newcomers take their places. Nobody's events or wakes
/// are another's, and each is counted out once.
#[test]
fn who_is_given_up_leaves_its_place() {
    // Each round one more of a thread's readers stands still.
    let rounds = sized(1_500, 12);
    let hub = Hub::builder().evict_after(Duration::from_millis(10));
    let hub = hub.build().unwrap();
    let topic = hub.topic("a").unwrap();
    let (done, silent) = (AtomicBool::new(false), AtomicBool::new(false));
    let given_up = AtomicU64::new(0);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            // Always at a place that may have been another's: a lost wake would end it.
            while !done.load(Ordering::Relaxed) {
                let mut subscription = hub.subscribe("a").unwrap();
                let mut checker = Checker::new(&subscription);
                if let Some(item) = block_on(subscription.recv()) {
                    checker.item(item);
                }
            }
        });
        let readers = [(); READERS as usize].map(|()| {
            scope.spawn(|| {
                let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
                let mut readers = std::collections::VecDeque::new();
                for round in 0..rounds {
                    let before = hub.stats().evicted;
                    let subscription = hub.subscribe("a").unwrap();
                    let checker = Checker::new(&subscription);
                    readers.push_back((subscription, checker));
                    if readers.len() > 20 {
                        let (mut oldest, mut checker) = readers.pop_front().unwrap();
                        // Some notice, some go without.
                        while round % 3 > 0 && oldest.end_reason().is_none() {
                            match oldest.poll_recv(cx) {
                                std::task::Poll::Ready(Some(item)) => checker.item(item),
                                std::task::Poll::Ready(None) => {
                                    assert_eq!(oldest.end_reason(), Some(EndReason::Evicted));
                                    given_up.fetch_add(1, Ordering::Relaxed);
                                }
                                std::task::Poll::Pending => break,
                            }
                        }
                    }
                    let at = (round % 7) as usize % readers.len();
                    let (reader, checker) = &mut readers[at];
                    if round % 2 > 0
                        && let std::task::Poll::Ready(Some(item)) = reader.poll_recv(cx)
                    {
                        checker.item(item);
                    }
                    // However fast the machine is, they stand still for long enough: the newest is not evicted yet.
                    while round % 24 == 5 && hub.stats().evicted == before {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        });
        scope.spawn(|| {
            for number in 0.. {
                let text = format!("0 {number}");
                let _ = topic.publish(Event::text(&text)).unwrap();
                if silent.load(Ordering::Relaxed) {
                    break;
                }
                thread::yield_now();
            }
        });
        for reader in readers {
            reader.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        waits.join().unwrap();
        silent.store(true, Ordering::Relaxed);
    });
    assert_eq!(hub.subscribers(), 0);
    assert_eq!(topic.subscribers(), 0);
    let evicted = hub.stats().evicted;
    assert!(evicted >= given_up.into_inner());
    assert!(evicted > 0, "nobody was given up");
}

/// Topics that live for an instant, on few keys and many threads.
#[test]
fn topics_that_live_for_an_instant() {
    let rounds = sized(3_000, 20);
    let hub = Hub::<u64>::default();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..rounds {
                    let key = round % 3;
                    let token = next.fetch_add(1, Ordering::Relaxed).to_string();
                    let mut subscription = hub.subscribe(&key).unwrap();
                    let mut checker_at = subscription.position().offset();
                    let published = hub.publish(&key, Event::text(&token)).unwrap();
                    let id = published.id().unwrap();
                    assert_eq!(id.epoch(), subscription.position().epoch());
                    while checker_at < id.offset() {
                        match block_on(subscription.recv()).unwrap() {
                            Item::Frame(frame) => {
                                checker_at += 1;
                                assert_eq!(frame.id().unwrap().offset(), checker_at);
                                assert!(checker_at < id.offset() || frame.data() == token);
                            }
                            Item::Lagged(lag) => checker_at += lag.missed().unwrap(),
                            other => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}
