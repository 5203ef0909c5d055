//! Where the time of a step goes: a table of operations on stderr, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use pavlov_engine::profile::{Kind, Operation, Record};
use pavlov_schema::Map;
use serde_json::{Value, json};

use super::clock::Step;
use super::limits::Limits;
use crate::screen;

/// What no operation accounts for: losses, metrics, waiting, and whatever has no timer.
const REST: &str = "rest";

/// Sums over steps, shown as the mean of one.
struct Means {
    steps: f64,
    /// Of all steps.
    seconds: f64,
    limits: Limits,
}

/// Shows a step, the mean of all, and gives the same as JSON: shares of all operations and the rest sum to 1.
pub(super) fn show(steps: &[Step], limits: Limits) -> Value {
    let seconds = steps.iter().map(|step| step.seconds).sum();
    let means = Means { steps: steps.len() as f64, seconds, limits };
    let mut operations: BTreeMap<Operation, BTreeMap<Kind, Record>> = BTreeMap::new();
    for (kind, record) in steps.iter().flat_map(|step| &step.records) {
        *operations.entry(kind.operation).or_default().entry(*kind).or_default() += *record;
    }
    let mut rows: Vec<(Operation, Record, BTreeMap<Kind, Record>)> =
        operations.into_iter().map(|(operation, kinds)| (operation, total(&kinds), kinds)).collect();
    rows.sort_by_key(|(_, record, _)| std::cmp::Reverse(record.time));

    let mut table = means.head();
    let mut list = Vec::new();
    let mut known = 0.0;
    let mut floor = 0.0;
    for (operation, record, kinds) in rows {
        known += record.time.as_secs_f64();
        floor += means.floor(&record);
        table.push_str(&means.line(operation.name(), &record));
        let mut object = Map::from_iter([("operation".to_owned(), json!(operation.name()))]);
        object.extend(means.numbers(&record));
        let mut shapes = Vec::new();
        for (shape, record) in kinds.iter().filter_map(|(kind, record)| Some((kind.shape?, record))) {
            let [m, n, k] = shape;
            table.push_str(&means.line(&format!("  ≤{m} × {n} × {k}"), record));
            let mut object = Map::from_iter([("shape".to_owned(), json!(shape))]);
            object.extend(means.numbers(record));
            shapes.push(Value::Object(object));
        }
        if !shapes.is_empty() {
            object.insert("shapes".to_owned(), Value::Array(shapes));
        }
        list.push(Value::Object(object));
    }
    table.push_str(&means.tail(known, floor));
    screen::line(&table);
    let rest = means.seconds - known;
    list.push(json!({"operation": REST, "seconds": rest / means.steps, "share": rest / means.seconds}));
    Value::Array(list)
}

impl Means {
    /// The shortest time that the work can take, in seconds.
    fn floor(&self, record: &Record) -> f64 {
        self.limits.floor(record.flops, record.bytes)
    }

    fn head(&self) -> String {
        let Limits { flops, bytes, fork } = self.limits;
        let mut text = format!(
            "a step, the mean of {}: {:.3} ms; floors are by {:.1} GFLOP/s of products",
            self.steps,
            1e3 * self.seconds / self.steps,
            flops / 1e9
        );
        if let Some(bytes) = bytes {
            let _ = write!(text, " and {:.1} GB/s of memory (caches can be faster)", bytes / 1e9);
        }
        let _ = write!(text, "; waking all threads and waiting for them takes {:.2} µs", 1e6 * fork);
        let columns = ["calls", "ms", "share", "GFLOP", "GFLOP/s", "MB", "GB/s", "floor ms", "of time"];
        let [calls, ms, share, flop, flops, mb, gbs, floor, of_time] = columns;
        let _ = writeln!(
            text,
            "\n{:<24} {calls:>7} {ms:>10} {share:>6} {flop:>9} {flops:>8} {mb:>9} {gbs:>6} {floor:>9} {of_time:>7}",
            "operation"
        );
        text
    }

    fn line(&self, name: &str, record: &Record) -> String {
        let time = record.time.as_secs_f64();
        let (flops, bytes, floor) = (record.flops as f64, record.bytes as f64, self.floor(record));
        let shown = |x: f64, digits: usize| if x > 0.0 { format!("{x:.digits$}") } else { String::new() };
        format!(
            "{name:<24} {:>7.0} {:>10.3} {:>5.1}% {:>9} {:>8} {:>9} {:>6} {:>9} {:>7}\n",
            record.calls as f64 / self.steps,
            1e3 * time / self.steps,
            100.0 * time / self.seconds,
            shown(flops / self.steps / 1e9, 3),
            shown(flops / time / 1e9, 1),
            shown(bytes / self.steps / 1e6, 3),
            shown(bytes / time / 1e9, 1),
            shown(1e3 * floor / self.steps, 3),
            if floor > 0.0 { format!("{:.0}%", 100.0 * floor / time) } else { String::new() },
        )
    }

    /// The lines of the rest and of the whole.
    fn tail(&self, known: f64, floor: f64) -> String {
        let Self { steps, seconds, .. } = *self;
        let rest = seconds - known;
        format!(
            "{REST:<24} {:>7} {:>10.3} {:>5.1}%\n{:<24} {:>7} {:>10.3} {:>5.1}% {:>45.3} {:>6.0}%",
            "",
            1e3 * rest / steps,
            100.0 * rest / seconds,
            "all",
            "",
            1e3 * seconds / steps,
            100.0,
            1e3 * floor / steps,
            100.0 * floor / seconds
        )
    }

    fn numbers(&self, record: &Record) -> Map<String, Value> {
        let time = record.time.as_secs_f64();
        Map::from_iter([
            ("calls".to_owned(), json!(record.calls as f64 / self.steps)),
            ("seconds".to_owned(), json!(time / self.steps)),
            ("share".to_owned(), json!(time / self.seconds)),
            ("flops".to_owned(), json!(record.flops as f64 / self.steps)),
            ("bytes".to_owned(), json!(record.bytes as f64 / self.steps)),
            ("floor_s".to_owned(), json!(self.floor(record) / self.steps)),
        ])
    }
}

/// The sum over kinds.
pub(super) fn total(records: &BTreeMap<Kind, Record>) -> Record {
    records.values().fold(Record::default(), |mut sum, record| {
        sum += *record;
        sum
    })
}
