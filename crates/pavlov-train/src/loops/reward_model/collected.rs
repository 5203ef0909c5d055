//! `data = "feedback:PROJECT"`: what people have said in a project, as rows, kept in the run directory.

use std::path::{Path, PathBuf};

use pavlov_schema::feedback::{RecordKind, SealedRecord, standing};
use pavlov_schema::row::Row;
use pavlov_schema::run::DataFile;
use pavlov_schema::{dataset, files};

use super::config::RewardConfig;
use super::lessons::teaches;
use crate::loops::sft::read_rows;
use crate::reward::feedback_client::{FeedbackClient, Patience};
use crate::run::{Event, Host, TrainingConfig};
use crate::{Error, Result};

/// What `data` and `eval_data` begin with to name a project.
const PREFIX: &str = "feedback:";
/// The file in the run directory.
const FILE: &str = "judgments.jsonl";
/// One of so many prompts is held out where `eval_data` names the project too.
const HELD_OUT: u64 = 5;
/// Seconds to wait for a server that does not answer.
const PATIENCE: f64 = 300.0;

/// Judgments that were fetched.
#[derive(Debug)]
pub(super) struct Collected {
    /// What is learned from.
    pub(super) rows: Vec<Row>,
    /// The prompts that are held out; empty unless asked for.
    pub(super) held_out: Vec<Row>,
    /// The files they are from, as the run directory will have them.
    pub(super) files: Vec<DataFile>,
    /// Where the judgments wait for the run directory; none of a resumed run, which has them.
    pub(super) staged: Option<PathBuf>,
}

/// The project that `data` names.
pub(super) fn project(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PREFIX)
}

/// The project to learn from, if `data` names one.
pub(super) fn named(training: &TrainingConfig) -> Result<Option<&str>> {
    let eval_project = training.eval_data.as_deref().and_then(project);
    let Some(name) = project(&training.data) else {
        return match eval_project {
            None => Ok(None),
            Some(_) => Err(Error::setting("eval_data", "names a project and data does not; name it in both")),
        };
    };
    if eval_project.is_some_and(|other| other != name) {
        return Err(Error::setting("eval_data", "names another project than data; name the same, or a file"));
    }
    Ok(Some(name))
}

/// Fetches what is sealed; of a resumed run, reads what it began with.
pub(super) fn collect(config: &RewardConfig, host: &mut Host) -> Result<Option<Collected>> {
    let training = &config.training;
    let Some(name) = named(training)? else { return Ok(None) };
    if is_kept(training)? {
        return kept(training).map(Some);
    }
    let stop = host.stop;
    let mut go_on = || !stop.load(std::sync::atomic::Ordering::Relaxed);
    let client = FeedbackClient::new(&config.feedback, name)?;
    let Some(sealed) = client.all(&mut Patience::new(PATIENCE, &mut go_on))? else {
        return Err(Error::setting("data", "was being fetched when the run was stopped; start it again"));
    };
    stage(config, &sealed.records, host).map(Some)
}

/// Whether the run goes on with judgments that it has.
fn is_kept(training: &TrainingConfig) -> Result<bool> {
    let output = crate::run::given("output_dir", &training.output_dir)?;
    Ok(training.resume_from_checkpoint && output.join(FILE).exists())
}

/// The judgments that a resumed run began with.
pub(super) fn kept(training: &TrainingConfig) -> Result<Collected> {
    let path = training.output_dir.join(FILE);
    let rows = dataset::read(&path)?;
    let file = DataFile::of(&path, rows.len())?;
    split(training, rows, file, None)
}

/// The rows that a finished run learned from, with their places in its data: of a project those of the judgments that it kept.
pub fn taught_rows(run: &Path, training: &TrainingConfig) -> Result<Vec<(usize, Row)>> {
    let (path, holds) = match named(training)? {
        Some(_) => (run.join(FILE), training.eval_data.as_deref().and_then(project).is_some()),
        None => (training.data.clone(), false),
    };
    let rows = dataset::read(&path)?.into_iter().enumerate();
    Ok(rows.filter(|(_, row)| !(holds && is_held_out(row))).collect())
}

