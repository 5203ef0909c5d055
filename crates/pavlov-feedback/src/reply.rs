//! What a rater's page or program sends: in terms of what was on the screen, checked and turned into an [`Answer`].

use pavlov_schema::comparison::{Choice, Edited, Side};
use pavlov_schema::feedback::{Answer, Said, TaskKind};
use pavlov_schema::judgment::Flag;
use pavlov_schema::marks::{Marks, Span};
use pavlov_schema::ranking::Order;
use pavlov_schema::rating::Score;
use pavlov_schema::text::Text;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::store::TaskResponse;

/// The longest text a rater writes, in bytes.
const LONGEST: usize = 200_000;

/// A rater's answer as the screen had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The verdict.
    pub said: ScreenSaid,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// What is wrong beyond quality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// Marked words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<ScreenMarks>,
}

/// A verdict as the screen had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScreenSaid {
    /// Of two answers.
    Pairwise {
        /// Which one.
        pick: Pick,
        /// How clearly, from 1 (negligibly) to 4 (significantly); only of `left` and `right`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strength: Option<u8>,
        /// One of them, mended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edit: Option<ScreenEdit>,
    },
    /// Of several answers.
    Ranking {
        /// Ids of the answers, the best first; equals are in one list.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        order: Vec<Vec<String>>,
        /// None of them will do; then there is no order.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all_bad: bool,
    },
    /// Of one answer.
    Pointwise {
        /// A score for each question of the project, in its order.
        scores: Vec<ScreenScore>,
    },
    /// An answer to imitate.
    Demonstration {
        /// The answer.
        text: String,
    },
    /// The answer of the task, mended.
    Edit {
        /// The mended answer.
        text: String,
    },
}

/// The verdict of a comparison on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The left (on a phone: upper) one is better.
    Left,
    /// The right (on a phone: lower) one is better.
    Right,
    /// Equally good.
    Tie,
    /// Neither will do.
    BothBad,
}

/// A mended answer of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScreenEdit {
    /// Id of the answer.
    pub response: String,
    /// The mended text.
    pub text: String,
}

/// A score of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScreenScore {
    /// Its name.
    pub question: String,
    /// Points.
    pub value: f64,
}

/// Marked words of one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScreenMarks {
    /// Id of the answer.
    pub response: String,
    /// The stretches.
    pub spans: Vec<Span>,
}

/// What a reply is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What the task asked for.
    pub kind: TaskKind,
    /// The answers in the task's order.
    pub responses: &'a [TaskResponse],
    /// The order on the screen of a comparison or ranking.
    pub shown: Option<Order>,
    /// The project's.
    pub settings: &'a Settings,
}

impl Reply {
    /// The reply in the task's own order. The error names the key and the mend.
    pub fn answer(self, asked: Asked<'_>) -> Result<Answer> {
        let said = self.said.answer(asked)?;
        if said.kind() != asked.kind {
            let (found, wanted) = (said.kind().name(), asked.kind.name());
            return Err(Error::invalid(format!("`said` is {found} and the task asks for {wanted}")));
        }
        asked.settings.check_scores(&said)?;
        let rationale = self.rationale.filter(|text| !text.trim().is_empty());
        short_enough("rationale", rationale.as_deref())?;
        let mut flags = self.flags;
        flags.sort_unstable();
        flags.dedup();
        let marks = self.marks.into_iter().filter(|marks| !marks.spans.is_empty()).map(|mut marks| {
            marks.spans.sort_unstable_by_key(|span| span.start);
            Ok(Marks { response: asked.response(&marks.response)?, spans: marks.spans })
        });
        let answer = Answer { said, rationale, flags, marks: marks.collect::<Result<_>>()? };
        let texts: Vec<&Text> = asked.responses.iter().map(|response| &response.response.text).collect();
        answer.validate(&texts).map_err(Error::Invalid)?;
        Ok(answer)
    }
}

