//! A shard on sockets that take as much as a test wants, beside a model: every connection gets every event of its topics
//! once, in order and in its envelope, or is told exactly how many it missed; what it keeps is dropped when it is gone.

mod ended;
mod envelopes;
mod leaving;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use smallvec::SmallVec;

use super::CloseReason;
use super::connection::Key;
use super::inbox::{Inbox, Rouse, Signal};
use super::shard::{Gone, Joiner, Limits, Shard};
use super::socket::Socket;
use crate::ending::Spot;
use crate::log::tests::HeldUp;
use crate::sync::{AtomicUsize, HostArc, Mutex, MutexGuard, Ordering};
use crate::{EndHandle, EndReason, Envelope, Event, Hub, LagPolicy, Topic};

/// The far end of a simulated socket.
#[derive(Debug, Default)]
struct Wire {
    /// Bytes that still fit.
    room: usize,
    received: Vec<u8>,
    /// What a read finds next.
    inbound: usize,
    closed: bool,
    broken: bool,
    sends: usize,
}

#[derive(Debug, Clone)]
struct Sim(HostArc<Mutex<Wire>>);

impl Sim {
    fn with_room(room: usize) -> Self {
        Self(HostArc::new(Mutex::new(Wire {
            room,
            ..Wire::default()
        })))
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

/// The shard's end: closed when dropped.
#[derive(Debug)]
struct Near(Sim);

impl Drop for Near {
    fn drop(&mut self) {
        self.0.wire().closed = true;
    }
}

impl Socket for Near {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.wire();
        wire.sends += 1;
        if wire.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let fits = bytes.len().min(wire.room);
        if fits == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room -= fits;
        wire.received.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(pieces.len() <= 512, "half of what systems take");
        let all: Vec<_> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        self.send(&all)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.wire();
        if wire.inbound == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let took = wire.inbound.min(into.len());
        wire.inbound -= took;
        Ok(took)
    }
}

struct NoThread;

impl Rouse for NoThread {
    fn rouse(&self) {}
}

/// The commands of the inbox are the connections that were ended from outside.
type SimInbox = Inbox<Key, NoThread>;

struct SimSpot(HostArc<SimInbox>, Key);

impl Spot for SimSpot {
    fn reach(&self) {
        self.0.command(self.1);
    }
}

struct Rig {
    shard: Shard<Near>,
    inbox: HostArc<SimInbox>,
    /// Who has the inbox while no connection has a spot.
    inbox_owners: usize,
    next_id: u64,
    keys: Vec<(Sim, Key)>,
}

/// What is sent first.
const HEAD: &[u8] = b"HEAD\n\n";

const STALL: u64 = 20;

impl Rig {
    fn new() -> Self {
        let inbox = Inbox::new(NoThread);
        let signals = HostArc::clone(&inbox);
        let commands = HostArc::clone(&inbox);
        let limits = Limits {
            tick: Duration::from_millis(100),
            stall: STALL,
            idle: None,
            batch_bytes: 64 * 1024,
        };
        Self {
            shard: Shard::new(
                limits,
                Box::new(move |topic| Signal::new(&signals, topic).for_shard()),
                Box::new(move |key| HostArc::new(SimSpot(HostArc::clone(&commands), key))),
            ),
            inbox_owners: HostArc::strong_count(&inbox),
            inbox,
            next_id: 0,
            keys: Vec::new(),
        }
    }

    fn join(&mut self, sim: &Sim, subscriptions: Vec<crate::Subscription>) -> Key {
        let id = self.next_id;
        self.next_id += 1;
        let mut joined = None;
        self.shard.join(
            Joiner {
                id,
                socket: Near(sim.clone()),
                first: Bytes::from_static(HEAD),
                subscriptions: SmallVec::from_vec(subscriptions),
            },
            |_, key| {
                joined = Some(key);
                Ok(())
            },
        );
        let key = joined.unwrap();
        self.keys.push((sim.clone(), key));
        key
    }

    /// A socket that has room again is told of, also one that is gone.
    fn writable(&mut self, sim: &Sim) {
        let is_it = |at: &&(Sim, Key)| HostArc::ptr_eq(&at.0.0, &sim.0);
        let &(_, key) = self.keys.iter().find(is_it).unwrap();
        self.shard.writable(key);
    }

    fn turn(&mut self) {
        while let Some(key) = self.inbox.next_command() {
            self.shard.end(key);
        }
        while let Some(topic) = self.inbox.next_topic() {
            self.shard.signalled(topic);
        }
        self.shard.turn();
    }

    /// Turns until nothing is left to do; fails if that never comes.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            if !self.shard.is_busy() && self.inbox.try_sleep() {
                self.inbox.stay_awake();
                return;
            }
        }
        panic!("the shard is busy for ever");
    }
}

