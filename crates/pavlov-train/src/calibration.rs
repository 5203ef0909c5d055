//! How far predicted probabilities can be believed.

/// One prediction: the probability given to "yes" and whether it was yes.
pub type Prediction = (f64, bool);

/// The share of predictions on the right side of ½; exactly ½ counts as half right. `None` without
/// predictions.
pub fn accuracy(predictions: &[Prediction]) -> Option<f64> {
    mean(predictions, |(p, yes)| match p.partial_cmp(&0.5) {
        Some(std::cmp::Ordering::Equal) => 0.5,
        Some(side) => f64::from(u8::from(side.is_gt() == yes)),
        None => 0.0,
    })
}

/// The Brier score, mean (p − y)² (Brier 1950): 0 is perfect, ¼ is a coin that knows it is one. `None`
/// without predictions.
pub fn brier(predictions: &[Prediction]) -> Option<f64> {
    mean(predictions, |(p, yes)| (p - f64::from(u8::from(yes))).powi(2))
}

fn mean(predictions: &[Prediction], of: impl Fn(Prediction) -> f64) -> Option<f64> {
    let sum: f64 = predictions.iter().map(|&prediction| of(prediction)).sum();
    (!predictions.is_empty()).then(|| sum / predictions.len() as f64)
}

/// Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 5): Σ_b (n_b/n) |mean outcome − mean
/// probability| over `bins` bins of equal width on [0, 1], each closed below and open above, the last closed.
/// `None` without predictions or bins.
///
/// The bins are of the probability of "yes", not of the confidence max(p, 1 − p): for comparisons, give each
/// pair once, in the order it was shown.
pub fn expected_calibration_error(predictions: &[Prediction], bins: usize) -> Option<f64> {
    let last = bins.checked_sub(1)?;
    let mut gaps = vec![0.0; bins];
    for &(p, yes) in predictions {
        let bin = ((p * bins as f64) as usize).min(last);
        gaps[bin] += f64::from(u8::from(yes)) - p;
    }
    // n_b cancels: (n_b/n) |Σ(y − p)/n_b| = |Σ(y − p)|/n.
    let n = predictions.len() as f64;
    (!predictions.is_empty()).then(|| gaps.iter().map(|gap| gap.abs()).sum::<f64>() / n)
}

/// The Wilson score interval (Wilson 1927) of a proportion: (low, high) for `successes` of `trials`, `z`
/// standard deviations wide (1.96 for 95 %). (0, 1) without trials.
pub fn wilson(successes: usize, trials: usize, z: f64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    wilson_of(successes as f64 / trials as f64, trials as f64, z)
}

/// Wilson's interval of a proportion `p` of `n` trials.
fn wilson_of(p: f64, n: f64, z: f64) -> (f64, f64) {
    let z2 = z * z;
    let centre = p + z2 / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 / (1.0 + z2 / n);
    ((scale * (centre - half)).max(0.0), (scale * (centre + half)).min(1.0))
}

/// The interval of a proportion whose trials come in clusters (hits, trials), several judgments of one prompt say: Wilson's, of as
/// many independent trials as tell as much (Kish 1965: trials / design effect, at most all of them). Where all or none hit, nothing
/// shows how alike a cluster's trials are, and each cluster counts as one. (0, 1) without trials.
pub fn clustered_wilson(clusters: &[(f64, usize)], z: f64) -> (f64, f64) {
    let (hits, trials) = clusters.iter().fold((0.0, 0), |(h, n), cluster| (h + cluster.0, n + cluster.1));
    if trials == 0 {
        return (0.0, 1.0);
    }
    let (n, groups) = (trials as f64, clusters.len() as f64);
    let p = hits / n;
    let independent = p * (1.0 - p) / n;
    let square = |&(hits, trials): &(f64, usize)| (hits - p * trials as f64).powi(2);
    let clustered = clusters.iter().map(square).sum::<f64>() * groups / (groups - 1.0) / (n * n);
    let effective = if clusters.len() < 2 || independent <= 0.0 {
        groups
    } else {
        n / (clustered / independent).max(1.0)
    };
    wilson_of(p, effective, z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_numbers() {
        let predictions = [(0.9, true), (0.8, false), (0.3, false), (0.5, true)];
        assert_eq!(accuracy(&predictions), Some(0.625));
        // (0.01 + 0.64 + 0.09 + 0.25) / 4
        assert!((brier(&predictions).unwrap() - 0.2475).abs() < 1e-12);
        // Halves: below, −0.3; above, 0.1 − 0.8 + 0.5 = −0.2.
        assert!((expected_calibration_error(&predictions, 2).unwrap() - 0.5 / 4.0).abs() < 1e-12);
        // Tenths: 0.1, −0.8, −0.3, 0.5 each alone.
        assert!((expected_calibration_error(&predictions, 10).unwrap() - 1.7 / 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_sure_and_right_judge_is_perfectly_calibrated() {
        let predictions = [(1.0, true), (0.0, false), (1.0, true)];
        assert_eq!(expected_calibration_error(&predictions, 15), Some(0.0));
        assert_eq!(brier(&predictions), Some(0.0));
        assert_eq!(accuracy(&predictions), Some(1.0));
    }

    #[test]
    fn nothing_to_judge_is_none() {
        assert_eq!((accuracy(&[]), brier(&[]), expected_calibration_error(&[], 10)), (None, None, None));
        assert_eq!(expected_calibration_error(&[(0.5, true)], 0), None);
    }

    /// Wilson's interval for 8 of 10 and 0 of 10 at 95 %. For none of n it is (0, z²/(n + z²)).
    #[test]
    fn wilson_interval() {
        let (low, high) = wilson(8, 10, 1.959_963_984_540_054);
        assert!(
            (low - 0.490_162_471_536_642).abs() < 1e-9 && (high - 0.943_317_848_545_625).abs() < 1e-9,
            "{low} {high}"
        );
        let (low, high) = wilson(0, 10, 1.959_963_984_540_054);
        assert!(low.abs() < 1e-15 && (high - 0.277_532_799_862_889).abs() < 1e-9, "{low} {high}");
        assert_eq!(wilson(0, 0, 1.96), (0.0, 1.0));
    }

    #[test]
    fn judgments_of_one_prompt_are_not_independent() {
        // One trial a cluster, five of ten hit: Σ(h − p)² = 2.5, so the design effect is 10/9, and Wilson's of 9 trials.
        let single: Vec<(f64, usize)> = (0..10).map(|i| (f64::from(u8::from(i < 5)), 1)).collect();
        let close = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() < 1e-12 && (a.1 - b.1).abs() < 1e-12;
        assert!(close(clustered_wilson(&single, 1.96), wilson_of(0.5, 9.0, 1.96)));
        // Each judgment four times over tells nothing more.
        let fourfold: Vec<(f64, usize)> = single.iter().map(|&(hits, n)| (4.0 * hits, 4 * n)).collect();
        assert!(close(clustered_wilson(&fourfold, 1.96), clustered_wilson(&single, 1.96)));
        // Clusters that are more alike than chance tell no more than independent trials.
        assert!(close(clustered_wilson(&[(1.0, 2), (1.0, 2), (1.0, 2)], 1.96), wilson(3, 6, 1.96)));
        // All hit: three prompts, whatever the number of judgments.
        assert!(close(clustered_wilson(&[(5.0, 5); 3], 1.96), wilson(3, 3, 1.96)));
        assert!(close(clustered_wilson(&[], 1.96), (0.0, 1.0)));
    }
}
