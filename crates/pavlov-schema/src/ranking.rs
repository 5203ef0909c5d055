//! Several answers put in order: the ranks of a judgment, the lesson read from it, and the order on a screen.

use serde::{Deserialize, Serialize};

use crate::comparison::{Choice, Comparison};
use crate::text::Text;

/// The most answers that are put in order at once: InstructGPT's 9 (arXiv:2203.02155).
pub const MOST: usize = 9;

/// Answers in the order in which a screen showed them, from left to right or from top to bottom: each answer of the task once.
/// In files a list of letters (`a` is the first answer of the task), in the database the letters in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<char>", into = "Vec<char>")]
pub struct Order {
    /// By place on the screen: which answer of the task; 0 behind `length`.
    answers: [u8; MOST],
    length: u8,
}

impl Order {
    /// The answers in the task's own order.
    ///
    /// # Panics
    /// If there are more than [`MOST`].
    pub fn plain(length: usize) -> Self {
        Self::drawn(length, |_| 0)
    }

    /// An order of which `draw(n)`, a number below `n`, takes each next answer from those that are left: every order is equally
    /// likely if every number is.
    ///
    /// # Panics
    /// If there are more than [`MOST`], or `draw` gives a number that is not below `n`.
    pub fn drawn(length: usize, mut draw: impl FnMut(usize) -> usize) -> Self {
        let mut left: Vec<u8> = (0..MOST as u8).take(length).collect();
        assert_eq!(left.len(), length, "an order has at most {MOST} answers");
        let mut order = Self { answers: [0; MOST], length: length as u8 };
        for place in 0..length {
            order.answers[place] = left.remove(draw(left.len()));
        }
        order
    }

    /// The order of a word of letters (`ba`); none if they are not each of the first letters once.
    pub fn from_letters(letters: impl IntoIterator<Item = char>) -> Option<Self> {
        // Below `a` there is no letter of an answer; what becomes of it is no place either.
        Self::of(letters.into_iter().map(|letter| (letter as usize).wrapping_sub('a' as usize)))
    }

    /// The order of answers of the task, from 0; none if they are not each of the first ones once.
    pub fn of(answers: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut order = Self { answers: [0; MOST], length: 0 };
        for answer in answers {
            *order.answers.get_mut(usize::from(order.length))? = u8::try_from(answer).ok()?;
            order.length += 1;
        }
        let each_once = (0..order.length).all(|answer| order.used().contains(&answer));
        each_once.then_some(order)
    }

    /// The letters of the answers, in the order of the screen.
    pub fn letters(&self) -> impl Iterator<Item = char> + '_ {
        self.used().iter().map(|&answer| letter(usize::from(answer)))
    }

    /// How many answers there are.
    pub fn length(&self) -> usize {
        usize::from(self.length)
    }

    /// The answers of the task by place on the screen.
    pub fn answers(&self) -> impl Iterator<Item = usize> + '_ {
        self.used().iter().map(|&answer| usize::from(answer))
    }

    /// Which answer of the task is at a place of the screen.
    pub fn at(&self, place: usize) -> Option<usize> {
        self.used().get(place).map(|&answer| usize::from(answer))
    }

    /// The place on the screen of an answer of the task.
    pub fn place_of(&self, answer: usize) -> Option<usize> {
        self.answers().position(|one| one == answer)
    }

    /// The same answers from the other end: no answer but the one in the middle keeps its place.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.answers[..usize::from(self.length)].reverse();
        self
    }

    fn used(&self) -> &[u8] {
        &self.answers[..usize::from(self.length)]
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Order {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Vec::<String>::schema()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Order {}

/// The letter of an answer, from its place among the task's responses.
fn letter(answer: usize) -> char {
    // Below MOST wherever it is called.
    char::from(b'a' + answer as u8)
}

impl TryFrom<Vec<char>> for Order {
    type Error = String;

    fn try_from(letters: Vec<char>) -> Result<Self, String> {
        Self::from_letters(letters.iter().copied()).ok_or_else(|| {
            format!("`shown` is {letters:?}; name each answer once by its letter, as in ['b', 'a']")
        })
    }
}

impl From<Order> for Vec<char> {
    fn from(order: Order) -> Self {
        order.letters().collect()
    }
}

/// Answers to one prompt, put in order, as training reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// What was asked.
    pub prompt: Text,
    /// The answers, at least 2.
    pub responses: Vec<Text>,
    /// The rank of each answer: 1 is the best, equals share one, and the next is one more than how many are better
    /// (`[1, 2, 2, 4]`).
    pub ranks: Vec<u8>,
    /// Who judged.
    pub annotator: Option<String>,
}

impl Ranked {
    /// Each two of the answers as a comparison, equals as a tie. They are of one judgment: k answers give k(k − 1)/2 comparisons
    /// that are not independent.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let k = self.responses.len().min(self.ranks.len());
        let pairs = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
        let compare = |(i, j): (usize, usize)| Comparison {
            prompt: self.prompt.clone(),
            a: self.responses[i].clone(),
            b: self.responses[j].clone(),
            choice: preferred(&self.ranks, i, j),
            strength: None,
            margin: None,
            annotator: self.annotator.clone(),
        };
        pairs.map(compare).collect()
    }
}

