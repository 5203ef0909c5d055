//! Bad input: one clear line, and the right exit code.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{CONTEXT, Lab, demonstrations};

fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut object = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut object);
    fs::write(path, serde_json::to_vec(&object).unwrap()).unwrap();
}

/// Whatever loads a model says the same of a broken one.
#[track_caller]
fn refused(lab: &Lab, model: &str, parts: &[&str]) {
    lab.rows("prompts.jsonl", &demonstrations(2));
    lab.run(&["sample", "--model", model, "--prompt", "Where is Ana ?"]).fails(2, parts);
    lab.run(&["logprobs", "--model", model, "--data", "prompts.jsonl", "--json"]).fails(2, parts);
    let (model, output) = (format!("model={model}"), format!("output_dir=run-{model}"));
    lab.run(&["sft", "--set", &model, "--set", "data=prompts.jsonl", "--set", &output]).fails(2, parts);
}

#[test]
fn a_truncated_checkpoint() {
    let lab = Lab::new();
    let file = lab.copy_of_model("cut").join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused(&lab, "cut", &["cut/model.safetensors"]);
    fs::write(&file, &bytes[..5]).unwrap();
    refused(&lab, "cut", &["cut/model.safetensors"]);
}

#[test]
fn wrong_shapes() {
    let lab = Lab::new();
    let folder = lab.copy_of_model("bent");
    edit_json(&folder.join("config.json"), |config| {
        config.insert("intermediate_size".into(), json!(72));
    });
    refused(&lab, "bent", &["bent/model.safetensors", "mlp."]);
}

#[test]
fn a_configuration_without_a_key_or_of_an_unknown_family() {
    let lab = Lab::new();
    let folder = lab.copy_of_model("bare");
    edit_json(&folder.join("config.json"), |config| {
        config.shift_remove("hidden_size");
    });
    refused(&lab, "bare", &["bare/config.json", "hidden_size"]);
    edit_json(&folder.join("config.json"), |config| {
        config.insert("model_type".into(), json!("mamba"));
        config.insert("architectures".into(), json!(["MambaForCausalLM"]));
    });
    refused(&lab, "bare", &["bare/config.json", "amba"]);
}

#[test]
fn a_missing_tokenizer_and_a_missing_folder() {
    let lab = Lab::new();
    fs::remove_file(lab.copy_of_model("mute").join("tokenizer.json")).unwrap();
    refused(&lab, "mute", &["mute/tokenizer.json", "no tokenizer"]);
    refused(&lab, "nowhere", &["nowhere", "no such folder"]);
}

