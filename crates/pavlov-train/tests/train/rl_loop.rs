//! The loop that learns from its own answers, on a language model of eight words.

use std::cell::Cell;
use std::path::Path;

use crate::small::{model, prompts};
use crate::tiny::{curve, host_run, metrics, weights};
use pavlov_engine::{Dtype, Sampler};
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::{Credited, Finish, Prompt, Rollout};
use pavlov_schema::{Map, Value};
use pavlov_train::Result;
use pavlov_train::estimator::ScaleRewards;
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig, PolicySettings};
use pavlov_train::loops::rl::credit::Estimator;
use pavlov_train::loops::rl::{grpo, pairwise, replay};
use pavlov_train::loss::{KlEstimator, Normalization};
use pavlov_train::run::{Ending, Event, TrainingConfig};
use pavlov_train::schedule::Scheduler;
use pavlov_train::stage::rollout::{Drawing, draw, encode_prompts};
use pavlov_train::stage::score::{Judge, Reward, Source};

/// The word `a`.
const WANTED: u32 = 2;

fn training(output_dir: &Path, seed: u64) -> TrainingConfig {
    TrainingConfig {
        output_dir: output_dir.to_owned(),
        seed,
        learning_rate: 1e-2,
        lr_scheduler_type: Scheduler::Constant,
        max_steps: 60,
        per_device_train_batch_size: 32,
        logging_steps: 1,
        save_steps: 0,
        ..TrainingConfig::default()
    }
}

fn policy() -> PolicySettings {
    PolicySettings { max_completion_length: 4, ..PolicySettings::default() }
}

fn config(output_dir: &Path, seed: u64) -> GrpoConfig {
    GrpoConfig { training: training(output_dir, seed), policy: policy(), ..GrpoConfig::default() }
}

fn function(points: impl Fn(&Rollout) -> f64 + 'static) -> Vec<Reward> {
    let points = move |_: &Prompt, rollout: &Rollout| Ok(Some(points(rollout)));
    vec![Reward { name: "points".into(), weight: 1.0, source: Source::Function(Box::new(points)) }]
}

fn first_token(rollout: &Rollout) -> f64 {
    f64::from(u8::from(rollout.tokens[0] == WANTED))
}

/// Says for certain which answer has more points.
fn sure_judge() -> Judge {
    Judge::Function(Box::new(|_, [first, second], _, _| {
        Ok(0.5 + 0.5 * (first_token(first) - first_token(second)))
    }))
}

fn train(
    model: &mut LanguageModel,
    config: &GrpoConfig,
    stop_after: Option<u64>,
) -> (Result<Ending>, Vec<Event>) {
    host_run(stop_after, |host| grpo(model, &prompts(12), function(first_token), config, host))
}

fn assert_learned(run: &Path) {
    let reward = curve(run, "reward");
    let (begin, end) =
        (reward[..3].iter().sum::<f64>() / 3.0, reward[reward.len() - 5..].iter().sum::<f64>() / 5.0);
    assert!(begin < 0.35 && end > 0.95, "{reward:?}");
}

#[test]
fn grpo_learns_the_first_token() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        train(&mut model(seed, 16, Dtype::F32), &config(folder.path(), seed), None).0.unwrap();
        assert_learned(folder.path());
    }
}

#[test]
fn leave_one_out_without_a_length_bias_learns_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), 3);
    config.estimator = Estimator::LeaveOneOut;
    config.policy.loss_type = Normalization::DrGrpo;
    train(&mut model(3, 16, Dtype::F32), &config, None).0.unwrap();
    assert_learned(folder.path());
}

