//! `pavlov bench`: the numbers are those of the work asked for.

use serde_json::{Value, json};

use crate::lab::{CONTEXT, Lab, demonstrations};

/// What every line has, as the peers' script has it.
const KEYS: [&str; 8] =
    ["pavlov", "model", "dtype", "compile", "lora", "step_s", "tokens_per_s", "peak_rss_mib"];

/// A lab with rows for every task.
fn lab() -> Lab {
    let lab = Lab::new();
    let shown = demonstrations(40);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = |of: &dyn Fn(&Value) -> Value| shown.iter().map(of).collect::<Vec<_>>();
    lab.rows(
        "text.jsonl",
        &rows(&|row| json!({"text": text(row, "prompt") + " " + &text(row, "completion")})),
    );
    lab.rows("prompts.jsonl", &rows(&|row| json!({"prompt": text(row, "prompt")})));
    lab.rows(
        "pairs.jsonl",
        &rows(&|row| {
            let chosen = text(row, "completion");
            json!({"prompt": text(row, "prompt"), "rejected": format!("{chosen} {chosen}"), "chosen": chosen})
        }),
    );
    lab
}

/// Runs a task of three steps; its line has the keys of all tasks, and numbers that agree with each other.
#[track_caller]
fn line(lab: &Lab, task: &str, more: &[&str], tokens: f64) -> Value {
    let args = [&["bench", task, "--model", "model", "--steps", "3", "--threads", "2"], more].concat();
    let ran = lab.run(&args).ok();
    let lines = ran.json();
    assert_eq!(lines.len(), 1, "{ran:?}");
    let line = lines[0].clone();
    let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).take(KEYS.len()).collect();
    assert_eq!(keys, KEYS);
    assert_eq!((&line["pavlov"], &line["model"]), (&json!(task), &json!("model")));
    let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key}: {line}"));
    for key in ["step_s", "tokens_per_s", "gflop_per_step", "peak_gflops", "fork_us"] {
        assert!(number(key) > 0.0, "{key}: {line}");
    }
    // step_s is rounded to a tenth of a millisecond.
    let step = (number("step_s") - 6e-5).max(0.0)..number("step_s") + 6e-5;
    assert!(step.contains(&(tokens / number("tokens_per_s"))), "{line}");
    assert!((1e-6..1.0).contains(&number("share_of_peak")), "{line}");
    if cfg!(target_os = "linux") {
        assert!((5.0..4000.0).contains(&number("peak_rss_mib")), "{line}");
    }
    line
}

/// FLOPs of forward and backward of `length` tokens in each of `batch` sequences, `targets` of them scored: every
/// product with a weight, its two gradients, and attention to what came before.
fn training_flops(vocabulary: usize, batch: usize, length: usize, targets: usize) -> f64 {
    let (hidden, inner, key_values, layers) = (32, 64, 16, 2);
    let block = 2 * hidden * hidden + 2 * hidden * key_values + 3 * hidden * inner;
    let attended = length * (length + 1) / 2;
    let products = 2 * (batch * length * layers * block + targets * vocabulary * hidden);
    3.0 * (products + 4 * batch * attended * hidden * layers) as f64
}

