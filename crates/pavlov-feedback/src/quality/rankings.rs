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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pavlov_schema::ranking::Order;

    use super::super::votes::votes;
    use super::*;
    use crate::stats::strength::Outcome;
    use crate::store::{AccountId, JudgedTask, TaskId, TaskRole, Verdict, Verdicts};

    /// Answers of three, of which the first and the third are of one policy: task, rater, order on the screen, ranks.
    fn answers(all: &[(u32, u32, &str, &[u8])]) -> Answers {
        let task = |number: u32| JudgedTask {
            id: TaskId(i64::from(number)),
            code: "t".into(),
            role: TaskRole::Live,
            gold: None,
            policies: vec![Some(0), Some(1), Some(0)],
            styles: vec![[30, 0, 0, 0], [10, 0, 0, 0], [10, 0, 0, 0]],
        };
        let mut verdicts = Verdicts {
            tasks: (0..5).map(task).collect(),
            raters: [7, 8].map(AccountId).to_vec(),
            policies: ["p", "q"].map(str::to_owned).to_vec(),
            ..Verdicts::default()
        };
        for (place, &(task, rater, shown, ranks)) in all.iter().enumerate() {
            let voice = Voice::Ranking((!ranks.is_empty()).then(|| ranks.to_vec()));
            verdicts.said.push(Verdict { short: String::new(), voice });
            verdicts.answers.push(Judged {
                seq: place as u64,
                at_ms: 0,
                task,
                rater,
                said: place as u32,
                active_ms: 0,
                pass: 0,
                shown: Order::from_letters(shown.chars()),
                informed: false,
                excluded: false,
            });
        }
        Answers::new(verdicts, &BTreeMap::new())
    }

    #[test]
    fn agreement_is_over_pairs_of_answers() {
        let (one, other): (&[u8], &[u8]) = (&[1, 2, 3], &[2, 1, 3]);
        let all = answers(&[
            // Two of three pairs alike; a whole order turned round; none that will do, twice; one alone.
            (1, 0, "abc", one),
            (1, 1, "cab", other),
            (2, 0, "abc", one),
            (2, 1, "abc", &[3, 2, 1]),
            (3, 0, "abc", &[]),
            (3, 1, "abc", &[]),
            (4, 0, "abc", &[1, 1, 1]),
        ]);
        let found = agreement(&all, 200).unwrap();
        assert_eq!((found.question.as_str(), found.items), ("ranking", 3));
        let raw = found.raw.unwrap();
        assert!(
            (raw.value - 5.0 / 9.0).abs() < 1e-12 && raw.low < raw.value && raw.value < raw.high,
            "{raw:?}"
        );
        assert!(agreement(&answers(&[(4, 0, "abc", &[1, 1, 1])]), 200).is_none());
        // Of orders without equals it is (τ + 1) / 2: here τ is 1/3.
        let two = answers(&[(1, 0, "abc", one), (1, 1, "cab", other)]);
        assert!((agreement(&two, 200).unwrap().raw.unwrap().value - 2.0 / 3.0).abs() < 1e-12);
        let pressed = |ranks: &[u8], place: usize| button(Some(&ranks.to_vec()), &all.all()[place]);
        assert_eq!((pressed(one, 0), pressed(other, 1), button(None, &all.all()[4])), (123, 321, 0));
    }

    #[test]
    fn a_ranking_votes_for_each_two_of_its_policies() {
        let policies = [("p", 0), ("q", 1)].into_iter().collect();
        let of = |shown: &str, ranks: &[u8]| -> Vec<(usize, usize, Outcome)> {
            let all = answers(&[(1, 0, shown, ranks)]);
            let votes = votes(&all, &all.all()[0], &policies);
            assert!(votes.iter().all(|vote| (vote.item, vote.rater) == (1, 0)));
            votes.iter().map(|vote| (vote.first, vote.second, vote.outcome)).collect()
        };
        // Shown as c, a, b. The first and the third answer are of one policy: no vote between them.
        assert_eq!(of("cab", &[1, 2, 3]), [(0, 1, Outcome::First), (0, 1, Outcome::Second)]);
        assert_eq!(of("bca", &[1, 1, 3]), [(1, 0, Outcome::Tie), (1, 0, Outcome::First)]);
        assert!(of("abc", &[]).is_empty());
        // The longer one first, then two alike.
        let all = answers(&[(1, 0, "cab", &[1, 2, 3])]);
        let longer: Vec<bool> =
            votes(&all, &all.all()[0], &policies).iter().map(|vote| vote.style[0] > 0.0).collect();
        assert_eq!(longer, [true, false]);
    }
}
