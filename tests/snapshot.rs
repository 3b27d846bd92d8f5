//! A snapshot first, then what follows it: without a gap, and without a repetition where it says what it includes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::thread;

use common::{Got, WAYS, Way, block_on, events, eventually};
use fanfare::{
    Event, EventId, Frame, Hub, Item, LagPolicy, Snapshot, SnapshotError, Subscription,
    TryRecvError,
};

const EVENTS: u64 = if cfg!(miri) { 20 } else { 2000 };
const READERS: usize = if cfg!(miri) { 2 } else { 20 };

fn publish(hub: &Hub, texts: &[&str]) -> Option<EventId> {
    let mut last = None;
    for text in texts {
        last = hub.publish("a", Event::text(text)).unwrap().id();
    }
    last
}

fn frames(hub: &Hub, texts: &[&str]) -> Vec<Frame> {
    texts
        .iter()
        .map(|text| hub.encode(Event::text(text)).unwrap())
        .collect()
}

fn subscribe(hub: &Hub, mut snapshot: impl FnMut(EventId) -> Snapshot) -> Subscription {
    let taken = hub.subscribe_with_snapshot("a", |position| {
        ready(Ok::<_, Infallible>(snapshot(position)))
    });
    block_on(taken).unwrap()
}

// ------------------------------------------------------------------------------------------------- what comes

#[test]
fn the_snapshot_comes_first_by_every_way_of_reading() {
    for way in WAYS {
        let hub = Hub::new();
        let mut subscription = subscribe(&hub, |_| {
            publish(&hub, &["meanwhile"]);
            Snapshot::new(frames(&hub, &["s1", "s2", "s3"]))
        });
        publish(&hub, &["after"]);
        assert_eq!(
            way.read(&mut subscription),
            events(["s1", "s2", "s3", "meanwhile", "after"]),
            "{way:?}"
        );
        publish(&hub, &["live"]);
        assert_eq!(way.read(&mut subscription), events(["live"]), "{way:?}");
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
    }
}

#[test]
fn the_ways_of_reading_can_be_mixed() {
    for first in WAYS {
        let hub = Hub::new();
        let mut subscription = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s1", "s2"])));
        publish(&hub, &["x"]);
        let Ok(Item::Frame(frame)) = subscription.try_recv() else {
            panic!()
        };
        assert_eq!((&*frame.data(), frame.id()), ("s1", None));
        let mut batch = subscription.try_batch().unwrap();
        assert_eq!(batch.lag(), None);
        assert_eq!(&*batch.next_frame().unwrap().data(), "s2");
        drop(batch);
        assert_eq!(first.read(&mut subscription), events(["x"]), "{first:?}");
    }
}

#[test]
fn an_empty_snapshot_is_none() {
    for way in WAYS {
        let hub = Hub::new();
        let mut subscription = subscribe(&hub, |_| Snapshot::default());
        assert_eq!(way.read(&mut subscription), []);
        publish(&hub, &["x"]);
        assert_eq!(way.read(&mut subscription), events(["x"]));
    }
}

#[test]
fn it_goes_on_after_what_the_snapshot_includes() {
    let hub = Hub::builder().history(true).build().unwrap();
    let ids: Vec<_> = ["1", "2", "3", "4"]
        .map(|text| publish(&hub, &[text]))
        .into();
    for (includes, rest) in [(1, &["3", "4"][..]), (3, &[]), (0, &["2", "3", "4"])] {
        let mut subscription = subscribe(&hub, |position| {
            assert_eq!(Some(position), ids[3]);
            Snapshot::new(frames(&hub, &["s"])).as_of(ids[includes])
        });
        assert_eq!(Some(subscription.position()), ids[includes]);
        let expected: Vec<_> = ["s"].iter().chain(rest).collect();
        assert_eq!(Way::TryRecv.read(&mut subscription), events(expected));
    }
    // The position itself, and an event that was published after the question.
    let mut subscription = subscribe(&hub, |position| Snapshot::default().as_of(Some(position)));
    assert_eq!(Way::TryRecv.read(&mut subscription), []);
    let mut subscription = subscribe(&hub, |_| {
        let known = publish(&hub, &["5", "6"]);
        publish(&hub, &["7"]);
        Snapshot::default().as_of(known)
    });
    assert_eq!(Way::TryRecv.read(&mut subscription), events(["7"]));
}

