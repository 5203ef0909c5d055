//! The KL to a reference as part of the reward.

/// Takes β · Σ_{s ≥ t} (log π(yₛ) − log π_ref(yₛ)) from the credit of each token t of one answer: k1 in the
/// reward, the penalty still to come at each token (γ = 1).
///
/// With log-probabilities of the policy that sampled, and token shares that do not depend on the answer
/// ([`DrGrpo`](crate::loss::Normalization::DrGrpo)), the policy gradient under this credit has expectation
/// −β ∇KL(π‖π_ref) over whole answers (arXiv:2506.09477). Leaving out the part before t changes no expectation
/// and removes its noise.
///
/// Applied to credit, after the group's rewards are centred and scaled, so that β keeps its size whatever the
/// rewards' deviation. Nothing here is differentiated: the numbers are constants of the update.
pub fn k1_to_go(credit: &mut [f32], logp: &[f32], ref_logp: &[f32], beta: f64) {
    assert_eq!([logp.len(), ref_logp.len()], [credit.len(); 2], "one number of each kind per token");
    let mut to_go = 0.0;
    for t in (0..credit.len()).rev() {
        to_go += logp[t] as f64 - ref_logp[t] as f64;
        credit[t] = (credit[t] as f64 - beta * to_go) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_pays_for_itself_and_what_follows() {
        let mut credit = [1.0, 1.0, 1.0];
        k1_to_go(&mut credit, &[-1.0, -2.0, -3.0], &[-2.0, -1.5, -5.0], 0.5);
        // δ = 1, −0.5, 2; to go 2.5, 1.5, 2.
        assert_eq!(credit, [-0.25, 0.25, 0.0]);
    }

    #[test]
    fn at_the_reference_nothing_changes() {
        let mut credit = [0.3, -0.7];
        k1_to_go(&mut credit, &[-1.0, -2.0], &[-1.0, -2.0], 0.5);
        assert_eq!(credit, [0.3, -0.7]);
    }
}
