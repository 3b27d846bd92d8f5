//! What messages and artifacts are made of.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::wire::{self, Key, Plain, Rest as _};
use crate::protocol::{Json, Object};

/// A part of a message or an artifact (`Part`, 4.1.6).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// What it holds.
    pub content: PartContent,
    /// The name of a file. v0.3 writes it for `raw` and `url` only.
    pub filename: Option<String>,
    /// What it is, such as `image/png`. v0.3 writes it for `raw` and `url` only.
    pub media_type: Option<String>,
    /// About the part.
    pub metadata: Option<Object>,
    /// Unknown fields.
    pub extra: Object,
}

/// What a [`Part`] holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PartContent {
    /// Text.
    Text(String),
    /// Bytes, in base64.
    Raw(String),
    /// Where the bytes are.
    Url(String),
    /// Any JSON. v0.3 has objects only: there another value stands under `value`, with `data_part_compat` in the metadata,
    /// as the official software development kits do it.
    Data(Json),
}

impl Part {
    fn new(content: PartContent) -> Self {
        Self {
            content,
            filename: None,
            media_type: None,
            metadata: None,
            extra: Object::new(),
        }
    }

    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(PartContent::Text(text.into()))
    }

    /// Bytes, which are in base64 already.
    #[must_use]
    pub fn raw(base64: impl Into<String>) -> Self {
        Self::new(PartContent::Raw(base64.into()))
    }

    /// Bytes that are at a URL.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::new(PartContent::Url(url.into()))
    }

    /// Any JSON.
    #[must_use]
    pub fn data(data: impl Into<Json>) -> Self {
        Self::new(PartContent::Data(data.into()))
    }

    /// Sets the name of the file.
    #[must_use]
    pub fn filename(mut self, filename: impl Into<String>) -> Self {
        self.filename = Some(filename.into());
        self
    }

    /// Sets what it is, such as `image/png`.
    #[must_use]
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = Some(media_type.into());
        self
    }

    /// Sets what is said about the part.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Object>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.content {
            PartContent::Text(text) => map.serialize_entry("text", text),
            PartContent::Raw(base64) => map.serialize_entry("raw", base64),
            PartContent::Url(url) => map.serialize_entry("url", url),
            PartContent::Data(data) => map.serialize_entry("data", data),
        }?;
        wire::put_some::<_, Plain, _>(&mut map, "filename", self.filename.as_ref())?;
        wire::put_some::<_, Plain, _>(&mut map, "mediaType", self.media_type.as_ref())?;
        wire::put_some::<_, Plain, _>(&mut map, "metadata", self.metadata.as_ref())?;
        self.extra.write(&mut map)?;
        map.end()
    }
}

/// The key in the metadata of a v0.3 part that says: the data stands under `value`.
pub(super) const DATA_COMPAT: &str = "data_part_compat";

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, Part")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let (mut text, mut raw, mut url, mut data) = (None, None, None, None);
        let (mut filename, mut media_type, mut metadata) = (None, None, None);
        let mut file: Option<Object> = None;
        let mut extra = Object::new();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match &*key.0 {
                "text" => wire::take_some::<_, Plain, _>(&mut text, "text", &mut map)?,
                "raw" => wire::take_some::<_, Plain, _>(&mut raw, "raw", &mut map)?,
                "url" => wire::take_some::<_, Plain, _>(&mut url, "url", &mut map)?,
                "data" => wire::take::<_, Plain, _>(&mut data, "data", &mut map)?,
                "file" => wire::take_some::<_, Plain, _>(&mut file, "file", &mut map)?,
                "filename" => wire::take_some::<_, Plain, _>(&mut filename, "filename", &mut map)?,
                "mediaType" => {
                    wire::take_some::<_, Plain, _>(&mut media_type, "mediaType", &mut map)?;
                }
                "metadata" => wire::take_some::<_, Plain, _>(&mut metadata, "metadata", &mut map)?,
                "kind" => {
                    let IgnoredAny = map.next_value()?;
                }
                _ => extra.take(key, &mut map)?,
            }
        }
        if let Some(file) = file {
            let of_file = |name| older_field::<A::Error>(&file, name);
            raw = raw.or(of_file("bytes")?);
            url = url.or(of_file("uri")?);
            filename = filename.or(of_file("name")?);
            media_type = media_type.or(of_file("mimeType")?);
        }
        if let Some(unwrapped) = data
            .as_ref()
            .and_then(|data| unwrap(data, metadata.as_mut()))
        {
            data = Some(unwrapped);
            metadata = metadata.filter(|metadata: &Object| !metadata.is_empty());
        }
        let mut contents = [
            text.map(PartContent::Text),
            raw.map(PartContent::Raw),
            url.map(PartContent::Url),
            data.map(PartContent::Data),
        ]
        .into_iter()
        .flatten();
        let (Some(content), None) = (contents.next(), contents.next()) else {
            let wanted = "expected one of `text`, `raw`, `url`, `data` or, in v0.3, `file`";
            return Err(A::Error::custom(wanted));
        };
        Ok(Part {
            content,
            filename,
            media_type,
            metadata,
            extra,
        })
    }
}

/// A field of the file that a part of v0.3 has.
fn older_field<E: serde::de::Error>(file: &Object, name: &str) -> Result<Option<String>, E> {
    let Some(json) = file.get(name) else {
        return Ok(None);
    };
    let read = wire::read(json.get()).map_err(|error: E| wire::below(name, &error));
    read.map_err(|error: E| wire::below("file", &error))
}

/// The data that v0.3 has wrapped, and takes the note of it out of the metadata.
fn unwrap(data: &Json, metadata: Option<&mut Object>) -> Option<Json> {
    let metadata = metadata.filter(|metadata| {
        let note = metadata.get(DATA_COMPAT);
        note.is_some_and(|note| note.get() == "true")
    })?;
    let mut data: Object = data.read().ok()?;
    let value = data.remove("value")?;
    metadata.remove(DATA_COMPAT);
    Some(value)
}
