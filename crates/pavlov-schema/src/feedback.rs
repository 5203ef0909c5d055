//! What a trainer and the feedback application say to each other: tasks to be judged, records of judgments, and marks
//! on the words of an answer.
//!
//! Records come from an append-only log. A record is *sealed* once it can no longer be undone; a trainer reads sealed
//! records in order of their sequence numbers and remembers the last one it has seen.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::judgment::{Choice, Judgment, Response};
use crate::text::Text;

/// What people are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Compare two answers.
    Pairwise,
    /// Rate one answer.
    Pointwise,
    /// Write an answer.
    Demonstration,
    /// Mend an answer.
    Edit,
}

impl TaskKind {
    /// How many answers a task of this kind shows.
    pub fn responses(self) -> usize {
        match self {
            Self::Pairwise => 2,
            Self::Pointwise | Self::Edit => 1,
            Self::Demonstration => 0,
        }
    }
}

/// A task as it is handed to the feedback application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    /// The caller's own name for it. A second task of this name in a project is the first one: sending again is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What people are asked to do.
    pub kind: TaskKind,
    /// What was asked of the model.
    pub prompt: Text,
    /// The answers: two to compare, one to rate or mend, none to write one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub responses: Vec<Candidate>,
    /// The known right judgment: the task is served silently to measure raters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<Gold>,
    /// Updates of the policy before it wrote the answers; older tasks grow stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u64>,
    /// How many people judge it; the project decides where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<u32>,
    /// Anything else that should come back with an export; never shown to raters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub columns: Map<String, Value>,
}

/// An answer to be judged, and how it was made. Raters see its text and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The answer; its `id` is the caller's and comes back with the judgment.
    #[serde(flatten)]
    pub response: Response,
    /// The digest of the weights that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// How its tokens were drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Its token ids, with the end token if one was drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
    /// Per token, the log-probability under the distribution it was drawn from, in nats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<f32>,
}

/// How tokens were drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 is the most likely token each time.
    pub temperature: f32,
    /// Draws from the K most likely tokens only; 0 is all.
    #[serde(default)]
    pub top_k: usize,
    /// Draws from the fewest tokens whose probabilities sum to this.
    #[serde(default = "one")]
    pub top_p: f32,
    /// Draws from tokens at least so many times as likely as the most likely one.
    #[serde(default)]
    pub min_p: f32,
    /// Makes tokens that have occurred less likely by this factor.
    #[serde(default = "one")]
    pub repetition_penalty: f32,
    /// Longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

fn one() -> f32 {
    1.0
}

/// The known right judgment of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gold {
    /// Of a comparison.
    Choice(Choice),
    /// The lowest and the highest right rating.
    Rating(f64, f64),
}

impl NewTask {
    /// A task of which nothing else is known.
    pub fn new(kind: TaskKind, prompt: Text, responses: Vec<Candidate>) -> Self {
        Self {
            key: None,
            kind,
            prompt,
            responses,
            gold: None,
            policy_version: None,
            overlap: None,
            columns: Map::new(),
        }
    }

    /// Checks what the types do not say. The error says what is wrong and the mend, without naming the place.
    pub fn validate(&self) -> Result<(), String> {
        if self.prompt.is_empty() {
            return Err("`prompt` is empty; give it text".into());
        }
        let (wanted, found) = (self.kind.responses(), self.responses.len());
        if wanted != found {
            let kind = self.kind.name();
            return Err(format!("a {kind} task needs `responses` of length {wanted}, found {found}"));
        }
        for (i, candidate) in self.responses.iter().enumerate() {
            let (tokens, logprobs) = (candidate.tokens.len(), candidate.logprobs.len());
            if candidate.response.text.is_empty() {
                return Err(format!("the `text` of response {} is empty; give it an answer", i + 1));
            }
            if logprobs != 0 && logprobs != tokens {
                return Err(format!(
                    "response {} has {tokens} tokens and {logprobs} log-probabilities; give one a token",
                    i + 1
                ));
            }
            if candidate.logprobs.iter().any(|logprob| !logprob.is_finite()) {
                return Err(format!("response {} has a log-probability that is no number", i + 1));
            }
        }
        match (&self.gold, self.kind) {
            (Some(Gold::Rating(low, high)), TaskKind::Pointwise) if low <= high => {}
            (Some(Gold::Rating(..)), TaskKind::Pointwise) => {
                return Err(
                    "`gold` has no rating between its two; write {\"rating\": [lowest, highest]}".into()
                );
            }
            (None, _) | (Some(Gold::Choice(_)), TaskKind::Pairwise) => {}
            (Some(_), kind) => {
                let kind = kind.name();
                return Err(format!(
                    "a {kind} task has another `gold`; pairwise has {{\"choice\": …}}, pointwise {{\"rating\": […]}}"
                ));
            }
        }
        if self.overlap == Some(0) {
            return Err("`overlap` is 0; at least one person must judge the task, or leave it out".into());
        }
        Ok(())
    }
}

