//! Hugging Face folders around the engine: text in, tokens, weights and configurations out, and back.

mod adapter;
mod checkpoint;
mod encode;
mod error;
mod files;
pub mod generate;
mod hf_config;
mod json;
mod keys;
mod layout;
mod model;
mod model_files;
mod pair;
mod save;
pub mod template;
mod tokenizer;
mod turns;

pub use adapter::{AdapterConfig, Targets};
pub use checkpoint::Checkpoint;
pub use encode::{EncodeOptions, Encoded, EncodedAnswers, Encoder};
pub use error::{Error, Result};
pub use hf_config::{Family, HfConfig};
pub use model::{AdapterSource, LanguageModel, LoadOptions};
pub use model_files::ModelFiles;
pub use pair::split_pair;
pub use save::{Get, SHARD_BYTES, SaveDtype, save_parameters};
pub use tokenizer::{StreamDecoder, Tokenizer, Tokens};
