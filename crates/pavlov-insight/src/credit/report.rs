//! The answers of a run together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::{AnswerCredit, Effort};

/// The name under which a report is kept in a run.
pub const NAME: &str = "credit";

/// `RUN/insight/credit.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreditReport {
    /// The policy that was asked.
    pub model: String,
    /// What it was compared with, if anything.
    pub reference: Option<String>,
    /// Names of the rewards.
    pub rewards: Vec<String>,
    /// How much was measured.
    pub effort: Effort,
    /// The answers.
    pub answers: Vec<AnswerCredit>,
    /// What they say together.
    pub pooled: Pooled,
    /// Seconds it took.
    pub seconds: f64,
}

/// What several answers say together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// How many answers got each verdict.
    pub verdicts: BTreeMap<String, usize>,
    /// Σ of Σ ΔV² over Σ of (ΣΔV)², cross-fitted: the concentration of all answers together, weighted by what there was to
    /// explain. None without tier C, or where there was nothing.
    pub concentration: Option<f64>,
    /// Mean bits of an answer, where rewards have two outcomes.
    pub bits: Option<f64>,
}

impl Pooled {
    /// Pools the answers.
    pub fn of(answers: &[AnswerCredit]) -> Self {
        let mut verdicts = BTreeMap::new();
        for verdict in answers.iter().filter_map(|answer| answer.verdict) {
            *verdicts.entry(verdict.name().to_owned()).or_insert(0) += 1;
        }
        let (mut energy, mut square, mut bits) = (0.0, 0.0, Vec::new());
        for values in answers.iter().filter_map(|answer| answer.values.as_ref()) {
            energy += values.concentration.energy;
            square += values.concentration.square;
            bits.extend(values.profile.information.map(|bits| bits.value));
        }
        Self {
            verdicts,
            concentration: (square > 0.0).then(|| energy / square),
            bits: (!bits.is_empty()).then(|| bits.iter().sum::<f64>() / bits.len() as f64),
        }
    }

    /// The pooled finding in a sentence.
    pub fn sentence(&self) -> String {
        let verdicts: Vec<String> =
            self.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        let bits = self
            .bits
            .map_or(String::new(), |bits| format!("; an answer was news of {bits:.2} bits on average"));
        if verdicts.is_empty() {
            return "There is no verdict without the values of prefixes; measure tier c for one.".to_owned();
        }
        format!("Verdicts: {}{bits}.", verdicts.join(", "))
    }
}
