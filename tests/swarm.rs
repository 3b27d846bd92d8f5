//! The example `swarm`, as its users meet it: the built binary against servers of this test, good ones and faulty ones.
//!
//! Nothing here sleeps: every run of the binary ends by itself, and [`within`] bounds it.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, and in what it calls, a panic is the report"
)]

#[path = "common/example.rs"]
mod example;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use fanfare::{Event, Hub};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::sync::watch;

/// Far more than any run takes, so that only a real hang exceeds it.
const BOUND: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future)
        .await
        .unwrap_or_else(|_| panic!("still waiting for {what} after {BOUND:?}"))
}

// ------------------------------------------------------------------------------------------------ the binary

fn binary() -> PathBuf {
    example::binary("swarm", "cargo build --example swarm")
}

struct Run {
    code: Option<i32>,
    /// What it printed, on either stream.
    text: String,
    /// What it wrote with `--json`; `Null` if it wrote nothing.
    json: Value,
}

impl Run {
    #[track_caller]
    fn says(&self, text: &str) -> &Self {
        assert!(self.text.contains(text), "no {text:?} in\n{}", self.text);
        self
    }

    #[track_caller]
    fn has(&self, pointer: &str, value: impl Into<Value>) -> &Self {
        let found = self.json.pointer(pointer);
        assert_eq!(found, Some(&value.into()), "{pointer} in\n{}", self.text);
        self
    }

    #[track_caller]
    fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.text);
        self
    }
}

/// Runs it with these options, and a file for `--json`.
async fn swarm(options: &[&str]) -> Run {
    let json = scratch("json");
    let mut command = Command::new(binary());
    command.args(options).arg("--json").arg(&json);
    let mut run = run(command).await;
    if let Ok(text) = std::fs::read_to_string(&json) {
        run.json = serde_json::from_str(&text).unwrap();
        std::fs::remove_file(&json).unwrap();
    }
    run
}

async fn run(mut command: Command) -> Run {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output: Output = within("the run", command.output()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    Run {
        code: output.status.code(),
        text: String::from_utf8(text).unwrap(),
        json: Value::Null,
    }
}

/// A file that no other test has.
fn scratch(extension: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("fanfare-swarm-{}-{number}.{extension}", std::process::id());
    std::env::temp_dir().join(name)
}

// ------------------------------------------------------------------------------------------------ the servers

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

/// A hub, as applications serve it.
async fn hub() -> SocketAddr {
    async fn events(State(hub): State<Hub>, Path(topic): Path<String>) -> impl IntoResponse {
        hub.subscribe(&topic).unwrap().into_sse()
    }
    async fn publish(
        State(hub): State<Hub>,
        Path(topic): Path<String>,
        body: String,
    ) -> StatusCode {
        let _published = hub.publish(&topic, Event::text(&body)).unwrap();
        StatusCode::NO_CONTENT
    }
    let router = Router::new()
        .route("/events/{topic}", get(events))
        .route("/publish/{topic}", post(publish));
    serve(router.with_state(Hub::new())).await
}

/// What a faulty server does with each fifth event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Loses,
    Repeats,
    /// Sends it after the next.
    Swaps,
    /// Keeps it, and answers 500 or 429.
    TakesAndFails,
    Refuses,
    /// Ends each stream after it.
    Ends,
    /// Writes the JSON anew, in a string.
    Wraps,
    /// Publishes its own events instead.
    Replaces,
}

/// A history that streams are read from, in which the fault is already.
#[derive(Clone)]
struct Log {
    fault: Fault,
    published: Arc<Mutex<u64>>,
    held: Arc<Mutex<Option<String>>>,
    events: Arc<Mutex<Vec<String>>>,
    len: Arc<watch::Sender<usize>>,
}

