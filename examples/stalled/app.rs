//! The routes: a stream whose connection is closed when the hub has given its reader up.

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Result};
use axum::routing::get;
use fanfare::{Hub, LastEventId};

use crate::closing::Closer;

pub(crate) fn router(hub: Hub) -> Router {
    hub.on_eviction(|eviction| eprintln!("gave up {eviction}"));
    Router::new().route("/events", get(events)).with_state(hub)
}

async fn events(
    State(hub): State<Hub>,
    ConnectInfo(closer): ConnectInfo<Closer>,
    last: LastEventId,
) -> Result<impl IntoResponse> {
    let mut subscription = hub.subscribe_from("news", last)?;
    let evicted = subscription.evicted();
    // One small task for each connection; it ends with the connection.
    tokio::spawn(async move {
        if evicted.await {
            closer.close();
        }
    });
    Ok(subscription.into_sse())
}
