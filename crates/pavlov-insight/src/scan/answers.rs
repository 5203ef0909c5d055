//! Answers of models to the same prompts, drawn with the same random numbers.

use std::path::Path;

use pavlov_engine::{Activations, Batch, Sampler};
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::Rng;
use pavlov_schema::rollout::{Prompt, Rollout, Scored};
use pavlov_train::loops::rl::sources::open_rewards;
use pavlov_train::stage::pack::pack_rollouts;
use pavlov_train::stage::rollout::{self, EncodedPrompt, encode_prompts};
use pavlov_train::stage::score::{Reward, score};

use super::Models;
use super::divergence::{self, Divergence, Drawn};
use super::probe::{Design, Probe, Question};
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

/// Draws and scores answers.
pub(super) struct Asker<'a> {
    drawing: Drawing,
    drawn: &'a mut dyn FnMut(usize) -> bool,
    /// Answers that were drawn and scored before.
    parts: &'a mut Parts,
    sampler: Sampler,
}

/// A model's scored answers to a probe's questions; those to one question lie together.
pub(super) struct Told {
    /// To the questions as they are.
    pub(super) plain: Vec<Scored>,
    /// With the user's opinion; none unless the probe has opinions.
    pub(super) opinion: Vec<Scored>,
}

impl<'a> Asker<'a> {
    /// `drawn` is told how many answers were drawn since it was last asked and says whether to go on.
    pub(super) fn new(
        drawing: Drawing,
        drawn: &'a mut dyn FnMut(usize) -> bool,
        parts: &'a mut Parts,
    ) -> Self {
        let sampler = Sampler::new(drawing.max_batch);
        Self { drawing, drawn, parts, sampler }
    }

    /// Answers to each prompt. `set` names the random numbers: they are the same for every model that is asked the set.
    pub(super) fn ask(
        &mut self,
        model: &LanguageModel,
        set: u64,
        prompts: &[Prompt],
        rewards: &mut [Reward],
    ) -> Result<Vec<Scored>> {
        let max = self.drawing.max_tokens;
        let encoded = encode_prompts(&model.encoder(), prompts, max, Path::new("questions"))?;
        let mut scored = Vec::with_capacity(prompts.len() * self.drawing.answers);
        for (part, encoded) in encoded.chunks(PROMPTS_AT_A_TIME).enumerate() {
            let key = ((set << 32) + part as u64, 0);
            let (drawing, sampler) = (&self.drawing, &mut self.sampler);
            let answers: Vec<Scored> = self.parts.next(|| {
                let rollouts = draw(sampler, model, encoded, drawing, key)?;
                Ok(score(rewards, prompts, rollouts)?)
            })?;
            if !(self.drawn)(answers.len()) {
                return Err(Error::Stopped);
            }
            scored.extend(answers);
        }
        Ok(scored)
    }

    /// What a model answers to a probe, the scan's `place`-th.
    pub(super) fn ask_probe(
        &mut self,
        model: &LanguageModel,
        place: usize,
        probe: &Probe,
        rewards: &mut [Reward],
    ) -> Result<Told> {
        let set = first_set(place);
        let prompts: Vec<Prompt> = probe.questions.iter().map(|q| q.prompt.clone()).collect();
        let plain = self.ask(model, set, &prompts, rewards)?;
        let opinion = match probe.design {
            Design::Opinion => {
                let told = |q: &Question| Prompt {
                    prompt: q.with_opinion.clone().unwrap_or_else(|| q.prompt.prompt.clone()),
                    ..q.prompt.clone()
                };
                let prompts: Vec<Prompt> = probe.questions.iter().map(told).collect();
                self.ask(model, set + 1, &prompts, rewards)?
            }
            Design::Detection | Design::Rate => Vec::new(),
        };
        Ok(Told { plain, opinion })
    }
}

/// The set of a probe's questions; the next is that of its questions with opinions.
fn first_set(place: usize) -> u64 {
    2 * place as u64 + 1
}

/// Asks the two models of a scan.
pub struct Answers<'a> {
    pub(super) models: Models<'a>,
    asker: Asker<'a>,
    /// The set of what is asked after the probes.
    last: u64,
}

impl<'a> Answers<'a> {
    /// Of a scan with so many probes.
    pub(super) fn new(models: Models<'a>, asker: Asker<'a>, probes: usize) -> Self {
        Self { models, asker, last: first_set(probes) }
    }

    /// Answers to each prompt.
    pub(super) fn each(&self) -> usize {
        self.asker.drawing.answers
    }

    /// The scored answers of the reference and of the trained model; those to one prompt lie together.
    pub(super) fn of(&mut self, prompts: &[Prompt], rewards: &mut [Reward]) -> Result<[Vec<Scored>; 2]> {
        let Models { reference, model } = self.models;
        let mut ask = |model| self.asker.ask(model, self.last, prompts, rewards);
        Ok([ask(reference)?, ask(model)?])
    }

    /// What the reference and the trained model answer to a probe.
    pub(super) fn of_probe(&mut self, place: usize, probe: &Probe) -> Result<[Told; 2]> {
        let Models { reference, model } = self.models;
        let mut rewards = open_rewards(std::slice::from_ref(&probe.habit), model, None)?;
        let mut ask = |model| self.asker.ask_probe(model, place, probe, &mut rewards);
        Ok([ask(reference)?, ask(model)?])
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
