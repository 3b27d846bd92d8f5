//! The reactor's shard by the same kind of simulation, as far as it shows itself: its sockets take everything at once and
//! tell nobody what, so this looks at what the hub says of it. Connections are counted, ended and forgotten, the log is
//! given back behind them, and no turn leads to another for ever.

use std::time::Duration;

use fanfare::{Event, Hub, LagPolicy, SimulatedShard, Topic};

use crate::rng::Rng;

/// Turns that a shard may take to come to rest: far more than the walks over so few connections need.
const TURNS: usize = 10_000;
const IDLE: Duration = Duration::from_secs(2);

struct Stream {
    topic: Topic,
    joined: usize,
}

struct World {
    hub: Hub,
    shard: SimulatedShard,
    streams: Vec<Stream>,
    /// All readers of a run have this one. With Disconnect there is one topic, so that its count is known.
    policy: LagPolicy,
    history: bool,
    closed: usize,
}

impl World {
    fn new(rng: &mut Rng) -> Self {
        let history = rng.percent(30);
        let policy = rng.pick(&[
            LagPolicy::Notify,
            LagPolicy::SkipToLatest,
            LagPolicy::Disconnect,
        ]);
        let hub = Hub::builder()
            .clock_by_hand()
            .history(history)
            .retain_events(rng.pick(&[1, 5, 100]))
            .idle_after(IDLE)
            .build()
            .unwrap();
        let mut this = Self {
            hub,
            shard: SimulatedShard::default(),
            streams: Vec::new(),
            policy,
            history,
            closed: 0,
        };
        let topics = match policy {
            LagPolicy::Disconnect => 1,
            _ => rng.between(1, 8),
        };
        for _ in 0..topics {
            this.open();
        }
        this
    }

    fn open(&mut self) {
        let name = (self.streams.len() + self.closed).to_string();
        let topic = self.hub.topic(name.as_str()).unwrap();
        self.streams.push(Stream { topic, joined: 0 });
    }

    fn join(&mut self, rng: &mut Rng) {
        let index = rng.index(self.streams.len());
        let stream = &mut self.streams[index];
        let last = stream.topic.position();
        let subscription = if rng.percent(40) {
            let offset = rng.below(last.offset() + 1);
            let id = fanfare::EventId::new(last.epoch(), offset);
            stream.topic.subscribe_from(id)
        } else {
            stream.topic.subscribe()
        };
        stream.joined += 1;
        let subscription = subscription.unwrap().lag_policy(self.policy);
        self.shard.join(subscription.into_sse());
    }

    fn publish(&mut self, rng: &mut Rng) {
        let index = rng.index(self.streams.len());
        for _ in 0..rng.between(1, 80) {
            let event = Event::text("an event");
            let _ = self.streams[index].topic.publish(event).unwrap();
        }
    }

    fn close_one(&mut self, rng: &mut Rng) {
        if self.policy == LagPolicy::Disconnect {
            return;
        }
        let index = rng.index(self.streams.len());
        let stream = self.streams.swap_remove(index);
        self.closed += 1;
        stream.topic.close();
        self.settle();
        assert_eq!(stream.topic.subscribers(), 0, "of a closed topic");
        drop(stream);
        self.open();
    }

    fn settle(&mut self) {
        let rest = (0..TURNS).any(|_| !self.shard.turn());
        assert!(rest, "it is busy for ever");
    }

    /// All have what there is.
    fn check(&mut self) {
        self.settle();
        let lagged = self.hub.stats().lagged as usize;
        for Stream { topic, joined } in &self.streams {
            assert_eq!(topic.subscribers() + lagged, *joined, "subscribers");
        }
        let sum: usize = self.streams.iter().map(|it| it.topic.subscribers()).sum();
        assert_eq!(self.hub.subscribers(), sum);
    }

    fn go_on(&mut self, time: Duration) {
        let ticks = time.as_nanos().div_ceil(self.hub.tick().as_nanos()) as u64;
        self.hub.go_on(ticks);
    }

    /// Nobody is behind, so an idle log is given back.
    fn idle(&mut self) {
        self.check();
        self.go_on(2 * IDLE);
        self.check();
        if !self.history {
            for Stream { topic, .. } in &self.streams {
                assert_eq!(topic.retained_events(), 0, "all have it");
            }
        }
    }
}

pub(crate) fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut world = World::new(&mut rng);
    for _ in 0..rng.between(20, 120) {
        match rng.below(20) {
            0..6 => world.join(&mut rng),
            6..12 => world.publish(&mut rng),
            12..15 => {
                world.shard.turn();
            }
            15..17 => world.check(),
            17 => world.close_one(&mut rng),
            18 => world.go_on(Duration::from_secs(20)),
            _ => world.idle(),
        }
    }
    world.check();
    world.hub.close();
    world.settle();
    assert_eq!(world.hub.subscribers(), 0, "when the hub is closed");
    world.streams.clear();
    assert_eq!(world.hub.topics(), 0);
}
