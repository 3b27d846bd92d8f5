//! From what was found to what is said about it.

use std::fs;
use std::time::Duration;

use crate::report::{
    Connections, Deliveries, Percentiles, Publishing, Report, Server, Settings, Slow, Verdict,
    explain, float, group, micros, rate, texts,
};
use crate::run::Found;
use crate::shared::Plan;

/// Publishing that is so far behind is not the rate that was asked for.
const LATE: Duration = Duration::from_millis(500);

/// The shares of a core from which on this program may be what limits a run.
const BUSY_PERCENT: f64 = 90.0;

pub(crate) fn report(plan: &Plan, found: Found) -> Report {
    let options = &plan.options;
    let verdict = judge(plan, &found);
    let outcome = &found.outcome;
    let tally = &found.tally;
    // A run that listens has no last delivery.
    let seconds = if plan.listens() {
        found.publishing
    } else {
        found.delivering
    };
    let total = tally.deliveries + tally.slow_deliveries;
    let shown = if plan.listens() {
        tally.foreign
    } else {
        tally.deliveries
    };
    let mut deliveries = Deliveries {
        total: tally.deliveries,
        per_second: rate(shown, seconds),
        foreign: tally.foreign,
        bytes: tally.bytes,
        bytes_per_second: rate(tally.bytes, seconds),
        seconds: seconds.as_secs_f64(),
        lost: 0,
        out_of_order: 0,
        duplicates: 0,
        misrouted: tally.misrouted,
        faulty_connections: 0,
        cut_off: outcome.cut_off,
        ids_repeated: tally.ids_repeated,
        ids_backward: tally.ids_backward,
    };
    deliveries.account(outcome.account);
    Report {
        url: format!(
            "http://{}{}",
            plan.targets.stream.authority,
            plan.targets.stream.pattern()
        ),
        settings: Settings {
            connections: options.connections,
            paths: plan.targets.paths,
            threads: options.threads,
            publish: plan
                .targets
                .publish
                .as_ref()
                .map(|url| url.pattern().to_owned()),
            rate: options.rate,
            burst: options.burst,
            size: options.size,
            slow: options.slow,
            slow_rate: options.slow_rate,
            reconnect: options.reconnect,
        },
        machine: machine(),
        connections: Connections {
            asked: options.connections,
            opened: found.opened,
            untried: outcome.untried,
            seconds: found.opening.as_secs_f64(),
            failed: texts(&outcome.failures),
            ended_early: texts(&outcome.ends),
            reconnects: outcome.reconnects,
            connect_us: Percentiles::of(&tally.connect),
        },
        published: found.published.as_ref().map(|published| Publishing {
            taken: published.taken,
            failed: texts(&published.failures),
            per_second: rate(published.taken, found.publishing),
            answer_us: Percentiles::of(&published.answer),
            behind_seconds: published.behind.as_secs_f64(),
        }),
        deliveries,
        latency_us: Percentiles::of(&tally.latency),
        slow: (options.slow > 0.0).then_some(Slow {
            connections: outcome.slow_connections,
            deliveries: tally.slow_deliveries,
            lost: outcome.slow.lost,
            out_of_order: outcome.slow.out_of_order,
            duplicates: outcome.slow.duplicates,
            ended: outcome.slow_ended,
        }),
        server: server(&found, total),
        swarm_cpu_percent: swarm_cpu_percent(&found),
        latency_curve: curve(&found),
        series: found.series,
        verdict,
    }
}

fn judge(plan: &Plan, found: &Found) -> Verdict {
    let mut faults = Vec::new();
    let mut notes = Vec::new();
    let outcome = &found.outcome;
    let asked = plan.options.connections;
    if found.opened < asked {
        let mut text = format!(
            "{} of {} connections got no stream: {}",
            group((asked - found.opened) as u64),
            group(asked as u64),
            explain(&outcome.failures)
        );
        if outcome.untried > 0 {
            text.push_str("; the rest was not tried");
        }
        faults.push(text);
    }
    if !outcome.ends.is_empty() {
        let ended = outcome.ends.values().sum::<u64>();
        if plan.options.reconnect {
            notes.push(format!(
                "{} streams or reconnects ended or failed, and {} streams were opened again",
                group(ended),
                group(outcome.reconnects)
            ));
        } else if ended == outcome.slow_ended && !plan.options.count_slow {
            notes.push(format!(
                "the server ended {} slow connections",
                group(ended)
            ));
        } else {
            let why = explain(&outcome.ends);
            faults.push(format!("streams ended before the run did: {why}"));
        }
    }
    judge_publishing(plan, found, &mut faults, &mut notes);
    judge_deliveries(plan, found, &mut faults);
    let missed = outcome.account.lost + outcome.slow.lost;
    if missed > 0 && found.tally.foreign > 0 {
        notes.push(format!(
            "{} events came that this run did not publish; with such an event a server may tell that a connection was too slow \
             for what it keeps, as fanfare does",
            group(found.tally.foreign)
        ));
    }
    let percent = swarm_cpu_percent(found).unwrap_or_default();
    let threads = u32::try_from(plan.options.threads).unwrap_or(u32::MAX);
    if percent > BUSY_PERCENT * f64::from(threads) {
        notes.push(format!(
            "this program used {percent:.0} % of a core: it may be what limits the figures; --threads adds readers"
        ));
    }
    Verdict {
        ok: faults.is_empty(),
        faults,
        notes,
    }
}