/// Counts its drop.
struct Token(HostArc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        // Relaxed: a count, on one thread.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is kept, to be counted.
fn token() -> (HostArc<AtomicUsize>, Box<Token>) {
    let drops = HostArc::new(AtomicUsize::new(0));
    let token = Token(HostArc::clone(&drops));
    (drops, Box::new(token))
}

fn count(drops: &AtomicUsize) -> usize {
    // Relaxed: on one thread.
    drops.load(Ordering::Relaxed)
}

/// What one client has received, checked event by event.
struct Reader {
    /// The next number of each topic.
    next: HashMap<String, u64>,
    envelopes: HashMap<String, Envelope>,
    missed: u64,
    /// Whether it was told that it was ended.
    told: bool,
}

impl Reader {
    fn check(&mut self, received: &[u8], epochs: &HashMap<String, String>, whole: bool) {
        let text = std::str::from_utf8(received).unwrap();
        let mut rest = text.strip_prefix("HEAD\n\n").unwrap_or_else(|| {
            assert!(!whole && "HEAD\n\n".starts_with(text), "{text:?}");
            ""
        });
        while let Some((block, after)) = rest.split_once("\n\n") {
            rest = after;
            assert!(!self.told, "nothing follows the last comment");
            let aged = format!(": {}\nretry: ", EndReason::Aged);
            if block == format!(": {}", EndReason::Replaced) || block.starts_with(&aged) {
                self.told = true;
                continue;
            }
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let data = field("data: ").unwrap_or_else(|| panic!("no data in {block:?}"));
            let (epoch, _) = field("id: ").unwrap().split_once('-').unwrap();
            let topic = &epochs[epoch];
            let next = self
                .next
                .get_mut(topic)
                .expect("a topic of this connection");
            if field("event: ") == Some("lag") {
                let missed = data.strip_prefix("{\"missed\":").unwrap();
                let missed: u64 = missed.strip_suffix('}').unwrap().parse().unwrap();
                *next += missed;
                self.missed += missed;
                continue;
            }
            let data = match self.envelopes.get(topic) {
                None => data,
                Some(envelope) => {
                    let data = data.strip_prefix(envelope.prefix()).unwrap();
                    data.strip_suffix(envelope.suffix()).unwrap()
                }
            };
            let mut parts = data.split(':');
            assert_eq!(parts.next(), Some(topic.as_str()));
            let number: u64 = parts.next().unwrap().parse().unwrap();
            assert_eq!(number, *next, "topic {topic}");
            *next += 1;
        }
        assert!(!whole || rest.is_empty(), "half an event: {rest:?}");
    }
}

#[derive(Debug, Clone)]
enum Op {
    Publish {
        topic: usize,
        pad: usize,
    },
    Join {
        topics: Vec<usize>,
        room: usize,
        wrapped: bool,
        /// Of ten: for 0, publishers take their places between the subscription and the join, and are held up; for less than 5,
        /// in topics that nobody reads yet.
        held_up: u32,
    },
    End {
        who: usize,
    },
    Age {
        who: usize,
    },
    Leave {
        who: usize,
    },
    Break {
        who: usize,
    },
    Room {
        who: usize,
        bytes: usize,
    },
    /// A publisher takes its place, and is held up.
    HoldUp {
        topic: usize,
    },
    /// One that was held up fills its place.
    Fill {
        which: usize,
    },
    Turn,
    Tick,
}

const TOPICS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let pad = prop_oneof![8 => 0_usize..40, 1 => Just(3_000_usize), 1 => Just(20_000_usize)];
    let room = prop_oneof![3 => 0_usize..200, 2 => Just(1_usize << 40)];
    prop_oneof![
        6 => (0..TOPICS, pad).prop_map(|(topic, pad)| Op::Publish { topic, pad }),
        4 => (prop::collection::vec(0..TOPICS, 1..3), room, any::<bool>(), 0..10_u32)
            .prop_map(|(topics, room, wrapped, held_up)| Op::Join { topics, room, wrapped, held_up }),
        1 => (0_usize..400).prop_map(|who| Op::End { who }),
        1 => (0_usize..400).prop_map(|who| Op::Age { who }),
        1 => (0_usize..400).prop_map(|who| Op::Leave { who }),
        1 => (0_usize..400).prop_map(|who| Op::Break { who }),
        6 => ((0_usize..400), 1_usize..30_000).prop_map(|(who, bytes)| Op::Room { who, bytes }),
        1 => (0..TOPICS).prop_map(|topic| Op::HoldUp { topic }),
        1 => (0_usize..10).prop_map(|which| Op::Fill { which }),
        4 => Just(Op::Turn),
        1 => Just(Op::Tick),
    ]
}

struct Client {
    sim: Sim,
    key: Key,
    reader: Reader,
    handles: Vec<EndHandle>,
    drops: Vec<HostArc<AtomicUsize>>,
    ended: bool,
    /// What had been published when it was asked to leave.
    aged: Option<[u64; TOPICS]>,
    /// Whether it left for that.
    left: bool,
    gone: bool,
}

impl Client {
    /// Whoever leaves as asked has got what there was then.
    fn check_goals(&self) {
        for (topic, next) in &self.reader.next {
            let topic: usize = topic.parse().unwrap();
            let goal = self.aged.expect("it was asked")[topic];
            assert!(*next >= goal, "{next} of {goal} in topic {topic}");
        }
    }

