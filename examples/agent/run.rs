//! A run of the agent over AG-UI: what it has said, and who gets it.
//!
//! A client of AG-UI wants its run from `RUN_STARTED` to `RUN_FINISHED` and then the end of the response, and breaks if it
//! comes in the middle. So a run keeps what it has said: a response begins with that and goes on live, wherever the run is
//! by then. `subscribe_with_snapshot` joins the two without a gap and without a repeat.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use fanfare::protocol::ag_ui::{Event, Interrupt, RunOutcome};
use fanfare::protocol::context::{self, Protocol};
use fanfare::{
    EncodeError, EventError, Frame, Hub, LagPolicy, Notices, Route, Snapshot, SnapshotError, Sse,
    Topic, UserId,
};

use crate::app::{App, Place, lock};
use crate::error::ApiError;
use crate::store::Entry;

pub(crate) struct Run {
    id: String,
    thread: String,
    user: UserId,
    topic: Topic,
    /// To the run's topic and to the user's streams: one event, encoded once.
    route: Route,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    events: Vec<Event>,
    /// What closes the messages and calls that are open, the innermost last.
    closers: Vec<Event>,
    /// What the run waits for, if it ended so and nobody has answered yet.
    interrupts: Vec<Interrupt>,
    over: bool,
}

impl Entry for Run {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_over(&self) -> bool {
        lock(&self.said).over
    }
}

impl Run {
    pub(crate) fn new(
        app: &App,
        user: &UserId,
        thread: &str,
        id: &str,
    ) -> Result<Arc<Self>, ApiError> {
        let topic = app.hub().topic(&Place::Run(id.to_owned()))?;
        let streams = app.router().broadcasters();
        let route = Route::new()
            .bare_topic(&topic)?
            .bare(&streams.ag_ui)?
            .wrapped(&streams.context, Protocol::AgUi.prefix(), context::SUFFIX)?;
        Ok(Arc::new(Self {
            id: id.to_owned(),
            thread: thread.to_owned(),
            user: user.clone(),
            topic,
            route,
            said: Mutex::default(),
        }))
    }

    pub(crate) fn is_of(&self, user: &UserId, thread: &str) -> bool {
        self.user == *user && self.thread == thread
    }

    /// What the run waits for.
    pub(crate) fn interrupts(&self) -> Vec<Interrupt> {
        lock(&self.said).interrupts.clone()
    }

    /// The run's interrupts are answered, or given up.
    pub(crate) fn settle(&self) {
        lock(&self.said).interrupts.clear();
    }

    /// Says an event: to whoever reads the run, and to the user's streams.
    ///
    /// All under one lock, so that the record and the run's topic are at the same event whenever somebody looks.
    fn say(&self, app: &App, event: Event) -> Result<(), EventError> {
        let event = event.timestamp(now_ms());
        let mut said = lock(&self.said);
        drop(app.router().route(&self.user, &event, &self.route)?);
        said.note(&event);
        said.events.push(event);
        if said.over {
            // The responses end, once they have sent it all.
            self.topic.close();
        }
        Ok(())
    }

