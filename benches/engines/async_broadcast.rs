//! The crate `async-broadcast`: one queue under one lock, and it waits rather than lose an event.

use std::hint::black_box;

use async_broadcast::{Receiver, Sender};
use bytes::Bytes;

use super::engine::{CAPACITY, Engine, Named, Reader};
use super::tick::Tick;

pub(crate) struct AsyncBroadcast(pub(crate) Sender<Bytes>);

impl Named for AsyncBroadcast {
    const NAME: &'static str = "async-broadcast";
}

impl Engine for AsyncBroadcast {
    type Reader = Receiver<Bytes>;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>) {
        let (mut sender, first) = async_broadcast::broadcast(CAPACITY);
        sender.set_overflow(false);
        let others = (1..readers).map(|_| sender.new_receiver());
        let mut receivers: Vec<_> = others.collect();
        receivers.push(first);
        (Self(sender), receivers)
    }

    async fn publish(&self, tick: &Tick) {
        let overflown = self.0.broadcast_direct(tick.to_sse()).await;
        black_box(overflown.expect("there are receivers"));
    }
}

/// `recv_direct`, which saves an allocation of `recv`.
impl Reader for Receiver<Bytes> {
    type Event = Bytes;

    async fn receive(&mut self, mut each: impl FnMut(&Bytes) + Send) {
        each(&self.recv_direct().await.expect("open"));
    }
}
