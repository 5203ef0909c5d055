//! Credit: which part of an answer earned its reward.

mod planted;
mod ranking;
mod tier_a;
mod training;
mod verdicts;
