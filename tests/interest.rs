//! Whether anybody listens: the first subscriber, the last one, and a grace for those who come back.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::similar_names,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Wakes, Way, block_on, events, eventually};
use fanfare::{Event, Hub, HubBuilder, Interest, Topic};
use futures_util::FutureExt as _;

const ROUNDS: usize = if cfg!(miri) { 20 } else { 3000 };

/// Longer than any test takes.
const HOUR: Duration = Duration::from_secs(3600);

/// A hub whose clock has short ticks: graces are measured in them.
fn quick() -> Hub {
    builder().build().unwrap()
}

fn builder() -> HubBuilder {
    Hub::builder().heartbeat(Duration::from_millis(60))
}

fn is_subscribed(interest: &mut Interest, waker: &Waker) -> bool {
    let mut cx = Context::from_waker(waker);
    pin!(interest.subscribed()).poll(&mut cx).is_ready()
}

fn is_deserted(interest: &mut Interest, waker: &Waker) -> bool {
    let mut cx = Context::from_waker(waker);
    pin!(interest.deserted(Duration::ZERO))
        .poll(&mut cx)
        .is_ready()
}

/// A waker that panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("as it was told");
    }
}

#[test]
fn the_first_comes_and_the_last_leaves() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut interest = topic.interest();
    let (woken, waker) = Wakes::new();
    assert!(
        is_deserted(&mut interest, &waker),
        "also if it never had one"
    );
    assert!(!is_subscribed(&mut interest, &waker));
    assert_eq!((interest.subscribers(), woken.count()), (0, 0));
    // Another topic is none of its business.
    drop(hub.subscribe("b").unwrap());
    assert_eq!(woken.count(), 0);

    let first = hub.subscribe("a").unwrap();
    assert_eq!(woken.count(), 1);
    assert!(is_subscribed(&mut interest, &waker));
    assert!(!is_deserted(&mut interest, &waker));
    let second = topic.subscribe().unwrap();
    drop(first);
    assert_eq!(interest.subscribers(), 1);
    assert!(!is_deserted(&mut interest, &waker), "one is left");
    let before = woken.count();
    drop(second);
    assert_eq!(woken.count(), before + 1);
    assert!(is_deserted(&mut interest, &waker));
    assert!(!is_subscribed(&mut interest, &waker));
}

#[test]
fn every_kind_of_subscription_counts() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let ways: [fn(&Hub, &Topic) -> fanfare::Subscription; 4] = [
        |hub, _| hub.subscribe("a").unwrap(),
        |_, topic| topic.subscribe().unwrap(),
        |hub, _| {
            hub.subscribe_from("a", fanfare::LastEventId::parse(b"x"))
                .unwrap()
        },
        |hub, _| {
            let taken = |_| std::future::ready(Ok::<_, ()>(fanfare::Snapshot::default()));
            hub.subscribe_with_snapshot("a", taken)
                .now_or_never()
                .unwrap()
                .unwrap()
        },
    ];
    for subscribe in ways {
        let mut interest = topic.interest();
        let (woken, waker) = Wakes::new();
        assert!(!is_subscribed(&mut interest, &waker));
        let subscription = subscribe(&hub, &topic);
        assert_eq!(woken.count(), 1);
        assert!(!is_deserted(&mut interest, &waker));
        #[cfg(feature = "axum")]
        let subscription = subscription.into_sse().into_body();
        assert_eq!(interest.subscribers(), 1);
        drop(subscription);
        assert_eq!(woken.count(), 2);
    }
}

#[test]
fn it_keeps_the_topic_as_a_handle_does() {
    let hub = Hub::new();
    let interest = hub.topic("a").unwrap().interest();
    assert_eq!((hub.topics(), hub.subscribers()), (1, 0));
    assert!(format!("{interest:?}").contains("subscribers: 0"));
    drop(interest);
    assert_eq!(hub.topics(), 0);
}

#[test]
fn several_watchers_are_all_told() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut watchers: Vec<_> = (0..5).map(|_| (topic.interest(), Wakes::new())).collect();
    let mut elsewhere = hub.topic("b").unwrap().interest();
    let (elsewhere_woken, elsewhere_waker) = Wakes::new();
    assert!(!is_subscribed(&mut elsewhere, &elsewhere_waker));
    for (interest, (_, waker)) in &mut watchers {
        assert!(!is_subscribed(interest, waker));
    }
    let (gone, (gone_woken, _)) = watchers.remove(2);
    drop(gone);
    let subscription = hub.subscribe("a").unwrap();
    for (_, (woken, _)) in &watchers {
        assert_eq!(woken.count(), 1);
    }
    assert_eq!(gone_woken.count(), 0, "dropped before");
    assert_eq!(elsewhere_woken.count(), 0, "of another topic");
    // Only those who wait again are told again.
    let (interest, (_, waker)) = &mut watchers[0];
    assert!(!is_deserted(interest, waker));
    drop(subscription);
    let told: Vec<_> = watchers
        .iter()
        .map(|(_, (woken, _))| woken.count())
        .collect();
    assert_eq!(told, [2, 1, 1, 1]);
}

