//! Prompt → [`Rollout`]: answers drawn from the policy, with the log-probability each token was truly drawn with.

use std::path::Path;

use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Operation, Work};
use pavlov_engine::{
    Control, Decoder, Finish as EngineFinish, Intervention, Parameters, SampleRequest, Sampled, Sampler,
    SamplingParams,
};
use pavlov_lm::Encoder;
use pavlov_schema::Value;
use pavlov_schema::rollout::{Finish, Prompt, Rollout};

use crate::{Error, Result};

/// A prompt in the policy's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPrompt {
    /// [`Prompt::id`].
    pub id: String,
    /// The prompt's place in its data set, from 0.
    pub index: usize,
    /// The text as the policy sees it, rendered.
    pub text: String,
    /// Its token ids; never empty.
    pub tokens: Vec<u32>,
}

/// How answers are drawn. There is no top-k, top-p, min-p or repetition penalty: they draw from another
/// distribution than the one the policy gradient differentiates, and the importance ratio would be biased.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Answers to each prompt.
    pub num_generations: usize,
    /// What logits are divided by; above 0 where answers are learned from, 0 (the most probable token) to evaluate.
    pub temperature: f32,
    /// Most tokens of an answer, its end token included.
    pub max_completion_length: usize,
    /// Tokens that end an answer and belong to it.
    pub stop_tokens: Vec<u32>,
    /// The seed of the run.
    pub seed: u64,
}

/// Prompts in tokens, each checked to leave room for an answer of `max_completion_length` tokens.
///
/// Errors name the prompt by `path` and its number there, from 1.
pub fn encode_prompts(
    encoder: &Encoder,
    prompts: &[Prompt],
    max_completion_length: usize,
    path: &Path,
) -> Result<Vec<EncodedPrompt>> {
    let context = encoder.max_positions;
    let encode = |(index, prompt): (usize, &Prompt)| {
        let wrong = |problem: String| {
            let place = format!("{}: row {}", path.display(), index + 1);
            Error::Row { place, problem }
        };
        let tools = prompt.columns.get("tools").and_then(Value::as_array);
        let tokens = encoder.encode_prompt(&prompt.prompt, tools.map(Vec::as_slice));
        let tokens = tokens.map_err(|e| wrong(e.to_string()))?;
        if max_completion_length > context.saturating_sub(tokens.len()) {
            return Err(wrong(format!(
                "has {} tokens, and an answer of max_completion_length = {max_completion_length} more does not fit \
                 the model's context of {context}; shorten one of them",
                tokens.len()
            )));
        }
        let text = encoder.tokenizer.decode(&tokens, false)?;
        Ok(EncodedPrompt { id: prompt.id.clone(), index, text, tokens })
    };
    prompts.iter().enumerate().map(encode).collect()
}

/// Draws `num_generations` answers to each prompt; the answers to one prompt lie together, in their order.
///
/// Random numbers are named by (`seed`, `step`, the prompt's place in `prompts`, the answer's number), so that
/// neither the sampler's batch nor the thread count changes an answer. `version` is the number of updates
/// before this, for the record; `decode` turns tokens into text. Returns `None` when `interrupted` said so
/// before the last token was drawn.
#[allow(clippy::too_many_arguments, reason = "one number of the record each; a struct would hide them")]
pub fn draw(
    sampler: &mut Sampler,
    decoder: &Decoder,
    params: &Parameters,
    prompts: &[EncodedPrompt],
    drawing: &Drawing,
    (step, version): (u64, u64),
    decode: &dyn Fn(&[u32]) -> Result<String>,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Vec<Rollout>>> {
    draw_with(sampler, decoder, params, prompts, drawing, (step, version), &[], decode, interrupted)
}

/// As [`draw`], with changes of the residual stream while answers are drawn; one that changes nothing is an error.
#[allow(clippy::too_many_arguments, reason = "as in `draw`")]
pub fn draw_with(
    sampler: &mut Sampler,
    decoder: &Decoder,
    params: &Parameters,
    prompts: &[EncodedPrompt],
    drawing: &Drawing,
    (step, version): (u64, u64),
    interventions: &[Intervention],
    decode: &dyn Fn(&[u32]) -> Result<String>,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Vec<Rollout>>> {
    let request = |(slot, prompt): (usize, &EncodedPrompt)| SampleRequest {
        prompt: prompt.tokens.clone(),
        n: drawing.num_generations,
        stream: slot as u64,
    };
    let requests: Vec<SampleRequest> = prompts.iter().enumerate().map(request).collect();
    let sampling = SamplingParams {
        temperature: drawing.temperature,
        max_new_tokens: drawing.max_completion_length,
        stop_tokens: drawing.stop_tokens.clone(),
        ..SamplingParams::default()
    };
    let mut stopped = false;
    let mut on_token = |_: usize, _: usize, _: u32| {
        stopped |= interrupted();
        if stopped { Control::Stop } else { Control::Continue }
    };
    let key = (drawing.seed, step);
    let sampled =
        sampler.run_with(decoder, params, &requests, &sampling, key, interventions, &mut on_token)?;
    if stopped {
        return Ok(None);
    }
    let _timer = decoder.backend().profile().time(Operation::Text, Work::default);
    let record = |answer: Sampled| {
        let prompt = &prompts[answer.request];
        let ended = answer.tokens.last().is_some_and(|last| drawing.stop_tokens.contains(last));
        Ok(Rollout {
            prompt_id: prompt.id.clone(),
            prompt_index: prompt.index,
            choice: answer.choice,
            prompt_text: prompt.text.clone(),
            prompt_tokens: prompt.tokens.clone(),
            completion: decode(&answer.tokens)?,
            tokens: answer.tokens,
            behaviour_logp: answer.logps,
            finish: match answer.finish {
                EngineFinish::Stop if ended => Finish::Eos,
                EngineFinish::Stop | EngineFinish::Callback => Finish::Stop,
                EngineFinish::Length => Finish::Length,
            },
            seed: drawing.seed,
            policy_version: version,
        })
    };
    sampled.into_iter().map(record).collect::<Result<_>>().map(Some)
}
