//! This crate: one log per topic, one cursor per reader. Reads in batches, as its docs advise. Events carry no ids, as
//! those of the others carry none.

use std::hint::black_box;

use fanfare::{Event, Frame, Hub, Subscription, Topic};

use super::engine::{Engine, KEY, Keyed, Named, Reader};
use super::tick::Tick;

/// Many topics: an event looks its topic up by key.
pub(crate) struct Fanfare(pub(crate) Hub);

/// One topic, whose publisher keeps a handle, as the publisher of a channel keeps its sender.
pub(crate) struct FanfareTopic {
    topic: Topic,
    _hub: Hub,
}

fn hub() -> Hub {
    let hub = Hub::builder().event_ids(false).build();
    hub.expect("what is not set is as by default")
}

impl Named for FanfareTopic {
    const NAME: &'static str = Fanfare::NAME;
}

impl Engine for FanfareTopic {
    type Reader = Subscription;

    fn open(readers: usize) -> (Self, Vec<Subscription>) {
        let hub = hub();
        let topic = hub.topic(KEY).expect("the hub is open");
        let subscribe = |_| hub.subscribe(KEY).expect("the hub is open");
        let readers = (0..readers).map(subscribe).collect();
        (Self { topic, _hub: hub }, readers)
    }

    async fn publish(&self, tick: &Tick) {
        let published = self.topic.publish(Event::json(tick));
        black_box(
            published
                .expect("the hub is open and a tick is small")
                .subscribers(),
        );
    }
}

impl Named for Fanfare {
    const NAME: &'static str = "fanfare";
}

impl Keyed for Fanfare {
    type Reader = Subscription;

    fn new() -> Self {
        Self(hub())
    }

    fn join(&self, key: &str) -> Subscription {
        self.0.subscribe(key).expect("the hub is open")
    }

    fn leave(&self, _key: &str, reader: Subscription) {
        drop(reader);
    }

    async fn publish_to(&self, key: &str, tick: &Tick) {
        let published = self.0.publish(key, Event::json(tick));
        black_box(
            published
                .expect("the hub is open and a tick is small")
                .subscribers(),
        );
    }
}

impl Reader for Subscription {
    type Event = Frame;

    async fn receive(&mut self, each: impl FnMut(&Frame) + Send) {
        let mut batch = self.recv_batch().await.expect("the hub is open");
        assert_eq!(
            batch.lag(),
            None,
            "a round is far shorter than what a log retains"
        );
        batch.for_each(each);
    }
}
