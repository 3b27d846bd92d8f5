//! Events in `text/event-stream` form: what is published is what any reader of the format sees, and nothing else.
//!
//! An independent parser, `eventsource-stream`, reads it back.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::convert::Infallible;

use common::{block_on, frame};
use eventsource_stream::Eventsource as _;
use fanfare::{EncodeError, Event, EventId, Frame, Hub, MAX_NAME_BYTES, Payload, PublishError};
use futures_util::{StreamExt as _, stream};
use proptest::prelude::*;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Publishes one event and takes its frame.
fn round_trip<P: Payload>(event: Event<'_, P>) -> Frame {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let _ = hub.publish("a", event).unwrap();
    frame(subscription.try_recv())
}

/// What the independent parser makes of a stream.
fn parse(bytes: &[u8]) -> Vec<eventsource_stream::Event> {
    let chunk: Result<_, Infallible> = Ok(bytes);
    let events = stream::iter([chunk]).eventsource();
    block_on(events.map(Result::unwrap).collect())
}

/// What the format makes of line ends in data: one LF each.
fn normal(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Publishes `data` as text, and checks what each reader of the frame sees.
#[track_caller]
fn check_text(name: &str, data: &str) {
    let frame = round_trip(Event::text(data).name(name));
    assert_eq!(frame.data(), normal(data));
    assert_eq!(frame.name(), Some(name).filter(|name| !name.is_empty()));
    let one_line = !data.contains(['\n', '\r']);
    assert_eq!(
        frame.payload(),
        one_line.then_some(data.as_bytes()),
        "one line is a sub-slice"
    );
    let parsed = parse(frame.as_sse());
    let [event] = &parsed[..] else {
        panic!("not one event: {parsed:?}");
    };
    assert_eq!(event.data, normal(data));
    assert_eq!(event.event, if name.is_empty() { "message" } else { name });
    assert_eq!(event.id.parse(), Ok(frame.id().unwrap()));
    assert_eq!(event.retry, None);
}

#[track_caller]
fn refused<P: Payload>(event: Event<'_, P>) -> EncodeError {
    let hub = Hub::builder().max_event_bytes(100).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let Err(PublishError::Encode(error)) = hub.publish("a", event) else {
        panic!("published");
    };
    // Nothing was appended: the next event is the first.
    assert!(subscription.try_recv().is_err());
    assert_eq!(hub.stats().published, 0);
    let next = hub.publish("a", Event::text("next")).unwrap();
    assert_eq!(next.id().map(EventId::offset), Some(1));
    assert_eq!(frame(subscription.try_recv()).data(), "next");
    error
}

/// The vectors say what a reader must see; the same must come out when it is published.
#[test]
fn the_shared_vectors_round_trip() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/sse-vectors.json")).unwrap();
    let mut checked = 0;
    for vector in vectors.as_array().unwrap() {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for event in vector["events"].as_array().unwrap() {
            let (kind, data) = (event[0].as_str().unwrap(), event[1].as_str().unwrap());
            let name = if kind == "message" { "" } else { kind };
            check_text(name, data);
            stream.extend_from_slice(round_trip(Event::text(data).name(name)).as_sse());
            expected.push((kind.to_owned(), data.to_owned()));
            checked += 1;
        }
        let parsed: Vec<_> = parse(&stream)
            .into_iter()
            .map(|event| (event.event, event.data))
            .collect();
        assert_eq!(parsed, expected, "{}", vector["name"]);
    }
    assert_eq!(checked, 29, "events in the vectors");
}

#[test]
fn the_bytes_of_an_event() {
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let mut bytes = |event: Event<'_, _>| {
        let published = hub.publish("a", event).unwrap();
        let frame = frame(subscription.try_recv());
        assert_eq!(published.bytes(), frame.len());
        String::from_utf8(frame.as_sse().to_vec()).unwrap()
    };
    assert_eq!(bytes(Event::text("x")), "data: x\n\n");
    assert_eq!(bytes(Event::text("x").name("n")), "event: n\ndata: x\n\n");
    assert_eq!(bytes(Event::text("x").name("")), "data: x\n\n");
    assert_eq!(bytes(Event::text("")), "data: \n\n");
    assert_eq!(bytes(Event::text("\n")), "data: \ndata: \n\n");
    assert_eq!(bytes(Event::text("a\rb\r\nc\nd")), {
        "data: a\ndata: b\ndata: c\ndata: d\n\n"
    });
    assert_eq!(bytes(Event::text("a\r\r\nb\n\rc")), {
        "data: a\ndata: \ndata: b\ndata: \ndata: c\n\n"
    });
    assert_eq!(bytes(Event::text("a\n")), "data: a\ndata: \n\n");
    assert_eq!(bytes(Event::text(" x")), "data:  x\n\n");
}

