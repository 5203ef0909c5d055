//! Points on a scale: of an answer, or of one question about it.

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// One answer with its rating, as reward training reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// What was asked.
    pub prompt: Text,
    /// The answer.
    pub response: Text,
    /// Points on the scale.
    pub rating: f64,
    /// The lowest and the highest possible rating, where known.
    pub scale: Option<(f64, f64)>,
    /// Who judged.
    pub annotator: Option<String>,
}

/// Points on the scale of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The name of the question.
    pub question: String,
    /// Points.
    pub value: f64,
    /// The lowest and the highest possible value.
    pub scale: (f64, f64),
}

/// A rating must lie on its scale. (A NaN lies on none.)
pub(crate) fn check(rating: f64, (low, high): (f64, f64)) -> Result<(), String> {
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(format!("`scale` is [{low}, {high}]; write [lowest, highest]"));
    }
    if !(low..=high).contains(&rating) {
        return Err(format!("`rating` is {rating}, off its scale [{low}, {high}]; correct one of them"));
    }
    Ok(())
}

/// Every score lies on its scale, and no question is answered twice.
pub(crate) fn check_scores(scores: &[Score]) -> Result<(), String> {
    for (i, score) in scores.iter().enumerate() {
        check(score.value, score.scale).map_err(|what| format!("score `{}`: {what}", score.question))?;
        if scores[..i].iter().any(|earlier| earlier.question == score.question) {
            return Err(format!("the question `{}` is answered twice; keep one answer", score.question));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_lie_on_their_scales() {
        assert_eq!(check(5.0, (1.0, 5.0)), Ok(()));
        for (rating, scale) in
            [(6.0, (1.0, 5.0)), (f64::NAN, (1.0, 5.0)), (1.0, (5.0, 1.0)), (1.0, (f64::NAN, 1.0))]
        {
            assert!(check(rating, scale).is_err());
        }
    }
}
