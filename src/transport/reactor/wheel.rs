//! Deadlines of one shard, in a ring of slots.
//!
//! **Role.** Setting a deadline is a push, whatever the number of them. None is ever taken back: when one is due, its owner
//! looks whether it still holds and sets another if it does not.

use std::time::Duration;

/// Slots of the ring: the furthest deadline in ticks. Later ones are due then, and set again.
const SLOTS: usize = 64;

#[derive(Debug)]
pub(super) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// All before this tick were handed out.
    now: u64,
    len: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect(),
            now: 0,
            len: 0,
        }
    }

    /// A tick that fits deadlines of `longest`: a fiftieth of it.
    pub(super) fn tick_for(longest: Duration) -> Duration {
        (longest / 50).clamp(Duration::from_millis(5), Duration::from_secs(60))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has `timer` handed out at tick `at`, or before if that is further than the ring goes; never at once.
    pub(super) fn set(&mut self, at: u64, timer: T) {
        let at = at.clamp(self.now + 1, self.now + SLOTS as u64 - 1);
        self.slot(at).push(timer);
        self.len += 1;
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below SLOTS"
    )]
    fn slot(&mut self, tick: u64) -> &mut Vec<T> {
        &mut self.slots[(tick % SLOTS as u64) as usize]
    }

    /// Hands out what is due at tick `now` or before.
    pub(super) fn due(&mut self, now: u64) -> Vec<T> {
        if self.is_empty() {
            self.now = now;
            return Vec::new();
        }
        let mut due = Vec::new();
        // A ring's length brings all slots round, however long the pause was.
        let behind = now.saturating_sub(self.now).min(SLOTS as u64);
        for tick in (now + 1).saturating_sub(behind)..=now {
            due.append(self.slot(tick));
        }
        self.now = self.now.max(now);
        self.len -= due.len();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_each_timer_once_and_not_early() {
        let mut wheel = Wheel::new();
        wheel.due(1000);
        for delay in [0, 1, 2, 30, 63, 64, 500] {
            wheel.set(1000 + delay, delay);
        }
        let mut seen = Vec::new();
        for now in 1000..1100 {
            for delay in wheel.due(now) {
                assert!(now >= 1000 + delay.min(63), "{delay} at {now}");
                assert!(now <= 1000 + delay.max(1), "{delay} at {now}");
                seen.push(delay);
            }
        }
        assert_eq!(seen, [0, 1, 2, 30, 63, 64, 500]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_long_pause_loses_nothing() {
        let mut wheel = Wheel::new();
        wheel.due(5);
        for delay in 1..64 {
            wheel.set(5 + delay, delay);
        }
        assert_eq!(wheel.due(1_000_000).len(), 63);
        assert!(wheel.is_empty());
    }
}
