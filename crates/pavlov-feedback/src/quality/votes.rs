//! Votes between policies, from comparisons and rankings.

use std::collections::BTreeMap;

use pavlov_schema::feedback::Said;
use pavlov_schema::judgment::Choice;
use pavlov_schema::ranking::{Order, preferred};

use crate::stats::strength::{Outcome, Vote};
use crate::store::CurrentAnswer;

/// The votes of an answer: one of a comparison, and of a ranking one for every two of its answers. These are not independent; they
/// share their item and their rater, by which errors are clustered. Bad answers say nothing of which is better, so there is none of
/// them. `policies` and `rater` are numbered by the caller.
pub(super) fn votes(answer: &CurrentAnswer, policies: &BTreeMap<&str, usize>, rater: usize) -> Vec<Vote> {
    let Some(shown) = answer.shown else { return Vec::new() };
    let between = |a: usize, b: usize, choice: Choice| vote(answer, policies, rater, shown, (a, b), choice);
    match &answer.answer.said {
        Said::Pairwise { choice, .. } => between(0, 1, *choice).into_iter().collect(),
        Said::Ranking { ranks, .. } => (0..ranks.len())
            .flat_map(|a| (a + 1..ranks.len()).map(move |b| (a, b)))
            .filter_map(|(a, b)| between(a, b, preferred(ranks, a, b)))
            .collect(),
        Said::Pointwise { .. } | Said::Demonstration { .. } | Said::Edit { .. } => Vec::new(),
    }
}

/// What was said of two of the answers, if they are of two policies.
fn vote(
    answer: &CurrentAnswer,
    policies: &BTreeMap<&str, usize>,
    rater: usize,
    shown: Order,
    (a, b): (usize, usize),
    choice: Choice,
) -> Option<Vote> {
    let policy = |i: usize| answer.policies.get(i)?.as_deref().map(|name| policies[name]);
    let (first, second) = (policy(a)?, policy(b)?);
    let a_first = shown.place_of(a)? < shown.place_of(b)?;
    let outcome = match (choice, a_first) {
        (Choice::A, true) | (Choice::B, false) => Outcome::First,
        (Choice::A, false) | (Choice::B, true) => Outcome::Second,
        (Choice::Tie, _) => Outcome::Tie,
        (Choice::BothBad, _) => return None,
    };
    // As a share of both, so that ten more words count alike at any length.
    let length = |i: usize| answer.lengths.get(i).copied().flatten();
    let longer = match (length(a), length(b)) {
        (Some(a), Some(b)) if a + b > 0 => (f64::from(a) - f64::from(b)) / f64::from(a + b),
        _ => 0.0,
    };
    let (first, second, longer) = if a_first { (first, second, longer) } else { (second, first, -longer) };
    let item = answer.task.0 as usize;
    (first != second).then_some(Vote { first, second, outcome, item, rater, longer })
}
