//! The primitives of a model: loom, and stand-ins for the crates that loom does not know.
//!
//! The stand-ins keep their book in std cells. loom runs one thread at a time and switches only inside its own
//! primitives, so these books need no lock, and, what matters more, they add no synchronisation of their own that
//! could hide a missing ordering.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
pub(crate) use std::thread::Builder as ThreadBuilder;

pub(crate) type StepMutex<T> = loom::sync::Mutex<T>;
pub(crate) type StepMutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

pub(crate) type HostArc<T> = std::sync::Arc<T>;
pub(crate) type HostWeak<T> = std::sync::Weak<T>;
pub(crate) type HostAtomicU64 = std::sync::atomic::AtomicU64;
pub(crate) type HostAtomicU32 = std::sync::atomic::AtomicU32;
pub(crate) type HostAtomicI64 = std::sync::atomic::AtomicI64;
pub(crate) type HostAtomicBool = std::sync::atomic::AtomicBool;

/// loom's `Arc` has no weak side; only the hub's clock and its budget use one, and no model runs these.
#[derive(Debug)]
pub(crate) struct Weak<T: ?Sized>(std::marker::PhantomData<std::sync::Weak<T>>);

impl<T: ?Sized> Weak<T> {
    pub(crate) fn upgrade(&self) -> Option<Arc<T>> {
        None
    }

    pub(crate) fn strong_count(&self) -> usize {
        0
    }
}

pub(crate) fn downgrade<T: ?Sized>(_: &Arc<T>) -> Weak<T> {
    Weak(std::marker::PhantomData)
}

/// A queue that promises as little as it may: whoever takes a value out sees what was done before it was put in, and
/// looking whether there is one orders nothing.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    len: AtomicUsize,
    values: Mutex<std::collections::VecDeque<T>>,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            len: AtomicUsize::new(0),
            values: Mutex::default(),
        }
    }

    fn values(&self) -> MutexGuard<'_, std::collections::VecDeque<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, value: T) {
        self.values().push_back(value);
        self.len.fetch_add(1, Ordering::Release);
    }

    /// Takes the first value, if it is seen to be there. One thread takes.
    pub(crate) fn pop(&self) -> Option<T> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.len.fetch_sub(1, Ordering::Acquire);
        self.values().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }
}

macro_rules! arc_unsized {
    ($value:expr => $unsized:ty) => {{
        let unsized_arc: std::sync::Arc<$unsized> = std::sync::Arc::new($value);
        $crate::sync::Arc::from_std(unsized_arc)
    }};
}
pub(crate) use arc_unsized;

/// Pins and retirement with the strictest timing that crossbeam-epoch allows: a value counts as freed at the very
/// moment when the last guard that could protect it goes. Its memory goes when the model's run ends, because the
/// destructor needs an order after all threads.
pub(crate) mod epoch {
    use super::{AtomicU64, HostArc, Ordering, RefCell, Witness, fence};
    use std::collections::BTreeSet;

    #[derive(Default)]
    struct Book {
        next: u64,
        live: BTreeSet<u64>,
        retired: Vec<Retired>,
        deferred: Vec<Deferred>,
        /// What was done under a guard that is gone is done before a deferred call runs, as with crossbeam's. For models that
        /// defer calls: see `will_defer`.
        order: Option<HostArc<AtomicU64>>,
    }

    struct Deferred {
        waits_for: BTreeSet<u64>,
        run: Box<dyn FnOnce()>,
    }

    /// Says that a guard goes, or hears of all that went.
    fn order(ordering: Ordering) {
        let order = BOOK.with_borrow(|book| book.order.clone());
        if let Some(order) = order {
            order.fetch_add(1, ordering);
        }
    }

    struct Retired {
        waits_for: BTreeSet<u64>,
        freed: bool,
        free: Box<dyn Fn()>,
        destroy: Option<Box<dyn FnOnce()>>,
    }

    thread_local! {
        static BOOK: RefCell<Book> = RefCell::default();
    }

    /// Values that know whether they were freed.
    pub(crate) trait Probed {
        fn witness(&self) -> &Witness;
    }

