//! One connection of a shard: where its socket is and where it stands.
//!
//! **Invariant.** K1: a connection that has got all that its topics' walks gave it is *in sync* and has no place of its
//! own: it stands where its topic stands. One whose socket was full is *behind* in all of its topics, and only then has
//! a place in each, what is left of the entry in the middle, and a deadline.

use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;

use super::batch::End;
use super::view::{Pieces, push};
use crate::ending::EndReason;
use crate::position::Position;
use crate::subscription::Subscription;

/// Names a connection of a shard; stale once the connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Where a connection in sync is found among a topic's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: u32,
    pub(super) member: u32,
}

#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) id: u64,
    pub(super) generation: u32,
    /// Bytes that came in and were dropped.
    pub(super) received: u32,
    pub(super) state: State<S>,
    /// Whether the wheel holds a timer of it.
    pub(super) timed: bool,
}

#[derive(Debug)]
pub(super) enum State<S> {
    /// In sync on one topic, whose member holds the socket.
    One(Place),
    /// In sync on several topics, or with an envelope.
    Many(Box<Many<S>>),
    Behind(Box<Behind<S>>),
}

#[derive(Debug)]
pub(super) struct Many<S> {
    pub(super) socket: S,
    pub(super) places: Vec<Place>,
    /// Whether one of its topics has an envelope.
    pub(super) wrapped: bool,
}

#[derive(Debug)]
pub(super) struct Behind<S> {
    pub(super) socket: S,
    /// What is left of the entry in the middle, or of the opening.
    pub(super) rest: Rest,
    pub(super) streams: SmallVec<[Stream; 1]>,
    /// The tick at which the socket last took a byte.
    pub(super) progress: u64,
    /// Whether it stands in the queue of those that can go on.
    pub(super) queued: bool,
    /// Whether it stands in the `ahead` of its crowds: it waits for nothing but their subscriptions.
    pub(super) waits: bool,
    /// Whether one of its topics has an envelope.
    pub(super) wrapped: bool,
    /// The connection ends when `rest` is sent.
    pub(super) end: Option<End>,
    /// Why it was asked to leave, if it was: it ends when each of its streams has come to its goal.
    pub(super) leaving: Option<EndReason>,
}

/// A topic of a connection that is behind.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) topic: u32,
    pub(super) position: Position,
    /// Of one that has not caught up since it came: keeps for it what it has not read.
    pub(super) own: Option<Subscription>,
    /// Of one that leaves: where the log ended when it was asked to.
    pub(super) goal: u64,
    /// Whether it stands before a hole that the subscription has passed: it looks again when that one has been woken.
    pub(super) hole: bool,
    /// Whether it stands in the `ahead` of its crowd.
    pub(super) listed: bool,
}

/// Bytes that must follow what a socket took. Those of a large frame are shared with others.
#[derive(Debug, Default)]
pub(super) struct Rest {
    first: Bytes,
    /// Of a large frame in an envelope: what comes next.
    next: Option<Box<[Bytes; 2]>>,
}

impl From<Bytes> for Rest {
    fn from(first: Bytes) -> Self {
        Self { first, next: None }
    }
}

impl Rest {
    /// A large frame in its envelope.
    pub(super) fn wrapped(head: Bytes, payload: Bytes, tail: Bytes) -> Self {
        Self {
            first: head,
            next: Some(Box::new([payload, tail])),
        }
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        let next = self.next.iter().flat_map(|next| next.iter());
        self.first.len() + next.map(Bytes::len).sum::<usize>()
    }

    /// All of it, if that is one piece.
    pub(super) fn in_one(&self) -> Option<&[u8]> {
        self.next.is_none().then_some(&self.first)
    }

    pub(super) fn pieces<'a>(&'a self, into: &mut Pieces<'a>) {
        push(into, &self.first);
        for next in self.next.iter().flat_map(|next| next.iter()) {
            push(into, next);
        }
    }

    /// So many bytes were sent, not more than there are.
    pub(super) fn advance(&mut self, mut sent: usize) {
        let next = self.next.iter_mut().flat_map(|next| next.iter_mut());
        for piece in std::iter::once(&mut self.first).chain(next) {
            let of_it = sent.min(piece.len());
            piece.advance(of_it);
            sent -= of_it;
        }
        debug_assert!(sent == 0, "no more than there is");
    }
}
