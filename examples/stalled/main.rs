//! A client that stops reading is given up, and its connection closed, though its body is never polled again.
//!
//! ```text
//! cargo run --release --example stalled
//! curl --limit-rate 1 http://127.0.0.1:8008/events       # reads one byte a second
//! ```
//!
//! Beside it another client gets everything. After 5 to 10 s without progress the slow one is gone, and the server has
//! said why. Ctrl-C drains the hub and stops the server, whether or not its clients read.

mod app;
mod closing;

use std::time::Duration;

use fanfare::{Event, Hub};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = Hub::builder()
        .evict_after(Duration::from_secs(5))
        .max_connections(10_000)
        .build()?;
    let publisher = hub.clone();
    tokio::spawn(async move {
        let text = "x".repeat(10_000);
        let mut every = tokio::time::interval(Duration::from_millis(5));
        loop {
            every.tick().await;
            if publisher.publish("news", Event::text(&text)).is_err() {
                return;
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:8008").await?;
    println!("http://{}/events", listener.local_addr()?);
    let service = app::router(hub.clone()).into_make_service_with_connect_info::<closing::Closer>();
    let drained = async move {
        // Without a signal to wait for there is nothing to stop by.
        if tokio::signal::ctrl_c().await.is_ok()
            && let Some(drain) = hub.drain(Duration::from_secs(5))
        {
            let report = drain.await;
            println!("{} of {} were cut", report.cut, report.subscriptions);
        }
    };
    axum::serve(closing::Closing(listener), service)
        .with_graceful_shutdown(drained)
        .await?;
    Ok(())
}
