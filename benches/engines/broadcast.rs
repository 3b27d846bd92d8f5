//! `tokio::sync::broadcast`: one ring, one lock and one counter per slot.

use std::hint::black_box;

use bytes::Bytes;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::engine::{CAPACITY, Engine, Named, Reader};
use super::tick::Tick;

pub(crate) struct Broadcast(pub(crate) Sender<Bytes>);

impl Named for Broadcast {
    const NAME: &'static str = "tokio broadcast";
}

impl Engine for Broadcast {
    type Reader = Receiver<Bytes>;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>) {
        let (sender, _) = broadcast::channel(CAPACITY);
        let receivers = (0..readers).map(|_| sender.subscribe()).collect();
        (Self(sender), receivers)
    }

    async fn publish(&self, tick: &Tick) {
        black_box(self.0.send(tick.to_sse()).expect("there are receivers"));
    }
}

/// `recv`, the only way it has.
impl Reader for Receiver<Bytes> {
    type Event = Bytes;

    async fn receive(&mut self, mut each: impl FnMut(&Bytes) + Send) {
        let block = self.recv().await;
        each(&block.expect("open, and a round is shorter than the ring"));
    }
}
