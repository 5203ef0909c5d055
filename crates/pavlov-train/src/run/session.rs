//! A run directory in use: lines of metrics, checkpoints, the final model.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pavlov_engine::{AdamW, Dtype};
use pavlov_lm::{LanguageModel, SaveDtype};
use pavlov_schema::clock::{rfc3339, unix_seconds};
use pavlov_schema::lessons::LessonLine;
use pavlov_schema::run::{Checkpoint, DataFile, Existing, Manifest, RunDir};
use pavlov_schema::tensorboard::EventWriter;
use serde_json::{Value, json};

use super::checkpoint::{self, ORDER_KEYS};
use super::{Ending, Event, Host, Means, Metrics, TrainerState, TrainingConfig};
use crate::settings::{Settings, read_toml};
use crate::{Error, Result};

/// Keys that may change between a run and its resumption without a word.
const FREE_KEYS: [&str; 11] = [
    "feedback_url",
    "feedback_token_file",
    "resume_from_checkpoint",
    "overwrite_output_dir",
    "output_dir",
    "threads",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "save_total_limit",
    "save_final_model",
];

/// The folder of the final model in a run directory.
const MODEL: &str = "model";

/// A run directory in use by one loop.
pub struct Session<'a> {
    run: RunDir,
    board: EventWriter,
    stop: &'a AtomicBool,
    events: &'a mut dyn FnMut(Event),
    keep: usize,
    save_final: bool,
    total: u64,
    saved: Option<Checkpoint>,
}

impl<'a> Session<'a> {
    /// Opens `output_dir`: new, or as the earlier run left it if `resume_from_checkpoint`.
    ///
    /// `settings` is the whole configuration, of which `training` is the shared part; `total` is the number of updates
    /// in the run. A resumed run must have the data and the order of the earlier one.
    pub fn open(
        settings: &impl Settings,
        training: &TrainingConfig,
        data: Vec<DataFile>,
        model: &LanguageModel,
        total: u64,
        host: &'a mut Host<'_>,
    ) -> Result<Self> {
        let path = super::training::given("output_dir", &training.output_dir)?;
        if model.adapter.is_some() {
            let (trained, all) = (model.params.trainable_count(), model.params.count());
            (host.events)(Event::Note(format!("an adapter is trained: {trained} of {all} parameters")));
        }
        let existing = match (training.resume_from_checkpoint, training.overwrite_output_dir) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Overwrite,
            (false, false) => Existing::Refuse,
        };
        let run = RunDir::create(path, existing)?;
        if existing == Existing::Overwrite {
            // The model of the run that was removed must not pass for the new one's.
            remove_folder(&path.join(MODEL))?;
        }
        let saved = if existing == Existing::Resume {
            compare(&run, settings, &data, model, host)?;
            run.latest_checkpoint()?
        } else {
            run.write_manifest(&manifest(training, data, model, host.command))?;
            None
        };
        run.write_config(&settings.to_toml()?)?;
        let board = EventWriter::create(run.path(), unix_seconds() as u64)?;
        let (keep, save_final) = (training.save_total_limit, training.save_final_model);
        Ok(Self { run, board, stop: host.stop, events: &mut *host.events, keep, save_final, total, saved })
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// The file of the rollouts of a step.
    pub fn rollouts_path(&self, step: u64) -> PathBuf {
        self.run.rollouts_path(step)
    }

    /// Tells the program around the run.
    pub fn tell(&mut self, event: Event) {
        (self.events)(event);
    }

    /// Tells one line that a person should know.
    pub fn note(&mut self, line: impl Into<String>) {
        self.tell(Event::Note(line.into()));
    }

    /// Whether the run should stop before its next update.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Where the run begins: at the newest checkpoint if one is resumed, whose weights and moments are taken over, and
    /// what was written after it is forgotten; else at the beginning.
    pub fn begin(&mut self, model: &mut LanguageModel, optimizer: &mut AdamW) -> Result<TrainerState> {
        let state = match &self.saved {
            Some(saved) => checkpoint::read(&saved.path, model, optimizer)?,
            None => TrainerState::default(),
        };
        self.run.rewind(state.global_step)?;
        let path = self.run.path().to_owned();
        self.tell(Event::Started { step: state.global_step, total: self.total, path });
        Ok(state)
    }

