//! What training and the feedback application say to each other: tasks go out, sealed records come back.
//!
//! A [`NewTask`] asks people about answers; an [`Answer`] is what one of them said; a [`SealedRecord`] is an answer that can no
//! longer be undone, with everything training needs to learn from it. [`SealedRecord::judgment`] makes the file format's
//! [`Judgment`] of it, [`token_weights`] a credit map of the words that were marked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;
use crate::judgment::{Choice, Judgment, Response, Side, Verdict, check_rating};
use crate::ranking::{self, Order};
use crate::text::Text;

/// What a rater is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Which of two answers is better?
    Pairwise,
    /// Which of several answers is best, which next, …?
    Ranking,
    /// How good is an answer, by each question of the project?
    Pointwise,
    /// Write an answer.
    Demonstration,
    /// Mend an answer.
    Edit,
}

impl TaskKind {
    /// Answers that a task of this kind shows.
    pub fn responses(self) -> RangeInclusive<usize> {
        match self {
            Self::Pairwise => 2..=2,
            Self::Ranking => 2..=ranking::MOST,
            Self::Pointwise | Self::Edit => 1..=1,
            Self::Demonstration => 0..=0,
        }
    }

    /// That number in words: `2`, or `2 to 9`.
    pub fn responses_in_words(self) -> String {
        in_words(&self.responses())
    }

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairwise => "pairwise",
            Self::Ranking => "ranking",
            Self::Pointwise => "pointwise",
            Self::Demonstration => "demonstration",
            Self::Edit => "edit",
        }
    }
}

/// A question to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Two answers to compare, 2 to 9 to put in order, one to rate or mend, none where people write the answer.
    #[serde(default)]
    pub responses: Vec<NewResponse>,
    /// Updates of the newest policy among the answers: newer ones are asked about first.
    #[serde(default)]
    pub policy_version: u64,
    /// Of a comparison, the chance that the first answer is preferred, as a reward model foretells it; steers the selection, never
    /// shown.
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Of several answers, from the best to the worst.
    Ranking {
        /// In the task's order, the rank of each answer: 1 is the best, equals share one, and the next is one more than how many are
        /// better. Left out where `all_bad`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ranks: Vec<u8>,
        /// None of them will do; nothing is said about which is better.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all_bad: bool,
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Edited {
    /// Which one.
    pub of: Side,
    /// The mended answer.
    pub text: String,
}

/// Points on the scale of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// The words of one answer that a rater marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Place of the answer among the task's responses, from 0.
    pub response: usize,
    /// The marked stretches; they do not overlap.
    pub spans: Vec<Span>,
}

/// A marked stretch of an answer, in characters (Unicode scalar values) from 0; `end` is behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

impl NewTask {
    /// A task of which nothing else is known.
    pub fn new(prompt: Text, responses: Vec<NewResponse>) -> Self {
        Self {
            key: None,
            kind: None,
            prompt,
            responses,
            policy_version: 0,
            predicted: None,
            gold: None,
            calibration: false,
            explanation: None,
            author: None,
            overlap: None,
        }
    }

    /// Checks what the types do not say; `kind` is the project's. The error says what is wrong and the mend, without naming
    /// the place.
    pub fn validate(&self, kind: TaskKind) -> Result<(), String> {
        let kind = self.kind.unwrap_or(kind);
        if self.prompt.is_empty() {
            return Err("`prompt` is empty; give it text".into());
        }
        let (name, wanted, found) = (kind.name(), kind.responses(), self.responses.len());
        if !wanted.contains(&found) {
            let wanted = kind.responses_in_words();
            return Err(format!("a {name} task needs `responses` of length {wanted}, found {found}"));
        }
        for (i, response) in self.responses.iter().enumerate() {
            if response.text.is_empty() {
                return Err(format!("the `text` of response {} is empty; give it an answer", i + 1));
            }
            if response.token_logprobs.iter().flatten().any(|logprob| !logprob.is_finite()) {
                return Err(format!("response {} has a log-probability that is no number", i + 1));
            }
        }
        if self.predicted.is_some_and(|predicted| !(0.0..=1.0).contains(&predicted)) {
            return Err("`predicted` is no probability; give a number from 0 to 1".into());
        }
        if self.overlap == Some(0) {
            return Err("`overlap` is 0; leave it out, or give the number of people who shall answer".into());
        }
        match &self.gold {
            Some(gold) if gold.said.kind() != kind => {
                let other = gold.said.kind().name();
                Err(format!("a {name} task has a `gold` answer of a {other} one; correct it"))
            }
            Some(Answer { said: Said::Ranking { ranks, .. }, .. })
                if ranks.len() > 1 && ranks.iter().all(|&rank| rank == 1) =>
            {
                Err("`gold` calls all answers equal, which asks for nothing; say which is better".into())
            }
            Some(gold) => gold.validate(&self.texts()).map_err(|what| format!("`gold`: {what}")),
            None if self.calibration => Err("a calibration task needs its `gold` answer; give it".into()),
            None => Ok(()),
        }
    }

