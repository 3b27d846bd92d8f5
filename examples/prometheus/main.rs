//! The numbers of a hub for Prometheus, its health for a load balancer, and its log.
//!
//! ```text
//! cargo run --features metrics,tracing --example prometheus
//! ```
//!
//! ```text
//! a publisher, ten events/s ─► the hub ─┬─► GET /events    server-sent events
//!                                       ├─► GET /metrics   what a scrape reads: `record_metrics`, then the exporter's text
//!                                       └─► GET /health    200, or 503 with what is wrong
//! ```
//!
//! No number is written where an event is published: the hub counts for itself, and a scrape takes its sums.

use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Parser;
use fanfare::{Event, Hub};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

/// Where the one topic is.
const TOPIC: &str = "ticks";

/// Ten events a second.
const PERIOD: Duration = Duration::from_millis(100);

/// Gaps, in events: from one that nobody notices to one that is a history lost.
const GAPS: [f64; 6] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];

/// `text/plain` of the exposition format (its version 0.0.4).
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Parser)]
#[command(
    name = "prometheus",
    about = "A hub, its numbers for Prometheus, its health, its log"
)]
struct Options {
    /// Address to listen on; port 0 lets the system choose, and the choice is printed
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
}

#[derive(Clone, Debug)]
struct App {
    hub: Hub,
    exporter: PrometheusHandle,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // Who came and went, and who was ended by lag; with TRACE also each publish.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(io::stderr)
        .init();
    let exporter = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("fanfare_lag_missed_events".to_owned()), &GAPS)?
        .install_recorder()?;
    let app = App {
        hub: Hub::builder()
            .evict_after(Duration::from_secs(30))
            .build()?,
        exporter,
    };

    let listener = TcpListener::bind(&options.listen).await?;
    writeln!(
        io::stdout(),
        "metrics on http://{}/metrics",
        listener.local_addr()?
    )?;
    tokio::spawn(publish(app.hub.clone()));
    axum::serve(listener, router(app)).await?;
    Ok(())
}

fn router(app: App) -> Router {
    Router::new()
        .route("/events", get(events))
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(app)
}

async fn publish(hub: Hub) {
    let mut ticks = tokio::time::interval(PERIOD);
    for number in 0_u64.. {
        ticks.tick().await;
        if let Err(error) = hub.publish(TOPIC, Event::json(&number)) {
            tracing::warn!(%error, "not published");
            return;
        }
    }
}

async fn events(State(app): State<App>) -> Response {
    match app.hub.subscribe(TOPIC) {
        Ok(subscription) => subscription.into_sse().into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.hub.record_metrics();
    let page = app.exporter.render();
    app.exporter.run_upkeep();
    ([(header::CONTENT_TYPE, EXPOSITION)], page)
}

async fn health(State(app): State<App>) -> (StatusCode, String) {
    let health = app.hub.health();
    let status = if health.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, format!("{health}\n"))
}
