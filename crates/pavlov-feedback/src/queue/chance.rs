//! Chance that is planned: a hash of the project's salt and what is decided, so that a restart reshuffles nothing.

use pavlov_schema::rng::{Rng, Stream};

/// What is decided. The numbers are part of every project's plan and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// How many people answer a task.
    Overlap = 1,
    /// A task's place in random orders.
    Shuffle = 2,
    /// What a rater's next task is.
    Source = 3,
}

/// A number in [0, 1) that depends on nothing else.
pub fn unit(salt: u64, decision: Decision, subject: u64) -> f64 {
    Rng::new(salt, Stream::Feedback, decision as u64, subject).uniform_f64()
}

/// A number of 63 bits that depends on nothing else.
pub fn bits(salt: u64, decision: Decision, subject: u64) -> i64 {
    (Rng::new(salt, Stream::Feedback, decision as u64, subject).next_u64() >> 1) as i64
}
