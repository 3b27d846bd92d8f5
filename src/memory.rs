//! A byte budget for a hub: what its events hold, and what happens when that is too much.
//!
//! **Role.** An [`Account`] knows how many bytes of encoded events, and of the segments of logs, a hub has caused that are not freed
//! yet, whoever holds them: logs, readers that keep a frame, the collector. [`Memory`] is the budget of one hub: it lowers the horizon above
//! the soft limit, and sheds or refuses above the hard one.
//!
//! **State.** A frame carries a [`Charge`], one word; a segment the account alone, for it knows its size:
//!
//! ```text
//!   63            32 31             0
//!  ┌────────────────┬────────────────┐
//!  │ account, or 0  │ bytes          │   0: not counted
//!  └────────────────┴────────────────┘
//! ```
//!
//! Accounts are never freed, for a frame may outlive its hub. They stand in chunks that double in size; a number is given
//! to another hub once its hub is gone and its sum is 0. So there are at most twice as many as there were hubs with limits at
//! once, and their frames.
//!
//! **Invariants.**
//! * M1: a frame or a segment is charged once, and gives back what it was charged when its memory is freed.
//! * M2: an account is charged only by its hub. Once that is gone its stripes only fall, so a sum of 0 is final.
//! * M3: one thread sweeps at a time. Nobody waits for it, and wakers, which it may call, run under no lock.
//!
//! **Exactness.** A thread counts in one of 16 stripes. Whoever moves its stripe across a multiple of the step sums all
//! stripes and stores that in the one word that publishers load: it is behind by less than 16 steps of 4 to 64 KiB. Who finds it that
//! near to the limit sums for itself. So the limit is exceeded by what publishers are about to append: one event each, with a
//! segment for it.
//!
//! **Orderings.** All words here are counts and times: Relaxed. The flag `sweeping` is taken with Acquire and given back with
//! Release, though nothing but a count hangs on it.
//!
//! **Progress.** Below the hard limit a publisher waits for nobody. Above, it visits all topics, or finds that another
//! thread does.

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::clock::Clock;
use crate::error::PublishError;
use crate::log::{self, LARGEST_SEGMENT};
use crate::observe;
use crate::stats::stripe;
use crate::sync::{
    Arc, HostAtomicBool, HostAtomicI64, HostAtomicU64, Mutex, OnceLock, Ordering, PoisonError,
    Weak, downgrade,
};
use crate::topic::TopicCore;
use crate::unwind::FirstPanic;

const STRIPES: usize = 16;

/// What an allocation takes of the process: a word in front of it, in steps of two, as with glibc. Allocators that have classes of sizes take
/// up to an eighth more.
#[inline]
pub(crate) const fn allocated(bytes: usize) -> usize {
    (bytes + size_of::<usize>()).next_multiple_of(2 * size_of::<usize>())
}

/// Chunk `n` has 2^n accounts.
const CHUNKS: usize = 32;

/// What an event needs beside its data: the fields around that, its header and its place.
pub(crate) const MOST_AROUND: usize = 1024;

static ACCOUNTS: [OnceLock<Box<[Account]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];

/// The numbers that were given out, and those whose hubs are gone.
static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    last: 0,
    left: Vec::new(),
});

struct Numbers {
    last: u32,
    left: Vec<u32>,
}

/// The bytes that one hub has caused.
#[derive(Default)]
struct Account {
    stripes: [CachePadded<HostAtomicI64>; STRIPES],
    /// The sum when it was last made.
    used: CachePadded<HostAtomicU64>,
    /// The step, as a power of two.
    step_log2: HostAtomicU64,
    /// Bytes that left the logs and that the collector has not freed. Signed: it may be freed before it is noted.
    outstanding: CachePadded<HostAtomicI64>,
}

