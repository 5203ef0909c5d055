//! Answers whose credit was measured before, in place of answers drawn and scored now.

use std::path::Path;

use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file;

use super::config::{Batches, GrpoConfig, batches};
use super::credit::Feedback;
use super::{Learner, Prompts};
use crate::estimator::{TokenCredit, token_level};
use crate::run::{Ending, Host};
use crate::settings::Settings;
use crate::{Error, Result};

/// Teaches a model in memory from the answers that a run credited, in their order: with their own credit they make its updates
/// again, to the byte, so that what one of them did shows when its credit is taken away. The answers stay those of the policies
/// that wrote them; the clipped importance ratio is what corrects for that.
///
/// Errors: not as many answers as the updates of `config` take.
pub fn replay(
    model: &mut LanguageModel,
    prompts: &Prompts,
    answers: Vec<Credited>,
    config: &GrpoConfig,
    host: &mut Host,
) -> Result<Ending> {
    config.check()?;
    let batches = batches(&config.training, &config.policy, config.num_generations)?;
    let (estimator, scale) = (config.estimator, config.scale_rewards);
    let nobody = Feedback::Points { rewards: Vec::new(), estimator, scale };
    let mut learner = Learner::new(model, prompts, nobody, &config.training, &config.policy, batches)?;
    let generations = learner.plan.total(&config.training).div_ceil(batches.updates as u64) as usize;
    let needed = generations * batches.prompts * batches.group;
    if answers.len() != needed {
        let problem = format!(
            "of the run hold {} answers and its updates took {needed}; give a run whose rollouts are all there",
            answers.len()
        );
        return Err(Error::setting("rollouts", problem));
    }
    learner.given = Some(Given { answers });
    learner.learn(model, config, prompts, host)
}

/// Credited answers of a file (`credit`), gone through in its order, again and again.
#[derive(Debug)]
pub(super) struct Given {
    answers: Vec<Credited>,
}

impl Given {
    /// Reads the file. Errors: no answer; an answer without one credit for each token; a token that the policy does not
    /// know; a prompt that the data does not have.
    pub(super) fn read(
        path: &Path,
        control: TokenCredit,
        (prompts, vocabulary): (usize, usize),
        seed: u64,
    ) -> Result<Self> {
        let read = rollout_file::read(path)?;
        if read.is_empty() {
            return Err(Error::setting("credit", format!("{} holds no answer", path.display())));
        }
        let mut answers = Vec::with_capacity(read.len());
        for (i, (_, credited)) in read.into_iter().enumerate() {
            let rollout = &credited.scored.rollout;
            let wrong = |problem: String| {
                let place = format!("{}: row {}", path.display(), i + 1);
                Err(Error::Row { place, problem })
            };
            let (tokens, credits) = (rollout.tokens.len(), credited.weights.len());
            if tokens == 0 || credits != tokens || rollout.behaviour_logp.len() != tokens {
                return wrong(format!(
                    "has {credits} credits and {} log-probabilities for {tokens} tokens; each token needs one of both: \
                     measure the credit again",
                    rollout.behaviour_logp.len()
                ));
            }
            if let Some(at) = credited.weights.iter().position(|weight| !weight.is_finite()) {
                return wrong(format!("the credit of token {at} is not a finite number; measure it again"));
            }
            let ids = rollout.prompt_tokens.iter().chain(&rollout.tokens);
            if let Some(id) = ids.copied().find(|&id| id as usize >= vocabulary) {
                return wrong(format!(
                    "token {id} is none of the model's {vocabulary}; give the model it is from"
                ));
            }
            if rollout.prompt_index >= prompts {
                return wrong(format!(
                    "answers prompt {} and data has {prompts}; give the data it is from",
                    rollout.prompt_index + 1
                ));
            }
            answers.push(token_level(credited, control, seed, i as u64));
        }
        Ok(Self { answers })
    }

    /// The answers of one batch, from the number of the batch alone.
    pub(super) fn batch(&self, generation: u64, batches: &Batches) -> Vec<Credited> {
        let size = batches.prompts * batches.group;
        let first = generation as usize * size;
        (first..first + size).map(|i| self.answers[i % self.answers.len()].clone()).collect()
    }
}
