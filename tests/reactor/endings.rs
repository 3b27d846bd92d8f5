//! How connections end: which reason is told, what the client sees, and that nothing of them stays.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare::{CloseReason, EndReason, Hub, Reactor};

use crate::common::{Got, event, events, eventually};
use crate::net::{Client, Ended, Follower, HEAD, Rig, beside_others, publish};

/// A client that is behind: the system's buffers are full.
fn stalled(rig: &Rig, hub: &Hub) -> Client {
    let client = rig.connect_small(hub.subscribe("t").unwrap().into_sse());
    publish(hub, "t", &"x".repeat(200_000));
    client
}

fn small_buffers() -> Rig {
    Rig::with(Reactor::builder().shards(1).send_buffer_bytes(4096))
}

// ------------------------------------------------------------------------------------------------ by the client

#[test]
fn a_client_that_goes_is_noticed_without_a_publish() {
    let _turn = beside_others();
    for behind in [false, true] {
        let hub = Hub::new();
        let rig = small_buffers();
        let connect = || {
            if behind {
                return stalled(&rig, &hub);
            }
            let mut client = rig.connect(hub.subscribe("t").unwrap().into_sse());
            client.read_until_text(":\n\n");
            client
        };
        // A stream that is read to the end needs no more: the other direction is closed too.
        for _ in 0..5 {
            let mut client = connect();
            client.socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rig.ended(client.id()), CloseReason::PeerClosed);
            assert_eq!(client.read_to_end(), Ended::InOrder);
        }
        for _ in 0..5 {
            let client = connect();
            let id = client.id();
            client.reset();
            assert_eq!(rig.ended(id), CloseReason::PeerReset);
        }
        let stats = rig.reactor.stats();
        assert_eq!((stats.closed_by_peer, stats.reset_by_peer), (5, 5));
        for _ in 0..5 {
            let client = connect();
            let id = client.id();
            // With unread bytes that is a reset, without it is none.
            drop(client);
            let reason = rig.ended(id);
            assert!(
                matches!(reason, CloseReason::PeerClosed | CloseReason::PeerReset),
                "{reason:?}"
            );
        }
        rig.emptied(&hub);
        let stats = rig.reactor.stats();
        assert_eq!(stats.adopted, 15);
        assert_eq!(stats.closed_by_peer + stats.reset_by_peer, 15);
        assert_eq!(hub.topics(), 0);
    }
}

#[test]
fn a_client_that_vanishes_amid_an_event_leaves_nothing() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = small_buffers();
    let mut follower = Follower::follow(&rig, &hub, "t");
    for round in 0_u16..30 {
        let mut client = rig.connect_small(hub.subscribe("t").unwrap().into_sse());
        client.read_until(HEAD.len() + 3);
        publish(&hub, "t", &format!("p {round} {}", ".".repeat(50_000)));
        eventually("a part of the event", || {
            client.read(100 + usize::from(round)) > 0
        });
        let id = client.id();
        if round % 2 == 0 {
            client.reset();
        } else {
            drop(client);
        }
        assert_eq!(rig.ended(id), CloseReason::PeerReset);
        follower.reach(u64::from(round) + 1);
    }
    assert_eq!(follower.events, 30);
    eventually("one to be left", || {
        rig.reactor.connections() == 1 && hub.subscribers() == 1
    });
    drop(follower);
    rig.emptied(&hub);
}

#[test]
fn what_a_client_sends_is_dropped_up_to_a_bound() {
    let _turn = beside_others();
    for behind in [false, true] {
        let hub = Hub::new();
        let rig = small_buffers();
        let mut client = if behind {
            stalled(&rig, &hub)
        } else {
            rig.connect(hub.subscribe("t").unwrap().into_sse())
        };
        let mut witness = Follower::follow(&rig, &hub, "t");
        let (id, first) = (client.id(), witness.at);
        let mut send = |bytes: usize| {
            let chunk = [b'?'; 1024];
            let mut left = bytes;
            eventually("room for what is sent", || {
                while left > 0 {
                    match client.socket.write(&chunk[..left.min(1024)]) {
                        Ok(sent) => left -= sent,
                        Err(error) => {
                            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                            break;
                        }
                    }
                }
                left == 0
            });
        };
        send(64 * 1024);
        publish(&hub, "t", "p 0");
        witness.reach(first + 1);
        assert_eq!(rig.reason(id), None);
        send(1);
        assert_eq!(rig.ended(id), CloseReason::TooMuchInput);
        publish(&hub, "t", "p 1");
        witness.reach(first + 2);
        assert_eq!(rig.reactor.stats().too_much_input, 1);
        client.read_to_end();
        drop(witness);
        rig.emptied(&hub);
    }
}

// ------------------------------------------------------------------------------------------------ by time

