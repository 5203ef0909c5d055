//! What was measured, as one line of JSON on stdout.

use anyhow::Result;
use pavlov_lm::LanguageModel;
use pavlov_schema::Map;
use serde_json::{Value, json};

use super::clock::Clock;
use super::limits::{Limits, fork, peak, read_bandwidth};
use super::profile::{show, total};
use super::{BenchArgs, dtype_name};
use crate::stdout;

/// Measures the machine's limits and writes the line of a task; `tokens` are those of a step, `sizes` its own keys.
pub(super) fn write(
    args: &BenchArgs,
    model: &LanguageModel,
    clock: Clock,
    tokens: usize,
    sizes: &[(&str, Value)],
) -> Result<()> {
    let (steps, peak_rss) = clock.finish();
    let (cpu, dtype) = (model.decoder.backend(), model.params.dtype());
    let bytes = args.profile.then(|| read_bandwidth(cpu));
    let limits = Limits { flops: peak(cpu, dtype), bytes, fork: fork(cpu) };
    let step_s = median(steps.iter().map(|step| step.seconds));
    let flops = |records| total(records).flops as f64;
    let name = args.model.as_deref().and_then(|folder| folder.file_name()).unwrap_or_default();
    let mut line = Map::from_iter([
        ("pavlov".to_owned(), json!(args.task.name())),
        ("model".to_owned(), json!(name.to_string_lossy())),
        ("dtype".to_owned(), json!(dtype_name(dtype))),
        ("compile".to_owned(), json!(false)),
        ("lora".to_owned(), json!(args.lora)),
        ("step_s".to_owned(), rounded(step_s, 4)),
        ("tokens_per_s".to_owned(), rounded(tokens as f64 / step_s, 1)),
        ("peak_rss_mib".to_owned(), json!(peak_rss.map(|bytes| bytes >> 20))),
    ]);
    line.extend(sizes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let (work, rate) = (
        median(steps.iter().map(|step| flops(&step.records))),
        median(steps.iter().map(|step| flops(&step.records) / step.seconds)),
    );
    line.extend([
        ("steps".to_owned(), json!(steps.len())),
        ("threads".to_owned(), json!(cpu.threads())),
        ("gflop_per_step".to_owned(), rounded(work / 1e9, 6)),
        ("peak_gflops".to_owned(), rounded(limits.flops / 1e9, 1)),
        ("share_of_peak".to_owned(), rounded(rate / limits.flops, 4)),
        ("fork_us".to_owned(), rounded(limits.fork * 1e6, 2)),
    ]);
    if let Some(bytes) = limits.bytes {
        line.insert("read_gb_per_s".to_owned(), rounded(bytes / 1e9, 1));
        line.insert("profile".to_owned(), show(&steps, limits));
    }
    stdout::json(&line)
}

/// The upper median, as the peers' script takes it.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A number of a line, with so many digits after the point.
pub(super) fn rounded(x: f64, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    json!((x * scale).round() / scale)
}
