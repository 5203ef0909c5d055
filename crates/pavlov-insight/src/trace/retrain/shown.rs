//! Demonstrations, shown again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pavlov_lm::{Encoded, LanguageModel};
use pavlov_schema::dataset;
use pavlov_train::loops::sft::{self, Lessons, SftConfig};
use pavlov_train::run::{Ending, Host, load_model};
use pavlov_train::settings::Settings;

use super::super::cases::greedy;
use super::super::lesson::CHUNK;
use super::super::verify::Change;
use super::{ChangeOf, changed, in_memory};
use crate::Result;
use crate::taught::Taught;

/// A run of `sft` and its demonstrations, a row of its data each.
pub(super) struct Shown {
    config: SftConfig,
    rows: Vec<Encoded>,
    longest: usize,
}

impl Shown {
    pub(super) fn read(taught: &Taught, longest: usize) -> Result<Self> {
        let mut config = SftConfig::from_map(taught.config.clone())?;
        in_memory(&mut config.training);
        let rows = dataset::read(&config.training.data)?;
        let model = load_model(&config.training, &config.peft)?;
        let stop = AtomicBool::new(false);
        let mut silent = Host { stop: &stop, events: &mut |_| {}, command: &[] };
        let rows = sft::encode(&model.encoder(), &rows, &config, &config.training.data, &mut silent)?;
        Ok(Self { config, rows, longest })
    }

    /// Demonstrations have no label to flip: the opposite of one is the most probable answer of the model before.
    pub(super) fn teach(
        &self,
        change: &ChangeOf,
        seed: u64,
        folder: &Path,
        host: &mut Host,
    ) -> Result<(LanguageModel, Ending)> {
        let mut config = self.config.clone();
        config.training.seed = seed;
        folder.clone_into(&mut config.training.output_dir);
        let mut model = load_model(&config.training, &config.peft)?;
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
        let flip = |_, row: &Encoded| Ok(instead(row, &opposite.next().unwrap_or_default()));
        let rows = changed(&self.rows, |i| i, change, flip)?;
        let lessons = Lessons { rows, ..Lessons::default() };
        let ending = sft::train(&mut model, &lessons, &config, host)?;
        Ok((model, ending))
    }
}

/// The row's prompt with another answer.
fn instead(row: &Encoded, answer: &[u32]) -> Encoded {
    let prompt_tokens = row.prompt_tokens.max(1);
    let tokens = [&row.tokens[..prompt_tokens], answer].concat();
    let trained = (0..tokens.len()).map(|i| i >= prompt_tokens).collect();
    Encoded { tokens, trained, prompt_tokens, cut: 0 }
}