#[test]
fn an_id_that_is_none_of_this_topic_changes_nothing() {
    let hub = Hub::new();
    let _listener = hub.subscribe("a").unwrap();
    let own = publish(&hub, &["1", "2"]).unwrap();
    let other = EventId::new(own.epoch() ^ 1, 1);
    let future = EventId::new(own.epoch(), own.offset() + 100);
    for id in [
        Some(other),
        Some(future),
        Some(EventId::new(own.epoch(), u64::MAX)),
        None,
    ] {
        let mut subscription = subscribe(&hub, |_| Snapshot::default().as_of(id));
        assert_eq!(Way::TryRecv.read(&mut subscription), []);
        publish(&hub, &["y"]);
        assert_eq!(
            Way::TryRecv.read(&mut subscription),
            events(["y"]),
            "{id:?}"
        );
    }
}

#[test]
fn a_handle_takes_one_too() {
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let taken = topic.subscribe_with_snapshot(|_| {
        ready(Ok::<_, Infallible>(Snapshot::new(frames(&hub, &["s"]))))
    });
    let mut subscription = block_on(taken).unwrap();
    let _ = topic.publish(Event::text("x")).unwrap();
    assert_eq!(Way::Stream.read(&mut subscription), events(["s", "x"]));
    topic.close();
    let refused =
        topic.subscribe_with_snapshot(|_| ready(Ok::<_, Infallible>(Snapshot::default())));
    assert_eq!(block_on(refused).unwrap_err(), SnapshotError::Closed);
}

#[test]
fn a_snapshot_that_was_not_read_goes_with_an_end_from_outside() {
    for way in WAYS {
        let hub = Hub::new();
        let mut subscription = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s1", "s2"])));
        assert!(subscription.try_recv().is_ok());
        assert!(subscription.end_handle().end(fanfare::EndReason::Requested));
        assert_eq!(way.read(&mut subscription), [Got::End], "{way:?}");
    }
}

// ------------------------------------------------------------------------------------------------- refused, cancelled

#[test]
fn what_fails_leaves_nobody() {
    let hub = Hub::new();
    let failed = hub.subscribe_with_snapshot("a", |_| ready(Err::<Snapshot, _>("no state")));
    let error = block_on(failed).unwrap_err();
    assert_eq!(error, SnapshotError::Snapshot("no state"));
    assert_eq!(error.to_string(), "no snapshot: no state");
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));

    let failed = hub.subscribe_with_snapshot("a", |_| {
        ready(Err::<Snapshot, _>(std::io::Error::other("disk")))
    });
    let error = block_on(failed).unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "disk"
    );

    hub.close();
    let refused = hub
        .subscribe_with_snapshot("a", |_| -> std::future::Ready<Result<Snapshot, ()>> {
            panic!("nobody is asked")
        });
    assert_eq!(block_on(refused).unwrap_err(), SnapshotError::Closed);
}

