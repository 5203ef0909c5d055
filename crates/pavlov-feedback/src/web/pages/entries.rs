//! A rater's form: from an answer or draft to its fields, and from its fields to a reply.

use std::collections::BTreeMap;

use pavlov_schema::comparison::{Choice, Side};
use pavlov_schema::feedback::{Answer, Said, TaskKind};
use pavlov_schema::judgment::Flag;
use pavlov_schema::marks::marked_text;
use pavlov_schema::ranking::Order;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use crate::reply::{Pick, Reply, ScreenEdit, ScreenMarks, ScreenSaid, ScreenScore};
use crate::settings::Settings;
use crate::store::TaskResponse;
use crate::web::fields::Fields;

/// Verdicts of a comparison: the field's value, what it says, its key.
pub(super) const PICKS: [(Pick, &str, &str, &str); 4] = [
    (Pick::Left, "left", "Answer 1", "1"),
    (Pick::Tie, "tie", "Tie", "0"),
    (Pick::BothBad, "both_bad", "Both bad", "b"),
    (Pick::Right, "right", "Answer 2", "2"),
];
pub(super) const STRENGTHS: [(u8, &str); 4] =
    [(1, "Negligibly"), (2, "Slightly"), (3, "Clearly"), (4, "Significantly")];
pub(super) const FLAGS: [(Flag, &str, &str); 4] = [
    (Flag::Unsafe, "unsafe", "Unsafe"),
    (Flag::Spam, "spam", "Spam"),
    (Flag::Pii, "pii", "Private data"),
    (Flag::PromptBroken, "prompt_broken", "The question is broken"),
];

/// A draft as a page keeps it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Draft {
    pub(super) entries: Vec<(String, String)>,
    #[serde(default)]
    pub(super) active: u64,
}

/// The fields that an answer was made of, for the answers in the order of the screen.
pub(super) fn of_answer(answer: &Answer, shown: Option<Order>, responses: &[TaskResponse]) -> Fields {
    let swapped = shown.is_some_and(|shown| shown.at(0) == Some(1));
    let mut fields = Vec::new();
    let mut put = |name: &str, value: String| fields.push((name.to_owned(), value));
    match &answer.said {
        Said::Pairwise { choice, strength, edit } => {
            let pick = match choice {
                Choice::Tie => "tie",
                Choice::BothBad => "both_bad",
                Choice::A => {
                    if swapped {
                        "right"
                    } else {
                        "left"
                    }
                }
                Choice::B => {
                    if swapped {
                        "left"
                    } else {
                        "right"
                    }
                }
            };
            put("pick", pick.into());
            if let Some(left) = responses.get(usize::from(swapped)) {
                put("response_left", left.id.clone());
            }
            if let Some(strength) = strength {
                put("strength", strength.to_string());
            }
            if let Some(edit) = edit {
                put(
                    if (edit.of == Side::A) == swapped { "edit_right" } else { "edit_left" },
                    edit.text.clone(),
                );
            }
        }
        Said::Ranking { ranks, all_bad } => {
            if *all_bad {
                put("all_bad", "yes".into());
            }
            for (response, rank) in responses.iter().zip(ranks) {
                put(&rank_field(&response.id), rank.to_string());
            }
        }
        Said::Pointwise { scores } => {
            for score in scores {
                put(&format!("score_{}", score.question), score.value.to_string());
            }
        }
        Said::Demonstration { text } | Said::Edit { text } => put("text", text.clone()),
    }
    put("rationale", answer.rationale.clone().unwrap_or_default());
    for (flag, name, _) in FLAGS {
        if answer.flags.contains(&flag) {
            put("flag", name.into());
        }
    }
    let marks = answer.marks.iter().filter_map(|marks| {
        let response = responses.get(marks.response)?.id.clone();
        Some(ScreenMarks { response, spans: marks.spans.clone() })
    });
    let marks: Vec<ScreenMarks> = marks.collect();
    if !marks.is_empty() {
        put("marks", serde_json::to_string(&marks).unwrap_or_default());
    }
    Fields(fields)
}

/// A draft for the answers as they are shown now: one of a lease that ran out may have had left and right the other way round.
pub(super) fn as_shown(draft: Fields, left: Option<&str>) -> Fields {
    let before = draft.get("response_left");
    if before.is_empty() || left.is_none_or(|left| left == before) {
        return draft;
    }
    let turned = |text: String| match text.as_str() {
        "left" => "right".to_owned(),
        "right" => "left".to_owned(),
        "edit_left" => "edit_right".to_owned(),
        "edit_right" => "edit_left".to_owned(),
        _ => text,
    };
    let one = |(name, value): (String, String)| {
        let value = if name == "pick" { turned(value) } else { value };
        (turned(name), value)
    };
    Fields(draft.0.into_iter().map(one).collect())
}