impl Account {
    /// The account of a number that was given out.
    #[inline]
    fn of(number: u32) -> Option<&'static Self> {
        let chunk = number.checked_ilog2()?;
        let accounts = ACCOUNTS.get(chunk as usize)?.get()?;
        accounts.get((number - (1 << chunk)) as usize)
    }

    /// Opens one. The number is given back with [`leave`](Self::leave).
    fn open(limit: u64) -> Option<(u32, &'static Self)> {
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        // M2
        let is_free = |&number: &u32| Self::of(number).is_some_and(|account| account.sum() == 0);
        let number = if let Some(at) = numbers.left.iter().position(is_free) {
            numbers.left.swap_remove(at)
        } else {
            numbers.last = numbers.last.checked_add(1)?;
            numbers.last
        };
        drop(numbers);
        let chunk = number.ilog2();
        ACCOUNTS[chunk as usize].get_or_init(|| {
            let accounts = std::iter::repeat_with(Self::default);
            accounts.take(1 << chunk).collect()
        });
        let account = Self::of(number)?;
        let step = (limit / 1024).clamp(4 << 10, 64 << 10);
        account
            .step_log2
            .store(u64::from(step.ilog2()), Ordering::Relaxed);
        account.used.store(0, Ordering::Relaxed);
        Some((number, account))
    }

    fn leave(number: u32) {
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.left.push(number);
    }

    #[inline]
    fn add(&self, bytes: i64) {
        let before = self.stripes[stripe() % STRIPES].fetch_add(bytes, Ordering::Relaxed);
        let step = self.step_log2.load(Ordering::Relaxed);
        if before >> step != (before + bytes) >> step {
            self.refresh();
        }
    }

    /// How far [`used`](Self::used) may be behind.
    fn doubt(&self) -> u64 {
        (STRIPES as u64) << self.step_log2.load(Ordering::Relaxed)
    }

    /// Exact at quiescence.
    fn sum(&self) -> u64 {
        let stripes = self.stripes.iter();
        let sum: i64 = stripes.map(|s| s.load(Ordering::Relaxed)).sum();
        // Below zero only while an addition and its subtraction are seen in the wrong order.
        u64::try_from(sum).unwrap_or(0)
    }

    #[cold]
    fn refresh(&self) -> u64 {
        let sum = self.sum();
        self.used.store(sum, Ordering::Relaxed);
        sum
    }
}

/// To whose account the memory of a frame goes.
pub(crate) struct Charge(HostAtomicU64);

impl Charge {
    #[inline]
    pub(crate) const fn none() -> Self {
        Self(HostAtomicU64::new(0))
    }
}

impl Drop for Charge {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: whoever drops has all that was done with it before it.
        let word = self.0.load(Ordering::Relaxed);
        if word != 0 {
            give_back(word);
        }
    }
}

#[cold]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn give_back(word: u64) {
    Payer((word >> 32) as u32).give_back(word as u32);
}

/// The number of an account; 0: nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payer(u32);

impl Payer {
    pub(crate) const NOBODY: Self = Self(0);

    #[inline]
    fn pay(self, bytes: u32) {
        if let Some(account) = Account::of(self.0) {
            account.add(i64::from(bytes));
        }
    }

    #[inline]
    fn give_back(self, bytes: u32) {
        if let Some(account) = Account::of(self.0) {
            account.add(-i64::from(bytes));
        }
    }

    /// So many bytes are on their way to be freed.
    #[cold]
    pub(crate) fn retire(self, bytes: u64) {
        self.outstanding(bytes.cast_signed());
    }

    /// They are about to be.
    #[cold]
    pub(crate) fn free(self, bytes: u64) {
        self.outstanding(-bytes.cast_signed());
    }

