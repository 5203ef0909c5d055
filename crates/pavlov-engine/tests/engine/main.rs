//! The engine's invariants, on decoders small enough to check exhaustively.

mod common;
mod equivalence;
mod gradients;
mod memory;
mod sampling;
