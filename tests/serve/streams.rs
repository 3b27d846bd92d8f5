//! Streams on the reactor: what the router said, and nothing that it did not.

use crate::common::eventually;
use crate::server::Server;

#[test]
fn a_stream_has_the_head_that_the_router_made() {
    let server = Server::start();
    let mut client = server.connect();
    let answer = client.get("/events/news");
    assert_eq!(answer.status, 200);
    assert!(answer.is_on_reactor(), "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("x-accel-buffering"), "no");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("date").ends_with(" GMT"), "{answer:?}");
    // The opening: it is subscribed.
    client.until("");
    server.publish("news", "one");
    server.publish("news", "two");
    client.until("data: one");
    client.until("data: two");
    // The end of the topic is the end of the body, and so of the connection.
    server.app.hub.close();
    client.line();
    assert_eq!(client.rest(), "");
}

#[test]
fn an_old_client_gets_a_stream_too() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET /events/old HTTP/1.0\r\n\r\n");
    assert!(client.head().is_on_reactor());
    client.until("");
    server.publish("old", "one");
    client.until("data: one");
}

#[test]
fn what_follows_a_stream_request_is_ignored() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET /events/more HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.head().is_on_reactor());
    client.until("");
    client.send("and more\r\n\r\n");
    server.publish("more", "one");
    client.until("data: one");
    server.app.hub.close();
    client.line();
    let rest = client.rest();
    assert!(!rest.contains("HTTP"), "{rest:?}");
}

#[test]
fn a_refused_stream_keeps_its_connection() {
    let server = Server::start();
    let mut client = server.connect();
    // Pipelined behind the refusal, and after it.
    client.send("GET /secret/a HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.body), (401, "who are you?"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("connection"), "");
    assert_eq!(client.answer().body, "the page");
    assert_eq!(client.get("/secret/a").status, 401);
    let mut client = server.connect();
    client.send("GET /secret/a HTTP/1.1\r\nHost: h\r\nAuthorization: me\r\n\r\n");
    assert!(client.head().is_on_reactor());
}

#[test]
fn other_answers_of_a_streaming_route_are_hypers() {
    let server = Server::start();
    let mut client = server.connect();
    let answer = client.get("/peer/me");
    assert_eq!(
        answer.body,
        client.socket().local_addr().unwrap().to_string()
    );
    // And through hyper from the beginning.
    assert_eq!(client.get("/peer/me").body, answer.body);

    let answer = server.connect().get("/zipped/a");
    assert_eq!(answer.header("content-encoding"), "identity");
    assert_eq!(answer.header("transfer-encoding"), "chunked");

    // A route that is not named as a streaming one.
    let mut client = server.connect();
    let answer = client.get("/task/a");
    assert_eq!(answer.header("transfer-encoding"), "chunked");
    client.until("");
    server.publish("a", "one");
    client.until("data: one");
}

#[test]
fn a_layer_that_replaces_the_body_is_obeyed() {
    let server = Server::start();
    let mut client = server.connect();
    // It kept the headers of the stream, and its extensions.
    let answer = client.get("/replaced/a");
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.body, "replaced");
    // The stream went with its body.
    assert_eq!(server.app.hub.subscribers_of("a"), 0);
}

#[test]
fn a_client_that_comes_back_misses_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/events/back");
    client.until("");
    for data in ["one", "two", "three"] {
        server.publish("back", data);
    }
    let id = client.line();
    let id = id.strip_prefix("id: ").unwrap();
    client.until("data: three");
    drop(client);
    let mut client = server.connect();
    client.send(format!(
        "GET /events/back HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {id}\r\n\r\n"
    ));
    assert!(client.head().is_on_reactor());
    client.until("");
    let lines = client.until("data: three");
    assert!(lines.contains(&"data: two".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"data: one".to_owned()), "{lines:?}");
}

#[test]
fn a_handler_may_wait() {
    let server = Server::start();
    for (head, status) in [("", 401), ("Authorization: me\r\n", 200)] {
        let mut client = server.connect();
        client.send(format!("GET /slow/a HTTP/1.1\r\nHost: h\r\n{head}\r\n"));
        eventually("the handler", || server.app.waiting() == 1);
        // Sent while it waits: it is not lost if the answer is not a stream.
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        server.settle();
        server.app.gate.add_permits(1);
        assert_eq!(client.answer().status, status);
        if status == 401 {
            assert_eq!(client.answer().body, "the page");
        } else {
            client.until("");
            server.publish("a", "one");
            client.until("data: one");
        }
    }
}

#[test]
fn a_handler_whose_client_goes_is_dropped() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET /slow/a HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the handler", || server.app.waiting() == 1);
    client.send("something");
    drop(client);
    eventually("its end", || server.app.waiting() == 0);
    assert_eq!(server.app.gate.available_permits(), 0);
}

#[test]
fn a_handler_that_panics_hurts_its_own_connection_only() {
    let server = Server::start();
    for when in ["now", "later"] {
        let mut client = server.connect();
        client.send(format!("GET /panics/{when} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.rest(), "", "{when}");
        server.settle();
    }
}

#[test]
fn a_client_that_goes_ends_its_subscription() {
    let server = Server::start();
    let topic = server.app.hub.topic("gone").unwrap();
    let mut client = server.connect();
    client.get("/events/gone");
    client.until("");
    assert_eq!(topic.subscribers(), 1);
    drop(client);
    eventually("the end of the subscription", || topic.subscribers() == 0);
}

/// A shard sends the same to all; who chooses is a task: hyper's, or the engine's where that has one for each connection.
#[test]
fn a_stream_of_a_reader_that_chooses_keeps_its_choice() {
    let server = Server::start();
    let mut client = server.connect();
    let answer = client.get("/chosen/news");
    assert_eq!(answer.status, 200);
    let has_tasks = cfg!(any(not(unix), fanfare_tasks));
    assert_eq!(answer.is_on_reactor(), has_tasks, "{answer:?}");
    client.until(":");
    for text in ["unwanted", "wanted"] {
        server.publish("news", text);
    }
    server.app.hub.close();
    let rest = client.rest();
    assert!(rest.contains("data: wanted"), "{rest:?}");
    assert!(!rest.contains("unwanted"), "{rest:?}");
}
