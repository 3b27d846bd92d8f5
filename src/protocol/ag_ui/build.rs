//! Events in one line each, and what can be said of any of them.

use super::event::{
    ActivityDelta, ActivitySnapshot, Custom, EncryptedSubtype, Event, MessagesSnapshot, Raw,
    ReasoningEncryptedValue, ReasoningEnd, ReasoningMessageContent, ReasoningMessageEnd,
    ReasoningMessageStart, ReasoningStart, RunError, RunFinished, RunStarted, StateDelta,
    StateSnapshot, StepFinished, StepStarted, SubagentError, SubagentFinished, SubagentStarted,
    TextMessageContent, TextMessageEnd, TextMessageStart, ToolCallArgs, ToolCallEnd,
    ToolCallResult, ToolCallStart,
};
use super::message::{Content, Message};
use super::run::{CancelledOutcome, Interrupt, InterruptOutcome};
use super::{Common, PatchOperation};
use crate::protocol::{Json, Object};

/// What must be there, in one line. For what may be there besides, set it on the event's struct, which turns `into()` an
/// [`Event`], and see the methods below.
impl Event {
    /// Opens a run: `RUN_STARTED`.
    #[must_use]
    pub fn run_started(thread_id: impl Into<String>, run_id: impl Into<String>) -> Self {
        RunStarted::new(thread_id, run_id).into()
    }

    /// Closes a run with success: `RUN_FINISHED`.
    #[must_use]
    pub fn run_finished(thread_id: impl Into<String>, run_id: impl Into<String>) -> Self {
        RunFinished::new(thread_id, run_id).into()
    }

    /// Ends a run that failed: `RUN_ERROR`.
    #[must_use]
    pub fn run_error(message: impl Into<String>) -> Self {
        RunError::new(message).into()
    }

    /// Opens a step: `STEP_STARTED`.
    #[must_use]
    pub fn step_started(step_name: impl Into<String>) -> Self {
        StepStarted::new(step_name).into()
    }

    /// Closes a step: `STEP_FINISHED`.
    #[must_use]
    pub fn step_finished(step_name: impl Into<String>) -> Self {
        StepFinished::new(step_name).into()
    }

    /// Opens a text message of the assistant: `TEXT_MESSAGE_START`.
    #[must_use]
    pub fn text_message_start(message_id: impl Into<String>) -> Self {
        TextMessageStart::new(message_id).into()
    }

    /// Appends to a text message: `TEXT_MESSAGE_CONTENT`.
    #[must_use]
    pub fn text_message_content(message_id: impl Into<String>, delta: impl Into<String>) -> Self {
        TextMessageContent::new(message_id, delta).into()
    }

    /// Closes a text message: `TEXT_MESSAGE_END`.
    #[must_use]
    pub fn text_message_end(message_id: impl Into<String>) -> Self {
        TextMessageEnd::new(message_id).into()
    }

    /// Opens a tool call: `TOOL_CALL_START`.
    #[must_use]
    pub fn tool_call_start(
        tool_call_id: impl Into<String>,
        tool_call_name: impl Into<String>,
    ) -> Self {
        ToolCallStart::new(tool_call_id, tool_call_name).into()
    }

    /// Appends to a tool call's arguments: `TOOL_CALL_ARGS`.
    #[must_use]
    pub fn tool_call_args(tool_call_id: impl Into<String>, delta: impl Into<String>) -> Self {
        ToolCallArgs::new(tool_call_id, delta).into()
    }

    /// Closes a tool call: `TOOL_CALL_END`.
    #[must_use]
    pub fn tool_call_end(tool_call_id: impl Into<String>) -> Self {
        ToolCallEnd::new(tool_call_id).into()
    }

    /// What a tool returned: `TOOL_CALL_RESULT`.
    #[must_use]
    pub fn tool_call_result(
        message_id: impl Into<String>,
        tool_call_id: impl Into<String>,
        content: impl Into<Content>,
    ) -> Self {
        ToolCallResult::new(message_id, tool_call_id, content).into()
    }

    /// Replaces the state: `STATE_SNAPSHOT`.
    #[must_use]
    pub fn state_snapshot(snapshot: impl Into<Json>) -> Self {
        StateSnapshot::new(snapshot).into()
    }

    /// Changes the state: `STATE_DELTA`.
    #[must_use]
    pub fn state_delta(delta: impl Into<Vec<PatchOperation>>) -> Self {
        StateDelta::new(delta).into()
    }

    /// All messages: `MESSAGES_SNAPSHOT`.
    #[must_use]
    pub fn messages_snapshot(messages: impl Into<Vec<Message>>) -> Self {
        MessagesSnapshot::new(messages).into()
    }

