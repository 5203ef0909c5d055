//! Learning from comparisons without a reward model.

use super::bradley_terry::PairLoss;
use super::guard::{log_sigmoid, sigmoid};

/// Log-probabilities of whole answers, in nats, one of each pair.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// Σ log π of the chosen answers' tokens.
    pub chosen: &'a [f32],
    /// Σ log π of the rejected answers' tokens.
    pub rejected: &'a [f32],
}

/// L = −(1/N) Σᵢ log σ(β (log π(chosen)/π_ref(chosen) − log π(rejected)/π_ref(rejected)))
///
/// Direct preference optimization (Rafailov et al., arXiv:2305.18290, eq. 7). `pairs` is N, over the whole optimizer
/// step. The derivatives are those of the policy's sums, and so of each of their tokens.
pub fn dpo(policy: Answers, reference: Answers, beta: f64, pairs: usize) -> PairLoss {
    let lengths = [policy.rejected.len(), reference.chosen.len(), reference.rejected.len()];
    assert_eq!(lengths, [policy.chosen.len(); 3], "one number of each kind per pair");
    let n = pairs as f64;
    let mut loss = PairLoss { value: 0.0, d_first: Vec::new(), d_second: Vec::new() };
    for i in 0..policy.chosen.len() {
        let ratio = |policy: &[f32], reference: &[f32]| policy[i] as f64 - reference[i] as f64;
        let lead = ratio(policy.chosen, reference.chosen) - ratio(policy.rejected, reference.rejected);
        loss.value -= log_sigmoid(beta * lead) / n;
        let pull = (beta * sigmoid(-beta * lead) / n) as f32;
        loss.d_first.push(-pull);
        loss.d_second.push(pull);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        let reference = Answers { chosen: &[-7.0], rejected: &[-5.0] };
        // At the reference the answers are even, whatever they are worth: log 2, and half of β to each side.
        let even = dpo(reference, reference, 0.1, 1);
        assert!((even.value - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!((even.d_first[0], even.d_second[0]), (-0.05, 0.05));
        // The chosen answer gained 6 nats and the rejected one lost 4: −log σ(0.1 · 10) = 0.31326, of two pairs.
        let learned = dpo(Answers { chosen: &[-1.0], rejected: &[-9.0] }, reference, 0.1, 2);
        assert!((2.0 * learned.value - 0.313_261_687_518).abs() < 1e-9);
        // β σ(−1) / 2 = 0.1 · 0.26894 / 2.
        assert!((learned.d_second[0] - 0.013_447_07).abs() < 1e-7);
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let [chosen, rejected, ref_chosen, ref_rejected] = [1, 2, 3, 4].map(|seed| normals(seed, 6, 3.0));
        let reference = Answers { chosen: &ref_chosen, rejected: &ref_rejected };
        let value = |chosen: &[f32], rejected: &[f32]| dpo(Answers { chosen, rejected }, reference, 0.4, 9);
        let loss = value(&chosen, &rejected);
        assert_derivatives(&chosen, &loss.d_first, |x| value(x, &rejected).value);
        assert_derivatives(&rejected, &loss.d_second, |x| value(&chosen, x).value);
    }
}