    /// What is kept for it is dropped when it is gone.
    fn check_kept(&self) {
        for drops in &self.drops {
            assert_eq!(count(drops), usize::from(self.gone));
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
/// Runs `ops` and checks every client at the end. Tells how many events were missed, with notice.
fn run(ops: Vec<Op>, crowd: usize, hub: &Hub) -> u64 {
    let mut rig = Rig::new();
    let mut published = [0_u64; TOPICS];
    let mut clients: Vec<Client> = Vec::new();
    let mut epochs = HashMap::new();
    let mut now = 0;
    // Handles keep the topics, and so their numbers.
    let hub_topics: Vec<_> = (0..TOPICS)
        .map(|topic| hub.topic(topic.to_string().as_str()).unwrap())
        .collect();
    for (number, topic) in hub_topics.iter().enumerate() {
        let id = topic.position().to_string();
        let (epoch, _) = id.split_once('-').unwrap();
        epochs.insert(epoch.to_owned(), number.to_string());
    }
    let mut held_ups = Vec::new();
    let publish = |topic: usize, pad: usize, published: &mut [u64; TOPICS]| {
        let text = format!("{topic}:{}:{}", published[topic], "x".repeat(pad));
        let sent = hub_topics[topic].publish(Event::text(&text)).unwrap();
        assert_eq!(sent.subscribers(), hub_topics[topic].subscribers());
        // Without subscribers nothing is kept, so nothing is numbered.
        published[topic] += u64::from(sent.subscribers() > 0);
    };
    let hold_up = |topic: usize, published: &mut [u64; TOPICS]| {
        let core: &crate::topic::TopicCore = hub_topics[topic].core();
        if core.subscriber_count() == 0 {
            return None;
        }
        let held_up = core.log.reserve()?;
        let text = format!("{topic}:{}:", published[topic]);
        published[topic] += 1;
        Some((topic, text, held_up))
    };
    let fill = |(topic, text, held_up): (usize, String, HeldUp)| {
        let core = hub_topics[topic].core();
        core.log.fill_reserved(held_up, &text, core.epoch);
        core.subscribers.wake();
    };
    // Enough members for walks that take several turns.
    let crowd = (0..crowd).map(|_| Op::Join {
        topics: vec![0],
        room: 1 << 40,
        wrapped: false,
        held_up: 9,
    });
    for op in crowd.chain(ops) {
        match op {
            Op::Publish { topic, pad } => {
                let there = clients.iter().filter(|client| {
                    !client.gone && client.reader.next.contains_key(&topic.to_string())
                });
                assert_eq!(hub_topics[topic].subscribers(), there.count());
                publish(topic, pad, &mut published);
            }
            Op::Join {
                mut topics,
                room,
                wrapped,
                held_up,
            } => {
                topics.sort_unstable();
                topics.dedup();
                let sim = Sim::with_room(room);
                let mut envelopes = HashMap::new();
                let (mut handles, mut drops) = (Vec::new(), Vec::new());
                let mut subscriptions = Vec::new();
                let is_first = |&topic: &usize| hub_topics[topic].subscribers() == 0;
                let holds: Vec<_> = topics
                    .iter()
                    .copied()
                    .filter(|topic| held_up == 0 || held_up < 5 && is_first(topic))
                    .collect();
                for topic in &topics {
                    let mut subscription = hub.subscribe(topic.to_string().as_str()).unwrap();
                    if wrapped {
                        let (prefix, suffix) = [("<", ">"), ("", "]"), ("[", "")][topic % 3];
                        let prefix = prefix.repeat(clients.len() % 5);
                        let envelope = Envelope::new(prefix, suffix).unwrap();
                        envelopes.insert(topic.to_string(), envelope.clone());
                        subscription = subscription.envelope(envelope);
                    }
                    if !clients.len().is_multiple_of(3) {
                        handles.push(subscription.end_handle());
                        let (dropped, token) = token();
                        subscription.keep(token);
                        drops.push(dropped);
                    }
                    subscriptions.push(subscription);
                }
                let next: HashMap<_, _> = topics
                    .iter()
                    .map(|&topic| (topic.to_string(), published[topic]))
                    .collect();
                for topic in holds {
                    // They have to be there for a place to be free behind them: segments grow.
                    (0..2).for_each(|_| publish(topic, 0, &mut published));
                    held_ups.extend(hold_up(topic, &mut published));
                }
                clients.push(Client {
                    key: rig.join(&sim, subscriptions),
                    sim,
                    reader: Reader {
                        next,
                        envelopes,
                        missed: 0,
                        told: false,
                    },
                    handles,
                    drops,
                    ended: false,
                    aged: None,
                    left: false,
                    gone: false,
                });
            }
            Op::End { who } => {
                let among = clients.len().max(1);
                if let Some(client) = clients.get_mut(who % among)
                    && let Some(handle) = client.handles.get(who % 2)
                {
                    // With two topics it has two handles.
                    let ended = handle.end(EndReason::Replaced);
                    assert!(client.ended || ended != client.gone);
                    client.ended |= !client.gone;
                }
            }
            Op::Age { who } => {
                let among = clients.len().max(1);
                if let Some(client) = clients.get_mut(who % among).filter(|c| !c.gone) {
                    client.aged.get_or_insert(published);
                    rig.shard.ask_to_leave(client.key, EndReason::Aged);
                }
            }
            Op::Leave { who } => {
                let among = clients.len().max(1);
                if let Some(client) = clients.get_mut(who % among).filter(|c| !c.gone) {
                    rig.shard.close(client.key, CloseReason::PeerClosed);
                    client.gone = true;
                    assert!(client.sim.wire().closed);
                    assert_eq!(
                        rig.shard.gone.pop().unwrap().reason,
                        CloseReason::PeerClosed
                    );
                }
            }
            Op::Break { who } => {
                let among = clients.len().max(1);
                if let Some(client) = clients.get_mut(who % among).filter(|c| !c.gone) {
                    client.sim.wire().broken = true;
                }
            }
            Op::Room { who, bytes } => {
                let among = clients.len().max(1);
                if let Some(client) = clients.get_mut(who % among) {
                    let mut wire = client.sim.wire();
                    wire.room = wire.room.saturating_add(bytes);
                    drop(wire);
                    // Stale keys must do nothing.
                    rig.shard.writable(client.key);
                }
            }
            Op::HoldUp { topic } => {
                held_ups.extend(hold_up(topic, &mut published));
            }
            Op::Fill { which } => {
                if !held_ups.is_empty() {
                    fill(held_ups.swap_remove(which % held_ups.len()));
                }
            }
            Op::Turn => rig.turn(),
            Op::Tick => {
                now += 1;
                rig.shard.tick(now);
            }
        }
        note_gone(&mut rig, &mut clients);
    }
    for client in clients.iter().filter(|client| !client.gone) {
        client.sim.wire().room = usize::MAX;
        rig.shard.writable(client.key);
    }
    // Whoever waits for a publisher keeps nobody busy.
    rig.settle();
    held_ups.drain(..).for_each(fill);
    rig.settle();
    note_gone(&mut rig, &mut clients);
    let mut missed = 0;
    for client in &mut clients {
        client.check_kept();
        let wire = client.sim.wire();
        let whole = !client.gone && !wire.broken;
        let asked = client.ended || client.aged.is_some();
        assert!(!whole || !asked, "it is closed when it took all");
        client.reader.check(&wire.received, &epochs, whole);
        if client.left {
            client.check_goals();
        }
        if whole {
            for (topic, next) in &client.reader.next {
                let topic: usize = topic.parse().unwrap();
                assert_eq!(*next, published[topic], "all of topic {topic}");
            }
        }
        missed += client.reader.missed;
    }
    while rig.shard.close_some(7, CloseReason::Shutdown) {}
    assert_eq!(hub.subscribers(), 0);
    for client in &mut clients {
        client.gone = true;
        client.check_kept();
        assert!(
            client
                .handles
                .iter()
                .all(|it| !it.end(EndReason::Requested))
        );
    }
    assert!(clients.iter().all(|client| client.sim.wire().closed));
    missed
}

/// Who is gone, and whether for a reason.
fn note_gone(rig: &mut Rig, clients: &mut [Client]) {
    for gone in rig.shard.gone.drain(..) {
        let client = &mut clients[usize::try_from(gone.id).unwrap()];
        match gone.reason {
            CloseReason::Stalled => {}
            CloseReason::PeerReset => assert!(client.sim.wire().broken),
            CloseReason::Ended(EndReason::Replaced) => {
                assert!(client.ended);
                let notice = format!(": {}\n\n", EndReason::Replaced);
                assert!(client.sim.wire().received.ends_with(notice.as_bytes()));
            }
            CloseReason::Ended(EndReason::Aged) => client.left = true,
            reason => panic!("{reason:?}"),
        }
        client.gone = true;
        client.check_kept();
    }
}

/// Miri takes seconds for what otherwise takes microseconds, and has no files.
fn config() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig {
            cases: 2,
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    } else {
        ProptestConfig::with_cases(100)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_is_lost_or_doubled(
        ops in prop::collection::vec(op(), 1..250),
        crowd in prop_oneof![Just(0_usize), Just(150), Just(400)],
    ) {
        let hub = Hub::builder()
            .retain_events(1 << 20)
            .retain_bytes(1 << 30)
            .build()
            .unwrap();
        prop_assert_eq!(run(ops, crowd, &hub), 0);
    }

    #[test]
    fn what_is_missed_is_told(ops in prop::collection::vec(op(), 50..400)) {
        let hub = Hub::builder()
            .retain_events(1)
            .retain_bytes(1 << 20)
            .build()
            .unwrap();
        run(ops, 150, &hub);
    }
}

/// One that lags is told so, once, and exactly.
#[test]
fn lag_is_told_by_its_policy() {
    for (policy, after) in [
        (LagPolicy::Notify, true),
        (LagPolicy::SkipToLatest, true),
        (LagPolicy::Disconnect, false),
    ] {
        let hub = Hub::builder().retain_events(1).build().unwrap();
        let mut rig = Rig::new();
        let sim = Sim::with_room(usize::MAX);
        let subscription = hub.subscribe("t").unwrap().lag_policy(policy);
        rig.join(&sim, vec![subscription]);
        rig.settle();
        sim.wire().room = 0;
        let _ = hub.publish("t", Event::text("first")).unwrap();
        rig.settle();
        for number in 0..1000 {
            let _ = hub.publish("t", Event::text(&number.to_string())).unwrap();
            if number % 10 == 0 {
                rig.settle();
            }
        }
        sim.wire().room = usize::MAX;
        rig.shard.writable(Key {
            index: 0,
            generation: 1,
        });
        rig.settle();
        let text = String::from_utf8(sim.wire().received.clone()).unwrap();
        assert_eq!(text.matches("event: lag").count(), 1, "{text}");
        assert_eq!(text.ends_with("data: 999\n\n"), after, "{text}");
        assert_eq!(sim.wire().closed, !after);
        let reasons: Vec<_> = rig.shard.gone.iter().map(|gone| gone.reason).collect();
        let expected: &[_] = if after { &[] } else { &[CloseReason::Lagged] };
        assert_eq!(reasons, expected);
        if policy == LagPolicy::SkipToLatest {
            assert_eq!(text.matches("data: ").count(), 2, "{text}");
        }
    }
}

/// The shard's own subscription lags: those in sync end, and those who came later go on.
#[test]
fn who_joins_beside_a_lag_does_not_end_with_it() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let strict = || {
        let subscription = hub.subscribe("t").unwrap();
        vec![subscription.lag_policy(LagPolicy::Disconnect)]
    };
    let mut rig = Rig::new();
    let (early, late) = (Sim::with_room(usize::MAX), Sim::with_room(usize::MAX));
    rig.join(&early, strict());
    rig.settle();
    for _ in 0..1000 {
        let _ = hub.publish("t", Event::text("old")).unwrap();
    }
    rig.join(&late, strict());
    rig.settle();
    assert!(early.wire().closed && !late.wire().closed);
    let _ = hub.publish("t", Event::text("new")).unwrap();
    rig.settle();
    let received = String::from_utf8(late.wire().received.clone()).unwrap();
    assert_eq!(received.matches("data: ").count(), 1, "{received}");
    assert!(received.ends_with("data: new\n\n"), "{received}");
    assert_eq!(rig.shard.gone.len(), 1);
    assert_eq!(rig.shard.gone[0].reason, CloseReason::Lagged);
}

#[test]
fn every_cut_of_a_backlog_is_mended() {
    let pattern = ["a", "bb", "", "cccc"];
    let all = {
        let hub = Hub::new();
        let mut rig = Rig::new();
        let sim = Sim::with_room(usize::MAX);
        rig.join(&sim, vec![hub.subscribe("t").unwrap()]);
        for text in pattern {
            let _ = hub.publish("t", Event::text(text)).unwrap();
        }
        rig.settle();
        sim.wire().received.len()
    };
    for first in 0..all {
        for second in [0, 1, 2, all / 2] {
            // Of its own, so that ids are as long.
            let hub = Hub::new();
            let mut rig = Rig::new();
            let sim = Sim::with_room(first);
            let key = rig.join(&sim, vec![hub.subscribe("t").unwrap()]);
            for text in pattern {
                let _ = hub.publish("t", Event::text(text)).unwrap();
            }
            rig.settle();
            assert_eq!(sim.wire().received.len(), first);
            for room in [second, usize::MAX] {
                sim.wire().room = room;
                rig.shard.writable(key);
                rig.settle();
            }
            let received = String::from_utf8(sim.wire().received.clone()).unwrap();
            let data: Vec<_> = received
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .collect();
            assert_eq!(data, pattern, "cut at {first} and {second} more");
            assert_eq!(received.len(), all);
        }
    }
}

#[test]
fn who_takes_no_byte_is_closed_in_time() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let stalled = Sim::with_room(10);
    let slow = Sim::with_room(10);
    let healthy = Sim::with_room(usize::MAX);
    for sim in [&stalled, &slow, &healthy] {
        rig.join(sim, vec![hub.subscribe("t").unwrap()]);
    }
    let _ = hub.publish("t", Event::text(&"x".repeat(500))).unwrap();
    rig.settle();
    for now in 1..=5 * STALL {
        if now % (STALL - 1) == 0 {
            // Too little for the poll to tell of it.
            slow.wire().room += 1;
        }
        rig.shard.tick(now);
        rig.settle();
        assert_eq!(stalled.wire().closed, now >= STALL, "at {now}");
    }
    assert!(!slow.wire().closed && !healthy.wire().closed);
    let gone = Gone {
        id: 0,
        reason: CloseReason::Stalled,
    };
    assert_eq!(rig.shard.gone, [gone]);
}

#[test]
fn too_much_input_ends_a_connection() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let sim = Sim::with_room(usize::MAX);
    let key = rig.join(&sim, vec![hub.subscribe("t").unwrap()]);
    rig.settle();
    let mut scratch = [0; 4096];
    sim.wire().inbound = 64 * 1024;
    rig.shard.readable(key, &mut scratch);
    assert!(!sim.wire().closed);
    sim.wire().inbound = 1;
    rig.shard.readable(key, &mut scratch);
    assert!(sim.wire().closed);
    assert_eq!(rig.shard.gone[0].reason, CloseReason::TooMuchInput);
}

