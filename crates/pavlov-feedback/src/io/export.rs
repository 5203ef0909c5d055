//! From sealed records to files: judgments as people gave them, and the rows that trainers read.
//!
//! | format | rows | left out, and counted |
//! |---|---|---|
//! | `log` | every record as it is, retractions too | – |
//! | `judgments` | one per record that holds, with its place in the log | – |
//! | `dpo` | `prompt`, `chosen`, `rejected`, `margin`; of an edit: edited > chosen > rejected; of a ranking: every two answers that it tells apart | ties, both bad, ratings |
//! | `kto` | `prompt`, `completion`, `label`; *both bad* and *all bad* are bad answers | ties, orders, ratings in the middle of their scale |
//! | `ranking` | `prompt`, `completions`, `ranks` of each ranking | all bad, all else |
//! | `sft` | `prompt`, `completion`, or `messages` | what has no answer to imitate |
//!
//! Rows for training leave out gold tasks and repeats: they measure raters. A pair is never made of two ratings: who likes
//! both of two answers does not say which is better.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use pavlov_schema::comparison::{Choice, Comparison};
use pavlov_schema::feedback::{RecordKind, SealedRecord};
use pavlov_schema::judgment::{Judgment, Verdict};
use pavlov_schema::ranking::Ranked;
use pavlov_schema::row::Row;
use pavlov_schema::text::{Message, Text};
use pavlov_schema::{Map, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::Version;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Every record.
    Log,
    /// What people said, in the form of `docs/formats.md`.
    Judgments,
    /// TRL's preference rows.
    Dpo,
    /// TRL's unpaired preference rows.
    Kto,
    /// Prompts, completions and their ranks: a group of answers a row.
    Ranking,
    /// TRL's prompts and completions, or conversations.
    Sft,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] = [Self::Log, Self::Judgments, Self::Dpo, Self::Kto, Self::Ranking, Self::Sft];

    /// The name in addresses and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Judgments => "judgments",
            Self::Dpo => "dpo",
            Self::Kto => "kto",
            Self::Ranking => "ranking",
            Self::Sft => "sft",
        }
    }
}

/// The rows of a file and what did not become one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    /// One object a line.
    pub rows: Vec<Map<String, Value>>,
    /// Why records are not there, and how many.
    pub left_out: BTreeMap<&'static str, usize>,
}

impl Export {
    /// JSON lines.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        for row in &self.rows {
            lines.push_str(&json!(row).to_string());
            lines.push('\n');
        }
        lines
    }

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }

    fn push(&mut self, row: &Row) {
        self.rows.push(row.to_object());
    }
}

/// Makes the rows of one format from records in the order of the log.
pub fn export(versions: &[Version], format: Format) -> Export {
    let mut out = Export::default();
    for Version { record, holds } in versions {
        if format == Format::Log {
            out.rows.push(object(json!(record)));
            continue;
        }
        let Some(judgment) = record.judgment().filter(|_| *holds) else { continue };
        if format == Format::Judgments {
            out.rows.push(with_place(record, &judgment));
            continue;
        }
        if record.gold || record.repeat {
            out.leave_out(if record.gold { "gold tasks" } else { "repeats" });
            continue;
        }
        match format {
            Format::Dpo => dpo(&judgment, &mut out),
            Format::Kto => kto(&judgment, &mut out),
            Format::Ranking => ranking(&judgment, &mut out),
            Format::Sft => sft(&judgment, &mut out),
            Format::Log | Format::Judgments => {}
        }
    }
    out
}

/// The judgment, and what the log knows beside it.
fn with_place(record: &SealedRecord, judgment: &Judgment) -> Map<String, Value> {
    let mut row = object(json!(judgment));
    let mut add = |key: &str, value: Value| drop(row.insert(key.to_owned(), value));
    add("seq", json!(record.seq));
    add("task", json!(record.task));
    if let Some(key) = &record.key {
        add("key", json!(key));
    }
    add("policy_version", json!(record.policy_version));
    if record.record == RecordKind::Adjudication {
        add("adjudicated", json!(true));
    }
    if let Some(propensity) = record.propensity {
        add("propensity", json!(propensity));
    }
    if record.gold {
        add("gold", json!(true));
    }
    if record.repeat {
        add("repeat", json!(true));
    }
    row
}

/// By how many reward points the better answer should lead: Llama 2's smaller margins (arXiv:2307.09288, table 27), from
/// 0 for *negligibly* to 1 for *significantly* better.
pub fn margin(strength: u8) -> f64 {
    f64::from(strength.clamp(1, 4) - 1) / 3.0
}

