//! A2A v1.0 and v0.3.

use fanfare::protocol::a2a::{
    Artifact, ArtifactUpdate, JsonRpcEnvelope, Message, Part, RequestId, Role, StatusUpdate,
    StreamResponse, Task, TaskState, TaskStatus, V0_3,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::json::any_json;
use crate::{error, same};

/// The same responses in v1.0 and in v0.3, in the order of fields in which they are written.
pub(crate) const RESPONSES: [(&str, &str); 5] = [
    (
        r#"{"task":{"id":"t","status":{"state":"TASK_STATE_WORKING","message":{"messageId":"m","role":"ROLE_AGENT","parts":[{"text":"on it"}]},"timestamp":"2026-01-01T00:00:00.000Z"},"contextId":"c","artifacts":[{"artifactId":"a","parts":[{"data":{"k":1}}],"name":"n","description":"d","metadata":{"k":null},"extensions":["urn:x"]}],"history":[{"messageId":"m0","role":"ROLE_USER","parts":[{"text":"do","metadata":{"a":1}}],"contextId":"c","taskId":"t","metadata":{},"extensions":["urn:x"],"referenceTaskIds":["t0"]}],"metadata":{"k":[]}}}"#,
        r#"{"id":"t","contextId":"c","kind":"task","status":{"state":"working","message":{"messageId":"m","kind":"message","role":"agent","parts":[{"kind":"text","text":"on it"}]},"timestamp":"2026-01-01T00:00:00.000Z"},"artifacts":[{"artifactId":"a","parts":[{"kind":"data","data":{"k":1}}],"name":"n","description":"d","metadata":{"k":null},"extensions":["urn:x"]}],"history":[{"messageId":"m0","kind":"message","role":"user","parts":[{"kind":"text","text":"do","metadata":{"a":1}}],"contextId":"c","taskId":"t","metadata":{},"extensions":["urn:x"],"referenceTaskIds":["t0"]}],"metadata":{"k":[]}}"#,
    ),
    (
        r#"{"message":{"messageId":"m","role":"ROLE_AGENT","parts":[{"raw":"aGk=","filename":"f.txt","mediaType":"text/plain"},{"url":"https://example.com/f","mediaType":"text/plain","metadata":{"a":1}}]}}"#,
        r#"{"messageId":"m","kind":"message","role":"agent","parts":[{"kind":"file","file":{"bytes":"aGk=","name":"f.txt","mimeType":"text/plain"}},{"kind":"file","file":{"uri":"https://example.com/f","mimeType":"text/plain"},"metadata":{"a":1}}]}"#,
    ),
    (
        r#"{"statusUpdate":{"taskId":"t","contextId":"c","status":{"state":"TASK_STATE_WORKING"},"metadata":{"k":1}}}"#,
        r#"{"taskId":"t","contextId":"c","kind":"status-update","status":{"state":"working"},"final":false,"metadata":{"k":1}}"#,
    ),
    (
        r#"{"statusUpdate":{"taskId":"t","contextId":"c","status":{"state":"TASK_STATE_COMPLETED","timestamp":"2026-01-01T00:00:00.000Z"}}}"#,
        r#"{"taskId":"t","contextId":"c","kind":"status-update","status":{"state":"completed","timestamp":"2026-01-01T00:00:00.000Z"},"final":true}"#,
    ),
    (
        r#"{"artifactUpdate":{"taskId":"t","contextId":"c","artifact":{"artifactId":"a","parts":[{"data":[1,2]},{"data":"x","metadata":{"m":1}}]},"append":true,"lastChunk":false,"metadata":{"k":1}}}"#,
        r#"{"taskId":"t","contextId":"c","kind":"artifact-update","artifact":{"artifactId":"a","parts":[{"kind":"data","data":{"value":[1,2]},"metadata":{"data_part_compat":true}},{"kind":"data","data":{"value":"x"},"metadata":{"m":1,"data_part_compat":true}}]},"append":true,"lastChunk":false,"metadata":{"k":1}}"#,
    ),
];

#[test]
fn both_versions_are_read_and_written() {
    for (newer, older) in RESPONSES {
        let response: StreamResponse = same(newer);
        assert!(!matches!(response, StreamResponse::Other(_)));
        assert_eq!(serde_json::to_string(&response).unwrap(), newer);
        assert_eq!(serde_json::to_string(&V0_3(&response)).unwrap(), older);

        let read: StreamResponse = serde_json::from_str(older).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), newer);
        assert_eq!(serde_json::to_string(&V0_3(read)).unwrap(), older);
        let value: Value = serde_json::from_str(newer).unwrap();
        assert_eq!(
            serde_json::from_value::<StreamResponse>(value).unwrap(),
            response
        );
    }
}