#[test]
fn a_closed_topic_ends_its_streams_and_spares_others() {
    let hub = Hub::new();
    let other = Hub::new();
    let mut rig = Rig::new();
    let (one, two) = (Sim::with_room(usize::MAX), Sim::with_room(usize::MAX));
    let behind = Sim::with_room(8);
    rig.join(&one, vec![hub.subscribe("t").unwrap()]);
    let both = vec![hub.subscribe("t").unwrap(), other.subscribe("t").unwrap()];
    rig.join(&two, both);
    let key = rig.join(&behind, vec![hub.subscribe("t").unwrap()]);
    rig.settle();
    let _ = hub.publish("t", Event::text("last")).unwrap();
    hub.close();
    rig.settle();
    assert!(one.wire().closed && !two.wire().closed && !behind.wire().closed);
    behind.wire().room = usize::MAX;
    rig.shard.writable(key);
    rig.settle();
    assert!(behind.wire().closed);
    assert!(behind.wire().received.ends_with(b"data: last\n\n"));
    let _ = other.publish("t", Event::text("still here")).unwrap();
    rig.settle();
    assert!(two.wire().received.ends_with(b"data: still here\n\n"));
    other.close();
    rig.settle();
    assert!(two.wire().closed);
    assert_eq!(rig.shard.gone.len(), 3);
    assert!(
        rig.shard
            .gone
            .iter()
            .all(|gone| gone.reason == CloseReason::TopicClosed)
    );
    assert_eq!((hub.subscribers(), other.subscribers()), (0, 0));
}

