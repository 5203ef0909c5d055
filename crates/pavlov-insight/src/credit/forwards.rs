//! Tier A: what forward passes alone say about each token of answers. Two or three passes over all of them.
//!
//! Three views, none of them a measurement of what a token did: β·log π/π_ref is what the policy learned to prefer
//! (arXiv:2404.12358), prefix differences are what a reward model says halfway, where it was never trained
//! (arXiv:2411.08302), and attention says where it looked, without a sign (arXiv:2402.00782).

use std::collections::HashMap;

use pavlov_engine::{Activations, Batch, Decoder, Parameters};
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Rollout;
use pavlov_schema::text::Text;
use pavlov_train::loops::reward_model::{Prefixes, RewardModel};
use pavlov_train::stage::pack::pack_rollouts;
use serde::{Deserialize, Serialize};

use super::segment::{lay_over, pieces};
use crate::{Error, Result};

/// Tokens of a forward pass, unless one answer with its prompt has more.
const TOKENS: usize = 4096;

/// The policy that credit is measured against.
pub enum Reference {
    /// The policy without its adapter: the same weights in memory.
    Base(Box<Decoder>),
    /// Another model.
    Other(Box<LanguageModel>),
}

/// What forward passes say about one answer, per token of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forwards {
    /// What log π/π_ref was multiplied with: the run's β, in reward points a nat, or 1, which leaves nats.
    pub beta: f64,
    /// β·(log π − log π_ref); empty without a reference.
    pub log_ratio: Vec<f64>,
    /// The reward model's score after each token less the one before, in its standard deviations; Σ = R_T − R_0. Empty
    /// without a reward model.
    pub prefix: Vec<f64>,
    /// Share of the reward model's attention, without a sign; empty without a reward model.
    pub attention: Vec<f64>,
}

/// Buffers of forward passes of one configuration.
struct Passes {
    batch: Batch,
    activations: Activations,
}

impl Passes {
    fn new() -> Self {
        // Nothing is kept for a backward pass.
        Self { batch: Batch::new(), activations: Activations::new(true) }
    }

    fn log_probabilities(
        &mut self,
        decoder: &Decoder,
        params: &Parameters,
        answers: &[&Rollout],
        temperature: f32,
    ) -> Result<Vec<Vec<f32>>> {
        let Self { batch, activations } = self;
        let mut all = Vec::with_capacity(answers.len());
        let mut rest = answers;
        while !rest.is_empty() {
            let (mut tokens, mut prompt): (usize, &[u32]) = (0, &[]);
            let fits = rest.iter().take_while(|answer| {
                if answer.prompt_tokens != prompt {
                    prompt = &answer.prompt_tokens;
                    tokens += prompt.len();
                }
                tokens += answer.tokens.len();
                tokens <= TOKENS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            batch.clear();
            pack_rollouts(batch, now.iter().copied());
            let mut logp = decoder.forward(params, batch, temperature, activations)?.logp.into_iter();
            all.extend(now.iter().map(|answer| logp.by_ref().take(answer.tokens.len()).collect::<Vec<_>>()));
            rest = later;
        }
        Ok(all)
    }
}

/// log π of each token of each answer under softmax(logits / temperature), in nats; answers that follow each other and
/// have the same prompt share it.
pub fn log_probabilities(
    decoder: &Decoder,
    params: &Parameters,
    answers: &[&Rollout],
    temperature: f32,
) -> Result<Vec<Vec<f32>>> {
    Passes::new().log_probabilities(decoder, params, answers, temperature)
}

/// The views of tier A on each answer, and log π of each of its tokens. `prompts` are those of the answers, one each, as
/// the reward model reads them. A group sampled from one prompt often repeats an answer: it is read once.
pub fn forwards(
    policy: &LanguageModel,
    reference: Option<&Reference>,
    reward_model: Option<&mut RewardModel>,
    answers: &[&Rollout],
    prompts: &[&Text],
    (temperature, beta): (f32, f64),
) -> Result<(Vec<Forwards>, Vec<Vec<f32>>)> {
    if answers.iter().any(|answer| answer.tokens.is_empty() || answer.prompt_tokens.is_empty()) {
        return Err(Error::Question("an answer without tokens has no part that could earn anything".into()));
    }
    let (different, place) = different(answers, prompts);
    let answers: Vec<&Rollout> = different.iter().map(|&i| answers[i]).collect();
    let mut passes = Passes::new();
    let own = passes.log_probabilities(&policy.decoder, &policy.params, &answers, temperature)?;
    let mut views = vec![Forwards { beta, ..Forwards::default() }; answers.len()];
    if let Some(reference) = reference {
        let (decoder, params) = match reference {
            Reference::Base(decoder) => (&**decoder, &policy.params),
            Reference::Other(model) => (&model.decoder, &model.params),
        };
        if decoder.config() != policy.decoder.config() {
            passes = Passes::new();
        }
        let theirs = passes.log_probabilities(decoder, params, &answers, temperature)?;
        for ((view, own), theirs) in views.iter_mut().zip(&own).zip(&theirs) {
            view.log_ratio = own.iter().zip(theirs).map(|(a, b)| beta * f64::from(a - b)).collect();
        }
    }
    if let Some(model) = reward_model {
        let asked: Vec<(&Text, &str)> = different
            .iter()
            .zip(&answers)
            .map(|(&i, answer)| (prompts[i], answer.completion.as_str()))
            .collect();
        let prefixes = model.prefixes(&asked)?;
        for ((view, prefixes), answer) in views.iter_mut().zip(&prefixes).zip(&answers) {
            (view.prefix, view.attention) = laid(prefixes, model, policy, answer)?;
        }
    }
    Ok(place.iter().map(|&at| (views[at].clone(), own[at].clone())).unzip())
}

/// The places of the answers that no earlier one is equal to, and for each answer which of these it is.
fn different(answers: &[&Rollout], prompts: &[&Text]) -> (Vec<usize>, Vec<usize>) {
    let mut first = HashMap::new();
    let (mut different, mut place) = (Vec::new(), Vec::with_capacity(answers.len()));
    for (i, answer) in answers.iter().enumerate() {
        let what = (&answer.prompt_tokens, &answer.tokens, &answer.completion);
        let at = *first.entry(what).or_insert(different.len());
        match different.get(at) {
            Some(&earlier) if prompts[earlier] == prompts[i] => place.push(at),
            // New, or another prompt that has the same tokens.
            _ => {
                place.push(different.len());
                different.push(i);
            }
        }
    }
    (different, place)
}

/// A reward model's numbers on the policy's tokens, which may be other ones.
fn laid(
    prefixes: &Prefixes,
    model: &RewardModel,
    policy: &LanguageModel,
    answer: &Rollout,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let differences: Vec<f64> = prefixes.scores.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let attention: Vec<f64> = prefixes.attention.iter().map(|&w| f64::from(w)).collect();
    if prefixes.tokens == answer.tokens {
        return Ok((differences, attention));
    }
    let texts = pieces(model.tokenizer(), &prefixes.tokens)?;
    let onto = pieces(&policy.files.tokenizer, &answer.tokens)?;
    let lay = |numbers: Vec<f64>| {
        let from: Vec<(String, f64)> = texts.iter().cloned().zip(numbers).collect();
        lay_over(&from, &onto)
    };
    Ok((lay(differences), lay(attention)))
}
