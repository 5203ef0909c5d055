//! Credit that insight measured, one number a token, and the controls that tell whether it matters where it stands.

use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::Credited;
use serde::{Deserialize, Serialize};

/// What of a measured credit is trained on (`token_credit`).
///
/// | control | weight of token t of T | what it leaves |
/// |---|---|---|
/// | `insight` | as measured: the advantage V(after t) − V(before t) (VinePPO, arXiv:2410.01679) | all of it |
/// | `sparse` | the answer's advantage A, the same for every token: what a reward says by itself | nothing about tokens |
/// | `uniform` | A/T | nothing about tokens; the size of a measured credit |
/// | `shuffled` | the measured numbers in another order | all but where they belong |
///
/// If `shuffled` trains as well as `insight`, the credit is decoration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenCredit {
    /// As measured.
    #[default]
    Insight,
    /// The answer's advantage on every token.
    Sparse,
    /// The answer's advantage in equal parts.
    Uniform,
    /// The measured numbers in another order.
    Shuffled,
}

/// The answer with the weights of a control. The order of `shuffled` is named by (`seed`, `index`).
pub fn token_level(mut credited: Credited, control: TokenCredit, seed: u64, index: u64) -> Credited {
    let tokens = credited.weights.len();
    match control {
        TokenCredit::Insight => return credited,
        TokenCredit::Sparse => credited.weights.fill(credited.advantage as f32),
        TokenCredit::Uniform => credited.weights.fill((credited.advantage / tokens as f64) as f32),
        TokenCredit::Shuffled => {
            Rng::new(seed, Stream::Probe, 0, index).shuffle(&mut credited.weights);
        }
    }
    let name = match control {
        TokenCredit::Insight => "",
        TokenCredit::Sparse => "/sparse",
        TokenCredit::Uniform => "/uniform",
        TokenCredit::Shuffled => "/shuffled",
    };
    credited.method.push_str(name);
    credited
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rollout::{Finish, Rollout, Scored};

    use super::*;

    #[test]
    fn controls_keep_what_they_say() {
        let rollout = Rollout {
            prompt_id: "p".into(),
            prompt_index: 0,
            choice: 0,
            prompt_text: String::new(),
            prompt_tokens: vec![5],
            completion: String::new(),
            tokens: (1..=8).collect(),
            behaviour_logp: vec![-0.1; 8],
            finish: Finish::Length,
            seed: 0,
            policy_version: 0,
        };
        let weights: Vec<f32> = (0..8).map(|i| i as f32 / 4.0).collect();
        let scored = Scored { rollout, reward: 7.0, parts: vec![] };
        let own =
            Credited { scored, advantage: 7.0, weights: weights.clone(), method: "insight_values".into() };
        let with = |control| token_level(own.clone(), control, 3, 1);
        assert_eq!(with(TokenCredit::Insight), own);
        assert_eq!(with(TokenCredit::Sparse).weights, [7.0; 8]);
        let uniform = with(TokenCredit::Uniform);
        assert_eq!((uniform.weights, uniform.method.as_str()), (vec![0.875; 8], "insight_values/uniform"));
        let mut shuffled = with(TokenCredit::Shuffled).weights;
        assert_ne!(shuffled, weights);
        shuffled.sort_by(f32::total_cmp);
        assert_eq!(shuffled, weights);
    }
}
