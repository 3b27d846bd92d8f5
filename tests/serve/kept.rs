//! Streams that are asked for on a connection that was kept alive after other answers.

use fanfare::Reactor;

use crate::common::{self, eventually};
use crate::server::{Server, big_page};

const PAGE: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn stream_of(topic: &str) -> String {
    format!("GET /events/{topic} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn a_page_and_then_a_stream_on_one_connection() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..3 {
        let page = client.get("/");
        assert_eq!((&*page.body, page.header("connection")), ("the page", ""));
    }
    let answer = client.get("/events/later");
    assert!(answer.is_on_reactor(), "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("date").ends_with(" GMT"), "{answer:?}");
    client.until("");
    server.publish("later", "one");
    client.until("data: one");
    server.app.hub.close();
    client.line();
    assert_eq!(client.rest(), "");
}

#[test]
fn an_old_client_gets_a_stream_behind_a_page() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.answer().body, "the page");
    client.send("GET /events/old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(client.head().is_on_reactor());
    client.until("");
    server.publish("old", "one");
    client.until("data: one");
}

/// Byte by byte what it would be one after the other.
#[test]
fn a_stream_may_be_pipelined_behind_pages() {
    let server = Server::start();
    for pages in 1..=20 {
        let mut client = server.connect();
        // What follows the stream's request is never answered.
        let all = format!("{}{}{PAGE}", PAGE.repeat(pages), stream_of("behind"));
        client.send(all);
        for _ in 0..pages {
            assert_eq!(client.answer().body, "the page");
        }
        let answer = client.head();
        assert!(answer.is_on_reactor(), "{answer:?}");
        client.until("");
        server.publish("behind", "one");
        let lines = client.until("data: one");
        assert!(lines.len() <= 2, "{lines:?}");
    }
}

#[test]
fn a_stream_request_may_be_split_at_every_byte_behind_a_page() {
    let server = Server::start();
    let request = stream_of("split");
    for at in 0..=request.len() {
        let mut client = server.connect();
        client.send(format!("{PAGE}{}", &request[..at]));
        assert_eq!(client.answer().body, "the page");
        client.send(&request[at..]);
        assert!(client.head().is_on_reactor(), "split at {at}");
        client.until("");
    }
}

/// The stream waits for all of an answer that its client takes its time for.
#[test]
fn a_large_answer_goes_out_before_the_stream() {
    let server = Server::start();
    let mut client = server.connect();
    // A kernel may have room for all of the answer, and then nothing waits for its client.
    let socket = socket2::SockRef::from(client.socket());
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    client.send(format!(
        "GET /big HTTP/1.1\r\nHost: h\r\n\r\n{}",
        stream_of("large")
    ));
    let length: usize = client.head().header("content-length").parse().unwrap();
    let expected = big_page();
    assert_eq!(length, expected.len());
    let mut page = Vec::new();
    while page.len() < length {
        if page.len() < length / 4 {
            // Other things happen meanwhile.
            server.settle();
            assert_eq!(server.app.hub.subscribers_of("large"), 0);
        }
        page.extend(client.bytes((length - page.len()).min(100_000)));
    }
    assert!(page == expected.as_bytes(), "the page is not what it was");
    assert!(client.head().is_on_reactor());
    client.until("");
    server.publish("large", "one");
    client.until("data: one");
}

/// An answer before its request is there, and the stream's request right behind the body.
#[test]
fn a_stream_behind_an_early_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nthe");
    assert_eq!(client.answer().status, 204);
    client.send(format!(" en{}", stream_of("early")));
    assert!(client.head().is_on_reactor());
    client.until("");
}

#[test]
fn a_body_and_then_a_stream() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok{}",
        stream_of("body")
    ));
    let mut answer = client.head();
    if answer.status == 100 {
        answer = client.head();
    }
    assert_eq!((answer.status, answer.header("content-length")), (200, "2"));
    assert_eq!(client.bytes(2), b"ok");
    assert!(client.head().is_on_reactor());
    client.until("");
}

/// The rules are those of a first request.
#[test]
fn what_is_no_plain_get_stays_with_hyper() {
    let server = Server::start();
    for fields in [
        "Expect: 100-continue\r\n",
        "Upgrade: h2c\r\nConnection: upgrade\r\n",
        "Content-Length: 1\r\n",
    ] {
        let mut client = server.connect();
        assert_eq!(client.get("/").body, "the page");
        client.send(format!(
            "GET /events/a HTTP/1.1\r\nHost: h\r\n{fields}\r\nx"
        ));
        let answer = client.head();
        assert_eq!(answer.header("transfer-encoding"), "chunked", "{fields}");
        client.until("");
    }
    let mut client = server.connect();
    for path in ["/", "/secret/a", "/replaced/a", "/peer/a"] {
        assert_eq!(client.get(path).header("connection"), "", "{path}");
    }
    client.send("HEAD /events/a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.head().header("content-type"), "text/event-stream");
    assert_eq!(client.get("/").body, "the page");
    // A route that is not named as a streaming one, and an encoded body.
    for path in ["/task/a", "/zipped/a"] {
        let mut client = server.connect();
        assert_eq!(client.get("/").body, "the page");
        let answer = client.get(path);
        assert_eq!(answer.header("transfer-encoding"), "chunked", "{path}");
        client.until("");
    }
}

#[test]
fn an_upgrade_goes_through_after_a_page() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.get("/").body, "the page");
    client.send(
        "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly ",
    );
    assert_eq!(client.head().status, 101);
    client.send("late");
    assert_eq!(client.bytes(10), b"early late");
}

