//! A subscribe and a drop beside others, on one thread: the new one joins, then one of the others leaves, and nothing of it
//! stays behind.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::args::{Question, Settings, grouped};
use crate::contest::{Entry, Progress, hold};
use crate::engines::{
    AsyncBroadcast, Broadcast, CAPACITY, DashMapOfSenders, Engine, Fanfare, KEY, Keyed, LockedMaps,
    ManyReceiver, Named, Senders,
};
use crate::report::{Head, Table, Unit};

/// Who else listens.
const OTHERS: u32 = 1_000;

/// Times that one joins and one leaves, timed together.
const OPERATIONS: u32 = 10_000;

/// Lets `OTHERS` of `join` come and go, and returns what a turn measures.
fn churn<'a, R: 'a>(
    mut join: impl FnMut() -> R + 'a,
    mut leave: impl FnMut(R) + 'a,
) -> Box<dyn FnMut() -> f64 + 'a> {
    let mut others: Vec<R> = (0..OTHERS).map(|_| join()).collect();
    let mut leaver = 0;
    Box::new(move || {
        let start = Instant::now();
        for _ in 0..OPERATIONS {
            // Coprime to the number of others: each has its turn.
            leaver = (leaver + 618_033) % others.len();
            leave(mem::replace(&mut others[leaver], join()));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(OPERATIONS)
    })
}

fn keyed<'a, E: Keyed>() -> Box<dyn FnMut() -> f64 + 'a> {
    let engine = Arc::new(E::new());
    let joins = Arc::clone(&engine);
    churn(
        move || joins.join(KEY),
        move |reader| engine.leave(KEY, reader),
    )
}

/// A list of senders that others publish to needs a lock.
fn senders<'a>() -> Box<dyn FnMut() -> f64 + 'a> {
    let list = Arc::new(Mutex::new(Vec::new()));
    let joins = Arc::clone(&list);
    churn(
        move || {
            let (sender, queue) = mpsc::channel::<bytes::Bytes>(CAPACITY);
            let mut list = joins.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(sender);
            ManyReceiver::new(queue)
        },
        move |reader| {
            drop(reader);
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            list.retain(|sender| !sender.is_closed());
        },
    )
}

pub(crate) fn measure(settings: &Settings, progress: &Progress, done: impl FnOnce(Table)) {
    let (broadcast, _receivers) = Broadcast::open(1);
    let (async_broadcast, _others) = AsyncBroadcast::open(1);
    let turns = [
        (Fanfare::NAME, keyed::<Fanfare>()),
        (
            Broadcast::NAME,
            churn(|| broadcast.0.subscribe(), drop::<_>),
        ),
        (
            AsyncBroadcast::NAME,
            churn(|| async_broadcast.0.new_receiver(), drop::<_>),
        ),
        (Senders::NAME, senders()),
        (DashMapOfSenders::NAME, keyed::<DashMapOfSenders>()),
        (LockedMaps::NAME, keyed::<LockedMaps>()),
    ];
    let entries = turns.into_iter().map(|(engine, mut turn)| {
        turn();
        Entry {
            engine: engine.to_owned(),
            rounds: settings.rounds,
            limit: None,
            turn: Ok(turn),
        }
    });
    let entries = entries.collect();
    let head = Head {
        question: Question::Churn,
        title: format!(
            "churn: a subscribe and a drop beside {} others",
            grouped(OTHERS)
        ),
        unit: Unit::Membership,
        size: OTHERS,
        burst: None,
    };
    done(hold(head, progress, entries));
}
