//! The clipped, importance-weighted policy gradient of PPO and GRPO.

use super::guard::{MAX_LOG_RATIO, log_ratio};

/// How far the policy may move from the one that sampled before a token stops pushing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// ε_low: the ratio is held above 1 − ε_low where credit is negative (TRL's `epsilon`, 0.2).
    pub low: f64,
    /// ε_high: the ratio is held below 1 + ε_high where credit is positive (TRL's `epsilon_high`; DAPO's
    /// 0.28).
    pub high: f64,
    /// δ > 1 + ε_high: dual clip, an upper bound of the ratio where credit is negative (arXiv:1912.09729,
    /// TRL's `delta`); none when absent.
    pub delta: Option<f64>,
}

/// How many tokens the clip silenced: sums, so that parts of a step add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClipCounts {
    /// Tokens with negative credit and a ratio below 1 − ε_low.
    pub low: usize,
    /// Tokens with positive credit and a ratio above 1 + ε_high.
    pub high: usize,
    /// Tokens with a share in the loss.
    pub tokens: usize,
}

/// What [`policy_gradient`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLoss {
    /// The loss, in the unit of credit.
    pub value: f64,
    /// ∂value/∂logp, one per token.
    pub d_logp: Vec<f32>,
    /// TRL's `clip_ratio/*` before division.
    pub clipped: ClipCounts,
}

/// L = −Σₜ sₜ min(min(ρₜ, δ)·Aₜ, clip(ρₜ, 1−ε_low, 1+ε_high)·Aₜ),  ρₜ = π(yₜ)/π_old(yₜ)
///
/// PPO (arXiv:1707.06347, eq. 7) with the asymmetric range of DAPO (arXiv:2503.14476, eq. 8) and the dual
/// clip of arXiv:1912.09729. `logp` and `old_logp` are in nats, `credit` is A, one per token, and `share` is
/// s from [`token_shares`](super::token_shares); a token whose share is 0 neither counts nor is looked at.
pub fn policy_gradient(
    logp: &[f32],
    old_logp: &[f32],
    credit: &[f32],
    share: &[f64],
    clip: &Clip,
) -> PolicyLoss {
    let tokens = logp.len();
    assert_eq!([old_logp.len(), credit.len(), share.len()], [tokens; 3], "one number of each kind per token");
    let mut loss = PolicyLoss { value: 0.0, d_logp: vec![0.0; tokens], clipped: ClipCounts::default() };
    for t in (0..tokens).filter(|&t| share[t] != 0.0) {
        let credit = credit[t] as f64;
        let log_ratio = log_ratio(logp[t], old_logp[t], true);
        let (objective, d_objective) = token(log_ratio, credit, clip);
        loss.value -= share[t] * objective;
        loss.d_logp[t] = (-share[t] * d_objective) as f32;
        let ratio = log_ratio.exp();
        loss.clipped.tokens += 1;
        loss.clipped.low += usize::from(ratio < 1.0 - clip.low && credit < 0.0);
        loss.clipped.high += usize::from(ratio > 1.0 + clip.high && credit > 0.0);
    }
    loss
}

/// One token's objective and its derivative with respect to log π.
fn token(log_ratio: f64, credit: f64, clip: &Clip) -> (f64, f64) {
    let ratio = log_ratio.exp();
    // The derivative of e^x is itself; where a clamp holds there is none.
    let slope = |holds: bool| if holds || log_ratio.abs() >= MAX_LOG_RATIO { 0.0 } else { ratio };
    let (low, high) = (1.0 - clip.low, 1.0 + clip.high);
    let clamped = ratio.clamp(low, high);
    let bound = clip.delta.unwrap_or(f64::INFINITY);
    let free = ratio.min(bound);
    if free * credit <= clamped * credit {
        (free * credit, slope(ratio > bound) * credit)
    } else {
        (clamped * credit, slope(ratio < low || ratio > high) * credit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    const CLIP: Clip = Clip { low: 0.2, high: 0.28, delta: Some(1.5) };

    #[test]
    fn at_ratio_one_it_is_the_plain_policy_gradient() {
        let loss = policy_gradient(&[-1.0, -2.0], &[-1.0, -2.0], &[3.0, -1.0], &[0.5, 0.5], &CLIP);
        assert_eq!(loss.value, -1.0);
        assert_eq!(loss.d_logp, [-1.5, 0.5]);
        assert_eq!(loss.clipped, ClipCounts { low: 0, high: 0, tokens: 2 });
    }

    /// Ratio 2, 2, 0.5, 0.5 and credit +, −, +, −: value and whether the token still pushes.
    #[test]
    fn clips_only_on_the_side_that_would_gain() {
        let ln2 = std::f32::consts::LN_2;
        let logp = [ln2, ln2, -ln2, -ln2];
        let one = |credit: &[f32], clip: &Clip| policy_gradient(&logp, &[0.0; 4], credit, &[1.0; 4], clip);
        let clip = Clip { delta: None, ..CLIP };
        let loss = one(&[1.0, -1.0, 1.0, -1.0], &clip);
        assert!((loss.value - (-1.28 + 2.0 - 0.5 + 0.8)).abs() < 1e-6);
        let expected = [0.0, 2.0, -0.5, 0.0];
        assert!(loss.d_logp.iter().zip(expected).all(|(d, e)| (d - e).abs() < 1e-6), "{:?}", loss.d_logp);
        assert_eq!(loss.clipped, ClipCounts { low: 1, high: 1, tokens: 4 });
        // The dual clip holds the second token at δ = 1.5 and silences it.
        let dual = one(&[1.0, -1.0, 1.0, -1.0], &CLIP);
        assert!((dual.value - (-1.28 + 1.5 - 0.5 + 0.8)).abs() < 1e-6);
        assert_eq!(dual.d_logp[1], 0.0);
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for seed in 0..20 {
            let (logp, old) = (normals(seed, 12, 0.5), normals(100 + seed, 12, 0.5));
            let credit = normals(200 + seed, 12, 1.0);
            let share: Vec<f64> = normals(300 + seed, 12, 1.0).iter().map(|s| f64::from(s.abs())).collect();
            for clip in [CLIP, Clip { low: 0.2, high: 0.2, delta: None }] {
                // Away from the kinks, where a difference quotient has no derivative to match.
                let kinks = [0.8f64, 1.2, 1.28, 1.5].map(f64::ln);
                let smooth = logp.iter().zip(&old).map(|(l, o)| f64::from(l - o));
                if smooth.flat_map(|x| kinks.map(|k| (x - k).abs())).any(|gap| gap < 5e-3) {
                    continue;
                }
                let value = |x: &[f32]| policy_gradient(x, &old, &credit, &share, &clip).value;
                assert_derivatives(
                    &logp,
                    &policy_gradient(&logp, &old, &credit, &share, &clip).d_logp,
                    value,
                );
            }
        }
    }

    #[test]
    fn masked_tokens_are_not_looked_at() {
        let loss = policy_gradient(&[f32::NAN, -1.0], &[0.0, -1.0], &[1.0, 1.0], &[0.0, 1.0], &CLIP);
        assert_eq!((loss.value, loss.d_logp), (-1.0, vec![0.0, -1.0]));
    }

    #[test]
    fn an_absurd_ratio_stays_finite() {
        let loss = policy_gradient(&[0.0], &[-500.0], &[-1.0], &[1.0], &Clip { delta: None, ..CLIP });
        assert!(loss.value.is_finite());
        assert_eq!(loss.d_logp, [0.0]);
    }
}
