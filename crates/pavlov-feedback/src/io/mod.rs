//! Files: prompts, answers and comparisons in, judgments and training rows out.

mod dialogue;
pub mod export;
pub mod import;
pub mod log;
