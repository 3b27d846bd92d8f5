//! A subscription whose reader is busy with something else: what ends it meanwhile.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::Subscription;
use crate::ending::{EndReason, OwnSeat};
use crate::interest::Watcher;
use crate::position::State;
use crate::sync::HostArc;
use crate::sync::epoch;

impl Subscription {
    /// Makes what it waits at when its reader is busy: see [`ended`](Self::ended).
    pub(crate) fn waits_apart(&mut self) -> HostArc<Watcher> {
        let watcher = Watcher::new();
        let spot = OwnSeat::new(&self.topic, &self.seat, Some(HostArc::clone(&watcher)));
        self.end_handle().move_to(HostArc::new(spot));
        watcher
    }

    /// Waits until it is ended from outside, or given up; reads nothing. Meanwhile it stands still, for the clock as for the
    /// publishers: it waits at what [`waits_apart`](Self::waits_apart) gave.
    pub(crate) async fn ended(&mut self, apart: &Watcher) {
        let handle = self.end_handle();
        let mut evicted = self.evicted();
        poll_fn(|cx| {
            // First: whoever ends it later wakes this.
            apart.park(Some(cx.waker().clone()));
            let given_up = Pin::new(&mut evicted).poll(cx).is_ready();
            if given_up || handle.reason().is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        apart.park(None);
        let guard = epoch::pin();
        self.see_ends(&guard);
        if !self.position.state.is_ended() {
            // At the deadline of a drain.
            let asked = self.topic.subscribers.asked(&self.seat);
            self.position.state = State::Ended(asked.unwrap_or(EndReason::Drained));
        }
    }
}
