//! Random operations on a hub and on a naive one, a `Vec` per topic: what readers get must agree.
//!
//! The naive hub forgets nothing. How much the real one retains is its own affair within its limits; so where it tells of
//! lag, the model checks that the number was possible, and goes on from there: delivered and missed must add up.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "in a test, helpers included, a panic is the report, and pointers have 64 bits"
)]

mod common;

use std::collections::HashMap;

use fanfare::{
    Event, EventId, Hub, Item, Lag, LagPolicy, PublishError, Published, Subscription, Topic,
    TryRecvError,
};
use proptest::prelude::*;

const KEYS: [&str; 3] = ["a", "b", "c"];
/// The largest segment, in events.
const SEGMENT: u64 = 64;

#[derive(Debug, Clone)]
enum Op {
    Subscribe {
        key: usize,
        policy: LagPolicy,
    },
    /// After one of the ids that were seen, or one near to it.
    SubscribeFrom {
        key: usize,
        policy: LagPolicy,
        id: usize,
        shift: i64,
    },
    Publish {
        key: usize,
    },
    PublishBurst {
        key: usize,
        count: usize,
    },
    PublishMany {
        keys: Vec<usize>,
    },
    ReadOne {
        subscription: usize,
    },
    ReadBatch {
        subscription: usize,
        most: usize,
    },
    ReadAll {
        subscription: usize,
    },
    Park {
        subscription: usize,
    },
    Drop {
        subscription: usize,
    },
    Handle {
        key: usize,
    },
    PublishByHandle {
        handle: usize,
    },
    DropHandle {
        handle: usize,
    },
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS.len();
    let any = any::<usize>;
    let policy = prop::sample::select(vec![
        LagPolicy::Notify,
        LagPolicy::Notify,
        LagPolicy::Disconnect,
        LagPolicy::SkipToLatest,
    ]);
    prop_oneof![
        6 => (key.clone(), policy.clone()).prop_map(|(key, policy)| Op::Subscribe { key, policy }),
        4 => (key.clone(), policy, any(), prop_oneof![4 => Just(0), 1 => -3_i64..200])
            .prop_map(|(key, policy, id, shift)| Op::SubscribeFrom { key, policy, id, shift }),
        12 => key.clone().prop_map(|key| Op::Publish { key }),
        6 => (key.clone(), 1..150_usize).prop_map(|(key, count)| Op::PublishBurst { key, count }),
        4 => prop::collection::vec(key.clone(), 0..5).prop_map(|keys| Op::PublishMany { keys }),
        12 => any().prop_map(|subscription| Op::ReadOne { subscription }),
        8 => (any(), 0..100_usize).prop_map(|(subscription, most)| Op::ReadBatch { subscription, most }),
        6 => any().prop_map(|subscription| Op::ReadAll { subscription }),
        4 => any().prop_map(|subscription| Op::Park { subscription }),
        5 => any().prop_map(|subscription| Op::Drop { subscription }),
        2 => key.prop_map(|key| Op::Handle { key }),
        4 => any().prop_map(|handle| Op::PublishByHandle { handle }),
        1 => any().prop_map(|handle| Op::DropHandle { handle }),
        1 => Just(Op::Close),
    ]
}

/// One life of a topic: its epoch, and what was published to it.
#[derive(Debug, Default)]
struct Life {
    epoch: u64,
    /// The event at offset `n` is `events[n - 1]`.
    events: Vec<u64>,
    subscriptions: usize,
    handles: usize,
}

impl Life {
    fn end(&self) -> u64 {
        self.events.len() as u64 + 1
    }
}

#[derive(Debug)]
struct Reader {
    real: Subscription,
    life: usize,
    policy: LagPolicy,
    /// The offset of the next event.
    next: u64,
    /// It did not begin at the end: what was there before may be gone, even what retention would keep.
    replays_to: u64,
    unknown: bool,
    ended: bool,
}

struct Model {
    hub: Hub,
    history: bool,
    retain: u64,
    lives: Vec<Life>,
    /// The present life at each key.
    at: HashMap<usize, usize>,
    readers: Vec<Reader>,
    handles: Vec<(Topic, usize)>,
    ids: Vec<EventId>,
    number: u64,
    closed: bool,
    published: u64,
}

