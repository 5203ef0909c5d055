//! Answers of the policy's own, learned from again.
//!
//! A policy that had not learned from one of its answers would have written other ones, and others still on another day: run again,
//! it has no lesson of which one could say that it was left out. So what is learned from again are **the recorded answers with
//! their recorded credit, in the order of the run**, through the same clipped objective. With nothing changed that makes the run's
//! own model, to the byte; with the credit of some answers taken away (or turned round) it makes the model that differs from it by
//! what these pushed. What others of a group were credited with is left as it was, and so are the answers that came later.

use std::path::{Path, PathBuf};

use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file;
use pavlov_train::estimator::TokenCredit;
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig};
use pavlov_train::loops::rl::{Prompts, replay};
use pavlov_train::run::{Ending, Host, load_model};
use pavlov_train::settings::Settings;

use super::super::verify::Change;
use super::{ChangeOf, in_memory};
use crate::Result;
use crate::taught::Taught;

/// A run of `grpo` or `pairwise` and its answers.
pub(super) struct Replayed {
    config: GrpoConfig,
    prompts: Prompts,
    answers: Vec<Credited>,
}

impl Replayed {
    pub(super) fn read(taught: &Taught, files: &[PathBuf]) -> Result<Self> {
        let map = taught.config.clone();
        // What pairs are learned by is what groups of two are: the two loops differ in who gives the credit.
        let mut config = if map.contains_key("num_generations") {
            GrpoConfig::from_map(map)?
        } else {
            let PairwiseConfig { training, peft, policy, feedback, .. } = PairwiseConfig::from_map(map)?;
            GrpoConfig { training, peft, policy, feedback, num_generations: 2, ..GrpoConfig::default() }
        };
        in_memory(&mut config.training);
        (config.credit, config.token_credit) = (None, TokenCredit::Insight);
        let prompts = Prompts::read(&config.training)?;
        let mut answers = Vec::new();
        for file in files {
            answers.extend(rollout_file::read(file)?.into_iter().map(|(_, credited)| credited));
        }
        Ok(Self { config, prompts, answers })
    }

    pub(super) fn teach(
        &self,
        change: &ChangeOf,
        folder: &Path,
        host: &mut Host,
    ) -> Result<(LanguageModel, Ending)> {
        let mut config = self.config.clone();
        folder.clone_into(&mut config.training.output_dir);
        let changed = |(place, answer): (usize, &Credited)| {
            let scale = match change(place) {
                Change::Keep => return answer.clone(),
                Change::Drop => 0.0,
                Change::Flip => -1.0,
            };
            let weights = answer.weights.iter().map(|weight| scale * weight).collect();
            Credited { weights, advantage: f64::from(scale) * answer.advantage, ..answer.clone() }
        };
        let answers = self.answers.iter().enumerate().map(changed).collect();
        let mut model = load_model(&config.training, &config.peft)?;
        let ending = replay(&mut model, &self.prompts, answers, &config, host)?;
        Ok((model, ending))
    }
}
