//! Credit from a judge who says which of two answers is better.

use crate::{Error, Result};

/// A = ±(2p − 1) for the two answers to a prompt, given p = P(first is better): first, second of each pair in
/// turn.
///
/// The better answer is rewarded by as much as the other is punished; a tie (p = ½) gives both exactly 0.
/// Averaged over the two answers, the policy gradient with this credit is the gradient of P(win) − P(loss)
/// against a frozen copy of the policy, so no baseline is needed. Errors: a probability outside [0, 1].
pub fn pairwise_advantages(first_better: &[f64]) -> Result<Vec<f64>> {
    let mut advantages = Vec::with_capacity(2 * first_better.len());
    for (pair, &p) in first_better.iter().enumerate() {
        if !(0.0..=1.0).contains(&p) {
            let problem = format!("gave pair {pair} the probability {p}; it must lie in [0, 1]");
            return Err(Error::Setting { key: "pairwise judge".into(), problem });
        }
        let credit = 2.0 * p - 1.0;
        advantages.extend([credit, -credit]);
    }
    Ok(advantages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_gains_what_the_other_loses() {
        assert_eq!(
            pairwise_advantages(&[1.0, 0.0, 0.5, 0.75]).unwrap(),
            [1.0, -1.0, -1.0, 1.0, 0.0, 0.0, 0.5, -0.5]
        );
    }

    #[test]
    fn refuses_what_is_not_a_probability() {
        for p in [-0.1, 1.5, f64::NAN] {
            let error = pairwise_advantages(&[0.5, p]).unwrap_err().to_string();
            assert!(error.contains("pair 1"), "{error}");
        }
    }
}
