//! Was it they? Retraining without the lessons at the top, with their labels flipped, and without as many at random.

use pavlov_schema::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};

use crate::{Estimate, Result, Unit};

/// What is done with a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is learned as it is.
    Keep,
    /// It is left out.
    Drop,
    /// Its opposite is learned.
    Flip,
}

/// What retraining did to the behaviour: its mean probability over the cases, with intervals over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Lessons that were changed.
    pub k: usize,
    /// In the model before.
    pub before: f64,
    /// Retrained on everything.
    pub everything: Estimate,
    /// Retrained without the k at the top.
    pub without_top: Estimate,
    /// Retrained with the k at the top flipped.
    pub flipped: Estimate,
    /// Retrained without k others, drawn anew for every seed.
    pub without_random: Estimate,
    /// Whether leaving out the top lowered the behaviour, and more than leaving out others.
    pub confirmed: bool,
    /// The finding in words.
    pub sentence: String,
}

/// Retrains for every seed; `retrain` is told what to do with each lesson, by place, and returns the behaviour's probability.
pub fn verify(
    ranked: &[usize],
    k: usize,
    seeds: &[u64],
    before: f64,
    retrain: &mut dyn FnMut(&[Change], u64) -> Result<f64>,
) -> Result<Verification> {
    let k = k.min(ranked.len());
    let lessons = ranked.iter().max().map_or(0, |last| last + 1);
    let changed = |places: &[usize], change: Change| {
        let mut changes = vec![Change::Keep; lessons];
        for place in places {
            changes[*place] = change;
        }
        changes
    };
    let mut found: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::with_capacity(seeds.len()));
    for &seed in seeds {
        let mut others = ranked[k..].to_vec();
        Rng::new(seed, Stream::Bootstrap, 5, 0).shuffle(&mut others);
        others.truncate(k);
        let runs = [
            changed(&[], Change::Keep),
            changed(&ranked[..k], Change::Drop),
            changed(&ranked[..k], Change::Flip),
            changed(&others, Change::Drop),
        ];
        for (found, changes) in found.iter_mut().zip(&runs) {
            found.push(retrain(changes, seed)?);
        }
    }
    let mut rng = Rng::new(seeds.first().copied().unwrap_or(0), Stream::Bootstrap, 6, 0);
    let gaps: Vec<f64> = found[3].iter().zip(&found[1]).map(|(random, top)| random - top).collect();
    let gap = Estimate::mean(&gaps, Unit::Share, &mut rng);
    let [everything, without_top, flipped, without_random] =
        found.map(|values| Estimate::mean(&values, Unit::Share, &mut rng));
    // One seed says nothing of what seeds do.
    let confirmed = seeds.len() > 1 && gap.low > 0.0 && without_top.value < everything.value;
    let percent = |e: Estimate| match e.n {
        1 => format!("{:.1}% (one seed)", 100.0 * e.value),
        _ => format!("{:.1}% ({:.1} to {:.1})", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high),
    };
    let sentence = format!(
        "Retrained without the top {k} the behaviour has a probability of {}, without {k} others {}, on everything {}, {:.1}% before the stage: {}.",
        percent(without_top),
        percent(without_random),
        percent(everything),
        100.0 * before,
        if confirmed { "they are a cause" } else { "that they are a cause is not shown" },
    );
    Ok(Verification { k, before, everything, without_top, flipped, without_random, confirmed, sentence })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The behaviour is the share of ten causes, at places 0 to 9, that are learned, less those flipped.
    fn world(changes: &[Change], seed: u64) -> f64 {
        let effect = |change: &Change| match change {
            Change::Keep => 0.1,
            Change::Drop => 0.0,
            Change::Flip => -0.05,
        };
        changes[..10].iter().map(effect).sum::<f64>() + 0.001 * seed as f64
    }

    #[test]
    fn causes_are_confirmed_and_others_are_not() {
        let good: Vec<usize> = (0..100).collect();
        let mut retrain = |changes: &[Change], seed: u64| Ok(world(changes, seed));
        let verified = verify(&good, 10, &[1, 2, 3], 0.0, &mut retrain).unwrap();
        assert!(verified.confirmed && verified.without_top.value < 0.01, "{verified:?}");
        assert!((verified.everything.value - 1.002).abs() < 1e-9 && verified.flipped.value < 0.0);
        assert!(verified.without_random.value > 0.9);
        let once = verify(&good, 10, &[1], 0.0, &mut retrain).unwrap();
        assert!(!once.confirmed && once.sentence.contains("one seed"), "{}", once.sentence);
        let bad: Vec<usize> = (0..100).rev().collect();
        let verified = verify(&bad, 10, &[1, 2, 3], 0.0, &mut retrain).unwrap();
        assert!(!verified.confirmed && verified.sentence.contains("not shown"), "{}", verified.sentence);
    }
}
