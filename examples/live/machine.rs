//! The demo topic: twice a second the machine says how it is (`host`) and what the engine does (`fanfare`).

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanfare::Event;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::{App, Rates};

/// The demo topic, named in the page and in the greeting as well.
pub(crate) const TOPIC: &str = "machine";

const PERIOD: Duration = Duration::from_millis(500);

/// Rates are taken over this many periods: long enough to be calm, short enough to follow.
const WINDOW_PERIODS: usize = 4;

/// Event `host`: what Linux tells in `/proc`.
#[derive(Debug, PartialEq, Serialize)]
struct Host {
    /// Load averages over 1, 5 and 15 minutes.
    load: [f64; 3],
    memory_available_mib: u64,
    memory_total_mib: u64,
}

/// Event `fanfare`: the engine's own throughput.
#[derive(Debug, Serialize)]
struct Own {
    /// Milliseconds since 1970.
    at: u64,
    #[serde(flatten)]
    rates: Rates,
    subscribers: usize,
    topics: usize,
    rss_bytes: Option<u64>,
}

/// Publishes until the hub is closed.
pub(crate) async fn speak(app: App, rates: watch::Sender<Rates>) {
    let mut samples = VecDeque::with_capacity(WINDOW_PERIODS + 1);
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = rate(&mut samples, app.totals());
        rates.send_replace(now);

        if let Some(host) = host()
            && app.publish(TOPIC, Event::json(&host).name("host")).is_err()
        {
            return;
        }
        let own = Own {
            at: unix_millis(),
            rates: now,
            subscribers: app.hub().subscribers(),
            topics: app.hub().topics(),
            rss_bytes: resident_bytes(),
        };
        if app
            .publish(TOPIC, Event::json(&own).name("fanfare"))
            .is_err()
        {
            return;
        }
    }
}

/// Adds a sample of the totals (events, deliveries) and gives the rates since the oldest one kept.
fn rate(samples: &mut VecDeque<(Instant, (u64, u64))>, totals: (u64, u64)) -> Rates {
    let now = Instant::now();
    samples.push_back((now, totals));
    if samples.len() > WINDOW_PERIODS + 1 {
        samples.pop_front();
    }
    let Some(&(then, oldest)) = samples.front() else {
        return Rates::default();
    };
    let elapsed = now - then;
    Rates {
        published_per_s: per_second(totals.0 - oldest.0, elapsed),
        deliveries_per_s: per_second(totals.1 - oldest.1, elapsed),
    }
}

/// To one decimal; zero when no time has passed.
fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    (count / elapsed.as_secs_f64() * 10.0).round() / 10.0
}

fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `None` where there is no `/proc`. Reading it copies from memory and waits for no device.
fn host() -> Option<Host> {
    let load = load(&fs::read_to_string("/proc/loadavg").ok()?)?;
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    Some(Host {
        load,
        memory_available_mib: kibibytes(&memory, "MemAvailable:")? / 1024,
        memory_total_mib: kibibytes(&memory, "MemTotal:")? / 1024,
    })
}

/// Resident memory of this process, where `/proc` tells it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&status, "VmRSS:").map(|kib| kib * 1024)
}

/// The first three fields of `/proc/loadavg`.
fn load(text: &str) -> Option<[f64; 3]> {
    let mut fields = text
        .split_ascii_whitespace()
        .map(|field| field.parse().ok());
    Some([fields.next()??, fields.next()??, fields.next()??])
}

/// The number of a line such as `MemTotal:       25274792 kB`.
fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
