use pavlov_schema::comparison::Edited;
use pavlov_schema::comparison::{Choice, Side};
use pavlov_schema::judgment::Flag;
use pavlov_schema::judgment::{Judgment, Response, Verdict};
use pavlov_schema::ranking::Order;
use pavlov_schema::rating::Score;
use pavlov_schema::rollout::{Credited, Finish, Rollout, Scored};
use pavlov_schema::rollout_file;
use pavlov_schema::row::Row;
use pavlov_schema::text::{Message, Text};
use pavlov_schema::{Map, Value, dataset};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::file;

fn number() -> impl Strategy<Value = f64> {
    prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        number().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((any::<String>(), inner), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn message() -> impl Strategy<Value = Message> {
    let extra = vec(("x_[a-z]{1,4}", json().prop_filter("null is absent", |value| !value.is_null())), 0..2);
    (".+", any::<String>(), extra).prop_map(|(role, content, extra)| {
        let extra: Map<String, Value> = extra.into_iter().collect();
        Message { role, content, extra }
    })
}

fn plain() -> impl Strategy<Value = Text> {
    ".+".prop_map(Text::Plain)
}

fn chat() -> impl Strategy<Value = Text> {
    vec(message(), 1..3).prop_map(Text::Chat)
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![plain(), chat()]
}

/// Three texts of one form.
fn texts() -> impl Strategy<Value = (Text, Text, Text)> {
    prop_oneof![(plain(), plain(), plain()), (chat(), chat(), chat())]
}

fn rating() -> impl Strategy<Value = (f64, (f64, f64))> {
    vec(-1e9..1e9, 3).prop_map(|mut sorted| {
        sorted.sort_by(f64::total_cmp);
        (sorted[1], (sorted[0], sorted[2] + 1.0))
    })
}

fn judgment() -> impl Strategy<Value = Judgment> {
    let choice = prop_oneof![Just(Choice::A), Just(Choice::B), Just(Choice::Tie), Just(Choice::BothBad)];
    let shown = prop_oneof![Just(Order::plain(2)), Just(Order::plain(2).reversed())];
    let verdict = prop_oneof![
        rating().prop_map(|(rating, scale)| Verdict::Rating { rating, scale }),
        (choice, option::of(1_u8..=4), option::of(shown.clone()))
            .prop_map(|(choice, strength, shown)| Verdict::Comparison { choice, strength, shown }),
        (prop_oneof![Just(vec![1, 2]), Just(vec![2, 1]), Just(vec![1, 1]), Just(vec![])], option::of(shown))
            .prop_map(|(ranks, shown)| Verdict::Ranking { all_bad: ranks.is_empty(), ranks, shown }),
        Just(Verdict::Demonstration),
        Just(Verdict::Edit),
        option::of(any::<String>()).prop_map(|reason| Verdict::Skip { reason }),
    ];
    let name = || option::of(any::<String>());
    let response = (name(), text(), name(), option::of(any::<u64>()))
        .prop_map(|(id, text, policy, seed)| Response { id, text, policy, seed });
    let about = (option::of(".+"), option::of(any::<u32>()), option::of(rating()), any::<bool>());
    (name(), verdict, text(), vec(response, 2), name(), name(), about).prop_map(
        |(id, verdict, prompt, mut responses, annotator, rationale, (edited, version, rating, flag))| {
            if matches!(verdict, Verdict::Rating { .. } | Verdict::Demonstration) {
                responses.pop();
            }
            let at = Some("2026-01-31T12:00:00Z".to_owned());
            let edited = edited
                .filter(|_| matches!(verdict, Verdict::Comparison { .. }))
                .map(|text| Edited { of: Side::B, text });
            let named = |(value, scale)| Score { question: "q".into(), value, scale };
            Judgment {
                id,
                annotator,
                at,
                rationale,
                edited,
                guideline_version: version,
                active_ms: version.map(u64::from),
                ratings: rating.map(named).into_iter().collect(),
                flags: if flag { vec![Flag::Spam] } else { Vec::new() },
                ..Judgment::new(verdict, prompt, responses)
            }
        },
    )
}

fn row() -> impl Strategy<Value = Row> {
    prop_oneof![
        any::<String>().prop_map(|text| Row::Text { text }),
        (vec(message(), 1..3), option::of(vec(json(), 0..2)))
            .prop_map(|(messages, tools)| Row::Messages { messages, tools }),
        texts().prop_map(|(prompt, completion, _)| Row::PromptCompletion { prompt, completion }),
        (texts(), option::of(number()), any::<bool>())
            .prop_filter("an answer of its own each", |((_, chosen, rejected), ..)| chosen != rejected)
            .prop_map(|((prompt, chosen, rejected), margin, tie)| Row::Preference {
                prompt: Some(prompt),
                chosen,
                rejected,
                margin,
                tie
            }),
        (texts(), prop_oneof![Just([1, 2]), Just([2, 1]), Just([1, 1])]).prop_map(
            |((prompt, first, second), ranks)| Row::Ranking {
                prompt,
                completions: vec![first, second],
                ranks: ranks.to_vec()
            }
        ),
        (texts(), any::<bool>()).prop_map(|((prompt, completion, _), label)| Row::Unpaired {
            prompt,
            completion,
            label
        }),
        (texts(), number()).prop_map(|((prompt, completion, _), score)| Row::Rating {
            prompt,
            completion,
            score,
            scale: None
        }),
        (texts(), rating()).prop_map(|((prompt, completion, _), (score, scale))| Row::Rating {
            prompt,
            completion,
            score,
            scale: Some(scale)
        }),
        (text(), vec(("x_[a-z]{1,4}", json()), 0..3))
            .prop_map(|(prompt, columns)| Row::PromptOnly { prompt, columns: columns.into_iter().collect() }),
        vec(any::<u32>(), 1..9).prop_map(|input_ids| Row::InputIds { input_ids }),
        judgment().prop_map(|judgment| Row::Judgment(Box::new(judgment))),
    ]
}

fn credited() -> impl Strategy<Value = Credited> {
    let finish = prop_oneof![Just(Finish::Eos), Just(Finish::Stop), Just(Finish::Length)];
    let float = || prop::num::f32::NORMAL | prop::num::f32::INFINITE | prop::num::f32::ZERO;
    let texts = (any::<String>(), any::<String>(), any::<String>(), any::<String>());
    let numbers = (0..9_usize, 0..9_usize, any::<u64>(), any::<u64>(), number(), number());
    let tokens = (vec(any::<u32>(), 0..5), vec((any::<u32>(), float(), float()), 0..9));
    let parts = (option::of(number()), option::of(number()));
    (texts, numbers, tokens, finish, parts).prop_map(|(texts, numbers, tokens, finish, parts)| {
        let (prompt_id, prompt_text, completion, method) = texts;
        let (prompt_index, choice, seed, policy_version, reward, advantage) = numbers;
        let (prompt_tokens, per_token) = tokens;
        let rollout = Rollout {
            prompt_id,
            prompt_index,
            choice,
            prompt_text,
            prompt_tokens,
            completion,
            tokens: per_token.iter().map(|&(token, ..)| token).collect(),
            behaviour_logp: per_token.iter().map(|&(_, logp, _)| logp).collect(),
            finish,
            seed,
            policy_version,
        };
        let parts = [("p", parts.0), ("q", parts.1)];
        let parts = parts.into_iter().filter_map(|(name, points)| Some((name.to_owned(), points?))).collect();
        let weights = per_token.iter().map(|&(.., weight)| weight).collect();
        Credited { scored: Scored { rollout, reward, parts }, advantage, weights, method }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows(rows in vec(row(), 1..4)) {
        let (_folder, path) = file("");
        dataset::write(&path, &rows).unwrap();
        prop_assert_eq!(dataset::read(&path).unwrap(), rows);
    }

    #[test]
    fn rollouts(rollouts in vec(credited(), 1..5), step in any::<u64>()) {
        let (_folder, path) = file("");
        rollout_file::write(&path, step, &rollouts).unwrap();
        let read = rollout_file::read(&path).unwrap();
        prop_assert!(read.iter().all(|(read, _)| *read == step));
        // Parts come back in the order of the file's columns, the order of first appearance.
        let sorted = |mut rollout: Credited| {
            rollout.scored.parts.sort_by(|a, b| a.0.cmp(&b.0));
            rollout
        };
        let read: Vec<_> = read.into_iter().map(|(_, rollout)| sorted(rollout)).collect();
        prop_assert_eq!(read, rollouts.into_iter().map(sorted).collect::<Vec<_>>());
    }

    #[test]
    fn no_json_object_panics(columns in vec((prop::sample::select(vec![
        "text", "messages", "prompt", "completion", "chosen", "rejected", "label", "score", "rating", "scale",
        "margin", "tie", "tools", "input_ids", "kind", "responses", "choice", "completions", "ranks",
    ]), json()), 0..6)) {
        // Whatever is read must be written as a row that reads the same.
        let object = columns.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        if let Ok(row) = Row::from_object(object) {
            prop_assert_eq!(Row::from_object(row.to_object()), Ok(row));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..64)) {
        let (_folder, path) = file(&bytes);
        let _ = dataset::read(&path);
    }
}
