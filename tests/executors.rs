//! No runtime is needed: whatever polls a future will do.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::thread;

use common::{Got, block_on, events};
use fanfare::{Event, Hub};
use futures_util::stream::{FuturesUnordered, select_all};
use futures_util::{StreamExt as _, future};

const EVENTS: u64 = 500;

fn publish_and_close(hub: &Hub, keys: &[&str]) {
    for n in 0..EVENTS {
        for key in keys {
            let _ = hub.publish(*key, Event::json(&n)).unwrap();
        }
    }
    hub.close();
}

/// `FuturesUnordered` polls only those that were woken: it would hang on a lost wake.
#[test]
fn many_readers_on_one_thread() {
    let hub = Hub::new();
    let readers: FuturesUnordered<_> = (0..100)
        .map(|n| {
            let mut subscription = hub.subscribe("a").unwrap();
            async move {
                let mut got = Vec::new();
                if n % 2 == 0 {
                    while let Some(item) = subscription.recv().await {
                        got.push(Got::from(item));
                    }
                } else {
                    while let Some(mut batch) = subscription.recv_batch().await {
                        batch.for_each(|frame| got.push(common::event(frame.data())));
                    }
                }
                got
            }
        })
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| publish_and_close(&hub, &["a"]));
        let all: Vec<_> = block_on(readers.collect());
        assert_eq!(all.len(), 100);
        for got in all {
            assert_eq!(got, events(0..EVENTS));
        }
    });
}

/// The publisher is a future on the same thread.
#[test]
fn publisher_and_readers_joined() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let mut back = hub.subscribe("back").unwrap();
    let reading = async {
        for n in 0..EVENTS {
            let Some(fanfare::Item::Frame(frame)) = subscription.recv().await else {
                panic!("no frame");
            };
            assert_eq!(frame.data(), n.to_string());
            let _ = hub.publish("back", Event::text("ok")).unwrap();
        }
    };
    let publishing = async {
        for n in 0..EVENTS {
            let _ = hub.publish("a", Event::json(&n)).unwrap();
            assert!(back.recv().await.is_some());
        }
    };
    block_on(future::join(reading, publishing));
}

/// As streams, merged by a combinator that knows nothing of fanfare.
#[test]
fn streams_combine() {
    let hub = Hub::new();
    let keys = ["a", "b", "c"];
    let merged = select_all(keys.map(|key| {
        let subscription = hub.subscribe(key).unwrap();
        subscription.map(move |item| (key, Got::from(item))).boxed()
    }));
    thread::scope(|scope| {
        scope.spawn(|| publish_and_close(&hub, &keys));
        let all: Vec<_> = block_on(merged.collect());
        for key in keys {
            let of_key = all.iter().filter(|(k, _)| *k == key);
            let got: Vec<_> = of_key.map(|(_, got)| got.clone()).collect();
            assert_eq!(got, events(0..EVENTS));
        }
    });
}
