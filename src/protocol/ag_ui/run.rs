//! What goes into a run, and how it ends: input, outcome, interrupts, usage.

use super::checks::{AtLeastOne, NonNull, SafeCount};
use super::message::Message;
use crate::protocol::wire::{names, object, union};
use crate::protocol::{Json, Object};

object! {
    /// A request to run an agent (`RunAgentInput`): the body of the request, and echoed in
    /// [`RunStarted`](super::RunStarted).
    pub struct RunAgentInput
    required {
        /// The conversation.
        thread_id: String = "threadId",
        /// The run.
        run_id: String = "runId",
        /// What was said before.
        messages: Vec<Message> = "messages",
    }
    optional {
        /// The version that the client speaks.
        protocol_version: String = "protocolVersion",
        /// The run that this one continues or belongs to.
        parent_run_id: String = "parentRunId",
        /// The agent's state: any JSON. `null` is read as absent.
        state: Json as NonNull = "state",
        /// Tools of the client. Absent means none.
        tools: Vec<Tool> = "tools",
        /// What else the agent should know. Absent means nothing.
        context: Vec<Context> = "context",
        /// What the application hands through: any JSON but `null`.
        forwarded_props: Json as NonNull = "forwardedProps",
        /// Answers to the interrupts that the run before ended with: to every one of them.
        resume: Vec<ResumeEntry> = "resume",
    }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// A tool that the agent may call (`Tool`).
    pub struct Tool
    required {
        /// The tool.
        name: String = "name",
        /// What it is for.
        description: String = "description",
    }
    optional {
        /// The JSON Schema of its arguments: any JSON but `null`.
        parameters: Json as NonNull = "parameters",
        /// About the tool.
        metadata: Object = "metadata",
    }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// Something that the agent should know and that is no part of the conversation (`Context`).
    pub struct Context
    required {
        /// What it is.
        description: String = "description",
        /// It.
        value: String = "value",
    }
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

names! {
    /// How an interrupt was answered (`ResumeEntry.status`).
    pub enum ResumeStatus {
        /// With an answer.
        Resolved = "resolved",
        /// By giving up.
        Cancelled = "cancelled",
    }
}

object! {
    /// An answer to an interrupt (`ResumeEntry`).
    pub struct ResumeEntry
    required {
        /// The interrupt.
        interrupt_id: String = "interruptId",
        /// How it was answered.
        status: ResumeStatus = "status",
    }
    optional {
        /// The answer: any JSON but `null`.
        payload: Json as NonNull = "payload",
        /// About the answer.
        metadata: Object = "metadata",
    }
    rest
    /// Unknown fields.
    extra: Object
}

union! {
    /// Why a run ended (`RunFinishedOutcome`).
    pub enum RunOutcome by "type" {
        /// It is complete.
        Success(SuccessOutcome) = "success",
        /// It waits for something from outside.
        Interrupt(InterruptOutcome) = "interrupt",
        /// It was stopped, and did not fail.
        Cancelled(CancelledOutcome) = "cancelled",
    }
}

object! {
    /// The run is complete (`RunFinishedSuccessOutcome`).
    pub struct SuccessOutcome { "type": "success" }
    required {}
    optional {
        /// Calls of the client's tools that wait for their results.
        pending_tool_call_ids: Vec<String> = "pendingToolCallIds",
    }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// The run waits (`RunFinishedInterruptOutcome`). A run whose `resume` answers every interrupt goes on from here.
    pub struct InterruptOutcome { "type": "interrupt" }
    required {
        /// What it waits for: at least one.
        interrupts: Vec<Interrupt> as AtLeastOne = "interrupts",
    }
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// The run was stopped (`RunFinishedCancelledOutcome`).
    pub struct CancelledOutcome { "type": "cancelled" }
    required {}
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// What a run needs from outside before it can go on (`Interrupt`).
    pub struct Interrupt
    required {
        /// The interrupt.
        id: String = "id",
        /// Why: `tool_call`, `input_required`, `confirmation`, or a word of the application.
        reason: String = "reason",
    }
    optional {
        /// What to ask, for people.
        message: String = "message",
        /// The tool call that waits.
        tool_call_id: String = "toolCallId",
        /// The JSON Schema of the answer.
        response_schema: Object = "responseSchema",
        /// When it no longer can be answered, as text.
        expires_at: String = "expiresAt",
        /// About the interrupt.
        metadata: Object = "metadata",
        /// The subagent's invocation that waits, if it is not the agent itself.
        subagent_run_id: String = "subagentRunId",
    }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// Tokens used with one provider and model (`TokenUsage`). Each count is at most 2^53 - 1.
    pub struct TokenUsage
    required {}
    optional {
        /// The provider.
        provider: String = "provider",
        /// The model.
        model: String = "model",
        /// All that went in.
        input_tokens: i64 as SafeCount = "inputTokens",
        /// All that came out.
        output_tokens: i64 as SafeCount = "outputTokens",
        /// Both.
        total_tokens: i64 as SafeCount = "totalTokens",
        /// Those of the output that are reasoning.
        reasoning_tokens: i64 as SafeCount = "reasoningTokens",
        /// Those of the input that came from a cache.
        cached_input_tokens: i64 as SafeCount = "cachedInputTokens",
        /// Those of the input that went into a cache.
        cache_write_input_tokens: i64 as SafeCount = "cacheWriteInputTokens",
    }
    rest
    /// Unknown fields.
    extra: Object
}

union! {
    /// Why a subagent's part of a run ended (`SubagentFinishedOutcome`).
    pub enum SubagentOutcome by "type" {
        /// It is done.
        Success(SubagentSuccess) = "success",
        /// It waits for something from outside.
        Suspended(SubagentSuspended) = "suspended",
    }
}

object! {
    /// The subagent is done (`SubagentFinishedSuccessOutcome`).
    pub struct SubagentSuccess { "type": "success" }
    required {}
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// The subagent waits (`SubagentFinishedSuspendedOutcome`). A later run may go on with the same invocation.
    pub struct SubagentSuspended { "type": "suspended" }
    required {}
    optional {
        /// What it waits for.
        interrupt_ids: Vec<String> = "interruptIds",
    }
    rest
    /// Unknown fields.
    extra: Object
}