fn publish(topic: &Topic, times: usize, text: &str) {
    for _ in 0..times {
        let _ = topic.publish(Event::text(text)).unwrap();
    }
}

/// The payloads that have come.
fn texts(sim: &Sim) -> Vec<String> {
    let text = String::from_utf8(sim.wire().received.clone()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(str::to_owned).collect()
}

/// The shard's own subscription begins behind a publisher that is held up between taking its place and filling it. Who
/// resumes from before that place comes to stand there: it gets what is there, keeps nobody busy, and goes on when it is filled.
#[test]
fn who_stands_before_a_hole_goes_on_when_it_is_filled() {
    // One alone, two on one topic, and one that has something to get of another topic meanwhile.
    for (connections, topics) in [(1, 1), (2, 1), (2, 2)] {
        let hub = Hub::builder().history(true).build().unwrap();
        let t = hub.topic("t").unwrap();
        let start = t.position();
        let mut rig = Rig::new();
        for number in 0..5 {
            let _ = t.publish(Event::text(&number.to_string())).unwrap();
        }
        let hole = t.core().log.reserve().unwrap();
        let sims: Vec<_> = (0..connections)
            .map(|_| Sim::with_room(usize::MAX))
            .collect();
        for sim in &sims {
            let mut subscriptions = vec![hub.subscribe_from("t", start).unwrap()];
            if topics == 2 {
                subscriptions.push(hub.subscribe("other").unwrap());
            }
            rig.join(sim, subscriptions);
        }
        rig.settle();
        let mut expected: Vec<_> = (0..5).map(|number| number.to_string()).collect();
        assert!(sims.iter().all(|sim| texts(sim) == expected));
        // What comes behind the hole is no reason to be busy either.
        let _ = t.publish(Event::text("behind")).unwrap();
        rig.settle();
        assert!(sims.iter().all(|sim| texts(sim) == expected));
        if topics == 2 {
            let _ = hub.publish("other", Event::text("other")).unwrap();
            rig.settle();
            expected.push("other".into());
            assert!(sims.iter().all(|sim| texts(sim) == expected));
        }
        t.core().log.fill_reserved(hole, "late", start.epoch());
        t.core().subscribers.wake();
        rig.settle();
        expected.extend(["late", "behind"].map(String::from));
        assert!(sims.iter().all(|sim| texts(sim) == expected));
        // All are in sync again.
        let _ = t.publish(Event::text("new")).unwrap();
        rig.settle();
        expected.push("new".into());
        for sim in &sims {
            assert_eq!(texts(sim), expected, "{connections} with {topics} topics");
        }
    }
}

/// The hole of one topic is filled while the connection is busy with another one.
#[test]
fn a_hole_that_is_filled_while_another_topic_has_more_is_not_forgotten() {
    let large = "x".repeat(40_000);
    for turns in 0..8 {
        let hub = Hub::builder().history(true).build().unwrap();
        let (t, other) = (hub.topic("t").unwrap(), hub.topic("other").unwrap());
        let (start, start_of_other) = (t.position(), other.position());
        let mut rig = Rig::new();
        let _ = t.publish(Event::text("first")).unwrap();
        let _ = t.publish(Event::text("second")).unwrap();
        let hole = t.core().log.reserve().unwrap();
        for _ in 0..6 {
            let _ = other.publish(Event::text(&large)).unwrap();
        }
        let sim = Sim::with_room(usize::MAX);
        let subscriptions = vec![
            hub.subscribe_from("t", start).unwrap(),
            hub.subscribe_from("other", start_of_other).unwrap(),
        ];
        rig.join(&sim, subscriptions);
        for _ in 0..turns {
            rig.turn();
        }
        t.core().log.fill_reserved(hole, "late", start.epoch());
        t.core().subscribers.wake();
        rig.settle();
        let text = String::from_utf8(sim.wire().received.clone()).unwrap();
        assert_eq!(text.matches("data: xxx").count(), 6, "after {turns} turns");
        assert_eq!(text.matches("data: late").count(), 1, "after {turns} turns");
    }
}

/// A publisher that never fills its place, for the log has moved on: what is there no more counts as missed.
#[test]
fn a_hole_that_is_evicted_is_missed_by_those_before_it() {
    let hub = Hub::builder()
        .history(true)
        .retain_events(70)
        .build()
        .unwrap();
    let t = hub.topic("t").unwrap();
    let start = t.position();
    let mut rig = Rig::new();
    let _ = t.publish(Event::text("first")).unwrap();
    let _ = t.publish(Event::text("second")).unwrap();
    drop(t.core().log.reserve().unwrap());
    let sim = Sim::with_room(usize::MAX);
    rig.join(&sim, vec![hub.subscribe_from("t", start).unwrap()]);
    rig.settle();
    for _ in 0..300 {
        let _ = t.publish(Event::text("more")).unwrap();
        rig.settle();
    }
    let text = String::from_utf8(sim.wire().received.clone()).unwrap();
    let lag = "event: lag\ndata: {\"missed\":";
    assert_eq!(text.matches(lag).count(), 1, "{text}");
    let (_, missed) = text.split_once(lag).unwrap();
    let missed: usize = missed.split('}').next().unwrap().parse().unwrap();
    assert_eq!(text.matches("data: more").count() + missed, 301);
    assert_eq!(rig.shard.gone.len(), 0);
}

/// The topic is closed while a place below the shard's own subscription is not filled: who waits for it gets it, and ends.
#[test]
fn who_stands_before_a_hole_of_a_closed_topic_gets_what_fills_it() {
    let hub = Hub::builder().history(true).build().unwrap();
    let t = hub.topic("t").unwrap();
    let start = t.position();
    let mut rig = Rig::new();
    for _ in 0..5 {
        let _ = t.publish(Event::text("early")).unwrap();
    }
    let holes = [(); 2].map(|()| t.core().log.reserve().unwrap());
    let sim = Sim::with_room(usize::MAX);
    rig.join(&sim, vec![hub.subscribe_from("t", start).unwrap()]);
    rig.settle();
    hub.close();
    for hole in holes {
        // It keeps nobody busy.
        rig.settle();
        assert!(!sim.wire().closed);
        t.core().log.fill_reserved(hole, "late", start.epoch());
        t.core().subscribers.wake();
    }
    rig.settle();
    assert!(sim.wire().closed);
    assert_eq!(texts(&sim)[5..], ["late", "late"]);
    assert_eq!(rig.shard.gone[0].reason, CloseReason::TopicClosed);
}

/// It meets the hole when it joins, before the subscription of the crowd has parked: nobody wakes that one.
#[test]
fn a_hole_that_is_filled_before_the_first_turn_is_not_forgotten() {
    let hub = Hub::builder().history(true).build().unwrap();
    let t = hub.topic("t").unwrap();
    let mut rig = Rig::new();
    publish(&t, 2, "early");
    let start = t.position();
    let hole = t.core().log.reserve().unwrap();
    let sim = Sim::with_room(usize::MAX);
    rig.join(&sim, vec![hub.subscribe_from("t", start).unwrap()]);
    assert_eq!(rig.shard.waiting(), 1);
    t.core().log.fill_reserved(hole, "late", start.epoch());
    t.core().subscribers.wake();
    rig.settle();
    assert_eq!(texts(&sim), ["late"]);
    assert_eq!(rig.shard.waiting(), 0);
}

/// Each of two topics has a hole below the shard's subscription and one where it stands. One connection waits at the first
/// of one topic and beyond the second of the other one, and another connection the other way round.
#[test]
fn connections_that_wait_crosswise_keep_nobody_busy() {
    let hub = Hub::builder().history(true).build().unwrap();
    let topics = ["a", "b"].map(|name| hub.topic(name).unwrap());
    let starts = topics.each_ref().map(Topic::position);
    let mut rig = Rig::new();
    for topic in &topics {
        publish(topic, 5, "early");
    }
    let hold_up = || topics.each_ref().map(|it| it.core().log.reserve().unwrap());
    let live = || ["a", "b"].map(|name| hub.subscribe(name).unwrap());
    let below = hold_up();
    let first = Sim::with_room(usize::MAX);
    rig.join(&first, live().into());
    rig.settle();
    let above = hold_up();
    let crosswise = [0, 1].map(|at| {
        let sim = Sim::with_room(usize::MAX);
        let mut subscriptions = live();
        subscriptions[at] = hub.subscribe_from(["a", "b"][at], starts[at]).unwrap();
        rig.join(&sim, subscriptions.into());
        sim
    });
    rig.settle();
    // Each gets what the others need not wait for.
    for sim in &crosswise {
        assert_eq!(texts(sim), ["early"; 5]);
    }
    for (topic, hole) in [0, 1, 0, 1].into_iter().zip(below.into_iter().chain(above)) {
        let core = topics[topic].core();
        core.log.fill_reserved(hole, "late", starts[topic].epoch());
        core.subscribers.wake();
        rig.settle();
    }
    for sim in &crosswise {
        assert_eq!(texts(sim)[5..], ["late"; 2]);
    }
    assert_eq!(texts(&first), ["late"; 2]);
    for topic in &topics {
        let _ = topic.publish(Event::text("new")).unwrap();
    }
    rig.settle();
    for sim in crosswise.iter().chain([&first]) {
        assert!(texts(sim).ends_with(&["new".into(), "new".into()]));
    }
    assert_eq!(rig.shard.waiting(), 0);
}

/// Who waits for the subscription of one topic also waits at those of its others: of that, nothing is kept.
#[test]
fn a_silent_topic_keeps_nothing_of_those_who_came_and_went() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let stays = Sim::with_room(usize::MAX);
    let both = || ["hot", "silent"].map(|name| hub.subscribe(name).unwrap());
    rig.join(&stays, both().into());
    rig.settle();
    for _ in 0..100 {
        let _ = hub.publish("hot", Event::text("x")).unwrap();
        let key = rig.join(&Sim::with_room(usize::MAX), both().into());
        assert!(rig.shard.waiting() <= 4, "those of one turn");
        rig.settle();
        rig.shard.close(key, CloseReason::PeerClosed);
    }
    assert!(rig.shard.waiting() <= 4, "{}", rig.shard.waiting());
    assert_eq!(texts(&stays).len(), 100);
}

