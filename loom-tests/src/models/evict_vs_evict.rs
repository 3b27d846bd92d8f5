//! Two evictors: each segment is retired once, and nobody's work is left undone when both are through.
//!
//! **Bound.** 3 preemptions.
//!
//! **Teeth.** The flag taken without Acquire, or found taken without Release; given back without Acquire; no second
//! look after it was given back.

use loom::thread;

use super::{KEEP_ONE, append_pinned, append_slowly, check};
use crate::log::Log;
use crate::sync::{Arc, epoch};

#[test]
fn evict_vs_evict() {
    check("evict_vs_evict", Some(3), || {
        let log = Arc::new(Log::new());
        append_slowly(&log, "1");
        let bytes = log.bytes();
        let publishers = [(); 2].map(|()| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                // One pin for both: what the append does not order, the pin must not order either.
                let guard = epoch::pin();
                append_pinned(&log, "x", &guard);
                log.retain(&KEEP_ONE, KEEP_ONE.age_ticks, 0, &guard);
            })
        });
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        assert_eq!(log.oldest_offset(), 3, "an eviction was left undone");
        assert_eq!(log.bytes(), bytes);
    });
}
