//! What a run's reward gained: by length, and by the reward that was meant.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Credited, Prompt, Scored};
use pavlov_schema::rollout_file;
use pavlov_train::loops::rl::sources::{RewardEntry, open_rewards};
use pavlov_train::stage::score::{Reward, score};

use super::answers::Answers;
use super::length::{self, LengthSplit};
use super::overoptimisation::{self as curves, Fit, Optimiser, Point};
use crate::metrics::curve;
use crate::taught::{Taught, rollout_files};
use crate::{Error, Result};

/// Most answers of a run that what was meant is asked about.
const FOLLOWED: usize = 16_384;

/// What the gain of reward is measured on.
#[derive(Clone, Debug)]
pub struct Gain {
    /// The run.
    pub taught: Taught,
    /// Its prompts, with the columns that rewards read.
    pub prompts: Vec<Prompt>,
    /// So many of them, at most, are answered by both models.
    pub answered: usize,
    /// What was optimised.
    pub rewards: Vec<RewardEntry>,
    /// What was meant, if something can tell.
    pub gold: Option<Gold>,
}

/// The reward that was meant.
#[derive(Clone, Debug)]
pub struct Gold {
    /// What gives its points; of weight 1.
    pub entry: RewardEntry,
    /// Its weight among the run's rewards, where it was one of them: its points are in the rollouts then.
    pub weight: Option<f64>,
}

/// The rewards, ready to be asked.
pub(super) struct Opened {
    optimised: Vec<Reward>,
    /// What was meant, and what it says of the run.
    meant: Option<(Vec<Reward>, Found)>,
}

/// A curve, or what is missing for one.
type Found = std::result::Result<Fit, String>;

/// What was found.
#[derive(Default)]
pub(super) struct Gained {
    pub(super) length: Option<LengthSplit>,
    pub(super) overoptimisation: Vec<Fit>,
    pub(super) missing: Vec<String>,
}

/// Answers to one prompt: their mean proxy and gold.
type Group = [f64; 2];

impl Gain {
    /// The prompts that both models answer.
    pub fn asked(&self) -> &[Prompt] {
        &self.prompts[..self.answered.min(self.prompts.len())]
    }

    /// Opens the rewards, and asks what was meant about the answers that the run kept: what is wrong with a reward is said
    /// before anything is drawn.
    pub(super) fn open(&self, model: &LanguageModel, seed: u64) -> Result<Opened> {
        let optimised = open_rewards(&self.rewards, model, None)?;
        let Some(gold) = &self.gold else { return Ok(Opened { optimised, meant: None }) };
        let mut meant = open_rewards(std::slice::from_ref(&gold.entry), model, None)?;
        let mut rng = Rng::new(seed, Stream::Bootstrap, 3, 0);
        let found = self.along_the_run(gold, &mut meant, &mut rng)?;
        Ok(Opened { optimised, meant: Some((meant, found)) })
    }

    /// Answers the prompts.
    pub(super) fn measure(
        &self,
        mut opened: Opened,
        answers: &mut Answers<'_>,
        rng: &mut Rng,
    ) -> Result<Gained> {
        let [reference, trained] = answers.of(self.asked(), &mut opened.optimised)?;
        let each = answers.each();
        let answer = |one: &Scored| (one.rollout.tokens.len() as f64, one.reward);
        let by_question = |scored: &[Scored]| -> Vec<Vec<length::Answer>> {
            scored.chunks_exact(each).map(|answers| answers.iter().map(answer).collect()).collect()
        };
        let pairs: Vec<_> = by_question(&reference).into_iter().zip(by_question(&trained)).collect();
        let mut gained = Gained { length: Some(length::split(&pairs, rng)), ..Gained::default() };
        let Some((mut meant, along)) = opened.meant else { return Ok(gained) };
        for found in [along, self.best_of_n(reference, each, &mut meant, rng)?] {
            match found {
                Ok(fit) => gained.overoptimisation.push(fit),
                Err(missing) => gained.missing.push(missing),
            }
        }
        Ok(gained)
    }

