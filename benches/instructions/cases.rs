//! The operations that are counted, each in the state that it has in a server.
//!
//! A case runs in rounds. The first ones fill what is filled once and then kept (buffers of the thread, the log up to what it
//! retains, the sizes of its segments); the rest are counted, and only what stands in [`Rounds::count`].
//!
//! Why the counts hardly vary: one thread does all the work, and the hub's clock only looks on. What is left is the map's
//! hasher, which std seeds anew in each process: a lookup takes now and then one more probe. Averages of so many rounds move
//! by less than one percent.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fanfare::{Event, Hub, SseBody, Subscription, Topic};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde::Serialize;

/// Rounds that are counted. A multiple of the slots of a segment and of the pins between two looks of the collector, so that
/// every run holds as many of each.
pub(crate) const ROUNDS: u32 = 2048;
/// Rounds before them: more events than a log retains.
const WARM: u32 = 2048;

const KEY: &str = "ticks";

/// 98 characters, which are 100 bytes of JSON.
const PAYLOAD: &str = "a string of ninety-eight characters, so that with its two quotation marks it is 100 bytes long....";

/// About 100 bytes of JSON, of several fields.
#[derive(Debug, Serialize)]
struct Quote {
    symbol: &'static str,
    bid: u64,
    ask: u64,
    volume: u64,
    at: u64,
    open: bool,
    venue: &'static str,
}

const QUOTE: Quote = Quote {
    symbol: "FANFARE",
    bid: 104_250,
    ask: 104_275,
    volume: 1_250_000,
    at: 1_700_000_000_123,
    open: true,
    venue: "XETR",
};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Rounds),
}

/// Each line: what one round is.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "encode: string of 100 B",
        run: |rounds| encode(rounds, &PAYLOAD),
    },
    Case {
        name: "encode: string of 1 KB",
        run: |rounds| encode(rounds, &PAYLOAD.repeat(10)),
    },
    Case {
        name: "encode: struct of 100 B",
        run: |rounds| encode(rounds, &QUOTE),
    },
    Case {
        name: "publish: topic, nobody",
        run: |rounds| publish_topic(rounds, 0, 0),
    },
    Case {
        name: "publish: topic, nobody, history",
        run: publish_history,
    },
    Case {
        name: "publish: topic, 1 parked",
        run: |rounds| publish_topic(rounds, 1, 1),
    },
    Case {
        name: "publish: topic, 100 parked",
        run: |rounds| publish_topic(rounds, 100, 100),
    },
    Case {
        name: "publish: topic, 1,000 not parked",
        run: |rounds| publish_topic(rounds, 1000, 0),
    },
    Case {
        name: "publish: hub, 1,000 not parked",
        run: publish_hub,
    },
    Case {
        name: "publish: hub, 1 parked of 10,000 topics",
        run: publish_users,
    },
    Case {
        name: "publish: hub, many, 16 topics",
        run: |rounds| publish_many(rounds, true),
    },
    Case {
        name: "publish: hub, many, 16 topics, no ids",
        run: |rounds| publish_many(rounds, false),
    },
    Case {
        name: "lookup: string, 10,000 topics",
        run: lookup_string,
    },
    Case {
        name: "lookup: u64, 10,000 topics",
        run: lookup_number,
    },
    Case {
        name: "read: try_recv, a frame",
        run: try_recv,
    },
    Case {
        name: "read: try_recv, empty",
        run: try_recv_empty,
    },
    Case {
        name: "read: poll_recv, a frame",
        run: poll_recv,
    },
    Case {
        name: "read: poll_recv, park",
        run: park,
    },
    Case {
        name: "read: recv_batch of 16",
        run: |rounds| recv_batch(rounds, 1),
    },
    Case {
        name: "read: recv_batch of 16, 1,000 readers",
        run: |rounds| recv_batch(rounds, 1000),
    },
    Case {
        name: "subscribe + drop: a topic of its own",
        run: |rounds| subscribe(rounds, None),
    },
    Case {
        name: "subscribe + drop: first of a topic",
        run: |rounds| subscribe(rounds, Some(0)),
    },
    Case {
        name: "subscribe + drop: beside 1,000",
        run: |rounds| subscribe(rounds, Some(1000)),
    },
    Case {
        name: "sse: an event and park, alone",
        run: |rounds| sse(rounds, 1),
    },
    Case {
        name: "sse: an event and park, each of 16",
        run: |rounds| sse(rounds, 16),
    },
];

/// The name of the function that callgrind counts in, as part of its symbol in any mangling.
pub(crate) const SECTION: &str = "counted_section";

/// Callgrind counts from the entry of this function to its return.
#[inline(never)]
fn counted_section(operation: &mut dyn FnMut()) {
    operation();
}

