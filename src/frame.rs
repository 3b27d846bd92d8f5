//! One immutable encoded event, cheap to clone.
//!
//! **Role.** A frame is one allocation behind a thin pointer: a count, the layout, and the bytes of the event in
//! `text/event-stream` form, of which the payload is a sub-slice.
//!
//! ```text
//!            ┌ start (moves with the number of digits)
//!  ┌─────────┴──────────────────────────┬─────────────┬───────────────────────────┬────┐
//!  │ …… id: <epoch>-<offset>\n          │ event: …\n  │ data: {"payload":true}\n  │ \n │
//!  └────────────────────────────────────┴─────────────┴───────────────────────────┴────┘
//!    ID_SPACE bytes, only with ids       fields_at     data_at └── payload ──────┘
//! ```
//!
//! Behind the block stands the *tail*, which no client gets: the key, and then who sent the event, if it has them.
//!
//! **Invariants.** F1: until it is in a log a frame has one owner, who alone writes the id into the space left for
//! it. F2: after that nothing in it changes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

use bytes::Bytes;
use triomphe::{Arc as FlatArc, ThinArc};

use crate::encode::{DATA_FIELD, ID_FIELD, ID_SPACE, NAME_FIELD, write_id};
use crate::event_id::EventId;
use crate::memory::{Charge, Memory, allocated};
use crate::reader_id::ReaderId;
use crate::sync::Witness;

/// Where the parts of an encoded event stand, in bytes from the start of its buffer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// The first field after the id: also the size of the space for the id.
    pub(crate) fields_at: usize,
    /// Length of the name; 0 without one.
    pub(crate) name_len: usize,
    /// The first `data:` line.
    pub(crate) data_at: usize,
    /// The payload, if it stands in one piece.
    pub(crate) payload: Option<Range<usize>>,
    /// What stands behind the block.
    pub(crate) tail_len: usize,
    /// Whether the last bytes of the tail say who sent the event.
    pub(crate) has_sender: bool,
    pub(crate) control: bool,
}

/// [`Layout`] as it is kept: what cannot be told from the bytes. Small, for a busy hub holds millions.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Where the block begins: at the id, or at what follows the space for one.
    start: u8,
    /// Size of that space.
    fields_at: u8,
    name_len: u16,
    /// Length of what stands behind the block.
    tail_len: u16,
    /// [`IN_PIECES`] and the like.
    flags: u8,
}

/// The payload is in several `data:` lines.
const IN_PIECES: u8 = 1;
/// The last bytes of the tail say who sent the event.
const HAS_SENDER: u8 = 1 << 1;
/// A reader that lags gets it all the same.
const CONTROL: u8 = 1 << 2;

#[derive(Debug)]
struct Header {
    shape: Shape,
    /// Who pays for it, once it is in a log.
    charge: Charge,
    witness: Witness,
}

/// What a frame takes beside its bytes: a count, the header and a length.
const FRAME_OVERHEAD: usize =
    2 * size_of::<usize>() + size_of::<Header>().next_multiple_of(align_of::<usize>());

impl Header {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            charge: Charge::none(),
            witness: Witness::new(),
        }
    }
}

impl Shape {
    #[inline]
    const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where the first `data:` line begins.
    #[inline]
    fn data_at(self) -> usize {
        let name_line = match usize::from(self.name_len) {
            0 => 0,
            len => NAME_FIELD.len() + len + 1,
        };
        usize::from(self.fields_at) + name_line
    }
}

/// An encoded event, shared by all who read it. A clone counts one reference up.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub, Item};
///
/// let hub = Hub::new();
/// let mut subscription = hub.subscribe("news")?;
/// hub.publish("news", Event::json(&[1, 2]).name("pair"))?;
/// let Ok(Item::Frame(frame)) = subscription.try_recv() else { panic!() };
/// assert_eq!(frame.name(), Some("pair"));
/// assert_eq!(frame.payload(), Some(&b"[1,2]"[..]));
/// assert!(frame.as_sse().ends_with(b"event: pair\ndata: [1,2]\n\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Frame(ThinArc<Header, u8>);

/// What a slot of the log holds: a frame without its owner.
#[derive(Debug)]
pub(crate) struct RawFrame(());

#[expect(
    clippy::cast_possible_truncation,
    reason = "a place before the fields: at most `ID_SPACE`"
)]
const fn narrow(place: usize) -> u8 {
    debug_assert!(place <= ID_SPACE);
    place as u8
}

