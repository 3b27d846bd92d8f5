//! A2A: what an agent streams of a task, in the protocol's versions 1.0 and 0.3.
//!
//! Source: [A2A](https://github.com/a2aproject/A2A) v1.0.0, `a2a.proto` and its JSON form, and v0.3.0, `types.ts`; the
//! section numbers below are those of the v1.0 specification.
//!
//! There is one set of types. They write themselves as v1.0, [`V0_3`] writes them as v0.3, and reading takes either. What
//! the versions call differently:
//!
//! | | v1.0 | v0.3 |
//! |---|---|---|
//! | which response it is | the name of the only member | a field `kind` within |
//! | a part | `text`, `raw`, `url` or `data` | `kind`, and a `file` of its own |
//! | states and roles | `TASK_STATE_WORKING`, `ROLE_AGENT` | `working`, `agent` |
//! | the last status | the stream ends | `final` |
//!
//! Every stream of a task gets the same events in the same order (3.5.2), so they are shared. What differs from connection
//! to connection is the JSON-RPC envelope, which carries the request's id: [`JsonRpcEnvelope`] is what goes before and
//! behind the shared bytes. REST has no envelope.
//!
//! # Examples
//!
//! ```
//! use fanfare::Hub;
//! use fanfare::protocol::a2a::{Artifact, ArtifactUpdate, JsonRpcEnvelope, Part, StreamResponse, V0_3};
//!
//! let artifact = Artifact::new("a1", [Part::text("hello")]);
//! let response = StreamResponse::from(ArtifactUpdate::new("task-1", "context-1", artifact));
//!
//! let hub = Hub::new();
//! hub.publish("task-1", response.to_event())?;
//! hub.publish("task-1 in v0.3", V0_3(&response).to_event())?;
//!
//! let json = serde_json::to_string(&response)?;
//! assert_eq!(
//!     json,
//!     r#"{"artifactUpdate":{"taskId":"task-1","contextId":"context-1","artifact":{"artifactId":"a1","parts":[{"text":"hello"}]}}}"#,
//! );
//! let envelope = JsonRpcEnvelope::new(&7.into());
//! assert_eq!(envelope.prefix(), r#"{"jsonrpc":"2.0","id":7,"result":"#);
//! assert_eq!(envelope.suffix(), "}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod envelope;
mod part;
mod response;
mod task;
mod v0_3;

use std::str::FromStr;

pub use envelope::{JsonRpcEnvelope, RequestId, RequestIdError};
pub use part::{Part, PartContent};
pub use response::StreamResponse;
pub use task::{
    Artifact, ArtifactUpdate, Message, Role, StatusUpdate, Task, TaskState, TaskStatus,
};
pub use v0_3::V0_3;

/// A version of the protocol, as the header `A2A-Version` names it.
///
/// # Examples
///
/// ```
/// use fanfare::protocol::a2a::Version;
///
/// assert_eq!("1.0".parse(), Ok(Version::V1_0));
/// assert_eq!("".parse(), Ok(Version::V0_3)); // no header, or an empty one
/// assert_eq!("2.0".parse::<Version>().unwrap_err().to_string(), "A2A version `2.0`: only 1.0 and 0.3 are spoken");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Version {
    /// 0.3
    V0_3,
    /// 1.0
    V1_0,
}

impl Version {
    /// What the header says.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3 => "0.3",
            Self::V1_0 => "1.0",
        }
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    /// Reads the header. Of a version with a third number the first two count; empty means 0.3.
    fn from_str(header: &str) -> Result<Self, UnknownVersion> {
        let mut numbers = header.trim().split('.');
        match (numbers.next(), numbers.next()) {
            (None | Some(""), None) | (Some("0"), Some("3")) => Ok(Self::V0_3),
            (Some("1"), None | Some("0")) => Ok(Self::V1_0),
            _ => Err(UnknownVersion(header.chars().take(32).collect())),
        }
    }
}

/// A header that names a version which is not spoken here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("A2A version `{0}`: only 1.0 and 0.3 are spoken")]
pub struct UnknownVersion(String);
