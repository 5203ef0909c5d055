//! The keys of `pavlov grpo` and `pavlov pairwise`.

use std::path::PathBuf;

use super::credit::Estimator;
use super::objective::Objective;
use super::sources::{JudgeEntry, RewardEntry};
use crate::estimator::{ScaleRewards, TokenCredit};
use crate::loss::{Clip, KlEstimator, Normalization};
use crate::reward::FeedbackSettings;
use crate::run::{PeftSettings, TrainingConfig};
use crate::settings::{require, settings};
use crate::{Error, Result};

settings! {
    /// What every loop that learns from its own answers has.
    pub struct PolicySettings {
        /// Most tokens of an answer, its end token included.
        max_completion_length: usize = 256,
        /// What logits are divided by, when drawing and when training, at least 0.0001.
        temperature: f64 = 1.0,
        /// Refused: the importance ratio would be biased.
        top_k: usize = 0,
        /// Refused: the importance ratio would be biased.
        top_p: f64 = 1.0,
        /// Refused: the importance ratio would be biased.
        min_p: f64 = 0.0,
        /// Refused: the importance ratio would be biased.
        repetition_penalty: f64 = 1.0,
        /// Most answers that are drawn at the same time; changes speed and memory, no answer.
        max_num_seqs: usize = 64,
        /// Micro-batches drawn before learning begins; gradient_accumulation_steps if not given.
        steps_per_generation: Option<usize> = None,
        /// How often each batch of answers is learned from.
        num_iterations: usize = 1,
        /// β, the weight of the KL to the reference, in reward points a nat; 0: no reference.
        beta: f64 = 0.0,
        /// How the KL enters: k2 (loss term with the right gradient), k1_in_reward (credit, right gradient, less noise)
        /// or k3 (TRL's loss term, whose gradient is biased).
        kl_estimator: KlEstimator = KlEstimator::K2,
        /// The folder of the reference; the initial weights if not given, which for an adapter are its base.
        ref_model: Option<PathBuf> = None,
        /// ε: importance ratios are clipped below 1 − ε where credit is negative.
        epsilon: f64 = 0.2,
        /// Importance ratios are clipped above 1 + this where credit is positive; epsilon if not given.
        epsilon_high: Option<f64> = None,
        /// An upper bound of the importance ratio where credit is negative (dual clip), above 1 + epsilon.
        delta: Option<f64> = None,
        /// The average over tokens: dapo (over all tokens), grpo (over answers, of each answer's mean), dr_grpo (over
        /// answers, divided by max_completion_length) or bnpo (as dapo).
        loss_type: Normalization = Normalization::Dapo,
        /// Reward points a nat of entropy, added to the objective.
        entropy_coef: f64 = 0.0,
        /// Rewards, a list of { rule = …, column = … }, { program = […], timeout = 60 } or { model = DIR } or
        /// { people = PROJECT, timeout = 86400, on_timeout = stop, overlap = 1 } (ratings), each with weight = 1 and name = …; their weighted sum is learned from.
        rewards: Vec<RewardEntry> = Vec::new(),
        /// Updates between shown answers; 0: none are shown.
        log_completions_steps: usize = 10,
    }
}

