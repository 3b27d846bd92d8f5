//! What is dropped from a log is freed: behind a reader that stands still, and when a topic falls idle.
//!
//! The allocator counts live allocations by size. One test at a time, so that nothing else allocates.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and pointers have 64 bits"
)]

mod common;

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use common::alloc::{Counting, census, is_new_size, live_of_size};
use common::{WAYS, Way, eventually, frame};
use fanfare::{Event, Hub, Item, Subscription, Topic};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn publish(topic: &Topic, count: u64, bytes: usize) {
    let text = "x".repeat(bytes);
    for _ in 0..count {
        let _ = topic.publish(Event::text(&text)).unwrap();
    }
}

/// The size of the allocation that holds a frame with `bytes` of payload.
fn frame_size(bytes: usize) -> usize {
    const MORE: u64 = 20;
    let hub = Hub::new();
    let topic = hub.topic("a").unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    // The encoding buffer has its size after the first one.
    publish(&topic, 1, bytes);
    let first = frame(subscription.try_recv());
    let before = census();
    publish(&topic, MORE, bytes);
    let after = census();
    let near = first.len()..first.len() + 200;
    let grown: Vec<usize> = near
        .filter(|&size| after[size] - before[size] >= MORE.cast_signed())
        .collect();
    assert_eq!(grown.len(), 1, "sizes of a frame: {grown:?}");
    grown[0]
}

/// At least `bytes` of payload whose frames have a size that nothing else has: parts of hubs, of threads and of the
/// collector come and go all the time. Tells both.
fn unused_size(bytes: usize) -> (usize, usize) {
    for history in [false, true] {
        // Whatever else there is, there was once.
        let hub = Hub::builder().history(history).build().unwrap();
        let topic = hub.topic("a").unwrap();
        let _stalled = hub.subscribe("a").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| publish(&topic, 2000, 8));
        });
        collect();
    }
    let size = frame_size(bytes);
    // Allocations are in steps of 8 bytes. The size that was just tried is not new any more.
    let more = (8..1000).step_by(8).find(|more| is_new_size(size + more));
    let bytes = bytes + more.unwrap();
    (bytes, frame_size(bytes))
}

/// Has the collector free what this thread retired: up to 64 KiB stay with a thread that falls silent.
fn collect() {
    let hub = Hub::builder().retain_events(1).build().unwrap();
    let topic = hub.topic("a").unwrap();
    let stalled = hub.subscribe("a").unwrap();
    publish(&topic, 8, 100_000);
    drop(stalled);
}

/// Waits until no frame of this size lives.
fn eventually_freed(size: usize) {
    eventually("the collector", || {
        collect();
        live_of_size(size) == 0
    });
}

/// The frames of an idle topic are freed, by whatever way they were read.
#[test]
fn an_idle_topic_frees_its_frames() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (bytes, size) = unused_size(2000);
    eventually_freed(size);
    for way in WAYS {
        let hub = Hub::builder()
            .heartbeat(Duration::from_millis(60))
            .idle_after(Duration::from_millis(20))
            .build()
            .unwrap();
        let topic = hub.topic("a").unwrap();
        let mut all: Vec<_> = (0..3).map(|_| hub.subscribe("a").unwrap()).collect();
        for _ in 0..3 {
            publish(&topic, 20, bytes);
            for subscription in &mut all {
                assert_eq!(way.read(subscription).len(), 20);
                // As a reader that waits.
                assert!(Way::Recv.read(subscription).is_empty());
            }
            eventually("an idle log", || topic.retained_events() == 0);
            eventually_freed(size);
        }
    }
}

/// So are those of a topic and of a hub that goes, read or not.
#[test]
fn what_goes_frees_its_frames() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (bytes, size) = unused_size(2000);
    eventually_freed(size);
    for history in [false, true] {
        for close in [false, true] {
            let hub = Hub::builder().history(history).build().unwrap();
            let mut read = hub.subscribe("a").unwrap();
            let unread = hub.subscribe("a").unwrap();
            publish(&hub.topic("a").unwrap(), 200, bytes);
            assert_eq!(Way::TryBatch.read(&mut read).len(), 200);
            assert!(live_of_size(size) >= 200);
            if close {
                hub.close();
            }
            if history && !close {
                drop(hub);
            }
            drop((read, unread));
            eventually_freed(size);
        }
    }
}

struct Figures {
    samples: Vec<i64>,
    end: i64,
}

impl Figures {
    fn peak(&self) -> i64 {
        self.samples.iter().copied().max().unwrap()
    }

    fn median(&mut self) -> i64 {
        self.samples.sort_unstable();
        self.samples[self.samples.len() / 2]
    }
}

/// Passes `total` events by `stalled` from `publishers` threads, and counts the frames that live meanwhile.
fn pass_by(
    topic: &Topic,
    mut stalled: Subscription,
    publishers: u64,
    total: u64,
    bytes: usize,
) -> Figures {
    // Threads that run far apart would measure the scheduler: they meet after so many events.
    const STRIDE: u64 = 500;
    let (bytes, size) = unused_size(bytes);
    eventually_freed(size);
    // The first of a thousand is read, so that the cursor stands at a segment.
    publish(topic, 1, bytes);
    assert!(matches!(stalled.try_recv(), Ok(Item::Frame(_))));
    let meet = Barrier::new(publishers as usize);
    let mut samples: Vec<i64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..publishers)
            .map(|_| {
                scope.spawn(|| {
                    let mut samples = Vec::new();
                    for _ in 0..total / publishers / STRIDE {
                        publish(topic, STRIDE, bytes);
                        samples.push(live_of_size(size));
                        meet.wait();
                    }
                    samples
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Vec<i64>>| thread.join().unwrap();
        threads.into_iter().flat_map(join).collect()
    });
    samples.push(live_of_size(size));
    let missed = common::lag(stalled.try_recv()).missed().unwrap();
    let delivered = Way::TryBatch.read(&mut stalled).len() as u64;
    assert_eq!(missed + delivered, total, "lag is exact");
    drop(stalled);
    // What the publishers' threads retired last.
    eventually("the collector", || {
        collect();
        live_of_size(size) < 1024 + 64
    });
    Figures {
        samples,
        end: live_of_size(size),
    }
}

/// While a reader stands still and a million frames pass, the log holds what retention says and little more: the
/// reader pins nothing.
#[test]
fn a_stalled_reader_pins_no_log_memory() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for (publishers, bytes) in [(1, 150), (2, 151)] {
        for (history, total) in [(false, 1_000_000), (true, 100_000)] {
            let hub = Hub::builder().history(history).build().unwrap();
            let topic = hub.topic("a").unwrap();
            let stalled = hub.subscribe("a").unwrap();
            let bytes = bytes + 10 * usize::from(history);
            let mut figures = pass_by(&topic, stalled, publishers, total, bytes);
            let (median, peak, end) = (figures.median(), figures.peak(), figures.end);
            println!(
                "{publishers} publishers, history {history}: live frames while {total} pass a stalled reader: \
                 median {median}, peak {peak}, in the end {end}"
            );
            // 1,024 retained, a segment, what the threads bagged and what waits for two more epochs.
            assert!(median <= 1024 + 64 + 3000, "median {median}");
            // A thread that was preempted while pinned delays the collector: the peak depends on the machine.
            assert!(peak <= 100_000, "peak {peak}");
            assert!(end < 1024 + 64, "in the end {end}");
        }
    }
}
