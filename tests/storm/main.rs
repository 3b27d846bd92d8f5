//! Storms on real sockets, with processes that are killed: clients that vanish, clients that stop reading, a server that
//! dies under its clients, publishers that panic.
//!
//! This program starts itself again as a server or as a crowd of connections; what a child is to be is in its environment.
//! Nothing here checks times. `many_drop_at_once` prints some; it is run by hand:
//!
//! ```text
//! cargo test --release --features serve --test storm -- --ignored --nocapture
//! ```

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod child;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod server;

use std::env;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use child::{Child, Role};
use client::{Ledger, spawn_clients};
use common::eventually;
use tokio::runtime::Runtime;

/// Clients of the server that is killed.
const CLIENTS: usize = 1_000;
const KILLS: u64 = 3;
/// Events that every other life of the server has before they come back: more than one life gets to.
const AHEAD: u64 = 10_000;
/// Events that each client gets of each life of the server, at least.
const EVENTS: u64 = 5;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// What a child does. Does nothing in the process that runs the tests.
#[test]
fn child_process() {
    match Role::of_this_process() {
        Some(Role::Server(options)) => server::run(options),
        Some(Role::Crowd { address, count }) => crowd::run(address, count),
        None => {}
    }
}

fn check(ledgers: &[Arc<Ledger>]) {
    for (number, ledger) in ledgers.iter().enumerate() {
        if let Some(wrong) = ledger.wrong() {
            panic!("client {number}: {wrong}");
        }
    }
}

/// Waits until all clients have got some events more.
fn more_events(ledgers: &[Arc<Ledger>]) {
    let before: Vec<_> = ledgers.iter().map(|ledger| ledger.events()).collect();
    eventually("events for everybody", || {
        check(ledgers);
        let mut both = ledgers.iter().zip(&before);
        both.all(|(ledger, before)| ledger.events() >= before + EVENTS)
    });
}

fn a_server_dies(mode: &str) {
    let runtime = runtime();
    let mut server = Child::server(mode);
    let address = server.address();
    let ledgers = spawn_clients(&runtime, address, CLIENTS);
    more_events(&ledgers);
    for kill in 1..=KILLS {
        server.kill();
        // The ids that they come with lie in the future of the new life, or are of events that it has had as well.
        let ahead = if kill % 2 == 0 { 0 } else { AHEAD };
        server = Child::server_at(address, mode, ahead);
        eventually("the new life, announced to all", || {
            check(&ledgers);
            ledgers.iter().all(|ledger| ledger.unknown() == kill)
        });
        more_events(&ledgers);
    }
    check(&ledgers);
    assert!(ledgers.iter().all(|ledger| ledger.unknown() == KILLS));
}

#[test]
fn a_server_dies_under_its_clients_on_axum() {
    a_server_dies("axum");
}

#[test]
fn a_server_dies_under_its_clients_on_the_reactor() {
    a_server_dies("reactor");
}

/// Clients are killed, others stop reading; those who stay get everything.
fn clients_vanish(mode: &str) {
    const STAY: usize = 5;
    const SILENT: usize = 40;
    let runtime = runtime();
    let server = Child::server(mode);
    let address = server.address();
    let ledgers = spawn_clients(&runtime, address, STAY);
    more_events(&ledgers);
    for _ in 0..3 {
        let mut crowd = Child::crowd(address, 300);
        eventually("the crowd", || server.subscribers() == STAY + 300);
        crowd.kill();
        eventually("nothing left of those who were killed", || {
            server.subscribers() == STAY
        });
        more_events(&ledgers);
    }
    // Their hosts are gone, and nobody says so: they ask for much, and never read.
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|_| crowd::ask(address, "large").unwrap())
        .collect();
    eventually("those who never read", || {
        server.subscribers() == STAY + SILENT
    });
    server.command("large");
    more_events(&ledgers);
    if mode == "reactor" {
        eventually("the end of those who never read", || {
            server.subscribers() == STAY
        });
    }
    more_events(&ledgers);
    drop(silent);
    eventually("nothing left of those who never read", || {
        server.subscribers() == STAY
    });
    more_events(&ledgers);
}

#[test]
fn clients_vanish_on_axum() {
    clients_vanish("axum");
}

#[test]
fn clients_vanish_on_the_reactor() {
    clients_vanish("reactor");
}

