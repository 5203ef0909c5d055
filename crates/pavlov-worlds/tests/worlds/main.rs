//! Worlds, raters and the tokenizer. One binary: each would be linked anew.

mod statistics;
mod tokens;
mod truth;
