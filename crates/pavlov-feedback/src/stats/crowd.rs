//! How far each rater's comparisons follow the policies' strengths: Crowd-BT of Chen, Bennett, Collins-Thompson and Horvitz,
//! "Pairwise ranking aggregation in a crowdsourced setting" (2013).
//!
//! Rater k names the better of i and j with chance q = η_k·σ(Δ) + (1 − η_k)·σ(−Δ), Δ = θ_i − θ_j: η = 1 judges as the strengths say,
//! ½ by chance, 0 against them. θ and η are estimated together, with weak priors: −(λ/2)·Σθ², and for each rater η²·(1 − η), as if two
//! comparisons with known answers had been right and one wrong.
//!
//! The likelihood is not concave: (θ, η) and (−θ, 1 − η) fit alike, and where all θ are 0 nothing tells raters apart. So it starts from
//! Bradley and Terry's strengths, in which all raters count alike, and η = 2/3: the maximum that is found is the one in which people as a
//! whole judge better than chance. Each step is Newton's where that goes uphill, and Fisher's scoring elsewhere, halved until the
//! posterior does not fall; it has converged when nothing moves by 1e-9 any more.
//!
//! How reliable people are and how far policies are apart are told apart weakly: who is always right is found a little below 1, and the
//! policies that much too far apart. The order of raters, and who judges by chance or against the others, is what to read.

use std::collections::BTreeMap;

use super::Interval;
use super::Z95;
use super::matrix::{Matrix, inverse, product};
use super::strength::{Outcome, Terms, Vote, fit};

/// Decided comparisons that a rater must have given before anything is said.
pub const LEAST_COMPARISONS: usize = 20;
/// Pseudo-comparisons of the prior that were right, and that were wrong.
const PRIOR: [f64; 2] = [2.0, 1.0];
/// The largest step that still counts as none, nats.
const STILL: f64 = 1e-9;
/// Steps at most.
const STEPS: usize = 200;

/// What Crowd-BT says.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// θ of each policy, nats; their sum is 0.
    pub theta: Vec<f64>,
    /// η of each rater with a 95% interval on the scale of its log-odds, from the expected information: votes are taken as
    /// independent. `None` of raters with fewer than [`LEAST_COMPARISONS`] decided comparisons.
    pub reliability: Vec<Option<Interval>>,
    /// The logarithm of likelihood times priors at the maximum, nats.
    pub log_posterior: f64,
    /// Steps until nothing moved by 1e-9 any more.
    pub steps: usize,
}

/// Fits Crowd-BT to the decided votes of `raters` raters on `policies` policies; `prior` is λ. `None`: the policies cannot be compared
/// ([`super::strength::NotComparable`]), so that there is nothing to follow, or no maximum was reached in 200 steps.
///
/// # Panics
/// If a vote names a policy or a rater that is not.
pub fn crowd(policies: usize, raters: usize, votes: &[Vote], prior: f64) -> Option<Crowd> {
    let board = Board::new(policies, raters, votes, prior);
    if board.tallies.is_empty() {
        return None;
    }
    let [right, wrong] = PRIOR;
    let start = fit(policies, votes, Terms::default(), prior).ok()?;
    let mut at = Point { theta: start.theta, log_odds: vec![(right / wrong).ln(); raters] };
    let mut value = board.log_posterior(&at);
    for steps in 1..=STEPS {
        let step = board.step(&at)?;
        let mut scale = 1.0;
        loop {
            let next = at.moved(&step, scale);
            let there = board.log_posterior(&next);
            if there >= value - 1e-12 * value.abs() {
                (at, value) = (next, there);
                break;
            }
            scale /= 2.0;
            if scale < 1e-9 {
                return None;
            }
        }
        if step.theta.iter().chain(&step.log_odds).all(|moved| moved.abs() < STILL) {
            let reliability = board.reliability(&at)?;
            return Some(Crowd { theta: at.theta, reliability, log_posterior: value, steps });
        }
    }
    None
}

/// θ, and the log-odds of every η.
#[derive(Clone, Debug)]
struct Point {
    theta: Vec<f64>,
    log_odds: Vec<f64>,
}

impl Point {
    fn moved(&self, step: &Self, scale: f64) -> Self {
        let add = |x: &[f64], by: &[f64]| x.iter().zip(by).map(|(x, by)| x + scale * by).collect();
        Self { theta: add(&self.theta, &step.theta), log_odds: add(&self.log_odds, &step.log_odds) }
    }

    fn along(&self, other: &Self) -> f64 {
        let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        product(&self.theta, &other.theta) + product(&self.log_odds, &other.log_odds)
    }
}

/// How often one rater named the one and the other of two policies.
struct Tally {
    rater: usize,
    pair: [usize; 2],
    named: [f64; 2],
}

struct Board {
    policies: usize,
    raters: usize,
    prior: f64,
    tallies: Vec<Tally>,
}