/// Who waits for a publisher does not stall, however long that takes. From then on it may.
#[test]
fn who_waits_for_a_publisher_does_not_stall() {
    let hub = Hub::builder().history(true).build().unwrap();
    let t = hub.topic("t").unwrap();
    let start = t.position();
    let mut rig = Rig::new();
    publish(&t, 5, "early");
    let hole = t.core().log.reserve().unwrap();
    // Its socket is full: it has a timer.
    let sim = Sim::with_room(HEAD.len());
    let key = rig.join(&sim, vec![hub.subscribe_from("t", start).unwrap()]);
    sim.wire().room = usize::MAX;
    rig.shard.writable(key);
    rig.settle();
    assert_eq!(texts(&sim).len(), 5);
    let filled = 3 * STALL - 1;
    for now in 1..=filled {
        rig.shard.tick(now);
        rig.settle();
    }
    sim.wire().room = 0;
    t.core().log.fill_reserved(hole, "late", start.epoch());
    t.core().subscribers.wake();
    rig.settle();
    for now in filled + 1..=filled + STALL {
        rig.shard.tick(now);
        rig.settle();
        assert_eq!(sim.wire().closed, now == filled + STALL, "at {now}");
    }
    assert_eq!(rig.shard.gone[0].reason, CloseReason::Stalled);
}

