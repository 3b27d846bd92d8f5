//! What arrives: every byte, in order, however the sockets cut it; and the same bytes as on the task path.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare::{
    CloseReason, Envelope, Event, EventId, Hub, HubBuilder, LagPolicy, Reactor, Sse, SseBody,
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use crate::common::{Got, block_on, event, events, eventually};
use crate::net::{Client, Dice, Ended, Follower, HEAD, Rig, beside_others, publish};

/// Keeps everything.
fn roomy() -> HubBuilder {
    Hub::builder()
        .retain_events(1 << 20)
        .retain_bytes(1 << 30)
        .max_event_bytes(1 << 20)
}

/// What the task path sends until it has nothing more at once, and whether it has ended.
fn drain(body: &mut SseBody) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().now_or_never() {
        let Some(frame) = frame else {
            return (bytes, true);
        };
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    (bytes, false)
}

/// Without printing megabytes.
#[track_caller]
fn same_bytes(received: &[u8], expected: &[u8]) {
    if received == expected {
        return;
    }
    let same = received.iter().zip(expected).take_while(|(a, b)| a == b);
    let same = same.count();
    let at = |bytes: &[u8]| {
        let near = same.saturating_sub(40)..(same + 40).min(bytes.len());
        String::from_utf8_lossy(&bytes[near]).into_owned()
    };
    panic!(
        "{} and {} bytes differ after {same}: {:?} and {:?}",
        received.len(),
        expected.len(),
        at(received),
        at(expected),
    );
}

// ------------------------------------------------------------------------------------------------ cuts

/// One stream is sent to many small sockets, each time one byte later, so that the cuts fall on every byte of a frame.
#[test]
fn a_frame_may_be_cut_at_every_byte() {
    let _turn = beside_others();
    let hub = roomy().build().unwrap();
    let rig = Rig::with(Reactor::builder().shards(2).send_buffer_bytes(4096));
    let mut body = hub.subscribe("t").unwrap().into_sse().into_body();
    // About as many as a frame has bytes.
    let waiting: Vec<_> = (0..72).map(|_| hub.subscribe("t").unwrap()).collect();
    for number in 0..1500 {
        publish(&hub, "t", &format!("{number:04} {:.<1$}", "", number % 41));
    }
    hub.close();
    let (stream, ended) = drain(&mut body);
    assert!(ended);
    drop(body);
    let mut clients: Vec<_> = (0..)
        .zip(waiting)
        .map(|(shift, subscription)| {
            let first = "x".repeat(shift);
            let client = rig.adopt(rig.loopback.small_pair(), &first, subscription.into_sse());
            (first, client)
        })
        .collect();
    let mut dice = Dice::new(1);
    eventually("all streams to end", || {
        let mut open = false;
        for (_, client) in &mut clients {
            client.read(1 + dice.roll(997));
            open |= client.ended.is_none();
        }
        !open
    });
    for (first, client) in &clients {
        assert_eq!(client.ended, Some(Ended::InOrder));
        same_bytes(&client.received, &[first.as_bytes(), &stream].concat());
        assert_eq!(rig.ended(client.id()), CloseReason::TopicClosed);
    }
    rig.emptied(&hub);
}

