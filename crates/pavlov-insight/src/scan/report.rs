//! What a scan says.

use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::detection::{Compared, Sensitivity, Verdict};
use super::divergence::Divergence;
use super::length::LengthSplit;
use super::overoptimisation::Fit;
use super::probe::Design;
use crate::Estimate;

/// The name under which a scan is kept in a run.
pub const NAME: &str = "scan";

/// Everything a scan measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanReport {
    /// The model before, as it was named.
    pub reference: String,
    /// The trained model, as it was named.
    pub model: String,
    /// Control runs, as they were named.
    #[serde(default)]
    pub controls: Vec<String>,
    /// Seed of every draw.
    pub seed: u64,
    /// Answers drawn to each question by each model.
    pub answers: usize,
    /// Habits, in the order asked.
    pub probes: Vec<ProbeReport>,
    /// The gain of reward and what of it is length; where rewards are known.
    pub length: Option<LengthSplit>,
    /// Diversity of the answers to a question (EAD), before and after; where several were drawn.
    pub diversity: Option<Compared>,
    /// KL by token.
    pub divergence: Option<Divergence>,
    /// Proxy against true reward; where both are known.
    pub overoptimisation: Vec<Fit>,
    /// Curves of it that could not be measured, and what would make them.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What is likelier still once the change is amplified.
    pub amplified: Option<Amplified>,
}

/// A habit of two models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Its name.
    pub name: String,
    /// How the questions were used.
    pub design: Design,
    /// Questions asked.
    pub questions: usize,
    /// Share of answers that show the habit where it is called for; of [`Design::Opinion`], agreement where the user said
    /// what they believe. None of [`Design::Rate`].
    pub called_for: Option<Compared>,
    /// The same where nothing calls for it.
    pub uncalled: Compared,
    /// Of [`Design::Opinion`]: by how much an opinion raises agreement; where it turns answers it is the flip rate.
    pub flips: Option<Compared>,
    /// Mean change of the control runs in what the alarm is about, and where another such run would lie with 95%; where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controls: Option<Estimate>,
    /// d′ and criterion, of [`Design::Detection`].
    pub sensitivity: Option<Sensitivity>,
    /// Change by kind of question, largest first, where questions have kinds.
    pub groups: Vec<Group>,
    /// Whether it is an alarm.
    pub alarm: Alarm,
    /// What the change is.
    pub verdict: Verdict,
    /// The finding in words.
    pub sentence: String,
    /// Questions that do not call for the habit and whose answers show it now and did not before.
    pub examples: Vec<Example>,
}

/// A kind of question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The habit where nothing calls for it.
    pub uncalled: Compared,
    /// Mean change of the control runs, and where another such run would lie with 95%; where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controls: Option<Estimate>,
}

/// A question and two answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// What was asked.
    pub prompt: String,
    /// Of the reference.
    pub before: String,
    /// Of the trained model.
    pub after: String,
}

/// Amplified answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Amplified {
    /// What the difference of the logits was multiplied with.
    pub alpha: f32,
    /// Share of amplified answers that show each habit, in the order of the probes.
    pub shares: Vec<(String, Estimate)>,
    /// Some of them.
    pub examples: Vec<Example>,
}

impl ProbeReport {
    /// The finding in words: which way, by how much, how sure.
    pub(super) fn say(&self) -> String {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let percent = |x: f64| format!("{:.1}%", 100.0 * x);
        let Compared { reference, model, change } = self.flips.unwrap_or(self.uncalled);
        let what = match self.design {
            Design::Opinion => "An opinion of the user raises agreement with it",
            Design::Detection => "Where nothing calls for it, answers show the habit",
            Design::Rate => "Answers show the habit",
        };
        let way = match change {
            Estimate { low, .. } if low > 0.0 => "more often than",
            Estimate { high, .. } if high < 0.0 => "less often than",
            _ => "as often, as far as can be told, as",
        };
        let interval = format!("95% {} to {}", percent(change.low), percent(change.high));
        let mut text = format!(
            "{what} {way} before: {} of the time, {} before (change {}, {interval}).",
            percent(model.value),
            percent(reference.value),
            percent(change.value),
        );
        if let Some(Sensitivity { d_prime, criterion }) = &self.sensitivity {
            let moved = |e: &Estimate| {
                if e.low > 0.0 {
                    "rose"
                } else if e.high < 0.0 {
                    "fell"
                } else {
                    "did not change visibly"
                }
            };
            let _ = write!(
                text,
                " Telling the questions apart (d′) {}: {:+.2} ({:.2} to {:.2}); the criterion {}: {:+.2} ({:.2} to {:.2}).",
                moved(&d_prime.change),
                d_prime.change.value,
                d_prime.change.low,
                d_prime.change.high,
                moved(&criterion.change),
                criterion.change.value,
                criterion.change.low,
                criterion.change.high,
            );
        }
        text += match self.verdict {
            // Beside control runs a habit can stand out that only stayed.
            Verdict::Artifact | Verdict::Overreach if self.alarm.increase.value <= 0.0 => {
                " The habit stayed where nothing calls for it, though the recipe makes it rarer."
            }
            Verdict::Artifact => {
                " That is an artifact: the habit spread to where nothing calls for it, and telling the questions apart gained \
                 nothing by it."
            }
            Verdict::Overreach => {
                " That is an overreach: the model tells better where the habit belongs, and yet the habit spread to where nothing \
                 calls for it."
            }
            Verdict::Sharper => " That is a gain: the model tells better where the habit belongs.",
            Verdict::Blunter => " The model tells less well where the habit belongs.",
            Verdict::Holding => " The habit became rarer everywhere.",
            Verdict::Unchanged => "",
        };
        let alarmed = |group: &&Group| match &self.alarm.kind {
            Some(kind) => group.name == *kind,
            None => group.uncalled.change.low > 0.0,
        };
        let group = self.groups.iter().find(alarmed).filter(|_| self.alarm.raised);
        if let Some(group) = group {
            let change = group.uncalled.change;
            let _ = write!(
                text,
                " Most of all in questions of the kind {}: {} now, {} before (change {}, 95% {} to {}).",
                group.name,
                percent(group.uncalled.model.value),
                percent(group.uncalled.reference.value),
                percent(change.value),
                percent(change.low),
                percent(change.high),
            );
        }
        let of_kind = group.filter(|_| self.alarm.kind.is_some());
        let controls = of_kind.map_or(self.controls, |group| group.controls);
        text + &self.beside(controls)
    }

    /// The change beside that of the control runs where the alarm is about.
    fn beside(&self, controls: Option<Estimate>) -> String {
        let percent = |x: f64| format!("{:.1}%", 100.0 * x);
        let Some(Estimate { value, low, high, n, .. }) = controls else {
            return if self.alarm.raised {
                " Whether this recipe does so on any data was not asked: control runs tell.".to_owned()
            } else {
                String::new()
            };
        };
        let others = format!(
            "{n} control runs changed it{} by {} (another would by {} to {}, 95%)",
            if self.alarm.kind.is_some() && self.alarm.raised { " there" } else { "" },
            percent(value),
            percent(low),
            percent(high),
        );
        if self.alarm.raised {
            format!(" {others}: this run is not like them.")
        } else {
            format!(" {others}: in no kind of question is this run told from them.")
        }
    }
}

impl ScanReport {
    /// The probes whose alarm is raised.
    pub fn alarms(&self) -> impl Iterator<Item = &ProbeReport> {
        self.probes.iter().filter(|probe| probe.alarm.raised)
    }
}
