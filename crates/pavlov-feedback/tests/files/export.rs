use pavlov_feedback::io::export::{self, Export, Format, margin};
use pavlov_feedback::store::Version;
use pavlov_schema::Value;
use pavlov_schema::comparison::Edited;
use pavlov_schema::comparison::{Choice, Side};
use pavlov_schema::feedback::{Answer, RecordKind, Said, SealedRecord, standing};
use pavlov_schema::judgment::Flag;
use pavlov_schema::judgment::{Judgment, Response, Verdict};
use pavlov_schema::marks::{Marks, Span};
use pavlov_schema::rating::Score;
use pavlov_schema::row::Row;
use pavlov_schema::text::{Message, Text};
use proptest::prelude::*;
use serde_json::json;

fn record(seq: u64, said: Said, responses: &[Text]) -> SealedRecord {
    SealedRecord {
        seq,
        id: format!("r{seq}"),
        answer_id: format!("r{seq}"),
        record: RecordKind::Judgment,
        project: "p".into(),
        task: format!("t{seq}"),
        key: None,
        policy_version: 4,
        annotator: "a7".into(),
        at_ms: 0,
        guideline_version: 1,
        active_ms: 900,
        shown: None,
        propensity: None,
        repeat: false,
        gold: false,
        prompt: "q".into(),
        responses: responses.iter().map(|text| Response::new(text.clone())).collect(),
        answer: Some(Answer { said, rationale: None, flags: Vec::new(), marks: Vec::new() }),
    }
}

fn pair(choice: Choice, strength: Option<u8>, edit: Option<(Side, &str)>) -> SealedRecord {
    let edit = edit.map(|(of, text)| Edited { of, text: text.into() });
    record(1, Said::Pairwise { choice, strength, edit }, &["x".into(), "y".into()])
}

fn export(records: &[SealedRecord], format: Format) -> Export {
    let holds: Vec<u64> = standing(records).iter().map(|record| record.seq).collect();
    let version =
        |record: &SealedRecord| Version { record: record.clone(), holds: holds.contains(&record.seq) };
    export::export(&records.iter().map(version).collect::<Vec<_>>(), format)
}

fn rows(records: &[SealedRecord], format: Format) -> Value {
    json!(export(records, format).rows)
}

#[test]
fn ties_and_both_bad_are_told_apart() {
    let [tie, both] = [Choice::Tie, Choice::BothBad].map(|choice| pair(choice, None, None));
    for (record, why) in [(&tie, "ties"), (&both, "both bad")] {
        let dpo = export(std::slice::from_ref(record), Format::Dpo);
        assert_eq!((dpo.rows.len(), dpo.left_out.get(why)), (0, Some(&1)));
    }
    assert_eq!(export(&[tie], Format::Kto).left_out.get("ties"), Some(&1));
    let bad = |text| json!({"prompt": "q", "completion": text, "label": false});
    assert_eq!(rows(&[both], Format::Kto), json!([bad("x"), bad("y")]));
}

#[test]
fn an_edit_is_a_demonstration_and_better_than_both() {
    let record = pair(Choice::B, Some(4), Some((Side::B, "z")));
    let better = |chosen, rejected| json!({"chosen": chosen, "rejected": rejected, "prompt": "q"});
    let mut first = better("y", "x");
    first["margin"] = json!(1.0);
    let all = std::slice::from_ref(&record);
    assert_eq!(rows(all, Format::Dpo), json!([first, better("z", "y"), better("z", "x")]));
    assert_eq!(rows(all, Format::Sft), json!([{"prompt": "q", "completion": "z"}]));
    let labels: Vec<_> = export(all, Format::Kto)
        .rows
        .iter()
        .map(|row| (row["completion"].clone(), row["label"].clone()))
        .collect();
    assert_eq!(labels, [(json!("x"), json!(false)), (json!("y"), json!(true)), (json!("z"), json!(true))]);
    let margins = [1, 2, 4].map(|strength| (margin(strength) * 300.0).round() as i32);
    assert_eq!(margins, [0, 100, 300]);
}

