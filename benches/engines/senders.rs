//! A `Vec` of bounded `tokio::sync::mpsc` queues, one per reader.

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver};

use super::engine::{CAPACITY, Engine, Named, Reader};
use super::tick::Tick;

/// How many events a reader takes out of its queue at a time.
const READ_MANY: usize = 64;

pub(crate) struct Senders(Vec<Sender<Bytes>>);

impl Named for Senders {
    const NAME: &'static str = "vec of mpsc";
}

impl Engine for Senders {
    type Reader = ManyReceiver<Receiver<Bytes>>;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>) {
        let (senders, receivers) = (0..readers)
            .map(|_| {
                let (sender, queue) = mpsc::channel(CAPACITY);
                (sender, ManyReceiver::new(queue))
            })
            .unzip();
        (Self(senders), receivers)
    }

    async fn publish(&self, tick: &Tick) {
        let block = tick.to_sse();
        for sender in &self.0 {
            sender
                .try_send(block.clone())
                .expect("open, and a round is shorter than the queue");
        }
    }
}

/// A queue and the room that its reader takes a backlog into: `recv_many` is the best form of reading.
pub(crate) struct ManyReceiver<Q> {
    queue: Q,
    taken: Vec<Bytes>,
}

impl<Q> ManyReceiver<Q> {
    pub(crate) fn new(queue: Q) -> Self {
        Self {
            queue,
            taken: Vec::new(),
        }
    }

    fn show(&mut self, mut each: impl FnMut(&Bytes)) {
        for block in self.taken.drain(..) {
            each(&block);
        }
    }
}

impl Reader for ManyReceiver<Receiver<Bytes>> {
    type Event = Bytes;

    async fn receive(&mut self, each: impl FnMut(&Bytes) + Send) {
        self.queue.recv_many(&mut self.taken, READ_MANY).await;
        self.show(each);
    }

    fn rest(&mut self) {
        self.taken = Vec::new();
    }
}

impl Reader for ManyReceiver<UnboundedReceiver<Bytes>> {
    type Event = Bytes;

    async fn receive(&mut self, each: impl FnMut(&Bytes) + Send) {
        self.queue.recv_many(&mut self.taken, READ_MANY).await;
        self.show(each);
    }

    fn rest(&mut self) {
        self.taken = Vec::new();
    }
}