/// The field of an answer's rank: by the answer, not by its place, so that a draft is right in any order on the screen.
pub(super) fn rank_field(response: &str) -> String {
    format!("rank_{response}")
}

/// What a form says about a task. `responses` are the task's, to tell an edit from a field that was left as it was.
pub(super) fn reply(
    fields: &Fields,
    kind: TaskKind,
    settings: &Settings,
    responses: &[TaskResponse],
) -> Result<Reply> {
    let said = match kind {
        TaskKind::Pairwise => {
            let pick = PICKS.iter().find(|(_, name, ..)| *name == fields.get("pick"));
            let pick = pick.ok_or_else(|| Error::invalid("choose an answer, a tie, or that both are bad"))?.0;
            let strength = match fields.get("strength") {
                "" => None,
                text => Some(
                    text.parse()
                        .map_err(|_| Error::invalid("`strength` is not a number; choose one of the four"))?,
                ),
            };
            ScreenSaid::Pairwise { pick, strength, edit: edit(fields, responses)? }
        }
        TaskKind::Ranking => match fields.get("all_bad") {
            "" => ScreenSaid::Ranking { order: order(fields, responses)?, all_bad: false },
            _ => ScreenSaid::Ranking { order: Vec::new(), all_bad: true },
        },
        TaskKind::Pointwise => ScreenSaid::Pointwise { scores: scores(fields, settings)? },
        TaskKind::Demonstration => ScreenSaid::Demonstration { text: fields.get("text").to_owned() },
        TaskKind::Edit => ScreenSaid::Edit { text: fields.get("text").to_owned() },
    };
    let flags = fields
        .all("flag")
        .map(|name| FLAGS.iter().find(|(_, known, _)| *known == name).map(|(flag, ..)| *flag));
    let flags: Option<Vec<Flag>> = flags.collect();
    Ok(Reply {
        said,
        rationale: Some(fields.get("rationale").to_owned()),
        flags: flags.ok_or_else(|| Error::invalid("there is no such flag; choose among those shown"))?,
        marks: marks(fields)?,
    })
}

fn edit(fields: &Fields, responses: &[TaskResponse]) -> Result<Option<ScreenEdit>> {
    let mut edits = Vec::new();
    for side in ["left", "right"] {
        let (text, id) = (fields.get(&format!("edit_{side}")), fields.get(&format!("response_{side}")));
        let Some(original) = responses.iter().find(|response| response.id == id) else { continue };
        if !text.trim().is_empty()
            && text.trim() != marked_text(&original.response.text).replace("\r\n", "\n").trim()
        {
            edits.push(ScreenEdit { response: id.to_owned(), text: text.to_owned() });
        }
    }
    match edits.len() {
        0 | 1 => Ok(edits.pop()),
        _ => Err(Error::invalid("both answers are edited; edit the one that is nearer to a good answer")),
    }
}

/// The answers by their numbers: the lowest is the best, and equal numbers are equals.
fn order(fields: &Fields, responses: &[TaskResponse]) -> Result<Vec<Vec<String>>> {
    let mut places: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for response in responses {
        let number = fields.get(&rank_field(&response.id)).parse().map_err(|_| {
            Error::invalid("give every answer its place, the best first, or say that none of them will do")
        })?;
        places.entry(number).or_default().push(response.id.clone());
    }
    Ok(places.into_values().collect())
}

fn scores(fields: &Fields, settings: &Settings) -> Result<Vec<ScreenScore>> {
    let score = |question: &crate::settings::Question| {
        let value = fields.get(&format!("score_{}", question.name)).parse();
        let value =
            value.map_err(|_| Error::invalid(format!("answer the question \"{}\"", question.text)))?;
        Ok(ScreenScore { question: question.name.clone(), value })
    };
    settings.questions.iter().map(score).collect()
}

fn marks(fields: &Fields) -> Result<Vec<ScreenMarks>> {
    match fields.get("marks") {
        "" => Ok(Vec::new()),
        text => serde_json::from_str(text)
            .map_err(|_| Error::invalid("the marks cannot be read; clear them and mark again")),
    }
}