impl Model {
    fn new(history: bool, retain: u64) -> Self {
        let hub = Hub::builder()
            .history(history)
            .retain_events(retain as usize)
            .build()
            .unwrap();
        Self {
            hub,
            history,
            retain,
            lives: Vec::new(),
            at: HashMap::new(),
            readers: Vec::new(),
            handles: Vec::new(),
            ids: vec![EventId::new(7, 7)],
            number: 0,
            closed: false,
            published: 0,
        }
    }

    /// The life at `key` that somebody begins to use.
    fn enter(&mut self, key: usize, epoch: u64) -> usize {
        *self.at.entry(key).or_insert_with(|| {
            assert!(
                self.lives.iter().all(|life| life.epoch != epoch),
                "each life has its own"
            );
            self.lives.push(Life {
                epoch,
                ..Life::default()
            });
            self.lives.len() - 1
        })
    }

    /// What is left of the topics without users.
    fn sweep(&mut self) {
        let (lives, closed, history) = (&self.lives, self.closed, self.history);
        self.at.retain(|_, &mut life| {
            let life = &lives[life];
            life.subscriptions + life.handles > 0 || history && !closed && !life.events.is_empty()
        });
        assert_eq!(self.hub.topics(), self.at.len());
        assert_eq!(self.hub.subscribers(), self.readers.len());
        for (key, name) in KEYS.into_iter().enumerate() {
            let count = self
                .at
                .get(&key)
                .map_or(0, |&life| self.lives[life].subscriptions);
            assert_eq!(self.hub.subscribers_of(name), count);
        }
        assert_eq!(self.hub.stats().published, self.published);
    }

    fn subscribe(&mut self, key: usize, policy: LagPolicy, from: Option<EventId>) {
        let real = match from {
            Some(id) => self.hub.subscribe_from(KEYS[key], id),
            None => self.hub.subscribe(KEYS[key]),
        };
        assert_eq!(real.is_err(), self.closed);
        let Ok(real) = real else { return };
        let real = real.lag_policy(policy);
        let life = self.enter(key, real.position().epoch());
        let state = &mut self.lives[life];
        assert_eq!(real.position().epoch(), state.epoch);
        state.subscriptions += 1;
        let end = state.end();
        let (next, unknown) = match from {
            None => (end, false),
            Some(id) if id.epoch() != state.epoch => (1, true),
            Some(id) if id.offset() >= end => (end, true),
            Some(id) => (id.offset() + 1, false),
        };
        self.readers.push(Reader {
            real,
            life,
            policy,
            next,
            replays_to: end,
            unknown,
            ended: false,
        });
    }

    fn append(&mut self, life: Option<usize>, published: &Published, number: u64) {
        let subscribers = life.map_or(0, |life| self.lives[life].subscriptions);
        assert_eq!(published.subscribers(), subscribers);
        if subscribers == 0 && !self.history {
            assert_eq!(published.id(), None);
            return;
        }
        let life = &mut self.lives[life.unwrap()];
        life.events.push(number);
        let id = EventId::new(life.epoch, life.events.len() as u64);
        assert_eq!(published.id(), Some(id));
        self.ids.push(id);
        self.published += 1;
    }

    fn publish(&mut self, key: usize) {
        self.number += 1;
        let number = self.number;
        let result = self.hub.publish(KEYS[key], Event::json(&number));
        if self.closed {
            assert!(matches!(result, Err(PublishError::Closed)));
            return;
        }
        let published = result.unwrap();
        if let (true, Some(id)) = (self.history, published.id()) {
            self.enter(key, id.epoch());
        }
        self.append(self.at.get(&key).copied(), &published, number);
    }

    fn publish_many(&mut self, keys: &[usize]) {
        self.number += 1;
        let number = self.number;
        let names = keys.iter().map(|&key| KEYS[key]);
        let result = self.hub.publish_many(names, Event::json(&number));
        if self.closed && !keys.is_empty() {
            assert!(matches!(result, Err(PublishError::Closed)));
            return;
        }
        let sent = result.unwrap();
        let (mut topics, mut subscribers) = (0, 0);
        for &key in keys {
            if self.history && !self.at.contains_key(&key) {
                let epoch = self.hub.topic(KEYS[key]).unwrap().position().epoch();
                self.enter(key, epoch);
            }
            let Some(&life) = self.at.get(&key) else {
                continue;
            };
            let life = &mut self.lives[life];
            if life.subscriptions > 0 || self.history {
                topics += 1;
                subscribers += life.subscriptions;
                life.events.push(number);
                self.ids
                    .push(EventId::new(life.epoch, life.events.len() as u64));
                self.published += 1;
            }
        }
        assert_eq!((sent.topics(), sent.subscribers()), (topics, subscribers));
    }