/// The last look before a connection is closed for stalling finds a hole in one of its topics: its socket was not tried.
#[test]
fn who_comes_to_a_hole_in_the_last_look_is_not_closed() {
    let hub = Hub::builder().history(true).build().unwrap();
    let topics = ["a", "b"].map(|name| hub.topic(name).unwrap());
    let mut rig = Rig::new();
    publish(&topics[1], 2, "early");
    let starts = topics.each_ref().map(Topic::position);
    let subscribe = || [0, 1].map(|at| hub.subscribe_from(["a", "b"][at], starts[at]).unwrap());
    let _ = topics[0].publish(Event::text("first")).unwrap();
    let probe = Sim::with_room(usize::MAX);
    rig.join(&probe, subscribe().into());
    rig.settle();
    let gone = rig.keys[0].1;
    rig.shard.close(gone, CloseReason::PeerClosed);
    let _ = topics[0].publish(Event::text("second")).unwrap();
    let hole = topics[1].core().log.reserve().unwrap();
    // The head and the first event: then it is full, and nothing of the second one is left over.
    let sim = Sim::with_room(probe.wire().received.len());
    rig.join(&sim, subscribe().into());
    rig.settle();
    assert_eq!(texts(&sim), ["first"]);
    // Of which the poll tells nothing.
    sim.wire().room = usize::MAX;
    rig.shard.tick(STALL);
    rig.settle();
    assert!(!sim.wire().closed);
    assert_eq!(texts(&sim), ["first", "second"]);
    let core = topics[1].core();
    core.log.fill_reserved(hole, "late", starts[1].epoch());
    core.subscribers.wake();
    rig.settle();
    assert_eq!(texts(&sim), ["first", "second", "late"]);
}

