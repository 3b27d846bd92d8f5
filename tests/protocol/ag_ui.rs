//! AG-UI 1.0.

use fanfare::protocol::ag_ui::{
    Event, Interrupt, Message, NumberThinking, PatchOperation, RunAgentInput, RunFinished,
    RunOutcome, TextMessageStart, TextRole, TokenUsage,
};
use fanfare::protocol::{Json, Object};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::json::any_json;
use crate::{error, same};

/// Every event, minimal and full, as the official schema has them.
pub(crate) fn fixture() -> Vec<Value> {
    let entries: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/agui-1.0-events.json")).unwrap();
    entries
        .into_iter()
        .map(|mut entry| entry["o"].take())
        .collect()
}

fn write(event: &Event) -> String {
    serde_json::to_string(event).unwrap()
}

#[test]
fn every_event_of_the_fixture_is_known_and_written_as_it_was() {
    let fixture = fixture();
    assert_eq!(fixture.len(), 63);
    for object in fixture {
        let event: Event = same(&object.to_string());
        assert!(!matches!(event, Event::Other(_)), "{object}");
        let common = event.common().unwrap();
        assert!(common.extra.is_empty(), "{object}");
        // From a value as from text, and read again it is the same.
        assert_eq!(
            serde_json::from_value::<Event>(object.clone()).unwrap(),
            event
        );
        assert_eq!(serde_json::to_value(&event).unwrap(), object);
        assert_eq!(
            serde_json::from_str::<Event>(&write(&event)).unwrap(),
            event
        );
    }
}

#[test]
fn what_every_event_may_carry_is_read_from_every_event() {
    for mut object in fixture() {
        object["timestamp"] = json!(-5);
        object["metadata"] = json!({"ag-ui": null});
        object["rawEvent"] = json!([1]);
        object["future"] = json!({"a": [null]});
        let event: Event = same(&object.to_string());
        let common = event.common().unwrap();
        assert_eq!(common.timestamp, Some(-5));
        assert!(
            common
                .metadata
                .as_ref()
                .unwrap()
                .get("ag-ui")
                .unwrap()
                .is_null()
        );
        assert_eq!(common.raw_event.as_ref().unwrap().get(), "[1]");
        assert_eq!(common.extra.to_string(), r#"{"future":{"a":[null]}}"#);
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let event: Event = serde_json::from_str(
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","timestamp":null,"rawEvent":null,
            "metadata":null,"result":null,"outcome":null,"usage":null}"#,
    )
    .unwrap();
    assert_eq!(event, Event::run_finished("t", "r"));
    let finished = RunFinished::new("t", "r").result(Json::null());
    assert_eq!(
        write(&Event::from(finished).raw_event(Json::null())),
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r"}"#
    );
    // Where null is a value, it is one.
    same::<Event>(r#"{"type":"CUSTOM","name":"n","value":null}"#);
    same::<Event>(r#"{"type":"RAW","event":null}"#);
    assert_eq!(
        error::<Event>(r#"{"type":"CUSTOM","name":"n"}"#),
        "CUSTOM: missing field `value`"
    );
}

#[test]
fn builders_take_one_line() {
    for (event, json) in [
        (
            Event::text_message_content("m1", "hello"),
            r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m1","delta":"hello"}"#,
        ),
        (
            Event::run_started("t", "r").timestamp(1_700_000_000_000),
            r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","timestamp":1700000000000}"#,
        ),
        (
            TextMessageStart::new("m1")
                .role(TextRole::User)
                .name("bob")
                .into(),
            r#"{"type":"TEXT_MESSAGE_START","messageId":"m1","role":"user","name":"bob"}"#,
        ),
        (
            Event::state_delta([PatchOperation::add("/a", 1), PatchOperation::remove("/b")]),
            r#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/a","value":1},{"op":"remove","path":"/b"}]}"#,
        ),
        (
            Event::state_snapshot(json!({"a": null})),
            r#"{"type":"STATE_SNAPSHOT","snapshot":{"a":null}}"#,
        ),
        (
            Event::run_interrupted(
                "t",
                "r",
                [Interrupt::new("i", "confirmation").message("Sure?")],
            ),
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":[{"id":"i","reason":"confirmation","message":"Sure?"}]}}"#,
        ),
        (
            Event::run_cancelled("t", "r"),
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"cancelled"}}"#,
        ),
        (
            Event::reasoning_message_start("m"),
            r#"{"type":"REASONING_MESSAGE_START","role":"reasoning","messageId":"m"}"#,
        ),
        (
            Event::tool_call_result("m", "c", "ok").metadata([("k", "v")]),
            r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":"ok","metadata":{"k":"v"}}"#,
        ),
    ] {
        assert_eq!(write(&event), json);
        assert_eq!(same::<Event>(json), event);
    }
}

#[test]
fn a_type_of_the_future_stays_as_it_is() {
    let json = r#"{"b":1.0,"timestamp":"soon","type":"META","a":[12345678901234567890123,{"z":null,"y":"\u00e9"}]}"#;
    let event: Event = serde_json::from_str(json).unwrap();
    assert_eq!(event, Event::Other(json.parse().unwrap()));
    assert_eq!(write(&event), json);
    assert!(event.common().is_none());
    assert_eq!(write(&event.timestamp(1).metadata(Object::new())), json);
}

#[test]
fn unknown_kinds_and_fields_below_an_event_stay() {
    let json = r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"1","role":"robot","x":1},{"id":"2","role":"user","content":[{"type":"smell","x":{}},{"type":"image","source":{"type":"ether","y":1}},{"type":"text","text":"t","new":[]}],"new":0}],"new":null}"#;
    let event = same::<Event>(json);
    assert_eq!(write(&event).len(), json.len());
    let Event::MessagesSnapshot(snapshot) = event else {
        panic!("{event:?}")
    };
    assert!(matches!(snapshot.messages[0], Message::Other(_)));
    same::<Event>(
        r#"{"type":"STATE_DELTA","delta":[{"op":"shuffle","path":"x"},{"op":"remove","path":"/a","value":1}]}"#,
    );
    same::<Event>(
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"exploded"}}"#,
    );
}

