//! The simulator's second world: what readers choose, and what the hub bounds. Eviction, drain, age, caps and the memory limit,
//! beside filters, conflation, rates and control events, over the real engine. See docs/testing.md.
//!
//! It is a program of its own: what the collector has not freed counts as used, and another thread's pins would make that
//! a matter of chance.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "in a test a panic is the report, and pointers have 64 bits"
)]

mod choosy;
#[allow(dead_code, reason = "shared with the first world")]
mod rng;

use std::cell::RefCell;
use std::env;
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use choosy::{Fact, Reader, Topic};
use fanfare::{
    Conflation, Drain, DrainReport, EndReason, Event, Hub, LagPolicy, PublishError, ReaderId,
    SubscribeError,
};
use futures_util::FutureExt as _;
use rng::Rng;

/// What a plain `cargo test` spends here.
const PLAIN: Duration = Duration::from_secs(3);
const PLAIN_SEEDS: u64 = 1_000;

/// What a seed draws first. Times are in ticks.
#[derive(Debug)]
struct Scenario {
    history: bool,
    retain: u64,
    keys: usize,
    readers: usize,
    steps: usize,
    evicts: Option<u64>,
    ages: Option<u64>,
    memory: Option<u64>,
    cap: Option<usize>,
    cap_per_topic: Option<usize>,
    drains: bool,
    /// The most bytes of an event.
    size: u64,
    /// How likely a reader chooses anything, in percent.
    choosy: u64,
}

/// A round of the clock at the pace of this hub, and what a publish or a look may be late.
const SLACK: u64 = 14;
const RETAIN_AGE: Duration = Duration::from_secs(3600);

impl Scenario {
    fn draw(rng: &mut Rng) -> Self {
        let some = |rng: &mut Rng, percent| rng.percent(percent);
        Self {
            history: some(rng, 50),
            retain: rng.pick(&[3, 20, 100, 1000]),
            keys: rng.between(1, 4) as usize,
            readers: rng.pick(&[4, 12, 40]),
            steps: rng.between(80, 300) as usize,
            evicts: some(rng, 50).then(|| rng.pick(&[20, 60])),
            ages: some(rng, 25).then(|| rng.pick(&[100, 300])),
            memory: some(rng, 40).then(|| rng.pick(&[64 << 10, 128 << 10, 512 << 10])),
            cap: some(rng, 30).then(|| rng.pick(&[3, 10])),
            cap_per_topic: some(rng, 20).then(|| rng.pick(&[2, 5])),
            drains: some(rng, 40),
            size: rng.pick(&[20, 200, 4000]),
            choosy: rng.pick(&[0, 50, 100]),
        }
    }

    fn hub(&self) -> Hub {
        // Ticks of 250 ms.
        let ticks = |ticks: u64| Duration::from_millis(250) * ticks as u32;
        let mut builder = Hub::builder()
            .clock_by_hand()
            .history(self.history)
            .retain_events(self.retain as usize)
            .retain_bytes(16 << 20)
            .retain_age(RETAIN_AGE)
            .max_event_bytes(8 << 10);
        if let Some(after) = self.evicts {
            builder = builder.evict_after(ticks(after));
        }
        if let Some(age) = self.ages {
            builder = builder.max_connection_age(ticks(age));
        }
        if let Some(bytes) = self.memory {
            builder = builder.memory_limit(bytes as usize);
        }
        if let Some(cap) = self.cap {
            builder = builder.max_connections(cap);
        }
        if let Some(cap) = self.cap_per_topic {
            builder = builder.max_connections_per_topic(cap);
        }
        let hub = builder.build().unwrap();
        assert!(self.evicts.is_some() || hub.tick() == Duration::from_millis(250));
        hub
    }
}

type Lines = Rc<RefCell<Vec<String>>>;

struct World {
    scenario: Scenario,
    rng: Rng,
    lines: Lines,
    hub: Hub,
    topics: Vec<Topic>,
    readers: Vec<Reader>,
    given_up: Arc<Mutex<Vec<(String, EndReason)>>>,
    ids: Vec<ReaderId>,
    now: u64,
    /// Nanoseconds of a tick.
    tick: u64,
    number: u64,
    evicted: u64,
    lagged: u64,
    refused: u64,
    drained: bool,
}

