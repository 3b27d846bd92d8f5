//! The primitives of a normal build: std, crossbeam-epoch, arc-swap, dashmap.

use std::borrow::Borrow;
use std::hash::Hash;

use dashmap::Entry;

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
/// A lock whose order is part of a protocol: in models it is loom's.
pub(crate) type StepMutex<T> = std::sync::Mutex<T>;
pub(crate) type StepMutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;
#[cfg(feature = "compat")]
pub(crate) use std::sync::LazyLock;
pub(crate) use std::thread::Builder as ThreadBuilder;
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
pub(crate) use std::thread::{JoinHandle, ThreadId};

#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}

/// Cores that this process may use.
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
pub(crate) fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The owner of a hub's parts. It is never a model's subject, so it is std's `Arc` in every build.
pub(crate) type HostArc<T> = std::sync::Arc<T>;
/// A word that says nothing about other words, a time or a count: never a model's subject.
pub(crate) type HostAtomicU64 = std::sync::atomic::AtomicU64;
pub(crate) type HostAtomicU32 = std::sync::atomic::AtomicU32;
pub(crate) type HostAtomicI64 = std::sync::atomic::AtomicI64;
pub(crate) type HostAtomicBool = std::sync::atomic::AtomicBool;
/// The weak side of [`HostArc`].
pub(crate) type HostWeak<T> = std::sync::Weak<T>;

/// A lock-free queue without a bound.
#[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
pub(crate) type Queue<T> = crossbeam_queue::SegQueue<T>;

/// Makes a weak reference; a function because loom's `Arc` has none.
pub(crate) fn downgrade<T: ?Sized>(this: &Arc<T>) -> Weak<T> {
    Arc::downgrade(this)
}

/// Puts a sized value behind an unsized `Arc`.
macro_rules! arc_unsized {
    ($value:expr => $unsized:ty) => {{
        let unsized_arc: $crate::sync::Arc<$unsized> = $crate::sync::Arc::new($value);
        unsized_arc
    }};
}
pub(crate) use arc_unsized;

/// Pinning and deferred destruction.
pub(crate) mod epoch {
    pub(crate) use crossbeam_epoch::{Guard, pin};

    /// Drops `value` once every guard that lives now is gone.
    ///
    /// # Safety
    ///
    /// `value` came from `Box::into_raw`, is retired once, and no thread that pins after this call can reach it.
    pub(crate) unsafe fn retire<T: ?Sized + Send + 'static>(guard: &Guard, value: *mut T) {
        // Not `defer_destroy`: that takes the pointer through an integer, and miri then checks less.
        let free = move || {
            // SAFETY: the caller's promise: made by `Box::into_raw`, retired once.
            drop(unsafe { Box::from_raw(value) });
        };
        // SAFETY: the caller's promise: nobody who pins later reaches the value.
        unsafe { guard.defer_unchecked(free) };
    }

    /// Runs `f` once every guard that lives now is gone, on some thread that pins.
    pub(crate) fn defer(guard: &Guard, f: impl FnOnce() + Send + 'static) {
        guard.defer(f);
    }
}

/// A cell that readers copy out of and writers replace as a whole.
#[derive(Debug, Default)]
pub(crate) struct CowCell<T>(arc_swap::ArcSwapOption<T>);

impl<T> CowCell<T> {
    pub(crate) fn new() -> Self {
        Self(arc_swap::ArcSwapOption::const_empty())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// Replaces the value by what `f` makes of it, until no other writer came between.
    pub(crate) fn rcu(&self, mut f: impl FnMut(Option<&Arc<T>>) -> Option<Arc<T>>) {
        self.0.rcu(|current| f(current.as_ref()));
    }
}

/// A [`CowCell`] that is made when something is put into it: to drop one is to visit every thread that ever read any.
#[derive(Debug, Default)]
pub(crate) struct LateCowCell<T>(OnceLock<Box<CowCell<T>>>);

impl<T> LateCowCell<T> {
    pub(crate) fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.get()?.load_full()
    }

    pub(crate) fn rcu(&self, f: impl FnMut(Option<&Arc<T>>) -> Option<Arc<T>>) {
        self.0.get_or_init(|| Box::new(CowCell::new())).rcu(f);
    }
}

/// A mutable place whose exclusive use is proved by a protocol beside it.
#[derive(Debug, Default)]
pub(crate) struct ProtocolCell<T>(std::cell::UnsafeCell<T>);

impl<T> ProtocolCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Runs `f` on the place.
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// A probe for models: nothing here.
#[derive(Debug, Default)]
pub(crate) struct Witness;

impl Witness {
    pub(crate) const fn new() -> Self {
        Self
    }

    /// In a model: fails if the value is freed, or was made by a thread that did not synchronise with this one.
    #[inline]
    #[expect(clippy::unused_self, reason = "the model's witness has a state")]
    pub(crate) fn check(&self) {}
}

/// A concurrent map of shards, each behind its own lock.
pub(crate) struct ShardedMap<K, V>(dashmap::DashMap<K, V>);

impl<K: Eq + Hash, V> ShardedMap<K, V> {
    /// `shards` is a power of two above one; `None` takes the default for this machine.
    pub(crate) fn new(shards: Option<usize>) -> Self {
        Self(match shards {
            Some(shards) => dashmap::DashMap::with_shard_amount(shards),
            None => dashmap::DashMap::new(),
        })
    }

    /// Runs `f` on the value under the shard's read lock.
    pub(crate) fn view<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.view(key, |_, value| f(value))
    }

    /// Runs `f` under the shard's write lock on the value that is there, or else on `fresh`, which is put there. What
    /// was not needed is given back, to be dropped outside the lock.
    pub(crate) fn view_or_insert<R>(
        &self,
        key: K,
        fresh: V,
        f: impl FnOnce(&V) -> R,
    ) -> (R, Option<(K, V)>) {
        match self.0.entry(key) {
            Entry::Occupied(entry) => {
                let seen = f(entry.get());
                (seen, Some((entry.into_key(), fresh)))
            }
            Entry::Vacant(entry) => (f(entry.insert(fresh).value()), None),
        }
    }

    /// Runs `f` under the shard's write lock on the value that is there, or else on `V::default()`. A key that was not
    /// needed is given back, to be dropped outside the lock.
    pub(crate) fn update_or_insert<R>(&self, key: K, f: impl FnOnce(&mut V) -> R) -> (R, Option<K>)
    where
        V: Default,
    {
        match self.0.entry(key) {
            Entry::Occupied(mut entry) => {
                let seen = f(entry.get_mut());
                (seen, Some(entry.into_key()))
            }
            Entry::Vacant(entry) => (f(entry.insert(V::default()).value_mut()), None),
        }
    }

    /// Runs `f` on the value under the shard's write lock.
    pub(crate) fn update<Q, R>(&self, key: &Q, f: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        Some(f(self.0.get_mut(key)?.value_mut()))
    }

    /// Takes the entry out if `f`, run under the shard's write lock, says so. The caller drops what comes back.
    pub(crate) fn remove_if<Q>(&self, key: &Q, f: impl FnOnce(&V) -> bool) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.remove_if(key, |_, value| f(value))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What `f` makes of each entry, one shard's read lock at a time.
    pub(crate) fn collect<R>(&self, mut f: impl FnMut(&K, &V) -> R) -> Vec<R> {
        self.0
            .iter()
            .map(|entry| f(entry.key(), entry.value()))
            .collect()
    }
}
