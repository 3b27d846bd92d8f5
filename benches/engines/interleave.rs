//! Measuring side by side: a machine that other work shares changes its speed from one second to the next, so all that is
//! compared is measured in each round, one right after the other, in an order that rotates.

/// Measures all of `subjects` once per round, beginning with another one each time. One row of times per subject.
pub(crate) fn interleave<S>(
    rounds: u32,
    subjects: &mut [S],
    measure: impl FnMut(&mut S) -> f64,
) -> Vec<Vec<f64>> {
    let rounds = vec![rounds; subjects.len()];
    interleave_some(&rounds, subjects, measure)
}

/// As [`interleave`], with rounds for each subject: those with fewer take part in the first ones. The `n`th time of each
/// row is from the same round.
pub(crate) fn interleave_some<S>(
    rounds: &[u32],
    subjects: &mut [S],
    mut measure: impl FnMut(&mut S) -> f64,
) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); subjects.len()];
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    for round in 0..rounds.iter().copied().max().unwrap_or(0) {
        for &subject in order.iter().filter(|&&subject| round < rounds[subject]) {
            times[subject].push(measure(&mut subjects[subject]));
        }
        order.rotate_left(1);
    }
    times
}

/// The ratios of `times` to `others`, each within its round.
pub(crate) fn ratios(times: &[f64], others: &[f64]) -> Vec<f64> {
    let pairs = times.iter().zip(others);
    pairs.map(|(time, other)| time / other).collect()
}

/// The middle one; NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => f64::NAN,
        Some(&upper) if sorted.len() % 2 == 1 => upper,
        Some(&upper) => f64::midpoint(sorted[middle - 1], upper),
    }
}
