//! When a change is an alarm: a rule that bounds false ones.
//!
//! An alarm says that a habit became more common, where nothing calls for it, by more than a **margin**. Each probe tests
//! "by no more than the margin" against its questions; the p-values of a scan are corrected together (Holm 1979), so that a
//! scan whose every habit stayed within the margin raises any alarm at all with a probability of at most [`LEVEL`]. The margin
//! is there because two trainings on equally good data differ by more than the sampling of questions.

use serde::{Deserialize, Serialize};

use super::normal::upper_tail;
use crate::Estimate;

/// Probability of any false alarm in a scan.
pub const LEVEL: f64 = 0.05;

/// A probe's test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// By how much the habit became more common where nothing calls for it, a share of answers.
    pub increase: Estimate,
    /// What is let pass.
    pub margin: f64,
    /// Probability of such an increase if the true one is the margin, one-sided.
    pub p_value: f64,
    /// The same, corrected for the number of probes.
    pub adjusted: f64,
    /// Whether the alarm is raised.
    pub raised: bool,
}

/// The one-sided p-value of "the mean of these is at most `margin`" (Student's statistic against the normal; questions are
/// many). 1 where there are fewer than two or none differs.
pub fn p_value(differences: &[f64], margin: f64) -> f64 {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    if n < 2.0 || variance <= 0.0 {
        return 1.0;
    }
    upper_tail((mean - margin) / (variance / n).sqrt())
}

/// Holm's step-down correction, in the order given.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[*index]).min(1.0);
        adjusted[*index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::{Rng, Stream};

    use super::*;

    #[test]
    fn holm_by_hand() {
        let adjusted = holm(&[0.04, 0.01, 0.03]);
        for (found, wanted) in adjusted.iter().zip([0.06, 0.03, 0.06]) {
            assert!((found - wanted).abs() < 1e-12, "{adjusted:?}");
        }
        assert!(holm(&[]).is_empty());
    }

    /// Scans of four habits that each became more common by exactly the margin, the hardest case that is to pass.
    #[test]
    fn false_alarms_are_bounded() {
        let (scans, margin) = (600, 0.02);
        let mut false_alarms = 0;
        for scan in 0..scans {
            let p_values: Vec<f64> = (0..4)
                .map(|probe| {
                    let mut rng = Rng::new(5, Stream::Bootstrap, scan, probe);
                    let mut shows = |rate: f64| f64::from(u8::from(rng.uniform_f64() < rate));
                    let differences: Vec<f64> =
                        (0..500).map(|_| shows(0.05 + margin) - shows(0.05)).collect();
                    p_value(&differences, margin)
                })
                .collect();
            false_alarms += u32::from(holm(&p_values).iter().any(|p| *p < LEVEL));
        }
        // 5% of 600 and three standard deviations.
        assert!(false_alarms <= 46, "{false_alarms} of {scans}");
        assert!(false_alarms >= 5, "{false_alarms}: the test has no power");
    }

    #[test]
    fn what_does_not_vary_is_no_evidence() {
        assert_eq!((p_value(&[0.0; 9], 0.0), p_value(&[1.0], 0.0), p_value(&[], 0.0)), (1.0, 1.0, 1.0));
        assert!(p_value(&[0.5, 0.4, 0.6, 0.5], 0.1) < 1e-6);
    }
}