impl TaskKind {
    /// As it is written in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairwise => "pairwise",
            Self::Pointwise => "pointwise",
            Self::Demonstration => "demonstration",
            Self::Edit => "edit",
        }
    }
}

impl Candidate {
    /// An answer of which only the text is known.
    pub fn new(text: impl Into<Text>) -> Self {
        let response = Response::new(text);
        Self { response, weights: None, sampling: None, tokens: Vec::new(), logprobs: Vec::new() }
    }
}

/// One record of the log that can no longer be undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealedRecord {
    /// Its place in the log; records are read in this order, and numbers may be left out.
    pub sequence: u64,
    /// What it says.
    pub record: RecordKind,
    /// The task's id.
    pub task: String,
    /// [`NewTask::key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// [`NewTask::policy_version`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u64>,
    /// The sequence number of the record that this one replaces (a correction) or takes back (a retraction).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<u64>,
    /// The judgment; absent in a retraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgment: Option<Judgment>,
}

/// What a record of the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// Somebody judged a task.
    Judgment,
    /// A judgment replaces an earlier one.
    Correction,
    /// A reviewer decided a task on which people disagreed.
    Adjudication,
    /// A judgment is taken back.
    Retraction,
    /// Somebody was asked and did not judge.
    Skip,
}

/// A page of sealed records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealedRecords {
    /// The records after the cursor, in order.
    pub records: Vec<SealedRecord>,
    /// The cursor to ask with next time: everything up to this number has been seen.
    pub next: u64,
}

/// The records that hold: neither replaced nor taken back by a later one, nor retractions themselves.
pub fn standing(records: &[SealedRecord]) -> impl Iterator<Item = &SealedRecord> {
    let superseded: BTreeSet<u64> = records.iter().filter_map(|record| record.supersedes).collect();
    records.iter().filter(move |record| {
        record.record != RecordKind::Retraction && !superseded.contains(&record.sequence)
    })
}

/// Some characters of an answer that earned or lost the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The place of the answer in [`Judgment::responses`].
    pub response: usize,
    /// The first character, counted from 0 in Unicode scalar values.
    pub start: usize,
    /// The character after the last.
    pub end: usize,
    /// Whether they earned or lost it.
    pub sign: Sign,
}

/// Which way a mark points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// These words earned the verdict.
    Earned,
    /// These words lost it.
    Lost,
}

/// The characters of an answer that marks count: its text, or the contents of its messages one after another.
pub fn marked_text(text: &Text) -> String {
    match text {
        Text::Plain(text) => text.clone(),
        Text::Chat(messages) => messages.iter().map(|message| message.content.as_str()).collect(),
    }
}

/// Every mark lies within its answer.
pub(crate) fn check_marks(marks: &[Mark], responses: &[Response]) -> Result<(), String> {
    let mut lengths: Vec<Option<usize>> = vec![None; responses.len()];
    for (i, mark) in marks.iter().enumerate() {
        let Some(response) = responses.get(mark.response) else {
            let (wrong, found) = (mark.response, responses.len());
            return Err(format!("`marks` {}: is of response {wrong}, of {found} counted from 0", i + 1));
        };
        let length =
            *lengths[mark.response].get_or_insert_with(|| marked_text(&response.text).chars().count());
        if mark.start >= mark.end || mark.end > length {
            return Err(format!(
                "`marks` {}: goes from {} to {} in an answer of {length} characters; correct it",
                i + 1,
                mark.start,
                mark.end
            ));
        }
    }
    Ok(())
}

