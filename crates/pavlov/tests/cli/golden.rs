//! `pavlov logprobs` against what PyTorch computed (scripts/golden/parity.py).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::lab::Lab;

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov-lm/tests/golden").join(case)
}

/// A tensor of fixture.safetensors, as four-byte words.
fn words(bytes: &[u8], name: &str) -> Vec<[u8; 4]> {
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let place = |i: usize| start + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    bytes[place(0)..place(1)].chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
}

/// The largest distance of the program's log-probabilities from PyTorch's, in nats.
fn distance(case: &str, dtype: &str, tensor: &str) -> f64 {
    let lab = Lab::new();
    let fixture = fs::read(folder(case).join("fixture.safetensors")).unwrap();
    let rows: Vec<Value> = (0..3)
        .map(|i| words(&fixture, &format!("tokens.{i}")))
        .map(|ids| json!({"input_ids": ids.into_iter().map(u32::from_le_bytes).collect::<Vec<_>>()}))
        .collect();
    lab.rows("rows.jsonl", &rows);
    let model = folder(case);
    let model = model.to_str().unwrap();
    let args = ["logprobs", "--model", model, "--data", "rows.jsonl", "--dtype", dtype, "--json"];
    let lines = lab.run(&args).ok().json();
    assert_eq!(lines.len(), rows.len());
    let mut largest: f64 = 0.0;
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["tokens"], rows[i]["input_ids"]);
        let expected = words(&fixture, &format!("{tensor}.{i}"));
        let logprobs = line["logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), expected.len() + 1);
        for (given, expected) in logprobs[1..].iter().zip(expected) {
            largest = largest.max((given.as_f64().unwrap() - f64::from(f32::from_le_bytes(expected))).abs());
        }
    }
    largest
}

#[test]
fn log_probabilities_are_those_of_pytorch() {
    for case in ["llama", "mistral", "qwen3", "gpt2"] {
        let f32 = distance(case, "f32", "logp");
        assert!(f32 < 5e-5, "{case}: {f32}");
    }
    let bf16 = distance("llama", "bf16", "bf16_logp");
    assert!(bf16 > 0.0 && bf16 < 0.1, "{bf16}");
}
