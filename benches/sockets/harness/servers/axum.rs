//! axum on `tokio::sync::broadcast`, in the two forms in which it is met.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Sse};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::runtime;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::control::{self, Publish};
use super::{Listeners, Setup};
use crate::harness::failure::{During as _, Failure};
use crate::harness::wire;

/// Serves `router` until the control connection ends.
pub(super) fn serve(
    listeners: Listeners,
    setup: &Setup,
    router: Router,
    publish: impl Publish,
) -> Result<(), Failure> {
    let mut builder = match setup.workers {
        0 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(setup.workers.max(1))
        .enable_all()
        .build()
        .during("building a runtime")?;
    listeners.announce()?;
    let Listeners { streams, control } = listeners;
    runtime.block_on(async {
        streams.set_nonblocking(true).during("serving")?;
        let streams = tokio::net::TcpListener::from_std(streams).during("serving")?;
        tokio::spawn(axum::serve(streams, router).into_future());
        control::on_task(control, publish).await
    })?;
    // Thousands of connections are open; nobody waits for them.
    runtime.shutdown_background();
    Ok(())
}

/// A channel per topic.
#[derive(Debug, Clone)]
struct Topics<T> {
    senders: Arc<RwLock<HashMap<u32, broadcast::Sender<T>>>>,
    capacity: usize,
}

impl<T: Clone + Send + 'static> Topics<T> {
    fn new(capacity: usize) -> Self {
        Self {
            senders: Arc::default(),
            capacity,
        }
    }

    fn subscribe(&self, topic: u32) -> impl Stream<Item = T> + use<T> {
        let mut senders = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        let sender = senders
            .entry(topic)
            .or_insert_with(|| broadcast::Sender::new(self.capacity));
        BroadcastStream::new(sender.subscribe()).filter_map(async |received| received.ok())
    }

    fn send(&self, topic: u32, value: T) {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(&topic) {
            // An error means that nobody listens.
            drop(sender.send(value));
        }
    }
}

/// What is sent is the text; every connection makes an `Event` of it.
pub(super) fn idiomatic(listeners: Listeners, setup: &Setup) -> Result<(), Failure> {
    type Texts = Topics<Arc<str>>;

    impl Publish for Texts {
        fn publish(&self, topic: u32, payload: &str) {
            self.send(topic, payload.into());
        }
    }

    async fn stream(State(topics): State<Texts>, Path(topic): Path<u32>) -> impl IntoResponse {
        let events = topics
            .subscribe(topic)
            .map(|text| Ok::<_, Infallible>(Event::default().data(text)));
        Sse::new(events).keep_alive(KeepAlive::default())
    }

    async fn publish(
        State(topics): State<Texts>,
        Path(topic): Path<u32>,
        body: String,
    ) -> StatusCode {
        topics.publish(topic, &body);
        StatusCode::NO_CONTENT
    }

    let topics = Texts::new(setup.capacity);
    let router = Router::new()
        .route("/stream/{topic}", get(stream))
        .route("/publish/{topic}", post(publish))
        .with_state(topics.clone());
    serve(listeners, setup, router, topics)
}

/// What is sent is the frame; every connection clones it.
pub(super) fn framed(listeners: Listeners, setup: &Setup) -> Result<(), Failure> {
    type Frames = Topics<Bytes>;

    impl Publish for Frames {
        fn publish(&self, topic: u32, payload: &str) {
            let mut frame = Vec::with_capacity(payload.len() + 8);
            wire::frame(&mut frame, payload);
            self.send(topic, frame.into());
        }
    }

    async fn stream(State(topics): State<Frames>, Path(topic): Path<u32>) -> impl IntoResponse {
        let frames = topics.subscribe(topic).map(Ok::<_, Infallible>);
        let headers = [
            (CONTENT_TYPE, "text/event-stream"),
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, Body::from_stream(frames))
    }

    async fn publish(
        State(topics): State<Frames>,
        Path(topic): Path<u32>,
        body: String,
    ) -> StatusCode {
        topics.publish(topic, &body);
        StatusCode::NO_CONTENT
    }

    let topics = Frames::new(setup.capacity);
    let router = Router::new()
        .route("/stream/{topic}", get(stream))
        .route("/publish/{topic}", post(publish))
        .with_state(topics.clone());
    serve(listeners, setup, router, topics)
}
