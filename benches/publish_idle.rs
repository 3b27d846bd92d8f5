//! What does a publish cost that wakes nobody? 1 to 1,000,000 subscribers, none of them parked.
//!
//! This is the price of an event for a publisher when its readers are busy or behind. `hub` looks the topic up by its
//! key, `topic` holds a handle. `one_parked` adds a single parked subscriber and so one walk down the armed bits;
//! its waker does nothing, so what a runtime adds to a wake is not in the figure.

use std::env;
use std::hint::black_box;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use fanfare::{Event, Hub, Subscription};

const KEY: &str = "ticks";

/// 98 characters, which are 100 bytes of JSON.
const PAYLOAD: &str = "a string of ninety-eight characters, so that with its two quotation marks it is 100 bytes long....";

fn crowd(hub: &Hub, subscribers: usize) -> Vec<Subscription> {
    (0..subscribers)
        .map(|_| hub.subscribe(KEY).expect("the hub is open"))
        .collect()
}

fn nobody_parked(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("publish_idle");
    for &subscribers in sizes {
        let hub = Hub::new();
        let _crowd = crowd(&hub, subscribers);
        group.bench_function(BenchmarkId::new("hub", subscribers), |bencher| {
            bencher.iter(|| {
                hub.publish(KEY, Event::json(&PAYLOAD))
                    .expect("the hub is open")
            });
        });
        let topic = hub.topic(KEY).expect("the hub is open");
        group.bench_function(BenchmarkId::new("topic", subscribers), |bencher| {
            bencher.iter(|| {
                topic
                    .publish(Event::json(&PAYLOAD))
                    .expect("the hub is open")
            });
        });
    }
    group.finish();
}

fn one_parked(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("publish_idle/one_parked");
    for &subscribers in sizes {
        let hub = Hub::new();
        let mut crowd = crowd(&hub, subscribers);
        let mut cx = Context::from_waker(Waker::noop());
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter_custom(|publishes| {
                let reader = &mut crowd[subscribers / 2];
                let mut total = Duration::ZERO;
                for _ in 0..publishes {
                    while reader.poll_recv(&mut cx).is_ready() {}
                    let start = Instant::now();
                    let published = hub.publish(KEY, Event::json(&PAYLOAD));
                    black_box(published.expect("the hub is open").subscribers());
                    total += start.elapsed();
                }
                total
            });
        });
    }
    group.finish();
}

fn main() {
    let smoke = env::args().any(|argument| argument == "--test");
    let sizes: &[usize] = if smoke {
        &[1, 1_000, 10_000]
    } else {
        &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
    };
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    nobody_parked(&mut criterion, sizes);
    one_parked(&mut criterion, sizes);
    criterion.final_summary();
}
