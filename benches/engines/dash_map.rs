//! A `DashMap` of topics, each with the unbounded queues of its readers: the registry that services write by hand.

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::engine::{Keyed, Named};
use super::senders::ManyReceiver;
use super::tick::Tick;

pub(crate) struct DashMapOfSenders(DashMap<String, Vec<UnboundedSender<Bytes>>>);

impl Named for DashMapOfSenders {
    const NAME: &'static str = "dashmap of mpsc";
}

impl Keyed for DashMapOfSenders {
    type Reader = ManyReceiver<UnboundedReceiver<Bytes>>;

    fn new() -> Self {
        Self(DashMap::new())
    }

    fn join(&self, key: &str) -> Self::Reader {
        let (sender, queue) = mpsc::unbounded_channel();
        self.0.entry(key.to_owned()).or_default().push(sender);
        ManyReceiver::new(queue)
    }

    fn leave(&self, key: &str, reader: Self::Reader) {
        drop(reader);
        if let Some(mut senders) = self.0.get_mut(key) {
            senders.retain(|sender| !sender.is_closed());
        }
        self.0.remove_if(key, |_, senders| senders.is_empty());
    }

    async fn publish_to(&self, key: &str, tick: &Tick) {
        let block = tick.to_sse();
        let senders = self.0.get(key).expect("every topic has a reader");
        for sender in senders.iter() {
            sender.send(block.clone()).expect("open");
        }
    }
}
