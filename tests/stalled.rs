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
