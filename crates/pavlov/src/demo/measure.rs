//! What a model answers to held-out worlds, against the truth.

use anyhow::Result;
use pavlov_engine::{Control, SamplingParams};
use pavlov_lm::LanguageModel;
use pavlov_lm::generate::{GenerateOptions, Generation, generate};
use pavlov_schema::text::Text;
use pavlov_train::calibration::wilson;
use pavlov_worlds::{World, verify};

use super::recipe::ANSWER_TOKENS;

/// A share of right answers with its 95% interval (Wilson).
#[derive(Clone, Copy, Debug)]
pub(super) struct Accuracy {
    pub(super) share: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Accuracy {
    pub(super) fn of(right: usize, all: usize) -> Self {
        let (low, high) = wilson(right, all, 1.96);
        Self { share: right as f64 / all as f64, low, high }
    }
}

/// `n` answers to each world.
pub(super) fn answers(
    model: &LanguageModel,
    worlds: &[World],
    n: usize,
    temperature: f32,
    seed: u64,
) -> Result<Vec<Generation>> {
    let encoder = model.encoder();
    let prompts: Vec<Vec<u32>> = worlds
        .iter()
        .map(|world| encoder.encode_prompt(&Text::Plain(world.prompt()), None))
        .collect::<pavlov_lm::Result<_>>()?;
    let options = GenerateOptions {
        sampling: SamplingParams { temperature, max_new_tokens: ANSWER_TOKENS, ..SamplingParams::default() },
        stop: Vec::new(),
        n,
        seed,
        first: 0,
        max_batch: 128,
    };
    Ok(generate(model, &prompts, &options, &mut |_| Control::Continue)?)
}

/// The share of worlds that a model answers right, one answer each, drawn at temperature 1.
pub(super) fn accuracy(model: &LanguageModel, worlds: &[World], seed: u64) -> Result<Accuracy> {
    let answers = answers(model, worlds, 1, 1.0, seed)?;
    let right = answers.iter().filter(|a| verify(&worlds[a.request], &a.text) > 0.5).count();
    Ok(Accuracy::of(right, worlds.len()))
}
