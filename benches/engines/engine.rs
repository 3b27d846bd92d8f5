//! What an engine, its readers and their events have to be able to do.

use std::future::Future;

use bytes::Bytes;
use fanfare::Frame;

use super::tick::Tick;

/// The key that every reader listens to where there is only one.
pub(crate) const KEY: &str = "ticks";

/// What a queue holds before it refuses, in events. No round comes near it.
pub(crate) const CAPACITY: usize = 1024;

/// What tables call it.
pub(crate) trait Named {
    const NAME: &'static str;
}

/// One way to tell many readers.
pub(crate) trait Engine: Named + Sized + Send + Sync + 'static {
    type Reader: Reader;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>);

    fn publish(&self, tick: &Tick) -> impl Future<Output = ()> + Send;
}

/// One way to tell the readers of many topics, each of which has a key.
pub(crate) trait Keyed: Named + Sized + Send + Sync + 'static {
    type Reader: Reader;

    fn new() -> Self;

    /// Subscribes.
    fn join(&self, key: &str) -> Self::Reader;

    /// Unsubscribes, and removes what is left of the reader.
    fn leave(&self, key: &str, reader: Self::Reader);

    fn publish_to(&self, key: &str, tick: &Tick) -> impl Future<Output = ()> + Send;
}

/// Of many topics, one.
impl<K: Keyed> Engine for K {
    type Reader = K::Reader;

    fn open(readers: usize) -> (Self, Vec<Self::Reader>) {
        let engine = K::new();
        let readers = (0..readers).map(|_| engine.join(KEY)).collect();
        (engine, readers)
    }

    fn publish(&self, tick: &Tick) -> impl Future<Output = ()> + Send {
        self.publish_to(KEY, tick)
    }
}

/// One reader of an engine.
pub(crate) trait Reader: Send + 'static {
    type Event: Numbered;

    /// Waits until there is something, and shows it to `each`, in order.
    fn receive(&mut self, each: impl FnMut(&Self::Event) + Send)
    -> impl Future<Output = ()> + Send;

    /// Gives back what it keeps only so that its next read is faster.
    fn rest(&mut self) {}
}

/// What a reader gets.
pub(crate) trait Numbered: Clone + Send + Sync + 'static {
    /// Whether [`number`](Self::number) is a look at bytes.
    const CHEAP: bool;

    /// The number of the [`Tick`] in it; `None` if it is none.
    fn number(&self) -> Option<u32>;

    /// What a connection would send; empty if the event hides it.
    fn text(&self) -> &[u8];
}

impl Numbered for Frame {
    const CHEAP: bool = true;

    fn number(&self) -> Option<u32> {
        Tick::number_in(self.payload()?)
    }

    fn text(&self) -> &[u8] {
        self.as_sse()
    }
}

impl Numbered for Bytes {
    const CHEAP: bool = true;

    fn number(&self) -> Option<u32> {
        Tick::number_in(self.strip_prefix(b"data: ")?)
    }

    fn text(&self) -> &[u8] {
        self
    }
}
