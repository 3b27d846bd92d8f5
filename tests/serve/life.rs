//! How a server begins and ends.

use std::net::TcpListener;
use std::time::Duration;

use axum::Router;
use fanfare::{CloseReason, Reactor, ServeError, serve};

use crate::common::{self, eventually};
use crate::server::Server;

#[test]
fn it_ends_gracefully() {
    let mut server = Server::start();
    let mut stream = server.connect();
    stream.get("/events/a");
    stream.until("");
    let mut idle = server.connect();
    assert_eq!(idle.get("/").body, "the page");
    let mut half = server.connect();
    half.send("GET / HTTP/1.1\r\n");
    let mut slow = server.connect();
    slow.send("GET /slow/a HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the handler", || server.app.waiting() == 1);
    server.settle();

    server.stop();
    assert_eq!(stream.rest(), "");
    assert_eq!(idle.rest(), "");
    assert_eq!(half.rest(), "");
    let refused = || std::net::TcpStream::connect(server.address).is_err();
    eventually("the end of the listener", refused);

    // What was begun is answered.
    server.app.gate.add_permits(1);
    let answer = slow.answer();
    assert_eq!((answer.status, answer.header("connection")), (401, "close"));
    assert_eq!(slow.rest(), "");
    server.ended().unwrap();
}

#[test]
fn a_reactor_of_the_users_goes_on() {
    let (closed_in, closed) = std::sync::mpsc::channel();
    let (reactor_in, reactor) = std::sync::mpsc::channel();
    let mut server = Server::start_with(move |server| {
        let reactor = Reactor::builder()
            .on_close(move |closed| closed_in.send(closed.reason).unwrap())
            .build()
            .unwrap();
        reactor_in.send(reactor.clone()).unwrap();
        server.reactor(reactor)
    });
    let reactor = reactor.recv_timeout(common::BOUND).unwrap();
    let mut stream = server.connect();
    stream.get("/events/a");
    stream.until("");
    assert_eq!(reactor.connections(), 1);
    server.stop();
    server.ended().unwrap();
    server.publish("a", "still here");
    stream.until("data: still here");
    reactor.shutdown();
    stream.line();
    assert_eq!(stream.rest(), "");
    let reason = closed.recv_timeout(common::BOUND).unwrap();
    assert_eq!(reason, CloseReason::Shutdown);
    eventually("the last connection", || reactor.connections() == 0);
    assert_eq!(reactor.stats().shut_down, 1);
}

#[test]
fn a_server_that_is_dropped_accepts_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let serving = runtime.spawn(serve(listener, Router::new()).into_future());
    eventually("an answer", || {
        crate::client::Client::connect(address).get("/").status == 404
    });
    serving.abort();
    let refused = || std::net::TcpStream::connect(address).is_err();
    eventually("the end of the listener", refused);
}

#[test]
fn what_is_impossible_is_refused() {
    let refused = |set_up: fn(fanfare::Serve<Router>) -> fanfare::Serve<Router>| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = set_up(serve(listener, Router::new()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(server.into_future()).unwrap_err()
    };
    for (error, text) in [
        (
            refused(|server| server.stream("events")),
            "the streaming route \"events\" cannot be used: it must start with a slash",
        ),
        (
            refused(|server| server.head_timeout(Duration::from_millis(1))),
            "head_timeout is 1; it must be from 10 to 3600000",
        ),
        (
            refused(|server| server.max_head_bytes(255)),
            "max_head_bytes is 255; it must be from 256 to 1048576",
        ),
        (
            refused(|server| server.max_heads(0)),
            "max_heads is 0; it must be from 1 to 1048576",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    for error in [
        refused(|server| server.stream("/a/{b")),
        refused(|server| server.stream("/a/{b}").stream("/a/{c}")),
    ] {
        assert!(matches!(error, ServeError::Route { .. }), "{error:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = common::block_on(serve(listener, Router::new()).into_future());
    assert!(matches!(error, Err(ServeError::NoRuntime)), "{error:?}");
}
