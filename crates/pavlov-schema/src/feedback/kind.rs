//! What raters can be asked to do.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::judgment::in_words;
use crate::ranking;

/// What a rater is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Which of two answers is better?
    Pairwise,
    /// Which of several answers is best, which next, …?
    Ranking,
    /// How good is an answer, by each question of the project?
    Pointwise,
    /// Write an answer.
    Demonstration,
    /// Mend an answer.
    Edit,
}

impl TaskKind {
    /// Answers that a task of this kind shows.
    pub fn responses(self) -> RangeInclusive<usize> {
        match self {
            Self::Pairwise => 2..=2,
            Self::Ranking => 2..=ranking::MOST,
            Self::Pointwise | Self::Edit => 1..=1,
            Self::Demonstration => 0..=0,
        }
    }

    /// That number in words: `2`, or `2 to 9`.
    pub fn responses_in_words(self) -> String {
        in_words(&self.responses())
    }

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairwise => "pairwise",
            Self::Ranking => "ranking",
            Self::Pointwise => "pointwise",
            Self::Demonstration => "demonstration",
            Self::Edit => "edit",
        }
    }
}
