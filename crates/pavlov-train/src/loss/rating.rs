//! Learning a score from ratings by regression.

/// A loss over single answers: its value and its derivative with respect to each score.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreLoss {
    /// The loss.
    pub value: f64,
    /// ∂value/∂score, one per answer.
    pub d_score: Vec<f32>,
}

/// L = (1/N) Σᵢ (sᵢ − yᵢ)², in squared rating points: torch's `MSELoss`, without a factor of one half.
///
/// `answers` is N, over the whole optimizer step.
pub fn squared_error(score: &[f32], rating: &[f32], answers: usize) -> ScoreLoss {
    assert_eq!(score.len(), rating.len(), "one rating per answer");
    let n = answers as f64;
    let gap = |(&score, &rating): (&f32, &f32)| score as f64 - rating as f64;
    ScoreLoss {
        value: score.iter().zip(rating).map(gap).map(|gap| gap * gap / n).sum(),
        d_score: score.iter().zip(rating).map(gap).map(|gap| (2.0 * gap / n) as f32).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        let loss = squared_error(&[1.0, 4.0], &[3.0, 3.0], 2);
        assert_eq!(loss, ScoreLoss { value: 2.5, d_score: vec![-2.0, 1.0] });
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (score, rating) = (normals(1, 6, 2.0), normals(2, 6, 2.0));
        let loss = squared_error(&score, &rating, 8);
        assert_derivatives(&score, &loss.d_score, |x| squared_error(x, &rating, 8).value);
    }
}
