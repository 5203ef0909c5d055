//! Folders and tokenizers that tests write themselves.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pavlov_engine::{DecoderConfig, ParameterSpec};
use pavlov_lm::{Checkpoint, Family};
use serde_json::{Value, json};

/// A folder of the fixtures made by scripts/golden/parity.py.
pub(crate) fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

/// Every parameter of a folder by the engine's name.
pub(crate) fn parameters(
    folder: &Path,
    config: &DecoderConfig,
    family: Family,
) -> pavlov_lm::Result<BTreeMap<String, Vec<f32>>> {
    let mut parameters = BTreeMap::new();
    Checkpoint::open(folder)?.read_parameters(
        config,
        family,
        &mut |spec: &ParameterSpec, numbers: &[f32]| {
            parameters.insert(spec.name.clone(), numbers.to_vec());
            Ok(())
        },
    )?;
    Ok(parameters)
}

/// A safetensors file of f32 tensors.
pub(crate) fn safetensors(tensors: &[(&str, &[usize], Vec<f32>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, numbers) in tensors {
        let start = data.len();
        data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        let info = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), info);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// The characters that stand for the 256 bytes in byte-level tokenizers.
fn byte_characters() -> Vec<char> {
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut next = 256;
    (0..256)
        .map(|b| {
            let code = if printable(b) {
                b
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap()
        })
        .collect()
}

pub(crate) const BOS: u32 = 256;
pub(crate) const EOS: u32 = 257;
pub(crate) const START: u32 = 258;
pub(crate) const END: u32 = 259;

/// A byte-level tokenizer: token b is byte b, then `<s>`, `</s>`, `<|im_start|>`, `<|im_end|>`, then the merges
/// " a" (260) and "\n\n" (261). It puts `<s>` before a text if `add_bos`.
pub(crate) fn tokenizer_json(add_bos: bool) -> String {
    let bytes = byte_characters();
    let mut vocab: serde_json::Map<String, Value> =
        bytes.iter().enumerate().map(|(b, c)| (c.to_string(), Value::from(b))).collect();
    let (space, line) = (bytes[usize::from(b' ')], bytes[usize::from(b'\n')]);
    vocab.insert(format!("{space}a"), 260.into());
    vocab.insert(format!("{line}{line}"), 261.into());
    let specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let added: Vec<Value> = specials
        .iter()
        .enumerate()
        .map(|(i, text)| {
            json!({"id": 256 + i, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    for (i, text) in specials.iter().enumerate() {
        vocab.insert((*text).to_owned(), (256 + i).into());
    }
    let post = if add_bos {
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
               {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
               "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}})
    } else {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
    };
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": [format!("{space} a"), format!("{line} {line}")]}
    })
    .to_string()
}
