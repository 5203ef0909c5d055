//! A bonus for staying undecided.

/// What [`entropy_bonus`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct EntropyLoss {
    /// The loss in nats times the coefficient (negative when entropy is rewarded).
    pub value: f64,
    /// ∂value/∂entropy, one per token.
    pub d_entropy: Vec<f32>,
}

/// L = −c Σₜ sₜ Hₜ, with H the entropy in nats of the distribution each token was drawn from
/// (PPO, arXiv:1707.06347, eq. 9). A token whose `share` is 0 is not looked at.
pub fn entropy_bonus(entropy: &[f32], share: &[f64], coefficient: f64) -> EntropyLoss {
    assert_eq!(entropy.len(), share.len(), "one share per token");
    let counted = entropy.iter().zip(share).filter(|&(_, &share)| share != 0.0);
    EntropyLoss {
        value: -coefficient * counted.map(|(&entropy, share)| share * entropy as f64).sum::<f64>(),
        d_entropy: share.iter().map(|share| (-coefficient * share) as f32).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_entropy_of_counted_tokens() {
        let loss = entropy_bonus(&[2.0, f32::NAN, 1.0], &[0.5, 0.0, 0.25], 0.5);
        assert_eq!(loss.value, -0.625);
        assert_eq!(loss.d_entropy, [-0.25, 0.0, -0.125]);
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (entropy, share) = ([0.3, 1.2, 0.9], [0.1, 0.7, 0.2]);
        let loss = entropy_bonus(&entropy, &share, 0.3);
        super::super::testing::assert_derivatives(&entropy, &loss.d_entropy, |x| {
            entropy_bonus(x, &share, 0.3).value
        });
    }
}
