//! Adapters from the command line: trained, used beside their base or alone, merged.

use serde_json::Value;

use crate::lab::{Lab, demonstrations};

/// Largest difference of the log-probabilities of two outputs, in nats.
fn distance(a: &[Value], b: &[Value]) -> f64 {
    assert_eq!(a.len(), b.len());
    let numbers = |line: &Value| -> Vec<f64> {
        line["logprobs"].as_array().unwrap()[1..].iter().map(|logp| logp.as_f64().unwrap()).collect()
    };
    let pairs = a.iter().zip(b).flat_map(|(a, b)| numbers(a).into_iter().zip(numbers(b)));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn an_adapter_is_trained_used_and_merged() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(8));
    let set = [
        "model=model",
        "data=rows.jsonl",
        "output_dir=run",
        "max_steps=4",
        "learning_rate=1e-2",
        "threads=1",
    ];
    let mut args = vec!["sft", "--json"];
    args.extend(set.iter().chain(&["use_peft=true", "lora_r=4"]).flat_map(|text| ["--set", text]));
    let ran = lab.run(&args).ok();
    assert!(ran.err.contains("an adapter is trained: "), "{}", ran.err);
    let logprobs = |more: &[&str]| {
        lab.run(&[&["logprobs", "--data", "rows.jsonl", "--json"], more].concat()).ok().json()
    };
    let base = logprobs(&["--model", "model"]);
    let beside = logprobs(&["--model", "model", "--adapter", "run/model"]);
    assert_eq!(logprobs(&["--model", "run/model"]), beside);
    assert!(distance(&beside, &base) > 0.01);
    let sample = ["sample", "--prompt", "Where is Ana ?", "--max-tokens", "5", "--json", "--model"];
    let sampled = lab.run(&[&sample[..], &["model", "--adapter", "run/model"]].concat()).ok().json();
    assert_eq!(lab.run(&[&sample[..], &["run/model"]].concat()).ok().json(), sampled);

    let merge = ["merge", "--model", "model", "--adapter", "run/model", "--out", "merged"];
    lab.run(&merge).ok();
    assert!(!lab.path("merged/adapter_config.json").exists());
    let merged = logprobs(&["--model", "merged"]);
    assert!(distance(&merged, &beside) < 1e-4, "{}", distance(&merged, &beside));
    lab.run(&merge).fails(2, &["--out: merged exists already"]);
    lab.run(&["merge", "--model", "model", "--out", "other"]).fails(2, &["--model: model is no adapter"]);
    lab.run(&["merge", "--model", "run/model", "--out", "half", "--dtype", "bf16"]).ok();
    let half = std::fs::metadata(lab.path("half/model.safetensors")).unwrap().len();
    assert!(half * 2 < std::fs::metadata(lab.path("merged/model.safetensors")).unwrap().len() + 10_000);
    let wrong = ["logprobs", "--model", "model", "--adapter", "model", "--data", "rows.jsonl"];
    lab.run(&wrong).fails(2, &["adapter_config.json", "no such file"]);
}
