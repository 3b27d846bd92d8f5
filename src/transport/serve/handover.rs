//! Where a connection goes once its head was judged: to the application and then to the reactor, or to hyper.
//!
//! **Role.** Asks the application for the answer of a streaming route, on the acceptor's thread as long as it does not
//! wait; a stream goes to the reactor, every other answer to hyper, which sends it as the answer to the first request. When
//! a stream is asked for on a connection that hyper has, it goes to the reactor from there.
//!
//! **Invariants.**
//! * A1: a connection has one owner at a time: acceptor, a waiting task, hyper's task, or the reactor.
//! * A2: bytes that were read go with the connection, unless a stream answers: what follows its head is never answered.
//! * A3: no panic of the application reaches the acceptor.
//! * A4: every task holds a receiver of `stopping`, so the sender knows when the last one is gone.

use std::convert::Infallible;
use std::error::Error;
use std::future::{self, Future, poll_fn};
use std::io;
use std::net::{self, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum_core::body::Body;
use axum_core::response::Response;
use bytes::{Bytes, BytesMut};
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tower_service::Service;

use super::head::{HTTP2_PREFACE, Refusal, Rules, may_stream, response_head};
use super::kept::{self, Accepted, Served, Takeover};
use super::peer::PeerAddr;
use super::rewind::Rewind;
use crate::sync::{HostArc, Mutex, PoisonError};
use crate::transport::reactor::Reactor;
use crate::transport::slot::take_stream;

/// What a client may send while its request is being answered before it is left in the socket.
const MAX_EARLY_BYTES: usize = 16 * 1024;

/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(2);

/// Refused clients that are waited for at the same time; more are closed at once.
const MAX_LINGERING: usize = 256;

/// What is read of a refused client, so that what it still sends does not destroy the answer on its way.
const MAX_LINGERING_BYTES: usize = 256 * 1024;

/// hyper's own time for the head of a later request, which it also waits for one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The least size of hyper's buffers. Its heads are limited by them.
const HYPER_BUFFER_BYTES: usize = 64 * 1024;

/// What [`serve`](crate::serve) needs of a router.
pub(super) trait App:
    Service<
        Request<Body>,
        Response = Response,
        Error = Infallible,
        Future: Future<Output = Result<Response, Infallible>> + Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> App for S
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
}

/// Answers one request.
async fn ask<S: App>(mut app: S, request: Request<Body>) -> Response {
    let Ok(()) = poll_fn(|cx| app.poll_ready(cx)).await;
    let Ok(response) = app.call(request).await;
    response
}

