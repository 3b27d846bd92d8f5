//! HTTP/2 without TLS, as proxies speak it: all of it is hyper's.

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::BOUND;
use crate::server::Server;

#[test]
fn a_preface_may_be_split_at_every_byte() {
    let server = Server::start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let no_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for at in 1..=preface.len() {
        let mut client = server.connect();
        client.send(&preface[..at]);
        server.settle();
        client.send(&preface[at..]);
        client.send(no_settings);
        // A frame's type is its fourth byte; the server's first frame is its settings (RFC 9113, section 3.4).
        assert_eq!(client.bytes(9)[3], 4, "split at {at}");
    }
}

#[test]
fn pages_and_streams_over_http2() {
    let server = Server::start();
    let talk = async {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = |path: &str| {
            Request::get(format!("http://h{path}"))
                .body(Empty::<Bytes>::new())
                .unwrap()
        };
        let page = send.send_request(request("/")).await.unwrap();
        assert_eq!(
            page.into_body().collect().await.unwrap().to_bytes(),
            "the page"
        );
        let stream = send.send_request(request("/events/two")).await.unwrap();
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        let mut body = stream.into_body();
        body.frame().await.unwrap().unwrap();
        server.publish("two", "one");
        let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(event.ends_with(b"data: one\n\n"), "{event:?}");
    };
    let talk = async { timeout(BOUND, talk).await.unwrap() };
    server.runtime().block_on(talk);
}
