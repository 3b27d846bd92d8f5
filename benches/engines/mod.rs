//! The engines that the benches `fan_out` and `ratios` and the example `compare` set side by side, and the round that
//! all of them time.
//!
//! A **round** begins with every reader parked. The publisher, itself a task of the same runtime, starts the clock,
//! publishes one event or a burst, and stops the clock when the last reader has received the last of it. Every engine
//! is given the same work: the same value, encoded once per publish by the publisher, one task per reader, and the
//! same two marks that a reader leaves behind, one shared decrement per round and one plain store when it parks. In a
//! **checked** round, which nobody times, readers look at the number in each event as well; counts are compared in all.
//!
//! | engine | sends | reads |
//! |---|---|---|
//! | [`FanfareTopic`] | `topic.publish(event)`, without ids; of many topics `hub.publish(key, event)` | `recv_batch`, as its docs advise |
//! | [`Broadcast`] | `tokio::sync::broadcast` of `Bytes` | `recv`, the only way it has |
//! | [`AsyncBroadcast`] | `async_broadcast` of `Bytes`, no overflow | `recv_direct`, its best form |
//! | [`Senders`] | a `Vec` of `tokio::sync::mpsc` senders of `Bytes` | `recv_many`, its best form |
//! | [`DashMapOfSenders`] | `DashMap<topic, Vec<mpsc::UnboundedSender>>` of `Bytes` | `recv_many` |
//! | [`LockedMaps`] | `RwLock<HashMap<user, HashMap<connection, mpsc::Sender>>>` of axum's `Event` | `recv`, as `ReceiverStream` does |

#![allow(dead_code, reason = "each program uses its own part")]

mod arena;
mod async_broadcast;
mod broadcast;
mod dash_map;
mod engine;
mod fanfare;
mod interleave;
mod locked_maps;
mod round;
mod senders;
mod tick;

use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

#[allow(unused_imports, reason = "each program uses its own part")]
pub(crate) use self::{
    arena::{Arena, Contender, Times},
    async_broadcast::AsyncBroadcast,
    broadcast::Broadcast,
    dash_map::DashMapOfSenders,
    engine::{CAPACITY, Engine, KEY, Keyed, Named, Numbered, Reader},
    fanfare::{Fanfare, FanfareTopic},
    interleave::{interleave, interleave_some, median, ratios},
    locked_maps::LockedMaps,
    round::{AbortOnPanic, Round, read_rounds},
    senders::{ManyReceiver, Senders},
    tick::Tick,
};

type Open = fn(&Handle, usize) -> Box<dyn Contender>;

fn open<E: Engine>(runtime: &Handle, readers: usize) -> Box<dyn Contender> {
    Box::new(Arena::<E>::open(runtime, readers))
}

/// All engines, fanfare first: names, and how to open one with so many readers.
pub(crate) const ENGINES: [(&str, Open); 6] = [
    (FanfareTopic::NAME, open::<FanfareTopic>),
    (Broadcast::NAME, open::<Broadcast>),
    (AsyncBroadcast::NAME, open::<AsyncBroadcast>),
    (Senders::NAME, open::<Senders>),
    (DashMapOfSenders::NAME, open::<DashMapOfSenders>),
    (LockedMaps::NAME, open::<LockedMaps>),
];

/// A multi-thread runtime with one worker per core.
pub(crate) fn runtime() -> Runtime {
    runtime_of(cores())
}

/// A multi-thread runtime with so many workers.
pub(crate) fn runtime_of(workers: usize) -> Runtime {
    let length = serde_json::to_string(&Tick::new(0)).map(|json| json.len());
    assert_eq!(
        length.ok(),
        Some(Tick::JSON_BYTES),
        "the payload that the figures speak of"
    );
    Builder::new_multi_thread()
        .worker_threads(workers)
        .build()
        .expect("threads can be started")
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
