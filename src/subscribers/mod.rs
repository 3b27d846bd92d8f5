//! Who reads a topic, and who of them waits for a wake.
//!
//! **Role.** Finds the parked subscribers of a topic without visiting the others. Joining, parking and leaving touch a
//! handful of words, whatever the number of subscribers.
//!
//! **State.**
//!
//! ```text
//!  top   ┌──────────── 63 bits: places of the list, modulo 63; the highest bit: the first waiter ─┐
//!        └─┬────────────────────────────────────────────────────────────────────────────────────┘
//!  first [W]   list ─▶ [ group 0 │ group 1 │ … ]      copy-on-write; a place is kept for a group's life
//!                        │ summary: 64 bits, one per chunk
//!                        ├─▶ chunk: armed 64 bits │ occupied │ wants_beat │ beaten │ W W W … W
//!                        └─▶ chunk …
//!  room  like top: places whose group may have a free waiter (a hint)
//! ```
//!
//! **Invariants.**
//! * P1: whoever is parked has its leaf bit set with its waker in the cell, or a taker of the bit is on the way to it.
//!   If the bit is set, then so are its summary bit and its top bit, or their taker is on the way down, or their setter
//!   on the way up and will look at the log after that.
//! * Each level is tested, and set if clear, whatever the level below held before: the taker of a level above may have
//!   gone by already.
//! * Bits are set from the leaf up and taken from the top down.
//!
//! **Protocol.** *Park*: waker in the cell; leaf, summary, top; fence; look at the log again. *Publish*: fill the slot;
//! fence; nothing in `top`: done. Otherwise take the top word, the list, each summary, each leaf; move the wakers out;
//! wake them. *Join*: a ticket of a group, then a free waiter. *Leave*: clean the waiter, give the ticket back; the one
//! who leaves a group empty retires it and takes it from the list.
//!
//! The collision of a parker and a publisher: both have a fence between their write and their look. Either the
//! publisher sees the top bit, or the parker sees the frame; perhaps both, and then the wake is superfluous.
//!
//! **Orderings.**
//!
//! | # | site | operation | ordering | pairs with | model that fails when weaker |
//! |---|---|---|---|---|---|
//! | P2 | `Chunk::{arm, reclaim}` | RMW of `armed` | `AcqRel` | P3 | Acquire: `park_vs_publish`; Release: `waiter_cell` |
//! | P3 | `Chunk::{take, take_one, beat}` | RMW of `armed` | `AcqRel` | P2 | Release: `park_vs_publish`; Acquire: `waiter_cell` |
//! | P4 | `Group::{arm_summary, take_armed}` | load, RMW / swap of `summary` | Acquire, `AcqRel` | each other | Acquire: `park_vs_publish_list` |
//! | P5 | `arm`, `wake` | RMW of `top`, fences | `AcqRel`, `SeqCst` | each other | fences: `park_vs_publish` |
//! | P6 | `Chunk::{claim, leave}` | RMW of `occupied` | `AcqRel` | each other | `leave_vs_claim` |
//! | P7 | `claim`, `least_passed` | fence after the claim / before the look | `SeqCst` | each other | `passed_vs_subscribe` |
//! | P8 | `Group::{leave, vacate, let_go, take_ticket, claim}` | RMW of `live`, `vacant` | Release, Acquire | each other | `vacant`: `retire_vs_claim` |
//! | P9 | `claim`, `wake_armed` | fence after the claim / after the top word was taken | `SeqCst` | each other | `park_vs_publish_list` (`join_beside_a_late_wake`) |
//!
//! **Progress.** Park is wait-free. Leave is wait-free, but the one who empties a group copies the list, which is
//! lock-free; so are join and wake.

mod chunk;
mod group;
#[cfg(all(test, feature = "_simulate", not(fanfare_loom)))]
mod tests;
mod waiter;

use std::task::Waker;

use chunk::{Chunk, Wakers};
use group::Group;
pub(crate) use waiter::Waiter;

use crate::ending::EndReason;
use crate::sync::epoch::Guard;
use crate::sync::{Arc, AtomicU64, CowCell, Ordering, fence};
use crate::unwind::FirstPanic;

/// Places of the list share these bits of the top word.
const TOP_BITS: usize = 63;

/// The bit of the top word that stands for the first waiter.
const FIRST_BIT: u64 = 1 << TOP_BITS;