#[test]
fn a_ranking_is_a_group_and_the_pairs_it_tells_apart() {
    let said = |ranks: &[u8]| Said::Ranking { ranks: ranks.to_vec(), all_bad: ranks.is_empty() };
    let texts = ["x", "y", "z"].map(Text::from);
    let ranked = record(1, said(&[2, 1, 2]), &texts);
    let all = std::slice::from_ref(&ranked);
    let group = json!({"prompt": "q", "completions": ["x", "y", "z"], "ranks": [2, 1, 2]});
    assert_eq!(rows(all, Format::Ranking), json!([group]));
    let better = |chosen, rejected| json!({"chosen": chosen, "rejected": rejected, "prompt": "q"});
    let dpo = export(all, Format::Dpo);
    assert_eq!(json!(dpo.rows), json!([better("y", "x"), better("y", "z")]));
    assert_eq!(dpo.left_out["ties"], 1);
    // The best of several need not be good.
    let kto = export(all, Format::Kto);
    assert_eq!((kto.rows.len(), kto.left_out["orders"]), (0, 1));
    let bad = record(2, said(&[]), &texts);
    let all = std::slice::from_ref(&bad);
    for format in [Format::Ranking, Format::Dpo] {
        let out = export(all, format);
        assert_eq!((out.rows.len(), out.left_out["all bad"]), (0, 1));
    }
    let label = |text| json!({"prompt": "q", "completion": text, "label": false});
    assert_eq!(rows(all, Format::Kto), json!([label("x"), label("y"), label("z")]));
    // A string beside messages becomes a turn.
    let mut chat = record(3, said(&[1, 2]), &texts[..2]);
    chat.prompt = Text::Chat(vec![Message::new("user", "q")]);
    let turn = |text| json!([{"role": "assistant", "content": text}]);
    let rows = rows(&[chat], Format::Ranking);
    assert_eq!(rows[0]["completions"], json!([turn("x"), turn("y")]));
    assert_eq!(rows[0]["prompt"], json!([{"role": "user", "content": "q"}]));
}

#[test]
fn ratings_never_make_pairs() {
    let rated = |seq, value| {
        let scores = vec![Score { question: "quality".into(), value, scale: (1.0, 5.0) }];
        record(seq, Said::Pointwise { scores }, &[format!("a{seq}").as_str().into()])
    };
    let records = [rated(1, 5.0), rated(2, 3.0), rated(3, 1.0)];
    let dpo = export(&records, Format::Dpo);
    assert_eq!((dpo.rows.len(), dpo.left_out["no comparison"]), (0, 3));
    let kto = export(&records, Format::Kto);
    assert_eq!(kto.left_out["middle ratings"], 1);
    assert_eq!(
        kto.rows.iter().map(|row| row["label"].clone()).collect::<Vec<_>>(),
        [json!(true), json!(false)]
    );
}

#[test]
fn gold_and_repeats_teach_nothing_and_retractions_take_back() {
    let mut gold = pair(Choice::A, None, None);
    gold.gold = true;
    let mut repeat = pair(Choice::A, None, None);
    (repeat.repeat, repeat.seq, repeat.answer_id) = (true, 2, "r2".into());
    let mut retraction = pair(Choice::A, None, None);
    (retraction.record, retraction.answer, retraction.seq) = (RecordKind::Retraction, None, 4);
    (retraction.answer_id,) = ("r3".into(),);
    let mut taken = pair(Choice::A, None, None);
    (taken.seq, taken.answer_id) = (3, "r3".into());
    let records = [gold, repeat, taken, retraction];
    let dpo = export(&records, Format::Dpo);
    assert_eq!((dpo.rows.len(), dpo.left_out["gold tasks"], dpo.left_out["repeats"]), (0, 1, 1));
    let judgments = export(&records, Format::Judgments);
    assert_eq!(judgments.rows.iter().map(|row| row["seq"].clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);
    assert_eq!(export(&records, Format::Log).rows.len(), 4);
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        ".{1,8}".prop_map(Text::Plain),
        (".{1,8}", ".{1,8}")
            .prop_map(|(q, a)| Text::Chat(vec![Message::new("user", q), Message::new("assistant", a)])),
    ]
}

fn said() -> impl Strategy<Value = (Said, usize)> {
    let choice = prop_oneof![Just(Choice::A), Just(Choice::B), Just(Choice::Tie), Just(Choice::BothBad)];
    let side = prop_oneof![Just(Side::A), Just(Side::B)];
    let edit = proptest::option::of((side, ".{1,8}").prop_map(|(of, text)| Edited { of, text }));
    prop_oneof![
        (choice, proptest::option::of(1_u8..=4), edit)
            .prop_map(|(choice, strength, edit)| (Said::Pairwise { choice, strength, edit }, 2)),
        proptest::sample::select(vec![vec![1, 2, 3], vec![2, 2, 1], vec![1, 1, 1], vec![3, 1], vec![]])
            .prop_map(|ranks| {
                let n = if ranks.is_empty() { 3 } else { ranks.len() };
                let ranks = pavlov_schema::ranking::competition(&ranks);
                (Said::Ranking { all_bad: ranks.is_empty(), ranks }, n)
            }),
        proptest::collection::vec(1_u8..=5, 1..4).prop_map(|values| {
            let score = |(i, value): (usize, u8)| Score {
                question: format!("q{i}"),
                value: f64::from(value),
                scale: (1.0, 5.0),
            };
            (Said::Pointwise { scores: values.into_iter().enumerate().map(score).collect() }, 1)
        }),
        ".{1,8}".prop_map(|text| (Said::Demonstration { text }, 0)),
        ".{1,8}".prop_map(|text| (Said::Edit { text }, 1)),
    ]
}