#[test]
fn pairwise_with_a_sure_judge_learns_it() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let config = PairwiseConfig {
            training: training(folder.path(), seed),
            policy: policy(),
            ..PairwiseConfig::default()
        };
        let mut model = model(seed, 16, Dtype::F32);
        host_run(None, |host| pairwise(&mut model, &prompts(16), sure_judge(), &config, host)).0.unwrap();
        let rollouts =
            pavlov_schema::rollout_file::read(&folder.path().join("rollouts/step-000060.parquet")).unwrap();
        let right = rollouts.iter().map(|(_, answer)| first_token(&answer.scored.rollout)).sum::<f64>();
        assert!(right / rollouts.len() as f64 > 0.9, "{right} of {}", rollouts.len());
        // A judge who only compares gives ½ on average, and ties teach nothing.
        assert!(curve(folder.path(), "reward").iter().all(|reward| (reward - 0.5).abs() < 1e-9));
        let ties = curve(folder.path(), "frac_reward_zero_std");
        assert!(ties[59] > 0.8, "{ties:?}");
    }
}

#[test]
fn points_compared_are_a_judge() {
    let folder = tempfile::tempdir().unwrap();
    let config = PairwiseConfig {
        training: training(folder.path(), 5),
        policy: policy(),
        ..PairwiseConfig::default()
    };
    let judge = Judge::Rewards(function(first_token));
    host_run(None, |host| pairwise(&mut model(5, 16, Dtype::F32), &prompts(16), judge, &config, host))
        .0
        .unwrap();
    assert_learned(folder.path());
}

#[test]
fn a_constant_reward_changes_nothing() {
    for (estimator, scale) in [
        (Estimator::GroupMean, ScaleRewards::Group),
        (Estimator::GroupMean, ScaleRewards::Batch),
        (Estimator::LeaveOneOut, ScaleRewards::None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), 1);
        config.training.max_steps = 3;
        (config.estimator, config.scale_rewards) = (estimator, scale);
        let mut model = model(1, 16, Dtype::F32);
        let before = model.params.digest();
        let rewards = function(|_| 0.1);
        host_run(None, |host| grpo(&mut model, &prompts(12), rewards, &config, host)).0.unwrap();
        assert_eq!(model.params.digest(), before);
        assert_eq!(curve(folder.path(), "frac_reward_zero_std"), [1.0; 3]);
        assert_eq!(curve(folder.path(), "grad_norm"), [0.0; 3]);
    }
}

#[test]
fn the_first_update_is_on_policy_and_at_the_reference() {
    for (dtype, bound) in [(Dtype::F32, 1e-5), (Dtype::Bf16, 0.02)] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), 2);
        config.training.max_steps = 2;
        config.policy.beta = 0.1;
        config.policy.temperature = 0.7;
        train(&mut model(2, 16, dtype), &config, None).0.unwrap();
        let lines = metrics(folder.path());
        let get = |line: usize, name: &str| lines[line][name].as_f64().unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((get(0, "kl"), get(0, "clip_ratio/region_mean")), (0.0, 0.0));
        assert!(get(1, "kl") > 0.0);
        for line in 0..2 {
            assert!(get(line, "sampling/sampling_logp_difference/max") < bound, "{dtype:?}");
            assert!((get(line, "sampling/importance_sampling_ratio/max") - 1.0).abs() < bound);
        }
        for name in [
            "completions/mean_length",
            "completions/clipped_ratio",
            "rewards/points/mean",
            "rewards/points/std",
            "reward_std",
            "entropy",
            "policy_loss",
            "grad_norm",
            "learning_rate",
            "num_tokens",
            "epoch",
            "sampling/importance_sampling_ratio/min",
            "sampling/importance_sampling_ratio/mean",
            "sampling/sampling_logp_difference/mean",
        ] {
            assert!(get(0, name).is_finite(), "{name}");
        }
        assert!(get(0, "entropy") > 1.5 && get(0, "entropy") <= 8f64.ln() + 1e-6);
    }
}