type List = Vec<Option<Arc<Group>>>;

#[derive(Debug)]
pub(crate) struct Subscribers {
    top: AtomicU64,
    room: AtomicU64,
    list: CowCell<List>,
    first: Chunk<[Waiter; 1]>,
}

/// The waiter that a subscription owns.
#[derive(Debug)]
pub(crate) struct Seat {
    /// `None`: the topic's first waiter.
    group: Option<Arc<Group>>,
    number: u16,
    /// That of the waiter, if its owner is watched: W4 of `waiter`.
    generation: u16,
}

/// A waiter whose owner was given up: to be [left](Subscribers::vacate) when no pin of now is held any more.
#[derive(Debug)]
pub(crate) struct Vacated {
    group: Option<Arc<Group>>,
    number: u16,
}

/// What became of a waiter whose owner was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the owner's.
    Owned,
    /// The owner was given up, and has the waiter still.
    Evicted,
    /// The owner was given up, and the waiter is not its own any more.
    Lost,
}

/// A chunk of a topic: that of the first waiter, or one of a group, by the group's place in the list, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    group: usize,
    chunk: usize,
}

/// What [`Subscribers::ask_some`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// So many, and where it goes on.
    Some(usize, Place),
    NoMore,
}

/// Names a seat among those of its topic, for as long as it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SeatId {
    /// The address of the group, 0 for the first waiter.
    group: usize,
    number: u16,
}

#[inline]
fn top_bit(index: usize) -> u64 {
    1 << (index % TOP_BITS)
}

impl Subscribers {
    pub(crate) fn new() -> Self {
        Self {
            top: AtomicU64::new(0),
            room: AtomicU64::new(0),
            list: CowCell::new(),
            first: Chunk::new([Waiter::new()]),
        }
    }

    /// Claims a waiter. Nothing is consumed on behalf of others from here on until [`set_passed`](Self::set_passed).
    pub(crate) fn claim(&self) -> Seat {
        let seat = self.claim_waiter();
        // P7: either an evictor sees the claim, or the caller sees all that the evictor's readers read.
        fence(Ordering::SeqCst);
        seat
    }

    fn claim_waiter(&self) -> Seat {
        if self.first.claim().is_some() {
            return Seat {
                group: None,
                number: 0,
                generation: 0,
            };
        }
        loop {
            if let Some(group) = self.ticket() {
                return Seat::in_group(group);
            }
            if let Some(group) = self.grow() {
                return Seat::in_group(group);
            }
        }
    }

