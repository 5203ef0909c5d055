//! Rewards and judges of every kind in a run from files, and what the policy learns from them.

use std::path::{Path, PathBuf};

use crate::small::model;
use crate::tiny::{curve, host_run};
use pavlov_engine::Dtype;
use pavlov_lm::SaveDtype;
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file::read;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value};
use pavlov_train::loops::reward_model::{Head, RewardFile, RewardModel, with_head};
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig};
use pavlov_train::loops::rl::{run_grpo, run_pairwise};
use pavlov_train::run::{Ending, load_options};
use pavlov_train::settings::Settings;
use serde_json::json;

/// A base model, a scalar and a joint reward model with random heads, and prompts with a reference answer.
fn files() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let at = move |name: &str| path.join(name);
    model(1, 16, Dtype::F32).save(&at("base"), SaveDtype::F32).unwrap();
    for (name, head) in [("scalar", Head::Comparisons { ties: None, eta: 0.0 }), ("joint", Head::Joint)] {
        let model = with_head(model(2, 16, Dtype::F32), 3).unwrap();
        model.save(&at(name), SaveDtype::F32).unwrap();
        let mut file = RewardFile::raw(head);
        (file.score_mean, file.score_std) = (0.25, 0.5);
        file.write(&at(name)).unwrap();
    }
    let line = |prompt: &str| format!("{{\"prompt\": \"{prompt}\", \"answer\": \"a\"}}\n");
    std::fs::write(at("prompts.jsonl"), ["a", "b", "c d", "e"].map(line).concat()).unwrap();
    (folder, at)
}

fn settings(at: &impl Fn(&str) -> PathBuf, mut more: Value) -> Map<String, Value> {
    let Value::Object(mut map) = json!({
        "model": at("base"), "data": at("prompts.jsonl"), "output_dir": at("run"), "threads": 1,
        "max_completion_length": 3, "per_device_train_batch_size": 16, "max_steps": 2, "logging_steps": 1,
        "learning_rate": 1e-2,
    }) else {
        panic!("no object")
    };
    map.append(more.as_object_mut().unwrap());
    map
}

fn rollouts(run: &Path, step: u64) -> Vec<Credited> {
    let file = run.join(format!("rollouts/step-{step:06}.parquet"));
    read(&file).unwrap().into_iter().map(|(_, answer)| answer).collect()
}

/// Answers every line with its completion's length in characters.
const PROGRAM: &str = r#"while read -r line; do id=${line#*\"id\":}; id=${id%%,*}; text=${line#*\"completion\":\"}; text=${text%%\"*}; echo "{\"id\":$id,\"reward\":${#text}}"; done"#;

#[test]
fn rules_programs_and_reward_models_add_up() {
    let (_folder, at) = files();
    let rewards = json!([
        {"rule": "exact", "column": "answer"},
        {"program": ["sh", "-c", PROGRAM], "name": "chars", "weight": -0.25},
        {"model": at("scalar"), "weight": 2},
    ]);
    let map = settings(&at, json!({"rewards": rewards, "eval_data": at("prompts.jsonl"), "eval_steps": 1}));
    let config = GrpoConfig::from_map(map).unwrap();
    let ending = host_run(None, |host| run_grpo(&config, host)).0.unwrap();
    let Ending::Finished { metrics: last, .. } = &ending else { panic!("{ending:?}") };
    assert!(last["eval_reward"].is_number() && last["eval_rewards/exact/mean"].is_number(), "{last:?}");
    assert_eq!(curve(&at("run"), "eval_reward").len(), 2);
    assert_eq!(curve(&at("run"), "rewards/reward_model/std").len(), 2);
    let mut judge = RewardModel::load(&at("scalar"), &load_options(&config.training)).unwrap();
    for answer in rollouts(&at("run"), 2) {
        let (rollout, parts) = (&answer.scored.rollout, &answer.scored.parts);
        let text = rollout.completion.as_str();
        // What the run was told is what the reward model says afterwards.
        let score = judge.scores(&[(&Text::from(rollout.prompt_text.as_str()), text)]).unwrap()[0];
        let expected = [
            ("exact", f64::from(u8::from(text == "a"))),
            ("chars", text.len() as f64),
            ("reward_model", score),
        ];
        for ((name, points), (wanted, expected)) in parts.iter().zip(expected) {
            assert!(
                name == wanted && (points - expected).abs() < 1e-5,
                "{name} {points} {expected} for '{text}'"
            );
        }
        let total = parts[0].1 - 0.25 * parts[1].1 + 2.0 * parts[2].1;
        assert!((answer.scored.reward - total).abs() < 1e-12);
    }
}

