//! A server with its connections, warmed up.

use std::time::Duration;

use super::window::Window;
use super::{Cell, Values};
use crate::harness::child::{Meter, Profile, Server};
use crate::harness::client::{Client, Wanted};
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};
use crate::harness::servers::Setup;

/// Events before anything is measured.
const WARM_UP: u64 = 5;

/// How long a server is watched to see whether it is at rest.
const REST: Duration = Duration::from_millis(20);

pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) bytes: usize,
    /// Number of the next event of topic 0.
    pub(super) next: u64,
}

impl Stage {
    /// A server with the connections of `cell`, all on topic 0.
    pub(super) fn open(cell: &Cell, engine: Engine, options: &Options) -> Result<Self, Failure> {
        let mut stage = Self::bare(cell, engine, &options.setup())?;
        stage.connect(cell.connections)?;
        stage.warm_up()?;
        Ok(stage)
    }

    /// A server without connections.
    pub(super) fn bare(cell: &Cell, engine: Engine, setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            server: Server::start(engine, setup)?,
            client: Client::new(setup.congestion)?,
            bytes: cell.bytes,
            next: 0,
        })
    }

    /// Opens more streams of topic 0.
    pub(super) fn connect(&mut self, connections: usize) -> Result<(), Failure> {
        let wanted = Wanted {
            next: self.next,
            ..Wanted::topic(0)
        };
        let prepared = self
            .client
            .prepare(std::iter::repeat_n(wanted, connections))?;
        self.client.connect(self.server.address, prepared)
    }

    pub(super) fn warm_up(&mut self) -> Result<(), Failure> {
        for _ in 0..WARM_UP {
            self.deliver(1)?;
        }
        self.settle()
    }

    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        let client = &mut self.client;
        self.server.settle(|| client.rest(REST))
    }

    /// Publishes `events` in one write and waits until all connections have them; how many deliveries that is.
    pub(super) fn deliver(&mut self, events: u64) -> Result<u64, Failure> {
        for number in self.next..self.next + events {
            self.server.publisher.queue(0, number, self.bytes);
        }
        self.next += events;
        self.server.publisher.flush()?;
        let wanted = events * self.client.len() as u64;
        let mut got = 0;
        self.client.poll_until(
            &mut got,
            |got, arrival| *got += arrival.count,
            |got| *got == wanted,
            |got| format!("{} of {wanted} deliveries", wanted - got),
        )?;
        Ok(wanted)
    }

    /// Keeps `outstanding` events outstanding until `is_over` says so, and waits until all `readers` have what was
    /// published.
    pub(super) fn deliver_many(
        &mut self,
        readers: usize,
        outstanding: u64,
        mut is_over: impl FnMut(&Window) -> Result<bool, Failure>,
    ) -> Result<u64, Failure> {
        let mut window = Window::new(readers, self.next);
        let Self {
            server,
            client,
            bytes,
            ..
        } = self;
        while !is_over(&window)? {
            while window.outstanding() < outstanding {
                server.publisher.queue(0, window.published, *bytes);
                window.published += 1;
            }
            server.publisher.flush()?;
            let complete = window.complete;
            client.poll_until(
                &mut window,
                Window::arrived,
                |window| window.complete > complete,
                |window| format!("the last of {} events", window.outstanding()),
            )?;
        }
        client.poll_until(
            &mut window,
            Window::arrived,
            |window| window.outstanding() == 0,
            |window| format!("the last of {} events", window.outstanding()),
        )?;
        self.next = window.published;
        Ok(window.deliveries)
    }

    /// Begins the part that counts.
    pub(super) fn begin(
        &self,
        cell: &Cell,
        engine: Engine,
        options: &Options,
    ) -> Result<(Meter, Option<Profile>), Failure> {
        let profile = Profile::start(self.server.pid, options.perf_file(cell, engine))?;
        Ok((self.server.meter()?, profile))
    }
}

/// CPU per delivery, and what goes with it.
pub(super) fn cpu_per_delivery(meter: &Meter, deliveries: u64) -> Result<Values, Failure> {
    use super::{Metric, float};

    let used = meter.read()?;
    Ok(vec![
        (Metric::Cpu, used.cpu * 1e6 / float(deliveries)),
        (Metric::Rate, float(deliveries) / used.wall / 1e3),
        (Metric::Busy, used.busy()),
        (Metric::Others, used.others()),
    ])
}
