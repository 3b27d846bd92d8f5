//! The socket behind an upgrade.
//!
//! **Role.** An upgraded connection is hyper's trait object around what the server was given. [`reclaim`] knows what the
//! servers of this crate, of axum and of hyper-util give, and takes it off again layer by layer.
//!
//! **Invariant.** C1: no byte that was read is lost. What hyper has read comes first, then what it had not taken yet of the
//! bytes that were read before it.

use std::io;
use std::net;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::rewind::Rewind;

/// An upgraded connection whose socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReclaimError {
    /// There is no TCP socket right behind it: it is one stream of an HTTP/2 connection, or encrypted, or a wrapper's. It
    /// comes back as it was.
    #[error("the upgraded connection is not a TCP socket")]
    NotTcp(Upgraded),
    /// The system refused to take the socket out of tokio's poll. The connection is closed.
    #[error("the socket cannot be taken from tokio: {0}")]
    Socket(#[source] io::Error),
}

/// Takes the socket out of a connection that was upgraded, for [`Reactor::adopt`](crate::Reactor::adopt) or anything else
/// that wants one: the socket, set not to block, and the bytes that the server has read behind the request.
///
/// It works under [`serve`](crate::serve), under `axum::serve` on a `TcpListener`, and for what hyper or hyper-util serve on a
/// `TokioIo<TcpStream>`. A handler answers 101 itself, and takes `hyper::upgrade::on(&mut request)` before; axum's
/// `WebSocketUpgrade` cannot give its socket back.
///
/// Call it inside the tokio runtime that serves the connection.
///
/// # Errors
///
/// [`ReclaimError`]; an upgraded connection that is something else comes back in it, to be served as a task.
///
/// # Examples
///
/// ```
/// use axum::{Router, extract::{Request, State}, http::{StatusCode, header}, response::IntoResponse, routing::get};
/// use fanfare::{Hub, Reactor, reclaim};
///
/// async fn events(State((hub, reactor)): State<(Hub, Reactor)>, mut request: Request) -> impl IntoResponse {
///     let upgrade = hyper::upgrade::on(&mut request);
///     tokio::spawn(async move {
///         // The upgrade is there once the answer was sent.
///         let Ok(upgraded) = upgrade.await else { return };
///         // Nothing is expected of the client, so what it has sent early is dropped.
///         let Ok((socket, _early)) = reclaim(upgraded) else { return };
///         let Ok(subscription) = hub.subscribe("news") else { return };
///         if let Err(error) = reactor.adopt(socket, "", subscription.into_sse()) {
///             eprintln!("not adopted: {error}");
///         }
///     });
///     (StatusCode::SWITCHING_PROTOCOLS, [(header::UPGRADE, "events"), (header::CONNECTION, "upgrade")])
/// }
///
/// # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// # let _inside = runtime.enter();
/// let router: Router = Router::new().route("/news", get(events)).with_state((Hub::new(), Reactor::new()?));
/// # drop(router);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reclaim(upgraded: Upgraded) -> Result<(net::TcpStream, Bytes), ReclaimError> {
    let (socket, read) = take_apart(upgraded).map_err(ReclaimError::NotTcp)?;
    let socket = socket.into_std().map_err(ReclaimError::Socket)?;
    Ok((socket, read))
}

fn take_apart(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    // Of this crate's server.
    let upgraded = match upgraded.downcast::<TokioIo<Rewind<TcpStream>>>() {
        Ok(parts) => {
            let (prefix, socket) = parts.io.into_inner().into_parts();
            return Ok((socket, both(parts.read_buf, &prefix)));
        }
        Err(upgraded) => upgraded,
    };
    // Of axum's and hyper-util's, which wrap what they are given.
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    // Of hyper's own.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// C1.
fn both(first: Bytes, then: &[u8]) -> Bytes {
    if then.is_empty() {
        return first;
    }
    let mut all = BytesMut::from(first);
    all.extend_from_slice(then);
    all.freeze()
}
