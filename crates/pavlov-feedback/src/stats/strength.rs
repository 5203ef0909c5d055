//! How good policies are, from comparisons.
//!
//! With θ_i the log-strength of the answer shown first and θ_j that of the other, β the terms of style, γ the order term:
//!
//! d = θ_i − θ_j + Σ_k β_k·s_k,  weights e^{d/2} (first), γ·e^{−d/2} (second), ν (tie),  each over their sum.
//!
//! Without ties and with γ = 1, β = 0 it is Bradley and Terry (1952); with ν it is Davidson (1970), with γ Davidson and Beaver
//! (1977); with β the style control of public arenas (Li, Angelopoulos and Chiang 2024, "Does style matter?"). Each weight's logarithm
//! is linear in the parameters, so the log-likelihood is concave and Newton's method finds its maximum. A weak prior −(λ/2)·(Σθ² + Σβ²)
//! holds what few votes would let run away, and shares an effect between terms that always come together; Σθ = 0.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::Interval;
use super::law::{Law, cells, maximum};
use super::style::Style;

/// One comparison of two policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// The policy whose answer was shown first.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// What was said.
    pub outcome: Outcome,
    /// The item: votes on one item are not independent.
    pub item: usize,
    /// Who: neither are votes of one person.
    pub rater: usize,
    /// How much more the first answer has of each term of style, in the order of [`Style::ALL`]; any unit, 0 if not known. In 32 bits, for
    /// votes are a million.
    pub style: [f32; Style::ALL.len()],
}

/// The outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer shown first is better.
    First,
    /// The other is.
    Second,
    /// Neither.
    Tie,
}

/// Which of the law's terms are fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// ν: ties count. Without it tied votes are left out.
    pub ties: bool,
    /// γ: being shown first may help.
    pub order: bool,
    /// β: length, headers, lists and bold may help.
    pub style: bool,
}

/// Not every policy was both better and worse than the others, over some chain of comparisons: strengths have no finite values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotComparable {
    /// The groups of policies that are comparable among themselves.
    pub groups: Vec<Vec<usize>>,
}

/// Fitted strengths.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// θ of each policy, nats of odds; their sum is 0.
    pub theta: Vec<f64>,
    /// ln γ: log-odds of the answer shown *second* for its place. 0 unless fitted.
    pub order: f64,
    /// ln ν. −∞ unless fitted.
    pub tie: f64,
    /// β, nats for a unit of [`Vote::style`]. 0 unless fitted.
    pub style: [f64; Style::ALL.len()],
    /// The log-likelihood, nats, without the prior.
    pub log_likelihood: f64,
    /// Covariance of (θ…, and the fitted ones of ln γ, ln ν, β…), clustered by item and rater.
    pub covariance: Vec<Vec<f64>>,
    /// The same as if all votes were independent.
    pub naive: Vec<Vec<f64>>,
    terms: Terms,
}

impl Fit {
    /// Standard error of policy `i`'s θ.
    pub fn error(&self, i: usize) -> f64 {
        self.covariance[i][i].max(0.0).sqrt()
    }

    /// θ_i − θ_j and its standard error.
    pub fn difference(&self, i: usize, j: usize) -> (f64, f64) {
        let c = &self.covariance;
        (self.theta[i] - self.theta[j], (c[i][i] + c[j][j] - 2.0 * c[i][j]).max(0.0).sqrt())
    }

    /// ln γ and its standard error, if fitted.
    pub fn order_effect(&self) -> Option<(f64, f64)> {
        let at = self.theta.len();
        self.terms.order.then(|| (self.order, self.covariance[at][at].max(0.0).sqrt()))
    }

    /// β of each term and its standard error, if fitted.
    pub fn style_effects(&self) -> Option<[(f64, f64); Style::ALL.len()]> {
        let at = self.covariance.len().checked_sub(Style::ALL.len()).filter(|_| self.terms.style)?;
        Some(std::array::from_fn(|k| (self.style[k], self.covariance[at + k][at + k].max(0.0).sqrt())))
    }

    /// β of each term with a 95% interval, and the chance that so large an effect comes of nothing (Wald), if fitted. Both by the larger of
    /// the clustered and the naive error: many votes on few items do not make an effect up, nor does a clustered error of few people or
    /// of terms that nearly always come together.
    pub fn style_told(&self) -> Option<[(Interval, f64); Style::ALL.len()]> {
        let effects = self.style_effects()?;
        let at = self.naive.len() - effects.len();
        Some(std::array::from_fn(|k| {
            let (value, clustered) = effects[k];
            let error = clustered.max(self.naive[at + k][at + k].max(0.0).sqrt());
            let chance = if error > 0.0 { chi_squared((value / error).powi(2)) } else { 1.0 };
            (Interval::normal(value, error), chance)
        }))
    }
}

