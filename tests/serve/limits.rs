//! A process that runs out of descriptors: it waits, costs nothing meanwhile, says so once, and goes on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::server::Server;

const CHILD: &str = "limits::server_with_few_descriptors";

/// Descriptors of the server.
const DESCRIPTORS: u64 = 48;

/// Prints each warning as a line.
struct Warnings(AtomicU64);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1 + self.0.fetch_add(1, Ordering::Relaxed))
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        println!("warning {}", event.metadata().target());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Not a test of its own: the server of the one below.
#[test]
#[ignore = "started by the test below"]
fn server_with_few_descriptors() {
    tracing::subscriber::set_global_default(Warnings(AtomicU64::new(0))).unwrap();
    let server = Server::start();
    server.settle();
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("listening {}", server.address);
    std::io::stdout().flush().unwrap();
    // Until the other side closes it.
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

struct Limited {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Drop for Limited {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Limited {
    fn start() -> (Self, SocketAddr) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the server ended");
            if let Some((_, address)) = line.trim_end().split_once("listening ") {
                break address.parse().unwrap();
            }
        };
        (Self { child, lines }, address)
    }

    /// CPU time of the server so far, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may hold anything, in parentheses: user and system time are fields 14 and 15 of all.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Ends the server and counts its warnings.
    fn warnings(mut self) -> usize {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest.matches("warning fanfare").count()
    }
}

#[test]
fn without_descriptors_it_waits_and_goes_on() {
    let (server, address) = Limited::start();
    let mut streams = Vec::new();
    // The system completes connections that nobody accepts, so only an answer tells that one was accepted.
    let mut waiting = loop {
        let mut client = Client::connect(address);
        client.send("GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n");
        if client.is_silent_for(Duration::from_millis(500)) {
            break client;
        }
        assert_eq!(client.head().status, 200);
        streams.push(client);
        assert!((streams.len() as u64) < DESCRIPTORS);
    };
    assert!(streams.len() > 10, "{} streams", streams.len());

    let before = server.ticks();
    assert!(waiting.is_silent_for(Duration::from_secs(1)));
    let spent = server.ticks() - before;
    assert!(spent <= 10, "{spent} ticks of 100 in a second of waiting");

    streams.truncate(streams.len() - 5);
    assert_eq!(waiting.head().status, 200);
    assert_eq!(server.warnings(), 1);
}
