//! The 31 events. Each is a struct; [`Event`] is any of them.

use super::checks::NonNull;
use super::message::{Content, Message};
use super::run::{RunAgentInput, RunOutcome, SubagentOutcome, TokenUsage};
use super::{Common, PatchOperation};
use crate::protocol::wire::{names, object, union};
use crate::protocol::{Json, Object};

union! {
    /// Any event (`Event`). To read one is to look at its `type`; one of a type that is not known here is
    /// [`Event::Other`] and stays as it is.
    ///
    /// The `THINKING_*` events from before 1.0 are read as those of reasoning; see [`NumberThinking`](super::NumberThinking).
    pub enum Event by "type" after super::older::upgrade {
        /// `RUN_STARTED`
        RunStarted(RunStarted) = "RUN_STARTED",
        /// `RUN_FINISHED`
        RunFinished(RunFinished) = "RUN_FINISHED",
        /// `RUN_ERROR`
        RunError(RunError) = "RUN_ERROR",
        /// `STEP_STARTED`
        StepStarted(StepStarted) = "STEP_STARTED",
        /// `STEP_FINISHED`
        StepFinished(StepFinished) = "STEP_FINISHED",
        /// `TEXT_MESSAGE_START`
        TextMessageStart(TextMessageStart) = "TEXT_MESSAGE_START",
        /// `TEXT_MESSAGE_CONTENT`
        TextMessageContent(TextMessageContent) = "TEXT_MESSAGE_CONTENT",
        /// `TEXT_MESSAGE_END`
        TextMessageEnd(TextMessageEnd) = "TEXT_MESSAGE_END",
        /// `TEXT_MESSAGE_CHUNK`
        TextMessageChunk(TextMessageChunk) = "TEXT_MESSAGE_CHUNK",
        /// `TOOL_CALL_START`
        ToolCallStart(ToolCallStart) = "TOOL_CALL_START",
        /// `TOOL_CALL_ARGS`
        ToolCallArgs(ToolCallArgs) = "TOOL_CALL_ARGS",
        /// `TOOL_CALL_END`
        ToolCallEnd(ToolCallEnd) = "TOOL_CALL_END",
        /// `TOOL_CALL_CHUNK`
        ToolCallChunk(ToolCallChunk) = "TOOL_CALL_CHUNK",
        /// `TOOL_CALL_RESULT`
        ToolCallResult(ToolCallResult) = "TOOL_CALL_RESULT",
        /// `STATE_SNAPSHOT`
        StateSnapshot(StateSnapshot) = "STATE_SNAPSHOT",
        /// `STATE_DELTA`
        StateDelta(StateDelta) = "STATE_DELTA",
        /// `MESSAGES_SNAPSHOT`
        MessagesSnapshot(MessagesSnapshot) = "MESSAGES_SNAPSHOT",
        /// `ACTIVITY_SNAPSHOT`
        ActivitySnapshot(ActivitySnapshot) = "ACTIVITY_SNAPSHOT",
        /// `ACTIVITY_DELTA`
        ActivityDelta(ActivityDelta) = "ACTIVITY_DELTA",
        /// RAW
        Raw(Raw) = "RAW",
        /// CUSTOM
        Custom(Custom) = "CUSTOM",
        /// `REASONING_START`
        ReasoningStart(ReasoningStart) = "REASONING_START",
        /// `REASONING_MESSAGE_START`
        ReasoningMessageStart(ReasoningMessageStart) = "REASONING_MESSAGE_START",
        /// `REASONING_MESSAGE_CONTENT`
        ReasoningMessageContent(ReasoningMessageContent) = "REASONING_MESSAGE_CONTENT",
        /// `REASONING_MESSAGE_END`
        ReasoningMessageEnd(ReasoningMessageEnd) = "REASONING_MESSAGE_END",
        /// `REASONING_MESSAGE_CHUNK`
        ReasoningMessageChunk(ReasoningMessageChunk) = "REASONING_MESSAGE_CHUNK",
        /// `REASONING_END`
        ReasoningEnd(ReasoningEnd) = "REASONING_END",
        /// `REASONING_ENCRYPTED_VALUE`
        ReasoningEncryptedValue(ReasoningEncryptedValue) = "REASONING_ENCRYPTED_VALUE",
        /// `SUBAGENT_STARTED`
        SubagentStarted(SubagentStarted) = "SUBAGENT_STARTED",
        /// `SUBAGENT_FINISHED`
        SubagentFinished(SubagentFinished) = "SUBAGENT_FINISHED",
        /// `SUBAGENT_ERROR`
        SubagentError(SubagentError) = "SUBAGENT_ERROR",
    }
}