impl World {
    fn new(seed: u64, lines: Lines) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let scenario = Scenario::draw(&mut rng);
        let hub = scenario.hub();
        let given_up = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&given_up);
        hub.on_eviction(move |eviction| {
            let label = eviction.label().unwrap_or_default().to_owned();
            told.lock().unwrap().push((label, eviction.reason()));
        });
        let topics = (0..scenario.keys).map(|key| Topic::new(&hub, key));
        let topics = topics.collect();
        lines.borrow_mut().push(format!("{scenario:?}"));
        Self {
            ids: (0..3).map(|_| ReaderId::unique()).collect(),
            tick: hub.tick().as_nanos() as u64,
            scenario,
            rng,
            lines,
            topics,
            readers: Vec::new(),
            given_up,
            now: 0,
            number: 0,
            evicted: 0,
            lagged: 0,
            refused: 0,
            drained: false,
            hub,
        }
    }

    fn say(&self, line: impl FnOnce() -> String) {
        let line = line();
        self.lines
            .borrow_mut()
            .push(format!("@{:<5} {line}", self.now));
    }

    fn run(mut self) {
        for _ in 0..self.scenario.steps {
            match self.rng.below(100) {
                0..30 => self.publish(1),
                30..38 => {
                    let count = self.rng.between(2, 80);
                    self.publish(count);
                }
                38..50 => self.subscribe(),
                50..80 => self.act(),
                80..84 => self.drop_one(),
                84..96 => {
                    let ticks = self.rng.between(1, 12);
                    self.go_on(ticks);
                }
                96..98 => self.move_on(),
                98 if self.rng.percent(50) => self.close_one(),
                _ => {
                    let ticks = self.rng.between(1, 150);
                    self.go_on(ticks);
                }
            }
            self.check();
        }
        if self.scenario.drains {
            self.drain();
        }
        self.finish();
    }

    fn nanos(&self) -> u64 {
        self.now * self.tick
    }

    /// A topic that is open. Those that were closed stay, for their readers.
    fn open_topic(&mut self) -> usize {
        let open = self.topics.len() - self.scenario.keys;
        open + self.rng.index(self.scenario.keys)
    }

    /// A topic is closed, and there is another at its key.
    fn close_one(&mut self) {
        let at = self.open_topic();
        self.say(|| format!("topic {at} is closed"));
        let key = self.topics[at].key;
        self.topics[at].handle.close();
        self.topics[at].closed = true;
        for reader in &self.readers {
            reader.check_woken(at, &self.topics);
        }
        // The open ones stand last.
        let first = self.topics.len() - self.scenario.keys;
        self.topics.swap(at, first);
        for reader in &mut self.readers {
            if reader.topic == at {
                reader.topic = first;
            } else if reader.topic == first {
                reader.topic = at;
            }
        }
        self.topics.push(Topic::new(&self.hub, key));
    }

    fn publish(&mut self, count: u64) {
        let at = self.open_topic();
        for _ in 0..count {
            self.publish_to(at);
        }
    }

    fn publish_to(&mut self, at: usize) {
        self.number += 1;
        let rng = &mut self.rng;
        let control = rng.percent(5);
        let most = if control { 100 } else { self.scenario.size };
        let fact = Fact {
            number: self.number,
            name: rng.pick(&[None, Some("a"), Some("b")]),
            key: rng.pick(&[None, Some("x"), Some("y"), Some("z")]),
            sender: rng.percent(30).then(|| rng.index(self.ids.len())),
            control,
        };
        let pad = "=".repeat(rng.below(most) as usize);
        let text = format!("{}.{pad}", fact.number);
        let mut event = Event::text(&text);
        if let Some(name) = fact.name {
            event = event.name(name);
        }
        if let Some(key) = fact.key {
            event = event.key(key);
        }
        if let Some(sender) = fact.sender {
            event = event.sent_by(self.ids[sender]);
        }
        if control {
            event = event.control();
        }
        let topic = &mut self.topics[at];
        let (before, used) = (topic.handle.position(), self.hub.memory_used());
        match topic.handle.publish(event) {
            Ok(published) => {
                let there = self
                    .readers
                    .iter()
                    .filter(|it| it.topic == at && !it.is_out());
                assert_eq!(published.subscribers(), there.count(), "who is reached");
                if published.id().is_some() {
                    topic.facts.push(fact);
                    topic.last = self.now;
                    assert_eq!(published.id().unwrap().offset(), topic.end() - 1);
                } else {
                    assert!(!self.scenario.history && published.subscribers() == 0);
                }
                if let Some(limit) = self.scenario.memory {
                    let used = self.hub.memory_used().unwrap();
                    assert!(used <= limit, "{used} bytes are used of {limit}");
                }
                for reader in &self.readers {
                    reader.check_woken(at, &self.topics);
                }
            }
            Err(PublishError::OverMemoryLimit {
                limit,
                used: told,
                size,
            }) => {
                assert_eq!(Some(limit), self.scenario.memory);
                assert!(
                    told <= limit && told + size as u64 > limit,
                    "{told} + {size} of {limit}"
                );
                assert_eq!(
                    topic.handle.position(),
                    before,
                    "a refused event left a trace"
                );
                assert!(self.hub.memory_used() <= used, "a refused event is charged");
                self.refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn subscribe(&mut self) {
        if self.readers.len() >= self.scenario.readers {
            return;
        }
        let at = self.open_topic();
        let result = self.hub.subscribe(self.topics[at].name.as_str());
        let there = self.readers.iter().filter(|it| !it.is_out()).count();
        let on_topic = self
            .readers
            .iter()
            .filter(|it| !it.is_out() && it.topic == at);
        let on_topic = on_topic.count();
        let real = match result {
            Ok(real) => real,
            Err(SubscribeError::TooManyConnections { limit, connections }) => {
                assert_eq!((Some(limit), connections), (self.scenario.cap, limit));
                assert_eq!(there, limit, "refused, and there is a place");
                return;
            }
            Err(SubscribeError::TopicFull { limit, connections }) => {
                assert_eq!(
                    (Some(limit), connections),
                    (self.scenario.cap_per_topic, limit)
                );
                assert_eq!(on_topic, limit, "refused, and there is a place");
                return;
            }
            Err(other) => panic!("{other}"),
        };
        assert!(
            self.scenario.cap.is_none_or(|cap| there < cap),
            "above a cap"
        );
        assert!(self.scenario.cap_per_topic.is_none_or(|cap| on_topic < cap));
        self.number += 1;
        let name = self.number;
        let topic = &self.topics[at];
        let mut reader = Reader::new(name, real.label(name.to_string()), at, topic, self.now);
        let rng = &mut self.rng;
        reader.is_stalled = rng.percent(30);
        reader.ages = self.scenario.ages.is_some();
        reader.hoard = (self.scenario.memory.is_some() && rng.percent(15)).then(Vec::new);
        if rng.percent(20) {
            reader.lag_policy(LagPolicy::Disconnect);
        }
        if rng.percent(self.scenario.choosy) {
            if rng.percent(40) {
                reader.filter(rng.between(2, 3));
            }
            if rng.percent(30) {
                let own = rng.index(self.ids.len());
                reader.exclude(own, self.ids[own]);
            }
            if rng.percent(40) {
                reader.conflate(rng.pick(&[Conflation::ByName, Conflation::ByKey]));
            }
            if rng.percent(30) {
                let every = Duration::from_nanos(self.tick) * rng.between(1, 30) as u32;
                reader.max_rate(rng.between(1, 5) as u32, every);
            }
        }
        self.say(|| format!("{reader:?} comes"));
        self.readers.push(reader);
    }

    /// A reader reads, or does not.
    fn act(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let index = self.rng.index(self.readers.len());
        if !self.readers[index].is_stalled || self.rng.percent(5) {
            let most = self.rng.pick(&[1, 3, usize::MAX, usize::MAX]);
            self.read(index, most);
        }
    }

    /// In a way that is drawn. Removes a reader that has read its end.
    fn read(&mut self, index: usize, most: usize) {
        let nanos = self.nanos();
        let way = self.rng.below(3);
        let reader = &mut self.readers[index];
        let topic = &self.topics[reader.topic];
        let before = reader.next;
        reader.polled = self.now;
        match way {
            0 => reader.read_items(topic, nanos, most),
            1 => reader.read_and_park(topic, nanos),
            _ => reader.read_batches(topic, nanos),
        }
        let over = reader.over;
        if over == Some(EndReason::Aged) {
            let (age, most) = (self.now - reader.since, self.scenario.ages.unwrap());
            assert!(age >= most / 10 * 9, "old after {age} of {most} ticks");
        }
        self.say(|| {
            let Reader { name, next, .. } = self.readers[index];
            format!("{name} reads from {before} to {next}, {over:?}")
        });
        if over.is_some() {
            self.remove(index);
        }
    }

    fn drop_one(&mut self) {
        if !self.readers.is_empty() {
            let index = self.rng.index(self.readers.len());
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let reader = self.readers.swap_remove(index);
        self.say(|| format!("{} goes", reader.name));
        self.lagged += u64::from(reader.over == Some(EndReason::Lagged));
        drop(reader);
        // Those that ended by lag are told of too.
        self.see_given_up();
    }

    /// Time goes by. What is due in a tick is seen before the next one.
    fn go_on(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.hub.go_on(1);
            self.now += 1;
            self.see_given_up();
            let nanos = self.nanos();
            for reader in &self.readers {
                reader.check_turn(nanos);
            }
        }
    }

    fn see_given_up(&mut self) {
        let told: Vec<_> = self.given_up.lock().unwrap().drain(..).collect();
        for (label, reason) in told {
            self.say(|| format!("{label} is told of: {reason:?}"));
            if reason == EndReason::Lagged {
                continue;
            }
            let reader = self
                .readers
                .iter_mut()
                .find(|it| it.name.to_string() == label);
            let reader = reader.unwrap_or_else(|| panic!("{label} is given up, and has gone"));
            let after = self.scenario.evicts.unwrap();
            let topic = &self.topics[reader.topic];
            assert!(!reader.evicted, "{label} is given up for a second time");
            let still = self.now - reader.polled;
            assert!(
                still >= after,
                "{label} is given up, and read {still} ticks ago"
            );
            assert!(
                reader.next < topic.end(),
                "{label} is given up, and has read all"
            );
            let moved = self.now - topic.last;
            assert!(
                topic.closed || moved <= 2 * after + SLACK,
                "given up {moved} ticks after the last event"
            );
            assert_eq!((&mut reader.is_evicted).now_or_never(), Some(true));
            reader.evicted = true;
            self.evicted += 1;
        }
    }

    /// The topic of a reader moves on and on: who does not is given up.
    fn move_on(&mut self) {
        let Some(after) = self.scenario.evicts else {
            return;
        };
        let at = self.open_topic();
        self.say(|| format!("topic {at} moves on"));
        let begin = self.now;
        let refused = self.refused;
        for _ in 0..2 * after + 2 * SLACK {
            self.publish_to(at);
            self.go_on(1);
        }
        if self.refused > refused {
            return;
        }
        for reader in self.readers.iter().filter(|it| it.topic == at) {
            assert!(
                reader.evicted || reader.polled > begin,
                "{} stands still since {}, and is there",
                reader.name,
                reader.polled
            );
        }
    }

    fn drain(&mut self) {
        let ticks = self.rng.between(8, 80);
        let there = self.readers.iter().filter(|it| !it.is_out()).count();
        self.say(|| format!("the hub is drained, within {ticks} ticks"));
        let within = Duration::from_nanos(self.tick) * ticks as u32;
        let mut drain: Drain = self.hub.drain(within).unwrap();
        assert!(self.hub.drain(within).is_none());
        for reader in &mut self.readers {
            reader.draining = true;
        }
        let mut report: Option<DrainReport> = None;
        for _ in 0..ticks + 2 {
            let refused = self.hub.subscribe("t0");
            assert!(matches!(
                refused,
                Err(SubscribeError::Draining { .. } | SubscribeError::Closed)
            ));
            if self.rng.percent(50) && report.is_none() {
                self.publish(1);
            }
            self.go_on(1);
            // After those who are given up in this tick.
            let left = self.readers.iter().filter(|it| !it.is_out()).count();
            report = report.or_else(|| (&mut drain).now_or_never());
            if let Some(report) = report {
                assert_eq!(report.subscriptions, there, "those that there were");
                assert_eq!(report.cut, left, "those that were cut");
                break;
            }
            for index in (0..self.readers.len()).rev() {
                if !self.readers[index].is_stalled {
                    self.read(index, usize::MAX);
                }
            }
            self.check();
        }
        assert!(report.is_some(), "it is over when its time is");
        for topic in &mut self.topics {
            topic.closed = true;
        }
        self.drained = true;
        // Who reads now has a moment for it.
        for index in (0..self.readers.len()).rev() {
            if !self.readers[index].is_stalled {
                self.read(index, usize::MAX);
            }
        }
        self.go_on(3);
        let topics = &self.topics;
        for reader in self.readers.iter_mut().filter(|it| !it.is_out()) {
            if reader.has_more(&topics[reader.topic]) {
                let told = (&mut reader.is_evicted).now_or_never();
                assert_eq!(told, Some(true), "{} was left, and not told", reader.name);
            }
        }
    }

    fn check(&self) {
        let stats = self.hub.stats();
        let there = self.readers.iter().filter(|it| !it.is_out()).count();
        assert_eq!(stats.subscribers, there, "subscribers");
        assert_eq!(stats.evicted, self.evicted, "evicted");
        assert_eq!(stats.lagged, self.lagged, "ended for lag");
        for reader in &self.readers {
            reader.check_place(&self.topics[reader.topic]);
        }
    }

    fn finish(&mut self) {
        // Who is there for long enough is asked to leave.
        if let Some(age) = self.scenario.ages
            && !self.drained
        {
            self.go_on(age + SLACK);
            for reader in &mut self.readers {
                reader.must_leave = true;
            }
        }
        for index in (0..self.readers.len()).rev() {
            self.read(index, usize::MAX);
        }
        self.check();
        while !self.readers.is_empty() {
            self.remove(0);
        }
        self.check();
        assert!(self.hub.evictions().len() as u64 >= self.evicted.min(64));
        self.topics.clear();
        self.hub.close();
        for _ in 0..1000 {
            if self.hub.memory_used().unwrap_or(0) == 0 {
                break;
            }
            self.hub.go_on(1);
        }
        assert!(
            self.hub.memory_used().is_none_or(|used| used == 0),
            "bytes are left"
        );
    }
}

/// One run. `Err` is what went wrong, behind the last steps.
fn run(seed: u64) -> Result<(), String> {
    let lines = Lines::default();
    let world = || World::new(seed, Rc::clone(&lines)).run();
    panic::catch_unwind(AssertUnwindSafe(world)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let lines = lines.borrow();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!(
            "seed {seed}, step {}: {}\n{}\n…\n{tail}",
            lines.len(),
            text.unwrap_or_default(),
            lines.first().map_or("", String::as_str)
        )
    })
}

/// `FANFARE_SEEDS=a..b`, or as many as a plain run has time for; `FANFARE_SEED=n` alone.
#[test]
fn seeds() {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let given = env::var("FANFARE_SEEDS").ok().map(|text| {
        let (first, end) = text.split_once("..").expect("FANFARE_SEEDS=a..b");
        number(first)..number(end)
    });
    let one = env::var("FANFARE_SEED").ok().map(|text| number(&text));
    let given = one.map(|seed| seed..seed + 1).or(given);
    let limit = given.is_none().then_some(PLAIN);
    let begin = Instant::now();
    let mut ran = 0;
    for seed in given.unwrap_or(0..PLAIN_SEEDS) {
        if let Err(error) = run(seed) {
            panic!(
                "{error}\nreplay: FANFARE_SEED={seed} cargo test --features _simulate --test chaos_limits"
            );
        }
        ran += 1;
        if limit.is_some_and(|limit| begin.elapsed() > limit) {
            break;
        }
    }
    // Around the capture of the test harness, so that CI's log says what ran.
    drop(writeln!(io::stderr(), "chaos: {ran} seeds passed"));
}
