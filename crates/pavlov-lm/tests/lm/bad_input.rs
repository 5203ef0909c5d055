//! Damaged or foreign folders end in one line that names the file, the tensor or key, and the mend.

use std::fs;
use std::path::Path;

use crate::common::{golden, parameters, safetensors};
use pavlov_lm::{HfConfig, ModelFiles};
use serde_json::{Value, json};

/// A copy of a fixture.
fn copy(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden(case)).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with("fixture") {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// The one-line error of reading a folder's weights, which names every one of `parts`.
fn refused(folder: &Path, parts: &[&str]) {
    let error = HfConfig::read(folder)
        .and_then(|config| parameters(folder, &config.decoder, config.family))
        .expect_err(&format!("{parts:?}"))
        .to_string();
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

fn change_config(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let file = folder.join("config.json");
    let mut json: serde_json::Map<String, Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut json);
    fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
}

#[test]
fn damaged_weights_are_named() {
    let folder = copy("llama");
    let file = folder.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    for cut in [0, 7, 8, 100, whole.len() - 1] {
        fs::write(&file, &whole[..cut]).unwrap();
        refused(folder.path(), &["model.safetensors", &format!("it has {cut} bytes"), "fetch it again"]);
    }
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&file, &huge).unwrap();
    refused(folder.path(), &["model.safetensors", "header of 18446744073709551615"]);
    fs::write(&file, [&4u64.to_le_bytes()[..], b"{\"a\""].concat()).unwrap();
    refused(folder.path(), &["its header is wrong"]);
    // Offsets that overlap, or a size that is not the shape's, would read other tensors' bytes.
    for header in [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,4]}}"#,
    ] {
        fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat())
            .unwrap();
        refused(folder.path(), &["its header is wrong"]);
    }
    fs::remove_file(&file).unwrap();
    refused(folder.path(), &["neither model.safetensors nor"]);
}

/// A one-layer Llama of width 2 whose tensors a test changes.
fn tiny(change: impl FnOnce(&mut Vec<(&'static str, Vec<usize>, Vec<f32>)>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"architectures": ["LlamaForCausalLM"], "vocab_size": 3, "hidden_size": 2, "intermediate_size": 1,
        "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 8, "tie_word_embeddings": true});
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let layer = [
        ("model.layers.0.input_layernorm.weight", vec![2]),
        ("model.layers.0.self_attn.q_proj.weight", vec![2, 2]),
        ("model.layers.0.self_attn.k_proj.weight", vec![2, 2]),
        ("model.layers.0.self_attn.v_proj.weight", vec![2, 2]),
        ("model.layers.0.self_attn.o_proj.weight", vec![2, 2]),
        ("model.layers.0.post_attention_layernorm.weight", vec![2]),
        ("model.layers.0.mlp.gate_proj.weight", vec![1, 2]),
        ("model.layers.0.mlp.up_proj.weight", vec![1, 2]),
        ("model.layers.0.mlp.down_proj.weight", vec![2, 1]),
        ("model.norm.weight", vec![2]),
        ("model.embed_tokens.weight", vec![3, 2]),
    ];
    let mut tensors: Vec<_> = layer
        .into_iter()
        .map(|(name, shape)| {
            let len = shape.iter().product();
            (name, shape, (0..len).map(|i| i as f32).collect())
        })
        .collect();
    change(&mut tensors);
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, x)| (*name, shape.as_slice(), x.clone())).collect();
    fs::write(folder.path().join("model.safetensors"), safetensors(&tensors)).unwrap();
    folder
}

#[test]
fn wrong_tensors_are_named() {
    let read = |folder: &tempfile::TempDir| {
        let config = HfConfig::read(folder.path()).unwrap();
        parameters(folder.path(), &config.decoder, config.family)
    };
    assert_eq!(read(&tiny(|_| ())).unwrap()["model.embed_tokens.weight"], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    refused(tiny(|t| t[1].1 = vec![4, 1]).path(), &["self_attn.q_proj.weight", "[4, 1]", "[2, 2]"]);
    refused(tiny(|t| drop(t.remove(4))).path(), &["o_proj.weight", "missing"]);
    refused(
        tiny(|t| t[2].2[3] = f32::NAN).path(),
        &["model.safetensors", "k_proj.weight", "number 3 is NaN"],
    );
    refused(tiny(|t| t[0].2[0] = f32::INFINITY).path(), &["input_layernorm", "inf"]);
    refused(
        tiny(|t| t.push(("model.extra.weight", vec![1], vec![0.0]))).path(),
        &["model.extra.weight", "no parameter"],
    );
    let tied = |head: Vec<f32>| tiny(|t| t.push(("lm_head.weight", vec![3, 2], head)));
    assert!(read(&tied((0..6).map(|i| i as f32).collect())).is_ok());
    refused(tied(vec![1.0; 6]).path(), &["lm_head.weight", "tie_word_embeddings"]);
    let buffer = tiny(|t| t.push(("model.layers.0.self_attn.rotary_emb.inv_freq", vec![1], vec![1.0])));
    assert!(read(&buffer).is_ok());
    let bare = tiny(|t| t.iter_mut().for_each(|tensor| tensor.0 = tensor.0.strip_prefix("model.").unwrap()));
    assert_eq!(read(&bare).unwrap(), read(&tiny(|_| ())).unwrap());
}

#[test]
fn wrong_indexes_are_named() {
    let index = "model.safetensors.index.json";
    let folder = copy("smollm2");
    let file = folder.path().join(index);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("model-00001", "../model-00001", 1)).unwrap();
    refused(folder.path(), &[index, "weight_map"]);
    fs::write(
        &file,
        text.replacen("weight_map\": {", "weight_map\": {\"x\": \"model-00001-of-00004.safetensors\",", 1),
    )
    .unwrap();
    refused(folder.path(), &[index, "tensor x is in no file"]);
    fs::write(&file, "[]").unwrap();
    refused(folder.path(), &[index, "not a JSON object"]);
    fs::write(&file, &text).unwrap();
    fs::remove_file(folder.path().join("model-00003-of-00004.safetensors")).unwrap();
    refused(folder.path(), &["model-00003-of-00004.safetensors", "missing"]);
}

