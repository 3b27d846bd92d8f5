//! Lock-free, sharded fan-out: publish an event once, and every live connection reads it from one shared log.
//!
//! ```text
//!  event ──encode once──▶ Frame ──append once──▶ log of the topic ◀──cursor── Subscription ──▶ SSE, WebSocket, Stream
//!                                                     │                            ▲
//!                                                     └── wake those that are parked ─┘
//! ```
//!
//! A [`Hub`] holds topics by key. Publishing encodes an [`Event`] into one [`Frame`] and appends it to the topic's log;
//! each [`Subscription`] is a cursor into that log. So a publish costs the same however many subscribers are awake, a slow
//! reader holds back nobody and pins no memory, and the log serves clients that come back with a `Last-Event-ID`.
//!
//! # Where to start
//!
//! [`Hub::subscribe`], [`Hub::publish`], [`Event`], [`Subscription`]; [`Hub::builder`] for the limits, and
//! [`Subscription::into_sse`] for a response.
//!
//! Typed events to users: a [`Broadcaster`] for each type, and an [`EventRouter`] that puts one event on several streams.
//!
//! # Progress
//!
//! | operation | progress |
//! |---|---|
//! | [`Topic::publish`] | append is lock-free; wakes go one after the other |
//! | [`Hub::publish`], [`Hub::publish_many`] | as above, plus the read lock of one map shard for one probe per key |
//! | a publish above the [`memory_limit`](HubBuilder::memory_limit) | a look at all topics, one map shard's lock after the other; nobody waits for it |
//! | reading ([`Subscription::try_recv`], batches, polls) | wait-free while nothing is evicted under the reader, lock-free otherwise |
//! | parking (a poll that finds nothing) | wait-free |
//! | [`Hub::subscribe`] | a lock of one map shard for one probe, then lock-free |
//! | dropping a [`Subscription`] | wait-free; emptying a group of 4,096 is lock-free; the last one of a topic takes the lock of one map shard for one probe; with an [`EndHandle`], the lock of that one subscription |
//! | [`EventRouter::route`] | one of 256 locks, which the users share, around the appends; then as publish |
//! | [`Broadcaster::register`], dropping what it gave | as a subscription, plus the lock of one shard of its table for one probe |
//! | [`Hub::close`], [`Hub::topics`], [`Hub::keys`] | one map shard's lock after the other |
//! | heartbeats, ages, idle topics | one thread of the hub's; a topic takes its inbox lock when it turns from idle to active |
//! | a publish that wakes a shard of a `Reactor` | lock-free, and a system call if the shard sleeps; its thread serves the connections, a bounded part at a time |
//!
//! Freed memory goes through epochs: a thread that is preempted inside a publish or a read, or that holds a [`Batch`],
//! delays it for the whole process.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `axum` (default) | `Sse` as an axum response |
//! | `http-body` | `Sse` and `SseBody` for anything that takes an `http_body::Body` |
//! | `reactor` | `Reactor`: a few threads that own the sockets of very many streams |
//! | `tasks` | the reactor on systems other than Unix: a tokio task for each connection |
//! | `serve` | `serve`: an axum router over HTTP whose streams run on a reactor, in clear text or behind a proxy that ends TLS |
//! | `protocols` | `protocol`: typed events, each protocol a feature of its own, `ag-ui`, `a2a`, `analytics`, `system`, `context`, `cli`; all of them together: `EventBroadcasters` and the `AgentRouter` |
//! | `tracing` | events of the `tracing` crate: who came and went, lag, evictions; with TRACE each publish, never a delivery |
//! | `metrics` | `Hub::record_metrics`: the numbers of `Hub::stats` for an exporter of the `metrics` crate |
//! | `compat` | `compat`: connections with tokio channels of their own, and what else servers with older code need |
//!
//! The core needs no runtime: any executor polls a subscription, and publishing works on any thread. Neither does `reactor`;
//! `serve` runs inside tokio.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("fanfare keeps 62-bit offsets in pointer-sized words and needs a 64-bit target");

// The way of an event, stage by stage.
mod encode;
mod envelope;
mod error;
mod event;
mod event_id;
mod frame;
mod reader_id;

mod log;
mod subscribers;
mod topic;

mod clock;
mod config;
mod drain;
mod hub;
mod interest;
mod memory;
mod observe;
mod registry;
mod resume;
mod snapshot;
mod stats;

// Typed events, to users.
mod broadcaster;
#[cfg(feature = "protocols")]
mod broadcasters;
#[cfg(feature = "compat")]
pub mod compat;
mod router;
mod user_id;

mod choice;
mod ending;
mod eviction;
mod position;
mod subscription;
#[cfg(feature = "http-body")]
mod transport;

// What some events are.
#[cfg(any(
    feature = "a2a",
    feature = "ag-ui",
    feature = "analytics",
    feature = "cli",
    feature = "context",
    feature = "system"
))]
pub mod protocol;

mod sync;
mod unwind;

pub use broadcaster::{
    Broadcaster, BroadcasterStats, Connected, ConnectionInfo, GenericBroadcaster,
    MAX_CONNECTION_ID_BYTES, ToSse,
};
#[cfg(feature = "protocols")]
pub use broadcasters::{
    A2ABroadcaster, AgUiBroadcaster, AgentRouter, AgentRoutes, AnalyticsBroadcaster,
    ContextBroadcaster, EventBroadcasters,
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
#[cfg(all(feature = "_simulate", unix, not(fanfare_tasks)))]
#[doc(hidden)]
pub use transport::reactor::simulate::SimulatedShard;
#[cfg(feature = "reactor")]
pub use transport::reactor::{
    AdoptError, CloseReason, Closed, ConnectionId, Reactor, ReactorBuilder, ReactorError,
    ReactorStats,
};
#[cfg(feature = "serve")]
pub use transport::{IntoListener, PeerAddr, ReclaimError, Serve, ServeError, reclaim, serve};
#[cfg(feature = "http-body")]
pub use transport::{Sse, SseBody};
pub use user_id::UserId;

/// The examples of the README, compiled and run with the doctests, where the features that they show are on.
#[cfg(all(doctest, feature = "serve"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Those of the guide for servers that come from `systemprompt-events`.
#[cfg(all(doctest, feature = "compat"))]
#[doc = include_str!("../docs/migrating.md")]
struct Migrating;
