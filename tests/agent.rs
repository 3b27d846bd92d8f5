//! The example `agent`, as its users meet it: the built binary, real sockets, bytes.
//!
//! What the server streams is read by an independent parser, `eventsource-stream`. The official clients of the protocols are
//! run by `ci/agent.sh`. Nothing here sleeps: every wait is for a condition, and [`within`] bounds it.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, and all that it calls, a panic is the report"
)]

#[path = "common/example.rs"]
mod example;

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use eventsource_stream::{EventStreamError, Eventsource as _};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

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

/// A running `agent`, killed when dropped.
struct Server {
    child: Child,
    address: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Server {
    async fn start() -> Self {
        let binary = example::binary("agent", "cargo build --features protocols --example agent");
        let mut child = Command::new(binary)
            .args(["--listen", "127.0.0.1:0", "--workers", "2"])
            .args(["--pace", "1", "--grace", "50"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = within("the greeting", lines.next_line()).await;
        let first = first.unwrap().unwrap();
        let (_, address) = first.split_once("http://").unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            address: address.trim().to_owned(),
            log,
        }
    }

    /// Sends a request and reads the head of the answer.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let sent = within("the request to be taken", stream.write_all(&request)).await;
        // A body that is too long may be refused before it was sent.
        drop(sent);
        read_head(BufReader::new(stream)).await
    }

    async fn get(&self, path: &str) -> Response {
        self.send("GET", path, "", b"").await
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        let json = "Content-Type: application/json\r\n";
        self.send("POST", path, json, body.to_string().as_bytes())
            .await
    }

    /// Posts a run, which has to be taken.
    async fn run(&self, query: &str, input: &Value) -> Events {
        let response = self.post(&format!("/agent?{query}"), input).await;
        response.events()
    }

    /// A stream of the user `u`.
    async fn stream(&self, name: &str, connection: &str) -> Events {
        let path = format!("/users/u/{name}?connection={connection}");
        self.get(&path).await.events()
    }

    /// Calls a method over JSON-RPC.
    async fn call(&self, id: &Value, method: &str, params: &Value) -> Response {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.post("/a2a?user=u", &request).await
    }

    /// Calls a method that has to answer with a result.
    async fn result(&self, method: &str, params: &Value) -> Value {
        let mut answer = self.call(&json!(1), method, params).await.json(200).await;
        assert_eq!(answer["id"], 1, "{answer}");
        answer["result"].take()
    }

    /// Waits until the log has a line with `text`.
    async fn logs(&mut self, text: &str) {
        loop {
            let line = within(text, self.log.next_line()).await.unwrap();
            if line.unwrap().contains(text) {
                return;
            }
        }
    }
}

fn input(thread: &str, run: &str, prompt: &str) -> Value {
    json!({
        "threadId": thread,
        "runId": run,
        "messages": [{"id": "m1", "role": "user", "content": prompt}],
        "tools": [],
        "context": [],
    })
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    async fn body(mut self) -> Vec<u8> {
        let length = self.header("content-length").unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        within("the body", self.reader.read_exact(&mut body))
            .await
            .unwrap();
        body
    }

    /// The JSON of an answer, which must be of the given status.
    async fn json(self, status: u16) -> Value {
        let seen = self.status;
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body = self.body().await;
        assert_eq!(seen, status, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// The code of an error, which must be of the given status.
    async fn error(self, status: u16) -> String {
        let body = self.json(status).await;
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        body["error"]["code"].as_str().unwrap().to_owned()
    }

    /// The code of an error of JSON-RPC, which must be of the given status.
    async fn rpc_error(self, status: u16) -> (Value, i64) {
        let body = self.json(status).await;
        assert_eq!(body["jsonrpc"], "2.0", "{body}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        (body["id"].clone(), body["error"]["code"].as_i64().unwrap())
    }

    fn events(self) -> Events {
        assert_eq!(self.status, 200);
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let chunked = self.header("transfer-encoding") == Some("chunked");
        let mut left: Option<usize> = self
            .header("content-length")
            .map(|length| length.parse().unwrap());
        assert_ne!(chunked, left.is_some());
        let chunks = stream::unfold(self.reader, move |mut reader| {
            let length = left.take();
            async move {
                let chunk = match length {
                    Some(length) => read_exactly(&mut reader, length).await,
                    None if chunked => read_chunk(&mut reader).await,
                    None => return None,
                };
                match chunk {
                    Ok(chunk) if chunk.is_empty() => None,
                    chunk => Some((chunk, reader)),
                }
            }
        });
        Events {
            stream: Box::pin(chunks.eventsource()),
        }
    }
}

async fn read_head(mut reader: BufReader<TcpStream>) -> Response {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = within("the head of the answer", reader.read_line(&mut line)).await;
        assert_ne!(read.unwrap(), 0, "the connection ended within {lines:?}");
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
        reader,
    }
}

/// One chunk of a chunked body; empty for the last one, an error if the connection ends without it.
async fn read_chunk(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).await?;
    let size = usize::from_str_radix(size.trim_end(), 16)
        .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let mut chunk = read_exactly(reader, size + 2).await?;
    chunk.truncate(size);
    Ok(chunk)
}

async fn read_exactly(reader: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// One open event stream.
struct Events {
    stream: Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<io::Error>>> + Send>>,
}

type Event = eventsource_stream::Event;

impl Events {
    /// The next event, which is unnamed JSON.
    async fn next(&mut self) -> Value {
        let event = within("an event", self.stream.next()).await;
        let event = event.expect("the stream ended").unwrap();
        assert_eq!((event.event.as_str(), event.id.as_str()), ("message", ""));
        serde_json::from_str(&event.data).unwrap()
    }

    /// All events up to the first for which `condition` holds, which is the last.
    async fn until(&mut self, condition: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        while !events.last().is_some_and(&condition) {
            events.push(self.next().await);
        }
        events
    }

    /// All events up to the end of the stream, which has to be in order.
    async fn rest(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = within("the end of the stream", self.stream.next()).await {
            let event = event.expect("the stream broke off");
            events.push(serde_json::from_str(&event.data).unwrap());
        }
        events
    }
}

fn is(event: &Value, wanted: &str) -> bool {
    event["type"] == wanted
}

fn ends_run(event: &Value) -> bool {
    is(event, "RUN_FINISHED")
}

fn types(events: &[Value]) -> Vec<&str> {
    let types = events.iter().map(|event| event["type"].as_str().unwrap());
    types.collect()
}

// ------------------------------------------------------------------------------------------------ AG-UI

#[tokio::test]
async fn a_run_ends_and_so_does_its_response() {
    let server = Server::start().await;
    let run = server.run("user=u", &input("t", "r", "hello")).await;
    let events = run.rest().await;
    let types = types(&events);
    assert_eq!(
        (types[0], types[types.len() - 1]),
        ("RUN_STARTED", "RUN_FINISHED")
    );
    for wanted in [
        "REASONING_MESSAGE_CONTENT",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_RESULT",
        "STATE_SNAPSHOT",
        "STATE_DELTA",
        "TEXT_MESSAGE_CONTENT",
    ] {
        assert!(types.contains(&wanted), "no {wanted} in {types:?}");
    }
    assert_eq!(events[0]["runId"], "r");
    assert_eq!(events[0]["protocolVersion"], "1.0");
}

#[tokio::test]
async fn every_tab_sees_the_same_whenever_it_comes() {
    let server = Server::start().await;
    let mut bare = server.stream("ag-ui", "one").await;
    let mut context = server.stream("context", "two").await;
    let body = input("t", "r", "write 300 words");
    let first = server.run("user=u", &body).await;
    bare.until(|event| is(event, "TEXT_MESSAGE_CONTENT")).await;
    // In the middle, and after the end: from the beginning all the same.
    let middle = server.run("user=u", &body).await;
    let events = first.rest().await;
    assert_eq!(middle.rest().await, events);
    assert_eq!(server.run("user=u", &body).await.rest().await, events);
    assert_eq!(events.iter().filter(|it| is(it, "RUN_STARTED")).count(), 1);
    assert_eq!(types(&events).last(), Some(&"RUN_FINISHED"));

    let wrapped = context.until(|event| ends_run(&event["event"])).await;
    let agui = wrapped.iter().filter(|event| event["protocol"] == "agui");
    let unwrapped: Vec<_> = agui.map(|event| event["event"].clone()).collect();
    assert_eq!(unwrapped, events);
    bare.until(ends_run).await;
}

#[tokio::test]
async fn a_run_that_nobody_follows_is_given_up() {
    let mut server = Server::start().await;
    let body = input("t", "r", "write 5000 words");
    let mut run = server.run("user=u&pace=20", &body).await;
    run.until(|event| is(event, "TEXT_MESSAGE_CONTENT")).await;
    drop(run);
    server.logs("nobody has listened for 50ms").await;
    // What was open is closed, and the run as well: whoever comes back for it finds a run that holds together.
    let events = server.run("user=u", &body).await.rest().await;
    let [.., end, finished] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert!(is(end, "TEXT_MESSAGE_END"), "{end}");
    assert_eq!(finished["outcome"]["type"], "cancelled");
}

#[tokio::test]
async fn a_run_goes_on_as_long_as_one_tab_of_the_user_shows_it() {
    let mut server = Server::start().await;
    let mut tab = server.stream("context", "tab").await;
    let body = input("t", "r", "write 200 words");
    drop(server.run("user=u&pace=2", &body).await);
    let events = tab.until(|event| ends_run(&event["event"])).await;
    assert_eq!(events.last().unwrap()["event"]["outcome"], Value::Null);
    let body = input("t", "r2", "write 5000 words");
    drop(server.run("user=u&pace=20", &body).await);
    tab.until(|event| is(&event["event"], "TEXT_MESSAGE_START"))
        .await;
    drop(tab);
    server.logs("nobody has listened").await;
}

#[tokio::test]
async fn an_interrupted_run_waits_for_all_of_its_answers() {
    let server = Server::start().await;
    let run = server.run("user=u", &input("t", "r1", "interrupt")).await;
    let events = run.rest().await;
    let types = types(&events);
    // Both snapshots come before such an end.
    assert_eq!(
        types[types.len() - 3..],
        ["STATE_SNAPSHOT", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    );
    let outcome = &events.last().unwrap()["outcome"];
    assert_eq!(outcome["type"], "interrupt");
    let interrupt = outcome["interrupts"][0]["id"].as_str().unwrap();

    let unanswered = server
        .post("/agent?user=u", &input("t", "r2", "go on"))
        .await;
    assert_eq!(unanswered.error(409).await, "interrupted");
    let answer = |run, interrupt: &str, approved| {
        let mut body = input("t", run, "yes");
        body["resume"] = json!([{
            "interruptId": interrupt,
            "status": "resolved",
            "payload": {"approved": approved},
        }]);
        body
    };
    let other = server
        .post("/agent?user=u", &answer("r3", "another", true))
        .await;
    assert_eq!(other.error(409).await, "interrupted");
    // Another user's thread of the same name is another thread.
    let stranger = server
        .post("/agent?user=v", &answer("r4", interrupt, true))
        .await;
    assert_eq!(stranger.error(409).await, "no_such_interrupt");

    let resumed = server.run("user=u", &answer("r5", interrupt, false)).await;
    let resumed = resumed.rest().await;
    let said: String = resumed
        .iter()
        .filter(|event| is(event, "TEXT_MESSAGE_CONTENT"))
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(said, "Then draft.txt stays.");
    let again = server
        .post("/agent?user=u", &answer("r6", interrupt, true))
        .await;
    assert_eq!(again.error(409).await, "no_such_interrupt");
    let next = server.run("user=u", &input("t", "r7", "hello")).await;
    assert!(ends_run(next.rest().await.last().unwrap()));
}

// ------------------------------------------------------------------------------------------------ A2A

/// What the versions call differently.
#[derive(Clone, Copy)]
struct Dialect {
    send: &'static str,
    stream: &'static str,
    subscribe: &'static str,
    get: &'static str,
    completed: &'static str,
    newer: bool,
}

const NEWER: Dialect = Dialect {
    send: "SendMessage",
    stream: "SendStreamingMessage",
    subscribe: "SubscribeToTask",
    get: "GetTask",
    completed: "TASK_STATE_COMPLETED",
    newer: true,
};

const OLDER: Dialect = Dialect {
    send: "message/send",
    stream: "message/stream",
    subscribe: "tasks/resubscribe",
    get: "tasks/get",
    completed: "completed",
    newer: false,
};

impl Dialect {
    fn message(self, text: &str) -> Value {
        if self.newer {
            return json!({"message": {
                "messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}],
            }});
        }
        json!({"message": {
            "kind": "message", "messageId": "m", "role": "user",
            "parts": [{"kind": "text", "text": text}],
        }})
    }

    /// What kind of response it is, and the response.
    fn response(self, result: &Value) -> (&'static str, &Value) {
        for (older, newer) in [
            ("task", "task"),
            ("status-update", "statusUpdate"),
            ("artifact-update", "artifactUpdate"),
        ] {
            if !self.newer && result["kind"] == older {
                return (newer, result);
            }
            if self.newer && !result[newer].is_null() {
                return (newer, &result[newer]);
            }
        }
        panic!("{result}")
    }

    /// The task that a stream tells of: its artifacts, piece by piece, and its last state.
    fn fold(self, results: &[Value]) -> (Vec<Value>, Value) {
        let (kind, task) = self.response(&results[0]);
        assert_eq!(kind, "task", "the task comes first");
        let mut artifacts = task["artifacts"].as_array().cloned().unwrap_or_default();
        let mut status = task["status"].clone();
        for result in &results[1..] {
            let (kind, update) = self.response(result);
            if kind == "statusUpdate" {
                status = update["status"].clone();
                let last = status["state"] == self.completed;
                let told = if self.newer { Value::Null } else { json!(last) };
                assert_eq!(update["final"], told);
                continue;
            }
            assert_eq!(kind, "artifactUpdate");
            let artifact = &update["artifact"];
            let known = artifacts
                .iter_mut()
                .find(|known| known["artifactId"] == artifact["artifactId"]);
            match known {
                Some(known) => {
                    assert_eq!(update["append"], true);
                    let more = artifact["parts"].as_array().unwrap().iter().cloned();
                    known["parts"].as_array_mut().unwrap().extend(more);
                }
                None => artifacts.push(artifact.clone()),
            }
        }
        (artifacts, status)
    }
}

/// Takes the JSON-RPC envelope off, which has to be of the request's id.
fn unwrapped(answers: Vec<Value>, id: &Value) -> Vec<Value> {
    let unwrap = |mut answer: Value| {
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), id));
        answer["result"].take()
    };
    answers.into_iter().map(unwrap).collect()
}

async fn a_task_is_followed(dialect: Dialect) {
    let server = Server::start().await;
    let id = json!("first \"id\"");
    let response = server
        .call(&id, dialect.stream, &dialect.message("write 600 words"))
        .await;
    let mut cut = response.events();
    let artifact = |answer: &Value| dialect.response(&answer["result"]).0 == "artifactUpdate";
    let begun = unwrapped(cut.until(artifact).await, &id);
    let task = dialect.response(&begun[0]).1["id"].clone();
    drop(cut);

    // Two that come back: each has its own envelope around the same events, without a gap and without a repeat.
    let params = json!({"id": task});
    let (id, other_id) = (json!(7), json!(9.5));
    let response = server.call(&id, dialect.subscribe, &params).await;
    let mut one = response.events();
    let mut answers = vec![one.next().await];
    let response = server.call(&other_id, dialect.subscribe, &params).await;
    let two = unwrapped(response.events().rest().await, &other_id);
    answers.extend(one.rest().await);
    let one = unwrapped(answers, &id);
    let tail = one.len().min(two.len()) - 1;
    assert_eq!(one[one.len() - tail..], two[two.len() - tail..]);

    let last = server.result(dialect.get, &params).await;
    assert_eq!(last["status"]["state"], dialect.completed);
    assert_eq!(last["kind"] == "task", !dialect.newer);
    for results in [one, two] {
        let (artifacts, status) = dialect.fold(&results);
        assert_eq!(json!(artifacts), last["artifacts"]);
        assert_eq!(status, last["status"]);
    }
    let pieces = last["artifacts"][0]["parts"].as_array().unwrap();
    assert_eq!(pieces.len(), 600);

    // It is over: there is nothing to follow any more.
    let over = server.call(&json!(1), dialect.subscribe, &params).await;
    assert_eq!(over.rpc_error(200).await, (json!(1), -32004));
    // All at once.
    let sent = server.result(dialect.send, &dialect.message("hello")).await;
    let (kind, task) = dialect.response(&sent);
    assert_eq!(
        (kind, &task["status"]["state"]),
        ("task", &json!(dialect.completed))
    );
    let params = json!({"id": task["id"], "historyLength": 1});
    let short = server.result(dialect.get, &params).await;
    assert_eq!(short["history"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_task_is_followed_in_v1_0() {
    a_task_is_followed(NEWER).await;
}

#[tokio::test]
async fn a_task_is_followed_in_v0_3() {
    a_task_is_followed(OLDER).await;
}

#[tokio::test]
async fn a_task_goes_on_without_anybody() {
    let server = Server::start().await;
    let mut tab = server.stream("a2a", "tab").await;
    let streamed = server
        .call(&json!(1), NEWER.stream, &NEWER.message("hello"))
        .await;
    drop(streamed);
    let state = |event: &Value| event["statusUpdate"]["status"]["state"] == NEWER.completed;
    let events = tab.until(state).await;
    assert_eq!(events[0]["task"]["status"]["state"], "TASK_STATE_SUBMITTED");
}

#[tokio::test]
async fn what_json_rpc_refuses_has_its_code() {
    let server = Server::start().await;
    let message = NEWER.message("hello");
    let mut empty = message.clone();
    empty["message"]["parts"] = json!([]);
    let mut lost = message.clone();
    lost["message"]["taskId"] = json!("nobody");
    let cases = [
        ("CancelTask", json!({"id": "t"}), -32601),
        ("GetTask", json!({"id": "nobody"}), -32001),
        ("tasks/get", json!({"id": "nobody"}), -32001),
        ("SubscribeToTask", json!({"id": "nobody"}), -32001),
        ("tasks/resubscribe", json!({"id": "nobody"}), -32001),
        ("GetTask", json!({}), -32602),
        ("GetTask", json!({"id": 7}), -32602),
        ("GetTask", json!({"id": "t", "historyLength": -1}), -32602),
        ("SendStreamingMessage", json!({}), -32602),
        (
            "SendStreamingMessage",
            json!({"message": {"messageId": "m"}}),
            -32602,
        ),
        ("SendStreamingMessage", empty, -32602),
        ("SendStreamingMessage", lost, -32001),
    ];
    for (method, params, code) in cases {
        let answer = server.call(&json!("x"), method, &params).await;
        assert_eq!(
            answer.rpc_error(200).await,
            (json!("x"), code),
            "{method} {params}"
        );
    }

    // What is no request at all.
    let json = "Content-Type: application/json\r\n";
    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("[]", 200, -32600),
        ("7", 200, -32600),
        ("{}", 200, -32600),
        (
            r#"{"jsonrpc":"2.0","method":"GetTask","params":{}}"#,
            200,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":{},"method":"GetTask"}"#,
            200,
            -32600,
        ),
    ] {
        let answer = server.send("POST", "/a2a", json, body.as_bytes()).await;
        assert_eq!(
            answer.rpc_error(status).await,
            (Value::Null, code),
            "{body}"
        );
    }
    let body = br#"{"jsonrpc":"1.0","id":3,"method":"GetTask"}"#;
    let answer = server.send("POST", "/a2a", json, body).await;
    assert_eq!(answer.rpc_error(200).await, (json!(3), -32600));

    // An id that is too long to be repeated with every event.
    let long = json!("x".repeat(5000));
    let answer = server.call(&long, NEWER.stream, &message).await;
    assert_eq!(answer.rpc_error(200).await, (long, -32600));

    let headers = format!("{json}A2A-Version: 2.0\r\n");
    let body = br#"{"jsonrpc":"2.0","id":4,"method":"GetTask","params":{"id":"t"}}"#;
    let answer = server.send("POST", "/a2a", &headers, body).await;
    assert_eq!(answer.rpc_error(200).await, (json!(4), -32009));
    let answer = server
        .send("POST", "/a2a", "Content-Type: text/plain\r\n", body)
        .await;
    assert_eq!(answer.rpc_error(415).await, (Value::Null, -32600));
}

#[tokio::test]
async fn the_card_tells_both_versions_where_the_agent_is() {
    let server = Server::start().await;
    let card = server.get("/.well-known/agent-card.json?user=ada").await;
    let card = card.json(200).await;
    let url = "http://agent/a2a?user=ada";
    assert_eq!(card["url"], url);
    assert_eq!(card["protocolVersion"], "0.3.0");
    let versions = card["supportedInterfaces"].as_array().unwrap();
    let versions = versions.iter().map(|one| {
        assert_eq!(
            (&one["url"], &one["protocolBinding"]),
            (&json!(url), &json!("JSONRPC"))
        );
        one["protocolVersion"].as_str().unwrap()
    });
    assert_eq!(versions.collect::<Vec<_>>(), ["1.0", "0.3"]);
}

// ------------------------------------------------------------------------------------------------ the users' streams

#[tokio::test]
async fn one_connection_carries_all_streams_and_names_them() {
    let server = Server::start().await;
    let mut all = server.stream("all", "tab").await;
    let connected = all.next().await;
    assert_eq!(connected["stream"], "context");
    assert_eq!(connected["event"]["event"]["type"], "CONNECTED");
    assert_eq!(connected["event"]["event"]["connectionId"], "tab");
    let contexts = all.next().await;
    assert_eq!(contexts["event"]["event"]["contexts"], json!([]));

    let view = json!({"session": "s", "url": "/pricing"});
    let viewed = server.post("/users/u/views", &view).await;
    assert_eq!(viewed.status, 204);
    let view = all.next().await;
    assert_eq!(view["stream"], "analytics");
    assert_eq!(view["event"]["page_url"], "/pricing");
    assert_eq!(view["event"]["user_id"], "u");

    server
        .run("user=u", &input("t", "r", "hello"))
        .await
        .rest()
        .await;
    server.result("SendMessage", &NEWER.message("hello")).await;
    let of = |event: &Value, stream: &str| event["stream"] == stream;
    let done = |event: &Value| {
        of(event, "a2a") && event["event"]["statusUpdate"]["status"]["state"] == NEWER.completed
    };
    let events = all.until(done).await;
    for (stream, protocol) in [("ag-ui", "agui"), ("a2a", "a2a")] {
        let bare = events.iter().filter(|event| of(event, stream));
        let bare: Vec<_> = bare.map(|event| &event["event"]).collect();
        let context = events.iter().filter(|event| of(event, "context"));
        let wrapped = context.filter(|event| event["event"]["protocol"] == protocol);
        let wrapped: Vec<_> = wrapped.map(|event| &event["event"]["event"]).collect();
        // Streams are read in turn: the last of one may come before the last of another.
        let both = bare.len().min(wrapped.len());
        assert!(both > 10, "{stream}: {both}");
        assert_eq!(bare[..both], wrapped[..both]);
    }

    // Who comes later begins with what there is.
    let mut context = server.stream("context", "later").await;
    context.next().await;
    let contexts = context.next().await;
    let contexts = contexts["event"]["contexts"].as_array().unwrap();
    let names = contexts.iter().map(|it| (&it["name"], &it["task_count"]));
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [(&json!("hello"), &json!(0)), (&json!("hello"), &json!(1))]
    );
}

#[tokio::test]
async fn a_connection_that_comes_back_takes_the_place_of_the_older_one() {
    let server = Server::start().await;
    let older = server.stream("ag-ui", "tab").await;
    let mut newer = server.stream("ag-ui", "tab").await;
    assert_eq!(older.rest().await, Vec::<Value>::new());
    server
        .run("user=u", &input("t", "r", "hello"))
        .await
        .rest()
        .await;
    assert!(is(&newer.next().await, "RUN_STARTED"));
}

// ------------------------------------------------------------------------------------------------ refusals

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_a_reason() {
    let server = Server::start().await;
    let long = "x".repeat(129);
    for (body, code) in [
        (json!({}), "invalid_input"),
        (json!([]), "invalid_input"),
        (json!({"threadId": "t", "runId": "r"}), "invalid_input"),
        (input("", "r", "hello"), "invalid_name"),
        (input("t", &long, "hello"), "invalid_name"),
        (input("t", "a\nb", "hello"), "invalid_name"),
    ] {
        let answer = server.post("/agent", &body).await;
        assert_eq!(answer.error(400).await, code, "{body}");
    }
    let hello = input("t", "r", "hello");
    for path in ["/agent?pace=10001", "/agent?pace=x", "/agent?user="] {
        let answer = server.post(path, &hello).await;
        assert_eq!(answer.status, 400, "{path}");
    }
    server.run("user=u", &hello).await.rest().await;
    // The run is this user's and this thread's.
    for (user, thread) in [("v", "t"), ("u", "t2")] {
        let answer = server
            .post(&format!("/agent?user={user}"), &input(thread, "r", "hello"))
            .await;
        assert_eq!(answer.error(409).await, "run_taken");
    }
    let text = "Content-Type: text/plain\r\n";
    let answer = server.send("POST", "/agent", text, b"{}").await;
    assert_eq!(answer.error(415).await, "not_json");
    let json = "Content-Type: application/json\r\n";
    let large = vec![b' '; BODY_LIMIT + 1];
    let answer = server.send("POST", "/agent", json, &large).await;
    assert_eq!(answer.error(413).await, "too_large");
    let answer = server.send("POST", "/a2a", json, &large).await;
    assert_eq!(answer.rpc_error(413).await, (Value::Null, -32600));
    assert_eq!(
        server.get("/agent").await.error(405).await,
        "method_not_allowed"
    );
    assert_eq!(server.get("/nowhere").await.error(404).await, "not_found");
    let view = server
        .post("/users/u/views", &json!({"session": "s"}))
        .await;
    assert_eq!(view.error(400).await, "invalid_view");
}

#[tokio::test]
async fn connections_of_a_user_have_a_limit() {
    let server = Server::start().await;
    let mut tabs = Vec::new();
    for tab in 0..64 {
        tabs.push(server.stream("ag-ui", &format!("tab-{tab}")).await);
    }
    let more = server.get("/users/u/ag-ui?connection=one-more");
    assert_eq!(more.await.error(429).await, "too_many_connections");
    assert_eq!(server.get("/users/v/ag-ui").await.status, 200);
}

#[tokio::test]
async fn the_page_is_one_file() {
    let server = Server::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"));
    let html = String::from_utf8(page.body().await).unwrap();
    assert!(html.contains("new EventSource(") && !html.contains("innerHTML"));
    for attribute in ["src=\"", "href=\"http", "@import", "url("] {
        assert!(
            !html.contains(attribute),
            "the page loads something: {attribute}"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_every_stream_and_the_server() {
    let mut server = Server::start().await;
    let tab = server.stream("all", "tab").await;
    let body = input("t", "r", "write 5000 words");
    let mut run = server.run("user=u&pace=20", &body).await;
    run.next().await;
    let pid = i32::try_from(server.child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    run.rest().await;
    tab.rest().await;
    let status = within("the server's end", server.child.wait()).await;
    assert!(status.unwrap().success());
}
