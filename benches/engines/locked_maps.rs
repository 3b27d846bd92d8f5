//! `RwLock<HashMap<user, HashMap<connection, mpsc::Sender>>>` of axum's `Event`: the broadcaster that servers write by
//! hand.
//!
//! It is modelled on a published one: under the read lock it copies the user's connections out, then it offers each a
//! clone of the event, and a clone of an axum `Event` is a copy of its text. Where there is one topic, all connections
//! belong to one user.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::response::sse;
use tokio::sync::RwLock;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::engine::{CAPACITY, Keyed, Named, Numbered, Reader};
use super::tick::Tick;

type SseResult = Result<sse::Event, Infallible>;
type Connections = HashMap<String, Sender<SseResult>>;

pub(crate) struct LockedMaps {
    users: RwLock<HashMap<String, Connections>>,
    next_connection: AtomicU32,
}

/// A connection's queue and the name under which it is in the map.
pub(crate) struct Connection {
    number: u32,
    queue: Receiver<SseResult>,
}

fn name_of(connection: u32) -> String {
    format!("connection-{connection:08}")
}

impl Named for LockedMaps {
    const NAME: &'static str = "rwlock of maps";
}

impl Keyed for LockedMaps {
    type Reader = Connection;

    fn new() -> Self {
        Self {
            users: RwLock::default(),
            next_connection: AtomicU32::new(0),
        }
    }

    fn join(&self, key: &str) -> Connection {
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = mpsc::channel(CAPACITY);
        let mut users = self.users.try_write().expect("nobody else is at the map");
        let connections = users.entry(key.to_owned()).or_default();
        connections.insert(name_of(number), sender);
        Connection { number, queue }
    }

    fn leave(&self, key: &str, reader: Connection) {
        let mut users = self.users.try_write().expect("nobody else is at the map");
        if let Some(connections) = users.get_mut(key) {
            connections.remove(&name_of(reader.number));
            if connections.is_empty() {
                users.remove(key);
            }
        }
    }

    async fn publish_to(&self, key: &str, tick: &Tick) {
        let json =
            serde_json::to_string(tick).expect("a tick has no map keys and writes to memory");
        let event = sse::Event::default().data(json);
        let connections: Vec<_> = {
            let users = self.users.read().await;
            let connections = users.get(key).expect("every topic has a reader");
            connections
                .iter()
                .map(|(id, sender)| (id.clone(), sender.clone()))
                .collect()
        };
        for (id, sender) in connections {
            let sent = sender.try_send(Ok(event.clone()));
            assert!(
                sent.is_ok(),
                "{id}: open, and a round is shorter than the queue"
            );
        }
    }
}

/// `recv`, as `ReceiverStream` does.
impl Reader for Connection {
    type Event = SseResult;

    async fn receive(&mut self, mut each: impl FnMut(&SseResult) + Send) {
        each(&self.queue.recv().await.expect("the sender is in the map"));
    }
}

/// An axum event shows its text to nobody but `Debug`.
impl Numbered for SseResult {
    const CHEAP: bool = false;

    fn number(&self) -> Option<u32> {
        Tick::number_printed(&format!("{self:?}"))
    }

    fn text(&self) -> &[u8] {
        &[]
    }
}
