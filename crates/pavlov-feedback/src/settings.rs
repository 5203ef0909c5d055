//! The settings of a project: what raters see and how the queue behaves.

use pavlov_schema::feedback::{Said, TaskKind};
use pavlov_schema::rating::Score;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Everything a manager decides about a project. Kept as JSON; absent keys have their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the settings page, independent of the others"
)]
pub struct Settings {
    /// What raters are asked where a task does not say.
    pub kind: TaskKind,
    /// The questions of pointwise tasks.
    pub questions: Vec<Question>,
    /// Whether comparisons ask how clearly one is better.
    pub strength: bool,
    /// Whether raters may write why.
    pub rationale: bool,
    /// Whether raters may mark words.
    pub marks: bool,
    /// Whether comparisons offer to mend an answer.
    pub edits: bool,
    /// Whether colleagues' answers stay hidden until one's own is submitted.
    pub blind_colleagues: bool,
    /// Seconds in which an answer may be undone; then it is sealed and training sees it.
    pub undo_window_s: u32,
    /// The shortest lease in seconds; it is three times the median active time where that is longer.
    pub lease_s: u32,
    /// People who answer a task outside the shared part.
    pub overlap: u32,
    /// Share of tasks that `shared_overlap` people answer, chosen by a hash of the task.
    pub shared_share: f64,
    /// People who answer a task of the shared part.
    pub shared_overlap: u32,
    /// People who are asked at most where they disagree.
    pub max_overlap: u32,
    /// Whether a reviewer decides where people still disagree at `max_overlap`.
    pub adjudicate: bool,
    /// Share of served tasks whose right answer is known, served like any other.
    pub gold_share: f64,
    /// Tasks of the calibration round before the first live task.
    pub calibration: u32,
    /// Share of the calibration round that must be right; below it the rater is paused for a manager to look at.
    pub calibration_pass: f64,
    /// Share of served comparisons and rankings that the same rater gets again, from the other end, for consistency.
    pub repeat_share: f64,
    /// Tasks a rater answers before one may come again.
    pub repeat_after: u32,
    /// How live tasks are chosen.
    pub selection: Selection,
    /// Share of live tasks chosen uniformly under [`Selection::Information`]; at least 0.2, for honest statistics.
    pub uniform_share: f64,
    /// Open tasks at most: more are refused until some are answered.
    pub max_open_tasks: u64,
    /// Updates of the policy after which an open task is withdrawn.
    pub max_staleness: Option<u64>,
    /// Promote a task to gold when this many people answered it alike; 0: never.
    pub promote_unanimous: u32,
    /// Whether answers that name the model that wrote them are held back for a manager.
    pub hold_leaks: bool,
    /// Active milliseconds under which an answer is marked as hasty; nothing is excluded for it.
    pub hasty_ms: u64,
}

/// How the queue chooses among open tasks. The newest policy's come first under all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// In the order they came.
    InOrder,
    /// At random.
    Uniform,
    /// Comparisons whose outcome is least certain more often, with recorded propensities. A ranking counts as wholly uncertain.
    Information,
}

/// One question about one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name in files: letters, digits, `_`.
    pub name: String,
    /// What is asked.
    pub text: String,
    /// How it is answered.
    pub scale: Scale,
    /// What the lowest and the highest point mean.
    #[serde(default)]
    pub anchors: [String; 2],
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Down (0) or up (1).
    Thumbs,
    /// 1 to 5.
    Likert5,
    /// 1 to 7.
    Likert7,
}

impl Scale {
    /// The lowest and the highest value.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Thumbs => (0.0, 1.0),
            Self::Likert5 => (1.0, 5.0),
            Self::Likert7 => (1.0, 7.0),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: TaskKind::Pairwise,
            questions: vec![Question {
                name: "quality".into(),
                text: "How good is this answer?".into(),
                scale: Scale::Likert5,
                anchors: ["useless".into(), "excellent".into()],
            }],
            strength: true,
            rationale: true,
            marks: true,
            edits: true,
            blind_colleagues: true,
            undo_window_s: 60,
            lease_s: 300,
            overlap: 1,
            shared_share: 0.15,
            shared_overlap: 3,
            max_overlap: 5,
            adjudicate: true,
            gold_share: 0.05,
            calibration: 0,
            calibration_pass: 0.0,
            repeat_share: 0.03,
            repeat_after: 20,
            selection: Selection::Uniform,
            uniform_share: 0.2,
            max_open_tasks: 10_000,
            max_staleness: None,
            promote_unanimous: 0,
            hold_leaks: true,
            hasty_ms: 1_000,
        }
    }
}

