//! The example `live`, as its users meet it: the built binary, real sockets, bytes.
//!
//! Every case runs over both engines: `axum::serve`, and the reactor (`--reactor`).
//!
//! What the server streams is read by an independent parser, `eventsource-stream`. Nothing here sleeps: every wait is
//! for a condition, and [`within`] bounds it.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, helpers included, a panic is the report"
)]

#[path = "common/example.rs"]
mod example;

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Output, Stdio};
use std::time::Duration;

use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Far more than any step takes, so that only a real hang exceeds it.
const BOUND: Duration = Duration::from_secs(20);

/// What the server takes as a body, in bytes; the 413 names it.
const BODY_LIMIT: usize = 256 * 1024;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future)
        .await
        .unwrap_or_else(|_| panic!("still waiting for {what} after {BOUND:?}"))
}

// ------------------------------------------------------------------------------------------------ the server

fn binary() -> PathBuf {
    example::binary("live", "cargo build --features serve --example live")
}

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Axum,
    Reactor,
}

impl Engine {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Axum => &[],
            Self::Reactor => &["--reactor", "--shards", "2"],
        }
    }
}

/// Makes a test of each case for each engine. A case that is missing here is unused code, which does not pass the lints.
macro_rules! over_both_engines {
    ($($(#[$condition:meta])* $case:ident,)*) => {
        mod axum {
            $($(#[$condition])* #[tokio::test] async fn $case() { super::$case(super::Engine::Axum).await; })*
        }
        mod reactor {
            $($(#[$condition])* #[tokio::test] async fn $case() { super::$case(super::Engine::Reactor).await; })*
        }
    };
}

over_both_engines! {
    an_event_reaches_every_subscriber_of_its_topic_and_no_other,
    publishing_to_nobody_is_no_error,
    text_keeps_its_lines,
    json_keeps_its_value_over_lines,
    a_name_becomes_the_type_of_the_event,
    topics_are_percent_decoded,
    the_demo_topic_speaks_by_itself,
    resuming_neither_misses_nor_repeats,
    a_strange_id_is_told_as_a_lag,
    an_id_of_another_life_is_told_as_a_lag,
    what_is_no_longer_kept_is_counted,
    the_page_is_one_file,
    stats_count,
    what_cannot_be_published_is_refused_with_a_reason,
    a_body_up_to_the_limit_is_taken_and_not_one_byte_more,
    topics_have_a_limit_and_those_that_exist_go_on,
    what_cannot_be_watched_is_refused_with_a_reason,
    unknown_routes_and_wrong_methods_are_told,
    an_address_in_use_is_told_and_is_no_panic,
    an_impossible_address_is_told_and_is_no_panic,
    #[cfg(unix)]
    a_signal_ends_every_stream_and_the_server,
}

/// A running `live`, killed when dropped.
struct Server {
    engine: Engine,
    child: Child,
    address: String,
}

impl Server {
    async fn start(engine: Engine) -> Self {
        Self::run(engine, Command::new(binary())).await
    }

    /// Runs `command`, which takes the options of `live`.
    async fn run(engine: Engine, mut command: Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--workers", "2"])
            .args(engine.options())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = within("the greeting", lines.next_line())
            .await
            .unwrap()
            .unwrap();
        let (_, address) = first.split_once("http://").unwrap();
        Self {
            engine,
            child,
            address: address.trim().to_owned(),
        }
    }

    async fn connect(&self) -> TcpStream {
        within("a connection", TcpStream::connect(&self.address))
            .await
            .unwrap()
    }

    /// Sends `request` as it stands and reads the whole answer.
    async fn exchange(&self, request: &[u8]) -> Response {
        let mut stream = self.connect().await;
        within("the request to be taken", stream.write_all(request))
            .await
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut response = read_head(&mut reader).await;
        let length = response
            .header("content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        response.body.resize(length, 0);
        within("the body", reader.read_exact(&mut response.body))
            .await
            .unwrap();
        response
    }

    async fn get(&self, path: &str) -> Response {
        self.exchange(
            format!("GET {path} HTTP/1.1\r\nHost: live\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await
    }

    async fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Response {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: live\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.exchange(&request).await
    }

    /// Publishes and gives the answer, which must be a success.
    async fn publish(&self, topic: &str, content_type: &str, body: &str) -> Value {
        let response = self
            .post(&format!("/publish/{topic}"), content_type, body.as_bytes())
            .await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    async fn publish_text(&self, topic: &str, body: &str) -> Value {
        self.publish(topic, "text/plain", body).await
    }

    /// Subscribes; the subscription is in place when this returns.
    async fn events(&self, path: &str, extra_headers: &str) -> Events {
        let mut stream = self.connect().await;
        let request = format!(
            "GET /events/{path} HTTP/1.1\r\nHost: live\r\nAccept: text/event-stream\r\n{extra_headers}\r\n"
        );
        within(
            "the request to be taken",
            stream.write_all(request.as_bytes()),
        )
        .await
        .unwrap();
        let mut reader = BufReader::new(stream);
        let head = read_head(&mut reader).await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let engine = self.engine;
        match engine {
            Engine::Axum => assert_eq!(head.header("transfer-encoding"), Some("chunked")),
            // The end of the connection is the end of the stream.
            Engine::Reactor => {
                assert_eq!(head.header("transfer-encoding"), None);
                assert_eq!(head.header("content-length"), None);
                assert_eq!(head.header("connection"), Some("close"));
            }
        }
        let chunks = stream::unfold(reader, move |mut reader| async move {
            let chunk = match engine {
                Engine::Axum => read_chunk(&mut reader).await,
                Engine::Reactor => read_some(&mut reader).await,
            };
            match chunk {
                Ok(chunk) if chunk.is_empty() => None,
                chunk => Some((chunk, reader)),
            }
        });
        Events {
            stream: Box::pin(chunks.eventsource()),
        }
    }

    async fn resume(&self, topic: &str, id: &str) -> Events {
        self.events(topic, &format!("Last-Event-ID: {id}\r\n"))
            .await
    }
}

#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code and the message of an error, which must be of the given status.
    fn error(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
        (text("code"), text("message"))
    }
}

async fn read_head(reader: &mut BufReader<TcpStream>) -> Response {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = within("the head of the answer", reader.read_line(&mut line))
            .await
            .unwrap();
        assert_ne!(read, 0, "the connection ended within the head: {lines:?}");
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines[1..]
        .iter()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Response {
        status,
        headers,
        body: Vec::new(),
    }
}

/// One chunk of a chunked body; empty for the last one, an error if the connection ends without it.
async fn read_chunk(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).await?;
    let size = usize::from_str_radix(size.trim_end(), 16)
        .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).await?;
    chunk.truncate(size);
    Ok(chunk)
}

/// What there is of a body that ends with its connection; empty for the end, an error if the connection was reset.
async fn read_some(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let bytes = reader.fill_buf().await?.to_vec();
    reader.consume(bytes.len());
    Ok(bytes)
}

/// One open event stream.
struct Events {
    stream: Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<io::Error>>> + Send>>,
}

impl Events {
    async fn next(&mut self) -> Event {
        within("an event", self.stream.next())
            .await
            .expect("the stream ended")
            .unwrap()
    }

    async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }

    /// Reads until the end of the stream, which has to be in order.
    async fn end(&mut self) {
        while let Some(event) = within("the end of the stream", self.stream.next()).await {
            event.expect("the stream broke off");
        }
    }
}

// ------------------------------------------------------------------------------------------------ delivery

async fn an_event_reaches_every_subscriber_of_its_topic_and_no_other(engine: Engine) {
    let server = Server::start(engine).await;
    let mut first = server.events("orders", "").await;
    let mut second = server.events("orders", "").await;
    let mut other = server.events("bills", "").await;

    let receipt = server
        .publish("orders", "application/json; charset=utf-8", r#"{"n":1}"#)
        .await;
    assert_eq!(receipt["subscribers"], 2);
    let event = first.next().await;
    assert_eq!(
        (event.event.as_str(), event.data.as_str()),
        ("message", r#"{"n":1}"#)
    );
    assert_eq!(receipt["id"], event.id);
    assert_eq!(second.next().await, event);

    server.publish_text("bills", "for the other").await;
    assert_eq!(other.next().await.data, "for the other");
}

async fn publishing_to_nobody_is_no_error(engine: Engine) {
    let server = Server::start(engine).await;
    let receipt = server.publish_text("nobody", "hello").await;
    assert_eq!(receipt["subscribers"], 0);
}

async fn text_keeps_its_lines(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("text", "").await;
    let cases = [
        ("one", "one"),
        ("one\ntwo\n\nfour\n", "one\ntwo\n\nfour\n"),
        ("dos\r\nmac\rend", "dos\nmac\nend"),
        (
            " leading space, : colon, id: 7",
            " leading space, : colon, id: 7",
        ),
        (
            "Grüße, 世界 \u{2028} \u{1f3ba}",
            "Grüße, 世界 \u{2028} \u{1f3ba}",
        ),
    ];
    for (sent, seen) in cases {
        server.publish_text("text", sent).await;
        assert_eq!(events.next().await.data, seen);
    }
}

async fn json_keeps_its_value_over_lines(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("json", "").await;
    let pretty = "{\n  \"a\": [1,\r\n 2],\n\t\"b\": \"line\\nbreak\"\n}";
    server
        .publish("json", "application/cloudevents+json", pretty)
        .await;
    let seen: Value = serde_json::from_str(&events.next().await.data).unwrap();
    assert_eq!(seen, serde_json::from_str::<Value>(pretty).unwrap());
}

async fn a_name_becomes_the_type_of_the_event(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("named", "").await;
    server
        .publish_text("named?event=tick%20t%C3%B6ck", "x")
        .await;
    assert_eq!(events.next().await.event, "tick töck");
    server.publish_text("named?event=", "x").await;
    assert_eq!(events.next().await.event, "message");
}

async fn topics_are_percent_decoded(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("a%2Fb%20%E4%B8%96", "").await;
    server.publish_text("a%2fb%20%e4%b8%96", "x").await;
    assert_eq!(events.next().await.data, "x");
    let longest = "ä"
        .repeat(128)
        .bytes()
        .fold(String::new(), |path, byte| format!("{path}%{byte:02X}"));
    assert_eq!(server.publish_text(&longest, "x").await["subscribers"], 0);
}

async fn the_demo_topic_speaks_by_itself(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("machine", "").await;
    let (mut own, mut host) = (false, !cfg!(target_os = "linux"));
    while !(own && host) {
        let event = events.next().await;
        let data: Value = serde_json::from_str(&event.data).unwrap();
        match event.event.as_str() {
            "fanfare" => {
                assert!(
                    data["at"].is_u64() && data["published_per_s"].is_number(),
                    "{data}"
                );
                // The first may have been measured just before this subscription.
                own = data["subscribers"] == 1;
            }
            "host" => {
                assert!(data["load"][2].is_number(), "{data}");
                host = data["memory_total_mib"].as_u64() > Some(0);
            }
            other => panic!("an event named {other}"),
        }
    }
}

// ------------------------------------------------------------------------------------------------ resuming

async fn resuming_neither_misses_nor_repeats(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("log", "").await;
    for n in 0..3 {
        server.publish_text("log", &n.to_string()).await;
    }
    let before = events.take(3).await;
    drop(events);
    for n in 3..8 {
        server.publish_text("log", &n.to_string()).await;
    }

    let mut resumed = server.resume("log", &before[2].id).await;
    server.publish_text("log", "8").await;
    let data: Vec<_> = resumed
        .take(6)
        .await
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert_eq!(data, ["3", "4", "5", "6", "7", "8"]);

    // From a page, which cannot set the header; and the header, which a browser keeps fresh, goes before the address.
    let mut resumed = server
        .events(&format!("log?lastEventId={}", before[1].id), "")
        .await;
    assert_eq!(resumed.next().await.data, "2");
    let header = format!("Last-Event-ID: {}\r\n", before[0].id);
    let mut resumed = server
        .events(&format!("log?lastEventId={}", before[2].id), &header)
        .await;
    assert_eq!(resumed.next().await.data, "1");
}

async fn an_id_of_another_life_is_told_as_a_lag(engine: Engine) {
    let server = Server::start(engine).await;
    server.publish_text("log", "old").await;
    let mut events = server.resume("log", "00c0ffee00c0ffee-7").await;
    server.publish_text("log", "new").await;
    let lag = events.next().await;
    assert_eq!(
        (lag.event.as_str(), lag.data.as_str()),
        ("lag", r#"{"missed":null}"#)
    );
    let mut data = events.next().await.data;
    if data == "old" {
        data = events.next().await.data;
    }
    assert_eq!(data, "new");
}

async fn what_is_no_longer_kept_is_counted(engine: Engine) {
    let server = Server::start(engine).await;
    let first = server.publish_text("log", "first").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // Twelve of these are more than the server keeps of one topic.
    let large = "x".repeat(BODY_LIMIT / 2);
    for n in 0..12 {
        server.publish_text("log", &format!("{n} {large}")).await;
    }
    let mut events = server.resume("log", &first).await;
    let lag = events.next().await;
    assert_eq!(lag.event, "lag");
    let missed = serde_json::from_str::<Value>(&lag.data).unwrap()["missed"]
        .as_u64()
        .unwrap();
    assert!(missed > 0);
    let next = events.next().await.data;
    assert_eq!(
        next.split(' ').next(),
        Some(missed.to_string().as_str()),
        "the first event kept follows the lag"
    );
}

// ------------------------------------------------------------------------------------------------ the other routes

async fn the_page_is_one_file(engine: Engine) {
    let server = Server::start(engine).await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .starts_with("default-src 'none'")
    );
    let html = String::from_utf8(page.body).unwrap();
    assert!(html.contains("new EventSource("));
    assert!(!html.contains("innerHTML"));
    for attribute in ["src=\"", "href=\"http", "@import", "url("] {
        assert!(
            !html.contains(attribute),
            "the page loads something: {attribute}"
        );
    }
}

async fn stats_count(engine: Engine) {
    let server = Server::start(engine).await;
    let _first = server.events("a", "").await;
    let _second = server.events("a", "").await;
    server.publish_text("a", "x").await;
    let response = server.get("/stats").await;
    assert_eq!(response.status, 200);
    let stats = response.json();
    assert_eq!(stats["subscribers"], 2, "{stats}");
    assert_eq!(stats["deliveries"], 2, "{stats}");
    assert_eq!(
        stats["top"][0],
        serde_json::json!({"topic": "a", "subscribers": 2}),
        "{stats}"
    );
    assert!(stats["published"].as_u64() >= Some(1), "{stats}");
    assert!(
        stats["uptime_s"].is_number() && stats["rates"]["published_per_s"].is_number(),
        "{stats}"
    );
    let seen = &stats["seen"];
    assert_eq!(seen["problems"], serde_json::json!([]), "{stats}");
    assert!(seen["subscribed"].as_u64() >= Some(2), "{stats}");
    assert_eq!(seen["missed"], 0, "{stats}");
    assert!(seen["behind"].is_array() && seen["evictions"].is_array());
    let stats_of_engine = &stats["engine"];
    match engine {
        Engine::Axum => assert_eq!(
            *stats_of_engine,
            serde_json::json!({"name": "axum", "reactor": null})
        ),
        Engine::Reactor => {
            assert_eq!(stats_of_engine["name"], "reactor");
            let reactor = &stats_of_engine["reactor"];
            assert_eq!(reactor["connections"], 2, "{stats}");
            assert_eq!(
                reactor["connections_per_shard"],
                serde_json::json!([1, 1]),
                "{stats}"
            );
            assert_eq!(reactor["adopted"], 2, "{stats}");
            assert_eq!(reactor["closed"]["by_peer"], 0, "{stats}");
        }
    }
    assert_eq!(
        stats["rss_bytes"].is_u64(),
        cfg!(target_os = "linux"),
        "{stats}"
    );
}

/// The counts of the reactor in `/stats`, once `condition` holds for them.
async fn reactor_stats(server: &Server, condition: impl Fn(&Value) -> bool) {
    let ask = async {
        loop {
            let stats = server.get("/stats").await.json();
            if condition(&stats["engine"]["reactor"]) {
                break;
            }
        }
    };
    within("the reactor's counts", ask).await;
}

#[tokio::test]
async fn the_reactor_counts_who_left() {
    let server = Server::start(Engine::Reactor).await;
    let _stays = server.events("a", "").await;
    drop(server.events("a", "").await);
    reactor_stats(&server, |reactor| {
        reactor["connections"] == 1
            && (reactor["closed"]["by_peer"] == 1 || reactor["closed"]["reset"] == 1)
    })
    .await;
}

/// Without descriptors connections wait, the log says so, and they are served when there are some again.
#[cfg(unix)]
#[tokio::test]
async fn running_out_of_descriptors_is_logged_and_passes() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(binary())
        .stderr(Stdio::piped());
    let mut server = Server::run(Engine::Reactor, command).await;
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();

    let mut clients = Vec::new();
    for _ in 0..80 {
        // The system completes connections that nobody has accepted yet.
        let mut client = server.connect().await;
        let request = b"GET /events/t HTTP/1.1\r\nHost: live\r\n\r\n";
        within("the request to be taken", client.write_all(request))
            .await
            .unwrap();
        clients.push(client);
    }
    let line = within("a line in the log", log.next_line())
        .await
        .unwrap()
        .unwrap();
    assert!(
        line.contains("WARN") && line.contains("connections are not accepted"),
        "{line}"
    );
    clients.clear();
    reactor_stats(&server, |reactor| reactor["connections"] == 0).await;
    let mut events = server.events("t", "").await;
    server.publish_text("t", "served again").await;
    assert_eq!(events.next().await.data, "served again");
}

// ------------------------------------------------------------------------------------------------ refusals

async fn what_cannot_be_published_is_refused_with_a_reason(engine: Engine) {
    let server = Server::start(engine).await;
    let json = "application/json";
    let text = "text/plain";
    let long_topic = format!("/publish/{}", "t".repeat(129));
    let long_name = format!("/publish/t?event={}", "n".repeat(10_000));
    let cases: [(&str, &str, &[u8], &str); 14] = [
        (
            "/publish/t?event=a%0Adata:%20forged",
            text,
            b"x",
            "invalid_event_name",
        ),
        ("/publish/t?event=a%0D", text, b"x", "invalid_event_name"),
        ("/publish/t?event=a%00", json, b"1", "invalid_event_name"),
        (&long_name, text, b"x", "invalid_event_name"),
        ("/publish/t?event=a&event=b", text, b"x", "invalid_query"),
        ("/publish/t", json, b"{\"a\":", "invalid_json"),
        ("/publish/t", json, b"{} {}", "invalid_json"),
        ("/publish/t", json, b"", "invalid_json"),
        ("/publish/t", json, b"\"\xff\"", "invalid_json"),
        ("/publish/t", text, b"a\xffb", "invalid_utf8"),
        ("/publish/", text, b"x", "invalid_topic"),
        ("/publish/a%0Ab", text, b"x", "invalid_topic"),
        ("/publish/%ff", text, b"x", "invalid_topic"),
        (&long_topic, text, b"x", "invalid_topic"),
    ];
    let mut events = server.events("t", "").await;
    for (path, content_type, body, code) in cases {
        let (seen, message) = server.post(path, content_type, body).await.error(400);
        assert_eq!(seen, code, "{path}: {message}");
        assert!(!message.is_empty());
    }
    server.publish_text("t", "the only one").await;
    assert_eq!(events.next().await.data, "the only one");
}

async fn a_body_up_to_the_limit_is_taken_and_not_one_byte_more(engine: Engine) {
    let server = Server::start(engine).await;
    let mut events = server.events("t", "").await;
    server.publish_text("t", &"x".repeat(BODY_LIMIT)).await;
    assert_eq!(events.next().await.data.len(), BODY_LIMIT);

    // Just over; well over, all of it sent before the answer is read; announced, never sent; not announced at all.
    for length in [BODY_LIMIT + 1, 3 * BODY_LIMIT] {
        let (code, message) = server
            .post("/publish/t", "text/plain", &vec![b'x'; length])
            .await
            .error(413);
        assert_eq!(code, "too_large");
        assert!(
            message.contains(&length.to_string()) && message.contains(&BODY_LIMIT.to_string()),
            "{message}"
        );
    }
    let announced = b"POST /publish/t HTTP/1.1\r\nHost: live\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n";
    let (_, message) = server.exchange(announced).await.error(413);
    assert!(message.contains("99999999999"), "{message}");
    let mut chunked =
        b"POST /publish/t HTTP/1.1\r\nHost: live\r\nTransfer-Encoding: chunked\r\n\r\n40001\r\n"
            .to_vec();
    chunked.resize(chunked.len() + BODY_LIMIT + 1, b'x');
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let (_, message) = server.exchange(&chunked).await.error(413);
    assert!(message.contains(&BODY_LIMIT.to_string()), "{message}");
}

async fn topics_have_a_limit_and_those_that_exist_go_on(engine: Engine) {
    let server = Server::start(engine).await;
    let mut made = 0;
    let refusal = loop {
        let path = format!("/publish/t{made}");
        let response = server.post(&path, "text/plain", b"x").await;
        if response.status != 200 {
            break response;
        }
        made += 1;
    };
    let (code, message) = refusal.error(429);
    assert_eq!(code, "too_many_topics");
    assert!(message.contains("1024"), "{message}");
    // The demo topic is one of them.
    assert!((1023..=1024).contains(&made), "{made} topics were made");

    assert_eq!(server.get("/events/new").await.error(429).0, code);
    let mut events = server.events("t0", "").await;
    server.publish_text("t0", "still here").await;
    assert_eq!(events.next().await.data, "still here");
}

async fn what_cannot_be_watched_is_refused_with_a_reason(engine: Engine) {
    let server = Server::start(engine).await;
    for path in ["/events/", "/events/a%7Fb", "/events/%ff", "/events/%2e%2e"] {
        assert_eq!(
            server.get(path).await.error(400).0,
            "invalid_topic",
            "{path}"
        );
    }
}

/// A client that is refused does not come back: an id that is none of ours is one of another life.
async fn a_strange_id_is_told_as_a_lag(engine: Engine) {
    let server = Server::start(engine).await;
    let mut strange = Vec::new();
    for id in ["x", "00c0ffee00c0ffee", "00c0ffee00c0ffee-01", "-1", "%FF"] {
        strange.push(server.events(&format!("t?lastEventId={id}"), "").await);
    }
    strange.push(server.resume("t", "x y").await);
    for mut events in strange {
        let lag = events.next().await;
        assert_eq!(
            (lag.event.as_str(), lag.data.as_str()),
            ("lag", r#"{"missed":null}"#)
        );
    }
}

async fn unknown_routes_and_wrong_methods_are_told(engine: Engine) {
    let server = Server::start(engine).await;
    for path in [
        "/nothing",
        "/events",
        "/events/a/b",
        "/stats/",
        "/favicon.ico",
    ] {
        assert_eq!(server.get(path).await.error(404).0, "not_found", "{path}");
    }
    let cases = [
        (server.get("/publish/t").await, "POST"),
        (
            server.post("/events/t", "text/plain", b"x").await,
            "GET,HEAD",
        ),
        (server.post("/stats", "text/plain", b"x").await, "GET,HEAD"),
        (server.post("/", "text/plain", b"x").await, "GET,HEAD"),
    ];
    for (response, allow) in cases {
        assert_eq!(response.error(405).0, "method_not_allowed");
        assert_eq!(response.header("allow"), Some(allow));
    }
}

// ------------------------------------------------------------------------------------------------ start and end

async fn an_address_in_use_is_told_and_is_no_panic(engine: Engine) {
    let server = Server::start(engine).await;
    let second = Command::new(binary())
        .args(["--listen", &server.address])
        .args(engine.options())
        .kill_on_drop(true)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = within("the second server to give up", second)
        .await
        .unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stdout.is_empty());
    assert!(
        stderr.contains(&server.address) && stderr.contains("in use"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

async fn an_impossible_address_is_told_and_is_no_panic(engine: Engine) {
    let run = Command::new(binary())
        .args(["--listen", "nonsense"])
        .args(engine.options())
        .kill_on_drop(true)
        .output();
    let Output { status, stderr, .. } = within("the server to give up", run).await.unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("nonsense") && !stderr.contains("panicked"),
        "{stderr}"
    );
}

/// Every stream gets its end, and nothing is waited for: not even a connection that never asked.
#[cfg(unix)]
async fn a_signal_ends_every_stream_and_the_server(engine: Engine) {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(engine).await;
        let silent = server.connect().await;
        let mut streams = Vec::new();
        for topic in ["a", "a", "b", "machine"] {
            streams.push(server.events(topic, "").await);
        }
        server.publish_text("a", "before the end").await;

        let began = std::time::Instant::now();
        let pid = server.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(within("kill", kill).await.unwrap().success());
        assert_eq!(streams[0].next().await.data, "before the end");
        for stream in &mut streams {
            stream.end().await;
        }
        let status = within("the server to exit", server.child.wait())
            .await
            .unwrap();
        assert_eq!(status.code(), Some(0), "after {signal}");
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "took {:?} after {signal}",
            began.elapsed()
        );
        drop(silent);
    }
}
