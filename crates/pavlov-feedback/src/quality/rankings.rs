//! How far people put answers in the same order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use pavlov_schema::feedback::Said;
use pavlov_schema::rng::{Rng, Stream};

use super::Agreement;
use crate::stats::Interval;
use crate::stats::agreement::bootstrap;
use crate::store::CurrentAnswer;

/// Agreement of rankings: of every two people and every two answers to a prompt, the share of which they say the same (the first is
/// better, the second, equal, or that none will do). Of orders without equals it is (τ + 1) / 2, with Kendall's τ. Two people who
/// guess are at one half. Its interval is over tasks.
pub(super) fn agreement(answers: &[&CurrentAnswer], resamples: usize) -> Option<Agreement> {
    let mut tasks: BTreeMap<i64, Vec<Vec<Option<Ordering>>>> = BTreeMap::new();
    for answer in answers {
        if let Some(said) = said(answer) {
            tasks.entry(answer.task.0).or_default().push(said);
        }
    }
    let units: Vec<Vec<f64>> = tasks.values().filter(|said| said.len() > 1).map(|said| unit(said)).collect();
    let share = |units: &[Vec<f64>]| {
        let sum = |place: usize| units.iter().map(|unit| unit[place]).sum::<f64>();
        (sum(1) > 0.0).then(|| sum(0) / sum(1))
    };
    let value = share(&units)?;
    let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
    let interval = bootstrap(&units, resamples, &mut rng, share);
    Some(Agreement {
        question: "ranking".into(),
        items: units.len(),
        raw: interval.map(|(low, high)| Interval { value, low, high }),
        nominal: None,
        ordinal: None,
    })
}

/// What a ranking says of every two answers; `None` of the pair where none will do.
fn said(answer: &CurrentAnswer) -> Option<Vec<Option<Ordering>>> {
    let Said::Ranking { ranks, all_bad } = &answer.answer.said else { return None };
    let k = answer.policies.len();
    let pairs = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
    pairs
        .map(|(i, j)| if *all_bad { Some(None) } else { Some(Some(ranks.get(i)?.cmp(ranks.get(j)?))) })
        .collect()
}

/// How often two people say the same, and how often they could.
fn unit(said: &[Vec<Option<Ordering>>]) -> Vec<f64> {
    let (mut same, mut all) = (0, 0);
    for (i, one) in said.iter().enumerate() {
        for other in &said[i + 1..] {
            same += one.iter().zip(other).filter(|(a, b)| a == b).count();
            all += one.len();
        }
    }
    vec![same as f64, all as f64]
}

/// A ranking as the number that was pressed: the ranks in the order of the screen.
pub(super) fn button(answer: &CurrentAnswer) -> u32 {
    let Said::Ranking { ranks, .. } = &answer.answer.said else { return 0 };
    let in_place = answer.shown.iter().flat_map(pavlov_schema::ranking::Order::answers);
    in_place.filter_map(|answer| ranks.get(answer)).fold(0, |number, &rank| number * 10 + u32::from(rank))
}
