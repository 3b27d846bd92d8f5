//! Caps on connections and topics: who is above them is refused with the limit and the number, and nothing else happens.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use axum::response::IntoResponse as _;
use fanfare::{
    Broadcaster, Event, EventError, Hub, PublishError, SnapshotError, SubscribeError, UserId,
};

fn refused<T>(result: Result<T, SubscribeError>) -> SubscribeError {
    result.map(drop).expect_err("taken in above the limit")
}

#[test]
fn a_hub_has_so_many_connections() {
    let hub = Hub::builder().max_connections(2).build().unwrap();
    let first = hub.subscribe("a").unwrap();
    let handle = hub.topic("b").unwrap();
    let second = handle.subscribe().unwrap();
    let full = SubscribeError::TooManyConnections {
        limit: 2,
        connections: 2,
    };
    assert_eq!(refused(hub.subscribe("c")), full);
    assert_eq!(refused(hub.subscribe_from("a", None)), full);
    assert_eq!(refused(handle.subscribe()), full);
    assert_eq!(hub.subscribers(), 2);
    assert_eq!(hub.topics(), 2, "nothing is made for who is refused");
    // Whoever goes makes room, and whoever could not be taken in took none.
    drop(first);
    let third = hub.subscribe("c").unwrap();
    assert_eq!(refused(hub.subscribe("c")), full);
    drop((second, third));
    handle.close();
    assert_eq!(refused(handle.subscribe()), SubscribeError::Closed);
    let _two = (hub.subscribe("a").unwrap(), hub.subscribe("a").unwrap());
    hub.close();
    assert_eq!(refused(hub.subscribe("a")), full, "told first");
}

#[test]
fn a_topic_has_so_many_connections() {
    let hub = Hub::builder().max_connections_per_topic(1).build().unwrap();
    let tab = hub.subscribe("user:1").unwrap();
    let full = SubscribeError::TopicFull {
        limit: 1,
        connections: 1,
    };
    assert_eq!(refused(hub.subscribe("user:1")), full);
    let handle = hub.topic("user:1").unwrap();
    assert_eq!(refused(handle.subscribe()), full);
    let other = hub.subscribe("user:2").unwrap();
    assert_eq!(hub.subscribers(), 2);
    drop(tab);
    assert!(hub.subscribe("user:1").is_ok());
    drop(other);
    assert_eq!(
        full.to_string(),
        "the topic has 1 connections; the limit (max_connections_per_topic) is 1"
    );
}

#[test]
fn a_hub_has_so_many_topics() {
    let hub = Hub::builder().max_topics(1).history(true).build().unwrap();
    let _ = hub.publish("a", Event::text("kept")).unwrap();
    let full = SubscribeError::TooManyTopics {
        limit: 1,
        topics: 1,
    };
    assert_eq!(refused(hub.subscribe("b")), full);
    assert_eq!(refused(hub.topic("b")), full);
    let published = hub.publish("b", Event::text("lost"));
    assert!(matches!(
        published,
        Err(PublishError::TooManyTopics {
            limit: 1,
            topics: 1
        })
    ));
    // What is there goes on.
    let reader = hub.subscribe("a").unwrap();
    assert_eq!(
        hub.publish("a", Event::text("kept")).unwrap().subscribers(),
        1
    );
    // A closed topic counts as long as it is read.
    hub.topic("a").unwrap().close();
    assert_eq!(refused(hub.subscribe("b")), full);
    drop(reader);
    assert!(hub.subscribe("b").is_ok());
}

/// Without history nothing is made for an event that nobody waits for.
#[test]
fn publishing_to_nobody_needs_no_topic() {
    let hub = Hub::builder().max_topics(1).build().unwrap();
    let _reader = hub.subscribe("a").unwrap();
    let published = hub.publish("b", Event::text("to nobody")).unwrap();
    assert_eq!(published.subscribers(), 0);
}

#[test]
fn many_threads_never_pass_a_limit() {
    const LIMIT: usize = 10;
    let hub = Hub::builder()
        .max_connections(LIMIT)
        .max_connections_per_topic(6)
        .max_topics(3)
        .build()
        .unwrap();
    thread::scope(|scope| {
        for number in 0..4_usize {
            let hub = &hub;
            scope.spawn(move || {
                for round in 0..2000 {
                    let key = ((number + round) % 5).to_string();
                    let mine = hub.subscribe(key.as_str());
                    let another = hub.subscribe(key.as_str());
                    assert!(hub.subscribers_of(key.as_str()) <= 6);
                    drop((mine, another));
                }
            });
        }
    });
    assert_eq!((hub.subscribers(), hub.topics()), (0, 0));
    // Nothing was lost on the way: all the places are there.
    let all: Vec<_> = (0..LIMIT)
        .map(|at| hub.subscribe(&(at % 2).to_string()))
        .collect();
    assert!(all.iter().all(Result::is_ok));
    assert!(hub.subscribe("0").is_err());
}

