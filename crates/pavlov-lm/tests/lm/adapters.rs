//! PEFT folders are loaded, saved and merged as a whole, and wrong ones are refused by name.

use std::path::Path;
use std::sync::Arc;

use crate::common::{golden, safetensors};
use pavlov_engine::{Activations, Batch, Cpu, Dtype, Outputs};
use pavlov_lm::{AdapterConfig, AdapterSource, LanguageModel, SaveDtype, Targets};
use serde_json::{Value, json};

/// Each fixture of scripts/golden/adapters.py with its base.
const CASES: [(&str, &str); 5] = [
    ("lora-llama", "llama"),
    ("lora-qwen3", "qwen3"),
    ("lora-smollm2", "smollm2"),
    ("lora-gpt2", "gpt2"),
    ("lora-reward-llama", "reward-llama"),
];

fn load(base: &str, adapter: &Path, dtype: Dtype) -> pavlov_lm::Result<LanguageModel> {
    let backend = Arc::new(Cpu::new(1));
    LanguageModel::load_adapted(&golden(base), &AdapterSource::Folder(adapter), &backend, dtype)
}

fn outputs(model: &LanguageModel) -> Outputs {
    let mut batch = Batch::new();
    let id = batch.forest.push(None, &[1, 5, 9, 33, 4, 60]);
    if model.decoder.config().language_head {
        batch.score_segment(id);
    } else {
        batch.reads.push(5);
    }
    model.decoder.forward(&model.params, &batch, 1.0, &mut Activations::new(false)).unwrap()
}

fn text(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

#[test]
fn a_saved_adapter_is_the_loaded_one() {
    for (case, base) in CASES {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = load(base, &golden(case), dtype).unwrap();
            let out = tempfile::tempdir().unwrap();
            model.save(out.path(), SaveDtype::F32).unwrap();
            assert!(
                !out.path().join("config.json").exists() && !out.path().join("model.safetensors").exists()
            );
            let again = load(base, out.path(), dtype).unwrap();
            assert_eq!(again.params.digest(), model.params.digest(), "{case}");
            assert_eq!(outputs(&again), outputs(&model), "{case}");
            // Every key that PEFT wrote and that is written again has PEFT's value.
            let (ours, theirs) =
                (text(out.path(), "adapter_config.json"), text(&golden(case), "adapter_config.json"));
            for (key, value) in ours.as_object().unwrap() {
                assert_eq!(*value, theirs[key], "{case}: {key}");
            }
        }
    }
}

/// The base named by the file is found, and one that is not there is an error with the mend.
#[test]
fn an_adapter_names_its_base() {
    let backend = Arc::new(Cpu::new(1));
    let mut model = load("llama", &golden("lora-llama"), Dtype::F32).unwrap();
    let out = tempfile::tempdir().unwrap();
    model.adapter.as_mut().unwrap().base = golden("llama").to_string_lossy().into_owned();
    model.save(out.path(), SaveDtype::F32).unwrap();
    let again = LanguageModel::load_on(out.path(), &backend, Dtype::F32).unwrap();
    assert_eq!(outputs(&again), outputs(&model));
    let lost = LanguageModel::load_on(&golden("lora-llama"), &backend, Dtype::F32).err().unwrap().to_string();
    assert!(lost.contains("base_model_name_or_path") && lost.contains("no folder llama"), "{lost}");
}

#[test]
fn a_merged_model_computes_what_its_adapter_did() {
    let backend = Arc::new(Cpu::new(1));
    for (case, base) in CASES {
        let model = load(base, &golden(case), Dtype::F32).unwrap();
        let expected = outputs(&model);
        let merged = model.merged().unwrap();
        let out = tempfile::tempdir().unwrap();
        merged.save(out.path(), SaveDtype::F32).unwrap();
        let loaded = LanguageModel::load_on(out.path(), &backend, Dtype::F32).unwrap();
        assert!(loaded.adapter.is_none());
        let found = outputs(&loaded);
        let pairs = found.logp.iter().zip(&expected.logp).chain(found.scalars.iter().zip(&expected.scalars));
        let worst = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{case}: {worst}");
        assert_ne!(
            found,
            outputs(&LanguageModel::load_on(&golden(base), &backend, Dtype::F32).unwrap()),
            "{case}"
        );
    }
}

