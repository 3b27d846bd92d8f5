//! The same in the words of v0.3: what is written here differs from v1.0 in the names of states and roles, in `kind`, in
//! parts, and in `final`.

use std::borrow::Borrow;

use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};

use super::part::{DATA_COMPAT, Part, PartContent};
use super::response::StreamResponse;
use super::task::{Artifact, ArtifactUpdate, Message, StatusUpdate, Task, TaskStatus};
use crate::protocol::wire::{Plain, Rest as _, put_some};
use crate::protocol::{Json, Object};

/// A response that writes itself as v0.3. It holds the response or a reference to it.
///
/// # Examples
///
/// ```
/// use fanfare::protocol::a2a::{StatusUpdate, StreamResponse, TaskState, TaskStatus, V0_3};
///
/// let status = TaskStatus::new(TaskState::Completed);
/// let response = StreamResponse::from(StatusUpdate::new("t", "c", status));
/// assert_eq!(
///     serde_json::to_string(&V0_3(&response))?,
///     r#"{"taskId":"t","contextId":"c","kind":"status-update","status":{"state":"completed"},"final":true}"#,
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a view, and nothing else")]
pub struct V0_3<R: Borrow<StreamResponse>>(pub R);

impl<R: Borrow<StreamResponse>> V0_3<R> {
    /// What goes to a hub.
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self)
    }
}

impl<R: Borrow<StreamResponse>> crate::ToSse for V0_3<R> {
    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self)
    }
}

impl<R: Borrow<StreamResponse>> Serialize for V0_3<R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.borrow() {
            StreamResponse::Task(task) => task.write_older(to),
            StreamResponse::Message(message) => message.write_older(to),
            StreamResponse::StatusUpdate(update) => update.write_older(to),
            StreamResponse::ArtifactUpdate(update) => update.write_older(to),
            StreamResponse::Other(json) => json.serialize(to),
        }
    }
}

/// What writes itself in the words of v0.3.
trait WriteOlder {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
}

struct Older<'a, T>(&'a T);

impl<T: WriteOlder> Serialize for Older<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write_older(to)
    }
}

impl<T: WriteOlder> WriteOlder for Vec<T> {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Older))
    }
}

/// Writes a field that reads the same in both versions, if it is there.
fn same<T: Serialize, M: SerializeMap>(
    map: &mut M,
    field: &'static str,
    value: Option<&T>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(field, value))
}

/// Writes a field in the words of v0.3, if it is there.
fn older<T: WriteOlder, M: SerializeMap>(
    map: &mut M,
    field: &'static str,
    value: Option<&T>,
) -> Result<(), M::Error> {
    same(map, field, value.map(Older).as_ref())
}

impl WriteOlder for Task {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let task = self;
        let Some(context_id) = &task.context_id else {
            return Err(S::Error::custom("contextId: is absent; v0.3 wants it"));
        };
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("id", &task.id)?;
        map.serialize_entry("contextId", context_id)?;
        map.serialize_entry("kind", "task")?;
        map.serialize_entry("status", &Older(&task.status))?;
        older(&mut map, "artifacts", task.artifacts.as_ref())?;
        older(&mut map, "history", task.history.as_ref())?;
        same(&mut map, "metadata", task.metadata.as_ref())?;
        task.extra.write(&mut map)?;
        map.end()
    }
}

impl WriteOlder for TaskStatus {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let status = self;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("state", status.state.v0_3())?;
        older(&mut map, "message", status.message.as_ref())?;
        same(&mut map, "timestamp", status.timestamp.as_ref())?;
        status.extra.write(&mut map)?;
        map.end()
    }
}

impl WriteOlder for Message {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let message = self;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("messageId", &message.message_id)?;
        map.serialize_entry("kind", "message")?;
        map.serialize_entry("role", message.role.v0_3())?;
        map.serialize_entry("parts", &Older(&message.parts))?;
        same(&mut map, "contextId", message.context_id.as_ref())?;
        same(&mut map, "taskId", message.task_id.as_ref())?;
        same(&mut map, "metadata", message.metadata.as_ref())?;
        same(&mut map, "extensions", message.extensions.as_ref())?;
        same(
            &mut map,
            "referenceTaskIds",
            message.reference_task_ids.as_ref(),
        )?;
        message.extra.write(&mut map)?;
        map.end()
    }
}