impl Log {
    async fn serve(fault: Fault) -> SocketAddr {
        let log = Self {
            fault,
            published: Arc::default(),
            held: Arc::default(),
            events: Arc::default(),
            len: Arc::new(watch::Sender::new(0)),
        };
        let router = Router::new()
            .route("/events", get(log_events))
            .route("/publish", post(log_publish))
            .route("/page", get(async || Html("hello")));
        serve(router.with_state(log)).await
    }

    fn append(&self, events: impl IntoIterator<Item = String>) {
        let mut all = self.events.lock().unwrap();
        all.extend(events);
        self.len.send_replace(all.len());
    }
}

async fn log_events(State(log): State<Log>, headers: HeaderMap) -> impl IntoResponse {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap());
    let start = last.map_or_else(|| *log.len.borrow(), |id| id.parse::<usize>().unwrap() + 1);
    let ends = log.fault == Fault::Ends;
    let state = (log.clone(), log.len.subscribe(), start);
    let frames = stream::unfold(state, async |(log, mut len, at)| {
        len.wait_for(|len| *len > at).await.ok()?;
        let data = log.events.lock().unwrap()[at].clone();
        let frame = format!("id: {at}\nretry: 1\ndata: {data}\n\n");
        Some((Ok::<_, Infallible>(frame), (log, len, at + 1)))
    });
    let count = if ends { 5 } else { usize::MAX };
    let body = Body::from_stream(frames.take(count));
    (
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")],
        body,
    )
}