/// Far more is published than the hub may keep, to clients of which some never read. It stays within its limit, and those who
/// are up to date with something else miss nothing.
fn memory_is_short(mode: &str) {
    const STAY: usize = 20;
    // What hyper has in hand for each of them, some 400 KB, must leave room for what goes on.
    const SILENT: usize = 3;
    let runtime = runtime();
    let server = Child::server(mode);
    let address = server.address();
    let ledgers = spawn_clients(&runtime, address, STAY);
    more_events(&ledgers);
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|_| crowd::ask(address, "large").unwrap())
        .collect();
    eventually("those who never read", || {
        server.subscribers() == STAY + SILENT
    });
    server.command("press");
    let pressed = server.line("pressed");
    drop(writeln!(io::stderr(), "{mode}: {pressed}"));
    assert!(pressed.starts_with("0 bytes over"), "{pressed}");
    more_events(&ledgers);
    // Somebody who comes now gets what goes on.
    let newcomers = spawn_clients(&runtime, address, STAY);
    more_events(&newcomers);
    drop(silent);
    eventually("nothing left of those who never read", || {
        server.subscribers() == 2 * STAY
    });
    check(&ledgers);
    check(&newcomers);
}

#[test]
fn memory_is_short_on_axum() {
    memory_is_short("axum-limited");
}

#[test]
fn memory_is_short_on_the_reactor() {
    memory_is_short("reactor-limited");
}

/// What publishers notice of 30,000 connections that drop at once. Three servers, for a process has 20,000 descriptors.
/// Meanwhile, and before, newcomers register and wait for their first event.
#[test]
#[ignore = "takes most of a machine; prints figures"]
fn many_drop_at_once() {
    const SERVERS: usize = 3;
    const ROUNDS: usize = 3;
    let count = env::var("FANFARE_STORM_CONNECTIONS").map_or(30_000, |it| it.parse().unwrap());
    let each = count / SERVERS;
    for mode in ["reactor", "axum"] {
        let servers: Vec<_> = (0..SERVERS).map(|_| Child::server(mode)).collect();
        for server in &servers {
            server.command("measure");
        }
        for round in 0..ROUNDS {
            let mut crowds: Vec<_> = servers
                .iter()
                .map(|server| Child::crowd(server.address(), each))
                .collect();
            for server in &servers {
                eventually("the crowd", || server.subscribers() >= each);
                // What was measured until now is the coming of the crowd.
                report(server);
            }
            let calm = with_newcomers(&servers, server::calm);
            let calm = (calm, servers.iter().map(report).collect::<Vec<_>>());
            let storm = with_newcomers(&servers, || {
                for crowd in &mut crowds {
                    crowd.begin_to_kill();
                }
                for server in &servers {
                    // But for newcomers who were there at the look.
                    eventually("nothing left", || server.subscribers() <= NEWCOMERS);
                }
            });
            let storm = (storm, servers.iter().map(report).collect::<Vec<_>>());
            let mut out = io::stderr().lock();
            for (what, (newcomers, figures)) in [("calm", calm), ("storm", storm)] {
                for line in figures {
                    drop(writeln!(out, "{mode}, round {round}, {what}: {line}"));
                }
                drop(writeln!(out, "{mode}, round {round}, {what}: {newcomers}"));
            }
        }
    }
}

fn report(server: &Child) -> String {
    server.command("report");
    server.line("figures")
}

/// At most so many newcomers of a server are counted when a look is taken: one, and those whose end is not seen yet.
const NEWCOMERS: usize = 20;

/// Registers at one server after the other, and waits for the first event, while `run` runs.
fn with_newcomers(servers: &[Child], run: impl FnOnce()) -> String {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let newcomers = scope.spawn(|| {
            let (mut came, mut longest) = (0, Duration::ZERO);
            let mut servers = servers.iter().cycle();
            let begin = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let server = servers.next().unwrap();
                let begin = Instant::now();
                crowd::first_event(crowd::ask(server.address(), "quick").unwrap());
                longest = longest.max(begin.elapsed());
                came += 1;
            }
            let took = begin.elapsed();
            format!("{came} newcomers in {took:?}, the longest waited {longest:?}")
        });
        run();
        stop.store(true, Ordering::Relaxed);
        newcomers.join().unwrap()
    })
}
