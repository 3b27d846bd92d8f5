//! Many connections: stalled ones beside healthy ones, storms, evenness, a shutdown with thousands open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fanfare::{CloseReason, Event, Hub, Reactor};

use crate::common::eventually;
use crate::handle::returns;
#[cfg(target_os = "linux")]
use crate::handle::shard_threads;
use crate::net::{
    Client, Dice, Ended, Follower, HEAD, Loopback, Rig, affordable, alone, beside_others, publish,
};

/// Anonymous memory of this process.
#[cfg(target_os = "linux")]
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let kib = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

#[cfg(not(target_os = "linux"))]
fn memory_bytes() -> u64 {
    0
}

#[cfg(target_os = "linux")]
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

// ------------------------------------------------------------------------------------------------ stalled and healthy

/// The healthy ones have each event before the next is published, whatever the stalled ones do not take; and what is
/// kept for those is bounded by the retention and a frame each.
#[test]
fn stalled_clients_cost_the_healthy_ones_nothing() {
    const EVENTS: u64 = 60;
    const FRAME: usize = 1500;
    let _turn = alone();
    let each = affordable(2000) / 2;
    let hub = Hub::builder().retain_events(16).build().unwrap();
    let rig = Rig::with(Reactor::builder().shards(2).send_buffer_bytes(4096));
    let subscribe = || {
        let subscription = hub.subscribe("t").unwrap();
        let position = subscription.position();
        (subscription.into_sse(), position)
    };
    let mut stalled: Vec<_> = (0..each)
        .map(|_| {
            let (sse, position) = subscribe();
            Follower::new(rig.connect_small(sse), position)
        })
        .collect();
    let mut healthy: Vec<_> = (0..each)
        .map(|_| {
            let (sse, position) = subscribe();
            Follower::new(rig.connect(sse), position)
        })
        .collect();
    let rest = ".".repeat(FRAME);
    let round = |number: u64, healthy: &mut [Follower]| {
        publish(&hub, "t", &format!("p {number} {rest}"));
        for follower in healthy {
            follower.reach(number + 1);
        }
    };
    // Until then the clients of this test get their buffers, and the stalled ones become so.
    for number in 0..20 {
        round(number, &mut healthy);
    }
    let before = memory_bytes();
    for number in 20..20 + EVENTS {
        round(number, &mut healthy);
    }
    let grown = memory_bytes().saturating_sub(before);
    let bound = (each * (FRAME + 512) + 4 * 1024 * 1024) as u64;
    println!("{grown} bytes more, of {bound} that are allowed");
    assert!(grown <= bound);
    assert_eq!(rig.reactor.connections(), 2 * each);
    for follower in &healthy {
        assert_eq!((follower.events, follower.notices), (20 + EVENTS, 0));
    }
    // What did not fit into the system's buffers is gone, and each is told how much.
    for follower in &mut stalled {
        follower.reach(20 + EVENTS);
        assert!(follower.missed > 0);
    }
    // They are in sync again.
    let mut all = healthy;
    all.append(&mut stalled);
    round(20 + EVENTS, &mut all);
    drop(all);
    rig.emptied(&hub);
}

// ------------------------------------------------------------------------------------------------ storms

/// A client goes, in one of the ways in which clients go.
fn leave(mut follower: Follower, dice: &mut Dice) {
    match dice.roll(4) {
        0 => follower.client.reset(),
        1 => {
            let socket = &follower.client.socket;
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            follower.client.read_to_end();
            follower.check();
        }
        2 => {
            follower.client.read(1 + dice.roll(100));
        }
        _ => {}
    }
}

