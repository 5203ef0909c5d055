//! A language model or reward model in memory: files, decoder and weights.

use std::path::Path;
use std::sync::Arc;

use pavlov_engine::{Cpu, Decoder, Dtype, Parameters};

use crate::adapter::{AdapterConfig, SCORE, Task, score_tensor};
use crate::checkpoint::{ADAPTER, Checkpoint};
use crate::encode::Encoder;
use crate::hf_config::HfConfig;
use crate::model_files::ModelFiles;
use crate::save::{Get, SHARD_BYTES, SaveDtype, save_parameters, write_file};
use crate::{Error, Result};

/// How a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Precision of matrix products; weights are f32 in memory either way.
    pub dtype: Dtype,
    /// Threads; 0 for as many as the processor has.
    pub threads: usize,
}

/// The adapter that a model is loaded with.
#[derive(Clone, Debug)]
pub enum AdapterSource<'a> {
    /// The folder of a PEFT adapter.
    Folder(&'a Path),
    /// A new one, which changes nothing until it is trained.
    New {
        /// What it is like.
        config: AdapterConfig,
        /// Seed of its first matrices.
        seed: u64,
    },
}

/// A model, ready to score, sample and train.
pub struct LanguageModel {
    /// Configuration, tokenizer and chat template.
    pub files: ModelFiles,
    /// The decoder.
    pub decoder: Decoder<Cpu>,
    /// The weights.
    pub params: Parameters<Cpu>,
    /// What its adapter is, if it has one; the other weights are frozen then.
    pub adapter: Option<AdapterConfig>,
}

impl LanguageModel {
    /// Loads a Hugging Face folder, or that of a PEFT adapter with the base that it names.
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self> {
        Self::load_on(folder, &Arc::new(Cpu::new(options.threads)), options.dtype)
    }

    /// As [`LanguageModel::load`], beside models that are already there, on the same threads.
    pub fn load_on(folder: &Path, backend: &Arc<Cpu>, dtype: Dtype) -> Result<Self> {
        if AdapterConfig::is_in(folder) {
            let base = AdapterConfig::read(folder)?.base_folder(folder)?;
            return Self::load_adapted(&base, &AdapterSource::Folder(folder), backend, dtype);
        }
        Self::load_plain(folder, backend, dtype, Ok)
    }

    /// As [`LanguageModel::load_on`], for a model that speaks or judges and learns nothing: under bf16 its matrices are in
    /// memory as bf16 alone, a third of what training needs of them.
    pub fn load_frozen(folder: &Path, backend: &Arc<Cpu>, dtype: Dtype) -> Result<Self> {
        if AdapterConfig::is_in(folder) {
            return Self::load_on(folder, backend, dtype);
        }
        Self::load_plain(folder, backend, dtype, |decoder| Ok(decoder.frozen()?))
    }

    fn load_plain(
        folder: &Path,
        backend: &Arc<Cpu>,
        dtype: Dtype,
        prepare: impl Fn(Decoder<Cpu>) -> Result<Decoder<Cpu>>,
    ) -> Result<Self> {
        let files = ModelFiles::load(folder)?;
        let config = files.config.clone();
        let decoder = prepare(Decoder::new(Arc::clone(backend), config.decoder.clone())?)?;
        let params = read_base(folder, &config, &decoder, dtype)?;
        Ok(Self { files, decoder, params, adapter: None })
    }

    /// Loads the Hugging Face folder `base`, frozen, with an adapter.
    pub fn load_adapted(
        base: &Path,
        source: &AdapterSource<'_>,
        backend: &Arc<Cpu>,
        dtype: Dtype,
    ) -> Result<Self> {
        let mut files = ModelFiles::load(base)?;
        let stored = files.config.clone();
        let (config, tensors) = match source {
            AdapterSource::New { config, .. } => (config.clone(), None),
            AdapterSource::Folder(folder) => {
                let (config, task) = AdapterConfig::read_with_task(folder)?;
                let tensors = Checkpoint::open_adapter(folder)?;
                match (task, stored.decoder.scalar_outputs) {
                    (Task::Score, 0) => files = files.with_scalar_head(tensors.rows(&score_tensor())?)?,
                    (Task::Language, 1..) => {
                        let what = "it is an adapter of a language model, and the base is none";
                        let mend = "give the base that adapter_config.json names";
                        return Err(Error::file(folder, format!("{what} ({}); {mend}", base.display())));
                    }
                    _ => {}
                }
                (config, Some(tensors))
            }
        };
        let decoder = Decoder::new(Arc::clone(backend), files.config.decoder.clone())?
            .with_adapter(config.lora(&files.config)?)?;
        let mut params = read_base(base, &stored, &decoder, dtype)?;
        if let AdapterSource::New { seed, .. } = source {
            params.init_those(*seed, |spec| spec.trainable && spec.name != SCORE);
        }
        let mut model = Self { files, decoder, params, adapter: Some(config) };
        if let Some(tensors) = tensors {
            model.read_adapter(&tensors)?;
        }
        Ok(model)
    }

