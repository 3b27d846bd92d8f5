//! Server-Sent Events as an HTTP response body.
//!
//! The frames are in `text/event-stream` form already. The body copies all that is visible at one poll into one chunk,
//! so a reader with a backlog gets it in few writes, and the count of each frame stays untouched.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame as BodyFrame};

use crate::drain::come_back_after;
use crate::ending::EndReason;
use crate::envelope::Envelope;
use crate::event_id::EventId;
use crate::frame::Frame;
use crate::position::{Ahead, Lag, LagPolicy, Notices, OnLag};
use crate::subscription::{Batch, Subscription};
#[cfg(all(feature = "reactor", any(not(unix), fanfare_tasks)))]
use crate::unwind::FirstPanic;

/// A chunk is sent when it has this many bytes, if not before; one larger event makes one larger chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// A frame of at least this many bytes that stands alone is shared with the body, not copied.
const SHARE_BYTES: usize = 16 * 1024;

/// A comment: proxies and clients see a sign of life, `EventSource` ignores it.
pub(super) const HEARTBEAT: &[u8] = b":\n\n";

/// The line breaks that end the last field of a block, and the block.
pub(super) const BLOCK_END: usize = 2;

/// A response that streams a subscription as `text/event-stream`. Made by [`Subscription::into_sse`].
///
/// With the feature `axum` it is a response as it stands. Elsewhere, [`headers`](Self::headers) and
/// [`into_body`](Self::into_body) go into one.
///
/// # Delivery
///
/// Events are sent as they come, a backlog coalesced into chunks of about 64 KiB, and each in the subscription's
/// [`Envelope`] if it has one. After the hub's `heartbeat` of silence an empty comment is sent. Lag is an event named `lag`
/// with the data `{"missed":N}`, or `{"missed":null}` if nobody can tell, or with [`Notices::Comments`](crate::Notices) a
/// comment that says so; its id is the one just before the first event that follows, so a client that reconnects then
/// continues there. If [control events](crate::Event::control) of what was missed follow it, it has no id: they have their own,
/// and a client that loses the connection among them is told of the rest once more. Only a comment that is the last thing of a stream ([`LagPolicy::Disconnect`]) has no id: the
/// client comes back with the id that it has, and [`Subscription::resumed`] tells the server of the gap. If the hub keeps history, the stream begins with an id of its own, so that a client that loses the
/// connection before its first event misses none. The stream ends when the subscription ends; `EventSource` then
/// reconnects after its `retry` time. If one of its subscriptions is [ended from outside](crate::EndHandle), the whole stream
/// ends with a comment that says why, and what was not sent before is not sent any more.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, extract::{Path, State}, http::StatusCode, response::IntoResponse, routing::get};
/// use fanfare::{Hub, LastEventId};
///
/// async fn events(
///     State(hub): State<Hub>,
///     Path(topic): Path<String>,
///     last: LastEventId,
/// ) -> Result<impl IntoResponse, StatusCode> {
///     let subscription = hub.subscribe_from(topic.as_str(), last).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
///     Ok(subscription.into_sse().retry(Duration::from_secs(2)))
/// }
///
/// let app: Router = Router::new().route("/events/{topic}", get(events)).with_state(Hub::new());
/// # drop(app);
/// ```
#[derive(Debug)]
#[must_use = "a response does nothing until it is returned"]
pub struct Sse {
    subscription: Subscription,
    others: Vec<Subscription>,
    /// The frames that come first: those of snapshots.
    first: BytesMut,
    retry: Option<Duration>,
    prime: bool,
}

impl Subscription {
    /// Streams this subscription as Server-Sent Events.
    pub fn into_sse(mut self) -> Sse {
        self.set_heartbeats(true);
        Sse {
            first: take_first(&mut self),
            prime: self.can_resume(),
            subscription: self,
            others: Vec::new(),
            retry: None,
        }
    }
}

