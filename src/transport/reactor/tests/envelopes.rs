//! What arrives of wrapped events: the bytes of the task path, however little a socket takes.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http_body::Body as _;

use super::{HEAD, Rig, Sim};
use crate::{Envelope, Event, Hub, LagPolicy, Notices, SseBody, Subscription};

/// What a body has given so far.
fn bytes_of(body: &mut SseBody) -> Vec<u8> {
    let mut all = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) {
        all.extend_from_slice(frame.data_ref().unwrap());
    }
    all
}

fn body(subscription: Subscription) -> SseBody {
    let mut body = subscription.into_sse().prime(false).into_body();
    assert!(!bytes_of(&mut body).is_empty(), "the opening");
    body
}

fn answer(number: u32) -> Envelope {
    let prefix = format!("{{\"jsonrpc\":\"2.0\",\"id\":{number},\"result\":");
    Envelope::new(prefix, "}").unwrap()
}

/// Publishes one of each kind that a frame can be, on topic "t".
fn publish_kinds(hub: &Hub, mut between: impl FnMut()) {
    for text in ["one line", "several\nlines\n\nof text", ""] {
        let _ = hub.publish("t", Event::text(text)).unwrap();
        between();
    }
    let _ = hub.publish("t", Event::json(&[1, 2, 3])).unwrap();
    between();
    let _ = hub.publish("t", Event::text("x").name("named")).unwrap();
    between();
}

/// A frame that is shared, not copied.
fn publish_large(hub: &Hub) {
    let _ = hub.publish("t", Event::text(&"x".repeat(20_000))).unwrap();
}

/// Gives a socket `step` bytes of room after the other, until it gets no more.
fn drip(rig: &mut Rig, sim: &Sim, step: usize) {
    loop {
        let before = sim.wire().received.len();
        sim.wire().room = step;
        rig.writable(sim);
        rig.settle();
        if sim.wire().received.len() == before {
            return;
        }
    }
}

#[test]
fn wrapped_events_are_those_of_a_body_whatever_a_socket_takes() {
    let envelopes = [
        answer(1),
        Envelope::new("before ", "").unwrap(),
        Envelope::new("", " behind").unwrap(),
        Envelope::new("", "").unwrap(),
    ];
    for (step, with_large) in [
        (1, false),
        (2, false),
        (7, false),
        (83, true),
        (4_999, true),
    ] {
        for envelope in &envelopes {
            let hub = Hub::new();
            let subscribe = || hub.subscribe("t").unwrap().envelope(envelope.clone());
            let mut rig = Rig::new();
            // From behind, and from sync.
            let (slow, later) = (Sim::with_room(0), Sim::with_room(usize::MAX));
            let mut like = body(subscribe());
            rig.join(&slow, vec![subscribe()]);
            rig.join(&later, vec![subscribe()]);
            rig.settle();
            later.wire().room = 0;
            publish_kinds(&hub, || {});
            if with_large {
                publish_large(&hub);
                publish_kinds(&hub, || {});
            }
            rig.settle();
            drip(&mut rig, &slow, step);
            drip(&mut rig, &later, step);
            let expected = [HEAD, &bytes_of(&mut like)].concat();
            for sim in [&slow, &later] {
                assert!(sim.wire().received == expected, "{step} {envelope:?}");
            }
        }
    }
}

#[test]
fn connections_of_one_topic_have_envelopes_of_their_own_or_none() {
    let hub = Hub::new();
    let subscribe = |envelope: &Option<Envelope>| {
        let subscription = hub.subscribe("t").unwrap();
        match envelope {
            Some(envelope) => subscription.envelope(envelope.clone()),
            None => subscription,
        }
    };
    let mut rig = Rig::new();
    let mut all = Vec::new();
    for envelope in [Some(answer(1)), None, Some(answer(2))] {
        for room in [usize::MAX, 0] {
            let sim = Sim::with_room(usize::MAX);
            rig.join(&sim, vec![subscribe(&envelope)]);
            all.push((sim, room, body(subscribe(&envelope))));
        }
    }
    rig.settle();
    for (sim, room, _) in &all {
        sim.wire().room = *room;
        sim.wire().sends = 0;
    }
    publish_kinds(&hub, || {});
    rig.settle();
    for (sim, ..) in &all {
        assert_eq!(sim.wire().sends, 1, "one write for all events");
        sim.wire().room = usize::MAX;
        rig.writable(sim);
    }
    // And when all are in sync again, each frame in another write.
    rig.settle();
    publish_kinds(&hub, || rig.settle());
    publish_large(&hub);
    rig.settle();
    for (sim, _, body) in &mut all {
        let expected = [HEAD, &bytes_of(body)].concat();
        assert!(sim.wire().received == expected);
    }
}

/// More pieces than a system takes at once go out in several writes.
#[test]
fn a_long_backlog_is_wrapped_whole() {
    for (backlog, room) in [(5_000, usize::MAX), (5_000, 100), (127, usize::MAX)] {
        let hub = Hub::builder().retain_events(1 << 20).build().unwrap();
        let subscribe = || hub.subscribe("t").unwrap().envelope(answer(7));
        let mut rig = Rig::new();
        let (sync, late) = (Sim::with_room(usize::MAX), Sim::with_room(usize::MAX));
        let mut like = body(subscribe());
        rig.join(&sync, vec![subscribe()]);
        rig.settle();
        sync.wire().sends = 0;
        sync.wire().room = room;
        let waits = subscribe();
        for number in 0..backlog {
            let _ = hub.publish("t", Event::json(&number)).unwrap();
        }
        rig.join(&late, vec![waits]);
        rig.settle();
        if backlog == 127 {
            assert_eq!(sync.wire().sends, 1);
        }
        sync.wire().room = usize::MAX;
        rig.writable(&sync);
        rig.settle();
        let expected = [HEAD, &bytes_of(&mut like)].concat();
        assert!(sync.wire().received == expected);
        assert!(late.wire().received == expected);
    }
}

