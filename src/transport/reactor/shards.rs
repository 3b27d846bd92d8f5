//! The engine on Unix: threads that own the sockets.
//!
//! **Role.** Starts the shards, deals connections to them, and ends them. What a shard does is in [`shard`](super::shard),
//! what its thread does around it in [`driver`](super::driver).

use std::net::TcpStream;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::config::{OnClose, ReactorBuilder, ReactorError};
use super::driver::{Command, Driver, ShardInbox};
use super::shard::{Joiner, Limits};
use super::totals::{Teller, Totals};
use super::wheel::Wheel;
use super::{AdoptError, CloseReason, ConnectionId};
use crate::sync::{
    AtomicBool, HostArc, JoinHandle, Mutex, Ordering, PoisonError, ThreadBuilder, ThreadId,
    core_count, fence, this_thread,
};
use crate::transport::sse::Sse;
use crate::unwind::FirstPanic;

pub(super) struct Engine {
    inboxes: Box<[HostArc<ShardInbox>]>,
    totals: HostArc<Totals>,
    on_close: Option<OnClose>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The same threads, to be told apart without the lock.
    ids: Box<[ThreadId]>,
    stopped: AtomicBool,
}

impl Engine {
    pub(super) fn start(builder: &ReactorBuilder) -> Result<Self, ReactorError> {
        let shards = builder.shards.unwrap_or_else(core_count).clamp(1, 1024);
        let totals = HostArc::new(Totals::new(shards));
        let tick = Wheel::<()>::tick_for(builder.stall_timeout);
        let ticks = |duration: std::time::Duration| {
            u64::try_from(duration.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u64::MAX)
        };
        let limits = Limits {
            tick,
            // One more: the first is cut short.
            stall: ticks(builder.stall_timeout) + 1,
            idle: builder.idle_timeout.map(ticks),
            // Half of it: a socket that is drained takes a batch while the one before is on its way.
            batch_bytes: (builder.send_buffer_bytes / 2).clamp(16 * 1024, 256 * 1024),
        };
        let mut inboxes = Vec::with_capacity(shards);
        let mut threads = Vec::with_capacity(shards);
        let mut failed = None;
        for shard in 0..shards {
            let teller = Teller {
                totals: HostArc::clone(&totals),
                shard,
                on_close: builder.on_close.clone(),
            };
            let driver = Driver::new(teller, tick, limits);
            let started = driver.and_then(|driver| {
                inboxes.push(HostArc::clone(driver.inbox()));
                let pin = builder.pin_to_cores;
                ThreadBuilder::new()
                    .name(format!("fanfare-shard-{shard}"))
                    .spawn(move || {
                        if pin {
                            pin_to_core(shard);
                        }
                        driver.run();
                    })
            });
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(ReactorError::Start { shard, error });
                    break;
                }
            }
        }
        let engine = Self {
            inboxes: inboxes.into_boxed_slice(),
            totals,
            on_close: builder.on_close.clone(),
            ids: threads.iter().map(|thread| thread.thread().id()).collect(),
            threads: Mutex::new(threads),
            stopped: AtomicBool::new(false),
        };
        match failed {
            // Dropping it stops the threads that were started.
            Some(error) => Err(error),
            None => Ok(engine),
        }
    }

    /// Streams `sse` on a socket that is set up.
    pub(super) fn adopt(
        &self,
        socket: TcpStream,
        first: &[u8],
        sse: Sse,
    ) -> Result<ConnectionId, AdoptError> {
        let (opening, subscription, others) = sse.into_parts();
        let mut all = BytesMut::with_capacity(first.len() + opening.len());
        all.extend_from_slice(first);
        all.extend_from_slice(&opening);
        let (id, shard) = self.totals.deal().ok_or(AdoptError::ShutDown)?;
        let mut subscriptions = SmallVec::new();
        subscriptions.push(subscription);
        subscriptions.extend(others);
        self.inboxes[shard].command(Command::Join(Box::new(Joiner {
            id,
            socket,
            first: all.freeze(),
            subscriptions,
        })));
        // Either the shard takes it, or the shutdown is seen here.
        fence(Ordering::SeqCst);
        if self.stopped.load(Ordering::Relaxed) || self.totals.is_dead(shard) {
            self.drain(shard);
        }
        Ok(ConnectionId(id))
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn is_stopped(&self) -> bool {
        // Acquire: pairs with `stop`.
        self.stopped.load(Ordering::Acquire)
    }

    /// Closes all connections, ends the threads and waits for them. On a thread of the reactor's own (in a callback) it
    /// does not wait.
    pub(super) fn shutdown(&self) {
        self.stop();
        if self.ids.contains(&this_thread()) {
            return;
        }
        // Held while they are waited for: a second one who shuts down waits too.
        let threads = self.threads.lock();
        for thread in threads.unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that has panicked has said so.
            drop(thread.join());
        }
    }

    fn stop(&self) {
        // AcqRel: pairs with `is_stopped`.
        if !self.stopped.swap(true, Ordering::AcqRel) {
            for inbox in &self.inboxes {
                inbox.command(Command::Shutdown);
            }
        }
    }

    /// Closes what was adopted while the shard was going: by now nobody else takes it.
    fn drain(&self, shard: usize) {
        while let Some(command) = self.inboxes[shard].next_command() {
            match command {
                Command::Join(joiner) => {
                    let id = joiner.refuse();
                    let on_close = self.on_close.clone();
                    let totals = HostArc::clone(&self.totals);
                    let teller = Teller {
                        totals,
                        shard,
                        on_close,
                    };
                    teller.tell(id, CloseReason::Shutdown);
                }
                // Its connection closes with the shard.
                Command::End(_) => {}
                // The shard's own, which has not come to it yet.
                Command::Shutdown => {
                    self.inboxes[shard].command(Command::Shutdown);
                    return;
                }
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        FirstPanic::default().run(|| self.stop());
    }
}

/// Keeps this thread on one of the cores that the process may use.
#[cfg(target_os = "linux")]
fn pin_to_core(shard: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&core| allowed.is_set(core))
        .collect();
    if cores.is_empty() {
        return;
    }
    let mut only = CpuSet::new();
    only.set(cores[shard % cores.len()]);
    // Unpinned is slower at worst.
    let _ = sched_setaffinity(None, &only);
}

#[cfg(not(target_os = "linux"))]
fn pin_to_core(_: usize) {}
