//! The example `stalled`: a client that stops reading loses its connection, another one goes on.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

#[path = "../examples/stalled/app.rs"]
mod app;
#[path = "../examples/stalled/closing.rs"]
mod closing;
mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::{BOUND, eventually};
use fanfare::{EndReason, Event, Hub};

fn client(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
        .write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_loses_its_connection() {
    let hub = Hub::builder()
        .evict_after(Duration::from_millis(500))
        .build()
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app::router(hub.clone()).into_make_service_with_connect_info::<closing::Closer>();
    tokio::spawn(async move { axum::serve(closing::Closing(listener), service).await });
    tokio::task::spawn_blocking(move || {
        let mut prompt = client(address);
        let mut still = client(address);
        eventually("both", || hub.subscribers() == 2);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while prompt.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        let text = "x".repeat(10_000);
        eventually("the one that stands still to be gone", || {
            let _ = hub.publish("news", Event::text(&text)).unwrap();
            hub.subscribers() == 1
        });
        assert_eq!((hub.stats().evicted, hub.evictions().len()), (1, 1));
        assert_eq!(hub.evictions()[0].reason(), EndReason::Evicted);
        // What was on the way is there, and then the connection ends: nobody has to wait for the client's host.
        let mut rest = Vec::new();
        let ended = still.read_to_end(&mut rest);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
        assert!(!rest.is_empty());
    })
    .await
    .unwrap();
}

/// A server that shuts down gracefully waits for its streams: a drain ends those that nobody reads too.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_keeps_no_server() {
    let hub = Hub::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app::router(hub.clone()).into_make_service_with_connect_info::<closing::Closer>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        axum::serve(closing::Closing(listener), service)
            .with_graceful_shutdown(async { drop(stopped.await) })
            .await
    });
    let publisher = hub.clone();
    let still = tokio::task::spawn_blocking(move || {
        let still = client(address);
        eventually("it", || publisher.subscribers() == 1);
        // More than its socket takes.
        let text = "x".repeat(10_000);
        for _ in 0..2000 {
            let _ = publisher.publish("news", Event::text(&text)).unwrap();
            std::thread::yield_now();
        }
        still
    });
    let still = still.await.unwrap();
    drop(stop);
    let report = hub.drain(Duration::from_secs(1)).unwrap().await;
    assert_eq!((report.subscriptions, report.cut), (1, 1));
    let over = tokio::time::timeout(BOUND, server).await;
    over.expect("the server stops").unwrap().unwrap();
    drop(still);
}