#[test]
fn reward_models_and_programs_judge_pairs() {
    let (_folder, at) = files();
    let program = r#"while read -r line; do id=${line#*\"id\":}; id=${id%%,*}; echo "{\"id\":$id,\"preference\":0.75}"; done"#;
    for (i, judge) in [
        json!({"model": at("scalar")}),
        json!({"model": at("joint")}),
        json!({"program": ["sh", "-c", program]}),
    ]
    .into_iter()
    .enumerate()
    {
        let run = at(&format!("run-{i}"));
        let map = settings(&at, json!({"judge": judge, "output_dir": run, "per_device_train_batch_size": 8}));
        let config = PairwiseConfig::from_map(map).unwrap();
        host_run(None, |host| run_pairwise(&config, host)).0.unwrap();
        for pair in rollouts(&run, 1).chunks(2) {
            let [a, b] = pair else { panic!("an odd answer") };
            let p = match judge.get("model") {
                None => 0.75,
                Some(folder) => {
                    let options = load_options(&config.training);
                    let mut model = RewardModel::load(Path::new(folder.as_str().unwrap()), &options).unwrap();
                    let [x, y] = [a, b].map(|answer| answer.scored.rollout.completion.as_str());
                    let prompt = Text::from(a.scored.rollout.prompt_text.as_str());
                    model.preferences(&[(&prompt, x, y)]).unwrap()[0]
                }
            };
            assert!((a.scored.reward - p).abs() < 1e-5 && (b.scored.reward - (1.0 - p)).abs() < 1e-5);
            assert!((a.advantage - (2.0 * a.scored.reward - 1.0)).abs() < 1e-12);
            assert!((a.advantage + b.advantage).abs() < 1e-12);
            assert_eq!((a.scored.rollout.choice, b.scored.rollout.choice), (0, 1));
        }
    }
}

#[test]
fn feedback_that_does_not_fit_is_refused() {
    let (_folder, at) = files();
    let grpo = |more: Value| {
        let config = GrpoConfig::from_map(settings(&at, more)).unwrap();
        host_run(None, |host| run_grpo(&config, host)).0.unwrap_err().to_string()
    };
    let error = grpo(json!({}));
    assert!(error.starts_with("rewards: is empty"), "{error}");
    let error = grpo(json!({"rewards": [{"model": at("joint")}]}));
    assert!(error.contains("judge of pavlov pairwise"), "{error}");
    let rule = json!({"rule": "exact", "column": "answer"});
    let error = grpo(json!({"rewards": [rule, rule]}));
    assert!(error.contains("two are named 'exact'"), "{error}");
    let error = grpo(json!({"rewards": [{"rule": "exact", "column": "nope"}]}));
    assert!(error.contains("column 'nope' is not in the data"), "{error}");
    let error = grpo(json!({"rewards": [{"program": ["sh", "-c", "exit 3"]}], "overwrite_output_dir": true}));
    assert!(error.contains("ended before it answered"), "{error}");
    let map = json!({"judge": {"model": at("joint")}, "eval_data": at("prompts.jsonl"), "per_device_train_batch_size": 8});
    let config = PairwiseConfig::from_map(settings(&at, map)).unwrap();
    let error = host_run(None, |host| run_pairwise(&config, host)).0.unwrap_err().to_string();
    assert!(error.starts_with("eval_data: cannot be evaluated"), "{error}");
}

#[test]
fn another_model_can_be_the_reference() {
    let (_folder, at) = files();
    model(5, 16, Dtype::F32).save(&at("other"), SaveDtype::F32).unwrap();
    let rewards = json!([{"rule": "exact", "column": "answer"}]);
    let map = settings(&at, json!({"rewards": rewards, "beta": 0.1, "ref_model": at("other")}));
    let config = GrpoConfig::from_map(map).unwrap();
    host_run(None, |host| run_grpo(&config, host)).0.unwrap();
    // Two random models differ from the first update on.
    assert!(curve(&at("run"), "kl")[0] > 1e-4);
    let map = settings(
        &at,
        json!({"rewards": rewards, "beta": 0.1, "ref_model": at("scalar"), "output_dir": at("x")}),
    );
    let config = GrpoConfig::from_map(map).unwrap();
    let error = host_run(None, |host| run_grpo(&config, host)).0.unwrap_err().to_string();
    assert!(error.starts_with("ref_model: has no language head"), "{error}");
}