async fn log_publish(State(log): State<Log>, body: String) -> StatusCode {
    let number = {
        let mut published = log.published.lock().unwrap();
        *published += 1;
        *published
    };
    let is_fifth = number.is_multiple_of(5);
    match log.fault {
        Fault::Loses if is_fifth => {}
        Fault::Swaps if is_fifth => *log.held.lock().unwrap() = Some(body),
        Fault::Repeats if is_fifth => log.append([body.clone(), body]),
        Fault::Refuses if is_fifth => return StatusCode::TOO_MANY_REQUESTS,
        Fault::TakesAndFails if is_fifth => {
            log.append([body]);
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        Fault::Wraps => log.append([serde_json::json!({ "body": body }).to_string()]),
        Fault::Replaces => log.append(["tick".to_owned()]),
        _ => {
            let held = log.held.lock().unwrap().take();
            log.append([body].into_iter().chain(held));
        }
    }
    StatusCode::OK
}

/// 10 connections and 23 events, published one after the other, to a log with this fault.
async fn against(fault: Fault, more: &[&str]) -> Run {
    let address = Log::serve(fault).await;
    let url = format!("http://{address}/events");
    let options = [
        "--publish",
        "/publish",
        "-c",
        "10",
        "--events",
        "23",
        "--rate",
        "0",
        "--drain",
        "3",
    ];
    swarm(&[&[url.as_str()], &options[..], more].concat()).await
}

// ------------------------------------------------------------------------------------------------ what it finds

#[tokio::test]
async fn a_good_server_passes_and_every_event_is_counted() {
    let address = hub().await;
    let url = format!("http://{address}/events/{{i}}");
    let (svg, html) = (scratch("svg"), scratch("html"));
    let run = swarm(&[
        &url,
        "--publish",
        "/publish/{i}",
        "-c",
        "60",
        "--paths",
        "20",
        "--events",
        "200",
        "--rate",
        "2000",
        "--burst",
        "8",
        "--publishers",
        "3",
        "--threads",
        "2",
        "--source",
        "127.0.0.1",
        "--svg",
        svg.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
    ])
    .await;
    run.exits(0).says("OK: every connection got every event");
    run.has("/connections/opened", 60)
        .has("/published/taken", 200);
    // Each path has three connections.
    run.has("/deliveries/total", 600)
        .has("/deliveries/foreign", 0);
    run.has("/latency_us/count", 600);
    let drawing = std::fs::read_to_string(&svg).unwrap();
    assert!(drawing.starts_with("<svg") && drawing.contains("polyline"));
    assert!(std::fs::read_to_string(&html).unwrap().contains("</svg>"));
    std::fs::remove_file(svg).unwrap();
    std::fs::remove_file(html).unwrap();
}

#[tokio::test]
async fn loss_is_told() {
    let run = against(Fault::Loses, &[]).await;
    run.exits(1)
        .says("LOSS: 40 events were published and did not come, on 10 connections");
    run.has("/deliveries/lost", 40)
        .has("/deliveries/duplicates", 0);
    run.has("/deliveries/total", 190)
        .has("/deliveries/out_of_order", 0);
}

#[tokio::test]
async fn duplicates_are_told() {
    let run = against(Fault::Repeats, &[]).await;
    run.exits(1)
        .says("DUPLICATES: 40 events came more than once, on 10 connections");
    run.has("/deliveries/duplicates", 40)
        .has("/deliveries/lost", 0);
}

#[tokio::test]
async fn a_wrong_order_is_told_and_is_no_loss() {
    let run = against(Fault::Swaps, &[]).await;
    run.exits(1)
        .says("ORDER: 40 events came after a later one, on 10 connections");
    run.has("/deliveries/lost", 0)
        .has("/deliveries/duplicates", 0);
}

#[tokio::test]
async fn an_event_that_was_refused_is_not_missed() {
    let run = against(Fault::Refuses, &[]).await;
    run.exits(0)
        .says("4 events were not taken: 4 × answered 429");
    run.has("/published/taken", 19)
        .has("/deliveries/total", 190);
}

#[tokio::test]
async fn an_event_that_may_have_been_taken_is_neither_missed_nor_a_duplicate() {
    let run = against(Fault::TakesAndFails, &[]).await;
    run.exits(0)
        .says("answered 500")
        .has("/deliveries/total", 230);
}

#[tokio::test]
async fn a_stream_that_ends_is_told() {
    let run = against(Fault::Ends, &[]).await;
    run.exits(1)
        .says("streams ended before the run did: 10 × the server ended the stream");
    run.has("/deliveries/cut_off", 180)
        .has("/deliveries/lost", 0);
}

#[tokio::test]
async fn a_reconnect_resumes_after_the_last_id() {
    let run = against(Fault::Ends, &["--reconnect"]).await;
    run.exits(0)
        .has("/deliveries/total", 230)
        .has("/deliveries/duplicates", 0);
    run.has("/connections/reconnects", 40);
}

#[tokio::test]
async fn json_that_was_written_anew_is_understood() {
    let run = against(Fault::Wraps, &[]).await;
    run.exits(0).has("/deliveries/total", 230);
}

#[tokio::test]
async fn a_server_that_sends_something_else_is_told() {
    let run = against(Fault::Replaces, &[]).await;
    run.exits(1)
        .says("none of the 230 events that came has the stamp of this run");
}

#[tokio::test]
async fn slow_connections_are_reported_apart() {
    // Far more than the buffers of a connection hold.
    let run = against(Fault::None, &["--slow", "0.3", "--size", "1000000"]).await;
    run.exits(0)
        .has("/slow/connections", 3)
        .has("/deliveries/total", 7 * 23);
    let missed = run.json["slow"]["lost"].as_u64().unwrap();
    assert!(missed > 0, "{}", run.text);
    let run = against(
        Fault::None,
        &["--slow", "0.3", "--size", "1000000", "--count-slow"],
    )
    .await;
    run.exits(1).says("LOSS");
}

#[tokio::test]
async fn listening_counts_events_and_looks_at_ids() {
    let address = Log::serve(Fault::None).await;
    let url = format!("http://{address}/events");
    let options = ["-c", "5", "--duration", "0.5"];
    let listening =
        tokio::spawn(async move { swarm(&[&[url.as_str()], &options[..]].concat()).await });
    // Another swarm publishes meanwhile, for as long as the first listens.
    let url = format!("http://{address}/events");
    let publishing = swarm(&[
        &url,
        "--publish",
        "/publish",
        "-c",
        "1",
        "--duration",
        "2",
        "--rate",
        "100",
    ])
    .await;
    publishing.exits(0);
    let run = listening.await.unwrap();
    run.exits(0).says("no connection failed");
    run.has("/connections/opened", 5)
        .has("/deliveries/ids_backward", 0);
}

// ------------------------------------------------------------------------------------------------ what it refuses

#[tokio::test]
async fn what_is_no_stream_is_told_with_what_to_do() {
    let address = Log::serve(Fault::None).await;
    for (path, says) in [
        ("/nothing", "10 × answered 404 (is the path right?"),
        (
            "/page",
            "10 × not an SSE response: content type text/html (is this the route that streams?",
        ),
    ] {
        let url = format!("http://{address}{path}");
        let run = swarm(&[&url, "--publish", "/publish", "-c", "10"]).await;
        run.exits(1)
            .says("10 of 10 connections got no stream")
            .says(says);
    }
    let url = format!("http://{address}/nothing");
    swarm(&[&url, "-c", "1000"])
        .await
        .exits(1)
        .says("the rest was not tried");
}

#[tokio::test]
async fn a_publish_url_that_takes_nothing_is_told() {
    let address = Log::serve(Fault::None).await;
    let url = format!("http://{address}/events");
    let run = swarm(&[&url, "--publish", "/nothing", "-c", "2", "--rate", "0"]).await;
    run.exits(1)
        .says("no event could be published")
        .says("answered 404");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told() {
    // It has the port and does not listen.
    let held = TcpSocket::new_v4().unwrap();
    held.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let url = format!("http://{}/events", held.local_addr().unwrap());
    let run = swarm(&[&url]).await;
    run.exits(1)
        .says("nobody answers at 127.0.0.1:")
        .says("is the server running");
}

#[tokio::test]
async fn a_server_that_never_answers_is_told() {
    // It takes connections and nobody reads from them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/events", silent.local_addr().unwrap());
    let run = swarm(&[&url, "-c", "3", "--connect-timeout", "0.1"]).await;
    run.exits(1).says("3 × no response head in time");
}

#[tokio::test]
async fn bad_urls_and_options_are_told() {
    for (options, code, says) in [
        (&["https://localhost/"][..], 1, "TLS is not supported"),
        (
            &["localhost:8080/events"],
            1,
            "it has to begin with http://",
        ),
        (&["http://no-such-host.invalid/"], 1, "cannot find the host"),
        (
            &["http://127.0.0.1/", "--publish", "/{i}"],
            1,
            "--publish has a {i}",
        ),
        (
            &["http://127.0.0.1/", "--paths", "3"],
            1,
            "--paths needs a {i}",
        ),
        (
            &["http://127.0.0.1/", "--pid", "4294967294"],
            1,
            "--pid takes the id",
        ),
        (
            &["http://127.0.0.1/", "--slow", "2"],
            2,
            "a number from 0 to 1",
        ),
        (
            &["http://127.0.0.1/", "--source", "home"],
            2,
            "is no IP address",
        ),
    ] {
        swarm(options).await.exits(code).says(says);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn too_few_descriptors_are_told_with_the_command_that_helps() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""])
        .arg(binary())
        .args(["http://127.0.0.1:9/", "--connections", "1000"]);
    let run = run(command).await;
    run.exits(1)
        .says("needs 1033 file descriptors and the limit is 128");
    run.says("--nofile=1033:1033").says("--connections 95");
}

#[cfg(unix)]
#[tokio::test]
async fn a_soft_limit_is_raised_as_far_as_needed() {
    let address = hub().await;
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -S -n 64; exec \"$0\" \"$@\""])
        .arg(binary())
        .arg(format!("http://{address}/events/a"))
        .args([
            "--publish",
            "/publish/a",
            "-c",
            "100",
            "--events",
            "3",
            "--rate",
            "0",
        ]);
    run(command).await.exits(0);
}
