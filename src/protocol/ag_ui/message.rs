//! Messages of a conversation, and the parts that they are made of.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checks::NonNull;
use crate::protocol::wire::{object, union};
use crate::protocol::{Json, Object};

union! {
    /// A message of a conversation (`Message`).
    pub enum Message by "role" {
        /// The application's developer instructs.
        Developer(DeveloperMessage) = "developer",
        /// The system instructs.
        System(SystemMessage) = "system",
        /// The agent speaks, or calls tools.
        Assistant(AssistantMessage) = "assistant",
        /// The user speaks.
        User(UserMessage) = "user",
        /// A tool answers.
        Tool(ToolMessage) = "tool",
        /// Progress that is no conversation, in its place.
        Activity(ActivityMessage) = "activity",
        /// The agent reasons.
        Reasoning(ReasoningMessage) = "reasoning",
    }
}

/// Declares a message. The fields `metadata` and `subagentRunId` are those of all.
macro_rules! message {
    (
        $(#[$meta:meta])*
        $name:ident = $role:literal
        required { $($required:tt)* }
        optional { $($optional:tt)* }
    ) => {
        object! {
            $(#[$meta])*
            pub struct $name { "role": $role }
            required {
                /// The message.
                id: String = "id",
                $($required)*
            }
            optional {
                $($optional)*
                /// About the message.
                metadata: Object = "metadata",
                /// The subagent's invocation that it belongs to, if it is not the agent's own.
                subagent_run_id: String = "subagentRunId",
            }
            rest
            /// Unknown fields.
            extra: Object
        }
    };
}

message! {
    /// The application's developer instructs (`DeveloperMessage`).
    DeveloperMessage = "developer"
    required {
        /// The instructions.
        content: String = "content",
    }
    optional {
        /// The name of who speaks.
        name: String = "name",
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
}

message! {
    /// The system instructs (`SystemMessage`).
    SystemMessage = "system"
    required {
        /// The instructions.
        content: String = "content",
    }
    optional {
        /// The name of who speaks.
        name: String = "name",
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
}

message! {
    /// The agent speaks, calls tools, or both (`AssistantMessage`).
    AssistantMessage = "assistant"
    required {}
    optional {
        /// What it says.
        content: String = "content",
        /// The calls that it makes.
        tool_calls: Vec<ToolCall> = "toolCalls",
        /// The name of who speaks.
        name: String = "name",
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
}

message! {
    /// The user speaks (`UserMessage`).
    UserMessage = "user"
    required {
        /// What the user says, or sends.
        content: Content = "content",
    }
    optional {
        /// The name of who speaks.
        name: String = "name",
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
}

message! {
    /// A tool answers (`ToolMessage`).
    ToolMessage = "tool"
    required {
        /// The call.
        tool_call_id: String = "toolCallId",
        /// What came back.
        content: Content = "content",
    }
    optional {
        /// What went wrong.
        error: String = "error",
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
}

message! {
    /// Progress that is no conversation, in its place (`ActivityMessage`).
    ActivityMessage = "activity"
    required {
        /// What kind of activity, in the application's words.
        activity_type: String = "activityType",
        /// The activity.
        content: Object = "content",
    }
    optional {}
}

message! {
    /// The agent reasons (`ReasoningMessage`).
    ReasoningMessage = "reasoning"
    required {
        /// What it thinks.
        content: String = "content",
    }
    optional {
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
    }
}

object! {
    /// A call that an assistant's message makes (`ToolCall`).
    pub struct ToolCall { "type": "function" }
    required {
        /// The call.
        id: String = "id",
        /// What is called, and with what.
        function: FunctionCall = "function",
    }
    optional {
        /// What the provider wants back.
        encrypted_value: String = "encryptedValue",
        /// About the call.
        metadata: Object = "metadata",
    }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// The name and the arguments of a call (`FunctionCall`).
    pub struct FunctionCall
    required {
        /// The tool.
        name: String = "name",
        /// The arguments: JSON, as text.
        arguments: String = "arguments",
    }
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

/// What a user sends or a tool returns: a text, or parts.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "JSON that is either a string or an array"
)]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts, in their order.
    Parts(Vec<ContentPart>),
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<ContentPart>> for Content {
    fn from(parts: Vec<ContentPart>) -> Self {
        Self::Parts(parts)
    }
}

impl<const N: usize> From<[ContentPart; N]> for Content {
    fn from(parts: [ContentPart; N]) -> Self {
        Self::Parts(parts.into())
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;

        impl<'de> Visitor<'de> for TextOrParts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(text.into())
            }

            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(text.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }

        deserializer.deserialize_any(TextOrParts)
    }
}

union! {
    /// A part of what a user sends or a tool returns (`ContentPart`).
    pub enum ContentPart by "type" {
        /// Text.
        Text(TextPart) = "text",
        /// An image.
        Image(ImagePart) = "image",
        /// Sound.
        Audio(AudioPart) = "audio",
        /// A film.
        Video(VideoPart) = "video",
        /// A document.
        Document(DocumentPart) = "document",
    }
}

object! {
    /// Text (`TextPart`).
    pub struct TextPart { "type": "text" }
    required {
        /// The text.
        text: String = "text",
    }
    optional {
        /// The part.
        id: String = "id",
        /// About the part: any JSON but `null`.
        metadata: Json as NonNull = "metadata",
    }
    rest
    /// Unknown fields.
    extra: Object
}

macro_rules! media {
    ($(#[$meta:meta])* $name:ident = $type:literal) => {
        object! {
            $(#[$meta])*
            pub struct $name { "type": $type }
            required {
                /// Where the bytes come from.
                source: PartSource = "source",
            }
            optional {
                /// The part.
                id: String = "id",
                /// About the part: any JSON but `null`.
                metadata: Json as NonNull = "metadata",
            }
            rest
            /// Unknown fields.
            extra: Object
        }
    };
}

media! {
    /// An image (`ImagePart`).
    ImagePart = "image"
}

media! {
    /// Sound (`AudioPart`).
    AudioPart = "audio"
}

media! {
    /// A film (`VideoPart`).
    VideoPart = "video"
}

media! {
    /// A document (`DocumentPart`).
    DocumentPart = "document"
}

union! {
    /// Where the bytes of a part come from (`PartSource`).
    pub enum PartSource by "type" {
        /// They are here.
        Data(DataSource) = "data",
        /// From a URL.
        Url(UrlSource) = "url",
        /// The provider has them.
        File(FileSource) = "file",
    }
}

object! {
    /// Bytes that are carried along (`DataSource`).
    pub struct DataSource { "type": "data" }
    required {
        /// The bytes, in base64.
        value: String = "value",
        /// What they are.
        mime_type: String = "mimeType",
    }
    optional {}
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// Bytes that whoever needs them fetches (`UrlSource`).
    pub struct UrlSource { "type": "url" }
    required {
        /// The URL.
        value: String = "value",
    }
    optional {
        /// What they are.
        mime_type: String = "mimeType",
    }
    rest
    /// Unknown fields.
    extra: Object
}

object! {
    /// Bytes that the provider has, under a name that it gave them (`FileSource`).
    pub struct FileSource { "type": "file" }
    required {
        /// The provider's name for them.
        value: String = "value",
    }
    optional {
        /// The provider.
        provider: String = "provider",
        /// What they are.
        mime_type: String = "mimeType",
    }
    rest
    /// Unknown fields.
    extra: Object
}
