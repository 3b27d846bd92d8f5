//! A reader is taken over by another owner while it is ended from outside: the owner finds the reason, or is found. E2 of
//! `ending`.
//!
//! **Bound.** All interleavings of one that ends and one that takes over.
//!
//! **Teeth.** The spot looked up before the reason is set.

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

use loom::thread;

use super::check;
use crate::ending::{EndHandle, EndReason, Spot};
use crate::sync::HostArc;

/// Counts how often it is reached. A std count: it adds no order of its own.
#[derive(Default)]
struct Here(Count);

impl Spot for Here {
    fn reach(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn end_vs_move() {
    check("end_vs_move", None, || {
        let [first, second] = [(); 2].map(|()| HostArc::new(Here::default()));
        let handle = EndHandle::new(HostArc::clone(&first) as HostArc<dyn Spot>);
        let closer = {
            let handle = handle.clone();
            thread::spawn(move || handle.end(EndReason::Requested))
        };
        handle.move_to(HostArc::clone(&second) as HostArc<dyn Spot>);
        let seen = handle.reason();
        let ended = closer.join().expect("no panic");
        let [first, second] = [first, second].map(|here| here.0.load(Relaxed));
        assert!(ended && first + second == 1, "one of them is reached");
        assert!(second == 1 || seen.is_some(), "the new owner knows nothing");
        assert_eq!(handle.reason(), Some(EndReason::Requested));
    });
}
