//! Frames of one range of offsets, gathered once for all connections that stand at its beginning.
//!
//! **Role.** A [`Batch`] is the bytes of one write, and where each entry in them ends: so a connection whose socket
//! took a part of it knows which offset it stands at and what is left of the entry in the middle. A [`View`](super::view::View)
//! is what one connection gets of it: from some entry on, and with its envelope around each payload.
//!
//! **Invariants.**
//! * B1: an entry is a notice (of lag, or a sign of life), a control frame of what was missed, or one frame; they come in this
//!   order, and the frames have offsets without gaps. So the place after an entry follows from its number.
//! * B2: what comes before the frames has no place of its own. Whoever got a part of it gets the rest, whatever happens.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::connection::Rest;
use crate::ending::EndReason;
use crate::log::{Reader, Step};
use crate::position::{Position, State};
use crate::sync::epoch;
use crate::topic::TopicCore;
use crate::transport::sse::{HEARTBEAT, write_lag};

/// Buffers larger than this are given back as soon as they were sent.
const KEPT_BYTES: usize = 64 * 1024;

/// A frame of at least this many bytes is a batch of its own and is shared, not copied: what connections keep of it when
/// their sockets are full is kept once.
const SHARE_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Batch {
    copied: BytesMut,
    /// Instead of `copied`: one large frame.
    shared: Option<Bytes>,
    entries: Vec<Entry>,
    /// Notices, which are in no envelope.
    notices: usize,
    /// Control frames of what was missed.
    lost: usize,
    /// Where a reader stands before the batch.
    from: u64,
    /// The offset of the first frame.
    first: u64,
    /// Where a reader stands after the batch.
    to: u64,
    /// Whether the stream ends with this batch, and why.
    end: Option<End>,
}

/// Places in the bytes of a batch.
#[derive(Debug, Clone, Copy)]
struct Entry {
    end: u32,
    /// Where the payload of a frame begins.
    payload: u32,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The topic was closed, and all of it was read.
    Closed,
    /// The reader lagged, and its policy is to end then.
    Lagged,
    /// Nothing was published for too long.
    Idle,
    /// It was ended from outside, and the client is yet to be told.
    Ending(EndReason),
    /// The same, and it is told in what is left to be sent.
    Ended(EndReason),
}

/// What is left of an entry that was sent in part, and the offset after it.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) rest: Rest,
    pub(super) offset: u64,
    /// Whether nothing follows the entry.
    pub(super) end: Option<End>,
}

impl Batch {
    pub(super) fn bytes(&self) -> &[u8] {
        self.shared.as_deref().unwrap_or(&self.copied)
    }

    /// Where a reader stands who gets the batch.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    pub(super) fn to(&self) -> u64 {
        self.to
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    pub(super) fn shared(&self) -> Option<&Bytes> {
        self.shared.as_ref()
    }

    /// How many it has.
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn has_frames(&self) -> bool {
        self.entries.len() > self.notices
    }

    /// How many entries come before the frames that have a place (B2).
    pub(super) fn ahead(&self) -> usize {
        self.notices + self.lost
    }

    /// How many frames come before an entry, with those that were missed.
    pub(super) fn frames_before(&self, entry: usize) -> usize {
        entry.saturating_sub(self.notices)
    }

    /// Where the payload of an entry begins, in bytes, if it is a frame.
    pub(super) fn payload_of(&self, entry: usize) -> Option<usize> {
        let entry = self.entries.get(entry).filter(|_| entry >= self.notices)?;
        Some(entry.payload as usize)
    }

    /// Whether it is a sign of life and nothing else.
    pub(super) fn is_heartbeat(&self) -> bool {
        self.from == self.to && self.notices == 1 && self.end.is_none()
    }

    /// Gives back what a rare large batch needed.
    pub(super) fn shrink(&mut self) {
        self.shared = None;
        if self.copied.capacity() > KEPT_BYTES {
            self.copied = BytesMut::new();
        }
    }

