//! `retrain_every = N`: the reward model of a project in which people are at work, taught anew whenever N more judgments are sealed.
//!
//! Each round begins at `model` and learns from everything that holds: a judgment that was taken back leaves no trace, none counts
//! for more because it came early, and held-out accuracy over judgments collected is about the judgments alone.
//!
//! ```text
//! output_dir/retraining.json     what was learned so far, and whether the project knows
//! output_dir/model/              the newest reward model
//! output_dir/round-000000412/    the run directory of the round that read the log through record 412, without checkpoints
//! ```
//!
//! A round is over when `retraining.json` has it. Killed before that, it goes on from its checkpoint, or, where it has none, is
//! forgotten and begun anew; what the project was not told yet is told at the next start, and told twice it is one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pavlov_schema::clock::unix_seconds;
use pavlov_schema::feedback::Learned;
use pavlov_schema::files;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::collected::{self, Collected};
use super::config::RewardConfig;
use super::teach;
use crate::reward::feedback_client::{FeedbackClient, Patience};
use crate::run::{Ending, Event, Host, Metrics, TrainingConfig, given};
use crate::{Error, Result};

const DIARY: &str = "retraining.json";
const MODEL: &str = "model";
const ROUND: &str = "round-";
/// Seconds to wait for a server that does not answer. People go on when it is back.
const PATIENCE: f64 = 86_400.0;

/// What was learned so far.
#[derive(Debug, Serialize, Deserialize)]
struct Diary {
    /// The run's name in the project: the folder's, and a mark of its beginning.
    run: String,
    rounds: Vec<Round>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Round {
    /// The last sealed record that was read.
    cursor: u64,
    /// Judgments to learn from.
    judgments: u64,
    /// What it foretells; none where nothing is held out yet.
    learned: Option<Learned>,
    /// Whether the project was told.
    told: bool,
}

/// Teaches, tells and waits, until there are `retrain_until` judgments or a wish to stop.
pub(super) fn run(config: &RewardConfig, host: &mut Host) -> Result<Ending> {
    let training = &config.training;
    let folder = given("output_dir", &training.output_dir)?.clone();
    let project = collected::named(training)?.unwrap_or_default();
    let client = FeedbackClient::new(&config.feedback, project)?;
    let mut diary = Diary::open(&folder, training)?;
    let (mut evaluated, mut updates) = (Metrics::new(), 0);
    loop {
        // 1. What a round before has learned and the project was not told.
        if !diary.tell(&folder, &client, host)? {
            return Ok(Ending::Stopped { checkpoint: folder, step: updates });
        }
        if config.retrain_until > 0 && diary.judgments() >= config.retrain_until {
            let model = Some(folder.join(MODEL));
            return Ok(Ending::Finished { model, step: updates, metrics: evaluated });
        }
        // 2. A round that was broken off, or judgments for a new one.
        let Some((round, found, cursor)) = next(config, &folder, &client, &diary, host)? else {
            return Ok(Ending::Stopped { checkpoint: folder, step: updates });
        };
        // 3. The lesson.
        let judgments = found.rows.len() as u64;
        match teach(found, &round, host)? {
            Ending::Finished { metrics, step, .. } => {
                evaluated = metrics;
                updates += step;
            }
            stopped @ Ending::Stopped { .. } => return Ok(stopped),
        }
        // 4. The newest model, and the diary.
        publish(&round.training.output_dir.join(MODEL), &folder.join(MODEL))?;
        let learned = learned(&diary.run, cursor, judgments, &evaluated);
        if learned.is_none() {
            let note = "no held-out judgment is there to measure by; the project is told once one is";
            (host.events)(Event::Note(note.into()));
        }
        diary.rounds.push(Round { cursor, judgments, told: learned.is_none(), learned });
        diary.write(&folder)?;
        // Nothing goes on from them, and they are larger than all else.
        remove(&round.training.output_dir.join("checkpoints"))?;
    }
}

/// The next round's configuration, what it learns from, and the record through which it read. `None`: told to stop.
fn next(
    config: &RewardConfig,
    folder: &Path,
    client: &FeedbackClient,
    diary: &Diary,
    host: &mut Host,
) -> Result<Option<(RewardConfig, Collected, u64)>> {
    if let Some(cursor) = broken_off(folder, diary)? {
        let round = of_round(config, folder, cursor, true);
        let found = collected::kept(&round.training)?;
        return Ok(Some((round, found, cursor)));
    }
    if !wait(config, client, diary, host)? {
        return Ok(None);
    }
    // From the start: corrections, retractions and exclusions may concern any of them.
    let stop = host.stop;
    let mut go_on = || goes_on(stop);
    let Some(sealed) = client.all(&mut Patience::new(PATIENCE, &mut go_on))? else { return Ok(None) };
    let round = of_round(config, folder, sealed.cursor, false);
    let found = collected::stage(&round, &sealed.records, host)?;
    Ok(Some((round, found, sealed.cursor)))
}

/// Waits until there are enough new judgments; false if told to stop.
fn wait(config: &RewardConfig, client: &FeedbackClient, diary: &Diary, host: &mut Host) -> Result<bool> {
    let (every, until) = (config.retrain_every, config.retrain_until);
    // A run that ends at a number of judgments does not wait for more than that.
    let wanted = if until == 0 { every } else { every.min(until.saturating_sub(diary.judgments())).max(1) };
    let (mut after, mut new, mut noted) = (diary.cursor(), 0, false);
    loop {
        let stop = host.stop;
        let mut go_on = || goes_on(stop);
        let Some(page) = client.records(after, true, &mut Patience::new(PATIENCE, &mut go_on))? else {
            return Ok(false);
        };
        new += page.records.iter().filter(|record| collected::counts(record, config)).count() as u64;
        after = page.cursor;
        if new >= wanted {
            return Ok(true);
        }
        if !noted && !page.more {
            noted = true;
            let (known, missing) = (diary.judgments(), wanted - new);
            let note = format!("{known} judgments are learned from; waiting for {missing} more");
            (host.events)(Event::Note(note));
        }
    }
}

fn goes_on(stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Relaxed)
}

