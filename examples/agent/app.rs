//! What every request shares: the users' streams, the hub of runs and tasks, and what is remembered of both.
//!
//! There are two kinds of stream. A *user's* streams carry all that happens to the user, each event to every tab:
//! [`AgentRouter`] publishes to them. A *response* is one run, or one task, from its beginning to its end: each run has a
//! topic of its own, each task one for each version of its protocol, and [`Place`] is their key.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare::protocol::a2a::Version;
use fanfare::{AgentRouter, ConfigError, EventBroadcasters, EventResult, Hub, UserId};

use crate::contexts::{Added, Contexts};
use crate::limits::{MAX_KEPT, RETAIN_BYTES, RETAIN_EVENTS};
use crate::run::Run;
use crate::store::Store;
use crate::task::Task;

/// What is published where a response is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Run(String),
    Task(String, Version),
}

/// What every request handler shares; a clone is a reference count.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    router: AgentRouter,
    hub: Hub<Place>,
    runs: Mutex<Store<Run>>,
    tasks: Mutex<Store<Task>>,
    contexts: Mutex<Contexts>,
    pace: Duration,
    grace: Duration,
}

impl App {
    pub(crate) fn new(pace: Duration, grace: Duration) -> Result<Self, ConfigError> {
        // Without ids: the clients of AG-UI and A2A do not resume by them, they take a fresh snapshot.
        let hub = Hub::builder()
            .event_ids(false)
            .retain_events(RETAIN_EVENTS)
            .retain_bytes(RETAIN_BYTES)
            .build_keyed()?;
        Ok(Self(Arc::new(Shared {
            router: AgentRouter::over(EventBroadcasters::new()),
            hub,
            runs: Mutex::new(Store::new(MAX_KEPT)),
            tasks: Mutex::new(Store::new(MAX_KEPT)),
            contexts: Mutex::default(),
            pace,
            grace,
        })))
    }

    /// The users' streams.
    pub(crate) fn router(&self) -> &AgentRouter {
        &self.0.router
    }

    /// The topics of runs and tasks.
    pub(crate) fn hub(&self) -> &Hub<Place> {
        &self.0.hub
    }

    pub(crate) fn runs(&self) -> MutexGuard<'_, Store<Run>> {
        lock(&self.0.runs)
    }

    pub(crate) fn tasks(&self) -> MutexGuard<'_, Store<Task>> {
        lock(&self.0.tasks)
    }

    pub(crate) fn contexts(&self) -> MutexGuard<'_, Contexts> {
        lock(&self.0.contexts)
    }

    /// The time between two events, unless a request asks for another.
    pub(crate) fn pace(&self) -> Duration {
        self.0.pace
    }

    /// How long a run goes on without anybody who listens.
    pub(crate) fn grace(&self) -> Duration {
        self.0.grace
    }

    /// Tells the user's tabs that a context is new, or has got something new.
    pub(crate) fn prompted(
        &self,
        user: &UserId,
        context: &str,
        prompt: &str,
        added: Added,
    ) -> EventResult<()> {
        // Published under the lock, so that the tabs are told of the contexts in the order in which they come.
        let mut contexts = self.contexts();
        let event = contexts.prompted(user, context, prompt, added);
        drop(self.router().route_system(user, &event)?);
        Ok(())
    }

    /// Ends every stream, after what was published before.
    pub(crate) fn close(&self) {
        self.hub().close();
        let streams = self.router().broadcasters();
        streams.ag_ui.hub().close();
        streams.a2a.hub().close();
        streams.context.hub().close();
        streams.analytics.hub().close();
    }
}

/// What is under these locks is never left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An id that was not given before, nor by another process.
pub(crate) fn fresh(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only that each number is given once.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{what}-{number}-{:016x}",
        RandomState::new().hash_one(number)
    )
}
