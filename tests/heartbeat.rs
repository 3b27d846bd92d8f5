//! A subscription as an SSE response: its bytes, its headers, its heartbeats, its end. Polled by hand, without a server.

#![cfg(feature = "axum")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::response::IntoResponse as _;
use common::{BOUND, Wakes, block_on, eventually};
use eventsource_stream::Eventsource as _;
use fanfare::{Event, EventId, Hub, HubBuilder, LagPolicy, Sse, SseBody};
use futures_util::{FutureExt as _, StreamExt as _};
use http_body_util::BodyExt as _;

const COMMENT: &str = ":\n\n";

fn publish(hub: &Hub, key: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let _ = hub.publish(key, Event::json(&number)).unwrap();
    }
}

/// The next chunk, waited for; `None` at the end.
fn chunk(body: &mut SseBody) -> Option<String> {
    let frame = block_on(body.frame())?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

/// The next chunk if it is there.
fn ready(body: &mut SseBody) -> Option<String> {
    body.frame().now_or_never().map(|frame| {
        let data = frame.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(data.to_vec()).unwrap()
    })
}

/// A body of topic "a", its opening read.
fn opened(hub: &Hub) -> SseBody {
    let mut body = hub.subscribe("a").unwrap().into_sse().into_body();
    assert!(ready(&mut body).is_some());
    body
}

fn block(epoch: u64, offset: u64, rest: &str) -> String {
    format!("id: {}\n{rest}\n\n", EventId::new(epoch, offset))
}

#[test]
fn headers() {
    let hub = Hub::new();
    let sse = || hub.subscribe("a").unwrap().into_sse();
    let of_response = sse().into_http().headers().clone();
    let of_axum = sse().into_response().headers().clone();
    for headers in [Sse::headers(), of_response, of_axum] {
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-cache, no-transform");
        assert_eq!(headers["x-accel-buffering"], "no");
        assert_eq!(headers.len(), 3, "no length, nothing about the connection");
    }
    assert_eq!(sse().into_response().status(), 200);
}

#[test]
fn a_body_can_be_sent_and_prints_no_payload() {
    fn sendable<T: Send + Sync + Unpin>(_: &T) {}
    let hub = Hub::new();
    let sse = hub.subscribe("a").unwrap().into_sse();
    let _ = hub.publish("a", Event::text("secret")).unwrap();
    sendable(&sse);
    assert!(!format!("{sse:?}").contains("secret"));
    let body = sse.into_body();
    sendable(&body);
    assert!(!format!("{body:?}").contains("secret"));
}

#[test]
fn something_is_sent_at_once() {
    let hub = Hub::new();
    let mut body = hub.subscribe("a").unwrap().into_sse().into_body();
    assert_eq!(ready(&mut body).as_deref(), Some(COMMENT));
    assert_eq!(ready(&mut body), None);
}

#[test]
fn the_opening_has_retry_and_with_history_an_id() {
    let hub = Hub::builder().history(true).build().unwrap();
    publish(&hub, "a", 1..=3);
    let topic = hub.topic("a").unwrap();
    let id = topic.position();
    let sse = || hub.subscribe("a").unwrap().into_sse();
    let opening = |sse: Sse| ready(&mut sse.into_body()).unwrap();
    assert_eq!(opening(sse()), format!("id: {id}\n\n"));
    let retry = Duration::from_millis(2_500);
    assert_eq!(
        opening(sse().retry(retry)),
        format!("retry: 2500\nid: {id}\n\n")
    );
    assert_eq!(opening(sse().prime(false)), COMMENT);
    assert_eq!(opening(sse().prime(false).retry(retry)), "retry: 2500\n\n");
    // It is the id to continue after, not that of an event.
    let after = EventId::new(id.epoch(), 1);
    let mut body = hub
        .subscribe_from("a", after)
        .unwrap()
        .into_sse()
        .into_body();
    assert_eq!(ready(&mut body).unwrap(), format!("id: {after}\n\n"));
    let expected = block(id.epoch(), 2, "data: 2") + &block(id.epoch(), 3, "data: 3");
    assert_eq!(ready(&mut body).unwrap(), expected);
}

#[test]
fn without_ids_none_is_sent() {
    let hub = Hub::builder()
        .history(true)
        .event_ids(false)
        .retain_events(1)
        .build()
        .unwrap();
    let mut body = hub.subscribe("a").unwrap().into_sse().into_body();
    assert_eq!(ready(&mut body).as_deref(), Some(COMMENT));
    publish(&hub, "a", [1]);
    assert_eq!(ready(&mut body).as_deref(), Some("data: 1\n\n"));
    publish(&hub, "a", 2..=300);
    let chunk = ready(&mut body).unwrap();
    assert!(
        chunk.starts_with("event: lag\ndata: {\"missed\":"),
        "{chunk}"
    );
    assert!(!chunk.contains("id:"));
}

#[test]
fn a_backlog_comes_in_one_chunk() {
    let hub = Hub::new();
    let mut body = opened(&hub);
    let epoch = body.subscription().position().epoch();
    publish(&hub, "a", 1..=500);
    let expected: String = (1..=500)
        .map(|n| block(epoch, n, &format!("data: {n}")))
        .collect();
    assert_eq!(ready(&mut body), Some(expected));
    assert_eq!(ready(&mut body), None);
}

#[test]
fn chunks_have_a_limit() {
    let hub = Hub::new();
    let mut body = opened(&hub);
    let text = "x".repeat(1000);
    for _ in 0..500 {
        let _ = hub.publish("a", Event::text(&text)).unwrap();
    }
    let (mut chunks, mut bytes) = (0, 0);
    while let Some(chunk) = ready(&mut body) {
        assert!(chunk.ends_with("\n\n"));
        assert!(chunk.len() < 66 * 1024, "{}", chunk.len());
        chunks += 1;
        bytes += chunk.matches(&text).count();
    }
    assert_eq!(bytes, 500);
    assert!((8..12).contains(&chunks), "{chunks} chunks");
}

#[test]
fn large_and_small_events_mix() {
    let hub = Hub::new();
    let mut body = opened(&hub);
    let mut expected = Vec::new();
    for n in 0..40_usize {
        let text = n.to_string().repeat(1 + n % 4 * 9_000);
        let _ = hub.publish("a", Event::text(&text)).unwrap();
        expected.push(text);
    }
    let mut stream = String::new();
    while let Some(chunk) = ready(&mut body) {
        stream.push_str(&chunk);
    }
    let stream: Result<_, Infallible> = Ok(stream);
    let stream = futures_util::stream::iter([stream]).eventsource();
    let got: Vec<String> = block_on(stream.map(|event| event.unwrap().data).collect());
    assert_eq!(got, expected);
}

#[test]
fn lag_is_an_event_with_the_id_to_continue_after() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let mut body = opened(&hub);
    let epoch = body.subscription().position().epoch();
    publish(&hub, "a", 1..=300);
    let chunk = ready(&mut body).unwrap();
    let (lag, rest) = chunk.split_once("\n\n").unwrap();
    let lines: Vec<_> = lag.lines().collect();
    let ["event: lag", data] = lines[1..] else {
        panic!("{lag}");
    };
    let missed: serde_json::Value = serde_json::from_str(&data["data: ".len()..]).unwrap();
    let missed = missed["missed"].as_u64().unwrap();
    assert!((236..300).contains(&missed));
    assert_eq!(lines[0], format!("id: {}", EventId::new(epoch, missed)));
    let expected: String = (missed + 1..=300)
        .map(|n| block(epoch, n, &format!("data: {n}")))
        .collect();
    assert_eq!(rest, expected);
}

