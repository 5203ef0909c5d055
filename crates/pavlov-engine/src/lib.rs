//! The decoder of Pavlov: one configurable transformer with an explicit forward and an explicit backward pass, its
//! optimizer and its sampler. No files, no text.
//!
//! A loss sees numbers per token: [`Decoder::forward`] gives log-probabilities and entropies ([`Outputs`]), the loss
//! gives their derivatives ([`OutputGradients`]), [`Decoder::backward`] takes it from there.

#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests of exact values compare exactly"))]

mod activations;
pub mod backend;
mod backward;
mod cache;
mod config;
mod cpu;
mod decoder;
mod error;
mod factors;
mod forest;
mod gates;
mod intervention;
mod linear;
mod logits;
mod lora;
mod observe;
mod optim;
mod overlay;
mod parameters;
mod per_example;
pub mod plan;
pub mod profile;
mod sampling;

pub use activations::Activations;
pub use config::{
    Activation, DecoderConfig, Llama3Scaling, NormKind, ParameterKind, ParameterSpec, Position,
};
pub use cpu::{Buffer, Cpu, Half, Isa};
pub use decoder::{Decoder, OutputGradients, Outputs};
pub use error::{Error, Result};
pub use factors::KroneckerFactors;
pub use forest::{Batch, Forest, Segment, SegmentId, Target};
pub use intervention::{Change, Intervention, Rows};
pub use lora::{Lora, LoraTarget};
pub use observe::{Observed, StreamGradients};
pub use optim::{AdamW, AdamWConfig, Moments, clip_factor};
pub use parameters::{Dtype, Parameters};
pub use per_example::{Basis, ExampleGradients};
pub use sampling::{Control, Finish, SampleRequest, Sampled, Sampler, SamplingParams};
