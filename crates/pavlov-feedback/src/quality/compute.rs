//! The figures.

use std::collections::{BTreeMap, BTreeSet};

use pavlov_schema::feedback::Said;
use pavlov_schema::judgment::Choice;
use pavlov_schema::rng::{Rng, Stream};

use super::{Agreement, Disagreement, Effect, Policy, Quality, RaterQuality, rankings, votes};
use crate::queue::settle;
use crate::stats::Interval;
use crate::stats::agreement::{Label, Level, alpha_interval, by_item, kappas, raw_interval};
use crate::stats::bias::{binomial, false_discovery, least_ms, longest_run, run_chance};
use crate::stats::people::{LEAST_OVERLAP, dawid_skene, gold, overlapping, severity};
use crate::stats::probe::probe;
use crate::stats::strength::{Terms, Vote, fit, ratio_test};
use crate::store::{AccountId, CurrentAnswer, TaskRole};

/// Weight of the prior on strengths.
const PRIOR: f64 = 0.05;
/// Resamples of an interval of agreement.
const RESAMPLES: usize = 200;
/// Disagreements that are listed.
const LISTED: usize = 100;
/// A straight line is named when chance makes one in so many projects.
const STRAIGHT: f64 = 1e-4;
const DAY: i64 = 86_400_000;

/// Quality of a project's answers; `names` are the pseudonyms.
pub fn of(answers: &[CurrentAnswer], names: &BTreeMap<AccountId, String>) -> Quality {
    let kept: Vec<&CurrentAnswer> = answers.iter().filter(|one| !one.excluded).collect();
    let excluded = answers.len() - kept.len();
    let raters: BTreeSet<AccountId> = kept.iter().map(|one| one.rater).collect();
    let people: BTreeMap<AccountId, usize> = raters.into_iter().zip(0..).collect();
    let mut days: BTreeMap<i64, usize> = BTreeMap::new();
    for answer in &kept {
        *days.entry(answer.at_ms.div_euclid(DAY) * DAY).or_default() += 1;
    }
    // Only what was not chosen for its information is a sample of anything.
    let fair: Vec<&CurrentAnswer> = kept.iter().copied().filter(|one| fair(one)).collect();
    let mut quality = Quality {
        answers: kept.len(),
        excluded,
        exclusion_rate: excluded as f64 / answers.len().max(1) as f64,
        days: days.into_iter().collect(),
        agreement: agreements(&fair, &people),
        disagreements: disagreements(&fair, names),
        ..Quality::default()
    };
    let choices: Vec<Label> = fair.iter().filter_map(|one| choice(one, &people)).collect();
    quality.kappas = kappas(&choices).into_iter().filter(|pair| pair.items >= LEAST_OVERLAP).collect();
    quality.raters = rater_qualities(&kept, &choices, &people, names);
    strengths(&mut quality, &fair, &people);
    quality
}

fn fair(answer: &CurrentAnswer) -> bool {
    answer.role == TaskRole::Live && answer.pass == 0 && answer.selection.as_deref() != Some("information")
}

/// A comparison's choice as a numbered class.
fn choice(answer: &CurrentAnswer, people: &BTreeMap<AccountId, usize>) -> Option<Label> {
    let Said::Pairwise { choice, .. } = &answer.answer.said else { return None };
    let value = match choice {
        Choice::A => 0.0,
        Choice::B => 1.0,
        Choice::Tie => 2.0,
        Choice::BothBad => 3.0,
    };
    Some(Label { item: answer.task.0 as usize, rater: people[&answer.rater], value })
}

fn agreements(answers: &[&CurrentAnswer], people: &BTreeMap<AccountId, usize>) -> Vec<Agreement> {
    let mut questions: BTreeMap<String, Vec<Label>> = BTreeMap::new();
    for answer in answers {
        if let Some(label) = choice(answer, people) {
            questions.entry("choice".into()).or_default().push(label);
        }
        if let Said::Pointwise { scores } = &answer.answer.said {
            for score in scores {
                let label =
                    Label { item: answer.task.0 as usize, rater: people[&answer.rater], value: score.value };
                questions.entry(score.question.clone()).or_default().push(label);
            }
        }
    }
    let rng = |number| Rng::new(0, Stream::Bootstrap, number, 0);
    let one = |(question, labels): (String, Vec<Label>)| {
        let units = by_item(&labels);
        Agreement {
            items: units.len(),
            raw: raw_interval(&units, RESAMPLES, &mut rng(0)),
            nominal: alpha_interval(&units, Level::Nominal, RESAMPLES, &mut rng(1)),
            // The choices of a comparison have no order.
            ordinal: (question != "choice")
                .then(|| alpha_interval(&units, Level::Ordinal, RESAMPLES, &mut rng(2)))
                .flatten(),
            question,
        }
    };
    questions.into_iter().map(one).chain(rankings::agreement(answers, RESAMPLES)).collect()
}