prop_compose! {
    fn any_record()(
        (said, n) in said(),
        prompt in text(),
        texts in proptest::collection::vec(text(), 3),
        rationale in proptest::option::of(".{0,8}"),
        flag in any::<bool>(),
        marked in any::<bool>(),
    ) -> SealedRecord {
        let mut record = record(1, said, &texts[..n]);
        record.prompt = prompt;
        let Some(answer) = record.answer.as_mut() else { unreachable!("made with an answer") };
        answer.rationale = rationale;
        answer.flags = if flag { vec![Flag::Unsafe] } else { Vec::new() };
        if marked && n > 0 {
            answer.marks = vec![Marks { response: n - 1, spans: vec![Span { start: 0, end: 1, sign: -1 }] }];
        }
        record
    }
}

proptest! {
    /// Everything that was said is in the exported judgment, and every exported row is one that training reads.
    #[test]
    fn exports_round_trip(record in any_record()) {
        let all = std::slice::from_ref(&record);
        let judgments = export(all, Format::Judgments);
        let Row::Judgment(read) = Row::from_object(judgments.rows[0].clone()).unwrap() else { panic!("no judgment") };
        prop_assert_eq!(&*read, &record.judgment().unwrap());
        prop_assert_eq!(said_in(&read), record.answer.clone().unwrap().said_without_names());
        let log = export(all, Format::Log);
        let again: SealedRecord = serde_json::from_value(json!(log.rows[0])).unwrap();
        prop_assert_eq!(&again, &record);
        let judgment = record.judgment().unwrap();
        let pairs = judgment.comparisons().into_iter().filter(|c| !matches!(c.choice, Choice::Tie | Choice::BothBad) && c.a != c.b);
        let dpo = export(all, Format::Dpo);
        prop_assert_eq!(dpo.rows.len(), pairs.count());
        for row in &dpo.rows {
            prop_assert!(matches!(Row::from_object(row.clone()), Ok(Row::Preference { .. })), "{:?}", row);
        }
        for row in &export(all, Format::Kto).rows {
            prop_assert!(matches!(Row::from_object(row.clone()), Ok(Row::Unpaired { .. })), "{:?}", row);
        }
        let ranking = export(all, Format::Ranking).rows;
        prop_assert_eq!(ranking.len(), usize::from(judgment.ranked().is_some()));
        for row in &ranking {
            let ranked = Row::from_object(row.clone()).unwrap().ranked().unwrap();
            prop_assert_eq!(ranked.ranks, judgment.ranked().unwrap().ranks);
        }
        let sft = export(all, Format::Sft).rows;
        prop_assert_eq!(sft.len(), usize::from(judgment.demonstration().is_some()));
        for row in &sft {
            let kind = Row::from_object(row.clone());
            prop_assert!(matches!(kind, Ok(Row::PromptCompletion { .. } | Row::Messages { .. })), "{:?}", row);
        }
    }
}

/// What a person said, in a form that both a record and a judgment have.
type WhatWasSaid = (String, Vec<(f64, f64, f64)>, Option<Edited>);

trait SaidWithoutNames {
    fn said_without_names(&self) -> WhatWasSaid;
}

impl SaidWithoutNames for Answer {
    fn said_without_names(&self) -> WhatWasSaid {
        match &self.said {
            Said::Pairwise { choice, strength, edit } => {
                (format!("{choice:?} {strength:?}"), vec![], edit.clone())
            }
            Said::Ranking { ranks, all_bad } => (format!("{ranks:?} {all_bad}"), vec![], None),
            Said::Pointwise { scores } => {
                (String::new(), scores.iter().map(|s| (s.value, s.scale.0, s.scale.1)).collect(), None)
            }
            Said::Demonstration { text } | Said::Edit { text } => (text.clone(), vec![], None),
        }
    }
}

fn said_in(judgment: &Judgment) -> WhatWasSaid {
    let last = || match &judgment.responses.last().unwrap().text {
        Text::Plain(text) => text.clone(),
        Text::Chat(_) => panic!("people write plain text"),
    };
    match &judgment.verdict {
        Verdict::Comparison { choice, strength, .. } => {
            (format!("{choice:?} {strength:?}"), vec![], judgment.edited.clone())
        }
        Verdict::Ranking { ranks, all_bad, .. } => (format!("{ranks:?} {all_bad}"), vec![], None),
        Verdict::Rating { rating, scale } => {
            let others = judgment.ratings.iter().map(|s| (s.value, s.scale.0, s.scale.1));
            (String::new(), std::iter::once((*rating, scale.0, scale.1)).chain(others).collect(), None)
        }
        Verdict::Demonstration | Verdict::Edit => (last(), vec![], None),
        Verdict::Skip { .. } => panic!("nobody skipped"),
    }
}
