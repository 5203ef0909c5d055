//! What the ledger of a run says.

use serde::{Deserialize, Serialize};

use crate::Estimate;

/// The name under which a ledger is kept in a run.
pub const NAME: &str = "ledger";

/// What was given as a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lesson {
    /// An answer to imitate.
    Demonstration,
    /// A verdict which of two answers is better.
    Comparison,
    /// Points for one answer.
    Rating,
    /// A reward for an answer of the policy's own.
    Reward,
}

impl Lesson {
    /// One of them, in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Demonstration => "demonstration",
            Self::Comparison => "comparison",
            Self::Rating => "rating",
            Self::Reward => "rewarded answer",
        }
    }
}

/// How much the lessons of a run taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The run, as it was named.
    pub run: String,
    /// What its lessons were.
    pub kind: Lesson,
    /// Lessons, each counted the first time it was given.
    pub lessons: usize,
    /// What a person or program had to say: tokens of demonstrations, else one a verdict.
    pub labels: usize,
    /// Seconds that the updates took.
    pub seconds: f64,
    /// The most that the lessons could teach.
    pub offered: Offered,
    /// How much of it a step could use.
    pub usable: Usable,
    /// What stayed, beyond the lessons themselves.
    pub absorbed: Option<Absorbed>,
    /// What became of answers that no lesson showed.
    pub gain: Option<Gain>,
    /// What else moved.
    pub cost: Cost,
    /// What was not measured, and what would measure it.
    pub missing: Vec<String>,
}

/// The ceiling, in bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    /// Over all lessons; none where the lessons' loss is no code length.
    pub bits: Option<Estimate>,
    /// A lesson.
    pub per_lesson: Option<Estimate>,
    /// Most that a comparison can carry, given how often two people agree on one; where two judged the same pair.
    pub capacity: Option<Estimate>,
}

/// How much of an update is signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usable {
    /// Lessons at which signal and noise of the gradient are equally long.
    pub noise_scale: Option<Estimate>,
    /// The same in the metric that Adam steps in.
    pub noise_scale_adam: Option<Estimate>,
    /// Share of groups of answers that earned all the same and teach nothing.
    pub zero_spread: Option<Estimate>,
    /// Σ (1 − P)² a lesson: the push on the logits, from forward passes alone; of answers, times their squared credit.
    pub energy: Option<Estimate>,
    /// How evenly lessons push: 1 alike, near 0 where few do all.
    pub participation: Option<f64>,
}

/// By which probabilities lessons are coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodedBy {
    /// Those of the model that learns: of shown tokens, or of verdicts by a reward model.
    #[default]
    Itself,
    /// Those that log π/π_start gives the order of a group of answers ([`super::verdicts`]).
    LogRatio,
}

impl CodedBy {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Itself => "the model itself",
            Self::LogRatio => "log π/π_start",
        }
    }
}

/// Bits that stayed: code lengths before each lesson, above what lessons cost at the end that were not learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Absorbed {
    /// Over all lessons.
    pub bits: Estimate,
    /// A lesson.
    pub per_lesson: f64,
    /// A label.
    pub per_label: f64,
    /// A second of updates.
    pub per_second: f64,
    /// By which probabilities.
    #[serde(default)]
    pub coded_by: CodedBy,
    /// Of rewards: bits of the verdicts that the policy foretold before it learned from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foretold: Option<Estimate>,
}

impl Absorbed {
    /// So many bits of the lessons of a ledger.
    pub(super) fn of(bits: Estimate, ledger: &Ledger, coded_by: CodedBy) -> Self {
        Self {
            per_lesson: bits.value / ledger.lessons.max(1) as f64,
            per_label: bits.value / ledger.labels.max(1) as f64,
            per_second: bits.value / ledger.seconds,
            bits,
            coded_by,
            foretold: None,
        }
    }
}

/// Held-out answers, before and after, on the same rows: what compares one kind of lesson with another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The file of the answers.
    pub data: String,
    /// Bits of an answer under the model that the run began with.
    pub before: Estimate,
    /// Under the model that it made.
    pub after: Estimate,
    /// By how much an answer got cheaper.
    pub bits: Estimate,
    /// Change of its log-odds.
    pub log_odds: Estimate,
    /// `bits` a thousand lessons.
    pub per_thousand: f64,
    /// `bits` a second of updates.
    pub per_second: f64,
}

/// What else moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// KL(π‖π_start) of an answer, in bits: a distance, no information.
    pub kl: Option<Estimate>,
    /// Bits of gain for each bit of KL; where both are known.
    pub gain_per_kl: Option<f64>,
    /// Right answers to questions that no lesson touched, before.
    pub elsewhere_before: Option<Estimate>,
    /// After.
    pub elsewhere_after: Option<Estimate>,
    /// The change, question by question.
    pub elsewhere: Option<Estimate>,
}

impl Ledger {
    /// The finding in plain words, with signs.
    pub fn sentence(&self) -> String {
        let (lessons, kind) = (self.lessons, self.kind.word());
        let plural = if lessons == 1 { "" } else { "s" };
        let mut parts = Vec::new();
        parts.push(match (&self.offered.bits, &self.offered.per_lesson) {
            (Some(bits), Some(each)) => format!(
                "{lessons} {kind}{plural} offered at most {} bits, {} each",
                figure(bits.value),
                figure(each.value)
            ),
            _ => {
                format!("{lessons} {kind}{plural} of a loss that is no code length: bits offered are unknown")
            }
        });
        if let Some(Absorbed { bits, coded_by, foretold, .. }) = &self.absorbed {
            let share = self.offered.bits.map(|offered| 100.0 * bits.value / offered.value);
            parts.push(if bits.stands_out() && bits.value > 0.0 {
                let share = share.map(|share| format!(" ({share:.0}%)")).unwrap_or_default();
                let way = match coded_by {
                    CodedBy::Itself => "",
                    CodedBy::LogRatio => ", as far as log π/π_start tells",
                };
                format!(
                    "{} of them{share} were absorbed beyond the lessons themselves{way}",
                    figure(bits.value)
                )
            } else {
                "what was absorbed is not above the noise".to_owned()
            });
            if let Some(foretold) = foretold.filter(|foretold| foretold.stands_out() && foretold.value > 0.0)
            {
                parts.push(format!("{} were foretold before they were given", figure(foretold.value)));
            }
        }
        if let Some(Gain { bits, .. }) = &self.gain {
            parts.push(match (bits.stands_out(), bits.value > 0.0) {
                (true, true) => format!("a held-out answer became {} bits cheaper", figure(bits.value)),
                (true, false) => format!("a held-out answer became {} bits dearer", figure(-bits.value)),
                (false, _) => "held-out answers changed by no more than noise".to_owned(),
            });
        }
        if let Some(kl) = &self.cost.kl {
            parts.push(format!("an answer lies {} bits (KL) from the model it began with", figure(kl.value)));
        }
        if let Some(change) = &self.cost.elsewhere {
            let points = 100.0 * change.value.abs();
            parts.push(match (change.stands_out(), change.value > 0.0) {
                (true, true) => {
                    format!("questions no lesson touched are answered right {points:.1} points more often")
                }
                (true, false) => {
                    format!("questions no lesson touched are answered right {points:.1} points LESS often")
                }
                (false, _) => "questions no lesson touched are answered as before, within noise".to_owned(),
            });
        }
        format!("{}.", parts.join("; "))
    }
}

/// A number with three figures.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    let digits =
        if size >= 100.0 || size == 0.0 { 0 } else { (2 - size.log10().floor() as i32).clamp(0, 6) as usize };
    format!("{value:.digits$}")
}
