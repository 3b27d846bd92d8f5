//! `POST /a2a`: tasks over A2A's JSON-RPC, in v1.0 and v0.3.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use fanfare::Envelope;
use fanfare::protocol::a2a::{self, JsonRpcEnvelope, StreamResponse, V0_3, Version};
use serde::Deserialize;

use crate::app::{App, fresh};
use crate::contexts::Added;
use crate::error::ApiError;
use crate::json_rpc::{self, Error, Failure, Method, Request};
use crate::request::{Asked, JsonBody};
use crate::script;
use crate::task::{Task, Unfollowed};

#[derive(Deserialize)]
struct SendParams {
    message: a2a::Message,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskParams {
    id: String,
    /// How many of the last messages are wanted; all, if it does not say.
    history_length: Option<usize>,
}

pub(crate) async fn answer(
    State(app): State<App>,
    asked: Result<Asked, ApiError>,
    headers: HeaderMap,
    body: Result<JsonBody, ApiError>,
) -> Response {
    match read(&headers, body) {
        Ok(request) => match respond(&app, asked, &request).await {
            Ok(response) => response,
            Err(error) => error.of(request.id).into_response(),
        },
        Err(failure) => failure.into_response(),
    }
}

fn read(headers: &HeaderMap, body: Result<JsonBody, ApiError>) -> Result<Request, Failure> {
    let null = a2a::RequestId::null;
    let JsonBody(body) = body.map_err(|error| Error::from(error).of(null()))?;
    let request = Request::read(&body)?;
    // The method tells which version it is; the header has only to be one that is spoken here.
    if let Some(version) = headers.get("a2a-version") {
        let version = String::from_utf8_lossy(version.as_bytes());
        if let Err(unknown) = version.parse::<Version>() {
            return Err(Error::from(unknown).of(request.id));
        }
    }
    Ok(request)
}

async fn respond(
    app: &App,
    asked: Result<Asked, ApiError>,
    request: &Request,
) -> Result<Response, Error> {
    let asked = asked?;
    match request.method {
        Method::Stream => {
            let task = begin(app, &asked, request)?;
            stream(app, &task, request).await
        }
        Method::Send => {
            let task = begin(app, &asked, request)?;
            task.over(app.hub()).await.map_err(ApiError::from)?;
            // The answer to a message is a response as in a stream.
            let response = StreamResponse::from(task.now());
            Ok(match request.version {
                Version::V0_3 => json_rpc::answer(&request.id, V0_3(&response)),
                _ => json_rpc::answer(&request.id, &response),
            })
        }
        Method::Subscribe => {
            let params: TaskParams = request.params()?;
            let task = find(app, &params.id)?;
            stream(app, &task, request).await
        }
        Method::Get => {
            let params: TaskParams = request.params()?;
            let mut task = find(app, &params.id)?.now();
            if let (Some(wanted), Some(history)) = (params.history_length, &mut task.history) {
                history.drain(..history.len().saturating_sub(wanted));
            }
            Ok(match request.version {
                Version::V0_3 => json_rpc::answer(&request.id, V0_3(StreamResponse::from(task))),
                _ => json_rpc::answer(&request.id, &task),
            })
        }
    }
}

fn find(app: &App, id: &str) -> Result<Arc<Task>, Error> {
    let task = app.tasks().get(id);
    task.ok_or_else(|| Error::TaskNotFound(id.chars().take(64).collect()))
}

/// Makes a task of the message, and begins with it.
fn begin(app: &App, asked: &Asked, request: &Request) -> Result<Arc<Task>, Error> {
    let SendParams { message } = request.params()?;
    if message.parts.is_empty() {
        return Err(Error::Refused(
            "message: parts: expected at least one".to_owned(),
        ));
    }
    if let Some(known) = &message.task_id {
        find(app, known)?;
        let refusal = format!("task `{known}` takes no more messages: begin a new one");
        return Err(Error::Unsupported(refusal));
    }
    let id = fresh("task");
    let context = match &message.context_id {
        Some(context) => crate::request::name("contextId", context)?.to_owned(),
        None => fresh("context"),
    };
    let prompt = script::prompted(&message);
    let script = script::task(&id, &context, &prompt);
    let task = Task::new(app, &asked.user, script::submitted(&id, &context, message))?;
    app.tasks().add(Arc::clone(&task)).map_err(|full| {
        let message = format!("{} tasks are under way, which is the limit", full.limit);
        ApiError::too_many("too_many_tasks", message)
    })?;
    let told = app.prompted(&asked.user, &context, &prompt, Added::Task);
    told.and_then(|()| task.announce(app))
        .map_err(ApiError::from)?;
    let pace = asked.pace.unwrap_or(app.pace());
    tokio::spawn(Arc::clone(&task).perform(app.clone(), script, pace));
    Ok(task)
}

/// The task as it stands, and what changes of it, each in the envelope of this request.
async fn stream(app: &App, task: &Task, request: &Request) -> Result<Response, Error> {
    let envelope = Envelope::try_from(&JsonRpcEnvelope::new(&request.id))
        .map_err(|error| Error::InvalidRequest(format!("id: {error}")))?;
    let subscription = task.follow(app.hub(), request.version).await;
    let subscription = subscription.map_err(|error| unfollowed(task, error))?;
    Ok(subscription.envelope(envelope).into_sse().into_response())
}

fn unfollowed(task: &Task, error: Unfollowed) -> Error {
    match error {
        Unfollowed::Over => {
            let task = task.now();
            let state = task.status.state.as_str();
            Error::Unsupported(format!("task `{}` is over: {state}", task.id))
        }
        Unfollowed::Encode(error) => ApiError::from(error).into(),
    }
}
