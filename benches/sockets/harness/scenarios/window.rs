//! How far all connections have come, when several events are outstanding.

use crate::harness::client::Arrival;

/// Most events that may be outstanding.
const ROOM: usize = 128;

/// Counts, per outstanding event, the connections that have it.
#[derive(Debug)]
pub(super) struct Window {
    connections: u64,
    /// By number of the event, modulo [`ROOM`].
    have: [u64; ROOM],
    /// Number of the first event that was not published.
    pub(super) published: u64,
    /// Number of the first event that not all have.
    pub(super) complete: u64,
    /// Deliveries so far.
    pub(super) deliveries: u64,
}

impl Window {
    pub(super) fn new(connections: usize, next: u64) -> Self {
        Self {
            connections: connections as u64,
            have: [0; ROOM],
            published: next,
            complete: next,
            deliveries: 0,
        }
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.published - self.complete
    }

    pub(super) fn arrived(&mut self, arrival: Arrival) {
        self.deliveries += arrival.count;
        for number in arrival.first..arrival.first + arrival.count {
            self.have[slot(number)] += 1;
        }
        while self.have[slot(self.complete)] == self.connections {
            self.have[slot(self.complete)] = 0;
            self.complete += 1;
        }
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number % ROOM as u64).unwrap_or_default()
}
