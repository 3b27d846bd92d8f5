//! A snapshot is taken while events are published. With the id of its last event the stream has each event once; without,
//! none is missing. N1 and N2 of `snapshot`.
//!
//! **Bound.** 3 preemptions with one publisher, 2 with two.
//!
//! **Teeth.** The place taken after the snapshot; the id of the last event ignored.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use loom::thread;

use super::{check, event, tag, text};
use crate::event_id::EventId;
use crate::hub::Hub;
use crate::snapshot::Snapshot;
use crate::subscription::Subscription;
use crate::sync::{Arc, AtomicUsize, Ordering, StepMutex};

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for nothing"),
    }
}

fn rest(subscription: &mut Subscription) -> Vec<String> {
    let mut rest = Vec::new();
    while let Ok(crate::Item::Frame(frame)) = subscription.try_recv() {
        rest.push(tag(&frame.data()));
    }
    rest
}

/// The application has its state, and the id of the last event in it, under a lock of its own around the publish.
#[test]
fn snapshot_exact() {
    check("snapshot_exact", Some(3), || {
        let hub = Hub::new();
        // Somebody listens already, so that every event has an id.
        let other = hub.subscribe("t").expect("open");
        let state = Arc::new(StepMutex::new((Vec::new(), None::<EventId>)));
        let publisher = {
            let (hub, state) = (hub.clone(), Arc::clone(&state));
            thread::spawn(move || {
                for what in ["a", "b"] {
                    let mut state = state.lock().expect("no panic");
                    state.0.push(what.to_owned());
                    let published = hub.publish("t", event(&text(what))).expect("open");
                    state.1 = published.id();
                }
            })
        };
        let known = std::cell::RefCell::new(Vec::new());
        let taken = hub.subscribe_with_snapshot("t", |_| {
            let (what, last) = state.lock().expect("no panic").clone();
            known.replace(what);
            std::future::ready(Ok::<_, Infallible>(Snapshot::default().as_of(last)))
        });
        let mut subscription = ready(taken).expect("open");
        publisher.join().expect("no panic");
        let mut all = known.take();
        all.extend(rest(&mut subscription));
        assert_eq!(all, ["a", "b"], "each once");
        drop(other);
    });
}

/// The application changes its state, which is no more than a number here, before it publishes.
#[test]
fn snapshot_at_least_once() {
    check("snapshot_at_least_once", Some(2), || {
        let hub = Hub::new();
        let other = hub.subscribe("t").expect("open");
        // The segment that it begins has one slot, so that the publishers share the next one.
        hub.publish("t", event(&text("0"))).map(drop).expect("open");
        let state = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let publishers = [0, 1].map(|which| {
            let (hub, state) = (hub.clone(), Arc::clone(&state));
            thread::spawn(move || {
                // Relaxed: it is the log that orders it.
                state[which].store(1, Ordering::Relaxed);
                let what = ["a", "b"][which];
                hub.publish("t", event(&text(what)))
                    .map(|_| ())
                    .expect("open");
            })
        });
        let known = std::cell::Cell::new([0, 0]);
        let taken = hub.subscribe_with_snapshot("t", |_| {
            known.set([0, 1].map(|which| state[which].load(Ordering::Relaxed)));
            std::future::ready(Ok::<_, Infallible>(Snapshot::default()))
        });
        let mut subscription = ready(taken).expect("open");
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        let rest = rest(&mut subscription);
        for (which, what) in ["a", "b"].iter().enumerate() {
            let known = known.get()[which] == 1;
            assert!(
                known || rest.iter().any(|got| got == what),
                "{what} is missing"
            );
        }
        drop(other);
    });
}
