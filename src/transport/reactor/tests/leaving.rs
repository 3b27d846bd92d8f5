//! Connections that are asked to leave while their topics are never idle: they get what there was, and go one after the other.

use super::{CloseReason, Rig, Sim};
use crate::drain::WHOLE;
use crate::{EndReason, Event, Hub, Topic};

/// More than a walk serves in one turn.
const MANY: usize = if cfg!(miri) { 140 } else { 400 };

/// A topic that has something new at every turn.
struct Busy {
    topic: Topic,
    published: usize,
}

impl Busy {
    fn of(hub: &Hub, key: &str) -> Self {
        Self {
            topic: hub.topic(key).unwrap(),
            published: 0,
        }
    }

    fn turn(&mut self, rig: &mut Rig) {
        let text = self.published.to_string();
        let _ = self.topic.publish(Event::text(&text)).unwrap();
        self.published += 1;
        rig.turn();
    }

    /// The drain of its hub has come so far.
    fn drain(&self, part: u32) {
        let core = self.topic.core();
        core.shared.set_drained_part(part);
        core.subscribers.ask(|waiter| waiter.ask(true));
    }
}

/// How many events of a stream of numbers a client has, all of those from the first one on.
fn events(sim: &Sim) -> usize {
    let text = String::from_utf8(sim.wire().received.clone()).unwrap();
    let numbers = text.lines().filter_map(|line| line.strip_prefix("data: "));
    numbers.enumerate().fold(0, |_, (at, number)| {
        assert_eq!(number, at.to_string());
        at + 1
    })
}

/// Takes those who are gone. Tells which.
fn gone(rig: &mut Rig, reason: EndReason) -> Vec<usize> {
    let gone: Vec<_> = rig.shard.gone.drain(..).collect();
    let expected = CloseReason::Ended(reason);
    assert!(gone.iter().all(|gone| gone.reason == expected), "{gone:?}");
    let numbers = gone.iter().map(|gone| usize::try_from(gone.id).unwrap());
    numbers.collect()
}

fn told(sim: &Sim, reason: EndReason) -> bool {
    let text = String::from_utf8(sim.wire().received.clone()).unwrap();
    text.contains(&format!("\n\n: {reason}\nretry: ")) && text.ends_with("\n\n")
}

fn crowd(rig: &mut Rig, hub: &Hub, keys: &[&str], count: usize) -> Vec<Sim> {
    let join = |_| {
        let sim = Sim::with_room(usize::MAX);
        let subscriptions = keys.iter().map(|&key| hub.subscribe(key).unwrap());
        rig.join(&sim, subscriptions.collect());
        sim
    };
    (0..count).map(join).collect()
}

#[test]
fn a_drain_of_a_busy_topic_is_spread() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let mut busy = Busy::of(&hub, "t");
    let sims = crowd(&mut rig, &hub, &["t"], MANY);
    rig.settle();
    let mut left = 0;
    for step in 1..=4 {
        let there = busy.published;
        busy.drain(WHOLE / 4 * step);
        for _ in 0..30 {
            busy.turn(&mut rig);
        }
        let leaves = gone(&mut rig, EndReason::Drained);
        left += leaves.len();
        assert_eq!(left, MANY / 4 * step as usize, "step {step}");
        for at in leaves {
            let got = events(&sims[at]);
            assert!(got >= there, "{got} of {there}");
        }
    }
    assert!(sims.iter().all(|sim| told(sim, EndReason::Drained)));
    assert_eq!(hub.subscribers(), 0);
}

#[test]
fn one_that_reads_a_busy_topic_too_keeps_nobody_of_a_calm_one() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let mut busy = Busy::of(&hub, "busy");
    let calm = Busy::of(&hub, "calm");
    let mut sims = crowd(&mut rig, &hub, &["calm"], 10);
    sims.extend(crowd(&mut rig, &hub, &["calm", "busy"], 1));
    sims.extend(crowd(&mut rig, &hub, &["busy"], MANY));
    for _ in 0..10 {
        busy.turn(&mut rig);
    }
    calm.drain(WHOLE);
    for _ in 0..30 {
        busy.turn(&mut rig);
    }
    let all: Vec<_> = (0..11).collect();
    let mut left = gone(&mut rig, EndReason::Drained);
    left.sort_unstable();
    assert_eq!(left, all);
    assert!(sims[..11].iter().all(|sim| told(sim, EndReason::Drained)));
    assert!(events(&sims[10]) >= 10);
}

