//! Keeping the policy near a reference: estimators of KL(π‖π_ref), and penalties whose gradient is that of
//! the KL.
//!
//! With δₜ = log π(yₜ) − log π_ref(yₜ) on tokens sampled from π, J. Schulman ("Approximating KL divergence",
//! 2020) names k1 = δ, k2 = δ²/2 and k3 = e^(−δ) − 1 + δ. As *values* k1 and k3 are unbiased. As *losses*
//! differentiated by automatic differentiation they are not interchangeable (arXiv:2506.09477,
//! arXiv:2512.21852):
//!
//! | estimator | expected gradient |
//! |---|---|
//! | k1 in the reward | ∇KL(π‖π_ref): right |
//! | k2 in the loss, over whole sequences | ∇KL(π‖π_ref): right |
//! | k2 in the loss, token by token | right for one token; misses what a token does to later ones |
//! | k3 in the loss | near the reference that of KL(π_ref‖π), token by token: biased |
//! | k1 in the loss | zero |
//!
//! A test enumerates every answer of a small policy and checks each row.

use serde::{Deserialize, Serialize};

use super::guard::{MAX_LOG_RATIO, log_ratio};
use super::{TokenLoss, ranges};

/// How the KL to the reference enters training (`kl_estimator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// Credit shaping: each token's credit loses β times the log-ratio still to come, see
    /// [`k1_to_go`](crate::estimator::k1_to_go). Right gradient, lowest variance of the right ones.
    #[serde(alias = "k1")]
    K1InReward,
    /// A loss term, [`k2_penalty`]. Right gradient.
    K2,
    /// A loss term, [`k3_penalty`], as in GRPO's paper and TRL. **Its gradient is not that of KL(π‖π_ref)**:
    /// offered to
    /// repeat runs of others.
    K3,
}

/// Sums over tokens of the three estimates, in nats; divide by `tokens` for a mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KlSums {
    /// Σ δ: unbiased, may be negative.
    pub k1: f64,
    /// Σ δ²/2: biased, never negative.
    pub k2: f64,
    /// Σ (e^(−δ) − 1 + δ): unbiased, never negative. TRL logs its mean as `kl`.
    pub k3: f64,
    /// Tokens that counted.
    pub tokens: usize,
}

/// The estimates of KL(π‖π_ref) on tokens sampled from π. A token whose `share` is 0 does not count.
pub fn kl_sums(logp: &[f32], ref_logp: &[f32], share: &[f64]) -> KlSums {
    assert_eq!([ref_logp.len(), share.len()], [logp.len(); 2], "one number of each kind per token");
    let mut sums = KlSums::default();
    for t in (0..logp.len()).filter(|&t| share[t] != 0.0) {
        let delta = logp[t] as f64 - ref_logp[t] as f64;
        sums.k1 += delta;
        sums.k2 += 0.5 * delta * delta;
        sums.k3 += k3(log_ratio(logp[t], ref_logp[t], true));
        sums.tokens += 1;
    }
    sums
}

fn k3(delta: f64) -> f64 {
    (-delta).exp_m1() + delta
}

/// π(y)/π_old(y) of each whole sequence: the factor that makes an average over answers of an older policy one
/// over answers of this one. Its log is clamped to ±20 nats; tokens whose `share` is 0 do not enter.
pub fn sequence_importance(logp: &[f32], old_logp: &[f32], lengths: &[usize], share: &[f64]) -> Vec<f64> {
    assert_eq!([old_logp.len(), share.len()], [logp.len(); 2], "one number of each kind per token");
    let log_ratio = |t: usize| if share[t] == 0.0 { 0.0 } else { logp[t] as f64 - old_logp[t] as f64 };
    ranges(lengths)
        .map(|range| range.map(log_ratio).sum::<f64>().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp())
        .collect()
}

/// L = β Σᵢ sᵢ wᵢ ½ (Σₜ δᵢₜ)²: half the squared log-ratio of each whole answer.
///
/// Its derivative with respect to each token's log π is β sᵢ wᵢ Σₜ δᵢₜ, which is the score-function form of
/// ∇KL(π‖π_ref) when answers come from π; for answers of an older policy, `importance` w is
/// [`sequence_importance`] (held constant: no derivative flows through it), else 1. sᵢ is the mean share of
/// the answer's tokens, so that β has the meaning it has in TRL: with
/// [`Normalization::DrGrpo`](super::Normalization::DrGrpo) the expected gradient is exactly that of β·KL per
/// token of `max_completion_length`. Equal to K1InReward in expectation, noisier on long answers.
pub fn k2_penalty(
    logp: &[f32],
    ref_logp: &[f32],
    lengths: &[usize],
    share: &[f64],
    importance: &[f64],
    beta: f64,
) -> TokenLoss {
    assert_eq!([ref_logp.len(), share.len()], [logp.len(); 2], "one number of each kind per token");
    assert_eq!(importance.len(), lengths.len(), "one importance weight per sequence");
    let mut loss = TokenLoss { value: 0.0, d_logp: vec![0.0; logp.len()] };
    for (range, importance) in ranges(lengths).zip(importance) {
        let counted: Vec<usize> = range.filter(|&t| share[t] != 0.0).collect();
        if counted.is_empty() {
            continue;
        }
        let sequence_share = counted.iter().map(|&t| share[t]).sum::<f64>() / counted.len() as f64;
        let delta: f64 = counted.iter().map(|&t| logp[t] as f64 - ref_logp[t] as f64).sum();
        let scale = beta * sequence_share * importance;
        loss.value += scale * 0.5 * delta * delta;
        for t in counted {
            loss.d_logp[t] = (scale * delta) as f32;
        }
    }
    loss
}