#[test]
fn wrong_configurations_name_the_key() {
    let changes: [(&str, &str, Value, &str); 22] = [
        ("llama", "architectures", json!(["FalconForCausalLM"]), "\"FalconForCausalLM\" is not supported"),
        ("llama", "architectures", json!(7), "not supported"),
        ("llama", "hidden_act", json!("relu"), "activation \"relu\""),
        ("llama", "hidden_size", json!(null), "missing"),
        ("llama", "hidden_size", json!("x"), "whole number"),
        ("llama", "num_attention_heads", json!(0), "whole number"),
        ("llama", "num_key_value_heads", json!(3), "num_kv_heads (3)"),
        ("llama", "vocab_size", json!(2_000_000_000), "2^31"),
        ("llama", "num_hidden_layers", json!(1_000_000_000), "1000000000 layers"),
        ("llama", "head_dim", json!(7), "head_dim is 7"),
        ("llama", "rms_norm_eps", json!(-1.0), "number from 0"),
        ("llama", "tie_word_embeddings", json!("yes"), "true or false"),
        ("llama", "rope_parameters", json!({"rope_type": "yarn"}), "\"yarn\" is not supported"),
        ("llama", "rope_parameters", json!({"rope_type": "llama3", "factor": 8.0}), "low_freq_factor"),
        ("llama", "rope_parameters", json!({"full_attention": {"rope_theta": 1.0}}), "full_attention"),
        ("llama", "rope_parameters", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ("llama", "quantization_config", json!({"bits": 4}), "quantized"),
        ("gpt2", "n_head", json!(7), "not a multiple of n_head"),
        ("gpt2", "activation_function", json!("gelu"), "\"gelu\" is not supported"),
        ("gpt2", "scale_attn_weights", json!(false), "only true is supported"),
        ("qwen3-window", "layer_types", json!(["full_attention"]), "each of the 3 layers"),
        ("reward-qwen3", "id2label", json!({}), "between 1 and"),
    ];
    for (case, key, value, part) in changes {
        let folder = copy(case);
        change_config(folder.path(), |json| drop(json.insert(key.to_owned(), value.clone())));
        refused(folder.path(), &["config.json", part]);
    }
    let folder = copy("llama");
    fs::write(folder.path().join("config.json"), "{").unwrap();
    refused(folder.path(), &["config.json", "not a JSON object"]);
    fs::remove_file(folder.path().join("config.json")).unwrap();
    refused(folder.path(), &["config.json", "no such file"]);
}

#[test]
fn missing_and_broken_tokenizers_and_templates_are_named() {
    let says = |folder: &Path, parts: &[&str]| {
        let error = ModelFiles::load(folder).map(|_| ()).expect_err(parts[0]).to_string();
        assert!(!error.contains('\n'), "{error}");
        for part in parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    };
    let folder = copy("llama");
    let file = folder.path().join("tokenizer.json");
    for broken in ["", "[1]", "{}", r#"{"model": {"type": "BPE", "vocab": 3}}"#] {
        fs::write(&file, broken).unwrap();
        says(folder.path(), &["tokenizer.json", "fetch the file again"]);
    }
    fs::remove_file(&file).unwrap();
    says(folder.path(), &["tokenizer.json", "there is no tokenizer"]);
    let folder = copy("llama");
    fs::write(folder.path().join("chat_template.jinja"), "{% for m in messages %}").unwrap();
    says(folder.path(), &["chat_template.jinja", "chat template", "correct or remove"]);
    says(Path::new("no-such/model"), &["no such folder", "hf download no-such/model"]);
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let folder = tiny(|_| ());
    let config = HfConfig::read(folder.path()).unwrap();
    let file = folder.path().join("model.safetensors");
    let before = fs::read(&file).unwrap();
    let save = |x: f32, dtype| {
        let get = |spec: &pavlov_engine::ParameterSpec| Ok(vec![x; spec.len()]);
        pavlov_lm::save_parameters(folder.path(), &config.decoder, config.family, dtype, 1 << 20, &get)
    };
    let error = save(f32::NAN, pavlov_lm::SaveDtype::F32).unwrap_err().to_string();
    assert!(error.contains("model.embed_tokens.weight") && error.contains("not finite"), "{error}");
    let error = save(1e5, pavlov_lm::SaveDtype::F16).unwrap_err().to_string();
    assert!(error.contains("65504"), "{error}");
    // The checkpoint that was there is whole, and nothing else was left.
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