/// Clients come, read or do not, and go in every way, while two threads publish. What each one gets is checked to the
/// byte where it left.
#[test]
fn a_storm_loses_nothing_and_leaves_nothing() {
    const KEYS: [&str; 3] = ["a", "b", "c"];
    let _turn = beside_others();
    for (seed, shards, most) in [(11, 1, 300), (12, 3, 150)] {
        let hub = Hub::builder().retain_events(2000).build().unwrap();
        let rig = Rig::with(Reactor::builder().shards(shards).send_buffer_bytes(4096));
        let stop = AtomicBool::new(false);
        let clients_turns = AtomicU64::new(0);
        thread::scope(|scope| {
            for publisher in ["p", "q"] {
                let (hub, stop, clients_turns) = (&hub, &stop, &clients_turns);
                scope.spawn(move || {
                    let mut dice = Dice::new(publisher.len() as u64);
                    let topics = KEYS.map(|key| hub.topic(key).unwrap());
                    let mut number = 0_u64;
                    while !stop.load(Ordering::Acquire) {
                        for topic in &topics {
                            let rest = ".".repeat([0, 20, 300][dice.roll(3)]);
                            let text = format!("{publisher} {number} {rest}");
                            let _ = topic.publish(Event::text(&text)).unwrap();
                        }
                        number += 1;
                        // A few events for each turn of the clients: they are slower by far.
                        let turns = clients_turns.load(Ordering::Acquire);
                        eventually("the clients", || {
                            number < (turns + 1) * 4
                                || turns != clients_turns.load(Ordering::Acquire)
                                || stop.load(Ordering::Acquire)
                        });
                    }
                });
            }
            let mut dice = Dice::new(seed);
            let mut followers: Vec<Follower> = Vec::new();
            let (mut events, mut come) = (0, 0);
            while come < 1500 {
                for _ in 0..dice.roll(20) {
                    if followers.len() < most {
                        let key = KEYS[dice.roll(3)];
                        let subscription = hub.subscribe(key).unwrap();
                        let position = subscription.position();
                        let sse = subscription.into_sse();
                        let client = if dice.roll(3) == 0 {
                            rig.connect_small(sse)
                        } else {
                            rig.connect(sse)
                        };
                        followers.push(Follower::new(client, position));
                        come += 1;
                    }
                }
                for _ in 0..dice.roll(16) {
                    if followers.is_empty() {
                        break;
                    }
                    let at = dice.roll(followers.len());
                    let follower = followers.swap_remove(at);
                    events += follower.events;
                    leave(follower, &mut dice);
                }
                // Some read all, some a little, some nothing.
                for follower in &mut followers {
                    match dice.roll(4) {
                        0 => follower.read_all(),
                        1 => {
                            follower.client.read(1 + dice.roll(3000));
                            follower.check();
                        }
                        _ => {}
                    }
                }
                clients_turns.fetch_add(1, Ordering::Release);
            }
            stop.store(true, Ordering::Release);
            // Who is left gets the rest.
            let ends = KEYS.map(|key| hub.topic(key).unwrap());
            for follower in &mut followers {
                let position = follower.position();
                let end = ends
                    .iter()
                    .map(fanfare::Topic::position)
                    .find(|end| end.epoch() == position.epoch());
                eventually("the rest", || {
                    follower.read_all();
                    follower.at >= end.unwrap().offset()
                });
                events += follower.events;
            }
            assert!(events > 10_000, "{events}");
        });
        rig.emptied(&hub);
        let stats = rig.reactor.stats();
        assert_eq!(stats.closed_by_peer + stats.reset_by_peer, stats.adopted);
        assert_eq!(hub.topics(), 0);
    }
}

/// All join and leave one topic at once, again and again.
#[test]
fn waves_of_connections_get_what_is_published_while_they_are_there() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(2);
    let mut published = 0;
    for wave in 0..6 {
        let mut followers: Vec<_> = (0..300)
            .map(|number| {
                if number % 30 == 0 {
                    publish(&hub, "t", &format!("p {published}"));
                    published += 1;
                }
                Follower::follow(&rig, &hub, "t")
            })
            .collect();
        for _ in 0..3 {
            publish(&hub, "t", &format!("p {published}"));
            published += 1;
        }
        let last = followers[299].at + 3;
        for follower in &mut followers {
            follower.reach(last);
        }
        // Half of them go while there is something on the way to all.
        publish(&hub, "t", &format!("p {published}"));
        published += 1;
        for (number, follower) in followers.drain(..150).enumerate() {
            if (number + wave) % 2 == 0 {
                follower.client.reset();
            }
        }
        for follower in &mut followers {
            follower.reach(last + 1);
        }
        drop(followers);
        rig.emptied(&hub);
    }
}

