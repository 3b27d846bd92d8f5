//! Models of fanfare's races. The sources of the library are compiled here once more, with loom behind `sync`.
//!
//! Run with `cargo loom`; see CONTRIBUTING.md.

#[cfg(not(fanfare_loom))]
compile_error!("the models need `--cfg fanfare_loom`: run `cargo loom`, or ci/loom.sh");

macro_rules! sources {
    ($($(#[$attribute:meta])* $path:literal $name:ident)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, unreachable_pub, unused_imports, reason = "models use a part of it")]
            $(#[$attribute])*
            mod $name;
        )*
    };
}

sources! {
    "../../src/broadcaster.rs" broadcaster
    "../../src/choice/mod.rs" choice
    "../../src/clock.rs" clock
    "../../src/config.rs" config
    "../../src/drain.rs" drain
    "../../src/encode/mod.rs" encode
    "../../src/ending.rs" ending
    "../../src/envelope.rs" envelope
    "../../src/error.rs" error
    "../../src/event.rs" event
    "../../src/event_id.rs" event_id
    "../../src/eviction.rs" eviction
    "../../src/frame.rs" frame
    "../../src/hub.rs" hub
    "../../src/transport/reactor/inbox.rs" inbox
    "../../src/interest.rs" interest
    "../../src/log/mod.rs" log
    "../../src/memory.rs" memory
    "../../src/observe/mod.rs" observe
    "../../src/position.rs" position
    "../../src/reader_id.rs" reader_id
    "../../src/registry.rs" registry
    "../../src/resume.rs" resume
    "../../src/router.rs" router
    "../../src/snapshot.rs" snapshot
    "../../src/stats.rs" stats
    "../../src/subscribers/mod.rs" subscribers
    "../../src/subscription/mod.rs" subscription
    #[allow(clippy::unused_self, reason = "stand-ins have the shape of what they stand for")]
    "../../src/sync.rs" sync
    "../../src/topic/mod.rs" topic
    "../../src/unwind.rs" unwind
    "../../src/user_id.rs" user_id
}

pub use broadcaster::{
    Broadcaster, BroadcasterStats, Connected, ConnectionInfo, GenericBroadcaster,
    MAX_CONNECTION_ID_BYTES, ToSse,
};
pub use choice::Conflation;
pub use config::{ConfigError, HubBuilder};
pub use drain::{Drain, DrainReport};
pub use encode::{EncodeError, MAX_EVENT_KEY_BYTES, MAX_NAME_BYTES};
pub use ending::{EndHandle, EndReason};
pub use envelope::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES};
pub use error::{EventError, EventResult, PublishError, SubscribeError, TryRecvError};
pub use event::{Event, Json, Payload, RawJson, Text};
pub use event_id::{EventId, ParseEventIdError};
pub use eviction::{Evicted, Eviction};
pub use frame::{Frame, FrameRef};
pub use hub::{Hub, PublishedMany};
pub use interest::Interest;
pub use observe::{Behind, Health, Holding, Problem};
pub use position::{Lag, LagPolicy, Notices};
pub use reader_id::ReaderId;
pub use resume::{LastEventId, Resumed};
pub use router::{EventRouter, MAX_ROUTE_STREAMS, Route, Routed};
pub use snapshot::{Snapshot, SnapshotError};
pub use stats::{HubStats, TopicStats};
pub use subscription::{Batch, Item, Readiness, RecvBatch, Subscription};
pub use topic::{Published, Topic};
pub use user_id::UserId;

#[cfg(test)]
mod models;