/// Plain streams, and two with envelopes of their own, on sockets of all sizes: each is what the task path sends.
#[test]
fn wrapped_streams_are_those_of_the_task_path() {
    let _turn = beside_others();
    let hub = roomy().build().unwrap();
    let rig = Rig::with(Reactor::builder().shards(2).send_buffer_bytes(4096));
    let subscribe = |number: usize| {
        let subscription = hub.subscribe("t").unwrap();
        match number % 3 {
            0 => subscription,
            id => subscription.envelope(Envelope::new(format!("{{\"id\":{id},"), "}").unwrap()),
        }
    };
    let mut bodies: Vec<_> = (0..3)
        .map(|it| subscribe(it).into_sse().into_body())
        .collect();
    let mut clients: Vec<_> = (0..12)
        .map(|number| {
            let sse = subscribe(number).into_sse();
            if number < 6 {
                rig.connect_small(sse)
            } else {
                rig.connect(sse)
            }
        })
        .collect();
    let mut dice = Dice::new(7);
    for number in 0_usize..2000 {
        let size = match number % 400 {
            0 => 20_000,
            _ => number % 97,
        };
        let text = format!("{number}\n{}", "y".repeat(size));
        publish(&hub, "t", &text);
        if number.is_multiple_of(3) {
            for client in &mut clients[3..] {
                client.read(1 + dice.roll(3000));
            }
        }
    }
    hub.close();
    let expected: Vec<_> = bodies
        .iter_mut()
        .map(|body| [HEAD.as_bytes(), &drain(body).0].concat())
        .collect();
    drop(bodies);
    eventually("all streams to end", || {
        for client in &mut clients {
            client.read(1 + dice.roll(5000));
        }
        clients.iter().all(|client| client.ended.is_some())
    });
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.ended, Some(Ended::InOrder));
        same_bytes(&client.received, &expected[number % 3]);
        assert_eq!(rig.ended(client.id()), CloseReason::TopicClosed);
    }
    rig.emptied(&hub);
}

/// Frames from nothing to 300 KB: those that are gathered, those that are shared, those that fill a batch alone.
#[test]
fn frames_of_all_sizes_arrive_whole() {
    let _turn = beside_others();
    let hub = roomy().build().unwrap();
    let rig = Rig::with(Reactor::builder().shards(2).send_buffer_bytes(8192));
    let sizes = [
        0, 1, 100, 16_300, 16_384, 20_000, 5, 300_000, 300_000, 1, 65_536, 262_144, 0, 4096, 20_000,
    ];
    let mut body = hub.subscribe("t").unwrap().into_sse().into_body();
    let connect = |number: usize| {
        let sse = hub.subscribe("t").unwrap().into_sse();
        if number.is_multiple_of(2) {
            rig.connect_small(sse)
        } else {
            rig.connect(sse)
        }
    };
    let mut clients: Vec<_> = (0..8).map(connect).collect();
    let mut dice = Dice::new(2);
    for round in 0..2 {
        for (number, size) in (0_u8..).zip(sizes) {
            let letter = char::from(b'a' + number);
            publish(&hub, "t", &letter.to_string().repeat(size));
            if round == 1 {
                // Some have room, some do not.
                for client in &mut clients[2..] {
                    client.read(1 + dice.roll(15_000));
                }
            }
        }
    }
    hub.close();
    let (stream, _) = drain(&mut body);
    drop(body);
    let expected = [HEAD.as_bytes(), &stream].concat();
    eventually("all streams to end", || {
        for client in &mut clients {
            client.read(1 + dice.roll(16_000));
        }
        clients.iter().all(|client| client.ended.is_some())
    });
    for client in &clients {
        assert_eq!(client.ended, Some(Ended::InOrder));
        same_bytes(&client.received, &expected);
    }
    rig.emptied(&hub);
}

/// What comes first is larger than the buffers, and none of it is lost behind what is published meanwhile.
#[test]
fn a_long_opening_comes_before_the_events() {
    let _turn = beside_others();
    let hub = roomy().build().unwrap();
    let rig = Rig::with(Reactor::builder().shards(1).send_buffer_bytes(4096));
    let first = format!("{}\r\n\r\n", "h".repeat(500_000));
    let sse = hub.subscribe("t").unwrap().into_sse();
    let mut client = rig.adopt(rig.loopback.small_pair(), &first, sse);
    for number in 0..100 {
        publish(&hub, "t", &number.to_string());
    }
    client.read_until_text("data: 99\n\n");
    assert!(client.received.starts_with(first.as_bytes()));
    assert_eq!(client.got(), events(0..100));
}

// ------------------------------------------------------------------------------------------------ as on the task path

/// A client of the reactor and a body, of subscriptions that stand at the same place.
struct Twins {
    body: SseBody,
    expected: Vec<u8>,
    client: Client,
}