// ------------------------------------------------------------------------------------------------ evenness

#[test]
fn connections_are_dealt_evenly_and_holes_are_filled_first() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(3);
    let spread = || {
        let shards = rig.reactor.connections_per_shard();
        shards.iter().max().unwrap() - shards.iter().min().unwrap()
    };
    let connections = affordable(1000) / 3 * 3;
    let connect = || rig.connect(hub.subscribe("t").unwrap().into_sse());
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect());
        assert!(spread() <= 1);
    }
    assert_eq!(rig.reactor.connections_per_shard(), [connections / 3; 3]);
    // In turn so far: all of one shard go.
    let (gone, mut rest): (Vec<_>, Vec<_>) = clients
        .into_iter()
        .enumerate()
        .partition(|(number, _)| number % 3 == 1);
    let gone: Vec<Client> = gone.into_iter().map(|(_, client)| client).collect();
    for client in gone {
        client.reset();
    }
    let third = connections / 3;
    eventually("one shard to be empty", || {
        rig.reactor.connections_per_shard() == [third, 0, third]
    });
    for _ in 0..third {
        rest.push((0, connect()));
    }
    assert_eq!(rig.reactor.connections_per_shard(), [third; 3]);
    // All of them are served, wherever they are.
    publish(&hub, "t", "all");
    for (_, client) in &mut rest {
        client.read_until_text("data: all\n\n");
    }
    drop(rest);
    rig.emptied(&hub);
}

#[test]
fn who_adopts_at_once_deals_evenly_too() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(4);
    let clients = thread::scope(|scope| {
        let adopt = || {
            let loopback = Loopback::new();
            let one = |_| {
                let sse = hub.subscribe("t").unwrap().into_sse();
                rig.adopt(loopback.pair(), HEAD, sse)
            };
            (0..100).map(one).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(adopt)).collect();
        let each = threads.into_iter().map(|thread| thread.join().unwrap());
        each.flatten().collect::<Vec<_>>()
    });
    let shards = rig.reactor.connections_per_shard();
    assert_eq!(shards.iter().sum::<usize>(), 400);
    // Each thread may have looked before the others dealt.
    assert!(
        shards.iter().all(|&shard| (97..=103).contains(&shard)),
        "{shards:?}"
    );
    drop(clients);
    rig.emptied(&hub);
}

// ------------------------------------------------------------------------------------------------ shutdown

#[cfg(target_os = "linux")]
#[test]
fn shutdown_with_thousands_open_closes_them_all() {
    let _turn = alone();
    let connections = affordable(9500);
    let hub = Hub::new();
    let files = open_files();
    let rig = Rig::new(3);
    let mut clients: Vec<_> = (0..connections)
        .map(|_| rig.connect(hub.subscribe("t").unwrap().into_sse()))
        .collect();
    publish(&hub, "t", "all");
    for client in &mut clients {
        client.read_until_text("data: all\n\n");
    }
    // On its way to some when the end comes.
    publish(&hub, "t", "last");
    let reactor = rig.reactor.clone();
    returns("the shutdown", move || reactor.shutdown());
    eventually("threads to end", || shard_threads().is_empty());
    assert_eq!((rig.reactor.connections(), hub.subscribers()), (0, 0));
    let stats = rig.reactor.stats();
    assert_eq!(stats.shut_down, connections as u64);
    for client in &mut clients {
        assert_eq!(client.read_to_end(), Ended::InOrder);
        assert_eq!(rig.reason(client.id()), Some(CloseReason::Shutdown));
    }
    drop((clients, rig));
    eventually("all files to be closed", || open_files() <= files);
}