impl PolicySettings {
    fn validate(&self) -> Result<()> {
        require(
            self.max_completion_length > 0,
            "max_completion_length",
            self.max_completion_length,
            "at least 1",
        )?;
        require(
            self.temperature >= 1e-4 && self.temperature <= f32::MAX.into(),
            "temperature",
            self.temperature,
            "at least 0.0001: a greedy answer has no other to be compared with",
        )?;
        for (key, given) in [
            ("top_k", self.top_k != 0),
            ("top_p", self.top_p < 1.0 || self.top_p.is_nan()),
            ("min_p", self.min_p > 0.0 || self.min_p.is_nan()),
            (
                "repetition_penalty",
                (self.repetition_penalty - 1.0).abs() > 0.0 || self.repetition_penalty.is_nan(),
            ),
        ] {
            if given {
                return Err(Error::setting(
                    key,
                    "cannot be used here: it draws from another distribution than the one that learns, and the importance \
                     ratio would be biased; remove it (temperature is fine)",
                ));
            }
        }
        require(self.max_num_seqs > 0, "max_num_seqs", self.max_num_seqs, "at least 1")?;
        require(self.num_iterations > 0, "num_iterations", self.num_iterations, "at least 1")?;
        require(self.beta >= 0.0 && self.beta.is_finite(), "beta", self.beta, "0 or more")?;
        require((0.0..1.0).contains(&self.epsilon), "epsilon", self.epsilon, "from 0 to below 1")?;
        let high = self.epsilon_high.unwrap_or(self.epsilon);
        require(high >= 0.0 && high.is_finite(), "epsilon_high", high, "0 or more")?;
        if let Some(delta) = self.delta {
            require(delta > 1.0 + high, "delta", delta, "above 1 + epsilon_high")?;
        }
        require(self.entropy_coef.is_finite(), "entropy_coef", self.entropy_coef, "a finite number")?;
        if self.ref_model.is_some() && self.beta == 0.0 {
            return Err(Error::setting(
                "ref_model",
                "is given but beta is 0, so that it would do nothing; set beta",
            ));
        }
        Ok(())
    }

    /// The objective these keys describe.
    pub fn objective(&self) -> Objective {
        Objective {
            clip: Clip {
                low: self.epsilon,
                high: self.epsilon_high.unwrap_or(self.epsilon),
                delta: self.delta,
            },
            normalization: self.loss_type,
            beta: self.beta,
            kl: self.kl_estimator,
            entropy_coef: self.entropy_coef,
        }
    }
}

settings! {
    /// What `pavlov grpo` reads.
    pub struct GrpoConfig {
        [training: TrainingConfig { learning_rate: 1e-6 }, peft: PeftSettings {}, policy: PolicySettings {}, feedback: FeedbackSettings {}]
        /// Answers to each prompt, which are compared with each other; at least 2.
        num_generations: usize = 8,
        /// From rewards to advantages: group_mean (GRPO) or leave_one_out (RLOO).
        estimator: Estimator = Estimator::GroupMean,
        /// What group_mean divides by: the standard deviation of the rewards of the group (GRPO) or of the batch, or none
        /// (Dr. GRPO).
        scale_rewards: ScaleRewards = ScaleRewards::Group,
        /// A rollout file with measured credit, as `pavlov credit` writes it: its answers are learned from in place of answers
        /// drawn now, each token by its own credit. They are another policy's, so that the importance ratio does not begin
        /// at 1; rewards then only evaluate.
        credit: Option<PathBuf> = None,
        /// What of the measured credit is learned from: insight, or a control: sparse (the answer's advantage on every
        /// token), uniform (its T-th part on each) or shuffled.
        token_credit: TokenCredit = TokenCredit::Insight,
    }
}

impl GrpoConfig {
    fn validate(&self) -> Result<()> {
        require(
            self.num_generations > 1,
            "num_generations",
            self.num_generations,
            "at least 2: an answer needs another to be compared with",
        )?;
        if self.credit.is_none() && self.token_credit != TokenCredit::Insight {
            return Err(Error::setting(
                "token_credit",
                "is given without credit, whose answers it is about; set credit",
            ));
        }
        batches(&self.training, &self.policy, self.num_generations).map(|_| ())
    }
}

settings! {
    /// What `pavlov pairwise` reads.
    pub struct PairwiseConfig {
        [training: TrainingConfig { learning_rate: 1e-6 }, peft: PeftSettings {}, policy: PolicySettings {}, feedback: FeedbackSettings {}]
        /// Who says which of two answers is better: { model = DIR }, { program = […], timeout = 60 } or
        /// { people = PROJECT, timeout = 86400, on_timeout = stop, overlap = 1 }; without it the points of rewards are compared.
        judge: Option<JudgeEntry> = None,
    }
}

impl PairwiseConfig {
    fn validate(&self) -> Result<()> {
        if self.judge.is_some() && !self.policy.rewards.is_empty() {
            return Err(Error::setting(
                "judge",
                "is given beside rewards; the better answer is chosen by one of them",
            ));
        }
        batches(&self.training, &self.policy, 2).map(|_| ())
    }
}