fn judge_publishing(plan: &Plan, found: &Found, faults: &mut Vec<String>, notes: &mut Vec<String>) {
    let Some(published) = &found.published else {
        return;
    };
    let failed: u64 = published.failures.values().sum();
    if published.taken == 0 {
        let why = explain(&published.failures);
        faults.push(format!("no event could be published: {why}"));
        return;
    }
    if failed > 0 {
        notes.push(format!(
            "{} events were not taken: {}. Answers of 300 to 499 and failed connects do not count as published; after 5xx and \
             broken connections nobody knows, so these events are not missed",
            group(failed),
            explain(&published.failures)
        ));
    }
    if plan.options.rate > 0.0 && published.behind > LATE {
        notes.push(format!(
            "publishing was up to {:.1} s behind its schedule: the server answers more slowly than --rate asks",
            published.behind.as_secs_f64()
        ));
    }
    if found.tally.deliveries + found.tally.slow_deliveries == 0 && found.opened > 0 {
        let foreign = found.tally.foreign;
        faults.push(if foreign > 0 {
            format!(
                "none of the {} events that came has the stamp of this run: does the server pass the body of a POST on as it is?",
                group(foreign)
            )
        } else {
            "no event came: does --publish feed what the URL streams?".to_owned()
        });
    }
}

fn judge_deliveries(plan: &Plan, found: &Found, faults: &mut Vec<String>) {
    let mut account = found.outcome.account;
    if plan.options.count_slow {
        account += found.outcome.slow;
    } else {
        account.duplicates += found.outcome.slow.duplicates;
        account.out_of_order += found.outcome.slow.out_of_order;
    }
    let on = format!("on {} connections", group(account.faulty));
    for (count, what) in [
        (
            account.lost,
            "LOSS: {} events were published and did not come",
        ),
        (
            account.out_of_order,
            "ORDER: {} events came after a later one",
        ),
        (
            account.duplicates,
            "DUPLICATES: {} events came more than once",
        ),
    ] {
        if count > 0 {
            faults.push(format!("{}, {on}", what.replace("{}", &group(count))));
        }
    }
    if found.tally.misrouted > 0 {
        faults.push(format!(
            "PATHS: {} events came on a path that they were not published to",
            group(found.tally.misrouted)
        ));
    }
    for (count, what) in [
        (found.tally.ids_repeated, "were the id before again"),
        (found.tally.ids_backward, "were less than the id before"),
    ] {
        if count > 0 && plan.listens() {
            faults.push(format!("IDS: {} ids {what}", group(count)));
        }
    }
}

fn server(found: &Found, deliveries: u64) -> Option<Server> {
    let [before, open, end] = found.samples?;
    let seconds = found.measured.as_secs_f64().max(1e-9);
    let user = end.user_seconds - open.user_seconds;
    let system = end.system_seconds - open.system_seconds;
    let grown = float(open.resident_bytes) - float(before.resident_bytes);
    Some(Server {
        user_percent: 100.0 * user / seconds,
        system_percent: 100.0 * system / seconds,
        us_per_delivery: (deliveries > 0).then(|| (user + system) * 1e6 / float(deliveries)),
        resident_before: before.resident_bytes,
        resident_open: open.resident_bytes,
        resident_end: end.resident_bytes,
        bytes_per_connection: (found.opened > 0).then(|| grown / float(found.opened as u64)),
    })
}

fn swarm_cpu_percent(found: &Found) -> Option<f64> {
    let [begin, end] = found.own?;
    let used = end.user_seconds + end.system_seconds - begin.user_seconds - begin.system_seconds;
    Some(100.0 * used / found.measured.as_secs_f64().max(1e-9))
}

/// Percentiles at even steps of their odds, up to the last that one event decides.
fn curve(found: &Found) -> Vec<(f64, f64)> {
    let latency = &found.tally.latency;
    if latency.is_empty() {
        return Vec::new();
    }
    let most = float(latency.len()).log10().min(6.0);
    let steps = (0..=120_u32).map(|step| most * f64::from(step) / 120.0);
    let quantiles = steps.map(|exponent| 1.0 - 10_f64.powf(-exponent));
    let point = |quantile| {
        (
            100.0 * quantile,
            micros(latency.value_at_quantile(quantile)),
        )
    };
    quantiles.map(point).collect()
}

/// The processor, the cores and the system.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!(
        "{}, {cores} usable cores, {os} {} ({arch}), swarm of fanfare {}",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
}