/// All of them hold what they got while it is counted: a walk over the map would see some twice that move meanwhile.
#[test]
fn many_threads_never_have_more_topics() {
    const THREADS: usize = 4;
    let hub = Hub::builder().max_topics(3).build().unwrap();
    let (all, got) = (Barrier::new(THREADS), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (hub, all, got) = (&hub, &all, &got);
            scope.spawn(move || {
                for round in 0..300 {
                    let key = ((number + round) % 5).to_string();
                    let mine = hub.subscribe(key.as_str());
                    got.fetch_add(usize::from(mine.is_ok()), Ordering::SeqCst);
                    all.wait();
                    assert!(got.load(Ordering::SeqCst) <= 3);
                    all.wait();
                    got.fetch_sub(usize::from(mine.is_ok()), Ordering::SeqCst);
                    drop(mine);
                    all.wait();
                }
            });
        }
    });
    assert_eq!(hub.topics(), 0);
}

#[test]
fn snapshots_and_broadcasters_tell_it_too() {
    let hub = Hub::builder().max_connections(1).build().unwrap();
    let _reader = hub.subscribe("a").unwrap();
    let snapshot = hub.subscribe_with_snapshot("a", |_| async {
        Err::<fanfare::Snapshot, _>("it is not asked")
    });
    let refused = common::block_on(snapshot).map(drop);
    assert!(matches!(
        refused,
        Err(SnapshotError::Refused(SubscribeError::TooManyConnections {
            limit: 1,
            ..
        }))
    ));

    let hub = Hub::builder()
        .max_connections_per_topic(1)
        .build_keyed::<UserId>()
        .unwrap();
    let broadcaster = Broadcaster::<Note>::with_hub(hub);
    let ann = UserId::from("ann");
    let first = broadcaster.register(&ann, "tab-1");
    let refused = broadcaster.register(&ann, "tab-2").map(drop);
    assert!(matches!(
        refused,
        Err(EventError::Refused(SubscribeError::TopicFull {
            limit: 1,
            ..
        }))
    ));
    drop(first);
}

struct Note;

impl fanfare::ToSse for Note {
    fn to_sse(&self) -> Event<'_, impl fanfare::Payload> {
        Event::text("note")
    }
}

/// What an HTTP client is told.
#[test]
fn a_refusal_is_a_response() {
    let full = SubscribeError::TopicFull {
        limit: 6,
        connections: 6,
    };
    for (error, status) in [
        (full, 429),
        (
            SubscribeError::TooManyConnections {
                limit: 10,
                connections: 10,
            },
            503,
        ),
    ] {
        let response = error.into_response();
        assert_eq!(response.status().as_u16(), status);
        let after = response.headers()["retry-after"].to_str().unwrap();
        assert!((2..=6).contains(&after.parse::<u64>().unwrap()));
    }
    let draining = SubscribeError::Draining {
        retry_after: Duration::from_millis(1500),
    };
    let response = draining.into_response();
    assert_eq!(response.headers()["retry-after"], "2");
    let closed = SubscribeError::Closed.into_response();
    assert_eq!(closed.status().as_u16(), 503);
    assert!(!closed.headers().contains_key("retry-after"));
}

/// A key whose clone panics at will.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fragile(&'static str, bool);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.1, "a fragile key");
        Self(self.0, self.1)
    }
}

/// A topic that is not made takes no place.
#[test]
fn a_key_that_panics_takes_no_place() {
    let hub = Hub::builder().max_topics(2).build_keyed().unwrap();
    let first = hub.topic(&Fragile("a", false)).unwrap();
    for _ in 0..5 {
        let fragile = Fragile("b", true);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hub.topic(&fragile)));
        assert!(made.is_err());
    }
    let second = hub.topic(&Fragile("c", false)).unwrap();
    let third = hub.topic(&Fragile("d", false)).unwrap_err();
    assert!(matches!(
        third,
        SubscribeError::TooManyTopics {
            limit: 2,
            topics: 2
        }
    ));
    drop((first, second));
    assert!(hub.topic(&Fragile("d", false)).is_ok());
}
