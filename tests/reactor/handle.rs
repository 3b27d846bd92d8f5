//! The handle: limits, adopting what is odd, callbacks that do odd things, shutting down.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use fanfare::{
    AdoptError, CloseReason, Closed, ConnectionId, Event, Hub, Reactor, ReactorBuilder,
    ReactorError, ReactorStats,
};

use crate::common::{event, eventually};
use crate::net::{Client, Ended, Follower, HEAD, Loopback, Rig, alone, beside_others, publish};

/// Names of the threads of reactors in this process.
#[cfg(target_os = "linux")]
pub(crate) fn shard_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        // One that ends meanwhile has no name any more.
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .filter(|name| name.starts_with("fanfare-shard"))
        .collect()
}

/// Runs `f`, which must not hang.
#[track_caller]
pub(crate) fn returns(what: &str, f: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(f);
    eventually(what, || thread.is_finished());
    thread.join().unwrap();
}

// ------------------------------------------------------------------------------------------------ what it is

#[test]
fn all_of_it_can_be_sent_and_shared() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<Reactor>();
    check::<ReactorBuilder>();
    check::<ReactorError>();
    check::<ReactorStats>();
    check::<AdoptError>();
    check::<Closed>();
    check::<CloseReason>();
    check::<ConnectionId>();
}

#[test]
fn impossible_limits_are_refused_by_name_and_value() {
    let base = Reactor::builder;
    let ms = Duration::from_millis;
    let cases = [
        (base().shards(0), "shards is 0; it must be from 1 to 1024"),
        (
            base().shards(1025),
            "shards is 1025; it must be from 1 to 1024",
        ),
        (
            base().stall_timeout(ms(9)),
            "stall_timeout is 9; it must be from 10 to 3600000",
        ),
        (
            base().stall_timeout(ms(3_600_001)),
            "stall_timeout is 3600001; it must be from 10 to 3600000",
        ),
        (
            base().idle_timeout(ms(0)),
            "idle_timeout is 0; it must be from 10 to 2592000000",
        ),
        (
            base().send_buffer_bytes(4095),
            "send_buffer_bytes is 4095; it must be from 4096 to 67108864",
        ),
        (
            base().send_buffer_bytes(usize::MAX),
            "send_buffer_bytes is 18446744073709551615; it must be from 4096 to 67108864",
        ),
    ];
    for (builder, message) in cases {
        let error = builder.build().map(drop).map_err(|error| error.to_string());
        assert_eq!(error, Err(message.to_owned()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn threads_have_names_and_stay_on_their_cores() {
    let _turn = alone();
    let allowed = |task: &std::path::Path| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status
            .lines()
            .find(|at| at.starts_with("Cpus_allowed_list"));
        line.unwrap()
            .split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let shards_of = |pinned: bool| {
        let reactor = Reactor::builder().shards(3).pin_to_cores(pinned).build();
        let reactor = reactor.unwrap();
        // A reactor that was dropped before may still be ending, and a new thread has its parent's name until it runs.
        let names = ["fanfare-shard-0", "fanfare-shard-1", "fanfare-shard-2"];
        eventually("names", || {
            let mut threads = shard_threads();
            threads.sort();
            threads == names
        });
        reactor
    };
    let reactor = shards_of(true);
    eventually("threads to be on one core each", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let mut shards = tasks.map(|task| task.unwrap().path()).filter(|task| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            name.starts_with("fanfare-shard")
        });
        shards.all(|shard| allowed(&shard).parse::<usize>().is_ok())
    });
    reactor.shutdown();
    // Who was waited for may be listed for a moment yet.
    eventually("threads to end", || shard_threads().is_empty());
    let reactor = shards_of(false);
    drop(reactor);
    eventually("threads to end", || shard_threads().is_empty());
}

// ------------------------------------------------------------------------------------------------ adopting

#[test]
fn sockets_are_adopted_as_they_come() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(1);
    let (client, blocking) = rig.loopback.pair();
    blocking.set_nonblocking(false).unwrap();
    let mut blocking = rig.adopt(
        (client, blocking),
        HEAD,
        hub.subscribe("t").unwrap().into_sse(),
    );
    let (mut client, unread) = rig.loopback.pair();
    client.write_all(&[b'?'; 5000]).unwrap();
    let mut unread = rig.adopt(
        (client, unread),
        HEAD,
        hub.subscribe("t").unwrap().into_sse(),
    );
    let mut empty = rig.adopt(
        rig.loopback.pair(),
        "",
        hub.subscribe("t").unwrap().into_sse(),
    );
    // Large enough to be cut: a thread that waits in `write` would serve nobody.
    let large = "x".repeat(900_000);
    publish(&hub, "t", &large);
    publish(&hub, "t", "small");
    for client in [&mut empty, &mut unread, &mut blocking] {
        client.read_until_text("small\n\n");
        assert_eq!(client.got(), [event(&large), event("small")]);
    }
    // Their input was dropped without a word, and more of it is.
    unread.socket.write_all(b"again").unwrap();
    publish(&hub, "t", "end");
    unread.read_until_text("end\n\n");
}

#[test]
fn options_are_set_whatever_they_were() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::with(Reactor::builder().shards(1).send_buffer_bytes(32 * 1024));
    let (client, server) = rig.loopback.pair();
    server.set_nodelay(false).unwrap();
    let same = server.try_clone().unwrap();
    let sse = hub.subscribe("t").unwrap().into_sse();
    let client = rig.adopt((client, server), HEAD, sse);
    assert!(same.nodelay().unwrap());
    let options = socket2::SockRef::from(&same);
    assert!(options.nonblocking().unwrap());
    // Linux tells twice what was set.
    let bytes = options.send_buffer_size().unwrap();
    assert!(
        bytes == 32 * 1024 || bytes == 64 * 1024,
        "{bytes} bytes to send"
    );
    drop((client, same));
    rig.emptied(&hub);
}

