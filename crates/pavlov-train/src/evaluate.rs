//! Held-out evaluation of a language model.

use pavlov_engine::{Activations, Batch, Decoder, Parameters};
use pavlov_lm::Encoded;
use serde_json::json;

use crate::Result;
use crate::run::Metrics;
use crate::stage::pack::pack_rows;

/// Sums over scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenSums {
    /// Scored tokens.
    pub tokens: usize,
    /// −Σ log π, in nats.
    pub nll: f64,
    /// Σ entropy, in nats.
    pub entropy: f64,
    /// Tokens that were the most probable.
    pub correct: usize,
}

impl TokenSums {
    /// Adds what a forward pass gave.
    pub fn add(&mut self, outputs: &pavlov_engine::Outputs) {
        self.tokens += outputs.logp.len();
        self.nll -= outputs.logp.iter().map(|&logp| logp as f64).sum::<f64>();
        self.entropy += outputs.entropy.iter().map(|&entropy| entropy as f64).sum::<f64>();
        self.correct += outputs.correct.iter().filter(|&&correct| correct).count();
    }

    /// Means a token: `loss` and `entropy` in nats, `mean_token_accuracy`; each name after `prefix`.
    pub fn metrics(&self, prefix: &str) -> Metrics {
        let tokens = self.tokens.max(1) as f64;
        Metrics::from_iter([
            (format!("{prefix}loss"), json!(self.nll / tokens)),
            (format!("{prefix}entropy"), json!(self.entropy / tokens)),
            (format!("{prefix}mean_token_accuracy"), json!(self.correct as f64 / tokens)),
        ])
    }
}

/// Scores the learned tokens of rows, `batch_size` rows in a forward pass: every token counts the same, so that the
/// batch size changes nothing.
pub fn score_rows(
    decoder: &Decoder,
    params: &Parameters,
    rows: &[Encoded],
    batch_size: usize,
    activations: &mut Activations,
) -> Result<TokenSums> {
    let (mut sums, mut batch) = (TokenSums::default(), Batch::new());
    for part in rows.chunks(batch_size.max(1)) {
        batch.clear();
        pack_rows(&mut batch, part.iter());
        sums.add(&decoder.forward(params, &batch, 1.0, activations)?);
    }
    Ok(sums)
}
