//! Answers of both models to the same prompts, drawn with the same random numbers.

use std::path::Path;

use pavlov_engine::{Activations, Batch, Sampler};
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::Rng;
use pavlov_schema::rollout::{Prompt, Rollout, Scored};
use pavlov_train::stage::pack::pack_rollouts;
use pavlov_train::stage::rollout::{self, EncodedPrompt, encode_prompts};
use pavlov_train::stage::score::{Reward, score};

use super::Models;
use super::divergence::{self, Divergence, Drawn};
use crate::parts::Parts;
use crate::{Error, Result};

/// Prompts that are answered before anybody is told.
const PROMPTS_AT_A_TIME: usize = 128;
/// Answers of a forward pass that scores them.
const SCORED_AT_A_TIME: usize = 64;

/// How answers are drawn: at temperature 1, as a policy is.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Answers to each question, at least 1.
    pub answers: usize,
    /// Most tokens of an answer, its end token included.
    pub max_tokens: usize,
    /// Names the random numbers.
    pub seed: u64,
    /// Answers drawn at the same time.
    pub max_batch: usize,
}

/// Draws answers.
pub struct Answers<'a> {
    models: Models<'a>,
    drawing: Drawing,
    drawn: &'a mut dyn FnMut(usize) -> bool,
    /// Answers that were drawn and scored before.
    parts: &'a mut Parts,
    sampler: Sampler,
    /// Sets of prompts answered so far: each has random numbers of its own.
    sets: u64,
}

impl<'a> Answers<'a> {
    pub(super) fn new(
        models: Models<'a>,
        drawing: Drawing,
        on_answers: &'a mut dyn FnMut(usize) -> bool,
        parts: &'a mut Parts,
    ) -> Self {
        let sampler = Sampler::new(drawing.max_batch);
        Self { models, drawing, drawn: on_answers, parts, sampler, sets: 0 }
    }

    /// Answers to each prompt.
    pub(super) fn each(&self) -> usize {
        self.drawing.answers
    }

    /// The scored answers of the reference and of the trained model; those to one prompt lie together.
    pub(super) fn of(&mut self, prompts: &[Prompt], rewards: &mut [Reward]) -> Result<[Vec<Scored>; 2]> {
        self.sets += 1;
        let mut scored = [Vec::new(), Vec::new()];
        for (side, model) in [self.models.reference, self.models.model].into_iter().enumerate() {
            let max = self.drawing.max_tokens;
            let encoded = encode_prompts(&model.encoder(), prompts, max, Path::new("questions"))?;
            for (part, encoded) in encoded.chunks(PROMPTS_AT_A_TIME).enumerate() {
                let key = ((self.sets << 32) + part as u64, 0);
                let (drawing, sampler) = (&self.drawing, &mut self.sampler);
                let answers: Vec<Scored> = self.parts.next(|| {
                    let rollouts = draw(sampler, model, encoded, drawing, key)?;
                    Ok(score(rewards, prompts, rollouts)?)
                })?;
                if !(self.drawn)(answers.len()) {
                    return Err(Error::Stopped);
                }
                scored[side].extend(answers);
            }
        }
        Ok(scored)
    }

    /// The divergence of the trained model from the reference on answers of the trained model.
    pub(super) fn divergence(&self, answers: &[&Scored], rng: &mut Rng) -> Result<Divergence> {
        let reference = self.models.reference;
        let (mut batch, mut activations) = (Batch::new(), Activations::new(true));
        let mut drawn = Vec::with_capacity(answers.len());
        for part in answers.chunks(SCORED_AT_A_TIME) {
            batch.clear();
            pack_rollouts(&mut batch, part.iter().map(|one| &one.rollout));
            let outputs = reference.decoder.forward(&reference.params, &batch, 1.0, &mut activations)?;
            let mut before = outputs.logp.iter();
            for one in part {
                let tokens = one.rollout.tokens.iter().zip(&one.rollout.behaviour_logp).zip(before.by_ref());
                let token = |((&token, &model), &reference)| Drawn { token, model, reference };
                drawn.push(tokens.map(token).collect::<Vec<_>>());
            }
        }
        let tokenizer = &self.models.model.files.tokenizer;
        let text = |token: u32| tokenizer.decode(&[token], false).unwrap_or_else(|_| token.to_string());
        Ok(divergence::divergence(&drawn, &text, rng))
    }
}

/// Answers of a model to some prompts, with the random numbers that `key` names.
fn draw(
    sampler: &mut Sampler,
    model: &LanguageModel,
    prompts: &[EncodedPrompt],
    drawing: &Drawing,
    key: (u64, u64),
) -> Result<Vec<Rollout>> {
    let drawing = rollout::Drawing {
        num_generations: drawing.answers,
        temperature: 1.0,
        max_completion_length: drawing.max_tokens,
        stop_tokens: model.files.tokenizer.stops().to_vec(),
        // Training names its numbers by the seed itself.
        seed: drawing.seed ^ (0x5CA9_u64 << 48),
    };
    let decode = |tokens: &[u32]| Ok(model.files.tokenizer.decode(tokens, true)?);
    let (decoder, params) = (&model.decoder, &model.params);
    let drawn = rollout::draw(sampler, decoder, params, prompts, &drawing, key, &decode, &|| false)?;
    drawn.ok_or(Error::Stopped)
}
