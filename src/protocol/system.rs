//! What happens to a user's contexts.
//!
//! Every event has a `type` and a `timestamp`, and its fields beside them, in camel case. On the wire of Server-Sent Events
//! they are unnamed.
//!
//! # Examples
//!
//! ```
//! use fanfare::protocol::Timestamp;
//! use fanfare::protocol::system::{ContextUpdated, Event};
//!
//! let at: Timestamp = "2026-01-01T00:00:00Z".parse()?;
//! let updated = ContextUpdated::new("c1").timestamp(at);
//! assert_eq!(
//!     serde_json::to_string(&Event::from(updated))?,
//!     r#"{"type":"CONTEXT_UPDATED","timestamp":"2026-01-01T00:00:00Z","contextId":"c1"}"#,
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::wire::{object, timed, union};
use super::{Object, Timestamp};

union! {
    /// Any event of the system.
    pub enum Event by "type" {
        /// A context was made.
        ContextCreated(ContextCreated) = "CONTEXT_CREATED",
        /// A context has changed.
        ContextUpdated(ContextUpdated) = "CONTEXT_UPDATED",
        /// A context is gone.
        ContextDeleted(ContextDeleted) = "CONTEXT_DELETED",
        /// All contexts of the user.
        ContextsSnapshot(ContextsSnapshot) = "CONTEXTS_SNAPSHOT",
        /// The connection is there.
        Connected(Connected) = "CONNECTED",
        /// A sign of life.
        Heartbeat(Heartbeat) = "HEARTBEAT",
    }
}

impl Event {
    /// What goes to a hub.
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self)
    }
}

impl crate::ToSse for Event {
    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self)
    }
}

timed! {
    /// A context was made.
    ContextCreated = "CONTEXT_CREATED"
    required {
        /// The context.
        context_id: String = "contextId",
        /// What it is called.
        name: String = "name",
    }
    nullable {}
}

timed! {
    /// A context has changed.
    ContextUpdated = "CONTEXT_UPDATED"
    required {
        /// The context.
        context_id: String = "contextId",
    }
    nullable {}
    optional {
        /// What it is called now.
        name: String = "name",
    }
}

timed! {
    /// A context is gone.
    ContextDeleted = "CONTEXT_DELETED"
    required {
        /// The context.
        context_id: String = "contextId",
    }
    nullable {}
}

timed! {
    /// All contexts of the user.
    ContextsSnapshot = "CONTEXTS_SNAPSHOT"
    required {
        /// The contexts.
        contexts: Vec<ContextSummary> = "contexts",
    }
    nullable {}
}

object! {
    /// A context within a [`ContextsSnapshot`]. Its fields are in snake case.
    pub struct ContextSummary
    required {
        /// The context.
        context_id: String = "context_id",
        /// What it is called.
        name: String = "name",
        /// When it was made.
        created_at: Timestamp = "created_at",
        /// When it last changed.
        updated_at: Timestamp = "updated_at",
        /// Messages in it.
        message_count: i64 = "message_count",
        /// Tasks in it.
        task_count: i64 = "task_count",
    }
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

timed! {
    /// The connection is there.
    Connected = "CONNECTED"
    required {
        /// The connection.
        connection_id: String = "connectionId",
    }
    nullable {}
}

timed! {
    /// A sign of life. A stream of Server-Sent Events needs none: its heartbeats are comments.
    Heartbeat = "HEARTBEAT"
    required {}
    nullable {}
}
