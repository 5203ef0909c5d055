//! Tier C in numbers: from what continuations of prefixes earned to values, credit in bits, and how concentrated it is.
//!
//! V(t) = E[R | x, y≤t] over the policy's own continuations (VinePPO, arXiv:2410.01679). Credit of the tokens between
//! two prefixes is the difference of their values, in reward points, and for a reward of two outcomes
//! c = log2 P(R = r | x, y≤b) − log2 P(R = r | x, y≤a) in bits, which telescopes to −log2 P(R = r | x).
//!
//! Naive measures of concentration are wrong at any practical number of rollouts: squares of noisy differences add their
//! noise. So each prefix has two independent sets of continuations, and every square is a product of one from each.

use std::ops::Range;

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::{Estimate, Unit};

/// Draws from the posterior behind every interval.
const DRAWS: usize = 1000;
/// Permutations of a noise floor.
const PERMUTATIONS: usize = 200;

/// A prefix of the answer, and what its continuations earned in two independent sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Tokens of the answer that are kept.
    pub at: usize,
    /// Rewards, in reward points; never empty.
    pub sets: [Vec<f64>; 2],
    /// Whether nothing is left to chance: the whole answer under a reward that always says the same.
    pub exact: bool,
}

impl Node {
    fn mean(&self) -> f64 {
        let n = self.sets[0].len() + self.sets[1].len();
        self.sets.iter().flatten().sum::<f64>() / n as f64
    }

    fn mean_of(&self, set: usize) -> f64 {
        self.sets[set].iter().sum::<f64>() / self.sets[set].len() as f64
    }
}

/// The two rewards that an answer can earn, if there are no more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcomes {
    /// The smaller one.
    low: f64,
    /// The larger one.
    high: f64,
    /// Whether the answer at hand earned the larger one.
    is_high: bool,
}

/// The two outcomes, where no more than two rewards were seen.
#[allow(clippy::float_cmp, reason = "outcomes are the same number or another one")]
pub fn outcomes(nodes: &[Node], reward: f64) -> Option<Outcomes> {
    let all = || nodes.iter().flat_map(|node| node.sets.iter().flatten()).copied().chain([reward]);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    all().all(|r| r == low || r == high).then_some(Outcomes { low, high, is_high: reward == high })
}

impl Outcomes {
    fn hits(&self, rewards: &[f64]) -> usize {
        rewards.iter().filter(|&&r| (r >= self.high) == self.is_high).count()
    }

    fn value(&self, probability: f64) -> f64 {
        let p = if self.is_high { probability } else { 1.0 - probability };
        self.low + (self.high - self.low) * p
    }
}

/// Values and credit along an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Stretches of tokens between neighbouring prefixes.
    pub spans: Vec<Range<usize>>,
    /// V before the first stretch, then after each, in reward points.
    pub values: Vec<Estimate>,
    /// V after each stretch less V before it, in reward points.
    pub deltas: Vec<Estimate>,
    /// The same in bits about the outcome, for a reward of two outcomes; empty otherwise.
    pub bits: Vec<Estimate>,
    /// V(whole answer) − V(prompt), in reward points: what there is to explain.
    pub total: Estimate,
    /// Σ of `bits`: −log2 P(R = r | x) where the answer decides its reward.
    pub information: Option<Estimate>,
}

/// The posterior draws of every node: the mean reward of both sets together, of each set, and log2 P(R = r).
struct Posterior {
    means: Vec<Vec<f64>>,
    of_sets: [Vec<Vec<f64>>; 2],
    log2: Vec<Vec<f64>>,
}

impl Posterior {
    fn new(nodes: &[Node], outcomes: Option<Outcomes>, rng: &mut Rng) -> Self {
        let mut own = Self { means: vec![], of_sets: [vec![], vec![]], log2: vec![] };
        for node in nodes {
            let both: Vec<f64> = node.sets.iter().flatten().copied().collect();
            let of = |rewards: &[f64], rng: &mut Rng| -> (Vec<f64>, Vec<f64>) {
                (0..DRAWS).map(|_| draw(node.exact, rewards, outcomes, rng)).unzip()
            };
            let (means, log2) = of(&both, rng);
            own.means.push(means);
            own.log2.push(log2);
            for set in 0..2 {
                own.of_sets[set].push(of(&node.sets[set], rng).0);
            }
        }
        own
    }
}

