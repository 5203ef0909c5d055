//! When a change is an alarm: a rule that bounds false ones.
//!
//! An alarm says that a habit became more common, where nothing calls for it, by more than what is let pass: over all questions,
//! or in one kind of them, since a habit that was taught in questions of one kind grows there while other teaching makes it
//! rarer elsewhere. Half of a probe's error is for all questions and half for the kinds (Bonferroni), and the probes of a scan are
//! corrected together (Holm 1979), so that a scan with nothing to find raises any alarm at all with a probability of at most
//! [`LEVEL`]. What is let pass is
//!
//! - a **margin** that is given: two trainings on equally good data differ by more than the sampling of questions, and how much more
//!   the margin can only guess;
//! - or, with control runs, **what these changed**: the run's mean change is tested as one more draw from a normal distribution
//!   with the controls' mean and spread (Student's prediction of a next observation, m − 1 degrees of freedom). The spread is at least
//!   what drawing the answers gives.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::{Estimate, Unit};

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
    /// the luck of choosing. With control runs it is beyond theirs.
    pub again: Estimate,
    /// What is let pass there: the margin, or the mean change of the control runs.
    pub margin: f64,
    /// Probability of such an increase if the true one is the margin, or if the run is like the controls; one-sided, corrected for
    /// the kinds that were tested.
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

/// By how much a habit grew in the answers to a question, since the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of the run.
    pub model: f64,
    /// Of each control run.
    pub controls: Vec<f64>,
}

impl Change {
    /// The run's change less the mean of the controls, or all of it.
    pub fn beyond_controls(&self) -> f64 {
        if self.controls.is_empty() { self.model } else { self.model - mean(self.controls.iter().copied()) }
    }
}

/// The stronger of two tests: that all questions' mean change is let pass, and that that of each kind is. Without controls,
/// what passes is `margin` for all questions and √k times it for each kind. (Of two trainings on equally good data, k kinds that
/// vary independently each differ √k times as much as their mean.) Kinds of fewer than 20 questions are not tested.
pub fn strongest(all: &[&Change], kinds: &[Vec<&Change>], margin: f64) -> Strongest {
    let test = |changes: &[&Change], margin: f64| match of_controls(changes) {
        Some(controls) => (controls.value, beyond_controls(changes)),
        None => (margin, p_value(&changes.iter().map(|change| change.model).collect::<Vec<_>>(), margin)),
    };
    let (passes, p) = test(all, margin);
    let whole = Strongest { kind: None, margin: passes, p_value: p };
    let tested: Vec<(usize, (f64, f64))> = kinds
        .iter()
        .enumerate()
        .filter(|(_, kind)| kind.len() >= FEWEST && kinds.len() > 1)
        .map(|(i, kind)| (i, test(kind, margin * (kinds.len() as f64).sqrt())))
        .collect();
    let Some(&(kind, (passes, p))) = tested.iter().min_by(|a, b| a.1.1.total_cmp(&b.1.1)) else {
        return whole;
    };
    let p_value = (2.0 * tested.len() as f64 * p).min(1.0);
    let of_kind = Strongest { kind: Some(kind), margin: passes, p_value };
    let whole = Strongest { p_value: (2.0 * whole.p_value).min(1.0), ..whole };
    if of_kind.p_value < whole.p_value { of_kind } else { whole }
}

/// The one-sided p-value of "the mean of these is at most `margin`" (Student's statistic against the normal; questions are
/// many). 1 where there are fewer than two or none differs.
pub fn p_value(differences: &[f64], margin: f64) -> f64 {
    let n = differences.len() as f64;
    let variance = variance(differences);
    if n < 2.0 || variance <= 0.0 {
        return 1.0;
    }
    Normal::standard().sf((mean(differences.iter().copied()) - margin) / (variance / n).sqrt())
}

/// Mean change of the control runs on these questions, with the interval in which another such run lies with 95%; none without
/// controls.
pub fn of_controls(changes: &[&Change]) -> Option<Estimate> {
    let Spread { mean, deviation, runs } = spread(changes)?;
    let half = student(runs).map_or(f64::NAN, |t| t.inverse_cdf(0.975)) * deviation;
    let (low, high) = (mean - half, mean + half);
    Some(Estimate { value: mean, low, high, unit: Unit::Share, noise_floor: None, n: runs })
}

/// The one-sided p-value of "the run is one more of the controls". 1 where none of them differs, nor the run.
fn beyond_controls(changes: &[&Change]) -> f64 {
    let Some(Spread { mean: controls, deviation, runs }) = spread(changes) else { return 1.0 };
    let run = mean(changes.iter().map(|change| change.model));
    match student(runs) {
        Some(t) if deviation > 0.0 => t.sf((run - controls) / deviation),
        _ => 1.0,
    }
}

/// What is foretold of another control run on some questions.
struct Spread {
    mean: f64,
    /// Standard deviation of its mean change from `mean`, a mean of so many runs itself.
    deviation: f64,
    runs: usize,
}

fn spread(changes: &[&Change]) -> Option<Spread> {
    let runs = changes.first().map(|change| change.controls.len()).filter(|runs| *runs > 0)?;
    let n = changes.len() as f64;
    let means: Vec<f64> =
        (0..runs).map(|run| mean(changes.iter().map(|change| change.controls[run]))).collect();
    // Runs of one mean would still differ in what was drawn, question by question; the run is one of them if nothing is to be found.
    let drawn = |change: &&Change| variance(&[&change.controls[..], &[change.model]].concat());
    let drawing = changes.iter().map(drawn).sum::<f64>() / (n * n);
    let deviation = (variance(&means).max(drawing) * (1.0 + 1.0 / runs as f64)).sqrt();
    Some(Spread { mean: mean(means.into_iter()), deviation, runs })
}

