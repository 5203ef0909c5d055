//! A tiny model over the words of micro-worlds, and a run of a loop on it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pavlov_engine::{Cpu, DecoderConfig, Dtype};
use pavlov_lm::{LanguageModel, ModelFiles};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value};
use pavlov_train::Result;
use pavlov_train::run::{Ending, Event, Host};

/// Two blocks of width 16.
pub(crate) fn config() -> DecoderConfig {
    let vocabulary = pavlov_worlds::vocabulary().len() + pavlov_worlds::SPECIALS.len();
    DecoderConfig {
        intermediate_size: 32,
        num_kv_heads: 1,
        max_positions: 128,
        ..DecoderConfig::llama(vocabulary, 16, 2, 2)
    }
}

/// Random weights.
pub(crate) fn model() -> LanguageModel {
    let (tokenizer, names) = (pavlov_worlds::tokenizer_json(), pavlov_worlds::special_names());
    let files = ModelFiles::new_llama(&config(), &tokenizer, &names, None).unwrap();
    LanguageModel::random(files, &Arc::new(Cpu::new(1)), Dtype::F32, 7).unwrap()
}

/// A question and its answer.
pub(crate) fn demonstration(prompt: &str, completion: &str) -> Row {
    Row::PromptCompletion { prompt: Text::from(prompt), completion: Text::from(completion) }
}

/// Questions and answers about who has what, learnable by heart.
pub(crate) fn demonstrations(n: usize) -> Vec<Row> {
    let names = ["Ana", "Ben", "Leo"];
    (0..n)
        .map(|i| {
            let (who, count) = (names[i % 3], i % 7);
            demonstration(
                &format!("{who} has {count} apples. How many apples?\n"),
                &format!("{who} has {count}."),
            )
        })
        .collect()
}

/// Runs a loop; stops it after update `stop_after`, if given. Returns the events.
pub(crate) fn host_run(
    stop_after: Option<u64>,
    run: impl FnOnce(&mut Host) -> Result<Ending>,
) -> (Result<Ending>, Vec<Event>) {
    let stop = AtomicBool::new(stop_after == Some(0));
    let mut seen = Vec::new();
    let mut events = |event: Event| {
        if let Event::Step { step, .. } = &event
            && Some(*step) == stop_after
        {
            stop.store(true, Ordering::Relaxed);
        }
        seen.push(event);
    };
    let ending = run(&mut Host { stop: &stop, events: &mut events, command: &[] });
    (ending, seen)
}

/// The lines of `metrics.jsonl` without what a clock measured.
pub(crate) fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
            line.retain(|key, _| !key.ends_with("_time"));
            line
        })
        .collect()
}

/// The numbers of one metric over the lines that have it.
pub(crate) fn curve(run: &Path, name: &str) -> Vec<f64> {
    metrics(run).iter().filter_map(|line| line.get(name)?.as_f64()).collect()
}

/// The bytes of a model's weights.
pub(crate) fn weights(model: &Path) -> Vec<u8> {
    std::fs::read(model.join("model.safetensors")).unwrap()
}
