//! Pavlov's plain data and file formats: no tensors, no async.

pub mod rng;
