//! Whether anybody listens, for publishers that would rather not work for nobody.
//!
//! **Role.** An [`Interest`] waits for a topic's first subscriber, and for its last one to have left. Topics that nobody
//! watches pay for it with one load where subscriptions begin and where the last one ends.
//!
//! **State.** `Watchers` is the hub's: how many watch at all, and who watches which topic. A `Watcher` is one `Interest`:
//! its waker, and whether a subscriber came since it last looked.
//!
//! **Invariants.**
//! * J1: a watcher puts its waker in, and looks at the subscribers after that; a subscription takes its place or is counted out,
//!   and looks for watchers after that; between the two stands a fence on both sides. So either the watcher sees it, or it
//!   finds the watcher. The fences are for the look at `count`, which takes no lock: whoever knows that somebody watches is
//!   ordered by the locks.
//! * J2: a subscriber has come when it has its place in the log, not when it is counted: what is published by whoever was
//!   woken is behind that place.
//! * J3: a watcher has one alarm at most in the clock, which does not keep it.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | J-a | `poll_subscribed`, `poll_deserted` | fence between the waker and the look at the subscribers | `SeqCst` | J-b | `interest` |
//! | J-b | `Subscription::start`, `TopicCore::exit` | fence between the change and the look for watchers | `SeqCst` | J-a | `interest` |
//!
//! **Progress.** Takes a lock of one of a few shards, for one probe, in hubs where somebody watches.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::SubscribeError;
use crate::sync::{
    AtomicBool, AtomicU64, AtomicUsize, HostArc, Ordering, PoisonError, StepMutex, StepMutexGuard,
    fence,
};
use crate::topic::Topic;
use crate::unwind::FirstPanic;

/// A power of two.
#[cfg(not(fanfare_loom))]
const SHARDS: usize = 16;
#[cfg(fanfare_loom)]
const SHARDS: usize = 1;

type ByTopic = HashMap<usize, Vec<HostArc<Watcher>>>;

/// Who watches the topics of a hub.
#[derive(Debug)]
pub(crate) struct Watchers {
    count: AtomicUsize,
    shards: [StepMutex<ByTopic>; SHARDS],
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    waker: StepMutex<Option<Waker>>,
    /// Whether a subscriber came since it last looked.
    came: AtomicBool,
    /// When the clock is to wake it, in ticks; [`NEVER`] if it is not (J3).
    alarm: AtomicU64,
}

const NEVER: u64 = u64::MAX;

fn lock<T>(mutex: &StepMutex<T>) -> StepMutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    pub(crate) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| StepMutex::default()),
        }
    }

    fn shard(&self, topic: usize) -> StepMutexGuard<'_, ByTopic> {
        // Topics are some hundred bytes apart.
        lock(&self.shards[(topic >> 8) & (SHARDS - 1)])
    }

    fn add(&self, topic: usize) -> HostArc<Watcher> {
        let watcher = Watcher::new();
        self.shard(topic)
            .entry(topic)
            .or_default()
            .push(HostArc::clone(&watcher));
        // Relaxed: the fence before the first look orders it. J-a
        self.count.fetch_add(1, Ordering::Relaxed);
        watcher
    }

    fn remove(&self, topic: usize, watcher: &HostArc<Watcher>) {
        let mut shard = self.shard(topic);
        if let Some(watchers) = shard.get_mut(&topic) {
            watchers.retain(|other| !HostArc::ptr_eq(other, watcher));
            if watchers.is_empty() {
                shard.remove(&topic);
            }
        }
        drop(shard);
        // Relaxed: a count.
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells those who watch the topic at this address that somebody came or that all have left. The caller has counted
    /// it, and has a fence behind that (J1).
    ///
    /// # Panics
    ///
    /// If a waker panics: after all others were woken.
    #[inline]
    pub(crate) fn tell(&self, topic: usize, came: bool) {
        // Relaxed: the fence orders it. J-b
        if self.count.load(Ordering::Relaxed) > 0 {
            self.tell_watchers(topic, came);
        }
    }

    #[cold]
    fn tell_watchers(&self, topic: usize, came: bool) {
        let watchers = self.shard(topic).get(&topic).cloned();
        let mut panics = FirstPanic::default();
        for watcher in watchers.into_iter().flatten() {
            if came {
                // Relaxed: the wake orders it.
                watcher.came.store(true, Ordering::Relaxed);
            }
            panics.run(|| watcher.wake());
        }
        panics.resume();
    }
}

impl Watcher {
    pub(crate) fn new() -> HostArc<Self> {
        HostArc::new(Self {
            waker: StepMutex::new(None),
            came: AtomicBool::new(false),
            alarm: AtomicU64::new(NEVER),
        })
    }

    /// Has the clock wake it when the time is `due` ticks, if not before. Its owner alone calls this, after
    /// [`park`](Self::park).
    pub(crate) fn wake_by(self: &HostArc<Self>, due: u64, clock: &Clock) {
        // Relaxed: only the owner sets it, and the clock's thread clears it before it wakes. J3
        if due < self.alarm.load(Ordering::Relaxed) {
            self.alarm.store(due, Ordering::Relaxed);
            clock.wake_at(due, self);
        }
    }

