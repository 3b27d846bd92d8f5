//! What carries the streams: the reactor's threads, or a task for each connection.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use fanfare::{Reactor, ReactorError, ReactorStats};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::routes;

/// A connection that takes no byte for so long is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) enum Engine {
    /// `axum::serve`: every connection is a task, and hyper writes its stream.
    Axum,
    /// `fanfare::serve`: the reactor has the sockets of the streams, hyper those of all other requests.
    Reactor {
        reactor: Reactor,
        /// Changes whenever one of the reactor's connections has ended.
        closed: watch::Receiver<()>,
    },
}

/// The engine in the answer of `GET /stats`.
#[derive(Debug, Serialize)]
pub(crate) struct EngineStats {
    /// `axum` or `reactor`.
    name: &'static str,
    /// `null` with axum, which does not count.
    reactor: Option<ReactorNumbers>,
}

#[derive(Debug, Serialize)]
struct ReactorNumbers {
    connections: usize,
    connections_per_shard: Vec<usize>,
    adopted: u64,
    closed: Ends,
}

/// Connections of the reactor that have ended, by reason.
#[derive(Debug, Serialize)]
struct Ends {
    by_peer: u64,
    reset: u64,
    stalled: u64,
    idle: u64,
    lagged: u64,
    topic_closed: u64,
    too_much_input: u64,
    shut_down: u64,
    failed: u64,
}

impl Engine {
    /// A reactor of so many shards, or of one for each core.
    pub(crate) fn reactor(shards: Option<u16>) -> Result<Self, ReactorError> {
        let (ended, closed) = watch::channel(());
        let mut builder = Reactor::builder()
            .stall_timeout(STALL_TIMEOUT)
            .on_close(move |_| ended.send_replace(()));
        if let Some(shards) = shards {
            builder = builder.shards(usize::from(shards));
        }
        let reactor = builder.build()?;
        Ok(Self::Reactor { reactor, closed })
    }

    pub(crate) fn stats(&self) -> EngineStats {
        match self {
            Self::Axum => EngineStats {
                name: "axum",
                reactor: None,
            },
            Self::Reactor { reactor, .. } => EngineStats {
                name: "reactor",
                reactor: Some(ReactorNumbers {
                    connections_per_shard: reactor.connections_per_shard(),
                    ..ReactorNumbers::from(reactor.stats())
                }),
            },
        }
    }

    /// Serves until `stop` has resolved and every connection has ended. `stop` closes the hub, which ends every stream.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Self::Axum => {
                // A frame is one small write: Nagle's algorithm would only hold it back.
                let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
                axum::serve(listener, router)
                    .with_graceful_shutdown(stop)
                    .await
            }
            Self::Reactor {
                reactor,
                mut closed,
            } => {
                fanfare::serve(listener, router)
                    .stream(routes::EVENTS)
                    .reactor(reactor.clone())
                    .with_graceful_shutdown(stop)
                    .await
                    .map_err(io::Error::other)?;
                // What was published before the end is still on its way to some.
                while reactor.connections() > 0 && closed.changed().await.is_ok() {}
                // It waits for its threads.
                tokio::task::spawn_blocking(move || reactor.shutdown()).await?;
                Ok(())
            }
        }
    }
}

impl From<ReactorStats> for ReactorNumbers {
    fn from(stats: ReactorStats) -> Self {
        Self {
            connections: stats.connections,
            connections_per_shard: Vec::new(),
            adopted: stats.adopted,
            closed: Ends {
                by_peer: stats.closed_by_peer,
                reset: stats.reset_by_peer,
                stalled: stats.stalled,
                idle: stats.idle,
                lagged: stats.lagged,
                topic_closed: stats.topic_closed,
                too_much_input: stats.too_much_input,
                shut_down: stats.shut_down,
                failed: stats.failed,
            },
        }
    }
}