/// One draw of (the mean reward, log2 P(R = r)) given what was seen: of two outcomes from Jeffreys' posterior
/// Beta(k + ½, n − k + ½), else a Bayesian bootstrap (Rubin 1981), without a probability.
fn draw(exact: bool, rewards: &[f64], outcomes: Option<Outcomes>, rng: &mut Rng) -> (f64, f64) {
    if exact {
        return (rewards[0], 0.0);
    }
    if let Some(outcomes) = outcomes {
        let hits = outcomes.hits(rewards);
        let (a, b) = (gamma_half(hits, rng), gamma_half(rewards.len() - hits, rng));
        let p = a / (a + b);
        (outcomes.value(p), p.log2())
    } else {
        let (mut sum, mut weights) = (0.0, 0.0);
        for reward in rewards {
            let weight = exponential(rng);
            sum += weight * reward;
            weights += weight;
        }
        (sum / weights, f64::NAN)
    }
}

fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.uniform_f64()).ln()
}

/// A draw of the gamma distribution of shape k + ½: half a squared normal and k exponentials.
fn gamma_half(k: usize, rng: &mut Rng) -> f64 {
    let normal = f64::from(rng.normal());
    // A normal of exactly 0 would make 0/0 of two of them.
    (normal * normal / 2.0).max(1e-12) + (0..k).map(|_| exponential(rng)).sum::<f64>()
}

/// A number with the middle 95% of its draws; the number itself always lies within.
pub(crate) fn estimate(value: f64, mut draws: Vec<f64>, unit: Unit, n: usize) -> Estimate {
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| draws.get((share * (draws.len() as f64 - 1.0)).round() as usize).copied();
    let low = at(0.025).unwrap_or(value).min(value);
    let high = at(0.975).unwrap_or(value).max(value);
    Estimate { value, low, high, unit, noise_floor: None, n }
}

/// Values and credit from prefixes in ascending order, the first the prompt alone, the last the whole answer.
///
/// # Panics
/// If there are fewer than two prefixes.
pub fn profile(nodes: &[Node], reward: f64, rng: &mut Rng) -> Profile {
    assert!(nodes.len() > 1, "an answer has a beginning and an end");
    let outcomes = outcomes(nodes, reward);
    let posterior = Posterior::new(nodes, outcomes, rng);
    let n = |node: &Node| node.sets[0].len() + node.sets[1].len();
    let values: Vec<Estimate> = nodes
        .iter()
        .zip(&posterior.means)
        .map(|(node, draws)| estimate(node.mean(), draws.clone(), Unit::RewardPoints, n(node)))
        .collect();
    let between = |value: f64, draws: &[Vec<f64>], [a, b]: [usize; 2], unit: Unit| {
        let difference = draws[b].iter().zip(&draws[a]).map(|(b, a)| b - a).collect();
        estimate(value, difference, unit, n(&nodes[a]).min(n(&nodes[b])))
    };
    let floors = floors(nodes, outcomes, rng);
    let steps = 1..nodes.len();
    let delta = |a: usize, b: usize| {
        between(nodes[b].mean() - nodes[a].mean(), &posterior.means, [a, b], Unit::RewardPoints)
    };
    let bit = |a: usize, b: usize, outcomes: Outcomes| {
        let value = log2(&nodes[b], outcomes) - log2(&nodes[a], outcomes);
        between(value, &posterior.log2, [a, b], Unit::Bits)
    };
    let last = nodes.len() - 1;
    Profile {
        spans: steps.clone().map(|i| nodes[i - 1].at..nodes[i].at).collect(),
        values,
        deltas: steps.clone().map(|i| delta(i - 1, i).above(floors[0])).collect(),
        bits: outcomes
            .map(|outcomes| steps.map(|i| bit(i - 1, i, outcomes).above(floors[1])).collect())
            .unwrap_or_default(),
        total: delta(0, last),
        information: outcomes.map(|outcomes| bit(0, last, outcomes)),
    }
}

/// log2 P(R = r | prefix), smoothed after Jeffreys.
fn log2(node: &Node, outcomes: Outcomes) -> f64 {
    if node.exact {
        return 0.0;
    }
    let hits: usize = node.sets.iter().map(|set| outcomes.hits(set)).sum();
    let n = node.sets[0].len() + node.sets[1].len();
    ((hits as f64 + 0.5) / (n as f64 + 1.0)).log2()
}

/// What the largest difference between neighbours would be, at 95%, if every prefix were as good as any other: rewards
/// are exchanged among the prefixes. In reward points and in bits.
fn floors(nodes: &[Node], outcomes: Option<Outcomes>, rng: &mut Rng) -> [f64; 2] {
    let open: Vec<&Node> = nodes.iter().filter(|node| !node.exact).collect();
    if open.len() < 2 {
        return [0.0; 2];
    }
    let mut pool: Vec<f64> = open.iter().flat_map(|node| node.sets.iter().flatten()).copied().collect();
    let mut largest = [Vec::new(), Vec::new()];
    for _ in 0..PERMUTATIONS {
        rng.shuffle(&mut pool);
        let mut rest = pool.as_slice();
        let shuffled: Vec<Node> = open
            .iter()
            .map(|node| {
                let take = |rest: &mut &[f64], n: usize| {
                    let (now, later) = rest.split_at(n);
                    *rest = later;
                    now.to_vec()
                };
                let sets = [take(&mut rest, node.sets[0].len()), take(&mut rest, node.sets[1].len())];
                Node { at: node.at, sets, exact: false }
            })
            .collect();
        let most = |f: &dyn Fn(&Node) -> f64| {
            shuffled.windows(2).map(|pair| (f(&pair[1]) - f(&pair[0])).abs()).fold(0.0, f64::max)
        };
        largest[0].push(most(&Node::mean));
        largest[1].push(outcomes.map_or(0.0, |outcomes| most(&|node| log2(node, outcomes))));
    }
    largest.map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[(0.95 * (values.len() - 1) as f64).round() as usize]
    })
}

