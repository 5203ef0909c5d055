//! What one rater said about one task.

use serde::{Deserialize, Serialize};

use super::kind::TaskKind;
use crate::comparison::{Choice, Edited, check_strength};
use crate::judgment::Flag;
use crate::marks::{self, Marks};
use crate::ranking;
use crate::rating::{self, Score};
use crate::text::Text;

/// What one rater said about one task, in the task's own order of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The verdict.
    pub said: Said,
    /// Why, in the rater's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// What is wrong beyond quality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// Words that earned or lost it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Marks>,
}

/// The verdict of an [`Answer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// Of two answers.
    Pairwise {
        /// `a` is the first response of the task, whatever the order on the screen.
        choice: Choice,
        /// How clearly, from 1 (negligibly) to 4 (significantly).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strength: Option<u8>,
        /// One of the answers, mended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edit: Option<Edited>,
    },
    /// Of several answers, from the best to the worst.
    Ranking {
        /// In the task's order, the rank of each answer: 1 is the best, equals share one, and the next is one more than how many are
        /// better. Left out where `all_bad`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ranks: Vec<u8>,
        /// None of them will do; nothing is said about which is better.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all_bad: bool,
    },
    /// Of one answer.
    Pointwise {
        /// One score for each question of the project, in its order.
        scores: Vec<Score>,
    },
    /// An answer to imitate.
    Demonstration {
        /// The answer.
        text: String,
    },
    /// The answer of the task, mended.
    Edit {
        /// The mended answer.
        text: String,
    },
}

impl Said {
    /// The kind of task this answers.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Pairwise { .. } => TaskKind::Pairwise,
            Self::Ranking { .. } => TaskKind::Ranking,
            Self::Pointwise { .. } => TaskKind::Pointwise,
            Self::Demonstration { .. } => TaskKind::Demonstration,
            Self::Edit { .. } => TaskKind::Edit,
        }
    }
}

impl Answer {
    /// Checks what the types do not say against the answers of the task. The error says what is wrong and the mend.
    pub fn validate(&self, responses: &[&Text]) -> Result<(), String> {
        marks::check(&self.marks, responses)?;
        let written = |text: &str, name: &str| match text.trim() {
            "" => Err(format!("the {name} is empty; write it")),
            _ => Ok(()),
        };
        match &self.said {
            Said::Pairwise { strength, edit, .. } => check_strength(*strength)
                .and_then(|()| edit.as_ref().map_or(Ok(()), |edit| written(&edit.text, "mended answer"))),
            Said::Ranking { ranks, all_bad } => ranking::check(ranks, *all_bad, responses.len()),
            Said::Pointwise { scores } if scores.is_empty() => {
                Err("`scores` is empty; answer every question".into())
            }
            Said::Pointwise { scores } => rating::check_scores(scores),
            Said::Demonstration { text } => written(text, "answer"),
            Said::Edit { text } => written(text, "mended answer"),
        }
    }
}