/// How often a case goes round, and what of it is counted.
#[derive(Debug)]
pub(crate) struct Rounds {
    warm: u32,
    counted: u32,
}

impl Rounds {
    pub(crate) fn counted() -> Self {
        Self {
            warm: WARM,
            counted: ROUNDS,
        }
    }

    /// A smoke run.
    pub(crate) fn once() -> Self {
        Self {
            warm: 1,
            counted: 1,
        }
    }

    /// Runs all rounds.
    fn run(&mut self, mut round: impl FnMut(&mut Counter)) {
        for counted in [false, true] {
            let rounds = if counted { self.counted } else { self.warm };
            for _ in 0..rounds {
                round(&mut Counter { counted });
            }
        }
    }
}

struct Counter {
    counted: bool,
}

impl Counter {
    /// Runs `operation`, and counts it if it is time to.
    fn count<R>(&mut self, mut operation: impl FnMut() -> R) -> R {
        let mut result = None;
        let mut run = || result = Some(operation());
        if self.counted {
            counted_section(&mut run);
        } else {
            black_box(&mut run as &mut dyn FnMut())();
        }
        result.expect("it ran")
    }
}

fn crowd(hub: &Hub, subscribers: usize) -> Vec<Subscription> {
    let subscribe = |_| hub.subscribe(KEY).expect("the hub is open");
    (0..subscribers).map(subscribe).collect()
}

fn publish(topic: &Topic) -> usize {
    let published = topic.publish(Event::json(&PAYLOAD));
    published.expect("the hub is open").subscribers()
}

/// Reads all that is there, and parks.
fn catch_up(subscription: &mut Subscription) {
    let mut cx = Context::from_waker(Waker::noop());
    while subscription.poll_recv(&mut cx).is_ready() {}
}

/// Nobody is there and no topic: what is left is the encoding, the frame, and one look at the map.
fn encode(rounds: &mut Rounds, payload: &impl Serialize) {
    let hub = Hub::new();
    rounds.run(|counter| {
        let published = counter.count(|| hub.publish(KEY, Event::json(payload)));
        assert_eq!(published.expect("the hub is open").subscribers(), 0);
    });
}

fn publish_topic(rounds: &mut Rounds, subscribers: usize, parked: usize) {
    let hub = Hub::new();
    let topic = hub.topic(KEY).expect("the hub is open");
    let mut crowd = crowd(&hub, subscribers);
    rounds.run(|counter| {
        crowd.iter_mut().take(parked).for_each(catch_up);
        assert_eq!(counter.count(|| publish(&topic)), subscribers);
    });
}

fn publish_history(rounds: &mut Rounds) {
    let hub = Hub::builder().history(true).build().expect("a hub");
    let topic = hub.topic(KEY).expect("the hub is open");
    rounds.run(|counter| assert_eq!(counter.count(|| publish(&topic)), 0));
}

fn publish_hub(rounds: &mut Rounds) {
    let hub = Hub::new();
    let crowd = crowd(&hub, 1000);
    rounds.run(|counter| {
        let published = counter.count(|| hub.publish(KEY, Event::json(&PAYLOAD)));
        assert_eq!(
            published.expect("the hub is open").subscribers(),
            crowd.len()
        );
    });
}

/// Steps that share no factor with it visit all of 10,000.
const STEP: usize = 6_181;
const USERS: usize = 10_000;

fn publish_users(rounds: &mut Rounds) {
    let hub = Hub::<usize>::default();
    let subscribe = |user| hub.subscribe(&user).expect("the hub is open");
    let mut users: Vec<_> = (0..USERS).map(subscribe).collect();
    users.iter_mut().for_each(catch_up);
    let mut user = 0;
    // Each one gets its first event: it begins a log, and the hub's clock is told.
    rounds.run(|counter| {
        user = (user + STEP) % USERS;
        let published = counter.count(|| hub.publish(&user, Event::json(&PAYLOAD)));
        assert_eq!(published.expect("the hub is open").subscribers(), 1);
    });
}

fn publish_many(rounds: &mut Rounds, ids: bool) {
    let hub = Hub::builder().event_ids(ids).build().expect("a hub");
    let keys: Vec<String> = (0..16).map(|key| format!("key {key}")).collect();
    let subscribe = |key: &String| hub.subscribe(key.as_str()).expect("the hub is open");
    let crowd: Vec<_> = keys.iter().map(subscribe).collect();
    rounds.run(|counter| {
        let keys = keys.iter().map(String::as_str);
        let published = counter.count(|| hub.publish_many(keys.clone(), Event::json(&PAYLOAD)));
        assert_eq!(
            published.expect("the hub is open").subscribers(),
            crowd.len()
        );
    });
}