/// Whether the credit sits in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concentration {
    /// C = Σ ΔV_A ΔV_B / (ΣΔV_A ΣΔV_B): 1 if all is in one part, 1/n if it is even over n, above 1 where parts of both
    /// signs cancel. Cross-fitted: its noise has mean 0.
    pub c: Estimate,
    /// The same from one set, squared: what not to report. It counts noise as concentration.
    pub naive: f64,
    /// Σ ΔV_A ΔV_B, in squared reward points: pools over answers.
    pub energy: f64,
    /// ΣΔV_A ΣΔV_B, in squared reward points.
    pub square: f64,
    /// Parts, n.
    pub parts: usize,
    /// The part with most of Σ ΔV²; found in one set, measured in the other.
    pub lead: usize,
    /// Its share of Σ ΔV².
    pub lead_share: Estimate,
    /// Posterior probability (two-sided) that the total is no different from 0.
    pub p_total: f64,
    /// Posterior probability that Σ ΔV² is not above 0.
    pub p_energy: f64,
}

/// The cross-fitted concentration over parts that were fixed before anything was measured.
pub fn concentration(nodes: &[Node], reward: f64, rng: &mut Rng) -> Concentration {
    let outcomes = outcomes(nodes, reward);
    let posterior = Posterior::new(nodes, outcomes, rng);
    let deltas = |values: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (1..nodes.len()).map(|i| values(i) - values(i - 1)).collect()
    };
    let seen = [0, 1].map(|set| deltas(&|i| nodes[i].mean_of(set)));
    let value = Crossed::of(&seen[0], &seen[1]);
    let draws: Vec<Crossed> = (0..DRAWS)
        .map(|d| {
            let [a, b] = [0, 1].map(|set| deltas(&|i| posterior.of_sets[set][i][d]));
            Crossed::of(&a, &b)
        })
        .collect();
    let n = nodes.iter().filter(|node| !node.exact).map(|node| node.sets[0].len()).min().unwrap_or(1);
    let share = |f: &dyn Fn(&Crossed) -> bool| draws.iter().filter(|d| f(d)).count() as f64 / DRAWS as f64;
    let totals = [share(&|d| d.total <= 0.0), share(&|d| d.total >= 0.0)];
    let unseen = value.total == 0.0;
    let naive = {
        let total: f64 = seen[0].iter().sum();
        seen[0].iter().map(|d| d * d).sum::<f64>() / (total * total)
    };
    Concentration {
        c: estimate(value.c(), draws.iter().map(Crossed::c).collect(), Unit::Share, n),
        naive,
        energy: value.energy,
        square: value.square,
        parts: nodes.len() - 1,
        lead: value.lead,
        lead_share: estimate(value.lead_share, draws.iter().map(|d| d.lead_share).collect(), Unit::Share, n),
        // Where continuations never earned anything else, there is no difference, whatever the prior holds possible.
        p_total: if unseen { 1.0 } else { (2.0 * totals[0].min(totals[1])).min(1.0) },
        p_energy: if value.energy <= 0.0 { 1.0 } else { share(&|d| d.energy <= 0.0) },
    }
}

/// The products of two independent measurements of the same differences.
struct Crossed {
    energy: f64,
    square: f64,
    total: f64,
    lead: usize,
    lead_share: f64,
}