    /// A ticket of a group that is there.
    fn ticket(&self) -> Option<Arc<Group>> {
        // Relaxed: a hint.
        let mut room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return None;
        }
        let list = self.list.load_full()?;
        let at_bit = |bit: usize| list.iter().skip(bit).step_by(TOP_BITS).flatten();
        while room != 0 {
            let bit = room.trailing_zeros() as usize;
            room &= room - 1;
            if let Some(group) = at_bit(bit).find(|group| group.take_ticket()) {
                return Some(group.clone());
            }
            self.room.fetch_and(!top_bit(bit), Ordering::Relaxed);
            // A leave that set the bit before it was cleared must not be forgotten.
            if at_bit(bit).any(|group| group.has_room()) {
                self.room.fetch_or(top_bit(bit), Ordering::Relaxed);
            }
        }
        None
    }

    /// Adds a group, with a ticket of it; or nothing, if another group came to have room meanwhile.
    fn grow(&self) -> Option<Arc<Group>> {
        let mut made = None;
        self.list.rcu(|list| {
            made = None;
            let mut list = match list {
                Some(list) if list.iter().flatten().any(|group| group.has_room()) => {
                    // Its bit may be the one thing missing.
                    for group in list.iter().flatten().filter(|group| group.has_room()) {
                        self.room
                            .fetch_or(top_bit(group.index()), Ordering::Relaxed);
                    }
                    return Some(Arc::clone(list));
                }
                Some(list) => {
                    // `clone` would leave no room for one more.
                    let mut copy = List::with_capacity(list.len() + 1);
                    copy.extend(list.iter().cloned());
                    copy
                }
                None => List::new(),
            };
            let free = list.iter().position(Option::is_none);
            let index = free.unwrap_or(list.len());
            let group = Arc::new(Group::with_ticket(index));
            made = Some(Arc::clone(&group));
            match free {
                Some(free) => list[free] = Some(group),
                None => list.push(Some(group)),
            }
            Some(Arc::new(list))
        });
        if let Some(group) = &made {
            // Relaxed: a hint.
            self.room
                .fetch_or(top_bit(group.index()), Ordering::Relaxed);
        }
        made
    }

    /// Gives the waiter back, and the waker that was in it: its drop is user code, which the caller runs last.
    #[must_use]
    #[inline]
    pub(crate) fn leave(&self, seat: &Seat) -> Option<Waker> {
        let Some(group) = &seat.group else {
            return self.first.leave(0);
        };
        let (waker, retired) = group.leave(usize::from(seat.number));
        self.has_left(group, retired);
        waker
    }

    /// Somebody left the group, and may have retired it by that.
    #[inline]
    fn has_left(&self, group: &Group, retired: bool) {
        if retired {
            self.remove(group);
        } else {
            let bit = top_bit(group.index());
            // Relaxed: a hint.
            if self.room.load(Ordering::Relaxed) & bit == 0 {
                self.room.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Takes a group that is retired from the list.
    #[cold]
    fn remove(&self, group: &Group) {
        if group.is_nowhere() {
            return;
        }
        self.list.rcu(|list| {
            let mut list = List::clone(list?);
            if let Some(place) = list.get_mut(group.index()) {
                *place = None;
            }
            while list.pop_if(|last| last.is_none()).is_some() {}
            (!list.is_empty()).then(|| Arc::new(list))
        });
    }

    /// Parks: after this, whoever publishes wakes `waker`, or the caller finds the frame in the log, or `waker` was woken.
    pub(crate) fn arm(&self, seat: &Seat, waker: &Waker) {
        let bit = match &seat.group {
            None => {
                if !self.first.arm(0, waker) {
                    return;
                }
                FIRST_BIT
            }
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                if !chunk.arm(waiter, waker) {
                    return;
                }
                group.arm_summary(usize::from(seat.number));
                top_bit(group.index())
            }
        };
        // Relaxed test: as for the summary. AcqRel: pairs with the swap in `wake`. P5
        if self.top.load(Ordering::Relaxed) & bit == 0 {
            self.top.fetch_or(bit, Ordering::AcqRel);
        }
        // P5: pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
    }

    /// The owner goes on without a wake.
    #[inline]
    pub(crate) fn disarm(&self, seat: &Seat) {
        match &seat.group {
            None => self.first.disarm(0),
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                chunk.disarm(waiter);
            }
        }
    }

    /// Wakes all who are parked. The caller has changed the log before, and holds no pin and no guard.
    ///
    /// # Panics
    ///
    /// If a waker panics: after all others were woken.
    pub(crate) fn wake(&self) {
        if self.needs_wake() {
            self.wake_armed();
        }
    }

    /// Whether somebody is parked who may not have seen what the caller put into the log.
    #[inline]
    pub(crate) fn needs_wake(&self) -> bool {
        // P5: pairs with the fence in `arm`.
        fence(Ordering::SeqCst);
        self.is_armed()
    }

    /// [`needs_wake`](Self::needs_wake), when the caller has a fence behind what it put into the log.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        // Relaxed: the fence orders it. P5
        self.top.load(Ordering::Relaxed) != 0
    }

    /// [`wake`](Self::wake), when it is known that somebody is parked.
    pub(crate) fn wake_armed(&self) {
        // AcqRel: the parkers' lower bits. P5
        let mut top = self.top.swap(0, Ordering::AcqRel);
        let mut wake = WakeScan::default();
        if top & FIRST_BIT != 0 {
            top &= !FIRST_BIT;
            self.first.take(&mut wake.wakers);
            wake.run();
        }
        if top == 0 {
            wake.finish();
            return;
        }
        // P9: a parker that found the bit set and made no RMW: its group is in the list that we load.
        fence(Ordering::SeqCst);
        if let Some(list) = self.list.load_full() {
            while top != 0 {
                let bit = top.trailing_zeros() as usize;
                top &= top - 1;
                for group in list.iter().skip(bit).step_by(TOP_BITS).flatten() {
                    group.take_armed(|chunk| {
                        chunk.take(&mut wake.wakers);
                        wake.run();
                    });
                }
            }
        }
        wake.finish();
    }

    /// Gives a heartbeat to those parked waiters that want one and whose turn is `phase` of `phases`.
    pub(crate) fn beat(&self, phase: u64, phases: u64) {
        let mut wake = WakeScan::default();
        if phase == 0 {
            self.first.beat(&mut wake.wakers);
            wake.run();
        }
        if let Some(list) = self.list.load_full() {
            for group in list.iter().flatten() {
                for (at, chunk) in group.chunks() {
                    if (group.index() + at + 1) as u64 % phases == phase {
                        chunk.beat(&mut wake.wakers);
                        wake.run();
                    }
                }
            }
        }
        wake.finish();
    }

    /// Wakes one waiter if it is parked. If its owner has left, whoever has it now is woken for nothing.
    ///
    /// # Panics
    ///
    /// If the waker panics.
    pub(crate) fn wake_one(&self, seat: &Seat) {
        let waker = match &seat.group {
            None => self.first.take_one(0),
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                chunk.take_one(waiter)
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn want_beats(&self, seat: &Seat, wanted: bool) {
        match &seat.group {
            None => self.first.want_beats(0, wanted),
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                chunk.want_beats(waiter, wanted);
            }
        }
    }

    pub(crate) fn has_beat_wanters(&self) -> bool {
        self.first.has_beat_wanters()
            || self.list.load_full().is_some_and(|list| {
                let mut groups = list.iter().flatten();
                groups.any(|group| group.chunks().any(|(_, chunk)| chunk.has_beat_wanters()))
            })
    }

    #[inline]
    pub(crate) fn take_beat(&self, seat: &Seat) -> bool {
        match &seat.group {
            None => self.first.take_beat(0),
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                chunk.take_beat(waiter)
            }
        }
    }

    /// Notes that the owner has read all below `offset`.
    #[inline]
    pub(crate) fn set_passed(&self, seat: &Seat, offset: u64) {
        match &seat.group {
            None => self.first.waiter(0).set_passed(offset),
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                chunk.waiter(waiter).set_passed(offset);
            }
        }
    }

    #[inline]
    fn with_waiter<R>(&self, seat: &Seat, f: impl FnOnce(&Waiter) -> R) -> R {
        match &seat.group {
            None => f(self.first.waiter(0)),
            Some(group) => {
                let (chunk, waiter) = group.chunk(usize::from(seat.number));
                f(chunk.waiter(waiter))
            }
        }
    }

    /// Has the clock watch whether the owner goes on.
    pub(crate) fn watch(&self, seat: &mut Seat) {
        seat.generation = self.with_waiter(seat, |waiter| {
            // Nobody is given up who is not watched.
            let generation = waiter.generation();
            waiter.watch();
            generation
        });
    }

    /// Takes that back.
    pub(crate) fn unwatch(&self, seat: &Seat, _: &Guard) -> Standing {
        self.with_waiter(seat, |waiter| seat.standing(waiter, Waiter::unwatch))
    }

    /// The owner goes on.
    #[inline]
    pub(crate) fn go_on(&self, seat: &Seat, _: &Guard) -> Standing {
        self.with_waiter(seat, |waiter| seat.standing(waiter, Waiter::go_on))
    }

    /// Notes that the owner has read all below `offset`, and that is all there is. Tells whether it is asked to leave.
    #[inline]
    pub(crate) fn is_up_to_date(&self, seat: &Seat, offset: u64) -> bool {
        self.with_waiter(seat, |waiter| {
            waiter.set_passed(offset);
            waiter.is_asked()
        })
    }

    /// Why the owner is asked to leave, if it is.
    #[inline]
    pub(crate) fn asked(&self, seat: &Seat) -> Option<EndReason> {
        self.with_waiter(seat, Waiter::asked)
    }

    /// The owner asks itself to leave.
    #[cfg(feature = "http-body")]
    pub(crate) fn leave_with(&self, seat: &Seat, reason: EndReason) {
        self.with_waiter(seat, |waiter| waiter.leave_with(reason));
    }

    /// The owner reads for others.
    #[cfg(all(feature = "reactor", unix, not(fanfare_tasks)))]
    pub(crate) fn feeds(&self, seat: &Seat) {
        self.with_waiter(seat, Waiter::feeds);
    }

    /// The owner is to be asked to leave at a time.
    pub(crate) fn leaves_at(&self, seat: &Seat, time: u32) {
        self.with_waiter(seat, |waiter| waiter.leaves_at(time));
    }

    /// Asks all for whom `f` says so to leave, and wakes them.
    ///
    /// # Panics
    ///
    /// If a waker panics: after all others were woken.
    pub(crate) fn ask(&self, f: impl Fn(&Waiter) -> bool) {
        let mut wake = WakeScan::default();
        self.first.ask(&mut wake.wakers, &f);
        wake.run();
        if let Some(list) = self.list.load_full() {
            for group in list.iter().flatten() {
                for (_, chunk) in group.chunks() {
                    chunk.ask(&mut wake.wakers, &f);
                    wake.run();
                }
            }
        }
        wake.finish();
    }

    /// How many there are that read for themselves.
    pub(crate) fn count_readers(&self) -> usize {
        let by_itself = |waiter: &Waiter| !waiter.is_feed();
        let mut count = self.first.count(by_itself);
        if let Some(list) = self.list.load_full() {
            let groups = list.iter().flatten();
            let chunks = groups.flat_map(|group| group.chunks());
            count += chunks
                .map(|(_, chunk)| chunk.count(by_itself))
                .sum::<usize>();
        }
        count
    }

    /// Asks those of one chunk to leave who read for themselves: the one at `place`, or the next one.
    pub(crate) fn ask_some(&self, place: Place) -> Asked {
        let mut wake = WakeScan::default();
        let by_itself = |waiter: &Waiter| waiter.ask(false);
        let asked = if place == Place::default() {
            let next = Place { group: 1, chunk: 0 };
            Asked::Some(self.first.ask(&mut wake.wakers, by_itself), next)
        } else {
            // Places of the list do not shift, though groups retire as their waiters leave.
            let list = self.list.load_full();
            let groups = list.iter().flat_map(|list| list.iter().enumerate());
            let mut chunks = groups
                .skip(place.group - 1)
                .filter_map(|(at, group)| Some((at + 1, group.as_deref()?)))
                .flat_map(|(group, it)| it.chunks().map(move |(chunk, it)| (group, chunk, it)))
                .skip_while(|&(group, chunk, _)| group == place.group && chunk < place.chunk);
            chunks.next().map_or(Asked::NoMore, |(group, chunk, it)| {
                let chunk = chunk + 1;
                let next = Place { group, chunk };
                Asked::Some(it.ask(&mut wake.wakers, by_itself), next)
            })
        };
        wake.run();
        wake.finish();
        asked
    }

    /// Looks for owners that do not go on with what is below `end`: see [`Chunk::suspect`]. Those that `f` gave up lose their
    /// waiters.
    pub(crate) fn suspect(
        &self,
        end: u64,
        mut f: impl FnMut(SeatId, &Waiter, u64) -> bool,
    ) -> Vec<Vacated> {
        let mut vacated = Vec::new();
        let mut look = |group: Option<&Arc<Group>>, number: usize, waiter: &Waiter, passed: u64| {
            let id = SeatId::new(group.map_or(0, |group| group.address()), number);
            if f(id, waiter, passed) && waiter.next_generation() {
                vacated.push(Vacated {
                    group: group.cloned(),
                    number: id.number,
                });
            }
        };
        self.first.suspect(end, |number, waiter, passed| {
            look(None, number, waiter, passed);
        });
        if let Some(list) = self.list.load_full() {
            for group in list.iter().flatten() {
                for (at, chunk) in group.chunks() {
                    chunk.suspect(end, |number, waiter, passed| {
                        let number = at * chunk::CHUNK_WAITERS + number;
                        look(Some(group), number, waiter, passed);
                    });
                }
            }
        }
        vacated
    }

    /// Leaves a waiter in place of an owner that was given up. Tells the waker that was in it: the owner may be parked, and is to
    /// learn of it.
    #[must_use]
    #[cold]
    pub(crate) fn vacate(&self, vacated: &Vacated) -> Option<Waker> {
        let Some(group) = &vacated.group else {
            return self.first.leave(0);
        };
        let (waker, retired) = group.vacate(usize::from(vacated.number));
        self.has_left(group, retired);
        waker
    }

    /// An owner that finds its waiter lost lets go of the seat, and gets one in no topic's list.
    #[cold]
    pub(crate) fn lose(&self, seat: &mut Seat) {
        let lost = std::mem::replace(seat, Seat::in_group(Arc::new(Group::nowhere())));
        if let Some(group) = &lost.group
            && group.let_go()
        {
            self.remove(group);
        }
    }

    /// Gives each reader to `f`: see [`Chunk::survey`]. Costs a look at each.
    pub(crate) fn survey(&self, mut f: impl FnMut(SeatId, bool, u64)) {
        self.first.survey(|number, parked, passed| {
            f(SeatId::new(0, number), parked, passed);
        });
        if let Some(list) = self.list.load_full() {
            for group in list.iter().flatten() {
                for (at, chunk) in group.chunks() {
                    chunk.survey(|number, parked, passed| {
                        let number = at * chunk::CHUNK_WAITERS + number;
                        f(SeatId::new(group.address(), number), parked, passed);
                    });
                }
            }
        }
    }

    /// Whether a subscriber has its place in the log, and not only a waiter.
    pub(crate) fn has_reader(&self) -> bool {
        self.first.has_reader()
            || self.list.load_full().is_some_and(|list| {
                let mut groups = list.iter().flatten();
                groups.any(|group| group.chunks().any(|(_, chunk)| chunk.has_reader()))
            })
    }

    /// The least that any subscriber has noted, looking at no more than `places` places of the list.
    ///
    /// `None` if the list is longer, 0 if somebody is just joining, `u64::MAX` if there is nobody.
    pub(crate) fn least_passed(&self, places: usize) -> Option<u64> {
        // P7: pairs with the fence in `claim`.
        fence(Ordering::SeqCst);
        let mut least = self.first.least_passed();
        if let Some(list) = self.list.load_full() {
            if list.len() > places {
                return None;
            }
            for group in list.iter().flatten() {
                for (_, chunk) in group.chunks() {
                    least = least.min(chunk.least_passed());
                }
            }
        }
        Some(least)
    }
}