/// One forward pass of 16 answers, or several of fewer: the same answers, the same gradient.
#[test]
fn parts_of_an_update_are_the_whole() {
    let first = |micro: usize, parts: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), 4);
        config.training.max_steps = 1;
        config.training.per_device_train_batch_size = micro;
        config.training.gradient_accumulation_steps = parts;
        config.policy.beta = 0.05;
        train(&mut model(4, 16, Dtype::F32), &config, None).0.unwrap();
        (
            curve(folder.path(), "grad_norm")[0],
            curve(folder.path(), "loss")[0],
            curve(folder.path(), "reward")[0],
        )
    };
    let whole = first(16, 1);
    for (micro, parts) in [(8, 2), (4, 4), (1, 16)] {
        let parted = first(micro, parts);
        assert!((whole.0 - parted.0).abs() < 1e-5 * whole.0, "{whole:?} {parted:?}");
        assert!((whole.1 - parted.1).abs() < 1e-6, "{whole:?} {parted:?}");
        assert!((whole.2 - parted.2).abs() < 1e-12, "the same answers");
    }
}

/// β must change the update, whatever the estimator of the KL.
#[test]
fn beta_holds_the_policy_near_its_reference() {
    let last_kl = |kl: KlEstimator, beta: f64| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), 6);
        config.policy.kl_estimator = kl;
        config.policy.beta = beta;
        train(&mut model(6, 16, Dtype::F32), &config, None).0.unwrap();
        *curve(folder.path(), "kl").last().unwrap()
    };
    let free = last_kl(KlEstimator::K2, 1e-6);
    assert!(free > 0.3, "{free}");
    for kl in [KlEstimator::K1InReward, KlEstimator::K2, KlEstimator::K3] {
        let held = last_kl(kl, 5.0);
        assert!(held < 0.1 * free, "{kl:?}: {held} of {free}");
    }
}

fn off_policy(folder: &Path, resume: bool) -> GrpoConfig {
    let mut config = config(folder, 7);
    config.training.max_steps = 10;
    config.training.logging_steps = 3;
    config.training.per_device_train_batch_size = 8;
    config.training.gradient_accumulation_steps = 2;
    config.training.resume_from_checkpoint = resume;
    config.policy.steps_per_generation = Some(4);
    config.policy.num_iterations = 2;
    config.policy.beta = 0.05;
    config
}

/// Each batch of answers makes four updates, so that the run is stopped between updates on the same answers.
#[test]
fn a_run_that_stopped_and_resumed_has_the_bytes_of_one_that_did_not() {
    for kl in [KlEstimator::K1InReward, KlEstimator::K2] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
        let settings = |path: &Path, resume| {
            let mut config = off_policy(path, resume);
            config.policy.kl_estimator = kl;
            config
        };
        let run = |config: &GrpoConfig, stop| train(&mut model(7, 16, Dtype::F32), config, stop).0.unwrap();
        run(&settings(&whole, false), None);
        for (stop, resume) in [(Some(2), false), (Some(7), true), (None, true)] {
            let ending = run(&settings(&parted, resume), stop);
            assert_eq!(matches!(ending, Ending::Stopped { .. }), stop.is_some());
        }
        assert_eq!(weights(&whole.join("model")), weights(&parted.join("model")));
        assert_eq!(metrics(&whole), metrics(&parted));
        for step in [1, 5, 9] {
            let bytes =
                |run: &Path| std::fs::read(run.join(format!("rollouts/step-{step:06}.parquet"))).unwrap();
            assert_eq!(bytes(&whole), bytes(&parted));
        }
    }
}

/// The answers of a run, in their order.
fn answers(run: &Path) -> Vec<Credited> {
    let entries = std::fs::read_dir(run.join("rollouts")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| pavlov_schema::rollout_file::read(file).unwrap())
        .map(|(_, one)| one)
        .collect()
}