    /// An activity: `ACTIVITY_SNAPSHOT`.
    #[must_use]
    pub fn activity_snapshot(
        message_id: impl Into<String>,
        activity_type: impl Into<String>,
        content: impl Into<Object>,
    ) -> Self {
        ActivitySnapshot::new(message_id, activity_type, content).into()
    }

    /// Changes an activity: `ACTIVITY_DELTA`.
    #[must_use]
    pub fn activity_delta(
        message_id: impl Into<String>,
        activity_type: impl Into<String>,
        patch: impl Into<Vec<PatchOperation>>,
    ) -> Self {
        ActivityDelta::new(message_id, activity_type, patch).into()
    }

    /// An event of the model's provider: RAW.
    #[must_use]
    pub fn raw(event: impl Into<Json>) -> Self {
        Raw::new(event).into()
    }

    /// An event of the application's own: CUSTOM.
    #[must_use]
    pub fn custom(name: impl Into<String>, value: impl Into<Json>) -> Self {
        Custom::new(name, value).into()
    }

    /// Opens a span of reasoning: `REASONING_START`.
    #[must_use]
    pub fn reasoning_start(message_id: impl Into<String>) -> Self {
        ReasoningStart::new(message_id).into()
    }

    /// Opens a reasoning message: `REASONING_MESSAGE_START`.
    #[must_use]
    pub fn reasoning_message_start(message_id: impl Into<String>) -> Self {
        ReasoningMessageStart::new(message_id).into()
    }

    /// Appends to a reasoning message: `REASONING_MESSAGE_CONTENT`.
    #[must_use]
    pub fn reasoning_message_content(
        message_id: impl Into<String>,
        delta: impl Into<String>,
    ) -> Self {
        ReasoningMessageContent::new(message_id, delta).into()
    }

    /// Closes a reasoning message: `REASONING_MESSAGE_END`.
    #[must_use]
    pub fn reasoning_message_end(message_id: impl Into<String>) -> Self {
        ReasoningMessageEnd::new(message_id).into()
    }

    /// Closes a span of reasoning: `REASONING_END`.
    #[must_use]
    pub fn reasoning_end(message_id: impl Into<String>) -> Self {
        ReasoningEnd::new(message_id).into()
    }

    /// Reasoning that only its provider can read: `REASONING_ENCRYPTED_VALUE`.
    #[must_use]
    pub fn reasoning_encrypted_value(
        subtype: impl Into<EncryptedSubtype>,
        entity_id: impl Into<String>,
        encrypted_value: impl Into<String>,
    ) -> Self {
        ReasoningEncryptedValue::new(subtype, entity_id, encrypted_value).into()
    }

    /// A subagent begins: `SUBAGENT_STARTED`.
    #[must_use]
    pub fn subagent_started(subagent_run_id: impl Into<String>, name: impl Into<String>) -> Self {
        SubagentStarted::new(subagent_run_id, name).into()
    }

    /// A subagent is done: `SUBAGENT_FINISHED`.
    #[must_use]
    pub fn subagent_finished(subagent_run_id: impl Into<String>) -> Self {
        SubagentFinished::new(subagent_run_id).into()
    }

    /// A subagent failed: `SUBAGENT_ERROR`.
    #[must_use]
    pub fn subagent_error(subagent_run_id: impl Into<String>, message: impl Into<String>) -> Self {
        SubagentError::new(subagent_run_id, message).into()
    }

    /// Closes a run that waits for answers: `RUN_FINISHED` with the outcome `interrupt`. At least one, or it cannot be
    /// written.
    #[must_use]
    pub fn run_interrupted(
        thread_id: impl Into<String>,
        run_id: impl Into<String>,
        interrupts: impl Into<Vec<Interrupt>>,
    ) -> Self {
        let finished = RunFinished::new(thread_id, run_id);
        finished.outcome(InterruptOutcome::new(interrupts)).into()
    }

    /// Closes a run that was stopped: `RUN_FINISHED` with the outcome `cancelled`.
    #[must_use]
    pub fn run_cancelled(thread_id: impl Into<String>, run_id: impl Into<String>) -> Self {
        let finished = RunFinished::new(thread_id, run_id);
        finished.outcome(CancelledOutcome::new()).into()
    }
}