#[test]
fn odd_texts() {
    for text in [
        "",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n\n",
        "\0",
        "a\rb",
        "a\r\nb",
        "a\n\rb",
        "trailing\n",
        "trailing\r",
        ": not a comment",
        "data: not a field",
        "a\n\nevent: forged\ndata: forged\n\n",
        "a\ndata: b",
        "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f",
        "\u{feff}",
        "\u{feff}bom",
        "a\u{feff}\n\u{feff}b",
        "päivää 你好 🎺",
    ] {
        check_text("", text);
        check_text("name", text);
    }
}

#[test]
fn odd_names() {
    for name in [
        " ", " leading", ": colon", "a: b", "\u{2028}", "\u{feff}", "🎺", "message", "data",
    ] {
        check_text(name, "x");
    }
    check_text(&"n".repeat(MAX_NAME_BYTES), "x");
}

proptest! {
    #[test]
    fn any_text_round_trips(data in any::<String>()) {
        check_text("", &data);
    }

    #[test]
    fn text_of_line_ends_round_trips(data in "[\r\n: ad\u{feff}\u{2028}]{0,20}") {
        check_text("n", &data);
    }

    #[test]
    fn any_name_round_trips(name in "[^\r\n\0]{1,64}", data in any::<String>()) {
        check_text(&name, &data);
    }

    #[test]
    fn any_json_round_trips(text in any::<String>(), number in any::<i64>()) {
        let value = serde_json::json!({ "text": text, "list": [number, null, text] });
        let frame = round_trip(Event::json(&value).name("json"));
        let read: serde_json::Value = serde_json::from_slice(frame.payload().unwrap()).unwrap();
        prop_assert_eq!(&read, &value);
        let [event] = &parse(frame.as_sse())[..] else { panic!("not one event") };
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&event.data).unwrap(), value);
    }

    #[test]
    fn any_name_with_a_forbidden_byte_is_refused(
        before in "[^\r\n\0]{0,20}",
        byte in prop::sample::select(vec!['\r', '\n', '\0']),
        after in any::<String>(),
    ) {
        let name: String = format!("{before}{byte}{after}");
        let name = name.chars().take(60).collect::<String>();
        let error = refused(Event::text("x").name(&name));
        let EncodeError::Name { byte: found, position } = error else { panic!("{error}") };
        prop_assert_eq!((u32::from(found), position), (u32::from(byte), before.len()));
    }
}

#[test]
fn a_stream_of_events_is_read_back() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let mut stream = Vec::new();
    for n in 0..200 {
        let _ = hub
            .publish("a", Event::text(&"\n".repeat(n % 3)).name("n"))
            .unwrap();
        let _ = hub.publish("a", Event::json(&n)).unwrap();
    }
    let mut batch = subscription.try_batch().unwrap();
    batch.for_each(|frame| stream.extend_from_slice(frame.as_sse()));
    let parsed = parse(&stream);
    assert_eq!(parsed.len(), 400);
    for (n, pair) in parsed.chunks(2).enumerate() {
        let [text, json] = pair else { panic!() };
        assert_eq!(
            (text.event.as_str(), text.data.len(), json.data.as_str()),
            ("n", n % 3, n.to_string().as_str())
        );
        assert_eq!(json.event, "message");
        assert_eq!(
            json.id.parse::<EventId>().unwrap().offset(),
            2 * n as u64 + 2
        );
    }
}

#[test]
fn names_that_could_forge_events_are_refused_with_their_place() {
    for (name, byte, position) in [
        ("\n", 0x0a, 0),
        ("a\rb", 0x0d, 1),
        ("ab\0", 0, 2),
        ("é\r\ndata: forged", 0x0d, 2),
    ] {
        let error = refused(Event::text("x").name(name));
        let message = error.to_string();
        assert!(
            message.contains(&format!("{byte:#04x} at position {position}")),
            "{message}"
        );
        assert!(
            matches!(error, EncodeError::Name { byte: b, position: p } if (b, p) == (byte, position))
        );
    }
}

#[test]
fn too_long_a_name_is_refused() {
    let name = "n".repeat(MAX_NAME_BYTES + 1);
    let error = refused(Event::text("x").name(&name));
    assert!(matches!(
        error,
        EncodeError::NameTooLong { limit: MAX_NAME_BYTES, len } if len == MAX_NAME_BYTES + 1
    ));
}

#[test]
fn payloads_above_the_limit_are_refused_with_their_size() {
    let too_large = |error| match error {
        EncodeError::TooLarge { limit: 100, size } => size,
        other => panic!("{other}"),
    };
    let long = "x".repeat(150);
    assert_eq!(too_large(refused(Event::text(&long))), 150);
    assert_eq!(too_large(refused(Event::text(&long[..101]))), 101);
    assert_eq!(too_large(refused(Event::text(&"\n".repeat(15)))), 7 * 15);
    assert_eq!(too_large(refused(Event::json(&long))), 152);
    assert_eq!(too_large(refused(Event::json(&long[..99]))), 101);
    let raw = RawValue::from_string(format!("\"{long}\"")).unwrap();
    assert_eq!(too_large(refused(Event::raw_json(&raw))), 152);
    assert_eq!(too_large(refused(Event::json(&raw))), 152);
    // In many small writes, too.
    assert_eq!(too_large(refused(Event::json(&vec![0_u8; 100]))), 201);
}

