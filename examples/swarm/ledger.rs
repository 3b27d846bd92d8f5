//! What one connection has received, against what was published on its path.
//!
//! **Invariants.** L1: each number below `next` was received or is in one of the gaps, unless it is below `forgotten`. L2: gaps
//! are in order, apart from each other, and not empty.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{AddAssign, Range};

/// Most gaps of a connection that a late event can still fill. More are counted and their places forgotten.
const MAX_GAPS: usize = 1024;

/// How an event stood to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    InOrder,
    /// It came after one with a greater number.
    OutOfOrder,
    Duplicate,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: u64,
    /// What was passed over and has not come.
    gaps: Vec<Range<u64>>,
    /// Events in gaps whose places are no longer known.
    forgotten_lost: u64,
    /// Below it nobody knows whether a late event is a duplicate.
    forgotten: u64,
    received: u64,
    duplicates: u64,
    out_of_order: u64,
}

/// The sum over connections.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// Different events that came.
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    /// Connections with at least one of the three.
    pub(crate) faulty: u64,
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.faulty += other.faulty;
    }
}

impl Ledger {
    /// The number that comes next if all is well.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether everything below `published` came.
    pub(crate) fn is_complete(&self, published: u64) -> bool {
        self.next >= published && self.gaps.is_empty() && self.forgotten_lost == 0
    }

    pub(crate) fn enter(&mut self, number: u64) -> Verdict {
        if number == self.next {
            self.next += 1;
            self.received += 1;
            return Verdict::InOrder;
        }
        if number > self.next {
            self.gaps.push(self.next..number);
            if self.gaps.len() > MAX_GAPS {
                let gap = self.gaps.remove(0);
                self.forgotten_lost += gap.end - gap.start;
                self.forgotten = gap.end;
            }
            self.next = number + 1;
            self.received += 1;
            return Verdict::InOrder;
        }
        self.enter_late(number)
    }

    fn enter_late(&mut self, number: u64) -> Verdict {
        let at = self.gaps.partition_point(|gap| gap.end <= number);
        let Some(gap) = self.gaps.get_mut(at).filter(|gap| gap.contains(&number)) else {
            if number < self.forgotten && self.forgotten_lost > 0 {
                self.forgotten_lost -= 1;
                self.received += 1;
                self.out_of_order += 1;
                return Verdict::OutOfOrder;
            }
            self.duplicates += 1;
            return Verdict::Duplicate;
        };
        let after = number + 1..gap.end;
        gap.end = number;
        let keep = !gap.is_empty();
        match (keep, after.is_empty()) {
            (true, true) => {}
            (true, false) => self.gaps.insert(at + 1, after),
            (false, false) => self.gaps[at] = after,
            (false, true) => drop(self.gaps.remove(at)),
        }
        self.received += 1;
        self.out_of_order += 1;
        Verdict::OutOfOrder
    }

    /// The sum, if events up to `published` should have come. What is in `uncertain` may have been published or not.
    pub(crate) fn close(&self, published: u64, uncertain: &BTreeSet<u64>) -> Account {
        let tail = self.next..published.max(self.next);
        let lost = self.gaps.iter().chain([&tail]).map(|gap| {
            let excused = uncertain.range(gap.clone()).count() as u64;
            gap.end - gap.start - excused
        });
        let lost = lost.sum::<u64>() + self.forgotten_lost;
        let (duplicates, out_of_order) = (self.duplicates, self.out_of_order);
        Account {
            received: self.received,
            lost,
            duplicates,
            out_of_order,
            faulty: u64::from(lost + duplicates + out_of_order > 0),
        }
    }
}

/// How the id `new` stands to `old`, if both are the same text with a number behind it.
pub(crate) fn compare_ids(old: &[u8], new: &[u8]) -> Option<Ordering> {
    let (old_text, old) = split_number(old)?;
    let (new_text, new) = split_number(new)?;
    (old_text == new_text).then(|| new.cmp(&old))
}

fn split_number(id: &[u8]) -> Option<(&[u8], u64)> {
    let digits = id.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (text, number) = id.split_at(id.len() - digits.count());
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((text, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(numbers: impl IntoIterator<Item = u64>, published: u64) -> (u64, u64, u64, u64) {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.enter(number);
        }
        let sum = ledger.close(published, &BTreeSet::new());
        (sum.received, sum.lost, sum.duplicates, sum.out_of_order)
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        assert_eq!(account([0, 1, 2, 3], 4), (4, 0, 0, 0));
        assert_eq!(account([0, 2, 3], 4), (3, 1, 0, 0), "one in the middle");
        assert_eq!(account([2, 3], 4), (2, 2, 0, 0), "the first two");
        assert_eq!(account([0, 1], 4), (2, 2, 0, 0), "the last two");
        assert_eq!(account([], 4), (0, 4, 0, 0), "all");
        assert_eq!(account([0, 1, 1, 2, 3, 0], 4), (4, 0, 2, 0));
        assert_eq!(account([0, 2, 1, 3], 4), (4, 0, 0, 1));
        assert_eq!(account([3, 2, 1, 0], 4), (4, 0, 0, 3));
        assert_eq!(account([0, 5, 3, 3, 1], 6), (4, 2, 1, 2));
    }

    #[test]
    fn a_random_stream_is_judged_as_a_set_would() {
        let mut state = 7_u64;
        let mut random = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let numbers: Vec<u64> = (0..100).map(|_| random(60)).collect();
            let mut seen = BTreeSet::new();
            let (mut duplicates, mut late) = (0, 0);
            for &number in &numbers {
                let greatest = seen.last().copied();
                if !seen.insert(number) {
                    duplicates += 1;
                } else if greatest.is_some_and(|greatest| greatest > number) {
                    late += 1;
                }
            }
            let received = seen.len() as u64;
            assert_eq!(
                account(numbers, 60),
                (received, 60 - received, duplicates, late)
            );
        }
    }

    #[test]
    fn gaps_are_bounded_and_their_events_still_counted() {
        let events = 4 * MAX_GAPS as u64;
        let odd = (0..events).filter(|number| number % 2 == 1);
        assert_eq!(account(odd.clone(), events), (events / 2, events / 2, 0, 0));
        let even = (0..events).filter(|number| number % 2 == 0);
        assert_eq!(account(odd.chain(even), events), (events, 0, 0, events / 2));
    }

    #[test]
    fn what_may_not_have_been_published_is_not_missed() {
        let mut ledger = Ledger::default();
        for number in [0, 1, 4] {
            ledger.enter(number);
        }
        assert_eq!(ledger.close(6, &BTreeSet::from([1, 2, 5])).lost, 1);
    }

    #[test]
    fn ids_compare_where_they_can() {
        assert_eq!(compare_ids(b"9", b"10"), Some(Ordering::Greater));
        assert_eq!(compare_ids(b"3f2a-7", b"3f2a-7"), Some(Ordering::Equal));
        assert_eq!(compare_ids(b"3f2a-7", b"3f2a-6"), Some(Ordering::Less));
        assert_eq!(compare_ids(b"3f2a-7", b"0000-6"), None);
        assert_eq!(compare_ids(b"", b"1"), None);
        assert_eq!(compare_ids(b"a", b"b"), None);
    }
}