#[test]
fn who_takes_no_byte_is_closed_and_who_takes_some_is_not() {
    let _turn = beside_others();
    let hub = Hub::builder()
        .retain_bytes(1 << 30)
        .max_event_bytes(1 << 25)
        .build()
        .unwrap();
    let builder = Reactor::builder().shards(1).send_buffer_bytes(4096);
    let rig = Rig::with(builder.stall_timeout(Duration::from_secs(1)));
    let small = || rig.connect_small(hub.subscribe("t").unwrap().into_sse());
    let (mut stalled, mut slow, mut stalled_later) = (small(), small(), small());
    let mut healthy = rig.connect(hub.subscribe("t").unwrap().into_sse());
    // In sync and silent: nothing is due to it.
    let silent = rig.connect(hub.subscribe("silent").unwrap().into_sse());
    let size = 12_000_000;
    publish(&hub, "t", &"x".repeat(size));
    eventually("the stalled one to be closed", || {
        // Its deadline begins anew with each byte, until now.
        slow.read(2000);
        healthy.read_all();
        rig.reason(stalled.id()).is_some()
    });
    assert_eq!(rig.ended(stalled.id()), CloseReason::Stalled);
    assert_eq!(rig.ended(stalled_later.id()), CloseReason::Stalled);
    for open in [&slow, &healthy, &silent] {
        assert_eq!(rig.reason(open.id()), None);
    }
    assert!(slow.received.len() < size, "there is more for it");
    assert_eq!(hub.subscribers_of("t"), 2, "its place is free at once");
    // What the system had taken is all that it gets.
    for client in [&mut stalled, &mut stalled_later] {
        client.read_to_end();
        assert!(client.received.len() < size / 2);
    }
    eventually("the healthy one to have all", || {
        healthy.read_all();
        healthy.received.len() > size
    });
    assert_eq!(
        rig.ended(slow.id()),
        CloseReason::Stalled,
        "it reads no more"
    );
    assert_eq!(rig.reactor.stats().stalled, 3);
    publish(&hub, "t", "after");
    healthy.read_until_text("data: after\n\n");
    drop((healthy, silent));
    rig.emptied(&hub);
}

/// Who stalled and went on is measured anew.
#[test]
fn a_client_that_caught_up_may_stall_again() {
    let _turn = beside_others();
    let hub = Hub::new();
    let builder = Reactor::builder().shards(1).send_buffer_bytes(4096);
    let rig = Rig::with(builder.stall_timeout(Duration::from_millis(1500)));
    let mut client = stalled(&rig, &hub);
    let begin = std::time::Instant::now();
    let mut round = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        client.read_until_text("\n\n");
        client.received.clear();
        round += 1;
        publish(&hub, "t", &format!("{round} {}", "y".repeat(50_000)));
    }
    assert_eq!(rig.reason(client.id()), None);
    client.read_until_text("y\n\n");
    publish(&hub, "t", &"z".repeat(200_000));
    assert_eq!(rig.ended(client.id()), CloseReason::Stalled);
    rig.emptied(&hub);
}

#[test]
fn streams_of_a_silent_topic_end_and_those_of_a_busy_one_go_on() {
    let _turn = beside_others();
    let hub = Hub::builder()
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let builder = Reactor::builder().shards(2);
    let rig = Rig::with(builder.idle_timeout(Duration::from_secs(1)));
    let mut silent: Vec<_> = (0..300)
        .map(|_| rig.connect(hub.subscribe("silent").unwrap().into_sse()))
        .collect();
    let mut busy = Follower::follow(&rig, &hub, "busy");
    let mut number = 0;
    eventually("the silent ones to be closed", || {
        publish(&hub, "busy", &format!("p {number}"));
        number += 1;
        rig.reactor.stats().idle == 300
    });
    busy.reach(number);
    assert_eq!(rig.reason(busy.client.id()), None);
    for client in &mut silent {
        assert_eq!(client.read_to_end(), Ended::InOrder);
        assert_eq!(rig.ended(client.id()), CloseReason::Idle);
        assert_eq!(client.got(), [Got::End]);
    }
    assert_eq!(hub.subscribers_of("silent"), 0);
    drop(busy);
    rig.emptied(&hub);
}

// ------------------------------------------------------------------------------------------------ by the hub

#[test]
fn a_closed_topic_gives_all_it_has_and_ends() {
    let _turn = beside_others();
    for by_drop in [false, true] {
        let hub = Hub::builder().retain_bytes(1 << 24).build().unwrap();
        let rig = small_buffers();
        let mut behind: Vec<_> = (0..20)
            .map(|_| rig.connect_small(hub.subscribe("t").unwrap().into_sse()))
            .collect();
        let mut in_sync: Vec<_> = (0..200)
            .map(|_| rig.connect(hub.subscribe("t").unwrap().into_sse()))
            .collect();
        let texts: Vec<_> = (0..50)
            .map(|number| format!("{number} {}", ".".repeat(3000)))
            .collect();
        for text in &texts {
            publish(&hub, "t", text);
        }
        let late = hub.subscribe("t").unwrap().into_sse();
        if by_drop {
            drop(hub);
        } else {
            hub.close();
        }
        let mut late = rig.connect(late);
        let mut expected = events(texts);
        expected.push(Got::End);
        for client in in_sync.iter_mut().chain(&mut behind) {
            assert_eq!(client.read_to_end(), Ended::InOrder);
            assert_eq!(client.got(), expected);
            assert_eq!(rig.ended(client.id()), CloseReason::TopicClosed);
        }
        assert_eq!(late.read_to_end(), Ended::InOrder);
        assert_eq!(late.got(), [Got::End]);
        assert_eq!(rig.reactor.connections(), 0);
        assert_eq!(rig.reactor.stats().topic_closed, 221);
    }
}