#[test]
fn an_update_on_texts_is_counted_to_the_last_flop_and_its_profile_is_whole() {
    let lab = lab();
    let args = ["--data", "text.jsonl", "--batch", "3", "--length", "24", "--dtype", "f32", "--profile"];
    let line = line(&lab, "sft", &args, 72.0);
    assert_eq!((&line["batch"], &line["length"], &line["steps"]), (&json!(3), &json!(24), &json!(2)));
    let config = std::fs::read_to_string(lab.path("model").join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let vocabulary = config["vocab_size"].as_u64().unwrap() as usize;
    // The first token of a piece has nothing before it.
    let expected = training_flops(vocabulary, 3, 24, 3 * 23);
    let counted = line["gflop_per_step"].as_f64().unwrap() * 1e9;
    assert!((counted - expected).abs() <= 1000.0, "{counted} counted, {expected} expected");

    let profile = line["profile"].as_array().unwrap();
    let sum = |key: &str| profile.iter().filter_map(|row| row[key].as_f64()).sum::<f64>();
    assert!((sum("share") - 1.0).abs() < 1e-9, "{}", sum("share"));
    assert!((sum("flops") - expected).abs() < 1.0, "{}", sum("flops"));
    let row = |name: &str| {
        profile.iter().find(|row| row["operation"] == name).unwrap_or_else(|| panic!("{name}: {profile:?}"))
    };
    assert_eq!(row("head forward")["calls"], json!(1.0));
    // Every product has two gradients, and so has attention.
    for pair in [
        ["product forward", "product backward"],
        ["head forward", "head backward"],
        ["attention forward", "attention backward"],
    ] {
        let [forward, backward] = pair.map(|name| row(name)["flops"].as_f64().unwrap());
        assert!(forward > 0.0 && (backward - 2.0 * forward).abs() < 1.0, "{pair:?}: {forward} {backward}");
    }
    for name in ["norm forward", "attention backward", "optimizer", "packing"] {
        assert!(row(name)["seconds"].as_f64().unwrap() > 0.0, "{name}");
    }
    for row in profile.iter().filter(|row| row["operation"] != "rest") {
        let floor = row["floor_s"].as_f64().unwrap();
        let memory = row["bytes"].as_f64().unwrap() / (line["read_gb_per_s"].as_f64().unwrap() * 1e9);
        // Limits are rounded to 0.1.
        assert!(floor >= 0.9 * memory, "{row}");
    }
}

#[test]
fn an_adapter_costs_no_gradients_of_its_base() {
    let lab = lab();
    let args = ["--data", "text.jsonl", "--batch", "3", "--length", "24"];
    let whole = line(&lab, "sft", &args, 72.0);
    let adapter = line(&lab, "sft", &[&args[..], &["--lora", "1"]].concat(), 72.0);
    assert_eq!((&whole["lora"], &adapter["lora"]), (&json!(0), &json!(1)));
    let [whole, adapter] = [whole, adapter].map(|line| line["gflop_per_step"].as_f64().unwrap());
    assert!(adapter < 0.9 * whole, "{adapter} of {whole}");
}

#[test]
fn answers_are_as_long_as_asked_with_data_or_without() {
    let lab = lab();
    let args = ["--batch", "3", "--length", "7", "--prompt-length", "9"];
    let random = line(&lab, "generate", &args, 21.0);
    let read = line(&lab, "generate", &[&args[..], &["--data", "prompts.jsonl"]].concat(), 21.0);
    for line in [&random, &read] {
        let sizes = ["batch", "prompt_tokens", "new_tokens", "steps"].map(|key| line[key].as_u64().unwrap());
        assert_eq!(sizes, [3, 9, 7, 3]);
    }
    // The same work whatever the tokens are.
    assert_eq!(random["gflop_per_step"], read["gflop_per_step"]);
}

#[test]
fn learning_from_ones_own_answers_is_measured() {
    let lab = lab();
    let args = ["--data", "prompts.jsonl", "--batch", "8", "--group", "4", "--length", "6"];
    let short = line(&lab, "grpo", &args, 48.0);
    assert_eq!((&short["completions"], &short["group"]), (&json!(8), &json!(4)));
    assert_eq!((&short["completion_tokens"], &short["prompt_tokens"]), (&json!(6), &Value::Null));
    // Beyond the model's context, too: only the time is meant.
    let long = line(&lab, "grpo", &[&args[..], &["--prompt-length", "150"]].concat(), 48.0);
    assert_eq!(long["prompt_tokens"], json!(150));
    assert!(CONTEXT < 150 && long["gflop_per_step"].as_f64() > short["gflop_per_step"].as_f64());
}

#[test]
fn pairs_are_measured_by_both_losses() {
    let lab = lab();
    for task in ["reward", "dpo"] {
        let line = line(&lab, task, &["--data", "pairs.jsonl", "--batch", "4", "--length", "64"], 512.0);
        assert_eq!((&line["pairs"], &line["length"]), (&json!(4), &json!(64)));
    }
}

#[test]
fn products_are_measured_without_a_model_and_with_one() {
    let lab = lab();
    let ran = lab.run(&["bench", "matmul", "--dtype", "f32"]).ok();
    let bare = &ran.json()[0];
    assert!(bare["peak_gflops_f32"].as_f64().unwrap() > 0.1 && bare["read_gb_per_s"].as_f64().unwrap() > 0.1);
    assert_eq!(bare["peak_gflops_bf16"], Value::Null);
    let args = ["bench", "matmul", "--dtype", "f32", "--model", "model", "--batch", "2", "--length", "5"];
    let ran = lab.run(&args).ok();
    let products = ran.json()[0]["products"].as_array().unwrap().clone();
    assert!(products.iter().all(|product| product["gflops"].as_f64().unwrap() > 0.0));
    assert!(products.len() > bare["products"].as_array().unwrap().len());
    for rows in [10, 2] {
        assert!(products.iter().any(|product| product["shape"] == json!([rows, 64, 32])), "{products:?}");
    }
}

#[test]
fn what_cannot_be_measured_is_said_in_one_line() {
    let lab = lab();
    lab.rows("one.jsonl", &[json!({"text": "Ana is taller than Ben ."})]);
    let refused = |args: &[&str], parts: &[&str]| lab.run(&[&["bench"], args].concat()).fails(2, parts);
    refused(&["sft", "--model", "model"], &["--data is missing", "sft"]);
    refused(&["sft", "--data", "text.jsonl"], &["--model is missing", "sft"]);
    refused(&["sft", "--model", "model", "--data", "absent.jsonl"], &["absent.jsonl"]);
    refused(&["sft", "--model", "model", "--data", "one.jsonl"], &["one.jsonl", "fewer", "1024 tokens"]);
    refused(&["dpo", "--model", "model", "--data", "one.jsonl"], &["one.jsonl: row 1", "chosen"]);
    refused(&["reward", "--model", "model", "--data", "text.jsonl"], &["text.jsonl: row 1", "chosen"]);
    refused(&["generate", "--model", "absent"], &["absent"]);
    let odd = ["grpo", "--model", "model", "--data", "prompts.jsonl", "--batch", "9"];
    refused(&odd, &["--batch is 9", "--group, 8"]);
    let few = ["grpo", "--model", "model", "--data", "one.jsonl"];
    refused(&few, &["one.jsonl"]);
}
