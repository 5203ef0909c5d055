//! Was there such a part? One word for an answer, and the rule behind it.

use serde::{Deserialize, Serialize};

use super::surrogate::Surrogate;
use super::values::Concentration;

/// A difference counts if chance makes it with at most this probability.
const CHANCE: f64 = 0.01;
/// The leading part's share of Σ ΔV² from which on it is *the* part.
const LEADS: f64 = 0.6;
/// The share of pairs that help each other, in what segments explain, from which on no sum over parts is fair.
const HELPING: f64 = 0.2;

/// Where the credit of an answer sits. The first rule that holds decides:
///
/// 1. *none*: neither V(answer) − V(prompt) nor the cross-fitted Σ ΔV² differs from 0 (posterior probability of 0 above
///    1% for both): what is written does not move the reward.
/// 2. *interacting*: pairs of segments that bring more together than alone, towards the reward the answer got, hold at
///    least a fifth of the variance that the fit of tier B explains. (Pairs that bring *less* together are redundant: what
///    one part settled, another repeats. They do not count here.) Needs tier B.
/// 3. *concentrated*: one part, found in one set of rollouts and measured in the other, holds at least 60% of Σ ΔV².
/// 4. *diffuse*: C ≤ 2/n, that is at least n/2 of the n parts hold the credit evenly.
/// 5. *additive*: several parts, but fewer than half of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// One part earned the reward.
    Concentrated,
    /// A few parts did, each its share.
    Additive,
    /// Parts did together what none does alone.
    Interacting,
    /// All of it did, a little everywhere.
    Diffuse,
    /// What was written did not matter.
    None,
}

/// The verdict by the rule above.
pub fn verdict(concentration: &Concentration, surrogate: Option<&Surrogate>) -> Verdict {
    let c = concentration.c.value;
    if concentration.p_total > CHANCE && concentration.p_energy > CHANCE {
        Verdict::None
    } else if surrogate.is_some_and(|surrogate| surrogate.synergy >= HELPING) {
        Verdict::Interacting
    } else if concentration.lead_share.value >= LEADS {
        Verdict::Concentrated
    } else if (0.0..=2.0 / concentration.parts as f64).contains(&c) {
        Verdict::Diffuse
    } else {
        Verdict::Additive
    }
}

impl Verdict {
    /// The verdict in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concentrated => "concentrated",
            Self::Additive => "additive",
            Self::Interacting => "interacting",
            Self::Diffuse => "diffuse",
            Self::None => "none",
        }
    }
}
