//! One run: the engine, its oracle side by side, and the steps that are done to both.
//!
//! One thread, a clock that goes by hand, and all chance from one seed: a run is the same each time. What depends on the
//! addresses or hashes of a process (the order of keys, epochs) is not looked at, or is told by number.

mod publish;
mod read;
mod subscribe;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use fanfare::{Event, EventId, Hub, Topic};

use crate::life::{AGE_SHARE, Life};
use crate::reader::Reader;
use crate::rng::Rng;
use crate::scenario::{Op, Scenario, Times};

/// What a person reads of a run, and where it stands.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) step: usize,
    /// `None`: not wanted.
    pub(crate) lines: Option<Vec<String>>,
}

pub(crate) type SharedTrace = Rc<RefCell<Trace>>;

/// A client between two connections.
#[derive(Debug)]
struct Away {
    key: usize,
    last: Option<EventId>,
}

pub(crate) struct World {
    scenario: Scenario,
    times: Times,
    rng: Rng,
    trace: SharedTrace,
    hub: Hub,
    names: Vec<String>,
    lives: Vec<Life>,
    /// The present life at each key.
    at: BTreeMap<usize, usize>,
    readers: Vec<Reader>,
    handles: Vec<(Topic, usize)>,
    away: Vec<Away>,
    /// Ids that were told, the last ones.
    ids: Vec<EventId>,
    /// Bytes that the log needs for an id.
    id_bytes: u64,
    now: u64,
    number: u64,
    published: u64,
    lagged: u64,
    closed: bool,
}

/// Bytes that an event with an id takes beyond what publishing tells.
fn id_bytes(scenario: &Scenario) -> u64 {
    let hub = scenario.builder().history(true).build().unwrap();
    let topic = hub.topic("").unwrap();
    let published = topic.publish(Event::text("x")).unwrap();
    topic.retained_bytes() - published.bytes() as u64
}