impl Frame {
    /// Copies `buffer` into a frame of its own. One allocation.
    #[inline]
    pub(crate) fn new(layout: Layout, buffer: &[u8]) -> Self {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let shape = Shape {
            start: narrow(layout.fields_at),
            fields_at: narrow(layout.fields_at),
            name_len: u16::try_from(layout.name_len).unwrap_or_default(),
            tail_len: u16::try_from(layout.tail_len).unwrap_or_default(),
            flags: flag(layout.payload.is_none(), IN_PIECES)
                | flag(layout.has_sender, HAS_SENDER)
                | flag(layout.control, CONTROL),
        };
        debug_assert_eq!(shape.data_at(), layout.data_at);
        debug_assert_eq!(usize::from(shape.tail_len), layout.tail_len);
        let frame = Self::from_shape(shape, buffer);
        debug_assert!(
            layout
                .payload
                .is_none_or(|at| frame.payload() == Some(&buffer[at]))
        );
        frame
    }

    #[inline]
    fn from_shape(shape: Shape, buffer: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice(Header::new(shape), buffer))
    }

    /// Whether an id can be written into it.
    #[inline]
    pub(crate) fn has_id_space(&self) -> bool {
        usize::from(self.shape().fields_at) == ID_SPACE
    }

    /// The same event for a topic of a hub whose events have ids, or have none.
    pub(crate) fn for_hub(&self, with_id: bool) -> Self {
        if self.has_id_space() == with_id {
            return self.for_another();
        }
        let shape = *self.shape();
        let fields = &self.0.slice[usize::from(shape.fields_at)..];
        let fields_at = if with_id { ID_SPACE } else { 0 };
        let mut buffer = vec![b' '; fields_at];
        buffer.extend_from_slice(fields);
        let shape = Shape {
            start: narrow(fields_at),
            fields_at: narrow(fields_at),
            ..shape
        };
        Self::from_shape(shape, &buffer)
    }

    /// A copy that has no other owner, for another topic.
    fn duplicate(&self) -> Self {
        let shape = *self.shape();
        let unstamped = Shape {
            start: shape.fields_at,
            ..shape
        };
        Self::from_shape(unstamped, &self.0.slice)
    }

    /// The same event for another topic: itself, or a copy if it is to carry that topic's id.
    pub(crate) fn for_another(&self) -> Self {
        if self.has_id_space() {
            self.duplicate()
        } else {
            self.clone()
        }
    }

    /// Writes the id into the space left for it, if there is any. By F1 the frame has one owner.
    pub(crate) fn stamp(&mut self, id: EventId) {
        if !self.has_id_space() {
            return;
        }
        self.0.with_arc_mut(|arc| {
            let Some(inner) = FlatArc::get_mut(arc) else {
                debug_assert!(false, "F1: a shared frame cannot be stamped");
                return;
            };
            if let Some(space) = inner.slice_mut().first_chunk_mut() {
                let start = write_id(space, id);
                inner.header_mut().shape.start = narrow(start);
            }
        });
    }

    #[inline]
    fn shape(&self) -> &Shape {
        let header = &self.0.header.header;
        header.witness.check();
        &header.shape
    }

    /// Where the block ends and the tail begins.
    #[inline]
    fn end(&self) -> usize {
        self.0.slice.len() - usize::from(self.shape().tail_len)
    }

    /// The event as one block of `text/event-stream`, with the empty line that ends it.
    #[must_use]
    #[inline]
    pub fn as_sse(&self) -> &[u8] {
        let shape = self.shape();
        let block = &self.0.slice[usize::from(shape.start)..];
        match usize::from(shape.tail_len) {
            0 => block,
            tail => &block[..block.len() - tail],
        }
    }

    /// Where the payload begins in [`as_sse`](Self::as_sse): where a prefix goes. A suffix goes before the last two bytes.
    #[cfg(feature = "http-body")]
    #[inline]
    pub(crate) fn prefix_at(&self) -> usize {
        let shape = self.shape();
        shape.data_at() + DATA_FIELD.len() - usize::from(shape.start)
    }

    /// Length of [`as_sse`](Self::as_sse), in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        let shape = self.shape();
        self.0.slice.len() - usize::from(shape.tail_len) - usize::from(shape.start)
    }

    /// The payload as it stands in the frame: the JSON, or a text of one line. `None` for a text of several lines,
    /// which [`data`](Self::data) puts together.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> Option<&[u8]> {
        let shape = self.shape();
        // Between the field's name and the two line breaks that end the line and the block.
        let at = shape.data_at() + DATA_FIELD.len();
        (!shape.has(IN_PIECES)).then(|| &self.0.slice[at..self.end() - 2])
    }

    /// Size of the payload as it is written, in bytes: what `max_event_bytes` limits.
    pub(crate) fn data_len(&self) -> usize {
        self.end() - self.shape().data_at() - DATA_FIELD.len() - 2
    }

    /// The payload as a reader sees it: as [`payload`](Self::payload), with a text of several lines joined by LF.
    #[must_use]
    pub fn data(&self) -> Cow<'_, str> {
        if let Some(payload) = self.payload() {
            return Cow::Borrowed(std::str::from_utf8(payload).unwrap_or_default());
        }
        let block = &self.0.slice[self.shape().data_at()..self.end()];
        let lines = std::str::from_utf8(block).unwrap_or_default().lines();
        let lines: Vec<_> = lines.filter_map(|l| l.strip_prefix("data: ")).collect();
        Cow::Owned(lines.join("\n"))
    }

    /// The name, if the event has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let shape = self.shape();
        if shape.name_len == 0 {
            return None;
        }
        let end = shape.data_at() - 1;
        std::str::from_utf8(&self.0.slice[end - usize::from(shape.name_len)..end]).ok()
    }

    /// What the event is about, if [`Event::key`](crate::Event::key) says so. It is no part of [`as_sse`](Self::as_sse).
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        let shape = self.shape();
        let sender = if shape.has(HAS_SENDER) {
            ReaderId::LEN
        } else {
            0
        };
        let key = self.end()..self.0.slice.len() - sender;
        if key.is_empty() {
            return None;
        }
        std::str::from_utf8(&self.0.slice[key]).ok()
    }

    /// Whether it is a [control event](crate::Event::control).
    #[must_use]
    #[inline]
    pub fn is_control(&self) -> bool {
        self.shape().has(CONTROL)
    }

    /// Who sent the event, if [`Event::sent_by`](crate::Event::sent_by) says so. It is no part of [`as_sse`](Self::as_sse).
    #[must_use]
    #[inline]
    pub fn sender(&self) -> Option<ReaderId> {
        if !self.shape().has(HAS_SENDER) {
            return None;
        }
        self.0
            .slice
            .last_chunk()
            .copied()
            .and_then(ReaderId::from_bytes)
    }

    /// The id, if the event has one.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        let shape = self.shape();
        let line = usize::from(shape.start)..usize::from(shape.fields_at);
        let id = self.0.slice[line].strip_prefix(ID_FIELD)?;
        std::str::from_utf8(id).ok()?.trim_end().parse().ok()
    }

    /// The block of [`as_sse`](Self::as_sse) as shared bytes: no copy, one small allocation for the owner.
    ///
    /// The bytes keep the frame alive. Many handles to one frame share one counter; where thousands of connections
    /// would each take one, a copy is often cheaper for frames of a few hundred bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        struct Block(Frame);
        impl AsRef<[u8]> for Block {
            fn as_ref(&self) -> &[u8] {
                self.0.as_sse()
            }
        }
        Bytes::from_owner(Block(self.clone()))
    }

    /// Bytes that the frame takes of the process: its allocation (a count, the header, a length, the bytes).
    #[inline]
    pub(crate) fn whole_bytes(&self) -> usize {
        allocated(self.0.slice.len() + FRAME_OVERHEAD)
    }

    /// Has the frame counted by `memory` until it is freed.
    #[inline]
    pub(crate) fn charge(&self, memory: &Memory) {
        memory.charge(&self.0.header.header.charge, self.whole_bytes());
    }

    /// What so many frames with so many bytes in all take of the process, about.
    pub(crate) const fn whole_bytes_of(frames: usize, bytes: u64) -> u64 {
        bytes + (frames * allocated(FRAME_OVERHEAD)) as u64
    }

    /// Bytes that the frame holds: what retention counts.
    #[inline]
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.0.slice.len() as u64
    }

    /// Gives the reference up for a pointer that a slot can hold.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<RawFrame> {
        // `ThinArc` is never null; the fallback keeps this free of panics.
        NonNull::new(ThinArc::into_raw(self.0).cast_mut().cast()).unwrap_or(NonNull::dangling())
    }

    /// Takes the reference back.
    ///
    /// # Safety
    ///
    /// `raw` came from [`into_raw`](Self::into_raw) and its reference is taken back once.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<RawFrame>) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { ThinArc::from_raw(raw.as_ptr().cast()) })
    }
}