    /// Says all of a script, and gives up when nobody listens any more.
    pub(crate) async fn perform(self: Arc<Self>, app: App, script: Vec<Event>, pace: Duration) {
        let speak = async {
            for event in script {
                self.say(&app, event)?;
                if pace.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(pace).await;
                }
            }
            Ok::<_, EventError>(())
        };
        let done = tokio::select! {
            spoken = speak => spoken,
            deserted = self.deserted(&app) => deserted.and_then(|()| self.give_up(&app)),
        };
        if let Err(error) = done {
            // The server is closing: there is nobody to tell.
            tracing::warn!(run = self.id, "stopped: {error}");
        }
    }

    /// Until there was nobody for the time of grace: neither at this run, nor at the user's streams that show it. Whoever
    /// loses the connection comes back within it.
    async fn deserted(&self, app: &App) -> Result<(), EventError> {
        let streams = app.router().broadcasters();
        let ag_ui = streams.ag_ui.topic(&self.user)?;
        let context = streams.context.topic(&self.user)?;
        let grace = app.grace();
        let (mut run, mut own, mut all) =
            (self.topic.interest(), ag_ui.interest(), context.interest());
        loop {
            tokio::join!(
                run.deserted(grace),
                own.deserted(grace),
                all.deserted(grace)
            );
            // Somebody may have come to the first while the others were waited for.
            if self.topic.subscribers() + ag_ui.subscribers() + context.subscribers() == 0 {
                return Ok(());
            }
        }
    }

    /// Closes what is open, and the run.
    fn give_up(&self, app: &App) -> Result<(), EventError> {
        let grace = app.grace();
        tracing::info!(run = self.id, user = %self.user, "nobody has listened for {grace:?}: stopped generating");
        let mut closers = std::mem::take(&mut lock(&self.said).closers);
        while let Some(closer) = closers.pop() {
            self.say(app, closer)?;
        }
        self.say(app, Event::run_cancelled(&self.thread, &self.id))
    }

    /// The response of whoever asks for this run: from its beginning to its end.
    pub(crate) async fn attach(&self, app: &App) -> Result<Response, ApiError> {
        let snapshot = |_position| ready(self.snapshot(app.hub()));
        match self.topic.subscribe_with_snapshot(snapshot).await {
            Ok(subscription) => Ok(subscription
                // A run with a hole breaks its client: better no more of it.
                .lag_policy(LagPolicy::Disconnect)
                // And so does an event that is none of AG-UI's.
                .notices(Notices::Comments)
                .into_sse()
                .into_response()),
            Err(SnapshotError::Snapshot(error)) => Err(error.into()),
            // The run is over: the record is all there is.
            Err(_closed) => Ok(self.replay(app.hub())?),
        }
    }

    fn snapshot(&self, hub: &Hub<Place>) -> Result<Snapshot, EncodeError> {
        let said = lock(&self.said);
        let snapshot = Snapshot::new(said.frames(hub)?);
        Ok(snapshot.as_of(Some(self.topic.position())))
    }

    fn replay(&self, hub: &Hub<Place>) -> Result<Response, EncodeError> {
        let frames = lock(&self.said).frames(hub)?;
        let body: Vec<u8> = frames.iter().flat_map(Frame::as_sse).copied().collect();
        Ok((Sse::headers(), Body::from(body)).into_response())
    }
}

impl Said {
    /// The record, encoded as the topic's events are.
    fn frames(&self, hub: &Hub<Place>) -> Result<Vec<Frame>, EncodeError> {
        let frames = self.events.iter().map(|event| hub.encode(event.to_event()));
        frames.collect()
    }

    /// What an event opens, closes or ends.
    fn note(&mut self, event: &Event) {
        match event {
            Event::TextMessageStart(start) => {
                self.closers
                    .push(Event::text_message_end(&start.message_id));
            }
            Event::ToolCallStart(start) => {
                self.closers.push(Event::tool_call_end(&start.tool_call_id));
            }
            Event::ReasoningStart(start) => {
                self.closers.push(Event::reasoning_end(&start.message_id));
            }
            Event::ReasoningMessageStart(start) => {
                self.closers
                    .push(Event::reasoning_message_end(&start.message_id));
            }
            Event::TextMessageEnd(_)
            | Event::ToolCallEnd(_)
            | Event::ReasoningEnd(_)
            | Event::ReasoningMessageEnd(_) => drop(self.closers.pop()),
            Event::RunFinished(finished) => {
                self.over = true;
                if let Some(RunOutcome::Interrupt(outcome)) = &finished.outcome {
                    self.interrupts.clone_from(&outcome.interrupts);
                }
            }
            Event::RunError(_) => self.over = true,
            _ => {}
        }
    }
}

/// Milliseconds since 1970, as AG-UI's events carry them.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
