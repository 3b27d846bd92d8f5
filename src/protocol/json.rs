//! JSON whose shape is not ours: a value as its text, and an object as its entries.
//!
//! **Invariant J1.** The text of a [`Json`] is one valid JSON value without white space between its tokens. So equality of
//! text is well defined, and it never has a line break, which would end a line of an SSE event.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Any JSON value, kept as its text.
///
/// What is read is written again as it was, white space between tokens aside: numbers of any size and precision, the order
/// of keys, escapes. To write it is to copy it.
///
/// Two values are equal if their texts are: `1` and `1.0` differ, and so do objects whose keys come in another order.
///
/// # Examples
///
/// ```
/// use fanfare::protocol::Json;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Plan { steps: u32 }
///
/// let json = Json::new(&Plan { steps: 3 })?;
/// assert_eq!(json.get(), r#"{"steps":3}"#);
/// assert_eq!(json.read::<Plan>()?.steps, 3);
///
/// let number: Json = r#"{ "exact": 0.1000000000000000055511151231257827 }"#.parse()?;
/// assert_eq!(number.get(), r#"{"exact":0.1000000000000000055511151231257827}"#);
/// # Ok::<(), fanfare::protocol::JsonError>(())
/// ```
#[derive(Clone)]
pub struct Json(Box<RawValue>);

impl Json {
    /// What `value` is in JSON.
    ///
    /// # Errors
    ///
    /// If `value` cannot be written as JSON, such as a map whose keys are not strings.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let raw = to_raw_value(value).map_err(JsonError)?;
        Ok(Self(compact(raw)))
    }

    /// The value `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Whether it is the value `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.get() == "null"
    }

    /// Reads it as a type.
    ///
    /// # Errors
    ///
    /// If it is not what `T` reads.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        serde_json::from_str(self.get()).map_err(JsonError)
    }

    /// What writes itself without failing: strings, numbers, values that were JSON before.
    fn certain<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::new(value).unwrap_or_else(|_| Self::null())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Json {}

impl std::str::FromStr for Json {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map_err(JsonError)
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::certain(&value)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::certain(&object)
    }
}

macro_rules! from {
    ($($type:ty),*) => {$(
        impl From<$type> for Json {
            fn from(value: $type) -> Self {
                Self::certain(&value)
            }
        }
    )*};
}

// Of numbers, those that are no numbers become `null`, as in JavaScript.
from!(bool, i32, u32, i64, u64, f64, &str, String);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(compact(raw)))
    }
}

/// Takes the white space between tokens out. J1.
fn compact(raw: Box<RawValue>) -> Box<RawValue> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let text = raw.get();
    // Where the tokens are, and whether anything lies between them.
    let mut kept = String::new();
    let (mut from, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if is_space(byte) {
            kept.push_str(&text[from..at]);
            from = at + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    if from == 0 {
        return raw;
    }
    kept.push_str(&text[from..]);
    // It is the same JSON, so it is JSON.
    RawValue::from_string(kept).unwrap_or(raw)
}

/// A JSON object: its entries, in their order.
///
/// # Examples
///
/// ```
/// use fanfare::protocol::Object;
///
/// let metadata = Object::new().with("trace", "7f3a").with("attempt", 2);
/// assert_eq!(metadata.get("attempt").map(|json| json.get()), Some("2"));
/// assert_eq!(metadata.to_string(), r#"{"trace":"7f3a","attempt":2}"#);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Object(Vec<(String, Json)>);

impl Object {
    /// The object without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What `value` is in JSON, if that is an object.
    ///
    /// # Errors
    ///
    /// If `value` cannot be written as JSON, or is no object.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        Json::new(value)?.read()
    }

    /// Sets a key; what it had before is gone. Looks at each entry.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Json>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(present, _)| *present == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// The same with a key set.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.insert(key, value);
        self
    }

    /// The value of a key. Of a key that was read several times it is the last, as in JavaScript.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        let found = self.0.iter().rfind(|(present, _)| present == key);
        found.map(|(_, value)| value)
    }

    /// Takes a key out, with what it had.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let value = self.get(key).cloned();
        self.0.retain(|(present, _)| present != key);
        value
    }

    /// The entries, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts an entry that was read behind the others, whatever they are: what is read is written again.
    pub(crate) fn push(&mut self, key: String, value: Json) {
        self.0.push((key, value));
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Json::certain(self).fmt(f)
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for Object {
    /// Of keys that are the same, the last counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut object = Self::new();
        for (key, value) in entries {
            object.insert(key, value);
        }
        object
    }
}

impl<K: Into<String>, V: Into<Json>, const N: usize> From<[(K, V); N]> for Object {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object::new();
                while let Some((key, value)) = map.next_entry()? {
                    object.push(key, value);
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// Why something is no JSON, or not the JSON that was wanted. Its text says what is wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct JsonError(serde_json::Error);
