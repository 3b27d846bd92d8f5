//! Connections that are ended from outside, and what is kept for them.

use super::{CloseReason, Rig, STALL, Sim, count, token};
use crate::sync::HostArc;
use crate::{EndReason, Envelope, Event, Hub, LagPolicy};

const REASON: EndReason = EndReason::Replaced;

fn notice() -> String {
    format!(": {REASON}\n\n")
}

fn text(sim: &Sim) -> String {
    String::from_utf8(sim.wire().received.clone()).unwrap()
}

fn publish(hub: &Hub, key: &str, text: &str) {
    let _ = hub.publish(key, Event::text(text)).unwrap();
}

fn reasons(rig: &Rig) -> Vec<CloseReason> {
    rig.shard.gone.iter().map(|gone| gone.reason).collect()
}

#[test]
fn one_in_sync_is_told_and_closed() {
    for topics in [1, 2] {
        for wrapped in [false, true] {
            let hub = Hub::new();
            let mut rig = Rig::new();
            let (sim, other) = (Sim::with_room(usize::MAX), Sim::with_room(usize::MAX));
            let mut subscriptions: Vec<_> = (0..topics)
                .map(|topic: usize| hub.subscribe(topic.to_string().as_str()).unwrap())
                .collect();
            let handle = subscriptions.last_mut().unwrap().end_handle();
            if wrapped {
                let envelope = Envelope::new("<", ">").unwrap();
                subscriptions = subscriptions
                    .into_iter()
                    .map(|subscription| subscription.envelope(envelope.clone()))
                    .collect();
            }
            let key = rig.join(&sim, subscriptions);
            rig.join(&other, vec![hub.subscribe("0").unwrap()]);
            rig.settle();
            publish(&hub, "0", "before");
            rig.settle();
            publish(&hub, "0", "not begun");
            assert!(handle.end(REASON));
            assert!(!handle.end(EndReason::Requested), "once");
            // Before the event is heard of.
            let ended = rig.inbox.next_command().unwrap();
            assert_eq!((ended, rig.inbox.next_command()), (key, None));
            rig.shard.end(ended);
            assert!(sim.wire().closed && !other.wire().closed);
            let received = text(&sim);
            assert!(received.ends_with(&notice()), "{received}");
            assert!(received.contains("before") && !received.contains("not begun"));
            assert_eq!(reasons(&rig), [CloseReason::Ended(REASON)]);
            // Stale.
            rig.shard.end(key);
            rig.settle();
            assert_eq!(hub.subscribers(), 1);
            assert!(text(&other).contains("not begun"));
        }
    }
}

#[test]
fn one_whose_socket_is_full_is_closed_when_it_took_the_notice() {
    for step in [1, 5, usize::MAX] {
        // In sync without room; behind; behind amid an entry; with the opening unsent.
        for (opening, room) in [
            (usize::MAX, None),
            (usize::MAX, Some(0)),
            (usize::MAX, Some(9)),
            (3, Some(0)),
        ] {
            let hub = Hub::new();
            let mut rig = Rig::new();
            let sim = Sim::with_room(opening);
            let mut subscription = hub.subscribe("t").unwrap();
            let handle = subscription.end_handle();
            rig.join(&sim, vec![subscription]);
            rig.settle();
            sim.wire().room = room.unwrap_or(0);
            if room.is_some() {
                publish(&hub, "t", "in the middle");
                rig.settle();
                publish(&hub, "t", "not begun");
                rig.settle();
            }
            assert!(handle.end(REASON));
            rig.settle();
            assert!(!sim.wire().closed);
            while !sim.wire().closed {
                sim.wire().room = step;
                rig.writable(&sim);
                rig.settle();
            }
            let received = text(&sim);
            assert!(received.ends_with(&notice()), "{received}");
            assert!(received.starts_with("HEAD\n\n"), "{received}");
            assert_eq!(received.contains("in the middle"), room == Some(9));
            assert!(!received.contains("not begun"));
            assert_eq!(reasons(&rig), [CloseReason::Ended(REASON)]);
            assert_eq!(hub.subscribers(), 0);
        }
    }
}

#[test]
fn one_that_never_takes_the_notice_stalls() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let sim = Sim::with_room(6);
    let mut subscription = hub.subscribe("t").unwrap();
    let handle = subscription.end_handle();
    rig.join(&sim, vec![subscription]);
    rig.settle();
    assert!(handle.end(REASON));
    rig.settle();
    assert!(!sim.wire().closed);
    for now in 1..=STALL {
        rig.shard.tick(now);
        rig.settle();
    }
    assert_eq!(reasons(&rig), [CloseReason::Stalled]);
    assert_eq!(hub.subscribers(), 0);
}

#[test]
fn one_that_was_ended_before_it_came_gets_the_opening_and_the_notice() {
    let all = [
        (REASON, false),
        (REASON, true),
        (EndReason::TopicClosed, true),
    ];
    for (reason, read) in all {
        let hub = Hub::new();
        let mut rig = Rig::new();
        let sim = Sim::with_room(usize::MAX);
        let mut subscription = hub.subscribe("t").unwrap();
        let handle = subscription.end_handle();
        let (drops, kept) = token();
        subscription.keep(kept);
        publish(&hub, "t", "not begun");
        assert!(handle.end(reason));
        if read {
            assert!(subscription.try_recv().is_err());
        }
        rig.join(&sim, vec![subscription, hub.subscribe("other").unwrap()]);
        rig.settle();
        assert_eq!(text(&sim), format!("HEAD\n\n: {reason}\n\n"));
        assert_eq!(reasons(&rig), [CloseReason::of_end(reason)]);
        assert_eq!((count(&drops), hub.subscribers()), (1, 0));
        assert!(!handle.end(REASON));
    }
}

