//! The joint pairwise model: a judge that reads both answers at once.

use super::PairLoss;
use super::guard::{log_sigmoid, sigmoid};

/// P(a is better) = σ((s_ab − s_ba)/2), from the scalar head's output on (x, a, b) and on (x, b, a).
///
/// Reading both orders makes the answer symmetric by construction: P(a better) + P(b better) = 1, and
/// whatever the model feels about the *position* of an answer cancels.
pub fn joint_probability(s_ab: f32, s_ba: f32) -> f64 {
    sigmoid((s_ab as f64 - s_ba as f64) / 2.0)
}

/// L = −(1/N) Σᵢ [tᵢ log Pᵢ + (1 − tᵢ) log(1 − Pᵢ)], with P from [`joint_probability`].
///
/// `target` is t, the probability that a is better: 1, 0, ½ for a tie, or the share of raters who preferred
/// a. `pairs` is N, over the whole optimizer step. [`PairLoss::d_first`] is ∂/∂s_ab, [`PairLoss::d_second`]
/// ∂/∂s_ba.
pub fn joint_pairwise(s_ab: &[f32], s_ba: &[f32], target: &[f32], pairs: usize) -> PairLoss {
    assert_eq!([s_ba.len(), target.len()], [s_ab.len(); 2], "one number of each kind per pair");
    let n = pairs as f64;
    let mut loss = PairLoss { value: 0.0, d_first: Vec::new(), d_second: Vec::new() };
    for ((&ab, &ba), &target) in s_ab.iter().zip(s_ba).zip(target) {
        let target = target as f64;
        let logit = (ab as f64 - ba as f64) / 2.0;
        loss.value -= (target * log_sigmoid(logit) + (1.0 - target) * log_sigmoid(-logit)) / n;
        let d_logit = (sigmoid(logit) - target) / n;
        loss.d_first.push((d_logit / 2.0) as f32);
        loss.d_second.push((-d_logit / 2.0) as f32);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        assert!((joint_probability(3.0, -1.0) - 0.880_797_077_978).abs() < 1e-12);
        // A constant preference for the first place cancels.
        assert_eq!(joint_probability(7.0, 7.0), 0.5);
        let tie = joint_pairwise(&[7.0], &[7.0], &[0.5], 1);
        assert!((tie.value - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!((tie.d_first[0], tie.d_second[0]), (0.0, 0.0));
    }

    #[test]
    fn exchanging_the_answers_changes_nothing() {
        let (ab, ba, target) =
            (normals(1, 8, 2.0), normals(2, 8, 2.0), [1.0, 0.0, 0.5, 0.25, 1.0, 0.0, 0.9, 0.1]);
        let turned: Vec<f32> = target.iter().map(|t| 1.0 - t).collect();
        let (here, there) = (joint_pairwise(&ab, &ba, &target, 8), joint_pairwise(&ba, &ab, &turned, 8));
        assert!((here.value - there.value).abs() < 1e-7);
        for i in 0..8 {
            assert!((joint_probability(ab[i], ba[i]) + joint_probability(ba[i], ab[i]) - 1.0).abs() < 1e-15);
            assert!((here.d_first[i] - there.d_second[i]).abs() < 1e-7);
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (ab, ba, target) = (normals(3, 5, 2.0), normals(4, 5, 2.0), [1.0, 0.0, 0.5, 0.3, 1.0]);
        let loss = joint_pairwise(&ab, &ba, &target, 6);
        assert_derivatives(&ab, &loss.d_first, |x| joint_pairwise(x, &ba, &target, 6).value);
        assert_derivatives(&ba, &loss.d_second, |x| joint_pairwise(&ab, x, &target, 6).value);
    }
}