/// One weight per token from a person's marks, as a credit map: the share of the token's characters that earned the
/// verdict less the share that lost it, in [−1, 1]. `offsets` are the tokens' first characters and the characters after
/// their last, in Unicode scalar values of [`marked_text`]; a token without characters (an end token) weighs 0. A
/// character marked both ways counts as unmarked, one marked twice the same way counts once.
pub fn token_weights(marks: &[Mark], response: usize, offsets: &[(usize, usize)]) -> Vec<f32> {
    let of = |sign| move |mark: &&Mark| mark.response == response && mark.sign == sign;
    let covered =
        |at: usize, sign| marks.iter().filter(of(sign)).any(|mark| (mark.start..mark.end).contains(&at));
    let credit = |at| i32::from(covered(at, Sign::Earned)) - i32::from(covered(at, Sign::Lost));
    let weight = |&(start, end): &(usize, usize)| {
        let sum: i32 = (start..end).map(credit).sum();
        sum as f32 / end.saturating_sub(start).max(1) as f32
    };
    offsets.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tasks_round_trip_and_say_what_is_wrong() {
        let value = json!({"key":"7","kind":"pairwise","prompt":"p","responses":[
            {"id":"r","text":"x","policy":"run/10","seed":3,"weights":"00ff","tokens":[1,2],"logprobs":[-0.5,-1.0],
             "sampling":{"temperature":0.5,"top_k":0,"top_p":1.0,"min_p":0.0,"repetition_penalty":1.0}},
            {"text":"y"}],"gold":{"choice":"a"},"policy_version":10,"overlap":3,"columns":{"source":"s"}});
        let task: NewTask = serde_json::from_value(value.clone()).unwrap();
        task.validate().unwrap();
        assert_eq!(serde_json::to_value(&task).unwrap(), value);
        for (key, wrong, wanted) in [
            ("responses", json!([]), "length 2, found 0"),
            ("responses", json!([{"text":"x"},{"text":""}]), "response 2 is empty"),
            ("responses", json!([{"text":"x"},{"text":"y","tokens":[1],"logprobs":[0.0,0.0]}]), "2 log-prob"),
            ("gold", json!({"rating":[1.0,2.0]}), "another `gold`"),
            ("overlap", json!(0), "`overlap` is 0"),
            ("prompt", json!([]), "`prompt` is empty"),
        ] {
            let mut value = value.clone();
            value[key] = wrong;
            let task: NewTask = serde_json::from_value(value).unwrap();
            let what = task.validate().unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
    }

    #[test]
    fn corrections_replace_and_retractions_take_back() {
        let record = |sequence, record, supersedes| SealedRecord {
            sequence,
            record,
            task: "t".into(),
            key: None,
            policy_version: None,
            supersedes,
            judgment: None,
        };
        let log = [
            record(1, RecordKind::Judgment, None),
            record(2, RecordKind::Judgment, None),
            record(4, RecordKind::Correction, Some(1)),
            record(5, RecordKind::Retraction, Some(2)),
            record(6, RecordKind::Judgment, None),
            record(9, RecordKind::Correction, Some(4)),
        ];
        let left: Vec<u64> = standing(&log).map(|record| record.sequence).collect();
        assert_eq!(left, [6, 9]);
        assert_eq!(standing(&log[..3]).map(|record| record.sequence).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn marks_become_weights_of_tokens() {
        // "Être là": é and à are one character each, two bytes.
        let mark = |start, end, sign| Mark { response: 0, start, end, sign };
        let marks = [
            mark(0, 4, Sign::Earned),
            mark(2, 4, Sign::Earned),
            mark(5, 7, Sign::Lost),
            mark(6, 7, Sign::Earned),
            Mark { response: 1, start: 0, end: 7, sign: Sign::Lost },
        ];
        let offsets = [(0, 2), (2, 5), (5, 7), (7, 7)];
        assert_eq!(token_weights(&marks, 0, &offsets), [1.0, 2.0 / 3.0, -0.5, 0.0]);
        assert_eq!(token_weights(&[], 0, &offsets), [0.0; 4]);
        let text = [Response::new("Être là")];
        assert!(check_marks(&marks[..4], &text).is_ok());
        assert!(check_marks(&marks, &text).unwrap_err().contains("`marks` 5: is of response 1"));
        assert!(check_marks(&[mark(3, 8, Sign::Lost)], &text).unwrap_err().contains("7 characters"));
        assert!(check_marks(&[mark(3, 3, Sign::Lost)], &text).is_err());
    }
}