    #[derive(Debug)]
    pub(crate) struct Guard(u64);

    pub(crate) fn pin() -> Guard {
        let id = BOOK.with_borrow_mut(|book| {
            book.next += 1;
            let id = book.next;
            book.live.insert(id);
            id
        });
        fence(Ordering::SeqCst);
        Guard(id)
    }

    impl Guard {
        #[expect(clippy::unused_self, reason = "the shape of crossbeam's guard")]
        pub(crate) fn flush(&self) {}

        /// Here the pin goes on: that frees less.
        pub(crate) fn repin(&mut self) {}
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            order(Ordering::Release);
            let due: Vec<_> = BOOK.with_borrow_mut(|book| {
                for item in &mut book.deferred {
                    item.waits_for.remove(&self.0);
                }
                let due = |item: &mut Deferred| item.waits_for.is_empty();
                book.deferred.extract_if(.., due).collect()
            });
            BOOK.with_borrow_mut(|book| {
                book.live.remove(&self.0);
                for item in &mut book.retired {
                    item.waits_for.remove(&self.0);
                    if item.waits_for.is_empty() && !item.freed {
                        item.freed = true;
                        (item.free)();
                    }
                }
            });
            // It may switch threads: the book is closed.
            for item in due {
                order(Ordering::Acquire);
                (item.run)();
            }
        }
    }

    /// Before all threads of a model in which calls are deferred.
    pub(crate) fn will_defer() {
        let order = HostArc::new(AtomicU64::new(0));
        BOOK.with_borrow_mut(|book| book.order = Some(order));
    }

    pub(crate) fn defer(_: &Guard, f: impl FnOnce() + 'static) {
        fence(Ordering::SeqCst);
        BOOK.with_borrow_mut(|book| {
            assert!(book.order.is_some(), "a model that defers says so");
            let waits_for = book.live.clone();
            book.deferred.push(Deferred {
                waits_for,
                run: Box::new(f),
            });
        });
    }

    /// # Safety
    ///
    /// That of the real one.
    pub(crate) unsafe fn retire<T: ?Sized + Probed + 'static>(_: &Guard, value: *mut T) {
        fence(Ordering::SeqCst);
        BOOK.with_borrow_mut(|book| {
            let waits_for = book.live.clone();
            book.retired.push(Retired {
                waits_for,
                freed: false,
                // SAFETY: the memory stays until `finish`, so the witness can still be marked.
                free: Box::new(move || unsafe { (*value).witness().mark_freed() }),
                // SAFETY: the caller's promise: made by `Box::into_raw`, retired once.
                destroy: Some(Box::new(move || drop(unsafe { Box::from_raw(value) }))),
            });
        });
    }

    /// Destroys what a run retired; every thread has been joined.
    pub(crate) fn finish() {
        let (retired, order) = BOOK.with_borrow_mut(|book| {
            assert!(book.live.is_empty(), "a guard outlived the model");
            assert!(book.deferred.is_empty(), "a deferred call was forgotten");
            (std::mem::take(&mut book.retired), book.order.take())
        });
        drop(order);
        for mut item in retired {
            if let Some(destroy) = item.destroy.take() {
                destroy();
            }
        }
    }

    /// Forgets what a failed run left behind.
    pub(crate) fn reset() {
        let book = BOOK.with_borrow_mut(std::mem::take);
        std::mem::forget(book);
    }
}

/// Made at once: when it is made orders nothing.
pub(crate) type LateCowCell<T> = CowCell<T>;

/// Versions behind an index: an acquire load to read, an acquire-release compare-and-swap to write.
#[derive(Debug)]
pub(crate) struct CowCell<T> {
    version: AtomicUsize,
    versions: RefCell<Vec<Option<Arc<T>>>>,
}

// SAFETY: loom runs one thread at a time and no borrow of `versions` spans a switch.
unsafe impl<T: Send + Sync> Sync for CowCell<T> {}

