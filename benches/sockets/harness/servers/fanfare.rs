//! fanfare's `Sse` as an axum response: the task path.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use fanfare::{Event, Hub};

use super::axum::serve;
use super::control::Publish;
use super::{Listeners, Setup};
use crate::harness::failure::Failure;

impl Publish for Hub {
    fn publish(&self, topic: u32, payload: &str) {
        let published = Self::publish(self, topic.to_string().as_str(), Event::text(payload));
        let _ = published.expect("the hub is open and the event is small");
    }
}

/// Without ids: the frames of all engines have the same bytes.
pub(super) fn hub() -> Hub {
    Hub::builder()
        .event_ids(false)
        .build()
        .expect("the limits are in range")
}

pub(super) fn router(hub: Hub) -> Router {
    Router::new()
        .route("/stream/{topic}", get(stream))
        .route("/publish/{topic}", post(publish))
        .with_state(hub)
}

async fn stream(
    State(hub): State<Hub>,
    Path(topic): Path<String>,
) -> Result<impl IntoResponse, StatusCode> {
    match hub.subscribe(topic.as_str()) {
        Ok(subscription) => Ok(subscription.into_sse()),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn publish(State(hub): State<Hub>, Path(topic): Path<String>, body: String) -> StatusCode {
    match hub.publish(topic.as_str(), Event::text(&body)) {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

pub(super) fn run(listeners: Listeners, setup: &Setup) -> Result<(), Failure> {
    let hub = hub();
    serve(listeners, setup, router(hub.clone()), hub)
}
