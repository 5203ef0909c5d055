//! The reward of what a model writes, and behaviours to look at inside the network that such a reward implies.

use pavlov_engine::Intervention;
use pavlov_schema::rollout::Scored;
use pavlov_train::stage::rollout::{EncodedPrompt, draw_with};
use pavlov_train::stage::score::score;

use super::metric::{Contrast, Rewarded};
use super::models::{Models, Weights};
use crate::{Error, Result};

impl Rewarded {
    /// The mean reward of the answers to each prompt, points.
    pub(super) fn measure(
        &mut self,
        prompts: &[EncodedPrompt],
        models: &Models,
        weights: Weights<'_>,
        interventions: &[Intervention],
    ) -> Result<Vec<f64>> {
        let scored = self.draw(prompts, models, weights, interventions)?;
        let each = self.drawing.num_generations;
        let mean = |answers: &[Scored]| answers.iter().map(|a| a.reward).sum::<f64>() / each as f64;
        Ok(scored.chunks_exact(each).map(mean).collect())
    }

    fn draw(
        &mut self,
        prompts: &[EncodedPrompt],
        models: &Models,
        (decoder, params): Weights<'_>,
        interventions: &[Intervention],
    ) -> Result<Vec<Scored>> {
        let tokenizer = &models.model().files.tokenizer;
        let decode = |tokens: &[u32]| Ok(tokenizer.decode(tokens, true)?);
        let (sampler, drawing) = (&mut self.sampler, &self.drawing);
        let never = || false;
        let drawn =
            draw_with(sampler, decoder, params, prompts, drawing, (0, 0), interventions, &decode, &never)?;
        let rollouts = drawn.ok_or(Error::Stopped)?;
        Ok(score(&mut self.rewards, &self.prompts, rollouts)?)
    }

    /// For each prompt the trained model's best answer against the reference's worst, where it earned more: the
    /// behaviour that the reward taught. Nothing of prompts where it did not.
    pub fn contrasts(&mut self, prompts: &[EncodedPrompt], models: &Models) -> Result<Vec<Contrast>> {
        let before = self.draw(prompts, models, models.reference(), &[])?;
        let after = self.draw(prompts, models, models.trained(), &[])?;
        let each = self.drawing.num_generations;
        let order = |a: &&Scored, b: &&Scored| a.reward.total_cmp(&b.reward);
        let mut contrasts = Vec::new();
        for (before, after) in before.chunks_exact(each).zip(after.chunks_exact(each)) {
            let pair = after.iter().max_by(order).zip(before.iter().min_by(order));
            let Some((best, worst)) = pair.filter(|(best, worst)| best.reward > worst.reward) else {
                continue;
            };
            if best.rollout.tokens != worst.rollout.tokens {
                contrasts.push(Contrast {
                    prompt: best.rollout.prompt_tokens.clone(),
                    behaviour: best.rollout.tokens.clone(),
                    alternative: worst.rollout.tokens.clone(),
                });
            }
        }
        Ok(contrasts)
    }
}
