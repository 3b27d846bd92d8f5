//! What the hub's clock, and its budget, do with a topic.

use super::TopicCore;
use crate::clock::{Again, Job};
use crate::ending::EndReason;
use crate::eviction::GivenUp;
use crate::log::{self, Kept};
use crate::memory::{Cut, part};
use crate::subscribers::Vacated;
use crate::sync::epoch;
use crate::sync::{Arc, AtomicBool, HostArc, Ordering, downgrade, fence};
use crate::topic::User;
use crate::unwind::FirstPanic;
/// The clock does not know the topic.
pub(super) const UNSCHEDULED: u32 = 0;
/// The clock visits it every round.
const SOON: u32 = 1;

/// What stands for a tick in a word of 32 bits: two ticks that are the same for it are 2^32 apart, or first ones of a hub.
#[expect(clippy::cast_possible_truncation, reason = "the low half")]
pub(crate) const fn stands_for(tick: u64) -> u32 {
    match tick as u32 {
        UNSCHEDULED | SOON => 2,
        low => low,
    }
}

/// Ticks from the one whose low half is given.
#[expect(clippy::cast_possible_truncation, reason = "the low half")]
const fn ticks_since(low: u32, now: u64) -> u64 {
    (now as u32).wrapping_sub(low) as u64
}

/// Whether each pin that was held at some time is given back (V5 of `eviction`).
#[derive(Debug, Default)]
struct Unpinned(HostArc<AtomicBool>);

impl Unpinned {
    /// Has it said as soon as nobody has a pin of now, and this thread is not pinned.
    fn ask(&self) {
        let said = HostArc::clone(&self.0);
        let ask = || {
            // Release: V5. No more than this: whoever runs it may hold anything.
            epoch::defer(&epoch::pin(), move || said.store(true, Ordering::Release));
        };
        // The collector's destructors may be anybody's.
        FirstPanic::default().run(ask);
        FirstPanic::default().run(log::free_all_retired);
    }

    fn is_said(&self) -> bool {
        // Acquire: V5
        self.0.load(Ordering::Acquire)
    }
}

impl TopicCore {
    /// One visit of the hub's clock, with the heartbeat phase whose turn it is. Tells when the topic needs the next one.
    pub(crate) fn visit(this: &Arc<Self>, now: u64, phase: Option<u64>) -> Again {
        let quiet = this.tidy(now, this.shared.age_ticks());
        if let Some(after) = this.config().evict_ticks {
            Self::look_for_stalled(this, now, after);
        }
        this.tend(now, phase, quiet)
    }

