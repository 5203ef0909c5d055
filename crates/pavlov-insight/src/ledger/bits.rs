//! Bits of verdicts and of code lengths: arithmetic on numbers that were measured elsewhere.

use crate::{Estimate, Unit};

/// Bits of a yes-or-no verdict that is yes with probability `p`: H_b(p).
pub fn binary_entropy(p: f64) -> f64 {
    entropy(&[p, 1.0 - p])
}

/// Entropy of a distribution, in bits; weights need not add up to one.
pub fn entropy(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let shares = weights.iter().map(|weight| weight / sum).filter(|share| *share > 0.0);
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

/// Entropy of values as often as they occur, in bits.
pub fn entropy_of_values(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let counts: Vec<f64> =
        sorted.chunk_by(|a, b| a.total_cmp(b).is_eq()).map(|equal| equal.len() as f64).collect();
    entropy(&counts)
}

/// Most that one comparison can say, in bits, where two people agree with probability `agreement`: each errs with
/// probability e, 1 − 2e = √(2a − 1), and a channel that errs so carries 1 − H_b(e). Agreement no better than chance: 0.
pub fn comparison_capacity(agreement: f64) -> f64 {
    let error = (1.0 - (2.0 * agreement - 1.0).max(0.0).sqrt()) / 2.0;
    1.0 - binary_entropy(error)
}

/// Bits that a group of answers to one prompt can tell apart: K · H of its rewards, K · H_b(p) where they are right or
/// wrong, 0 where all are equal (Dwarkesh's and GRPO's ceiling; of rewards on a continuous scale it is a loose one).
pub fn group_bits(rewards: &[f64]) -> f64 {
    rewards.len() as f64 * entropy_of_values(rewards)
}

/// What a model absorbed by the prequential code (Dawid 1984; Finzi et al., arXiv:2601.03220): the code lengths of lessons
/// before each was learned from, less what lessons that were never learned from cost at the end. In bits, over all lessons.
///
/// `before`: bits of each lesson before its update. `after`: bits of each held-out lesson under the last model.
/// The interval is that of two independent means; the noise floor is what chance alone gives where nothing was learned:
/// the half width of the interval when both samples spread as the held-out lessons do.
pub fn absorbed(before: &[f64], after: &[f64]) -> Option<Estimate> {
    let (n, m) = (before.len(), after.len());
    if n < 2 || m < 2 {
        return None;
    }
    let (start, end) = (mean(before), mean(after));
    let half = |of_before: f64| 1.96 * n as f64 * (of_before / n as f64 + variance(after) / m as f64).sqrt();
    let value = n as f64 * (start - end);
    let width = half(variance(before));
    Some(Estimate {
        value,
        low: value - width,
        high: value + width,
        unit: Unit::Bits,
        noise_floor: Some(half(variance(after))),
        n,
    })
}

/// How evenly lessons push: (Σ e)²/(n Σ e²), 1 where all push alike, 1/n where one does all.
pub fn participation(energy: &[f64]) -> f64 {
    let (sum, squares): (f64, f64) = energy.iter().fold((0.0, 0.0), |(s, q), e| (s + e, q + e * e));
    if squares > 0.0 { sum * sum / (energy.len() as f64 * squares) } else { 0.0 }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(crate) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 5e-3, "{value} is not {expected}");
    }

    #[test]
    fn hand_numbers() {
        near(binary_entropy(0.1), 0.469);
        near(binary_entropy(0.5), 1.0);
        assert_eq!(binary_entropy(0.0), 0.0);
        near(entropy(&[1.0, 1.0, 2.0]), 1.5);
        // Raters who agree in 73% of pairs err in 16.1% each.
        near(comparison_capacity(0.73), 0.36);
        assert_eq!(
            (comparison_capacity(0.5), comparison_capacity(0.2), comparison_capacity(1.0)),
            (0.0, 0.0, 1.0)
        );
        near(group_bits(&[1.0, 0.0, 0.0, 0.0]), 4.0 * binary_entropy(0.25));
        assert_eq!(group_bits(&[0.3; 8]), 0.0);
        assert_eq!(
            (participation(&[2.0, 2.0]), participation(&[0.0, 3.0]), participation(&[0.0])),
            (1.0, 0.5, 0.0)
        );
    }

    #[test]
    fn what_is_absorbed_is_the_area_above_the_end() {
        let before = [4.0, 3.0, 2.0, 1.0];
        let estimate = absorbed(&before, &[1.0, 1.0, 1.0]).unwrap();
        assert_eq!((estimate.value, estimate.noise_floor), (6.0, Some(0.0)));
        assert!(estimate.value <= before.iter().sum::<f64>());
        assert!(estimate.low < 6.0 && estimate.high > 6.0);
        assert!(absorbed(&before, &[1.0]).is_none());
    }

    #[test]
    fn where_nothing_was_learned_the_floor_covers_chance() {
        use pavlov_schema::rng::{Rng, Stream};
        let mut outside = 0;
        for trial in 0..200 {
            let mut rng = Rng::new(3, Stream::Bootstrap, 1, trial);
            let mut draw = |n: usize| (0..n).map(|_| 5.0 + f64::from(rng.normal())).collect::<Vec<f64>>();
            let (before, after) = (draw(60), draw(30));
            let estimate = absorbed(&before, &after).unwrap();
            outside += u32::from(estimate.value.abs() > estimate.noise_floor.unwrap());
        }
        // 5% of 200, and three standard deviations.
        assert!(outside <= 10 + 10, "{outside} of 200");
    }
}
