//! Every loop with an adapter in place of the model: what it writes, and that it resumes to the byte.

use crate::tiny;
use std::path::{Path, PathBuf};

use crate::tiny::{curve, host_run, metrics};
use pavlov_engine::Dtype;
use pavlov_lm::{LanguageModel, LoadOptions, SaveDtype};
use pavlov_schema::{Map, Value};
use pavlov_train::Result;
use pavlov_train::loops::pretrain::{self, PretrainConfig};
use pavlov_train::loops::reward_model::{self, RewardConfig, RewardModel};
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig};
use pavlov_train::loops::rl::{run_grpo, run_pairwise};
use pavlov_train::loops::sft::{self, SftConfig};
use pavlov_train::run::{Ending, Event, Host};
use pavlov_train::settings::Settings;
use safetensors::SafeTensors;
use serde_json::json;

type Run = fn(Map<String, Value>, &mut Host) -> Result<Ending>;

/// A loop by its name, with its data and settings.
struct Loop {
    name: &'static str,
    data: &'static str,
    settings: Value,
    run: Run,
}

fn loops() -> Vec<Loop> {
    let rewards =
        json!([{"rule": "exact", "column": "answer"}, {"rule": "length", "unit": "chars", "target": 30}]);
    let policy = json!({"rewards": rewards, "max_completion_length": 4, "per_device_train_batch_size": 8,
                        "num_generations": 4, "beta": 0.05, "learning_rate": 1e-2});
    let mut pairwise = policy.clone();
    pairwise.as_object_mut().unwrap().remove("num_generations");
    vec![
        Loop {
            name: "pretrain",
            data: "texts.jsonl",
            settings: json!({"max_length": 8}),
            run: |map, host| pretrain::run(&PretrainConfig::from_map(map)?, host),
        },
        Loop {
            name: "sft",
            data: "shown.jsonl",
            settings: json!({"gradient_checkpointing": true}),
            run: |map, host| sft::run(&SftConfig::from_map(map)?, host),
        },
        Loop {
            name: "comparisons",
            data: "pairs.jsonl",
            settings: json!({}),
            run: |map, host| reward_model::run(&RewardConfig::from_map(map)?, host),
        },
        Loop {
            name: "ratings",
            data: "ratings.jsonl",
            settings: json!({"kind": "ratings"}),
            run: |map, host| reward_model::run(&RewardConfig::from_map(map)?, host),
        },
        Loop {
            name: "joint",
            data: "pairs.jsonl",
            settings: json!({"kind": "joint"}),
            run: |map, host| reward_model::run(&RewardConfig::from_map(map)?, host),
        },
        Loop {
            name: "grpo",
            data: "prompts.jsonl",
            settings: policy,
            run: |map, host| run_grpo(&GrpoConfig::from_map(map)?, host),
        },
        Loop {
            name: "pairwise",
            data: "prompts.jsonl",
            settings: pairwise,
            run: |map, host| run_pairwise(&PairwiseConfig::from_map(map)?, host),
        },
    ]
}

/// A folder with a base model and the data of every loop.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        tiny::model().save(&lab.at("base"), SaveDtype::Bf16).unwrap();
        let rows =
            |row: &dyn Fn(usize) -> Value| (0..9).map(|i| row(i).to_string() + "\n").collect::<String>();
        let name = |i: usize| ["Ana", "Ben", "Leo"][i % 3];
        let ask = |i: usize| format!("Who has {} apples?\n", i % 5);
        for (file, text) in [
            ("texts.jsonl", rows(&|i| json!({"text": format!("{} has {} apples.", name(i), i % 5)}))),
            ("shown.jsonl", rows(&|i| json!({"prompt": ask(i), "completion": format!("{}.", name(i))}))),
            ("pairs.jsonl", rows(&|i| json!({"prompt": ask(i), "chosen": name(i), "rejected": name(i + 1)}))),
            (
                "ratings.jsonl",
                rows(
                    &|i| json!({"prompt": ask(i), "completion": name(i), "rating": 1 + i % 3, "scale": [1, 3]}),
                ),
            ),
            ("prompts.jsonl", rows(&|i| json!({"prompt": ask(i), "answer": name(i)}))),
        ] {
            std::fs::write(lab.at(file), text).unwrap();
        }
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Six updates of a loop, with settings over the usual ones.
    fn run(&self, of: &Loop, out: &str, stop: Option<u64>, more: Value) -> (Result<Ending>, Vec<Event>) {
        let mut map: Map<String, Value> = [
            ("model", json!(self.at("base"))),
            ("data", json!(self.at(of.data))),
            ("output_dir", json!(self.at(out))),
            ("max_steps", json!(6)),
            ("logging_steps", json!(1)),
            ("threads", json!(1)),
            ("learning_rate", json!(1e-2)),
            ("per_device_train_batch_size", json!(3)),
            ("use_peft", json!(true)),
            ("lora_r", json!(3)),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        for settings in [of.settings.clone(), more] {
            map.extend(settings.as_object().unwrap().clone());
        }
        map.retain(|_, value| !value.is_null());
        host_run(stop, |host| (of.run)(map, host))
    }
}

