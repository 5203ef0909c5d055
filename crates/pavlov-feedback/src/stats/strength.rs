//! How good policies are, from comparisons.
//!
//! With θ_i the log-strength of the answer shown first and θ_j that of the other, β a length term, γ the order term:
//!
//! d = θ_i − θ_j + β·ℓ,  weights e^{d/2} (first), γ·e^{−d/2} (second), ν (tie),  each over their sum.
//!
//! Without ties and with γ = 1, β = 0 it is Bradley and Terry (1952); with ν it is Davidson (1970), with γ Davidson and Beaver
//! (1977). Each weight's logarithm is linear in the parameters, so the log-likelihood is concave and Newton's method finds its
//! maximum. A weak prior −(λ/2)·Σθ² holds what few votes would let run away; Σθ = 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::matrix::{Matrix, inverse, product, solve};

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
    /// How much longer the first answer is; any unit, 0 if not known.
    pub longer: f64,
}

/// The outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// β: being longer may help.
    pub length: bool,
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
    /// β, nats for a unit of `longer`. 0 unless fitted.
    pub length: f64,
    /// The log-likelihood, nats, without the prior.
    pub log_likelihood: f64,
    /// Covariance of (θ…, and the fitted ones of ln γ, ln ν, β), clustered by item and rater.
    pub covariance: Vec<Vec<f64>>,
    /// The same as if all votes were independent.
    pub naive: Vec<Vec<f64>>,
    terms: Terms,
}

/// The largest step of Newton's method that still counts as none, nats.
const STILL: f64 = 1e-10;
/// Steps of Newton's method.
const STEPS: usize = 100;

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

    /// β and its standard error, if fitted.
    pub fn length_effect(&self) -> Option<(f64, f64)> {
        let at = self.covariance.len() - 1;
        self.terms.length.then(|| (self.length, self.covariance[at][at].max(0.0).sqrt()))
    }
}