#[test]
fn a_socket_whose_peer_is_gone_ends_at_once() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(1);
    for round in 0..40 {
        let (client, server) = rig.loopback.pair();
        let client = Client::unnumbered(client);
        if round % 2 == 0 {
            client.reset();
        } else {
            drop(client);
        }
        let sse = hub.subscribe("t").unwrap().into_sse();
        let id = rig.reactor.adopt(server, HEAD, sse).unwrap();
        let reason = rig.ended(id);
        assert!(
            matches!(reason, CloseReason::PeerClosed | CloseReason::PeerReset),
            "{reason:?}"
        );
        if round % 2 == 0 {
            assert_eq!(reason, CloseReason::PeerReset);
        }
    }
    rig.emptied(&hub);
    assert_eq!(hub.topics(), 0);
}

#[test]
fn numbers_are_those_of_the_callbacks() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(3);
    let connect = || rig.connect(hub.subscribe("t").unwrap().into_sse());
    let clients: Vec<_> = (0..10).map(|_| connect()).collect();
    let mut ids: Vec<_> = clients.iter().map(Client::id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    assert_eq!(ids[3].to_string(), "3");
    assert_eq!(rig.reactor.connections(), 10);
    let text = format!("{:?}", rig.reactor);
    assert!(
        text.contains("shards: 3") && text.contains("connections: 10"),
        "{text}"
    );
    for client in clients {
        let id = client.id();
        client.reset();
        assert_eq!(rig.ended(id), CloseReason::PeerReset);
    }
    // The next ones are others.
    assert!(!ids.contains(&connect().id()));
}

// ------------------------------------------------------------------------------------------------ callbacks

#[test]
fn a_callback_that_panics_hurts_nobody() {
    let _turn = beside_others();
    let hub = Hub::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let on_close = move |closed: &Closed| {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose, of connection {}", closed.connection);
    };
    let reactor = Reactor::builder().shards(1).on_close(on_close);
    let reactor = reactor.build().unwrap();
    let loopback = Loopback::new();
    let connect = || {
        let (client, server) = loopback.pair();
        let sse = hub.subscribe("t").unwrap().into_sse();
        Client::new(client, reactor.adopt(server, HEAD, sse).unwrap())
    };
    let mut stays = connect();
    for _ in 0..5 {
        drop(connect());
    }
    eventually("calls", || calls.load(Ordering::SeqCst) == 5);
    publish(&hub, "t", "still here");
    stays.read_until_text("data: still here\n\n");
    assert_eq!(reactor.connections(), 1);
    let last = reactor.clone();
    returns("a shutdown", move || last.shutdown());
    assert_eq!(calls.load(Ordering::SeqCst), 6);
    assert_eq!((reactor.connections(), hub.subscribers()), (0, 0));
}

