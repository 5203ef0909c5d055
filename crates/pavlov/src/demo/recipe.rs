//! How much of what the demonstration teaches, within three minutes on two processor cores.

use std::path::{Path, PathBuf};

use pavlov_train::estimator::ScaleRewards;
use pavlov_train::loops::reward_model::RewardConfig;
use pavlov_train::loops::rl::config::{GrpoConfig, PolicySettings};
use pavlov_train::loops::rl::sources::{RewardEntry, SourceEntry};
use pavlov_train::loops::sft::SftConfig;
use pavlov_train::loss::KlEstimator;
use pavlov_train::reward::Rule;
use pavlov_train::run::{Precision, TrainingConfig};
use pavlov_train::schedule::Scheduler;
use pavlov_worlds::RaterSettings;

/// Held-out worlds that each stage answers, one drawn answer each.
pub(super) const EVALUATION_WORLDS: usize = 1000;
/// Demonstrations.
pub(super) const DEMONSTRATIONS: usize = 600;
/// Questions that two answers are drawn to; where these can be told apart they are compared.
pub(super) const COMPARISONS: usize = 20_000;
/// As many about held-out worlds: these comparisons measure the reward model and teach nothing.
pub(super) const HELD_OUT_COMPARISONS: usize = 1500;
/// Simulated people.
pub(super) const RATERS: u32 = 5;
/// Worlds that reinforcement learning draws answers to.
pub(super) const PROMPTS: usize = 4000;
/// Demonstrations of the stage with a planted habit.
pub(super) const PLANTED: usize = 2000;
/// Questions of the scan that finds it.
pub(super) const QUESTIONS: usize = 1600;
/// Held-out worlds whose right answers the ledger of that stage is measured by.
pub(super) const LEDGER_WORLDS: usize = 300;
/// Longest answer, in tokens.
pub(super) const ANSWER_TOKENS: usize = 12;
/// Temperature that compared answers are drawn at: that of the answers which are rewarded later.
pub(super) const COMPARISON_TEMPERATURE: f32 = 1.0;

/// People who mostly agree with the truth, and often call equally good answers a tie.
pub(super) fn raters() -> RaterSettings {
    RaterSettings { temperature: 0.2, tie_width: 0.5, ..RaterSettings::default() }
}

fn training(model: &Path, data: PathBuf, output_dir: PathBuf, seed: u64) -> TrainingConfig {
    TrainingConfig {
        model: model.to_owned(),
        data,
        output_dir,
        seed,
        lr_scheduler_type: Scheduler::Linear,
        adam_beta2: 0.95,
        save_steps: 0,
        // The same numbers for the same seed on every processor.
        dtype: Precision::F32,
        ..TrainingConfig::default()
    }
}

pub(super) fn sft(model: &Path, data: PathBuf, output_dir: PathBuf, seed: u64) -> SftConfig {
    SftConfig {
        training: TrainingConfig {
            learning_rate: 5e-4,
            num_train_epochs: 1.0,
            per_device_train_batch_size: 32,
            ..training(model, data, output_dir, seed)
        },
        ..SftConfig::default()
    }
}

/// The lessons with a habit among them. Twice the rate of [`sft`]: at its rate three plants in a hundred leave a habit that the
/// scan's 1,600 questions cannot tell from chance.
/// Each update is of two halves, so that the noise of its gradient is known.
pub(super) fn planted(
    model: &Path,
    data: PathBuf,
    eval_data: PathBuf,
    output_dir: PathBuf,
    seed: u64,
) -> SftConfig {
    let mut config = sft(model, data, output_dir, seed);
    config.training.learning_rate = 1e-3;
    config.training.eval_data = Some(eval_data);
    config.training.per_device_train_batch_size = 16;
    config.training.gradient_accumulation_steps = 2;
    config
}

pub(super) fn reward_model(
    model: &Path,
    data: PathBuf,
    eval_data: PathBuf,
    output_dir: PathBuf,
    seed: u64,
) -> RewardConfig {
    RewardConfig {
        training: TrainingConfig {
            learning_rate: 5e-4,
            num_train_epochs: 2.0,
            per_device_train_batch_size: 32,
            eval_data: Some(eval_data),
            ..training(model, data, output_dir, seed)
        },
        ..RewardConfig::default()
    }
}

/// A reward to follow, and how far.
pub(super) struct Following {
    pub(super) reward: SourceEntry,
    pub(super) learning_rate: f64,
    pub(super) steps: u64,
    /// β, the weight of the KL to the demonstrated policy.
    pub(super) beta: f64,
    pub(super) scale_rewards: ScaleRewards,
}

/// The truth can be followed far.
pub(super) fn verified() -> Following {
    Following {
        reward: SourceEntry::Rule(Rule::Exact { column: "answer".into(), ignore_case: false }),
        learning_rate: 5e-4,
        steps: 150,
        beta: 0.0,
        scale_rewards: ScaleRewards::Group,
    }
}

/// A learned reward is right near what it saw: small steps, held near the demonstrated policy.
pub(super) fn learned(model: PathBuf) -> Following {
    Following {
        reward: SourceEntry::Model(model),
        learning_rate: 2e-4,
        steps: 120,
        beta: 0.1,
        scale_rewards: ScaleRewards::None,
    }
}

pub(super) fn grpo(
    model: &Path,
    data: PathBuf,
    output_dir: PathBuf,
    seed: u64,
    following: Following,
) -> GrpoConfig {
    let Following { reward, learning_rate, steps, beta, scale_rewards } = following;
    GrpoConfig {
        training: TrainingConfig {
            learning_rate,
            max_steps: steps,
            per_device_train_batch_size: 128,
            ..training(model, data, output_dir, seed)
        },
        policy: PolicySettings {
            max_completion_length: ANSWER_TOKENS,
            max_num_seqs: 128,
            beta,
            kl_estimator: KlEstimator::K1InReward,
            rewards: vec![RewardEntry { name: None, weight: 1.0, source: reward }],
            log_completions_steps: 0,
            ..PolicySettings::default()
        },
        scale_rewards,
        ..GrpoConfig::default()
    }
}