#[test]
fn every_state_and_role_has_a_name_in_both_versions() {
    let names = [
        ("TASK_STATE_UNSPECIFIED", "unknown", false),
        ("TASK_STATE_SUBMITTED", "submitted", false),
        ("TASK_STATE_WORKING", "working", false),
        ("TASK_STATE_COMPLETED", "completed", true),
        ("TASK_STATE_FAILED", "failed", true),
        ("TASK_STATE_CANCELED", "canceled", true),
        ("TASK_STATE_INPUT_REQUIRED", "input-required", true),
        ("TASK_STATE_REJECTED", "rejected", true),
        ("TASK_STATE_AUTH_REQUIRED", "auth-required", true),
    ];
    for (newer, older, ends) in names {
        let state: TaskState = serde_json::from_value(json!(newer)).unwrap();
        assert_eq!(
            serde_json::from_value::<TaskState>(json!(older)).unwrap(),
            state
        );
        assert_eq!(serde_json::to_value(state).unwrap(), json!(newer));
        assert_eq!(state.is_terminal() || state.is_interrupted(), ends);
        let update = StreamResponse::from(StatusUpdate::new("t", "c", TaskStatus::new(state)));
        let written = serde_json::to_value(V0_3(&update)).unwrap();
        assert_eq!(
            (&written["status"]["state"], &written["final"]),
            (&json!(older), &json!(ends))
        );
    }
    assert_eq!(
        serde_json::from_value::<Role>(json!("user")).unwrap(),
        Role::User
    );
    assert_eq!(
        serde_json::from_value::<Role>(json!("ROLE_AGENT")).unwrap(),
        Role::Agent
    );
}