#[test]
fn only_the_last_waker_is_woken() {
    let hub = Hub::new();
    let mut interest = hub.topic("a").unwrap().interest();
    let ((first, first_waker), (last, last_waker)) = (Wakes::new(), Wakes::new());
    assert!(!is_subscribed(&mut interest, &first_waker));
    assert!(!is_subscribed(&mut interest, &last_waker));
    drop(first_waker);
    assert_eq!(Arc::strong_count(&first), 1, "let go");
    let _subscription = hub.subscribe("a").unwrap();
    assert_eq!((first.count(), last.count()), (0, 1));
}

#[test]
fn a_grace_is_waited_for() {
    let hub = quick();
    let mut interest = hub.topic("a").unwrap().interest();
    for grace in [1, 7, 40].map(Duration::from_millis) {
        let subscription = hub.subscribe("a").unwrap();
        block_on(interest.subscribed()).unwrap();
        let left = Instant::now();
        drop(subscription);
        block_on(interest.deserted(grace));
        assert!(left.elapsed() >= grace);
    }
}

#[test]
fn nobody_is_woken_within_the_grace() {
    let hub = quick();
    let mut interest = hub.topic("a").unwrap().interest();
    let subscription = hub.subscribe("a").unwrap();
    let (woken, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    let mut deserted = pin!(interest.deserted(HOUR));
    assert!(deserted.as_mut().poll(&mut cx).is_pending());
    drop(subscription);
    assert_eq!(woken.count(), 1, "the last one has left");
    assert!(
        deserted.as_mut().poll(&mut cx).is_pending(),
        "the grace begins"
    );
    // Many ticks of the clock later.
    block_on(
        hub.topic("b")
            .unwrap()
            .interest()
            .deserted(Duration::from_millis(30)),
    );
    assert_eq!(woken.count(), 1);
    // Somebody is back: the grace is over, and begins anew when that one leaves.
    let back = hub.subscribe("a").unwrap();
    assert!(deserted.as_mut().poll(&mut cx).is_pending());
    drop(back);
    assert!(deserted.as_mut().poll(&mut cx).is_pending());
    drop(hub.subscribe("a").unwrap());
    assert!(deserted.as_mut().poll(&mut cx).is_pending());
}

/// Who came and left between two polls has been there all the same.
#[test]
fn the_grace_begins_anew_for_one_who_was_never_seen() {
    let hub = quick();
    let grace = Duration::from_millis(200);
    let mut interest = hub.topic("a").unwrap().interest();
    let mut deserted = pin!(interest.deserted(grace));
    assert!(deserted.as_mut().now_or_never().is_none());
    block_on(hub.topic("b").unwrap().interest().deserted(grace / 2));
    let back = hub.subscribe("a").unwrap();
    let left = Instant::now();
    drop(back);
    block_on(deserted);
    assert!(left.elapsed() >= grace);
}

#[test]
fn a_wait_that_is_dropped_loses_nothing() {
    let hub = quick();
    let mut interest = hub.topic("a").unwrap().interest();
    assert!(interest.subscribed().now_or_never().is_none());
    let subscription = hub.subscribe("a").unwrap();
    assert!(
        interest.subscribed().now_or_never().is_some(),
        "not told, and still there"
    );
    assert!(interest.deserted(HOUR).now_or_never().is_none());
    drop(subscription);
    assert!(interest.deserted(HOUR).now_or_never().is_none());
    assert!(interest.deserted(Duration::ZERO).now_or_never().is_some());
    assert!(interest.deserted(Duration::MAX).now_or_never().is_none());
}

#[test]
fn a_closed_topic_is_deserted_when_its_readers_are_gone() {
    let hub = Hub::new();
    let mut interest = hub.topic("a").unwrap().interest();
    let subscription = hub.subscribe("a").unwrap();
    let (woken, waker) = Wakes::new();
    hub.close();
    assert!(!is_deserted(&mut interest, &waker));
    drop(subscription);
    assert_eq!(woken.count(), 1);
    assert!(is_deserted(&mut interest, &waker));
}

#[test]
fn the_hub_may_go_first() {
    let hub = quick();
    let mut interest = hub.topic("a").unwrap().interest();
    let subscription = hub.subscribe("a").unwrap();
    drop(hub);
    assert!(interest.deserted(Duration::ZERO).now_or_never().is_none());
    drop(subscription);
    block_on(interest.deserted(Duration::from_millis(5)));
}

#[test]
fn a_waker_that_panics_keeps_the_others_from_nothing() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let (mut bad, mut good) = (topic.interest(), topic.interest());
    let (woken, waker) = Wakes::new();
    let panics = Waker::from(Arc::new(Panics));
    assert!(!is_subscribed(&mut bad, &panics));
    assert!(!is_subscribed(&mut good, &waker));
    // It takes the subscription down with it, and the news that it came with it.
    let came = catch_unwind(AssertUnwindSafe(|| hub.subscribe("a")));
    assert!(came.is_err());
    assert!(woken.count() >= 1);
    assert_eq!((hub.subscribers(), topic.subscribers()), (0, 0));

    // Out of a drop nothing panics.
    let subscription = hub.subscribe("a").unwrap();
    assert!(!is_deserted(&mut bad, &panics));
    assert!(!is_deserted(&mut good, &waker));
    let before = woken.count();
    drop(subscription);
    assert_eq!(woken.count(), before + 1);
    assert_eq!(hub.subscribers(), 0);
}

