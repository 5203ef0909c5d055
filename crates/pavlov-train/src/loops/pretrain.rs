//! Pre-training: every token of plain text is learned.
//!
//! Texts are written one after another, each with its end token, and cut into pieces of `max_length` tokens; only what
//! is left at the very end is shorter. A piece may begin in the middle of a text.

use std::path::Path;

use pavlov_lm::{EncodeOptions, Encoded, Encoder, LanguageModel};
use pavlov_schema::row::Row;

use super::sft::{Lessons, read_rows, teach};
use crate::run::{Ending, Host, PeftSettings, TrainingConfig, load_model};
use crate::settings::{Settings, require, settings};
use crate::stage::order::Batching;
use crate::{Error, Result};

settings! {
    /// What `pavlov pretrain` reads.
    pub struct PretrainConfig {
        [training: TrainingConfig { learning_rate: 5e-4 }, peft: PeftSettings {}]
        /// Tokens of a piece; no more than the model's context.
        max_length: usize = 1024,
    }
}

impl PretrainConfig {
    fn validate(&self) -> Result<()> {
        require(self.max_length > 1, "max_length", self.max_length, "at least 2")
    }
}

/// Loads the model and the texts, and teaches.
pub fn run(config: &PretrainConfig, host: &mut Host) -> Result<Ending> {
    let training = &config.training;
    let mut model = load_model(training, &config.peft)?;
    let (rows, mut files) = read_rows("data", &training.data)?;
    let rows = cut(&model.encoder(), &rows, config.max_length, &training.data)?;
    let mut held_out = Vec::new();
    if let Some(path) = &training.eval_data {
        let (rows, more) = read_rows("eval_data", path)?;
        files.extend(more);
        held_out = cut(&model.encoder(), &rows, config.max_length, path)?;
    }
    let lessons = Lessons { rows, held_out, files };
    train(&mut model, &lessons, config, host)
}

/// Teaches a model in memory.
pub fn train(
    model: &mut LanguageModel,
    lessons: &Lessons,
    config: &PretrainConfig,
    host: &mut Host,
) -> Result<Ending> {
    config.check()?;
    let batching = Batching::Rows(config.training.per_device_train_batch_size);
    teach(model, lessons, config, &config.training, batching, host)
}

/// Texts as pieces of `max_length` tokens, all of them learned; `path` names the rows in errors.
pub fn cut(encoder: &Encoder, rows: &[Row], max_length: usize, path: &Path) -> Result<Vec<Encoded>> {
    let length = max_length.min(encoder.max_positions);
    let options = EncodeOptions { max_length: None, completion_only: false, append_end: true };
    // The context bounds pieces, not texts.
    let encoder = Encoder { max_positions: usize::MAX, ..*encoder };
    let mut stream = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let place = format!("{}: row {}", path.display(), i + 1);
        stream.extend(encoder.encode_row(row, &options, &place)?.tokens);
    }
    let piece = |tokens: &[u32]| Encoded {
        tokens: tokens.to_vec(),
        trained: (0..tokens.len()).map(|i| i > 0).collect(),
        prompt_tokens: 0,
        cut: 0,
    };
    // A piece of one token has nothing to predict.
    let pieces: Vec<Encoded> = stream.chunks(length).filter(|tokens| tokens.len() > 1).map(piece).collect();
    if pieces.is_empty() {
        let problem = format!("{} has no text of two tokens; give it more", path.display());
        return Err(Error::setting("data", problem));
    }
    Ok(pieces)
}