    pub(crate) fn wake(&self) {
        // Out of the lock before it is woken: it is user code.
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The clock's alarm has gone off.
    pub(crate) fn ring(&self) {
        // Relaxed: the wake orders it.
        self.alarm.store(NEVER, Ordering::Relaxed);
        self.wake();
    }

    pub(crate) fn park(&self, waker: Option<Waker>) {
        let old = std::mem::replace(&mut *lock(&self.waker), waker);
        drop(old);
    }
}

/// Waits for subscribers to come to a topic, or for all of them to leave. Made by [`Topic::interest`]. It keeps the topic,
/// as a handle does.
///
/// # Examples
///
/// A server that generates as long as somebody listens, and gives a client two seconds to come back:
///
/// ```
/// use std::time::Duration;
/// use fanfare::{Event, Hub};
///
/// # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// # runtime.block_on(async {
/// let hub = Hub::new();
/// let topic = hub.topic("run:1")?;
/// let mut interest = topic.interest();
/// let subscription = hub.subscribe("run:1")?;
/// interest.subscribed().await?;
/// # drop(subscription);
/// # let tokens = || async { tokio::time::sleep(Duration::from_millis(1)).await; "token" };
/// # let grace = Duration::from_millis(10);
/// let generate = async {
///     loop {
///         topic.publish(Event::text(tokens().await))?;
///     }
///     # #[expect(unreachable_code)]
///     Ok::<(), fanfare::PublishError>(())
/// };
/// # let _ = Duration::from_secs(2);
/// tokio::select! {
///     failed = generate => failed?,
///     () = interest.deserted(grace) => {} // Nobody is left: the rest is not generated.
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an interest does nothing until it is waited for"]
pub struct Interest {
    topic: Topic,
    watcher: HostArc<Watcher>,
}

impl Interest {
    pub(crate) fn new(topic: Topic) -> Self {
        let core = topic.core();
        Self {
            watcher: core.shared.watchers.add(core.address()),
            topic,
        }
    }

    /// Subscriptions on the topic now.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.topic.subscribers()
    }

    /// Waits until the topic has a subscriber: at once if it has. What is published after this reaches it.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the topic is closed, so that nobody will come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn subscribed(&mut self) -> Result<(), SubscribeError> {
        poll_fn(|cx| self.poll_subscribed(cx)).await
    }

    fn poll_subscribed(&self, cx: &Context<'_>) -> Poll<Result<(), SubscribeError>> {
        let core = self.topic.core();
        self.watcher.park(Some(cx.waker().clone()));
        // J-a
        fence(Ordering::SeqCst);
        if core.subscribers.has_reader() {
            // J2
            Poll::Ready(Ok(()))
        } else if core.log.is_closed() {
            Poll::Ready(Err(SubscribeError::Closed))
        } else {
            Poll::Pending
        }
    }

    /// Waits until the topic has had no subscriber for all of `grace`; with a grace of zero, until it has none. Also if it
    /// never had one.
    ///
    /// The hub's clock measures the grace, in its one thread: up to two of its ticks late, which are 250 ms or less each. It begins
    /// anew when this is called.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but the part of the grace that has passed.
    pub async fn deserted(&mut self, grace: Duration) {
        let tick = self.topic.core().config().pace.tick;
        let ticks = if grace.is_zero() {
            0
        } else {
            // One more: the first is cut short.
            u64::try_from(grace.as_nanos().div_ceil(tick.as_nanos().max(1)))
                .unwrap_or(u64::MAX)
                .saturating_add(1)
        };
        let mut vacant_since = None;
        poll_fn(|cx| self.poll_deserted(cx, ticks, &mut vacant_since)).await;
    }

    fn poll_deserted(
        &self,
        cx: &Context<'_>,
        grace: u64,
        vacant_since: &mut Option<u64>,
    ) -> Poll<()> {
        let core = self.topic.core();
        self.watcher.park(Some(cx.waker().clone()));
        // J-a
        fence(Ordering::SeqCst);
        // Relaxed: the wake ordered it.
        if self.watcher.came.swap(false, Ordering::Relaxed) {
            *vacant_since = None;
        }
        if self.topic.subscribers() > 0 {
            *vacant_since = None;
            return Poll::Pending;
        }
        let clock = &core.shared.clock;
        let now = clock.refresh();
        let since = *vacant_since.get_or_insert(now);
        let due = since.saturating_add(grace);
        if now >= due {
            return Poll::Ready(());
        }
        self.watcher.wake_by(due, clock);
        Poll::Pending
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let core = self.topic.core();
        core.shared.watchers.remove(core.address(), &self.watcher);
        // An alarm may hold the watcher for a moment more.
        self.watcher.park(None);
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest")
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}