/// A publisher that is woken because somebody came may publish at once.
#[test]
fn the_first_subscriber_gets_what_is_published_because_it_came() {
    struct Publishes(Topic);
    impl Wake for Publishes {
        fn wake(self: Arc<Self>) {
            let published = self.0.publish(Event::text("welcome")).unwrap();
            assert_eq!(published.subscribers(), 1);
        }
    }
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut interest = topic.interest();
    let waker = Waker::from(Arc::new(Publishes(topic)));
    assert!(!is_subscribed(&mut interest, &waker));
    let mut subscription = hub.subscribe("a").unwrap();
    assert_eq!(Way::TryRecv.read(&mut subscription), events(["welcome"]));
}

#[test]
fn a_dropped_interest_lets_its_waker_go() {
    let hub = quick();
    let mut interest = hub.topic("a").unwrap().interest();
    let (woken, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    assert!(pin!(interest.deserted(HOUR)).poll(&mut cx).is_pending());
    drop(interest);
    drop(waker);
    eventually("the waker to go", || Arc::strong_count(&woken) == 1);
}

#[test]
fn news_is_not_lost_between_threads() {
    for watchers in [1, 3] {
        let hub = Hub::new();
        let topic = hub.topic("a").unwrap();
        let seen = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..watchers {
                scope.spawn(|| {
                    let mut interest = topic.interest();
                    for _ in 0..ROUNDS {
                        block_on(interest.subscribed()).unwrap();
                        seen.fetch_add(1, Ordering::SeqCst);
                        block_on(interest.deserted(Duration::ZERO));
                        seen.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for round in 0..ROUNDS {
                let all = |times: usize| {
                    eventually("all watchers", || {
                        thread::yield_now();
                        seen.load(Ordering::SeqCst) == times * watchers
                    });
                };
                let subscription = hub.subscribe("a").unwrap();
                all(2 * round + 1);
                drop(subscription);
                all(2 * round + 2);
            }
        });
    }
}

/// Interests come and go while subscribers do: who waits is told.
#[test]
fn an_interest_made_amid_a_subscribe_is_told() {
    for round in 0..ROUNDS {
        let hub = Hub::new();
        let topic = hub.topic("a").unwrap();
        thread::scope(|scope| {
            let comes = scope.spawn(|| hub.subscribe("a").unwrap());
            if round % 2 == 0 {
                drop(topic.interest());
            }
            block_on(topic.interest().subscribed()).unwrap();
            let subscription = comes.join().unwrap();
            scope.spawn(move || drop(subscription));
            block_on(topic.interest().deserted(Duration::ZERO));
        });
    }
}

/// Whoever waits for the first subscriber publishes as soon as it is told: from the waker itself, which runs within the
/// subscribe.
#[test]
fn what_is_published_when_somebody_comes_reaches_it() {
    struct Publishes(fanfare::Topic);

    impl std::task::Wake for Publishes {
        fn wake(self: Arc<Self>) {
            let published = self.0.publish(Event::text("first")).unwrap();
            assert_eq!(published.subscribers(), 1);
        }
    }

    let hub = Hub::new();
    let topic = hub.topic("run").unwrap();
    let mut interest = topic.interest();
    let waker = std::task::Waker::from(Arc::new(Publishes(topic.clone())));
    {
        let mut comes = std::pin::pin!(interest.subscribed());
        let mut cx = Context::from_waker(&waker);
        assert!(comes.as_mut().poll(&mut cx).is_pending());
    }
    let mut subscription = hub.subscribe("run").unwrap();
    let Ok(fanfare::Item::Frame(first)) = subscription.try_recv() else {
        panic!("the first event");
    };
    assert_eq!(first.data(), "first");
}

/// Nobody comes to what is closed.
#[test]
fn who_waits_for_somebody_is_told_that_nobody_will_come() {
    for close_hub in [false, true] {
        let hub = Hub::new();
        let topic = hub.topic("run").unwrap();
        let mut interest = topic.interest();
        let closing = {
            let (hub, topic) = (hub.clone(), topic.clone());
            thread::spawn(move || {
                if close_hub {
                    hub.close();
                } else {
                    topic.close();
                }
            })
        };
        assert!(block_on(interest.subscribed()).is_err());
        closing.join().unwrap();
        assert!(block_on(interest.subscribed()).is_err());
    }
}
