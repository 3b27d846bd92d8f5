//! One file per race. Each model says what must hold, how it is bounded, and which weakenings were seen to fail
//! (all of them, with the numbers: `TEETH.md`).

mod byte_counters;
mod close_vs_park;
mod close_vs_publish;
mod control_vs_eviction;
mod drain_vs_park;
mod end_vs_move;
mod end_vs_park;
mod evict_vs_evict;
mod evict_vs_reader;
mod hole;
mod inbox;
mod interest;
mod last_leave_vs_subscribe;
mod leave_vs_claim;
mod leave_vs_publish;
mod park_vs_publish;
mod park_vs_publish_list;
mod passed_vs_subscribe;
mod release_vs_append;
mod replace_vs_leave;
mod retire_vs_claim;
mod router_order;
mod snapshot_vs_publish;
mod stall_vs_leave;
mod subscribe_vs_publish;
mod two_publishers;
mod visit_vs_leave;
mod waiter_cell;

mod heap;

use std::cell::{Cell, RefCell};
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicBool as Flag, Ordering::Relaxed};
use std::task::{Wake, Waker};

use crate::encode::encode;
use crate::event::Event;
use crate::frame::Frame;
use crate::log::{Cursor, Log, Reader, Retention, Step};
use crate::memory::Payer;
use crate::subscribers::{Seat, Subscribers};
use crate::sync::{AtomicUsize, Ordering, epoch};

thread_local! {
    /// The model that this thread runs: loom's threads are coroutines on it.
    static MODEL: RefCell<String> = const { RefCell::new(String::new()) };
    static RUNS: Cell<u64> = const { Cell::new(0) };
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// Runs a model and prints how many interleavings were looked at, also if one of them fails. `bound`: preemptions per
/// run; `None`: all.
fn check(name: &str, bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let run = RUNS.get() + 1;
            MODEL.with_borrow(|name| println!("loom: {name}: FAILED in interleaving {run}"));
            default(info);
        }));
    });
    MODEL.set(name.to_owned());
    RUNS.set(0);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 20_000;
    builder.check(move || {
        epoch::reset();
        TICKS.set(0);
        let frames = heap::live_frames();
        model();
        epoch::finish();
        assert_eq!(
            heap::live_frames(),
            frames,
            "a frame leaked or was freed twice"
        );
        RUNS.set(RUNS.get() + 1);
    });
    let runs = RUNS.get();
    assert!(runs > 1, "{name}: the model has no interleaving: {runs}");
    let bound = bound.map_or("all".to_owned(), |bound| {
        format!("at most {bound} preemptions")
    });
    println!("loom: {name}: {runs} interleavings ({bound})");
}

/// A frame of a size that `heap` knows. Its text begins with `tag`.
fn frame(tag: &str) -> Frame {
    encode(event(&text(tag)), heap::PAYLOAD_BYTES, true).expect("a valid event")
}

/// An event of a size that `heap` knows.
fn text(tag: &str) -> String {
    format!("{tag:.<width$}", width = heap::PAYLOAD_BYTES)
}

fn event(text: &str) -> Event<'_, crate::event::Text<'_>> {
    Event::text(text)
}

/// What [`text`] made `data` of.
fn tag(data: &str) -> String {
    data.trim_end_matches('.').to_owned()
}

/// Appends in the tick in which the log began: segments have 1, 2, 4 … slots.
fn append(log: &Log, tag: &str) -> u64 {
    let guard = epoch::pin();
    let appended = log.append(frame(tag), 7, 0, (|| 0, Payer::NOBODY), &guard);
    appended.expect("the log is open").offset
}

/// Appends at a time that goes on by much at each look: every segment has one slot.
fn append_slowly(log: &Log, tag: &str) -> u64 {
    append_pinned(log, tag, &epoch::pin())
}

/// As [`append_slowly`], unless the log is closed.
fn slow_append(log: &Log, tag: &str) -> Option<u64> {
    try_append(log, tag, &epoch::pin())
}

/// As [`append_slowly`], under a pin of the caller's.
fn append_pinned(log: &Log, tag: &str, guard: &epoch::Guard) -> u64 {
    try_append(log, tag, guard).expect("the log is open")
}