impl World {
    pub(crate) fn new(seed: u64, trace: SharedTrace) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::draw(&mut rng);
        let hub = scenario.builder().build().unwrap();
        let this = Self {
            times: scenario.times(hub.tick()),
            id_bytes: id_bytes(&scenario),
            names: (0..scenario.keys).map(|key| format!("t{key}")).collect(),
            scenario,
            rng,
            trace,
            hub,
            lives: Vec::new(),
            at: BTreeMap::new(),
            readers: Vec::new(),
            handles: Vec::new(),
            away: Vec::new(),
            ids: Vec::new(),
            now: 0,
            number: 0,
            published: 0,
            lagged: 0,
            closed: false,
        };
        this.say(|| format!("{:?}", this.scenario));
        this
    }

    /// Adds a line to the trace, if there is one.
    fn say<D: fmt::Display>(&self, line: impl FnOnce() -> D) {
        let trace = &mut *self.trace.borrow_mut();
        if let Some(lines) = &mut trace.lines {
            lines.push(format!("{:4} @{:<5} {}", trace.step, self.now, line()));
        }
    }

    /// An id as a trace has it: epochs are different in each process.
    fn id(&self, id: EventId) -> String {
        let epoch = |life: &Life| life.epoch == id.epoch();
        match self.lives.iter().position(epoch) {
            Some(life) => format!("{} of life {life}", id.offset()),
            None => format!("{} of no life", id.offset()),
        }
    }

    pub(crate) fn run(mut self) {
        for _ in 0..self.scenario.first {
            self.subscribe_live();
        }
        self.check();
        for step in 1..=self.scenario.steps {
            self.trace.borrow_mut().step = step;
            let op = self.rng.weighted(&self.scenario.ops);
            self.apply(op);
            self.check();
        }
        self.trace.borrow_mut().step += 1;
        self.finish();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish => self.publish(1),
            Op::Burst => {
                let count = self.rng.between(2, self.scenario.burst);
                self.publish(count);
            }
            Op::PublishMany => self.publish_many(),
            Op::PublishAll => self.publish_all(),
            Op::PublishByHandle => self.publish_by_handle(),
            Op::PublishTooLarge => self.publish_too_large(),
            Op::TakeHandle => self.take_handle(),
            Op::DropHandle => self.drop_handle(),
            Op::CloseTopic => self.close_topic(),
            Op::Subscribe => self.subscribe_live(),
            Op::SubscribeFrom => self.subscribe_from(),
            Op::Return => self.come_back(),
            Op::Drop => self.drop_reader(),
            Op::Act => {
                if let Some(index) = self.any_reader() {
                    self.act(index);
                }
            }
            Op::AllAct => {
                // Who goes is followed at its place by another one, who has its turn at another time.
                for index in 0..self.readers.len() {
                    if index < self.readers.len() {
                        self.act(index);
                    }
                }
            }
            Op::Park => self.park_one(),
            Op::ChangePolicy => self.change_policy(),
            Op::HoldBatch => self.hold_batch(),
            Op::GoOn => {
                let ticks = self.rng.between(1, 6);
                self.go_on(ticks);
            }
            Op::LongPause => {
                let Times {
                    age, idle, slack, ..
                } = self.times;
                let most = self.rng.pick(&[idle, age / 2, age + age / 4 + slack]);
                let ticks = self.rng.between(1, most + slack);
                self.go_on(ticks);
            }
            Op::End => self.end_one(),
            Op::Inspect => self.inspect_one(),
        }
    }

    fn any_reader(&mut self) -> Option<usize> {
        let len = self.readers.len();
        (len > 0).then(|| self.rng.index(len))
    }

    fn any_handle(&mut self) -> Option<usize> {
        let len = self.handles.len();
        (len > 0).then(|| self.rng.index(len))
    }

    fn any_key(&mut self) -> usize {
        self.rng.index(self.scenario.keys)
    }

    /// The life at `key` that the engine says has `epoch`.
    fn life_at(&mut self, key: usize, epoch: u64) -> usize {
        if let Some(&life) = self.at.get(&key) {
            assert_eq!(self.lives[life].epoch, epoch, "t{key} is another topic now");
            return life;
        }
        assert!(
            self.lives.iter().all(|life| life.epoch != epoch),
            "an epoch is used twice"
        );
        let life = self.lives.len();
        self.lives.push(Life::new(key, epoch, self.now));
        self.at.insert(key, life);
        life
    }

    fn take_handle(&mut self) {
        let key = self.any_key();
        if self.handles.len() >= self.scenario.handles {
            return;
        }
        let handle = self.hub.topic(self.names[key].as_str()).unwrap();
        let life = self.life_at(key, handle.position().epoch());
        self.say(|| format!("handle on t{key}, life {life}"));
        self.lives[life].handles += 1;
        self.handles.push((handle, life));
    }

    fn drop_handle(&mut self) {
        let Some(index) = self.any_handle() else {
            return;
        };
        let (handle, life) = self.handles.swap_remove(index);
        self.say(|| format!("handle on life {life} is dropped"));
        drop(handle);
        self.lives[life].handles -= 1;
        self.forget_if_gone(life);
    }

    /// A topic whose last user left goes at once, unless it has history.
    fn forget_if_gone(&mut self, life: usize) {
        let Life { key, .. } = self.lives[life];
        let gone = &self.lives[life];
        let kept = self.scenario.history && !gone.closed && gone.end() > 1;
        if gone.users() == 0 && !kept && self.at.get(&key) == Some(&life) {
            self.at.remove(&key);
        }
        // Its log may have been given back already.
        self.forget_expired();
    }

    fn close_topic(&mut self) {
        let Some(index) = self.any_handle() else {
            return;
        };
        let (handle, life) = &self.handles[index];
        let life = *life;
        handle.close();
        self.say(|| format!("life {life} is closed"));
        self.lives[life].closed = true;
        let key = self.lives[life].key;
        if self.at.get(&key) == Some(&life) {
            self.at.remove(&key);
        }
    }

    fn go_on(&mut self, ticks: u64) {
        let visits = self.hub.go_on(ticks);
        self.now += ticks;
        self.say(|| format!("{ticks} ticks go by, with {visits} visits"));
        for life in &mut self.lives {
            life.grow_old(self.times, self.now);
        }
        self.pass_all();
        self.forget_expired();
        self.check_beats();
    }

    /// What all readers of each topic have passed.
    fn pass_all(&mut self) {
        if self.scenario.history {
            return;
        }
        let mut least = vec![(None, true); self.lives.len()];
        for reader in &self.readers {
            let (next, noted) = &mut least[reader.life];
            *next = Some(next.map_or(reader.next, |next: u64| next.min(reader.next)));
            *noted &= reader.noted == self.lives[reader.life].end();
        }
        for (life, (least, noted)) in self.lives.iter_mut().zip(least) {
            life.passed(least, noted, self.times, self.now);
        }
    }

    /// Topics that nobody uses go when all of their history is gone; the clock takes them away.
    fn forget_expired(&mut self) {
        let keys = self.hub.keys();
        let (lives, names) = (&self.lives, &self.names);
        self.at.retain(|&key, &mut life| {
            let life = &lives[life];
            if keys.contains(&names[key]) {
                assert!(
                    life.users() > 0 || life.must < life.end(),
                    "t{key} is still there, without users and history"
                );
                return true;
            }
            assert_eq!(life.users(), 0, "t{key} is gone, and is used");
            assert_eq!(
                life.may,
                life.end(),
                "t{key} is gone, and its history is not"
            );
            false
        });
    }

    /// Who wants signs of life and sleeps on a silent topic was woken within the interval.
    fn check_beats(&self) {
        let most = self.times.heartbeat + 2 * self.times.slack;
        for reader in self.readers.iter().filter(|reader| reader.beats) {
            let Some(since) = reader.sleeps_since() else {
                continue;
            };
            let life = &self.lives[reader.life];
            let last = life.events.last().map_or(0, |event| event.tick);
            let silent = self.now - since.max(last);
            assert!(
                silent <= most,
                "reader {} sleeps for {silent} ticks, and got no heartbeat",
                reader.name
            );
        }
    }

    fn inspect_one(&mut self) {
        // By a handle that is there, also on a topic that is closed; or by one that is taken for it.
        if let Some(index) = self.any_handle()
            && self.rng.percent(50)
        {
            let (handle, life) = &self.handles[index];
            return Self::inspect(handle, &mut self.lives[*life]);
        }
        let key = self.any_key();
        if let Some(&life) = self.at.get(&key) {
            let handle = self.hub.topic(self.names[key].as_str()).unwrap();
            Self::inspect(&handle, &mut self.lives[life]);
            drop(handle);
            self.say(|| {
                let Life { seen, .. } = self.lives[life];
                format!("t{key} has {seen} to {}", self.lives[life].end())
            });
            // As its last user it may have taken with it what has no history left.
            self.forget_expired();
        }
    }

    fn inspect(handle: &Topic, life: &mut Life) {
        let end = life.end();
        assert_eq!(handle.position(), EventId::new(life.epoch, end - 1));
        assert_eq!(handle.subscribers(), life.subscriptions);
        assert_eq!(handle.is_closed(), life.closed);
        let oldest = end - handle.retained_events();
        life.observe(oldest);
        let bytes = life.bytes_between(oldest, end);
        assert_eq!(handle.retained_bytes(), bytes, "bytes of {oldest} to {end}");
    }

    /// What holds after each step.
    fn check(&mut self) {
        self.pass_all();
        for reader in &self.readers {
            reader.check(&self.lives[reader.life]);
        }
        let stats = self.hub.stats();
        assert_eq!(stats.topics, self.at.len(), "topics");
        assert_eq!(stats.subscribers, self.readers.len(), "subscribers");
        assert_eq!(stats.published, self.published, "published");
        assert_eq!(stats.lagged, self.lagged, "ended for lag");
        for (&key, &life) in &self.at {
            assert_eq!(
                self.hub.subscribers_of(self.names[key].as_str()),
                self.lives[life].subscriptions,
                "subscribers of t{key}"
            );
        }
    }

    /// All come to rest: who is there reads all that is left.
    fn finish(&mut self) {
        if self.scenario.closes {
            self.say(|| "the hub is closed");
            self.hub.close();
            self.closed = true;
            for life in &mut self.lives {
                life.closed = true;
            }
            let lives = &self.lives;
            self.at.retain(|_, life| lives[*life].users() > 0);
            self.check();
            self.refuses();
        }
        for index in 0..self.readers.len() {
            while self.read_some(index) {}
            let reader = &self.readers[index];
            let life = &self.lives[reader.life];
            assert!(reader.ended.is_some() || reader.next == life.end());
            assert_eq!(
                reader.ended.is_some(),
                life.closed || reader.ended.is_some()
            );
        }
        self.check();
        while !self.readers.is_empty() {
            self.remove_reader(0);
        }
        self.check();
        while let Some((handle, life)) = self.handles.pop() {
            Self::inspect(&handle, &mut self.lives[life]);
            drop(handle);
            self.lives[life].handles -= 1;
            self.forget_if_gone(life);
        }
        self.forget_expired();
        self.check();
        let Times { age, slack, .. } = self.times;
        self.go_on(age + age / AGE_SHARE + slack + 1);
        assert_eq!(self.hub.keys(), [""; 0], "nothing is left");
        self.check();
        // A turn of the clock that finds no topic left.
        self.go_on(slack);
        assert_eq!(self.hub.go_on(slack), 0, "the clock has nothing to visit");
    }
}