    fn outstanding(self, bytes: i64) {
        if let Some(account) = Account::of(self.0) {
            account.outstanding.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// The account of something that knows its size.
#[derive(Debug)]
pub(crate) struct Paid(Payer);

impl Paid {
    #[inline]
    pub(crate) const fn by_nobody() -> Self {
        Self(Payer::NOBODY)
    }

    /// Charges what has not been charged to anybody (M1).
    #[inline]
    pub(crate) fn by(payer: Payer, bytes: usize) -> Self {
        if payer != Payer::NOBODY {
            payer.pay(narrow(bytes));
        }
        Self(payer)
    }

    /// Who pays, if anybody does.
    #[inline]
    pub(crate) fn payer(&self) -> Option<Payer> {
        (self.0 != Payer::NOBODY).then_some(self.0)
    }

    /// Its memory is about to be freed: as many bytes as were charged.
    #[inline]
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let payer = std::mem::replace(&mut self.0, Payer::NOBODY);
        if payer != Payer::NOBODY {
            payer.give_back(narrow(bytes));
        }
    }
}

fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The limits of a hub, as checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

/// Tells the topics that there are.
type Topics = Box<dyn Fn() -> Vec<Arc<TopicCore>> + Send + Sync>;

/// The budget of one hub.
pub(crate) struct Memory {
    limits: Limits,
    /// Below this a publisher need not look closer: the soft limit, or less where the hard one is that near.
    easy: u64,
    number: u32,
    account: &'static Account,
    /// The age in ticks above which history goes, or `u64::MAX`.
    horizon: CachePadded<HostAtomicU64>,
    sweeping: HostAtomicBool,
    /// The clock was called and has not come yet.
    called: HostAtomicBool,
    /// The tick of the last sweep that found too little to shed: another one would not find more.
    barren: HostAtomicU64,
    /// The tick before which the clock does not sweep again, and for how long it waits: longer each time that there was too little.
    rests_until: HostAtomicU64,
    rest: HostAtomicU64,
    topics: OnceLock<Topics>,
    /// Topics that were closed, and may be read still.
    closed: Mutex<Vec<Weak<TopicCore>>>,
}

/// The clock looks at least so often whether there is something to shed, in ticks: 16 s or less.
const LONGEST_REST: u64 = 64;

/// How hard a sweep tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// It takes nothing if that is not enough: what holds the memory is not the logs.
    Soft,
    /// A publisher is about to be refused.
    Hard,
}

impl Memory {
    /// `None` if four billion hubs have budgets already.
    pub(crate) fn new(limits: Limits) -> Option<Self> {
        let (number, account) = Account::open(limits.hard)?;
        let unknown = account.doubt() + LARGEST_SEGMENT as u64;
        Some(Self {
            limits,
            easy: limits.soft.min(limits.hard.saturating_sub(unknown)),
            number,
            account,
            horizon: CachePadded::new(HostAtomicU64::new(u64::MAX)),
            sweeping: HostAtomicBool::new(false),
            called: HostAtomicBool::new(false),
            barren: HostAtomicU64::new(u64::MAX),
            rests_until: HostAtomicU64::new(0),
            rest: HostAtomicU64::new(0),
            topics: OnceLock::new(),
            closed: Mutex::default(),
        })
    }

    /// Tells where the topics are.
    pub(crate) fn set_topics(&self, topics: Topics) {
        drop(self.topics.set(topics));
    }

    /// Keeps a topic in view that was closed: it is in no map any more.
    pub(crate) fn keep_in_view(&self, topic: &Arc<TopicCore>) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have gone need no place: a weak one keeps that of its topic.
        if closed.len() == closed.capacity() {
            Self::forget_gone(&mut closed);
        }
        closed.push(downgrade(topic));
    }

    fn forget_gone(closed: &mut Vec<Weak<TopicCore>>) {
        closed.retain(|topic| topic.strong_count() > 0);
        closed.shrink_to(2 * closed.len());
    }

