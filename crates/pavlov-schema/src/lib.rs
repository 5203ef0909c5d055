//! Pavlov's plain data and file formats: no tensors, no async, no printing.
//!
//! - [`text`], [`row`], [`dataset`]: what training reads, with TRL's column names;
//! - [`judgment`]: what people (or simulated raters) say about answers, made of [`comparison`], [`ranking`], [`rating`] and [`marks`];
//! - [`feedback`]: what trainers and the feedback application say to each other;
//! - [`rollout`], [`rollout_file`]: what a policy wrote, what it earned, and which token is credited;
//! - [`run`], [`lessons`], [`tensorboard`]: the run directory;
//! - [`rng`]: random numbers named by a key.

pub mod clock;
pub mod comparison;
pub mod dataset;
mod error;
pub mod feedback;
pub mod files;
pub mod judgment;
pub mod lessons;
pub mod marks;
mod parquet_file;
pub mod ranking;
pub mod rating;
pub mod rng;
pub mod rollout;
pub mod rollout_file;
pub mod row;
pub mod run;
pub mod tensorboard;
pub mod text;

pub use error::{Error, Result};
pub use parquet_file::panics_are_caught;
pub use serde_json::{Map, Value};