/// The groups of policies among which every one was at some remove better than every other (strongly connected components; a
/// tie holds from both sides).
pub fn groups(policies: usize, votes: &[Vote]) -> Vec<Vec<usize>> {
    connected(policies, votes.iter().map(|vote| (vote.first, vote.second, vote.outcome)))
}

fn connected(policies: usize, votes: impl Iterator<Item = (usize, usize, Outcome)>) -> Vec<Vec<usize>> {
    let mut beats = vec![vec![false; policies]; policies];
    for (i, row) in beats.iter_mut().enumerate() {
        row[i] = true;
    }
    for (first, second, outcome) in votes {
        beats[first][second] |= outcome != Outcome::Second;
        beats[second][first] |= outcome != Outcome::First;
    }
    for via in 0..policies {
        let through = beats[via].clone();
        for row in beats.iter_mut().filter(|row| row[via]) {
            row.iter_mut().zip(&through).for_each(|(reached, more)| *reached |= more);
        }
    }
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (i, row) in beats.iter().enumerate() {
        match found.iter_mut().find(|group| row[group[0]] && beats[group[0]][i]) {
            Some(group) => group.push(i),
            None => found.push(vec![i]),
        }
    }
    found
}

/// Fits strengths of `policies` policies; `prior` is λ, 0.01 to 0.1 is weak.
///
/// # Panics
/// If a vote names a policy that is not.
pub fn fit(policies: usize, votes: &[Vote], terms: Terms, prior: f64) -> Result<Fit, NotComparable> {
    // Without any tie ν has no maximum.
    let ties = terms.ties && votes.iter().any(|vote| vote.outcome == Outcome::Tie);
    let law = Law { policies, terms: Terms { ties, ..terms }, prior };
    let cells = cells(votes, law.terms);
    let read = cells.iter().map(|cell| &cell.kind);
    let groups =
        connected(policies, read.map(|vote| (vote.first as usize, vote.second as usize, vote.outcome)));
    if groups.len() != 1 {
        return Err(NotComparable { groups });
    }
    let refuse = || NotComparable { groups: (0..policies).map(|i| vec![i]).collect() };
    let parameters = maximum(&law, &cells).ok_or_else(refuse)?;
    let (covariance, naive) = law.covariances(votes, &cells, &parameters).ok_or_else(refuse)?;
    let mean = parameters[..policies].iter().sum::<f64>() / policies as f64;
    let at = law.read(&parameters);
    Ok(Fit {
        theta: parameters[..policies].iter().map(|theta| theta - mean).collect(),
        order: at.order,
        tie: at.tie,
        style: at.style,
        log_likelihood: law.log_likelihood(&cells, &parameters),
        covariance,
        naive,
        terms: law.terms,
    })
}

/// The fits that a board is read by.
#[derive(Clone, Debug, PartialEq)]
pub struct Fits {
    /// With ties alone.
    pub plain: Fit,
    /// Allowing for the place on the screen.
    pub ordered: Fit,
    /// Allowing for the place and the style; none where no style is known.
    pub styled: Option<Fit>,
}

impl Fits {
    /// Fits `votes` of `policies` policies, with the prior of [`fit`].
    pub fn of(policies: usize, votes: &[Vote], prior: f64) -> Result<Self, NotComparable> {
        let plain = Terms { ties: true, order: false, style: false };
        let ordered = Terms { order: true, ..plain };
        let styles = votes.iter().any(|vote| vote.style.iter().any(|share| *share != 0.0));
        let styled = || fit(policies, votes, Terms { style: true, ..ordered }, prior).ok();
        Ok(Self {
            plain: fit(policies, votes, plain, prior)?,
            ordered: fit(policies, votes, ordered, prior)?,
            styled: styles.then(styled).flatten(),
        })
    }
}

/// The chance that an effect this large comes of nothing: the likelihood-ratio test of one term, χ² with one degree of freedom.
pub fn ratio_test(with: &Fit, without: &Fit) -> f64 {
    chi_squared((2.0 * (with.log_likelihood - without.log_likelihood)).max(0.0))
}

/// The chance of a larger value of χ² with one degree of freedom.
fn chi_squared(statistic: f64) -> f64 {
    ChiSquared::new(1.0).map_or(1.0, |law| law.sf(statistic))
}
