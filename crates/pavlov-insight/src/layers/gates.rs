//! Which parts' weight changes carry the gain: each alone, the trained model without each, groups of them (Shapley), and
//! how fast the gain comes as parts are added.

use std::collections::BTreeMap;

use pavlov_schema::rng::{Rng, Stream};

use super::metric::{Metric, Set};
use super::models::{Models, Part};
use super::report::{Curve, Gate, Gates, Group};
use super::{Asked, share};
use crate::{Error, Result};

/// Values of mixtures of the two models on each example, each mixture measured once.
struct Mixtures<'a, 'b> {
    models: &'a mut Models,
    metric: &'a mut Metric,
    set: &'a Set,
    asked: &'a mut Asked<'b>,
    known: BTreeMap<Vec<bool>, Vec<f64>>,
}

impl Mixtures<'_, '_> {
    fn value(&mut self, open: &[bool]) -> Result<Vec<f64>> {
        if let Some(values) = self.known.get(open) {
            return Ok(values.clone());
        }
        let Self { models, metric, set, asked, .. } = self;
        let values = asked.values(|| {
            models.gate(open)?;
            metric.measure(set, models, models.mixed(), &[])
        })?;
        self.known.insert(open.to_vec(), values.clone());
        Ok(values)
    }
}

/// How gates are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct GateOptions {
    /// Groups for Shapley values, 0 for none.
    pub groups: usize,
    /// Random orders for the curve.
    pub orders: usize,
    pub seed: u64,
}

/// Evaluations that gates on so many parts need, at most.
pub(super) fn cost(parts: usize, groups: usize, orders: usize) -> usize {
    let between = parts.saturating_sub(1);
    2 * parts + (1 + orders) * between + if groups > 0 { 1 << groups.min(parts) } else { 0 }
}

pub(super) fn measure(
    models: &mut Models,
    metric: &mut Metric,
    set: &Set,
    [before, after]: [&[f64]; 2],
    options: GateOptions,
    asked: &mut Asked<'_>,
) -> Result<Gates> {
    let parts = models.parts().to_vec();
    let n = parts.len();
    let known = BTreeMap::from([(vec![false; n], before.to_vec()), (vec![true; n], after.to_vec())]);
    let gain = minus(after, before);
    let mut mixtures = Mixtures { models, metric, set, asked, known };
    let (mut alone, mut needed) = (Vec::new(), Vec::new());
    for part in 0..n {
        let one: Vec<bool> = (0..n).map(|i| i == part).collect();
        let rest: Vec<bool> = one.iter().map(|open| !open).collect();
        alone.push(minus(&mixtures.value(&one)?, before));
        needed.push(minus(after, &mixtures.value(&rest)?));
    }
    let mut rng = Rng::new(options.seed, Stream::Bootstrap, 0, 0);
    let gates = parts
        .iter()
        .zip(alone.iter().zip(&needed))
        .map(|(&(part, change), (alone, needed))| {
            let [alone, needed] = [alone, needed].map(|numbers| share(numbers, &gain, &mut rng));
            Gate { part, change, alone, needed, credit: 0.5 * (alone.value + needed.value) }
        })
        .collect();
    let groups = if options.groups == 0 {
        Vec::new()
    } else {
        shapley(&mut mixtures, &parts, options.groups, &gain, &mut rng)?
    };
    let curve = curve(&mut mixtures, [&alone, &needed], &gain, options)?;
    Ok(Gates { parts: gates, groups, curve })
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// φ_g = Σ over coalitions S without g of |S|!(G−|S|−1)!/G! · (v(S ∪ g) − v(S)).
fn shapley(
    mixtures: &mut Mixtures<'_, '_>,
    parts: &[(Part, f64)],
    groups: usize,
    gain: &[f64],
    rng: &mut Rng,
) -> Result<Vec<Group>> {
    if groups > 8 {
        return Err(Error::Question(format!(
            "{groups} groups have {} coalitions; ask for 8 or fewer",
            1_u64 << groups.min(63)
        )));
    }
    let groups = groups.min(parts.len());
    let group_of = |part: usize| part * groups / parts.len();
    let mut values = Vec::with_capacity(1 << groups);
    for coalition in 0..1_usize << groups {
        let open: Vec<bool> = (0..parts.len()).map(|part| coalition >> group_of(part) & 1 == 1).collect();
        values.push(mixtures.value(&open)?);
    }
    let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
    let found = (0..groups).map(|group| {
        let mut phi = vec![0.0; gain.len()];
        for coalition in (0..values.len()).filter(|coalition| coalition >> group & 1 == 0) {
            let size = coalition.count_ones() as usize;
            let weight = factorial(size) * factorial(groups - size - 1) / factorial(groups);
            let with = &values[coalition | 1 << group];
            phi.iter_mut()
                .zip(with)
                .zip(&values[coalition])
                .for_each(|((phi, w), v)| *phi += weight * (w - v));
        }
        let parts = (0..parts.len()).filter(|p| group_of(*p) == group).map(|p| parts[p].0).collect();
        Group { parts, shapley: share(&phi, gain, rng) }
    });
    Ok(found.collect())
}

/// The order is found on every other example, and followed on the rest.
fn curve(
    mixtures: &mut Mixtures<'_, '_>,
    [alone, needed]: [&[Vec<f64>]; 2],
    gain: &[f64],
    options: GateOptions,
) -> Result<Curve> {
    let n = alone.len();
    let half = |numbers: &[f64], which: usize| numbers.iter().skip(which).step_by(2).sum::<f64>();
    let credit = |part: usize| half(&alone[part], 0) + half(&needed[part], 0);
    let sign = half(gain, 0).signum();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| (sign * credit(*b)).total_cmp(&(sign * credit(*a))));
    let followed = usize::from(gain.len() > 1);
    let mut follow = |order: &[usize]| -> Result<Vec<f64>> {
        let mut open = vec![false; n];
        let base = half(&mixtures.value(&open)?, followed);
        let mut heights = vec![0.0];
        for part in order {
            open[*part] = true;
            heights.push((half(&mixtures.value(&open)?, followed) - base) / half(gain, followed));
        }
        Ok(heights)
    };
    let area = |heights: &[f64]| heights.iter().sum::<f64>() / heights.len() as f64;
    let by_credit = follow(&order)?;
    let (mut random, mut random_areas) = (vec![0.0; n + 1], Vec::new());
    for i in 0..options.orders {
        let mut rng = Rng::new(options.seed, Stream::Probe, 1, i as u64);
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, rng.below(last + 1));
        }
        let heights = follow(&order)?;
        random.iter_mut().zip(&heights).for_each(|(sum, h)| *sum += h / options.orders as f64);
        random_areas.push(area(&heights));
    }
    Ok(Curve { area: Some(area(&by_credit)), by_credit, random, random_areas })
}