    /// The best of n of the reference's own answers: a second look at whether the proxy can be followed.
    fn best_of_n(
        &self,
        answers: Vec<Scored>,
        each: usize,
        meant: &mut [Reward],
        rng: &mut Rng,
    ) -> Result<Found> {
        let proxies: Vec<f64> = answers.iter().map(|one| one.reward).collect();
        let rollouts = answers.into_iter().map(|one| one.rollout).collect();
        let golds = score(meant, self.asked(), rollouts)?;
        let pairs: Vec<(f64, f64)> = proxies.into_iter().zip(golds.iter().map(|one| one.reward)).collect();
        let questions: Vec<Vec<(f64, f64)>> = pairs.chunks_exact(each).map(curves::best_of_n).collect();
        let n = questions.len();
        let mean = |chosen: &mut dyn Iterator<Item = usize>| -> Vec<Point> {
            let mut sums = vec![[0.0; 2]; each];
            for question in chosen {
                for (sum, (proxy, gold)) in sums.iter_mut().zip(&questions[question]) {
                    *sum = [sum[0] + proxy, sum[1] + gold];
                }
            }
            let point = |(i, [proxy, gold]): (usize, [f64; 2])| Point {
                kl: curves::best_of_n_kl(i + 1),
                proxy: proxy / n as f64,
                gold: gold / n as f64,
            };
            sums.into_iter().enumerate().map(point).collect()
        };
        let again = |rng: &mut Rng| mean(&mut (0..n).map(|_| rng.below(n)));
        let fit = curves::fit(mean(&mut (0..n)), n, Optimiser::BestOfN, rng, again);
        Ok(fit.ok_or_else(|| {
            let least = curves::POINTS + 1;
            format!(
                "best of n: of {each} answers to a prompt there are too few points; give -n {least} or more"
            )
        }))
    }

    /// The run itself: KL as it was logged, and the rewards of the answers that it drew since the line before.
    fn along_the_run(&self, gold: &Gold, meant: &mut [Reward], rng: &mut Rng) -> Result<Found> {
        let files = rollout_files(&self.taught.run)?;
        let lines = self.taught.metrics()?;
        let (kls, lengths) = (curve(&lines, "kl"), curve(&lines, "completions/mean_length"));
        if files.is_empty() || kls.is_empty() {
            let what = "needs the run's rollouts, and its KL, which is logged where beta is above 0";
            return Ok(Err(format!("along the run: {what}")));
        }
        let places = places(&kls, &lengths, self.groups(&files, gold, meant)?);
        let n = places.iter().map(|(_, groups)| groups.len()).sum();
        let point = |kl: f64, groups: &mut dyn Iterator<Item = Group>| {
            let (mut sum, mut count) = ([0.0; 2], 0.0);
            for [proxy, gold] in groups {
                (sum, count) = ([sum[0] + proxy, sum[1] + gold], count + 1.0);
            }
            Point { kl, proxy: sum[0] / count, gold: sum[1] / count }
        };
        let points = places.iter().map(|(kl, groups)| point(*kl, &mut groups.iter().copied())).collect();
        let again = |rng: &mut Rng| -> Vec<Point> {
            let of = |(kl, groups): &(f64, Vec<Group>)| {
                point(*kl, &mut (0..groups.len()).map(|_| groups[rng.below(groups.len())]))
            };
            places.iter().map(of).collect()
        };
        let fit = curves::fit(points, n, Optimiser::Reinforcement, rng, again);
        Ok(fit.ok_or_else(|| {
            let found = places.len();
            format!(
                "along the run: {found} logged lines with a KL and a mean length are too few points; log more often, \
                 with logging_steps"
            )
        }))
    }