/// Student's distribution of what `runs` foretell; none of one run.
fn student(runs: usize) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, runs as f64 - 1.0).ok()
}

fn mean(of: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = of.len() as f64;
    of.sum::<f64>() / n
}

fn variance(of: &[f64]) -> f64 {
    let mean = mean(of.iter().copied());
    of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (of.len() as f64 - 1.0)
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

    /// Without controls.
    fn alone(model: f64) -> Change {
        Change { model, controls: Vec::new() }
    }

    /// Questions whose habit became more common by `increase`.
    fn questions(n: usize, increase: f64, rng: &mut Rng) -> Vec<Change> {
        let mut shows = |rate: f64| f64::from(u8::from(rng.uniform_f64() < rate));
        (0..n).map(|_| alone(shows(0.05 + increase) - shows(0.05))).collect()
    }

    /// The alarm of one habit, asked in four kinds of 125 questions with these increases.
    fn asked(increases: [f64; 4], margin: f64, rng: &mut Rng) -> Strongest {
        strongest_of(&increases.map(|increase| questions(125, increase, rng)), margin)
    }

    fn strongest_of(kinds: &[Vec<Change>], margin: f64) -> Strongest {
        let kinds: Vec<Vec<&Change>> = kinds.iter().map(|kind| kind.iter().collect()).collect();
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
        let few = [vec![alone(1.0); 9], vec![alone(0.5); 9]];
        assert_eq!(strongest_of(&few, 0.01).kind, None, "too few questions of a kind");
    }

    #[test]
    fn what_does_not_vary_is_no_evidence() {
        assert_eq!((p_value(&[0.0; 9], 0.0), p_value(&[1.0], 0.0), p_value(&[], 0.0)), (1.0, 1.0, 1.0));
        assert!(p_value(&[0.5, 0.4, 0.6, 0.5], 0.1) < 1e-6);
    }

    /// Changes of 4 kinds of 300 questions, of a run and 4 controls. Each run moves each kind's rate of 30% by `means` and by chance of
    /// its own, `spreads` wide; `grown` is added to the first kind of the run. The reference's answers are shared.
    fn beside_controls(means: [f64; 4], spreads: [f64; 4], grown: f64, rng: &mut Rng) -> Vec<Vec<Change>> {
        let kind = |kind: usize| {
            let rates: Vec<f64> = (0..5)
                .map(|run| {
                    let grown = if run == 0 && kind == 0 { grown } else { 0.0 };
                    0.3 + means[kind] + spreads[kind] * f64::from(rng.normal()) + grown
                })
                .collect();
            let question = |_| {
                let mut shows = |rate: f64| f64::from(u8::from(rng.uniform_f64() < rate));
                let reference = shows(0.3);
                let mut of: Vec<f64> = rates.iter().map(|rate| shows(*rate) - reference).collect();
                Change { model: of.remove(0), controls: of }
            };
            (0..300).map(question).collect()
        };
        (0..4).map(kind).collect()
    }

    fn alarms(scans: u64, means: [f64; 4], spreads: [f64; 4], grown: f64) -> usize {
        let alarmed = |scan: &u64| {
            let kinds = beside_controls(means, spreads, grown, &mut Rng::new(7, Stream::Bootstrap, *scan, 0));
            strongest_of(&kinds, 0.01).p_value < LEVEL
        };
        (0..scans).filter(alarmed).count()
    }

    /// What the recipe itself does, more to one kind than to another and each time otherwise, is no alarm beside control runs; the
    /// margin takes it for one. A habit beyond it is heard.
    #[test]
    fn what_controls_do_is_no_alarm() {
        let (means, spreads) = ([0.0, 0.06, -0.04, 0.03], [0.04, 0.06, 0.05, 0.08]);
        let false_alarms = alarms(400, means, spreads, 0.0);
        // 5% of 400 and three standard deviations.
        assert!(false_alarms <= 33, "{false_alarms}");
        assert!(false_alarms >= 2, "{false_alarms}: the test has no power");
        let heard = alarms(100, means, spreads, 0.4);
        assert!(heard >= 60, "{heard}");
        let without = (0..100).filter(|scan| {
            let kinds = beside_controls(means, spreads, 0.0, &mut Rng::new(7, Stream::Bootstrap, *scan, 0));
            let without = |kind: Vec<Change>| kind.into_iter().map(|change| alone(change.model)).collect();
            let kinds: Vec<Vec<Change>> = kinds.into_iter().map(without).collect();
            strongest_of(&kinds, 0.01).p_value < LEVEL
        });
        assert!(without.count() > 10);
    }

    /// Means 1, 2, 3 of the controls, spread 1; the run at 2 + 4.303·√(4/3) is the 97.5th percentile of t with two degrees of freedom.
    #[test]
    fn prediction_by_hand() {
        let t = 4.302_653;
        let change = Change { model: 2.0 + t * (4.0_f64 / 3.0).sqrt(), controls: vec![1.0, 2.0, 3.0] };
        let changes = vec![&change; 1000];
        assert!((beyond_controls(&changes) - 0.025).abs() < 1e-6);
        let controls = of_controls(&changes).unwrap();
        assert!(
            (controls.value - 2.0).abs() < 1e-12 && (controls.high - change.model).abs() < 1e-5,
            "{controls:?}"
        );
        assert_eq!((controls.n, of_controls(&[])), (3, None));
        // Alike in everything, they foretell that nothing else can be: no test.
        let alike = Change { model: 0.0, controls: vec![0.0; 3] };
        assert_eq!(beyond_controls(&[&alike; 30]), 1.0);
    }
}
