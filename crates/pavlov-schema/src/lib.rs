//! Pavlov's plain data and file formats: no tensors, no async, no printing.
//!
//! - [`text`], [`row`], [`dataset`]: what training reads, with TRL's column names;
//! - [`judgment`], [`ranking`]: what people (or simulated raters) say about answers;
//! - [`feedback`]: what trainers and the feedback application say to each other;
//! - [`rollout`]: what a policy wrote, what it earned, and which token is credited;
//! - [`run`], [`lessons`], [`tensorboard`]: the run directory;
//! - [`rng`]: random numbers named by a key.

pub mod clock;
pub mod dataset;
mod error;
pub mod feedback;
pub mod files;
pub mod judgment;
pub mod lessons;
mod parquet_file;
pub mod ranking;
pub mod rng;
pub mod rollout;
mod rollout_file;
pub mod row;
pub mod run;
pub mod tensorboard;
pub mod text;

pub use error::{Error, Result};
pub use parquet_file::panics_are_caught;
pub use serde_json::{Map, Value};