fn try_append(log: &Log, tag: &str, guard: &epoch::Guard) -> Option<u64> {
    let now = || {
        TICKS.set(TICKS.get() + 100);
        TICKS.get()
    };
    let appended = log.append(frame(tag), 7, now(), (now, Payer::NOBODY), guard);
    appended.ok().map(|appended| appended.offset)
}

/// Keeps at least one event.
const KEEP_ONE: Retention = Retention {
    events: 1,
    bytes: u64::MAX,
    age_ticks: u64::MAX,
};

/// What one reader was given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    frames: Vec<(u64, String)>,
    /// In all.
    missed: u64,
    ended: bool,
}

impl Seen {
    /// Reads all that is there, under one pin. Frames come in order, each once, and lag tells exactly what is skipped.
    fn read(&mut self, log: &Log, cursor: &mut Cursor) {
        self.read_pinned(log, cursor, &epoch::pin());
    }

    /// As [`read`](Self::read), under a pin of the caller's.
    fn read_pinned(&mut self, log: &Log, cursor: &mut Cursor, guard: &epoch::Guard) {
        let mut next = cursor.offset();
        let mut reader = Reader::new(log, guard, cursor);
        loop {
            match reader.step() {
                Step::Frame(frame) => {
                    let offset = frame.id().expect("an id").offset();
                    assert_eq!(offset, next, "out of order, or lag was not exact");
                    self.frames.push((offset, tag(&frame.data())));
                    next += 1;
                }
                Step::Lagged(missed) => {
                    assert!(missed > 0, "lag of nothing");
                    self.missed += missed;
                    next += missed;
                }
                Step::Pending => break,
                Step::Ended => {
                    self.ended = true;
                    break;
                }
            }
        }
    }

    fn offsets(&self) -> Vec<u64> {
        self.frames.iter().map(|(offset, _)| *offset).collect()
    }

    fn tags(&self) -> Vec<&str> {
        self.frames.iter().map(|(_, tag)| tag.as_str()).collect()
    }

    fn sorted_tags(&self) -> Vec<&str> {
        let mut tags = self.tags();
        tags.sort_unstable();
        tags
    }
}

/// A waker that notes its wake. A std flag: it adds no order of its own, and is looked at after all threads are joined.
#[derive(Debug, Default)]
struct Woken(Flag);

impl Wake for Woken {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Woken {
    fn new() -> (StdArc<Self>, Waker) {
        let woken = StdArc::new(Self::default());
        let waker = Waker::from(StdArc::clone(&woken));
        (woken, waker)
    }

    fn is(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Something that is published to, as small as it can be: a count, and those who wait for it to grow.
struct Bell {
    count: AtomicUsize,
    subscribers: Subscribers,
}

impl Bell {
    fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            subscribers: Subscribers::new(),
        }
    }

    fn publish(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.subscribers.wake();
    }

    fn leave(&self, seat: &Seat) {
        drop(self.subscribers.leave(seat));
    }

    fn seen(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// A reader of a [`Bell`]: what it saw last, and the waker with which it is parked, if it is.
#[derive(Debug, Default)]
struct Listener {
    seen: usize,
    parked: Option<StdArc<Woken>>,
}

impl Listener {
    /// Polls as an executor may do at any time, woken or not: look, park, look again.
    fn poll(&mut self, bell: &Bell, seat: &Seat) {
        self.parked = None;
        let before = self.seen;
        self.seen = bell.seen();
        if self.seen > before {
            return;
        }
        let (woken, waker) = Woken::new();
        bell.subscribers.arm(seat, &waker);
        self.seen = bell.seen();
        if self.seen > before {
            bell.subscribers.disarm(seat);
        } else {
            self.parked = Some(woken);
        }
    }

    /// After all threads: whoever is parked has seen everything, or was woken.
    fn assert_not_lost(&self, bell: &Bell) {
        if let Some(woken) = &self.parked {
            let all = bell.seen();
            assert!(self.seen == all || woken.is(), "lost wake-up");
        }
    }
}
