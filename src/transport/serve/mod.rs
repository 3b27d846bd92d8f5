//! The HTTP entrance of the reactor.
//!
//! ```text
//!              acceptor.rs                head.rs           handover.rs
//!  listener ──▶ accept, read the head ──▶ judge ──┬─ GET of a streaming route ──▶ the router's handler ─┬─ Sse ──▶ reactor
//!                    ▲       │                    ├─ anything else ──────────────▶ hyper ◀─ its answer ──┴─ any other
//!                    └ wait ─┘ heads.rs           └─ refused: 400, 408, 431, close
//!
//!  hyper ──▶ kept.rs: GET of a streaming route, an Sse in answer ──▶ reactor
//! ```
//!
//! **Role.** [`serve`] collects what it needs, starts the acceptor's thread, and waits for the signal that ends it all.

mod acceptor;
mod handover;
mod head;
mod heads;
mod kept;
mod peer;
mod reclaim;
mod rewind;

pub use peer::PeerAddr;
pub use reclaim::{ReclaimError, reclaim};

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::time::Duration;

use axum_core::body::Body;
use axum_core::response::Response;
use http::Request;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tower_service::Service;

use self::acceptor::{Acceptor, Stop};
use self::handover::Handover;
use self::head::Rules;
use super::reactor::{Reactor, ReactorError};
use crate::sync::{HostArc, ThreadBuilder};

/// Serves `router` on `listener`: the streams of its streaming routes on a [`Reactor`], everything else through hyper.
///
/// `router` is an axum `Router`, or any other tower service of that shape; `listener` is std's or tokio's.
/// The result is a builder and, awaited inside a tokio runtime, the server: it runs until
/// [`with_graceful_shutdown`](Serve::with_graceful_shutdown) ends it.
///
/// A route that is named by [`stream`](Serve::stream) is served like this. The head of the request is read; the router is
/// called, with all its layers, as it is for any request; if it answers with an [`Sse`](crate::Sse), the status and the headers are
/// sent as the router made them and the connection goes to the reactor, where it costs neither a task nor a buffer. The
/// end of the connection is the end of such a response, so it says `connection: close`. Any other answer (a 401, a
/// redirect) is sent by hyper, and the connection is kept alive as usual.
///
/// Everything else goes to hyper and tokio with nothing lost: other methods and paths, requests with a body, upgrades,
/// HTTP/2 without TLS. There an `Sse` works as well, as a task. A stream that is asked for on a connection that was kept alive
/// after another answer, as browsers do, goes to the reactor when that answer is sent.
///
/// A client that shuts down its sending side is taken for gone, here as with hyper.
///
/// # What layers can do
///
/// Layers see every request, and change the status and the headers of every answer. The body of a stream does not pass
/// through them on the reactor: a layer that wraps bodies without a `content-encoding`, to count or to time them out, has no
/// effect there. A layer that puts another body in the place of the stream is obeyed, and so is one that compresses.
///
/// # Handlers
///
/// A handler of a streaming route is begun on the acceptor's thread, inside the runtime's context, and goes on as a task
/// if it has to wait for something. Until then it must not block: no connection is accepted meanwhile. If the client closes
/// while it waits, it is dropped. If it panics, the connection is closed.
///
/// # TLS
///
/// This serves connections in clear text, from clients or from a proxy that ends their TLS. For TLS in the same process use
/// a server on the task path, where `Sse` is an ordinary response.
///
/// # Cancel safety
///
/// Dropping the server's future stops it accepting and closes the listener. Connections that hyper has go on; the streams
/// of a reactor that is the server's own end when the last request that could become one is answered.
///
/// # Examples
///
/// ```
/// use axum::{Router, extract::{Path, State}, http::StatusCode, response::IntoResponse, routing::get};
/// use fanfare::Hub;
///
/// async fn events(State(hub): State<Hub>, Path(topic): Path<String>) -> Result<impl IntoResponse, StatusCode> {
///     let subscription = hub.subscribe(topic.as_str()).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
///     Ok(subscription.into_sse())
/// }
///
/// # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// # runtime.block_on(async {
/// let hub = Hub::new();
/// let router = Router::new()
///     .route("/", get(|| async { "a page" }))
///     .route("/events/{topic}", get(events))
///     .with_state(hub.clone());
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let stop = async { /* wait for a signal */ };
/// fanfare::serve(listener, router)
///     .stream("/events/{topic}")
///     .with_graceful_shutdown(stop)
///     .await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serve<S>(listener: impl IntoListener, router: S) -> Serve<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    Serve {
        listener: listener.into_listener(),
        router,
        streams: Vec::new(),
        reactor: None,
        head_timeout: Duration::from_secs(10),
        max_head_bytes: 16 * 1024,
        max_heads: 4096,
        signal: None,
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else implements it")]
    pub trait Sealed {}
    impl Sealed for std::net::TcpListener {}
    impl Sealed for tokio::net::TcpListener {}
}