impl Twins {
    fn new(rig: &Rig, mut sse: impl FnMut() -> Sse) -> Self {
        let body = sse().into_body();
        let client = rig.connect(sse());
        Self {
            body,
            expected: HEAD.as_bytes().to_vec(),
            client,
        }
    }

    /// Reads both as far as they go.
    #[track_caller]
    fn compare(&mut self) {
        let (bytes, ended) = drain(&mut self.body);
        self.expected.extend_from_slice(&bytes);
        self.client.read_until(self.expected.len());
        if ended {
            assert_eq!(self.client.read_to_end(), Ended::InOrder);
        }
        same_bytes(&self.client.received, &self.expected);
        assert_eq!(self.client.ended.is_some(), ended);
    }
}

#[test]
fn both_paths_send_the_same_bytes() {
    let _turn = beside_others();
    let hubs = [
        roomy(),
        roomy().event_ids(false),
        roomy().history(true),
        roomy().history(true).event_ids(false),
        // Here bursts are lag, unless they are short.
        Hub::builder().retain_events(1),
        Hub::builder().retain_events(1).event_ids(false),
    ];
    let policies = [
        LagPolicy::Notify,
        LagPolicy::SkipToLatest,
        LagPolicy::Disconnect,
    ];
    for (seed, hub) in (3..).zip(hubs) {
        for policy in policies {
            let rig = Rig::new(1);
            let hub = hub.clone().build().unwrap();
            let mut dice = Dice::new(seed);
            // Kept by history only.
            for _ in 0..5 {
                publish(&hub, "t", "before");
            }
            let id = hub.topic("t").unwrap().position();
            let known = EventId::new(id.epoch(), id.offset().saturating_sub(2));
            let retry = Duration::from_millis(1500);
            let live = || hub.subscribe("t").unwrap().lag_policy(policy);
            let from = |id| hub.subscribe_from("t", id).unwrap().lag_policy(policy);
            let mut all = [
                Twins::new(&rig, || live().into_sse()),
                Twins::new(&rig, || live().into_sse().retry(retry)),
                Twins::new(&rig, || live().into_sse().prime(false)),
                Twins::new(&rig, || from(known).into_sse()),
                // Of another life, and of the future.
                Twins::new(&rig, || from(EventId::new(77, 3)).into_sse().retry(retry)),
                Twins::new(&rig, || from(EventId::new(id.epoch(), 900)).into_sse()),
            ];
            for twins in &mut all {
                twins.compare();
            }
            for step in 0..12 {
                // Published at once for both: the shard looks when all is there, as the body does.
                let held = rig.hold();
                let burst = [1, 2, 30, 300][dice.roll(4)];
                for number in 0..burst {
                    let text = format!("{step}\n{number}{}", ".".repeat(dice.roll(300)));
                    let event = Event::text(&text);
                    let event = match dice.roll(4) {
                        0 => event.name("n"),
                        1 => event.without_id(),
                        _ => event,
                    };
                    let _ = hub.publish("t", event).unwrap();
                }
                if dice.roll(3) == 0 {
                    publish(&hub, "t", &"large".repeat(10_000));
                }
                drop(held);
                for twins in &mut all {
                    twins.compare();
                }
            }
            publish(&hub, "t", "last");
            hub.close();
            for twins in &mut all {
                twins.compare();
                assert!(twins.client.ended.is_some());
            }
            drop(all);
            rig.emptied(&hub);
        }
    }
}

/// A subscription that fell behind, or saw the end, before it came to the reactor.
#[test]
fn a_subscription_that_was_read_before_goes_on_as_a_body_does() {
    let _turn = beside_others();
    for policy in [
        LagPolicy::Notify,
        LagPolicy::SkipToLatest,
        LagPolicy::Disconnect,
    ] {
        for reads in 0..4 {
            let rig = Rig::new(1);
            let hub = Hub::builder().retain_events(1).build().unwrap();
            let subscribe = || hub.subscribe("t").unwrap().lag_policy(policy);
            let mut both = [subscribe(), subscribe()];
            for number in 0..500 {
                publish(&hub, "t", &number.to_string());
            }
            for _ in 0..reads {
                let [one, other] = both.each_mut().map(|at| at.try_recv().map(Got::from));
                assert_eq!(one, other);
            }
            let mut both = both.into_iter();
            let mut twins = Twins::new(&rig, || both.next().unwrap().into_sse());
            twins.compare();
            publish(&hub, "t", "more");
            twins.compare();
            hub.close();
            twins.compare();
            drop(twins);
            rig.emptied(&hub);
        }
    }
}

