//! A decoder small enough to enumerate its answers, and a language model over eight words.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use pavlov_engine::{Cpu, Decoder, DecoderConfig, Dtype, Parameters};
use pavlov_lm::{LanguageModel, ModelFiles};
use pavlov_schema::Map;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_train::loops::rl::Prompts;
use pavlov_train::stage::rollout::EncodedPrompt;

/// Number of token ids.
pub(crate) const VOCABULARY: usize = 4;

/// One block, width 8, four tokens.
pub(crate) fn config() -> DecoderConfig {
    DecoderConfig {
        intermediate_size: 16,
        num_kv_heads: 1,
        max_positions: 16,
        ..DecoderConfig::llama(VOCABULARY, 8, 1, 2)
    }
}

/// The decoder on one thread.
pub(crate) fn decoder() -> Decoder {
    Decoder::new(Arc::new(Cpu::new(1)), config()).unwrap()
}

/// Weights whose distributions are far from uniform.
pub(crate) fn parameters(decoder: &Decoder, size: f32) -> Parameters {
    let mut params = Parameters::zeros(decoder, Dtype::F32);
    params.init(3);
    let specs: Vec<_> = params.specs().cloned().collect();
    for spec in specs.iter().filter(|spec| spec.rows > 1) {
        // The engine's deviation of 0.02 times 20 makes activations of about one.
        let weights: Vec<f32> = params.get(&spec.name).unwrap().iter().map(|w| 20.0 * size * w).collect();
        params.set(&spec.name, &weights).unwrap();
    }
    params
}

/// The prompt of every answer.
pub(crate) fn prompt() -> Vec<u32> {
    vec![1, 3]
}

/// The same as a run has it.
pub(crate) fn encoded_prompt() -> EncodedPrompt {
    EncodedPrompt { id: "0".into(), index: 0, text: "1 3".into(), tokens: prompt() }
}

/// The end token, an unknown word, and six words.
pub(crate) const WORDS: [&str; 8] = ["<end>", "<unk>", "a", "b", "c", "d", "e", "f"];

/// A language model over [`WORDS`] with random weights.
pub(crate) fn model(seed: u64, max_positions: usize, dtype: Dtype) -> LanguageModel {
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let special = |id: usize| {
        serde_json::json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true})
    };
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0), special(1)],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    let specials = BTreeMap::from([("eos_token".to_owned(), "<end>".to_owned())]);
    let decoder = DecoderConfig { vocab_size: WORDS.len(), max_positions, ..config() };
    let files = ModelFiles::new_llama(&decoder, &tokenizer.to_string(), &specials, None).unwrap();
    LanguageModel::random(files, &Arc::new(Cpu::new(1)), dtype, seed).unwrap()
}

/// Prompts of one or two words.
pub(crate) fn prompts(n: usize) -> Prompts {
    let word = |i: usize| WORDS[2 + i % 6];
    let prompt = |i: usize| Prompt {
        id: format!("p{i}"),
        prompt: Text::Plain(if i < 6 { word(i).to_owned() } else { format!("{} {}", word(i), word(i / 6)) }),
        columns: Map::new(),
    };
    Prompts { prompts: (0..n).map(prompt).collect(), ..Prompts::default() }
}
