//! What the agent says. It has no model: it answers with what its client's events can show.
//!
//! A prompt with the word `interrupt` makes the AG-UI agent ask before it goes on; `write 500 words` makes it talk.

use fanfare::protocol::Object;
use fanfare::protocol::a2a::{
    self, Artifact, ArtifactUpdate, Part, PartContent, Role, StatusUpdate, StreamResponse,
    TaskState, TaskStatus,
};
use fanfare::protocol::ag_ui::{
    AssistantMessage, Content, ContentPart, Event, FunctionCall, Interrupt, Message,
    PROTOCOL_VERSION, PatchOperation, ResumeEntry, ResumeStatus, RunAgentInput, RunFinished,
    RunStarted, TokenUsage, ToolCall, ToolCallStart,
};
use serde_json::json;

use crate::limits::{MAX_PROMPT_CHARS, MAX_WORDS};

/// Words that the agent makes its answers of when it is asked for many.
const WORDS: [&str; 8] = [
    "one ", "event ", "encoded ", "once, ", "read ", "by ", "every ", "tab. ",
];

// ---- AG-UI

/// What the user said last, as far as the agent listens.
pub(crate) fn prompt(input: &RunAgentInput) -> String {
    let last = input
        .messages
        .iter()
        .rev()
        .find_map(|message| match message {
            Message::User(user) => Some(&user.content),
            _ => None,
        });
    match last {
        Some(Content::Text(text)) => heard([text.as_str()]),
        Some(Content::Parts(parts)) => heard(parts.iter().filter_map(|part| match part {
            ContentPart::Text(text) => Some(text.text.as_str()),
            _ => None,
        })),
        None => String::new(),
    }
}

/// The agent repeats what it hears, in pieces: so it hears [`MAX_PROMPT_CHARS`] at most.
fn heard<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let chars = texts.into_iter().flat_map(str::chars);
    chars.take(MAX_PROMPT_CHARS).collect()
}

/// A run from `RUN_STARTED` to `RUN_FINISHED`. It answers the interrupts that it was asked to resume from.
pub(crate) fn run(input: &RunAgentInput, interrupts: &[Interrupt]) -> Vec<Event> {
    let (thread, run) = (&input.thread_id, &input.run_id);
    let prompt = prompt(input);
    let started = RunStarted::new(thread, run).protocol_version(PROTOCOL_VERSION);
    let mut script = vec![started.into()];
    match &input.resume {
        Some(answers) if !answers.is_empty() => resumed(&mut script, run, interrupts, answers),
        _ if prompt.contains("interrupt") => {
            ask(&mut script, input);
            return script;
        }
        _ => work(&mut script, run, &prompt),
    }
    let tokens = i64::try_from(script.len()).unwrap_or(i64::MAX);
    let usage = TokenUsage::new().model("script").output_tokens(tokens);
    script.push(RunFinished::new(thread, run).usage([usage]).into());
    script
}

