//! Exact tests of single suspicions.

use statrs::distribution::{Binomial, Discrete};

/// The chance of a count at least as unlikely as `hits` of `trials`, if each has chance `p`: the exact two-sided binomial test.
/// 1 without a trial.
pub fn binomial(hits: usize, trials: usize, p: f64) -> f64 {
    let Ok(law) = Binomial::new(p, trials as u64) else { return 1.0 };
    // Beyond this, terms of the tails are summed in one pass all the same: a million is some milliseconds.
    let seen = law.ln_pmf(hits as u64) + 1e-7;
    let sum: f64 = (0..=trials as u64).map(|k| law.ln_pmf(k)).filter(|log| *log <= seen).map(f64::exp).sum();
    sum.min(1.0)
}

/// Benjamini and Hochberg (1995): each chance adjusted, so that among those below q no more than a share q is expected to be
/// nothing.
pub fn false_discovery(chances: &[f64]) -> Vec<f64> {
    let n = chances.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| chances[j].total_cmp(&chances[i]));
    let mut adjusted = vec![1.0; n];
    let mut least = 1.0_f64;
    for (place, &i) in order.iter().enumerate() {
        least = least.min(chances[i] * n as f64 / (n - place) as f64);
        adjusted[i] = least;
    }
    adjusted
}

/// The longest run of one answer, as given in time.
pub fn longest_run(answers: &[u64]) -> usize {
    answers.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or(0)
}

/// An upper bound of the chance of a run of `length` equal answers somewhere among `n`, if the answers fall independently with
/// the given shares: Σ n·p^length. Below some small chance, somebody does not read.
pub fn run_chance(n: usize, length: usize, shares: &[f64]) -> f64 {
    let starts = (n + 1).saturating_sub(length) as f64;
    (starts * shares.iter().map(|p| p.powi(length as i32)).sum::<f64>()).min(1.0)
}

/// The least time in which somebody can have read so many words and decided, milliseconds: 1,200 words a minute, which is
/// skimming, and half a second.
pub fn least_ms(words: usize) -> u64 {
    500 + 50 * words as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 8 of 10 at ½: 2·(45 + 10 + 1)/1024.
        assert!((binomial(8, 10, 0.5) - 112.0 / 1024.0).abs() < 1e-12);
        assert!((binomial(0, 0, 0.5) - 1.0).abs() < 1e-12);
        let adjusted = false_discovery(&[0.01, 0.04, 0.03, 0.5]);
        for (ours, hand) in adjusted.iter().zip([0.04, 0.16 / 3.0, 0.16 / 3.0, 0.5]) {
            assert!((ours - hand).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(longest_run(&[1, 2, 2, 2, 1]), 3);
        assert!((run_chance(10, 3, &[0.5, 0.5]) - 1.0).abs() < 1e-12);
        assert!(run_chance(100, 30, &[0.5, 0.5]) < 1e-6);
    }
}