#[test]
fn an_unknown_gap_is_null() {
    let hub = Hub::builder().history(true).build().unwrap();
    publish(&hub, "a", 1..=2);
    let epoch = hub.topic("a").unwrap().position().epoch();
    let other = EventId::new(!epoch, 9);
    let mut body = hub
        .subscribe_from("a", other)
        .unwrap()
        .into_sse()
        .into_body();
    // No id in the opening: a client that came back with it would not be told of the gap.
    assert_eq!(ready(&mut body).as_deref(), Some(COMMENT));
    let expected = block(epoch, 0, "event: lag\ndata: {\"missed\":null}")
        + &block(epoch, 1, "data: 1")
        + &block(epoch, 2, "data: 2");
    assert_eq!(ready(&mut body).unwrap(), expected);
}

#[test]
fn the_stream_ends_with_the_subscription() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let mut body = opened(&hub);
    let subscription = hub.subscribe("a").unwrap();
    let mut strict = subscription
        .lag_policy(LagPolicy::Disconnect)
        .into_sse()
        .into_body();
    assert_eq!(ready(&mut strict).as_deref(), Some(COMMENT));
    publish(&hub, "a", 1..=300);
    let last = chunk(&mut strict).unwrap();
    assert!(
        last.ends_with("}\n\n") && last.contains("event: lag"),
        "{last}"
    );
    assert_eq!(chunk(&mut strict), None);
    assert!(chunk(&mut body).is_some());
    publish(&hub, "a", [301]);
    hub.close();
    assert!(chunk(&mut body).unwrap().ends_with("data: 301\n\n"));
    assert_eq!(chunk(&mut body), None);
    assert_eq!(chunk(&mut body), None);
    drop((body, strict));
    assert_eq!(hub.subscribers(), 0);
}

