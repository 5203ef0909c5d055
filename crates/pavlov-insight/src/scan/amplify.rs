//! Rare habits brought out: answers drawn from z_ref + α(z − z_ref), the difference of the two models' logits amplified.
//!
//! At α = 1 that is the trained model; above it, whatever training made likelier becomes likelier still (as in contrastive
//! decoding, Li et al., arXiv:2210.15097, with the reference in place of an amateur). A habit of one answer in a hundred shows
//! within a few.

use pavlov_engine::{Activations, Forest};
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};

use crate::{Error, Result};

/// How amplified answers are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amplification {
    /// What the difference of the logits is multiplied with.
    pub alpha: f32,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// One answer to each prompt (token ids), without its end token. Every token takes a forward pass of both models over the
/// whole text, so that this is for short answers and few prompts.
pub fn amplified(
    reference: &LanguageModel,
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    how: &Amplification,
) -> Result<Vec<Vec<u32>>> {
    let stops = model.files.tokenizer.stops();
    let vocabulary = model.decoder.config().vocab_size;
    if reference.decoder.config().vocab_size != vocabulary {
        return Err(Error::Question(
            "the reference has another vocabulary; give the model that training began with".into(),
        ));
    }
    let context = model.decoder.config().max_positions.min(reference.decoder.config().max_positions);
    let mut answers = vec![Vec::new(); prompts.len()];
    let mut live: Vec<usize> = (0..prompts.len()).filter(|i| prompts[*i].len() < context).collect();
    let mut memory = [Activations::new(true), Activations::new(true)];
    while !live.is_empty() {
        let mut forest = Forest::new();
        let mut rows = Vec::with_capacity(live.len());
        for &i in &live {
            let text = [&prompts[i][..], &answers[i][..]].concat();
            let segment = forest.push(None, &text);
            rows.push(forest.row(segment, text.len() - 1) as u32);
        }
        let [of_reference, of_model] = &mut memory;
        let before = reference.decoder.logits(&reference.params, &forest, &rows, of_reference)?;
        let after = model.decoder.logits(&model.params, &forest, &rows, of_model)?;
        let mut next = Vec::with_capacity(live.len());
        for ((&i, before), after) in
            live.iter().zip(before.chunks_exact(vocabulary)).zip(after.chunks_exact(vocabulary))
        {
            let logits: Vec<f32> = before.iter().zip(after).map(|(r, z)| r + how.alpha * (z - r)).collect();
            let mut rng = Rng::new(how.seed, Stream::Insight, i as u64, answers[i].len() as u64);
            let token = draw(&logits, rng.uniform_f64());
            if stops.contains(&token) {
                continue;
            }
            answers[i].push(token);
            if answers[i].len() < how.max_tokens && prompts[i].len() + answers[i].len() < context {
                next.push(i);
            }
        }
        live = next;
    }
    Ok(answers)
}

/// The token at `uniform` of the cumulative distribution softmax(logits).
fn draw(logits: &[f32], uniform: f64) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|z| f64::from(z - largest).exp()).collect();
    let mut left = uniform * weights.iter().sum::<f64>();
    for (token, weight) in weights.iter().enumerate() {
        if left < *weight {
            return token as u32;
        }
        left -= weight;
    }
    weights.len() as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.25_f32.ln()];
        assert_eq!([0.0, 0.2, 0.3, 0.7, 0.76, 0.9999].map(|u| draw(&logits, u)), [0, 0, 1, 1, 2, 2]);
    }
}