impl Settings {
    /// Checks what the types do not say; the error names the key and the mend.
    pub fn validate(&self) -> Result<()> {
        let shares = [
            ("shared_share", self.shared_share),
            ("gold_share", self.gold_share),
            ("calibration_pass", self.calibration_pass),
            ("repeat_share", self.repeat_share),
            ("uniform_share", self.uniform_share),
        ];
        for (key, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(format!("`{key}` is {share}; give a share from 0 to 1")));
            }
        }
        let ranges = [
            ("undo_window_s", u64::from(self.undo_window_s), 0, 86_400),
            ("lease_s", u64::from(self.lease_s), 1, 86_400),
            ("overlap", u64::from(self.overlap), 1, 100),
            ("shared_overlap", u64::from(self.shared_overlap), 1, 100),
            ("max_overlap", u64::from(self.max_overlap), 1, 100),
            ("calibration", u64::from(self.calibration), 0, 1000),
            ("max_open_tasks", self.max_open_tasks, 1, 10_000_000),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(Error::invalid(format!("`{key}` is {value}; give {least} to {most}")));
            }
        }
        if self.selection == Selection::Information && self.uniform_share < 0.2 {
            let what = "`uniform_share` must be at least 0.2 with selection `information`: agreement, bias and strengths \
                        are estimated from the uniform part";
            return Err(Error::invalid(what));
        }
        self.validate_questions()
    }

    fn validate_questions(&self) -> Result<()> {
        if self.kind == TaskKind::Pointwise && self.questions.is_empty() {
            return Err(Error::invalid("`questions` is empty; a pointwise project asks at least one"));
        }
        if self.questions.len() > 20 {
            return Err(Error::invalid("`questions` has more than 20; nobody answers them with care"));
        }
        for (i, question) in self.questions.iter().enumerate() {
            let name = &question.name;
            let plain = !name.is_empty()
                && name.len() <= 40
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !plain {
                let mend = "use letters, digits and _, at most 40";
                return Err(Error::invalid(format!("a question is named \"{name}\"; {mend}")));
            }
            if self.questions[..i].iter().any(|other| other.name == *name) {
                return Err(Error::invalid(format!("two questions are named \"{name}\"; rename one")));
            }
        }
        Ok(())
    }

    /// Checks the scores of a pointwise answer against the questions.
    pub fn check_scores(&self, said: &Said) -> Result<()> {
        let Said::Pointwise { scores } = said else { return Ok(()) };
        let fits = |(score, question): (&Score, &Question)| {
            let (low, high) = question.scale.range();
            score.question == question.name
                && score.scale == (low, high)
                && (low..=high).contains(&score.value)
                && score.value.fract() == 0.0
        };
        if scores.len() == self.questions.len() && scores.iter().zip(&self.questions).all(fits) {
            return Ok(());
        }
        let names: Vec<&str> = self.questions.iter().map(|question| question.name.as_str()).collect();
        Err(Error::invalid(format!(
            "`scores` must have one whole number on its scale for each of {}, in this order",
            names.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_round_trip() {
        let settings = Settings::default();
        settings.validate().unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), settings);
        assert!(serde_json::from_str::<Settings>(r#"{"overlapp": 2}"#).is_err());
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert!(wrong(|s| s.gold_share = 1.5).contains("`gold_share` is 1.5"));
        assert!(wrong(|s| s.gold_share = f64::NAN).contains("gold_share"));
        assert!(wrong(|s| s.overlap = 0).contains("`overlap` is 0"));
        assert!(wrong(|s| s.questions[0].name = "a b".into()).contains("a b"));
        assert!(wrong(|s| s.questions.push(s.questions[0].clone())).contains("two questions"));
        let information = |s: &mut Settings| (s.selection, s.uniform_share) = (Selection::Information, 0.1);
        assert!(wrong(information).contains("0.2"));
    }
}
