//! What the types write, as JSON lines in the build's scratch directory: `ci/protocols.sh` hands it to the protocols' own
//! packages.

use std::fs;
use std::path::Path;

use fanfare::protocol::a2a::{JsonRpcEnvelope, StreamResponse, V0_3};
use fanfare::protocol::ag_ui::{
    self, ActivityMessage, AssistantMessage, AudioPart, ContentPart, CopyOperation, DataSource,
    DeveloperMessage, DocumentPart, EncryptedSubtype, Event, FileSource, FunctionCall, ImagePart,
    Interrupt, Message, MoveOperation, PatchOperation, ReasoningMessage, ReasoningMessageChunk,
    ResumeEntry, ResumeStatus, RunAgentInput, RunFinished, RunStarted, SubagentFinished,
    SubagentSuccess, SubagentSuspended, SuccessOutcome, SystemMessage, TestOperation,
    TextMessageChunk, TextMessageStart, TextPart, TextRole, TokenUsage, Tool, ToolCall,
    ToolCallChunk, ToolMessage, UrlSource, UserMessage, VideoPart,
};
use fanfare::protocol::{Json, Object};
use serde_json::{Value, json};

use crate::a2a::RESPONSES;
use crate::ag_ui::fixture;

fn metadata() -> Object {
    Object::from([("trace", Json::null())])
}

fn interrupt() -> Interrupt {
    Interrupt::new("i", "tool_call")
        .message("Sure?")
        .tool_call_id("c")
        .response_schema([("type", "object")])
        .expires_at("2026-01-01T00:00:00Z")
        .metadata(metadata())
        .subagent_run_id("sa")
}

fn usage() -> TokenUsage {
    TokenUsage::new()
        .provider("p")
        .model("m")
        .input_tokens(1)
        .output_tokens(2)
        .total_tokens(3)
        .reasoning_tokens(1)
        .cached_input_tokens(0)
        .cache_write_input_tokens((1_i64 << 53) - 1)
}

fn parts() -> [ContentPart; 5] {
    [
        TextPart::new("t").id("1").metadata(1).into(),
        ImagePart::new(DataSource::new("aGk=", "image/png"))
            .id("2")
            .into(),
        AudioPart::new(UrlSource::new("https://example.com/a").mime_type("audio/ogg")).into(),
        VideoPart::new(FileSource::new("f-1").provider("p").mime_type("video/mp4")).into(),
        DocumentPart::new(UrlSource::new("https://example.com/d"))
            .metadata("x")
            .into(),
    ]
}

fn messages() -> Vec<Message> {
    let call = ToolCall::new("c", FunctionCall::new("f", "{}"))
        .encrypted_value("e")
        .metadata(metadata());
    vec![
        DeveloperMessage::new("1", "d")
            .name("n")
            .encrypted_value("e")
            .into(),
        SystemMessage::new("2", "s").metadata(metadata()).into(),
        AssistantMessage::new("3")
            .tool_calls([call])
            .subagent_run_id("sa")
            .into(),
        AssistantMessage::new("4").content("a").into(),
        UserMessage::new("5", "u").name("bob").into(),
        UserMessage::new("6", parts()).into(),
        ToolMessage::new("7", "c", parts()).error("e").into(),
        ActivityMessage::new("8", "PLAN", [("steps", 3)]).into(),
        ReasoningMessage::new("9", "r").encrypted_value("e").into(),
    ]
}

fn patch() -> Vec<PatchOperation> {
    vec![
        PatchOperation::add("", json!({"a": null})),
        PatchOperation::remove("/a~0b~1c/"),
        PatchOperation::replace("/a/0", Json::null()),
        MoveOperation::new("/a", "/b").into(),
        CopyOperation::new("/a", "/b").into(),
        TestOperation::new("/a", 1.to_string()).into(),
    ]
}

fn input() -> RunAgentInput {
    RunAgentInput::new("t", "r", messages())
        .protocol_version(ag_ui::PROTOCOL_VERSION)
        .state(json!([1, "two"]))
        .tools([Tool::new("f", "d").parameters(json!({"type": "object"}))])
        .context([ag_ui::Context::new("d", "v")])
        .forwarded_props(json!({"a": 1}))
        .resume([ResumeEntry::new("i", ResumeStatus::Resolved).payload(true)])
}

