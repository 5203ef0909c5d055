//! What people, or simulated raters, say about answers: one JSON object a line, and the typed lessons read from it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::comparison::{Choice, Comparison, Edited, Side, check_strength};
use crate::marks::{self, Marks};
use crate::ranking::{self, Order, Ranked};
use crate::rating::{self, Rated, Score};
use crate::text::Text;

/// One judgment of one annotator.
///
/// ```json
/// {"id":"j1","kind":"rating","prompt":"…","responses":[{"text":"…"}],"rating":4,"scale":[1,5],"annotator":"ana"}
/// {"kind":"comparison","prompt":"…","responses":[{"text":"…"},{"text":"…"}],"choice":"a","strength":2,"shown":["b","a"]}
/// {"kind":"ranking","prompt":"…","responses":[{"text":"…"},{"text":"…"},{"text":"…"}],"ranks":[2,1,2],"shown":["c","a","b"]}
/// {"kind":"demonstration","prompt":"…","responses":[{"text":"…"}]}
/// {"kind":"edit","prompt":"…","responses":[{"text":"the original"},{"text":"the edited"}]}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgment {
    /// A name of this judgment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What was judged to be what.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was asked.
    pub prompt: Text,
    /// The answers judged: one of a rating or demonstration, two of a comparison or edit, 2 to 9 of a ranking.
    pub responses: Vec<Response>,
    /// Who judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotator: Option<String>,
    /// When, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Why, in the annotator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// What is wrong with the question or an answer beside its quality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// Which words of the answers earned or lost the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Marks>,
    /// Answers to further questions about the same answer (`helpful`, `polite`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratings: Vec<Score>,
    /// Beside a comparison, one of its answers, mended: better than that one, and one to imitate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<Edited>,
    /// The version of the guidelines that the annotator saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guideline_version: Option<u32>,
    /// Milliseconds that the annotator spent on it, pauses left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_ms: Option<u64>,
}

/// An answer that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Response {
    /// A name of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The answer. A string after a prompt of messages is the next assistant turn.
    pub text: Text,
    /// The policy that wrote it, `run/step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The seed it was sampled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The kinds of judgment, and the refusal to judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// One answer on a scale.
    Rating {
        /// Points on the scale.
        rating: f64,
        /// The lowest and the highest possible rating.
        scale: (f64, f64),
    },
    /// Which of two answers is better.
    Comparison {
        /// `a` is the first response, whatever the order on the screen.
        choice: Choice,
        /// How clearly, from 1 (negligibly) to 4 (significantly).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strength: Option<u8>,
        /// The order on the screen, from left to right.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<Order>,
    },
    /// Several answers, from the best to the worst.
    Ranking {
        /// In the order of the responses, the rank of each: 1 is the best, equals share one, and the next is one more than how many
        /// are better. Left out where `all_bad`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ranks: Vec<u8>,
        /// None of them will do. Like [`Choice::BothBad`] it says nothing about which is better.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all_bad: bool,
        /// The order on the screen, from left to right or from top to bottom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<Order>,
    },
    /// The answer is one to imitate.
    Demonstration,
    /// The second response is the first one, mended by the annotator.
    Edit,
    /// The annotator did not judge; nothing is learned from it.
    Skip {
        /// Why not, in the annotator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// What can be wrong with a task beyond quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Harmful if followed.
    Unsafe,
    /// Advertising or noise.
    Spam,
    /// Names a private person's data.
    Pii,
    /// The prompt cannot be answered.
    PromptBroken,
}

/// An answer to imitate.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    /// What was asked.
    pub prompt: Text,
    /// The answer.
    pub response: Text,
}

impl Response {
    /// An answer of which only the text is known.
    pub fn new(text: impl Into<Text>) -> Self {
        Self { id: None, text: text.into(), policy: None, seed: None }
    }
}

impl Judgment {
    /// A judgment of which nothing else is known.
    pub fn new(verdict: Verdict, prompt: Text, responses: Vec<Response>) -> Self {
        Self {
            id: None,
            verdict,
            prompt,
            responses,
            annotator: None,
            at: None,
            rationale: None,
            flags: Vec::new(),
            marks: Vec::new(),
            ratings: Vec::new(),
            edited: None,
            guideline_version: None,
            active_ms: None,
        }
    }