    fn texts(&self) -> Vec<&Text> {
        self.responses.iter().map(|response| &response.text).collect()
    }
}

impl NewResponse {
    /// An answer of which only the text is known.
    pub fn new(text: impl Into<Text>) -> Self {
        Self { text: text.into(), policy: None, seed: None, sampling: None, token_logprobs: None }
    }
}

impl Said {
    /// The kind of task this answers.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Pairwise { .. } => TaskKind::Pairwise,
            Self::Ranking { .. } => TaskKind::Ranking,
            Self::Pointwise { .. } => TaskKind::Pointwise,
            Self::Demonstration { .. } => TaskKind::Demonstration,
            Self::Edit { .. } => TaskKind::Edit,
        }
    }
}

impl Answer {
    /// Checks what the types do not say against the answers of the task. The error says what is wrong and the mend.
    pub fn validate(&self, responses: &[&Text]) -> Result<(), String> {
        check_marks(&self.marks, responses)?;
        let written = |text: &str, name: &str| match text.trim() {
            "" => Err(format!("the {name} is empty; write it")),
            _ => Ok(()),
        };
        match &self.said {
            Said::Pairwise { strength: Some(strength), .. } if !(1..=4).contains(strength) => {
                Err(format!("`strength` is {strength}; it goes from 1 (negligibly) to 4 (significantly)"))
            }
            Said::Pairwise { edit: Some(edit), .. } => written(&edit.text, "mended answer"),
            Said::Pairwise { .. } => Ok(()),
            Said::Ranking { ranks, all_bad } => ranking::check(ranks, *all_bad, responses.len()),
            Said::Pointwise { scores } if scores.is_empty() => {
                Err("`scores` is empty; answer every question".into())
            }
            Said::Pointwise { scores } => check_scores(scores),
            Said::Demonstration { text } => written(text, "answer"),
            Said::Edit { text } => written(text, "mended answer"),
        }
    }
}

