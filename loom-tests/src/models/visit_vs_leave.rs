//! The clock gives back the last events of a topic that has history while the last user goes: one of the two has the
//! topic removed (U4). And while a publisher appends: the topic stays, with its event.
//!
//! **Bound.** All interleavings.
//!
//! **Teeth.** No fence in `exit`; no fence in `offer_to_go`.

use loom::thread;

use super::{check, frame};
use crate::clock::Clock;
use crate::config::HubBuilder;
use crate::stats::StripedCounter;
use crate::sync::{Arc, AtomicBool, HostArc, Ordering, arc_unsized, epoch};
use crate::topic::{Home, Shared, TopicCore, User};

/// A registry of one topic, without its lock: the lock would order more than U4 asks for.
#[derive(Default)]
struct Place {
    gone: HostArc<std::sync::atomic::AtomicUsize>,
}

impl Home for Place {
    fn vacated(&self, topic: &TopicCore) {
        if topic.is_dead() {
            self.gone.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Long after whatever is appended here.
const LATE: u64 = 1 << 40;

fn topic() -> (Arc<TopicCore>, HostArc<std::sync::atomic::AtomicUsize>) {
    let config = HubBuilder::new().history(true).check().expect("valid");
    let shared = HostArc::new(Shared {
        config,
        clock: Clock::new(config),
        subscribers: StripedCounter::new(),
        published: StripedCounter::new(),
    });
    let place = Place::default();
    let gone = HostArc::clone(&place.gone);
    let topic = arc_unsized!(TopicCore::new(shared, 7, place) => TopicCore);
    topic.enter(User::Handle);
    (topic, gone)
}

fn publish(topic: &TopicCore) {
    let guard = epoch::pin();
    let frame = frame("a");
    let appended = topic.append(frame.len(), || frame, &guard);
    assert!(appended.is_ok(), "the topic is open");
}

#[test]
fn visit_vs_leave() {
    check("visit_vs_leave", None, || {
        let (topic, gone) = topic();
        publish(&topic);
        let leaver = {
            let topic = Arc::clone(&topic);
            thread::spawn(move || topic.exit(User::Handle))
        };
        assert!(!topic.visit(LATE, None), "an empty topic is not visited");
        leaver.join().expect("no panic");
        let gone = gone.load(std::sync::atomic::Ordering::Relaxed);
        assert!(gone > 0, "a dead topic stays");
    });
}

/// T1, as far as a visit tells it: a topic that came to hold a chain after the visit's look is kept, or its publisher
/// finds the flag to turn.
#[test]
fn visit_vs_publish() {
    check("visit_vs_publish", None, || {
        let (topic, gone) = topic();
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
        let kept = topic.visit(0, None);
        assert!(kept || !was_done, "a visit does not see the chain");
        publisher.join().expect("no panic");
        let gone = gone.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(gone, 0, "a topic with history was removed");
    });
}
