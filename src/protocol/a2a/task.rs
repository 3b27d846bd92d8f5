//! Tasks, messages, artifacts, and what changes of them (section 4). As they stand here they are v1.0; what is read may be
//! v0.3 as well.

use super::part::Part;
use crate::protocol::wire::{Wire, names, object};
use crate::protocol::{Object, Timestamp};

names! {
    /// The state of a task (`TaskState`, 4.1.3).
    pub enum TaskState {
        /// Not known; `unknown` in v0.3.
        Unspecified = "TASK_STATE_UNSPECIFIED" | "unknown",
        /// Taken on.
        Submitted = "TASK_STATE_SUBMITTED" | "submitted",
        /// Being worked on.
        Working = "TASK_STATE_WORKING" | "working",
        /// Done. Terminal.
        Completed = "TASK_STATE_COMPLETED" | "completed",
        /// Failed. Terminal.
        Failed = "TASK_STATE_FAILED" | "failed",
        /// Stopped before it was done. Terminal.
        Canceled = "TASK_STATE_CANCELED" | "canceled",
        /// Waits for input.
        InputRequired = "TASK_STATE_INPUT_REQUIRED" | "input-required",
        /// Not taken on. Terminal.
        Rejected = "TASK_STATE_REJECTED" | "rejected",
        /// Waits for authentication.
        AuthRequired = "TASK_STATE_AUTH_REQUIRED" | "auth-required",
    }
}

impl TaskState {
    /// Whether nothing comes after it: a stream closes.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected
        )
    }

    /// Whether the task waits for its client. The specification disagrees with itself on whether a stream closes then:
    /// section 3.1.2 says no, 11.7 yes.
    #[must_use]
    pub const fn is_interrupted(self) -> bool {
        matches!(self, Self::InputRequired | Self::AuthRequired)
    }

    pub(super) const fn v0_3(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Submitted => "submitted",
            Self::Working => "working",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::InputRequired => "input-required",
            Self::Rejected => "rejected",
            Self::AuthRequired => "auth-required",
        }
    }
}

names! {
    /// Who speaks (`Role`, 4.1.5).
    pub enum Role {
        /// The client.
        User = "ROLE_USER" | "user",
        /// The agent.
        Agent = "ROLE_AGENT" | "agent",
    }
}

impl Role {
    pub(super) const fn v0_3(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
        }
    }
}

object! {
    /// A task, as it stands (`Task`, 4.1.1).
    pub struct Task
    required {
        /// The task.
        id: String = "id",
        /// How it stands.
        status: TaskStatus = "status",
    }
    optional {
        /// What it belongs to. v0.3 wants it: without it the task cannot be written as v0.3.
        context_id: String = "contextId",
        /// What came out so far.
        artifacts: Vec<Artifact> = "artifacts",
        /// What was said so far.
        history: Vec<Message> = "history",
        /// About the task.
        metadata: Object = "metadata",
    }
    ignored { "kind" }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// How a task stands (`TaskStatus`, 4.1.2).
    pub struct TaskStatus
    required {
        /// The state.
        state: TaskState = "state",
    }
    optional {
        /// What the agent says to it.
        message: Message = "message",
        /// Since when: UTC, with milliseconds.
        timestamp: Timestamp = "timestamp",
    }
    rest
    /// Unknown fields.
    extra: Object
}

impl TaskStatus {
    /// The state since now.
    #[must_use]
    pub fn now(state: TaskState) -> Self {
        Self::new(state).timestamp(Timestamp::now_millis())
    }
}

object! {
    /// Something that is said (`Message`, 4.1.4).
    pub struct Message
    required {
        /// The message.
        message_id: String = "messageId",
        /// Who says it.
        role: Role = "role",
        /// What: at least one part.
        parts: Vec<Part> = "parts",
    }
    optional {
        /// What it belongs to.
        context_id: String = "contextId",
        /// The task that it belongs to.
        task_id: String = "taskId",
        /// About the message.
        metadata: Object = "metadata",
        /// The extensions, by URI, that it makes use of.
        extensions: Vec<String> = "extensions",
        /// Other tasks that it speaks of.
        reference_task_ids: Vec<String> = "referenceTaskIds",
    }
    ignored { "kind" }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// Something that a task brought out (`Artifact`, 4.1.7).
    pub struct Artifact
    required {
        /// The artifact, within its task.
        artifact_id: String = "artifactId",
        /// What it is made of: at least one part.
        parts: Vec<Part> = "parts",
    }
    optional {
        /// What it is called.
        name: String = "name",
        /// What it is.
        description: String = "description",
        /// About the artifact.
        metadata: Object = "metadata",
        /// The extensions, by URI, that it makes use of.
        extensions: Vec<String> = "extensions",
    }
    rest
    /// Unknown fields.
    extra: Object
}

/// What only v0.3 writes.
#[derive(Debug)]
struct OnlyV0_3;

impl Wire<bool> for OnlyV0_3 {
    const WRITTEN: bool = false;

    fn write<S: serde::Serializer>(
        value: &bool,
        _: &'static str,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*value)
    }

    fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        serde::Deserialize::deserialize(from)
    }
}

object! {
    /// A task's status has changed (`TaskStatusUpdateEvent`, 4.2.1).
    pub struct StatusUpdate
    required {
        /// The task.
        task_id: String = "taskId",
        /// What it belongs to.
        context_id: String = "contextId",
        /// How it stands now.
        status: TaskStatus = "status",
    }
    optional {
        /// Whether the stream ends with it, which only v0.3 writes. Absent, v0.3 writes whether the state is terminal or
        /// interrupted.
        last: bool as OnlyV0_3 = "final",
        /// About the update.
        metadata: Object = "metadata",
    }
    ignored { "kind" }
    rest
    /// Unknown fields.
    extra: Object
}

impl StatusUpdate {
    /// Whether the stream ends with it, in v0.3.
    pub(super) fn ends(&self) -> bool {
        let state = self.status.state;
        self.last
            .unwrap_or(state.is_terminal() || state.is_interrupted())
    }
}

object! {
    /// A piece of an artifact, or the whole (`TaskArtifactUpdateEvent`, 4.2.2).
    pub struct ArtifactUpdate
    required {
        /// The task.
        task_id: String = "taskId",
        /// What it belongs to.
        context_id: String = "contextId",
        /// The piece.
        artifact: Artifact = "artifact",
    }
    optional {
        /// Whether it goes behind what came before under the same id. Absent means that it does not.
        append: bool = "append",
        /// Whether it is the last piece. Absent means that it is not.
        last_chunk: bool = "lastChunk",
        /// About the update.
        metadata: Object = "metadata",
    }
    ignored { "kind" }
    rest
    /// Unknown fields.
    extra: Object
}
