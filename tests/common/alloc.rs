//! An allocator that counts: what lives, by size, and how often and how much this thread allocated.
//!
//! A test binary installs it with `#[global_allocator]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Sizes up to this many bytes are counted each on its own.
const SIZES: usize = 4096;

static COUNTS: AtomicBool = AtomicBool::new(true);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static LIVE_OF_SIZE: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];

static EVER_OF_SIZE: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

pub(crate) struct Counting;

fn count(layout: Layout, sign: i64) {
    if !COUNTS.load(Ordering::Relaxed) {
        return;
    }
    let size = layout.size();
    let bytes = sign * size.cast_signed() as i64;
    LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed);
    BYTES.set(BYTES.get() + bytes);
    if let Some(live) = LIVE_OF_SIZE.get(size) {
        live.fetch_add(sign, Ordering::Relaxed);
    }
    if sign > 0 {
        if let Some(ever) = EVER_OF_SIZE.get(size) {
            ever.fetch_add(1, Ordering::Relaxed);
        }
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: everything is passed on to `System`; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout, -1);
        // SAFETY: `size` is not 0 and does not overflow, by the caller's promise.
        count(
            unsafe { Layout::from_size_align_unchecked(size, layout.align()) },
            1,
        );
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Counts no more, for programs that also time: an allocation then costs one relaxed load more than without this.
pub(crate) fn stop_counting() {
    COUNTS.store(false, Ordering::Relaxed);
}

/// Bytes that are allocated now.
pub(crate) fn live_bytes() -> i64 {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// Allocations of exactly `size` bytes that are live now.
pub(crate) fn live_of_size(size: usize) -> i64 {
    LIVE_OF_SIZE[size].load(Ordering::Relaxed)
}

/// Whether nothing of exactly `size` bytes was ever allocated.
pub(crate) fn is_new_size(size: usize) -> bool {
    EVER_OF_SIZE[size].load(Ordering::Relaxed) == 0
}

/// How many were ever allocated, by size.
pub(crate) fn census() -> Vec<i64> {
    let load = |ever: &AtomicI64| ever.load(Ordering::Relaxed);
    EVER_OF_SIZE.iter().map(load).collect()
}

/// Allocations that this thread made while `f` ran.
pub(crate) fn allocations(f: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

/// Bytes that this thread allocated while `f` ran, less those that it freed.
pub(crate) fn bytes(f: impl FnOnce()) -> i64 {
    let before = BYTES.get();
    f();
    BYTES.get() - before
}
