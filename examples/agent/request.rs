//! What requests have in common: who asks, at which pace, and a body of JSON that is not too large.

use std::time::Duration;

use axum::RequestExt as _;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use fanfare::UserId;
use serde::Deserialize;

use crate::error::ApiError;
use crate::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, MAX_NAME_BYTES, MAX_PACE_MS};

/// Who asks if the request does not say.
const DEFAULT_USER: &str = "demo";

/// The query of a request to the agent: `?user=ada&pace=20`.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) user: UserId,
    /// Between two events; the server's own if there is none.
    pub(crate) pace: Option<Duration>,
}

#[derive(Debug, Deserialize)]
struct AskedQuery {
    user: Option<String>,
    pace: Option<u64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<AskedQuery>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| invalid_query(&rejection))?;
        let user = query.user.unwrap_or_else(|| DEFAULT_USER.to_owned());
        if let Some(pace) = query.pace.filter(|pace| *pace > MAX_PACE_MS) {
            let message = format!("the pace is {pace} ms, the limit is {MAX_PACE_MS}");
            return Err(ApiError::bad_request("invalid_query", message));
        }
        Ok(Self {
            user: name("user", &user)?.into(),
            pace: query.pace.map(Duration::from_millis),
        })
    }
}

/// The user in the path.
pub(crate) struct User(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(user) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection: PathRejection| {
                ApiError::bad_request("invalid_name", rejection.body_text())
            })?;
        Ok(Self(name("user", &user)?.into()))
    }
}

/// The connection's id, which the client chooses: `?connection=tab-1`. A new one if it does not.
pub(crate) struct ConnectionId(pub(crate) String);

#[derive(Debug, Deserialize)]
struct ConnectionQuery {
    connection: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ConnectionId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<ConnectionQuery>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| invalid_query(&rejection))?;
        match query.connection {
            Some(connection) => Ok(Self(name("connection", &connection)?.to_owned())),
            None => Ok(Self(crate::app::fresh("connection"))),
        }
    }
}

fn invalid_query(rejection: &QueryRejection) -> ApiError {
    ApiError::bad_request("invalid_query", rejection.body_text())
}

/// A name that a client gave: 1 to [`MAX_NAME_BYTES`] bytes, none of them a control character.
pub(crate) fn name<'a>(what: &str, name: &'a str) -> Result<&'a str, ApiError> {
    let refused = |message| Err(ApiError::bad_request("invalid_name", message));
    if name.is_empty() {
        return refused(format!("the {what} is empty"));
    }
    if name.len() > MAX_NAME_BYTES {
        let length = name.len();
        return refused(format!(
            "the {what} has {length} bytes, the limit is {MAX_NAME_BYTES}"
        ));
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return refused(format!("the {what} has the control character {control:?}"));
    }
    Ok(name)
}

/// A body that says it is JSON, at most [`MAX_BODY_BYTES`] long. What it holds is not looked at yet.
pub(crate) struct JsonBody(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|it| it.trim().eq_ignore_ascii_case("application/json")) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "the body has to be application/json",
            ));
        }
        DefaultBodyLimit::max(MAX_BODY_BYTES).apply(&mut request);
        let body = request.extract::<Bytes, _>();
        match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(unreadable(&rejection)),
            Err(_elapsed) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                format!("the body took longer than {BODY_TIMEOUT:?} to arrive"),
            )),
        }
    }
}

fn unreadable(rejection: &BytesRejection) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body has more than {MAX_BODY_BYTES} bytes, which is the limit"),
        ),
        _ => ApiError::bad_request("unreadable_body", rejection.body_text()),
    }
}