impl Sse {
    /// Streams another topic on the same connection: a topic is read once, however often it is given. A subscription of a
    /// topic that is given already is dropped.
    ///
    /// Each topic's events keep their order; there is none among topics. The stream ends when all of its topics have, or
    /// when one of them lags whose policy is [`LagPolicy::Disconnect`]. A client remembers one
    /// id: it says where the client stands in the topic that this id is of, and nothing about the others.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::Hub;
    ///
    /// let hub = Hub::new();
    /// let sse = hub.subscribe("room:1")?.into_sse().with(hub.subscribe("announcements")?);
    /// # drop(sse);
    /// # Ok::<(), fanfare::SubscribeError>(())
    /// ```
    pub fn with(mut self, mut other: Subscription) -> Self {
        let read = |subscription: &Subscription| subscription.is_on_topic_of(&other);
        if !read(&self.subscription) && !self.others.iter().any(read) {
            other.set_heartbeats(true);
            self.first.unsplit(take_first(&mut other));
            self.others.push(other);
        }
        self
    }

    /// Sends a `retry:` field first: how long the client waits before it reconnects, in whole milliseconds. It stands
    /// in one block with the opening id, if there is one.
    pub fn retry(mut self, delay: Duration) -> Self {
        self.retry = Some(delay);
        self
    }

    /// Whether the stream begins with a block that has an id and no data: on by default if the hub keeps history. By
    /// the rules it moves the client's place and fires nothing; turn it off for clients that take it for an event.
    pub fn prime(mut self, prime: bool) -> Self {
        self.prime = prime;
        self
    }

    /// The headers of the response: the content type, and what keeps caches and proxies from holding events back.
    #[must_use]
    pub fn headers() -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-transform"),
        );
        headers.insert(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
        headers
    }

    /// The body of the response.
    pub fn into_body(self) -> SseBody {
        let (opening, subscription, others) = self.into_parts();
        SseBody {
            subscription,
            others,
            opening: Some(opening),
            turn: 0,
            last: None,
            leaves: None,
            ended: false,
        }
    }

    /// Whether one of its subscriptions does not want all of its topic.
    #[cfg(feature = "reactor")]
    pub(super) fn has_choice(&self) -> bool {
        let mut others = self.others.iter();
        self.subscription.has_choice() || others.any(Subscription::has_choice)
    }

    /// What is sent before the events, the subscription, and those beside it.
    pub(super) fn into_parts(self) -> (Bytes, Subscription, Vec<Subscription>) {
        let mut opening = BytesMut::new();
        // Writing to a buffer that grows does not fail.
        if let Some(retry) = self.retry {
            let _ = writeln!(opening, "retry: {}", retry.as_millis());
        }
        let id = self.prime.then(|| self.subscription.position());
        let (before, after) = match id {
            // Whoever has not got all of a snapshot must not continue behind it.
            Some(id) if !self.first.is_empty() => (None, Some(id)),
            id => (id, None),
        };
        if let Some(id) = before {
            let _ = writeln!(opening, "id: {id}");
        }
        if !opening.is_empty() {
            opening.extend_from_slice(b"\n");
        }
        opening.unsplit(self.first);
        if let Some(id) = after {
            let _ = write!(opening, "id: {id}\n\n");
        }
        let opening = if opening.is_empty() {
            // Something must be sent at once, or the client does not learn that the stream is open.
            Bytes::from_static(HEARTBEAT)
        } else {
            opening.freeze()
        };
        (opening, self.subscription, self.others)
    }

    /// The whole response.
    #[must_use]
    pub fn into_http(self) -> http::Response<SseBody> {
        let mut response = http::Response::new(self.into_body());
        *response.headers_mut() = Self::headers();
        response
    }
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Sse {
    #[cfg(feature = "serve")]
    fn into_response(self) -> axum_core::response::Response {
        super::slot::response(self)
    }

    #[cfg(not(feature = "serve"))]
    fn into_response(self) -> axum_core::response::Response {
        self.into_http().map(axum_core::body::Body::new)
    }
}

/// The body of an SSE response: an [`http_body::Body`] that never fails.
#[derive(Debug)]
#[must_use = "a body does nothing until it is polled"]
pub struct SseBody {
    subscription: Subscription,
    others: Vec<Subscription>,
    opening: Option<Bytes>,
    /// Which of them is looked at first.
    turn: usize,
    /// Why the whole stream ends with the chunk that was given last, if it does.
    last: Option<EndReason>,
    /// Why its subscriptions leave, each when it has read all there is, once one has.
    leaves: Option<EndReason>,
    ended: bool,
}