/// Declares an event: [`object!`] with the type as discriminator and [`Common`] as the rest. One that is `attributable` may
/// say to which subagent it belongs.
macro_rules! event {
    (
        $(#[$meta:meta])*
        attributable $name:ident = $type:literal $(, $tag:literal: $value:literal)?
        required { $($required:tt)* }
        optional { $($optional:tt)* }
    ) => {
        event! {
            $(#[$meta])*
            $name = $type $(, $tag: $value)?
            required { $($required)* }
            optional {
                $($optional)*
                /// The subagent's invocation that it belongs to, if it is not the agent's own.
                subagent_run_id: String = "subagentRunId",
            }
        }
    };
    (
        $(#[$meta:meta])*
        $name:ident = $type:literal $(, $tag:literal: $value:literal)?
        required { $($required:tt)* }
        optional { $($optional:tt)* }
    ) => {
        object! {
            $(#[$meta])*
            pub struct $name { "type": $type $(, $tag: $value)? }
            required { $($required)* }
            optional { $($optional)* }
            rest
            /// What every event may carry.
            common: Common
        }

        impl AsRef<Common> for $name {
            fn as_ref(&self) -> &Common {
                &self.common
            }
        }

        impl AsMut<Common> for $name {
            fn as_mut(&mut self) -> &mut Common {
                &mut self.common
            }
        }
    };
}

// ---- runs and steps

event! {
    /// Opens a run (`RunStartedEvent`). The first event of a stream.
    RunStarted = "RUN_STARTED"
    required {
        /// The conversation.
        thread_id: String = "threadId",
        /// The run.
        run_id: String = "runId",
    }
    optional {
        /// The version that the agent speaks; [`PROTOCOL_VERSION`](super::`PROTOCOL_VERSION`).
        protocol_version: String = "protocolVersion",
        /// The run that this one continues or belongs to.
        parent_run_id: String = "parentRunId",
        /// What the run was asked for.
        input: Box<RunAgentInput> = "input",
    }
}

event! {
    /// Closes a run that did not fail (`RunFinishedEvent`). All that the run opened is closed before it. One that ends with
    /// an interrupt comes after a [`StateSnapshot`] and a [`MessagesSnapshot`].
    RunFinished = "RUN_FINISHED"
    required {
        /// The conversation.
        thread_id: String = "threadId",
        /// The run.
        run_id: String = "runId",
    }
    optional {
        /// What came out: any JSON but `null`.
        result: Json as NonNull = "result",
        /// Why it ended. Absent means success.
        outcome: RunOutcome = "outcome",
        /// What it used, an entry for each provider and model.
        usage: Vec<TokenUsage> = "usage",
    }
}

event! {
    /// Ends a run that failed (`RunErrorEvent`). The last event of a stream.
    RunError = "RUN_ERROR"
    required {
        /// What went wrong, for people.
        message: String = "message",
    }
    optional {
        /// What went wrong, for programs.
        code: String = "code",
        /// What the run used, an entry for each provider and model.
        usage: Vec<TokenUsage> = "usage",
    }
}

event! {
    /// Opens a named step of a run (`StepStartedEvent`).
    attributable StepStarted = "STEP_STARTED"
    required {
        /// The step.
        step_name: String = "stepName",
    }
    optional {}
}

event! {
    /// Closes a step (`StepFinishedEvent`).
    attributable StepFinished = "STEP_FINISHED"
    required {
        /// The step.
        step_name: String = "stepName",
    }
    optional {}
}

// ---- text

names! {
    /// Who speaks in a streamed text message (`TextMessageRole`).
    pub enum TextRole {
        /// The application's developer.
        Developer = "developer",
        /// The system.
        System = "system",
        /// The agent.
        Assistant = "assistant",
        /// The user.
        User = "user",
    }
}

event! {
    /// Opens a streamed text message (`TextMessageStartEvent`).
    attributable TextMessageStart = "TEXT_MESSAGE_START"
    required {
        /// The message.
        message_id: String = "messageId",
    }
    optional {
        /// Who speaks. Absent means the assistant.
        role: TextRole = "role",
        /// The name of who speaks.
        name: String = "name",
    }
}

event! {
    /// Appends to a streamed text message (`TextMessageContentEvent`).
    attributable TextMessageContent = "TEXT_MESSAGE_CONTENT"
    required {
        /// The message.
        message_id: String = "messageId",
        /// What is appended; may be empty.
        delta: String = "delta",
    }
    optional {}
}

event! {
    /// Closes a streamed text message (`TextMessageEndEvent`).
    attributable TextMessageEnd = "TEXT_MESSAGE_END"
    required {
        /// The message.
        message_id: String = "messageId",
    }
    optional {}
}

event! {
    /// Stands for start, content and end of a text message (`TextMessageChunkEvent`). A chunk that continues a message leaves
    /// out what did not change.
    attributable TextMessageChunk = "TEXT_MESSAGE_CHUNK"
    required {}
    optional {
        /// The message.
        message_id: String = "messageId",
        /// Who speaks.
        role: TextRole = "role",
        /// What is appended.
        delta: String = "delta",
        /// The name of who speaks.
        name: String = "name",
    }
}

// ---- tools

event! {
    /// Opens a tool call (`ToolCallStartEvent`).
    attributable ToolCallStart = "TOOL_CALL_START"
    required {
        /// The call.
        tool_call_id: String = "toolCallId",
        /// The tool.
        tool_call_name: String = "toolCallName",
    }
    optional {
        /// The message that makes the call.
        parent_message_id: String = "parentMessageId",
    }
}

event! {
    /// Appends to the arguments of a tool call (`ToolCallArgsEvent`).
    attributable ToolCallArgs = "TOOL_CALL_ARGS"
    required {
        /// The call.
        tool_call_id: String = "toolCallId",
        /// A piece of the arguments' JSON, as text.
        delta: String = "delta",
    }
    optional {}
}

event! {
    /// Closes a tool call: its arguments are complete (`ToolCallEndEvent`).
    attributable ToolCallEnd = "TOOL_CALL_END"
    required {
        /// The call.
        tool_call_id: String = "toolCallId",
    }
    optional {}
}

event! {
    /// Stands for start, arguments and end of a tool call (`ToolCallChunkEvent`). A chunk that continues a call leaves out
    /// what did not change.
    attributable ToolCallChunk = "TOOL_CALL_CHUNK"
    required {}
    optional {
        /// The call.
        tool_call_id: String = "toolCallId",
        /// The tool.
        tool_call_name: String = "toolCallName",
        /// The message that makes the call.
        parent_message_id: String = "parentMessageId",
        /// A piece of the arguments' JSON, as text.
        delta: String = "delta",
    }
}

names! {
    /// The role of a tool's result, which has no other.
    pub enum ToolRole {
        /// A tool.
        Tool = "tool",
    }
}

event! {
    /// What a tool returned (`ToolCallResultEvent`). It makes a message of its own.
    attributable ToolCallResult = "TOOL_CALL_RESULT"
    required {
        /// The message that it makes.
        message_id: String = "messageId",
        /// The call.
        tool_call_id: String = "toolCallId",
        /// What came back.
        content: Content = "content",
    }
    optional {
        /// The role of the message. Absent means the same.
        role: ToolRole = "role",
    }
}

// ---- state, messages, activities

event! {
    /// Replaces the agent's state (`StateSnapshotEvent`).
    attributable StateSnapshot = "STATE_SNAPSHOT"
    required {
        /// The state: any JSON, also `null`.
        snapshot: Json = "snapshot",
    }
    optional {}
}

event! {
    /// Changes the agent's state (`StateDeltaEvent`).
    attributable StateDelta = "STATE_DELTA"
    required {
        /// The changes, in their order.
        delta: Vec<PatchOperation> = "delta",
    }
    optional {}
}

event! {
    /// All messages that the agent knows, in their order (`MessagesSnapshotEvent`).
    MessagesSnapshot = "MESSAGES_SNAPSHOT"
    required {
        /// The messages.
        messages: Vec<Message> = "messages",
    }
    optional {}
}

event! {
    /// Progress that is no conversation, such as a plan that a page shows in its own way (`ActivitySnapshotEvent`).
    attributable ActivitySnapshot = "ACTIVITY_SNAPSHOT"
    required {
        /// The message that holds the activity's place.
        message_id: String = "messageId",
        /// What kind of activity, in the application's words.
        activity_type: String = "activityType",
        /// The activity.
        content: Object = "content",
    }
    optional {
        /// Whether it replaces what the message held. Absent means that it does.
        replace: bool = "replace",
    }
}

event! {
    /// Changes an activity (`ActivityDeltaEvent`).
    attributable ActivityDelta = "ACTIVITY_DELTA"
    required {
        /// The message that holds the activity's place.
        message_id: String = "messageId",
        /// What kind of activity, in the application's words.
        activity_type: String = "activityType",
        /// The changes, in their order.
        patch: Vec<PatchOperation> = "patch",
    }
    optional {}
}

// ---- what the protocol does not describe

event! {
    /// An event of the model's provider, passed on as it is (`RawEvent`).
    attributable Raw = "RAW"
    required {
        /// The event: any JSON.
        event: Json = "event",
    }
    optional {
        /// Where it comes from.
        source: String = "source",
    }
}

event! {
    /// An event of the application's own (`CustomEvent`).
    attributable Custom = "CUSTOM"
    required {
        /// What it is called.
        name: String = "name",
        /// What it says: any JSON, also `null`.
        value: Json = "value",
    }
    optional {}
}

// ---- reasoning

names! {
    /// What an encrypted value belongs to (`ReasoningEncryptedValueSubtype`).
    pub enum EncryptedSubtype {
        /// A tool call.
        ToolCall = "tool-call",
        /// A message.
        Message = "message",
    }
}

event! {
    /// Opens a span of reasoning, which may have several messages (`ReasoningStartEvent`).
    attributable ReasoningStart = "REASONING_START"
    required {
        /// The span.
        message_id: String = "messageId",
    }
    optional {}
}

event! {
    /// Opens a streamed reasoning message (`ReasoningMessageStartEvent`).
    attributable ReasoningMessageStart = "REASONING_MESSAGE_START", "role": "reasoning"
    required {
        /// The message.
        message_id: String = "messageId",
    }
    optional {}
}

event! {
    /// Appends to a streamed reasoning message (`ReasoningMessageContentEvent`).
    attributable ReasoningMessageContent = "REASONING_MESSAGE_CONTENT"
    required {
        /// The message.
        message_id: String = "messageId",
        /// What is appended.
        delta: String = "delta",
    }
    optional {}
}

event! {
    /// Closes a streamed reasoning message (`ReasoningMessageEndEvent`).
    attributable ReasoningMessageEnd = "REASONING_MESSAGE_END"
    required {
        /// The message.
        message_id: String = "messageId",
    }
    optional {}
}

event! {
    /// Stands for start, content and end of a reasoning message (`ReasoningMessageChunkEvent`).
    attributable ReasoningMessageChunk = "REASONING_MESSAGE_CHUNK"
    required {}
    optional {
        /// The message.
        message_id: String = "messageId",
        /// What is appended.
        delta: String = "delta",
    }
}

event! {
    /// Closes a span of reasoning (`ReasoningEndEvent`).
    attributable ReasoningEnd = "REASONING_END"
    required {
        /// The span.
        message_id: String = "messageId",
    }
    optional {}
}

event! {
    /// Reasoning that only its provider can read: keep it and send it back (`ReasoningEncryptedValueEvent`).
    attributable ReasoningEncryptedValue = "REASONING_ENCRYPTED_VALUE"
    required {
        /// What it belongs to.
        subtype: EncryptedSubtype = "subtype",
        /// The message or the call that it belongs to.
        entity_id: String = "entityId",
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
    optional {}
}

// ---- subagents: here `subagentRunId` says which one it is

event! {
    /// A subagent begins (`SubagentStartedEvent`). What it does carries its `subagentRunId`.
    SubagentStarted = "SUBAGENT_STARTED"
    required {
        /// The invocation, not a name for the subagent: two invocations differ.
        subagent_run_id: String = "subagentRunId",
        /// The subagent.
        name: String = "name",
    }
    optional {
        /// What it is for.
        description: String = "description",
        /// The subagent that invoked it, if it was not the agent.
        parent_subagent_run_id: String = "parentSubagentRunId",
        /// The tool call that invoked it.
        parent_tool_call_id: String = "parentToolCallId",
        /// The message that invoked it.
        parent_message_id: String = "parentMessageId",
    }
}

event! {
    /// A subagent ends for this run: it is done, or waits (`SubagentFinishedEvent`).
    SubagentFinished = "SUBAGENT_FINISHED"
    required {
        /// The invocation.
        subagent_run_id: String = "subagentRunId",
    }
    optional {
        /// What came out: any JSON but `null`.
        result: Json as NonNull = "result",
        /// Why it ended. Absent means success.
        outcome: SubagentOutcome = "outcome",
    }
}

event! {
    /// A subagent failed (`SubagentErrorEvent`). The run may go on.
    SubagentError = "SUBAGENT_ERROR"
    required {
        /// The invocation.
        subagent_run_id: String = "subagentRunId",
        /// What went wrong, for people.
        message: String = "message",
    }
    optional {
        /// What went wrong, for programs.
        code: String = "code",
    }
}
