//! Comparisons in which "about the same" is an answer.

use serde::{Deserialize, Serialize};

use super::guard::{log_sigmoid, sigmoid, softplus};

/// Who won a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first answer is better.
    First,
    /// The second answer is better.
    Second,
    /// Neither.
    Tie,
}

/// How probable a tie is, given the gap d = r₁ − r₂ between the scores and one learned number η.
///
/// Both make ties most likely between equals, and both are Bradley-Terry in the limit η → −∞.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieModel {
    /// Davidson (1970): P(first) : P(tie) : P(second) = e^(d/2) : ν : e^(−d/2), ν = e^η. An odds of ties that
    /// falls with the gap; the even pair ties with probability ν/(2 + ν).
    Davidson,
    /// Rao and Kupper (1967): P(first) = σ(d − log θ), P(second) = σ(−d − log θ), θ = 1 + e^η ≥ 1. A judge
    /// who sees no difference below the threshold log θ.
    RaoKupper,
}

/// What [`preference_with_ties`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct TieLoss {
    /// The loss in nats per comparison.
    pub value: f64,
    /// ∂value/∂first, one per comparison.
    pub d_first: Vec<f32>,
    /// ∂value/∂second, one per comparison.
    pub d_second: Vec<f32>,
    /// ∂value/∂η, the sum over comparisons.
    pub d_tie: f64,
}

/// L = −(1/N) Σᵢ log P(outcomeᵢ | r₁ᵢ − r₂ᵢ, η) under `model`; `tie` is η and `pairs` is N, over the whole
/// optimizer step.
pub fn preference_with_ties(
    model: TieModel,
    first: &[f32],
    second: &[f32],
    outcome: &[Outcome],
    tie: f64,
    pairs: usize,
) -> TieLoss {
    assert_eq!([second.len(), outcome.len()], [first.len(); 2], "one number of each kind per comparison");
    let n = pairs as f64;
    let mut loss = TieLoss { value: 0.0, d_first: Vec::new(), d_second: Vec::new(), d_tie: 0.0 };
    for ((&first, &second), &outcome) in first.iter().zip(second).zip(outcome) {
        let (logp, d_gap, d_tie) = log_probability(model, first as f64 - second as f64, tie, outcome);
        loss.value -= logp / n;
        loss.d_first.push((-d_gap / n) as f32);
        loss.d_second.push((d_gap / n) as f32);
        loss.d_tie -= d_tie / n;
    }
    loss
}

/// P(first better), P(second better), P(tie), which add up to 1.
pub fn outcome_probabilities(model: TieModel, first: f32, second: f32, tie: f64) -> [f64; 3] {
    let gap = first as f64 - second as f64;
    [Outcome::First, Outcome::Second, Outcome::Tie]
        .map(|outcome| log_probability(model, gap, tie, outcome).0.exp())
}

/// log P(outcome) and its derivatives with respect to the gap and to η.
fn log_probability(model: TieModel, gap: f64, tie: f64, outcome: Outcome) -> (f64, f64, f64) {
    match model {
        TieModel::Davidson => {
            let scores = [gap / 2.0, -gap / 2.0, tie];
            let top = scores.into_iter().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = top + scores.iter().map(|score| (score - top).exp()).sum::<f64>().ln();
            let [first, second, tied] = scores.map(|score| (score - log_sum).exp());
            let (index, is_gap, is_tie) = match outcome {
                Outcome::First => (0, 0.5, 0.0),
                Outcome::Second => (1, -0.5, 0.0),
                Outcome::Tie => (2, 0.0, 1.0),
            };
            (scores[index] - log_sum, is_gap - 0.5 * (first - second), is_tie - tied)
        }
        TieModel::RaoKupper => {
            let threshold = softplus(tie); // log θ
            let d_threshold = sigmoid(tie);
            let (up, down) = (gap - threshold, -gap - threshold);
            match outcome {
                Outcome::First => (log_sigmoid(up), sigmoid(-up), -sigmoid(-up) * d_threshold),
                Outcome::Second => (log_sigmoid(down), -sigmoid(-down), -sigmoid(-down) * d_threshold),
                // (θ² − 1) σ(d − log θ) σ(−d − log θ), and θ² − 1 = e^η (2 + e^η).
                Outcome::Tie => {
                    let log_factor = tie + std::f64::consts::LN_2 + softplus(tie - std::f64::consts::LN_2);
                    let d_factor = 1.0 + sigmoid(tie - std::f64::consts::LN_2);
                    let (lose_up, lose_down) = (sigmoid(-up), sigmoid(-down));
                    let logp = log_factor + log_sigmoid(up) + log_sigmoid(down);
                    (logp, lose_up - lose_down, d_factor - (lose_up + lose_down) * d_threshold)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    const MODELS: [TieModel; 2] = [TieModel::Davidson, TieModel::RaoKupper];
    const OUTCOMES: [Outcome; 3] = [Outcome::First, Outcome::Second, Outcome::Tie];

    #[test]
    fn hand_numbers() {
        // ν = 1, equal scores: three equal chances.
        for p in outcome_probabilities(TieModel::Davidson, 1.0, 1.0, 0.0) {
            assert!((p - 1.0 / 3.0).abs() < 1e-12);
        }
        // θ = 2, equal scores: 1/(1 + 2) each to win, the rest ties.
        for p in outcome_probabilities(TieModel::RaoKupper, 1.0, 1.0, 0.0) {
            assert!((p - 1.0 / 3.0).abs() < 1e-12);
        }
        // θ = 2, d = ln 4: P(first) = 4/(4 + 2), P(second) = 1/(1 + 8).
        let [first, second, tie] = outcome_probabilities(TieModel::RaoKupper, 4.0f32.ln(), 0.0, 0.0);
        assert!((first - 2.0 / 3.0).abs() < 1e-6 && (second - 1.0 / 9.0).abs() < 1e-6);
        assert!((tie - 2.0 / 9.0).abs() < 1e-6);
    }

    #[test]
    fn probabilities_add_up_and_swap_with_the_answers() {
        for x in normals(4, 40, 3.0).chunks(3).filter(|x| x.len() == 3) {
            for model in MODELS {
                let [first, second, tie] = outcome_probabilities(model, x[0], x[1], x[2] as f64);
                assert!((first + second + tie - 1.0).abs() < 1e-12);
                let swapped = outcome_probabilities(model, x[1], x[0], x[2] as f64);
                assert!((swapped[0] - second).abs() < 1e-12 && (swapped[2] - tie).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn without_ties_both_are_bradley_terry() {
        let expected = super::super::preference_probability(1.5, 0.2);
        for model in MODELS {
            let [first, _, tie] = outcome_probabilities(model, 1.5, 0.2, -60.0);
            assert!((first - expected).abs() < 1e-12 && tie < 1e-12);
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let (first, second) = (normals(1, 9, 2.0), normals(2, 9, 2.0));
        let outcome: Vec<Outcome> = (0..9).map(|i| OUTCOMES[i % 3]).collect();
        for model in MODELS {
            for tie in [-2.0f32, 0.3, 1.7] {
                let loss = |a: &[f32], b: &[f32], tie: f32| {
                    preference_with_ties(model, a, b, &outcome, tie as f64, 4)
                };
                let at = loss(&first, &second, tie);
                assert_derivatives(&first, &at.d_first, |x| loss(x, &second, tie).value);
                assert_derivatives(&second, &at.d_second, |x| loss(&first, x, tie).value);
                assert_derivatives(&[tie], &[at.d_tie as f32], |x| loss(&first, &second, x[0]).value);
            }
        }
    }
}