/// How many of what make a batch of answers and an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Answers to each prompt.
    pub group: usize,
    /// Prompts that are answered before learning begins.
    pub prompts: usize,
    /// Answers in a forward pass of training.
    pub micro: usize,
    /// Answers in an update.
    pub update: usize,
    /// Updates made of one batch of answers, over all its iterations.
    pub updates: usize,
}

/// TRL's arithmetic: answers drawn together = per_device_train_batch_size × steps_per_generation.
pub fn batches(training: &TrainingConfig, policy: &PolicySettings, group: usize) -> Result<Batches> {
    let micro = training.per_device_train_batch_size;
    let accumulation = training.gradient_accumulation_steps;
    let steps = policy.steps_per_generation.unwrap_or(accumulation);
    if steps == 0 || !steps.is_multiple_of(accumulation) {
        return Err(Error::setting(
            "steps_per_generation",
            format!("is {steps}; it must be a multiple of gradient_accumulation_steps = {accumulation}"),
        ));
    }
    if !(micro * steps).is_multiple_of(group) {
        return Err(Error::setting(
            "per_device_train_batch_size",
            format!(
                "is {micro}; with {steps} forward passes a batch of answers, {} answers are no multiple of the {group} answers \
                 to each prompt",
                micro * steps
            ),
        ));
    }
    Ok(Batches {
        group,
        prompts: micro * steps / group,
        micro,
        update: micro * accumulation,
        updates: policy.num_iterations * steps / accumulation,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::settings::Settings;

    fn read<T: Settings>(value: Value) -> std::result::Result<T, String> {
        let Value::Object(map) = value else { panic!("no object") };
        T::from_map(map).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_pass_and_round_trip() {
        let config: GrpoConfig = read(json!({"rewards": [{"rule": "exact", "column": "a"}]})).unwrap();
        assert_eq!(config.training.learning_rate, 1e-6);
        let again: Map<String, Value> = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(GrpoConfig::from_map(again).unwrap(), config);
        let config: PairwiseConfig = read(json!({"judge": {"model": "runs/reward"}, "beta": 0.1})).unwrap();
        let again: Map<String, Value> = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(PairwiseConfig::from_map(again).unwrap(), config);
    }

    #[test]
    fn what_would_bias_or_do_nothing_is_refused() {
        for (key, value, words) in [
            ("top_k", json!(50), "importance ratio"),
            ("top_p", json!(0.9), "importance ratio"),
            ("min_p", json!(0.1), "importance ratio"),
            ("repetition_penalty", json!(1.1), "importance ratio"),
            ("temperature", json!(0), "at least 0.0001"),
            ("num_generations", json!(1), "at least 2"),
            ("num_generations", json!(3), "no multiple of the 3"),
            ("steps_per_generation", json!(0), "multiple of gradient_accumulation_steps"),
            ("ref_model", json!("m"), "beta is 0"),
            ("delta", json!(1.1), "above 1 + epsilon_high"),
            ("rewards", json!([{"rule": "exakt"}]), "exakt"),
        ] {
            let error =
                read::<GrpoConfig>(Value::Object(Map::from_iter([(key.to_owned(), value)]))).unwrap_err();
            assert!(error.contains(words), "{key}: {error}");
        }
        let both = json!({"judge": {"model": "m"}, "rewards": [{"rule": "exact", "column": "a"}]});
        assert!(read::<PairwiseConfig>(both).unwrap_err().starts_with("judge: is given beside rewards"));
    }

    #[test]
    fn batches_are_trls() {
        let training = TrainingConfig {
            per_device_train_batch_size: 4,
            gradient_accumulation_steps: 2,
            ..TrainingConfig::default()
        };
        let policy =
            PolicySettings { steps_per_generation: Some(6), num_iterations: 2, ..PolicySettings::default() };
        let expected = Batches { group: 3, prompts: 8, micro: 4, update: 8, updates: 6 };
        assert_eq!(batches(&training, &policy, 3).unwrap(), expected);
    }
}
