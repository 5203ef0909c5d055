//! Each rater's figures but those that come of policies.

use std::collections::BTreeMap;

use super::compute::Answers;
use super::{RaterQuality, rankings};
use crate::queue::settle;
use crate::stats::Interval;
use crate::stats::agreement::Label;
use crate::stats::bias::{binomial, false_discovery, least_ms, longest_run, run_chance};
use crate::stats::people::{dawid_skene, gold, overlapping, severity};
use crate::store::{Judged, Voice};

/// A straight line is named when chance makes one in so many projects.
const STRAIGHT: f64 = 1e-4;

/// Everybody who said something that counts; `choices` are the fair comparisons'.
pub(super) fn all(answers: &Answers, choices: &[Label]) -> Vec<RaterQuality> {
    let people = answers.names.len();
    let mut order: Vec<&Judged> = answers.all().iter().collect();
    order.sort_by_key(|one| (one.rater, one.seq));
    let shares = button_shares(answers, &order);
    let model = dawid_skene(choices, people, 4, 0.01, 100);
    let enough = overlapping(choices, people);
    let ratings: Vec<Label> = answers.fair().filter_map(|one| first_score(answers, one)).collect();
    let severity = severity(&ratings, people);
    let rated = overlapping(&ratings, people);

    let mut found: Vec<RaterQuality> = order
        .chunk_by(|one, other| one.rater == other.rater)
        .enumerate()
        .map(|(place, own)| RaterQuality {
            dawid_skene: enough[place].then(|| model.accuracy(place)),
            severity: rated[place].then(|| severity.offset[place]),
            ..alone(answers, own, &shares)
        })
        .collect();
    let tested: Vec<usize> = (0..found.len()).filter(|&i| found[i].left_p.is_some()).collect();
    let chances: Vec<f64> = tested.iter().filter_map(|&i| found[i].left_p).collect();
    for (i, adjusted) in tested.into_iter().zip(false_discovery(&chances)) {
        found[i].left_p = Some(adjusted);
    }
    found
}

/// What a rater's own answers say, in the order of the log; `shares` are those of the buttons in the project.
fn alone(answers: &Answers, own: &[&Judged], shares: &[f64]) -> RaterQuality {
    let pressed: Vec<u64> = own.iter().filter_map(|one| button(answers, one)).collect();
    let run = longest_run(&pressed);
    let mut times: Vec<u32> = own.iter().map(|one| one.active_ms).collect();
    times.sort_unstable();
    let right =
        |one: &&Judged| Some(settle::right(&answers.said(one).short, answers.task(one).gold.as_ref()?));
    let known: Vec<bool> = own.iter().filter_map(right).collect();
    let right = known.iter().filter(|right| **right).count();
    let sides: Vec<bool> = own.iter().filter_map(|one| answers.went_left(one)).collect();
    let left = sides.iter().filter(|left| **left).count();
    let fast = own.iter().filter(|one| u64::from(one.active_ms) < least_ms(words(answers, one))).count();
    RaterQuality {
        rater: answers.names[own[0].rater as usize].clone(),
        answers: own.len(),
        median_ms: times.get(times.len() / 2).map_or(0, |ms| u64::from(*ms)),
        gold: (!known.is_empty()).then(|| gold(right, known.len() - right)),
        gold_answers: known.len(),
        left: Interval::share(left, sides.len()),
        left_p: (!sides.is_empty()).then(|| binomial(left, sides.len(), 0.5)),
        consistency: consistency(answers, own),
        longest_run: run,
        // One button alone cannot be told from a project in which there is one answer.
        straight_lining: shares.len() > 1
            && run_chance(pressed.len(), run, shares) * (answers.names.len() as f64) < STRAIGHT,
        too_fast: fast as f64 / own.len() as f64,
        ..RaterQuality::default()
    }
}

/// The button that was pressed, as a number of its own: left, right, or whatever else was said; of a ranking its ranks in the order of
/// the screen.
fn button(answers: &Answers, one: &Judged) -> Option<u64> {
    const OTHERS: u64 = 1 << 32;
    match (&answers.said(one).voice, answers.went_left(one)) {
        (Voice::Choice(_), Some(left)) => Some(u64::from(!left)),
        (Voice::Choice(_) | Voice::Scores(_), _) => Some(OTHERS + u64::from(one.said)),
        (Voice::Ranking(ranks), _) => Some(2 + u64::from(rankings::button(ranks.as_ref(), one))),
        (Voice::Text, _) => None,
    }
}

fn button_shares(answers: &Answers, all: &[&Judged]) -> Vec<f64> {
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for button in all.iter().filter_map(|one| button(answers, one)) {
        *times.entry(button).or_default() += 1;
    }
    let pressed: usize = times.values().sum();
    times.into_values().map(|n| n as f64 / pressed as f64).collect()
}

/// Words to read, from characters.
fn words(answers: &Answers, one: &Judged) -> usize {
    answers.task(one).styles.iter().map(|style| style[0] as usize).sum::<usize>() / 6
}

fn first_score(answers: &Answers, one: &Judged) -> Option<Label> {
    let Voice::Scores(scores) = &answers.said(one).voice else { return None };
    Some(Answers::label(one, scores.first()?.1))
}

/// The share of repeats that were answered as the first time.
fn consistency(answers: &Answers, own: &[&Judged]) -> Option<Interval> {
    let first: BTreeMap<u32, &Judged> =
        own.iter().filter(|one| one.pass == 0).map(|one| (one.task, *one)).collect();
    let short = |one: &Judged| answers.said(one).short.clone();
    let alike = |first: &Judged, again: &Judged| settle::agree(&[short(first), short(again)]);
    let again = own.iter().filter(|one| one.pass == 1);
    let same: Vec<bool> = again.filter_map(|one| Some(alike(first.get(&one.task)?, one))).collect();
    Interval::share(same.iter().filter(|same| **same).count(), same.len())
}
