//! What does coming and going cost when others are there? Subscribe and drop, beside 0 to 1,000,000 others.
//!
//! * `same_topic`: all on one topic. The newcomer takes the place that the last leaver left.
//! * `one_of_many`: all on one topic; somebody from anywhere in the crowd leaves and somebody joins. Beyond the caches
//!   this measures memory: the leaver's places were not touched for a long time.
//! * `own_topic`: the others have a topic each, as users do; the newcomer's topic begins and ends with it.

use std::env;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use fanfare::{Hub, Subscription};

const KEY: &str = "ticks";

fn crowd(hub: &Hub, others: usize) -> Vec<Subscription> {
    (0..others)
        .map(|_| hub.subscribe(KEY).expect("the hub is open"))
        .collect()
}

fn same_topic(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("churn/same_topic");
    for &others in sizes {
        let hub = Hub::new();
        let _crowd = crowd(&hub, others);
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| drop(black_box(hub.subscribe(KEY).expect("the hub is open"))));
        });
    }
    group.finish();
}

fn one_of_many(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("churn/one_of_many");
    for &others in sizes.iter().filter(|&&others| others > 0) {
        let hub = Hub::new();
        let mut crowd = crowd(&hub, others);
        let mut leaver = 0;
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| {
                // A step that shares no factor with a power of ten visits everybody.
                leaver = (leaver + 618_033) % others;
                crowd[leaver] = hub.subscribe(KEY).expect("the hub is open");
            });
        });
    }
    group.finish();
}

fn own_topic(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("churn/own_topic");
    for &others in sizes {
        let hub = Hub::<usize>::default();
        let _crowd: Vec<_> = (0..others)
            .map(|key| hub.subscribe(&key).expect("the hub is open"))
            .collect();
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| drop(black_box(hub.subscribe(&others).expect("the hub is open"))));
        });
    }
    group.finish();
}

fn main() {
    let smoke = env::args().any(|argument| argument == "--test");
    let sizes: &[usize] = if smoke {
        &[0, 1_000, 10_000]
    } else {
        &[0, 1_000, 100_000, 1_000_000]
    };
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    same_topic(&mut criterion, sizes);
    one_of_many(&mut criterion, sizes);
    own_topic(&mut criterion, sizes);
    criterion.final_summary();
}