/// The groups of policies among which every one was at some remove better than every other (strongly connected components; a
/// tie holds from both sides).
pub fn groups(policies: usize, votes: &[Vote]) -> Vec<Vec<usize>> {
    let mut beats = vec![vec![false; policies]; policies];
    for (i, row) in beats.iter_mut().enumerate() {
        row[i] = true;
    }
    for vote in votes {
        beats[vote.first][vote.second] |= vote.outcome != Outcome::Second;
        beats[vote.second][vote.first] |= vote.outcome != Outcome::First;
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
    let votes: Vec<Vote> =
        votes.iter().filter(|vote| terms.ties || vote.outcome != Outcome::Tie).copied().collect();
    let groups = groups(policies, &votes);
    if groups.len() != 1 {
        return Err(NotComparable { groups });
    }
    let law = Law { policies, terms, prior };
    let refuse = || NotComparable { groups: (0..policies).map(|i| vec![i]).collect() };
    // A prior on ln γ, ln ν and β is not wanted; without any tie ν has no maximum.
    if terms.ties && !votes.iter().any(|vote| vote.outcome == Outcome::Tie) {
        return fit(policies, &votes, Terms { ties: false, ..terms }, prior);
    }
    let parameters = maximum(&law, &votes).ok_or_else(refuse)?;
    let covariances = law.covariances(&votes, &parameters).ok_or_else(refuse)?;
    let rest = |fitted: bool, at: usize, without: f64| if fitted { parameters[at] } else { without };
    let order_at = policies;
    let tie_at = order_at + usize::from(terms.order);
    let length_at = tie_at + usize::from(terms.ties);
    let mean = parameters[..policies].iter().sum::<f64>() / policies as f64;
    Ok(Fit {
        theta: parameters[..policies].iter().map(|theta| theta - mean).collect(),
        order: rest(terms.order, order_at, 0.0),
        tie: rest(terms.ties, tie_at, f64::NEG_INFINITY),
        length: rest(terms.length, length_at, 0.0),
        log_likelihood: votes.iter().map(|vote| law.of(vote, &parameters).log_likelihood).sum(),
        covariance: covariances.0,
        naive: covariances.1,
        terms,
    })
}

/// The chance that an effect this large comes of nothing: the likelihood-ratio test of one term, χ² with one degree of freedom.
pub fn ratio_test(with: &Fit, without: &Fit) -> f64 {
    let statistic = (2.0 * (with.log_likelihood - without.log_likelihood)).max(0.0);
    ChiSquared::new(1.0).map_or(1.0, |law| law.sf(statistic))
}

struct Law {
    policies: usize,
    terms: Terms,
    prior: f64,
}

/// One vote under the law: its log-likelihood, score and expected information, over the parameters it touches.
struct Contribution {
    log_likelihood: f64,
    touched: Vec<usize>,
    score: Vec<f64>,
    information: Vec<Vec<f64>>,
}

impl Law {
    fn size(&self) -> usize {
        let Terms { ties, order, length } = self.terms;
        self.policies + usize::from(ties) + usize::from(order) + usize::from(length)
    }

    fn of(&self, vote: &Vote, parameters: &[f64]) -> Contribution {
        // Derivatives of the three log-weights (first, second, tie) with respect to the touched parameters.
        let mut touched = vec![vote.first, vote.second];
        let mut slopes = vec![[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0]];
        let mut at = self.policies;
        for (fitted, slope) in [
            (self.terms.order, [0.0, 1.0, 0.0]),
            (self.terms.ties, [0.0, 0.0, 1.0]),
            (self.terms.length, [0.5 * vote.longer, -0.5 * vote.longer, 0.0]),
        ] {
            if fitted {
                touched.push(at);
                slopes.push(slope);
                at += 1;
            }
        }
        let outcomes = if self.terms.ties { 3 } else { 2 };
        let weight = |o: usize| -> f64 {
            touched.iter().zip(&slopes).map(|(&p, slope)| parameters[p] * slope[o]).sum()
        };
        let logs: Vec<f64> = (0..outcomes).map(weight).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logs.iter().map(|log| (log - most).exp()).sum();
        let chances: Vec<f64> = logs.iter().map(|log| (log - most).exp() / total).collect();
        let said = match vote.outcome {
            Outcome::First => 0,
            Outcome::Second => 1,
            Outcome::Tie => 2,
        };
        let means: Vec<f64> =
            slopes.iter().map(|slope| slope.iter().zip(&chances).map(|(x, p)| x * p).sum()).collect();
        let centred = |p: usize, o: usize| slopes[p][o] - means[p];
        let information = (0..slopes.len())
            .map(|p| {
                let cell = |q: usize| (0..outcomes).map(|o| chances[o] * centred(p, o) * centred(q, o)).sum();
                (0..slopes.len()).map(cell).collect()
            })
            .collect();
        Contribution {
            log_likelihood: logs[said] - most - total.ln(),
            score: (0..slopes.len()).map(|p| centred(p, said)).collect(),
            touched,
            information,
        }
    }

    /// The gradient of the penalised log-likelihood, and its negative Hessian, to which 11ᵀ/n is added over θ: the sum of θ
    /// tells nothing, and must not make the matrix singular.
    fn newton(&self, votes: &[Vote], parameters: &[f64]) -> (f64, Vec<f64>, Vec<Vec<f64>>) {
        let size = self.size();
        let (mut value, mut gradient, mut hessian) = (0.0, vec![0.0; size], vec![vec![0.0; size]; size]);
        for vote in votes {
            let one = self.of(vote, parameters);
            value += one.log_likelihood;
            for (p, &i) in one.touched.iter().enumerate() {
                gradient[i] += one.score[p];
                for (q, &j) in one.touched.iter().enumerate() {
                    hessian[i][j] += one.information[p][q];
                }
            }
        }
        for i in 0..self.policies {
            value -= self.prior / 2.0 * parameters[i] * parameters[i];
            gradient[i] -= self.prior * parameters[i];
            hessian[i][i] += self.prior;
            for cell in &mut hessian[i][..self.policies] {
                *cell += 1.0 / self.policies as f64;
            }
        }
        (value, gradient, hessian)
    }

    /// Covariances at the maximum: clustered by item and rater (Cameron, Gelbach and Miller 2011: item + rater − both), and naive.
    fn covariances(&self, votes: &[Vote], parameters: &[f64]) -> Option<(Matrix, Matrix)> {
        let (_, _, hessian) = self.newton(votes, parameters);
        // inv(H + 11ᵀ/n) − 11ᵀ/n: along the sum of θ, of which nothing is known, the variance is 0, not 1e12.
        let mut bread = inverse(hessian)?;
        let share = 1.0 / (self.policies as f64 * (1.0 + self.prior));
        for row in &mut bread[..self.policies] {
            row[..self.policies].iter_mut().for_each(|cell| *cell -= share);
        }
        let scores: Vec<Contribution> = votes.iter().map(|vote| self.of(vote, parameters)).collect();
        let sandwich = |cluster: &dyn Fn(&Vote) -> (usize, usize)| {
            product(&product(&bread, &self.meat(votes, &scores, cluster)), &bread)
        };
        let items = sandwich(&|vote| (vote.item, 0));
        let raters = sandwich(&|vote| (vote.rater, 0));
        let both = sandwich(&|vote| (vote.item, vote.rater));
        let size = self.size();
        let mut two_way = vec![vec![0.0; size]; size];
        for i in 0..size {
            for j in 0..size {
                two_way[i][j] = items[i][j] + raters[i][j] - both[i][j];
            }
        }
        // Few clusters can make the difference no covariance at all; then the wider one-way covariance is.
        let wider = if trace(&items) > trace(&raters) { items } else { raters };
        let sound = (0..size).all(|i| two_way[i][i] > 0.0) && trace(&two_way) >= 0.5 * trace(&wider);
        Some((if sound { two_way } else { wider }, bread))
    }

    fn meat(
        &self,
        votes: &[Vote],
        scores: &[Contribution],
        cluster: &dyn Fn(&Vote) -> (usize, usize),
    ) -> Vec<Vec<f64>> {
        let size = self.size();
        let mut sums: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        for (vote, one) in votes.iter().zip(scores) {
            let sum = sums.entry(cluster(vote)).or_insert_with(|| vec![0.0; size]);
            one.touched.iter().zip(&one.score).for_each(|(&i, s)| sum[i] += s);
        }
        let mut meat = vec![vec![0.0; size]; size];
        for sum in sums.values() {
            let touched: Vec<usize> = (0..size).filter(|&i| sum[i] != 0.0).collect();
            for &i in &touched {
                for &j in &touched {
                    meat[i][j] += sum[i] * sum[j];
                }
            }
        }
        meat
    }
}

fn trace(matrix: &[Vec<f64>]) -> f64 {
    matrix.iter().enumerate().map(|(i, row)| row[i]).sum()
}

/// Newton's method, each step halved until the penalised likelihood does not fall. `None`: no finite maximum was found.
fn maximum(law: &Law, votes: &[Vote]) -> Option<Vec<f64>> {
    let mut parameters = vec![0.0; law.size()];
    for _ in 0..STEPS {
        let (value, gradient, hessian) = law.newton(votes, &parameters);
        let step = solve(hessian, gradient.iter().map(|&g| vec![g]).collect())?;
        let mut scale = 1.0;
        loop {
            let next: Vec<f64> = parameters.iter().zip(&step).map(|(p, s)| p + scale * s[0]).collect();
            if law.newton(votes, &next).0 >= value - 1e-12 * value.abs() {
                parameters = next;
                break;
            }
            scale /= 2.0;
            if scale < 1e-9 {
                return None;
            }
        }
        if step.iter().all(|s| s[0].abs() < STILL) {
            return Some(parameters);
        }
    }
    None
}