impl SeatId {
    #[expect(clippy::cast_possible_truncation, reason = "at most 4,096")]
    const fn new(group: usize, number: usize) -> Self {
        Self {
            group,
            number: number as u16,
        }
    }
}

impl Seat {
    /// Claims a waiter of `group` with a ticket that is out.
    fn in_group(group: Arc<Group>) -> Self {
        let number = u16::try_from(group.claim()).unwrap_or(u16::MAX);
        Self {
            group: Some(group),
            number,
            generation: 0,
        }
    }

    /// What the clock has of it when its owner is given up.
    #[cfg(fanfare_loom)]
    pub(crate) fn vacated(&self) -> Vacated {
        Vacated {
            group: self.group.clone(),
            number: self.number,
        }
    }

    /// What `look` tells of the waiter's owner, if that is the one that has this seat. Under a pin: W4 of `waiter`.
    #[inline]
    fn standing(&self, waiter: &Waiter, look: impl FnOnce(&Waiter) -> bool) -> Standing {
        if self.generation != waiter.generation() {
            return Standing::Lost;
        }
        match look(waiter) {
            false => Standing::Owned,
            // The clock is about to make another generation of it, or cannot.
            true if self.generation < u16::MAX => Standing::Lost,
            true => Standing::Evicted,
        }
    }

    pub(crate) fn id(&self) -> SeatId {
        SeatId {
            group: self.group.as_ref().map_or(0, |group| group.address()),
            number: self.number,
        }
    }

    /// The same place, for those who wake its owner. It is not given back.
    pub(crate) fn alias(&self) -> Self {
        Self {
            group: self.group.clone(),
            number: self.number,
            generation: 0,
        }
    }
}

/// Wakes what was taken, and goes on if a waker panics.
#[derive(Default)]
struct WakeScan {
    wakers: Wakers,
    panics: FirstPanic,
}

impl WakeScan {
    fn run(&mut self) {
        while !self.wakers.is_empty() {
            // A waker that panics has left the buffer already; the loop goes on with the rest.
            self.panics.run(|| {
                while let Some(waker) = self.wakers.pop() {
                    waker.wake();
                }
            });
        }
    }

    // By reference: the room for the wakers is a thousand bytes.
    fn finish(&mut self) {
        std::mem::take(&mut self.panics).resume();
    }
}
