//! What was measured: one line of JSON on stdout, and a table of operations on stderr.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use pavlov_engine::profile::{Kind, Operation, Record};
use pavlov_lm::LanguageModel;
use pavlov_schema::Map;
use serde_json::{Value, json};

use super::clock::{Clock, Step};
use super::limits::{Limits, peak, read_bandwidth};
use super::{BenchArgs, dtype_name};
use crate::{screen, stdout};

/// What is not in any operation of the device: tokens to text, packing, losses, the host's files, waiting.
const HOST: &str = "host";

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
    let limits = Limits { flops: peak(cpu, dtype), bytes: args.profile.then(|| read_bandwidth(cpu)) };
    let step_s = median(steps.iter().map(|step| step.seconds));
    let flops = median(steps.iter().map(|step| total(&step.records).flops as f64));
    let rate = median(steps.iter().map(|step| total(&step.records).flops as f64 / step.seconds));
    let name = args.model.as_deref().and_then(|folder| folder.file_name()).unwrap_or_default();
    let mut line = Map::from_iter([
        ("pavlov".to_owned(), json!(args.task.name())),
        ("model".to_owned(), json!(name.to_string_lossy())),
        ("dtype".to_owned(), json!(dtype_name(dtype))),
        ("compile".to_owned(), json!(false)),
        ("lora".to_owned(), json!(0)),
        ("step_s".to_owned(), json!(rounded(step_s, 4))),
        ("tokens_per_s".to_owned(), json!(rounded(tokens as f64 / step_s, 1))),
        ("peak_rss_mib".to_owned(), json!(peak_rss.map(|bytes| bytes >> 20))),
    ]);
    line.extend(sizes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    line.extend([
        ("steps".to_owned(), json!(steps.len())),
        ("threads".to_owned(), json!(cpu.threads())),
        ("gflop_per_step".to_owned(), json!(rounded(flops / 1e9, 3))),
        ("peak_gflops".to_owned(), json!(rounded(limits.flops / 1e9, 1))),
        ("share_of_peak".to_owned(), json!(rounded(rate / limits.flops, 4))),
    ]);
    if args.profile {
        line.insert("read_gb_per_s".to_owned(), json!(limits.bytes.map(|bytes| rounded(bytes / 1e9, 1))));
        line.insert("profile".to_owned(), profile(&steps, limits));
    }
    stdout::json(&line)
}