    fn check_event(&mut self, index: usize, frame: &fanfare::Frame) {
        let reader = &mut self.readers[index];
        let life = &self.lives[reader.life];
        assert!(!reader.unknown && !reader.ended);
        assert_eq!(frame.id(), Some(EventId::new(life.epoch, reader.next)));
        let number = life.events[(reader.next - 1) as usize];
        assert_eq!(frame.data(), number.to_string());
        // It was retained: not more than the limit and a segment.
        assert!(life.end() - reader.next < self.retain + SEGMENT);
        reader.next += 1;
    }

    fn check_lag(&mut self, index: usize, lag: Lag) {
        let reader = &mut self.readers[index];
        let life = &self.lives[reader.life];
        let end = life.end();
        let after = lag.resumed_after().offset();
        assert_eq!(lag.resumed_after(), reader.real.position());
        assert_eq!(lag.resumed_after().epoch(), life.epoch);
        assert!(!reader.ended);
        assert_eq!(lag.missed().is_none(), reader.unknown);
        // Where the log begins now, as this reader was told.
        let mut oldest = after + 1;
        if let Some(missed) = lag.missed() {
            assert!(missed > 0);
            assert_eq!(reader.next + missed, after + 1, "exact");
        }
        assert!(after + 1 >= reader.next && after < end);
        if reader.policy == LagPolicy::SkipToLatest {
            if oldest < end {
                assert_eq!(after + 1, end - 1, "the newest is next");
            }
            oldest = reader.next;
        }
        // At least so many are retained; but what all had passed, a reader that comes back may find gone.
        if oldest > reader.replays_to || self.history && !reader.unknown {
            assert!(
                oldest <= end.saturating_sub(self.retain).max(1),
                "lag too early"
            );
        }
        reader.next = after + 1;
        reader.unknown = false;
        reader.ended = reader.policy == LagPolicy::Disconnect;
    }

    fn check_nothing(&mut self, index: usize, error: TryRecvError) {
        let reader = &self.readers[index];
        let all_read = reader.next == self.lives[reader.life].end() && !reader.unknown;
        match error {
            TryRecvError::Empty => assert!(all_read && !self.closed && !reader.ended),
            TryRecvError::Closed => assert!(reader.ended || self.closed && all_read),
        }
    }