/// A TCP listener of std's or tokio's.
pub trait IntoListener: sealed::Sealed {
    /// std's listener, set not to block.
    ///
    /// # Errors
    ///
    /// If the system refuses that.
    fn into_listener(self) -> io::Result<TcpListener>;
}

impl IntoListener for TcpListener {
    fn into_listener(self) -> io::Result<TcpListener> {
        self.set_nonblocking(true)?;
        Ok(self)
    }
}

impl IntoListener for tokio::net::TcpListener {
    fn into_listener(self) -> io::Result<TcpListener> {
        self.into_std()
    }
}

/// Why [`serve`] did not start, or ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A streaming route is not a pattern, or matches the same paths as another one.
    #[error("the streaming route {pattern:?} cannot be used: {reason}")]
    Route {
        /// What was given to [`Serve::stream`].
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit is impossible.
    #[error("{limit} is {value}; it must be from {least} to {most}")]
    Limit {
        /// The method of [`Serve`] that set it.
        limit: &'static str,
        /// The refused value, in the unit of the method (milliseconds for durations).
        value: u128,
        /// The least value that is accepted.
        least: u128,
        /// The largest value that is accepted.
        most: u128,
    },
    /// There is no tokio runtime here.
    #[error("the server has to be awaited inside a tokio runtime")]
    NoRuntime,
    /// The reactor could not be built.
    #[error("the reactor cannot be built: {0}")]
    Reactor(#[from] ReactorError),
    /// The listener cannot be used.
    #[error("the listener cannot be used: {0}")]
    Listener(#[source] io::Error),
    /// The thread that accepts connections could not be started, or ended.
    #[error("the acceptor has ended: {0}")]
    Acceptor(#[source] io::Error),
}

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server to be: set it up, then await it. Made by [`serve`].
///
/// | method | default | range |
/// |---|---|---|
/// | [`head_timeout`](Self::head_timeout) | 10 s | 10 ms to 1 hour |
/// | [`max_head_bytes`](Self::max_head_bytes) | 16 KiB | 256 bytes to 1 MiB |
/// | [`max_heads`](Self::max_heads) | 4,096 | 1 to 1,048,576 |
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<S> {
    listener: io::Result<TcpListener>,
    router: S,
    streams: Vec<String>,
    reactor: Option<Reactor>,
    head_timeout: Duration,
    max_head_bytes: usize,
    max_heads: usize,
    signal: Option<Signal>,
}

impl<S> Serve<S> {
    /// A streaming route, in axum's syntax. It has to be a route of the router as well; say it once for each.
    pub fn stream(mut self, pattern: impl Into<String>) -> Self {
        self.streams.push(pattern.into());
        self
    }

    /// The reactor for the streams; one with the defaults otherwise. A reactor given here is not shut down with the server.
    pub fn reactor(mut self, reactor: Reactor) -> Self {
        self.reactor = Some(reactor);
        self
    }

    /// How long a client may take from connecting to the end of its first request's head. Then it is answered 408, if it
    /// has sent anything, and closed. Later requests on a connection are hyper's: they have to come within 30 s,
    /// or within this if it is longer.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.head_timeout = timeout;
        self
    }

    /// The largest head of a first request, in bytes. Larger ones, or ones with more than 100 fields, are answered 431 and
    /// closed. Later requests on a connection are hyper's: it takes 64 KiB, or this if it is more.
    pub fn max_head_bytes(mut self, bytes: usize) -> Self {
        self.max_head_bytes = bytes;
        self
    }

    /// Connections whose head is being waited for at the same time. While there are as many, no more are accepted: clients
    /// that send slowly cannot take all descriptors.
    pub fn max_heads(mut self, heads: usize) -> Self {
        self.max_heads = heads;
        self
    }

    /// Stops the server when `signal` resolves: the listener is closed; requests that are being answered are answered to
    /// the end, idle connections closed; a reactor that is the server's own is shut down, which ends its streams. The server's
    /// future resolves when all of that is done. A request for a stream that is still being answered then finds
    /// no reactor and is closed, unless the reactor is the user's. Streams that hyper serves end with their subscriptions: close
    /// the hub to end them.
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }

    /// The address that the listener is bound to.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        match &self.listener {
            Ok(listener) => listener.local_addr(),
            // The error itself is told by the server.
            Err(error) => Err(error.kind().into()),
        }
    }

    /// The rules for heads, if all limits are possible.
    fn rules(&self) -> Result<Rules, ServeError> {
        let limits = [
            ("head_timeout", self.head_timeout.as_millis(), 10, 3_600_000),
            ("max_head_bytes", self.max_head_bytes as u128, 256, 1 << 20),
            ("max_heads", self.max_heads as u128, 1, 1 << 20),
        ];
        for (limit, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(ServeError::Limit {
                    limit,
                    value,
                    least,
                    most,
                });
            }
        }
        let mut routes = matchit::Router::new();
        for pattern in &self.streams {
            let refused = |reason| ServeError::Route {
                pattern: pattern.clone(),
                reason,
            };
            if !pattern.starts_with('/') {
                return Err(refused("it must start with a slash".to_owned()));
            }
            routes
                .insert(pattern, ())
                .map_err(|error| refused(error.to_string()))?;
        }
        Ok(Rules {
            routes,
            max_head_bytes: self.max_head_bytes,
        })
    }
}

