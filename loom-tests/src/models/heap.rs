//! Counts the frames that live, by the size of their allocation: a leak or a double free shows after each run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The payload of every frame of a model. Nothing else in this process has that size.
pub(super) const PAYLOAD_BYTES: usize = 1_013;

/// What the header, the id and the field names add, at most.
const OVERHEAD_BYTES: usize = 250;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// Frames that this thread allocated and did not free. A model is one thread of the system.
pub(super) fn live_frames() -> i64 {
    LIVE.get()
}

fn count(layout: Layout, change: i64) {
    // A frame's count makes its alignment; buffers of text have an alignment of one.
    let is_frame = layout.align() == align_of::<usize>()
        && (PAYLOAD_BYTES..=PAYLOAD_BYTES + OVERHEAD_BYTES).contains(&layout.size())
        && layout.size() != 1_024;
    if is_frame {
        LIVE.set(LIVE.get() + change);
    }
}

struct Counting;

// SAFETY: all is done by `System`; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static HEAP: Counting = Counting;