#[test]
fn a_payload_at_the_limit_is_accepted() {
    let hub = Hub::builder().max_event_bytes(100).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    // Each line break starts another field, so it counts seven bytes.
    let (text, string) = ("\r\n".repeat(14), "x".repeat(98));
    let _ = hub.publish("a", Event::text(&text)).unwrap();
    let _ = hub.publish("a", Event::json(&string)).unwrap();
    assert_eq!(frame(subscription.try_recv()).data(), "\n".repeat(14));
    assert_eq!(frame(subscription.try_recv()).data().len(), 100);
}

/// Writes some of its payload, then fails.
struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut seq = serializer.serialize_seq(None)?;
        seq.serialize_element(&1)?;
        Err(S::Error::custom("out of paper"))
    }
}

#[test]
fn a_failing_serializer_reaches_the_publisher() {
    let error = refused(Event::json(&Fails));
    assert!(matches!(error, EncodeError::Serialize(_)), "{error:?}");
    assert!(error.to_string().contains("out of paper"), "{error}");
}

#[test]
fn an_error_of_one_of_many_topics_reaches_none() {
    let hub = Hub::new();
    let mut a = hub.subscribe("a").unwrap();
    assert!(hub.publish_many(["a", "b"], Event::json(&Fails)).is_err());
    assert!(a.try_recv().is_err());
}

/// Publishes while it is being serialized.
struct Reenters<'a>(&'a Hub, u32);

impl Serialize for Reenters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let Self(hub, depth) = *self;
        let mut seq = serializer.serialize_seq(None)?;
        seq.serialize_element(&depth)?;
        if depth > 0 {
            let _ = hub
                .publish("a", Event::json(&Reenters(hub, depth - 1)).name("inner"))
                .map_err(S::Error::custom)?;
        }
        seq.serialize_element("end")?;
        seq.end()
    }
}

#[test]
fn a_serializer_may_publish() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let _ = hub.publish("a", Event::json(&Reenters(&hub, 3))).unwrap();
    for depth in 0..=3 {
        let frame = frame(subscription.try_recv());
        assert_eq!(frame.data(), format!(r#"[{depth},"end"]"#));
        assert_eq!(frame.name().is_some(), depth < 3);
    }
}

/// Panics while it is being serialized.
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("as the test wants");
    }
}

#[test]
fn a_serializer_that_panics_breaks_nothing() {
    let hub = Hub::new();
    let mut subscription = hub.subscribe("a").unwrap();
    let publish = || hub.publish("a", Event::json(&Panics)).map(drop);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(publish)).is_err());
    let next = hub.publish("a", Event::text("x")).unwrap();
    assert_eq!(next.id().map(EventId::offset), Some(1));
    assert_eq!(frame(subscription.try_recv()).data(), "x");
}

#[derive(Serialize)]
struct Outer<'a> {
    inner: &'a RawValue,
}

#[test]
fn raw_json_with_line_breaks_stays_one_line() {
    let pretty = "{\r\n  \"a\": [\n    1,\r    2\n  ],\n  \"b\": \"x\\ny\"\n}";
    let raw = RawValue::from_string(pretty.to_owned()).unwrap();
    let plain = round_trip(Event::raw_json(&raw));
    let inside = round_trip(Event::json(&Outer { inner: &raw }));
    let expected: serde_json::Value = serde_json::from_str(pretty).unwrap();
    let read = |frame: &Frame| -> serde_json::Value {
        let payload = frame.payload().unwrap();
        assert!(!payload.iter().any(|byte| b"\r\n".contains(byte)));
        assert_eq!(parse(frame.as_sse())[0].data.as_bytes(), payload);
        serde_json::from_slice(payload).unwrap()
    };
    assert_eq!(read(&plain), expected);
    assert_eq!(read(&inside), serde_json::json!({ "inner": expected }));
}

#[test]
fn the_payload_is_a_part_of_the_block() {
    let frame = round_trip(Event::json(&"x").name("n"));
    let (block, payload) = (frame.as_sse(), frame.payload().unwrap());
    assert!(block.as_ptr_range().contains(&payload.as_ptr()));
    assert_eq!(frame.len(), block.len());
    assert!(std::ptr::eq(&raw const frame.to_bytes()[..], block));
}

#[test]
fn large_events_are_whole() {
    let text = "0123456789abcdef".repeat(40 * 1024);
    check_text("large", &text);
    check_text("large", &text[..512 * 1024].replace('f', "\n"));
}
