//! The connections of one shard that are in sync on one topic, and the walk that serves them.
//!
//! **Role.** A [`Crowd`] reads its topic once for all its members. A *walk* sends one batch to each member; it is done in
//! turns, and members come and go between them.
//!
//! **State.**
//!
//! ```text
//!  members  [ m m m m m m | m m m m m m ]
//!             got it      ^ position     still to get it
//! ```
//!
//! **Invariants.**
//! * C1: members before `position` stand at the batch's end, where the subscription stands; the others at its beginning.
//! * C2: who joins stands where the subscription stands, and so comes in before `position`.
//! * C3: a removal moves at most two members, each within its own side of `position`.
//! * C4: while a walk goes on, or a member is behind, the subscription holds: the log is told of nothing as read.

use std::io;
use std::task::{Context, Poll, Waker};

use super::batch::{Batch, End};
use super::connection::Key;
use super::inbox::Clear;
use super::socket::Socket;
use super::view::View;
use crate::position::Position;
use crate::subscription::{Readiness, Subscription};
use crate::sync::HostArc;

/// A member in sync. It has the socket, unless the connection has several topics or an envelope.
#[derive(Debug)]
pub(super) struct Member<S> {
    pub(super) socket: Option<S>,
    pub(super) connection: u32,
}

pub(super) struct Crowd<S> {
    pub(super) feed: Subscription,
    waker: Waker,
    signal: HostArc<dyn Clear>,
    pub(super) members: Vec<Member<S>>,
    /// Members that are to get the batch stand at or after this.
    pub(super) position: usize,
    pub(super) batch: Option<Box<Batch>>,
    /// Connections that are behind here.
    behind: usize,
    /// Connections that stand after the subscription, and where: they go on when it has come that far. Also those before a hole,
    /// which look again when it has been woken.
    ahead: Vec<(Key, u64)>,
    /// Whether it stands in the queue of topics that have work.
    pub(super) queued: bool,
    /// Whether it may have been idle for too long: seen to on its next turn.
    pub(super) expired: bool,
    /// The tick of the last batch that was more than a sign of life.
    pub(super) last_event: u64,
    /// Connections that there were when the drain of the hub began.
    pub(super) to_leave: Option<usize>,
    /// Connections that were asked to leave and are not gone. They are behind.
    pub(super) leaving: usize,
    /// Whether those that are behind were asked as well, and who falls behind is.
    pub(super) asked_behind: bool,
}

/// A member that a change has moved: its connection must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) connection: u32,
    pub(super) member: u32,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "members are connections, which are numbered by 32 bits"
)]
const fn narrow(member: usize) -> u32 {
    member as u32
}

/// How much may be done before others have their turn.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) sends: usize,
    pub(super) bytes: usize,
}

impl Budget {
    pub(super) fn is_spent(&self) -> bool {
        self.sends == 0 || self.bytes == 0
    }

    /// A part of it, for one topic.
    pub(super) fn share(&mut self, sends: usize, bytes: usize) -> Self {
        let share = Self {
            // The look at the topic was counted; one send is granted with it.
            sends: sends.min(self.sends.max(1)),
            bytes: bytes.min(self.bytes),
        };
        self.sends = self.sends.saturating_sub(share.sends);
        self.bytes -= share.bytes;
        share
    }

    /// What is left of a share.
    pub(super) fn return_share(&mut self, share: &Self) {
        self.sends += share.sends;
        self.bytes += share.bytes;
    }

    /// Takes one send of so many bytes. At least one is granted, whatever its size.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        if self.is_spent() {
            return false;
        }
        self.sends -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// Why a walk stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// All members have the batch.
    Done,
    /// Others have their turn.
    Paused,
    /// The member at the position has its socket elsewhere.
    Elsewhere,
    /// What came of the member at the position, which is still there.
    At(Sent),
}

/// What came of a send that did not simply succeed.
#[derive(Debug)]
pub(super) enum Sent {
    /// All of it, and the stream ends here.
    Last(End),
    /// So many bytes, fewer than all: the socket is full.
    Part(usize),
    /// So many bytes, fewer than all: there is more than goes into one send.
    More(usize),
    Failed(io::Error),
}

