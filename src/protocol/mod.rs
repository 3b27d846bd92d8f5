//! Typed events of the protocols that agents and their pages speak: what they are on the wire, and nothing of how they
//! travel.
//!
//! | module | feature | what it writes |
//! |---|---|---|
//! | [`ag_ui`] | `ag-ui` | AG-UI 1.0: the events of a run |
//! | [`a2a`] | `a2a` | A2A v1.0 and v0.3: stream responses, and the JSON-RPC envelope around them |
//! | [`analytics`] | `analytics` | sessions, page views and live figures of a site |
//! | [`system`] | `system` | what happens to a user's contexts |
//! | [`context`] | `context` | one stream of a user's AG-UI, A2A and system events, each wrapped with the name of its protocol |
//! | [`cli`] | `cli` | the output of a program |
//!
//! The feature `protocols` is all of them.
//!
//! # What holds for every type here
//!
//! * **Plain data.** Fields are public, `new` takes what must be there, and each optional field has a setter of its name.
//!   The structs are non-exhaustive, for the protocols grow.
//! * **Text is `String`.** An event is built once, encoded once and dropped: what comes from a model or a database is a
//!   `String` already and is moved in, and a `&str` is copied once. A borrowed form would put a lifetime on every type
//!   and every broadcaster to save that copy.
//! * **Free-form JSON is [`Json`]**, the text itself, or [`Object`] where the protocol demands an object. Numbers of any
//!   size and the order of keys stay as they are.
//! * **Writing is one pass and allocates nothing** but the output. Fields come in the order of their declaration, the
//!   discriminator first, unknown fields last: equal values are equal bytes.
//! * **Absent is absent.** What is optional is left out, never `null`, unless the protocol wants the `null`. A `null` that
//!   is read in the place of something optional is absent.
//! * **Unknown fields are kept** and written again, and so is an object of an unknown kind where there are several kinds.
//! * **An error says where.** It names the fields on the way, and the value: `RUN_ERROR: usage: inputTokens: -1 is not an integer …`.
//!
//! The types write themselves with `serde_json`. Other formats do not carry [`Json`].

mod json;
#[cfg(any(
    feature = "a2a",
    feature = "analytics",
    feature = "context",
    feature = "system"
))]
mod timestamp;
mod wire;

#[cfg(feature = "a2a")]
pub mod a2a;
#[cfg(feature = "ag-ui")]
pub mod ag_ui;
#[cfg(feature = "analytics")]
pub mod analytics;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "context")]
pub mod context;
#[cfg(feature = "system")]
pub mod system;

pub use json::{Json, JsonError, Object};
#[cfg(any(
    feature = "a2a",
    feature = "analytics",
    feature = "context",
    feature = "system"
))]
pub use timestamp::{ParseTimestampError, Timestamp};
