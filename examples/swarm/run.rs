//! The phases of a run: open, publish or listen, drain, report.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::failure::Failure;
use crate::payload::Format;
use crate::progress::{Now, Progress};
use crate::publisher::{Published, Publisher};
use crate::report::{self, Percentiles, Point, Report};
use crate::server::{self, Sample};
use crate::shared::{Phase, Plan, Shared, Tally};
use crate::worker::{self, Outcome, Worker};
use crate::{limits, target, verdict};

/// Between two looks at all threads.
const LOOK: Duration = Duration::from_millis(250);

/// Between two looks at what will be over soon.
const GLANCE: Duration = Duration::from_millis(25);

/// After the last response head: some servers subscribe after they have sent it.
const SETTLE: Duration = Duration::from_millis(250);

/// Points of the series; of a longer run, each stands for more time.
const MAX_POINTS: usize = 600;

/// All that a run leaves.
pub(crate) struct Found {
    pub(crate) outcome: Outcome,
    pub(crate) tally: Tally,
    /// `None` if the run only listened.
    pub(crate) published: Option<Published>,
    pub(crate) opened: usize,
    pub(crate) opening: Duration,
    /// How long it was published, or listened.
    pub(crate) publishing: Duration,
    /// Until the last delivery.
    pub(crate) delivering: Duration,
    /// Until what was missing came or was given up.
    pub(crate) measured: Duration,
    pub(crate) series: Vec<Point>,
    pub(crate) samples: Option<[Sample; 3]>,
    pub(crate) own: Option<[Sample; 2]>,
}

pub(crate) fn run(options: Options) -> Result<Report, Failure> {
    let plan = plan(options)?;
    let shared = Shared::new(&plan);
    let found = thread::scope(|scope| -> Result<Found, Failure> {
        let before = look_at_server(&plan)?;
        let mut watch = Watch::new(&plan, &shared);
        // Whatever happens, the threads are told to stop, or the scope would not end.
        let stop = Stop(&shared);
        let mut workers = Vec::new();
        for index in 0..plan.options.threads {
            let worker = Worker::new(&plan, &shared, index)?;
            let thread = thread::Builder::new().name(format!("swarm-{index}"));
            let thread = thread.spawn_scoped(scope, move || worker.run());
            workers.push(thread.map_err(|error| Failure::Io {
                what: "starting a thread",
                error,
            })?);
        }
        watch.open(&workers);
        let opened = shared.opened.load(Relaxed);
        let opening = watch.began.elapsed();
        let open = look_at_server(&plan)?;
        let own = server::own();
        let start = watch.start();
        let published = if opened == 0 {
            None
        } else {
            let publishers = publishers(scope, &plan, &shared)?;
            watch.publish(start, &publishers, &workers);
            if !alive(&workers) {
                shared.enter(Phase::Stopping);
            }
            let sum = publishers.into_iter().map(join).reduce(Published::plus);
            Some(sum).flatten()
        };
        let publishing = start.elapsed();
        shared.enter(Phase::Draining);
        if published.is_some() {
            watch.drain(&workers);
        }
        let measured = start.elapsed();
        let samples = match (before, open) {
            // It may be gone by now, which the connections tell as well.
            (Some(before), Some(open)) => {
                let end = server::sample(&plan.options.pid);
                end.ok().map(|end| [before, open, end])
            }
            _ => None,
        };
        let own = own.zip(server::own()).map(|(begin, end)| [begin, end]);
        drop(stop);
        let mut outcome = Outcome::default();
        for worker in workers {
            outcome.add(join(worker)?);
        }
        watch.look();
        watch.progress.finish();
        let begin = u64::try_from((start - plan.epoch).as_nanos()).unwrap_or(u64::MAX);
        let delivering = Duration::from_nanos(watch.total.last.saturating_sub(begin));
        Ok(Found {
            outcome,
            tally: watch.total,
            published,
            opened,
            opening,
            publishing,
            delivering,
            measured,
            series: watch.series,
            samples,
            own,
        })
    })?;
    Ok(verdict::report(&plan, found))
}