/// Everything that stands within a run.
fn content() -> Vec<Event> {
    vec![
        Event::step_started("s"),
        Event::step_finished("s"),
        TextMessageStart::new("m")
            .role(TextRole::Developer)
            .name("n")
            .subagent_run_id("sa")
            .into(),
        Event::text_message_content("m", "\u{0}\u{7f}\u{2028}\u{1F600}\"\\\r\n"),
        Event::text_message_end("m"),
        TextMessageChunk::new()
            .message_id("m")
            .role(TextRole::System)
            .delta("d")
            .into(),
        Event::tool_call_start("c", "f"),
        Event::tool_call_args("c", "{}"),
        Event::tool_call_end("c"),
        ToolCallChunk::new()
            .tool_call_id("c")
            .tool_call_name("f")
            .delta("{")
            .into(),
        Event::tool_call_result("m", "c", "ok"),
        Event::tool_call_result("m", "c", parts()),
        Event::state_snapshot(Json::null()),
        Event::state_delta(patch()),
        Event::messages_snapshot(messages()),
        Event::activity_snapshot("m", "PLAN", Object::new()),
        Event::activity_delta("m", "PLAN", patch()),
        Event::raw(json!([1, null])),
        Event::custom("n", Json::null()),
        Event::reasoning_start("m"),
        Event::reasoning_message_start("m"),
        Event::reasoning_message_content("m", "d"),
        Event::reasoning_message_end("m"),
        ReasoningMessageChunk::new()
            .message_id("m")
            .delta("d")
            .into(),
        Event::reasoning_end("m"),
        Event::reasoning_encrypted_value(EncryptedSubtype::Message, "m", "e"),
    ]
}

/// What opens and closes runs and subagents.
fn ends() -> Vec<Event> {
    let run = || RunFinished::new("t", "r").usage([usage()]);
    vec![
        RunStarted::new("t", "r")
            .protocol_version(ag_ui::PROTOCOL_VERSION)
            .input(input())
            .into(),
        Event::subagent_started("sa", "n"),
        SubagentFinished::new("sa")
            .result(1)
            .outcome(SubagentSuccess::new())
            .into(),
        SubagentFinished::new("sa")
            .outcome(SubagentSuspended::new().interrupt_ids(["i".to_owned()]))
            .into(),
        Event::subagent_error("sa", "e"),
        run().result("x").into(),
        run()
            .outcome(SuccessOutcome::new().pending_tool_call_ids(["c".to_owned()]))
            .into(),
        run()
            .outcome(ag_ui::InterruptOutcome::new([interrupt()]))
            .into(),
        Event::run_interrupted("t", "r", [interrupt()]),
        Event::run_cancelled("t", "r"),
        Event::run_error("e")
            .timestamp(-((1 << 53) - 1))
            .metadata(metadata())
            .raw_event("x"),
        // What came before 1.0, as it is written now.
        serde_json::from_str(r#"{"type":"THINKING_TEXT_MESSAGE_START"}"#).unwrap(),
        serde_json::from_str(r#"{"type":"THINKING_TEXT_MESSAGE_CONTENT","delta":"d"}"#).unwrap(),
    ]
}

/// Every event and everything that can stand in one, made with the builders.
pub(crate) fn built() -> Vec<Event> {
    content().into_iter().chain(ends()).collect()
}

fn write(file: &str, lines: &[String]) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("protocols");
    fs::create_dir_all(&directory).unwrap();
    assert!(lines.iter().all(|line| !line.contains('\n')));
    fs::write(directory.join(file), lines.join("\n")).unwrap();
}

#[test]
fn ag_ui() {
    let built = built();
    let types: std::collections::BTreeSet<String> = built
        .iter()
        .map(|event| serde_json::to_value(event).unwrap()["type"].to_string())
        .collect();
    assert_eq!(types.len(), 31, "{types:?}");
    let fixture = fixture()
        .into_iter()
        .map(|object: Value| serde_json::from_value(object).unwrap());
    let lines: Vec<String> = fixture
        .chain(built)
        .map(|event: Event| serde_json::to_string(&event).unwrap())
        .collect();
    write("ag-ui.jsonl", &lines);
}

#[test]
fn a2a() {
    let read = |json: &str| serde_json::from_str::<StreamResponse>(json).unwrap();
    let (newer, older): (Vec<String>, Vec<String>) = RESPONSES
        .iter()
        .map(|(json, _)| {
            let response = read(json);
            let older = serde_json::to_string(&V0_3(&response)).unwrap();
            (serde_json::to_string(&response).unwrap(), older)
        })
        .unzip();
    write("a2a-1.0.jsonl", &newer);
    write("a2a-0.3.jsonl", &older);
    // The clients count their requests from 1.
    let envelope = |id: i32| {
        let envelope = JsonRpcEnvelope::new(&id.into());
        json!({"id": id, "prefix": envelope.prefix(), "suffix": envelope.suffix()}).to_string()
    };
    write(
        "a2a-envelopes.jsonl",
        &(0..10).map(envelope).collect::<Vec<_>>(),
    );
}