#[test]
fn a_cancelled_one_leaves_nobody() {
    let hub = Hub::new();
    let asked = Cell::new(false);
    {
        let taken = hub.subscribe_with_snapshot("a", |_| {
            asked.set(true);
            std::future::pending::<Result<Snapshot, ()>>()
        });
        let mut taken = pin!(taken);
        assert!(!asked.get(), "nothing is done before it is polled");
        assert_eq!(hub.subscribers(), 0);
        assert!(
            taken
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert!(asked.get());
        assert_eq!(hub.subscribers_of("a"), 1);
        let sent = hub.publish("a", Event::text("x")).unwrap();
        assert_eq!(sent.subscribers(), 1);
    }
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

#[test]
fn a_hub_that_is_closed_meanwhile_ends_it_after_what_there_is() {
    for way in WAYS {
        let hub = Hub::new();
        let mut subscription = subscribe(&hub, |_| {
            publish(&hub, &["last"]);
            hub.close();
            Snapshot::new(frames(&hub, &["s"]))
        });
        let expected = [common::event("s"), common::event("last"), Got::End];
        assert_eq!(way.read(&mut subscription), expected, "{way:?}");
    }
}

// ------------------------------------------------------------------------------------------------- retention

/// What the log keeps of `count` events that are published at once is less than all of them.
fn overrun(hub: &Hub, count: u64) -> Option<EventId> {
    (0..count).fold(None, |_, number| {
        hub.publish("a", Event::json(&number)).unwrap().id()
    })
}

#[test]
fn a_place_that_is_lost_is_asked_for_again() {
    for lost in [0, 1, 2] {
        let hub = Hub::builder().retain_events(4).build().unwrap();
        let positions = RefCell::new(Vec::new());
        let mut subscription = subscribe(&hub, |position| {
            let asked = positions.borrow().len();
            positions.borrow_mut().push(position);
            if asked < lost {
                overrun(&hub, 500);
            }
            Snapshot::new(frames(&hub, &[["first", "second", "third"][asked]]))
        });
        let positions = positions.into_inner();
        assert_eq!(positions.len(), lost + 1);
        assert!(
            positions.is_sorted_by(|a, b| a.offset() + 500 == b.offset()),
            "{positions:?}"
        );
        publish(&hub, &["x"]);
        let got = Way::TryRecv.read(&mut subscription);
        assert_eq!(got, events([["first", "second", "third"][lost], "x"]));
    }
}

#[test]
fn after_three_times_the_lag_is_told() {
    for way in WAYS {
        let hub = Hub::builder().retain_events(4).build().unwrap();
        let asked = Cell::new(0);
        let mut subscription = subscribe(&hub, |_| {
            asked.set(asked.get() + 1);
            overrun(&hub, 500);
            Snapshot::new(frames(&hub, &["s"]))
        });
        assert_eq!(asked.get(), 3, "{way:?}");
        let got = way.read(&mut subscription);
        assert_eq!(got[0], common::event("s"), "{way:?}");
        let Got::Lag(Some(missed)) = got[1] else {
            panic!("{got:?}")
        };
        let rest = events(missed..500);
        assert_eq!(got[2..], rest, "{way:?}");
    }
}

#[test]
fn a_lag_after_the_snapshot_is_that_of_the_policy() {
    let hub = Hub::builder().retain_events(4).build().unwrap();
    let mut subscription =
        subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s"]))).lag_policy(LagPolicy::Disconnect);
    overrun(&hub, 500);
    let got = Way::RecvBatch.read(&mut subscription);
    assert!(
        matches!(&got[..], [Got::Event(s), Got::Lag(Some(_)), Got::End] if s == "s"),
        "{got:?}"
    );
}

#[test]
fn a_snapshot_of_what_was_lost_is_asked_for_again() {
    let hub = Hub::builder()
        .retain_events(4)
        .history(true)
        .build()
        .unwrap();
    let old = publish(&hub, &["old"]);
    overrun(&hub, 500);
    let asked = Cell::new(0);
    let mut subscription = subscribe(&hub, |position| {
        asked.set(asked.get() + 1);
        // First it is stale: what follows it is gone.
        Snapshot::default().as_of(if asked.get() == 1 {
            old
        } else {
            Some(position)
        })
    });
    assert_eq!(asked.get(), 2);
    assert_eq!(Way::TryRecv.read(&mut subscription), []);
}

// ------------------------------------------------------------------------------------------------- threads

/// The number of a frame of numbers.
fn number(item: Option<Item>) -> u64 {
    match item {
        Some(Item::Frame(frame)) => frame.data().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// With a lock around state and publish, and the last id told, each event comes once.
#[test]
fn exact_amid_publishers() {
    let hub = Hub::builder().retain_events(1 << 14).build().unwrap();
    // The next number, and the id of the last event.
    let state = Mutex::new((0_u64, None::<EventId>));
    let total = 2 * EVENTS;
    let add = || {
        let mut state = state.lock().unwrap();
        let published = hub.publish("a", Event::json(&state.0)).unwrap();
        *state = (state.0 + 1, published.id());
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..EVENTS).for_each(|_| add()));
        }
        for reader in 0..READERS {
            let (hub, state) = (&hub, &state);
            scope.spawn(move || {
                // They come all along.
                let from = total * reader as u64 / READERS as u64;
                eventually("its turn", || state.lock().unwrap().0 >= from);
                let mut known = 0;
                let snapshot = |_| {
                    let (next, last) = *state.lock().unwrap();
                    known = next;
                    let frame = hub.encode(Event::json(&next));
                    async move { frame.map(|frame| Snapshot::new(vec![frame]).as_of(last)) }
                };
                let mut subscription =
                    block_on(hub.subscribe_with_snapshot("a", snapshot)).unwrap();
                assert_eq!(number(block_on(subscription.recv())), known);
                for expected in known..total {
                    assert_eq!(number(block_on(subscription.recv())), expected);
                }
                assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
            });
        }
    });
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

/// Who changes the state first and publishes then, without a lock, misses nothing; something may come again.
#[test]
fn at_least_once_amid_publishers() {
    let hub = Hub::builder().retain_events(1 << 14).build().unwrap();
    let state = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        for (publisher, last) in state.iter().enumerate() {
            let hub = &hub;
            scope.spawn(move || {
                for number in 1..=EVENTS {
                    last.store(number, Ordering::Relaxed);
                    let _ = hub.publish("a", Event::json(&(publisher, number))).unwrap();
                }
            });
        }
        for reader in 0..READERS {
            let (hub, state) = (&hub, &state);
            scope.spawn(move || {
                let from = EVENTS * reader as u64 / READERS as u64;
                eventually("its turn", || state[0].load(Ordering::Relaxed) >= from);
                let mut known = [0; 2];
                let snapshot = |_| {
                    known = state.each_ref().map(|last| last.load(Ordering::Relaxed));
                    ready(Ok::<_, Infallible>(Snapshot::default()))
                };
                let mut subscription =
                    block_on(hub.subscribe_with_snapshot("a", snapshot)).unwrap();
                let mut next = [None::<u64>; 2];
                let done = |next: &[Option<u64>; 2]| {
                    (0..2).all(|it| next[it].map_or(known[it], |next| next - 1) == EVENTS)
                };
                while !done(&next) {
                    let Some(Item::Frame(frame)) = block_on(subscription.recv()) else {
                        panic!()
                    };
                    let (publisher, number): (usize, u64) =
                        serde_json::from_str(&frame.data()).unwrap();
                    match next[publisher] {
                        None => assert!(number <= known[publisher] + 1, "a gap after the snapshot"),
                        Some(next) => assert_eq!(number, next),
                    }
                    next[publisher] = Some(number + 1);
                }
            });
        }
    });
}

