//! The oracle's side of a reader that chooses: the very next thing that it is to be given, and whether that is what it got.
//!
//! What left the log is the engine's word, which the first world checks. The rest is told from what was published.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fanfare::{
    Conflation, EndReason, EventId, Evicted, Frame, Hub, Item, Lag, LagPolicy, ReaderId,
    Subscription, Topic as Handle, TryRecvError,
};

/// As many control events are kept of those that left the log, the newest.
const KEPT_CONTROLS: usize = 32;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) number: u64,
    pub(crate) name: Option<&'static str>,
    pub(crate) key: Option<&'static str>,
    pub(crate) sender: Option<usize>,
    pub(crate) control: bool,
}

pub(crate) struct Topic {
    pub(crate) key: usize,
    pub(crate) name: String,
    pub(crate) handle: Handle,
    /// The event at offset `n` is `facts[n - 1]`.
    pub(crate) facts: Vec<Fact>,
    /// When the last one came, in ticks.
    pub(crate) last: u64,
    pub(crate) closed: bool,
}

impl Topic {
    pub(crate) fn new(hub: &Hub, key: usize) -> Self {
        let name = format!("t{key}");
        Self {
            handle: hub.topic(name.as_str()).unwrap(),
            key,
            name,
            facts: Vec::new(),
            last: 0,
            closed: false,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.facts.len() as u64 + 1
    }

    fn fact(&self, offset: u64) -> &Fact {
        &self.facts[offset as usize - 1]
    }

    /// The first offset that the log holds.
    fn oldest(&self) -> u64 {
        self.end() - self.handle.retained_events()
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The share of a reader with a rate, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: u64,
    burst: u64,
    next: u64,
    waits: bool,
}

impl Rate {
    fn is_used_up(&self, now: u64) -> bool {
        now + self.burst < self.next + self.interval
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Event(u64),
    Gap(u64),
    Nothing,
    End(EndReason),
}

/// How a look goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// What was decided stays so.
    Item,
    /// All that is visible is looked at.
    All,
}

#[expect(clippy::struct_excessive_bools, reason = "independent of each other")]
pub(crate) struct Reader {
    pub(crate) name: u64,
    real: Option<Subscription>,
    pub(crate) topic: usize,
    pub(crate) is_evicted: Evicted,
    pub(crate) is_stalled: bool,
    pub(crate) since: u64,
    /// The tick at which it last looked.
    pub(crate) polled: u64,
    /// The offset of the next event.
    pub(crate) next: u64,
    pub(crate) evicted: bool,
    /// It may be asked to leave, or surely was.
    pub(crate) draining: bool,
    pub(crate) ages: bool,
    pub(crate) must_leave: bool,
    /// Frames that it keeps, if it does.
    pub(crate) hoard: Option<Vec<Frame>>,
    pub(crate) over: Option<EndReason>,
    ends_by_lag: bool,
    modulus: Option<u64>,
    excluded: Option<usize>,
    conflation: Option<Conflation>,
    conflated: u64,
    /// What is newest was decided up to here.
    window: u64,
    rate: Option<Rate>,
    looks_anew: bool,
    /// Where the log began at the last look.
    oldest: u64,
    /// Control events that were missed, and come next.
    first: VecDeque<u64>,
    wakes: Arc<Wakes>,
    /// Wakes when it parked, and whether it waits for its turn.
    parked: Option<(usize, bool)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.name)
            .field("topic", &self.topic)
            .field("next", &self.next)
            .field("stalled", &self.is_stalled)
            .field("ends_by_lag", &self.ends_by_lag)
            .field("modulus", &self.modulus)
            .field("excluded", &self.excluded)
            .field("conflation", &self.conflation)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

/// For what takes the subscription and gives it back.
macro_rules! with {
    ($self:ident, $($call:tt)*) => {{
        let real = $self.real.take().unwrap();
        $self.real = Some(real.$($call)*);
    }};
}

impl Reader {
    pub(crate) fn new(
        name: u64,
        mut real: Subscription,
        at: usize,
        topic: &Topic,
        now: u64,
    ) -> Self {
        let next = real.position().offset() + 1;
        assert_eq!(next, topic.end(), "from now on");
        Self {
            name,
            is_evicted: real.evicted(),
            real: Some(real),
            topic: at,
            is_stalled: false,
            since: now,
            polled: now,
            next,
            evicted: false,
            draining: false,
            ages: false,
            must_leave: false,
            hoard: None,
            over: None,
            ends_by_lag: false,
            modulus: None,
            excluded: None,
            conflation: None,
            conflated: 0,
            window: 0,
            rate: None,
            looks_anew: false,
            oldest: 1,
            first: VecDeque::new(),
            wakes: Arc::default(),
            parked: None,
        }
    }

    pub(crate) fn lag_policy(&mut self, policy: LagPolicy) {
        self.ends_by_lag = policy == LagPolicy::Disconnect;
        with!(self, lag_policy(policy));
    }

    pub(crate) fn filter(&mut self, modulus: u64) {
        self.modulus = Some(modulus);
        with!(
            self,
            filter(move |frame| number(frame).is_multiple_of(modulus))
        );
    }

    pub(crate) fn exclude(&mut self, own: usize, id: ReaderId) {
        self.excluded = Some(own);
        with!(self, reader(id).exclude_own());
    }

    pub(crate) fn conflate(&mut self, by: Conflation) {
        self.conflation = Some(by);
        with!(self, conflate(by));
    }

    pub(crate) fn max_rate(&mut self, events: u32, every: Duration) {
        let interval = every.as_nanos() as u64 / u64::from(events);
        self.rate = Some(Rate {
            interval,
            burst: interval * u64::from(events),
            next: 0,
            waits: false,
        });
        with!(self, max_rate(NonZeroU32::new(events).unwrap(), every));
    }

    fn has_choice(&self) -> bool {
        self.modulus.is_some()
            || self.excluded.is_some()
            || self.conflation.is_some()
            || self.rate.is_some()
    }

    /// Whether it was counted out.
    pub(crate) fn is_out(&self) -> bool {
        self.evicted
    }

    fn wants(&self, fact: &Fact) -> bool {
        self.modulus.is_none_or(|of| fact.number.is_multiple_of(of))
            && (self.excluded.is_none() || fact.sender != self.excluded)
    }

    /// Whether there is a newer one of its kind, in the window.
    fn is_superseded(&self, topic: &Topic, offset: u64) -> bool {
        let kind = |fact: &Fact| match self.conflation {
            _ if fact.control => None,
            None => None,
            Some(Conflation::ByName) => fact.name,
            Some(_) => fact.key,
        };
        let own = kind(topic.fact(offset));
        own.is_some()
            && (offset + 1..self.window)
                .map(|later| topic.fact(later))
                .any(|later| self.wants(later) && kind(later) == own)
    }

    /// What it is to be given, at this time. Moves it on.
    ///
    /// `oldest`: where the log began before the engine was asked, which may give back what it steps over.
    fn expect(&mut self, topic: &Topic, oldest: u64, now: u64, look: Look) -> Next {
        self.oldest = oldest;
        if self.evicted {
            return Next::End(EndReason::Evicted);
        }
        if let Some(over) = self.over.filter(|_| self.first.is_empty()) {
            return Next::End(over);
        }
        if let Some(first) = self.first.pop_front() {
            return Next::Event(first);
        }
        let mut look = look;
        if let Some(rate) = &mut self.rate {
            let waits = rate.is_used_up(now);
            let waited = std::mem::replace(&mut rate.waits, waits);
            self.looks_anew |= waited && !rate.waits;
            if rate.waits {
                return Next::Nothing;
            }
        }
        if std::mem::take(&mut self.looks_anew) {
            look = Look::All;
        }
        if look == Look::All && self.conflation.is_some() {
            self.window = topic.end();
        }
        while self.next < topic.end() {
            if self.next < oldest {
                return self.lag(topic, oldest);
            }
            let at = self.next;
            if at >= self.window {
                self.window = topic.end();
            }
            self.next += 1;
            if !self.wants(topic.fact(at)) {
                continue;
            }
            if self.is_superseded(topic, at) {
                self.conflated += 1;
                continue;
            }
            if let Some(rate) = &mut self.rate {
                rate.next = rate.next.max(now) + rate.interval;
            }
            return Next::Event(at);
        }
        if topic.closed {
            Next::End(EndReason::TopicClosed)
        } else {
            Next::Nothing
        }
    }

    /// A batch has ended: it steps over what is not wanted.
    fn step_over(&mut self, topic: &Topic, now: u64) {
        let waits = self.rate.is_some_and(|rate| rate.is_used_up(now));
        if !self.first.is_empty() || waits || self.next < self.oldest {
            return;
        }
        while self.next < topic.end() {
            let superseded = self.wants(topic.fact(self.next));
            if superseded && !self.is_superseded(topic, self.next) {
                return;
            }
            self.conflated += u64::from(superseded);
            self.next += 1;
        }
    }

    fn lag(&mut self, topic: &Topic, oldest: u64) -> Next {
        let missed = oldest - self.next;
        let mut kept: Vec<_> = (1..oldest).filter(|&at| topic.fact(at).control).collect();
        kept.drain(..kept.len().saturating_sub(KEPT_CONTROLS));
        let lost = kept.into_iter().filter(|&at| at >= self.next);
        self.first = lost.filter(|&at| self.wants(topic.fact(at))).collect();
        self.next = oldest;
        self.window = 0;
        if self.ends_by_lag {
            self.over = Some(EndReason::Lagged);
        }
        Next::Gap(missed)
    }

    /// An end that came from the hub, of which the oracle does not know when.
    fn ends(&mut self, topic: &Topic, expected: Next) {
        let reason = self.real.as_ref().unwrap().end_reason();
        let reason = reason.expect("it has ended");
        let expected = if reason == EndReason::Evicted {
            expected
        } else {
            self.in_haste(topic, expected)
        };
        match reason {
            EndReason::Evicted => assert!(self.evicted, "it was not given up"),
            EndReason::Drained | EndReason::Aged => {
                assert!(if reason == EndReason::Aged {
                    self.ages
                } else {
                    self.draining
                });
                let all_read =
                    matches!(expected, Next::Nothing | Next::End(EndReason::TopicClosed));
                assert!(all_read, "{} ends, and {expected:?} is left", self.name);
            }
            _ => assert_eq!(expected, Next::End(reason), "{}", self.name),
        }
        self.over = Some(reason);
    }

    /// Who is asked to leave need not wait for its turn.
    fn in_haste(&mut self, topic: &Topic, expected: Next) -> Next {
        if expected != Next::Nothing || self.rate.is_none() || !(self.draining || self.ages) {
            return expected;
        }
        self.rate = None;
        self.looks_anew = true;
        self.expect(topic, self.oldest, 0, Look::Item)
    }

    fn got_frame(&mut self, topic: &Topic, expected: Next, frame: &Frame) {
        let expected = self.in_haste(topic, expected);
        let Next::Event(offset) = expected else {
            panic!("{} got {frame:?}, and not {expected:?}", self.name);
        };
        let fact = topic.fact(offset);
        assert_eq!(number(frame), fact.number, "{} at {offset}", self.name);
        assert_eq!(frame.id().map(EventId::offset), Some(offset));
        assert_eq!((frame.name(), frame.key()), (fact.name, fact.key));
        if let Some(hoard) = &mut self.hoard {
            hoard.push(frame.clone());
        }
    }

    fn got_lag(&mut self, topic: &Topic, expected: Next, lag: Lag) {
        let expected = self.in_haste(topic, expected);
        let missed = lag.missed().expect("it is known");
        assert_eq!(expected, Next::Gap(missed), "{}", self.name);
    }

    fn got(&mut self, topic: &Topic, expected: Next, item: &Item) {
        match item {
            Item::Frame(frame) => self.got_frame(topic, expected, frame),
            Item::Lagged(lag) => self.got_lag(topic, expected, *lag),
            _ => unreachable!("there is no other item"),
        }
    }

    fn real(&mut self) -> &mut Subscription {
        self.real.as_mut().unwrap()
    }

    /// Item by item.
    pub(crate) fn read_items(&mut self, topic: &Topic, now: u64, most: usize) {
        self.parked = None;
        for _ in 0..most {
            let expected = self.expect(topic, topic.oldest(), now, Look::Item);
            match self.real().try_recv() {
                Ok(item) => self.got(topic, expected, &item),
                Err(TryRecvError::Empty) => {
                    assert_eq!(expected, Next::Nothing, "{}", self.name);
                    self.must_not_stay();
                    return;
                }
                Err(TryRecvError::Closed) => return self.ends(topic, expected),
            }
        }
    }

    /// Until there is nothing more; then it parks.
    pub(crate) fn read_and_park(&mut self, topic: &Topic, now: u64) {
        self.parked = None;
        let waker = Waker::from(Arc::clone(&self.wakes));
        loop {
            let expected = self.expect(topic, topic.oldest(), now, Look::Item);
            match self.real().poll_recv(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(item)) => self.got(topic, expected, &item),
                Poll::Ready(None) => return self.ends(topic, expected),
                Poll::Pending => {
                    assert_eq!(expected, Next::Nothing, "{}", self.name);
                    self.must_not_stay();
                    let waits = self.rate.is_some_and(|rate| rate.waits);
                    self.parked = Some((self.wakes.0.load(Ordering::Relaxed), waits));
                    return;
                }
            }
        }
    }

    /// In batches.
    pub(crate) fn read_batches(&mut self, topic: &Topic, now: u64) {
        self.parked = None;
        let mut real = self.real.take().unwrap();
        let mut oldest;
        let why = loop {
            oldest = topic.oldest();
            match real.try_batch() {
                Ok(mut batch) => {
                    let mut look = Look::All;
                    let mut any = false;
                    if let Some(lag) = batch.lag() {
                        let expected = self.expect(topic, oldest, now, look);
                        self.got_lag(topic, expected, lag);
                        (look, any) = (Look::Item, true);
                    }
                    while let Some(frame) = batch.next_frame() {
                        let expected = self.expect(topic, oldest, now, look);
                        self.got_frame(topic, expected, &frame);
                        (look, any) = (Look::Item, true);
                    }
                    assert!(any, "a batch is not empty");
                    self.step_over(topic, now);
                }
                Err(why) => break why,
            }
        };
        self.real = Some(real);
        let expected = self.expect(topic, oldest, now, Look::All);
        if why == TryRecvError::Closed {
            return self.ends(topic, expected);
        }
        assert_eq!(expected, Next::Nothing, "{}", self.name);
        self.must_not_stay();
    }

    /// It has read all there is, or its share.
    fn must_not_stay(&self) {
        assert!(
            !self.must_leave,
            "{} was asked to leave, and stays",
            self.name
        );
    }

    /// An event came: whoever is parked is woken by that, or waits for its turn.
    pub(crate) fn check_woken(&self, at: usize, topics: &[Topic]) {
        let Some((wakes, waits)) = self.parked else {
            return;
        };
        let woken = self.wakes.0.load(Ordering::Relaxed) > wakes;
        let more = self.next < topics[at].end() || topics[at].closed;
        if self.topic == at && !waits && more {
            assert!(
                woken,
                "{} sleeps, and there is an event or the end",
                self.name
            );
        }
    }

    /// Time went by: who waited for its turn is woken for it.
    pub(crate) fn check_turn(&self, now: u64) {
        let (Some((wakes, true)), Some(rate)) = (self.parked, self.rate) else {
            return;
        };
        let woken = self.wakes.0.load(Ordering::Relaxed) > wakes;
        assert!(
            woken || rate.is_used_up(now),
            "{} was not woken for its turn",
            self.name
        );
    }

    /// Whether it has not come to the end: what it does not want may have been stepped over already.
    pub(crate) fn has_more(&self, topic: &Topic) -> bool {
        let real = self.real.as_ref();
        real.is_some_and(|real| real.position().offset() + 1 < topic.end())
    }

    /// Between two calls.
    pub(crate) fn check_place(&self, topic: &Topic) {
        let Some(real) = &self.real else {
            return;
        };
        assert_eq!(real.conflated(), self.conflated, "{}", self.name);
        if !self.has_choice() {
            assert_eq!(real.position().offset() + 1, self.next, "{}", self.name);
        }
        assert!(self.next <= topic.end());
    }
}

/// The number of an event, at the beginning of its payload.
fn number(frame: &Frame) -> u64 {
    let data = frame.data();
    data.split('.').next().unwrap().parse().unwrap()
}
