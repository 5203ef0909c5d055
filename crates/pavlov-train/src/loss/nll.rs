//! Negative log-likelihood of demonstrated tokens.

use super::TokenLoss;

/// Weighted cross-entropy in nats per token:
///
/// L = −(1/N) Σₜ wₜ log π(yₜ | y₍<ₜ₎, x)
///
/// `weight` is 1 for a token to learn and 0 for one to skip (anything between or beyond is allowed);
/// `normalizer` is N, the sum of the weights over the whole optimizer step, so that accumulation in parts
/// changes nothing.
pub fn nll(logp: &[f32], weight: &[f32], normalizer: f64) -> TokenLoss {
    assert_eq!(logp.len(), weight.len(), "one weight per token");
    let mut value = 0.0;
    let d_logp = logp.iter().zip(weight).map(|(&logp, &weight)| {
        let share = weight as f64 / normalizer;
        // A skipped token's log-probability may be anything, even −∞.
        if weight != 0.0 {
            value -= share * logp as f64;
        }
        -share as f32
    });
    let d_logp = d_logp.collect();
    TokenLoss { value, d_logp }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn is_the_mean_surprisal_of_the_weighted_tokens() {
        let loss = nll(&[-1.0, f32::NEG_INFINITY, -3.0], &[1.0, 0.0, 1.0], 2.0);
        assert_eq!(loss.value, 2.0);
        assert_eq!(loss.d_logp, [-0.5, 0.0, -0.5]);
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (logp, weight) = (normals(1, 6, 2.0), normals(2, 6, 1.0));
        assert_derivatives(&logp, &nll(&logp, &weight, 7.0).d_logp, |x| nll(x, &weight, 7.0).value);
    }
}
