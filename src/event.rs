//! What an application publishes: a payload, and what goes with it on the wire.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::encode::{DataLine, EncodeError};
use crate::reader_id::ReaderId;

/// An event to publish: a payload, an optional name, and whether it carries an id.
///
/// The payload is borrowed and is encoded once, whatever the number of subscribers. The encoded form is one block of
/// the `text/event-stream` format ([WHATWG HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)),
/// and the payload is a sub-slice of it, so that other transports can use it as it stands.
///
/// # Examples
///
/// ```
/// use fanfare::{Event, Hub};
///
/// #[derive(serde::Serialize)]
/// struct Tick { price: u64 }
///
/// let hub = Hub::new();
/// hub.publish("prices", Event::json(&Tick { price: 42 }).name("tick"))?;
/// hub.publish("prices", Event::text("market closes"))?;
/// # Ok::<(), fanfare::PublishError>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "an event does nothing until it is published"]
pub struct Event<'a, P> {
    pub(crate) payload: P,
    pub(crate) name: Option<&'a str>,
    pub(crate) with_id: bool,
    pub(crate) tail: Tail<'a>,
}

/// What readers choose by. It goes with the event and is written to no client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail<'a> {
    pub(crate) key: Option<&'a str>,
    pub(crate) sender: Option<ReaderId>,
    pub(crate) control: bool,
}

impl<'a, T: Serialize + ?Sized> Event<'a, Json<'a, T>> {
    /// An event whose payload is `value` as compact JSON.
    pub fn json(value: &'a T) -> Self {
        Self::new(Json(value))
    }
}

impl<'a> Event<'a, Text<'a>> {
    /// An event whose payload is plain text.
    ///
    /// CR, LF and CRLF in it become separate `data:` lines; a reader sees each of them as one LF.
    pub fn text(text: &'a str) -> Self {
        Self::new(Text(text))
    }
}

impl<'a> Event<'a, RawJson<'a>> {
    /// An event whose payload is JSON already.
    pub fn raw_json(json: &'a RawValue) -> Self {
        Self::new(RawJson(json.get()))
    }
}

impl<'a, P> Event<'a, P> {
    fn new(payload: P) -> Self {
        Self {
            payload,
            name: None,
            with_id: true,
            tail: Tail::default(),
        }
    }

    /// Sets the name, the `event:` field. An empty name is no name: browsers fire `message` for it.
    ///
    /// The name is checked when the event is published: at most 256 bytes, no CR, LF or NUL. Browsers fire the
    /// `open` and `error` listeners of an `EventSource` for events of these names too, so better avoid them.
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = (!name.is_empty()).then_some(name);
        self
    }

    /// Leaves the `id:` field out. A client that reconnects resumes after the last event that had one, and so
    /// sees this one again if it came later.
    pub fn without_id(mut self) -> Self {
        self.with_id = false;
        self
    }

    /// Says what the event is about: of the events of one key that are there at the same time, a reader may want only the
    /// newest ([`Conflation::ByKey`](crate::Conflation::ByKey)). An empty key is no key.
    ///
    /// It is not written to clients. It is checked when the event is published: at most 256 bytes.
    pub fn key(mut self, key: &'a str) -> Self {
        self.tail.key = (!key.is_empty()).then_some(key);
        self
    }

    /// Makes it a control event, which readers get even if they lag: that a run has finished, that access was revoked, that
    /// the server drains.
    ///
    /// A reader that missed it is told of its lag as ever, then gets the control events of the range that it missed, in order,
    /// and then goes on. It does not overtake events that are still retained. A topic keeps the newest 32 control events of
    /// those that left its log, up to 64 KiB in all; one that is larger alone is not kept. Without history they go when all
    /// readers have passed them, with history at twice the age at which events go.
    ///
    /// On the wire nothing tells it from other events.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Event, Hub, Item};
    ///
    /// let hub = Hub::builder().retain_events(1).build()?;
    /// let mut slow = hub.subscribe("run")?;
    /// hub.publish("run", Event::text("finished").control())?;
    /// for number in 0..100 {
    ///     hub.publish("run", Event::json(&number))?;
    /// }
    /// assert!(matches!(slow.try_recv(), Ok(Item::Lagged(_))));
    /// assert!(matches!(slow.try_recv(), Ok(Item::Frame(frame)) if frame.data() == "finished"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn control(mut self) -> Self {
        self.tail.control = true;
        self
    }

    /// Says who sent the event, for readers that [leave out their own](crate::Subscription::exclude_own). It is not written
    /// to clients.
    pub fn sent_by(mut self, reader: ReaderId) -> Self {
        self.tail.sender = Some(reader);
        self
    }
}

/// A payload that is serialized as JSON; see [`Event::json`].
#[derive(Debug)]
pub struct Json<'a, T: ?Sized>(&'a T);

impl<T: ?Sized> Clone for Json<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Json<'_, T> {}

/// A payload of plain text; see [`Event::text`].
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(&'a str);

/// A payload that is JSON already; see [`Event::raw_json`].
#[derive(Debug, Clone, Copy)]
pub struct RawJson<'a>(&'a str);

/// The kinds of payload that an [`Event`] carries. Sealed.
pub trait Payload: sealed::Payload {}

impl<P: sealed::Payload> Payload for P {}

pub(crate) mod sealed {
    use super::{DataLine, EncodeError, Json, RawJson, Serialize, Text};

    /// Writes itself as the data of one event.
    #[expect(unnameable_types, reason = "this is what seals the public trait")]
    pub trait Payload {
        fn write(&self, line: DataLine<'_>) -> Result<(), EncodeError>;
    }

    impl<T: Serialize + ?Sized> Payload for Json<'_, T> {
        fn write(&self, line: DataLine<'_>) -> Result<(), EncodeError> {
            line.json(self.0)
        }
    }

    impl Payload for Text<'_> {
        fn write(&self, line: DataLine<'_>) -> Result<(), EncodeError> {
            line.text(self.0)
        }
    }

    impl Payload for RawJson<'_> {
        fn write(&self, line: DataLine<'_>) -> Result<(), EncodeError> {
            line.raw_json(self.0)
        }
    }
}
