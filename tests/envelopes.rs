//! Events in an envelope of one connection's own, as the body of a response sends them; and notices as comments.

#![cfg(feature = "http-body")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use fanfare::{
    Envelope, EnvelopeError, Event, Hub, MAX_ENVELOPE_BYTES, Notices, SseBody, Subscription,
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

fn answer(id: u32) -> Envelope {
    let prefix = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
    Envelope::new(prefix, "}").unwrap()
}

fn body(subscription: Subscription) -> SseBody {
    let mut body = subscription.into_sse().into_body();
    assert_eq!(ready(&mut body), ":\n\n", "the opening");
    body
}

/// All chunks that are there.
fn ready(body: &mut SseBody) -> String {
    let mut all = Vec::new();
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        all.extend_from_slice(frame.data_ref().unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn the_payload_of_each_event_is_wrapped() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let mut wrapped = body(hub.subscribe("a").unwrap().envelope(answer(7)));
    let mut other = body(hub.subscribe("a").unwrap().envelope(answer(8)));
    let mut plain = body(hub.subscribe("a").unwrap());
    let mut reader = hub.subscribe("a").unwrap().envelope(answer(9));
    let _ = hub.publish("a", Event::json(&[1, 2]).name("n")).unwrap();
    let _ = hub.publish("a", Event::text("one\ntwo\nthree")).unwrap();
    let _ = hub.publish("a", Event::text("")).unwrap();
    let expected = |before: &str, after: &str| {
        format!(
            "event: n\ndata: {before}[1,2]{after}\n\n\
             data: {before}one\ndata: two\ndata: three{after}\n\n\
             data: {before}{after}\n\n"
        )
    };
    let before = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
    assert_eq!(ready(&mut wrapped), expected(&before(7), "}"));
    assert_eq!(ready(&mut other), expected(&before(8), "}"));
    assert_eq!(ready(&mut plain), expected("", ""));
    // Who reads frames gets them as they were published.
    assert_eq!(reader.wrapped_in(), Some(&answer(9)));
    let item = reader.try_recv().unwrap();
    assert!(matches!(&item, fanfare::Item::Frame(frame) if frame.data() == "[1,2]"));
}

#[test]
fn a_large_event_and_a_long_backlog_are_wrapped_too() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let mut wrapped = body(hub.subscribe("a").unwrap().envelope(answer(1)));
    let mut plain = body(hub.subscribe("a").unwrap());
    let large = "x".repeat(100_000);
    for text in ["small", &large, "small"] {
        let _ = hub.publish("a", Event::text(text)).unwrap();
    }
    for number in 0..500 {
        let text = format!("{number} {}", ".".repeat(300));
        let _ = hub.publish("a", Event::text(&text)).unwrap();
    }
    let expected: Vec<_> = ready(&mut plain)
        .split_terminator("\n\n")
        .map(|block| {
            let data = block.strip_prefix("data: ").unwrap();
            format!(
                "data: {}{data}{}\n\n",
                answer(1).prefix(),
                answer(1).suffix()
            )
        })
        .collect();
    assert!(ready(&mut wrapped) == expected.concat());
}

#[test]
fn each_topic_of_a_stream_has_its_own() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let sse = hub.subscribe("a").unwrap().envelope(answer(1)).into_sse();
    let sse = sse.with(hub.subscribe("b").unwrap());
    let sse = sse.with(hub.subscribe("c").unwrap().envelope(answer(3)));
    let mut body = sse.into_body();
    ready(&mut body);
    for key in ["a", "b", "c"] {
        let _ = hub.publish(key, Event::json(key)).unwrap();
    }
    let got = ready(&mut body);
    let mut blocks: Vec<_> = got.split_terminator("\n\n").collect();
    blocks.sort_unstable();
    assert_eq!(
        blocks,
        [
            r#"data: "b""#,
            r#"data: {"jsonrpc":"2.0","id":1,"result":"a"}"#,
            r#"data: {"jsonrpc":"2.0","id":3,"result":"c"}"#,
        ]
    );
}

#[test]
fn lag_is_told_outside_of_the_envelope_and_as_a_comment_if_wanted() {
    for (notices, told) in [
        (Notices::Events, "event: lag\ndata: {\"missed\":"),
        (Notices::Comments, ": lag, "),
    ] {
        let builder = Hub::builder().event_ids(false);
        let hub = builder.retain_events(2).build().unwrap();
        let subscription = hub.subscribe("a").unwrap().notices(notices);
        let mut body = body(subscription.envelope(answer(1)));
        for number in 0..1000 {
            let _ = hub.publish("a", Event::json(&number)).unwrap();
        }
        let got = ready(&mut body);
        let (notice, events) = got.split_once("\n\n").unwrap();
        assert!(notice.starts_with(told), "{notice}");
        assert!(!notice.contains("jsonrpc"), "{notice}");
        for block in events.split_terminator("\n\n") {
            assert!(block.starts_with("data: {\"jsonrpc\""), "{block}");
        }
        assert!(events.ends_with("\"result\":999}\n\n"), "{events}");
    }
}

#[test]
fn an_envelope_is_one_line_of_bounded_length() {
    for (prefix, suffix, byte, position) in [("ab\nc", "", b'\n', 2), ("", "\r", b'\r', 0)] {
        let refused = Envelope::new(prefix, suffix);
        assert_eq!(refused, Err(EnvelopeError::LineBreak { byte, position }));
    }
    let half = "x".repeat(MAX_ENVELOPE_BYTES / 2);
    assert!(Envelope::new(half.clone(), half.clone()).is_ok());
    let refused = Envelope::new(half.clone(), half + "x");
    let (limit, len) = (MAX_ENVELOPE_BYTES, MAX_ENVELOPE_BYTES + 1);
    assert_eq!(refused, Err(EnvelopeError::TooLong { limit, len }));
}
