//! The sealed records of the log, which of them hold, and the judgments they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Said};
use crate::clock;
use crate::judgment::{Judgment, Response, Verdict};
use crate::ranking::Order;
use crate::text::Text;

/// Why a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A rater answered.
    Judgment,
    /// A rater changed an answer; it takes the place of the earlier record of the same [`SealedRecord::answer_id`].
    Correction,
    /// A reviewer decided between raters; it outweighs them.
    Adjudication,
    /// An answer was taken back after it was sealed.
    Retraction,
}

/// A record of the log that can no longer be undone. Among records of one `answer_id` the last one holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SealedRecord {
    /// Place in the log: the cursor of whoever reads it. Grows; has gaps.
    pub seq: u64,
    /// Names the record.
    pub id: String,
    /// Names the answer of which this record is a version: the id of its first record.
    pub answer_id: String,
    /// Why it was written.
    pub record: RecordKind,
    /// The project.
    pub project: String,
    /// The task.
    pub task: String,
    /// The `key` of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The `policy_version` of the task.
    pub policy_version: u64,
    /// The rater's pseudonym.
    pub annotator: String,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The guidelines it was made under.
    pub guideline_version: u32,
    /// Milliseconds the rater looked at the task.
    pub active_ms: u64,
    /// The order on the screen, from left to right or from top to bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Order>,
    /// Chance with which the task was chosen among `candidates` that were open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// A second, swapped look of the same rater at the same task: for consistency, not for training.
    #[serde(default)]
    pub repeat: bool,
    /// A task with a known answer: for the rater's accuracy, not for training.
    #[serde(default)]
    pub gold: bool,
    /// What was asked.
    pub prompt: Text,
    /// The answers judged, as in the task.
    pub responses: Vec<Response>,
    /// What the rater said; none of a retraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

impl SealedRecord {
    /// The record as the file format's judgment; none of a retraction. Of several questions the first is the rating, the
    /// others are [`Judgment::ratings`].
    pub fn judgment(&self) -> Option<Judgment> {
        let answer = self.answer.as_ref()?;
        let mut responses = self.responses.clone();
        let (mut ratings, mut edited) = (Vec::new(), None);
        let verdict = match &answer.said {
            Said::Pairwise { choice, strength, edit } => {
                edited.clone_from(edit);
                Verdict::Comparison { choice: *choice, strength: *strength, shown: self.shown }
            }
            Said::Ranking { ranks, all_bad } => {
                Verdict::Ranking { ranks: ranks.clone(), all_bad: *all_bad, shown: self.shown }
            }
            Said::Pointwise { scores } => {
                let (first, others) = scores.split_first()?;
                ratings = others.to_vec();
                Verdict::Rating { rating: first.value, scale: first.scale }
            }
            Said::Demonstration { text } => {
                responses = vec![Response::new(text.as_str())];
                Verdict::Demonstration
            }
            Said::Edit { text } => {
                responses.push(Response::new(text.as_str()));
                Verdict::Edit
            }
        };
        Some(Judgment {
            id: Some(self.id.clone()),
            annotator: Some(self.annotator.clone()),
            at: Some(clock::rfc3339(self.at_ms as f64 / 1000.0)),
            rationale: answer.rationale.clone(),
            flags: answer.flags.clone(),
            marks: answer.marks.clone(),
            ratings,
            edited,
            guideline_version: Some(self.guideline_version),
            active_ms: Some(self.active_ms),
            ..Judgment::new(verdict, self.prompt.clone(), responses)
        })
    }
}

/// The records that hold: of each answer the last, if that is no retraction. In the order of the log.
pub fn standing(records: &[SealedRecord]) -> Vec<&SealedRecord> {
    let last: BTreeMap<&str, u64> = records.iter().map(|record| (&*record.answer_id, record.seq)).collect();
    let holds = |record: &&SealedRecord| {
        last.get(&*record.answer_id) == Some(&record.seq) && record.record != RecordKind::Retraction
    };
    records.iter().filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Choice, Edited, Side};
    use crate::judgment::Flag;
    use crate::rating::Score;

    fn record(seq: u64, answer_id: &str, record: RecordKind, said: Option<Said>) -> SealedRecord {
        let answer = said.map(|said| Answer { said, rationale: None, flags: vec![Flag::Pii], marks: vec![] });
        SealedRecord {
            seq,
            id: format!("r{seq}"),
            answer_id: answer_id.into(),
            record,
            project: "p".into(),
            task: "t".into(),
            key: None,
            policy_version: 0,
            annotator: "a7".into(),
            at_ms: 1_795_461_099_900,
            guideline_version: 2,
            active_ms: 900,
            shown: None,
            propensity: None,
            repeat: false,
            gold: false,
            prompt: "q".into(),
            responses: vec![Response::new("x"), Response::new("y")],
            answer,
        }
    }

    #[test]
    fn corrections_replace_and_retractions_take_back() {
        let log = [
            record(1, "r1", RecordKind::Judgment, None),
            record(2, "r2", RecordKind::Judgment, None),
            record(4, "r1", RecordKind::Correction, None),
            record(5, "r2", RecordKind::Retraction, None),
            record(6, "r6", RecordKind::Judgment, None),
            record(9, "r1", RecordKind::Correction, None),
        ];
        let left = |log| standing(log).iter().map(|record| record.seq).collect::<Vec<_>>();
        assert_eq!((left(&log), left(&log[..3])), (vec![6, 9], vec![2, 4]));
    }

    #[test]
    fn records_become_judgments_of_files() {
        let edit = Some(Edited { of: Side::B, text: "z".into() });
        let said = Said::Pairwise { choice: Choice::B, strength: Some(4), edit: edit.clone() };
        let judgment = record(1, "r1", RecordKind::Judgment, Some(said)).judgment().unwrap();
        judgment.validate().unwrap();
        assert_eq!((judgment.edited.clone(), judgment.flags.clone()), (edit, vec![Flag::Pii]));
        assert_eq!(judgment.at.as_deref(), Some("2026-11-23T19:11:39Z"));
        assert_eq!(judgment.comparisons().len(), 3);
        let score = |question: &str, value| Score { question: question.into(), value, scale: (1.0, 5.0) };
        let scores = vec![score("overall", 4.0), score("polite", 2.0)];
        let mut rated = record(1, "r1", RecordKind::Judgment, Some(Said::Pointwise { scores }));
        rated.responses.pop();
        let judgment = rated.judgment().unwrap();
        judgment.validate().unwrap();
        assert!(matches!(judgment.verdict, Verdict::Rating { rating: 4.0, scale: (1.0, 5.0) }));
        assert_eq!(judgment.ratings, [score("polite", 2.0)]);
        rated.answer.as_mut().unwrap().said = Said::Edit { text: "z".into() };
        assert_eq!(rated.judgment().unwrap().demonstration().unwrap().response, "z".into());
        let said = Said::Ranking { ranks: vec![2, 1], all_bad: false };
        let mut ranked = record(1, "r1", RecordKind::Judgment, Some(said));
        ranked.shown = Some(Order::plain(2).reversed());
        let judgment = ranked.judgment().unwrap();
        judgment.validate().unwrap();
        assert_eq!(judgment.ranked().unwrap().ranks, [2, 1]);
        assert!(matches!(judgment.verdict, Verdict::Ranking { shown, .. } if shown == ranked.shown));
        assert_eq!(record(1, "r1", RecordKind::Retraction, None).judgment(), None);
    }
}