impl SseBody {
    /// The client goes on, though not all of its topics may have their turn now.
    #[cold]
    fn go_on(&mut self) {
        self.subscription.see_end();
        self.others.iter_mut().for_each(Subscription::see_end);
    }

    /// The subscription behind the body, the first one if it has several.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Why the chunk that was given last is the last one, if it is: a reader lagged whose policy is to end then, or was ended
    /// from outside.
    #[cfg(all(feature = "reactor", any(not(unix), fanfare_tasks)))]
    pub(super) fn last(&self) -> Option<EndReason> {
        self.last.or(self.leaves.filter(|_| self.ended))
    }

    /// Drops its subscriptions and what they keep, which is user code: a panic has told of itself.
    #[cfg(all(feature = "reactor", any(not(unix), fanfare_tasks)))]
    pub(super) fn let_go(self) {
        for subscription in std::iter::once(self.subscription).chain(self.others) {
            FirstPanic::default().run(move || drop(subscription));
        }
    }
}

impl Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        let data = |bytes| Poll::Ready(Some(Ok(BodyFrame::data(bytes))));
        if let Some(opening) = self.opening.take() {
            return data(opening);
        }
        let this = &mut *self;
        if this.ended || this.last.is_some() {
            return Poll::Ready(None);
        }
        let topics = 1 + this.others.len();
        if topics > 1 {
            this.go_on();
        }
        let mut open = true;
        while open {
            open = false;
            let left_before = this.leaves;
            for step in 0..topics {
                // In turn, so that a busy topic does not keep the others back.
                let topic = (this.turn + step) % topics;
                let subscription = match topic.checked_sub(1) {
                    None => &mut this.subscription,
                    Some(other) => &mut this.others[other],
                };
                match poll_chunk(subscription, cx) {
                    Poll::Pending => open = true,
                    Poll::Ready(None) => {
                        let reason = subscription.end_reason().filter(|&reason| is_leave(reason));
                        if let Some(reason) = reason.filter(|_| this.leaves.is_none()) {
                            // They leave together. Who is parked already looks again.
                            this.leaves = Some(reason);
                            let others = this.others.iter_mut();
                            let all = std::iter::once(&mut this.subscription).chain(others);
                            all.for_each(|subscription| subscription.leave_with(reason));
                        }
                    }
                    Poll::Ready(Some(chunk)) => {
                        this.turn = topic + 1;
                        this.last = chunk.last;
                        return data(chunk.bytes);
                    }
                }
            }
            if open && left_before == this.leaves {
                return Poll::Pending;
            }
        }
        this.ended = true;
        match this.leaves {
            Some(reason) => data(end_notice(reason)),
            None => Poll::Ready(None),
        }
    }
}

struct Chunk {
    bytes: Bytes,
    /// Why the whole stream ends with it, if it does: its reader must not go on.
    last: Option<EndReason>,
}

/// Whether a subscription ends for this reason when it has read all there is.
fn is_leave(reason: EndReason) -> bool {
    matches!(reason, EndReason::Drained | EndReason::Aged)
}

/// Why the whole stream ends, if this subscription's end is that of all.
fn ends_all(subscription: &Subscription) -> Option<EndReason> {
    let alone = |reason| is_leave(reason) || reason == EndReason::TopicClosed;
    let reason = subscription.end_reason()?;
    (!alone(reason) || subscription.is_ended_from_outside()).then_some(reason)
}

/// The next chunk of one subscription. `None`: it has ended, and the others may go on.
fn poll_chunk(subscription: &mut Subscription, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
    loop {
        let (found, guard) = ready!(subscription.poll_pinned(cx));
        let bytes = match found {
            Ahead::Closed => match ends_all(subscription) {
                Some(reason) => end_notice(reason),
                None => return Poll::Ready(None),
            },
            Ahead::Heartbeat => Bytes::from_static(HEARTBEAT),
            Ahead::Frame | Ahead::Notice | Ahead::Nothing => {
                let (with_ids, on_lag) = (subscription.has_ids(), subscription.on_lag());
                gather(Batch::new(subscription, guard, found), with_ids, on_lag)
            }
        };
        if !bytes.is_empty() {
            return Poll::Ready(Some(Chunk {
                bytes,
                last: ends_all(subscription),
            }));
        }
    }
}