fn plan(options: Options) -> Result<Plan, Failure> {
    let targets = options.targets()?;
    limits::allow(options.connections, options.publishers)?;
    // Before the first connection: a wrong process must not cost a run.
    server::sample(&options.pid)?;
    let address = targets.stream.resolve()?;
    let publish_address = targets.publish.as_ref().map(|url| {
        if url.authority == targets.stream.authority {
            return Ok(address);
        }
        url.resolve()
    });
    let sources = match options.sources() {
        Some(sources) => sources.to_vec(),
        None => target::sources_for(address, options.connections),
    };
    if sources
        .iter()
        .any(|source| source.is_ipv4() != address.is_ipv4())
    {
        return Err(Failure::Options(format!(
            "--source has an address of another family than {address}: give IPv4 addresses for IPv4, IPv6 for IPv6"
        )));
    }
    let run = RandomState::new().hash_one(std::process::id());
    Ok(Plan {
        publish_address: publish_address.transpose()?,
        format: Format::new(&format!("{run:016x}")),
        options,
        targets,
        address,
        sources,
        epoch: Instant::now(),
    })
}

fn look_at_server(plan: &Plan) -> Result<Option<Sample>, Failure> {
    let pids = &plan.options.pid;
    (!pids.is_empty()).then(|| server::sample(pids)).transpose()
}

type Threads<'scope, T> = Vec<ScopedJoinHandle<'scope, T>>;

fn publishers<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    plan: &'scope Plan,
    shared: &'scope Shared,
) -> Result<Threads<'scope, Published>, Failure> {
    let Some(address) = plan.publish_address else {
        return Ok(Vec::new());
    };
    let threads = u32::try_from(plan.options.publishers).unwrap_or(u32::MAX);
    let threads = threads.min(plan.targets.sequences);
    let start = |index| {
        let publisher = Publisher::new(plan, shared, index, threads, address);
        let thread = thread::Builder::new().name(format!("publisher-{index}"));
        let started = thread.spawn_scoped(scope, move || publisher.run());
        started.map_err(|error| Failure::Io {
            what: "starting a thread",
            error,
        })
    };
    (0..threads).map(start).collect()
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Ends the workers when it is dropped.
struct Stop<'run>(&'run Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Stopping);
    }
}

/// The main thread's view: the sum of what came, over time.
struct Watch<'run> {
    plan: &'run Plan,
    shared: &'run Shared,
    progress: Progress,
    began: Instant,
    /// When publishing began.
    start: Option<Instant>,
    looked: Instant,
    total: Tally,
    series: Vec<Point>,
    /// Looks that make a point, and those of the next that were taken.
    stride: usize,
    looks: usize,
    window: Tally,
    window_began: Instant,
}

impl<'run> Watch<'run> {
    fn new(plan: &'run Plan, shared: &'run Shared) -> Self {
        let now = Instant::now();
        Self {
            plan,
            shared,
            progress: Progress::new(plan),
            began: now,
            start: None,
            looked: now,
            total: Tally::default(),
            series: Vec::new(),
            stride: 1,
            looks: 0,
            window: Tally::default(),
            window_began: now,
        }
    }

    /// Returns when every connection is open or has failed.
    fn open(&mut self, workers: &Threads<'_, Result<Outcome, Failure>>) {
        while self.shared.settled.load(Relaxed) < workers.len() && alive(workers) {
            self.wait(GLANCE);
        }
        if self.shared.opened.load(Relaxed) > 0 && !self.plan.listens() {
            let settled = Instant::now();
            while settled.elapsed() < SETTLE {
                self.wait(GLANCE);
            }
        }
    }

