//! A language model or reward model in memory: files, decoder and weights.

use std::path::Path;
use std::sync::Arc;

use pavlov_engine::{Cpu, Decoder, Dtype, Parameters};

use crate::checkpoint::Checkpoint;
use crate::encode::Encoder;
use crate::model_files::ModelFiles;
use crate::save::{SHARD_BYTES, SaveDtype, save_parameters};
use crate::{Error, Result};

/// How a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Precision of matrix products; weights are f32 in memory either way.
    pub dtype: Dtype,
    /// Threads; 0 for as many as the processor has.
    pub threads: usize,
}

/// A model, ready to score, sample and train.
pub struct LanguageModel {
    /// Configuration, tokenizer and chat template.
    pub files: ModelFiles,
    /// The decoder.
    pub decoder: Decoder<Cpu>,
    /// The weights.
    pub params: Parameters<Cpu>,
}

impl LanguageModel {
    /// Loads a Hugging Face folder.
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self> {
        Self::load_on(folder, &Arc::new(Cpu::new(options.threads)), options.dtype)
    }

    /// Loads a Hugging Face folder beside models that are already there, on the same threads.
    pub fn load_on(folder: &Path, backend: &Arc<Cpu>, dtype: Dtype) -> Result<Self> {
        let files = ModelFiles::load(folder)?;
        let (config, family) = (files.config.decoder.clone(), files.config.family);
        let checkpoint = Checkpoint::open(folder)?;
        let decoder = Decoder::new(Arc::clone(backend), config.clone())?;
        // Memory is taken once the file is known to hold what the configuration asks for.
        let mut params: Option<Parameters<Cpu>> = None;
        checkpoint.read_parameters(&config, family, &mut |spec, numbers| {
            let params = params.get_or_insert_with(|| Parameters::zeros(&decoder, dtype));
            Ok(params.set(&spec.name, numbers)?)
        })?;
        let mut params = params.ok_or_else(|| Error::file(folder, "the model has no parameters"))?;
        params.refresh();
        Ok(Self { files, decoder, params })
    }

    /// A model with random weights.
    pub fn random(files: ModelFiles, backend: &Arc<Cpu>, dtype: Dtype, seed: u64) -> Result<Self> {
        let decoder = Decoder::new(Arc::clone(backend), files.config.decoder.clone())?;
        let mut params = Parameters::zeros(&decoder, dtype);
        params.init(seed);
        Ok(Self { files, decoder, params })
    }

    /// The same decoder with a random head of `outputs` scalar outputs in place of the language head: the beginning of
    /// a reward model. Of a reward model, only its head is new.
    pub fn with_scalar_head(self, outputs: usize, seed: u64) -> Result<Self> {
        let files = self.files.with_scalar_head(outputs)?;
        let mut model = Self::random(files, self.decoder.backend(), self.params.dtype(), seed)?;
        let names: Vec<String> = model.params.specs().map(|spec| spec.name.clone()).collect();
        for name in names.iter().filter(|name| *name != "score.weight") {
            model.params.set(name, &self.params.get(name)?)?;
        }
        model.params.refresh();
        Ok(model)
    }

    /// Writes a folder that transformers loads unchanged. Weights that are not finite are an error.
    pub fn save(&self, folder: &Path, dtype: SaveDtype) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let config = &self.files.config;
        let get = |spec: &pavlov_engine::ParameterSpec| Ok(self.params.get(&spec.name)?);
        save_parameters(folder, &config.decoder, config.family, dtype, SHARD_BYTES, &get)?;
        self.files.save(folder, dtype)
    }

    /// What rows are encoded with.
    pub fn encoder(&self) -> Encoder<'_> {
        self.files.encoder()
    }
}
