//! AG-UI 1.0: what an agent tells a page while it runs.
//!
//! Source: the schema at <https://ag-ui.com/spec/1.0/schema.json>; section names below are its definitions. An event is one
//! of 31 kinds, which its `type` tells apart; [`Event`] is any of them.
//!
//! What a page's client demands of a stream, and these types cannot check: it begins with `RUN_STARTED`; content,
//! arguments and ends follow what they belong to; `RUN_FINISHED` comes when all is closed, and nothing after `RUN_ERROR`. So a
//! stream from which one event is missing is broken: close a connection that lags.
//!
//! # Examples
//!
//! ```
//! use fanfare::Hub;
//! use fanfare::protocol::ag_ui::{Event, TextMessageStart, TextRole};
//!
//! let hub = Hub::new();
//! for event in [
//!     Event::run_started("thread-1", "run-1").timestamp(1_700_000_000_000),
//!     TextMessageStart::new("m1").role(TextRole::Assistant).into(),
//!     Event::text_message_content("m1", "hello"),
//!     Event::text_message_end("m1"),
//!     Event::run_finished("thread-1", "run-1"),
//! ] {
//!     hub.publish("user-7", event.to_event())?;
//! }
//!
//! let event = Event::text_message_content("m1", "hello");
//! let json = serde_json::to_string(&event)?;
//! assert_eq!(json, r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m1","delta":"hello"}"#);
//! assert_eq!(serde_json::from_str::<Event>(&json)?, event);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod checks;
mod common;
mod event;
mod message;
mod older;
mod patch;
mod run;

pub use common::Common;
pub use event::*;
pub use message::*;
pub use older::NumberThinking;
pub use patch::*;
pub use run::*;

/// The version that [`RunStarted`] tells in `protocolVersion`.
pub const PROTOCOL_VERSION: &str = "1.0";
