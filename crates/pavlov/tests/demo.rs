//! The demonstration teaches: demonstrations and verified rewards each raise the accuracy by a margin.
#![allow(clippy::unwrap_used, reason = "a test that unwraps an error fails with it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs `pavlov demo --json` and returns its summary without times.
fn demo(out: &Path, seed: u64) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pavlov"))
        .args(["demo", "--json", "--seed", &seed.to_string(), "--out"])
        .arg(out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let file: Value = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary, file);
    summary.as_object_mut().unwrap().remove("seconds");
    for stage in summary["stages"].as_array_mut().unwrap() {
        assert!(stage.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() > 0.0);
    }
    summary
}

fn accuracies(summary: &Value) -> BTreeMap<&str, f64> {
    let stages = summary["stages"].as_array().unwrap();
    stages.iter().map(|s| (s["name"].as_str().unwrap(), s["accuracy"].as_f64().unwrap())).collect()
}

#[test]
fn demonstrations_and_verified_rewards_teach() {
    let folder = tempfile::tempdir().unwrap();
    // One seed: three would take longer than the rest of the tests together.
    let summary = demo(&folder.path().join("demo"), 0);
    let of = accuracies(&summary);
    assert!(of["sft"] > of["base"] + 0.15, "{of:?}");
    assert!(of["rl_verified"] > of["sft"] + 0.02, "{of:?}");
    // The reward model tells better from worse, but not well enough for a gain by following it: docs/demo.md has the
    // figures. What is held here is that following it does not ruin the policy.
    assert!(of["reward_model"] > 0.53, "{of:?}");
    assert!(of["rl_reward_model"] > of["sft"] - 0.06, "{of:?}");
    for stage in summary["stages"].as_array().unwrap() {
        let [low, accuracy, high] = ["low", "accuracy", "high"].map(|k| stage[k].as_f64().unwrap());
        assert!(low < accuracy && accuracy < high, "{stage}");
    }
    assert_eq!(summary["samples"].as_array().unwrap().len(), 3);
}
