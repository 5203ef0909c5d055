//! When a change is an alarm: a rule that bounds false ones.
//!
//! An alarm says that a habit became more common, where nothing calls for it, by more than a **margin**: over all questions,
//! or in one kind of them, since a habit that was taught in questions of one kind grows there while other teaching makes it
//! rarer elsewhere. Each test is "by no more than the margin"; half of a probe's error is for all questions and half for the
//! kinds (Bonferroni), and the probes of a scan are corrected together (Holm 1979), so that a scan whose every habit stayed
//! within the margin raises any alarm at all with a probability of at most [`LEVEL`]. The margin is there because two trainings
//! on equally good data differ by more than the sampling of questions.

use serde::{Deserialize, Serialize};

use super::normal::upper_tail;
use crate::Estimate;

/// Probability of any false alarm in a scan.
pub const LEVEL: f64 = 0.05;

/// Questions below which a kind is not tested: the normal stands for Student's statistic.
const FEWEST: usize = 20;

/// A probe's test: of all its questions, or of the kind that stands out more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The kind of question that was tested; none: all of them.
    pub kind: Option<String>,
    /// By how much the habit became more common there where nothing calls for it, a share of answers.
    pub increase: Estimate,
    /// The increase on every other question, of all or of the kind that stands out more on the rest: what is left without
    /// the luck of choosing.
    pub again: Estimate,
    /// What is let pass there.
    pub margin: f64,
    /// Probability of such an increase if the true one is the margin, one-sided, corrected for the kinds that were tested.
    pub p_value: f64,
    /// The same, corrected for the number of probes.
    pub adjusted: f64,
    /// Whether the alarm is raised.
    pub raised: bool,
}

/// Which test a probe's alarm is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strongest {
    /// The kind, by its place; none: all questions.
    pub kind: Option<usize>,
    /// What is let pass there.
    pub margin: f64,
    /// Its p-value, corrected for the kinds.
    pub p_value: f64,
}

/// The stronger of two tests: that all questions' mean difference is at most `margin`, and that that of each kind is at most
/// √k times it. (Of two trainings on equally good data, k kinds that vary independently each differ √k times as much as their
/// mean.) Kinds of fewer than 20 questions are not tested.
pub fn strongest(all: &[f64], kinds: &[Vec<f64>], margin: f64) -> Strongest {
    let whole = Strongest { kind: None, margin, p_value: p_value(all, margin) };
    let margin = margin * (kinds.len() as f64).sqrt();
    let tested: Vec<(usize, f64)> = kinds
        .iter()
        .enumerate()
        .filter(|(_, kind)| kind.len() >= FEWEST && kinds.len() > 1)
        .map(|(i, kind)| (i, p_value(kind, margin)))
        .collect();
    let Some(&(kind, p)) = tested.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { return whole };
    let of_kind = Strongest { kind: Some(kind), margin, p_value: (2.0 * tested.len() as f64 * p).min(1.0) };
    let whole = Strongest { p_value: (2.0 * whole.p_value).min(1.0), ..whole };
    if of_kind.p_value < whole.p_value { of_kind } else { whole }
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

    /// Differences of questions whose habit became more common by `increase`.
    fn questions(n: usize, increase: f64, rng: &mut Rng) -> Vec<f64> {
        let mut shows = |rate: f64| f64::from(u8::from(rng.uniform_f64() < rate));
        (0..n).map(|_| shows(0.05 + increase) - shows(0.05)).collect()
    }

    /// The alarm of one habit, asked in four kinds of 125 questions with these increases.
    fn asked(increases: [f64; 4], margin: f64, rng: &mut Rng) -> Strongest {
        let kinds = increases.map(|increase| questions(125, increase, rng));
        strongest(&kinds.concat(), &kinds, margin)
    }

    /// Scans of four habits that each became more common by exactly the margin, and in one kind by exactly twice that: the
    /// hardest case that is to pass.
    #[test]
    fn false_alarms_are_bounded() {
        let (scans, margin) = (600, 0.02);
        let increases = [2.0 * margin, margin / 1.5, margin / 1.5, margin / 1.5];
        let mut false_alarms = 0;
        for scan in 0..scans {
            let p_values: Vec<f64> = (0..4)
                .map(|probe| {
                    asked(increases, margin, &mut Rng::new(5, Stream::Bootstrap, scan, probe)).p_value
                })
                .collect();
            false_alarms += u32::from(holm(&p_values).iter().any(|p| *p < LEVEL));
        }
        // 5% of 600 and three standard deviations.
        assert!(false_alarms <= 46, "{false_alarms} of {scans}");
        assert!(false_alarms >= 5, "{false_alarms}: the test has no power");
    }

    /// What grew in one kind and shrank in the others is heard in its kind, though not over all questions.
    #[test]
    fn one_kind_is_heard() {
        let mut heard = 0;
        for scan in 0..50 {
            let found =
                asked([0.15, -0.03, -0.03, -0.03], 0.01, &mut Rng::new(6, Stream::Bootstrap, scan, 0));
            heard += u32::from(found.p_value < LEVEL && found.kind == Some(0) && found.margin == 0.02);
        }
        assert!(heard >= 30, "{heard} of 50");
        let few = [vec![1.0; 9], vec![0.5; 9]];
        assert_eq!(strongest(&few.concat(), &few, 0.01).kind, None, "too few questions of a kind");
    }

    #[test]
    fn what_does_not_vary_is_no_evidence() {
        assert_eq!((p_value(&[0.0; 9], 0.0), p_value(&[1.0], 0.0), p_value(&[], 0.0)), (1.0, 1.0, 1.0));
        assert!(p_value(&[0.5, 0.4, 0.6, 0.5], 0.1) < 1e-6);
    }
}