/// What of `records` is to be learned from, in a file that waits for the run directory.
pub(super) fn stage(config: &RewardConfig, records: &[SealedRecord], host: &mut Host) -> Result<Collected> {
    let training = &config.training;
    let output = crate::run::given("output_dir", &training.output_dir)?;
    let rows: Vec<Row> = meant(records).into_iter().filter_map(|record| row(record, config)).collect();
    let (lessons, records) = (rows.len(), records.len());
    (host.events)(Event::Note(format!("{lessons} of {records} sealed records are something to learn from")));
    let folder = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let staged = output.with_file_name(format!(".{folder}.{FILE}"));
    if let Some(parent) = staged.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|e| Error::setting("output_dir", format!("{} cannot be made: {e}", parent.display())))?;
    }
    dataset::write(&staged, &rows)?;
    let file = DataFile { path: output.join(FILE), ..DataFile::of(&staged, rows.len())? };
    split(training, rows, file, Some(staged))
}

/// Rows to learn from and held-out ones: a part of the prompts, or the file that `eval_data` names.
fn split(
    training: &TrainingConfig,
    rows: Vec<Row>,
    file: DataFile,
    staged: Option<PathBuf>,
) -> Result<Collected> {
    let Some(path) = &training.eval_data else {
        return Ok(Collected { rows, held_out: Vec::new(), files: vec![file], staged });
    };
    if project(path).is_some() {
        let (held_out, rows) = rows.into_iter().partition(is_held_out);
        return Ok(Collected { rows, held_out, files: vec![file], staged });
    }
    let (held_out, more) = read_rows("eval_data", path)?;
    Ok(Collected { rows, held_out, files: [file].into_iter().chain(more).collect(), staged })
}

/// Moves the file into the run directory, which is open by now.
pub(super) fn keep(staged: &Path, run: &Path) -> Result<()> {
    let to = run.join(FILE);
    std::fs::rename(staged, &to)
        .map_err(|e| Error::setting("output_dir", format!("{} cannot be written: {e}", to.display())))
}

/// The records that hold and are meant for training: no gold, no repeats, and where a reviewer decided, that alone.
fn meant(records: &[SealedRecord]) -> Vec<&SealedRecord> {
    let mut holds = standing(records);
    let decided: std::collections::BTreeSet<&str> = holds
        .iter()
        .filter(|record| record.record == RecordKind::Adjudication)
        .map(|record| record.task.as_str())
        .collect();
    holds.retain(|record| {
        let outweighed = record.record != RecordKind::Adjudication && decided.contains(record.task.as_str());
        !record.gold && !record.repeat && !outweighed
    });
    holds
}

/// A record as a row, if `config` learns from such.
fn row(record: &SealedRecord, config: &RewardConfig) -> Option<Row> {
    let row = Row::Judgment(Box::new(record.judgment()?));
    teaches(&row, config).then_some(row)
}

/// Whether a record is one more judgment to learn from.
pub(super) fn counts(record: &SealedRecord, config: &RewardConfig) -> bool {
    let hold = config.training.eval_data.as_deref().and_then(project).is_some();
    record.record == RecordKind::Judgment
        && !record.gold
        && !record.repeat
        && row(record, config).is_some_and(|row| !(hold && is_held_out(&row)))
}

/// By the prompt's digest, so that later fetches hold out the same prompts.
fn is_held_out(row: &Row) -> bool {
    let Row::Judgment(judgment) = row else { return false };
    let text = serde_json::to_string(&judgment.prompt).unwrap_or_default();
    let digest = u64::from_str_radix(&files::digest_of(text.as_bytes()), 16).unwrap_or(0);
    digest.is_multiple_of(HELD_OUT)
}
