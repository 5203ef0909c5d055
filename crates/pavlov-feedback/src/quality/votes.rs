//! Votes between policies, from comparisons and rankings.

use std::collections::BTreeMap;

use pavlov_schema::comparison::Choice;
use pavlov_schema::ranking::preferred;

use super::compute::Answers;
use crate::stats::strength::{Outcome, Vote};
use crate::stats::style::difference;
use crate::store::{Judged, Voice};

/// The votes of an answer: one of a comparison, and of a ranking one for every two of its answers. These are not independent; they
/// share their item and their rater, by which errors are clustered. Bad answers say nothing of which is better, so there is none of
/// them. `policies` are numbered by the caller.
pub(super) fn votes(answers: &Answers, one: &Judged, policies: &BTreeMap<&str, usize>) -> Vec<Vote> {
    let between = |a: usize, b: usize, choice: Choice| vote(answers, one, policies, (a, b), choice);
    match &answers.said(one).voice {
        Voice::Choice(choice) => between(0, 1, *choice).into_iter().collect(),
        Voice::Ranking(Some(ranks)) => (0..ranks.len())
            .flat_map(|a| (a + 1..ranks.len()).map(move |b| (a, b)))
            .filter_map(|(a, b)| between(a, b, preferred(ranks, a, b)))
            .collect(),
        Voice::Ranking(None) | Voice::Scores(_) | Voice::Text => Vec::new(),
    }
}

/// What was said of two of the answers, if they are of two policies.
fn vote(
    answers: &Answers,
    one: &Judged,
    policies: &BTreeMap<&str, usize>,
    (a, b): (usize, usize),
    choice: Choice,
) -> Option<Vote> {
    let (task, shown) = (answers.task(one), one.shown?);
    let policy = |i: usize| task.policies.get(i)?.map(|number| policies[answers.policy(number)]);
    let (of_a, of_b) = (policy(a)?, policy(b)?);
    let a_first = shown.place_of(a)? < shown.place_of(b)?;
    let outcome = match (choice, a_first) {
        (Choice::A, true) | (Choice::B, false) => Outcome::First,
        (Choice::A, false) | (Choice::B, true) => Outcome::Second,
        (Choice::Tie, _) => Outcome::Tie,
        (Choice::BothBad, _) => return None,
    };
    let style = |i: usize| task.styles.get(i).copied().unwrap_or_default();
    let ((first, second), style) = if a_first {
        ((of_a, of_b), difference(style(a), style(b)))
    } else {
        ((of_b, of_a), difference(style(b), style(a)))
    };
    let (item, rater) = (one.task as usize, one.rater as usize);
    (first != second).then_some(Vote { first, second, outcome, item, rater, style })
}
