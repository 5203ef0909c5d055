//! Rankings in short, as the database keeps them, and what two of them have in common.
//!
//! `c>a=b` puts the third answer of the task first and the others behind it, as equals. Of equals the one that comes first in the
//! task comes first, so that equal strings are equal rankings. `all_bad` puts nothing in order.

use std::cmp::Ordering;

/// A ranking of which none of the answers will do.
pub const ALL_BAD: &str = "all_bad";

/// Ranks in short.
pub fn short(ranks: &[u8]) -> String {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&answer| ranks[answer]);
    let mut text = String::new();
    for (place, &answer) in order.iter().enumerate() {
        if let Some(before) = place.checked_sub(1) {
            text.push(if ranks[order[before]] == ranks[answer] { '=' } else { '>' });
        }
        // Below the most answers that are ranked.
        text.push(char::from(b'a' + answer as u8));
    }
    text
}

/// The ranks that [`short`] wrote; none of anything else.
pub fn ranks(verdict: &str) -> Option<Vec<u8>> {
    let letters: Vec<u8> = verdict.bytes().step_by(2).collect();
    let between: Vec<u8> = verdict.bytes().skip(1).step_by(2).collect();
    let mut ranks = vec![0; letters.len()];
    for (place, letter) in letters.iter().enumerate() {
        let answer = usize::from(letter.checked_sub(b'a')?);
        let equal = match place.checked_sub(1).map(|before| between[before]) {
            None | Some(b'>') => false,
            Some(b'=') => true,
            Some(_) => return None,
        };
        let rank = if equal { ranks[usize::from(letters[place - 1] - b'a')] } else { place as u8 + 1 };
        *ranks.get_mut(answer)? = rank;
    }
    (between.len() + 1 == letters.len() && !ranks.contains(&0)).then_some(ranks)
}

/// Whether a verdict puts answers in order, equals among them.
pub fn is(verdict: &str) -> bool {
    verdict.len() > 1 && ranks(verdict).is_some()
}

/// Whether a verdict calls every answer equal: as a known one it would ask for nothing.
pub fn decides_nothing(verdict: &str) -> bool {
    is(verdict) && !verdict.contains('>')
}

/// What each of some people says of every two answers: the first is better, the second, they are equal, or (none) neither will do.
/// `None` where nobody puts anything in order, or not the same answers.
fn pairs(verdicts: &[String]) -> Option<Vec<Vec<Option<Ordering>>>> {
    let orders: Vec<Option<Vec<u8>>> = verdicts.iter().map(|verdict| ranks(verdict)).collect();
    let answers = orders.iter().flatten().map(Vec::len).max().filter(|&answers| answers > 1)?;
    let fits = |(verdict, order): (&String, &Option<Vec<u8>>)| match order {
        Some(order) => order.len() == answers,
        None => verdict == ALL_BAD,
    };
    if !verdicts.iter().zip(&orders).all(fits) {
        return None;
    }
    let of = |i: usize, j: usize| {
        orders.iter().map(|order| order.as_ref().map(|order| order[i].cmp(&order[j]))).collect()
    };
    Some((0..answers).flat_map(|i| (i + 1..answers).map(move |j| (i, j))).map(|(i, j)| of(i, j)).collect())
}

/// Whether people agree on an order: on two thirds of the pairs of answers, more than half of them say the same. Of two answers
/// that is what a comparison asks for. `None` where nobody puts anything in order.
pub fn agree(verdicts: &[String]) -> Option<bool> {
    let pairs = pairs(verdicts)?;
    let majority = |said: &&Vec<Option<Ordering>>| {
        said.iter().any(|one| said.iter().filter(|other| *other == one).count() * 2 > said.len())
    };
    Some(pairs.iter().filter(majority).count() * 3 >= pairs.len() * 2)
}

/// Whether a ranking says all that a known one decides: what that leaves equal is not asked for. `None` where the known one puts
/// nothing in order.
pub fn right(said: &str, gold: &str) -> Option<bool> {
    if !is(gold) {
        return None;
    }
    let decided = |one: &&Vec<Option<Ordering>>| one[1] != Some(Ordering::Equal);
    let all = |pairs: Vec<Vec<_>>| pairs.iter().filter(decided).all(|one| one[0] == one[1]);
    Some(pairs(&[said.to_owned(), gold.to_owned()]).is_some_and(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_short_and_back() {
        for (given, wanted) in [
            (&[1, 2][..], "a>b"),
            (&[2, 1], "b>a"),
            (&[1, 1], "a=b"),
            (&[2, 2, 1], "c>a=b"),
            (&[1, 2, 2, 4], "a>b=c>d"),
            (&[9, 8, 7, 6, 5, 4, 3, 2, 1], "i>h>g>f>e>d>c>b>a"),
        ] {
            assert_eq!(short(given), wanted);
            assert_eq!(ranks(wanted).unwrap(), given);
        }
        for other in ["", "all_bad", "both_bad", "tie", "a>", "a>c", "a>a", "a<b", "0.250,0.500", "1", "é>a"]
        {
            assert_eq!(ranks(other), None, "{other}");
        }
        assert!(is("a>b") && !is("a") && !is("b") && !is(ALL_BAD));
        assert!(decides_nothing("a=b=c") && !decides_nothing("a=b>c") && !decides_nothing("a"));
    }

    fn verdicts(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn agreement_on_two_thirds_of_the_pairs() {
        for (list, wanted) in [
            // Of two answers it is a comparison's rule.
            (&["a>b", "a>b", "b>a"][..], Some(true)),
            (&["a>b", "b>a"], Some(false)),
            (&["a=b", "all_bad", "a>b"], Some(false)),
            (&["a>b", "all_bad", "all_bad"], Some(true)),
            // One of three pairs turned, then two.
            (&["a>b>c", "b>a>c"], Some(true)),
            (&["a>b>c", "b>c>a"], Some(false)),
            // Each pair has its majority although nobody gives one whole order twice.
            (&["a>b>c", "b>a>c", "a>c>b"], Some(true)),
            (&["a>b>c", "all_bad"], Some(false)),
            (&["a>b>c"], Some(true)),
            (&["all_bad", "all_bad"], None),
            (&["a", "b"], None),
            (&["a>b", "a>b>c"], None),
        ] {
            assert_eq!(agree(&verdicts(list)), wanted, "{list:?}");
        }
    }

    #[test]
    fn gold_asks_for_what_it_decides() {
        for (said, gold, wanted) in [
            ("a>b>c", "a>b=c", Some(true)),
            ("a>c>b", "a>b=c", Some(true)),
            ("a=b>c", "a>b=c", Some(false)),
            ("b>a>c", "a>b=c", Some(false)),
            ("all_bad", "a>b=c", Some(false)),
            ("a>b>c", "a>b>c", Some(true)),
            ("a>c>b", "a>b>c", Some(false)),
            ("a>b", "a>b>c", Some(false)),
            ("a>b", "all_bad", None),
            ("a", "a", None),
        ] {
            assert_eq!(right(said, gold), wanted, "{said} of {gold}");
        }
    }
}
