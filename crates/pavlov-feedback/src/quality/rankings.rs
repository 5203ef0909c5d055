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

#[cfg(test)]
mod tests {
    use pavlov_schema::feedback::{Answer, TaskKind};
    use pavlov_schema::ranking::Order;

    use super::super::votes::votes;
    use super::*;
    use crate::stats::strength::Outcome;
    use crate::store::{AccountId, TaskId, TaskRole};

    fn ranking(task: i64, rater: i64, shown: &str, ranks: &[u8]) -> CurrentAnswer {
        let said = Said::Ranking { ranks: ranks.to_vec(), all_bad: ranks.is_empty() };
        CurrentAnswer {
            seq: 1,
            task: TaskId(task),
            task_code: "t".into(),
            kind: TaskKind::Ranking,
            role: TaskRole::Live,
            rater: AccountId(rater),
            pass: 0,
            answer: Answer { said, rationale: None, flags: Vec::new(), marks: Vec::new() },
            said: String::new(),
            gold: None,
            shown: Order::from_letters(shown.chars()),
            selection: None,
            propensity: None,
            policies: vec![Some("p".into()), Some("q".into()), Some("p".into())],
            lengths: vec![Some(30), Some(10), Some(10)],
            policy_version: 0,
            at_ms: 0,
            active_ms: 0,
            excluded: false,
        }
    }

    #[test]
    fn agreement_is_over_pairs_of_answers() {
        let all = [
            // Two of three pairs alike; a whole order turned round; none that will do, twice; one alone.
            ranking(1, 1, "abc", &[1, 2, 3]),
            ranking(1, 2, "cab", &[2, 1, 3]),
            ranking(2, 1, "abc", &[1, 2, 3]),
            ranking(2, 2, "abc", &[3, 2, 1]),
            ranking(3, 1, "abc", &[]),
            ranking(3, 2, "abc", &[]),
            ranking(4, 1, "abc", &[1, 1, 1]),
        ];
        let found = agreement(&all.iter().collect::<Vec<_>>(), 200).unwrap();
        assert_eq!((found.question.as_str(), found.items), ("ranking", 3));
        let raw = found.raw.unwrap();
        assert!(
            (raw.value - 5.0 / 9.0).abs() < 1e-12 && raw.low < raw.value && raw.value < raw.high,
            "{raw:?}"
        );
        assert_eq!(agreement(&[&all[6]], 200), None);
        // Of orders without equals it is (τ + 1) / 2: here τ is 1/3.
        let one = agreement(&[&all[0], &all[1]], 200).unwrap();
        assert!((one.raw.unwrap().value - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((button(&all[0]), button(&all[1]), button(&all[4])), (123, 321, 0));
    }

    #[test]
    fn a_ranking_votes_for_each_two_of_its_policies() {
        let policies = [("p", 0), ("q", 1)].into_iter().collect();
        let of = |answer: &CurrentAnswer| -> Vec<(usize, usize, Outcome, f64)> {
            let votes = votes(answer, &policies, 7);
            assert!(votes.iter().all(|vote| (vote.item, vote.rater) == (1, 7)));
            votes.iter().map(|vote| (vote.first, vote.second, vote.outcome, vote.longer)).collect()
        };
        // Shown as c, a, b. The first and the third answer are of one policy: no vote between them.
        let votes = of(&ranking(1, 1, "cab", &[1, 2, 3]));
        assert_eq!(votes, [(0, 1, Outcome::First, 0.5), (0, 1, Outcome::Second, 0.0)]);
        let votes = of(&ranking(1, 1, "bca", &[1, 1, 3]));
        assert_eq!(votes, [(1, 0, Outcome::Tie, -0.5), (1, 0, Outcome::First, 0.0)]);
        assert!(of(&ranking(1, 1, "abc", &[])).is_empty());
    }
}
