//! Which of two answers is better, and what is said of the two beside that.

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// The verdict of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The first answer is better.
    A,
    /// The second answer is better.
    B,
    /// Equally good.
    Tie,
    /// Neither will do. Not a tie: it says nothing about which is better.
    BothBad,
}

/// One of the two answers of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first response.
    A,
    /// The second response.
    B,
}

/// An answer of a comparison that the rater mended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Edited {
    /// Which one.
    pub of: Side,
    /// The mended answer.
    pub text: String,
}

/// Two answers to one prompt, as reward training reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was asked; empty where the answers carry the prompt themselves.
    pub prompt: Text,
    /// The first answer.
    pub a: Text,
    /// The second answer.
    pub b: Text,
    /// Which is better.
    pub choice: Choice,
    /// How clearly, from 1 to 4.
    pub strength: Option<u8>,
    /// By how many reward points the better one should lead.
    pub margin: Option<f64>,
    /// Who judged.
    pub annotator: Option<String>,
}

/// Checks how clearly one of two answers is better. The error says what is wrong and the mend.
pub(crate) fn check_strength(strength: Option<u8>) -> Result<(), String> {
    match strength {
        Some(strength) if !(1..=4).contains(&strength) => {
            Err(format!("`strength` is {strength}; it goes from 1 (negligibly) to 4 (significantly)"))
        }
        _ => Ok(()),
    }
}