#[test]
fn silence_is_broken_for_each_client() {
    let _turn = beside_others();
    let hub = Hub::builder()
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let rig = Rig::new(2);
    let mut clients: Vec<_> = (0..50).map(|_| Follower::follow(&rig, &hub, "t")).collect();
    for follower in &mut clients {
        // The opening is a comment too.
        follower.client.read_until_text(":\n\n:\n\n:\n\n");
    }
    publish(&hub, "t", "p 0");
    for follower in &mut clients {
        follower.reach(1);
    }
}

// ------------------------------------------------------------------------------------------------ lag

/// One client reads nothing while others of the same policy get each event as it comes.
#[test]
fn who_does_not_read_lags_alone_and_is_told_by_its_policy() {
    const EVENTS: u64 = 400;
    let _turn = beside_others();
    for policy in [
        LagPolicy::Notify,
        LagPolicy::SkipToLatest,
        LagPolicy::Disconnect,
    ] {
        let hub = Hub::builder().retain_events(16).build().unwrap();
        let rig = Rig::with(Reactor::builder().shards(1).send_buffer_bytes(4096));
        let subscribe = || {
            let subscription = hub.subscribe("t").unwrap().lag_policy(policy);
            let position = subscription.position();
            (subscription.into_sse(), position)
        };
        let (sse, position) = subscribe();
        let mut stalled = Follower::new(rig.connect_small(sse), position);
        let (sse, position) = subscribe();
        let mut healthy = Follower::new(rig.connect(sse), position);
        let rest = ".".repeat(2000);
        for number in 0..EVENTS {
            publish(&hub, "t", &format!("p {number} {rest}"));
            healthy.reach(number + 1);
        }
        assert_eq!((healthy.events, healthy.notices), (EVENTS, 0));
        if policy == LagPolicy::Disconnect {
            assert_eq!(stalled.client.read_to_end(), Ended::InOrder);
            stalled.check();
            assert_eq!(rig.ended(stalled.client.id()), CloseReason::Lagged);
            assert_eq!(rig.reactor.stats().lagged, 1);
            assert_eq!(stalled.notices, 1);
        } else {
            assert_eq!(rig.reactor.connections(), 2);
            stalled.reach(EVENTS);
            assert_eq!(stalled.events + stalled.missed, EVENTS);
            publish(&hub, "t", &format!("p {EVENTS}"));
            stalled.reach(EVENTS + 1);
            assert_eq!(stalled.events + stalled.missed, EVENTS + 1);
        }
        assert_eq!(stalled.at, stalled.events + stalled.missed);
        // More than one if the kernel found room again in between.
        assert!(stalled.notices > 0 && stalled.missed > 0);
        hub.close();
        assert_eq!(healthy.client.read_to_end(), Ended::InOrder);
        drop(stalled);
        rig.emptied(&hub);
    }
}