    /// The groups of answers that the run drew, with the update that each was drawn for, in order.
    fn groups(&self, files: &[PathBuf], gold: &Gold, meant: &mut [Reward]) -> Result<Vec<(u64, Group)>> {
        let mut groups: Vec<(u64, Group)> = Vec::new();
        let mut every = 1;
        for (i, file) in files.iter().enumerate() {
            if i % every != 0 {
                continue;
            }
            let answers = rollout_file::read(file)?;
            if i == 0 {
                every = (files.len() * answers.len()).div_ceil(FOLLOWED).max(1);
            }
            self.check(&answers)?;
            let step = answers.first().map_or(0, |(step, _)| *step);
            let answers: Vec<Scored> = answers.into_iter().map(|(_, answer)| answer.scored).collect();
            let golds = self.golds(&answers, gold, meant)?;
            let weight = gold.weight.unwrap_or(0.0);
            let both = answers.iter().zip(golds).map(|(one, gold)| [one.reward - weight * gold, gold]);
            let placed: Vec<(usize, Group)> = answers.iter().map(place).zip(both).collect();
            for group in placed.chunk_by(|a, b| a.0 == b.0) {
                let known = |group: &&Group| group.iter().all(|points| points.is_finite());
                let known: Vec<Group> = group.iter().map(|(_, group)| *group).filter(|g| known(&g)).collect();
                let n = known.len() as f64;
                let mean = |i: usize| known.iter().map(|one| one[i]).sum::<f64>() / n;
                groups.extend((n > 0.0).then(|| (step, [mean(0), mean(1)])));
            }
        }
        Ok(groups)
    }

    /// What each answer earned of what was meant; NaN where that has nothing to say.
    fn golds(&self, answers: &[Scored], gold: &Gold, meant: &mut [Reward]) -> Result<Vec<f64>> {
        if gold.weight.is_some() {
            let own = |(name, _): &&(String, f64)| name == gold.entry.name();
            let points = |one: &Scored| one.parts.iter().find(own).map_or(f64::NAN, |part| part.1);
            return Ok(answers.iter().map(points).collect());
        }
        let rollouts = answers.iter().map(|one| one.rollout.clone()).collect();
        Ok(score(meant, &self.prompts, rollouts)?.iter().map(|one| one.reward).collect())
    }

    /// Whether the data still has the rows that were answered.
    fn check(&self, answers: &[(u64, Credited)]) -> Result<()> {
        let Some(row) = answers.iter().map(|(_, answer)| place(&answer.scored)).max() else { return Ok(()) };
        if row < self.prompts.len() {
            return Ok(());
        }
        let file = self.taught.data().unwrap_or_default();
        let what = format!("has no row {}, which the run answered; give back the run's data", row + 1);
        Err(Error::Question(format!("{}: {what}", file.display())))
    }
}

/// Groups of answers by the KL of an answer, in nats, of the logged line that follows them: the KL of a token times the mean length
/// that was logged at the same step. A line without a length leaves a gap, as it is not known how far its answers are.
fn places(kls: &[(f64, f64)], lengths: &[(f64, f64)], groups: Vec<(u64, Group)>) -> Vec<(f64, Vec<Group>)> {
    let lengths: BTreeMap<u64, f64> = lengths.iter().map(|(step, length)| (*step as u64, *length)).collect();
    let mut groups = groups.into_iter().peekable();
    let mut places = Vec::new();
    for (step, kl) in kls {
        let own = std::iter::from_fn(|| groups.next_if(|(at, _)| *at as f64 <= *step));
        let own: Vec<Group> = own.map(|(_, group)| group).collect();
        if let Some(length) = lengths.get(&(*step as u64)).filter(|_| !own.is_empty()) {
            places.push((kl * length, own));
        }
    }
    places
}

fn place(answer: &Scored) -> usize {
    answer.rollout.prompt_index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_and_length_are_those_of_one_step() {
        let groups: Vec<(u64, Group)> = (1..=7).map(|step| (step, [step as f64, 0.0])).collect();
        let kls = [(2.0, 0.1), (4.0, 0.2), (6.0, 0.3)];
        let steps = |places: Vec<(f64, Vec<Group>)>| -> Vec<(f64, Vec<f64>)> {
            places.into_iter().map(|(kl, own)| (kl, own.iter().map(|group| group[0]).collect())).collect()
        };
        let whole = places(&kls, &[(2.0, 10.0), (4.0, 20.0), (6.0, 50.0)], groups.clone());
        assert_eq!(steps(whole), [(1.0, vec![1.0, 2.0]), (4.0, vec![3.0, 4.0]), (15.0, vec![5.0, 6.0])]);
        // Where a line lacks one of the two, neither is lent from another line, nor are its answers.
        let gap = places(&kls, &[(2.0, 10.0), (3.0, 7.0), (6.0, 50.0)], groups);
        assert_eq!(steps(gap), [(1.0, vec![1.0, 2.0]), (15.0, vec![5.0, 6.0])]);
    }
}
