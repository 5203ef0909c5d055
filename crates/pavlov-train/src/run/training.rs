//! The settings that every loop has, by TRL's names.

use std::path::PathBuf;

use pavlov_engine::{AdamWConfig, Dtype, Isa};
use serde::{Deserialize, Serialize};

use crate::schedule::{Schedule, Scheduler};
use crate::settings::{require, settings};
use crate::{Error, Result};

/// The number format of matrix products (`dtype`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bfloat16 on a processor that multiplies it (AVX512-BF16), else single precision.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Operands rounded to bfloat16, sums in single precision.
    Bf16,
}

impl Precision {
    /// The engine's format.
    pub fn resolve(self) -> Dtype {
        match self {
            Self::Auto if Isa::detect().multiplies_bf16() => Dtype::Bf16,
            Self::Auto | Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
        }
    }
}

settings! {
    /// The keys of every loop.
    pub struct TrainingConfig {
        /// Folder of the Hugging Face model to begin with.
        model: PathBuf = PathBuf::new(),
        /// File of the lessons: .jsonl, .json or .parquet, with TRL's column names.
        data: PathBuf = PathBuf::new(),
        /// File of held-out rows, evaluated but never learned from.
        eval_data: Option<PathBuf> = None,
        /// Folder of the run: config.toml, metrics.jsonl, checkpoints/step-N/, and the final model in model/.
        output_dir: PathBuf = PathBuf::new(),
        /// Whether to go on from the newest checkpoint in output_dir.
        resume_from_checkpoint: bool = false,
        /// Whether an earlier run in output_dir may be removed.
        overwrite_output_dir: bool = false,
        /// Seed of every random number.
        seed: u64 = 42,
        /// Number format of matrix products: f32, bf16, or auto: bf16 on a processor that multiplies it. What is trained and the optimizer are f32 always.
        dtype: Precision = Precision::Auto,
        /// Threads that compute; 0: as many as the processor has. Results do not depend on it.
        threads: usize = 0,
        /// Peak learning rate, per update, 0 or more.
        learning_rate: f64 = 2e-5,
        /// Shape of the learning rate over the run: constant, constant_with_warmup, linear or cosine.
        lr_scheduler_type: Scheduler = Scheduler::Linear,
        /// Updates in which the learning rate rises from 0 to its peak; wins over warmup_ratio.
        warmup_steps: usize = 0,
        /// Share of all updates in which the learning rate rises, from 0 to 1.
        warmup_ratio: f64 = 0.0,
        /// Updates in the run; 0: as many as num_train_epochs makes.
        max_steps: u64 = 0,
        /// Times that every row is learned from, above 0; may be a fraction.
        num_train_epochs: f64 = 1.0,
        /// Rows in a forward pass, at least 1.
        per_device_train_batch_size: usize = 8,
        /// Rows in a forward pass of an evaluation, at least 1.
        per_device_eval_batch_size: usize = 8,
        /// Forward passes in an update, at least 1.
        gradient_accumulation_steps: usize = 1,
        /// Whether rows are learned from in random order, another one each epoch.
        shuffle_dataset: bool = true,
        /// Decoupled weight decay (AdamW) of every parameter, norms and biases too, per unit of learning rate, 0 or more.
        weight_decay: f64 = 0.0,
        /// Decay of AdamW's mean of gradients, from 0 to below 1.
        adam_beta1: f64 = 0.9,
        /// Decay of AdamW's mean of squared gradients, from 0 to below 1.
        adam_beta2: f64 = 0.999,
        /// Added to AdamW's root of the mean square, above 0.
        adam_epsilon: f64 = 1e-8,
        /// Largest norm of an update's gradient, longer ones are shortened; 0: any.
        max_grad_norm: f64 = 1.0,
        /// Whether activations are computed again in the backward pass, for less memory and more time.
        gradient_checkpointing: bool = false,
        /// Updates between lines of metrics.jsonl, at least 1.
        logging_steps: u64 = 10,
        /// Updates between evaluations of eval_data; 0: only after the last.
        eval_steps: u64 = 0,
        /// Updates between checkpoints; 0: only where the run is stopped.
        save_steps: u64 = 500,
        /// Checkpoints to keep, older ones are removed; 0: all.
        save_total_limit: usize = 0,
        /// Whether the taught model is saved in output_dir/model at the end; false where only the metrics are of interest.
        save_final_model: bool = true,
    }
}

impl TrainingConfig {
    fn validate(&self) -> Result<()> {
        let unit = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
        ] {
            require(not_negative(value), key, value, "0 or more")?;
        }
        for (key, value) in [("num_train_epochs", self.num_train_epochs), ("adam_epsilon", self.adam_epsilon)]
        {
            require(value > 0.0 && value.is_finite(), key, value, "above 0")?;
        }
        require(
            self.num_train_epochs <= 1e6,
            "num_train_epochs",
            self.num_train_epochs,
            "at most a million",
        )?;
        for (key, value) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            require(unit(value), key, value, "from 0 to below 1")?;
        }
        for (key, value) in [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("logging_steps", self.logging_steps as usize),
        ] {
            require(value > 0, key, value, "at least 1")?;
        }
        require(self.max_steps <= 1 << 40, "max_steps", self.max_steps, "at most 2^40")?;
        let both = self.resume_from_checkpoint && self.overwrite_output_dir;
        require(!both, "overwrite_output_dir", "true", "false to resume from a checkpoint")?;
        // Fails for a shape that does not go with the warm-up.
        self.schedule(1).map(|_| ())
    }

    /// The learning rates of a run of `total` updates.
    pub fn schedule(&self, total: u64) -> Result<Schedule> {
        Schedule::new(self.lr_scheduler_type, self.warmup_steps, self.warmup_ratio, total as usize)
    }

    /// The optimizer's constants.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            eps: self.adam_epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// Whether something that is done every `every` updates (0: never) is due after update `step`.
    pub(crate) fn due(every: u64, step: u64) -> bool {
        every > 0 && step.is_multiple_of(every)
    }
}

/// A path that has to be given.
pub(crate) fn given<'a>(key: &str, path: &'a PathBuf) -> Result<&'a PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Error::setting(key, "is missing; give it a path"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use serde_json::{Map, Value, json};

    fn read(value: Value) -> std::result::Result<TrainingConfig, String> {
        let Value::Object(map) = value else { panic!("no object") };
        TrainingConfig::from_map(map).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_pass_and_round_trip() {
        let config = read(json!({})).unwrap();
        assert_eq!(config, TrainingConfig::default());
        let again: Map<String, Value> = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(TrainingConfig::from_map(again).unwrap(), config);
    }

    #[test]
    fn out_of_range_names_the_key() {
        for (key, value) in [
            ("learning_rate", json!(-1e-5)),
            ("num_train_epochs", json!(0)),
            ("adam_beta2", json!(1.0)),
            ("per_device_train_batch_size", json!(0)),
            ("logging_steps", json!(0)),
            ("warmup_ratio", json!(2)),
            ("lr_scheduler_type", json!("linaer")),
        ] {
            let error = read(Value::Object(Map::from_iter([(key.to_owned(), value)]))).unwrap_err();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
        let error = read(json!({"resume_from_checkpoint": true, "overwrite_output_dir": true})).unwrap_err();
        assert!(error.contains("overwrite_output_dir"), "{error}");
    }
}