#[test]
fn a_body_is_woken_by_an_event_and_by_the_end() {
    let hub = Hub::new();
    let mut body = opened(&hub);
    let (woken, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(body.frame().poll_unpin(cx).is_pending());
    publish(&hub, "a", [1]);
    assert_eq!(woken.count(), 1);
    assert!(body.frame().poll_unpin(cx).is_ready());
    assert!(body.frame().poll_unpin(cx).is_pending());
    hub.close();
    assert_eq!(woken.count(), 2);
    assert!(matches!(body.frame().poll_unpin(cx), Poll::Ready(None)));
}

#[test]
fn as_an_axum_response() {
    let hub = Hub::new();
    let response = hub
        .subscribe("a")
        .unwrap()
        .into_sse()
        .retry(Duration::from_secs(1))
        .into_response();
    publish(&hub, "a", 1..=3);
    hub.close();
    let bytes = block_on(response.into_body().collect()).unwrap().to_bytes();
    let stream: Result<_, Infallible> = Ok(bytes);
    let stream = futures_util::stream::iter([stream]).eventsource();
    let events: Vec<_> = block_on(stream.map(Result::unwrap).collect());
    let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, ["1", "2", "3"]);
}

// ------------------------------------------------------------------------------------------------- heartbeats

fn beating(every: Duration) -> HubBuilder {
    Hub::builder().heartbeat(every)
}

#[test]
fn a_silent_topic_gets_heartbeats() {
    // The shortest interval, and one that is longer than the machine's hiccups.
    for millis in [60, 300] {
        let interval = Duration::from_millis(millis);
        let hub = beating(interval).build().unwrap();
        let mut body = opened(&hub);
        let mut silences = Vec::new();
        let mut last = Instant::now();
        for _ in 0..5 {
            assert_eq!(chunk(&mut body).as_deref(), Some(COMMENT));
            silences.push(last.elapsed());
            last = Instant::now();
        }
        println!("heartbeat {interval:?}: silences {silences:?}");
        silences.sort();
        // One in the middle, since any single one may meet a busy machine.
        assert!(
            silences[2] <= interval + Duration::from_millis(100),
            "{silences:?}"
        );
        assert!(silences[4] >= interval / 3, "not in a hurry: {silences:?}");
    }
}

#[test]
fn heartbeats_reach_all_who_wait_however_many() {
    let hub = beating(Duration::from_millis(60)).build().unwrap();
    let mut bodies: Vec<_> = (0..300).map(|_| opened(&hub)).collect();
    let mut beats = vec![0; bodies.len()];
    let (_, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    eventually("two heartbeats for each", || {
        for (body, beats) in bodies.iter_mut().zip(&mut beats) {
            while let Poll::Ready(frame) = body.frame().poll_unpin(cx) {
                assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), COMMENT);
                *beats += 1;
            }
        }
        beats.iter().all(|&beats| beats >= 2)
    });
}

#[test]
fn no_heartbeats_while_events_flow() {
    let interval = Duration::from_secs(2);
    let hub = beating(interval).build().unwrap();
    let mut body = opened(&hub);
    let begin = Instant::now();
    let (mut events, mut longest) = (0, Duration::ZERO);
    while begin.elapsed() < interval * 3 / 2 {
        let last = Instant::now();
        publish(&hub, "a", [events]);
        let chunk = chunk(&mut body).unwrap();
        std::thread::park_timeout(Duration::from_millis(2));
        longest = longest.max(last.elapsed());
        // A machine that stood still for long had a silence.
        assert!(
            chunk != COMMENT || longest > interval / 4,
            "after {longest:?}"
        );
        events += 1;
    }
    assert!(events > 0);
    // Then silence: a heartbeat, within the interval.
    let last = Instant::now();
    while chunk(&mut body).as_deref() != Some(COMMENT) {}
    assert!(last.elapsed() <= interval + Duration::from_secs(1));
}

#[test]
fn without_the_wish_there_are_none() {
    let hub = beating(Duration::from_millis(60)).build().unwrap();
    let mut beating = opened(&hub);
    let mut plain = hub.subscribe("a").unwrap();
    let mut ready = Box::pin(std::future::poll_fn(|cx| plain.poll_ready(cx)));
    let (woken, waker) = Wakes::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(ready.poll_unpin(cx).is_pending());
    for _ in 0..8 {
        assert_eq!(chunk(&mut beating).as_deref(), Some(COMMENT));
    }
    assert!(ready.poll_unpin(cx).is_pending());
    assert_eq!(woken.count(), 0);
}