fn lookup_string(rounds: &mut Rounds) {
    let hub = Hub::new();
    let keys: Vec<String> = (0..USERS).map(|user| format!("user:{user:08}")).collect();
    let subscribe = |key: &String| hub.subscribe(key.as_str()).expect("the hub is open");
    let _users: Vec<_> = keys.iter().map(subscribe).collect();
    let mut user = 0;
    rounds.run(|counter| {
        user = (user + STEP) % USERS;
        let key = keys[user].as_str();
        assert_eq!(counter.count(|| hub.subscribers_of(key)), 1);
    });
}

fn lookup_number(rounds: &mut Rounds) {
    let hub = Hub::<usize>::default();
    let subscribe = |user| hub.subscribe(&user).expect("the hub is open");
    let _users: Vec<_> = (0..USERS).map(subscribe).collect();
    let mut user = 0;
    rounds.run(|counter| {
        user = (user + STEP) % USERS;
        assert_eq!(counter.count(|| hub.subscribers_of(&user)), 1);
    });
}

/// A topic with one reader.
struct Pair {
    /// With the last handle of it the topic would be closed.
    _hub: Hub,
    topic: Topic,
    reader: Subscription,
}

fn pair() -> Pair {
    let hub = Hub::new();
    Pair {
        topic: hub.topic(KEY).expect("the hub is open"),
        reader: hub.subscribe(KEY).expect("the hub is open"),
        _hub: hub,
    }
}

fn try_recv(rounds: &mut Rounds) {
    let Pair {
        topic,
        mut reader,
        _hub,
    } = pair();
    rounds.run(|counter| {
        publish(&topic);
        assert!(counter.count(|| reader.try_recv()).is_ok());
    });
}

fn try_recv_empty(rounds: &mut Rounds) {
    let Pair {
        topic,
        mut reader,
        _hub,
    } = pair();
    publish(&topic);
    catch_up(&mut reader);
    rounds.run(|counter| assert!(counter.count(|| reader.try_recv()).is_err()));
}

fn poll_recv(rounds: &mut Rounds) {
    let Pair {
        topic,
        mut reader,
        _hub,
    } = pair();
    let mut cx = Context::from_waker(Waker::noop());
    rounds.run(|counter| {
        publish(&topic);
        assert!(counter.count(|| reader.poll_recv(&mut cx)).is_ready());
    });
}

fn park(rounds: &mut Rounds) {
    let Pair {
        topic,
        mut reader,
        _hub,
    } = pair();
    let mut cx = Context::from_waker(Waker::noop());
    rounds.run(|counter| {
        // Wakes it, so that each round parks from the beginning.
        publish(&topic);
        assert!(reader.try_recv().is_ok());
        assert!(counter.count(|| reader.poll_recv(&mut cx)).is_pending());
    });
}

fn recv_batch(rounds: &mut Rounds, subscribers: usize) {
    const BATCH: usize = 16;
    let hub = Hub::new();
    let topic = hub.topic(KEY).expect("the hub is open");
    let mut crowd = crowd(&hub, subscribers);
    let mut reader = crowd.pop().expect("there is one");
    rounds.run(|counter| {
        for _ in 0..BATCH {
            publish(&topic);
        }
        let read = counter.count(|| {
            let mut read = 0;
            if let Some(Some(mut batch)) = reader.recv_batch().now_or_never() {
                batch.for_each(|frame| read += usize::from(!frame.as_sse().is_empty()));
            }
            read
        });
        assert_eq!(read, BATCH);
    });
}

/// `others` are on the same topic; `None`: it comes and goes with the subscription.
fn subscribe(rounds: &mut Rounds, others: Option<usize>) {
    let hub = Hub::new();
    let _topic = others.map(|_| hub.topic(KEY).expect("the hub is open"));
    let _crowd = crowd(&hub, others.unwrap_or_default());
    rounds.run(|counter| counter.count(|| drop(black_box(hub.subscribe(KEY)))));
}

/// `streams` follow one topic; after each event they are polled one after the other, until they wait again.
fn sse(rounds: &mut Rounds, streams: usize) {
    let hub = Hub::new();
    let topic = hub.topic(KEY).expect("the hub is open");
    let bodies = crowd(&hub, streams)
        .into_iter()
        .map(|one| one.into_sse().into_body());
    let mut bodies: Vec<SseBody> = bodies.collect();
    let poll = |body: &mut SseBody| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = 0;
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body.frame()).poll(&mut cx) {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        }
        bytes
    };
    for body in &mut bodies {
        assert!(poll(body) > 0);
    }
    let mut turn = 0;
    rounds.run(|counter| {
        publish(&topic);
        turn = (turn + 1) % streams;
        for (at, body) in bodies.iter_mut().enumerate() {
            // One of them in each round: the first copies the event, the others share its chunk.
            let bytes = if at == turn {
                counter.count(|| poll(body))
            } else {
                poll(body)
            };
            assert!(bytes > PAYLOAD.len());
        }
    });
}
