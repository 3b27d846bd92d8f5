//! `GET /.well-known/agent-card.json`: who the agent is and how it is reached, for clients of A2A v1.0 and of v0.3.

use axum::Json;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// One card for both: v1.0 looks for `supportedInterfaces`, v0.3 for `url`, and each ignores the other's. What the card is
/// asked with, such as `?user=ada`, goes into the address.
pub(crate) async fn card(headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.unwrap_or("localhost");
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("http://{host}/a2a{query}");
    let interface =
        |version| json!({"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version});
    let card = json!({
        "name": "fanfare's scripted agent",
        "description": "Writes a report in pieces, to show how its streams are shared.",
        "version": env!("CARGO_PKG_VERSION"),
        "supportedInterfaces": [interface("1.0"), interface("0.3")],
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "capabilities": {"streaming": true, "pushNotifications": false},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [{
            "id": "report",
            "name": "Report",
            "description": "Writes a report on what it is told.",
            "tags": ["demonstration"],
        }],
    });
    ([(header::CACHE_CONTROL, "no-cache")], Json(card)).into_response()
}
