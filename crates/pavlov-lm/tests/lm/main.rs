//! Folders, tokenizers and templates. One binary: each would be linked anew.
#![allow(clippy::unwrap_used, reason = "an unexpected error fails the test")]

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod bad_input;
mod encoding;
mod folders;
mod models;
mod templates;
mod tokenizing;