/// Which information: the negative Hessian itself, or its expectation, which is never negative.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Information {
    Observed,
    Expected,
}

/// The gradient, and the information in its blocks: among θ, between θ and each rater, of each rater. Raters share none.
struct Slope {
    gradient: Point,
    policies: Matrix,
    shared: Vec<Vec<f64>>,
    raters: Vec<f64>,
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Board {
    fn new(policies: usize, raters: usize, votes: &[Vote], prior: f64) -> Self {
        let mut named: BTreeMap<(usize, [usize; 2]), [f64; 2]> = BTreeMap::new();
        for vote in votes.iter().filter(|vote| vote.outcome != Outcome::Tie) {
            let pair = [vote.first.min(vote.second), vote.first.max(vote.second)];
            let better = if vote.outcome == Outcome::First { vote.first } else { vote.second };
            named.entry((vote.rater, pair)).or_default()[usize::from(better == pair[1])] += 1.0;
        }
        let tally = |((rater, pair), named)| Tally { rater, pair, named };
        Self { policies, raters, prior, tallies: named.into_iter().map(tally).collect() }
    }

    /// σ(Δ), η, and the chance q that the rater names the first of the pair.
    fn chances(tally: &Tally, at: &Point) -> [f64; 3] {
        let better = logistic(at.theta[tally.pair[0]] - at.theta[tally.pair[1]]);
        let eta = logistic(at.log_odds[tally.rater]);
        [better, eta, eta * better + (1.0 - eta) * (1.0 - better)]
    }

    fn log_posterior(&self, at: &Point) -> f64 {
        let likelihood = |tally: &Tally| {
            let [_, _, q] = Self::chances(tally, at);
            tally.named[0] * q.ln() + tally.named[1] * (1.0 - q).ln()
        };
        let [right, wrong] = PRIOR;
        let trust = |u: &f64| right * logistic(*u).ln() + wrong * logistic(-u).ln();
        let theta: f64 = at.theta.iter().map(|theta| theta * theta).sum();
        self.tallies.iter().map(likelihood).sum::<f64>() + at.log_odds.iter().map(trust).sum::<f64>()
            - self.prior / 2.0 * theta
    }

    /// Newton's step if it leads uphill, else that of Fisher's scoring.
    fn step(&self, at: &Point) -> Option<Point> {
        let observed = self.slope(at, Information::Observed);
        let sound = observed.raters.iter().all(|own| *own > 0.0);
        let newton = if sound { observed.step() } else { None };
        let uphill = newton.filter(|step| observed.gradient.along(step) > 0.0);
        uphill.or_else(|| self.slope(at, Information::Expected).step())
    }

    fn slope(&self, at: &Point, information: Information) -> Slope {
        let (n, raters) = (self.policies, self.raters);
        let gradient = Point { theta: vec![0.0; n], log_odds: vec![0.0; raters] };
        let (policies, shared) = (vec![vec![0.0; n]; n], vec![vec![0.0; n]; raters]);
        let mut slope = Slope { gradient, policies, shared, raters: vec![0.0; raters] };
        for tally in &self.tallies {
            let [better, eta, q] = Self::chances(tally, at);
            let (k, [i, j], [a, b]) = (tally.rater, tally.pair, tally.named);
            let by_theta = (2.0 * eta - 1.0) * better * (1.0 - better);
            let by_odds = (2.0 * better - 1.0) * eta * (1.0 - eta);
            let score = a / q - b / (1.0 - q);
            // −∂²L = weight·∂q·∂q − bend·∂²q, of which the second part is 0 in expectation.
            let (weight, bend) = match information {
                Information::Observed => (a / (q * q) + b / ((1.0 - q) * (1.0 - q)), score),
                Information::Expected => ((a + b) / (q * (1.0 - q)), 0.0),
            };
            let [twice_theta, both, twice_odds] = [
                by_theta * (1.0 - 2.0 * better),
                2.0 * better * (1.0 - better) * eta * (1.0 - eta),
                by_odds * (1.0 - 2.0 * eta),
            ];
            let theta = weight * by_theta * by_theta - bend * twice_theta;
            for (p, sign) in [(i, 1.0), (j, -1.0)] {
                slope.gradient.theta[p] += score * sign * by_theta;
                slope.policies[p][i] += sign * theta;
                slope.policies[p][j] -= sign * theta;
                slope.shared[k][p] += sign * (weight * by_theta * by_odds - bend * both);
            }
            slope.gradient.log_odds[k] += score * by_odds;
            slope.raters[k] += weight * by_odds * by_odds - bend * twice_odds;
        }
        for p in 0..n {
            slope.gradient.theta[p] -= self.prior * at.theta[p];
            slope.policies[p][p] += self.prior;
        }
        let [right, wrong] = PRIOR;
        for (k, &u) in at.log_odds.iter().enumerate() {
            let eta = logistic(u);
            slope.gradient.log_odds[k] += right - (right + wrong) * eta;
            slope.raters[k] += (right + wrong) * eta * (1.0 - eta);
        }
        slope
    }

    fn reliability(&self, at: &Point) -> Option<Vec<Option<Interval>>> {
        let slope = self.slope(at, Information::Expected);
        let covariance = slope.covariance()?;
        let mut comparisons = vec![0.0; self.raters];
        for tally in &self.tallies {
            comparisons[tally.rater] += tally.named[0] + tally.named[1];
        }
        let one = |k: usize| {
            let (own, shared) = (slope.raters[k], &slope.shared[k]);
            let through = product(&product(std::slice::from_ref(shared), &covariance), &column(shared));
            let error = (1.0 / own + through[0][0] / (own * own)).sqrt();
            let at = |z: f64| logistic(at.log_odds[k] + z * error);
            let known = comparisons[k] >= LEAST_COMPARISONS as f64;
            known.then(|| Interval { value: at(0.0), low: at(-Z95), high: at(Z95) })
        };
        Some((0..self.raters).map(one).collect())
    }
}

impl Slope {
    /// The covariance of θ: the inverse of what is left of its information when raters are eliminated.
    fn covariance(&self) -> Option<Matrix> {
        let mut left = self.policies.clone();
        for (shared, own) in self.shared.iter().zip(&self.raters) {
            for (i, row) in left.iter_mut().enumerate() {
                row.iter_mut().zip(shared).for_each(|(cell, x)| *cell -= shared[i] * x / own);
            }
        }
        inverse(left)
    }

