//! Diversity: distinct n-grams, adjusted for how many are expected (EAD; Liu et al., arXiv:2202.13587; used for RLHF by Kirk et
//! al., arXiv:2310.06452).
//!
//! Of C drawn n-grams over V possible ones V·(1 − (1 − 1/V)^C) are expected to be distinct if all are equally likely; EAD is the
//! distinct ones over that. It does not fall as texts grow longer, as a plain share of distinct n-grams does.

use std::collections::BTreeSet;

/// Longest n-grams that count.
pub const LONGEST: usize = 4;

/// The mean EAD of n-grams of 1 to [`LONGEST`] tokens of some answers, over a vocabulary of `vocabulary` tokens. NaN where no
/// answer has a token.
pub fn distinct(answers: &[&[u32]], vocabulary: usize) -> f64 {
    let shares: Vec<f64> = (1..=LONGEST).filter_map(|n| of_length(answers, n, vocabulary)).collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}

fn of_length(answers: &[&[u32]], n: usize, vocabulary: usize) -> Option<f64> {
    let grams = || answers.iter().flat_map(|answer| answer.windows(n));
    let drawn = grams().count() as f64;
    let distinct = grams().collect::<BTreeSet<_>>().len() as f64;
    let possible = (vocabulary as f64).powi(n as i32);
    // (1 − 1/V)^C without losing 1/V to rounding.
    let expected = -possible * (drawn * (-1.0 / possible).ln_1p()).exp_m1();
    (drawn > 0.0).then(|| distinct / expected)
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::{Rng, Stream};

    use super::*;

    #[test]
    fn random_text_has_one_whatever_its_length() {
        for length in [20, 200, 2000] {
            let mut rng = Rng::new(4, Stream::Bootstrap, 0, length);
            let answer: Vec<u32> = (0..length).map(|_| rng.below(50) as u32).collect();
            let found = distinct(&[&answer], 50);
            assert!((found - 1.0).abs() < 0.1, "{length}: {found}");
        }
    }

    #[test]
    fn equal_answers_are_less_diverse_than_different_ones() {
        let one: &[u32] = &[1, 2, 3, 4, 5];
        let other: &[u32] = &[6, 7, 8, 9, 10];
        assert!(distinct(&[one, one], 100) < 0.6);
        assert!(distinct(&[one, other], 100) > 0.95);
        // Two tokens, one of them twice: 2 distinct of 3; expected 10(1 − 0.9³) = 2.71. Then 2-grams 2 of 2 over 100.
        let two = f64::midpoint(2.0 / 2.71, 2.0 / (100.0 * (1.0 - 0.99_f64.powi(2))));
        let of_two: Vec<f64> = (1..=2).filter_map(|n| of_length(&[&[1, 1, 2]], n, 10)).collect();
        assert!((of_two.iter().sum::<f64>() / 2.0 - two).abs() < 1e-9);
        assert!(distinct(&[], 10).is_nan());
    }
}