/// What ranks say of two of the answers, the first of which is `a`.
///
/// # Panics
/// If one of them has no rank.
pub fn preferred(ranks: &[u8], a: usize, b: usize) -> Choice {
    match ranks[a].cmp(&ranks[b]) {
        std::cmp::Ordering::Less => Choice::A,
        std::cmp::Ordering::Greater => Choice::B,
        std::cmp::Ordering::Equal => Choice::Tie,
    }
}

/// The ranks that numbers mean: one more than how many are better. `[1, 1, 2]` becomes `[1, 1, 3]`.
pub fn competition(numbers: &[u8]) -> Vec<u8> {
    let better = |number: &u8| numbers.iter().filter(|other| *other < number).count() as u8;
    numbers.iter().map(|number| better(number).saturating_add(1)).collect()
}

/// Ranks are those of a competition among so many answers; with `all_bad` there are none. The error says what is wrong and the
/// mend.
pub(crate) fn check(ranks: &[u8], all_bad: bool, answers: usize) -> Result<(), String> {
    if !(2..=MOST).contains(&answers) {
        return Err(format!("{answers} answers cannot be put in order; give 2 to {MOST}"));
    }
    match (all_bad, ranks.len()) {
        (true, 0) => return Ok(()),
        (true, _) => return Err("`all_bad` is true beside `ranks`; keep one of them".into()),
        (false, found) if found != answers => {
            return Err(format!("`ranks` has length {found} for {answers} answers; give each one its rank"));
        }
        (false, _) => {}
    }
    let right = competition(ranks);
    if ranks != right {
        return Err(format!(
            "`ranks` is {ranks:?}; write {right:?}: 1 is the best, equals share a rank, and the next is one more than how many are better"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_letters_and_name_each_answer_once() {
        let order: Order = serde_json::from_str(r#"["c","a","b"]"#).unwrap();
        assert_eq!(serde_json::to_string(&order).unwrap(), r#"["c","a","b"]"#);
        assert_eq!(order.answers().collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(
            (order.at(0), order.at(3), order.place_of(0), order.place_of(3)),
            (Some(2), None, Some(1), None)
        );
        assert_eq!(order.reversed().letters().collect::<String>(), "bac");
        assert_eq!(Order::plain(2).letters().collect::<String>(), "ab");
        for wrong in ["aa", "b", "ac", "abcdefghij", "aB", "a\u{1F600}"] {
            assert_eq!(Order::from_letters(wrong.chars()), None, "{wrong}");
        }
        assert_eq!(Order::from_letters("ihgfedcba".chars()), Some(Order::plain(9).reversed()));
        assert_eq!(Order::from_letters([]), Some(Order::plain(0)));
    }

    #[test]
    fn every_order_is_drawn_by_one_row_of_numbers() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..24 {
            let mut rest = number;
            let order = Order::drawn(4, |n| {
                let (drawn, left) = (rest % n, rest / n);
                rest = left;
                drawn
            });
            seen.insert(order.letters().collect::<String>());
        }
        assert_eq!(seen.len(), 24);
    }

    #[test]
    fn ranks_make_comparisons() {
        let ranked = Ranked {
            prompt: "p".into(),
            responses: ["x", "y", "z"].map(Text::from).to_vec(),
            ranks: vec![2, 1, 2],
            annotator: None,
        };
        let said: Vec<_> = ranked.comparisons().into_iter().map(|c| (c.a, c.b, c.choice)).collect();
        let wanted = [("x", "y", Choice::B), ("x", "z", Choice::Tie), ("y", "z", Choice::A)];
        assert_eq!(said, wanted.map(|(a, b, choice)| (Text::from(a), Text::from(b), choice)));
    }

    #[test]
    fn says_what_is_wrong_with_ranks() {
        for good in [&[1, 2][..], &[1, 1], &[3, 1, 1], &[1, 2, 2, 4], &[9, 8, 7, 6, 5, 4, 3, 2, 1]] {
            assert_eq!(check(good, false, good.len()), Ok(()));
        }
        assert_eq!(check(&[], true, 4), Ok(()));
        for (ranks, all_bad, answers, wanted) in [
            (&[1, 1, 2][..], false, 3, "write [1, 1, 3]"),
            (&[0, 1], false, 2, "write [1, 2]"),
            (&[2, 255], false, 2, "write [1, 2]"),
            (&[1, 2], false, 3, "length 2 for 3 answers"),
            (&[], false, 2, "length 0 for 2 answers"),
            (&[1, 2], true, 2, "`all_bad` is true beside `ranks`"),
            (&[1], false, 1, "1 answers cannot"),
            (&[1; 10], false, 10, "give 2 to 9"),
        ] {
            let what = check(ranks, all_bad, answers).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
    }
}
