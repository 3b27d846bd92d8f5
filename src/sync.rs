//! The one door to shared memory: atomics, fences, epoch pins, copy-on-write cells and the sharded map.
//!
//! **Role.** Every other file takes its concurrency primitives from here, so that the same sources run on the real
//! crates and, under `--cfg fanfare_loom`, on loom. No other file names std atomics, locks, threads or loom.
//!
//! **Contracts.** crossbeam-epoch, arc-swap and dashmap are not loom-aware. `sync/model.rs` stands in for them with
//! the weakest behaviour that their documentation promises:
//!
//! | item | promise that the rest of the crate relies on |
//! |---|---|
//! | [`epoch::pin`] | a `SeqCst` fence; what is retired while the guard lives is not freed before the guard goes |
//! | [`epoch::retire`] | a `SeqCst` fence; the value is freed once every guard that was live at that moment is gone |
//! | [`CowCell`] | `load_full` is an acquire load, `rcu` an acquire-release compare-and-swap loop |
//! | [`ShardedMap`] | one lock per shard; closures run under it, removed values are returned and dropped outside |
//! | [`Witness`] | nothing in a real build; in a model it fails on an unsynchronised or too late access |
//!
//! The real crates are exercised by the stress tests under ThreadSanitizer and by miri.

#[cfg(not(fanfare_loom))]
#[path = "sync/real.rs"]
mod imp;

#[cfg(fanfare_loom)]
#[path = "sync/model.rs"]
mod imp;

pub(crate) use imp::*;
