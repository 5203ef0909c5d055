//! The engine's invariants, on decoders small enough to check exhaustively.
#![allow(clippy::unwrap_used, reason = "a test that unwraps an error fails with it")]

mod common;
mod equivalence;
mod examples;
mod gradients;
mod kernels;
mod lora;
mod memory;
mod observe;
mod sampling;