#[test]
fn each_topic_of_a_connection_has_its_own_envelope() {
    for step in [1, 30, usize::MAX] {
        let hub = Hub::builder().event_ids(false).build().unwrap();
        let kinds = [Some(answer(1)), None, Some(answer(3))];
        let subscribe = |topic: usize| {
            let subscription = hub.subscribe(topic.to_string().as_str()).unwrap();
            match &kinds[topic] {
                Some(envelope) => subscription.envelope(envelope.clone()),
                None => subscription,
            }
        };
        let mut rig = Rig::new();
        let sim = Sim::with_room(usize::MAX);
        rig.join(&sim, (0..3).map(subscribe).collect());
        rig.settle();
        sim.wire().room = 0;
        let mut bodies: Vec<_> = (0..3).map(|topic| body(subscribe(topic))).collect();
        for number in 0..20 {
            for topic in 0..3 {
                let text = format!("{topic} has {number}");
                let key = topic.to_string();
                let _ = hub.publish(key.as_str(), Event::text(&text)).unwrap();
            }
            if number == 10 {
                rig.settle();
            }
        }
        rig.settle();
        drip(&mut rig, &sim, step);
        let received = String::from_utf8(sim.wire().received.clone()).unwrap();
        for (topic, body) in bodies.iter_mut().enumerate() {
            let of_topic = |block: &&str| block.contains(&format!("{topic} has "));
            let got: Vec<_> = received.split_inclusive("\n\n").filter(of_topic).collect();
            let expected = String::from_utf8(bytes_of(body)).unwrap();
            assert_eq!(got.concat(), expected, "topic {topic}, {step}");
        }
        // Topics that end take nothing of the others with them.
        hub.close();
        drip(&mut rig, &sim, step);
        assert!(sim.wire().closed);
    }
}

#[test]
fn notices_stand_outside_of_envelopes() {
    for (notices, told) in [
        (Notices::Events, "event: lag\ndata: {\"missed\":"),
        (Notices::Comments, ": lag, "),
    ] {
        let hub = Hub::builder().retain_events(4).build().unwrap();
        let subscribe = || {
            let subscription = hub.subscribe("t").unwrap().notices(notices);
            subscription.envelope(answer(1))
        };
        let mut rig = Rig::new();
        let sim = Sim::with_room(usize::MAX);
        rig.join(&sim, vec![subscribe()]);
        rig.settle();
        sim.wire().room = 20;
        let mut like = body(subscribe());
        for number in 0..1000 {
            let _ = hub.publish("t", Event::json(&number)).unwrap();
            if number == 0 {
                rig.settle();
                drop(bytes_of(&mut like));
            }
        }
        drip(&mut rig, &sim, 3);
        let received = String::from_utf8(sim.wire().received.clone()).unwrap();
        assert_eq!(received.matches(told).count(), 1, "{received}");
        let expected = String::from_utf8(bytes_of(&mut like)).unwrap();
        assert!(received.ends_with(&expected), "{received}\n{expected}");
    }
}

/// However little of them a socket takes at a time, and whoever lagged: the connection or the shard.
#[test]
fn control_events_that_were_missed_follow_the_notice() {
    let policies = [
        LagPolicy::Notify,
        LagPolicy::Disconnect,
        LagPolicy::SkipToLatest,
    ];
    for policy in policies {
        for envelope in [None, Some(answer(1))] {
            for step in [1, 2, 7, 83, 400, 2_000] {
                let hub = Hub::builder().retain_events(4).build().unwrap();
                let subscribe = || {
                    let subscription = hub.subscribe("t").unwrap().lag_policy(policy);
                    match &envelope {
                        Some(envelope) => subscription.envelope(envelope.clone()),
                        None => subscription,
                    }
                };
                let mut rig = Rig::new();
                let (slow, sync) = (Sim::with_room(usize::MAX), Sim::with_room(usize::MAX));
                rig.join(&slow, vec![subscribe()]);
                rig.join(&sync, vec![subscribe()]);
                rig.settle();
                let mut like = body(subscribe());
                let mut all = HEAD.to_vec();
                slow.wire().room = 20;
                for number in 0..1000 {
                    let text = number.to_string();
                    let event = Event::text(&text).name("n");
                    let event = if number % 100 == 7 {
                        event.control()
                    } else {
                        event
                    };
                    let _ = hub.publish("t", event).unwrap();
                    if number == 0 {
                        rig.settle();
                        all.extend(bytes_of(&mut like));
                    }
                }
                rig.settle();
                drip(&mut rig, &slow, step);
                all.extend(bytes_of(&mut like));
                let expected = String::from_utf8(all).unwrap();
                for sim in [&slow, &sync] {
                    let received = String::from_utf8(sim.wire().received.clone()).unwrap();
                    assert_eq!(received, expected, "{policy:?}, {step}");
                    assert_eq!(sim.wire().closed, policy == LagPolicy::Disconnect);
                }
                assert!(expected.matches("07").count() >= 8, "{expected}");
            }
        }
    }
}