/// Whoever reads slowly gets what the closed topic had, though the client has said something in between.
#[test]
fn what_a_client_has_sent_does_not_cost_it_the_end_of_its_stream() {
    let _turn = beside_others();
    for _ in 0..20 {
        let hub = Hub::new();
        let rig = Rig::new(1);
        let sse = hub.subscribe("t").unwrap().into_sse();
        publish(&hub, "t", "all there is");
        hub.close();
        let (mut client, server) = rig.loopback.pair();
        client
            .write_all(b"GET /pipelined HTTP/1.1\r\n\r\n")
            .unwrap();
        let mut client = rig.adopt((client, server), HEAD, sse);
        assert_eq!(rig.ended(client.id()), CloseReason::TopicClosed);
        assert_eq!(client.read_to_end(), Ended::InOrder);
        assert_eq!(client.got(), [event("all there is"), Got::End]);
    }
}

// ------------------------------------------------------------------------------------------------ from outside

/// Ended while they are adopted, while they are served, while they go: each has one reason, and an ended one that takes bytes is
/// told so last.
#[test]
fn ends_at_any_moment_reach_their_connections() {
    let _turn = beside_others();
    let hub = Hub::builder().retain_events(1 << 16).build().unwrap();
    let rig = Rig::new(2);
    let notice = format!("\n\n: {}\n\n", EndReason::Replaced);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                publish(&hub, "t", &number.to_string());
                number += 1;
                thread::yield_now();
            }
        });
        for round in 0..300 {
            let mut subscription = hub.subscribe("t").unwrap();
            let handle = subscription.end_handle();
            let ender = handle.clone();
            let mut client = thread::scope(|scope| {
                if round % 3 == 0 {
                    scope.spawn(|| assert!(ender.end(EndReason::Replaced)));
                }
                rig.connect(subscription.into_sse())
            });
            if round % 3 > 0 {
                client.read_until(HEAD.len() + 3);
            }
            if round % 3 == 1 {
                assert!(handle.end(EndReason::Replaced));
            }
            if round % 3 == 2 {
                // Either of them may be the first.
                drop(client.socket.shutdown(Shutdown::Write));
                handle.end(EndReason::Replaced);
                assert!(matches!(
                    rig.ended(client.id()),
                    CloseReason::PeerClosed | CloseReason::Ended(EndReason::Replaced)
                ));
                continue;
            }
            assert_eq!(
                rig.ended(client.id()),
                CloseReason::Ended(EndReason::Replaced)
            );
            assert_eq!(client.read_to_end(), Ended::InOrder);
            assert!(client.received.ends_with(notice.as_bytes()));
            assert!(!handle.end(EndReason::Requested));
        }
        stop.store(true, Ordering::SeqCst);
    });
    rig.emptied(&hub);
    assert!(rig.reactor.stats().ended >= 200);
}

/// A crowd that is ended as a whole, some of it behind, while another one goes on.
#[test]
fn many_are_ended_and_the_others_go_on() {
    let _turn = beside_others();
    let hub = Hub::builder().retain_bytes(1 << 24).build().unwrap();
    let rig = small_buffers();
    let mut witness = Follower::follow(&rig, &hub, "t");
    let mut handles = Vec::new();
    let mut clients: Vec<_> = (0..200)
        .map(|number| {
            let mut subscription = hub.subscribe("t").unwrap();
            handles.push(subscription.end_handle());
            if number < 50 {
                rig.connect_small(subscription.into_sse())
            } else {
                rig.connect(subscription.into_sse())
            }
        })
        .collect();
    publish(&hub, "t", &format!("p 0 {}", "x".repeat(60_000)));
    witness.reach(1);
    for handle in &handles {
        assert!(handle.end(EndReason::Unregistered));
    }
    publish(&hub, "t", "p 1");
    witness.reach(2);
    let notice = format!("\n\n: {}\n\n", EndReason::Unregistered);
    for client in &mut clients {
        assert_eq!(client.read_to_end(), Ended::InOrder);
        assert!(client.received.ends_with(notice.as_bytes()));
        let reason = CloseReason::Ended(EndReason::Unregistered);
        assert_eq!(rig.ended(client.id()), reason);
    }
    assert_eq!(rig.reactor.stats().ended, 200);
    assert_eq!(rig.reason(witness.client.id()), None);
    drop(witness);
    rig.emptied(&hub);
}
