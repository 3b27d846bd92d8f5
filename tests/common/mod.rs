//! What the tests share: bounded waits, a small executor, and every way to read a subscription.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

pub(crate) mod alloc;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use fanfare::{Frame, Item, Lag, Subscription, TryRecvError};
use futures_util::{FutureExt as _, StreamExt as _};

/// Far more than any step takes, so that only a real hang exceeds it.
pub(crate) const BOUND: Duration = Duration::from_secs(if cfg!(miri) { 600 } else { 30 });

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(
            begin.elapsed() < BOUND,
            "still waiting for {what} after {BOUND:?}"
        );
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Unparks the thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on this thread: no runtime, and a bound.
#[track_caller]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let begin = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let left = BOUND.saturating_sub(begin.elapsed());
        assert!(!left.is_zero(), "still pending after {BOUND:?}");
        thread::park_timeout(left);
    }
}

/// A waker that counts its wakes.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (wakes.clone(), Waker::from(wakes))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a reader got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Event(String),
    Lag(Option<u64>),
    End,
}

#[allow(clippy::needless_pass_by_value, reason = "as numbers and texts come")]
pub(crate) fn event(data: impl ToString) -> Got {
    Got::Event(data.to_string())
}

pub(crate) fn events<T: ToString>(data: impl IntoIterator<Item = T>) -> Vec<Got> {
    data.into_iter().map(event).collect()
}

impl From<Item> for Got {
    fn from(item: Item) -> Self {
        match item {
            Item::Frame(frame) => event(frame.data()),
            Item::Lagged(lag) => Self::Lag(lag.missed()),
            other => panic!("unknown item {other:?}"),
        }
    }
}

#[track_caller]
pub(crate) fn frame(item: Result<Item, TryRecvError>) -> Frame {
    match item {
        Ok(Item::Frame(frame)) => frame,
        other => panic!("expected a frame, not {other:?}"),
    }
}

#[track_caller]
pub(crate) fn lag(item: Result<Item, TryRecvError>) -> Lag {
    match item {
        Ok(Item::Lagged(lag)) => lag,
        other => panic!("expected a lag notice, not {other:?}"),
    }
}

/// The ways to read. What is guaranteed is guaranteed for each of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    TryRecv,
    PollRecv,
    Recv,
    Stream,
    TryBatch,
    RecvBatch,
    /// Frame by frame, each in a batch of its own.
    TinyBatch,
}

pub(crate) const WAYS: [Way; 7] = [
    Way::TryRecv,
    Way::PollRecv,
    Way::Recv,
    Way::Stream,
    Way::TryBatch,
    Way::RecvBatch,
    Way::TinyBatch,
];

impl Way {
    /// Reads all that is there without waiting. The end, if there, is read too.
    pub(crate) fn read(self, subscription: &mut Subscription) -> Vec<Got> {
        let mut got = Vec::new();
        while self.step(subscription, &mut got) {}
        got
    }

    /// One call. Tells whether another may give more.
    fn step(self, subscription: &mut Subscription, got: &mut Vec<Got>) -> bool {
        let item = match self {
            Self::TryRecv => match subscription.try_recv() {
                Ok(item) => Some(Some(item)),
                Err(TryRecvError::Closed) => Some(None),
                Err(TryRecvError::Empty) => None,
            },
            Self::PollRecv => {
                match subscription.poll_recv(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(item) => Some(item),
                    Poll::Pending => None,
                }
            }
            Self::Recv => subscription.recv().now_or_never(),
            Self::Stream => subscription.next().now_or_never(),
            Self::TryBatch | Self::RecvBatch | Self::TinyBatch => {
                return self.step_batch(subscription, got);
            }
        };
        let goes_on = matches!(item, Some(Some(_)));
        got.extend(item.map(|item| item.map_or(Got::End, Got::from)));
        goes_on
    }

    fn step_batch(self, subscription: &mut Subscription, got: &mut Vec<Got>) -> bool {
        let batch = match self {
            Self::RecvBatch => match subscription.recv_batch().now_or_never() {
                Some(Some(batch)) => Ok(batch),
                Some(None) => Err(TryRecvError::Closed),
                None => Err(TryRecvError::Empty),
            },
            _ => subscription.try_batch(),
        };
        match batch {
            Ok(mut batch) => {
                got.extend(batch.lag().map(|lag| Got::Lag(lag.missed())));
                if let Self::TinyBatch = self {
                    got.extend(batch.next_frame().map(|frame| event(frame.data())));
                } else {
                    batch.for_each(|frame| got.push(event(frame.data())));
                }
                true
            }
            Err(TryRecvError::Closed) => {
                got.push(Got::End);
                false
            }
            Err(TryRecvError::Empty) => false,
        }
    }
}