fn round_folder(folder: &Path, cursor: u64) -> PathBuf {
    folder.join(format!("{ROUND}{cursor:09}"))
}

/// The configuration of one round: that of a run of its own, once.
fn of_round(config: &RewardConfig, folder: &Path, cursor: u64, resumes: bool) -> RewardConfig {
    let training = TrainingConfig {
        output_dir: round_folder(folder, cursor),
        resume_from_checkpoint: resumes,
        overwrite_output_dir: false,
        ..config.training.clone()
    };
    RewardConfig { training, retrain_every: 0, retrain_until: 0, ..config.clone() }
}

/// The cursor of a round that was broken off after a checkpoint. Whatever was begun and has none is removed.
fn broken_off(folder: &Path, diary: &Diary) -> Result<Option<u64>> {
    let mut found = None;
    for entry in fs::read_dir(folder).map_err(|e| unreadable(folder, e))? {
        let entry = entry.map_err(|e| unreadable(folder, e))?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if name.starts_with(&format!(".{ROUND}")) {
            remove(&path)?;
        }
        let Some(cursor) = name.strip_prefix(ROUND).and_then(|cursor| cursor.parse::<u64>().ok()) else {
            continue;
        };
        if diary.rounds.iter().any(|round| round.cursor == cursor) {
            continue;
        }
        let saved = path.join("checkpoints").read_dir().is_ok_and(|checkpoints| {
            checkpoints.flatten().any(|one| one.file_name().to_string_lossy().starts_with("step-"))
        });
        if saved { found = Some(cursor) } else { remove(&path)? }
    }
    Ok(found)
}

/// What a round learned, from its last evaluation.
fn learned(run: &str, cursor: u64, judgments: u64, evaluated: &Metrics) -> Option<Learned> {
    let number = |name: &str| evaluated.get(name).and_then(Value::as_f64);
    let held_out = number("eval_decided").filter(|n| *n > 0.0)? as u64;
    let (low, accuracy, high) =
        (number("eval_accuracy_low")?, number("eval_accuracy")?, number("eval_accuracy_high")?);
    Some(Learned { run: run.to_owned(), cursor, judgments, held_out, accuracy, low, high })
}

/// Puts a round's model in the place of the one before.
fn publish(model: &Path, place: &Path) -> Result<()> {
    let old = place.with_file_name(".old-model");
    remove(&old)?;
    let moved = |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| unreadable(to, e));
    if place.exists() {
        moved(place, &old)?;
    }
    moved(model, place)?;
    remove(&old)
}

/// Removes a file or a folder with all in it; absent is fine.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable(path, error)),
        _ => Ok(()),
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Schema(pavlov_schema::Error::Io { file: path.to_owned(), doing: "change", source })
}

impl Diary {
    /// The diary of the folder, or a new one.
    fn open(folder: &Path, training: &TrainingConfig) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| unreadable(folder, e))?;
        let path = folder.join(DIARY);
        let kept = path.exists();
        if kept && training.resume_from_checkpoint {
            let text = fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
            return serde_json::from_str(&text).map_err(|error| Error::Checkpoint {
                file: path,
                problem: format!("is no diary of retraining ({error}); overwrite the run"),
            });
        }
        let problem = |what: &str| Error::setting("output_dir", format!("{} {what}", folder.display()));
        if kept && !training.overwrite_output_dir {
            return Err(problem("is retrained in already; resume or overwrite it, or name another folder"));
        }
        let entries = || fs::read_dir(folder).map_err(|e| unreadable(folder, e));
        if !kept && entries()?.next().is_some() {
            return Err(problem("holds other files; name another folder"));
        }
        for entry in entries()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name == MODEL || name.trim_start_matches('.').starts_with(ROUND);
            if ours {
                remove(&entry.path())?;
            }
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mark = files::digest_of(format!("{} {}", folder.display(), unix_seconds()).as_bytes());
        let diary = Self { run: format!("{name}-{}", &mark[..8]), rounds: Vec::new() };
        diary.write(folder)?;
        Ok(diary)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let text = json!(self);
        Ok(files::write_atomic(&folder.join(DIARY), |file| writeln!(file, "{text:#}"))?)
    }

    /// Tells the project what it does not know; false if told to stop meanwhile.
    fn tell(&mut self, folder: &Path, client: &FeedbackClient, host: &mut Host) -> Result<bool> {
        for place in 0..self.rounds.len() {
            let Round { told: false, learned: Some(learned), .. } = &self.rounds[place] else { continue };
            let stop = host.stop;
            let mut go_on = || goes_on(stop);
            if !client.tell(learned, &mut Patience::new(PATIENCE, &mut go_on))? {
                return Ok(false);
            }
            let [share, low, high] = [learned.accuracy, learned.low, learned.high].map(|x| x * 100.0);
            let note = format!(
                "after {} judgments {share:.1}% ({low:.1}–{high:.1}%) of {} held-out ones are foretold",
                learned.judgments, learned.held_out
            );
            (host.events)(Event::Note(note));
            self.rounds[place].told = true;
            self.write(folder)?;
        }
        Ok(true)
    }

    fn cursor(&self) -> u64 {
        self.rounds.last().map_or(0, |round| round.cursor)
    }

    fn judgments(&self) -> u64 {
        self.rounds.last().map_or(0, |round| round.judgments)
    }
}
