//! The model that a run begins with: a Hugging Face folder trained whole, or with an adapter in its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pavlov_engine::Cpu;
use pavlov_lm::{AdapterConfig, AdapterSource, LanguageModel, LoadOptions, Targets};
use pavlov_schema::clock::from_rfc3339;
use pavlov_schema::run::Manifest;
use serde::{Deserialize, Serialize};

use super::TrainingConfig;
use super::training::given;
use crate::settings::{require, settings};
use crate::{Error, Result};

/// Which linear layers get a low-rank update (`lora_target_modules`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// `all-linear`.
    Word(String),
    /// Names.
    Names(Vec<String>),
}

settings! {
    /// The keys of low-rank adapters (LoRA), by the names of TRL and PEFT.
    pub struct PeftSettings {
        /// Whether a low-rank adapter (LoRA) is trained in place of the model, which stays as it is; the model of the run
        /// is then the adapter's folder, which PEFT loads. With products in bf16 the model is held in bf16 alone.
        use_peft: bool = false,
        /// Folder of a PEFT adapter of the model to go on from, with its own rank, alpha and targets, in place of a new
        /// one. The model may be left out where adapter_config.json names it.
        adapter: Option<PathBuf> = None,
        /// Rank of a new adapter, at least 1.
        lora_r: usize = 16,
        /// α of a new adapter: its updates are multiplied with α/rank; above 0.
        lora_alpha: f64 = 32.0,
        /// Refused above 0: an adapter is trained without dropout.
        lora_dropout: f64 = 0.0,
        /// Linear layers that get an update: all-linear, or a list of names, or of their ends, such as q_proj and v_proj.
        lora_target_modules: TargetModules = TargetModules::Word("all-linear".into()),
        /// Whether updates are multiplied with α/√rank instead (rank-stabilised LoRA).
        use_rslora: bool = false,
    }
}

impl PeftSettings {
    fn validate(&self) -> Result<()> {
        require((1..=1 << 16).contains(&self.lora_r), "lora_r", self.lora_r, "from 1 to 65536")?;
        let alpha = self.lora_alpha;
        require(alpha > 0.0 && alpha.is_finite(), "lora_alpha", alpha, "above 0")?;
        require(self.lora_dropout == 0.0, "lora_dropout", self.lora_dropout, "0: there is no dropout")?;
        let targets = &self.lora_target_modules;
        match targets {
            TargetModules::Word(word) if word != "all-linear" => Err(Error::setting(
                "lora_target_modules",
                format!("is {word}; write all-linear or a list of names, as [\"{word}\"]"),
            )),
            TargetModules::Names(names) if names.is_empty() => {
                Err(Error::setting("lora_target_modules", "names no layer; write all-linear or some names"))
            }
            _ => Ok(()),
        }
    }

    /// A new adapter of a base.
    fn new_adapter(&self, base: &Path) -> AdapterConfig {
        AdapterConfig {
            base: base.to_string_lossy().into_owned(),
            rank: self.lora_r,
            alpha: self.lora_alpha,
            rank_stabilised: self.use_rslora,
            targets: match &self.lora_target_modules {
                TargetModules::Word(_) => Targets::AllLinear,
                TargetModules::Names(names) => Targets::Named(names.clone()),
            },
            dropout: 0.0,
        }
    }
}

/// How the model is loaded.
pub fn load_options(config: &TrainingConfig) -> LoadOptions {
    LoadOptions { dtype: config.dtype.resolve(), threads: config.threads }
}

/// Loads the model to begin with. Of a run that is resumed, its chat template tells the date on which that run started.
pub fn load_model(config: &TrainingConfig, peft: &PeftSettings) -> Result<LanguageModel> {
    let LoadOptions { dtype, threads } = load_options(config);
    let backend = Arc::new(Cpu::new(threads));
    let base = &config.model;
    let of_adapter = |folder: &Path| base.as_os_str().is_empty() && AdapterConfig::is_in(folder);
    let mut model = match &peft.adapter {
        Some(folder) if of_adapter(folder) => LanguageModel::load_on(folder, &backend, dtype)?,
        Some(folder) => {
            let source = AdapterSource::Folder(folder);
            LanguageModel::load_adapted(given("model", base)?, &source, &backend, dtype)?
        }
        None if !peft.use_peft => LanguageModel::load_on(given("model", base)?, &backend, dtype)?,
        None if AdapterConfig::is_in(base) => {
            let problem =
                "is an adapter already, which is trained as it is; leave out use_peft, or merge it first";
            return Err(Error::setting("model", problem));
        }
        None => {
            let source =
                AdapterSource::New { config: peft.new_adapter(given("model", base)?), seed: config.seed };
            LanguageModel::load_adapted(base, &source, &backend, dtype)?
        }
    };
    // A run that cannot be resumed is told so when it is opened.
    let earlier = config.resume_from_checkpoint.then(|| Manifest::read(&config.output_dir).ok()).flatten();
    if let Some(started) = earlier.and_then(|manifest| from_rfc3339(&manifest.started_at)) {
        model.files.set_now(started);
    }
    match &model.adapter {
        Some(adapter) if adapter.dropout > 0.0 => {
            let problem = format!(
                "was trained with lora_dropout {}, and there is no dropout here; set it to 0 in adapter_config.json",
                adapter.dropout
            );
            Err(Error::setting("adapter", problem))
        }
        _ => Ok(model),
    }
}
