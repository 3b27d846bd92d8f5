//! The control frames that a log has evicted, so that a reader that lagged gets them all the same.
//!
//! **Role.** A short list beside the chain: whoever evicts a segment that holds control frames puts them here before the segment
//! is out of reach. Nothing is here as long as no control frame was evicted.
//!
//! **Invariants.**
//! * K1: a control frame that was filled is in reach of whoever sees `oldest_offset` above it: it is here, unless newer ones have
//!   pushed it out.
//! * K2: each offset is here once, in order.
//! * K3: a frame that is filled into an evicted segment comes late: who missed its offset may have looked already. It has a number,
//!   by which a reader tells what came since.
//!
//! **Protocol.** *Fill*: slot, then the segment's mark, then its bytes; if these say that the segment was evicted, the publisher
//! puts its frame here. *Evict*: mark the bytes as evicted; if they have the mark of a control frame, put those that are
//! filled here; only then raise `oldest_offset`. Both may find the same frame: K2.
//!
//! **Orderings.** The segment's mark is O11 of `log`. The list is a copy-on-write cell; O7 carries it to readers, and what came
//! late comes with the wake that follows the publisher's fence.

use std::ops::Range;

use crate::frame::Frame;
use crate::sync::{Arc, LateCowCell};

/// Most frames that are kept.
const MAX_FRAMES: usize = 32;

/// Most bytes that are kept.
const MAX_BYTES: u64 = 64 * 1024;

/// A frame that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) offset: u64,
    pub(crate) frame: Frame,
    /// About when it was published, in ticks of the hub's clock.
    pub(crate) born: u64,
    /// Its number among those that came late; 0 if it was in time.
    late: u32,
}

#[derive(Debug, Clone, Default)]
struct List {
    frames: Vec<Kept>,
    /// How many came late.
    late: u32,
}

/// What a reader knows of those that came late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known(u32);

#[derive(Debug)]
pub(crate) struct Controls {
    list: LateCowCell<List>,
}

impl Controls {
    pub(crate) fn new() -> Self {
        Self {
            list: LateCowCell::new(),
        }
    }

    /// Keeps what an evicted segment holds: frames with their offsets, made at about `born`.
    #[cold]
    pub(crate) fn keep(&self, frames: &[(u64, Frame)], born: u64) {
        self.update(|list| {
            for (offset, frame) in frames {
                list.insert(*offset, frame, born, 0);
            }
        });
    }

    /// Keeps a frame whose segment was evicted before it was filled (K3).
    #[cold]
    pub(crate) fn keep_late(&self, offset: u64, frame: &Frame, born: u64) {
        self.update(|list| {
            list.late += 1;
            list.insert(offset, frame, born, list.late);
        });
    }

    fn update(&self, change: impl Fn(&mut List)) {
        self.list.rcu(|list| {
            let mut list = list.map(|list| List::clone(list)).unwrap_or_default();
            change(&mut list);
            list.bound();
            Some(Arc::new(list))
        });
    }

    /// What is here now.
    #[cold]
    pub(crate) fn look(&self) -> Seen {
        let list = self.list.load_full();
        Seen {
            known: Known(list.as_ref().map_or(0, |list| list.late)),
            list,
        }
    }

    /// Whether any came late since.
    #[cold]
    pub(crate) fn has_late(&self, known: Known) -> bool {
        self.look().known != known
    }

    /// Whether any is kept.
    pub(crate) fn any(&self) -> bool {
        let list = self.list.load_full();
        list.is_some_and(|list| !list.frames.is_empty())
    }

    /// When the oldest one was made, in ticks.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let list = self.list.load_full()?;
        list.frames.iter().map(|kept| kept.born).min()
    }

    /// Lets those go that `over` names.
    pub(crate) fn forget(&self, over: impl Fn(&Kept) -> bool) {
        let list = self.list.load_full();
        if list.is_some_and(|list| list.frames.iter().any(&over)) {
            self.update(|list| list.frames.retain(|kept| !over(kept)));
        }
    }
}

/// What was here at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    list: Option<Arc<List>>,
    pub(crate) known: Known,
}

impl Seen {
    fn frames(&self) -> impl Iterator<Item = &Kept> {
        self.list.iter().flat_map(|list| list.frames.iter())
    }

    /// Those of a range of offsets, in order.
    pub(crate) fn of(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, Frame)> {
        let of_range = self.frames().filter(|it| range.contains(&it.offset));
        of_range.map(|it| (it.offset, it.frame.clone()))
    }

    /// Those of some ranges of offsets that came late since `known`, in order.
    pub(crate) fn late(
        &self,
        known: Known,
        ranges: &[Range<u64>],
    ) -> impl Iterator<Item = (u64, Frame)> {
        let late = self.frames().filter(move |it| it.late > known.0);
        late.filter(|it| ranges.iter().any(|range| range.contains(&it.offset)))
            .map(|it| (it.offset, it.frame.clone()))
    }
}

impl List {
    /// K2
    fn insert(&mut self, offset: u64, frame: &Frame, born: u64, late: u32) {
        // One that is too large alone would push out all others, and itself.
        if frame.retained_bytes() > MAX_BYTES {
            return;
        }
        if let Err(at) = self.frames.binary_search_by_key(&offset, |it| it.offset) {
            let kept = Kept {
                offset,
                frame: frame.clone(),
                born,
                late,
            };
            self.frames.insert(at, kept);
        }
    }

    /// The oldest go first.
    fn bound(&mut self) {
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            bytes += kept.frame.retained_bytes();
            bytes <= MAX_BYTES
        };
        let newest = self.frames.iter().rev().take(MAX_FRAMES);
        let kept = newest.take_while(fits).count();
        self.frames.drain(..self.frames.len() - kept);
    }
}
