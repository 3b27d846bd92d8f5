//! What other threads tell a shard, and how they wake it.
//!
//! **Role.** An [`Inbox`] is the one place where a shard meets other threads: publishers say which topics have something
//! new, and whoever adopts a connection puts it here. A [`Signal`] is the waker of one topic's subscription.
//!
//! **State.** `awake`: the shard runs, and will look at the queues before it sleeps. `dirty` of a signal: its topic is in
//! the queue, or is about to be.
//!
//! **Invariants.**
//! * I1: whoever puts something into a queue while the shard sleeps, or is about to without having seen it, rouses it.
//! * I2: a topic stands in the queue at most once; what is published after the shard took it out is signalled again.
//!
//! **Protocol.** *Tell*: push; swap `awake` to true; if it was false, rouse. *Sleep*: swap `awake` to false; look at the
//! queues; sleep only if they are empty, and swap `awake` to true when awake. *Take a topic*: pop; clear `dirty`; then look at its log. Both swaps are
//! RMWs of one word, so one of the two comes first: either the shard's swap reads the teller's, and then it sees what was
//! pushed; or the teller's reads `false`, and rouses. While the shard works nobody makes a system call to wake it.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | X1 | `rouse`, `try_sleep` | swap of `awake` | `AcqRel` | each other | `inbox` |
//! | X2 | `Signal::wake`, `next_topic` | swap of `dirty` | `AcqRel` | each other | `inbox` |
//!
//! **Progress.** Lock-free.

use std::task::Wake;

use crate::sync::{AtomicBool, HostArc, Ordering, Queue};

/// Wakes the thread of a shard.
pub(crate) trait Rouse: Send + Sync + 'static {
    fn rouse(&self);
}

pub(crate) struct Inbox<C, R> {
    topics: Queue<HostArc<Signal<C, R>>>,
    commands: Queue<C>,
    awake: AtomicBool,
    rouse: R,
}

/// One topic of one shard: woken when there is something to read.
pub(crate) struct Signal<C, R> {
    inbox: HostArc<Inbox<C, R>>,
    dirty: AtomicBool,
    /// Which topic of the shard.
    pub(crate) topic: u64,
}

impl<C: Send + 'static, R: Rouse> Inbox<C, R> {
    pub(crate) fn new(rouse: R) -> HostArc<Self> {
        HostArc::new(Self {
            topics: Queue::new(),
            commands: Queue::new(),
            // The shard looks before it sleeps for the first time.
            awake: AtomicBool::new(true),
            rouse,
        })
    }

    pub(crate) fn command(&self, command: C) {
        self.commands.push(command);
        self.rouse();
    }

    fn rouse(&self) {
        // AcqRel: what was pushed; and that the shard slept. X1
        if !self.awake.swap(true, Ordering::AcqRel) {
            self.rouse.rouse();
        }
    }

    pub(crate) fn next_command(&self) -> Option<C> {
        self.commands.pop()
    }

    /// The next topic with something new. The caller looks at its log after this.
    pub(crate) fn next_topic(&self) -> Option<u64> {
        let signal = self.topics.pop()?;
        // AcqRel: whoever reads `false` after this signals again; whoever read `true` before published before. X2
        signal.dirty.swap(false, Ordering::AcqRel);
        Some(signal.topic)
    }

    /// Whether the shard may sleep: if not, something came in. It calls [`stay_awake`](Self::stay_awake) afterwards.
    pub(crate) fn try_sleep(&self) -> bool {
        // AcqRel: what was pushed by those who read `true`. X1
        self.awake.swap(false, Ordering::AcqRel);
        if self.topics.is_empty() && self.commands.is_empty() {
            return true;
        }
        self.stay_awake();
        false
    }

    pub(crate) fn stay_awake(&self) {
        // AcqRel: as for `rouse`. X1
        self.awake.swap(true, Ordering::AcqRel);
    }
}

impl<C: Send + 'static, R: Rouse> Signal<C, R> {
    pub(crate) fn new(inbox: &HostArc<Inbox<C, R>>, topic: u64) -> HostArc<Self> {
        HostArc::new(Self {
            inbox: HostArc::clone(inbox),
            dirty: AtomicBool::new(false),
            topic,
        })
    }
}

impl<C: Send + 'static, R: Rouse> Wake for Signal<C, R> {
    fn wake(self: HostArc<Self>) {
        // AcqRel: what was published; and that the shard took the topic out. X2
        if !self.dirty.swap(true, Ordering::AcqRel) {
            let inbox = HostArc::clone(&self.inbox);
            inbox.topics.push(self);
            inbox.rouse();
        }
    }

    fn wake_by_ref(self: &HostArc<Self>) {
        HostArc::clone(self).wake();
    }
}
