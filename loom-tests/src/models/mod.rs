//! One file per race. Each model says what must hold, how it is bounded, and which weakenings were seen to fail.

mod two_publishers;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::epoch;

/// Runs a model and prints how many interleavings were looked at. `bound`: preemptions per run; `None`: all.
fn check(name: &str, bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let runs: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 20_000;
    builder.check(move || {
        epoch::reset();
        model();
        epoch::finish();
        runs.fetch_add(1, Ordering::Relaxed);
    });
    let runs = runs.load(Ordering::Relaxed);
    assert!(runs > 1, "{name}: the model has no interleaving: {runs}");
    RUNS.fetch_add(1, Ordering::Relaxed);
    let bound = bound.map_or("all".to_owned(), |bound| {
        format!("at most {bound} preemptions")
    });
    println!("loom: {name}: {runs} interleavings ({bound})");
}
