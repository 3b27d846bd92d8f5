//! A task of the agent over A2A: how it stands, and who is told.
//!
//! Every stream of a task begins with the task as it stands and goes on with what changes of it, up to a terminal state
//! (A2A v1.0, 3.1.2 and 3.1.6). The same events go to all of them; what differs is the version, hence a topic for each, and
//! the id of the request, hence an envelope for each connection around shared bytes.
//!
//! A task goes on when its clients are gone: they come back for it.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::protocol::Timestamp;
use fanfare::protocol::a2a::{self, StreamResponse, V0_3, Version};
use fanfare::protocol::context::{self, Protocol};
use fanfare::{
    EncodeError, EventError, Hub, LagPolicy, Notices, Route, Snapshot, SnapshotError, Subscription,
    Topic, UserId,
};

use crate::app::{App, Place, lock};
use crate::error::ApiError;
use crate::store::Entry;

pub(crate) struct Task {
    id: String,
    user: UserId,
    newer: Topic,
    older: Topic,
    /// To the task's topic of v1.0 and to the user's streams: one event, encoded once.
    route: Route,
    now: Mutex<a2a::Task>,
}

impl Entry for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_over(&self) -> bool {
        lock(&self.now).status.state.is_terminal()
    }
}

/// Why a task cannot be followed.
#[derive(Debug)]
pub(crate) enum Unfollowed {
    /// It is over: nothing more comes of it.
    Over,
    Encode(EncodeError),
}

impl Task {
    pub(crate) fn new(app: &App, user: &UserId, task: a2a::Task) -> Result<Arc<Self>, ApiError> {
        let topic = |version| app.hub().topic(&Place::Task(task.id.clone(), version));
        let newer = topic(Version::V1_0)?;
        let streams = app.router().broadcasters();
        let route = Route::new()
            .bare_topic(&newer)?
            .bare(&streams.a2a)?
            .wrapped(&streams.context, Protocol::A2a.prefix(), context::SUFFIX)?;
        Ok(Arc::new(Self {
            id: task.id.clone(),
            user: user.clone(),
            newer,
            route,
            older: topic(Version::V0_3)?,
            now: Mutex::new(task),
        }))
    }

    /// The task as it stands.
    pub(crate) fn now(&self) -> a2a::Task {
        lock(&self.now).clone()
    }

    /// Tells the user's streams of the task: the first event of it. Its own streams each begin with the task anyway.
    pub(crate) fn announce(&self, app: &App) -> Result<(), EventError> {
        drop(app.router().route_a2a(&self.user, &self.now().into())?);
        Ok(())
    }

    /// Says what changes: to whoever follows the task, in both versions, and to the user's streams.
    ///
    /// All under one lock, so that the task and its topics are at the same event whenever somebody looks.
    fn say(&self, app: &App, mut response: StreamResponse) -> Result<(), EventError> {
        if let StreamResponse::StatusUpdate(update) = &mut response {
            update.status.timestamp = Some(Timestamp::now_millis());
        }
        let mut now = lock(&self.now);
        let _ = self.older.publish(V0_3(&response).to_event())?;
        drop(app.router().route(&self.user, &response, &self.route)?);
        apply(&mut now, response);
        if now.status.state.is_terminal() {
            self.newer.close();
            self.older.close();
        }
        Ok(())
    }

    /// Says all of a script.
    pub(crate) async fn perform(
        self: Arc<Self>,
        app: App,
        script: Vec<StreamResponse>,
        pace: Duration,
    ) {
        for response in script {
            if pace.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pace).await;
            }
            if let Err(error) = self.say(&app, response) {
                // The server is closing: there is nobody to tell.
                tracing::warn!(task = self.id, "stopped: {error}");
                return;
            }
        }
    }

    /// The task as it stands, and then what changes of it, without a gap and without a repeat.
    pub(crate) async fn follow(
        &self,
        hub: &Hub<Place>,
        version: Version,
    ) -> Result<Subscription, Unfollowed> {
        let snapshot = |_position| ready(self.snapshot(hub, version));
        let topic = self.topic(version);
        match topic.subscribe_with_snapshot(snapshot).await {
            Ok(subscription) => Ok(subscription
                .lag_policy(LagPolicy::Disconnect)
                .notices(Notices::Comments)),
            Err(SnapshotError::Snapshot(error)) => Err(Unfollowed::Encode(error)),
            Err(_closed) => Err(Unfollowed::Over),
        }
    }

    fn snapshot(&self, hub: &Hub<Place>, version: Version) -> Result<Snapshot, EncodeError> {
        let now = lock(&self.now);
        let task = StreamResponse::from(now.clone());
        let frame = match version {
            Version::V0_3 => hub.encode(V0_3(&task).to_event()),
            _ => hub.encode(task.to_event()),
        };
        Ok(Snapshot::new(vec![frame?]).as_of(Some(self.topic(version).position())))
    }

    fn topic(&self, version: Version) -> &Topic {
        match version {
            Version::V0_3 => &self.older,
            _ => &self.newer,
        }
    }

    /// Waits until the task is over.
    pub(crate) async fn over(&self, hub: &Hub<Place>) -> Result<(), EncodeError> {
        loop {
            match self.follow(hub, Version::V1_0).await {
                // It ends with the task, or because this reader was too slow; then it takes the task as it stands.
                Ok(mut subscription) => while subscription.recv().await.is_some() {},
                Err(Unfollowed::Over) => return Ok(()),
                Err(Unfollowed::Encode(error)) => return Err(error),
            }
        }
    }
}

/// What a response changes of its task.
fn apply(task: &mut a2a::Task, response: StreamResponse) {
    match response {
        StreamResponse::StatusUpdate(update) => {
            let before = std::mem::replace(&mut task.status, update.status);
            task.history.get_or_insert_default().extend(before.message);
        }
        StreamResponse::ArtifactUpdate(update) => {
            let append = update.append.unwrap_or(false);
            let artifacts = task.artifacts.get_or_insert_default();
            let id = &update.artifact.artifact_id;
            match artifacts.iter_mut().find(|it| it.artifact_id == *id) {
                Some(known) if append => known.parts.extend(update.artifact.parts),
                Some(known) => *known = update.artifact,
                None => artifacts.push(update.artifact),
            }
        }
        _ => {}
    }
}
