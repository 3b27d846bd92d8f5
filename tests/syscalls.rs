//! How many system calls a delivery of the reactor takes, as strace counts them: one send, and next to nothing beside it.
//!
//! `calls_per_delivery` starts this program again under strace, with the test `stage` alone, and reads what the thread of
//! the shard did between the marks that `stage` leaves in the trace. Where strace is missing, or may not trace, it says so
//! and nothing is counted; with `FANFARE_STRACE=required` that is an error: `ci/syscalls.sh`.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

mod common;

#[allow(dead_code, reason = "the tests of the reactor use the rest")]
#[path = "reactor/net.rs"]
mod net;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::{env, fs};

use fanfare::{Envelope, Hub};

use crate::net::{Client, Rig, publish};

/// Connections that get the events, and as many that do not. More than the shard serves in one go.
const CONNECTIONS: u64 = 200;
/// Events of a phase.
const EVENTS: u64 = 10;
const BACKLOG: u64 = 16;

/// The phases of `stage`, each between two marks.
const SINGLE: &str = "single";
const BURST: &str = "burst";
const OWN_TOPICS: &str = "own-topics";
const WRAPPED: &str = "wrapped";
/// The publishes of `SINGLE`, without the waits between them.
const PUBLISH: &str = "publish";

// ---------------------------------------------------------------------------------------------------------- the stage

/// Leaves a mark in the trace: a look for a file that is not there.
fn mark(phase: &str, edge: &str) {
    assert!(fs::metadata(format!("/fanfare-mark/{phase}/{edge}")).is_err());
}

fn phase<R>(name: &str, run: impl FnOnce() -> R) -> R {
    mark(name, "begin");
    let result = run();
    mark(name, "end");
    result
}

fn all_read_until(clients: &mut [Client], text: &str) {
    for client in clients {
        client.read_until_text(text);
        client.received.clear();
    }
}

#[test]
#[ignore = "runs under strace, started by `calls_per_delivery`"]
fn stage() {
    let rig = Rig::new(1);
    let hub = Hub::builder().event_ids(false).build().unwrap();
    let connect = |key: &str| {
        let mut client = rig.connect(hub.subscribe(key).unwrap().into_sse());
        client.read_until_text(":\n\n");
        client.received.clear();
        client
    };
    let mut busy: Vec<_> = (0..CONNECTIONS).map(|_| connect("busy")).collect();
    let mut quiet: Vec<_> = (0..CONNECTIONS).map(|_| connect("quiet")).collect();
    let mut wrapped: Vec<_> = (0..CONNECTIONS)
        .map(|id| {
            let envelope = Envelope::new(format!("{{\"id\":{id},\"result\":"), "}").unwrap();
            let subscription = hub.subscribe("wrapped").unwrap().envelope(envelope);
            let mut client = rig.connect(subscription.into_sse());
            client.read_until_text(":\n\n");
            client.received.clear();
            client
        })
        .collect();
    let mut own: Vec<_> = (0..CONNECTIONS)
        .map(|user| connect(&format!("user {user}")))
        .collect();
    // The first event of a topic begins its log.
    publish(&hub, "busy", "first");
    all_read_until(&mut busy, "data: first\n\n");

    phase(SINGLE, || {
        for n in 0..EVENTS {
            let text = format!("event {n}");
            phase(PUBLISH, || publish(&hub, "busy", &text));
            all_read_until(&mut busy, &format!("data: {text}\n\n"));
        }
    });

    for _ in 0..EVENTS {
        let held = rig.hold();
        phase(BURST, || {
            for n in 0..BACKLOG {
                publish(&hub, "busy", &format!("of many {n}"));
            }
            drop(held);
            let last = format!("data: of many {}\n\n", BACKLOG - 1);
            all_read_until(&mut busy, &last);
        });
    }

    publish(&hub, "wrapped", "first");
    all_read_until(&mut wrapped, "first}\n\n");
    for _ in 0..EVENTS {
        let held = rig.hold();
        phase(WRAPPED, || {
            for n in 0..BACKLOG {
                publish(&hub, "wrapped", &format!("{n}"));
            }
            drop(held);
            let last = format!("\"result\":{}}}\n\n", BACKLOG - 1);
            all_read_until(&mut wrapped, &last);
        });
    }

    phase(OWN_TOPICS, || {
        for (user, client) in own.iter_mut().enumerate() {
            publish(&hub, &format!("user {user}"), "yours");
            client.read_until_text("data: yours\n\n");
        }
    });

    for client in &mut quiet {
        client.read_all();
        assert!(client.received.is_empty(), "nothing was sent to the others");
    }
}

// ---------------------------------------------------------------------------------------------------------- the trace

/// System calls by name.
type Calls = BTreeMap<String, u64>;