    /// From here on time and deliveries count.
    fn start(&mut self) -> Instant {
        self.look();
        let now = Instant::now();
        self.start = Some(now);
        self.window_began = now;
        self.window = Tally::default();
        self.series.clear();
        // What came while connections were opened is in no rate of a run that listens.
        if self.plan.listens() {
            self.total.foreign = 0;
            self.total.bytes = 0;
        }
        now
    }

    fn publish(
        &mut self,
        start: Instant,
        publishers: &Threads<'_, Published>,
        workers: &Threads<'_, Result<Outcome, Failure>>,
    ) {
        let duration = self.plan.options.duration();
        let is_over = |start: Instant| {
            if publishers.is_empty() {
                start.elapsed() >= duration
            } else {
                publishers.iter().all(ScopedJoinHandle::is_finished)
            }
        };
        while !is_over(start) && alive(workers) {
            self.wait(GLANCE);
        }
    }

    /// Returns when all came that was published, or nothing came for long.
    fn drain(&mut self, workers: &Threads<'_, Result<Outcome, Failure>>) {
        let patience = self.plan.options.drain();
        let mut quiet = Instant::now();
        let mut seen = self.total.deliveries;
        while alive(workers) {
            self.wait(GLANCE);
            let mut missing = self
                .shared
                .incomplete
                .iter()
                .map(|count| count.load(Relaxed));
            if missing.all(|count| count == 0) {
                return;
            }
            let now = self.total.deliveries + self.total.slow_deliveries;
            if now != seen {
                seen = now;
                quiet = Instant::now();
            }
            if quiet.elapsed() >= patience {
                return;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        thread::park_timeout(time);
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
    }

    /// Takes in what came since the last look, and shows it.
    fn look(&mut self) {
        let now = Instant::now();
        self.looked = now;
        let mut fresh = Tally::default();
        self.shared.collect(&mut fresh);
        self.window.add(&fresh);
        self.total.add(&fresh);
        self.looks += 1;
        if self.looks < self.stride {
            return;
        }
        self.looks = 0;
        let time = now - self.window_began;
        let count = if self.plan.listens() {
            self.window.foreign
        } else {
            self.window.deliveries
        };
        let latency = Percentiles::of(&self.window.latency);
        let per_second = report::rate(count, time);
        if let Some(start) = self.start {
            self.series.push(Point {
                seconds: (now - start).as_secs_f64(),
                per_second,
                p50_us: latency.p50,
                p99_us: latency.p99,
            });
            if self.series.len() >= MAX_POINTS {
                self.thin();
            }
        }
        let shown = Now {
            per_second,
            p99_nanos: self.window.latency.value_at_quantile(0.99),
        };
        let published_for = self.start.map(|start| start.elapsed());
        self.progress
            .show(self.plan, self.shared, shown, published_for);
        self.window = Tally::default();
        self.window_began = now;
    }

    /// Makes one point of two, from now on too.
    fn thin(&mut self) {
        self.stride *= 2;
        let pairs = self.series.chunks_exact(2).map(|pair| Point {
            seconds: pair[1].seconds,
            per_second: f64::midpoint(pair[0].per_second, pair[1].per_second),
            p50_us: f64::midpoint(pair[0].p50_us, pair[1].p50_us),
            p99_us: pair[0].p99_us.max(pair[1].p99_us),
        });
        self.series = pairs.collect();
    }
}

/// Whether no worker has ended, which none does by itself unless it failed.
fn alive(workers: &Threads<'_, Result<Outcome, Failure>>) -> bool {
    !workers.iter().any(ScopedJoinHandle::is_finished)
}

impl Published {
    /// The sum of two threads.
    fn plus(mut self, other: Self) -> Self {
        self.taken += other.taken;
        worker::merge(&mut self.failures, other.failures);
        // Both have the same bounds, so nothing is out of range.
        self.answer += &other.answer;
        self.behind = self.behind.max(other.behind);
        self
    }
}
