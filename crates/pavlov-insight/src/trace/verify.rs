//! Was it they? Retraining without the lessons at the top, with their labels flipped, and without as many at random.

use pavlov_schema::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};

use super::cases::Seen;
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

/// How a stage is taught again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// With another seed each time: the order of the lessons, and what else is drawn.
    #[default]
    Retrained,
    /// The answers that the policy drew then are learned from again, in their order. Nothing is drawn, so that a change has
    /// one outcome; and the answers stay those that were written under the influence of all.
    Replayed,
}

/// What retraining did to the behaviour: its mean probability over the cases, with intervals over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// How it was taught again.
    #[serde(default)]
    pub how: How,
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
    /// By how much the log-odds of the behaviour fell without the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall: Option<Estimate>,
    /// What the scores had said of that fall, where they count nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foretold: Option<f64>,
    /// Whether leaving out the top lowered the behaviour, and more than leaving out others.
    pub confirmed: bool,
    /// The finding in words.
    pub sentence: String,
}

/// What is to be verified.
#[derive(Clone, Copy, Debug)]
pub struct Ranking<'a> {
    /// Places of lessons, the highest score first.
    pub ranked: &'a [usize],
    /// How many of them are the top.
    pub k: usize,
    /// The sum of their scores, where it counts nats.
    pub foretold: Option<f64>,
}

/// Teaches again for every seed; `teach` is told what to do with each lesson, by place. `before` is the model before.
pub fn verify(
    ranking: Ranking<'_>,
    seeds: &[u64],
    how: How,
    before: Seen,
    teach: &mut dyn FnMut(&[Change], u64) -> Result<Seen>,
) -> Result<Verification> {
    let Ranking { ranked, foretold, .. } = ranking;
    let k = ranking.k.min(ranked.len());
    let lessons = ranked.iter().max().map_or(0, |last| last + 1);
    let changed = |places: &[usize], change: Change| {
        let mut changes = vec![Change::Keep; lessons];
        for place in places {
            changes[*place] = change;
        }
        changes
    };
    let top = [Change::Keep, Change::Drop, Change::Flip].map(|change| changed(&ranked[..k], change));
    let mut found: [Vec<Seen>; 4] = std::array::from_fn(|_| Vec::with_capacity(seeds.len()));
    for (i, &seed) in seeds.iter().enumerate() {
        if i == 0 || how == How::Retrained {
            for (found, changes) in found.iter_mut().zip(&top) {
                found.push(teach(changes, seed)?);
            }
        }
        let mut others = ranked[k..].to_vec();
        Rng::new(seed, Stream::Bootstrap, 5, 0).shuffle(&mut others);
        others.truncate(k);
        found[3].push(teach(&changed(&others, Change::Drop), seed)?);
    }
    let mut rng = Rng::new(seeds.first().copied().unwrap_or(0), Stream::Bootstrap, 6, 0);
    // A replay has one outcome without the top: it stands against every draw of others.
    let without_top = found[1].iter().cycle();
    let gaps = found[3].iter().zip(without_top).map(|(random, top)| random.probability - top.probability);
    let gap = Estimate::mean(&gaps.collect::<Vec<_>>(), Unit::Share, &mut rng);
    let falls = found[0].iter().zip(&found[1]).map(|(all, without)| all.log_odds - without.log_odds);
    let fall = Estimate::mean(&falls.collect::<Vec<_>>(), Unit::LogOdds, &mut rng);
    let [everything, without_top, flipped, without_random] = found.map(|seen| {
        let probabilities: Vec<f64> = seen.iter().map(|seen| seen.probability).collect();
        Estimate::mean(&probabilities, Unit::Share, &mut rng)
    });
    // One seed says nothing of what seeds do.
    let confirmed = seeds.len() > 1 && gap.low > 0.0 && without_top.value < everything.value;
    let mut verification = Verification {
        how,
        k,
        before: before.probability,
        everything,
        without_top,
        flipped,
        without_random,
        fall: Some(fall),
        foretold,
        confirmed,
        sentence: String::new(),
    };
    verification.sentence = verification.say(seeds.len());
    Ok(verification)
}