    /// Checks what the types do not say: the number of responses, the scale, the strength, the date.
    /// The error says what is wrong and the mend, without naming the place.
    pub fn validate(&self) -> Result<(), String> {
        let found = self.responses.len();
        let (name, wanted) = match self.verdict {
            Verdict::Rating { .. } => ("rating", 1..=1),
            Verdict::Demonstration => ("demonstration", 1..=1),
            Verdict::Comparison { .. } => ("comparison", 2..=2),
            Verdict::Ranking { .. } => ("ranking", 2..=ranking::MOST),
            Verdict::Edit => ("edit", 2..=2),
            // Of any task.
            Verdict::Skip { .. } => ("skip", 0..=found),
        };
        if !wanted.contains(&found) {
            let wanted = in_words(&wanted);
            return Err(format!("a {name} needs `responses` of length {wanted}, found {found}"));
        }
        if self.prompt.is_empty() {
            return Err(format!("the `prompt` of a {name} is empty; give it text"));
        }
        if let Some(at) = self.at.as_deref().filter(|at| clock::from_rfc3339(at).is_none()) {
            return Err(format!("`at` is \"{at}\"; write it as 2026-01-31T12:00:00Z (RFC 3339)"));
        }
        self.validate_additions(name)?;
        if let Verdict::Comparison { shown: Some(shown), .. } | Verdict::Ranking { shown: Some(shown), .. } =
            &self.verdict
            && shown.length() != found
        {
            let named = shown.length();
            return Err(format!("`shown` names {named} of {found} answers; name each once, or leave it out"));
        }
        match &self.verdict {
            Verdict::Rating { rating, scale } => rating::check(*rating, *scale),
            Verdict::Comparison { strength, .. } => check_strength(*strength),
            Verdict::Ranking { ranks, all_bad, .. } => ranking::check(ranks, *all_bad, found),
            _ => Ok(()),
        }
    }

    fn validate_additions(&self, name: &str) -> Result<(), String> {
        rating::check_scores(&self.ratings)?;
        let texts: Vec<&Text> = self.responses.iter().map(|response| &response.text).collect();
        marks::check(&self.marks, &texts)?;
        match &self.edited {
            Some(edited) if edited.text.is_empty() => {
                Err("`edited` is empty; leave it out, or give it text".into())
            }
            Some(_) if !matches!(self.verdict, Verdict::Comparison { .. }) => {
                Err(format!("a {name} has no `edited`; only a comparison can have one beside it"))
            }
            _ => Ok(()),
        }
    }

    /// The comparison this judgment makes: its own, or of an edit that the edited answer is better.
    pub fn comparison(&self) -> Option<Comparison> {
        let (choice, strength) = match self.verdict {
            Verdict::Comparison { choice, strength, .. } => (choice, strength),
            Verdict::Edit => (Choice::B, None),
            Verdict::Rating { .. }
            | Verdict::Ranking { .. }
            | Verdict::Demonstration
            | Verdict::Skip { .. } => return None,
        };
        Some(self.compare(self.answer(0)?, self.answer(1)?, choice, strength))
    }

    /// Every comparison this judgment makes: [`Judgment::comparison`], or each two answers of a ranking; and what follows from an
    /// answer that was mended beside it: edited > chosen > rejected. Mending the worse answer does not say that it became better
    /// than the other.
    pub fn comparisons(&self) -> Vec<Comparison> {
        if let Some(ranked) = self.ranked() {
            return ranked.comparisons();
        }
        let mut comparisons: Vec<Comparison> = self.comparison().into_iter().collect();
        let (Verdict::Comparison { choice, .. }, Some(edited)) = (&self.verdict, &self.edited) else {
            return comparisons;
        };
        let better = Text::Plain(edited.text.clone()).answering(&self.prompt);
        let worse: &[usize] = match (choice, edited.of) {
            (Choice::A, Side::B) => &[1],
            (Choice::B, Side::A) => &[0],
            (_, Side::A) => &[0, 1],
            (_, Side::B) => &[1, 0],
        };
        let worse = worse.iter().filter_map(|&i| self.answer(i)).filter(|worse| *worse != better);
        comparisons.extend(worse.map(|worse| self.compare(better.clone(), worse, Choice::A, None)));
        comparisons
    }

    fn compare(&self, a: Text, b: Text, choice: Choice, strength: Option<u8>) -> Comparison {
        let (prompt, annotator) = (self.prompt.clone(), self.annotator.clone());
        Comparison { prompt, a, b, choice, strength, margin: None, annotator }
    }

    /// The rating this judgment gives.
    pub fn rated(&self) -> Option<Rated> {
        let Verdict::Rating { rating, scale } = self.verdict else { return None };
        Some(Rated {
            prompt: self.prompt.clone(),
            response: self.answer(0)?,
            rating,
            scale: Some(scale),
            annotator: self.annotator.clone(),
        })
    }