/// The chunk that this thread gathered last. Connections that stand at the same place of a topic are polled one after the
/// other when an event wakes them: they share it, and its count stays with the thread.
struct Gathered {
    from: EventId,
    to: EventId,
    bytes: Bytes,
}

thread_local! {
    static LAST: Cell<Option<Gathered>> = const { Cell::new(None) };
}

/// One chunk of what a batch holds.
fn gather(mut batch: Batch<'_>, with_ids: bool, on_lag: OnLag) -> Bytes {
    let envelope = batch.wrapped_in().cloned();
    let chooses = batch.has_choice();
    let alone = chooses || batch.lag().is_some() || batch.is_opening();
    let shares = !alone && batch.subscribers() > 1 && envelope.is_none();
    let from = batch.position();
    if shares && let Some(last) = LAST.take() {
        // All that is visible, or as much as fits: what this connection would gather for itself.
        let same = last.from == from
            && (last.to == batch.end() || last.bytes.len() >= CHUNK_BYTES)
            && batch.pass(last.to);
        let bytes = same.then(|| last.bytes.clone());
        LAST.set(Some(last));
        if let Some(bytes) = bytes {
            return bytes;
        }
    }
    let mut chunk = BytesMut::new();
    if let Some(lag) = batch.lag() {
        // Control events that were missed have ids of their own: whoever has not got them must not continue behind them.
        let with_id = with_ids && !batch.is_opening();
        write_lag(&mut chunk, lag, with_id, on_lag);
    }
    if alone && with_ids && batch.is_late() {
        write_late(&mut chunk, &mut batch, envelope.as_ref());
        return chunk.freeze();
    }
    // It is not known how many of them are wanted.
    let events = if chooses {
        1
    } else {
        batch.end().offset() - from.offset()
    };
    while chunk.len() < CHUNK_BYTES || batch.is_opening() {
        let Some(frame) = batch.next_frame() else {
            break;
        };
        if chunk.is_empty() && frame.len() >= SHARE_BYTES && envelope.is_none() {
            return frame.to_bytes();
        }
        if chunk.is_empty() {
            // Events of a topic are often alike: room for all of them at once.
            let events = usize::try_from(events).unwrap_or(usize::MAX);
            chunk.reserve(
                frame
                    .len()
                    .saturating_mul(events)
                    .min(CHUNK_BYTES + SHARE_BYTES),
            );
        }
        write_frame(&mut chunk, &frame, envelope.as_ref());
    }
    let bytes = chunk.freeze();
    if shares && !bytes.is_empty() {
        LAST.set(Some(Gathered {
            from,
            to: batch.position(),
            bytes: bytes.clone(),
        }));
    }
    bytes
}

/// Control events that came late. They have older ids than what the client has: it must not come back with these.
#[cold]
fn write_late(chunk: &mut BytesMut, batch: &mut Batch<'_>, envelope: Option<&Envelope>) {
    while batch.is_opening()
        && let Some(frame) = batch.next_frame()
    {
        write_frame(chunk, &frame, envelope);
    }
    // Writing to a buffer that grows does not fail.
    let _ = write!(chunk, "id: {}\n\n", batch.position());
}

/// The frames that come first, in one piece.
fn take_first(subscription: &mut Subscription) -> BytesMut {
    let mut bytes = BytesMut::new();
    for frame in subscription.take_first() {
        write_frame(&mut bytes, &frame, subscription.wrapped_in());
    }
    bytes
}

fn write_frame(chunk: &mut BytesMut, frame: &Frame, envelope: Option<&Envelope>) {
    let block = frame.as_sse();
    let Some(envelope) = envelope else {
        chunk.extend_from_slice(block);
        return;
    };
    let (head, rest) = block.split_at(frame.prefix_at());
    let (payload, end) = rest.split_at(rest.len() - BLOCK_END);
    chunk.reserve(block.len() + envelope.prefix().len() + envelope.suffix().len());
    chunk.extend_from_slice(head);
    chunk.extend_from_slice(envelope.prefix().as_bytes());
    chunk.extend_from_slice(payload);
    chunk.extend_from_slice(envelope.suffix().as_bytes());
    chunk.extend_from_slice(end);
}