fn disagreements(answers: &[&CurrentAnswer], names: &BTreeMap<AccountId, String>) -> Vec<Disagreement> {
    let mut found: Vec<(i64, Disagreement)> = answers
        .chunk_by(|a, b| a.task == b.task)
        .filter_map(|said| {
            let verdicts: Vec<String> = said.iter().map(|one| one.said.clone()).collect();
            let newest = said.iter().map(|one| one.at_ms).max()?;
            let who = |one: &&CurrentAnswer| (name(names, one.rater), one.said.clone());
            let task = said[0].task_code.clone();
            (said.len() > 1 && !settle::agree(&verdicts))
                .then(|| (newest, Disagreement { task, said: said.iter().map(who).collect() }))
        })
        .collect();
    found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    found.into_iter().take(LISTED).map(|(_, one)| one).collect()
}

fn name(names: &BTreeMap<AccountId, String>, rater: AccountId) -> String {
    names.get(&rater).cloned().unwrap_or_else(|| "left the project".into())
}

/// Whether a decided comparison went to the left answer.
fn went_left(answer: &CurrentAnswer) -> Option<bool> {
    let Said::Pairwise { choice, .. } = &answer.answer.said else { return None };
    let left = answer.shown?.at(0);
    match choice {
        Choice::A => Some(left == Some(0)),
        Choice::B => Some(left == Some(1)),
        Choice::Tie | Choice::BothBad => None,
    }
}

/// The button that was pressed, as a number: left, right, tie, both bad; or the scores.
fn button(answer: &CurrentAnswer) -> Option<u32> {
    match (&answer.answer.said, went_left(answer)) {
        (Said::Pairwise { .. }, Some(left)) => Some(u32::from(!left)),
        (Said::Pairwise { choice, .. }, None) => Some(if *choice == Choice::Tie { 2 } else { 3 }),
        (Said::Pointwise { scores }, _) => Some(
            scores
                .iter()
                .fold(4_u32, |sum, score| sum.wrapping_mul(31).wrapping_add(score.value as i32 as u32)),
        ),
        (Said::Ranking { .. }, _) => Some(rankings::button(answer)),
        (Said::Demonstration { .. } | Said::Edit { .. }, _) => None,
    }
}

fn rater_qualities(
    kept: &[&CurrentAnswer],
    choices: &[Label],
    people: &BTreeMap<AccountId, usize>,
    names: &BTreeMap<AccountId, String>,
) -> Vec<RaterQuality> {
    let mut order: Vec<&&CurrentAnswer> = kept.iter().collect();
    order.sort_by_key(|one| one.seq);
    let buttons: Vec<(AccountId, u32)> =
        order.iter().filter_map(|one| Some((one.rater, button(one)?))).collect();
    let mut shares: BTreeMap<u32, f64> = BTreeMap::new();
    for (_, button) in &buttons {
        *shares.entry(*button).or_default() += 1.0 / buttons.len() as f64;
    }
    let shares: Vec<f64> = shares.into_values().collect();
    let model = dawid_skene(choices, people.len(), 4, 0.01, 100);
    let enough = overlapping(choices, people.len());
    let ratings: Vec<Label> =
        kept.iter().filter(|one| fair(one)).filter_map(|one| first_score(one, people)).collect();
    let severity = severity(&ratings, people.len());
    let rated = overlapping(&ratings, people.len());

    let mut found: Vec<RaterQuality> = vec![RaterQuality::default(); people.len()];
    for (&rater, &place) in people {
        let own: Vec<&CurrentAnswer> =
            order.iter().filter(|one| one.rater == rater).map(|one| **one).collect();
        let pressed: Vec<u32> = buttons.iter().filter(|(who, _)| *who == rater).map(|(_, b)| *b).collect();
        let run = longest_run(&pressed);
        let mut times: Vec<u64> = own.iter().map(|one| one.active_ms).collect();
        times.sort_unstable();
        let known: Vec<bool> =
            own.iter().filter_map(|one| Some(settle::right(&one.said, one.gold.as_ref()?))).collect();
        let right = known.iter().filter(|right| **right).count();
        let sides: Vec<bool> = own.iter().filter_map(|one| went_left(one)).collect();
        let left = sides.iter().filter(|left| **left).count();
        let fast = own.iter().filter(|one| one.active_ms < least_ms(words(one))).count();
        found[place] = RaterQuality {
            rater: name(names, rater),
            answers: own.len(),
            median_ms: times.get(times.len() / 2).copied().unwrap_or(0),
            gold: (!known.is_empty()).then(|| gold(right, known.len() - right)),
            gold_answers: known.len(),
            left: Interval::share(left, sides.len()),
            left_p: (!sides.is_empty()).then(|| binomial(left, sides.len(), 0.5)),
            consistency: consistency(&own),
            longest_run: run,
            // One button alone cannot be told from a project in which there is one answer.
            straight_lining: shares.len() > 1
                && run_chance(pressed.len(), run, &shares) * (people.len() as f64) < STRAIGHT,
            too_fast: fast as f64 / own.len().max(1) as f64,
            dawid_skene: enough[place].then(|| model.accuracy(place)),
            severity: rated[place].then(|| severity.offset[place]),
        };
    }
    let tested: Vec<usize> = (0..found.len()).filter(|&i| found[i].left_p.is_some()).collect();
    let chances: Vec<f64> = tested.iter().filter_map(|&i| found[i].left_p).collect();
    for (i, adjusted) in tested.into_iter().zip(false_discovery(&chances)) {
        found[i].left_p = Some(adjusted);
    }
    found
}