#[test]
fn the_type_may_stand_anywhere() {
    let event: Event =
        serde_json::from_str(r#"{"delta":"d","messageId":"m","type":"TEXT_MESSAGE_CONTENT"}"#)
            .unwrap();
    assert_eq!(event, Event::text_message_content("m", "d"));
}

#[test]
fn timestamps_are_integers_that_javascript_holds() {
    const MAX: i64 = (1 << 53) - 1;
    for timestamp in [0, MAX, -MAX] {
        same::<Event>(&write(&Event::text_message_end("m").timestamp(timestamp)));
    }
    let integral: Event =
        serde_json::from_str(r#"{"type":"TEXT_MESSAGE_END","messageId":"m","timestamp":1.7e12}"#)
            .unwrap();
    assert_eq!(
        integral,
        Event::text_message_end("m").timestamp(1_700_000_000_000)
    );
    let read = |value: &str| {
        error::<Event>(&format!(
            r#"{{"type":"TEXT_MESSAGE_END","messageId":"m","timestamp":{value}}}"#
        ))
    };
    assert_eq!(
        read("9007199254740992"),
        "TEXT_MESSAGE_END: timestamp: 9007199254740992 is not an integer between -(2^53 - 1) and 2^53 - 1"
    );
    assert_eq!(
        read("1.5"),
        "TEXT_MESSAGE_END: timestamp: invalid value: floating point `1.5`, expected an integer"
    );
    assert_eq!(
        read(r#""2026-01-01T00:00:00Z""#),
        r#"TEXT_MESSAGE_END: timestamp: invalid type: string "2026-01-01T00:00:00Z", expected an integer"#
    );
    let refused =
        serde_json::to_string(&Event::text_message_end("m").timestamp(MAX + 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "timestamp: 9007199254740992 is not an integer between -(2^53 - 1) and 2^53 - 1"
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (json, wanted) in [
        ("[]", "invalid type: sequence, expected an object"),
        ("{}", "missing field `type`"),
        (
            r#"{"type":7}"#,
            "type: invalid type: integer `7`, expected a string",
        ),
        (
            r#"{"type":"RUN_ERROR","type":"RAW"}"#,
            "duplicate field `type`",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_CONTENT","delta":"d"}"#,
            "TEXT_MESSAGE_CONTENT: missing field `messageId`",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_CONTENT","delta":null,"messageId":"m"}"#,
            "TEXT_MESSAGE_CONTENT: delta: invalid type: null, expected a string",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_END","messageId":"m","messageId":"n"}"#,
            "TEXT_MESSAGE_END: duplicate field `messageId`",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_START","messageId":"m","role":"robot"}"#,
            "TEXT_MESSAGE_START: role: unknown variant `robot`, expected one of `developer`, `system`, `assistant`, `user`",
        ),
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":[{"id":"i"}]}}"#,
            "RUN_FINISHED: outcome: interrupt: interrupts: missing field `reason`",
        ),
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":[]}}"#,
            "RUN_FINISHED: outcome: interrupt: interrupts: is empty, expected at least one",
        ),
        (
            r#"{"type":"RUN_ERROR","message":"m","usage":[{"inputTokens":-1}]}"#,
            "RUN_ERROR: usage: inputTokens: -1 is not an integer between 0 and 2^53 - 1",
        ),
        (
            r#"{"type":"STATE_DELTA","delta":[{"op":"remove","path":"a"}]}"#,
            "STATE_DELTA: delta: remove: path: `a` is no JSON Pointer",
        ),
        (
            r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"m","activityType":"A","content":[]}"#,
            "ACTIVITY_SNAPSHOT: content: invalid type: sequence, expected an object",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_END","messageId":"m","metadata":1}"#,
            "TEXT_MESSAGE_END: metadata: invalid type: integer `1`, expected an object",
        ),
        (
            r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":{}}"#,
            "TOOL_CALL_RESULT: content: invalid type: map, expected a string or an array of parts",
        ),
        (
            r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":"","role":"user"}"#,
            "TOOL_CALL_RESULT: role: unknown variant `user`, expected `tool`",
        ),
    ] {
        assert_eq!(error::<Event>(json), wanted, "{json}");
    }
    assert_eq!(
        error::<TextMessageStart>(r#"{"type":"RAW","messageId":"m"}"#),
        "type: unknown value `RAW`, expected `TEXT_MESSAGE_START`"
    );
}

#[test]
fn what_a_client_would_refuse_is_not_written() {
    let refused = |event: Event| serde_json::to_string(&event).unwrap_err().to_string();
    assert_eq!(
        refused(Event::run_interrupted("t", "r", [])),
        "interrupts: is empty, expected at least one"
    );
    for path in ["a", "/~", "/~2", "~0"] {
        assert_eq!(
            refused(Event::state_delta([PatchOperation::remove(path)])),
            format!("path: `{path}` is no JSON Pointer")
        );
    }
    same::<Event>(&write(&Event::state_delta([
        PatchOperation::remove(""),
        PatchOperation::remove("/~0~1//"),
    ])));
    let finished = RunFinished::new("t", "r").usage([TokenUsage::new().input_tokens(-1)]);
    assert_eq!(
        refused(finished.into()),
        "inputTokens: -1 is not an integer between 0 and 2^53 - 1"
    );
}

#[test]
fn thinking_is_read_as_reasoning() {
    let stream = [
        (
            r#"{"type":"THINKING_START","title":"Hm","timestamp":5}"#,
            r#"{"type":"REASONING_START","messageId":"thinking-1","timestamp":5,"title":"Hm"}"#,
        ),
        (
            r#"{"type":"THINKING_TEXT_MESSAGE_START"}"#,
            r#"{"type":"REASONING_MESSAGE_START","role":"reasoning","messageId":"thinking-2"}"#,
        ),
        (
            r#"{"type":"THINKING_TEXT_MESSAGE_CONTENT","delta":"d"}"#,
            r#"{"type":"REASONING_MESSAGE_CONTENT","messageId":"thinking-2","delta":"d"}"#,
        ),
        (
            r#"{"type":"THINKING_TEXT_MESSAGE_END"}"#,
            r#"{"type":"REASONING_MESSAGE_END","messageId":"thinking-2"}"#,
        ),
        (
            r#"{"type":"THINKING_TEXT_MESSAGE_START"}"#,
            r#"{"type":"REASONING_MESSAGE_START","role":"reasoning","messageId":"thinking-3"}"#,
        ),
        (
            r#"{"type":"THINKING_TEXT_MESSAGE_END"}"#,
            r#"{"type":"REASONING_MESSAGE_END","messageId":"thinking-3"}"#,
        ),
        (
            r#"{"type":"THINKING_END"}"#,
            r#"{"type":"REASONING_END","messageId":"thinking-1"}"#,
        ),
        (
            r#"{"type":"THINKING_START"}"#,
            r#"{"type":"REASONING_START","messageId":"thinking-4"}"#,
        ),
        (
            r#"{"type":"REASONING_END","messageId":"own"}"#,
            r#"{"type":"REASONING_END","messageId":"own"}"#,
        ),
    ];
    let mut number = NumberThinking::default();
    for (older, newer) in stream {
        let mut event: Event = serde_json::from_str(older).unwrap();
        number.apply(&mut event);
        assert_eq!(write(&event), newer);
    }
    assert_eq!(
        error::<Event>(r#"{"type":"THINKING_TEXT_MESSAGE_CONTENT"}"#),
        "REASONING_MESSAGE_CONTENT: missing field `delta`"
    );
}

#[test]
fn a_request_is_read_and_written() {
    let json = r#"{"threadId":"t","runId":"r","messages":[{"role":"user","id":"m","content":"hi"}],"protocolVersion":"1.0","parentRunId":"p","state":{"a":1},"tools":[{"name":"f","description":"d","parameters":{},"metadata":{}}],"context":[{"description":"d","value":"v"}],"forwardedProps":[1],"resume":[{"interruptId":"i","status":"resolved","payload":true},{"interruptId":"j","status":"cancelled","metadata":{}}]}"#;
    let input = same::<RunAgentInput>(json);
    assert_eq!(serde_json::to_string(&input).unwrap(), json);
    let null: RunAgentInput =
        serde_json::from_str(r#"{"threadId":"t","runId":"r","messages":[],"state":null}"#).unwrap();
    assert_eq!(null, RunAgentInput::new("t", "r", []));
    assert_eq!(
        error::<RunAgentInput>(r#"{"threadId":"t","runId":"r"}"#),
        "missing field `messages`"
    );
    assert_eq!(
        error::<RunAgentInput>(
            r#"{"threadId":"t","runId":"r","messages":[{"id":1,"role":"user"}]}"#
        ),
        "messages: user: id: invalid type: integer `1`, expected a string"
    );
}

#[test]
fn an_outcome_can_be_any() {
    for outcome in [
        r#"{"type":"success","pendingToolCallIds":["c"]}"#,
        r#"{"type":"success"}"#,
        r#"{"type":"cancelled"}"#,
    ] {
        let read = same::<RunOutcome>(outcome);
        assert_eq!(serde_json::to_string(&read).unwrap(), outcome);
    }
}

proptest! {
    /// Texts and free-form JSON of any kind, in any event.
    #[test]
    fn any_content_makes_the_way(
        text in any::<String>(),
        name in any::<String>(),
        value in any_json(),
        timestamp in proptest::option::of(-9_007_199_254_740_991_i64..=9_007_199_254_740_991),
        metadata in prop::collection::hash_map(".{0,5}", any_json(), 0..3),
    ) {
        let metadata: Object = metadata.into_iter().collect();
        for event in [
            Event::text_message_content(name.as_str(), text.as_str()),
            Event::custom(name.as_str(), value.clone()),
            Event::state_snapshot(value.clone()),
            Event::activity_snapshot(name.as_str(), text.as_str(), metadata.clone()),
            Event::tool_call_result(name.as_str(), text.as_str(), text.as_str()),
        ] {
            let mut event = event.metadata(metadata.clone());
            if !value.is_null() {
                event = event.raw_event(value.clone());
            }
            if let Some(timestamp) = timestamp {
                event = event.timestamp(timestamp);
            }
            let json = write(&event);
            prop_assert_eq!(&serde_json::from_str::<Event>(&json).unwrap(), &event);
            // Equal values are equal bytes, also from a pretty form.
            let value: Value = serde_json::from_str(&json).unwrap();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let again: Event = serde_json::from_str(&pretty).unwrap();
            prop_assert_eq!(serde_json::to_value(again).unwrap(), value);
        }
    }

    /// Whatever is read does not panic, and what was read is written.
    #[test]
    fn a_broken_event_is_an_error(at in 0_usize..63, key in 0_usize..8, value in any_json()) {
        let mut object = fixture().swap_remove(at);
        let keys: Vec<String> = object.as_object().unwrap().keys().cloned().collect();
        let key = &keys[key % keys.len()];
        object[key.as_str()] = value;
        if let Ok(event) = serde_json::from_value::<Event>(object) {
            prop_assert_eq!(serde_json::from_str::<Event>(&write(&event)).unwrap(), event);
        }
    }
}