#[test]
fn a_handler_may_wait_behind_a_page() {
    let server = Server::start();
    for (head, status) in [("", 401), ("Authorization: me\r\n", 200)] {
        let mut client = server.connect();
        client.send(format!(
            "{PAGE}GET /slow/a HTTP/1.1\r\nHost: h\r\n{head}\r\n"
        ));
        assert_eq!(client.answer().body, "the page");
        eventually("the handler", || server.app.waiting() == 1);
        // Sent while it waits: it is not lost if the answer is not a stream.
        client.send(PAGE);
        server.settle();
        server.app.gate.add_permits(1);
        let answer = client.head();
        assert_eq!(answer.status, status);
        assert_eq!(answer.is_on_reactor(), status == 200);
        if status == 401 {
            assert_eq!(client.bytes(12), b"who are you?");
            assert_eq!(client.answer().body, "the page");
            assert!(client.get("/events/after").is_on_reactor());
        } else {
            client.until("");
            server.publish("a", "one");
            client.until("data: one");
        }
    }
}

#[test]
fn a_handler_behind_a_page_is_dropped_with_its_client() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(format!("{PAGE}GET /slow/a HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(client.answer().body, "the page");
    eventually("the handler", || server.app.waiting() == 1);
    drop(client);
    eventually("its end", || server.app.waiting() == 0);
    assert_eq!(server.app.gate.available_permits(), 0);
}

#[test]
fn a_client_that_goes_ends_a_stream_behind_a_page() {
    let server = Server::start();
    let topic = server.app.hub.topic("gone").unwrap();
    for extra in ["", PAGE] {
        let mut client = server.connect();
        client.send(format!("{PAGE}{}{extra}", stream_of("gone")));
        assert_eq!(client.answer().body, "the page");
        assert!(client.head().is_on_reactor());
        client.until("");
        assert_eq!(topic.subscribers(), 1);
        drop(client);
        eventually("the end of the subscription", || topic.subscribers() == 0);
    }
    // Gone before its stream began.
    let mut client = server.connect();
    client.send(format!("{PAGE}{}", stream_of("gone")));
    client.shut_down(std::net::Shutdown::Write);
    assert_eq!(client.answer().body, "the page");
    client.rest();
    eventually("the end of the subscription", || topic.subscribers() == 0);
}

#[test]
fn a_panic_behind_a_page_hurts_its_own_connection_only() {
    let server = Server::start();
    for when in ["now", "later"] {
        let mut client = server.connect();
        assert_eq!(client.get("/").body, "the page");
        client.send(format!("GET /panics/{when} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.rest(), "", "{when}");
        server.settle();
    }
}

/// A reactor of the server's own is gone by the time the handler answers, one of the user's goes on.
#[test]
fn a_stream_that_is_accepted_after_the_end() {
    for own in [true, false] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let inside = runtime.enter();
        let reactor = Reactor::builder().build().unwrap();
        drop(inside);
        let users = reactor.clone();
        let mut server = Server::start_with(
            move |server| {
                if own { server } else { server.reactor(users) }
            },
        );
        let mut idle = server.connect();
        assert_eq!(idle.get("/").body, "the page");
        let mut stream = server.connect();
        stream.send(format!("{PAGE}{}", stream_of("a")));
        assert_eq!(stream.answer().body, "the page");
        assert!(stream.head().is_on_reactor());
        stream.until("");
        let mut client = server.connect();
        client.send(format!(
            "{PAGE}GET /slow/a HTTP/1.1\r\nHost: h\r\nAuthorization: me\r\n\r\n"
        ));
        assert_eq!(client.answer().body, "the page");
        eventually("the handler", || server.app.waiting() == 1);
        server.stop();
        assert_eq!(idle.rest(), "");
        if own {
            assert_eq!(stream.rest(), "");
        }
        server.app.gate.add_permits(1);
        if own {
            assert_eq!(client.rest(), "");
        } else {
            assert!(client.head().is_on_reactor());
            client.until("");
        }
        server.ended().unwrap();
        if !own {
            server.publish("a", "still here");
            client.until("data: still here");
            stream.until("data: still here");
        }
        reactor.shutdown();
        common::eventually("the last connection", || reactor.connections() == 0);
    }
}

#[test]
fn a_client_that_comes_back_on_a_kept_connection_misses_nothing() {
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
    let mut client = server.connect();
    client.send(format!(
        "{PAGE}GET /events/back HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {id}\r\n\r\n"
    ));
    assert_eq!(client.answer().body, "the page");
    assert!(client.head().is_on_reactor());
    client.until("");
    let lines = client.until("data: three");
    assert!(lines.contains(&"data: two".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"data: one".to_owned()), "{lines:?}");
}