/// Words to read, from characters.
fn words(answer: &CurrentAnswer) -> usize {
    answer.lengths.iter().flatten().sum::<u32>() as usize / 6
}

fn first_score(answer: &CurrentAnswer, people: &BTreeMap<AccountId, usize>) -> Option<Label> {
    let Said::Pointwise { scores } = &answer.answer.said else { return None };
    Some(Label { item: answer.task.0 as usize, rater: people[&answer.rater], value: scores.first()?.value })
}

/// The share of repeats that were answered as the first time.
fn consistency(own: &[&CurrentAnswer]) -> Option<Interval> {
    let first: BTreeMap<i64, &str> =
        own.iter().filter(|one| one.pass == 0).map(|one| (one.task.0, &*one.said)).collect();
    let again = own.iter().filter(|one| one.pass == 1);
    let alike = |first: &str, again: &str| settle::agree(&[first.to_owned(), again.to_owned()]);
    let same: Vec<bool> = again.filter_map(|one| Some(alike(first.get(&one.task.0)?, &one.said))).collect();
    Interval::share(same.iter().filter(|same| **same).count(), same.len())
}

fn strengths(quality: &mut Quality, fair: &[&CurrentAnswer], people: &BTreeMap<AccountId, usize>) {
    let sides: Vec<bool> = fair.iter().filter_map(|one| went_left(one)).collect();
    let left = sides.iter().filter(|left| **left).count();
    quality.left = Interval::share(left, sides.len());
    quality.left_p = (!sides.is_empty()).then(|| binomial(left, sides.len(), 0.5));

    let mut policies: BTreeMap<&str, usize> = BTreeMap::new();
    for name in fair.iter().flat_map(|one| one.policies.iter().flatten()) {
        policies.insert(name, 0);
    }
    for (place, number) in policies.values_mut().enumerate() {
        *number = place;
    }
    quality.policy_names = policies.keys().map(ToString::to_string).collect();
    let votes = fair.iter().flat_map(|one| votes::votes(one, &policies, people[&one.rater]));
    let votes = standardized(votes.collect());
    if votes.is_empty() {
        return;
    }
    let n = policies.len();
    quality.findings = probe(n, &votes, PRIOR);
    let plain = Terms { ties: true, ..Terms::default() };
    let ordered = Terms { order: true, ..plain };
    let with_order = match fit(n, &votes, ordered, PRIOR) {
        Ok(fit) => fit,
        Err(refused) => {
            let named =
                |group: Vec<usize>| group.into_iter().map(|i| quality.policy_names[i].clone()).collect();
            quality.not_comparable = refused.groups.into_iter().map(named).collect();
            return;
        }
    };
    if let (Some((order, error)), Ok(without)) = (with_order.order_effect(), fit(n, &votes, plain, PRIOR)) {
        let p = ratio_test(&with_order, &without);
        quality.position = Some(Effect { log_odds: Interval::normal(-order, error), p });
    }
    let lengths = votes.iter().any(|vote| vote.longer != 0.0);
    let at_equal_length =
        lengths.then(|| fit(n, &votes, Terms { length: true, ..ordered }, PRIOR).ok()).flatten();
    if let Some(long) = &at_equal_length
        && let Some((effect, error)) = long.length_effect()
    {
        let p = ratio_test(long, &with_order);
        quality.length = Some(Effect { log_odds: Interval::normal(effect, error), p });
    }
    let one = |i: usize| Policy {
        policy: quality.policy_names[i].clone(),
        strength: Interval::normal(with_order.theta[i], with_order.error(i)),
        at_equal_length: at_equal_length.as_ref().map(|fit| Interval::normal(fit.theta[i], fit.error(i))),
        comparisons: votes.iter().filter(|vote| vote.first == i || vote.second == i).count(),
    };
    let mut policies: Vec<Policy> = (0..n).map(one).collect();
    policies.sort_by(|a, b| b.strength.value.total_cmp(&a.strength.value));
    quality.policies = policies;
}

/// Votes with `longer` in standard deviations.
fn standardized(mut votes: Vec<Vote>) -> Vec<Vote> {
    let square = votes.iter().map(|vote| vote.longer * vote.longer).sum::<f64>() / votes.len().max(1) as f64;
    if square > 0.0 {
        for vote in &mut votes {
            vote.longer /= square.sqrt();
        }
    }
    votes
}
