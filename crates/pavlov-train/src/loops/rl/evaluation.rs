//! Held-out prompts: what the policy's most probable answers earn.

use std::path::Path;

use pavlov_engine::Sampler;
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Prompt;

use super::credit::Feedback;
use super::metrics;
use crate::estimator::broadcast;
use crate::run::Metrics;
use crate::stage::rollout::{Drawing, EncodedPrompt, draw, encode_prompts};
use crate::{Error, Result};

/// Prompts that are answered greedily and never learned from.
pub(super) struct HeldOut<'a> {
    prompts: &'a [Prompt],
    encoded: Vec<EncodedPrompt>,
    drawing: Drawing,
}

impl<'a> HeldOut<'a> {
    /// `None` without prompts; `path` names them in errors. Errors: a judge who only compares, since one answer alone earns nothing from it.
    pub(super) fn new(
        model: &LanguageModel,
        prompts: &'a [Prompt],
        path: &Path,
        drawing: &Drawing,
        feedback: &Feedback,
    ) -> Result<Option<Self>> {
        if prompts.is_empty() {
            return Ok(None);
        }
        if !feedback.gives_points() {
            let problem = "cannot be evaluated: people, or a judge who only compares, give held-out answers no points; remove it";
            return Err(Error::setting("eval_data", problem));
        }
        let encoded = encode_prompts(&model.encoder(), prompts, drawing.max_completion_length, path)?;
        // Greedy: the number does not depend on luck.
        let drawing = Drawing { num_generations: 1, temperature: 0.0, ..drawing.clone() };
        Ok(Some(Self { prompts, encoded, drawing }))
    }

    /// `eval_reward`, `eval_rewards/NAME/mean` and the lengths of the answers. It is not interrupted: a run that resumed
    /// would lack its line.
    pub(super) fn evaluate(
        &self,
        model: &LanguageModel,
        sampler: &mut Sampler,
        feedback: &mut Feedback,
        step: u64,
    ) -> Result<Metrics> {
        let tokenizer = &model.files.tokenizer;
        let drawn = draw(
            sampler,
            &model.decoder,
            &model.params,
            &self.encoded,
            &self.drawing,
            (step, step),
            &|tokens| Ok(tokenizer.decode(tokens, true)?),
            &|| false,
        )?;
        let scored = feedback.points(self.prompts, drawn.unwrap_or_default())?;
        let answers: Vec<_> = scored.into_iter().map(|scored| broadcast(scored, 0.0, "none")).collect();
        let metrics = metrics::of_rollouts(&answers, 1).into_iter();
        // One answer a prompt has no spread.
        let metrics = metrics.filter(|(name, _)| name != "reward_std" && name != "frac_reward_zero_std");
        Ok(metrics.map(|(name, value)| (format!("eval_{name}"), value)).collect())
    }
}
