//! What a run found: the figures, the verdict, the table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::ledger::Account;
use crate::reason::Reasons;

/// All of it, as it is written with `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) settings: Settings,
    pub(crate) machine: String,
    pub(crate) connections: Connections,
    /// `null` if the run only listened.
    pub(crate) published: Option<Publishing>,
    pub(crate) deliveries: Deliveries,
    /// From just before the POST to when the bytes were parsed, in microseconds. Without slow connections.
    pub(crate) latency_us: Percentiles,
    /// `null` if there were none.
    pub(crate) slow: Option<Slow>,
    /// `null` without `--pid`.
    pub(crate) server: Option<Server>,
    /// This program, in percent of a core; near 100 for each thread it is what was measured.
    pub(crate) swarm_cpu_percent: Option<f64>,
    pub(crate) series: Vec<Point>,
    /// Pairs of a percentile and microseconds.
    pub(crate) latency_curve: Vec<(f64, f64)>,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) connections: usize,
    pub(crate) paths: u32,
    pub(crate) threads: usize,
    pub(crate) publish: Option<String>,
    pub(crate) rate: f64,
    pub(crate) burst: usize,
    pub(crate) size: usize,
    pub(crate) slow: f64,
    pub(crate) slow_rate: u32,
    pub(crate) reconnect: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) asked: usize,
    pub(crate) opened: usize,
    /// Not tried, as all before had failed.
    pub(crate) untried: u64,
    /// Until the last had its response head or had failed.
    pub(crate) seconds: f64,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) ended_early: BTreeMap<String, u64>,
    pub(crate) reconnects: u64,
    /// From the connect to the response head, in microseconds.
    pub(crate) connect_us: Percentiles,
}

#[derive(Debug, Serialize)]
pub(crate) struct Publishing {
    pub(crate) taken: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    /// Of what was taken, while it was published.
    pub(crate) per_second: f64,
    /// From the request to the end of the answer, in microseconds.
    pub(crate) answer_us: Percentiles,
    /// How far publishing was behind its schedule, at most.
    pub(crate) behind_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Deliveries {
    /// Events of this run that came, repeated ones too.
    pub(crate) total: u64,
    pub(crate) per_second: f64,
    /// Events that this run did not publish.
    pub(crate) foreign: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_second: f64,
    /// The time that the rates are over.
    pub(crate) seconds: f64,
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) duplicates: u64,
    /// Events of another path.
    pub(crate) misrouted: u64,
    /// Connections that had any of these.
    pub(crate) faulty_connections: u64,
    /// Events that connections did not get because they had ended.
    pub(crate) cut_off: u64,
    pub(crate) ids_repeated: u64,
    pub(crate) ids_backward: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Slow {
    pub(crate) connections: u64,
    pub(crate) deliveries: u64,
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) duplicates: u64,
    /// Streams that the server ended.
    pub(crate) ended: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) user_percent: f64,
    pub(crate) system_percent: f64,
    /// User and system time for each delivery, slow ones too.
    pub(crate) us_per_delivery: Option<f64>,
    /// Before the first connection, with all of them open, and at the end.
    pub(crate) resident_before: u64,
    pub(crate) resident_open: u64,
    pub(crate) resident_end: u64,
    /// The difference of the first two, for each connection.
    pub(crate) bytes_per_connection: Option<f64>,
}

/// One moment of the run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Point {
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Verdict {
    pub(crate) ok: bool,
    /// Why not, in words.
    pub(crate) faults: Vec<String>,
    /// What else one should know.
    pub(crate) notes: Vec<String>,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
        }
    }
}

/// Reasons as they are shown.
pub(crate) fn texts(reasons: &Reasons) -> BTreeMap<String, u64> {
    let text = |(reason, &count): (&crate::reason::Reason, &u64)| (reason.to_string(), count);
    reasons.iter().map(text).collect()
}

/// The reasons, the most frequent first, each with what can be done about it.
pub(crate) fn explain(reasons: &Reasons) -> String {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|&(_, &count)| std::cmp::Reverse(count));
    let shown = sorted.iter().take(3).map(|&(reason, &count)| {
        let advice = reason.advice().map(|advice| format!(" ({advice})"));
        format!("{} × {reason}{}", group(count), advice.unwrap_or_default())
    });
    let mut shown: Vec<String> = shown.collect();
    if sorted.len() > 3 {
        shown.push(format!("{} other reasons", sorted.len() - 3));
    }
    shown.join("; ")
}

impl Deliveries {
    pub(crate) fn account(&mut self, account: Account) {
        self.lost = account.lost;
        self.out_of_order = account.out_of_order;
        self.duplicates = account.duplicates;
        self.faulty_connections = account.faulty;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        writeln!(f, "swarm {}", self.url)?;
        if let Some(publish) = &settings.publish {
            let rate = match settings.rate {
                rate if rate > 0.0 => format!("{rate} events/s, {} at a time", settings.burst),
                _ => "as fast as answered".to_owned(),
            };
            writeln!(
                f,
                "publishing to {publish}: {rate}, {} bytes",
                settings.size
            )?;
        }
        writeln!(f, "{}\n", self.machine)?;
        for (name, value) in self.rows() {
            writeln!(f, "  {name:<22} {value}")?;
        }
        writeln!(f)?;
        for note in &self.verdict.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.verdict.ok {
            let what = if self.slow.is_some() {
                "every connection that is not slow got every event, once and in order"
            } else if self.published.is_some() {
                "every connection got every event, once and in order"
            } else {
                "no connection failed; without --publish neither loss nor latency can be seen"
            };
            return writeln!(f, "OK: {what}");
        }
        for fault in &self.verdict.faults {
            writeln!(f, "FAULT: {fault}")?;
        }
        Ok(())
    }
}