/// A verdict for people.
pub(super) fn in_words(answer: &Answer, shown: Option<Order>) -> String {
    let number = |answer: usize| shown.and_then(|shown| shown.place_of(answer)).unwrap_or(answer) + 1;
    let place = |side: Side| number(side as usize);
    match &answer.said {
        Said::Pairwise { choice, strength, edit } => {
            let mut text = match choice {
                Choice::A => format!("Answer {} is better", place(Side::A)),
                Choice::B => format!("Answer {} is better", place(Side::B)),
                Choice::Tie => "A tie".to_owned(),
                Choice::BothBad => "Both are bad".to_owned(),
            };
            if let Some((_, how)) = strength.and_then(|s| STRENGTHS.iter().find(|(value, _)| *value == s)) {
                text = format!("{text}, {}", how.to_lowercase());
            }
            if let Some(edit) = edit {
                text = format!("{text}; answer {} edited", place(edit.of));
            }
            text
        }
        Said::Ranking { all_bad: true, .. } => "None will do".into(),
        Said::Ranking { ranks, .. } => {
            let mut places: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
            for (answer, &rank) in ranks.iter().enumerate() {
                places.entry(rank).or_default().push(number(answer));
            }
            let equals = |mut numbers: Vec<usize>| {
                numbers.sort_unstable();
                numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
            };
            let said: Vec<String> = places.into_values().map(equals).collect();
            if said.len() == 1 {
                "All are equally good".into()
            } else {
                format!("Best is {}", said.join(", then "))
            }
        }
        Said::Pointwise { scores } => {
            let score = |score: &pavlov_schema::rating::Score| {
                let name = score.question.replace('_', " ");
                match score.scale {
                    (0.0, 1.0) => format!("{name}: {}", if score.value > 0.5 { "👍" } else { "👎" }),
                    (_, high) => format!("{name}: {} of {high}", score.value),
                }
            };
            scores.iter().map(score).collect::<Vec<_>>().join(", ")
        }
        Said::Demonstration { .. } => "You wrote an answer".into(),
        Said::Edit { .. } => "You mended the answer".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Asked;
    use crate::settings::{Question, Scale};
    use pavlov_schema::feedback::NewResponse;
    use pavlov_schema::marks::Span;

    fn responses() -> Vec<TaskResponse> {
        let response = |id: &str, text: &str| TaskResponse {
            id: id.into(),
            response: NewResponse {
                text: text.into(),
                policy: None,
                seed: None,
                sampling: None,
                token_logprobs: None,
            },
        };
        vec![response("ra", "first answer"), response("rb", "second answer")]
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn what_is_submitted_is_what_is_kept_and_shown_again() {
        let settings = Settings {
            questions: vec![Question {
                name: "q".into(),
                text: "?".into(),
                scale: Scale::Likert7,
                anchors: Default::default(),
            }],
            ..Settings::default()
        };
        let marks = r#"[{"response":"rb","spans":[{"start":0,"end":6,"sign":-1}]}]"#;
        for shown in [Order::plain(2), Order::plain(2).reversed()] {
            let (left, right) = if shown.at(0) == Some(0) { ("ra", "rb") } else { ("rb", "ra") };
            for pick in ["left", "right", "tie", "both_bad"] {
                let mut pairs = vec![
                    ("pick", pick),
                    ("rationale", "why"),
                    ("flag", "pii"),
                    ("marks", marks),
                    ("response_left", left),
                    ("response_right", right),
                    ("edit_left", "mended"),
                ];
                if matches!(pick, "left" | "right") {
                    pairs.push(("strength", "3"));
                }
                let sent = fields(&pairs);
                let reply = reply(&sent, TaskKind::Pairwise, &settings, &responses()).unwrap();
                let asked = Asked {
                    kind: TaskKind::Pairwise,
                    responses: &responses(),
                    shown: Some(shown),
                    settings: &settings,
                };
                let again = of_answer(&reply.answer(asked).unwrap(), Some(shown), &responses());
                for name in ["pick", "strength", "rationale", "flag", "edit_left", "edit_right"] {
                    assert_eq!(again.get(name), sent.get(name), "{name} of {pick} shown {shown:?}");
                }
                let spans: Vec<ScreenMarks> = serde_json::from_str(again.get("marks")).unwrap();
                assert_eq!(
                    (spans[0].response.as_str(), spans[0].spans[0]),
                    ("rb", Span { start: 0, end: 6, sign: -1 })
                );
            }
        }
        let sent = fields(&[("score_q", "6")]);
        let said = reply(&sent, TaskKind::Pointwise, &settings, &responses()[..1]).unwrap();
        let asked = Asked {
            kind: TaskKind::Pointwise,
            responses: &responses()[..1],
            shown: None,
            settings: &settings,
        };
        assert_eq!(of_answer(&said.answer(asked).unwrap(), None, &responses()).get("score_q"), "6");
    }

    #[test]
    fn a_draft_follows_its_answers_to_the_other_side() {
        let draft = [("pick", "left"), ("response_left", "ra"), ("edit_left", "left"), ("edit_right", "x")];
        let same = as_shown(fields(&draft), Some("ra"));
        assert_eq!((same.get("pick"), same.get("edit_left")), ("left", "left"));
        let turned = as_shown(fields(&draft), Some("rb"));
        let found = ["pick", "edit_left", "edit_right"].map(|name| turned.get(name));
        assert_eq!(found, ["right", "x", "left"]);
        // What an undo brings back knows its side, too.
        let said = Said::Pairwise { choice: Choice::A, strength: None, edit: None };
        let answer = Answer { said, rationale: None, flags: Vec::new(), marks: Vec::new() };
        let undone = of_answer(&answer, Some(Order::plain(2).reversed()), &responses());
        assert_eq!(undone.get("pick"), "right");
        assert_eq!(as_shown(undone, Some("ra")).get("pick"), "left");
    }

    #[test]
    fn an_order_is_kept_by_its_answers() {
        let settings = Settings::default();
        let response = |id: &str| TaskResponse { id: id.into(), response: NewResponse::new("text") };
        let responses: Vec<TaskResponse> = ["ra", "rb", "rc"].iter().map(|id| response(id)).collect();
        let shown = Order::from_letters("cab".chars());
        let asked = Asked { kind: TaskKind::Ranking, responses: &responses, shown, settings: &settings };
        let said = |pairs: &[(&str, &str)]| reply(&fields(pairs), TaskKind::Ranking, &settings, &responses);
        // Any numbers will do: what counts is their order.
        let answer =
            said(&[("rank_ra", "4"), ("rank_rb", "1"), ("rank_rc", "4")]).unwrap().answer(asked).unwrap();
        assert_eq!(answer.said, Said::Ranking { ranks: vec![2, 1, 2], all_bad: false });
        assert_eq!(in_words(&answer, shown), "Best is 3, then 1 and 2");
        assert_eq!(in_words(&answer, None), "Best is 2, then 1 and 3");
        let again = of_answer(&answer, shown, &responses);
        assert_eq!(["rank_ra", "rank_rb", "rank_rc"].map(|name| again.get(name)), ["2", "1", "2"]);
        let bad = said(&[("all_bad", "yes"), ("rank_ra", "1")]).unwrap().answer(asked).unwrap();
        assert_eq!(bad.said, Said::Ranking { ranks: vec![], all_bad: true });
        assert_eq!(
            (in_words(&bad, shown).as_str(), of_answer(&bad, shown, &responses).get("all_bad")),
            ("None will do", "yes")
        );
        for wrong in [
            &[("rank_ra", "1"), ("rank_rb", "2")][..],
            &[("rank_ra", "1"), ("rank_rb", "x"), ("rank_rc", "2")],
        ] {
            assert!(said(wrong).unwrap_err().to_string().contains("its place"));
        }
    }

    #[test]
    fn an_untouched_edit_is_none_and_two_are_refused() {
        let base = [
            ("pick", "tie"),
            ("response_left", "ra"),
            ("response_right", "rb"),
            ("edit_left", "first answer\n"),
        ];
        let said = |pairs: &[(&str, &str)]| {
            reply(&fields(pairs), TaskKind::Pairwise, &Settings::default(), &responses())
        };
        assert!(matches!(said(&base).unwrap().said, ScreenSaid::Pairwise { edit: None, .. }));
        let both = [
            ("pick", "tie"),
            ("response_left", "ra"),
            ("response_right", "rb"),
            ("edit_left", "x"),
            ("edit_right", "y"),
        ];
        assert!(said(&both).unwrap_err().to_string().contains("both answers are edited"));
        assert!(said(&[]).unwrap_err().to_string().contains("choose"));
        assert!(
            said(&[("pick", "tie"), ("marks", "nonsense")]).is_err()
                && said(&[("pick", "tie"), ("flag", "x")]).is_err()
        );
    }
}