/// With several updates on the same answers, with the KL in the loss and in the credit, and of pairs.
#[test]
fn recorded_answers_make_the_same_model_again_to_the_byte() {
    let again = |run: &Path, answers: Vec<Credited>, config: &GrpoConfig| {
        let mut config = config.clone();
        config.training.output_dir = run.with_extension("again");
        let mut model = model(7, 16, Dtype::F32);
        let (ending, _) = host_run(None, |host| replay(&mut model, &prompts(12), answers, &config, host));
        ending.map(|_| weights(&config.training.output_dir.join("model")))
    };
    let folder = tempfile::tempdir().unwrap();
    for kl in [KlEstimator::K1InReward, KlEstimator::K2] {
        let run = folder.path().join(format!("{kl:?}"));
        let mut config = off_policy(&run, false);
        config.policy.kl_estimator = kl;
        train(&mut model(7, 16, Dtype::F32), &config, None).0.unwrap();
        let own = weights(&run.join("model"));
        assert_eq!(again(&run, answers(&run), &config).unwrap(), own, "{kl:?}");
        // Another credit, another model; a missing answer is said.
        config.training.overwrite_output_dir = true;
        let mut other = answers(&run);
        other[3].weights.fill(0.0);
        assert_ne!(again(&run, other.clone(), &config).unwrap(), own, "{kl:?}");
        other.pop();
        let error = again(&run, other, &config).unwrap_err().to_string();
        assert!(error.starts_with("rollouts: of the run hold 95 answers and its updates took 96"), "{error}");
    }
    let run = folder.path().join("pairs");
    let mut config =
        PairwiseConfig { training: training(&run, 7), policy: policy(), ..PairwiseConfig::default() };
    config.training.max_steps = 4;
    config.training.per_device_train_batch_size = 16;
    host_run(None, |host| pairwise(&mut model(7, 16, Dtype::F32), &prompts(12), sure_judge(), &config, host))
        .0
        .unwrap();
    let PairwiseConfig { training, policy, .. } = config;
    let config = GrpoConfig { training, policy, num_generations: 2, ..GrpoConfig::default() };
    assert_eq!(again(&run, answers(&run), &config).unwrap(), weights(&run.join("model")));
}

/// The ratio leaves 1 only once the policy has moved, and only then is anything clipped.
#[test]
fn only_updates_on_old_answers_are_off_policy() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = off_policy(folder.path(), false);
    config.training.learning_rate = 3e-2;
    config.training.logging_steps = 1;
    train(&mut model(7, 16, Dtype::F32), &config, None).0.unwrap();
    let lines = metrics(folder.path());
    let clipped = |line: &&Map<String, Value>| line["clip_ratio/region_mean"].as_f64().unwrap() > 0.0;
    // Updates 1, 5 and 9 are the first on their answers.
    let (first, later): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["step"].as_u64().unwrap() % 4 == 1);
    assert!(!first.iter().any(&clipped), "{first:?}");
    assert!(first.iter().all(|line| line.contains_key("sampling/importance_sampling_ratio/max")));
    assert!(later.iter().any(clipped), "{later:?}");
    assert!(!later.iter().any(|line| line.contains_key("sampling/importance_sampling_ratio/max")));
}

#[test]
fn drawing_is_interrupted_between_tokens() {
    let model = model(12, 16, Dtype::F32);
    let encoded = encode_prompts(&model.encoder(), &prompts(12).prompts, 8, Path::new("prompts")).unwrap();
    let drawing = Drawing {
        num_generations: 2,
        temperature: 1.0,
        max_completion_length: 8,
        stop_tokens: vec![0],
        seed: 1,
    };
    let drawn = |interrupted: &dyn Fn() -> bool| {
        let (mut sampler, text) = (Sampler::new(4), |_: &[u32]| Ok(String::new()));
        draw(&mut sampler, &model.decoder, &model.params, &encoded, &drawing, (0, 0), &text, interrupted)
            .unwrap()
    };
    assert_eq!(drawn(&|| false).unwrap().len(), 24);
    let tokens = Cell::new(0);
    let after_ten = || {
        tokens.set(tokens.get() + 1);
        tokens.get() > 10
    };
    assert!(drawn(&after_ten).is_none());
    // Each of the answers still to come costs a token at most.
    assert!(tokens.get() < 10 + 24, "{}", tokens.get());
}

#[test]
fn a_resumed_run_is_divided_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    train(&mut model(7, 16, Dtype::F32), &off_policy(folder.path(), false), Some(2)).0.unwrap();
    let mut config = off_policy(folder.path(), true);
    config.policy.num_iterations = 3;
    let refused = train(&mut model(7, 16, Dtype::F32), &config, None).0.unwrap_err().to_string();
    assert!(refused.contains("resume with the old num_iterations"), "{refused}");
}

