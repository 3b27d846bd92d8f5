//! A calm topic beside a saturated one.
//!
//! The calm connections have a poll of their own that is looked at after every turn of the hot one's: what is measured is
//! the server's order, not the client's.

use std::time::{Duration, Instant};

use super::stage::Stage;
use super::window::Window;
use super::{Cell, Metric, Values, float, percentile};
use crate::harness::client::{Client, Patience, Wanted};
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};

/// Events of the hot topic that are outstanding.
const HOT: u64 = 16;

const CALM_TOPIC: u32 = 1;

const CALM_CONNECTIONS: usize = 10;

/// From one calm event to the next.
const CALM_INTERVAL: Duration = Duration::from_millis(20);

/// Times that the calm topic is silent, then active.
const ROUNDS: usize = 2;

struct Calm {
    client: Client,
    next: u64,
    due: Instant,
    /// When the last event was published.
    published: Instant,
    missing: usize,
    /// Milliseconds from publish to receive.
    latencies: Vec<f64>,
}

pub(super) fn run(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::open(cell, engine, options)?;
    let mut client = Client::new(options.congestion)?;
    let wanted = Wanted::topic(CALM_TOPIC);
    let prepared = client.prepare(std::iter::repeat_n(wanted, CALM_CONNECTIONS))?;
    client.connect(stage.server.address, prepared)?;
    let now = Instant::now();
    let mut calm = Calm {
        client,
        next: 0,
        due: now,
        published: now,
        missing: 0,
        latencies: Vec::new(),
    };
    let mut window = Window::new(cell.connections, stage.next);
    let (_, _profile) = stage.begin(cell, engine, options)?;
    let mut alone = 0.0;
    let mut beside = 0.0;
    for _ in 0..ROUNDS {
        alone += phase(&mut stage, &mut window, &mut calm, false, options.seconds)?;
        beside += phase(&mut stage, &mut window, &mut calm, true, options.seconds)?;
    }
    let latencies = &mut calm.latencies;
    Ok(vec![
        (Metric::P50, percentile(latencies, 0.5)),
        (Metric::P99, percentile(latencies, 0.99)),
        (Metric::Kept, beside / alone),
        (Metric::Rate, beside / float(ROUNDS as u64) / 1e3),
    ])
}

/// Runs the hot topic for a while; its deliveries per second.
fn phase(
    stage: &mut Stage,
    window: &mut Window,
    calm: &mut Calm,
    is_calm_active: bool,
    seconds: f64,
) -> Result<f64, Failure> {
    let start = Instant::now();
    let before = window.deliveries;
    let mut patience = Patience::new();
    calm.due = start;
    while start.elapsed().as_secs_f64() < seconds || calm.missing > 0 {
        while window.outstanding() < HOT {
            stage
                .server
                .publisher
                .queue(0, window.published, stage.bytes);
            window.published += 1;
        }
        let is_over = start.elapsed().as_secs_f64() >= seconds;
        if is_calm_active && !is_over && calm.missing == 0 && Instant::now() >= calm.due {
            stage
                .server
                .publisher
                .queue(CALM_TOPIC, calm.next, stage.bytes);
            calm.next += 1;
            calm.missing = CALM_CONNECTIONS;
            calm.published = Instant::now();
            calm.due += CALM_INTERVAL;
        }
        stage.server.publisher.flush()?;
        let read = stage
            .client
            .poll(Some(Duration::ZERO), &mut |arrival| window.arrived(arrival))?;
        let Calm {
            client,
            missing,
            latencies,
            published,
            ..
        } = calm;
        client.poll(Some(Duration::ZERO), &mut |_| {
            *missing -= 1;
            latencies.push(published.elapsed().as_secs_f64() * 1e3);
        })?;
        patience.look(read > 0, || "events of the hot topic".to_owned())?;
    }
    Ok(float(window.deliveries - before) / start.elapsed().as_secs_f64())
}