/// What two threads did in each phase.
#[derive(Debug, Default)]
struct Trace {
    shard: BTreeMap<String, Calls>,
    stage: BTreeMap<String, Calls>,
}

/// Runs `stage` under strace. The error says why that cannot be done here.
fn trace() -> Result<String, String> {
    let file = env::temp_dir().join(format!("fanfare-syscalls.{}", std::process::id()));
    let run = Command::new("strace")
        .args(["-f", "-qq", "-s", "64", "-e", "signal=none", "-o"])
        .arg(&file)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "stage", "--ignored", "--test-threads", "1"])
        .stdin(Stdio::null())
        .output();
    let text = fs::read_to_string(&file);
    // It may not have been written.
    drop(fs::remove_file(&file));
    let output = run.map_err(|error| format!("strace cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // Whatever strace prints when it may not trace, the stage was not entered then.
    if !said.contains("running 1 test") {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    assert!(output.status.success(), "the stage failed:\n{said}");
    Ok(text.unwrap())
}

/// Lines are `THREAD CALL(…) = …`, or `THREAD CALL(… <unfinished ...>` and later `THREAD <... CALL resumed>…`, which is
/// no call of its own.
fn read(text: &str) -> Trace {
    let shard = text
        .lines()
        .find(|line| line.contains("prctl(PR_SET_NAME, \"fanfare-shard-0\""));
    let thread_of = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
    let shard = shard.and_then(thread_of).expect("the shard has a name");
    let mut trace = Trace::default();
    let mut phases: Vec<String> = Vec::new();
    let mut stage = None;
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let call = call.trim_start();
        if let Some((_, mark)) = call.split_once("\"/fanfare-mark/") {
            let mark = mark.split('"').next().unwrap_or_default();
            match mark.split_once('/').unwrap() {
                (name, "begin") => phases.push(name.to_owned()),
                _ => drop(phases.pop()),
            }
            stage = Some(thread.to_owned());
            continue;
        }
        let Some((name, _)) = call.split_once('(') else {
            continue;
        };
        if name.starts_with('<') {
            continue;
        }
        let by_phase = if thread == shard {
            &mut trace.shard
        } else if stage.as_deref() == Some(thread) {
            &mut trace.stage
        } else {
            continue;
        };
        for phase in &phases {
            let calls = by_phase.entry(phase.clone()).or_default();
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(phases.is_empty(), "each mark has its end");
    trace
}

fn of(calls: &Calls, names: &[&str]) -> u64 {
    names.iter().filter_map(|&name| calls.get(name)).sum()
}

const SENDS: [&str; 5] = ["sendto", "sendmsg", "sendmmsg", "write", "writev"];
const POLLS: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

#[test]
fn calls_per_delivery() {
    let text = match trace() {
        Ok(text) => text,
        Err(why) => {
            let required = env::var("FANFARE_STRACE").is_ok_and(|set| set == "required");
            assert!(!required, "{why}");
            println!("no system calls were counted: {why}");
            return;
        }
    };
    let trace = read(&text);
    for (name, calls) in &trace.shard {
        println!("{name}: the shard's calls: {calls:?}");
    }
    // With each wake-up: the poll that wakes it, and one for each turn, of 128 sends, before the last; now and then memory.
    let few = |wakes: u64| 3 * wakes + 10;
    let check = |phase: &str, sends: u64, wakes: u64| {
        let calls = &trace.shard[phase];
        assert_eq!(
            of(calls, &SENDS),
            sends,
            "{phase}: one send per socket: {calls:?}"
        );
        assert!(of(calls, &POLLS) <= few(wakes), "{phase}: {calls:?}");
        let all: u64 = calls.values().sum();
        let rest = all - of(calls, &SENDS) - of(calls, &POLLS);
        assert!(rest <= few(wakes), "{phase}: {calls:?}");
        // Sockets are watched once, when they come.
        calls.get("epoll_ctl").copied().unwrap_or(0)
    };
    // Nothing is sent to those who follow another topic, nor looked at.
    assert_eq!(check(SINGLE, EVENTS * CONNECTIONS, EVENTS), 0);
    // A backlog goes out in one call, however many events it is.
    check(BURST, EVENTS * CONNECTIONS, EVENTS);
    // Nor does it take more if each connection has an envelope of its own.
    check(WRAPPED, EVENTS * CONNECTIONS, EVENTS);
    assert_eq!(check(OWN_TOPICS, CONNECTIONS, CONNECTIONS), 0);

    // The publisher wakes the shard, and the first one the hub's clock.
    let publishes = trace.stage.get(PUBLISH).cloned().unwrap_or_default();
    println!("publish: the publisher's calls: {publishes:?}");
    assert!(of(&publishes, &["write"]) <= EVENTS, "{publishes:?}");
    assert!(
        publishes.values().sum::<u64>() <= EVENTS + 4,
        "{publishes:?}"
    );
}
