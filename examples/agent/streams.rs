//! The users' streams: what every tab of a user sees.
//!
//! A connection has an id, which the client chooses. A tab that comes back with its id takes the place of its older
//! connection, should that hang yet.

use std::future::ready;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fanfare::protocol::analytics::PageView;
use fanfare::protocol::system::{Connected, Event};
use fanfare::{
    Broadcaster, Envelope, EventError, Snapshot, SnapshotError, Subscription, ToSse, UserId,
};
use serde::Deserialize;

use crate::app::App;
use crate::error::ApiError;
use crate::limits::MAX_CONNECTIONS;
use crate::request::{ConnectionId, JsonBody, User, name};

pub(crate) async fn ag_ui(
    State(app): State<App>,
    User(user): User,
    connection: ConnectionId,
) -> Result<Response, ApiError> {
    register(&app.router().broadcasters().ag_ui, &user, &connection).map(respond)
}

pub(crate) async fn a2a(
    State(app): State<App>,
    User(user): User,
    connection: ConnectionId,
) -> Result<Response, ApiError> {
    register(&app.router().broadcasters().a2a, &user, &connection).map(respond)
}

pub(crate) async fn analytics(
    State(app): State<App>,
    User(user): User,
    connection: ConnectionId,
) -> Result<Response, ApiError> {
    register(&app.router().broadcasters().analytics, &user, &connection).map(respond)
}

pub(crate) async fn context(
    State(app): State<App>,
    User(user): User,
    connection: ConnectionId,
) -> Result<Response, ApiError> {
    register_context(&app, &user, &connection)
        .await
        .map(respond)
}

/// All four on one connection, for browsers, which have six for all tabs together. Each event is wrapped with the name of
/// its stream: around bytes that are shared with everybody else's.
pub(crate) async fn all(
    State(app): State<App>,
    User(user): User,
    connection: ConnectionId,
) -> Result<Response, ApiError> {
    let streams = app.router().broadcasters();
    let ag_ui = register(&streams.ag_ui, &user, &connection)?;
    let a2a = register(&streams.a2a, &user, &connection)?;
    let context = register_context(&app, &user, &connection).await?;
    let analytics = register(&streams.analytics, &user, &connection)?;
    let sse = context
        .envelope(of("context")?)
        .into_sse()
        .with(ag_ui.envelope(of("ag-ui")?))
        .with(a2a.envelope(of("a2a")?))
        .with(analytics.envelope(of("analytics")?));
    Ok(sse.into_response())
}

fn of(stream: &str) -> Result<Envelope, EventError> {
    Ok(Envelope::new(
        format!(r#"{{"stream":"{stream}","event":"#),
        "}",
    )?)
}

fn respond(subscription: Subscription) -> Response {
    subscription.into_sse().into_response()
}

fn register<E: ToSse>(
    stream: &Broadcaster<E>,
    user: &UserId,
    ConnectionId(id): &ConnectionId,
) -> Result<Subscription, ApiError> {
    check_room(stream, user)?;
    Ok(stream.register(user, id)?)
}

/// Registers at the context stream, which begins with the connection's own id and all contexts of the user.
async fn register_context(
    app: &App,
    user: &UserId,
    ConnectionId(id): &ConnectionId,
) -> Result<Subscription, ApiError> {
    let stream = &app.router().broadcasters().context;
    check_room(stream, user)?;
    let snapshot = |_position| {
        let connected = Event::from(Connected::new(id.as_str()));
        let contexts = app.contexts().of(user);
        let frames = [connected, contexts].map(|event| stream.encode(&event.into()));
        // The stream goes on from where it was before the contexts were looked up: one that was made meanwhile may be told
        // twice, which changes nothing, and no event of the other protocols is lost.
        let frames: Result<Vec<_>, _> = frames.into_iter().collect();
        ready(frames.map(Snapshot::new))
    };
    stream
        .register_with_snapshot(user, id, snapshot)
        .await
        .map_err(|error| match error {
            SnapshotError::Snapshot(error) => error.into(),
            _ => ApiError::closing(),
        })
}

fn check_room<E: ToSse>(stream: &Broadcaster<E>, user: &UserId) -> Result<(), ApiError> {
    let connections = stream.connection_count(user);
    if connections >= MAX_CONNECTIONS {
        let message =
            format!("{user} has {connections} connections, the limit is {MAX_CONNECTIONS}");
        return Err(ApiError::too_many("too_many_connections", message));
    }
    Ok(())
}

#[derive(Deserialize)]
struct View {
    session: String,
    url: String,
    referrer: Option<String>,
}

/// `POST /users/{user}/views`: a page of the user's was opened.
pub(crate) async fn view(
    State(app): State<App>,
    User(user): User,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, ApiError> {
    let View {
        session,
        url,
        referrer,
    } = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request("invalid_view", format!("the body is no view: {error}"))
    })?;
    let mut view =
        PageView::new(name("session", &session)?, name("url", &url)?).user_id(user.as_str());
    view.referrer = referrer;
    drop(app.router().route_analytics(&user, &view.into())?);
    Ok(StatusCode::NO_CONTENT)
}