#[test]
fn one_that_is_behind_gets_what_there_is_and_leaves() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let mut busy = Busy::of(&hub, "t");
    let sims = crowd(&mut rig, &hub, &["t"], 3);
    rig.settle();
    sims[0].wire().room = 3;
    sims[1].wire().room = 0;
    for _ in 0..50 {
        busy.turn(&mut rig);
    }
    let there = busy.published;
    busy.drain(WHOLE);
    busy.turn(&mut rig);
    rig.settle();
    assert_eq!(gone(&mut rig, EndReason::Drained), [2], "who could go");
    for _ in 0..10_000 {
        for sim in &sims[..2] {
            let mut wire = sim.wire();
            wire.room = wire.room.saturating_add(7);
            drop(wire);
            rig.writable(sim);
        }
        rig.settle();
    }
    assert_eq!(gone(&mut rig, EndReason::Drained).len(), 2);
    for sim in &sims {
        assert!(told(sim, EndReason::Drained) && events(sim) >= there);
    }
}

/// A client that reads more slowly than its topics go on: it never has all, and its socket is always full.
#[test]
fn a_slow_client_of_busy_topics_leaves_at_its_goal() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let mut topics = [Busy::of(&hub, "a"), Busy::of(&hub, "b")];
    for keys in [&["a"][..], &["a", "b"]] {
        let sim = crowd(&mut rig, &hub, keys, 1).remove(0);
        rig.settle();
        sim.wire().room = 10;
        let mut turn = |rig: &mut Rig| {
            for topic in &mut topics {
                topic.turn(rig);
            }
        };
        (0..20).for_each(|_| turn(&mut rig));
        let received = sim.wire().received.len();
        let key = rig.keys.last().unwrap().1;
        rig.shard.ask_to_leave(key, EndReason::Aged);
        for _ in 0..2_000 {
            turn(&mut rig);
            let mut wire = sim.wire();
            wire.room = 9;
            drop(wire);
            rig.writable(&sim);
            rig.turn();
        }
        assert_eq!(gone(&mut rig, EndReason::Aged).len(), 1, "{keys:?}");
        assert!(told(&sim, EndReason::Aged));
        // Twenty events of each, and not one turn's more.
        let text = String::from_utf8(sim.wire().received.clone()).unwrap();
        let events = text.matches("data: ").count();
        assert!(
            (20 * keys.len()..24 * keys.len()).contains(&events),
            "{events} {received}"
        );
    }
}

/// Those that fall behind, or come, when the others were asked.
#[test]
fn one_that_falls_behind_late_leaves_too() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let mut busy = Busy::of(&hub, "t");
    let sims = crowd(&mut rig, &hub, &["t"], MANY);
    let late = hub.subscribe("t").unwrap();
    rig.settle();
    for sim in &sims {
        sim.wire().room = 3;
    }
    busy.drain(WHOLE);
    for _ in 0..10 {
        busy.turn(&mut rig);
    }
    rig.settle();
    assert!(gone(&mut rig, EndReason::Drained).is_empty());
    let slow = Sim::with_room(3);
    rig.join(&slow, vec![late]);
    let there = busy.published;
    for sim in sims.iter().chain([&slow]) {
        sim.wire().room = usize::MAX;
        rig.writable(sim);
    }
    rig.settle();
    assert_eq!(gone(&mut rig, EndReason::Drained).len(), MANY + 1);
    assert!(told(&slow, EndReason::Drained) && events(&slow) == there);
    assert!(sims.iter().all(|sim| told(sim, EndReason::Drained)));
}

#[test]
fn the_old_leave_a_busy_topic_with_all_there_was() {
    let hub = Hub::builder()
        .max_connection_age(std::time::Duration::from_secs(1))
        .build()
        .unwrap();
    let mut rig = Rig::new();
    let mut busy = Busy::of(&hub, "t");
    let sims = crowd(&mut rig, &hub, &["t"], MANY);
    rig.settle();
    let mut before = [0; 3];
    for now in 1..=12 {
        rig.shard.tick(now);
        for _ in 0..5 {
            before.rotate_left(1);
            before[2] = busy.published;
            busy.turn(&mut rig);
        }
        rig.shard.gone.drain(..).for_each(|gone| {
            assert_eq!(gone.reason, CloseReason::Ended(EndReason::Aged));
            let sim = &sims[usize::try_from(gone.id).unwrap()];
            assert!(told(sim, EndReason::Aged), "it is told");
        });
    }
    rig.settle();
    assert_eq!(hub.subscribers(), 0);
    // Each got what was there at the tick at which it was old at the latest: ages differ by up to a tenth.
    assert!(sims.iter().all(|sim| events(sim) >= 8 * 5));
}