impl WriteOlder for StatusUpdate {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let update = self;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("taskId", &update.task_id)?;
        map.serialize_entry("contextId", &update.context_id)?;
        map.serialize_entry("kind", "status-update")?;
        map.serialize_entry("status", &Older(&update.status))?;
        map.serialize_entry("final", &update.ends())?;
        same(&mut map, "metadata", update.metadata.as_ref())?;
        update.extra.write(&mut map)?;
        map.end()
    }
}

impl WriteOlder for ArtifactUpdate {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let update = self;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("taskId", &update.task_id)?;
        map.serialize_entry("contextId", &update.context_id)?;
        map.serialize_entry("kind", "artifact-update")?;
        map.serialize_entry("artifact", &Older(&update.artifact))?;
        same(&mut map, "append", update.append.as_ref())?;
        same(&mut map, "lastChunk", update.last_chunk.as_ref())?;
        same(&mut map, "metadata", update.metadata.as_ref())?;
        update.extra.write(&mut map)?;
        map.end()
    }
}

impl WriteOlder for Artifact {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let artifact = self;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("artifactId", &artifact.artifact_id)?;
        map.serialize_entry("parts", &Older(&artifact.parts))?;
        same(&mut map, "name", artifact.name.as_ref())?;
        same(&mut map, "description", artifact.description.as_ref())?;
        same(&mut map, "metadata", artifact.metadata.as_ref())?;
        same(&mut map, "extensions", artifact.extensions.as_ref())?;
        artifact.extra.write(&mut map)?;
        map.end()
    }
}

impl WriteOlder for Part {
    fn write_older<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let part = self;
        let mut map = to.serialize_map(None)?;
        let mut metadata = Noted {
            metadata: part.metadata.as_ref(),
            wrapped: false,
        };
        match &part.content {
            PartContent::Text(text) => {
                map.serialize_entry("kind", "text")?;
                map.serialize_entry("text", text)?;
            }
            PartContent::Raw(_) | PartContent::Url(_) => {
                map.serialize_entry("kind", "file")?;
                map.serialize_entry("file", &File(part))?;
            }
            PartContent::Data(data) => {
                map.serialize_entry("kind", "data")?;
                metadata.wrapped = !data.get().starts_with('{');
                if metadata.wrapped {
                    map.serialize_entry("data", &Value(data))?;
                } else {
                    map.serialize_entry("data", data)?;
                }
            }
        }
        if metadata.wrapped || metadata.metadata.is_some() {
            map.serialize_entry("metadata", &metadata)?;
        }
        part.extra.write(&mut map)?;
        map.end()
    }
}

/// The file of a part: bytes or where they are, its name, and what it is.
struct File<'a>(&'a Part);

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let part = self.0;
        let mut map = to.serialize_map(None)?;
        match &part.content {
            PartContent::Raw(base64) => map.serialize_entry("bytes", base64),
            PartContent::Url(url) => map.serialize_entry("uri", url),
            PartContent::Text(_) | PartContent::Data(_) => Ok(()),
        }?;
        put_some::<_, Plain, _>(&mut map, "name", part.filename.as_ref())?;
        put_some::<_, Plain, _>(&mut map, "mimeType", part.media_type.as_ref())?;
        map.end()
    }
}

/// Data that is no object, wrapped into one.
struct Value<'a>(&'a Json);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry("value", self.0)?;
        map.end()
    }
}

/// A part's metadata, with the note that its data is wrapped.
struct Noted<'a> {
    metadata: Option<&'a Object>,
    wrapped: bool,
}

impl Serialize for Noted<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        if let Some(metadata) = self.metadata {
            for (key, value) in metadata.iter().filter(|(key, _)| *key != DATA_COMPAT) {
                map.serialize_entry(key, value)?;
            }
        }
        if self.wrapped {
            map.serialize_entry(DATA_COMPAT, &true)?;
        }
        map.end()
    }
}
