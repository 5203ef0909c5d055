//! Which part of an answer earned its reward? Was there even such a part?
//!
//! | tier | what it costs | what it says |
//! |---|---|---|
//! | A ([`forwards`]) | two or three forward passes over all answers | what the policy learned to prefer, what a reward model says halfway, where it looked |
//! | B ([`surrogate`]) | hundreds of answers written in part | what each segment is worth when the policy writes it anew, alone and in pairs |
//! | C (`values`) | hundreds of continuations | how each stretch moved the expected reward, in points and in bits |
//!
//! Tiers B and C work with any reward. Both are the policy's own game: what is taken away is replaced by what the policy
//! would write there, never by nothing. From C (and B) follows a [`Verdict`].

mod answer;
mod bisect;
mod forwards;
mod rank;
mod report;
mod segment;
mod surrogate;
mod values;
mod verdict;
mod words;
mod writer;

pub use answer::{Ablated, Agreement, AnswerCredit, Cost, Effort, Part, Subject, Valued, credit_answer};
pub use bisect::search;
pub use forwards::{Forwards, Reference, forwards, log_probabilities};
pub use rank::spearman;
pub use report::{CreditReport, NAME, Pooled};
pub use segment::{Cut, MOST_SEGMENTS, Mark, cut, lay_over, mark_tokens, pieces};
pub use surrogate::{Ablation, Pair, Surrogate, surrogate};
pub use values::{Concentration, Node, Outcomes, Profile, concentration, outcomes, profile};
pub use verdict::{Verdict, verdict};
pub use writer::{Writer, Writing};
