//! Learning a score from ratings on a Likert scale, of which only the order is trusted.

use super::guard::{log_sigmoid, sigmoid, softplus};

/// What [`ordinal`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct OrdinalLoss {
    /// The loss in nats per answer.
    pub value: f64,
    /// ∂value/∂score, one per answer.
    pub d_score: Vec<f32>,
    /// ∂value/∂(free threshold parameter), one per parameter.
    pub d_free: Vec<f64>,
}

/// The thresholds θ₁ < … < θ₍K₋₁₎ made from free parameters: θ₁ = f₁, θₖ = θ₍ₖ₋₁₎ + softplus(fₖ).
///
/// Whatever the optimizer does to the parameters, the thresholds stay ordered.
pub fn thresholds(free: &[f64]) -> Vec<f64> {
    let mut at = 0.0;
    free.iter()
        .enumerate()
        .map(|(k, &free)| {
            at = if k == 0 { free } else { at + softplus(free) };
            at
        })
        .collect()
}

/// Free parameters to begin with: thresholds one logit apart, centred on score 0, for `classes` ≥ 2 ratings.
pub fn spread_thresholds(classes: usize) -> Vec<f64> {
    let steps = classes.saturating_sub(1);
    // softplus(f) = 1
    let one = 1f64.exp_m1().ln();
    (0..steps).map(|k| if k == 0 { -(steps as f64 - 1.0) / 2.0 } else { one }).collect()
}

/// L = −(1/N) Σᵢ log P(Yᵢ = classᵢ),  P(Y ≤ k) = σ(θₖ − s)
///
/// The proportional-odds model of McCullagh (1980). `class` is the rating as an index from 0 (a 5-point scale
/// has classes 0 to 4 and four free parameters); `answers` is N, over the whole optimizer step.
pub fn ordinal(score: &[f32], class: &[usize], free: &[f64], answers: usize) -> OrdinalLoss {
    assert_eq!(score.len(), class.len(), "one rating per answer");
    assert!(class.iter().all(|&class| class <= free.len()), "a class beyond the scale");
    let n = answers as f64;
    let cuts = thresholds(free);
    let mut d_cuts = vec![0.0; cuts.len()];
    let mut loss = OrdinalLoss { value: 0.0, d_score: Vec::new(), d_free: Vec::new() };
    for (&score, &class) in score.iter().zip(class) {
        let score = score as f64;
        let lower = class.checked_sub(1).map(|k| cuts[k] - score);
        let upper = cuts.get(class).map(|cut| cut - score);
        let (logp, d_lower, d_upper) = log_interval(lower, upper);
        loss.value -= logp / n;
        loss.d_score.push(((d_lower + d_upper) / n) as f32);
        if class > 0 {
            d_cuts[class - 1] -= d_lower / n;
        }
        if class < cuts.len() {
            d_cuts[class] -= d_upper / n;
        }
    }
    // θₖ depends on every parameter up to the k-th.
    let later = |k: usize| d_cuts[k..].iter().sum::<f64>();
    loss.d_free =
        (0..free.len()).map(|k| if k == 0 { later(0) } else { later(k) * sigmoid(free[k]) }).collect();
    loss
}

/// log(σ(upper) − σ(lower)) and its derivatives with respect to both ends; an absent end is infinite.
fn log_interval(lower: Option<f64>, upper: Option<f64>) -> (f64, f64, f64) {
    let (mut logp, mut d_lower, mut d_upper) = (0.0, 0.0, 0.0);
    if let Some(upper) = upper {
        logp += log_sigmoid(upper);
        d_upper += sigmoid(-upper);
    }
    if let Some(lower) = lower {
        logp += log_sigmoid(-lower);
        d_lower -= sigmoid(lower);
    }
    if let (Some(lower), Some(upper)) = (lower, upper) {
        // σ(u) − σ(l) = σ(u) σ(−l) (1 − e^(l−u)): no cancellation however far out both ends lie.
        // Softplus of a very negative parameter underflows; the floor keeps a closed gap finite.
        let gap = (upper - lower).max(f64::MIN_POSITIVE);
        logp += (-(-gap).exp_m1()).ln();
        let pull = 1.0 / gap.exp_m1();
        d_upper += pull;
        d_lower -= pull;
    }
    (logp, d_lower, d_upper)
}