/// Reasoning, a tool call with its result, state, and the answer.
fn work(script: &mut Vec<Event>, run: &str, prompt: &str) {
    script.push(Event::state_snapshot(json!({"steps": [], "progress": 0.0})));
    reason(
        script,
        run,
        &["The user says: ", prompt, ". ", "I look that up first."],
    );

    let call = format!("{run}-call");
    script.extend([
        Event::tool_call_start(&call, "look_up"),
        Event::tool_call_args(&call, r#"{"query":"#),
        Event::tool_call_args(&call, format!("{}}}", json!(prompt))),
        Event::tool_call_end(&call),
        Event::tool_call_result(format!("{run}-result"), &call, r#"{"found":3}"#),
        step("looked up", 0.5),
    ]);
    if let Some(count) = words(prompt) {
        speak(script, run, WORDS.into_iter().cycle().take(count));
    } else {
        let echo = format!("You said “{prompt}”. I found 3 things about it, ");
        let more = [
            "and ",
            "every tab ",
            "of yours ",
            "reads this ",
            "from ",
            "one log.",
        ];
        speak(script, run, echo.split_inclusive(' ').chain(more));
    }
    script.push(step("answered", 1.0));
}

/// Asks before it does something that cannot be undone.
fn ask(script: &mut Vec<Event>, input: &RunAgentInput) {
    let run = &input.run_id;
    let (call, tool) = (format!("{run}-call"), "delete_files");
    let arguments = r#"{"files":["draft.txt"]}"#;
    reason(
        script,
        run,
        &["This cannot be undone. ", "I had better ask."],
    );
    let message = format!("{run}-message");
    let start = ToolCallStart::new(&call, tool).parent_message_id(&message);
    script.extend([
        start.into(),
        Event::tool_call_args(&call, arguments),
        Event::tool_call_end(&call),
    ]);
    // An interrupting run ends with both snapshots.
    let function = FunctionCall::new(tool, arguments);
    let asks = AssistantMessage::new(&message).tool_calls([ToolCall::new(&call, function)]);
    let mut messages = input.messages.clone();
    messages.push(asks.into());
    let schema = Object::new()
        .with("type", "object")
        .with("properties", json!({"approved": {"type": "boolean"}}));
    let interrupt = Interrupt::new(format!("{run}-interrupt"), "tool_call")
        .message("Delete draft.txt?")
        .tool_call_id(&call)
        .response_schema(schema);
    script.extend([
        Event::state_snapshot(json!({"steps": ["asked"], "progress": 0.5})),
        Event::messages_snapshot(messages),
        Event::run_interrupted(&input.thread_id, run, [interrupt]),
    ]);
}

/// Goes on after the answers.
fn resumed(script: &mut Vec<Event>, run: &str, interrupts: &[Interrupt], answers: &[ResumeEntry]) {
    let mut approved = true;
    for interrupt in interrupts {
        let answer = answers.iter().find(|it| it.interrupt_id == interrupt.id);
        let yes = answer.is_some_and(is_approval);
        approved &= yes;
        if let Some(call) = &interrupt.tool_call_id {
            let result = if yes {
                "deleted"
            } else {
                "kept: the user said no"
            };
            script.push(Event::tool_call_result(
                format!("{call}-result"),
                call,
                result,
            ));
        }
    }
    script.push(Event::state_snapshot(
        json!({"steps": ["asked"], "progress": 0.5}),
    ));
    let said = if approved {
        ["Done: ", "draft.txt ", "is gone."]
    } else {
        ["Then ", "draft.txt ", "stays."]
    };
    speak(script, run, said.into_iter());
    script.push(step("answered", 1.0));
}

/// An answer that does not say no: `{"approved":false}` does.
fn is_approval(answer: &ResumeEntry) -> bool {
    let payload = answer.payload.as_ref();
    let payload = payload.and_then(|payload| payload.read::<serde_json::Value>().ok());
    answer.status == ResumeStatus::Resolved
        && payload.is_none_or(|payload| payload["approved"] != json!(false))
}

fn reason(script: &mut Vec<Event>, run: &str, thoughts: &[&str]) {
    let (span, message) = (format!("{run}-reasoning"), format!("{run}-thought"));
    script.push(Event::reasoning_start(&span));
    script.push(Event::reasoning_message_start(&message));
    for thought in thoughts {
        script.push(Event::reasoning_message_content(&message, *thought));
    }
    script.push(Event::reasoning_message_end(&message));
    script.push(Event::reasoning_end(&span));
}

fn speak<'a>(script: &mut Vec<Event>, run: &str, said: impl Iterator<Item = &'a str>) {
    let message = format!("{run}-answer");
    script.push(Event::text_message_start(&message));
    script.extend(said.map(|delta| Event::text_message_content(&message, delta)));
    script.push(Event::text_message_end(&message));
}

fn step(name: &str, progress: f64) -> Event {
    Event::state_delta([
        PatchOperation::add("/steps/-", name),
        PatchOperation::replace("/progress", progress),
    ])
}

/// How many words the agent was asked to write.
fn words(prompt: &str) -> Option<usize> {
    let (_, number) = prompt.split_once("write ")?;
    let number = number.split(' ').next()?;
    number.parse().ok().map(|words: usize| words.min(MAX_WORDS))
}

// ---- A2A

/// The text of a message, as far as the agent listens.
pub(crate) fn prompted(message: &a2a::Message) -> String {
    heard(message.parts.iter().filter_map(|part| match &part.content {
        PartContent::Text(text) => Some(text.as_str()),
        _ => None,
    }))
}

/// The task that a message makes: submitted, with the message as the beginning of its history.
pub(crate) fn submitted(id: &str, context: &str, mut message: a2a::Message) -> a2a::Task {
    message.task_id = Some(id.to_owned());
    message.context_id = Some(context.to_owned());
    a2a::Task::new(id, TaskStatus::now(TaskState::Submitted))
        .context_id(context)
        .history([message])
}

/// What becomes of a task: work, an artifact in pieces, another one at once, and the end.
pub(crate) fn task(id: &str, context: &str, prompt: &str) -> Vec<StreamResponse> {
    let says = |name: &str, text: &str| {
        a2a::Message::new(format!("{id}-{name}"), Role::Agent, [Part::text(text)])
            .task_id(id)
            .context_id(context)
    };
    let status = |state, message| {
        let status = TaskStatus::now(state).message(message);
        StatusUpdate::new(id, context, status).into()
    };
    let mut script = vec![status(
        TaskState::Working,
        says("working", "I write a report."),
    )];

    let report =
        format!("Report on “{prompt}”: one event, encoded once, and every stream reads it.");
    let echo: Vec<&str> = match words(prompt) {
        Some(count) => WORDS.iter().copied().cycle().take(count).collect(),
        None => report.split_inclusive(' ').collect(),
    };
    let last = echo.len().saturating_sub(1);
    for (at, piece) in echo.into_iter().enumerate() {
        let artifact =
            Artifact::new(format!("{id}-report"), [Part::text(piece)]).name("report.txt");
        script.push(
            ArtifactUpdate::new(id, context, artifact)
                .append(at > 0)
                .last_chunk(at == last)
                .into(),
        );
    }
    let figures = Artifact::new(format!("{id}-figures"), [Part::data(json!({"found": 3}))]);
    script.push(
        ArtifactUpdate::new(id, context, figures.name("figures"))
            .last_chunk(true)
            .into(),
    );
    script.push(status(
        TaskState::Completed,
        says("done", "The report is ready."),
    ));
    script
}