fn names(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap();
    let mut names: Vec<String> =
        SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

fn load(folder: &Path, dtype: Dtype) -> LanguageModel {
    LanguageModel::load(folder, &LoadOptions { dtype, threads: 1 }).unwrap()
}

const WEIGHTS: &str = "adapter_model.safetensors";

#[test]
fn every_loop_trains_an_adapter_and_resumes_to_the_byte() {
    let lab = Lab::new();
    let before = std::fs::read(lab.at("base/model.safetensors")).unwrap();
    for of in loops() {
        for dtype in ["f32", "bf16"] {
            let (whole, parted) = (format!("{}-{dtype}", of.name), format!("{}-{dtype}-parted", of.name));
            let (ending, events) = lab.run(&of, &whole, None, json!({"dtype": dtype}));
            assert!(matches!(ending, Ok(Ending::Finished { step: 6, .. })), "{}: {ending:?}", of.name);
            let told =
                |event: &Event| matches!(event, Event::Note(line) if line.contains("an adapter is trained"));
            assert!(events.iter().any(told));
            let (ending, _) = lab.run(&of, &parted, Some(2), json!({"dtype": dtype}));
            let Ok(Ending::Stopped { checkpoint, step: 2 }) = ending else {
                panic!("{}: {ending:?}", of.name)
            };
            // A checkpoint holds the adapter and its moments, and nothing of the base.
            assert!(
                !checkpoint.join("model.safetensors").exists() && !checkpoint.join("config.json").exists()
            );
            let saved = names(&checkpoint.join(WEIGHTS));
            let moments = names(&checkpoint.join("optimizer.safetensors"));
            assert_eq!(moments.len(), 2 * saved.len(), "{}", of.name);
            assert!(moments.iter().all(|name| name.contains(".lora_") || name.ends_with("score.weight")));
            let (ending, _) =
                lab.run(&of, &parted, None, json!({"dtype": dtype, "resume_from_checkpoint": true}));
            assert!(matches!(ending, Ok(Ending::Finished { .. })), "{}: {ending:?}", of.name);
            let bytes = |run: &str| std::fs::read(lab.at(run).join("model").join(WEIGHTS)).unwrap();
            assert_eq!(bytes(&whole), bytes(&parted), "{} {dtype}", of.name);
            assert_eq!(metrics(&lab.at(&whole)), metrics(&lab.at(&parted)), "{} {dtype}", of.name);
            // The adapter has learned, and its folder is a model.
            let precision = if dtype == "f32" { Dtype::F32 } else { Dtype::Bf16 };
            let model = load(&lab.at(&whole).join("model"), precision);
            assert!(!model.decoder.is_silent(&model.params).unwrap(), "{}", of.name);
            assert!(model.files.encoder().vocab_size > 0 && model.adapter.as_ref().unwrap().rank == 3);
        }
    }
    assert_eq!(std::fs::read(lab.at("base/model.safetensors")).unwrap(), before, "the base is frozen");
}

/// The reference is the base: the KL begins at zero with a new adapter, and not with one that has learned.
#[test]
fn the_reference_of_an_adapter_is_its_base() {
    let lab = Lab::new();
    let all = loops();
    let grpo = all.iter().find(|of| of.name == "grpo").unwrap();
    lab.run(grpo, "new", None, json!({})).0.unwrap();
    let kl = curve(&lab.at("new"), "kl");
    assert!(kl[0] == 0.0 && kl[5] > 0.0, "{kl:?}");
    let more = json!({"adapter": lab.at("new/model"), "use_peft": null, "model": null});
    lab.run(grpo, "more", None, more).0.unwrap();
    let further = curve(&lab.at("more"), "kl");
    assert!(further[0] > 0.5 * kl[5], "{further:?} after {kl:?}");
    // The same numbers from a second copy of the base.
    lab.run(grpo, "copy", None, json!({"ref_model": lab.at("base")})).0.unwrap();
    assert_eq!(curve(&lab.at("copy"), "kl"), kl);
    let weights = |run: &str| std::fs::read(lab.at(run).join(WEIGHTS)).unwrap();
    assert_eq!(weights("copy/model"), weights("new/model"));
}

/// A reward model that is an adapter scores answers, and rewards those of a policy that is one.
#[test]
fn adapters_reward_adapters() {
    let lab = Lab::new();
    let all = loops();
    let find = |name: &str| all.iter().find(|of| of.name == name).unwrap();
    lab.run(find("comparisons"), "judge", None, json!({"num_train_epochs": 20, "max_steps": 0})).0.unwrap();
    let options = LoadOptions { dtype: Dtype::F32, threads: 1 };
    let mut judge = RewardModel::load(&lab.at("judge/model"), &options).unwrap();
    let prompt = "Who has 0 apples?\n".into();
    let scores = judge.scores(&[(&prompt, "Ana"), (&prompt, "Ben")]).unwrap();
    assert!(
        scores.iter().all(|score| score.is_finite()) && (scores[0] - scores[1]).abs() > 1e-3,
        "{scores:?}"
    );
    let rewards = json!({"rewards": [{"model": lab.at("judge/model")}]});
    lab.run(find("grpo"), "taught", None, rewards).0.unwrap();
    let judged = json!({"judge": {"model": lab.at("judge/model")}, "rewards": null});
    lab.run(find("pairwise"), "paired", None, judged).0.unwrap();
}

#[test]
fn settings_that_cannot_work_are_refused_by_their_key() {
    let lab = Lab::new();
    let all = loops();
    let sft = all.iter().find(|of| of.name == "sft").unwrap();
    let refuse = |more: Value| lab.run(sft, "refused", None, more).0.unwrap_err().to_string();
    for (more, told) in [
        (json!({"lora_r": 0}), "lora_r: is 0"),
        (json!({"lora_alpha": 0}), "lora_alpha: is 0"),
        (json!({"lora_dropout": 0.05}), "lora_dropout: is 0.05; it must be 0"),
        (json!({"lora_target_modules": "q_proj"}), "lora_target_modules: is q_proj; write all-linear"),
        (json!({"lora_target_modules": []}), "lora_target_modules: names no layer"),
        (json!({"lora_target_modules": ["lm_head"]}), "target module lm_head: no linear layer"),
        (json!({"adapter": lab.at("nowhere")}), "adapter_config.json"),
        (json!({"model": null}), "model: is missing"),
    ] {
        let error = refuse(more);
        assert!(error.contains(told) && error.lines().count() == 1, "{error}");
    }
    lab.run(
        sft,
        "first",
        None,
        json!({"lora_target_modules": ["q_proj", "mlp.up_proj"], "use_rslora": true}),
    )
    .0
    .unwrap();
    assert_eq!(names(&lab.at("first/model").join(WEIGHTS)).len(), 2 * 2 * 2);
    let again = refuse(json!({"model": lab.at("first/model")}));
    assert!(again.starts_with("model: is an adapter already"), "{again}");
    // An adapter's folder is a model to go on from.
    lab.run(sft, "second", None, json!({"model": lab.at("first/model"), "use_peft": null})).0.unwrap();
    let config = std::fs::read_to_string(lab.at("second/model/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["base_model_name_or_path"], json!(lab.at("base")));
    assert_eq!(
        (&config["use_rslora"], &config["target_modules"]),
        (&json!(true), &json!(["q_proj", "mlp.up_proj"]))
    );
    // Dropout would be left out silently.
    let file = lab.at("second/model/adapter_config.json");
    std::fs::write(&file, json!({"lora_dropout": 0.1}).to_string()).unwrap();
    let mut dropped = config.clone();
    dropped["lora_dropout"] = json!(0.1);
    std::fs::write(&file, dropped.to_string()).unwrap();
    let refused = refuse(json!({"adapter": lab.at("second/model"), "use_peft": null}));
    assert!(refused.starts_with("adapter: was trained with lora_dropout 0.1"), "{refused}");
}
