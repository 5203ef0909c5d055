//! What a run tells the program around it, and what that program tells the run.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::Metrics;
use crate::reward::Waiting;

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run begins, or goes on after `step` updates.
    Started {
        /// Updates made before.
        step: u64,
        /// Updates in the whole run.
        total: u64,
        /// The run directory.
        path: PathBuf,
    },
    /// An update was made.
    Step {
        /// Its number, from 1.
        step: u64,
        /// Updates in the whole run.
        total: u64,
        /// The numbers of this update alone, by TRL's names.
        metrics: Metrics,
    },
    /// A line went to `metrics.jsonl`: means over the updates since the line before.
    Logged {
        /// Updates made.
        step: u64,
        /// Updates in the whole run.
        total: u64,
        /// The line.
        metrics: Metrics,
    },
    /// The held-out data was evaluated.
    Evaluated {
        /// Updates made.
        step: u64,
        /// Numbers with names that begin with `eval_`.
        metrics: Metrics,
    },
    /// A checkpoint, or the final model, is whole on the disk.
    Saved {
        /// Its folder.
        path: PathBuf,
    },
    /// An answer of the policy.
    Sample {
        /// Updates made.
        step: u64,
        /// The prompt as the policy sees it.
        prompt: String,
        /// The answer.
        completion: String,
        /// Its reward, in reward points.
        reward: Option<f64>,
    },
    /// People were asked, and the run waits for them.
    Waiting {
        /// The update that will learn from their answers, from 1.
        step: u64,
        /// What it waits for.
        stands: Waiting,
    },
    /// Something a person should know, in one line.
    Note(String),
}

/// The program around a run.
pub struct Host<'a> {
    /// Set to true to stop the run at the next boundary between updates.
    pub stop: &'a AtomicBool,
    /// Is told everything that happens.
    pub events: &'a mut dyn FnMut(Event),
    /// The command line, for the manifest.
    pub command: &'a [String],
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All updates were made.
    Finished {
        /// The folder of the final model, if it was to be saved.
        model: Option<PathBuf>,
        /// Updates made.
        step: u64,
        /// The last evaluation; empty without held-out data.
        metrics: Metrics,
    },
    /// [`Host::stop`] was set; the same configuration with `resume_from_checkpoint = true` goes on.
    Stopped {
        /// The checkpoint to resume from.
        checkpoint: PathBuf,
        /// Updates made.
        step: u64,
    },
}