#[test]
fn a_topic_that_only_beats_stays_and_goes_with_its_last_subscriber() {
    let hub = beating(Duration::from_millis(60)).build().unwrap();
    let mut body = opened(&hub);
    for _ in 0..3 {
        assert_eq!(chunk(&mut body).as_deref(), Some(COMMENT));
    }
    publish(&hub, "a", [1]);
    let begin = Instant::now();
    while chunk(&mut body).unwrap() == COMMENT {
        assert!(begin.elapsed() < BOUND);
    }
    drop(body);
    assert_eq!((hub.topics(), hub.subscribers()), (0, 0));
}

/// Heartbeats go on after the hub's clock has had nothing to do for a while.
#[test]
fn heartbeats_begin_again() {
    let hub = beating(Duration::from_millis(60)).build().unwrap();
    for _ in 0..3 {
        let mut body = opened(&hub);
        assert_eq!(chunk(&mut body).as_deref(), Some(COMMENT));
        drop(body);
        assert_eq!(hub.topics(), 0);
        // Longer than a round of the clock, which then forgets the topic.
        std::thread::park_timeout(Duration::from_millis(150));
    }
}

#[test]
fn several_topics_on_one_stream() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let other = Hub::new();
    let mut body = hub
        .subscribe("a")
        .unwrap()
        .into_sse()
        .with(hub.subscribe("b").unwrap())
        // Once is enough.
        .with(hub.subscribe("b").unwrap())
        .with(other.subscribe("a").unwrap())
        .into_body();
    assert_eq!((hub.subscribers(), other.subscribers()), (2, 1));
    assert_eq!(ready(&mut body).as_deref(), Some(":\n\n"));
    assert_eq!(ready(&mut body), None);
    for _ in 0..2 {
        for topic in ["a", "b"] {
            let _ = hub.publish(topic, Event::text(topic)).unwrap();
        }
    }
    // A busy topic takes its turn.
    assert_eq!(ready(&mut body).as_deref(), Some("data: a\n\ndata: a\n\n"));
    let _ = hub.publish("a", Event::text("more")).unwrap();
    assert_eq!(ready(&mut body).as_deref(), Some("data: b\n\ndata: b\n\n"));
    assert_eq!(ready(&mut body).as_deref(), Some("data: more\n\n"));
    assert_eq!(ready(&mut body), None);
    hub.close();
    let _ = other.publish("a", Event::text("still here")).unwrap();
    let last = ready(&mut body).unwrap();
    assert!(last.ends_with("data: still here\n\n"), "{last:?}");
    other.close();
    assert_eq!(chunk(&mut body), None);
}

#[test]
fn lag_of_one_topic_ends_the_stream_if_it_must() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let strict = hub.subscribe("a").unwrap();
    let mut body = hub
        .subscribe("b")
        .unwrap()
        .into_sse()
        .with(strict.lag_policy(LagPolicy::Disconnect))
        .into_body();
    assert_eq!(ready(&mut body).as_deref(), Some(":\n\n"));
    for _ in 0..500 {
        let _ = hub.publish("a", Event::text("x")).unwrap();
    }
    assert!(ready(&mut body).unwrap().contains("event: lag\n"));
    assert_eq!(chunk(&mut body), None, "ended, though `b` is open");
}

/// Bodies that stand at one place share a chunk; one that stands elsewhere gets its own.
#[test]
fn bodies_at_different_places_get_what_is_theirs() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let mut early = opened(&hub);
    let mut also_early = opened(&hub);
    let _ = hub.publish("a", Event::text("1")).unwrap();
    let mut late = opened(&hub);
    let _ = hub.publish("a", Event::text("2")).unwrap();
    assert_eq!(ready(&mut early).as_deref(), Some("data: 1\n\ndata: 2\n\n"));
    assert_eq!(ready(&mut late).as_deref(), Some("data: 2\n\n"));
    let _ = hub.publish("a", Event::text("3")).unwrap();
    let all = "data: 1\n\ndata: 2\n\ndata: 3\n\n";
    assert_eq!(ready(&mut also_early).as_deref(), Some(all));
    for body in [&mut early, &mut late] {
        assert_eq!(ready(body).as_deref(), Some("data: 3\n\n"));
    }
    for body in [&mut early, &mut also_early, &mut late] {
        assert_eq!(ready(body), None);
    }
}