/// What a connection waits for leaves the log by its age, and nobody publishes any more.
#[test]
fn a_hole_that_the_clock_evicts_is_missed() {
    let hub = Hub::builder()
        .history(true)
        .idle_after(Duration::from_millis(40))
        .retain_age(Duration::from_millis(50))
        .build()
        .unwrap();
    let t = hub.topic("t").unwrap();
    let start = t.position();
    let mut rig = Rig::new();
    publish(&t, 2, "early");
    drop(t.core().log.reserve().unwrap());
    let sim = Sim::with_room(usize::MAX);
    rig.join(&sim, vec![hub.subscribe_from("t", start).unwrap()]);
    rig.settle();
    publish(&t, 100, "more");
    let begin = std::time::Instant::now();
    let is_told = || {
        let wire = sim.wire();
        wire.received.windows(10).any(|it| it == b"event: lag")
    };
    while !is_told() {
        rig.settle();
        assert!(begin.elapsed() < Duration::from_secs(10), "it was not told");
        std::hint::spin_loop();
    }
}

/// A walk is bounded: a topic with many members does not keep another one waiting.
#[test]
fn a_calm_topic_has_its_turn_beside_a_hot_one() {
    let hub = Hub::new();
    let mut rig = Rig::new();
    let members = if cfg!(miri) { 400 } else { 10_000 };
    let crowd: Vec<_> = (0..members).map(|_| Sim::with_room(usize::MAX)).collect();
    for sim in &crowd {
        rig.join(sim, vec![hub.subscribe("hot").unwrap()]);
    }
    let calm = Sim::with_room(usize::MAX);
    rig.join(&calm, vec![hub.subscribe("calm").unwrap()]);
    rig.settle();
    let sends = || crowd.iter().map(|sim| sim.wire().sends).sum::<usize>();
    let _ = hub.publish("hot", Event::text("hot")).unwrap();
    rig.turn();
    let before = sends();
    let _ = hub.publish("calm", Event::text("calm")).unwrap();
    rig.turn();
    assert!(calm.wire().received.ends_with(b"data: calm\n\n"));
    assert!(sends() - before <= 256, "one turn is bounded");
    rig.settle();
    assert!(
        crowd
            .iter()
            .all(|sim| sim.wire().received.ends_with(b"data: hot\n\n"))
    );
}

/// The heartbeats of a silent topic are one walk, and reach everybody.
#[test]
fn silence_is_broken_for_all_members() {
    let hub = Hub::builder()
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let mut rig = Rig::new();
    let crowd: Vec<_> = (0..300).map(|_| Sim::with_room(usize::MAX)).collect();
    for sim in &crowd {
        rig.join(sim, vec![hub.subscribe("t").unwrap()]);
    }
    let all_beaten = || {
        crowd
            .iter()
            .all(|sim| sim.wire().received.ends_with(b"\n\n:\n\n"))
    };
    let begin = std::time::Instant::now();
    while !all_beaten() {
        rig.settle();
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "no heartbeat came"
        );
        std::hint::spin_loop();
    }
}