    /// Tells of the update that `state` has just counted, and writes a line of metrics where one is due. `rate` is its
    /// learning rate.
    pub fn report(
        &mut self,
        training: &TrainingConfig,
        state: &mut TrainerState,
        rate: f64,
        mut metrics: Metrics,
    ) -> Result<()> {
        let (step, total) = (state.global_step, self.total);
        state.pending.add(&metrics);
        let latest = Metrics::from_iter([
            ("learning_rate".to_owned(), json!(rate)),
            ("num_tokens".to_owned(), json!(state.num_input_tokens_seen)),
            ("epoch".to_owned(), json!(state.epoch)),
        ]);
        metrics.extend(latest.clone());
        self.tell(Event::Step { step, total, metrics });
        if TrainingConfig::due(training.logging_steps, step) || step == total {
            self.log(step, &mut state.pending, &latest)?;
        }
        Ok(())
    }

    /// Writes the means since the last line to `metrics.jsonl` and TensorBoard, with `latest` (no means) after them.
    fn log(&mut self, step: u64, pending: &mut Means, latest: &Metrics) -> Result<()> {
        let mut metrics = pending.take();
        metrics.extend(latest.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.append(step, &metrics)?;
        let total = self.total;
        self.tell(Event::Logged { step, total, metrics });
        Ok(())
    }

    /// Writes what the lessons of an update were worth before it.
    pub fn log_lessons(&mut self, lessons: &LessonLine) -> Result<()> {
        Ok(self.run.append_lessons(lessons)?)
    }

    /// Writes an evaluation: its names begin with `eval_`.
    pub fn log_evaluation(&mut self, step: u64, metrics: &Metrics) -> Result<()> {
        self.append(step, metrics)?;
        self.tell(Event::Evaluated { step, metrics: metrics.clone() });
        Ok(())
    }

    fn append(&mut self, step: u64, metrics: &Metrics) -> Result<()> {
        self.run.append_metrics(step, metrics)?;
        let now = unix_seconds();
        for (name, value) in metrics {
            if let Some(value) = value.as_f64() {
                self.board.scalar(step, name, value as f32, now)?;
            }
        }
        Ok(())
    }

    /// Saves a checkpoint after `state.global_step` updates, unless that one is there. If anything fails, a full disk
    /// say, earlier checkpoints stay whole.
    ///
    /// `more` writes what one loop alone keeps into the folder.
    pub fn save(
        &mut self,
        model: &LanguageModel,
        optimizer: &AdamW,
        state: &TrainerState,
        more: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let step = state.global_step;
        if let Some(saved) = self.saved.as_ref().filter(|saved| saved.step == step) {
            return Ok(saved.path.clone());
        }
        // An error of ours has to pass through a function that knows only those of the system.
        let mut refused = None;
        let saved = self.run.save_checkpoint(step, |folder| {
            checkpoint::write(folder, model, optimizer, state).and_then(|()| more(folder)).map_err(|error| {
                refused = Some(error);
                io::Error::other("refused")
            })
        });
        let saved = match (saved, refused) {
            (_, Some(error)) => return Err(self.unsaved(step, &error)),
            (Err(error), None) => return Err(self.unsaved(step, &error.into())),
            (Ok(saved), None) => saved,
        };
        if self.keep > 0 {
            self.run.prune(self.keep)?;
        }
        let path = saved.path.clone();
        self.saved = Some(saved);
        self.tell(Event::Saved { path: path.clone() });
        Ok(path)
    }

    fn unsaved(&self, step: u64, error: &Error) -> Error {
        let whole = match &self.saved {
            Some(saved) => format!("{} is whole", saved.path.display()),
            None => "there is no earlier checkpoint".to_owned(),
        };
        Error::Unsaved { run: self.run.path().to_owned(), step, reason: error.to_string(), whole }
    }

    /// Stops the run: saves a checkpoint that it can go on from.
    pub fn stopped(
        &mut self,
        model: &LanguageModel,
        optimizer: &AdamW,
        state: &TrainerState,
        more: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<Ending> {
        let checkpoint = self.save(model, optimizer, state, more)?;
        Ok(Ending::Stopped { checkpoint, step: state.global_step })
    }

    /// Saves the final model to `model/` in the run directory, in place of an earlier one, unless the settings say that
    /// nobody wants it.
    pub fn finish(
        &mut self,
        model: &LanguageModel,
        step: u64,
        metrics: Metrics,
        more: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<Ending> {
        if !self.save_final {
            return Ok(Ending::Finished { model: None, step, metrics });
        }
        let path = self.run.path().join(MODEL);
        replace_folder(&path, &|folder| {
            model.save(folder, SaveDtype::F32)?;
            more(folder)
        })?;
        self.tell(Event::Saved { path: path.clone() });
        Ok(Ending::Finished { model: Some(path), step, metrics })
    }
}

/// Fills a folder under another name and gives it its name once it is whole; an earlier one goes then.
fn replace_folder(path: &Path, write: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let aside = |prefix: &str| {
        path.with_file_name(format!("{prefix}{}", path.file_name().unwrap_or_default().display()))
    };
    let (temporary, old) = (aside(".tmp-"), aside(".old-"));
    let io =
        |source| Error::Schema(pavlov_schema::Error::Io { file: path.to_owned(), doing: "save", source });
    remove_folder(&temporary)?;
    remove_folder(&old)?;
    fs::create_dir(&temporary).map_err(io)?;
    write(&temporary).inspect_err(|_| {
        let _ = fs::remove_dir_all(&temporary);
    })?;
    if path.exists() {
        fs::rename(path, &old).map_err(io)?;
    }
    fs::rename(&temporary, path).map_err(io)?;
    remove_folder(&old)
}

/// Removes a folder with all in it; absent is fine.
fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Schema(pavlov_schema::Error::Io { file: path.to_owned(), doing: "remove", source }))
        }
        _ => Ok(()),
    }
}