/// A shard that was kept from its work misses events for all its clients at once; who comes after that is served.
#[test]
fn newcomers_are_served_after_the_shard_itself_has_lagged() {
    let _turn = beside_others();
    for policy in [
        LagPolicy::Notify,
        LagPolicy::SkipToLatest,
        LagPolicy::Disconnect,
    ] {
        let hub = Hub::builder().retain_events(1).build().unwrap();
        let rig = Rig::with(Reactor::builder().shards(1).send_buffer_bytes(4096));
        let sse = || hub.subscribe("t").unwrap().lag_policy(policy).into_sse();
        let mut stalled = rig.connect_small(sse());
        let mut members: Vec<_> = (0..300).map(|_| rig.connect(sse())).collect();
        publish(&hub, "t", &"x".repeat(200_000));
        for member in &mut members {
            member.read_until_text("x\n\n");
        }
        let held = rig.hold();
        for number in 0..500 {
            publish(&hub, "t", &number.to_string());
        }
        let mut early = rig.connect(sse());
        drop(held);
        for member in &mut members {
            if policy == LagPolicy::Disconnect {
                assert_eq!(member.read_to_end(), Ended::InOrder);
                assert_eq!(rig.ended(member.id()), CloseReason::Lagged);
            } else {
                member.read_until_text("data: 499\n\n");
            }
            let got = member.got();
            let notices = got.iter().filter(|got| matches!(got, Got::Lag(_)));
            assert_eq!(notices.count(), 1);
        }
        let mut late = rig.connect(sse());
        for newcomer in [&mut early, &mut late] {
            newcomer.read_until_text(":\n\n");
        }
        publish(&hub, "t", "new");
        for newcomer in [&mut early, &mut late] {
            newcomer.read_until_text("data: new\n\n");
            assert_eq!(newcomer.got(), [event("new")], "{policy:?}");
        }
        hub.close();
        stalled.read_to_end();
        for client in [&mut early, &mut late] {
            assert_eq!(client.read_to_end(), Ended::InOrder);
            assert_eq!(rig.ended(client.id()), CloseReason::TopicClosed);
        }
        drop(members);
        rig.emptied(&hub);
    }
}

// ------------------------------------------------------------------------------------------------ resume

/// Clients that lose the connection, often amid an event, and come back with the last id they have, while a publisher
/// goes on.
#[test]
fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    const EVENTS: u64 = 3000;
    let _turn = beside_others();
    let hub = roomy().history(true).build().unwrap();
    let rig = Rig::with(Reactor::builder().shards(2).send_buffer_bytes(4096));
    let topic = hub.topic("t").unwrap();
    let start = topic.position();
    let go_on = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..EVENTS {
                publish(&hub, "t", &format!("p {number} {}", ".".repeat(150)));
                if number == EVENTS / 2 {
                    // The other half is for those who are connected.
                    eventually("clients", || go_on.load(Ordering::Acquire));
                }
            }
        });
        let mut dice = Dice::new(9);
        let mut followers: Vec<_> = (0..20)
            .map(|_| {
                let sse = hub.subscribe_from("t", start).unwrap().into_sse();
                Follower::new(rig.connect_small(sse), start)
            })
            .collect();
        let mut returns = 0;
        eventually("all clients to have all events", || {
            for follower in &mut followers {
                for _ in 0..=dice.roll(8) {
                    follower.client.read(1 + dice.roll(5000));
                }
                follower.check();
                if follower.at < EVENTS && dice.roll(10) == 0 {
                    let last = EventId::new(start.epoch(), follower.at);
                    let sse = hub.subscribe_from("t", last).unwrap().into_sse();
                    follower.client = rig.connect_small(sse);
                    returns += 1;
                }
            }
            if returns > 100 {
                go_on.store(true, Ordering::Release);
            }
            followers.iter().all(|follower| follower.at == EVENTS)
        });
        for follower in &followers {
            assert_eq!((follower.events, follower.notices), (EVENTS, 0));
        }
        assert!(returns > 100);
        drop(followers);
    });
    rig.emptied(&hub);
}

// ------------------------------------------------------------------------------------------------ reuse