/// Callbacks of both shards shut the reactor down, and so does somebody else.
#[test]
fn shutdown_from_within_a_callback_does_not_wait_for_itself() {
    let _turn = beside_others();
    for from_outside_too in [false, true] {
        for _ in 0..10 {
            let hub = Hub::new();
            let cell = Arc::new(OnceLock::<Reactor>::new());
            let inner = Arc::clone(&cell);
            let on_close = move |_: &Closed| {
                if let Some(reactor) = inner.get() {
                    reactor.shutdown();
                }
            };
            let reactor = Reactor::builder().shards(2).on_close(on_close);
            let reactor = reactor.build().unwrap();
            cell.set(reactor.clone()).unwrap();
            let loopback = Loopback::new();
            let mut clients: Vec<_> = (0..20)
                .map(|_| {
                    let (client, server) = loopback.pair();
                    let sse = hub.subscribe("t").unwrap().into_sse();
                    Client::new(client, reactor.adopt(server, HEAD, sse).unwrap())
                })
                .collect();
            drop(clients.split_off(18));
            if from_outside_too {
                let outside = reactor.clone();
                returns("a shutdown", move || outside.shutdown());
            }
            for client in &mut clients {
                client.read_to_end();
            }
            eventually("all to be gone", || {
                reactor.connections() == 0 && hub.subscribers() == 0
            });
            let (_, server) = loopback.pair();
            let sse = hub.subscribe("t").unwrap().into_sse();
            let refused = reactor.adopt(server, HEAD, sse);
            assert!(matches!(refused, Err(AdoptError::ShutDown)));
        }
    }
}

/// A reactor that is dropped for the last time by its own callback.
#[test]
fn the_last_handle_may_go_in_a_callback() {
    let _turn = beside_others();
    let hub = Hub::new();
    let slot = Arc::new(std::sync::Mutex::new(None::<Reactor>));
    let inner = Arc::clone(&slot);
    let on_close = move |_: &Closed| {
        let last = inner.lock().unwrap().take();
        drop(last);
    };
    let reactor = Reactor::builder().shards(1).on_close(on_close);
    let reactor = reactor.build().unwrap();
    let loopback = Loopback::new();
    let connect = || {
        let (client, server) = loopback.pair();
        let sse = hub.subscribe("t").unwrap().into_sse();
        Client::new(client, reactor.adopt(server, HEAD, sse).unwrap())
    };
    let (first, mut second) = (connect(), connect());
    *slot.lock().unwrap() = Some(reactor);
    drop(first);
    second.read_to_end();
    eventually("all to be gone", || hub.subscribers() == 0);
}

// ------------------------------------------------------------------------------------------------ shutting down

#[test]
fn after_a_shutdown_nothing_is_adopted() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(2);
    let mut client = rig.connect(hub.subscribe("t").unwrap().into_sse());
    rig.reactor.shutdown();
    assert_eq!(rig.reason(client.id()), Some(CloseReason::Shutdown));
    client.read_to_end();
    let (client, server) = rig.loopback.pair();
    let refused = rig
        .reactor
        .adopt(server, HEAD, hub.subscribe("t").unwrap().into_sse());
    let error = refused.unwrap_err();
    assert!(matches!(error, AdoptError::ShutDown));
    assert_eq!(error.to_string(), "the reactor is shut down");
    // The socket is closed and the subscription is gone.
    let mut client = Client::unnumbered(client);
    assert_eq!(client.read_to_end(), Ended::InOrder);
    assert!(client.received.is_empty());
    assert_eq!(hub.subscribers(), 0);
    // Again is nothing.
    rig.reactor.shutdown();
    let stats = rig.reactor.stats();
    assert_eq!(
        (stats.adopted, stats.shut_down, stats.connections),
        (1, 1, 0)
    );
}

