//! The example `prometheus`, as a scraper meets it: the built binary, real sockets, its page.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "common/example.rs"]
mod example;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far more than any step takes.
const BOUND: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let build = "cargo build --features metrics,tracing --example prometheus";
        let mut child = Command::new(example::binary("prometheus", build))
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut greeting).unwrap();
        let address = greeting.trim().strip_prefix("metrics on http://").unwrap();
        let address = address.strip_suffix("/metrics").unwrap().to_owned();
        Self { child, address }
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut page = String::new();
        self.ask(path).read_to_string(&mut page).unwrap();
        page
    }

    /// The page, once `condition` holds for it.
    fn metrics(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let page = self.get("/metrics");
            if condition(&page) {
                return page;
            }
            assert!(begin.elapsed() < BOUND, "never seen: {what}\n{page}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The value of a line that begins with `name`.
fn value(page: &str, name: &str) -> Option<f64> {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_scraper_reads_the_numbers_of_the_hub() {
    let server = Server::start();
    let page = server.metrics("the first page", |page| {
        value(page, "fanfare_subscribers ") == Some(0.0)
    });
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    assert!(
        page.contains("content-type: text/plain; version=0.0.4"),
        "{page}"
    );
    assert!(
        page.contains("# TYPE fanfare_published_events_total counter"),
        "{page}"
    );

    let mut stream = BufReader::new(server.ask("/events"));
    let mut line = String::new();
    while !line.starts_with("data:") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
    }
    let page = server.metrics("an event", |page| {
        value(page, "fanfare_published_events_total ") > Some(0.0)
    });
    assert_eq!(value(&page, "fanfare_subscribers "), Some(1.0), "{page}");
    assert_eq!(value(&page, "fanfare_topics "), Some(1.0), "{page}");
    assert_eq!(
        value(&page, "fanfare_subscribed_total "),
        Some(1.0),
        "{page}"
    );
    assert!(
        value(&page, "fanfare_published_bytes_total ") > Some(0.0),
        "{page}"
    );
    assert_eq!(
        value(&page, "fanfare_missed_events_total "),
        Some(0.0),
        "{page}"
    );
    assert_eq!(
        value(&page, "fanfare_ended_total{reason=\"evicted\"} "),
        Some(0.0),
        "{page}"
    );
    let health = server.get("/health");
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    assert!(health.contains("ok\n"), "{health}");

    drop(stream);
    server.metrics("the subscriber to leave", |page| {
        value(page, "fanfare_subscribers ") == Some(0.0)
    });
}