/// Sets the last number of a file of f32 weights.
fn poison(file: &Path, number: f32) {
    let mut bytes = fs::read(file).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&number.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn weights_that_are_not_numbers() {
    let lab = Lab::new();
    for number in [f32::NAN, f32::INFINITY] {
        let name = format!("poison-{number}");
        poison(&lab.copy_of_model(&name).join("model.safetensors"), number);
        refused(&lab, &name, &["model.safetensors: tensor lm_head.weight: number ", &format!("is {number}")]);
        assert!(!lab.path(&format!("run-{name}")).exists(), "nothing is written for a model that is broken");
    }
}

#[test]
fn a_malformed_line_has_its_number() {
    let lab = Lab::new();
    lab.file("rows.jsonl", "{\"text\": \"Ana\"}\n\n{\"text\": \"Ben\"\n{\"text\": 3}\n");
    let wrong = ["rows.jsonl:3", "not JSON"];
    lab.run(&["logprobs", "--model", "model", "--data", "rows.jsonl", "--json"]).fails(2, &wrong);
    let args = ["sft", "--set", "model=model", "--set", "data=rows.jsonl", "--set", "output_dir=run"];
    lab.run(&args).fails(2, &wrong);
    lab.file("rows.jsonl", "{\"text\": \"Ana\"}\n{\"text\": 3}\n");
    lab.run(&args).fails(2, &["rows.jsonl:2", "`text` is a number"]);
    lab.run(&["sample", "--model", "model", "--data", "rows.jsonl"]).fails(2, &["rows.jsonl:1", "prompt"]);
    lab.run(&["logprobs", "--model", "model", "--data", "none.jsonl"])
        .fails(2, &["none.jsonl", "cannot open"]);
}

#[test]
fn damaged_parquet_is_one_line_also_where_its_reader_panics() {
    let lab = Lab::new();
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov-schema/tests/data/preference.parquet");
    let mut bytes = fs::read(whole).unwrap();
    // A byte of a page on which the reader asserts.
    bytes[1017] ^= 0x55;
    fs::write(lab.path("rows.parquet"), bytes).unwrap();
    let ran = lab.run(&["sample", "--model", "model", "--data", "rows.parquet"]);
    ran.fails(2, &["rows.parquet", "cannot be read as Parquet", "contradict"]);
}

#[test]
fn prompts_that_are_empty_or_too_long() {
    let lab = Lab::new();
    let long = "Ana ".repeat(CONTEXT);
    let sample = ["sample", "--model", "model"];
    lab.run(&[&sample[..], &["--prompt", ""]].concat()).fails(2, &["--prompt", "empty"]);
    lab.run(&[&sample[..], &["--prompt", &long]].concat())
        .fails(2, &["--prompt", "128 tokens", "context of 128"]);
    lab.rows("prompts.jsonl", &[json!({"prompt": "Ana"}), json!({"prompt": ""})]);
    lab.run(&[&sample[..], &["--data", "prompts.jsonl"]].concat()).fails(2, &["prompts.jsonl:2", "empty"]);
    lab.rows("prompts.jsonl", &[json!({"prompt": long})]);
    lab.run(&[&sample[..], &["--data", "prompts.jsonl"]].concat())
        .fails(2, &["prompts.jsonl: row 1", "128 tokens"]);
    lab.rows("long.jsonl", &[json!({"text": "Ana ".repeat(CONTEXT + 1)})]);
    lab.run(&["logprobs", "--model", "model", "--data", "long.jsonl"])
        .fails(2, &["long.jsonl: row 1", "129 tokens"]);
    lab.rows("ids.jsonl", &[json!({"input_ids": [1, 99_999]})]);
    lab.run(&["logprobs", "--model", "model", "--data", "ids.jsonl"])
        .fails(2, &["ids.jsonl: row 1", "token 99999"]);
}

#[test]
fn settings_that_are_wrong_are_named() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(2));
    lab.file("run.toml", "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\n");
    let sft = |settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        lab.run(&[&["sft", "run.toml"], &settings[..]].concat())
    };
    sft(&["learnin_rate=1"]).fails(2, &["learnin_rate", "learning_rate meant?"]);
    sft(&["learning_rate=fast"]).fails(2, &["learning_rate", "invalid type"]);
    sft(&["learning_rate"]).fails(2, &["learning_rate", "key=value"]);
    sft(&["learning_rate=-1"]).fails(2, &["learning_rate", "is -1"]);
    sft(&["max_length=1"]).fails(2, &["max_length", "at least 2"]);
    sft(&["eval_data=none.jsonl"]).fails(2, &["none.jsonl", "cannot open"]);
    lab.file("broken.toml", "model = \"model\"\ndata = = 3\n");
    lab.run(&["sft", "broken.toml"]).fails(2, &["broken.toml:2"]);
    lab.run(&["sft", "none.toml"]).fails(2, &["none.toml", "cannot read"]);
    lab.run(&["sft", "--set", "data=rows.jsonl"]).fails(2, &["model", "missing"]);
    assert!(!lab.path("run").exists(), "nothing is written before the settings are right");
}

#[test]
fn usage_is_told_with_code_2() {
    let lab = Lab::new();
    for args in [&["teach"][..], &["sample", "--model", "model"], &["logprobs"], &[]] {
        let ran = lab.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}: {ran:?}");
    }
    let ran = lab.run(&["sample", "--model", "model", "--prompt", "Ana", "--top-p", "0"]);
    assert!(ran.code == Some(2) && ran.err.contains("--top-p") && ran.err.contains("above 0"), "{ran:?}");
}

#[test]
fn a_full_stdout_is_told() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(1));
    let mut command = lab.command(&["logprobs", "--model", "model", "--data", "rows.jsonl", "--json"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = crate::lab::Ran::of(command.stdout(full).output().unwrap());
    ran.fails(1, &["cannot write to stdout"]);
}
