//! A visit of the clock. It gives back the last events of a topic that has history while the last user goes: one of the
//! two has the topic removed (U4). A publisher appends: the topic stays, with its event. A subscriber joins and is
//! published to while an idle log is given back: it misses nothing.
//!
//! **Bound.** All interleavings; 3 preemptions with a subscriber.
//!
//! **Teeth.** No fence in `exit`; a visit that gives back what came after its first look.

use loom::thread;

use super::{check, frame};
use crate::clock::Again;
use crate::config::HubBuilder;
use crate::eviction::AnyKey;
use crate::position::Start;
use crate::subscription::{Item, Subscription};
use crate::sync::{Arc, AtomicBool, HostArc, Ordering, arc_unsized, epoch};
use crate::topic::{Home, Pending, Shared, TopicCore, User};

/// A registry of one topic, without its lock: the lock would order more than U4 asks for.
#[derive(Default)]
struct Place {
    gone: HostArc<std::sync::atomic::AtomicUsize>,
}

impl Home for Place {
    fn closing(&self, _: &TopicCore) {}

    fn key(&self) -> AnyKey {
        Box::new(())
    }

    fn vacated(&self, topic: &TopicCore) {
        if topic.is_dead() {
            self.gone.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Long after whatever is appended here.
const LATE: u64 = 1 << 40;

fn topic(history: bool) -> (Arc<TopicCore>, HostArc<std::sync::atomic::AtomicUsize>) {
    let mut config = HubBuilder::new().history(history).check().expect("valid");
    // The clock stands in a model: so that a visit at its time finds the topic idle, and one that is late, too quiet.
    config.idle_ticks = 0;
    let shared = HostArc::new(Shared::new(config));
    let place = Place::default();
    let gone = HostArc::clone(&place.gone);
    let topic = arc_unsized!(TopicCore::new(shared, 7, place) => TopicCore);
    topic.enter(User::Handle);
    (topic, gone)
}

fn publish(topic: &TopicCore) {
    let guard = epoch::pin();
    let frame = frame("a");
    let appended = topic.append(frame.len(), &mut Pending::Made(frame), &guard);
    assert!(appended.is_ok(), "the topic is open");
}

#[test]
fn visit_vs_leave() {
    check("visit_vs_leave", None, || {
        let (topic, gone) = topic(true);
        publish(&topic);
        let leaver = {
            let topic = Arc::clone(&topic);
            thread::spawn(move || topic.exit(User::Handle))
        };
        let again = TopicCore::visit(&topic, LATE, None);
        assert_eq!(again, Again::Never, "an empty topic is not visited");
        leaver.join().expect("no panic");
        let gone = gone.load(std::sync::atomic::Ordering::Relaxed);
        assert!(gone > 0, "a dead topic stays");
    });
}

/// What was appended before the visit is seen by it; a topic that holds an event is not removed.
#[test]
fn visit_vs_publish() {
    check("visit_vs_publish", None, || {
        let (topic, gone) = topic(true);
        let done = Arc::new(AtomicBool::new(false));
        let publisher = {
            let (topic, done) = (Arc::clone(&topic), Arc::clone(&done));
            thread::spawn(move || {
                publish(&topic);
                topic.exit(User::Handle);
                done.store(true, Ordering::Release);
            })
        };
        let was_done = done.load(Ordering::Acquire);
        let kept = TopicCore::visit(&topic, 0, None) != Again::Never;
        assert!(kept || !was_done, "a visit does not see the chain");
        publisher.join().expect("no panic");
        let gone = gone.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(gone, 0, "a topic with history was removed");
    });
}

#[test]
fn visit_vs_subscribe() {
    check("visit_vs_subscribe", Some(3), || {
        let (topic, _) = topic(false);
        topic.enter(User::Subscription);
        publish(&topic);
        topic.exit(User::Subscription);
        let clock = {
            let topic = Arc::clone(&topic);
            thread::spawn(move || TopicCore::visit(&topic, 0, None) != Again::Never)
        };
        topic.enter(User::Subscription);
        let mut subscription =
            Subscription::start(Arc::clone(&topic), Start::Live).expect("the topic is open");
        publish(&topic);
        clock.join().expect("no panic");
        match subscription.try_recv() {
            Ok(Item::Frame(_)) => {}
            other => panic!("given back before it was read: {other:?}"),
        }
    });
}