/// Whoever is adopted while the reactor shuts down is refused or closed, and not forgotten.
#[test]
fn adopting_while_it_shuts_down_leaves_no_socket_open() {
    let _turn = beside_others();
    for round in 0..200 {
        let hub = Hub::new();
        let rig = Rig::new(2);
        let barrier = Barrier::new(3);
        let mut pairs: Vec<_> = (0..40).map(|_| rig.loopback.pair()).collect();
        let other = pairs.split_off(20);
        let adopt = |pairs: Vec<(TcpStream, TcpStream)>| {
            barrier.wait();
            let mut clients = Vec::new();
            let mut adopted = 0;
            for (client, server) in pairs {
                let sse = hub.subscribe("t").unwrap().into_sse();
                adopted += u64::from(rig.reactor.adopt(server, HEAD, sse).is_ok());
                clients.push(Client::unnumbered(client));
            }
            (clients, adopted)
        };
        let results = thread::scope(|scope| {
            let threads = [pairs, other].map(|pairs| scope.spawn(|| adopt(pairs)));
            barrier.wait();
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            rig.reactor.shutdown();
            threads.map(|thread| thread.join().unwrap())
        });
        let mut adopted = 0;
        for (clients, count) in results {
            adopted += count;
            for mut client in clients {
                client.read_to_end();
            }
        }
        rig.emptied(&hub);
        let stats = rig.reactor.stats();
        assert_eq!((stats.adopted, stats.shut_down), (adopted, adopted));
    }
}

#[test]
fn dropping_the_last_handle_closes_all() {
    let _turn = beside_others();
    let hub = Hub::new();
    let Rig {
        reactor, loopback, ..
    } = Rig::new(2);
    let mut clients: Vec<_> = (0..100)
        .map(|_| {
            let (client, server) = loopback.pair();
            let sse = hub.subscribe("t").unwrap().into_sse();
            Client::new(client, reactor.adopt(server, HEAD, sse).unwrap())
        })
        .collect();
    let clone = reactor.clone();
    drop(reactor);
    publish(&hub, "t", "still here");
    for client in &mut clients {
        client.read_until_text("data: still here\n\n");
    }
    drop(clone);
    for client in &mut clients {
        assert_eq!(client.read_to_end(), Ended::InOrder);
    }
    eventually("subscriptions to be gone", || hub.subscribers() == 0);
    assert_eq!(hub.topics(), 0);
}

/// A hub outlives its reactors: what they leave in it is nothing.
#[test]
fn publishing_goes_on_while_reactors_come_and_go() {
    let _turn = beside_others();
    let hub = Hub::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let _ = hub.publish("t", Event::text("p 0")).unwrap();
                thread::yield_now();
            }
        });
        for round in 0..30 {
            let rig = Rig::new(2);
            let mut clients: Vec<_> = (0..4)
                .map(|_| rig.connect(hub.subscribe("t").unwrap().into_sse()))
                .collect();
            for client in &mut clients {
                client.read_until(HEAD.len() + 50);
            }
            if round % 2 == 0 {
                rig.reactor.shutdown();
                assert_eq!(hub.subscribers(), 0);
            }
            drop(rig);
            for client in &mut clients {
                client.read_to_end();
            }
            eventually("all to be gone", || hub.subscribers() == 0);
        }
        stop.store(true, Ordering::Release);
    });
    let follower_rig = Rig::new(1);
    let mut follower = Follower::follow(&follower_rig, &hub, "t");
    publish(&hub, "t", "p 0");
    let end = follower.at + 1;
    follower.reach(end);
}

#[test]
fn a_reader_that_chooses_is_refused() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(1);
    let subscribe = || hub.subscribe("t").unwrap();
    for chosen in [
        subscribe().filter(|_| true),
        subscribe().exclude_own(),
        subscribe().conflate(fanfare::Conflation::ByName),
    ] {
        let (_client, server) = rig.loopback.pair();
        let sse = hub.subscribe("other").unwrap().into_sse().with(chosen);
        let adopted = rig.reactor.adopt(server, HEAD, sse);
        // Where connections are tasks, they choose.
        if cfg!(all(unix, not(fanfare_tasks))) {
            assert!(matches!(adopted, Err(AdoptError::Choice)), "{adopted:?}");
        } else {
            assert!(adopted.is_ok());
        }
    }
}
