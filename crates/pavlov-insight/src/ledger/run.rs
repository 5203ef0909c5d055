//! A run as the ledger reads it: configuration, clock, lessons and rollouts.

use std::path::{Path, PathBuf};

use pavlov_schema::lessons::{self, LessonLine};
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file;
use pavlov_schema::{Map, Value};
use pavlov_train::loops::reward_model::{Head, REWARD_FILE, RewardFile};
use pavlov_train::settings::read_toml;

use super::report::Lesson;
use crate::taught::rollout_files;
use crate::{Error, Result};

/// A run directory, read.
pub(super) struct Run {
    pub(super) path: PathBuf,
    pub(super) config: Map<String, Value>,
    pub(super) kind: Lesson,
    pub(super) lines: Vec<LessonLine>,
    /// Files of rollouts, by step.
    pub(super) rollouts: Vec<PathBuf>,
    /// Seconds of updates.
    pub(super) seconds: f64,
}

impl Run {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = path.join("config.toml");
        if !file.exists() {
            let problem =
                format!("{}: is no run, it has no config.toml; give the folder of one", path.display());
            return Err(Error::Question(problem));
        }
        let config = read_toml(&file)?;
        let lines = lessons::read(path)?;
        if lines.is_empty() {
            let problem = format!(
                "{}: has no lessons.jsonl with an update; let it make one, or teach again with this version",
                path.display()
            );
            return Err(Error::Question(problem));
        }
        let rollouts = rollout_files(path)?;
        let kind = kind(path, &config, !rollouts.is_empty())?;
        Ok(Self { path: path.to_owned(), kind, seconds: seconds(path)?, config, lines, rollouts })
    }

    /// A path of the configuration, if it is set.
    pub(super) fn file(&self, key: &str) -> Option<PathBuf> {
        let text = self.config.get(key)?.as_str().filter(|text| !text.is_empty())?;
        Some(PathBuf::from(text))
    }

    /// The model it made, once it is there.
    pub(super) fn taught(&self) -> Option<PathBuf> {
        let folder = self.path.join("model");
        folder.is_dir().then_some(folder)
    }

    /// Bits, labels and energy of each lesson, the first time that its row was given.
    pub(super) fn first_visits(&self) -> Vec<Visit> {
        let mut seen = std::collections::BTreeSet::new();
        let mut visits = Vec::new();
        for line in &self.lines {
            for (i, &row) in line.rows.iter().enumerate() {
                if let (true, Some(&nats)) = (seen.insert(row), line.nats.get(i)) {
                    visits.push(Visit {
                        bits: f64::from(nats) / std::f64::consts::LN_2,
                        labels: line.labels.get(i).map_or(1, |&labels| labels as usize),
                        energy: line.energy.get(i).map_or(0.0, |&energy| f64::from(energy)),
                    });
                }
            }
        }
        visits
    }

    /// Rows that were lessons.
    pub(super) fn rows(&self) -> usize {
        let mut rows: Vec<usize> = self.lines.iter().flat_map(|line| &line.rows).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        rows.len()
    }

    /// Groups of answers to one prompt, a file after another; `see` is told each group.
    pub(super) fn groups(&self, mut see: impl FnMut(&[Credited])) -> Result<()> {
        for path in &self.rollouts {
            let answers: Vec<Credited> =
                rollout_file::read(path)?.into_iter().map(|(_, answer)| answer).collect();
            groups(&answers).for_each(&mut see);
        }
        Ok(())
    }
}

/// The answers of one file by prompt.
pub(super) fn groups(answers: &[Credited]) -> impl Iterator<Item = &[Credited]> {
    let place = |answer: &Credited| (answer.scored.rollout.prompt_index, answer.scored.rollout.choice);
    answers.chunk_by(move |a, b| place(a).0 == place(b).0 && place(a).1 < place(b).1)
}

/// A lesson the first time that it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) bits: f64,
    pub(super) labels: usize,
    pub(super) energy: f64,
}

fn kind(path: &Path, config: &Map<String, Value>, has_rollouts: bool) -> Result<Lesson> {
    if has_rollouts {
        return Ok(Lesson::Reward);
    }
    let folder = path.join("model");
    if folder.join(REWARD_FILE).exists() {
        return Ok(match RewardFile::read(&folder)?.head {
            Head::Comparisons { .. } | Head::Joint => Lesson::Comparison,
            Head::Regression { .. } | Head::Ordinal { .. } => Lesson::Rating,
        });
    }
    Ok(match (config.get("kind").and_then(Value::as_str), config.get("loss_type").and_then(Value::as_str)) {
        (Some("ratings"), _) => Lesson::Rating,
        (Some(_), _) => Lesson::Comparison,
        // The preference loop's losses; a run without rollouts that learned from pairs.
        (None, Some(_)) if config.contains_key("beta") => Lesson::Comparison,
        (None, _) => Lesson::Demonstration,
    })
}

/// Mean seconds of an update times updates, line by line of `metrics.jsonl`.
fn seconds(path: &Path) -> Result<f64> {
    let (mut seconds, mut before) = (0.0, 0);
    for line in crate::metrics::read(path)? {
        let (Some(step), Some(time)) =
            (line.get("step").and_then(Value::as_u64), line.get("step_time").and_then(Value::as_f64))
        else {
            continue;
        };
        seconds += time * step.saturating_sub(before) as f64;
        before = step;
    }
    Ok(seconds)
}
