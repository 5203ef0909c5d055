//! `data = "feedback:PROJECT"`: what people have said in a project, as rows, kept in the run directory.

use std::path::{Path, PathBuf};

use pavlov_schema::feedback::{RecordKind, SealedRecord, standing};
use pavlov_schema::row::Row;
use pavlov_schema::run::DataFile;
use pavlov_schema::{dataset, files};

use crate::reward::FeedbackSettings;
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
    /// The file as the run directory will have it.
    pub(super) file: DataFile,
    /// Where it waits for the run directory; none of a resumed run, which has it.
    pub(super) staged: Option<PathBuf>,
}

/// The project that `data` names.
pub(super) fn project(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PREFIX)
}

/// Fetches what is sealed; of a resumed run, reads what it began with.
pub(super) fn collect(
    training: &TrainingConfig,
    feedback: &FeedbackSettings,
    host: &mut Host,
) -> Result<Option<Collected>> {
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
    let output = crate::run::given("output_dir", &training.output_dir)?;
    let kept = output.join(FILE);
    let (rows, path, staged) = if training.resume_from_checkpoint && kept.exists() {
        (dataset::read(&kept)?, kept.clone(), None)
    } else {
        let stop = host.stop;
        let mut go_on = || !stop.load(std::sync::atomic::Ordering::Relaxed);
        let client = FeedbackClient::new(feedback, name)?;
        let Some(records) = client.all(&mut Patience::new(PATIENCE, &mut go_on))? else {
            return Err(Error::setting("data", "was being fetched when the run was stopped; start it again"));
        };
        let rows = lessons(&records);
        (host.events)(Event::Note(format!(
            "{} judgments of {} records of {name}",
            rows.len(),
            records.len()
        )));
        let folder = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let staged = output.with_file_name(format!(".{folder}.{FILE}"));
        if let Some(parent) = staged.parent() {
            std::fs::create_dir_all(parent).map_err(|e| {
                Error::setting("output_dir", format!("{} cannot be made: {e}", parent.display()))
            })?;
        }
        dataset::write(&staged, &rows)?;
        (rows, staged.clone(), Some(staged))
    };
    let file = DataFile { path: kept, ..DataFile::of(&path, rows.len())? };
    let hold = eval_project.is_some();
    let (held_out, rows) = rows.into_iter().partition(|row| hold && is_held_out(row));
    Ok(Some(Collected { rows, held_out, file, staged }))
}

/// Moves the file into the run directory, which is open by now.
pub(super) fn keep(staged: &Path, run: &Path) -> Result<()> {
    let to = run.join(FILE);
    std::fs::rename(staged, &to)
        .map_err(|e| Error::setting("output_dir", format!("{} cannot be written: {e}", to.display())))
}

/// What holds and is meant for training: no gold, no repeats, and where a reviewer decided, that alone.
fn lessons(records: &[SealedRecord]) -> Vec<Row> {
    let holds = standing(records);
    let decided: std::collections::BTreeSet<&str> = holds
        .iter()
        .filter(|record| record.record == RecordKind::Adjudication)
        .map(|record| record.task.as_str())
        .collect();
    let meant = holds.into_iter().filter(|record| {
        let outweighed = record.record != RecordKind::Adjudication && decided.contains(record.task.as_str());
        !record.gold && !record.repeat && !outweighed
    });
    meant.filter_map(SealedRecord::judgment).map(|judgment| Row::Judgment(Box::new(judgment))).collect()
}

/// By the prompt's digest, so that later fetches hold out the same prompts.
fn is_held_out(row: &Row) -> bool {
    let Row::Judgment(judgment) = row else { return false };
    let text = serde_json::to_string(&judgment.prompt).unwrap_or_default();
    let digest = u64::from_str_radix(&files::digest_of(text.as_bytes()), 16).unwrap_or(0);
    digest.is_multiple_of(HELD_OUT)
}
