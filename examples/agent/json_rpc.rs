//! JSON-RPC 2.0 as A2A speaks it: the request, its method in either version, and what it is answered when it fails.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fanfare::protocol::a2a::{RequestId, UnknownVersion, Version};
use fanfare::protocol::{self, JsonError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::ApiError;

/// What is asked for. The method's name tells the version, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `SendMessage`, `message/send`: the task when it is over.
    Send,
    /// `SendStreamingMessage`, `message/stream`: the task, and what changes of it.
    Stream,
    /// `SubscribeToTask`, `tasks/resubscribe`: the same, of a task that is under way.
    Subscribe,
    /// `GetTask`, `tasks/get`.
    Get,
}

impl Method {
    fn named(name: &str) -> Option<(Self, Version)> {
        Some(match name {
            "SendMessage" => (Self::Send, Version::V1_0),
            "SendStreamingMessage" => (Self::Stream, Version::V1_0),
            "SubscribeToTask" => (Self::Subscribe, Version::V1_0),
            "GetTask" => (Self::Get, Version::V1_0),
            "message/send" => (Self::Send, Version::V0_3),
            "message/stream" => (Self::Stream, Version::V0_3),
            "tasks/resubscribe" => (Self::Subscribe, Version::V0_3),
            "tasks/get" => (Self::Get, Version::V0_3),
            _ => return None,
        })
    }
}

/// A request, with its parameters not looked at yet.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) method: Method,
    pub(crate) version: Version,
    params: Option<protocol::Json>,
}

#[derive(Deserialize)]
struct Raw {
    jsonrpc: Option<protocol::Json>,
    id: Option<protocol::Json>,
    method: Option<protocol::Json>,
    params: Option<protocol::Json>,
}

impl Request {
    /// Reads a request. The error has the request's id if that could be read.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Failure> {
        let json: protocol::Json = serde_json::from_slice(body)
            .map_err(|error| Error::Parse(error.to_string()).of(RequestId::null()))?;
        let invalid = |what: &str| Error::InvalidRequest(what.to_owned());
        if !json.get().starts_with('{') {
            return Err(invalid("it is no object; batches are not taken").of(RequestId::null()));
        }
        let raw: Raw = json
            .read()
            .map_err(|error| Error::InvalidRequest(error.to_string()).of(RequestId::null()))?;
        let id = match raw.id.map(RequestId::try_from) {
            Some(Ok(id)) => id,
            Some(Err(error)) => {
                return Err(Error::InvalidRequest(error.to_string()).of(RequestId::null()));
            }
            None => return Err(invalid("it has no id").of(RequestId::null())),
        };
        if raw
            .jsonrpc
            .is_none_or(|version| version.get() != r#""2.0""#)
        {
            return Err(invalid("jsonrpc is not \"2.0\"").of(id));
        }
        let Some(Ok(name)) = raw.method.map(|method| method.read::<String>()) else {
            return Err(invalid("it has no method").of(id));
        };
        let Some((method, version)) = Method::named(&name) else {
            return Err(Error::MethodNotFound(name.chars().take(64).collect()).of(id));
        };
        Ok(Self {
            id,
            method,
            version,
            params: raw.params,
        })
    }

    pub(crate) fn params<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let params = self.params.clone().unwrap_or_else(protocol::Json::null);
        params.read().map_err(Error::InvalidParams)
    }
}

/// An answer that is no stream.
#[derive(Serialize)]
struct Answer<'a, T> {
    jsonrpc: &'static str,
    id: &'a RequestId,
    result: T,
}

pub(crate) fn answer(id: &RequestId, result: impl Serialize) -> Response {
    let jsonrpc = "2.0";
    Json(Answer {
        jsonrpc,
        id,
        result,
    })
    .into_response()
}

/// What can be wrong with a request, with the codes of JSON-RPC (section 5.1) and of A2A (v1.0, 5.4).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the body is not JSON: {0}")]
    Parse(String),
    #[error("not a JSON-RPC 2.0 request: {0}")]
    InvalidRequest(String),
    #[error(
        "there is no method `{0}`; there are SendMessage, SendStreamingMessage, SubscribeToTask, GetTask, and of v0.3 message/send, message/stream, tasks/resubscribe, tasks/get"
    )]
    MethodNotFound(String),
    #[error("params: {0}")]
    InvalidParams(JsonError),
    #[error("params: {0}")]
    Refused(String),
    #[error("there is no task `{0}`")]
    TaskNotFound(String),
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// What is no matter of JSON-RPC: the HTTP status says the same.
    #[error("{}", .0.message)]
    Http(ApiError),
}

impl Error {
    pub(crate) fn of(self, id: RequestId) -> Failure {
        Failure { id, error: self }
    }

    fn code(&self) -> i32 {
        match self {
            Self::Parse(_) => -32700,
            Self::InvalidRequest(_) => -32600,
            Self::MethodNotFound(_) => -32601,
            Self::InvalidParams(_) | Self::Refused(_) => -32602,
            Self::Http(error) if error.status.is_client_error() => -32600,
            Self::Http(_) => -32603,
            Self::TaskNotFound(_) => -32001,
            Self::Unsupported(_) => -32004,
            Self::Version(_) => -32009,
        }
    }

    /// What A2A's clients tell its own errors by (v1.0, 9.5).
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::TaskNotFound(_) => Some("TASK_NOT_FOUND"),
            Self::Unsupported(_) => Some("UNSUPPORTED_OPERATION"),
            Self::Version(_) => Some("VERSION_NOT_SUPPORTED"),
            _ => None,
        }
    }

    /// An error of JSON-RPC is an answer like any other. Only what is no JSON-RPC at all is HTTP's.
    fn status(&self) -> StatusCode {
        match self {
            Self::Parse(_) => StatusCode::BAD_REQUEST,
            Self::Http(error) => error.status,
            _ => StatusCode::OK,
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Http(error)
    }
}

/// The answer to a request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    id: RequestId,
    error: Error,
}

#[derive(Serialize)]
struct FailureAnswer<'a> {
    jsonrpc: &'static str,
    id: &'a RequestId,
    error: serde_json::Value,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut error = json!({
            "code": self.error.code(),
            "message": self.error.to_string(),
        });
        if let Some(reason) = self.error.reason() {
            error["data"] = json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "a2a-protocol.org",
            }]);
        }
        let answer = FailureAnswer {
            jsonrpc: "2.0",
            id: &self.id,
            error,
        };
        (self.error.status(), Json(answer)).into_response()
    }
}