    fn reset(&mut self, offset: u64) {
        self.copied.clear();
        self.shared = None;
        self.entries.clear();
        (self.notices, self.lost) = (0, 0);
        (self.from, self.first, self.to) = (offset, offset, offset);
        self.end = None;
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a frame is below 4 GiB and alone in its batch if it is large"
    )]
    fn end_entry(&mut self, payload: usize) {
        self.entries.push(Entry {
            end: self.bytes().len() as u32,
            payload: payload as u32,
        });
    }

    /// A notice has no payload.
    fn end_notice(&mut self) {
        self.end_entry(0);
    }

    /// A sign of life for readers at `offset`.
    pub(super) fn heartbeat(&mut self, offset: u64) {
        self.reset(offset);
        self.copied.put_slice(HEARTBEAT);
        self.notices = 1;
        self.end_notice();
    }

    /// The end of a stream, for readers at `offset`.
    pub(super) fn closing(&mut self, offset: u64, end: End) {
        self.reset(offset);
        self.end = Some(end);
    }

    /// Takes what a reader at `position` finds below `until`, up to `limit` bytes and a frame, and moves the position on.
    pub(super) fn gather(
        &mut self,
        topic: &TopicCore,
        position: &mut Position,
        until: u64,
        limit: usize,
    ) {
        self.reset(position.offset());
        let guard = epoch::pin();
        let from = position.lost_from();
        let (lag, _) = position.settle(topic, &guard);
        if let Some(lag) = lag {
            let lost = position.lost_controls(topic, from, &guard).frames;
            // As in a body: they have ids of their own.
            let with_id = topic.config().event_ids && lost.is_empty();
            write_lag(&mut self.copied, lag, with_id, position.on_lag);
            self.notices = 1;
            self.end_notice();
            self.lost = lost.len();
            for frame in &lost {
                let payload = self.copied.len() + frame.prefix_at();
                self.copied.put_slice(frame.as_sse());
                self.end_entry(payload);
            }
            self.first = position.offset();
            if position.state.is_ended() {
                self.end = Some(End::Lagged);
            }
        }
        let until = until.min(topic.log.end(&guard));
        if position.state == State::Reading {
            let mut reader = Reader::new(&topic.log, &guard, &mut position.cursor);
            while reader.offset() < until && self.copied.len() < limit {
                // Lag in the middle ends the batch; the next one tells of it.
                let Step::Frame(frame) = reader.peek() else {
                    break;
                };
                let large = frame.len() >= SHARE_BYTES;
                if large && !self.entries.is_empty() {
                    break;
                }
                let payload = self.copied.len() + frame.prefix_at();
                if large {
                    self.shared = Some(frame.to_bytes());
                } else {
                    self.copied.put_slice(frame.as_sse());
                }
                self.end_entry(payload);
                // What was seen under this pin is there under this pin.
                let _ = reader.step_in_order();
                if large {
                    break;
                }
            }
        }
        self.to = position.offset();
        crate::log::flush_retired(&guard);
    }

    /// The part for a reader that stands at `offset`, if that is a place between two entries of this batch and no
    /// notice is missed by beginning there: how many entries come before it.
    pub(super) fn skip_to(&self, offset: u64) -> Option<usize> {
        if offset == self.from && (self.ahead() == 0 || offset < self.first) {
            return Some(0);
        }
        if offset < self.first || offset >= self.to {
            return None;
        }
        let before = usize::try_from(offset - self.first).ok()? + self.ahead();
        (before <= self.entries.len()).then_some(before)
    }

    /// Where an entry begins, in bytes; where the last one ends, for the one after it.
    pub(super) fn begin_of(&self, entry: usize) -> usize {
        entry
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].end as usize)
    }

    /// The offset after so many entries.
    pub(super) fn offset_after(&self, entries: usize) -> u64 {
        match entries.checked_sub(self.ahead()) {
            _ if entries == 0 => self.from,
            None | Some(0) => self.first,
            Some(frames) => self.first + frames as u64,
        }
    }
}
