//! Folders that transformers wrote are read tensor by tensor, and what is written is read back.

use crate::common;
use std::collections::BTreeMap;
use std::fs;

use crate::common::{golden, parameters};
use pavlov_engine::{Activation, NormKind, Position};
use pavlov_lm::{Family, HfConfig, ModelFiles, SHARD_BYTES, SaveDtype, save_parameters};

const CASES: [&str; 15] = [
    "gpt2",
    "gpt2-hub",
    "llama",
    "llama-bias",
    "llama-mqa",
    "llama-tied",
    "llama3-rope",
    "mistral",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "qwen3-window",
    "reward-llama",
    "reward-qwen3",
    "smollm2",
];

fn save(
    folder: &std::path::Path,
    config: &HfConfig,
    dtype: SaveDtype,
    shard_bytes: usize,
    numbers: &BTreeMap<String, Vec<f32>>,
) -> pavlov_lm::Result<()> {
    save_parameters(folder, &config.decoder, config.family, dtype, shard_bytes, &|spec| {
        Ok(numbers[&spec.name].clone())
    })
}

#[test]
fn every_family_survives_a_round_trip() {
    for case in CASES {
        let files = ModelFiles::load(&golden(case)).unwrap();
        let config = &files.config;
        let numbers = parameters(&golden(case), &config.decoder, config.family).unwrap();
        assert_eq!(numbers.len(), config.decoder.parameters().len(), "{case}");
        let out = tempfile::tempdir().unwrap();
        // Saving over an earlier save of the other kind must not leave its index or its single file to be read.
        for shard_bytes in [SHARD_BYTES, 4000, SHARD_BYTES] {
            save(out.path(), config, SaveDtype::F32, shard_bytes, &numbers).unwrap();
            let index = out.path().join("model.safetensors.index.json").exists();
            assert_eq!(
                (index, !index),
                (shard_bytes == 4000, out.path().join("model.safetensors").exists()),
                "{case}"
            );
            files.save(out.path(), SaveDtype::F32).unwrap();
            let again = ModelFiles::load(out.path()).unwrap();
            assert_eq!(again.config.decoder, config.decoder, "{case}");
            assert_eq!(again.tokenizer.stops(), files.tokenizer.stops(), "{case}");
            assert_eq!(
                parameters(out.path(), &again.config.decoder, again.config.family).unwrap(),
                numbers,
                "{case}"
            );
        }
        for (dtype, error) in [(SaveDtype::Bf16, 2f32.powi(-8)), (SaveDtype::F16, 2f32.powi(-11))] {
            let out = tempfile::tempdir().unwrap();
            save(out.path(), config, dtype, SHARD_BYTES, &numbers).unwrap();
            for (name, rounded) in parameters(out.path(), &config.decoder, config.family).unwrap() {
                for (a, b) in rounded.iter().zip(&numbers[&name]) {
                    // 2^-24 is the smallest step of f16.
                    assert!((a - b).abs() <= b.abs() * error + 2f32.powi(-24), "{case} {name}: {a} for {b}");
                }
            }
        }
    }
}

