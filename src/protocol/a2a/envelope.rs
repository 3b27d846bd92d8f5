//! What goes around a shared response for one connection: JSON-RPC 2.0.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::Json;

/// The id of a JSON-RPC request, which its answers repeat: a string, a number or `null`
/// ([JSON-RPC 2.0, section 4](https://www.jsonrpc.org/specification#request_object)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Json);

/// A request's id that is neither string, number nor `null`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("request id `{0}`: expected a string, a number or null")]
pub struct RequestIdError(String);

impl RequestId {
    /// The id of a request that had none, or none that could be read.
    #[must_use]
    pub fn null() -> Self {
        Self(Json::null())
    }

    /// The id as JSON.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl TryFrom<Json> for RequestId {
    type Error = RequestIdError;

    fn try_from(json: Json) -> Result<Self, RequestIdError> {
        match json.get().as_bytes() {
            [b'{' | b'[' | b't' | b'f', ..] => {
                Err(RequestIdError(json.get().chars().take(64).collect()))
            }
            _ => Ok(Self(json)),
        }
    }
}

impl From<i64> for RequestId {
    fn from(id: i64) -> Self {
        Self(id.into())
    }
}

impl From<i32> for RequestId {
    fn from(id: i32) -> Self {
        Self(id.into())
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        json.try_into().map_err(serde::de::Error::custom)
    }
}

/// What stands before and behind a response in the answer to one request. Both versions have the same.
///
/// The response between them is shared by all connections; a transport that can gather writes the three one after the
/// other. Neither part has a line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonRpcEnvelope {
    prefix: String,
}

impl JsonRpcEnvelope {
    /// The envelope of the answers to one request.
    #[must_use]
    pub fn new(id: &RequestId) -> Self {
        let prefix = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
        Self { prefix }
    }

    /// What goes before the response.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What goes behind it.
    #[must_use]
    #[expect(clippy::unused_self, reason = "it belongs to the envelope")]
    pub const fn suffix(&self) -> &'static str {
        "}"
    }

    /// The whole answer, for transports that cannot gather. `response` is the response's JSON.
    #[must_use]
    pub fn wrap(&self, response: &str) -> String {
        [self.prefix(), response, self.suffix()].concat()
    }
}

/// What a subscription carries. Refused if the request's id is too long.
impl TryFrom<&JsonRpcEnvelope> for crate::Envelope {
    type Error = crate::EnvelopeError;

    fn try_from(envelope: &JsonRpcEnvelope) -> Result<Self, Self::Error> {
        Self::new(envelope.prefix(), envelope.suffix())
    }
}
