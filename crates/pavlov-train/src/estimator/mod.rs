//! From rewards to credit: how hard each answer, and each token of it, is pushed.

mod group;
mod kl_shaping;
mod pairwise;
mod token_level;

pub use group::{GroupAdvantages, ScaleRewards, group_advantages, leave_one_out};
pub use kl_shaping::k1_to_go;
pub use pairwise::pairwise_advantages;
pub use token_level::{TokenCredit, token_level};

use pavlov_schema::rollout::{Credited, Scored};

/// The same credit for every token of an answer, its stop token included: what a reward for the whole answer
/// says about its tokens when nothing else is known. `method` names the estimator in the saved rollouts.
pub fn broadcast(scored: Scored, advantage: f64, method: &str) -> Credited {
    let weights = vec![advantage as f32; scored.rollout.tokens.len()];
    Credited { scored, advantage, weights, method: method.to_owned() }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rollout::{Finish, Rollout};

    use super::*;

    #[test]
    fn every_token_gets_the_answers_advantage() {
        let rollout = Rollout {
            prompt_id: "p".into(),
            prompt_index: 0,
            choice: 0,
            prompt_text: "1 + 1 =".into(),
            prompt_tokens: vec![5, 6],
            completion: "2".into(),
            tokens: vec![7, 8, 2],
            behaviour_logp: vec![-0.1; 3],
            finish: Finish::Eos,
            seed: 0,
            policy_version: 0,
        };
        let credited = broadcast(Scored { rollout, reward: 1.0, parts: vec![] }, -0.5, "leave_one_out");
        assert_eq!((credited.weights.as_slice(), credited.advantage), ([-0.5; 3].as_slice(), -0.5));
        assert_eq!(credited.method, "leave_one_out");
    }
}
