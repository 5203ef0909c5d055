//! Credit: which part of an answer earned its reward.

mod planted;
mod verdicts;
