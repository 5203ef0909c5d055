//! Learning a score from comparisons.

use super::guard::{log_sigmoid, sigmoid};

/// A loss over pairs: its value and its derivative with respect to each side's number.
#[derive(Clone, Debug, PartialEq)]
pub struct PairLoss {
    /// The loss in nats per pair.
    pub value: f64,
    /// ∂value/∂first: the chosen answer's score, or the score read in the order (a, b).
    pub d_first: Vec<f32>,
    /// ∂value/∂second: the rejected answer's score, or the score read in the order (b, a).
    pub d_second: Vec<f32>,
}

/// L = −(1/N) Σᵢ log σ(r_chosen − r_rejected − mᵢ) + (c/N) Σᵢ (r_chosen + r_rejected)²
///
/// Bradley and Terry (1952), with the margin of Llama 2 (arXiv:2307.09288, eq. 2) and the centring term of
/// arXiv:2312.09244, which holds the scores' free constant near zero (TRL's `center_rewards_coefficient`; 0 =
/// off). `margin` is 0 where a row has none; `pairs` is N, over the whole optimizer step.
pub fn bradley_terry(
    chosen: &[f32],
    rejected: &[f32],
    margin: &[f32],
    center: f64,
    pairs: usize,
) -> PairLoss {
    assert_eq!([rejected.len(), margin.len()], [chosen.len(); 2], "one number of each kind per pair");
    let n = pairs as f64;
    let mut loss = PairLoss { value: 0.0, d_first: Vec::new(), d_second: Vec::new() };
    for ((&chosen, &rejected), &margin) in chosen.iter().zip(rejected).zip(margin) {
        let (chosen, rejected) = (chosen as f64, rejected as f64);
        let gap = chosen - rejected - margin as f64;
        let sum = chosen + rejected;
        loss.value += (center * sum * sum - log_sigmoid(gap)) / n;
        let (pull, hold) = (sigmoid(-gap) / n, 2.0 * center * sum / n);
        loss.d_first.push((hold - pull) as f32);
        loss.d_second.push((hold + pull) as f32);
    }
    loss
}

/// P(the answer scored `first` is better) = σ(first − second).
pub fn preference_probability(first: f32, second: f32) -> f64 {
    sigmoid(first as f64 - second as f64)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        let even = bradley_terry(&[3.0], &[3.0], &[0.0], 0.0, 1);
        assert!((even.value - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!((even.d_first[0], even.d_second[0]), (-0.5, 0.5));
        // A gap of 2 with a margin of 1 is a gap of 1: −log σ(1) = 0.31326.
        let margin = bradley_terry(&[2.0], &[0.0], &[1.0], 0.0, 1);
        assert!((margin.value - 0.313_261_687_518).abs() < 1e-9);
        // (1 + 2)² × 0.01 over two pairs.
        let centred = bradley_terry(&[1.0], &[2.0], &[0.0], 0.01, 2);
        let plain = bradley_terry(&[1.0], &[2.0], &[0.0], 0.0, 2);
        assert!((centred.value - plain.value - 0.045).abs() < 1e-12);
    }

    #[test]
    fn swapping_the_answers_turns_the_probability_round() {
        for pair in normals(5, 20, 3.0).chunks(2) {
            let (p, q) = (preference_probability(pair[0], pair[1]), preference_probability(pair[1], pair[0]));
            assert!((p + q - 1.0).abs() < 1e-15);
            let shifted = preference_probability(pair[0] + 1.0, pair[1] + 1.0);
            assert!((p - shifted).abs() < 1e-6);
        }
        assert!((preference_probability(2.0, 0.0) - 0.880_797_077_978).abs() < 1e-12);
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (chosen, rejected, margin) = (normals(1, 6, 2.0), normals(2, 6, 2.0), normals(3, 6, 0.5));
        let loss = bradley_terry(&chosen, &rejected, &margin, 0.05, 9);
        assert_derivatives(&chosen, &loss.d_first, |x| bradley_terry(x, &rejected, &margin, 0.05, 9).value);
        assert_derivatives(&rejected, &loss.d_second, |x| bradley_terry(&chosen, x, &margin, 0.05, 9).value);
    }
}