/// Answers do not depend on how many are drawn at the same time, to the bit.
#[test]
fn the_samplers_batch_changes_no_answer() {
    let draw = |together: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), 10);
        config.training.max_steps = 2;
        config.policy.max_num_seqs = together;
        train(&mut model(10, 16, Dtype::F32), &config, None).0.unwrap();
        [1, 2].map(|step| {
            std::fs::read(folder.path().join(format!("rollouts/step-{step:06}.parquet"))).unwrap()
        })
    };
    let whole = draw(64);
    assert!(whole == draw(5) && whole == draw(1), "rollouts differ");
}

#[test]
fn a_wish_to_stop_is_granted_before_the_first_update() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), 11);
    config.training.max_steps = 2;
    let ending = train(&mut model(11, 16, Dtype::F32), &config, Some(0)).0.unwrap();
    assert!(matches!(ending, Ending::Stopped { step: 0, .. }), "{ending:?}");
    config.training.resume_from_checkpoint = true;
    let ending = train(&mut model(11, 16, Dtype::F32), &config, None).0.unwrap();
    assert!(matches!(ending, Ending::Finished { step: 2, .. }), "{ending:?}");
}

#[test]
fn rollouts_are_saved_with_the_credit_that_trained() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), 8);
    config.training.max_steps = 1;
    let events = train(&mut model(8, 16, Dtype::F32), &config, None).1;
    let rollouts =
        pavlov_schema::rollout_file::read(&folder.path().join("rollouts/step-000001.parquet")).unwrap();
    assert_eq!(rollouts.len(), 32);
    for (i, (step, answer)) in rollouts.iter().enumerate() {
        let rollout = &answer.scored.rollout;
        assert_eq!((*step, rollout.choice, rollout.policy_version), (1, i % 8, 0));
        assert_eq!(answer.weights, vec![answer.advantage as f32; rollout.tokens.len()]);
        assert_eq!(answer.scored.parts, [("points".to_owned(), first_token(rollout))]);
        assert_eq!(rollout.finish == Finish::Eos, rollout.tokens.last() == Some(&0));
        assert!(rollout.finish == Finish::Eos || rollout.tokens.len() == 4);
        assert!(!rollout.completion.contains("<end>") && !rollout.prompt_text.is_empty());
    }
    let shown: Vec<_> =
        events.iter().filter(|event| matches!(event, Event::Sample { step: 1, .. })).collect();
    assert!((1..=2).contains(&shown.len()), "{shown:?}");
}

#[test]
fn what_cannot_work_is_refused_before_the_first_update() {
    let run = |change: &dyn Fn(&mut GrpoConfig, &mut LanguageModel), rewards: Vec<Reward>| {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, mut model) = (config(folder.path(), 9), model(9, 6, Dtype::F32));
        change(&mut config, &mut model);
        let error = host_run(None, |host| grpo(&mut model, &prompts(12), rewards, &config, host)).0;
        // Nothing was learned: there is no line of metrics.
        let lines = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap_or_default();
        assert_eq!(lines, "");
        error.unwrap_err().to_string()
    };
    let error = run(&|config, _| config.policy.max_completion_length = 5, function(first_token));
    // Prompts from the seventh on have two words.
    assert!(error.contains("row 7: has 2 tokens") && error.contains("context of 6"), "{error}");
    let spoil = |_: &mut GrpoConfig, model: &mut LanguageModel| {
        let mut weights = model.params.get("model.norm.weight").unwrap();
        weights[3] = f32::NAN;
        model.params.set("model.norm.weight", &weights).unwrap();
    };
    let error = run(&spoil, function(first_token));
    assert!(error.contains("preflight") && error.contains("model.norm.weight"), "{error}");
    let error = run(&|config, _| config.training.per_device_train_batch_size = 128, function(first_token));
    assert!(error.starts_with("data: has 12 prompts, fewer than the 16"), "{error}");
    let error = run(&|_, _| (), function(|_| f64::NAN));
    assert!(error.contains("reward of completion 0 is NaN"), "{error}");
}