    /// The topics whose logs may hold something.
    fn all_topics(&self) -> Vec<Arc<TopicCore>> {
        let mut topics = self.topics.get().map(|topics| topics()).unwrap_or_default();
        let mut closed: Vec<_> = {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            Self::forget_gone(&mut closed);
            closed.iter().filter_map(Weak::upgrade).collect()
        };
        // Two may have closed one at the same time.
        closed.sort_unstable_by_key(|topic| topic.address());
        closed.dedup_by(|one, other| Arc::ptr_eq(one, other));
        topics.append(&mut closed);
        topics
    }

    /// Bytes that left the logs and are not freed yet.
    fn outstanding(&self) -> u64 {
        let outstanding = self.account.outstanding.load(Ordering::Relaxed);
        u64::try_from(outstanding).unwrap_or(0)
    }

    /// Bytes that are not freed yet. Exact at quiescence.
    pub(crate) fn used(&self) -> u64 {
        self.account.sum()
    }

    /// Who pays for what this hub makes.
    #[inline]
    pub(crate) fn payer(&self) -> Payer {
        Payer(self.number)
    }

    /// Charges what has not been charged to anybody (M1).
    #[inline]
    pub(crate) fn charge(&self, charge: &Charge, bytes: usize) {
        let bytes = narrow(bytes);
        let word = u64::from(self.number) << 32 | u64::from(bytes);
        let seen = &charge.0;
        // A frame that more topics get is charged by the first.
        if seen.load(Ordering::Relaxed) == 0
            && seen
                .compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.account.add(i64::from(bytes));
        }
    }

    /// The age in ticks above which history goes, if `age` is what the hub allows.
    #[inline]
    pub(crate) fn age_ticks(&self, age: u64) -> u64 {
        if self.has_room(0) {
            return age;
        }
        self.horizon.load(Ordering::Relaxed).min(age)
    }

    /// Whether there is room for `bytes` more without any ado.
    #[inline]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.account.used.load(Ordering::Relaxed) + bytes as u64 <= self.easy
    }

    fn is_over(&self, used: u64, bytes: usize) -> bool {
        used + bytes as u64 > self.limits.hard
    }

    /// Makes room for `bytes` more, or tells why there is none. The caller is not pinned, or can have less
    /// freed.
    #[cold]
    pub(crate) fn make_room(&self, bytes: usize, clock: &Clock) -> Result<(), PublishError> {
        // It may need a segment.
        let bytes = bytes + LARGEST_SEGMENT;
        let mut used = self.account.used.load(Ordering::Relaxed);
        if self.is_over(used + self.account.doubt(), bytes) {
            used = self.account.refresh();
        }
        if !self.is_over(used, bytes) {
            // What is on its way to be freed needs no clock.
            let left = used.saturating_sub(self.outstanding());
            let rests = clock.now() < self.rests_until.load(Ordering::Relaxed);
            let due = left > self.limits.soft && !rests;
            if due && !self.called.swap(true, Ordering::Relaxed) {
                clock.come();
            }
            return Ok(());
        }
        used = self.collect(bytes);
        let now = clock.refresh();
        if self.is_over(used, bytes) && self.barren.load(Ordering::Relaxed) != now {
            let (used_then, target) = (used + bytes as u64, self.limits.soft);
            self.sweep(now, used_then, target, Urgency::Hard);
            used = self.collect(bytes);
        }
        if !self.is_over(used, bytes) {
            return Ok(());
        }
        observe::refused("memory_limit", self.limits.hard, used + bytes as u64);
        Err(PublishError::OverMemoryLimit {
            limit: self.limits.hard,
            used,
            size: bytes,
        })
    }

    /// Has the collector free what it may, until there is room. Tells what is used then.
    fn collect(&self, bytes: usize) -> u64 {
        // The epoch has to move on twice, and each look frees a few bags.
        let mut barren = 0;
        let mut used = self.account.refresh();
        while self.is_over(used, bytes) && barren < 4 {
            log::free_all_retired();
            let now = self.account.refresh();
            barren = if now < used { 0 } else { barren + 1 };
            used = now;
        }
        used
    }

    /// Whether the clock has something to do here.
    pub(crate) fn wants_clock(&self) -> bool {
        self.is_called() || self.horizon.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether a publisher has called the clock since its last turn.
    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// A turn of the clock. `age` is what the hub allows, in ticks.
    pub(crate) fn turn(&self, now: u64, age: u64) {
        self.called.store(false, Ordering::Relaxed);
        let used = self.account.refresh();
        let horizon = self.horizon.load(Ordering::Relaxed);
        let soft = self.limits.soft;
        if used > soft && now >= self.rests_until.load(Ordering::Relaxed) {
            let fruitful = self.sweep(now, used, soft / 16 * 15, Urgency::Soft);
            let rest = if fruitful {
                0
            } else {
                let last = self.rest.load(Ordering::Relaxed);
                (last * 2).clamp(1, LONGEST_REST)
            };
            self.rest.store(rest, Ordering::Relaxed);
            self.rests_until.store(now + rest, Ordering::Relaxed);
            // Its destructors may be anybody's.
            FirstPanic::default().run(log::free_all_retired);
            self.account.refresh();
        } else if used <= soft {
            self.rests_until.store(0, Ordering::Relaxed);
            self.rest.store(0, Ordering::Relaxed);
        }
        if horizon != u64::MAX && used < soft / 8 * 7 {
            let higher = horizon.saturating_add(horizon / 8 + 1);
            let higher = if higher < age { higher } else { u64::MAX };
            self.horizon.store(higher, Ordering::Relaxed);
        }
    }

    /// Takes so much out of the logs that `used` falls to `target` once it is freed, the oldest first: all that is older than
    /// some age, and of what has that age the same part of each log. Does nothing if another thread sweeps, or enough is on
    /// its way to be freed. `false` if the logs hold too little.
    fn sweep(&self, now: u64, used: u64, target: u64, urgency: Urgency) -> bool {
        // M3
        if self.sweeping.swap(true, Ordering::Acquire) {
            return true;
        }
        let _flag = Sweeping(self);
        let need = used.saturating_sub(target + self.outstanding());
        if need == 0 {
            return true;
        }
        let topics = self.all_topics();
        let mut ages = Ages::default();
        for topic in &topics {
            topic.survey(now, |age, bytes| ages.add(age, bytes));
        }
        if urgency == Urgency::Soft && ages.sum() < need {
            for topic in topics {
                // A key that panics is its owner's fault.
                FirstPanic::default().run(|| drop(topic));
            }
            return false;
        }
        let cut = ages.cut(need);
        // What stays of that age is not to go with the next tick.
        self.horizon.store(cut.horizon + 1, Ordering::Relaxed);
        // What the topics so far were to give and did not: a log gives whole segments.
        let mut owed = 0;
        let mut shed = 0;
        for topic in topics {
            // A waker or a key that panics is its owner's fault.
            let lost = FirstPanic::default().run(|| {
                let lost = topic.shed(now, &cut, &mut owed);
                drop(topic);
                lost
            });
            shed += lost.unwrap_or(0);
        }
        let fruitful = shed >= need / 4;
        if !fruitful {
            self.barren.store(now, Ordering::Relaxed);
        }
        fruitful
    }
}