/// A new adapter on a reward model that is made of a language model: the score head is new and trained whole.
#[test]
fn a_reward_model_can_be_an_adapter_of_a_language_model() {
    let backend = Arc::new(Cpu::new(1));
    for base in ["llama", "gpt2", "smollm2"] {
        let config = AdapterConfig {
            base: golden(base).to_string_lossy().into_owned(),
            rank: 2,
            alpha: 4.0,
            rank_stabilised: false,
            targets: Targets::AllLinear,
            dropout: 0.0,
        };
        let source = AdapterSource::New { config, seed: 5 };
        let model = LanguageModel::load_adapted(&golden(base), &source, &backend, Dtype::Bf16).unwrap();
        let a = "model.layers.0.self_attn.q_proj.lora_A.weight";
        let first = model.params.get(a).unwrap();
        assert!(first.iter().all(|x| x.abs() > 0.0));
        let reward = model.with_scalar_head(1, 3).unwrap();
        assert_eq!(reward.params.get(a).unwrap(), first);
        let trained: Vec<&str> =
            reward.params.specs().filter(|s| s.trainable).map(|s| s.name.as_str()).collect();
        assert!(trained.contains(&"score.weight") && trained.contains(&a));
        assert!(trained.iter().all(|name| *name == "score.weight" || name.contains(".lora_")));
        let out = tempfile::tempdir().unwrap();
        reward.save(out.path(), SaveDtype::F32).unwrap();
        let again = LanguageModel::load_on(out.path(), &backend, Dtype::Bf16).unwrap();
        assert_eq!(outputs(&again), outputs(&reward), "{base}");
        assert_eq!(text(out.path(), "adapter_config.json")["task_type"], "SEQ_CLS");
    }
}

/// An adapter's folder that differs from a good one in one key or file.
fn changed(change: impl FnOnce(&Path, &mut Value)) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(golden("lora-llama").join(name), folder.path().join(name)).unwrap();
    }
    let mut config = text(folder.path(), "adapter_config.json");
    change(folder.path(), &mut config);
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let error = load("llama", folder.path(), Dtype::F32).err().unwrap().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn what_is_not_supported_is_refused_by_its_key() {
    for (key, value) in [
        ("peft_type", json!("PREFIX_TUNING")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("rank_pattern", json!({"q_proj": 8})),
        ("layers_to_transform", json!([0])),
        ("modules_to_save", json!(["lm_head"])),
        ("target_modules", json!(".*q_proj")),
        ("target_modules", json!(null)),
        ("init_lora_weights", json!("pissa")),
        ("task_type", json!("TOKEN_CLS")),
        ("r", json!(0)),
        ("lora_alpha", json!("16")),
    ] {
        let error = changed(|_, config| config[key] = value);
        assert!(error.contains("adapter_config.json") && error.contains(&format!("key {key}")), "{error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let rank = changed(|_, config| config["r"] = json!(5));
    assert!(rank.contains("lora_A.weight") && rank.contains("[4, ") && rank.contains("[5, "), "{rank}");
    let extra = changed(|_, config| config["target_modules"] = json!(["up_proj"]));
    assert!(extra.contains("no parameter of this model uses it"), "{extra}");
    let unknown = changed(|_, config| config["target_modules"] = json!(["up_proj", "c_attn"]));
    assert!(unknown.contains("c_attn") && unknown.contains("down_proj"), "{unknown}");
    let missing = changed(|folder, _| {
        let file = folder.join("adapter_model.safetensors");
        std::fs::write(file, safetensors(&[(q, &[4, 40], vec![0.0; 160])])).unwrap();
    });
    assert!(missing.contains("lora_B.weight: it is missing"), "{missing}");
    let none = changed(|folder, _| std::fs::remove_file(folder.join("adapter_model.safetensors")).unwrap());
    assert!(none.contains("there is no adapter_model.safetensors"), "{none}");
    let other = load("qwen3", &golden("lora-llama"), Dtype::F32).err().unwrap().to_string();
    assert!(other.contains("its shape is"), "{other}");
    let language = load("reward-llama", &golden("lora-llama"), Dtype::F32).err().unwrap().to_string();
    assert!(language.contains("an adapter of a language model"), "{language}");
}
