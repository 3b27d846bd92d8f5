//! Who sent a request.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::StatusCode;
use http::request::Parts;

/// The address that a request came from: an extension of every request that [`serve`](crate::serve) passes on, and an
/// extractor.
///
/// Behind a proxy it is the proxy's. Extractors that want axum's `ConnectInfo` are served by a layer that copies it:
///
/// ```
/// use std::net::SocketAddr;
/// use axum::{Router, extract::{ConnectInfo, Request}, middleware::{Next, from_fn}, routing::get};
/// use fanfare::PeerAddr;
///
/// let router: Router = Router::new()
///     .route("/mine", get(|PeerAddr(address): PeerAddr| async move { address.to_string() }))
///     .route("/axums", get(|ConnectInfo(address): ConnectInfo<SocketAddr>| async move { address.to_string() }))
///     .layer(from_fn(|PeerAddr(address): PeerAddr, mut request: Request, next: Next| {
///         request.extensions_mut().insert(ConnectInfo(address));
///         next.run(request)
///     }));
/// # drop(router);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "made to be taken apart by a pattern"
)]
pub struct PeerAddr(
    /// The address.
    pub SocketAddr,
);

impl<S: Sync> FromRequestParts<S> for PeerAddr {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().copied().ok_or((
            StatusCode::INTERNAL_SERVER_ERROR,
            "the address of the peer is only known to requests that came through fanfare::serve",
        ))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for PeerAddr {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().copied())
    }
}