/// What every event may carry. An [`Event::Other`] is its JSON, and these leave it as it is.
impl Event {
    /// Sets when it happened: at most 2^53 - 1 in magnitude, or the event cannot be written. By convention in milliseconds
    /// since 1970.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        if let Some(common) = self.common_mut() {
            common.timestamp = Some(timestamp);
        }
        self
    }

    /// Sets what is said about it.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Object>) -> Self {
        if let Some(common) = self.common_mut() {
            common.metadata = Some(metadata.into());
        }
        self
    }

    /// Sets the event of the framework that it was made of. `null` is as good as none.
    #[must_use]
    pub fn raw_event(mut self, raw_event: impl Into<Json>) -> Self {
        if let Some(common) = self.common_mut() {
            common.raw_event = Some(raw_event.into());
        }
        self
    }

    /// What goes to a hub: unnamed, as AG-UI wants it, and without an id. Who wants ids says
    /// [`fanfare::Event::json`](crate::Event::json).
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self).without_id()
    }

    /// What it carries beside its own; none for an [`Event::Other`].
    pub fn common(&self) -> Option<&Common> {
        Some(match self {
            Self::RunStarted(event) => event.as_ref(),
            Self::RunFinished(event) => event.as_ref(),
            Self::RunError(event) => event.as_ref(),
            Self::StepStarted(event) => event.as_ref(),
            Self::StepFinished(event) => event.as_ref(),
            Self::TextMessageStart(event) => event.as_ref(),
            Self::TextMessageContent(event) => event.as_ref(),
            Self::TextMessageEnd(event) => event.as_ref(),
            Self::TextMessageChunk(event) => event.as_ref(),
            Self::ToolCallStart(event) => event.as_ref(),
            Self::ToolCallArgs(event) => event.as_ref(),
            Self::ToolCallEnd(event) => event.as_ref(),
            Self::ToolCallChunk(event) => event.as_ref(),
            Self::ToolCallResult(event) => event.as_ref(),
            Self::StateSnapshot(event) => event.as_ref(),
            Self::StateDelta(event) => event.as_ref(),
            Self::MessagesSnapshot(event) => event.as_ref(),
            Self::ActivitySnapshot(event) => event.as_ref(),
            Self::ActivityDelta(event) => event.as_ref(),
            Self::Raw(event) => event.as_ref(),
            Self::Custom(event) => event.as_ref(),
            Self::ReasoningStart(event) => event.as_ref(),
            Self::ReasoningMessageStart(event) => event.as_ref(),
            Self::ReasoningMessageContent(event) => event.as_ref(),
            Self::ReasoningMessageEnd(event) => event.as_ref(),
            Self::ReasoningMessageChunk(event) => event.as_ref(),
            Self::ReasoningEnd(event) => event.as_ref(),
            Self::ReasoningEncryptedValue(event) => event.as_ref(),
            Self::SubagentStarted(event) => event.as_ref(),
            Self::SubagentFinished(event) => event.as_ref(),
            Self::SubagentError(event) => event.as_ref(),
            Self::Other(_) => return None,
        })
    }

    /// The same, to change it.
    pub fn common_mut(&mut self) -> Option<&mut Common> {
        Some(match self {
            Self::RunStarted(event) => event.as_mut(),
            Self::RunFinished(event) => event.as_mut(),
            Self::RunError(event) => event.as_mut(),
            Self::StepStarted(event) => event.as_mut(),
            Self::StepFinished(event) => event.as_mut(),
            Self::TextMessageStart(event) => event.as_mut(),
            Self::TextMessageContent(event) => event.as_mut(),
            Self::TextMessageEnd(event) => event.as_mut(),
            Self::TextMessageChunk(event) => event.as_mut(),
            Self::ToolCallStart(event) => event.as_mut(),
            Self::ToolCallArgs(event) => event.as_mut(),
            Self::ToolCallEnd(event) => event.as_mut(),
            Self::ToolCallChunk(event) => event.as_mut(),
            Self::ToolCallResult(event) => event.as_mut(),
            Self::StateSnapshot(event) => event.as_mut(),
            Self::StateDelta(event) => event.as_mut(),
            Self::MessagesSnapshot(event) => event.as_mut(),
            Self::ActivitySnapshot(event) => event.as_mut(),
            Self::ActivityDelta(event) => event.as_mut(),
            Self::Raw(event) => event.as_mut(),
            Self::Custom(event) => event.as_mut(),
            Self::ReasoningStart(event) => event.as_mut(),
            Self::ReasoningMessageStart(event) => event.as_mut(),
            Self::ReasoningMessageContent(event) => event.as_mut(),
            Self::ReasoningMessageEnd(event) => event.as_mut(),
            Self::ReasoningMessageChunk(event) => event.as_mut(),
            Self::ReasoningEnd(event) => event.as_mut(),
            Self::ReasoningEncryptedValue(event) => event.as_mut(),
            Self::SubagentStarted(event) => event.as_mut(),
            Self::SubagentFinished(event) => event.as_mut(),
            Self::SubagentError(event) => event.as_mut(),
            Self::Other(_) => return None,
        })
    }
}

impl crate::ToSse for Event {
    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self)
    }
}
