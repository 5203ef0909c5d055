//! How good policies are: by comparisons, and by ratings.

use std::collections::{BTreeMap, BTreeSet};

use super::compute::Answers;
use super::votes::votes;
use super::{Effect, Policy, Quality, Rating, StyleEffect};
use crate::stats::Interval;
use crate::stats::agreement::Label;
use crate::stats::crowd::crowd;
use crate::stats::people::{clustered_mean, overlapping, severity};
use crate::stats::probe::probe;
use crate::stats::strength::{Fit, Fits, Vote, ratio_test};
use crate::stats::style::{Style, standardize};

/// Weight of the prior on strengths.
const PRIOR: f64 = 0.05;

/// Fills in what comparisons say of policies and, by them, of raters.
pub(super) fn strengths(quality: &mut Quality, answers: Answers) {
    let named: BTreeSet<&str> = answers
        .fair()
        .flat_map(|one| answers.task(one).policies.iter().flatten())
        .map(|policy| answers.policy(*policy))
        .collect();
    let policies: BTreeMap<&str, usize> = named.into_iter().zip(0..).collect();
    quality.policy_names = policies.keys().map(ToString::to_string).collect();
    let mut votes: Vec<Vote> = answers.fair().flat_map(|one| votes(&answers, one, &policies)).collect();
    let (n, people) = (policies.len(), answers.names.len());
    // Votes are all that is needed from here on; a million answers take as much room again.
    drop(answers);
    standardize(&mut votes);
    if votes.is_empty() {
        return;
    }
    let fits = Fits::of(n, &votes, PRIOR);
    quality.findings = probe(n, &votes, fits.as_ref().ok(), PRIOR);
    if let Some(crowd) = crowd(n, people, &votes, PRIOR) {
        quality.crowd_bt_steps = crowd.reliability.iter().any(Option::is_some).then_some(crowd.steps);
        for (rater, reliability) in quality.raters.iter_mut().zip(crowd.reliability) {
            rater.crowd_bt = reliability;
        }
    }
    let Fits { plain, ordered, styled } = match fits {
        Ok(fits) => fits,
        Err(refused) => {
            let named =
                |group: Vec<usize>| group.into_iter().map(|i| quality.policy_names[i].clone()).collect();
            quality.not_comparable = refused.groups.into_iter().map(named).collect();
            return;
        }
    };
    if let Some((order, error)) = ordered.order_effect() {
        let p = ratio_test(&ordered, &plain);
        quality.position = Some(Effect { log_odds: Interval::normal(-order, error), p });
    }
    if let Some(told) = styled.as_ref().and_then(Fit::style_told) {
        // Nothing is said of what no answer has.
        let some = (0..told.len()).filter(|&k| votes.iter().any(|vote| vote.style[k] != 0.0));
        let effect = |k: usize| {
            let (log_odds, p) = told[k];
            StyleEffect { style: Style::ALL[k], effect: Effect { log_odds, p } }
        };
        quality.style = some.map(effect).collect();
    }
    let mut comparisons = vec![0; n];
    for vote in &votes {
        comparisons[vote.first] += 1;
        comparisons[vote.second] += 1;
    }
    let one = |i: usize| Policy {
        policy: quality.policy_names[i].clone(),
        strength: Interval::normal(ordered.theta[i], ordered.error(i)),
        at_equal_style: styled.as_ref().map(|fit| Interval::normal(fit.theta[i], fit.error(i))),
        comparisons: comparisons[i],
    };
    let mut policies: Vec<Policy> = (0..n).map(one).collect();
    policies.sort_by(|a, b| b.strength.value.total_cmp(&a.strength.value));
    quality.policies = policies;
}

/// Mean ratings of each policy, by question, as they were given and without their raters' severity.
pub(super) fn ratings(answers: &Answers) -> Vec<Rating> {
    let people = answers.names.len();
    let mut found = Vec::new();
    for (question, scores) in answers.scores() {
        let labels: Vec<Label> = scores.iter().map(|(one, value)| Answers::label(one, *value)).collect();
        let shared = overlapping(&labels, people).into_iter().any(|enough| enough);
        let corrected = severity(&labels, people).corrected;
        let mut policies: BTreeMap<&str, [Vec<Label>; 2]> = BTreeMap::new();
        for (((one, _), label), corrected) in scores.iter().zip(&labels).zip(corrected) {
            let Some(&Some(policy)) = answers.task(one).policies.first() else { continue };
            let [raw, even] = policies.entry(answers.policy(policy)).or_default();
            raw.push(*label);
            even.push(Label { value: corrected, ..*label });
        }
        let one = |(policy, [raw, even]): (&str, [Vec<Label>; 2])| Rating {
            question: question.into(),
            policy: policy.into(),
            ratings: raw.len(),
            mean: clustered_mean(&raw),
            corrected: shared.then(|| clustered_mean(&even)).flatten(),
        };
        let mut rows: Vec<Rating> = policies.into_iter().map(one).collect();
        let best = |row: &Rating| row.corrected.or(row.mean).map_or(f64::NEG_INFINITY, |mean| mean.value);
        rows.sort_by(|a, b| best(b).total_cmp(&best(a)));
        found.extend(rows);
    }
    found
}
