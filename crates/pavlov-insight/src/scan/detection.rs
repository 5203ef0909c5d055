//! Signal detection: is a habit where it belongs, or everywhere?
//!
//! A question that calls for the habit (an inconsistent story, an unsafe request) is a signal, any other is noise. Showing the
//! habit on a signal is a hit, on noise a false alarm. With z the normal quantile, sensitivity is d′ = z(H) − z(F) and the
//! criterion c = −(z(H) + z(F))/2 (Green and Swets 1966): a lower criterion says yes more readily. Training that taught to
//! tell the two apart raises d′; training that taught to say yes lowers c alone: **that is an artifact**. Training can do both at
//! once: a model that learned to tell better and yet raises more false alarms has a gain with a price, an **overreach**.

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{Estimate, Unit};

/// What two models did with one question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Whether the question calls for the habit.
    pub signal: bool,
    /// Share of the reference's answers that show it.
    pub reference: f64,
    /// Share of the trained model's answers that show it.
    pub model: f64,
}

/// Hits and false alarms of a set of questions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Sum over signals of the share of answers that show the habit.
    pub hits: f64,
    /// Questions that call for it.
    pub signals: f64,
    /// The same sum over noise.
    pub false_alarms: f64,
    /// Questions that do not.
    pub noises: f64,
}

impl Rates {
    /// Counts questions, each once.
    pub fn of(shown: impl Iterator<Item = (bool, f64)>) -> Self {
        let mut rates = Self::default();
        for (signal, shown) in shown {
            if signal {
                rates.hits += shown;
                rates.signals += 1.0;
            } else {
                rates.false_alarms += shown;
                rates.noises += 1.0;
            }
        }
        rates
    }

    /// d′ and c, in standard deviations. Half an answer is added to each count and one to each total (the log-linear rule;
    /// Hautus 1995), so that rates of 0 and 1 have finite quantiles.
    pub fn sensitivity(&self) -> (f64, f64) {
        let z = |count: f64, of: f64| Normal::standard().inverse_cdf((count + 0.5) / (of + 1.0));
        let (hit, false_alarm) = (z(self.hits, self.signals), z(self.false_alarms, self.noises));
        (hit - false_alarm, -f64::midpoint(hit, false_alarm))
    }
}

/// A measure of the reference, of the trained model, and the change from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Of the reference.
    pub reference: Estimate,
    /// Of the trained model.
    pub model: Estimate,
    /// Trained minus reference.
    pub change: Estimate,
}

/// d′ and criterion before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// How well the model tells questions that call for the habit from others.
    pub d_prime: Compared,
    /// How unready it is to show the habit.
    pub criterion: Compared,
}

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The habit spread to questions that do not call for it, and telling them apart became no better.
    Artifact,
    /// The habit spread to questions that do not call for it, though the model tells them apart better on the whole.
    Overreach,
    /// The model tells the questions apart better.
    Sharper,
    /// The model tells the questions apart worse, without the habit having spread.
    Blunter,
    /// The habit became rarer, where it is called for too.
    Holding,
    /// Nothing that stands out.
    Unchanged,
}

/// Compares a measure of the questions on both models; intervals are of resampled questions.
pub fn compare(asked: &[Asked], unit: Unit, rng: &mut Rng, measure: impl Fn(&Rates) -> f64) -> Compared {
    let reference = |sample: &[Asked]| measure(&Rates::of(sample.iter().map(|a| (a.signal, a.reference))));
    let model = |sample: &[Asked]| measure(&Rates::of(sample.iter().map(|a| (a.signal, a.model))));
    Compared {
        reference: Estimate::of(asked, unit, rng, reference),
        model: Estimate::of(asked, unit, rng, model),
        change: Estimate::of(asked, unit, rng, |sample| model(sample) - reference(sample)),
    }
}

/// d′ and criterion of both models.
pub fn sensitivity(asked: &[Asked], rng: &mut Rng) -> Sensitivity {
    Sensitivity {
        d_prime: compare(asked, Unit::Sigmas, rng, |rates| rates.sensitivity().0),
        criterion: compare(asked, Unit::Sigmas, rng, |rates| rates.sensitivity().1),
    }
}

/// What the change is, given whether the alarm of false alarms was raised.
pub fn verdict(sensitivity: &Sensitivity, alarmed: bool) -> Verdict {
    let (d_prime, criterion) = (sensitivity.d_prime.change, sensitivity.criterion.change);
    if alarmed {
        if d_prime.low > 0.0 { Verdict::Overreach } else { Verdict::Artifact }
    } else if d_prime.low > 0.0 {
        Verdict::Sharper
    } else if d_prime.high < 0.0 {
        Verdict::Blunter
    } else if criterion.low > 0.0 {
        Verdict::Holding
    } else {
        Verdict::Unchanged
    }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    fn rng(index: u64) -> Rng {
        Rng::new(1, Stream::Bootstrap, 0, index)
    }

    /// Questions of an observer with d′ and c: it says yes where its normal evidence exceeds c, signals shifted by d′/2.
    fn observers(n: usize, reference: (f64, f64), model: (f64, f64), rng: &mut Rng) -> Vec<Asked> {
        (0..n)
            .map(|i| {
                let signal = i % 2 == 0;
                let evidence = f64::from(rng.normal());
                let says = |(d, c): (f64, f64)| {
                    f64::from(u8::from(evidence + if signal { d / 2.0 } else { -d / 2.0 } > c))
                };
                Asked { signal, reference: says(reference), model: says(model) }
            })
            .collect()
    }

    #[test]
    fn hand_numbers() {
        // z(0.975) = 1.96, z(0.5) = 0 before the log-linear rule, which at n = 10^6 changes nothing visible.
        let rates = Rates { hits: 975_000.0, signals: 1e6, false_alarms: 500_000.0, noises: 1e6 };
        let (d, c) = rates.sensitivity();
        assert!((d - 1.959_96).abs() < 1e-4 && (c + 0.979_98).abs() < 1e-4, "{d} {c}");
        // 0 of 3 is counted as 0.5 of 4.
        let none = Rates { hits: 0.0, signals: 3.0, false_alarms: 0.0, noises: 3.0 };
        assert!((none.sensitivity().1 - 1.150_349).abs() < 1e-5);
    }

    #[test]
    fn known_observers_are_recovered_and_named() {
        let before = (1.5, 0.6);
        for (after, wanted) in [
            ((1.5, 0.0), Verdict::Artifact),
            ((2.5, 0.6), Verdict::Sharper),
            ((2.1, -0.1), Verdict::Overreach),
            ((0.7, 0.9), Verdict::Blunter),
            ((1.5, 1.2), Verdict::Holding),
            (before, Verdict::Unchanged),
        ] {
            let asked = observers(4000, before, after, &mut rng(1));
            let measured = sensitivity(&asked, &mut rng(2));
            assert!((measured.d_prime.reference.value - before.0).abs() < 0.12);
            assert!((measured.d_prime.model.value - after.0).abs() < 0.15, "{after:?}: {measured:?}");
            assert!((measured.criterion.model.value - after.1).abs() < 0.1, "{after:?}: {measured:?}");
            let alarms = compare(&asked, Unit::Share, &mut rng(3), |r| r.false_alarms / r.noises);
            assert_eq!(verdict(&measured, alarms.change.low > 0.02), wanted, "{after:?}");
        }
    }
}