    /// The rest of a visit to a topic that was quiet for so long.
    fn tend(&self, now: u64, phase: Option<u64>, quiet: u64) -> Again {
        let config = self.config();
        if config.max_age_ticks.is_some() {
            let due = |time| ticks_since(time, now) < u64::from(u32::MAX / 2);
            self.subscribers.ask(|waiter| waiter.ask_if_old(due));
        }
        if let Some(phase) = phase
            && quiet >= config.quiet_ticks
        {
            self.subscribers.beat(phase, crate::clock::PHASES);
        }
        let again = self.next_visit(now);
        let word = match again {
            Again::Soon => return again,
            Again::At(due) => stands_for(due),
            Again::Never => UNSCHEDULED,
        };
        // Relaxed, and a fence: U3.
        self.scheduled.store(word, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sooner = self.next_visit(now).comes_before(again);
        // Relaxed: whoever turns the word to `SOON` schedules the topic.
        if sooner {
            return if self.scheduled.swap(SOON, Ordering::Relaxed) == SOON {
                Again::Never
            } else {
                Again::Soon
            };
        }
        if again == Again::Never {
            self.offer_to_go();
        }
        again
    }

    /// Whether the clock comes at a certain tick only: later than it may have to now.
    #[cold]
    pub(super) fn waits_for_long(&self) -> bool {
        // U3: pairs with the fence in `visit`.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        self.scheduled.load(Ordering::Relaxed) > SOON
    }

    /// Whether this is what the clock was to come for. Then it has the topic, and nobody schedules it meanwhile.
    pub(crate) fn comes_due(&self, tick: u64) -> bool {
        // Relaxed: whoever turns the word to `SOON` has the topic visited.
        self.scheduled
            .compare_exchange(stands_for(tick), SOON, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives up who has taken nothing since the last look, if the topic has moved on.
    pub(crate) fn look_for_stalled(this: &Arc<Self>, now: u64, after: u64) {
        // Relaxed: the clock's own, and a time.
        let since = ticks_since(this.looked.load(Ordering::Relaxed), now);
        if since < after {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the low half")]
        this.looked.store(now as u32, Ordering::Relaxed);
        // Nothing comes after a close: whoever has not read up to it holds its topic, and its place, for nothing.
        let moved = now.saturating_sub(this.last_append.load(Ordering::Relaxed)) <= since
            || this.log.is_closed();
        let end = this.log.end(&epoch::pin());
        let told = &this.shared.evictions;
        let mut given_up = Vec::new();
        let vacated = this.subscribers.suspect(end, |seat, waiter, passed| {
            let who = if moved {
                told.evict(this.address(), seat, waiter)
            } else {
                None
            };
            let evicted = who.is_some();
            given_up.extend(who.map(|who| (who, passed)));
            evicted
        });
        let mut panics = FirstPanic::default();
        for _ in &given_up {
            // V1
            panics.run(|| this.exit(User::Subscription));
        }
        if !vacated.is_empty() {
            panics.run(|| Self::vacate(this, vacated));
        }
        for (GivenUp(tag), passed) in given_up {
            panics.run(|| told.tell(this, tag.as_deref(), EndReason::Evicted, (passed, end)));
        }
    }

    /// Gives the places of those who were given up to others, as soon as none of them can be at its own any more. The caller is not
    /// pinned.
    #[cold]
    fn vacate(this: &Arc<Self>, places: Vec<Vacated>) {
        let unpinned = Unpinned::default();
        unpinned.ask();
        if unpinned.is_said() {
            this.leave_vacated(&places);
            return;
        }
        // Somebody reads at this moment.
        let topic = downgrade(this);
        let mut looks = 0_u64;
        this.shared.clock.employ(Job::new(move |_| {
            if unpinned.is_said() {
                if let Some(topic) = topic.upgrade() {
                    topic.leave_vacated(&places);
                }
                return false;
            }
            looks += 1;
            if looks.is_power_of_two() {
                // A destructor that panics takes down what the collector has beside it.
                unpinned.ask();
            }
            true
        }));
    }

    fn leave_vacated(&self, places: &[Vacated]) {
        let mut panics = FirstPanic::default();
        for place in places {
            panics.run(|| {
                if let Some(waker) = self.subscribers.vacate(place) {
                    waker.wake();
                }
            });
        }
        panics.resume();
    }

    /// Counts the readers that have not read all below `lost`; `least` is what all have.
    fn count_lagging(&self, least: u64, lost: u64) {
        let mut lagging = 0;
        if least < lost {
            self.subscribers
                .survey(|_, _, passed| lagging += u32::from(passed < lost));
        }
        // Relaxed: the clock's own. Stored only when changed, so that the line stays shared among publishers.
        if self.log.lagging.load(Ordering::Relaxed) != lagging {
            self.log.lagging.store(lagging, Ordering::Relaxed);
        }
    }

    /// When the clock has something to do here.
    fn next_visit(&self, now: u64) -> Again {
        let ages = self.config().max_age_ticks.is_some() && self.subscriber_count() > 0;
        if ages || self.subscribers.has_beat_wanters() {
            return Again::Soon;
        }
        let controls = self.controls_due(now);
        let look = self.look_due(now);
        let config = self.config();
        // Relaxed: a time.
        let last = self.last_append.load(Ordering::Relaxed);
        if !self.log.has_chain() {
            // The events are gone, perhaps for memory was short. Who has not read them stands still all the same.
            // Relaxed: the clock's own.
            let since = ticks_since(self.looked.load(Ordering::Relaxed), now);
            let moved = now.saturating_sub(last) <= since || self.log.is_closed();
            let due = controls.into_iter().chain(look.filter(|_| moved)).min();
            return due.map_or(Again::Never, Again::At);
        }
        let age = config.retention.age_ticks;
        // What all have read goes when the topic is idle; whoever has not may come to read it at any time.
        let idle = if config.history {
            age
        } else {
            config.idle_ticks
        };
        let mut due = self.log.next_expiry(age, &epoch::pin()).min(last + idle);
        // One tick is added below.
        due = due.min(look.unwrap_or(u64::MAX) - 1);
        due = due.min(controls.unwrap_or(u64::MAX));
        if due < now {
            return Again::Soon;
        }
        Again::At(due + 1)
    }

    /// When the clock is to look for readers that stand still.
    fn look_due(&self, now: u64) -> Option<u64> {
        let after = self
            .config()
            .evict_ticks
            .filter(|_| self.subscriber_count() > 0)?;
        // Relaxed: the clock's own.
        let since = ticks_since(self.looked.load(Ordering::Relaxed), now);
        Some((now + after.saturating_sub(since)).max(now + 1))
    }

    /// Drops what is too old, and the whole chain of an idle log. Tells for how long the topic was quiet.
    fn tidy(&self, now: u64, age: u64) -> u64 {
        let guard = epoch::pin();
        // First of all: what is appended from here on is not touched, however old or passed the rest is.
        let end = self.log.end(&guard);
        // Relaxed: a time. It may be ahead of the visit's.
        let quiet = now.saturating_sub(self.last_append.load(Ordering::Relaxed));
        if !self.log.has_chain() {
            self.forget_controls(now, end);
            // Relaxed: the clock's own.
            if self.log.lagging.load(Ordering::Relaxed) > 0 {
                self.count_lagging(0, end);
            }
            return quiet;
        }
        let config = self.config();
        let oldest = self.log.oldest_offset();
        self.log.evict_aged(age, now, &guard);
        let least = self.subscribers.least_passed(usize::MAX).unwrap_or(0);
        let least = least.min(end);
        let lost = if quiet > age {
            end
        } else {
            self.log.oldest_offset()
        };
        self.count_lagging(least, lost);
        if quiet > age {
            self.log.release(end, &guard);
        } else if !config.history && quiet >= config.idle_ticks {
            self.log.release(least, &guard);
        }
        self.forget_controls(now, end);
        // Only what this visit took away: a reader that stays behind must not have the others woken at every visit.
        let now_oldest = self.log.oldest_offset();
        let lost_unread = oldest < now_oldest && least < now_oldest;
        log::flush_retired(&guard);
        drop(guard);
        if lost_unread {
            // Somebody may be parked before a hole that is gone.
            self.subscribers.wake();
        }
        quiet
    }
}

/// The control frames that left the log.
impl TopicCore {
    /// Lets those go that nobody needs: with history when they are old, otherwise when all have passed them. `end` is where the
    /// log ended before this looks at its readers.
    fn forget_controls(&self, now: u64, end: u64) {
        if !self.log.controls.any() {
            return;
        }
        if self.config().history {
            let age = self.controls_age();
            let over = |kept: &Kept| now.saturating_sub(kept.born) > age;
            self.log.controls.forget(over);
        } else {
            let least = self.subscribers.least_passed(usize::MAX).unwrap_or(0);
            let least = least.min(end);
            self.log.controls.forget(|kept| kept.offset < least);
        }
    }

    /// When the clock is to look at them again.
    fn controls_due(&self, now: u64) -> Option<u64> {
        let oldest = self.log.controls.oldest()?;
        let due = if self.config().history {
            oldest.saturating_add(self.controls_age() + 1)
        } else {
            now + self.config().idle_ticks
        };
        Some(due.max(now + 1))
    }

    /// For how long they are kept after they were published, with history, in ticks.
    fn controls_age(&self) -> u64 {
        self.config().retention.age_ticks.saturating_mul(2)
    }
}

/// What a budget sees of a log, and takes of it.
impl TopicCore {
    /// Tells the age in ticks and the bytes of all that the log holds, part by part.
    pub(crate) fn survey(&self, now: u64, tell: impl FnMut(u64, u64)) {
        // Relaxed: a time. It may be ahead.
        let quiet = now.saturating_sub(self.last_append.load(Ordering::Relaxed));
        self.log.survey(now, quiet, &epoch::pin(), tell);
    }

    /// Drops what `cut` says, in bytes as [`survey`](Self::survey) tells them, and of `owed` what it can. Tells how many went.
    pub(crate) fn shed(&self, now: u64, cut: &Cut, owed: &mut u64) -> u64 {
        let whole = |divided: bool| {
            let mut sum = 0;
            self.survey(now, |age, bytes| {
                if !divided || cut.divides(age) {
                    sum += bytes;
                }
            });
            sum
        };
        let before = whole(false);
        self.tidy(now, cut.horizon.min(self.config().retention.age_ticks));
        let (held, divided) = (whole(false), whole(true));
        *owed += cut.share(divided);
        let more = divided.min(*owed);
        if more > 0 {
            let guard = epoch::pin();
            let end = self.log.end(&guard);
            let bytes = self.log.bytes();
            // The last segment of a log goes whole or not at all.
            if more == held {
                self.log.release(end, &guard);
            } else {
                self.log.evict_by(part(bytes, more, held), &guard);
            }
            drop(guard);
            *owed -= held.saturating_sub(whole(false)).min(*owed);
            self.subscribers.wake();
        }
        if !self.log.has_chain() {
            self.offer_to_go();
        }
        before.saturating_sub(whole(false))
    }
}

/// Has the hub's clock visit `topic`: it came to hold a chain, or to have a subscriber that wants heartbeats.
pub(crate) fn schedule(topic: &Arc<TopicCore>) {
    // U3: pairs with the fence in `visit`.
    fence(Ordering::SeqCst);
    // Relaxed: the one who turns the word schedules.
    if topic.scheduled.swap(SOON, Ordering::Relaxed) != SOON {
        topic.shared.clock.refresh();
        topic.shared.clock.schedule(topic);
    }
}