// ------------------------------------------------------------------------------------------------- over HTTP

#[cfg(feature = "axum")]
mod over_http {
    use super::{block_on, events, frames, overrun, publish, subscribe};
    use fanfare::{EndReason, Envelope, Event, Hub, Snapshot, Sse, SseBody};
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    fn chunk(body: &mut SseBody) -> String {
        let frame = body.frame().now_or_never().unwrap().unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    fn without_ids() -> Hub {
        Hub::builder().event_ids(false).build().unwrap()
    }

    #[test]
    fn the_stream_begins_with_the_snapshot() {
        let hub = without_ids();
        let subscription = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s1", "s2"])));
        let mut body = subscription.into_sse().into_body();
        publish(&hub, &["x"]);
        assert_eq!(chunk(&mut body), "data: s1\n\ndata: s2\n\n");
        assert_eq!(chunk(&mut body), "data: x\n\n");
    }

    #[test]
    fn an_empty_one_opens_the_stream_as_ever() {
        let hub = without_ids();
        let mut body = subscribe(&hub, |_| Snapshot::default())
            .into_sse()
            .into_body();
        assert_eq!(chunk(&mut body), ":\n\n");
    }

    #[test]
    fn the_opening_id_stands_behind_the_snapshot() {
        let hub = Hub::builder().history(true).build().unwrap();
        let known = publish(&hub, &["1", "2"]).unwrap();
        let later = publish(&hub, &["3"]).unwrap();
        let taken = || {
            subscribe(&hub, |_| {
                Snapshot::new(frames(&hub, &["s"])).as_of(Some(known))
            })
        };
        let retry = std::time::Duration::from_secs(1);
        let opening = |sse: Sse| {
            let mut body = sse.into_body();
            (chunk(&mut body), chunk(&mut body))
        };
        let block = format!("id: {later}\ndata: 3\n\n");
        assert_eq!(
            opening(taken().into_sse()),
            (format!("data: s\n\nid: {known}\n\n"), block.clone())
        );
        assert_eq!(
            opening(taken().into_sse().retry(retry)),
            (
                format!("retry: 1000\n\ndata: s\n\nid: {known}\n\n"),
                block.clone()
            )
        );
        assert_eq!(
            opening(taken().into_sse().prime(false)),
            ("data: s\n\n".to_owned(), block)
        );
    }

    #[test]
    fn the_snapshot_is_in_the_envelope_as_well() {
        let hub = without_ids();
        let answer = Envelope::new(r#"{"id":7,"result":"#, "}").unwrap();
        let subscription = subscribe(&hub, |_| {
            let state = hub.encode(Event::json(&[1]).name("state")).unwrap();
            Snapshot::new(vec![state, hub.encode(Event::text("a\nb")).unwrap()])
        });
        let mut body = subscription.envelope(answer).into_sse().into_body();
        let _ = hub.publish("a", Event::json(&2)).unwrap();
        assert_eq!(
            chunk(&mut body),
            "event: state\ndata: {\"id\":7,\"result\":[1]}\n\ndata: {\"id\":7,\"result\":a\ndata: b}\n\n"
        );
        assert_eq!(chunk(&mut body), "data: {\"id\":7,\"result\":2}\n\n");
    }

    #[test]
    fn the_snapshots_of_several_topics_come_first() {
        let hub = without_ids();
        let a = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["of a"])));
        let taken = hub.subscribe_with_snapshot("b", |_| {
            std::future::ready(Ok::<_, ()>(Snapshot::new(frames(&hub, &["of b"]))))
        });
        let mut body = a.into_sse().with(block_on(taken).unwrap()).into_body();
        let _ = hub.publish("b", Event::text("x")).unwrap();
        assert_eq!(chunk(&mut body), "data: of a\n\ndata: of b\n\n");
        assert_eq!(chunk(&mut body), "data: x\n\n");
    }

    #[test]
    fn lag_stands_between_the_snapshot_and_the_events() {
        let hub = Hub::builder()
            .event_ids(false)
            .retain_events(4)
            .build()
            .unwrap();
        let subscription = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s"])));
        overrun(&hub, 500);
        let mut body = subscription.into_sse().into_body();
        assert_eq!(chunk(&mut body), "data: s\n\n");
        assert!(chunk(&mut body).starts_with("event: lag\ndata: {\"missed\":4"));
    }

    /// What was read of it is not sent again.
    #[test]
    fn a_snapshot_that_was_begun_goes_on() {
        let hub = without_ids();
        let mut subscription = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s1", "s2"])));
        assert_eq!(common_first(&mut subscription), events(["s1"]));
        let mut body = subscription.into_sse().into_body();
        assert_eq!(chunk(&mut body), "data: s2\n\n");
    }

    fn common_first(subscription: &mut fanfare::Subscription) -> Vec<super::Got> {
        vec![subscription.try_recv().unwrap().into()]
    }

    /// One that was ended before it became a response sends nothing of it.
    #[test]
    fn a_snapshot_of_one_that_was_ended_is_not_sent() {
        let hub = without_ids();
        let mut subscription = subscribe(&hub, |_| Snapshot::new(frames(&hub, &["s"])));
        assert!(subscription.end_handle().end(EndReason::Replaced));
        let body = subscription.into_sse().into_body();
        let all = block_on(body.collect()).unwrap().to_bytes();
        assert_eq!(
            std::str::from_utf8(&all).unwrap(),
            ":\n\n: this connection was replaced by a newer one with the same id\n\n"
        );
    }
}
