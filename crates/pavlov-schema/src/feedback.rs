//! What training and the feedback application say to each other: tasks go out, sealed records come back.
//!
//! A [`NewTask`] asks people about answers; an [`Answer`] is what one of them said; a [`SealedRecord`] is an answer that can no
//! longer be undone, with everything training needs to learn from it. [`SealedRecord::judgments`] makes the file format's
//! [`Judgment`]s of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;
use crate::judgment::{Choice, Judgment, Response, Side, Verdict};
use crate::text::Text;

/// What a rater is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Which of two answers is better?
    Pairwise,
    /// How good is an answer, by each question of the project?
    Pointwise,
    /// Write an answer.
    Demonstration,
    /// Mend an answer.
    Edit,
}

impl TaskKind {
    /// Answers that a task of this kind shows.
    pub fn responses(self) -> usize {
        match self {
            Self::Pairwise => 2,
            Self::Pointwise | Self::Edit => 1,
            Self::Demonstration => 0,
        }
    }

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairwise => "pairwise",
            Self::Pointwise => "pointwise",
            Self::Demonstration => "demonstration",
            Self::Edit => "edit",
        }
    }
}

/// A question to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The sender's name of the task: the same key sent again makes no second task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What people are to do, where it is not what the project asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TaskKind>,
    /// What was asked of the policies.
    pub prompt: Text,
    /// Two answers to compare, one to rate or mend, none where people write the answer.
    #[serde(default)]
    pub responses: Vec<NewResponse>,
    /// Updates of the newest policy among the answers: newer ones are asked about first.
    #[serde(default)]
    pub policy_version: u64,
    /// Chance that the first answer is preferred, as a reward model foretells it; steers the selection, never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// The right answer of a gold task; such tasks measure raters and teach nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<Answer>,
    /// A gold task of the calibration round, with `explanation` shown after it.
    #[serde(default)]
    pub calibration: bool,
    /// Why the gold answer is right, for the calibration round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// The annotator who wrote one of the answers: nobody judges what they wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// People who shall answer it, where the project's plan is not to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<u32>,
}

/// An answer of a policy, as it was sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewResponse {
    /// The answer.
    pub text: Text,
    /// The policy that wrote it, `run/step` or the hash of a checkpoint. Never shown to raters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The seed it was sampled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How it was sampled: temperature and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Value>,
    /// Per token, the log-probability under the distribution it was drawn from, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_logprobs: Option<Vec<f32>>,
}

/// What one rater said about one task, in the task's own order of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The verdict.
    pub said: Said,
    /// Why, in the rater's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// What is wrong beyond quality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// Words that earned or lost it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Marks>,
}

/// The verdict of an [`Answer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// Of two answers.
    Pairwise {
        /// `a` is the first response of the task, whatever the order on the screen.
        choice: Choice,
        /// How clearly, from 1 (negligibly) to 4 (significantly).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strength: Option<u8>,
        /// One of the answers, mended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edit: Option<Edited>,
    },
    /// Of one answer.
    Pointwise {
        /// One score for each question of the project, in its order.
        scores: Vec<Score>,
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

/// An answer of a comparison that the rater mended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edited {
    /// Which one.
    pub of: Side,
    /// The mended answer.
    pub text: String,
}

/// Points on the scale of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The name of the question.
    pub question: String,
    /// Points.
    pub value: f64,
    /// The lowest and the highest possible value.
    pub scale: (f64, f64),
}

/// What can be wrong with a task beyond quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// The words of one answer that a rater marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Place of the answer among the task's responses, from 0.
    pub response: usize,
    /// The marked stretches; they do not overlap.
    pub spans: Vec<Span>,
}

/// A marked stretch of an answer, in characters (Unicode scalar values) from 0; `end` is behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first character.
    pub start: usize,
    /// Behind the last character.
    pub end: usize,
    /// 1: it earned the verdict; −1: it lost it.
    pub sign: i8,
}

/// Why a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// [`NewTask::key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// [`NewTask::policy_version`].
    pub policy_version: u64,
    /// The rater's pseudonym.
    pub annotator: String,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The guidelines it was made under.
    pub guideline_version: u32,
    /// Milliseconds the rater looked at the task.
    pub active_ms: u64,
    /// The order on the screen, from left to right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<[Side; 2]>,
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
    /// The record as the file format's judgments: one for each question of a rating, one more for an edit made beside a
    /// comparison, none of a retraction. Flags and marks stay in [`Self::answer`].
    pub fn judgments(&self) -> Vec<Judgment> {
        let Some(answer) = &self.answer else { return Vec::new() };
        let judgment = |verdict, responses: Vec<Response>, suffix: &str| Judgment {
            id: Some(format!("{}{suffix}", self.id)),
            verdict,
            prompt: self.prompt.clone(),
            responses,
            annotator: Some(self.annotator.clone()),
            at: Some(clock::rfc3339(self.at_ms as f64 / 1000.0)),
            rationale: answer.rationale.clone(),
        };
        match &answer.said {
            Said::Pairwise { choice, strength, edit } => {
                let verdict = Verdict::Comparison { choice: *choice, strength: *strength, shown: self.shown };
                let mut judgments = vec![judgment(verdict, self.responses.clone(), "")];
                if let Some(Edited { of, text }) = edit
                    && let Some(original) = self.responses.get(*of as usize)
                {
                    judgments.push(judgment(Verdict::Edit, vec![original.clone(), written(text)], "/edit"));
                }
                judgments
            }
            Said::Pointwise { scores } => {
                let one = |score: &Score| {
                    let verdict = Verdict::Rating { rating: score.value, scale: score.scale };
                    let suffix =
                        if scores.len() == 1 { String::new() } else { format!("/{}", score.question) };
                    judgment(verdict, self.responses.clone(), &suffix)
                };
                scores.iter().map(one).collect()
            }
            Said::Demonstration { text } => {
                vec![judgment(Verdict::Demonstration, vec![written(text)], "")]
            }
            Said::Edit { text } => {
                let responses = self.responses.iter().cloned().chain([written(text)]).collect();
                vec![judgment(Verdict::Edit, responses, "")]
            }
        }
    }
}

/// A response that a rater wrote.
fn written(text: &str) -> Response {
    Response { id: None, text: text.into(), policy: None, seed: None }
}