/// A number of answers in words: `2`, or `2 to 9`.
pub(crate) fn in_words(lengths: &RangeInclusive<usize>) -> String {
    let (least, most) = (lengths.start(), lengths.end());
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Every score lies on its scale, and no question is answered twice.
pub(crate) fn check_scores(scores: &[Score]) -> Result<(), String> {
    for (i, score) in scores.iter().enumerate() {
        check_rating(score.value, score.scale)
            .map_err(|what| format!("score `{}`: {what}", score.question))?;
        if scores[..i].iter().any(|earlier| earlier.question == score.question) {
            return Err(format!("the question `{}` is answered twice; keep one answer", score.question));
        }
    }
    Ok(())
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

/// What a reward model foretold of held-out judgments once it had learned from what was sealed: a point of the curve of accuracy
/// over judgments collected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The run, and no other: its folder's name and a mark of its beginning.
    pub run: String,
    /// The last sealed record that was read. With `run` it names the point: told twice, it is one.
    pub cursor: u64,
    /// Judgments that were learned from.
    pub judgments: u64,
    /// Held-out judgments that `accuracy` is over: decided comparisons, or ratings.
    pub held_out: u64,
    /// Share of them that was foretold.
    pub accuracy: f64,
    /// The lower end of its 95% interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Learned {
    /// The longest name of a run, in characters.
    const LONGEST_RUN: usize = 200;

    /// Checks what the types do not say. The error says what is wrong and the mend.
    pub fn validate(&self) -> Result<(), String> {
        let length = self.run.chars().count();
        if self.run.trim().is_empty() || length > Self::LONGEST_RUN {
            return Err(format!("`run` has {length} characters; name the run in 1 to {}", Self::LONGEST_RUN));
        }
        if self.held_out == 0 {
            return Err("`held_out` is 0; an accuracy is over at least one judgment".into());
        }
        let Self { low, accuracy, high, .. } = *self;
        if !(0.0 <= low && low <= accuracy && accuracy <= high && high <= 1.0) {
            return Err(format!(
                "`accuracy` is {accuracy} between {low} and {high}; give shares from 0 to 1 in that order"
            ));
        }
        Ok(())
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

/// The characters of an answer that marks count: its text, or the contents of its messages one after another.
pub fn marked_text(text: &Text) -> String {
    match text {
        Text::Plain(text) => text.clone(),
        Text::Chat(messages) => messages.iter().map(|message| message.content.as_str()).collect(),
    }
}

/// Every stretch lies within its answer, points one way, and no two of an answer overlap.
pub(crate) fn check_marks(marks: &[Marks], responses: &[&Text]) -> Result<(), String> {
    for (i, mark) in marks.iter().enumerate() {
        let place = format!("`marks` {}", i + 1);
        let Some(text) = responses.get(mark.response) else {
            let (wrong, found) = (mark.response, responses.len());
            return Err(format!("{place}: `response` is {wrong}, of {found} counted from 0; correct it"));
        };
        if marks[..i].iter().any(|earlier| earlier.response == mark.response) {
            return Err(format!("{place}: response {} has marks already; put them together", mark.response));
        }
        let length = marked_text(text).chars().count();
        let mut spans = mark.spans.clone();
        spans.sort_unstable_by_key(|span| span.start);
        let mut after = 0;
        for &Span { start, end, sign } in &spans {
            if start >= end || end > length {
                return Err(format!(
                    "{place}: goes from {start} to {end} in an answer of {length} characters; correct it"
                ));
            }
            if start < after {
                return Err(format!("{place}: two stretches overlap at {start}; keep one of them"));
            }
            if sign != 1 && sign != -1 {
                return Err(format!("{place}: `sign` is {sign}; write 1 (earned it) or -1 (lost it)"));
            }
            after = end;
        }
    }
    Ok(())
}

/// One weight per token from a person's marks, as a credit map: the share of the token's characters that earned the
/// verdict less the share that lost it, in [−1, 1]. `offsets` are each token's first character and the one behind its
/// last, in characters of [`marked_text`]; a token without characters (an end token) weighs 0.
pub fn token_weights(marks: &[Marks], response: usize, offsets: &[(usize, usize)]) -> Vec<f32> {
    let spans: Vec<&Span> =
        marks.iter().filter(|mark| mark.response == response).flat_map(|mark| &mark.spans).collect();
    let weight = |&(start, end): &(usize, usize)| {
        let share = |span: &&Span| {
            let shared = span.end.min(end).saturating_sub(span.start.max(start));
            f32::from(span.sign) * shared as f32
        };
        spans.iter().map(share).sum::<f32>() / end.saturating_sub(start).max(1) as f32
    };
    offsets.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tasks_round_trip_and_say_what_is_wrong() {
        let value = json!({"key":"7","prompt":"p","responses":[
            {"text":"x","policy":"run/10","seed":3,"sampling":{"temperature":0.5},"token_logprobs":[-0.5,-1.0]},
            {"text":"y"}],"policy_version":10,"predicted":0.5,
            "gold":{"said":{"pairwise":{"choice":"a"}}},"calibration":true,"explanation":"e","overlap":3});
        let task: NewTask = serde_json::from_value(value.clone()).unwrap();
        task.validate(TaskKind::Pairwise).unwrap();
        assert_eq!(serde_json::to_value(&task).unwrap(), value);
        assert!(task.validate(TaskKind::Edit).unwrap_err().contains("length 1, found 2"));
        for (key, wrong, wanted) in [
            ("responses", json!([]), "length 2, found 0"),
            ("responses", json!([{"text":"x"},{"text":""}]), "response 2 is empty"),
            ("gold", json!({"said":{"edit":{"text":"z"}}}), "of a edit one"),
            ("gold", json!({"said":{"pairwise":{"choice":"a","strength":5}}}), "`gold`: `strength` is 5"),
            ("gold", json!(null), "needs its `gold`"),
            ("overlap", json!(0), "`overlap` is 0"),
            ("predicted", json!(1.5), "`predicted`"),
            ("prompt", json!([]), "`prompt` is empty"),
        ] {
            let mut value = value.clone();
            value[key] = wrong;
            let task: NewTask = serde_json::from_value(value).unwrap();
            let what = task.validate(TaskKind::Pairwise).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
    }

    #[test]
    fn rankings_round_trip() {
        for said in [json!({"ranking":{"ranks":[1,2,2]}}), json!({"ranking":{"all_bad":true}})] {
            let task = json!({"kind":"ranking","prompt":"p","policy_version":0,"calibration":false,
                "responses":[{"text":"x"},{"text":"y"},{"text":"z"}],"gold":{"said":said}});
            let read: NewTask = serde_json::from_value(task.clone()).unwrap();
            read.validate(TaskKind::Pairwise).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), task);
            let mut two = read.clone();
            two.responses.pop();
            assert_eq!(
                two.validate(TaskKind::Pairwise).is_ok(),
                task["gold"]["said"]["ranking"]["ranks"].is_null()
            );
            let equal = Said::Ranking { ranks: vec![1, 1, 1], all_bad: false };
            let gold = Some(Answer { said: equal, rationale: None, flags: vec![], marks: vec![] });
            let equal = NewTask { gold, ..read.clone() };
            assert!(equal.validate(TaskKind::Pairwise).unwrap_err().contains("asks for nothing"));
            two.responses.pop();
            assert!(two.validate(TaskKind::Pairwise).unwrap_err().contains("length 2 to 9, found 1"));
        }
    }

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

    #[test]
    fn a_point_of_the_curve_says_what_is_wrong() {
        let good = json!({"run": "reward-1f", "cursor": 9, "judgments": 8, "held_out": 2, "accuracy": 0.5, "low": 0.1, "high": 0.9});
        let read = |value: Value| serde_json::from_value::<Learned>(value).unwrap().validate();
        read(good.clone()).unwrap();
        for (key, wrong, wanted) in [
            ("run", json!(" "), "name the run"),
            ("held_out", json!(0), "at least one"),
            ("accuracy", json!(0.95), "in that order"),
            ("low", json!(-0.1), "from 0 to 1"),
            ("high", json!(1.1), "from 0 to 1"),
        ] {
            let mut value = good.clone();
            value[key] = wrong;
            assert!(read(value).unwrap_err().contains(wanted), "{key}");
        }
    }

    #[test]
    fn marks_become_weights_of_tokens() {
        let span = |start, end, sign| Span { start, end, sign };
        let marks = |response, spans: &[Span]| Marks { response, spans: spans.to_vec() };
        // Ê and à are one character each, two bytes.
        let text = Text::from("Être là");
        let both = [marks(0, &[span(5, 6, -1), span(0, 4, 1)]), marks(1, &[span(0, 7, -1)])];
        let offsets = [(0, 2), (2, 5), (5, 7), (7, 7)];
        assert_eq!(token_weights(&both, 0, &offsets), [1.0, 2.0 / 3.0, -0.5, 0.0]);
        assert_eq!(token_weights(&[], 0, &offsets), [0.0; 4]);
        assert!(check_marks(&both, &[&text, &text]).is_ok());
        for (spans, wanted) in [
            (vec![span(3, 8, 1)], "7 characters"),
            (vec![span(3, 3, 1)], "7 characters"),
            (vec![span(0, 2, 2)], "`sign` is 2"),
            (vec![span(2, 4, 1), span(0, 3, 1)], "overlap at 2"),
        ] {
            let what = check_marks(&[marks(0, &spans)], &[&text]).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
        assert!(check_marks(&both, &[&text]).unwrap_err().contains("`response` is 1, of 1"));
        assert!(check_marks(&[marks(0, &[]), marks(0, &[])], &[&text]).is_err());
    }
}