    /// The order this judgment puts its answers in: a ranking's, unless none of them will do.
    pub fn ranked(&self) -> Option<Ranked> {
        let Verdict::Ranking { ranks, all_bad: false, .. } = &self.verdict else { return None };
        let answers = (0..self.responses.len()).map(|i| self.answer(i));
        Some(Ranked {
            prompt: self.prompt.clone(),
            responses: answers.collect::<Option<_>>()?,
            ranks: ranks.clone(),
            annotator: self.annotator.clone(),
        })
    }

    /// The answer to imitate: a demonstration's, an edit's edited one, or the one written instead.
    pub fn demonstration(&self) -> Option<Demonstration> {
        let response = match self.verdict {
            Verdict::Demonstration => self.answer(0)?,
            Verdict::Edit => self.answer(1)?,
            Verdict::Comparison { .. } => {
                Text::Plain(self.edited.as_ref()?.text.clone()).answering(&self.prompt)
            }
            Verdict::Rating { .. } | Verdict::Ranking { .. } | Verdict::Skip { .. } => return None,
        };
        Some(Demonstration { prompt: self.prompt.clone(), response })
    }

    fn answer(&self, index: usize) -> Option<Text> {
        Some(self.responses.get(index)?.text.clone().answering(&self.prompt))
    }
}