impl<S> fmt::Debug for Serve<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("streams", &self.streams)
            .field("reactor", &self.reactor)
            .field("head_timeout", &self.head_timeout)
            .field("max_head_bytes", &self.max_head_bytes)
            .field("max_heads", &self.max_heads)
            .finish_non_exhaustive()
    }
}

/// The acceptor does not outlive the server's future.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<S> Serve<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    async fn run(self) -> Result<(), ServeError> {
        let runtime = Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let rules = HostArc::new(self.rules()?);
        let listener = self.listener.map_err(ServeError::Listener)?;
        let (reactor, own) = if let Some(reactor) = self.reactor {
            (reactor, None)
        } else {
            let reactor = Reactor::builder().build()?;
            (reactor.clone(), Some(reactor))
        };
        let (stop, stopping) = watch::channel(false);
        let handover = Handover::new(
            self.router,
            reactor,
            runtime.clone(),
            stopping,
            HostArc::clone(&rules),
            self.head_timeout,
        );
        let acceptor = Acceptor::new(
            listener,
            handover,
            runtime.clone(),
            rules,
            self.head_timeout,
            self.max_heads,
        )
        .map_err(ServeError::Listener)?;

        let accepting = StopOnDrop(acceptor.stopper());
        let (ended, end) = oneshot::channel();
        ThreadBuilder::new()
            .name("fanfare-accept".to_owned())
            // Nobody waits for the result once the server's future is dropped.
            .spawn(move || drop(ended.send(acceptor.run())))
            .map_err(ServeError::Acceptor)?;
        let end = async move {
            end.await
                .unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
                .map_err(ServeError::Acceptor)
        };
        let mut end = std::pin::pin!(end);
        match self.signal {
            Some(signal) => {
                tokio::select! {
                    ended = end.as_mut() => return ended,
                    () = signal => {}
                }
            }
            None => return end.await,
        }

        accepting.0.stop();
        end.await?;
        stop.send_replace(true);
        if let Some(reactor) = own {
            // It waits for its threads.
            let shutdown = runtime.spawn_blocking(move || reactor.shutdown());
            if let Err(error) = shutdown.await {
                tracing::error!(%error, "the reactor was not shut down in order");
            }
        }
        stop.closed().await;
        Ok(())
    }
}

impl<S> IntoFuture for Serve<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Output = Result<(), ServeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
