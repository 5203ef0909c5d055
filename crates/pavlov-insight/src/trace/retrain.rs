//! A stage taught again, with some of its lessons left out or turned round.

mod judged;
mod replayed;
mod shown;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pavlov_lm::LanguageModel;
use pavlov_train::run::{Ending, Host, TrainingConfig};

use self::judged::Judged;
use self::replayed::Replayed;
use self::shown::Shown;
use super::verify::{Change, How};
use crate::taught::{Taught, rollout_files};
use crate::{Error, Result};

/// A stage as its run was configured.
pub struct Retraining<'a> {
    stage: Stage,
    folder: PathBuf,
    stop: &'a AtomicBool,
}

/// By what the run taught.
enum Stage {
    Shown(Box<Shown>),
    Judged(Box<Judged>),
    Replayed(Box<Replayed>),
}

impl<'a> Retraining<'a> {
    /// Reads the run's configuration and lessons. `folder` is worked in and removed; `longest` bounds what a model writes in place
    /// of a demonstration, in tokens; `stop` ends a training.
    pub fn new(taught: &Taught, folder: &Path, longest: usize, stop: &'a AtomicBool) -> Result<Self> {
        let files = rollout_files(&taught.run)?;
        let has = |key: &str| taught.config.contains_key(key);
        let stage = if !files.is_empty() {
            Stage::Replayed(Box::new(Replayed::read(taught, &files)?))
        } else if has("rating_loss") {
            Stage::Judged(Box::new(Judged::read(taught)?))
        } else if has("completion_only_loss") {
            Stage::Shown(Box::new(Shown::read(taught, longest)?))
        } else {
            let run = taught.run.display();
            let what = "is no run of sft, reward, grpo or pairwise, and others have no lessons to leave out; leave out --verify";
            return Err(Error::Question(format!("{run}: {what}")));
        };
        Ok(Self { stage, folder: folder.to_owned(), stop })
    }

    /// How the stage is taught again.
    pub fn how(&self) -> How {
        match self.stage {
            Stage::Shown(_) | Stage::Judged(_) => How::Retrained,
            Stage::Replayed(_) => How::Replayed,
        }
    }

    /// The model that the stage makes of its lessons after the changes, by place. A seed orders the lessons anew, but those of a
    /// replay, whose order is what happened.
    pub fn run(&self, changes: &[Change], seed: u64) -> Result<LanguageModel> {
        let mut host = Host { stop: self.stop, events: &mut |_| {}, command: &[] };
        let change = |place: usize| changes.get(place).copied().unwrap_or(Change::Keep);
        let folder = self.folder.join("run");
        let (model, ending) = match &self.stage {
            Stage::Shown(stage) => stage.teach(&change, seed, &folder, &mut host)?,
            Stage::Judged(stage) => stage.teach(&change, seed, &folder, &mut host)?,
            Stage::Replayed(stage) => stage.teach(&change, &folder, &mut host)?,
        };
        match ending {
            Ending::Finished { .. } => Ok(model),
            Ending::Stopped { .. } => Err(Error::Stopped),
        }
    }
}

impl Drop for Retraining<'_> {
    fn drop(&mut self) {
        // What is left would only take room.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What is done with the lesson at a place.
type ChangeOf<'a> = dyn Fn(usize) -> Change + 'a;

/// The lessons that are left, in their order: those that are flipped as `opposite` makes them. `place` is a lesson's.
fn changed<T: Clone>(
    lessons: &[T],
    place: impl Fn(usize) -> usize,
    change: &ChangeOf,
    mut opposite: impl FnMut(usize, &T) -> Result<T>,
) -> Result<Vec<T>> {
    let mut left = Vec::with_capacity(lessons.len());
    for (i, lesson) in lessons.iter().enumerate() {
        match change(place(i)) {
            Change::Keep => left.push(lesson.clone()),
            Change::Drop => {}
            Change::Flip => left.push(opposite(i, lesson)?),
        }
    }
    Ok(left)
}

/// A run of which only the weights are wanted, in memory.
fn in_memory(training: &mut TrainingConfig) {
    training.overwrite_output_dir = true;
    training.resume_from_checkpoint = false;
    training.eval_data = None;
    training.save_steps = 0;
    training.save_final_model = false;
}