impl fmt::Debug for Frame {
    /// Shows no payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("len", &self.len())
            .finish()
    }
}

/// A frame borrowed from the log: no reference is counted. Clone the [`Frame`] to keep it.
pub struct FrameRef<'a> {
    frame: ManuallyDrop<Frame>,
    log: PhantomData<&'a Frame>,
}

impl FrameRef<'_> {
    /// # Safety
    ///
    /// `raw` came from [`Frame::into_raw`], and its reference is not given back during the lifetime.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<RawFrame>) -> Self {
        Self {
            // SAFETY: the caller's promise; `ManuallyDrop` leaves the count alone.
            frame: ManuallyDrop::new(unsafe { Frame::from_raw(raw) }),
            log: PhantomData,
        }
    }
}

impl<'a> FrameRef<'a> {
    /// Borrows a frame that has an owner.
    pub(crate) fn of(frame: &'a Frame) -> Self {
        // SAFETY: the copy is never dropped, and its owner is borrowed for as long as it is used.
        let copy = unsafe { std::ptr::read(frame) };
        Self {
            frame: ManuallyDrop::new(copy),
            log: PhantomData,
        }
    }
}

impl Deref for FrameRef<'_> {
    type Target = Frame;

    #[inline]
    fn deref(&self) -> &Frame {
        &self.frame
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
