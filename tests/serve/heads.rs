//! Heads: split, malformed, slow, too large, and what hyper gets of them.

use std::net::Shutdown;
use std::time::Duration;

use crate::common::eventually;
use crate::server::Server;

#[test]
fn a_head_may_be_split_at_every_byte() {
    let server = Server::start();
    let request = "GET /events/split?a=b HTTP/1.1\r\nHost: h\r\nX-Y: z\r\n\r\n";
    for at in 1..request.len() {
        let mut client = server.connect();
        client.send(&request[..at]);
        server.settle();
        client.send(&request[at..]);
        assert_eq!(client.head().status, 200, "split at {at}");
        client.until("");
    }
    let page = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for at in 1..page.len() {
        let mut client = server.connect();
        client.send(&page[..at]);
        server.settle();
        client.send(&page[at..]);
        assert_eq!(client.answer().body, "the page", "split at {at}");
    }
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect();
    for byte in b"GET /events/drip HTTP/1.1\r\nHost: h\r\n\r\n" {
        client.send([*byte]);
        server.settle();
    }
    assert_eq!(client.head().status, 200);
}

#[test]
fn a_malformed_head_is_answered_and_closed() {
    let server = Server::start();
    for head in [
        "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHo st: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /events/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
        "no request at all\r\n\r\n",
    ] {
        // There before it is accepted, most likely, or surely after.
        for accepted_first in [false, true] {
            let mut client = server.connect();
            if accepted_first {
                server.settle();
            }
            client.send(head);
            let answer = client.answer();
            assert_eq!(answer.status, 400, "{head:?}");
            assert_eq!(answer.header("connection"), "close");
            assert!(answer.body.contains("malformed"), "{answer:?}");
            assert_eq!(client.rest(), "");
        }
    }
}

#[test]
fn what_hyper_refuses_it_refuses() {
    let server = Server::start();
    for head in [
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n12",
        "GET /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    ] {
        let mut client = server.connect();
        client.send(head);
        assert_eq!(client.answer().status, 400, "{head:?}");
    }
}

#[test]
fn a_head_that_is_too_large_is_answered_and_closed() {
    let server = Server::start_with(|server| server.max_head_bytes(1024));
    let head = |path: &str, bytes: usize| {
        let around = format!("GET {path} HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n").len();
        let filler = "x".repeat(bytes - around);
        format!("GET {path} HTTP/1.1\r\nHost: h\r\nX: {filler}\r\n\r\n")
    };
    for path in ["/", "/events/large"] {
        for (bytes, status) in [
            (512, 200),
            (1023, 200),
            (1024, 200),
            (1025, 431),
            (2000, 431),
            (16 * 1024, 431),
            (17 * 1024, 431),
            (200 * 1024, 431),
        ] {
            let mut client = server.connect();
            client.send_some(head(path, bytes));
            let answer = client.answer();
            assert_eq!(answer.status, status, "{path}, {bytes} bytes");
            if status == 431 {
                assert!(answer.body.contains("too large"), "{answer:?}");
                client.shut_down(Shutdown::Write);
                assert_eq!(client.rest(), "");
            }
        }
    }
    // Not even a line.
    let mut client = server.connect();
    client.send("G".repeat(1024));
    server.settle();
    client.send("G");
    assert_eq!(client.answer().status, 431);
    // A hundred fields and one.
    let mut client = server.connect();
    let fields = "a:\r\n".repeat(100);
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    assert_eq!(client.answer().status, 431);
}

#[test]
fn a_slow_head_is_answered_and_closed() {
    let server = Server::start_with(|server| server.head_timeout(Duration::from_millis(50)));
    for begin in ["G", "PRI * HT", "GET /events/a HTTP/1.1\r\nHost: h\r\n"] {
        let mut client = server.connect();
        client.send(begin);
        let answer = client.answer();
        assert_eq!(answer.status, 408, "{begin:?}");
        assert!(answer.body.contains("too long"), "{answer:?}");
        assert_eq!(client.rest(), "");
    }
    let mut silent = server.connect();
    assert_eq!(silent.rest(), "");
    // Bytes that come now and then do not buy time.
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\n");
    eventually("the end of a slow head", || {
        client.send_some("X: y\r\n");
        !client.is_silent_for(Duration::from_millis(5))
    });
    assert_eq!(client.head().status, 408);
}

#[test]
fn who_closes_before_the_end_of_the_head_is_forgotten() {
    let server = Server::start_with(|server| server.max_heads(1));
    for begin in ["", "GET / HTTP/1.1\r\n"] {
        let mut client = server.connect();
        client.send(begin);
        drop(client);
        // There is room for one head only, so this is served only if that one's place is free.
        server.settle();
    }
}

#[test]
fn no_more_heads_are_read_than_allowed() {
    let server =
        Server::start_with(|server| server.max_heads(2).head_timeout(Duration::from_millis(200)));
    let mut silent = [server.connect(), server.connect()];
    let mut third = server.connect();
    third.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(third.answer().body, "the page");
    for client in &mut silent {
        // They were closed before: both ends are there at once.
        assert!(!client.is_silent_for(Duration::from_millis(1)));
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn leading_empty_lines_and_lone_line_feeds_are_taken() {
    let server = Server::start();
    for path in ["/", "/events/lines"] {
        let mut client = server.connect();
        client.send(format!("\r\n\r\nGET {path} HTTP/1.1\nHost: h\n\n"));
        assert_eq!(client.head().status, 200, "{path}");
    }
}

#[test]
fn an_absolute_target_is_served() {
    let server = Server::start();
    server.publish("absolute", "x");
    for path in ["/", "/events/absolute"] {
        let mut client = server.connect();
        client.send(format!("GET http://h{path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.head().status, 200, "{path}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    let page = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(format!(
        "{page}POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc{page}"
    ));
    for body in ["the page", "abc", "the page"] {
        assert_eq!(client.answer().body, body);
    }
}

#[test]
fn a_body_may_be_split_at_every_byte() {
    let server = Server::start();
    let request = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nthe  body";
    for at in 1..request.len() {
        let mut client = server.connect();
        client.send(&request[..at]);
        server.settle();
        client.send(&request[at..]);
        assert_eq!(client.answer().body, "the  body", "split at {at}");
    }
    let mut client = server.connect();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(client.head().status, 100);
    client.send("ok");
    assert_eq!(client.answer().body, "ok");
}

#[test]
fn head_has_the_headers_and_no_body() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.head();
    assert_eq!((answer.status, answer.header("content-length")), (200, "8"));
    client.send("HEAD /events/a HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.head();
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(client.get("/").body, "the page");
    let mut first = server.connect();
    first.send("HEAD /events/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(first.head().header("content-type"), "text/event-stream");
    assert_eq!(first.rest(), "");
}

#[test]
fn an_upgrade_goes_through() {
    let server = Server::start();
    let request =
        "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    // What is sent before the answer belongs to the new protocol.
    for at in [1, request.len()] {
        let mut client = server.connect();
        client.send(&request[..at]);
        server.settle();
        client.send(format!("{}early ", &request[at..]));
        assert_eq!(client.head().status, 101);
        client.send("late");
        assert_eq!(client.bytes(10), b"early late");
    }
}