#[test]
fn saved_files_have_the_tensors_of_transformers() {
    for case in ["gpt2", "llama-tied", "qwen3", "reward-llama"] {
        let config = HfConfig::read(&golden(case)).unwrap();
        let numbers = parameters(&golden(case), &config.decoder, config.family).unwrap();
        let out = tempfile::tempdir().unwrap();
        save(out.path(), &config, SaveDtype::F32, SHARD_BYTES, &numbers).unwrap();
        let (theirs, ours) = [golden(case), out.path().to_owned()]
            .map(|folder| pavlov_lm::Checkpoint::open(&folder).unwrap())
            .into();
        assert_eq!(theirs.names().collect::<Vec<_>>(), ours.names().collect::<Vec<_>>());
        for name in theirs.names() {
            assert_eq!(theirs.read(name).unwrap(), ours.read(name).unwrap(), "{case} {name}");
        }
        let header = fs::read(out.path().join("model.safetensors")).unwrap();
        assert!(String::from_utf8_lossy(&header[8..80]).contains(r#""__metadata__":{"format":"pt"}"#));
    }
}

#[test]
fn configurations_are_read_as_transformers_reads_them() {
    let read = |case: &str| HfConfig::read(&golden(case)).unwrap();
    let llama3 = read("llama3-rope").decoder;
    let Position::Rotary { theta, scaling: Some(scaling) } = llama3.position else { panic!("no scaling") };
    assert_eq!(
        (theta, scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor),
        (1e4, 8.0, 1.0, 4.0)
    );
    assert_eq!((scaling.original_max_positions, llama3.head_dim, llama3.num_kv_heads), (32, 16, 1));
    let window = read("qwen3-window").decoder;
    assert_eq!(window.windows, [None, Some(6), None]);
    assert!(window.qk_norm && !window.attention_bias);
    let qwen2 = read("qwen2").decoder;
    assert!(qwen2.attention_bias && !qwen2.output_bias && qwen2.windows.iter().all(Option::is_none));
    let bias = read("llama-bias").decoder;
    assert!(bias.attention_bias && bias.output_bias && bias.mlp_bias);
    assert!(read("mistral").decoder.windows.iter().all(Option::is_some));
    let gpt2 = read("gpt2-hub");
    assert_eq!(gpt2.family, Family::Gpt2);
    assert_eq!((gpt2.decoder.norm, gpt2.decoder.activation), (NormKind::Layer, Activation::GeluTanh));
    assert_eq!(
        (gpt2.decoder.intermediate_size, gpt2.decoder.tie_embeddings, gpt2.decoder.gated_mlp),
        (80, true, false)
    );
    let reward = read("reward-qwen3").decoder;
    assert_eq!((reward.language_head, reward.scalar_outputs), (false, 1));
}

#[test]
fn a_scalar_head_changes_what_it_must_in_the_configuration() {
    let files = ModelFiles::load(&golden("llama")).unwrap();
    let stops = files.tokenizer.stops().to_vec();
    let files = files.with_scalar_head(1).unwrap();
    let json = files.config.to_json("bfloat16");
    assert_eq!(json["architectures"], serde_json::json!(["LlamaForSequenceClassification"]));
    assert_eq!(json["id2label"], serde_json::json!({"0": "LABEL_0"}));
    assert_eq!(json["num_labels"], 1);
    assert_eq!(json["problem_type"], "regression");
    assert_eq!(json["torch_dtype"], "bfloat16");
    let pad = json["pad_token_id"].as_u64().unwrap() as u32;
    assert!(!stops.contains(&pad));
    assert_eq!(files.scored_position(&[5, 6, stops[0], pad, pad]), 2);
    let out = tempfile::tempdir().unwrap();
    files.save(out.path(), SaveDtype::Bf16).unwrap();
    let again = HfConfig::read(out.path()).unwrap();
    assert_eq!((again.decoder.language_head, again.decoder.scalar_outputs), (false, 1));
    assert_eq!(again.decoder, files.config.decoder);
}

#[test]
fn a_new_llama_is_a_complete_folder() {
    let decoder =
        pavlov_engine::DecoderConfig { vocab_size: 300, ..HfConfig::read(&golden("llama")).unwrap().decoder };
    let specials = [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<s>")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let files =
        ModelFiles::new_llama(&decoder, &common::tokenizer_json(true), &specials, Some(template)).unwrap();
    assert_eq!(files.tokenizer.stops(), [common::EOS, common::END]);
    let out = tempfile::tempdir().unwrap();
    files.save(out.path(), SaveDtype::F32).unwrap();
    let again = ModelFiles::load(out.path()).unwrap();
    assert_eq!(again.config.decoder, decoder);
    assert_eq!(again.tokenizer.stops(), [common::EOS, common::END]);
    assert_eq!(again.template.unwrap().source(), template);
    assert!(
        ModelFiles::new_llama(
            &pavlov_engine::DecoderConfig { vocab_size: 261, ..decoder },
            &common::tokenizer_json(true),
            &specials,
            None
        )
        .is_err()
    );
}
