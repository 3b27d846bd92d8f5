//! One event of a stream.

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::task::{ArtifactUpdate, Message, StatusUpdate, Task};
use crate::protocol::{Json, Object, wire};

/// One event of a task's stream (`StreamResponse`, 3.2.3).
///
/// A stream is one message, or the task first and then what changes of it, up to a terminal state.
///
/// It writes itself as v1.0; [`V0_3`](super::V0_3) writes v0.3. Reading takes either. Members beside the known one are not
/// kept.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamResponse {
    /// The task as it stands: the first event of a stream that has more than one.
    Task(Task),
    /// The only event of a stream without a task.
    Message(Message),
    /// The task's status has changed.
    StatusUpdate(StatusUpdate),
    /// A piece of an artifact.
    ArtifactUpdate(ArtifactUpdate),
    /// One of a kind that is not known here, written as it was read, in either version.
    Other(Json),
}

impl StreamResponse {
    /// What goes to a hub, as v1.0.
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self)
    }
}

impl crate::ToSse for StreamResponse {
    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self)
    }
}

macro_rules! from {
    ($($name:ident),*) => {$(
        impl From<$name> for StreamResponse {
            fn from(inner: $name) -> Self {
                Self::$name(inner)
            }
        }
    )*};
}

from!(Task, Message, StatusUpdate, ArtifactUpdate);

impl Serialize for StreamResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let member = |serializer: S| serializer.serialize_map(Some(1));
        let mut map = match self {
            Self::Other(json) => return json.serialize(serializer),
            _ => member(serializer)?,
        };
        match self {
            Self::Task(task) => map.serialize_entry("task", task),
            Self::Message(message) => map.serialize_entry("message", message),
            Self::StatusUpdate(update) => map.serialize_entry("statusUpdate", update),
            Self::ArtifactUpdate(update) => map.serialize_entry("artifactUpdate", update),
            Self::Other(_) => Ok(()),
        }?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for StreamResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        let object: Object = wire::read(json.get())?;
        // v0.3 says what it is within, v1.0 by the member's name.
        if let Some(kind) = object.get("kind").and_then(|kind| kind.read().ok()) {
            let kind: String = kind;
            return Ok(inner::<D::Error>(&kind, &json)?.unwrap_or(Self::Other(json)));
        }
        let mut found = None;
        for (member, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            if let Some(response) = inner::<D::Error>(member, value)? {
                if found.is_some() {
                    let error = format_args!("{member}: there is another, expected exactly one");
                    return Err(D::Error::custom(error));
                }
                found = Some(response);
            }
        }
        Ok(found.unwrap_or(Self::Other(json)))
    }
}

/// Reads what a kind of v0.3 or a member of v1.0 stands for, if it is known.
fn inner<E: serde::de::Error>(name: &str, json: &Json) -> Result<Option<StreamResponse>, E> {
    let json = json.get();
    let read = match name {
        "task" => wire::read(json).map(StreamResponse::Task),
        "message" => wire::read(json).map(StreamResponse::Message),
        "statusUpdate" | "status-update" => wire::read(json).map(StreamResponse::StatusUpdate),
        "artifactUpdate" | "artifact-update" => {
            wire::read(json).map(StreamResponse::ArtifactUpdate)
        }
        _ => return Ok(None),
    };
    read.map(Some).map_err(|error: E| wire::below(name, &error))
}
