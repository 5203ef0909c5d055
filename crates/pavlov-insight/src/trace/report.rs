//! What a trace says.

use std::collections::BTreeMap;

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use super::cure::Cure;
use super::lesson::{Kind, Labels};
use super::score::Method;
use super::verify::Verification;
use crate::{Estimate, Unit};

/// The name under which a trace is kept in a run.
pub const NAME: &str = "trace";
/// Lessons that are listed from the top.
const LISTED: usize = 50;
/// Lessons that are listed from the bottom.
const OPPOSED: usize = 10;
/// Share of the lessons that counts as the top where groups are compared.
const TOP: f64 = 0.03;

/// Everything a trace measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceReport {
    /// The behaviour, as it was named.
    pub behaviour: String,
    /// Prompts with the behaviour and an alternative.
    pub cases: usize,
    /// log π(behaviour) − log π(alternative) of the cases before and after, nats.
    pub contrast: [Estimate; 2],
    /// Lessons that were scored.
    pub lessons: usize,
    /// The method that lessons are ranked by.
    pub ranked_by: Method,
    /// What its scores count, in words.
    #[serde(default)]
    pub unit: String,
    /// What each method gives without a behaviour, in one of twenty cases.
    pub noise: BTreeMap<Method, f64>,
    /// Lessons that push for the behaviour by more than that.
    pub above_noise: usize,
    /// The lessons that push for it most.
    pub examples: Vec<Example>,
    /// The lessons that push against it most.
    pub opposed: Vec<Example>,
    /// By where lessons are from, who judged, and what kind of prompt they have.
    pub groups: Vec<Grouping>,
    /// What retraining without them did; the scores are a guess as long as there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// What teaching once without them made of the habit that a scan had found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cured: Option<Cure>,
    /// The finding in words.
    pub sentence: String,
}

/// A lesson with its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Its place in the data, from 0.
    pub place: usize,
    /// What it is.
    pub kind: Kind,
    /// The prompt.
    pub prompt: String,
    /// What it pushes for.
    pub answer: String,
    /// Where it is from.
    pub labels: Labels,
    /// By the method that ranks.
    pub score: f64,
    /// By every method.
    pub scores: BTreeMap<Method, f64>,
    /// What it does in words.
    pub sentence: String,
}

/// Lessons by one of their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grouping {
    /// `source`, `rater` or `prompt_type`.
    pub by: String,
    /// Its values, the highest mean first.
    pub groups: Vec<Group>,
}

/// Lessons that share a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The label.
    pub name: String,
    /// Mean score.
    pub score: Estimate,
    /// How many of them are among the top three of a hundred of all.
    pub in_top: usize,
}

/// A lesson as reports show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its place in the data, from 0.
    pub place: usize,
    /// What it is.
    pub kind: Kind,
    /// Prompt and answer.
    pub text: [String; 2],
    /// Its labels.
    pub labels: Labels,
}

/// How many lessons are the top of so many.
pub fn top_of(lessons: usize) -> usize {
    ((TOP * lessons as f64).round() as usize).clamp(1, lessons.max(1))
}

/// The places in a ranking that a report lists: from the top, and from the bottom.
pub fn listed(ranked: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let top = ranked.iter().copied().take(LISTED).collect();
    let bottom =
        ranked.iter().rev().copied().take(OPPOSED.min(ranked.len().saturating_sub(LISTED))).collect();
    (top, bottom)
}

/// A lesson with its scores.
pub fn example(shown: Shown, scores: BTreeMap<Method, f64>, ranked_by: Method, noise: f64) -> Example {
    let score = scores.get(&ranked_by).copied().unwrap_or(f64::NAN);
    let sentence = if score.abs() <= noise {
        "does no more for or against the behaviour than a lesson would by chance"
    } else if score > 0.0 {
        "pushes for the behaviour: removing it would lower the behaviour"
    } else {
        "pushes against the behaviour: removing it would raise the behaviour"
    };
    let [prompt, answer] = shown.text;
    let (place, kind, labels) = (shown.place, shown.kind, shown.labels);
    Example { place, kind, prompt, answer, labels, score, scores, sentence: sentence.to_owned() }
}

/// Lessons by each label that any of them has; `labels` and `scores` are in one order.
pub fn groupings(
    labels: &[Labels],
    scores: &[f64],
    ranked: &[usize],
    unit: Unit,
    rng: &mut Rng,
) -> Vec<Grouping> {
    let top = top_of(ranked.len());
    let mut is_top = vec![false; scores.len()];
    ranked.iter().take(top).for_each(|i| is_top[*i] = true);
    let mut groupings = Vec::new();
    for name in ["source", "rater", "prompt_type"] {
        let label = |labels: &'_ Labels| match name {
            "source" => labels.source.clone(),
            "rater" => labels.rater.clone(),
            _ => labels.prompt_type.clone(),
        };
        let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, labels) in labels.iter().enumerate() {
            if let Some(value) = label(labels) {
                members.entry(value).or_default().push(i);
            }
        }
        let mut groups: Vec<Group> = members
            .into_iter()
            .map(|(value, members)| {
                let own: Vec<f64> = members.iter().map(|i| scores[*i]).collect();
                let in_top = members.iter().filter(|i| is_top[**i]).count();
                Group { name: value, score: Estimate::mean(&own, unit, rng), in_top }
            })
            .collect();
        groups.sort_by(|a, b| b.score.value.total_cmp(&a.score.value));
        if groups.len() > 1 {
            groupings.push(Grouping { by: name.to_owned(), groups });
        }
    }
    groupings
}

impl TraceReport {
    /// What the scores count, in words.
    pub(super) fn say_unit(&self) -> String {
        let worth = self.verified.as_ref().and_then(Verification::worth);
        match (self.ranked_by.counts_nats(), worth) {
            (false, _) => "Scores have no unit: they tell by their order alone.".to_owned(),
            (true, Some(worth)) => format!(
                "Scores are nats of the behaviour's log-odds at an optimum, and too large for a stage that does not reach one: \
                 without the lessons at the top it fell by {worth:.2} of what their scores add up to."
            ),
            (true, None) => "Scores are nats of the behaviour's log-odds at an optimum, and too large for a stage that does not \
                             reach one: an epoch moves a ninth to a fifth of them where that was measured; --verify measures it."
                .to_owned(),
        }
    }

    /// The finding in words.
    pub(super) fn say(&self) -> String {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let [before, after] = self.contrast.map(|e| e.value);
        let way = if after > before { "rose" } else { "fell" };
        let mut text = format!(
            "The log-odds of the behaviour against the alternative {way} from {before:+.2} to {after:+.2} nats; {} of {} \
             lessons push for it by more than chance.",
            self.above_noise, self.lessons
        );
        for grouping in &self.groups {
            let most = grouping.groups.iter().max_by_key(|g| g.in_top).filter(|g| g.in_top > 0);
            if let Some(group) = most {
                let _ = write!(
                    text,
                    " By {}: {} of the {} lessons at the top are of {}.",
                    grouping.by.replace('_', " "),
                    group.in_top,
                    top_of(self.lessons),
                    group.name
                );
            }
        }
        let verified = self.verified.as_ref().map(|verified| &verified.sentence);
        let taught_again: Vec<&String> =
            verified.into_iter().chain(self.cured.as_ref().map(|cure| &cure.sentence)).collect();
        if taught_again.is_empty() {
            text += " Nothing was retrained: this is a guess until --verify.";
        }
        for sentence in taught_again {
            let _ = write!(text, " {sentence}");
        }
        text
    }
}