fn manifest(
    training: &TrainingConfig,
    data: Vec<DataFile>,
    model: &LanguageModel,
    command: &[String],
) -> Manifest {
    let backend = model.decoder.backend();
    Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command.to_vec(),
        seed: training.seed,
        data,
        processor: backend.describe(),
        dtype: dtype_name(model).to_owned(),
        threads: backend.threads(),
        started_at: rfc3339(model.files.now() as f64),
    }
}

fn dtype_name(model: &LanguageModel) -> &'static str {
    match model.params.dtype() {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
    }
}

/// Refuses to resume with another order of data; tells of every other setting that changed.
fn compare(
    run: &RunDir,
    settings: &impl Settings,
    data: &[DataFile],
    model: &LanguageModel,
    host: &mut Host,
) -> Result<()> {
    let old = Manifest::read(run.path())?;
    let dtype = dtype_name(model);
    if old.dtype != dtype {
        // `auto` means another format on another processor.
        let line =
            format!("products were in {} and are in {dtype} now: the run goes on differently", old.dtype);
        (host.events)(Event::Note(line));
    }
    for (old, new) in old.data.iter().zip(data) {
        if old.digest != new.digest {
            let problem =
                format!("{} is not the data of the run to resume; give it the same file", new.path.display());
            return Err(Error::setting("data", problem));
        }
    }
    let (old, new) = (read_toml(&run.path().join("config.toml"))?, settings.to_map());
    let mut names: Vec<&String> =
        old.keys().chain(new.keys()).filter(|name| !FREE_KEYS.contains(&name.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, now) = (old.get(name), new.get(name));
        let same = match (before.and_then(Value::as_f64), now.and_then(Value::as_f64)) {
            (Some(before), Some(now)) => before.to_bits() == now.to_bits(),
            _ => before == now,
        };
        if same {
            continue;
        }
        let show = |value: Option<&Value>| value.map_or("not set".to_owned(), ToString::to_string);
        let change = format!("was {} and is {} now", show(before), show(now));
        // The data is the same by its digest, wherever it lies.
        if ORDER_KEYS.contains(&name.as_str()) && name != "data" {
            let problem =
                format!("{change}, which changes what each update learns from; resume with the old value");
            return Err(Error::setting(name, problem));
        }
        (host.events)(Event::Note(format!("{name} {change}: the run goes on differently than it began")));
    }
    Ok(())
}
