//! One stream of all that happens to a user: AG-UI, A2A and system events, each wrapped with the name of its protocol.
//!
//! `{"protocol":"agui","event":…}`, and the event is as it would be by itself. So the wrapped form is the bytes of the bare
//! one with a [`prefix`](Protocol::prefix) and a [`SUFFIX`] around them, and an event that goes to its own stream and to
//! this one is serialized once.
//!
//! # Examples
//!
//! ```
//! use fanfare::protocol::context::{Event, Protocol, SUFFIX};
//! use fanfare::protocol::ag_ui;
//!
//! let inner = ag_ui::Event::step_started("plan");
//! let bare = serde_json::to_string(&inner)?;
//! let wrapped = serde_json::to_string(&Event::from(inner))?;
//! assert_eq!(wrapped, r#"{"protocol":"agui","event":{"type":"STEP_STARTED","stepName":"plan"}}"#);
//! assert_eq!(wrapped, [Protocol::AgUi.prefix(), &bare, SUFFIX].concat());
//! # Ok::<(), serde_json::Error>(())
//! ```

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wire::{self, names};
use super::{Object, a2a, ag_ui, system};

names! {
    /// The protocol of a wrapped event.
    pub enum Protocol {
        /// AG-UI.
        AgUi = "agui",
        /// A2A.
        A2a = "a2a",
        /// The application's system events.
        System = "system",
    }
}

impl Protocol {
    /// What goes before an event of this protocol in its wrapped form.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::AgUi => r#"{"protocol":"agui","event":"#,
            Self::A2a => r#"{"protocol":"a2a","event":"#,
            Self::System => r#"{"protocol":"system","event":"#,
        }
    }
}

/// What goes behind an event in its wrapped form.
pub const SUFFIX: &str = "}";

/// Any event of a context stream.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An event of AG-UI.
    AgUi(ag_ui::Event),
    /// A response of A2A, as v1.0.
    A2a(a2a::StreamResponse),
    /// An event of the system.
    System(system::Event),
}

impl Event {
    /// The protocol of the event within.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::AgUi(_) => Protocol::AgUi,
            Self::A2a(_) => Protocol::A2a,
            Self::System(_) => Protocol::System,
        }
    }

    /// What goes to a hub. Without an id, as the events of AG-UI are.
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self).without_id()
    }
}

impl crate::ToSse for Event {
    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self)
    }
}

impl From<ag_ui::Event> for Event {
    fn from(event: ag_ui::Event) -> Self {
        Self::AgUi(event)
    }
}

impl From<a2a::StreamResponse> for Event {
    fn from(event: a2a::StreamResponse) -> Self {
        Self::A2a(event)
    }
}

impl From<system::Event> for Event {
    fn from(event: system::Event) -> Self {
        Self::System(event)
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("protocol", &self.protocol())?;
        match self {
            Self::AgUi(event) => map.serialize_entry("event", event),
            Self::A2a(event) => map.serialize_entry("event", event),
            Self::System(event) => map.serialize_entry("event", event),
        }?;
        map.end()
    }
}

/// Reads it. Fields beside the two are not kept.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrapped = Object::deserialize(deserializer)?;
        let field = |name| {
            wrapped
                .get(name)
                .ok_or_else(|| D::Error::missing_field(name))
        };
        let protocol = wire::read(field("protocol")?.get());
        let protocol = protocol.map_err(|error: D::Error| wire::below("protocol", &error))?;
        let json = field("event")?.get();
        let event = match protocol {
            Protocol::AgUi => wire::read(json).map(Self::AgUi),
            Protocol::A2a => wire::read(json).map(Self::A2a),
            Protocol::System => wire::read(json).map(Self::System),
        };
        event.map_err(|error: D::Error| wire::below("event", &error))
    }
}