fn dpo(judgment: &Judgment, out: &mut Export) {
    let comparisons = judgment.comparisons();
    if comparisons.is_empty() {
        out.leave_out(if all_bad(judgment) { "all bad" } else { "no comparison" });
    }
    for Comparison { prompt, a, b, choice, strength, .. } in comparisons {
        let (chosen, rejected) = match choice {
            Choice::A => (a, b),
            Choice::B => (b, a),
            Choice::Tie => {
                out.leave_out("ties");
                continue;
            }
            Choice::BothBad => {
                out.leave_out("both bad");
                continue;
            }
        };
        if chosen == rejected {
            out.leave_out("equal answers");
            continue;
        }
        let [prompt, chosen, rejected] = same_form([prompt, chosen, rejected]);
        let margin = strength.map(margin);
        out.push(&Row::Preference { prompt: Some(prompt), chosen, rejected, margin, tie: false });
    }
}

fn kto(judgment: &Judgment, out: &mut Export) {
    let before = out.rows.len();
    let mut label = |prompt: &Text, completion: Text, label: bool| {
        let [prompt, completion] = same_form([prompt.clone(), completion]);
        out.push(&Row::Unpaired { prompt, completion, label });
    };
    let prompt = &judgment.prompt;
    if let Some(Comparison { a, b, choice, .. }) = judgment.comparison()
        && !matches!(judgment.verdict, Verdict::Edit)
    {
        match choice {
            Choice::A => [(a, true), (b, false)].map(|(text, good)| label(prompt, text, good)),
            Choice::B => [(a, false), (b, true)].map(|(text, good)| label(prompt, text, good)),
            Choice::BothBad => [(a, false), (b, false)].map(|(text, good)| label(prompt, text, good)),
            Choice::Tie => [(), ()],
        };
    }
    if all_bad(judgment) {
        for response in &judgment.responses {
            label(prompt, response.text.clone().answering(prompt), false);
        }
    }
    if let Some(rated) = judgment.rated()
        && let Some((low, high)) = rated.scale
    {
        match rated.rating.total_cmp(&f64::midpoint(low, high)) {
            Ordering::Less => label(prompt, rated.response, false),
            Ordering::Greater => label(prompt, rated.response, true),
            Ordering::Equal => {}
        }
    }
    if let Some(demonstration) = judgment.demonstration() {
        label(prompt, demonstration.response, true);
    }
    if out.rows.len() == before {
        out.leave_out(match judgment.verdict {
            Verdict::Rating { .. } => "middle ratings",
            // The best of bad answers is no good one.
            Verdict::Ranking { .. } => "orders",
            _ => "ties",
        });
    }
}

fn all_bad(judgment: &Judgment) -> bool {
    matches!(judgment.verdict, Verdict::Ranking { all_bad: true, .. })
}

fn ranking(judgment: &Judgment, out: &mut Export) {
    let Some(Ranked { prompt, responses, ranks, .. }) = judgment.ranked() else {
        out.leave_out(if all_bad(judgment) { "all bad" } else { "no order" });
        return;
    };
    let mut texts = same_form(std::iter::once(prompt).chain(responses).collect::<Vec<_>>());
    let prompt = texts.remove(0);
    out.push(&Row::Ranking { prompt, completions: texts, ranks });
}

fn sft(judgment: &Judgment, out: &mut Export) {
    let Some(demonstration) = judgment.demonstration() else {
        out.leave_out("no answer to imitate");
        return;
    };
    let [prompt, completion] = same_form([demonstration.prompt, demonstration.response]);
    match (prompt, completion) {
        (Text::Chat(mut messages), Text::Chat(answer)) => {
            messages.extend(answer);
            out.push(&Row::Messages { messages, tools: None });
        }
        (prompt, completion) => out.push(&Row::PromptCompletion { prompt, completion }),
    }
}

/// A prompt and answers, all strings or all messages: a row may not mix them.
fn same_form<T: AsMut<[Text]>>(mut texts: T) -> T {
    let all = texts.as_mut();
    if all.iter().all(|text| matches!(text, Text::Plain(_))) {
        return texts;
    }
    let mut role = "user";
    for text in all {
        if let Text::Plain(plain) = text {
            *text = Text::Chat(vec![Message::new(role, std::mem::take(plain))]);
        }
        role = "assistant";
    }
    texts
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(object) = value { object } else { Map::new() }
}
