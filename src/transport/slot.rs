//! The way of a stream through a router: as a response on the outside, as itself for who serves it.
//!
//! **Role.** [`Sse`] as an axum response carries a slot twice: its body owns the slot, the response's extensions
//! point at it. Who can stream without the body takes the stream out; otherwise the body does at its first poll.
//!
//! **Invariants.**
//! * S1: the stream leaves its slot once, to the extension or to the body.
//! * S2: the extension does not keep the slot alive. A layer that puts another body into the response drops this one,
//!   and with it the stream: then there is nothing to take, and the layer's body is the answer.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum_core::response::Response;
use bytes::Bytes;
use http_body::{Body, Frame};

use super::reactor::serves;
use super::sse::{Sse, SseBody};
use crate::sync::{HostArc, HostWeak, Mutex, PoisonError};

type Slot = Mutex<Option<Sse>>;

fn take(slot: &Slot) -> Option<Sse> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Where the stream of a response is found, among the response's extensions.
#[derive(Clone)]
struct StreamSlot(HostWeak<Slot>);

impl fmt::Debug for StreamSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSlot").finish_non_exhaustive()
    }
}

/// `sse` as a response that [`take_stream`] can take apart again.
pub(super) fn response(sse: Sse) -> Response {
    let slot = HostArc::new(Mutex::new(Some(sse)));
    let extension = StreamSlot(HostArc::downgrade(&slot));
    let body = axum_core::body::Body::new(SlotBody { slot, own: None });
    let mut response = Response::new(body);
    *response.headers_mut() = Sse::headers();
    response.extensions_mut().insert(extension);
    response
}

/// Takes the stream out of a response that still has it, if a reactor serves such a stream. What is left of the response has
/// an empty body then.
pub(super) fn take_stream(response: &mut Response) -> Option<Sse> {
    let StreamSlot(slot) = response.extensions_mut().remove()?;
    let slot = slot.upgrade()?;
    let mut stream = slot.lock().unwrap_or_else(PoisonError::into_inner);
    stream.take_if(|sse| serves(sse))
}

/// A body that becomes the stream's at its first poll.
struct SlotBody {
    slot: HostArc<Slot>,
    own: Option<SseBody>,
}

impl Body for SlotBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.own.is_none() {
            self.own = take(&self.slot).map(Sse::into_body);
        }
        match &mut self.own {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}
