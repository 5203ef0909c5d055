//! `lessons.jsonl`: what each lesson was worth before it changed the model, one JSON object an update.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name of the file in a run directory.
pub const LESSONS: &str = "lessons.jsonl";

/// The lessons of one update, as the model that it changed saw them.
///
/// Answers that were rewarded are in the rollout files; of them `rows`, `nats` and the rest are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LessonLine {
    /// The update, from 1.
    pub step: u64,
    /// The lessons' rows in the data, from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<usize>,
    /// −log P of each lesson, in nats: of a demonstration's learned tokens, or of a verdict. Empty where the loss is no
    /// code length (a regression).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nats: Vec<f32>,
    /// What each lesson has to be told at all: learned tokens of a demonstration, 1 for a verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<u32>,
    /// Σ (1 − P)² over what each lesson tells: the squared length of its push on the logits, up to a factor of two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<f32>,
    /// The gradient over the first forward pass and over the whole update; none where the update is one forward pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient: Option<GradientPair>,
}

/// Mean gradients over two numbers of the same kind of lessons.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientPair {
    /// Over the first forward pass.
    pub small: GradientNorm,
    /// Over the whole update.
    pub large: GradientNorm,
}

/// How long a mean gradient is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientNorm {
    /// Lessons it is the mean of.
    pub lessons: usize,
    /// |G|².
    pub square: f64,
    /// Σ g²/√v̂ with Adam's second moment before the update: |G|² in the metric that Adam steps in. None before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adam: Option<f64>,
}

/// Reads the lessons of a run, in order; a last line that was cut short is left out, and so is everything where the
/// run has no such file.
pub fn read(run: &Path) -> Result<Vec<LessonLine>> {
    let path = run.join(LESSONS);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&path, "open")(error)),
    };
    let (mut reader, mut lines, mut text) = (BufReader::new(file), Vec::new(), String::new());
    loop {
        text.clear();
        let read = reader.read_line(&mut text).map_err(Error::io(&path, "read"))?;
        if read == 0 || !text.ends_with('\n') {
            return Ok(lines);
        }
        lines.push(serde_json::from_str(&text).map_err(|e| Error::Line {
            file: path.clone(),
            line: lines.len() + 1,
            what: format!("is no line of lessons ({e}); teach again"),
        })?);
    }
}