impl Crossed {
    fn of(a: &[f64], b: &[f64]) -> Self {
        let products: Vec<f64> = a.iter().zip(b).map(|(a, b)| a * b).collect();
        let energy: f64 = products.iter().sum();
        let (total_a, total_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
        let largest = |x: &[f64]| {
            let larger = |&i: &usize, &j: &usize| x[i].abs().total_cmp(&x[j].abs());
            (0..x.len()).max_by(larger).unwrap_or(0)
        };
        let (by_a, by_b) = (largest(a), largest(b));
        // Chosen by one set and measured in the other, both ways: a choice by the measured numbers would favour noise.
        let share = |lead: usize, x: &[f64]| {
            let all: f64 = x.iter().map(|x| x * x).sum();
            if all > 0.0 { x[lead] * x[lead] / all } else { 0.0 }
        };
        let lead_share = f64::midpoint(share(by_a, b), share(by_b, a));
        let sums: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
        let total = f64::midpoint(total_a, total_b);
        Self { energy, square: total_a * total_b, total, lead: largest(&sums), lead_share }
    }

    fn c(&self) -> f64 {
        self.energy / self.square
    }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    fn rng(trial: u64) -> Rng {
        Rng::new(5, Stream::Insight, 0, trial)
    }

    /// Continuations that succeed with the given probabilities, of an answer that succeeded.
    fn nodes(chances: &[f64], k: usize, rng: &mut Rng) -> Vec<Node> {
        let mut set = |p: f64| (0..k).map(|_| f64::from(u8::from(rng.uniform_f64() < p))).collect();
        let mut nodes: Vec<Node> = chances
            .iter()
            .enumerate()
            .map(|(at, &p)| Node { at, sets: [set(p), set(p)], exact: false })
            .collect();
        nodes.push(Node { at: chances.len(), sets: [vec![1.0], vec![1.0]], exact: true });
        nodes
    }

    #[test]
    fn bits_telescope_and_their_interval_covers() {
        let (mut covered, mut sum) = (0, 0.0);
        for trial in 0..100 {
            let mut rng = rng(trial);
            let profile = profile(&nodes(&[0.22, 0.22, 0.5, 0.5], 32, &mut rng), 1.0, &mut rng);
            let information = profile.information.unwrap();
            let bits: f64 = profile.bits.iter().map(|bits| bits.value).sum();
            assert!((bits - information.value).abs() < 1e-9);
            let deltas: f64 = profile.deltas.iter().map(|delta| delta.value).sum();
            assert!((deltas - profile.total.value).abs() < 1e-9);
            covered += u32::from((information.low..=information.high).contains(&-(0.22_f64.log2())));
            sum += information.value / 100.0;
        }
        assert!(covered >= 90, "{covered} of 100");
        assert!((sum + 0.22_f64.log2()).abs() < 0.1, "{sum}");
    }

    /// The second finding of the design: at 8 continuations the naive measure of an even profile is off by far, the
    /// cross-fitted one is not.
    #[test]
    fn concentration_is_unbiased_where_the_naive_one_is_not() {
        let even: Vec<f64> = (0..10).map(|i| 0.1 + 0.09 * f64::from(i)).collect();
        let pivot: Vec<f64> = (0..10).map(|i| if i < 5 { 0.2 } else { 1.0 }).collect();
        for (chances, truth, naive_above) in [(even, 0.1, 0.3), (pivot, 1.0, 1.0)] {
            let (mut crossed, mut square, mut naive) = (0.0, 0.0, 0.0);
            for trial in 0..60 {
                let mut rng = rng(trial);
                let measured = nodes(&chances, 8, &mut rng);
                let [a, b] = [0, 1].map(|set| -> Vec<f64> {
                    measured.windows(2).map(|w| w[1].mean_of(set) - w[0].mean_of(set)).collect()
                });
                // The mean of a ratio is not the ratio of the means: compare those.
                let products = Crossed::of(&a, &b);
                crossed += products.energy;
                square += products.square;
                naive += concentration(&measured, 1.0, &mut rng).naive / 60.0;
            }
            assert!((crossed / square - truth).abs() < 0.1, "{} for {truth}", crossed / square);
            assert!(naive > naive_above, "the naive one is {naive} for {truth}");
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let mut rng = rng(1);
        let sure = nodes(&[1.0; 6], 16, &mut rng);
        let concentration = concentration(&sure, 1.0, &mut rng);
        assert_eq!((concentration.p_total, concentration.p_energy), (1.0, 1.0));
        let profile = profile(&sure, 1.0, &mut rng);
        assert!(!profile.total.stands_out());
        assert!(profile.information.unwrap().value < 0.05);
    }

    #[test]
    fn points_of_any_size_have_no_bits() {
        let mut rng = rng(2);
        let set = |from: f64| (0..16).map(|i| from + f64::from(i) / 8.0).collect::<Vec<f64>>();
        let nodes = [
            Node { at: 0, sets: [set(0.0), set(0.0)], exact: false },
            Node { at: 3, sets: [set(2.0), set(2.0)], exact: false },
            Node { at: 4, sets: [vec![3.5], vec![3.5]], exact: true },
        ];
        let profile = profile(&nodes, 3.5, &mut rng);
        assert!(profile.bits.is_empty() && profile.information.is_none());
        assert!((profile.deltas[0].value - 2.0).abs() < 1e-12 && profile.deltas[0].stands_out());
        assert_eq!(profile.spans, [0..3, 3..4]);
    }
}
