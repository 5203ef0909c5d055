//! A run as insight reads it: what was taught, from what, to what.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use pavlov_schema::{Map, Value};
use pavlov_train::settings::read_toml;

use crate::{Error, Result};

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Taught {
    /// Its folder.
    pub run: PathBuf,
    /// Its configuration as resolved.
    pub config: Map<String, Value>,
    /// The folder of the model it began with.
    pub before: PathBuf,
    /// The folder of the model it made.
    pub after: PathBuf,
}

impl Taught {
    /// Reads a run's `config.toml`. An error if it is no run, or has made no model yet.
    pub fn read(run: &Path) -> Result<Self> {
        let file = run.join("config.toml");
        if !file.exists() {
            let what =
                format!("{}: is no run (it has no config.toml); give the output_dir of one", run.display());
            return Err(Error::Question(what));
        }
        let config = read_toml(&file)?;
        let after = run.join("model");
        if !after.exists() {
            let what = format!("{}: the run made no model; let it end, with save_final_model", run.display());
            return Err(Error::Question(what));
        }
        let folder = |key: &str| config.get(key).and_then(Value::as_str).filter(|path| !path.is_empty());
        let before = folder("model").or_else(|| folder("adapter")).map(PathBuf::from);
        let before = before.ok_or_else(|| Error::Question(format!("{}: names no model", file.display())))?;
        Ok(Self { run: run.to_owned(), config, before, after })
    }

    /// The file of its lessons; of people's, the judgments that the run kept.
    pub fn data(&self) -> Option<PathBuf> {
        let data = self.config.get("data").and_then(Value::as_str).filter(|path| !path.is_empty())?;
        Some(if data.starts_with("feedback:") { self.run.join("judgments.jsonl") } else { data.into() })
    }

    /// The lines of `metrics.jsonl`.
    pub fn metrics(&self) -> Result<Vec<Map<String, Value>>> {
        let path = self.run.join("metrics.jsonl");
        let wrong = |what: String| Error::Kept { file: path.clone(), what };
        let file = File::open(&path).map_err(|e| wrong(e.to_string()))?;
        let line = |(i, line): (usize, std::io::Result<String>)| {
            let text = line.map_err(|e| wrong(e.to_string()))?;
            serde_json::from_str(&text).map_err(|e| wrong(format!("line {}: {e}; remove the line", i + 1)))
        };
        BufReader::new(file).lines().enumerate().map(line).collect()
    }
}

/// The rollout files of a run, in the order of their steps; none where it drew no answers.
pub fn rollout_files(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("rollouts");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    };
    let entries =
        entries.map_err(|e| Error::Kept { file: folder, what: format!("{e}; give a whole run") })?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    // Their names have the step in six digits; of longer ones the shorter name comes first.
    files.sort_by_key(|file| (file.as_os_str().len(), file.clone()));
    Ok(files)
}
