//! The frames that were visible at one time, and which of them a reader wants.
//!
//! **State.** A verdict for each frame from `from` on. Up to `until` it is decided which are the newest of their kind; behind
//! that the filters have judged, and newer ones may still be missing.

use std::collections::{HashSet, VecDeque};

use crate::frame::{Frame, FrameRef};

/// A window that is through gives back the memory of more verdicts than this.
const KEPT_VERDICTS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wanted,
    Unwanted,
    /// There is a newer one of its kind.
    Superseded,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    from: u64,
    until: u64,
    verdicts: VecDeque<Verdict>,
}

impl Window {
    pub(super) fn clear(&mut self) {
        (self.from, self.until) = (0, 0);
        self.verdicts.clear();
        if self.verdicts.capacity() > KEPT_VERDICTS {
            self.verdicts = VecDeque::new();
        }
    }

    /// Drops what stands before `at`. Tells whether `at` is decided.
    pub(super) fn stand(&mut self, at: u64) -> bool {
        if at < self.from || at >= self.judged() {
            self.clear();
            (self.from, self.until) = (at, at);
        }
        while self.from < at {
            self.from += 1;
            self.verdicts.pop_front();
        }
        self.until = self.until.max(at);
        at < self.until
    }

    /// The offset after the last one that it has a verdict on.
    pub(super) fn judged(&self) -> u64 {
        self.from + self.verdicts.len() as u64
    }

    pub(super) fn until(&self) -> u64 {
        self.until
    }

    pub(super) fn push_unwanted(&mut self) {
        self.verdicts.push_back(Verdict::Unwanted);
    }

    /// The last one is wanted after all.
    pub(super) fn want(&mut self) {
        if let Some(last) = self.verdicts.back_mut() {
            *last = Verdict::Wanted;
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.until < self.judged()
    }

    /// Finds out which are superseded. `frames` begin where the window does.
    pub(super) fn decide<'g>(
        &mut self,
        frames: impl Iterator<Item = FrameRef<'g>>,
        kind: impl Fn(&Frame) -> Option<&str>,
    ) {
        self.until = self.judged();
        // Nearly always there is one.
        if self.verdicts.len() < 2 {
            return;
        }
        let wanted: Vec<_> = self
            .verdicts
            .iter_mut()
            .zip(frames)
            .filter(|(verdict, _)| **verdict == Verdict::Wanted)
            .collect();
        let mut newer = HashSet::new();
        let superseded: Vec<bool> = wanted
            .iter()
            .rev()
            .map(|(_, frame)| kind(frame).is_some_and(|kind| !newer.insert(kind)))
            .collect();
        drop(newer);
        for ((verdict, _), superseded) in wanted.into_iter().rev().zip(superseded) {
            if superseded {
                *verdict = Verdict::Superseded;
            }
        }
    }

    /// The verdict on the first one. None: it was evicted before it was judged.
    pub(super) fn first(&self) -> Option<Verdict> {
        self.verdicts.front().copied()
    }
}