/// What is to go: all that is older than the horizon, and of what is in the class that ends there, `of_class` of `in_class` bytes.
pub(crate) struct Cut {
    pub(crate) horizon: u64,
    class: usize,
    of_class: u64,
    in_class: u64,
}

impl Cut {
    /// Whether a part of what is this old goes.
    pub(crate) fn divides(&self, age: u64) -> bool {
        Ages::class(age) == self.class
    }

    /// The part that goes of so many bytes of which a part goes.
    pub(crate) fn share(&self, bytes: u64) -> u64 {
        part(bytes, self.of_class, self.in_class)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("limits", &self.limits)
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        Account::leave(self.number);
    }
}

/// The flag of a sweep, given back whatever happens.
struct Sweeping<'a>(&'a Memory);

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        self.0.sweeping.store(false, Ordering::Release);
    }
}

/// `bytes * numerator / denominator`.
pub(crate) fn part(bytes: u64, numerator: u64, denominator: u64) -> u64 {
    let part = u128::from(bytes) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Steps of an age from one power of two to the next.
const STEPS_LOG2: u32 = 3;
const STEPS: u64 = 1 << STEPS_LOG2;
const CLASSES: usize = (65 - STEPS_LOG2 as usize) << STEPS_LOG2;

/// Bytes by age: exact below 16 ticks, in steps of an eighth above.
struct Ages([u64; CLASSES]);

impl Default for Ages {
    fn default() -> Self {
        Self([0; CLASSES])
    }
}

impl Ages {
    #[expect(clippy::cast_possible_truncation, reason = "a class")]
    fn class(age: u64) -> usize {
        if age < STEPS {
            return age as usize;
        }
        let shift = age.ilog2() - STEPS_LOG2;
        (u64::from(shift) * STEPS + (age >> shift)) as usize
    }

    /// The least age of a class.
    fn least(class: usize) -> u64 {
        let class = class as u64;
        if class < STEPS {
            return class;
        }
        let shift = class / STEPS - 1;
        (STEPS + class % STEPS) << shift
    }

    fn add(&mut self, age: u64, bytes: u64) {
        self.0[Self::class(age)] += bytes;
    }

    fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Where to cut so that `need` bytes go.
    fn cut(&self, need: u64) -> Cut {
        let mut older = 0;
        for class in (1..CLASSES).rev() {
            if older + self.0[class] >= need {
                return self.cut_in(class, need - older);
            }
            older += self.0[class];
        }
        self.cut_in(0, (need - older).min(self.0[0]))
    }

    fn cut_in(&self, class: usize, of_class: u64) -> Cut {
        let next = class + 1;
        Cut {
            horizon: if next < CLASSES {
                Self::least(next) - 1
            } else {
                u64::MAX - 1
            },
            class,
            of_class,
            in_class: self.0[class],
        }
    }
}

#[cfg(all(test, not(fanfare_loom)))]
mod tests {
    use super::*;

    #[test]
    fn classes_of_ages_have_no_gaps() {
        let mut last = 0;
        for age in (0..1 << 16).chain([u64::MAX / 3, u64::MAX]) {
            let class = Ages::class(age);
            assert!(class == last || class == last + 1 || age > 1 << 16);
            assert!(Ages::least(class) <= age && class < CLASSES);
            assert!(age >> 16 != 0 || Ages::least(class + 1) > age);
            last = class;
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut ages = Ages::default();
        ages.add(1000, 50);
        ages.add(3, 100);
        ages.add(0, 7);
        let at = |need| {
            let cut = ages.cut(need);
            (cut.horizon, cut.of_class, cut.in_class)
        };
        assert!((1000..1100).contains(&at(10).0));
        assert_eq!((at(10).1, at(10).2), (10, 50));
        assert_eq!(at(51), (3, 1, 100));
        assert_eq!(at(155), (0, 5, 7));
        assert_eq!(at(200), (0, 7, 7));
    }

    #[test]
    fn a_number_is_given_again_when_nothing_is_owed() {
        let limits = Limits {
            hard: 1 << 20,
            soft: 1 << 19,
        };
        let first = Memory::new(limits).unwrap();
        let (number, charge) = (first.number, Charge::none());
        first.charge(&charge, 100);
        first.charge(&charge, 100);
        assert_eq!(first.used(), 100);
        drop(first);
        let second = Memory::new(limits).unwrap();
        assert_ne!(second.number, number, "100 bytes are owed");
        drop(charge);
        let again = std::iter::repeat_with(|| Memory::new(limits).unwrap());
        let held: Vec<_> = again.take(3).collect();
        assert!(held.iter().any(|memory| memory.number == number));
    }
}
