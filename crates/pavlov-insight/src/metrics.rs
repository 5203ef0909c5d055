//! The lines of a run's `metrics.jsonl`.

use std::io;
use std::path::Path;

use pavlov_schema::{Map, Value};

use crate::{Error, Result};

/// Every line; a last one that is being written is left out. A run without the file has none.
pub fn read(run: &Path) -> Result<Vec<Map<String, Value>>> {
    let file = run.join("metrics.jsonl");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::Kept { file, what: error.to_string() }),
    };
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate();
    whole
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|e| Error::Kept {
                file: file.clone(),
                what: format!("line {}: {e}; remove the line", i + 1),
            })
        })
        .collect()
}

/// The points (step, value) of one metric.
pub fn curve(lines: &[Map<String, Value>], name: &str) -> Vec<(f64, f64)> {
    let point = |line: &Map<String, Value>| Some((line.get("step")?.as_f64()?, line.get(name)?.as_f64()?));
    lines.iter().filter_map(point).collect()
}