/// Shows a step, the mean of all, by operation, and gives the same as JSON.
fn profile(steps: &[Step], limits: Limits) -> Value {
    let count = steps.len() as f64;
    let seconds = steps.iter().map(|step| step.seconds).sum::<f64>();
    let mut kinds: BTreeMap<Kind, Record> = BTreeMap::new();
    for (kind, record) in steps.iter().flat_map(|step| &step.records) {
        *kinds.entry(*kind).or_default() += *record;
    }
    let mut operations: BTreeMap<Operation, BTreeMap<Kind, Record>> = BTreeMap::new();
    for (kind, record) in kinds {
        operations.entry(kind.operation).or_default().insert(kind, record);
    }
    let mut rows: Vec<(Record, String, BTreeMap<Kind, Record>)> = operations
        .into_iter()
        .map(|(operation, kinds)| (total(&kinds), operation.name().to_owned(), kinds))
        .collect();
    let known: f64 = rows.iter().map(|(record, ..)| record.time.as_secs_f64()).sum();
    rows.sort_by_key(|(record, ..)| std::cmp::Reverse(record.time));

    let floor_of = |record: &Record| limits.floor(record.flops, record.bytes);
    let floor: f64 = rows.iter().map(|(record, ..)| floor_of(record)).sum();
    let mut table = format!(
        "one of {count} steps, {:.3} ms; the floor is {:.1} GFLOP/s of products and {:.1} GB/s of memory\n",
        1e3 * seconds / count,
        limits.flops / 1e9,
        limits.bytes.unwrap_or(f64::NAN) / 1e9
    );
    let _ = writeln!(
        table,
        "{:<32} {:>8} {:>10} {:>6} {:>9} {:>9} {:>9} {:>8} {:>10} {:>8}",
        "operation", "calls", "ms", "share", "GFLOP", "GFLOP/s", "MB", "GB/s", "floor ms", "of floor"
    );
    let mut json_rows = Vec::new();
    for (record, name, kinds) in &rows {
        let _ = writeln!(table, "{}", row(name, record, count, seconds, floor_of(record)));
        let mut shapes = Vec::new();
        for (kind, record) in kinds.iter().filter(|(kind, _)| kind.shape.is_some()) {
            let [m, n, k] = kind.shape.unwrap_or_default();
            let _ = writeln!(
                table,
                "{}",
                row(&format!("  ≤{m} × {n} × {k}"), record, count, seconds, floor_of(record))
            );
            let mut shape = numbers(record, count, seconds, floor_of(record));
            shape.insert("shape".to_owned(), json!([m, n, k]));
            shapes.push(Value::Object(shape));
        }
        let mut line = Map::from_iter([("operation".to_owned(), json!(name))]);
        line.extend(numbers(record, count, seconds, floor_of(record)));
        if !shapes.is_empty() {
            line.insert("shapes".to_owned(), Value::Array(shapes));
        }
        json_rows.push(Value::Object(line));
    }
    let rest = (seconds - known).max(0.0);
    let _ =
        writeln!(table, "{HOST:<32} {:>8} {:>10.3} {:>5.1}%", "", 1e3 * rest / count, 100.0 * rest / seconds);
    let whole = 1e3 * seconds / count;
    let floor_ms = 1e3 * floor / count;
    let _ = write!(
        table,
        "{:<32} {:>8} {whole:>10.3} {:>5.1}% {:>49.3} {:>7.0}%",
        "all",
        "",
        100.0,
        floor_ms,
        100.0 * floor_ms / whole
    );
    screen::line(&table);
    json_rows.push(json!({"operation": HOST, "seconds": rest / count, "share": rest / seconds}));
    Value::Array(json_rows)
}

/// A line of the table, a step's share of sums over `count` steps of `seconds` together.
fn row(name: &str, record: &Record, count: f64, seconds: f64, floor: f64) -> String {
    let time = record.time.as_secs_f64();
    let (flops, bytes) = (record.flops as f64, record.bytes as f64);
    let per = |amount: f64| if amount > 0.0 { format!("{:.3}", amount / count) } else { String::new() };
    let rate = |amount: f64| if amount > 0.0 { format!("{:.1}", amount / time) } else { String::new() };
    format!(
        "{name:<32} {:>8.0} {:>10.3} {:>5.1}% {:>9} {:>9} {:>9} {:>8} {:>10.3} {:>7.0}%",
        record.calls as f64 / count,
        1e3 * time / count,
        100.0 * time / seconds,
        per(flops / 1e9),
        rate(flops / 1e9),
        per(bytes / 1e6),
        rate(bytes / 1e9),
        1e3 * floor / count,
        100.0 * floor / time.max(f64::MIN_POSITIVE)
    )
}

fn numbers(record: &Record, count: f64, seconds: f64, floor: f64) -> Map<String, Value> {
    let time = record.time.as_secs_f64();
    Map::from_iter([
        ("calls".to_owned(), json!(record.calls as f64 / count)),
        ("seconds".to_owned(), json!(time / count)),
        ("share".to_owned(), json!(time / seconds)),
        ("flops".to_owned(), json!(record.flops as f64 / count)),
        ("bytes".to_owned(), json!(record.bytes as f64 / count)),
        ("floor_s".to_owned(), json!(floor / count)),
    ])
}

fn total(records: &BTreeMap<Kind, Record>) -> Record {
    records.values().fold(Record::default(), |mut sum, record| {
        sum += *record;
        sum
    })
}

/// The upper median, as that of peers.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(x: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (x * scale).round() / scale
}