impl Report {
    /// The table: names and values.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        let connections = &self.connections;
        let mut text = format!(
            "{} of {} opened in {:.2} s",
            group(connections.opened as u64),
            group(connections.asked as u64),
            connections.seconds
        );
        if settings_many(&self.settings) {
            let _ = write!(text, ", over {} paths", group(self.settings.paths.into()));
        }
        rows.push(("connections", text));
        rows.push(("connect to head", connections.connect_us.to_string()));
        for (reason, count) in &connections.failed {
            rows.push(("  failed", format!("{} × {reason}", group(*count))));
        }
        for (reason, count) in &connections.ended_early {
            rows.push(("  ended early", format!("{} × {reason}", group(*count))));
        }
        if self.settings.reconnect {
            rows.push(("  reconnects", group(connections.reconnects)));
        }
        if let Some(published) = &self.published {
            let rate = published.per_second;
            let text = format!("{} events, {rate:.1}/s", group(published.taken));
            rows.push(("published", text));
            rows.push(("publish to answer", published.answer_us.to_string()));
            for (reason, count) in &published.failed {
                rows.push(("  not taken", format!("{} × {reason}", group(*count))));
            }
        }
        self.delivery_rows(&mut rows);
        self.server_rows(&mut rows);
        rows
    }

    fn delivery_rows(&self, rows: &mut Vec<(&'static str, String)>) {
        let it = &self.deliveries;
        if self.published.is_some() {
            let text = format!("{} in {:.2} s", group(it.total), it.seconds);
            rows.push(("deliveries", text));
            rows.push(("  per second", group(whole(it.per_second))));
            rows.push(("latency", self.latency_us.to_string()));
            let text = format!(
                "{} lost, {} out of order, {} twice",
                group(it.lost),
                group(it.out_of_order),
                group(it.duplicates)
            );
            rows.push(("checked", text));
            if it.foreign > 0 {
                rows.push(("events of others", group(it.foreign)));
            }
        } else {
            let text = format!(
                "{} in {:.2} s, {}/s",
                group(it.foreign),
                it.seconds,
                group(whole(it.per_second))
            );
            rows.push(("events", text));
            let (repeated, backward) = (group(it.ids_repeated), group(it.ids_backward));
            rows.push(("ids", format!("{repeated} repeated, {backward} backward")));
        }
        if it.cut_off > 0 {
            rows.push((
                "after their end",
                format!("{} events not received", group(it.cut_off)),
            ));
        }
        let text = format!(
            "{}, {}/s",
            bytes(it.bytes),
            bytes(whole(it.bytes_per_second))
        );
        rows.push(("bytes", text));
        if let Some(slow) = &self.slow {
            let text = format!(
                "{} connections: {} deliveries, {} missed, {} out of order, {} twice, {} ended by the server",
                group(slow.connections),
                group(slow.deliveries),
                group(slow.lost),
                group(slow.out_of_order),
                group(slow.duplicates),
                group(slow.ended)
            );
            rows.push(("slow", text));
        }
    }

    fn server_rows(&self, rows: &mut Vec<(&'static str, String)>) {
        if let Some(server) = &self.server {
            let (user, system) = (server.user_percent, server.system_percent);
            let mut text = format!("{user:.0} % user, {system:.0} % system of a core");
            if let Some(each) = server.us_per_delivery {
                let _ = write!(text, "; {each:.2} µs per delivery");
            }
            rows.push(("server CPU", text));
            let mut text = format!(
                "{} before, {} with all connections, {} at the end",
                bytes(server.resident_before),
                bytes(server.resident_open),
                bytes(server.resident_end)
            );
            if let Some(each) = server.bytes_per_connection {
                let _ = write!(text, "; {} per connection", bytes(whole(each.max(0.0))));
            }
            rows.push(("server memory", text));
        }
        if let Some(percent) = self.swarm_cpu_percent {
            rows.push(("swarm CPU", format!("{percent:.0} % of a core")));
        }
    }
}

fn settings_many(settings: &Settings) -> bool {
    settings.paths > 1
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("-");
        }
        let time = |micros: f64| time(whole(micros * 1000.0));
        let (p50, p90, p99) = (time(self.p50), time(self.p90), time(self.p99));
        let (p999, max) = (time(self.p999), time(self.max));
        write!(
            f,
            "p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}"
        )
    }
}

/// A time with the unit that suits it.
pub(crate) fn time(nanos: u64) -> String {
    match float(nanos) {
        nanos if nanos < 1e6 => format!("{:.0} µs", nanos / 1e3),
        nanos if nanos < 1e7 => format!("{:.2} ms", nanos / 1e6),
        nanos if nanos < 1e9 => format!("{:.1} ms", nanos / 1e6),
        nanos => format!("{:.2} s", nanos / 1e9),
    }
}

/// A number of bytes with the unit that suits it.
fn bytes(bytes: u64) -> String {
    match float(bytes) {
        bytes if bytes < 1e4 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.2} GB", bytes / 1e9),
    }
}

/// With a comma between thousands.
pub(crate) fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn micros(nanos: u64) -> f64 {
    float(nanos) / 1000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people: exact up to 2^53, which no run reaches"
)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a figure for people: positive, and saturates"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// How many each second; nothing in no time.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    float(count) / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(group(0), "0");
        assert_eq!(group(999), "999");
        assert_eq!(group(1_234_567), "1,234,567");
        assert_eq!(time(999_000), "999 µs");
        assert_eq!(time(1_500_000), "1.50 ms");
        assert_eq!(time(2_500_000_000), "2.50 s");
        assert_eq!(bytes(68), "68 B");
        assert_eq!(bytes(25_000_000), "25.0 MB");
    }
}