/// P(Y = k) for every class, given one score.
pub fn class_probabilities(score: f32, free: &[f64]) -> Vec<f64> {
    let cuts = thresholds(free);
    let at = |k: usize| cuts.get(k).map(|cut| cut - score as f64);
    (0..=cuts.len()).map(|k| log_interval(k.checked_sub(1).and_then(at), at(k)).0.exp()).collect()
}

/// The mean class under [`class_probabilities`], from 0 to K − 1: add the scale's lowest rating for rating
/// points.
pub fn expected_rating(score: f32, free: &[f64]) -> f64 {
    class_probabilities(score, free).iter().enumerate().map(|(k, p)| k as f64 * p).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        // Thresholds −1, 0, 1 and score 0: σ(−1), σ(0) − σ(−1), and their mirror.
        let free = spread_thresholds(4);
        for (cut, expected) in thresholds(&free).iter().zip([-1.0, 0.0, 1.0]) {
            assert!((cut - expected).abs() < 1e-12);
        }
        let p = class_probabilities(0.0, &free);
        let edge = 0.268_941_421_369_995;
        for (p, expected) in p.iter().zip([edge, 0.5 - edge, 0.5 - edge, edge]) {
            assert!((p - expected).abs() < 1e-12);
        }
        assert!((expected_rating(0.0, &free) - 1.5).abs() < 1e-12);
        let loss = ordinal(&[0.0], &[3], &free, 1);
        assert!((loss.value + edge.ln()).abs() < 1e-12);
    }

    #[test]
    fn two_classes_are_logistic_regression() {
        let loss = ordinal(&[1.5], &[1], &[0.5], 1);
        assert!((loss.value + log_sigmoid(1.0)).abs() < 1e-12);
    }

    #[test]
    fn thresholds_stay_ordered_and_probabilities_add_up() {
        for seed in 0..20 {
            let free: Vec<f64> = normals(seed, 6, 5.0).into_iter().map(f64::from).collect();
            assert!(thresholds(&free).is_sorted());
            for score in [-40.0, -3.0, 0.0, 2.0, 40.0] {
                let p = class_probabilities(score, &free);
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                assert!(p.iter().all(|&p| p >= 0.0));
            }
        }
    }

    #[test]
    fn a_higher_score_expects_a_higher_rating() {
        let free = spread_thresholds(5);
        let ratings: Vec<f64> = (-30..30).map(|s| expected_rating(s as f32 / 5.0, &free)).collect();
        assert!(ratings.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let score = normals(1, 10, 2.0);
        let class: Vec<usize> = (0..10).map(|i| i % 5).collect();
        let free = [-1.5f32, 0.4, -0.8, 1.2];
        let wide = |free: &[f32]| free.iter().map(|&f| f as f64).collect::<Vec<_>>();
        let loss = ordinal(&score, &class, &wide(&free), 7);
        assert_derivatives(&score, &loss.d_score, |x| ordinal(x, &class, &wide(&free), 7).value);
        let d_free: Vec<f32> = loss.d_free.iter().map(|&d| d as f32).collect();
        assert_derivatives(&free, &d_free, |x| ordinal(&score, &class, &wide(x), 7).value);
    }

    #[test]
    fn a_far_wrong_score_and_a_closed_gap_stay_finite() {
        let far = ordinal(&[500.0, -500.0], &[0, 2], &[0.0, 1.0], 2);
        let closed = ordinal(&[0.0], &[1], &[0.0, -2000.0], 1);
        assert!(far.value.is_finite() && far.d_score.iter().all(|d| d.is_finite()));
        assert!(closed.value.is_finite() && closed.d_free.iter().all(|d| d.is_finite()), "{closed:?}");
    }
}