#[test]
fn whether_a_status_is_the_last_can_be_said() {
    let status = TaskStatus::new(TaskState::InputRequired);
    let update = StatusUpdate::new("t", "c", status).last(false);
    let response = StreamResponse::from(update);
    let older = serde_json::to_string(&V0_3(&response)).unwrap();
    assert!(older.contains(r#""final":false"#), "{older}");
    let newer = serde_json::to_string(&response).unwrap();
    assert!(!newer.contains("final"), "{newer}");
    assert_eq!(
        serde_json::from_str::<StreamResponse>(&older).unwrap(),
        response
    );
}

#[test]
fn unknown_kinds_and_fields_stay() {
    for json in [
        r#"{"taskHistory":{"id":1.0}}"#,
        r#"{"kind":"progress","x":1}"#,
        "{}",
        r#"{"task":{"id":"t","status":{"state":"TASK_STATE_WORKING","since":1},"new":{"a":null}}}"#,
        r#"{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"t","lang":"en"}]}}"#,
    ] {
        let response = same::<StreamResponse>(json);
        assert_eq!(serde_json::to_string(&response).unwrap(), json);
    }
    // An empty member is none.
    let json = r#"{"task":null,"message":{"messageId":"m","role":"ROLE_USER","parts":[]}}"#;
    let message: StreamResponse = serde_json::from_str(json).unwrap();
    assert_eq!(message, Message::new("m", Role::User, []).into());
}

#[test]
fn data_may_be_null() {
    let response = StreamResponse::from(Message::new("m", Role::Agent, [Part::data(Value::Null)]));
    let newer = serde_json::to_string(&response).unwrap();
    assert_eq!(
        newer,
        r#"{"message":{"messageId":"m","role":"ROLE_AGENT","parts":[{"data":null}]}}"#
    );
    assert_eq!(same::<StreamResponse>(&newer), response);
    let older = serde_json::to_string(&V0_3(&response)).unwrap();
    assert_eq!(
        serde_json::from_str::<StreamResponse>(&older).unwrap(),
        response
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (json, wanted) in [
        ("7", "invalid type: integer `7`, expected an object"),
        (r#"{"task":{"id":"t"}}"#, "task: missing field `status`"),
        (
            r#"{"task":{"id":"t","status":{"state":"PENDING"}}}"#,
            "task: status: state: unknown variant `PENDING`, expected one of `TASK_STATE_UNSPECIFIED`, `TASK_STATE_SUBMITTED`, `TASK_STATE_WORKING`, `TASK_STATE_COMPLETED`, `TASK_STATE_FAILED`, `TASK_STATE_CANCELED`, `TASK_STATE_INPUT_REQUIRED`, `TASK_STATE_REJECTED`, `TASK_STATE_AUTH_REQUIRED`",
        ),
        (
            r#"{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"t","url":"u"}]}}"#,
            "message: parts: expected one of `text`, `raw`, `url`, `data` or, in v0.3, `file`",
        ),
        (
            r#"{"messageId":"m","kind":"message","role":"user","parts":[{"kind":"file","file":{"bytes":1}}]}"#,
            "message: parts: file: bytes: invalid type: integer `1`, expected a string",
        ),
        (
            r#"{"kind":"status-update","taskId":"t","contextId":"c","status":{"state":"working"},"final":1}"#,
            "status-update: final: invalid type: integer `1`, expected a boolean",
        ),
        (
            r#"{"message":{"messageId":"m","role":"ROLE_USER","parts":[]},"task":{"id":"t","status":{"state":"working"}}}"#,
            "task: there is another, expected exactly one",
        ),
    ] {
        assert_eq!(error::<StreamResponse>(json), wanted, "{json}");
    }
    let task = StreamResponse::from(Task::new("t", TaskStatus::new(TaskState::Working)));
    let refused = serde_json::to_string(&V0_3(&task)).unwrap_err();
    assert_eq!(refused.to_string(), "contextId: is absent; v0.3 wants it");
}

#[test]
fn an_envelope_is_a_prefix_and_a_suffix() {
    let response = StreamResponse::from(ArtifactUpdate::new(
        "t",
        "c",
        Artifact::new("a", [Part::text("x")]),
    ));
    for (version, json) in [
        ("1.0", serde_json::to_string(&response).unwrap()),
        ("0.3", serde_json::to_string(&V0_3(&response)).unwrap()),
    ] {
        for id in [
            r#""a\"b\n""#,
            "7",
            "-1",
            "1.5",
            "12345678901234567890123",
            "null",
        ] {
            let id: RequestId = serde_json::from_str(id).unwrap();
            let envelope = JsonRpcEnvelope::new(&id);
            let whole = [envelope.prefix(), &json, envelope.suffix()].concat();
            assert_eq!(whole, envelope.wrap(&json));
            assert!(!whole.contains('\n'));
            let read: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!(read["jsonrpc"], json!("2.0"));
            assert_eq!(
                read["id"].to_string(),
                serde_json::from_str::<Value>(id.get()).unwrap().to_string()
            );
            assert_eq!(
                read["result"].to_string(),
                serde_json::from_str::<Value>(&json).unwrap().to_string(),
                "{version}"
            );
        }
    }
    assert_eq!(
        error::<RequestId>(r#"{"a":1}"#),
        r#"request id `{"a":1}`: expected a string, a number or null"#
    );
    assert_eq!(
        error::<RequestId>("true"),
        "request id `true`: expected a string, a number or null"
    );
    assert_eq!(RequestId::null().get(), "null");
}

fn any_part() -> impl Strategy<Value = Part> {
    let content = prop_oneof![
        ".*".prop_map(Part::text),
        (".*", proptest::option::of(".*")).prop_map(|(url, name)| {
            let part = Part::url(url);
            match name {
                Some(name) => part.filename(name).media_type("text/plain"),
                None => part,
            }
        }),
        "[A-Za-z0-9+/]*".prop_map(Part::raw),
        any_json().prop_map(Part::data),
    ];
    (
        content,
        prop::collection::hash_map("[a-z]{1,3}", any_json(), 1..3),
        any::<bool>(),
    )
        .prop_map(|(part, metadata, with)| {
            if with {
                part.metadata(metadata.into_iter().collect::<fanfare::protocol::Object>())
            } else {
                part
            }
        })
}

proptest! {
    #[test]
    fn any_message_makes_the_way_in_both_versions(
        id in ".*",
        parts in prop::collection::vec(any_part(), 0..4),
        context in proptest::option::of(".*"),
    ) {
        let mut message = Message::new(id, Role::Agent, parts);
        message.context_id = context;
        let response = StreamResponse::from(message);
        for json in [serde_json::to_string(&response), serde_json::to_string(&V0_3(&response))] {
            prop_assert_eq!(&serde_json::from_str::<StreamResponse>(&json.unwrap()).unwrap(), &response);
        }
    }
}