/// Takes the answer apart, if it is a stream that can go to the reactor.
#[expect(
    clippy::result_large_err,
    reason = "no error: the response goes on as it came"
)]
fn accepted(mut response: Response) -> Result<Accepted, Response> {
    let stream = may_stream(&response).then(|| take_stream(&mut response));
    match stream.flatten() {
        Some(stream) => Ok(Accepted {
            head: response.into_parts().0,
            stream,
        }),
        None => Err(response),
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Runs one hand-over. If the application panics in it, what it owned is dropped, its connection closed, and the caller
/// goes on. A3. The application's state after a panic is its own matter, as it is in a task.
pub(super) fn guarded(peer: SocketAddr, step: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(step)) {
        tracing::error!(%peer, "the application panicked; the connection is closed");
        // Dropping it is the application's code again.
        std::mem::forget(panic);
    }
}

/// What every hand-over needs. Clones are cheap.
#[derive(Clone)]
pub(super) struct Handover<S> {
    app: S,
    reactor: Reactor,
    runtime: Handle,
    rules: HostArc<Rules>,
    http1: HostArc<http1::Builder>,
    http2: HostArc<http2::Builder<TokioExecutor>>,
    lingering: HostArc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl<S: App> Handover<S> {
    pub(super) fn new(
        app: S,
        reactor: Reactor,
        runtime: Handle,
        stopping: watch::Receiver<bool>,
        rules: HostArc<Rules>,
        head_timeout: Duration,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout.max(KEEP_ALIVE))
            .max_buf_size(rules.max_head_bytes.max(HYPER_BUFFER_BYTES));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).enable_connect_protocol();
        Self {
            app,
            reactor,
            runtime,
            rules,
            http1: HostArc::new(http1),
            http2: HostArc::new(http2),
            lingering: HostArc::new(Semaphore::new(MAX_LINGERING)),
            stopping,
        }
    }

    /// Answers a request for a stream. Runs on the acceptor's thread, inside the runtime's context.
    pub(super) fn stream(
        &self,
        socket: net::TcpStream,
        peer: SocketAddr,
        request: Request<()>,
        seen: Bytes,
    ) {
        let mut request = request.map(|()| Body::empty());
        request.extensions_mut().insert(PeerAddr(peer));
        let mut answer: Answer = Box::pin(ask(self.app.clone(), request));
        // Whoever polls next, polls with a waker of its own.
        match answer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(response) => self.answer(socket, peer, response, seen),
            Poll::Pending => {
                let waiting = self.clone().wait(socket, peer, answer, seen);
                drop(self.runtime.spawn(waiting));
            }
        }
    }

    /// Waits for the answer, as long as the client does.
    async fn wait(self, socket: net::TcpStream, peer: SocketAddr, answer: Answer, seen: Bytes) {
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return closed(peer, &error),
        };
        let mut early = BytesMut::new();
        let response = tokio::select! {
            biased;
            response = answer => response,
            () = gone(&socket, &mut early) => return,
        };
        let seen = if early.is_empty() {
            seen
        } else {
            let mut all = BytesMut::from(seen);
            all.unsplit(early);
            all.freeze()
        };
        match socket.into_std() {
            Ok(socket) => self.answer(socket, peer, response, seen),
            Err(error) => closed(peer, &error),
        }
    }

    /// Sends the application's answer: a stream by the reactor, the rest by hyper.
    fn answer(&self, socket: net::TcpStream, peer: SocketAddr, response: Response, seen: Bytes) {
        match accepted(response) {
            Ok(accepted) => self.adopt(socket, peer, accepted),
            Err(response) => self.hyper(socket, peer, seen, Some(response)),
        }
    }

    fn adopt(&self, socket: net::TcpStream, peer: SocketAddr, accepted: Accepted) {
        let head = response_head(&accepted.head);
        if let Err(error) = self.reactor.adopt_prepared(socket, &head, accepted.stream) {
            tracing::debug!(%peer, %error, "a stream was not adopted");
        }
    }

    /// Gives the connection to hyper, with the bytes already read and, if there is one, the answer to the first request.
    pub(super) fn hyper(
        &self,
        socket: net::TcpStream,
        peer: SocketAddr,
        seen: Bytes,
        first: Option<Response>,
    ) {
        let this = self.clone();
        drop(self.runtime.spawn(async move {
            match TcpStream::from_std(socket) {
                Ok(socket) if seen.starts_with(HTTP2_PREFACE) => {
                    this.serve_http2(socket, peer, seen).await;
                }
                Ok(socket) => this.serve_http1(socket, peer, seen, first).await,
                Err(error) => closed(peer, &error),
            }
        }));
    }

    async fn serve_http1(
        mut self,
        socket: TcpStream,
        peer: SocketAddr,
        seen: Bytes,
        mut first: Option<Response>,
    ) {
        if let Some(first) = &mut first
            && *self.stopping.borrow()
        {
            // hyper would keep the connection alive in the answer's head, and then close it.
            let close = HeaderValue::from_static("close");
            first.headers_mut().insert(CONNECTION, close);
        }
        let first = Mutex::new(first);
        let takeover = Takeover::default();
        let asking = takeover.clone();
        let (app, rules) = (self.app.clone(), HostArc::clone(&self.rules));
        let service = service_fn(move |request: Request<Incoming>| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let app = app.clone();
            let asking = rules.is_for_stream(&request).then(|| asking.clone());
            async move {
                if let Some(response) = first {
                    return Ok(response);
                }
                let response = ask(app, from_hyper(request, peer)).await;
                let Some(asking) = asking else {
                    return Ok(response);
                };
                match accepted(response) {
                    Ok(accepted) => asking.ask(accepted),
                    Err(response) => return Ok(response),
                }
                future::pending().await
            }
        });
        let stop = stop(&mut self.stopping);
        match kept::serve(&self.http1, socket, seen, service, takeover, stop).await {
            Served::Ended(Ok(())) => {}
            Served::Ended(Err(error)) => closed(peer, &error),
            Served::Stream(socket, accepted) => match socket.into_std() {
                Ok(socket) => self.adopt(socket, peer, accepted),
                Err(error) => closed(peer, &error),
            },
        }
    }

    /// Streams are tasks here: they share their connection with other requests.
    async fn serve_http2(mut self, socket: TcpStream, peer: SocketAddr, seen: Bytes) {
        let app = self.app;
        let service = service_fn(move |request: Request<Incoming>| {
            let app = app.clone();
            async move { Ok::<_, Infallible>(ask(app, from_hyper(request, peer)).await) }
        });
        let io = TokioIo::new(Rewind::new(seen, socket));
        let mut connection = pin!(self.http2.serve_connection(io, service));
        let served = tokio::select! {
            // The request that came with the connection is begun before it is asked to stop.
            biased;
            served = connection.as_mut() => served,
            () = stop(&mut self.stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            closed(peer, &error);
        }
    }

    /// Tells the client why, and closes.
    pub(super) fn refuse(&self, socket: net::TcpStream, peer: SocketAddr, refusal: Refusal) {
        tracing::debug!(%peer, ?refusal, "a connection was refused");
        let this = self.clone();
        drop(self.runtime.spawn(async move {
            let Ok(mut socket) = TcpStream::from_std(socket) else {
                return;
            };
            let goodbye = async {
                socket.write_all(&refusal.answer()).await?;
                socket.shutdown().await?;
                if let Ok(_permit) = this.lingering.try_acquire() {
                    drain(&mut socket).await?;
                }
                Ok::<(), io::Error>(())
            };
            // An error means that the client is gone, which is what this waits for.
            drop(timeout(LINGER, goodbye).await);
        }));
    }
}

/// A request as the application gets it.
fn from_hyper(request: Request<Incoming>, peer: SocketAddr) -> Request<Body> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

/// Resolves when the server is asked to stop. A server that was dropped asks nothing.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        future::pending::<()>().await;
    }
}

fn closed(peer: SocketAddr, error: &(dyn Error + 'static)) {
    tracing::debug!(%peer, error, "a connection was closed");
}

/// Resolves when the client closes. What it sends is kept.
async fn gone(socket: &TcpStream, early: &mut BytesMut) {
    while early.len() < MAX_EARLY_BYTES {
        if socket.readable().await.is_err() {
            return;
        }
        early.reserve(1024);
        match socket.try_read_buf(early) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => return,
        }
    }
    // The rest stays in the socket; the client's end behind it is seen later.
    future::pending::<()>().await;
}

/// Reads what a client still sends, until it closes or has sent too much.
async fn drain(socket: &mut TcpStream) -> io::Result<()> {
    let mut bin = vec![0; 8 * 1024];
    let mut left = MAX_LINGERING_BYTES;
    loop {
        let read = socket.read(&mut bin).await?;
        if read == 0 || read > left {
            return Ok(());
        }
        left -= read;
    }
}