impl Verification {
    /// What a nat of influence was worth here: the fall of the log-odds, over what had been foretold of it.
    pub fn worth(&self) -> Option<f64> {
        Some(self.fall?.value / self.foretold.filter(|nats| *nats > 0.0)?)
    }

    fn say(&self, seeds: usize) -> String {
        let k = self.k;
        let percent = |e: Estimate| match (e.n, seeds) {
            (1, 1) => format!("{:.1}% (one seed)", 100.0 * e.value),
            (1, _) => format!("{:.1}%", 100.0 * e.value),
            _ => format!("{:.1}% ({:.1} to {:.1})", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high),
        };
        let how = match self.how {
            How::Retrained => "Retrained",
            How::Replayed => "Its answers learned from again",
        };
        let worth = match (self.fall, self.foretold, self.worth()) {
            (Some(fall), Some(foretold), Some(worth)) => format!(
                " Its log-odds fell by {:.2} nats where influence said {foretold:.2}: a nat of influence was worth {worth:.2} here.",
                fall.value
            ),
            _ => String::new(),
        };
        format!(
            "{how} without the top {k} the behaviour has a probability of {}, without {k} others {}, on everything {}, {:.1}% before the stage: {}.{worth}",
            percent(self.without_top),
            percent(self.without_random),
            percent(self.everything),
            100.0 * self.before,
            if self.confirmed { "they are a cause" } else { "that they are a cause is not shown" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The behaviour is the share of ten causes, at places 0 to 9, that are learned, less those flipped.
    fn world(changes: &[Change], seed: u64) -> Seen {
        let effect = |change: &Change| match change {
            Change::Keep => 0.1,
            Change::Drop => 0.0,
            Change::Flip => -0.05,
        };
        let probability = changes[..10].iter().map(effect).sum::<f64>() + 0.001 * seed as f64;
        Seen { probability, log_odds: 2.0 * probability }
    }

    fn asked(ranked: &[usize], seeds: &[u64], how: How) -> (Verification, usize) {
        let (ranking, mut taught) = (Ranking { ranked, k: 10, foretold: Some(4.0) }, 0);
        let mut teach = |changes: &[Change], seed: u64| {
            taught += 1;
            Ok(world(changes, if how == How::Replayed { 0 } else { seed }))
        };
        let verified = verify(ranking, seeds, how, Seen::default(), &mut teach).unwrap();
        (verified, taught)
    }

    #[test]
    fn causes_are_confirmed_and_others_are_not() {
        let good: Vec<usize> = (0..100).collect();
        let (verified, taught) = asked(&good, &[1, 2, 3], How::Retrained);
        assert!(verified.confirmed && verified.without_top.value < 0.01 && taught == 12, "{verified:?}");
        assert!((verified.everything.value - 1.002).abs() < 1e-9 && verified.flipped.value < 0.0);
        assert!(verified.without_random.value > 0.9);
        assert!((verified.worth().unwrap() - 0.5).abs() < 1e-9);
        assert!(verified.sentence.contains("fell by 2.00 nats where influence said 4.00"), "{verified:?}");
        let (once, _) = asked(&good, &[1], How::Retrained);
        assert!(!once.confirmed && once.sentence.contains("one seed"), "{}", once.sentence);
        let bad: Vec<usize> = (0..100).rev().collect();
        let (verified, _) = asked(&bad, &[1, 2, 3], How::Retrained);
        assert!(!verified.confirmed && verified.sentence.contains("not shown"), "{}", verified.sentence);
    }

    #[test]
    fn what_is_replayed_is_replayed_once() {
        let good: Vec<usize> = (0..100).collect();
        let (verified, taught) = asked(&good, &[1, 2, 3], How::Replayed);
        assert!(verified.confirmed && taught == 3 + 3, "{verified:?}");
        assert_eq!((verified.everything.n, verified.without_random.n), (1, 3));
        let start = "Its answers learned from again without the top 10";
        assert!(verified.sentence.starts_with(start), "{}", verified.sentence);
        let (verified, _) = asked(&good.iter().rev().copied().collect::<Vec<_>>(), &[1, 2], How::Replayed);
        assert!(!verified.confirmed, "{verified:?}");
    }
}
