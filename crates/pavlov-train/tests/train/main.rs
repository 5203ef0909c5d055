//! The loops and everything they are made of, on models of a few thousand parameters. One binary: each would be linked anew.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../small/mod.rs"]
mod small;
#[path = "../tiny/mod.rs"]
mod tiny;

mod adapters;
mod exact_gradient;
mod from_files;
#[cfg(unix)]
mod full_disk;
mod losses;
mod reward_model;
#[cfg(unix)]
mod reward_program;
mod rl_exact_gradient;
#[cfg(unix)]
mod rl_feedback;
mod rl_loop;
mod sft;
