//! How far people put answers in the same order.

use std::cmp::Ordering;

use pavlov_schema::rng::{Rng, Stream};

use super::Agreement;
use super::compute::Answers;
use crate::stats::Interval;
use crate::stats::agreement::percentiles;
use crate::store::{Judged, Voice};

/// Agreement of rankings: of every two people and every two answers to a prompt, the share of which they say the same (the first is
/// better, the second, equal, or that none will do). Of orders without equals it is (τ + 1) / 2, with Kendall's τ. Two people who
/// guess are at one half. Its interval is over tasks.
pub(super) fn agreement(answers: &Answers, resamples: usize) -> Option<Agreement> {
    let ranked: Vec<&Judged> =
        answers.fair().filter(|one| matches!(answers.said(one).voice, Voice::Ranking(_))).collect();
    let units: Vec<[usize; 2]> = ranked
        .chunk_by(|one, other| one.task == other.task)
        .filter(|said| said.len() > 1)
        .map(|said| unit(&said.iter().filter_map(|one| pairs(answers, one)).collect::<Vec<_>>()))
        .collect();
    let share = |[same, all]: [usize; 2]| (all > 0).then(|| same as f64 / all as f64);
    let value = share(sum(units.iter()))?;
    let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
    let drawn =
        (0..resamples).filter_map(|_| share(sum((0..units.len()).map(|_| &units[rng.below(units.len())]))));
    let raw = percentiles(drawn.collect()).map(|(low, high)| Interval { value, low, high });
    Some(Agreement { question: "ranking".into(), items: units.len(), raw, nominal: None, ordinal: None })
}

fn sum<'a>(units: impl Iterator<Item = &'a [usize; 2]>) -> [usize; 2] {
    units.fold([0, 0], |sum, unit| [sum[0] + unit[0], sum[1] + unit[1]])
}

/// What a ranking says of every two answers; `None` of the pair where none will do.
fn pairs(answers: &Answers, one: &Judged) -> Option<Vec<Option<Ordering>>> {
    let Voice::Ranking(ranks) = &answers.said(one).voice else { return None };
    let k = answers.task(one).styles.len();
    let said = |(i, j): (usize, usize)| match ranks {
        None => Some(None),
        Some(ranks) => Some(Some(ranks.get(i)?.cmp(ranks.get(j)?))),
    };
    (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j))).map(said).collect()
}

/// How often two people say the same, and how often they could.
fn unit(said: &[Vec<Option<Ordering>>]) -> [usize; 2] {
    let mut found = [0, 0];
    for (i, one) in said.iter().enumerate() {
        for other in &said[i + 1..] {
            found[0] += one.iter().zip(other).filter(|(a, b)| a == b).count();
            found[1] += one.len();
        }
    }
    found
}

/// A ranking as the number that was pressed: the ranks in the order of the screen.
pub(super) fn button(ranks: Option<&Vec<u8>>, one: &Judged) -> u32 {
    let Some(ranks) = ranks else { return 0 };
    let in_place = one.shown.iter().flat_map(pavlov_schema::ranking::Order::answers);
    in_place.filter_map(|answer| ranks.get(answer)).fold(0, |number, &rank| number * 10 + u32::from(rank))
}
