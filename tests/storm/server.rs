//! The server that is stormed: a router, a hub with history, and publishers, some of which panic.

use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use fanfare::{Event, Hub, LastEventId, PublishError, Published, Reactor, Sse};
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::child::ServerOptions;

/// Between two publishes, while nothing is measured and while something is.
const PACE: Duration = Duration::from_millis(50);
const QUICK_PACE: Duration = Duration::from_micros(200);
/// Each so many quick ones the crowd gets one too.
const CROWD_EVERY: u64 = 1_000;

/// Of a server whose memory is limited, in bytes.
const LIMIT: usize = 4 << 20;
/// What it is pressed with: so many events of so many bytes, to as many topics.
const PRESSING: (u64, usize, u64) = (600, 50_000, 8);

/// For a while nothing happens but what is going on.
pub(crate) fn calm() {
    thread::park_timeout(Duration::from_secs(3));
}

/// A payload that panics amid its serialization.
struct Bomb;

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("as planned")
    }
}

async fn events(
    State(hub): State<Hub>,
    Path(topic): Path<String>,
    last: LastEventId,
) -> Result<Sse, StatusCode> {
    let subscription = hub.subscribe_from(topic.as_str(), last);
    let subscription = subscription.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(subscription.into_sse())
}

fn tell(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

pub(crate) fn run(options: ServerOptions) {
    // Planned panics need not be told.
    panic::set_hook(Box::new(|panic| {
        if panic.payload().downcast_ref() != Some(&"as planned") {
            tell(&format!("panic: {panic}"));
        }
    }));
    // Not much: a thousand clients get all of it when they come to a new life.
    let mut builder = Hub::builder().history(true).retain_events(64);
    if options.limited {
        // A look for what can be shed that finds little is not repeated in the same tick: short ticks.
        let often = Duration::from_millis(600);
        let limited = builder.retain_bytes(LIMIT).memory_limit(LIMIT);
        builder = limited.heartbeat(often);
    }
    let hub = builder.build().unwrap();
    for number in 1..=options.ahead {
        let _ = hub.publish("news", Event::json(&number)).unwrap();
    }
    let router = Router::new()
        .route("/events/{topic}", get(events))
        .route(
            "/subscribers",
            get(|State(hub): State<Hub>| async move { hub.subscribers().to_string() }),
        )
        .with_state(hub.clone());
    let (command, commands) = channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            drop(command.send(line));
        }
        // The parent is gone.
        process::exit(0);
    });
    let first = options.ahead + 1;
    thread::spawn(move || publish(&hub, first, &commands));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(options, router));
}

async fn serve(options: ServerOptions, router: Router) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(options.address).unwrap();
    let listener = socket.listen(4096).unwrap();
    tell(&format!("listening: {}", listener.local_addr().unwrap()));
    if options.reactor {
        let reactor = Reactor::builder().stall_timeout(Duration::from_secs(1));
        let server = fanfare::serve(listener, router)
            .stream("/events/{topic}")
            .reactor(reactor.build().unwrap());
        server.await.unwrap();
    } else {
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.unwrap();
    }
}

/// Publishes to `news`, and what it is told to.
fn publish(hub: &Hub, first: u64, commands: &Receiver<String>) {
    let large = "x".repeat(100_000);
    let mut times = None;
    let mut number = first;
    loop {
        let pace = if times.is_some() { QUICK_PACE } else { PACE };
        match commands.recv_timeout(pace).as_deref() {
            Ok("large") => {
                for _ in 0..200 {
                    let _ = hub.publish("large", Event::text(&large)).unwrap();
                }
            }
            Ok("press") => {
                let (over, refused) = press(hub);
                tell(&format!("pressed: {over} bytes over, {refused} refused"));
            }
            Ok("measure") => times = Some(Histogram::<u64>::new(3).unwrap()),
            Ok("report") => {
                let times = times.as_mut().unwrap();
                tell(&format!("figures: {}", figures(times)));
                times.reset();
            }
            Ok(other) => panic!("{other:?} is no command"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        number += 1;
        if let Some(times) = &mut times {
            measured(hub, number, times);
            continue;
        }
        let begin = panic::catch_unwind(AssertUnwindSafe(|| {
            hub.publish("news", Event::json(&Bomb)).map(drop)
        }));
        assert!(begin.is_err(), "a payload that panics");
        // Its number is its offset, so that a client knows it from its id.
        at_last(|| hub.publish("news", Event::json(&(number - 1))));
    }
}

/// Publishes far more than may be kept. Tells by how many bytes the limit was exceeded at most, and how often it was refused.
fn press(hub: &Hub) -> (u64, u64) {
    let (events, bytes, topics) = PRESSING;
    let text = "x".repeat(bytes);
    let (mut over, mut refused) = (0, 0);
    for event in 0..events {
        let topic = match event % topics {
            0 => "large".to_owned(),
            other => format!("large{other}"),
        };
        refused += at_last(|| {
            let published = hub.publish(topic.as_str(), Event::text(&text));
            over = over.max(hub.memory_used().unwrap().saturating_sub(LIMIT as u64));
            published
        });
    }
    (over, refused)
}

/// Publishes again and again while memory is short: what connections have in hand is not to be had, until they send it or are
/// ended. Tells how often it was refused.
fn at_last(mut publish: impl FnMut() -> Result<Published, PublishError>) -> u64 {
    let mut refused = 0;
    loop {
        match publish() {
            Ok(_) => return refused,
            Err(PublishError::OverMemoryLimit { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        thread::yield_now();
    }
}

fn measured(hub: &Hub, number: u64, times: &mut Histogram<u64>) {
    let begin = Instant::now();
    let _ = hub.publish("quick", Event::json(&number)).unwrap();
    let took = u64::try_from(begin.elapsed().as_nanos()).unwrap();
    // It grows with what it is given; clamped to what it has room for, the tail would be lost.
    times.record(took).unwrap();
    if number.is_multiple_of(CROWD_EVERY) {
        let _ = hub.publish("crowd", Event::json(&number)).unwrap();
    }
}

fn figures(times: &Histogram<u64>) -> String {
    let at = |quantile| times.value_at_quantile(quantile);
    format!(
        "{} publishes, ns: p50 {}, p99 {}, p99.9 {}, most {}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        times.max()
    )
}