#[test]
fn a_handle_finds_nobody_when_the_connection_is_gone() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let sim = Sim::with_room(usize::MAX);
    let mut subscription = hub.subscribe("t").unwrap();
    let handle = subscription.end_handle();
    let key = rig.join(&sim, vec![subscription]);
    rig.settle();
    rig.shard.close(key, CloseReason::PeerClosed);
    assert!(!handle.end(REASON));
    assert_eq!(rig.inbox.next_command(), None);
    assert_eq!(HostArc::strong_count(&rig.inbox), rig.inbox_owners);
}

#[test]
fn what_is_kept_outlives_the_subscription_and_goes_with_the_connection() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let (sim, other) = (Sim::with_room(usize::MAX), Sim::with_room(usize::MAX));
    let subscribe = |key: &str| {
        let mut subscription = hub.subscribe(key).unwrap();
        let (drops, kept) = token();
        subscription.keep(kept);
        (subscription, drops)
    };
    let (subscription, drops) = subscribe("t");
    let (twice, given_twice) = subscribe("t");
    let key = rig.join(&sim, vec![subscription, twice]);
    assert_eq!(count(&given_twice), 1, "the topic is read once");
    let (subscription, of_another) = subscribe("t");
    rig.join(&other, vec![subscription]);
    rig.settle();
    publish(&hub, "t", "a");
    rig.settle();
    assert_eq!((count(&drops), count(&of_another)), (0, 0));
    // Behind, and back.
    sim.wire().room = 0;
    publish(&hub, "t", "b");
    rig.settle();
    sim.wire().room = usize::MAX;
    rig.writable(&sim);
    rig.settle();
    assert_eq!((count(&drops), hub.subscribers()), (0, 2));
    rig.shard.close(key, CloseReason::PeerClosed);
    assert_eq!((count(&drops), count(&of_another)), (1, 0));
    while rig.shard.close_some(7, CloseReason::Shutdown) {}
    assert_eq!((count(&drops), count(&of_another)), (1, 1));
    assert_eq!(hub.subscribers(), 0);
}

/// A stream of several may end before its connection: in sync, and behind.
#[test]
fn what_is_kept_for_a_topic_goes_when_the_topic_has_ended() {
    for room in [usize::MAX, 0] {
        let (hub, other) = (Hub::new(), Hub::new());
        let mut rig = Rig::new();
        let sim = Sim::with_room(usize::MAX);
        let mut first = hub.subscribe("t").unwrap();
        let mut second = other.subscribe("t").unwrap();
        let (of_first, kept) = token();
        first.keep(kept);
        let handle = first.end_handle();
        let (of_second, kept) = token();
        second.keep(kept);
        rig.join(&sim, vec![first, second]);
        rig.settle();
        sim.wire().room = room;
        publish(&hub, "t", "last");
        rig.settle();
        hub.close();
        sim.wire().room = usize::MAX;
        rig.writable(&sim);
        rig.settle();
        assert_eq!((count(&of_first), count(&of_second)), (1, 0));
        assert!(!handle.end(REASON) && !sim.wire().closed);
        other.close();
        rig.settle();
        assert_eq!((count(&of_first), count(&of_second)), (1, 1));
        assert_eq!(reasons(&rig), [CloseReason::TopicClosed]);
    }
}

/// What panics when it is dropped.
struct Bomb(Hub);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert_eq!(self.0.subscribers_of("bomb"), 0, "it is counted out before");
        panic!("a bomb");
    }
}

#[test]
fn a_drop_that_panics_hurts_no_other_connection() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let sims = [(); 3].map(|()| Sim::with_room(usize::MAX));
    for sim in &sims {
        let mut subscriptions = vec![hub.subscribe("t").unwrap(), hub.subscribe("bomb").unwrap()];
        for subscription in &mut subscriptions {
            subscription.keep(Box::new(Bomb(hub.clone())));
        }
        // One at a time has it, so that it is the last one.
        let key = rig.join(sim, subscriptions);
        rig.settle();
        rig.shard.close(key, CloseReason::PeerClosed);
        assert!(sim.wire().closed);
    }
    assert_eq!((hub.subscribers(), rig.shard.gone.len()), (0, 3));
}

/// Each connection that ended for lag is counted, whether it was in sync or behind.
#[test]
fn readers_that_lagged_are_counted() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let strict = |key: &str| {
        let subscription = hub.subscribe(key).unwrap();
        subscription.lag_policy(LagPolicy::Disconnect)
    };
    let mut rig = Rig::new();
    let sims: Vec<_> = (0..6).map(|_| Sim::with_room(usize::MAX)).collect();
    for (at, sim) in sims.iter().enumerate() {
        let mut subscriptions = vec![strict("t")];
        if at % 2 == 1 {
            subscriptions.push(strict("calm"));
        }
        rig.join(sim, subscriptions);
    }
    rig.settle();
    sims[0].wire().room = 10;
    sims[1].wire().room = 10;
    publish(&hub, "t", "first");
    rig.settle();
    for _ in 0..1000 {
        publish(&hub, "t", "lost");
    }
    rig.settle();
    // The notice does not fit either.
    sims[2].wire().room = 3;
    for sim in &sims {
        for room in [7, usize::MAX] {
            sim.wire().room = room;
            rig.writable(sim);
            rig.settle();
        }
    }
    assert_eq!(reasons(&rig), [CloseReason::Lagged; 6]);
    assert_eq!(hub.stats().lagged, 6);
    assert_eq!(hub.subscribers(), 0);
}