impl Asked<'_> {
    fn response(&self, id: &str) -> Result<usize> {
        let place = self.responses.iter().position(|response| response.id == id);
        place.ok_or_else(|| {
            Error::invalid(format!("the task has no response \"{id}\"; name one that was shown"))
        })
    }

    /// The rank of each answer, from their ids with the best first.
    fn ranks(&self, order: &[Vec<String>]) -> Result<Vec<u8>> {
        let mut ranks = vec![0; self.responses.len()];
        let mut better = 0;
        for equals in order {
            for id in equals {
                let rank = &mut ranks[self.response(id)?];
                if *rank != 0 {
                    return Err(Error::invalid(format!(
                        "`order` names \"{id}\" twice; name each answer once"
                    )));
                }
                *rank = better + 1;
            }
            better += equals.len() as u8;
        }
        if let Some(left) = ranks.iter().position(|&rank| rank == 0) {
            let id = &self.responses[left].id;
            return Err(Error::invalid(format!(
                "`order` leaves out \"{id}\"; name each answer once, the best first, equals in one list"
            )));
        }
        Ok(ranks)
    }
}

impl ScreenSaid {
    fn answer(self, asked: Asked<'_>) -> Result<Said> {
        Ok(match self {
            Self::Pairwise { pick, strength, edit } => {
                let choice = choice(pick, asked.shown.unwrap_or(Order::plain(2)));
                // How clearly neither is better is no question.
                let asks = asked.settings.strength && matches!(choice, Choice::A | Choice::B);
                let edit = edit.map(|edit| -> Result<Edited> {
                    short_enough("edit", Some(&edit.text))?;
                    let of = if asked.response(&edit.response)? == 0 { Side::A } else { Side::B };
                    Ok(Edited { of, text: edit.text })
                });
                Said::Pairwise { choice, strength: strength.filter(|_| asks), edit: edit.transpose()? }
            }
            Self::Ranking { order, all_bad: true } if order.is_empty() => {
                Said::Ranking { ranks: Vec::new(), all_bad: true }
            }
            Self::Ranking { order, all_bad } => Said::Ranking { ranks: asked.ranks(&order)?, all_bad },
            Self::Pointwise { scores } => {
                let scale = |name: &str| {
                    asked.settings.questions.iter().find(|q| q.name == name).map(|q| q.scale.range())
                };
                let scores = scores.into_iter().map(|ScreenScore { question, value }| {
                    let scale = scale(&question).unwrap_or((f64::NAN, f64::NAN));
                    Score { question, value, scale }
                });
                Said::Pointwise { scores: scores.collect() }
            }
            Self::Demonstration { text } => {
                short_enough("text", Some(&text))?;
                Said::Demonstration { text }
            }
            Self::Edit { text } => {
                short_enough("text", Some(&text))?;
                Said::Edit { text }
            }
        })
    }
}

fn choice(pick: Pick, shown: Order) -> Choice {
    let place = match pick {
        Pick::Left => 0,
        Pick::Right => 1,
        Pick::Tie => return Choice::Tie,
        Pick::BothBad => return Choice::BothBad,
    };
    if shown.at(place) == Some(0) { Choice::A } else { Choice::B }
}