/// Sends a batch. `None`: all of it, and the stream goes on.
fn send<S: Socket>(socket: &mut S, batch: &Batch) -> Option<Sent> {
    let bytes = batch.bytes();
    loop {
        let sent = if bytes.is_empty() {
            Ok(0)
        } else {
            socket.send(bytes)
        };
        return match sent {
            Ok(sent) if sent == bytes.len() => batch.end().map(Sent::Last),
            Ok(sent) => Some(Sent::Part(sent)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => not_sent(error, batch),
        };
    }
}

/// Sends what a connection gets of a batch that has its socket elsewhere. `None`: as for [`send`].
pub(super) fn send_view<S: Socket>(socket: &mut S, view: &View<'_>) -> Option<Sent> {
    let batch = view.batch();
    if view.plain().is_some() {
        return send(socket, batch);
    }
    loop {
        return match view.send(socket) {
            Ok((_, sent)) if sent == view.len() => batch.end().map(Sent::Last),
            Ok((tried, sent)) if sent == tried => Some(Sent::More(sent)),
            Ok((_, sent)) => Some(Sent::Part(sent)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => not_sent(error, batch),
        };
    }
}

fn not_sent(error: io::Error, batch: &Batch) -> Option<Sent> {
    match error.kind() {
        // A full socket needs no sign of life.
        io::ErrorKind::WouldBlock if batch.is_heartbeat() => None,
        io::ErrorKind::WouldBlock => Some(Sent::Part(0)),
        _ => Some(Sent::Failed(error)),
    }
}

impl<S: Socket> Crowd<S> {
    /// Goes on with the walk.
    pub(super) fn walk(&mut self, budget: &mut Budget) -> Stop {
        let Some(batch) = &self.batch else {
            return Stop::Done;
        };
        let bytes = batch.bytes().len();
        while let Some(member) = self.members.get_mut(self.position) {
            let Some(socket) = &mut member.socket else {
                return Stop::Elsewhere;
            };
            if !budget.take(bytes) {
                return Stop::Paused;
            }
            match send(socket, batch) {
                None => self.position += 1,
                Some(sent) => return Stop::At(sent),
            }
        }
        Stop::Done
    }
}

impl<S> Crowd<S> {
    pub(super) fn new(
        feed: Subscription,
        (waker, signal): (Waker, HostArc<dyn Clear>),
        now: u64,
    ) -> Self {
        Self {
            feed,
            waker,
            signal,
            members: Vec::new(),
            position: 0,
            batch: None,
            behind: 0,
            ahead: Vec::new(),
            queued: false,
            expired: false,
            last_event: now,
            to_leave: None,
            leaving: 0,
            asked_behind: false,
        }
    }

    /// Connections that read here, in sync or behind.
    pub(super) fn connections(&self) -> usize {
        self.members.len() + self.behind
    }

    /// The signal was heard: what is published from here on signals again.
    pub(super) fn heard(&self) {
        self.signal.clear();
    }

    /// Nobody reads here any more.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.behind == 0
    }

    /// Where a member stands.
    pub(super) fn offset_of(&self, member: u32) -> u64 {
        match &self.batch {
            Some(batch) if member as usize >= self.position => batch.from(),
            _ => self.feed.offset(),
        }
    }

    /// Takes in a member that stands where the subscription stands. Tells its place, and who had to move (C2).
    pub(super) fn join(&mut self, member: Member<S>) -> (u32, Option<Moved>) {
        let last = self.members.len();
        self.members.push(member);
        if self.batch.is_none() {
            return (narrow(last), None);
        }
        let at = self.position;
        self.members.swap(at, last);
        self.position += 1;
        (narrow(at), self.moved(last).filter(|_| at != last))
    }

    /// Takes a member out. Tells who had to move (C3).
    pub(super) fn leave(&mut self, member: u32) -> (Option<Member<S>>, [Option<Moved>; 2]) {
        let mut hole = member as usize;
        if hole >= self.members.len() {
            return (None, [None, None]);
        }
        let mut moved = [None, None];
        if self.batch.is_some() && hole < self.position {
            self.position -= 1;
            let edge = self.position;
            self.members.swap(hole, edge);
            if hole != edge {
                moved[0] = self.moved(hole);
            }
            hole = edge;
        }
        let left = self.members.swap_remove(hole);
        moved[1] = self.moved(hole);
        if self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.members.len() * 2);
        }
        (Some(left), moved)
    }

    fn moved(&self, member: usize) -> Option<Moved> {
        self.members.get(member).map(|at| Moved {
            connection: at.connection,
            member: narrow(member),
        })
    }

    /// Looks whether there is something to tell. If not, the subscription is parked and signals, also if it has ended.
    pub(super) fn look(&mut self) -> Option<Readiness> {
        debug_assert!(self.batch.is_none(), "one walk at a time");
        let mut skimmed = false;
        loop {
            let found = self.feed.poll_ready(&mut Context::from_waker(&self.waker));
            let Poll::Ready(found) = found else {
                return None;
            };
            if !self.members.is_empty() {
                return Some(found);
            }
            match found {
                // Publishers are as fast: the rest is for another turn.
                Readiness::Readable if skimmed => return Some(found),
                // Nobody is in sync: those who are behind read for themselves up to where the subscription stands.
                Readiness::Readable => {
                    self.feed.hold(true);
                    let (topic, position) = self.feed.parts();
                    position.skim(topic);
                    skimmed = true;
                    self.settle();
                }
                Readiness::Heartbeat => {}
                // It would end again and again. A publisher that had its place before may still be held up.
                Readiness::Closed => {
                    self.feed.park_ended(&self.waker);
                    return None;
                }
            }
        }
    }

    /// Begins the walk that tells what was found.
    #[expect(clippy::vec_box, reason = "the boxes are taken as they are")]
    pub(super) fn begin(
        &mut self,
        found: Readiness,
        spare: &mut Vec<Box<Batch>>,
        limit: usize,
        now: u64,
    ) {
        let mut batch = spare.pop().unwrap_or_default();
        match found {
            Readiness::Heartbeat => batch.heartbeat(self.feed.offset()),
            Readiness::Closed => batch.closing(self.feed.offset(), End::Closed),
            Readiness::Readable => {
                // C4
                self.feed.hold(true);
                let (topic, position) = self.feed.parts();
                batch.gather(topic, position, u64::MAX, limit);
                if batch.end() == Some(End::Lagged) {
                    // Those who have lagged end, by this walk. The subscription goes on for those who come.
                    *position = Position::at(batch.to(), position.on_lag);
                }
                self.last_event = now;
            }
        }
        self.position = 0;
        self.batch = Some(batch);
    }

    /// Has `key` wait until the subscription has had its turn and stands at `offset`, or behind.
    pub(super) fn wait_for(&mut self, key: Key, offset: u64) {
        self.ahead.push((key, offset));
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.ahead.len()
    }

    /// Who waited, and waits no more. `is_listed`: whether a connection is still there, behind, and noted as waiting here.
    pub(super) fn reached(&mut self, is_listed: impl Fn(Key) -> bool) -> Vec<Key> {
        // Of one that has ended, nothing is to come to those who have caught up either.
        let stands = self.feed.offset() + u64::from(self.feed.is_ended());
        let mut reached = Vec::new();
        self.ahead.retain(|&(key, offset)| {
            let waits = offset > stands && is_listed(key);
            if offset <= stands {
                reached.push(key);
            }
            waits
        });
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        reached
    }

    /// Begins a walk that ends the streams of all members.
    pub(super) fn begin_end(&mut self, end: End) {
        debug_assert!(self.batch.is_none(), "one walk at a time");
        let mut batch = Box::<Batch>::default();
        batch.closing(self.feed.offset(), end);
        self.position = 0;
        self.batch = Some(batch);
    }

    /// Ends the walk. Gives its batch back.
    pub(super) fn finish(&mut self) -> Option<Box<Batch>> {
        self.position = 0;
        let batch = self.batch.take();
        self.settle();
        batch
    }

    pub(super) fn fell_behind(&mut self) {
        self.behind += 1;
        self.feed.hold(true);
    }

    /// One that was behind is in sync again, or gone.
    pub(super) fn no_longer_behind(&mut self) {
        self.behind -= 1;
        self.settle();
    }

    /// C4
    fn settle(&mut self) {
        if self.behind == 0 && self.batch.is_none() {
            self.feed.hold(false);
        }
    }
}
