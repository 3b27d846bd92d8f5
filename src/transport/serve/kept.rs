//! An HTTP/1 connection that hyper has, until a stream is asked for on it.
//!
//! **Role.** A browser loads a page and opens its stream on the connection that brought it. hyper serves the page; when
//! the answer to a later request is a stream, the socket is taken back from hyper.
//!
//! **Protocol.** *The service* puts the stream into the [`Takeover`] instead of answering, and stays pending: hyper has a
//! request without an answer then, so it takes no other and buffers nothing more. *The driver*, which polls hyper, looks
//! into the takeover whenever hyper is pending. hyper tries to flush all that it has buffered before it gets there; so
//! once the io has nothing that was written and not flushed, neither has hyper, and the connection is taken apart. Until
//! then hyper is polled as before: it sends the rest, and sees it if the client goes.
//!
//! **Invariants.**
//! * U1: what was answered before the stream was asked for is sent before the stream, all of it.
//! * U2: a stream is in the takeover at most once: the service that put it there never answers.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};

use axum_core::response::Response;
use bytes::Bytes;
use http::{Request, response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::rewind::Rewind;
use crate::sync::{HostArc, Mutex, PoisonError};
use crate::transport::sse::Sse;

/// The answer to a request for a stream: its head, and the stream.
pub(super) struct Accepted {
    pub(super) head: response::Parts,
    pub(super) stream: Sse,
}

/// The way of a stream from the service to the driver of its connection.
#[derive(Clone, Default)]
pub(super) struct Takeover(HostArc<Mutex<Option<Accepted>>>);

impl Takeover {
    /// Asks for the connection. The service does not answer after this.
    pub(super) fn ask(&self, accepted: Accepted) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepted);
    }

    fn is_asked(&self) -> bool {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.is_some()
    }

    fn take(&self) -> Option<Accepted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How hyper's part of a connection ended.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart on the stack where it was made"
)]
pub(super) enum Served<T> {
    /// With the connection, or with an upgrade of it.
    Ended(hyper::Result<()>),
    /// With a stream, which gets the connection.
    Stream(T, Accepted),
}

/// Has hyper serve a connection that began with the bytes in `seen`, until it ends or `service` asks for it. When `stop`
/// resolves, the request that is being answered is the last one.
pub(super) async fn serve<T, S>(
    http1: &http1::Builder,
    io: T,
    seen: Bytes,
    service: S,
    takeover: Takeover,
    stop: impl Future<Output = ()>,
) -> Served<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let io = Rewind::new(seen, io);
    let unflushed = io.unflushed();
    let mut connection = http1
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut stop = std::pin::pin!(stop);
    let mut stopped = false;
    let ended = poll_fn(|cx| {
        loop {
            // First: the request that came with the connection is begun before it is asked to stop.
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // U1.
            if takeover.is_asked() && !unflushed.get() {
                return Poll::Ready(None);
            }
            if stopped {
                return Poll::Pending;
            }
            ready!(stop.as_mut().poll(cx));
            stopped = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    })
    .await;
    if let Some(ended) = ended {
        return Served::Ended(ended);
    }
    // What hyper has read behind the request is dropped: nothing that follows a request for a stream is answered.
    match (connection.into_parts(), takeover.take()) {
        (Some(parts), Some(accepted)) => {
            let (_, io) = parts.io.into_inner().into_parts();
            Served::Stream(io, accepted)
        }
        // An upgraded connection is never pending, and nobody else takes the stream.
        _ => Served::Ended(Ok(())),
    }
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::time::Duration;

    use axum_core::body::Body;
    use http::{Method, StatusCode};
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::Hub;

    const BOUND: Duration = Duration::from_secs(10);

    /// A connection that holds 16 bytes. `POST` is answered before its body is there, any other request accepted as a stream.
    fn connection(hub: &Hub, seen: &'static [u8]) -> (DuplexStream, JoinHandle<bool>) {
        let (client, io) = duplex(16);
        let takeover = Takeover::default();
        let asking = takeover.clone();
        let hub = hub.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (asking, hub) = (asking.clone(), hub.clone());
            async move {
                if request.method() == Method::POST {
                    // Read, so that the connection goes on behind it, by nobody who waits for it here.
                    drop(tokio::spawn(async move {
                        let body = http_body_util::BodyExt::collect(request.into_body());
                        drop(body.await);
                    }));
                    let mut answer = Response::new(Body::empty());
                    *answer.status_mut() = StatusCode::NO_CONTENT;
                    return Ok(answer);
                }
                let stream = hub.subscribe("t").unwrap().into_sse();
                let (head, ()) = Response::new(()).into_parts();
                asking.ask(Accepted { head, stream });
                future::pending().await
            }
        });
        let serving = tokio::spawn(async move {
            let http1 = http1::Builder::new();
            let seen = Bytes::from_static(seen);
            let served = serve(&http1, io, seen, service, takeover, future::pending());
            match served.await {
                Served::Ended(_) => false,
                Served::Stream(mut io, accepted) => {
                    drop(accepted);
                    io.write_all(b"the stream").await.unwrap();
                    true
                }
            }
        });
        (client, serving)
    }

    /// Answered with the first half of its body there; the answer fills the connection.
    const EARLY: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbo";

    /// The other half, and the request for a stream.
    async fn go_on(client: &mut DuplexStream, hub: &Hub) {
        let rest = b"dyGET /t HTTP/1.1\r\n\r\nmore";
        client.write_all(rest).await.unwrap();
        while hub.subscribers() == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { timeout(BOUND, test).await.unwrap() });
    }

    /// U1: the stream's request is read and accepted while the answer before it is stuck.
    #[test]
    fn what_is_stuck_goes_first() {
        run(async {
            let hub = Hub::new();
            let (mut client, serving) = connection(&hub, EARLY);
            go_on(&mut client, &hub).await;
            let mut received = Vec::new();
            for _ in 0..16 {
                tokio::task::yield_now().await;
                assert!(!serving.is_finished());
            }
            client.read_to_end(&mut received).await.unwrap();
            let received = String::from_utf8(received).unwrap();
            assert!(received.starts_with("HTTP/1.1 204 "), "{received:?}");
            assert!(received.ends_with("\r\n\r\nthe stream"), "{received:?}");
            assert_eq!(received.matches("\r\n\r\n").count(), 1, "{received:?}");
            assert!(serving.await.unwrap());
        });
    }

    #[test]
    fn who_goes_while_something_is_stuck_gets_no_stream() {
        run(async {
            let hub = Hub::new();
            let (mut client, serving) = connection(&hub, EARLY);
            go_on(&mut client, &hub).await;
            drop(client);
            assert!(!serving.await.unwrap());
            assert_eq!(hub.subscribers(), 0);
        });
    }

    #[test]
    fn a_stream_takes_the_connection_at_once() {
        run(async {
            let hub = Hub::new();
            let (mut client, serving) = connection(&hub, b"GET /t HTTP/1.1\r\n\r\n");
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "the stream");
            assert!(serving.await.unwrap());
        });
    }
}
