//! What one connection gets of a batch.
//!
//! **Role.** A [`View`] begins at some entry of a shared [`Batch`] and may have an envelope around the payload of each
//! frame. Bytes are counted as the connection gets them. A plain view is a slice of the batch; a wrapped one is sent piece by
//! piece out of the batch and the envelope, in one gathering write, and no payload is copied for it.
//!
//! **Invariant.** V1: a send takes at most [`ENTRIES_PER_SEND`] entries of a wrapped view, so the system's limit of pieces is
//! never met. The rest is for the next send: the connection then stands between two entries.

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::batch::{Batch, Cut};
use super::connection::Rest;
use super::socket::Socket;
use crate::envelope::Envelope;
use crate::transport::sse::BLOCK_END;

/// With four pieces each, the end, and up to three of another entry that is left: [`MOST_PIECES`].
const ENTRIES_PER_SEND: usize = 127;
/// Half of the 1024 that systems take at once.
const MOST_PIECES: usize = 512;

/// Pieces of one gathering write: on the stack, without an allocation. Functions that have them are not inlined into those
/// that serve plain connections too.
pub(super) type Pieces<'a> = SmallVec<[IoSlice<'a>; MOST_PIECES]>;

#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    batch: &'a Batch,
    /// The first entry.
    first: usize,
    envelope: Option<&'a Envelope>,
}

impl<'a> View<'a> {
    pub(super) fn new(batch: &'a Batch, first: usize, envelope: Option<&'a Envelope>) -> Self {
        // Notices are not wrapped.
        let envelope = envelope.filter(|_| batch.has_frames());
        Self {
            batch,
            first,
            envelope,
        }
    }

    pub(super) fn batch(&self) -> &'a Batch {
        self.batch
    }

    /// All of it in one piece, if it is plain.
    pub(super) fn plain(&self) -> Option<&'a [u8]> {
        match self.envelope {
            None => Some(&self.batch.bytes()[self.batch.begin_of(self.first)..]),
            Some(_) => None,
        }
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.before(self.batch.entries())
    }

    /// Bytes before an entry.
    fn before(&self, entry: usize) -> usize {
        let bytes = self.batch.begin_of(entry) - self.batch.begin_of(self.first);
        let around = self
            .envelope
            .map_or(0, |it| it.prefix().len() + it.suffix().len());
        bytes + around * (self.batch.frames_before(entry) - self.batch.frames_before(self.first))
    }

    /// Adds what one send takes. Tells how many bytes that is.
    pub(super) fn pieces(&self, into: &mut Pieces<'a>) -> usize {
        let batch = self.batch;
        let Some(envelope) = self.envelope else {
            let bytes = &batch.bytes()[batch.begin_of(self.first)..];
            push(into, bytes);
            return bytes.len();
        };
        let bytes = batch.bytes();
        let until = batch.entries().min(self.first + ENTRIES_PER_SEND);
        // What stands between two payloads goes in one piece.
        let mut between = batch.begin_of(self.first);
        for entry in self.first..until {
            if let Some(payload) = batch.payload_of(entry) {
                push(into, &bytes[between..payload]);
                push(into, envelope.prefix().as_bytes());
                between = batch.begin_of(entry + 1) - BLOCK_END;
                push(into, &bytes[payload..between]);
                push(into, envelope.suffix().as_bytes());
            }
        }
        push(into, &bytes[between..batch.begin_of(until)]);
        self.before(until)
    }

    /// Sends once. Tells how many bytes it tried to send, and how many were taken.
    ///
    /// # Errors
    ///
    /// As [`Socket::send`].
    #[inline(never)]
    pub(super) fn send<S: Socket>(&self, socket: &mut S) -> io::Result<(usize, usize)> {
        let mut pieces = Pieces::new();
        let tried = self.pieces(&mut pieces);
        Ok((tried, socket.send_pieces(&pieces)?))
    }

    /// Where a reader stands whose socket took `sent` bytes, fewer than all.
    pub(super) fn cut(&self, sent: usize) -> Cut {
        let batch = self.batch;
        // The first entry that is not sent whole.
        let (mut entry, mut after) = (self.first, batch.entries());
        while entry < after {
            let middle = entry.midpoint(after);
            if self.before(middle + 1) <= sent {
                entry = middle + 1;
            } else {
                after = middle;
            }
        }
        let sent = sent - self.before(entry);
        if entry < batch.ahead() && (entry, sent) != (self.first, 0) {
            // B2 of `batch`.
            return Cut {
                rest: self.rest_ahead(entry, sent),
                offset: batch.offset_after(batch.ahead()),
                end: batch.end().filter(|_| batch.ahead() == batch.entries()),
            };
        }
        if sent == 0 {
            // Between two entries.
            return Cut {
                rest: Rest::default(),
                offset: batch.offset_after(entry),
                end: None,
            };
        }
        Cut {
            rest: self.rest_of(entry, sent),
            offset: batch.offset_after(entry + 1),
            end: batch.end().filter(|_| entry + 1 == batch.entries()),
        }
    }

    /// What is left of the entries before those that have a place.
    #[cold]
    fn rest_ahead(&self, entry: usize, sent: usize) -> Rest {
        let batch = self.batch;
        let mut all = BytesMut::new();
        for entry in entry..batch.ahead() {
            let (begin, end) = (batch.begin_of(entry), batch.begin_of(entry + 1));
            let bytes = batch.bytes();
            let Some((envelope, payload)) = self.envelope.zip(batch.payload_of(entry)) else {
                all.extend_from_slice(&bytes[begin..end]);
                continue;
            };
            all.extend_from_slice(&bytes[begin..payload]);
            all.extend_from_slice(envelope.prefix().as_bytes());
            all.extend_from_slice(&bytes[payload..end - BLOCK_END]);
            all.extend_from_slice(envelope.suffix().as_bytes());
            all.extend_from_slice(&bytes[end - BLOCK_END..end]);
        }
        Rest::from(all.freeze().slice(sent..))
    }

    /// What is left of an entry. A large frame stays shared.
    fn rest_of(&self, entry: usize, sent: usize) -> Rest {
        let batch = self.batch;
        let (begin, end) = (batch.begin_of(entry), batch.begin_of(entry + 1));
        let Some((envelope, payload)) = self.envelope.zip(batch.payload_of(entry)) else {
            let rest = begin + sent..end;
            return Rest::from(match batch.shared() {
                Some(shared) => shared.slice(rest),
                None => Bytes::copy_from_slice(&batch.bytes()[rest]),
            });
        };
        let (bytes, last) = (batch.bytes(), end - BLOCK_END);
        let mut head = BytesMut::from(&bytes[begin..payload]);
        head.extend_from_slice(envelope.prefix().as_bytes());
        let mut tail = BytesMut::from(envelope.suffix().as_bytes());
        tail.extend_from_slice(&bytes[last..end]);
        let mut rest = if let Some(shared) = batch.shared() {
            Rest::wrapped(head.freeze(), shared.slice(payload..last), tail.freeze())
        } else {
            head.extend_from_slice(&bytes[payload..last]);
            head.extend_from_slice(&tail);
            Rest::from(head.freeze())
        };
        rest.advance(sent);
        rest
    }
}

/// Adds a piece, unless it is empty.
pub(super) fn push<'a>(pieces: &mut Pieces<'a>, bytes: &'a [u8]) {
    if !bytes.is_empty() {
        pieces.push(IoSlice::new(bytes));
    }
}