    /// Tells whether there was something.
    fn read_one(&mut self, index: usize) -> bool {
        match self.readers[index].real.try_recv() {
            Ok(Item::Frame(frame)) => self.check_event(index, &frame),
            Ok(Item::Lagged(lag)) => self.check_lag(index, lag),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                self.check_nothing(index, error);
                return false;
            }
        }
        true
    }

    fn read_batch(&mut self, index: usize, most: usize) {
        let (mut frames, mut lag, mut error) = (Vec::new(), None, None);
        match self.readers[index].real.try_batch() {
            Ok(mut batch) => {
                lag = batch.lag();
                while frames.len() < most
                    && let Some(frame) = batch.next_frame()
                {
                    frames.push(frame.clone());
                }
            }
            Err(nothing) => error = Some(nothing),
        }
        if let Some(error) = error {
            return self.check_nothing(index, error);
        }
        // `resumed_after` is compared with the position, which has moved on.
        if let Some(lag) = lag {
            let reader = &self.readers[index];
            assert_eq!(
                reader.real.position().offset(),
                lag.resumed_after().offset() + frames.len() as u64
            );
            self.check_batch_lag(index, lag);
        }
        for frame in frames {
            self.check_event(index, &frame);
        }
    }

    fn check_batch_lag(&mut self, index: usize, lag: Lag) {
        // As `check_lag`, for a reader that may stand behind the notice already.
        let position = self.readers[index].real.position();
        if position == lag.resumed_after() {
            return self.check_lag(index, lag);
        }
        let reader = &mut self.readers[index];
        assert_eq!(lag.missed().is_none(), reader.unknown);
        if let Some(missed) = lag.missed() {
            assert_eq!(
                reader.next + missed,
                lag.resumed_after().offset() + 1,
                "exact"
            );
        }
        assert_ne!(reader.policy, LagPolicy::Disconnect, "nothing follows");
        reader.next = lag.resumed_after().offset() + 1;
        reader.unknown = false;
    }

    fn park(&mut self, index: usize) {
        use std::task::{Context, Poll, Waker};
        let cx = &mut Context::from_waker(Waker::noop());
        match self.readers[index].real.poll_recv(cx) {
            Poll::Ready(Some(Item::Frame(frame))) => self.check_event(index, &frame),
            Poll::Ready(Some(Item::Lagged(lag))) => self.check_lag(index, lag),
            Poll::Ready(Some(other)) => panic!("{other:?}"),
            Poll::Ready(None) => self.check_nothing(index, TryRecvError::Closed),
            Poll::Pending => self.check_nothing(index, TryRecvError::Empty),
        }
    }

    fn apply(&mut self, op: Op) {
        let pick = |n: usize, of: usize| (of > 0).then(|| n % of);
        let readers = self.readers.len();
        match op {
            Op::Subscribe { key, policy } => self.subscribe(key, policy, None),
            Op::SubscribeFrom {
                key,
                policy,
                id,
                shift,
            } => {
                let id = self.ids[id % self.ids.len()];
                let offset = id.offset().saturating_add_signed(shift);
                self.subscribe(key, policy, Some(EventId::new(id.epoch(), offset)));
            }
            Op::Publish { key } => self.publish(key),
            Op::PublishBurst { key, count } => (0..count).for_each(|_| self.publish(key)),
            Op::PublishMany { keys } => self.publish_many(&keys),
            Op::ReadOne { subscription } => {
                if let Some(index) = pick(subscription, readers) {
                    self.read_one(index);
                }
            }
            Op::ReadBatch { subscription, most } => {
                if let Some(index) = pick(subscription, readers) {
                    self.read_batch(index, most);
                }
            }
            Op::ReadAll { subscription } => {
                if let Some(index) = pick(subscription, readers) {
                    while self.read_one(index) {}
                }
            }
            Op::Park { subscription } => {
                if let Some(index) = pick(subscription, readers) {
                    self.park(index);
                }
            }
            Op::Drop { subscription } => {
                if let Some(index) = pick(subscription, readers) {
                    let reader = self.readers.swap_remove(index);
                    self.lives[reader.life].subscriptions -= 1;
                }
            }
            Op::Handle { key } => {
                let handle = self.hub.topic(KEYS[key]);
                assert_eq!(handle.is_err(), self.closed);
                if let Ok(handle) = handle {
                    let life = self.enter(key, handle.position().epoch());
                    self.lives[life].handles += 1;
                    self.handles.push((handle, life));
                }
            }
            Op::PublishByHandle { handle } => {
                if let Some(index) = pick(handle, self.handles.len()) {
                    self.number += 1;
                    let number = self.number;
                    let (handle, life) = &self.handles[index];
                    let result = handle.publish(Event::json(&number));
                    assert_eq!(result.is_err(), self.closed);
                    if let Ok(published) = result {
                        let life = *life;
                        self.append(Some(life), &published, number);
                    }
                }
            }
            Op::DropHandle { handle } => {
                if let Some(index) = pick(handle, self.handles.len()) {
                    let (handle, life) = self.handles.swap_remove(index);
                    assert_eq!(handle.position().offset() + 1, self.lives[life].end());
                    self.lives[life].handles -= 1;
                }
            }
            Op::Close => {
                self.hub.close();
                self.closed = true;
            }
        }
        self.sweep();
    }

    /// In the end everybody reads all.
    fn finish(mut self) {
        for index in 0..self.readers.len() {
            while self.read_one(index) {}
        }
        while self.readers.pop().is_some_and(|reader| {
            self.lives[reader.life].subscriptions -= 1;
            true
        }) {}
        while self.handles.pop().is_some_and(|(_, life)| {
            self.lives[life].handles -= 1;
            true
        }) {}
        self.sweep();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_naive_hub(
        history in any::<bool>(),
        retain in prop::sample::select(vec![1_u64, 3, 64, 100, 1000]),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut model = Model::new(history, retain);
        for op in ops {
            model.apply(op);
        }
        model.finish();
    }
}