    /// Where the information says that the gradient is nothing.
    fn step(&self) -> Option<Point> {
        let Point { theta, log_odds } = &self.gradient;
        let mut right = theta.clone();
        for ((shared, own), gradient) in self.shared.iter().zip(&self.raters).zip(log_odds) {
            right.iter_mut().zip(shared).for_each(|(cell, x)| *cell -= x * gradient / own);
        }
        let theta: Vec<f64> =
            product(&self.covariance()?, &column(&right)).into_iter().map(|row| row[0]).collect();
        let follow = |((shared, own), gradient): ((&Vec<f64>, &f64), &f64)| {
            (gradient - shared.iter().zip(&theta).map(|(x, t)| x * t).sum::<f64>()) / own
        };
        let log_odds = self.shared.iter().zip(&self.raters).zip(log_odds).map(follow).collect();
        Some(Point { theta, log_odds })
    }
}

fn column(x: &[f64]) -> Matrix {
    x.iter().map(|x| vec![*x]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(first: usize, second: usize, outcome: Outcome, rater: usize) -> Vote {
        Vote { first, second, outcome, item: 0, rater, style: [0.0; 4] }
    }

    #[test]
    fn gradient_and_information_are_those_of_finite_differences() {
        let votes: Vec<Vote> = (0..60)
            .map(|i| {
                let outcome = if i % 5 < 3 { Outcome::First } else { Outcome::Second };
                vote(i % 3, (i + 1 + i / 30) % 3, outcome, i % 4)
            })
            .collect();
        let board = Board::new(3, 4, &votes, 0.1);
        let at = [0.4, -0.7, 0.2, 1.2, 0.3, -0.8, 2.0];
        let slope = |x: &[f64]| {
            let point = Point { theta: x[..3].to_vec(), log_odds: x[3..].to_vec() };
            (board.log_posterior(&point), board.slope(&point, Information::Observed))
        };
        let gradient = |slope: &Slope| [&slope.gradient.theta[..], &slope.gradient.log_odds].concat();
        let ours = slope(&at).1;
        for k in 0..at.len() {
            let moved = |h: f64| {
                let mut x = at;
                x[k] += h;
                slope(&x)
            };
            let ((above, up), (below, down)) = (moved(1e-5), moved(-1e-5));
            let theirs = (above - below) / 2e-5;
            assert!((gradient(&ours)[k] - theirs).abs() < 1e-7, "{k}: {theirs}");
            for (j, (up, down)) in gradient(&up).into_iter().zip(gradient(&down)).enumerate() {
                let mine = match (j.checked_sub(3), k.checked_sub(3)) {
                    (None, None) => ours.policies[j][k],
                    (Some(rater), None) => ours.shared[rater][k],
                    (None, Some(rater)) => ours.shared[rater][j],
                    (Some(one), Some(other)) => {
                        if one == other {
                            ours.raters[one]
                        } else {
                            0.0
                        }
                    }
                };
                let theirs = (down - up) / 2e-5;
                assert!((mine - theirs).abs() < 1e-6, "{j}, {k}: {mine} and {theirs}");
            }
        }
    }

    #[test]
    fn where_policies_cannot_be_compared_nothing_is_said() {
        assert_eq!(crowd(1, 2, &[], 0.05), None);
        let votes: Vec<Vote> = (0..50).map(|i| vote(0, 1, Outcome::First, i % 2)).collect();
        assert_eq!(crowd(2, 2, &votes, 0.05), None);
    }
}
