//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! ```text
//! checkpoints/step-000100/
//!   config.json, model.safetensors, tokenizer.json, …   the model, which transformers loads; weights in f32; of an adapter
//!                                                       adapter_config.json and adapter_model.safetensors, without its base
//!   optimizer.safetensors                               AdamW's moments: exp_avg.NAME and exp_avg_sq.NAME
//!   trainer_state.json                                  updates, tokens, sums since the last line of metrics
//! ```
//!
//! Random numbers and the order of the data have no state: they are named by (seed, stream, step, index).

use std::fs;
use std::io::Write;
use std::path::Path;

use pavlov_engine::{AdamW, Moments};
use pavlov_lm::{LanguageModel, SaveDtype};
use pavlov_schema::files::write_atomic;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Means;
use crate::{Error, Result};

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "trainer_state.json";
const FIRST: &str = "exp_avg.";
const SECOND: &str = "exp_avg_sq.";

/// Where a run is, beside its weights and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Updates made.
    pub global_step: u64,
    /// Times that the data was gone through.
    pub epoch: f64,
    /// Tokens that forward passes of training read.
    pub num_input_tokens_seen: u64,
    /// The metrics since the last line of `metrics.jsonl`.
    pub pending: Means,
    /// What one loop alone keeps.
    #[serde(default)]
    pub extra: Map<String, Value>,
}

/// The settings and data that decide what each update learns from; a run resumes only with the same.
pub(crate) const ORDER_KEYS: [&str; 8] = [
    "data",
    "seed",
    "shuffle_dataset",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "packing",
    "num_generations",
];

/// Writes a checkpoint into an empty folder.
pub fn write(folder: &Path, model: &LanguageModel, optimizer: &AdamW, state: &TrainerState) -> Result<()> {
    model.save(folder, SaveDtype::F32)?;
    write_moments(&folder.join(OPTIMIZER), &optimizer.state()?)?;
    let file = folder.join(STATE);
    write_atomic(&file, |out| {
        serde_json::to_writer_pretty(&mut *out, state)?;
        out.write_all(b"\n")
    })?;
    Ok(())
}

/// Takes over the weights, the moments and the state of a checkpoint.
pub fn read(folder: &Path, model: &mut LanguageModel, optimizer: &mut AdamW) -> Result<TrainerState> {
    let file = folder.join(STATE);
    let text = fs::read_to_string(&file).map_err(|e| wrong(&file, format!("cannot read: {e}")))?;
    let state: TrainerState = serde_json::from_str(&text).map_err(|e| damaged(&file, &e))?;
    restore_moments(&folder.join(OPTIMIZER), optimizer, state.global_step)?;
    model.restore(folder)?;
    Ok(state)
}

/// Writes the header, then one tensor after another, so that the bytes of one alone are in memory.
fn write_moments(file: &Path, moments: &[Moments]) -> Result<()> {
    let tensors: Vec<(String, &[f32])> = moments
        .iter()
        .flat_map(|moments| [(FIRST, moments, &moments.first), (SECOND, moments, &moments.second)])
        .map(|(prefix, moments, numbers)| (format!("{prefix}{}", moments.name), numbers.as_slice()))
        .collect();
    let mut end = 0;
    let info = |(name, numbers): &(String, &[f32])| {
        let start = end;
        end += 4 * numbers.len();
        (
            name.clone(),
            TensorInfo { dtype: Dtype::F32, shape: vec![numbers.len()], data_offsets: (start, end) },
        )
    };
    let metadata = Metadata::new(None, tensors.iter().map(info).collect());
    let metadata = metadata.map_err(|e| wrong(file, format!("cannot describe the moments: {e}")))?;
    write_atomic(file, |out| {
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, numbers) in &tensors {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn restore_moments(file: &Path, optimizer: &mut AdamW, steps: u64) -> Result<()> {
    let bytes = fs::read(file).map_err(|e| wrong(file, format!("cannot read: {e}")))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(file, &e))?;
    let numbers = |name: &str| {
        let tensor = tensors.tensor(name).map_err(|e| damaged(file, &e))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(wrong(
                file,
                format!("tensor {name} is {:?} and not F32; take another checkpoint", tensor.dtype()),
            ));
        }
        Ok(tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect::<Vec<_>>())
    };
    let names = tensors.names();
    let mut names: Vec<&str> = names.into_iter().filter_map(|name| name.strip_prefix(FIRST)).collect();
    names.sort_unstable();
    let moments = names.into_iter().map(|name| {
        let (first, second) = (numbers(&format!("{FIRST}{name}"))?, numbers(&format!("{SECOND}{name}"))?);
        Ok(Moments { name: name.to_owned(), first, second })
    });
    let moments = moments.collect::<Result<Vec<_>>>()?;
    optimizer.restore(steps, &moments).map_err(|e| damaged(file, &e))
}

fn wrong(file: &Path, problem: String) -> Error {
    Error::Checkpoint { file: file.to_owned(), problem }
}

fn damaged(file: &Path, error: &dyn std::fmt::Display) -> Error {
    wrong(
        file,
        format!(
            "{error}; the checkpoint is damaged or of another model, remove it to resume from the one before"
        ),
    )
}
