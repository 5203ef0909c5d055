//! Drawing tokens: the distribution and the batched sampler.

mod distribution;
mod sampler;

pub use sampler::{Control, Finish, SampleRequest, Sampled, Sampler};

use crate::{Error, Result};

/// How the next token is drawn. Applied in transformers' order: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits, at least 0.0001; 0 takes the most probable token.
    pub temperature: f32,
    /// Keeps the k most probable tokens and those tied with the last; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most probable tokens whose mass reaches p; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens below this share of the largest probability; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens that the sequence has; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Most tokens to draw, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end an answer and belong to it.
    pub stop_tokens: Vec<u32>,
}

/// Logits divided by less could overflow, and what is drawn would hardly differ from greedy.
const LOWEST_TEMPERATURE: f32 = 1e-4;

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: 128,
            stop_tokens: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// Whether tokens of the sequence are made less likely. 1 itself, and nothing near it, is off.
    #[expect(clippy::float_cmp, reason = "the default is exactly 1")]
    pub(crate) fn penalises_repetition(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// Whether tokens are drawn from softmax(logits / temperature) itself, so that their recorded log-probabilities are
    /// the trainer's.
    pub fn is_plain(&self) -> bool {
        self.temperature > 0.0
            && self.top_k == 0
            && self.top_p >= 1.0
            && self.min_p <= 0.0
            && !self.penalises_repetition()
    }

    /// Refuses settings outside their range, naming them.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Error::Sampling(what.into())) };
        check(
            self.temperature == 0.0
                || (self.temperature >= LOWEST_TEMPERATURE && self.temperature.is_finite()),
            "temperature must be 0 (greedy), or at least 0.0001",
        )?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "top_p must be above 0 and at most 1")?;
        check((0.0..=1.0).contains(&self.min_p), "min_p must be between 0 and 1")?;
        check(
            self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
            "repetition_penalty must be above 0",
        )?;
        check(self.max_new_tokens > 0, "max_new_tokens must be at least 1")
    }
}