/// Places of connections that are gone are taken by others while events, timers and turns of the old ones are pending.
#[test]
fn a_reused_place_gets_nothing_that_was_meant_for_another() {
    const CONNECTIONS: usize = 60;
    let _turn = beside_others();
    let hub = Hub::builder().build().unwrap();
    let builder = Reactor::builder().shards(1).send_buffer_bytes(4096);
    let rig = Rig::with(builder.stall_timeout(Duration::from_secs(2)));
    let large = ".".repeat(100_000);
    let mut numbers = [0_u64; 2];
    let mut publish_to = |key: usize, rest: &str| {
        let text = format!("{key} {} {rest}", numbers[key]);
        numbers[key] += 1;
        publish(&hub, ["even", "odd"][key], &text);
    };
    let mut old: Vec<Follower> = Vec::new();
    for round in 0..12 {
        let (key, other) = (round % 2, (round + 1) % 2);
        // The old ones, of the other topic: some are behind, some have sent something.
        publish_to(other, &large);
        let held = rig.hold();
        for (number, follower) in old.drain(..).enumerate() {
            use std::io::Write as _;
            let mut client = follower.client;
            match number % 4 {
                0 => client.reset(),
                1 => drop(client),
                2 => {
                    // Its socket becomes writable, and then it is gone.
                    client.read_all();
                    drop(client);
                }
                _ => {
                    client.socket.write_all(b"hello").unwrap();
                    client.reset();
                }
            }
        }
        publish_to(other, "x");
        let mut new: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let subscription = hub.subscribe(["even", "odd"][key]).unwrap();
                let position = subscription.position();
                let sse = subscription.into_sse();
                let client = if number % 3 == 0 {
                    rig.connect_small(sse)
                } else {
                    rig.connect(sse)
                };
                Follower::new(client, position)
            })
            .collect();
        publish_to(key, "x");
        publish_to(other, "x");
        drop(held);
        for number in 0..20 {
            publish_to(key, if number == 10 { &large } else { "x" });
            publish_to(other, "x");
        }
        let end = new[0].at + 21;
        for follower in &mut new {
            follower.reach(end);
            assert_eq!(follower.events, 21);
        }
        eventually("the old ones to be gone", || {
            rig.reactor.connections() == CONNECTIONS
        });
        old = new;
    }
    drop(old);
    rig.emptied(&hub);
    let stats = rig.reactor.stats();
    assert_eq!(stats.closed_by_peer + stats.reset_by_peer, stats.adopted);
}

/// The poll goes on telling of a socket that is closed here, if it is open under another descriptor.
#[test]
fn events_of_a_socket_that_is_kept_elsewhere_concern_nobody_else() {
    let _turn = beside_others();
    let (before, hub) = (Hub::new(), Hub::new());
    let rig = Rig::new(1);
    let mut kept = Vec::new();
    let old: Vec<_> = (0..40)
        .map(|_| {
            let (client, server) = rig.loopback.pair();
            kept.push(server.try_clone().unwrap());
            let sse = before.subscribe("t").unwrap().into_sse();
            rig.adopt((client, server), HEAD, sse)
        })
        .collect();
    before.close();
    for client in &old {
        assert_eq!(rig.ended(client.id()), CloseReason::TopicClosed);
    }
    let mut new: Vec<_> = (0..40).map(|_| Follower::follow(&rig, &hub, "t")).collect();
    publish(&hub, "t", "p 0");
    for follower in &mut new {
        follower.reach(1);
    }
    for (number, mut client) in old.into_iter().enumerate() {
        use std::io::Write as _;
        match number % 3 {
            0 => client.reset(),
            1 => drop(client),
            _ => {
                client.socket.write_all(b"hello").unwrap();
                client.reset();
            }
        }
    }
    for number in 1..4 {
        publish(&hub, "t", &format!("p {number}"));
        for follower in &mut new {
            follower.reach(number + 1);
        }
    }
    assert_eq!(rig.reactor.connections(), 40);
    drop((new, kept));
    rig.emptied(&hub);
}

/// Twins that wait on the task path hear of the same events: a future that is polled by a real waker.
#[test]
fn a_body_and_a_socket_wait_for_the_same_events() {
    let _turn = beside_others();
    let hub = Hub::new();
    let rig = Rig::new(1);
    let mut body = hub.subscribe("t").unwrap().into_sse().into_body();
    let mut client = rig.connect(hub.subscribe("t").unwrap().into_sse());
    let mut expected = HEAD.as_bytes().to_vec();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..200 {
                publish(&hub, "t", &number.to_string());
                thread::yield_now();
            }
            hub.close();
        });
        while let Some(frame) = block_on(body.frame()) {
            expected.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    });
    assert_eq!(client.read_to_end(), Ended::InOrder);
    same_bytes(&client.received, &expected);
}
