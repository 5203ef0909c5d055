//! The losses: each a pure function from per-token (or per-answer) numbers to a value and its derivatives.
//!
//! Three rules hold for every function here.
//! - Inputs and derivatives are `f32`, as the engine gives and takes them; the arithmetic between is `f64`.
//! - Normalisers are counts over the whole optimizer step, passed in. A batch cut into n parts therefore
//!   gives n values and n lists of derivatives that add up to those of the whole.
//! - Slices that describe the same tokens have the same length; anything else is a bug of the caller and
//!   panics.

mod bradley_terry;
mod dpo;
mod entropy;
pub mod guard;
mod kl;
mod nll;
mod normalize;
mod ordinal;
mod pairwise;
mod plackett_luce;
mod policy_gradient;
mod rating;
mod ties;

pub use bradley_terry::{PairLoss, bradley_terry, preference_probability};
pub use dpo::{Answers, dpo};
pub use entropy::{EntropyLoss, entropy_bonus};
pub use kl::{KlEstimator, KlSums, k2_penalty, k3_penalty, kl_sums, sequence_importance};
pub use nll::nll;
pub use normalize::{Counts, Normalization, token_shares};
pub use ordinal::{
    OrdinalLoss, class_probabilities, expected_rating, ordinal, spread_thresholds, thresholds,
};
pub use pairwise::{joint_pairwise, joint_probability};
pub use plackett_luce::{RankingLoss, plackett_luce};
pub use policy_gradient::{Clip, ClipCounts, PolicyLoss, policy_gradient};
pub use rating::{ScoreLoss, squared_error};
pub use ties::{Outcome, TieLoss, TieModel, outcome_probabilities, preference_with_ties};

/// A loss over tokens: its value and its derivative with respect to each token's log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLoss {
    /// The loss (nats, or reward points for a penalty in the reward's unit).
    pub value: f64,
    /// ∂value/∂logp, one per token.
    pub d_logp: Vec<f32>,
}

/// The token range of each sequence when sequences of these lengths lie one after another.
pub(crate) fn ranges(lengths: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> {
    lengths.iter().scan(0, |start, &length| {
        let range = *start..*start + length;
        *start = range.end;
        Some(range)
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use pavlov_schema::rng::{Rng, Stream};

    /// `n` numbers from a normal distribution with this standard deviation.
    pub(crate) fn normals(seed: u64, n: usize, deviation: f32) -> Vec<f32> {
        let mut rng = Rng::new(seed, Stream::Data, 0, 0);
        (0..n).map(|_| deviation * rng.normal()).collect()
    }

    /// Checks each analytic derivative against a central difference of `value` at `inputs`.
    pub(crate) fn assert_derivatives(inputs: &[f32], analytic: &[f32], value: impl Fn(&[f32]) -> f64) {
        assert_eq!(inputs.len(), analytic.len());
        for (i, &derivative) in analytic.iter().enumerate() {
            let moved = |by: f32| {
                let mut inputs = inputs.to_vec();
                inputs[i] += by;
                (inputs[i] as f64, value(&inputs))
            };
            let ((x1, y1), (x0, y0)) = (moved(1e-3), moved(-1e-3));
            let numeric = (y1 - y0) / (x1 - x0);
            let error = (numeric - derivative as f64).abs();
            assert!(
                error <= 1e-5 + 2e-4 * numeric.abs(),
                "input {i}: analytic {derivative}, numeric {numeric}"
            );
        }
    }
}
