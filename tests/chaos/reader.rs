//! The oracle's side of a reader: what it is to be given next, and whether what it got was that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use fanfare::{EndHandle, EndReason, EventId, Frame, Lag, LagPolicy, Subscription, TryRecvError};

use crate::life::Life;
use crate::scenario::Kind;

/// A waker that counts.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A reader that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parked {
    wakes: usize,
    since: u64,
}

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) name: u64,
    pub(crate) real: Subscription,
    pub(crate) life: usize,
    pub(crate) kind: Kind,
    pub(crate) policy: LagPolicy,
    /// The offset of the next event.
    pub(crate) next: u64,
    /// What it has told the topic to have read.
    pub(crate) noted: u64,
    /// It is to be told first that nobody knows what it missed.
    pub(crate) unknown: bool,
    /// What its client would send as `Last-Event-ID`.
    pub(crate) last: Option<EventId>,
    pub(crate) beats: bool,
    pub(crate) end_handle: Option<EndHandle>,
    /// It was ended from outside, and has not read that yet.
    pub(crate) to_end: Option<EndReason>,
    pub(crate) ended: Option<EndReason>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) parked: Option<Parked>,
}

impl Reader {
    pub(crate) fn new(
        name: u64,
        real: Subscription,
        life: usize,
        kind: Kind,
        policy: LagPolicy,
    ) -> Self {
        let next = real.position().offset() + 1;
        Self {
            name,
            real: real.lag_policy(policy),
            life,
            kind,
            policy,
            next,
            noted: next,
            unknown: false,
            last: None,
            beats: false,
            end_handle: None,
            to_end: None,
            ended: None,
            wakes: Arc::default(),
            parked: None,
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wakes))
    }

    fn woken(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    pub(crate) fn park(&mut self, now: u64) {
        self.parked = Some(Parked {
            wakes: self.woken(),
            since: now,
        });
    }

    pub(crate) fn unpark(&mut self) {
        self.parked = None;
    }

    /// Whether it sleeps: it is parked, and nobody has woken it.
    pub(crate) fn sleeps_since(&self) -> Option<u64> {
        let parked = self.parked.filter(|parked| parked.wakes == self.woken())?;
        Some(parked.since)
    }

    /// Whether there is anything for it.
    pub(crate) fn has_something(&self, life: &Life) -> bool {
        self.ended.is_some()
            || self.to_end.is_some()
            || self.unknown
            || life.closed
            || self.next < life.end()
    }

    /// It got an event. `amid`: others published meanwhile, so what it holds may have left the log.
    pub(crate) fn got_frame(&mut self, life: &Life, frame: &Frame, ids: bool, amid: bool) {
        self.may_get();
        assert!(!self.unknown, "an event before the notice of a gap");
        let offset = self.next;
        let Some(fact) = life.event(offset) else {
            panic!("an event at {offset}, where none was published");
        };
        let data = frame.data();
        assert_eq!(
            data.split('.').next(),
            Some(fact.number.to_string().as_str()),
            "not the event at {offset}"
        );
        assert_eq!(data.len() as u64, fact.size, "the payload at {offset}");
        assert_eq!(frame.name(), fact.name, "the name at {offset}");
        let id = (ids && fact.with_id).then(|| EventId::new(life.epoch, offset));
        assert_eq!(frame.id(), id, "the id at {offset}");
        if !amid {
            life.observe_at_least(offset);
        }
        if id.is_some() {
            self.last = id;
        }
        self.next += 1;
    }

    /// It was told of a gap.
    pub(crate) fn got_lag(&mut self, life: &mut Life, lag: Lag) {
        self.may_get();
        let end = life.end();
        assert_eq!(lag.resumed_after().epoch(), life.epoch);
        let next = lag.resumed_after().offset() + 1;
        assert!(next >= self.next, "back from {} to {next}", self.next);
        assert!(next <= end, "on to {next}, beyond the end at {end}");
        assert_eq!(
            lag.missed().is_none(),
            self.unknown,
            "whether it is known what was missed"
        );
        if let Some(missed) = lag.missed() {
            assert!(missed > 0, "a gap of nothing");
            assert_eq!(self.next + missed, next, "how many were missed");
        }
        if self.policy == LagPolicy::SkipToLatest {
            // The newest, or what is left.
            let newest = end - 1;
            assert!(
                next == newest.max(self.next) || next == end && life.may == end,
                "skipped to {next} of {end}"
            );
            if !self.unknown {
                assert!(life.may > self.next, "it skipped, and had not lagged");
            }
        } else if next > self.next {
            life.observe(next);
        }
        self.next = next;
        self.unknown = false;
        self.last = Some(lag.resumed_after());
        if self.policy == LagPolicy::Disconnect {
            self.ended = Some(EndReason::Lagged);
        }
    }

    /// It got nothing.
    pub(crate) fn got_nothing(&mut self, life: &Life, why: TryRecvError) {
        let all_read = self.next == life.end() && !self.unknown;
        match why {
            TryRecvError::Empty => {
                assert!(
                    !self.has_something(life),
                    "nothing, though it stands at {} of {}{}",
                    self.next,
                    life.end(),
                    if self.unknown { ", before a gap" } else { "" }
                );
                self.noted = self.next;
            }
            TryRecvError::Closed => {
                let closed = (life.closed && all_read).then_some(EndReason::TopicClosed);
                let reason = self.ended.or(self.to_end).or(closed);
                assert!(
                    reason.is_some(),
                    "the end, at {} of {}",
                    self.next,
                    life.end()
                );
                self.ended = reason;
                assert_eq!(self.real.end_reason(), reason);
            }
        }
    }

    fn may_get(&self) {
        assert!(
            self.ended.is_none() && self.to_end.is_none(),
            "something after the end: {:?}",
            self.ended.or(self.to_end)
        );
    }

    /// What holds between two calls.
    pub(crate) fn check(&self, life: &Life) {
        let stands = EventId::new(life.epoch, self.next - 1);
        assert_eq!(self.real.position(), stands, "where it stands");
        if self.sleeps_since().is_some() {
            assert!(
                !self.has_something(life),
                "a missed wake: it sleeps at {} of {}",
                self.next,
                life.end()
            );
        }
    }
}
