//! An engine with its readers and the tasks they live in.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::engine::Engine;
use super::round::{AbortOnPanic, Round, read_rounds};
use super::tick::Tick;

/// Longest wait for rounds, and what each delivery adds to it: far more than the slowest engine needs.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_EACH: Duration = Duration::from_micros(20);

/// What rounds took together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// From the first publish to the return of the last.
    pub(crate) publish: Duration,
    /// From the first publish until all had received everything.
    pub(crate) received: Duration,
}

/// An engine whose readers wait, ready to run rounds.
pub(crate) trait Contender {
    /// Runs `rounds` rounds of `burst` events.
    fn run(&mut self, rounds: u32, burst: u32) -> Times;

    /// Runs one round in which every reader looks at the number of each event. It also warms memory up.
    fn check(&mut self, burst: u32) -> Times;
}

pub(crate) struct Arena<E> {
    runtime: Handle,
    engine: Arc<E>,
    round: Arc<Round>,
    tasks: Vec<JoinHandle<()>>,
    rounds: u32,
}

impl<E: Engine> Arena<E> {
    /// One task per reader.
    pub(crate) fn open(runtime: &Handle, readers: usize) -> Self {
        let (engine, readers) = E::open(readers);
        Self::start(runtime, engine, readers, read_rounds)
    }

    /// Each of `readers` is run by `task`, which gets its number.
    pub(crate) fn start<R, F>(
        runtime: &Handle,
        engine: E,
        readers: Vec<R>,
        task: impl Fn(R, Arc<Round>, usize) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let round = Arc::new(Round::new(readers.len()));
        let tasks = readers
            .into_iter()
            .enumerate()
            .map(|(index, reader)| runtime.spawn(task(reader, Arc::clone(&round), index)))
            .collect();
        Self {
            runtime: runtime.clone(),
            engine: Arc::new(engine),
            round,
            tasks,
            rounds: 0,
        }
    }

    fn time(&mut self, rounds: u32, burst: u32, checked: bool) -> Times {
        let behind = self.rounds;
        self.rounds += rounds;
        let (engine, round) = (Arc::clone(&self.engine), Arc::clone(&self.round));
        let (done, publisher) = mpsc::channel();
        self.runtime.spawn(async move {
            let _guard = AbortOnPanic;
            let mut times = Times::default();
            for n in 0..rounds {
                round.all_parked(behind + n).await;
                round.begin(burst, checked);
                let start = Instant::now();
                for event in 0..burst {
                    engine.publish(&Tick::new(event)).await;
                }
                times.publish += start.elapsed();
                round.all_arrived().await;
                times.received += start.elapsed();
            }
            // Nobody waits any more: then this has taken too long, and that was said.
            let _ = done.send(times);
        });
        let deliveries = u32::try_from(self.tasks.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(rounds.saturating_mul(burst));
        publisher
            .recv_timeout(PATIENCE + PATIENCE_EACH.saturating_mul(deliveries))
            .expect("an event was lost, or this machine is very slow: not all readers have received all")
    }

    /// Returns once every reader waits.
    pub(crate) fn parked(&self) {
        let (round, rounds) = (Arc::clone(&self.round), self.rounds);
        let waiting = self
            .runtime
            .spawn(async move { round.all_parked(rounds).await });
        self.runtime
            .block_on(waiting)
            .expect("waiting does not panic");
    }
}

impl<E: Engine> Contender for Arena<E> {
    fn run(&mut self, rounds: u32, burst: u32) -> Times {
        self.time(rounds, burst, false)
    }

    fn check(&mut self, burst: u32) -> Times {
        self.time(1, burst, true)
    }
}

impl<E> Drop for Arena<E> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.runtime.block_on(async {
            for task in self.tasks.drain(..) {
                drop(task.await);
            }
        });
    }
}