impl<T> CowCell<T> {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            versions: RefCell::new(vec![None]),
        }
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        let version = self.version.load(Ordering::Acquire);
        let found = self.versions.borrow()[version]
            .as_ref()
            .map(std::ptr::from_ref);
        // SAFETY: a version is never removed while the cell lives. Cloning may switch threads, hence no borrow.
        found.map(|arc| unsafe { (*arc).clone() })
    }

    pub(crate) fn rcu(&self, mut f: impl FnMut(Option<&Arc<T>>) -> Option<Arc<T>>) {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let current = self.versions.borrow()[version]
                .as_ref()
                .map(std::ptr::from_ref);
            // SAFETY: as in `load_full`.
            let next = f(current.map(|arc| unsafe { &*arc }));
            // The slot is taken before the swap; a loser's slot stays as an unused version.
            let mine = {
                let mut versions = self.versions.borrow_mut();
                // Growth must not move what others point at: keep room for every version a model makes.
                if versions.capacity() < 64 {
                    let len = versions.len();
                    assert!(len <= 1, "versions are reserved at the first write");
                    versions.reserve_exact(64);
                }
                assert!(versions.len() < 64, "a model made more than 64 versions");
                versions.push(next);
                versions.len() - 1
            };
            if self
                .version
                .compare_exchange(version, mine, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct ProtocolCell<T>(loom::cell::UnsafeCell<T>);

impl<T> ProtocolCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// Written when made, read at each check: loom reports a check that is not ordered after the making.
#[derive(Debug)]
pub(crate) struct Witness {
    made: loom::cell::UnsafeCell<()>,
    freed: std::sync::atomic::AtomicBool,
}

// SAFETY: loom runs one thread at a time, and reports unordered accesses instead of making them.
unsafe impl Send for Witness {}
// SAFETY: as above.
unsafe impl Sync for Witness {}

impl Witness {
    pub(crate) fn new() -> Self {
        Self {
            made: loom::cell::UnsafeCell::new(()),
            freed: std::sync::atomic::AtomicBool::new(false),
        }
    }

    pub(crate) fn check(&self) {
        assert!(
            !self.freed.load(std::sync::atomic::Ordering::Relaxed),
            "use after free"
        );
        self.made.with(|_| ());
    }

    fn mark_freed(&self) {
        self.freed.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// One shard behind one lock.
pub(crate) struct ShardedMap<K, V>(loom::sync::Mutex<HashMap<K, V>>);

#[expect(
    clippy::unwrap_used,
    reason = "a poisoned lock fails the model, as it should"
)]
impl<K: Eq + Hash, V> ShardedMap<K, V> {
    pub(crate) fn new(_: Option<usize>) -> Self {
        Self(loom::sync::Mutex::new(HashMap::new()))
    }

    pub(crate) fn view<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.lock().unwrap().get(key).map(f)
    }

    pub(crate) fn view_or_insert<R>(
        &self,
        key: K,
        fresh: V,
        f: impl FnOnce(&V) -> R,
    ) -> (R, Option<(K, V)>) {
        let mut map = self.0.lock().unwrap();
        if let Some(found) = map.get(&key) {
            let seen = f(found);
            return (seen, Some((key, fresh)));
        }
        (f(map.entry(key).or_insert(fresh)), None)
    }

    pub(crate) fn update_or_insert<R>(&self, key: K, f: impl FnOnce(&mut V) -> R) -> (R, Option<K>)
    where
        V: Default,
    {
        let mut map = self.0.lock().unwrap();
        if let Some(found) = map.get_mut(&key) {
            let seen = f(found);
            return (seen, Some(key));
        }
        (f(map.entry(key).or_default()), None)
    }

    pub(crate) fn update<Q, R>(&self, key: &Q, f: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.lock().unwrap().get_mut(key).map(f)
    }

    pub(crate) fn remove_if<Q>(&self, key: &Q, f: impl FnOnce(&V) -> bool) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut map = self.0.lock().unwrap();
        if map.get(key).is_some_and(f) {
            map.remove_entry(key)
        } else {
            None
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn collect<R>(&self, mut f: impl FnMut(&K, &V) -> R) -> Vec<R> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(k, v)| f(k, v))
            .collect()
    }
}