/// What a client is told last, as a comment. Those of many that end together are told to come back apart.
pub(super) fn end_notice(reason: EndReason) -> Bytes {
    if matches!(reason, EndReason::Drained | EndReason::Aged) {
        let retry = come_back_after().as_millis();
        return format!(": {reason}\nretry: {retry}\n\n").into();
    }
    format!(": {reason}\n\n").into()
}

pub(super) fn write_lag(chunk: &mut BytesMut, lag: Lag, with_id: bool, on_lag: OnLag) {
    // Writing to a buffer that grows does not fail. Whoever is ended and is told only by a comment keeps the id that it has:
    // when it comes back the gap is still one, and the server sees it.
    let silent = on_lag.notices == Notices::Comments && on_lag.policy == LagPolicy::Disconnect;
    if with_id && !silent {
        let _ = writeln!(chunk, "id: {}", lag.resumed_after());
    }
    let _ = match (on_lag.notices, lag.missed()) {
        (Notices::Events, Some(missed)) => {
            write!(chunk, "event: lag\ndata: {{\"missed\":{missed}}}\n\n")
        }
        (Notices::Events, None) => write!(chunk, "event: lag\ndata: {{\"missed\":null}}\n\n"),
        (Notices::Comments, Some(missed)) => writeln!(chunk, ": lag, {missed} events missed"),
        (Notices::Comments, None) => writeln!(chunk, ": lag, unknown how many events missed"),
    };
    if on_lag.notices == Notices::Comments {
        if silent {
            // The last thing that it is told.
            let _ = writeln!(chunk, ": {}", EndReason::Lagged);
        }
        chunk.extend_from_slice(b"\n");
    }
}

#[cfg(all(test, not(fanfare_loom)))]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
mod tests {
    use super::*;
    use crate::{Event, Hub};

    fn text(body: &mut Pin<Box<SseBody>>) -> String {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut all = String::new();
        while let Poll::Ready(Some(Ok(chunk))) = body.as_mut().poll_frame(&mut cx) {
            all += std::str::from_utf8(chunk.data_ref().unwrap()).unwrap();
        }
        all
    }

    /// The id that a client would come back with.
    fn last_id(text: &str) -> &str {
        let mut lines = text.lines().rev();
        lines.find_map(|line| line.strip_prefix("id: ")).unwrap()
    }

    /// A control event that is filled when its reader has gone on does not take the client back.
    #[test]
    fn what_comes_late_moves_no_client_back() {
        for large in [false, true] {
            let hub = Hub::builder().retain_events(1).build().unwrap();
            let topic = hub.topic("a").unwrap();
            let mut body = Box::pin(topic.subscribe().unwrap().into_sse().into_body());
            drop(text(&mut body));
            let _ = topic.publish(Event::text("early").control()).unwrap();
            for _ in 0..200 {
                let _ = topic.publish(Event::text("lost")).unwrap();
            }
            let first = text(&mut body);
            assert!(first.contains("event: lag") && first.contains("data: early"));
            let id = last_id(&first).to_owned();
            assert_eq!(id, topic.position().to_string());
            let late = if large {
                "late ".repeat(5_000)
            } else {
                "late ".to_owned()
            };
            let frame = hub.encode(Event::text(&late).control()).unwrap();
            let mut frame = frame.for_hub(true);
            let epoch = topic.position().epoch();
            frame.stamp(EventId::new(epoch, 2));
            topic.core().log.controls.keep_late(2, &frame, 0);
            let second = text(&mut body);
            assert!(second.contains(&format!("data: {late}")));
            assert!(second.contains(&EventId::new(epoch, 2).to_string()));
            assert_eq!(last_id(&second), id);
            let _ = topic.publish(Event::text("next")).unwrap();
            assert!(text(&mut body).contains("data: next"));
        }
    }
}
