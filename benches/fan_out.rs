//! How long until all have heard? Single events and bursts of 16, 1 to 100,000 subscribers, one task each, fanfare
//! beside the usual ways to do it.
//!
//! `engines` says what a round is and what each engine does in it. Criterion times one engine after the other, so a
//! machine whose speed drifts shows up in the comparison; `ratios` interleaves the engines and is what ratios are
//! quoted from.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench counts and starts threads for itself; src/sync.rs is for what loom checks"
)]

mod engines;

use std::env;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::engines::ENGINES;

/// Events published back to back in one round.
const BURSTS: [u32; 2] = [1, 16];

fn fan_out(criterion: &mut Criterion, sizes: &[u32]) {
    let runtime = engines::runtime();
    for burst in BURSTS {
        let shape = if burst == 1 {
            "single".to_owned()
        } else {
            format!("burst_of_{burst}")
        };
        let mut group = criterion.benchmark_group(format!("fan_out/{shape}"));
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        for &subscribers in sizes {
            group.throughput(Throughput::Elements(
                u64::from(subscribers) * u64::from(burst),
            ));
            for (name, open) in ENGINES {
                group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
                    let subscribers = usize::try_from(subscribers).expect("32 bits fit");
                    let mut contender = open(runtime.handle(), subscribers);
                    bencher.iter_custom(|rounds| {
                        let rounds = u32::try_from(rounds).expect("criterion asks for few rounds");
                        contender.run(rounds, burst).received
                    });
                });
            }
        }
        group.finish();
    }
}

fn main() {
    let smoke = env::args().any(|argument| argument == "--test");
    let sizes: &[u32] = if smoke {
        &[1, 100, 1_000]
    } else {
        &[1, 10, 100, 1_000, 10_000, 100_000]
    };
    let mut criterion = Criterion::default().configure_from_args();
    fan_out(&mut criterion, sizes);
    criterion.final_summary();
}