fn short_enough(key: &str, text: Option<&str>) -> Result<()> {
    match text.map(str::len) {
        Some(bytes) if bytes > LONGEST => {
            Err(Error::invalid(format!("`{key}` has {bytes} bytes; {LONGEST} is the most")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_schema::feedback::NewResponse;
    use serde_json::{Value, json};

    const AB: &str = "ab";

    fn read(reply: Value, kind: TaskKind, shown: &str) -> Result<Answer> {
        let (settings, shown) = (Settings::default(), Order::from_letters(shown.chars()));
        let response = |id: &str| TaskResponse { id: id.into(), response: NewResponse::new("12345") };
        let responses: Vec<TaskResponse> =
            ["x", "y"].iter().take(*kind.responses().end()).map(|id| response(id)).collect();
        let reply: Reply = serde_json::from_value(reply).unwrap();
        reply.answer(Asked { kind, responses: &responses, shown, settings: &settings })
    }

    #[test]
    fn left_is_what_was_left() {
        let reply = |pick| json!({"said": {"pairwise": {"pick": pick, "strength": 3}}});
        let said = |pick, shown| match read(reply(pick), TaskKind::Pairwise, shown).unwrap().said {
            Said::Pairwise { choice, strength, .. } => (choice, strength),
            other => panic!("{other:?}"),
        };
        let (ab, ba) = (AB, "ba");
        assert_eq!((said("left", ab), said("left", ba)), ((Choice::A, Some(3)), (Choice::B, Some(3))));
        assert_eq!((said("right", ab), said("right", ba)), ((Choice::B, Some(3)), (Choice::A, Some(3))));
        assert_eq!((said("tie", ba), said("both_bad", ba)), ((Choice::Tie, None), (Choice::BothBad, None)));
    }

    #[test]
    fn marks_and_edits_follow_the_response() {
        let reply = json!({"said": {"pairwise": {"pick": "left", "edit": {"response": "y", "text": "z"}}},
            "rationale": " ", "flags": ["spam", "unsafe", "spam"],
            "marks": [{"response": "y", "spans": [{"start": 3, "end": 5, "sign": -1}, {"start": 0, "end": 2, "sign": 1}]}]});
        let answer = read(reply, TaskKind::Pairwise, "ba").unwrap();
        assert_eq!((answer.rationale, answer.flags), (None, vec![Flag::Unsafe, Flag::Spam]));
        assert_eq!((answer.marks[0].response, answer.marks[0].spans[0].start), (1, 0));
        let Said::Pairwise { edit: Some(edit), .. } = answer.said else { panic!() };
        assert_eq!(edit, Edited { of: Side::B, text: "z".into() });
    }

    #[test]
    fn an_order_of_ids_becomes_ranks() {
        let said = |reply: Value| read(json!({"said": {"ranking": reply}}), TaskKind::Ranking, "ba");
        let ranks = |order: Value| match said(json!({"order": order})).unwrap().said {
            Said::Ranking { ranks, all_bad: false } => ranks,
            other => panic!("{other:?}"),
        };
        assert_eq!(ranks(json!([["y"], ["x"]])), [2, 1]);
        assert_eq!(ranks(json!([["y", "x"]])), [1, 1]);
        let bad = Said::Ranking { ranks: vec![], all_bad: true };
        assert_eq!(said(json!({"all_bad": true})).unwrap().said, bad);
        for (reply, wanted) in [
            (json!({"order": [["x"]]}), "leaves out \"y\""),
            (json!({}), "leaves out \"x\""),
            (json!({"order": [["x"], ["x", "y"]]}), "names \"x\" twice"),
            (json!({"order": [["x"], ["z"]]}), "no response \"z\""),
            (json!({"order": [["x"], ["y"]], "all_bad": true}), "keep one"),
        ] {
            let what = said(reply).unwrap_err().to_string();
            assert!(what.contains(wanted), "{what}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let pairwise = |rest: Value| {
            let mut reply = json!({"said": {"pairwise": {"pick": "left"}}});
            reply.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            reply
        };
        let marks = |start: usize, end: usize, sign: i8| {
            pairwise(
                json!({"marks": [{"response": "x", "spans": [{"start": start, "end": end, "sign": sign}]}]}),
            )
        };
        let unknown =
            pairwise(json!({"marks": [{"response": "q", "spans": [{"start": 0, "end": 1, "sign": 1}]}]}));
        let scores = |value: f64| json!({"said": {"pointwise": {"scores": [{"question": "quality", "value": value}]}}});
        for (reply, kind, wanted) in [
            (
                json!({"said": {"pairwise": {"pick": "left", "strength": 5}}}),
                TaskKind::Pairwise,
                "`strength`",
            ),
            (pairwise(json!({})), TaskKind::Pointwise, "asks for pointwise"),
            (marks(2, 2, 1), TaskKind::Pairwise, "from 2 to 2"),
            (marks(2, 6, 1), TaskKind::Pairwise, "from 2 to 6"),
            (marks(2, 4, 0), TaskKind::Pairwise, "`sign` is 0"),
            (unknown, TaskKind::Pairwise, "\"q\""),
            (scores(5.5), TaskKind::Pointwise, "quality"),
            (scores(0.0), TaskKind::Pointwise, "quality"),
            (json!({"said": {"pointwise": {"scores": []}}}), TaskKind::Pointwise, "quality"),
            (json!({"said": {"demonstration": {"text": " "}}}), TaskKind::Demonstration, "empty"),
        ] {
            let what = read(reply, kind, AB).unwrap_err().to_string();
            assert!(what.contains(wanted), "{what}");
        }
        assert!(read(scores(5.0), TaskKind::Pointwise, AB).is_ok());
    }
}