/// L = β Σₜ sₜ (e^(−δₜ) − 1 + δₜ), GRPO's penalty (arXiv:2402.03300, eq. 4).
///
/// **Biased**: its expected gradient is not ∇KL(π‖π_ref) (see the table above). Prefer
/// [`KlEstimator::K1InReward`] or [`KlEstimator::K2`] unless you repeat a run made with it.
pub fn k3_penalty(logp: &[f32], ref_logp: &[f32], share: &[f64], beta: f64) -> TokenLoss {
    assert_eq!([ref_logp.len(), share.len()], [logp.len(); 2], "one number of each kind per token");
    let mut loss = TokenLoss { value: 0.0, d_logp: vec![0.0; logp.len()] };
    for t in (0..logp.len()).filter(|&t| share[t] != 0.0) {
        let delta = log_ratio(logp[t], ref_logp[t], true);
        loss.value += beta * share[t] * k3(delta);
        if delta.abs() < MAX_LOG_RATIO {
            loss.d_logp[t] = (-beta * share[t] * (-delta).exp_m1()) as f32;
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        // δ = 1, −0.5, and a token that does not count.
        let sums = kl_sums(&[-1.0, -1.5, f32::NAN], &[-2.0, -1.0, 0.0], &[1.0, 1.0, 0.0]);
        assert!((sums.k1 - 0.5).abs() < 1e-12);
        assert!((sums.k2 - 0.625).abs() < 1e-12);
        // e⁻¹ − 1 + 1 and e^0.5 − 1 − 0.5
        assert!((sums.k3 - (0.367_879_441_171 + 0.148_721_270_700)).abs() < 1e-9);
        assert_eq!(sums.tokens, 2);
    }

    #[test]
    fn expected_k1_and_k3_are_the_kl() {
        let (p, q) = ([0.5f32, 0.3, 0.2], [0.2f32, 0.2, 0.6]);
        let kl: f64 = p.iter().zip(q).map(|(&p, q)| f64::from(p) * (f64::from(p) / f64::from(q)).ln()).sum();
        let mut mean = (0.0, 0.0);
        for (&p, q) in p.iter().zip(q) {
            let sums = kl_sums(&[p.ln()], &[q.ln()], &[1.0]);
            assert!(sums.k3 >= 0.0);
            mean = (mean.0 + f64::from(p) * sums.k1, mean.1 + f64::from(p) * sums.k3);
        }
        assert!((mean.0 - kl).abs() < 1e-6 && (mean.1 - kl).abs() < 1e-6, "{mean:?} {kl}");
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (logp, reference) = (normals(1, 7, 1.0), normals(2, 7, 1.0));
        let share = [0.2, 0.2, 0.0, 0.3, 0.3, 0.1, 0.1];
        let (lengths, importance) = ([3, 4], [0.7, 1.9]);
        let k2 = |x: &[f32]| k2_penalty(x, &reference, &lengths, &share, &importance, 0.3);
        assert_derivatives(&logp, &k2(&logp).d_logp, |x| k2(x).value);
        let k3 = |x: &[f32]| k3_penalty(x, &reference, &share, 0.3);
        assert_derivatives(&logp, &k3(&logp).d_logp, |x| k3(x).value);
    }

    #[test]
    fn at_the_reference_every_penalty_is_still() {
        let logp = normals(3, 4, 1.0);
        for loss in [
            k2_penalty(&logp, &logp, &[4], &[0.25; 4], &[1.0], 1.0),
            k3_penalty(&logp, &logp, &[0.25; 4], 1.0),
        ] {
            assert_eq!(loss.value, 0.0);
            assert!(loss.d_logp.iter().all(|&d| d == 0.0));
        }
    }

    #[test]
    fn importance_is_the_product_over_counted_tokens() {
        let ln2 = std::f32::consts::LN_2;
        let importance =
            sequence_importance(&[ln2, ln2, f32::NAN, -ln2], &[0.0; 4], &[2, 2], &[1.0, 1.0, 0.0, 1.0]);
        assert!((importance[0] - 4.0).abs() < 1e-6 && (importance[1] - 0.5).abs() < 1e-6);
    }
}
