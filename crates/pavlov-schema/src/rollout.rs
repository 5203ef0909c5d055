//! What a policy wrote (a rollout), what it earned (scored) and which tokens earned it (credited).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::text::Text;

/// A prompt of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The row's `id`, or its number from 0.
    pub id: String,
    /// What the policy answers.
    pub prompt: Text,
    /// Every other column, handed to rewards.
    pub columns: Map<String, Value>,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The policy drew an end token; it is the last of `tokens`.
    Eos,
    /// A stop string or a caller ended it.
    Stop,
    /// The limit of new tokens or of the context.
    Length,
}

/// One completion as it was sampled. Token ids are never made from text again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// [`Prompt::id`].
    pub prompt_id: String,
    /// The prompt's place in its data set; rollouts of one step with the same place are a group.
    pub prompt_index: usize,
    /// The place in the group, from 0.
    pub choice: usize,
    /// The prompt as the policy saw it, rendered.
    pub prompt_text: String,
    /// Its token ids.
    pub prompt_tokens: Vec<u32>,
    /// The completion's text, without special tokens.
    pub completion: String,
    /// Its token ids, with the end token if one was drawn.
    pub tokens: Vec<u32>,
    /// Per token, the log-probability under the distribution it was drawn from, in nats.
    pub behaviour_logp: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
    /// The seed it was sampled with.
    pub seed: u64,
    /// Updates of the policy before it was sampled.
    pub policy_version: u64,
}

/// A rollout and what it earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The rollout.
    pub rollout: Rollout,
    /// The weighted sum of the parts, in reward points.
    pub reward: f64,
    /// Each reward's name and points, before weighting.
    pub parts: Vec<(String, f64)>,
}

/// A scored rollout and the weight of each token in the policy gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Credited {
    /// The scored rollout.
    pub scored: Scored,
    /// The answer's advantage before it is spread over tokens.
    pub advantage: f64,
    /// One weight per completion token.
    pub weights: Vec<f32>,
    /// The estimator that made the weights.
    pub method: String,
}