/// A number of answers in words: `2`, or `2 to 9`.
pub(crate) fn in_words(lengths: &RangeInclusive<usize>) -> String {
    let (least, most) = (lengths.start(), lengths.end());
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Message;
    use serde_json::{Value, json};

    fn read(value: &Value) -> Result<Judgment, String> {
        let judgment: Judgment = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
        judgment.validate().map(|()| judgment)
    }

    #[test]
    fn every_kind_round_trips() {
        for value in [
            json!({"id":"1","kind":"rating","rating":4.0,"scale":[1.0,5.0],"prompt":"p",
                   "responses":[{"id":"r","text":"t","policy":"run/10","seed":u64::MAX}],
                   "annotator":"ana","at":"2026-01-31T12:00:00Z","rationale":"why"}),
            json!({"kind":"comparison","choice":"both_bad","strength":1,"shown":["b","a"],"prompt":"p",
                   "responses":[{"text":"x"},{"text":"y"}]}),
            json!({"kind":"ranking","ranks":[3,1,1],"shown":["c","a","b"],"prompt":"p","rationale":"why",
                   "responses":[{"text":"x","policy":"run/1"},{"text":"y"},{"text":"z"}]}),
            json!({"kind":"ranking","all_bad":true,"prompt":"p","responses":[{"text":"x"},{"text":"y"}]}),
            json!({"kind":"demonstration","prompt":[{"role":"user","content":"q"}],"responses":[{"text":"t"}]}),
            json!({"kind":"edit","prompt":"p","responses":[{"text":"x"},{"text":"y"}]}),
            json!({"kind":"skip","reason":"not my language","prompt":"p","responses":[{"text":"x"}]}),
            json!({"kind":"comparison","choice":"a","prompt":"p","responses":[{"text":"x"},{"text":"y"}],
                   "flags":["pii"],"marks":[{"response":1,"spans":[{"start":0,"end":1,"sign":-1}]}],
                   "ratings":[{"question":"polite","value":2.0,"scale":[1.0,5.0]}],
                   "edited":{"of":"a","text":"z"},"guideline_version":3,"active_ms":1200}),
        ] {
            assert_eq!(serde_json::to_value(read(&value).unwrap()).unwrap(), value);
        }
    }

    #[test]
    fn typed_lessons() {
        let edit = read(&json!({"kind":"edit","prompt":[{"role":"user","content":"q"}],
                               "responses":[{"text":"x"},{"text":"y"}]}))
        .unwrap();
        let turn = |text: &str| Text::Chat(vec![Message::new("assistant", text)]);
        assert_eq!(edit.demonstration().unwrap().response, turn("y"));
        let comparison = edit.comparison().unwrap();
        assert_eq!((comparison.a, comparison.b, comparison.choice), (turn("x"), turn("y"), Choice::B));
        assert_eq!(edit.rated(), None);
        let [x, y, z] = ["x", "y", "z"].map(Text::from);
        let cases = [
            ("both_bad", "a", vec![(&z, &x), (&z, &y)]),
            ("b", "b", vec![(&z, &y), (&z, &x)]),
            // The mended worse answer may still be worse than the other.
            ("b", "a", vec![(&z, &x)]),
        ];
        for (choice, of, wanted) in cases {
            let judgment = read(&json!({"kind":"comparison","choice":choice,"prompt":"p",
                "edited":{"of":of,"text":"z"},"responses":[{"text":"x"},{"text":"y"}]}))
            .unwrap();
            let [own, better @ ..] = &judgment.comparisons()[..] else { panic!("no comparison") };
            assert_eq!(Some(own), judgment.comparison().as_ref());
            assert_eq!(better.iter().map(|c| (&c.a, &c.b)).collect::<Vec<_>>(), wanted);
            assert!(better.iter().all(|c| c.choice == Choice::A));
            assert_eq!(judgment.demonstration().unwrap().response, z);
        }
        let ranking = json!({"kind":"ranking","ranks":[2,1],"prompt":"p","annotator":"ana",
                             "responses":[{"text":"x"},{"text":"y"}]});
        let judgment = read(&ranking).unwrap();
        let ranked = judgment.ranked().unwrap();
        assert_eq!((&ranked.responses, &ranked.ranks), (&vec![x.clone(), y.clone()], &vec![2, 1]));
        assert_eq!(judgment.comparisons(), ranked.comparisons());
        let [only] = &judgment.comparisons()[..] else { panic!("two answers are one comparison") };
        assert_eq!(
            (&only.a, &only.b, only.choice, only.annotator.as_deref()),
            (&x, &y, Choice::B, Some("ana"))
        );
        assert_eq!((judgment.comparison(), judgment.demonstration(), judgment.rated()), (None, None, None));
        let all_bad = read(&json!({"kind":"ranking","all_bad":true,"prompt":"p",
                                   "responses":[{"text":"x"},{"text":"y"}]}))
        .unwrap();
        assert_eq!((all_bad.ranked(), all_bad.comparisons()), (None, vec![]));
        let rating =
            json!({"kind":"rating","rating":4,"scale":[1,5],"prompt":"p","responses":[{"text":"t"}]});
        let rated = read(&rating).unwrap().rated().unwrap();
        assert_eq!((rated.rating, rated.scale, rated.response), (4.0, Some((1.0, 5.0)), Text::from("t")));
    }

    #[test]
    fn says_what_is_wrong() {
        let base =
            json!({"kind":"comparison","choice":"a","prompt":"p","responses":[{"text":"x"},{"text":"y"}]});
        assert!(read(&base).is_ok());
        for (key, value, wanted) in [
            ("kind", json!("praise"), "praise"),
            ("choice", json!("c"), "unknown variant `c`"),
            ("strength", json!(5), "`strength` is 5"),
            ("strength", json!(-1), "-1"),
            ("shown", json!(["a", "a"]), "`shown`"),
            ("shown", json!(["c", "a", "b"]), "`shown` names 3 of 2"),
            ("responses", json!([{"text": "x"}]), "length 2, found 1"),
            ("prompt", json!(""), "empty"),
            ("at", json!("today"), "RFC 3339"),
            ("flags", json!(["rude"]), "unknown variant `rude`"),
            ("edited", json!({"of":"a","text":""}), "`edited` is empty"),
            ("ratings", json!([{"question":"q","value":2,"scale":[0,1]}]), "score `q`: `rating` is 2"),
            ("marks", json!([{"response":0,"spans":[{"start":0,"end":2,"sign":1}]}]), "`marks` 1"),
        ] {
            let mut wrong = base.clone();
            wrong[key] = value;
            let what = read(&wrong).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
        let three = [json!({"text": "x"}), json!({"text": "y"}), json!({"text": "z"})];
        for (wrong, responses, wanted) in [
            (json!({"ranks": [1, 1, 2]}), &three[..], "write [1, 1, 3]"),
            (json!({"ranks": [1, 2]}), &three, "length 2 for 3"),
            (json!({"ranks": [1, 300]}), &three[1..], "300"),
            (json!({}), &three, "length 0 for 3"),
            (json!({"all_bad": true, "ranks": [1, 2, 3]}), &three, "keep one"),
            (json!({"ranks": [1]}), &three[2..], "length 2 to 9, found 1"),
            (json!({"ranks": [1, 2, 3], "shown": ["b", "a"]}), &three, "`shown` names 2 of 3"),
            (json!({"ranks": [1, 2], "edited": {"of": "a", "text": "w"}}), &three[..2], "has no `edited`"),
        ] {
            let mut judgment = json!({"kind": "ranking", "prompt": "p", "responses": responses});
            judgment.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            let what = read(&judgment).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
    }
}