    /// A model with random weights.
    pub fn random(files: ModelFiles, backend: &Arc<Cpu>, dtype: Dtype, seed: u64) -> Result<Self> {
        let decoder = Decoder::new(Arc::clone(backend), files.config.decoder.clone())?;
        let mut params = Parameters::zeros(&decoder, dtype);
        params.init(seed);
        Ok(Self { files, decoder, params, adapter: None })
    }

    /// The same decoder with a random head of `outputs` scalar outputs in place of the language head: the beginning of
    /// a reward model. Of a reward model, only its head is new.
    pub fn with_scalar_head(self, outputs: usize, seed: u64) -> Result<Self> {
        let files = self.files.with_scalar_head(outputs)?;
        let mut decoder = Decoder::new(Arc::clone(self.decoder.backend()), files.config.decoder.clone())?;
        if let Some(adapter) = &self.adapter {
            decoder = decoder.with_adapter(adapter.lora(&files.config)?)?;
        }
        let mut params = Parameters::zeros(&decoder, self.params.dtype());
        params.take_over(self.params, |spec| spec.name != SCORE)?;
        params.init_those(seed, |spec| spec.name == SCORE);
        Ok(Self { files, decoder, params, adapter: self.adapter })
    }

    /// The model with its adapter added to its weights, for what knows of no adapters. The sum is rounded as the weights
    /// are held, so that f32 is the dtype to load with.
    pub fn merged(mut self) -> Result<Self> {
        self.decoder.merge(&mut self.params)?;
        let decoder = self.decoder.without_adapter();
        let mut params = Parameters::zeros(&decoder, self.params.dtype());
        params.take_over(self.params, |_| true)?;
        Ok(Self { files: self.files, decoder, params, adapter: None })
    }

    /// Writes a folder that transformers loads unchanged, or, of a model with an adapter, the adapter's folder, which PEFT
    /// loads. Weights that are not finite are an error.
    pub fn save(&self, folder: &Path, dtype: SaveDtype) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        self.save_weights(folder, dtype, &|spec| Ok(self.params.get(&spec.name)?))?;
        match &self.adapter {
            Some(adapter) => {
                adapter.write(folder, &self.files.config)?;
                self.files.save_texts(folder)
            }
            None => self.files.save(folder, dtype),
        }
    }

    /// Writes the weights alone, or the adapter's, with the numbers that `get` gives for them.
    pub fn save_weights(&self, folder: &Path, dtype: SaveDtype, get: Get<'_>) -> Result<()> {
        let config = &self.files.config;
        match &self.adapter {
            Some(adapter) => {
                let tensors = adapter.tensors(config, self.decoder.parameters());
                write_file(&folder.join(ADAPTER), &tensors, dtype, get)
            }
            None => save_parameters(folder, &config.decoder, config.family, dtype, SHARD_BYTES, get),
        }
    }

    /// Takes over the weights of a folder that [`LanguageModel::save`] wrote of the same model.
    pub fn restore(&mut self, folder: &Path) -> Result<()> {
        if self.adapter.is_some() {
            return self.read_adapter(&Checkpoint::open_adapter(folder)?);
        }
        let (config, params) = (&self.files.config, &mut self.params);
        Checkpoint::open(folder)?.read_parameters(&config.decoder, config.family, &mut |spec, numbers| {
            Ok(params.set(&spec.name, numbers)?)
        })?;
        Ok(())
    }

    fn read_adapter(&mut self, tensors: &Checkpoint) -> Result<()> {
        let Some(adapter) = &self.adapter else { return Ok(()) };
        let wanted = adapter.tensors(&self.files.config, self.decoder.parameters());
        let params = &mut self.params;
        tensors.read_stored(&wanted, &|_| Ok(false), &mut |spec, numbers| {
            Ok(params.set(&spec.name, numbers)?)
        })?;
        Ok(())
    }

    /// What rows are encoded with.
    pub fn encoder(&self) -> Encoder<'_> {
        self.files.encoder()
    }
}

/// The weights of a folder that a configuration describes, as far as the decoder has them.
fn read_base(
    folder: &Path,
    stored: &HfConfig,
    decoder: &Decoder<Cpu>,
    dtype: Dtype,
) -> Result<Parameters<Cpu>> {
    let checkpoint = Checkpoint::open(folder)?;
    // Memory is taken once the file is known to hold what the configuration asks for.
    let mut params: Option<Parameters<Cpu>> = None;
    checkpoint.read_parameters(&stored.decoder, stored.family, &mut |spec, numbers| {
        let params = params.get_or_insert_with(|| Parameters::zeros(decoder, dtype));
        if decoder.parameters().iter().any(|own| own.name == spec.name) {
            params.set(&spec.name, numbers)?;
        }
        Ok(())
    })?;
    params.ok_or_else(|| Error::file(folder, "the model has no parameters"))
}
