//! HTTP: the page, the streams, publishing, the numbers. Every refusal is an [`ApiError`].

use std::borrow::Cow;
use std::str;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fanfare::{EncodeError, Event, LastEventId, PublishError, Published, SubscribeError};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::{App, MAX_BODY_BYTES, MAX_TOPICS, Refused, Stats};
use crate::error::ApiError;

const PAGE: &str = include_str!("page.html");

/// The page is one file: it loads nothing and talks to nobody but this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Longest topic name, in characters.
const MAX_TOPIC_CHARS: usize = 128;

/// What is read, and thrown away, of a body that is too large: a client that still sends when the connection closes
/// may never see why.
const MAX_DRAINED_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Longest time a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a browser is told to wait before it reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// The streaming route.
pub(crate) const EVENTS: &str = "/events/{topic}";

const ROUTES: &str = "GET /, GET /events/{topic}, POST /publish/{topic}, GET /stats";

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/events/", get(no_topic))
        .route(EVENTS, get(events))
        .route("/publish/", post(no_topic))
        .route("/publish/{topic}", post(publish))
        .route("/stats", get(stats))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(PAGE)).into_response()
}

async fn stats(State(app): State<App>) -> impl IntoResponse {
    let stats: Json<Stats> = Json(app.stats());
    ([(header::CACHE_CONTROL, "no-store")], stats)
}

async fn events(
    State(app): State<App>,
    TopicName(topic): TopicName,
    last: LastEventId,
) -> Result<Response, ApiError> {
    let subscription = app.subscribe(&topic, last)?;
    Ok(subscription.into_sse().retry(RETRY).into_response())
}

fn parsed<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(ApiError::bad_request(
            "invalid_query",
            rejection.body_text(),
        )),
    }
}

#[derive(Debug, Deserialize)]
struct PublishQuery {
    event: Option<String>,
}

/// The answer of a publish.
#[derive(Debug, Serialize)]
struct Receipt {
    subscribers: usize,
    id: Option<String>,
}

async fn publish(
    State(app): State<App>,
    TopicName(topic): TopicName,
    query: Result<Query<PublishQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Receipt>, ApiError> {
    let query = parsed(query)?;
    let name = query.event.as_deref().unwrap_or_default();
    let body = read_body(&headers, body).await?;
    let published = if is_json(&headers) {
        let json: &RawValue = serde_json::from_slice(&body).map_err(|error| {
            ApiError::bad_request("invalid_json", format!("the body is not JSON: {error}"))
        })?;
        app.publish(&topic, Event::raw_json(json).name(name))
    } else {
        let text = str::from_utf8(&body).map_err(|error| {
            ApiError::bad_request("invalid_utf8", format!("the body is not UTF-8: {error}"))
        })?;
        app.publish(&topic, Event::text(text).name(name))
    };
    Ok(Json(Receipt::from(published?)))
}

impl From<Published> for Receipt {
    fn from(published: Published) -> Self {
        Self {
            subscribers: published.subscribers(),
            id: published.id().map(|id| id.to_string()),
        }
    }
}

/// `application/json`, or any type that says it is written in it (`application/cloudevents+json`).
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let media_type = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_DRAINED_BYTES as u64) {
        return Err(too_large(announced));
    }
    tokio::time::timeout(BODY_TIMEOUT, collect(body, announced))
        .await
        .unwrap_or_else(|_| {
            let message = format!(
                "the body took longer than {} seconds to arrive",
                BODY_TIMEOUT.as_secs()
            );
            Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                message,
            ))
        })
}

async fn collect(mut body: Body, announced: Option<u64>) -> Result<Bytes, ApiError> {
    let mut kept = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request("unreadable_body", format!("the body broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if length > MAX_DRAINED_BYTES {
            break;
        }
    }
    if length > MAX_BODY_BYTES {
        return Err(too_large(announced));
    }
    Ok(kept.into())
}

fn too_large(announced: Option<u64>) -> ApiError {
    let message = match announced {
        Some(length) => format!("the body has {length} bytes, the limit is {MAX_BODY_BYTES}"),
        None => format!("the body has more than {MAX_BODY_BYTES} bytes, which is the limit"),
    };
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

/// A topic from the path: 1 to 128 characters, none of them a control character.
struct TopicName(String);

impl<S: Send + Sync> FromRequestParts<S> for TopicName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(topic) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| match &rejection {
                PathRejection::FailedToDeserializePathParams(error)
                    if matches!(error.kind(), ErrorKind::InvalidUtf8InPathParam { .. }) =>
                {
                    invalid_topic("a topic is UTF-8, percent-encoded")
                }
                _ => invalid_topic(rejection.body_text()),
            })?;
        let chars = topic.chars().count();
        if chars > MAX_TOPIC_CHARS {
            return Err(invalid_topic(format!(
                "the topic has {chars} characters, the limit is {MAX_TOPIC_CHARS}"
            )));
        }
        if let Some(control) = topic.chars().find(|c| c.is_control()) {
            return Err(invalid_topic(format!(
                "a topic holds no control characters, but this one has {control:?}"
            )));
        }
        // A browser folds these away before it sends the request, so a page could never watch them.
        if topic == "." || topic == ".." {
            return Err(invalid_topic("a topic is not \".\" or \"..\""));
        }
        Ok(Self(topic))
    }
}

fn invalid_topic(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::bad_request("invalid_topic", message)
}

async fn no_topic() -> ApiError {
    invalid_topic("the topic is missing: a topic has 1 to 128 characters")
}

async fn unknown_route() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there are {ROUTES}"),
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("there are {ROUTES}"),
    )
}

fn too_many_topics() -> ApiError {
    let message = format!(
        "there are {MAX_TOPICS} topics, which is the limit; one that falls silent makes room"
    );
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_topics", message)
}

fn closing() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "closing",
        "the server is shutting down",
    )
}

impl From<Refused<SubscribeError>> for ApiError {
    fn from(refused: Refused<SubscribeError>) -> Self {
        match refused {
            Refused::TooManyTopics => too_many_topics(),
            Refused::Hub(_closed) => closing(),
        }
    }
}

impl From<Refused<PublishError>> for ApiError {
    fn from(refused: Refused<PublishError>) -> Self {
        match refused {
            Refused::TooManyTopics => too_many_topics(),
            Refused::Hub(error) => publish_error(&error),
        }
    }
}

fn publish_error(error: &PublishError) -> ApiError {
    match error {
        PublishError::Encode(EncodeError::Name { .. } | EncodeError::NameTooLong { .. }) => {
            ApiError::bad_request("invalid_event_name", error.to_string())
        }
        PublishError::Encode(EncodeError::TooLarge { .. }) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            error.to_string(),
        ),
        PublishError::Closed => closing(),
        _ => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        ),
    }
}
