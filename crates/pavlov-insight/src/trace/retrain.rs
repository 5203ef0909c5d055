//! A stage of demonstrations taught again, with some of them left out or turned round.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pavlov_lm::{Encoded, LanguageModel};
use pavlov_schema::dataset;
use pavlov_train::loops::sft::{self, Lessons, SftConfig};
use pavlov_train::run::{Ending, Host, load_model};
use pavlov_train::settings::Settings;

use super::cases::greedy;
use super::lesson::CHUNK;
use super::verify::Change;
use crate::taught::Taught;
use crate::{Error, Result};

/// A stage of demonstrations as its run was configured.
pub struct Retraining<'a> {
    config: SftConfig,
    rows: Vec<Encoded>,
    folder: PathBuf,
    stop: &'a AtomicBool,
    longest: usize,
}

impl<'a> Retraining<'a> {
    /// Reads the run's configuration and data. `folder` is worked in and removed; `stop` ends a training.
    pub fn new(taught: &Taught, folder: &Path, longest: usize, stop: &'a AtomicBool) -> Result<Self> {
        let mut config = SftConfig::from_map(taught.config.clone()).map_err(|_| {
            Error::Question(format!(
                "{}: is no run of sft, and others cannot be retrained without some lessons; leave out --verify",
                taught.run.display()
            ))
        })?;
        config.training.output_dir = folder.join("run");
        config.training.overwrite_output_dir = true;
        config.training.resume_from_checkpoint = false;
        config.training.eval_data = None;
        config.training.save_steps = 0;
        config.training.save_final_model = false;
        let rows = dataset::read(&config.training.data)?;
        let model = load_model(&config.training, &config.peft)?;
        let mut silent = Host { stop, events: &mut |_| {}, command: &[] };
        let rows = sft::encode(&model.encoder(), &rows, &config, &config.training.data, &mut silent)?;
        Ok(Self { config, rows, folder: folder.to_owned(), stop, longest })
    }

    /// The model that the run makes of its data after the changes, with another seed. Demonstrations have no label to flip:
    /// the opposite of one is the most probable answer of the model before.
    pub fn run(&self, changes: &[Change], seed: u64) -> Result<LanguageModel> {
        let mut config = self.config.clone();
        config.training.seed = seed;
        let mut model = load_model(&config.training, &config.peft)?;
        let change = |i: usize| changes.get(i).copied().unwrap_or(Change::Keep);
        let flipped: Vec<usize> = (0..self.rows.len()).filter(|i| change(*i) == Change::Flip).collect();
        let mut opposite = Vec::with_capacity(flipped.len());
        for part in flipped.chunks(CHUNK) {
            let prompts: Vec<Vec<u32>> = part
                .iter()
                .map(|i| self.rows[*i].tokens[..self.rows[*i].prompt_tokens.max(1)].to_vec())
                .collect();
            opposite.extend(greedy(&model, &prompts, self.longest)?);
        }
        let mut opposite = opposite.into_iter();
        let mut rows = Vec::with_capacity(self.rows.len());
        for (i, row) in self.rows.iter().enumerate() {
            match change(i) {
                Change::Keep => rows.push(row.clone()),
                Change::Drop => {}
                Change::Flip => rows.push(instead(row, &opposite.next().unwrap_or_default())),
            }
        }
        let lessons = Lessons { rows, ..Lessons::default() };
        let mut host = Host { stop: self.stop, events: &mut |_| {}, command: &[] };
        match sft::train(&mut model, &lessons, &config, &mut host)? {
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

/// The row's prompt with another answer.
fn instead(row: &Encoded, answer: &[u32]) -> Encoded {
    let prompt_tokens = row.prompt_tokens.max(1);
    let tokens = [&row.tokens[..prompt_tokens], answer].concat();
    let trained = (0..tokens.len()).map(|i| i >= prompt_tokens).collect();
    Encoded { tokens, trained, prompt_tokens, cut: 0 }
}
