//! What other threads tell a shard, and how they wake it.
//!
//! **Role.** An [`Inbox`] is the one place where a shard meets other threads: publishers say which topics have something
//! new, and whoever adopts a connection puts it here. A [`Signal`] is the waker of one topic's subscription.
//!
//! **State.** `awake`: the shard runs, and will look at the queues before it sleeps. `dirty` of a signal: its topic is in
//! the queue, or is about to be. The queue holds numbers and not signals, which own the inbox.
//!
//! **Invariants.**
//! * I1: whoever puts something into a queue while the shard sleeps, or is about to without having seen it, rouses it.
//! * I2: a topic stands in the queue at most once; what is published after the shard took it out is signalled again.
//!
//! **Protocol.** *Tell*: push; swap `awake` to true; if it was false, rouse. *Sleep*: swap `awake` to false; look at the
//! queues; sleep only if they are empty, and swap `awake` to true when awake. *Take a topic*: pop; clear `dirty` of its signal; then look at its log. Both swaps are
//! RMWs of one word, so one of the two comes first: either the shard's swap reads the teller's, and then it sees what was
//! pushed; or the teller's reads `false`, and rouses. While the shard works nobody makes a system call to wake it.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | X1 | `rouse`, `try_sleep` | swap of `awake` | `AcqRel` | each other | `inbox` |
//! | X2 | `Signal::wake`, `clear` | swap of `dirty` | `AcqRel` | each other | `inbox` |
//!
//! **Progress.** Lock-free.

use std::task::{Wake, Waker};

use crate::sync::{AtomicBool, HostArc, Ordering, Queue};

/// Wakes the thread of a shard.
pub(crate) trait Rouse: Send + Sync + 'static {
    fn rouse(&self);
}

pub(crate) struct Inbox<C, R> {
    topics: Queue<u64>,
    commands: Queue<C>,
    awake: AtomicBool,
    rouse: R,
}

/// One topic of one shard: woken when there is something to read.
pub(crate) struct Signal<C, R> {
    inbox: HostArc<Inbox<C, R>>,
    dirty: AtomicBool,
    /// Which topic of the shard.
    topic: u64,
}

/// The shard's side of a signal.
pub(crate) trait Clear: Send + Sync {
    /// The topic was taken out of the queue: whoever publishes from here on signals again. The shard looks at the topic's
    /// log after this.
    fn clear(&self);
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

    /// The next topic with something new.
    pub(crate) fn next_topic(&self) -> Option<u64> {
        self.topics.pop()
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

    /// Its two sides: to be woken, and to be cleared.
    pub(crate) fn for_shard(self: HostArc<Self>) -> (Waker, HostArc<dyn Clear>) {
        (Waker::from(HostArc::clone(&self)), self)
    }
}

impl<C: Send + 'static, R: Rouse> Wake for Signal<C, R> {
    fn wake(self: HostArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &HostArc<Self>) {
        // AcqRel: what was published; and that the shard took the topic out. X2
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.inbox.topics.push(self.topic);
            self.inbox.rouse();
        }
    }
}

impl<C: Send + 'static, R: Rouse> Clear for Signal<C, R> {
    fn clear(&self) {
        // AcqRel: whoever reads `false` after this signals again; whoever read `true` before published before. X2
        self.dirty.swap(false, Ordering::AcqRel);
    }
}
