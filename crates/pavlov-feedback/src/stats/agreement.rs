//! How far people say the same.

use std::collections::BTreeMap;

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use super::Interval;

/// One answer: what one rater said about one item. Verdicts without order are numbered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// The item.
    pub item: usize,
    /// Who.
    pub rater: usize,
    /// What.
    pub value: f64,
}

/// What a difference between two values means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing but that they differ.
    Nominal,
    /// Their order counts.
    Ordinal,
    /// Their distance counts.
    Interval,
}

/// The values of every item that at least two people labelled, items in order.
pub fn by_item(labels: &[Label]) -> Vec<Vec<f64>> {
    let mut items: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for label in labels {
        items.entry(label.item).or_default().push(label.value);
    }
    items.into_values().filter(|values| values.len() > 1).collect()
}

/// The share of pairs of people, over all items, who said the same. `None` without a pair.
pub fn raw(units: &[Vec<f64>]) -> Option<f64> {
    let (mut same, mut pairs) = (0_usize, 0_usize);
    for values in units {
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                pairs += 1;
                same += usize::from(a.total_cmp(b).is_eq());
            }
        }
    }
    (pairs > 0).then(|| same as f64 / pairs as f64)
}

/// Cohen's (1960) kappa of two people over the items both labelled: (p_o − p_e) / (1 − p_e). `None` without such an item, and
/// where both always say the one same thing.
pub fn kappa(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let mut shares: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    let mut observed = 0.0;
    for (a, b) in pairs {
        shares.entry(key(*a)).or_default().0 += 1.0 / n;
        shares.entry(key(*b)).or_default().1 += 1.0 / n;
        observed += f64::from(u8::from(key(*a) == key(*b))) / n;
    }
    let expected: f64 = shares.values().map(|(a, b)| a * b).sum();
    (!pairs.is_empty() && 1.0 - expected > 1e-12).then(|| (observed - expected) / (1.0 - expected))
}

/// Kappa of two people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PairKappa {
    /// The one.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// Items both labelled.
    pub items: usize,
    /// Their kappa, where it can be said.
    pub kappa: Option<f64>,
}

/// Kappa of every two people who share an item.
pub fn kappas(labels: &[Label]) -> Vec<PairKappa> {
    let mut items: BTreeMap<usize, BTreeMap<usize, f64>> = BTreeMap::new();
    for label in labels {
        items.entry(label.item).or_default().insert(label.rater, label.value);
    }
    let mut pairs: BTreeMap<(usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
    for values in items.values() {
        for (&a, &x) in values {
            for (&b, &y) in values.range(a + 1..) {
                pairs.entry((a, b)).or_default().push((x, y));
            }
        }
    }
    let one = |((a, b), values): (_, Vec<(f64, f64)>)| PairKappa {
        a,
        b,
        items: values.len(),
        kappa: kappa(&values),
    };
    pairs.into_iter().map(one).collect()
}

/// Krippendorff's (2011) alpha, 1 − D_o / D_e, from the coincidences of values within items, each weighted 1 / (m_u − 1).
/// `None` where nothing was labelled twice, or all values are one.
pub fn alpha(units: &[Vec<f64>], level: Level) -> Option<f64> {
    let mut values: Vec<f64> = units.iter().filter(|unit| unit.len() > 1).flatten().copied().collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let k = values.len();
    let place = |value: &f64| values.binary_search_by(|other| other.total_cmp(value)).unwrap_or(0);
    let mut coincidences = vec![vec![0.0; k]; k];
    for unit in units.iter().filter(|unit| unit.len() > 1) {
        let weight = 1.0 / (unit.len() as f64 - 1.0);
        let places: Vec<usize> = unit.iter().map(place).collect();
        for (i, &a) in places.iter().enumerate() {
            for &b in places[..i].iter().chain(&places[i + 1..]) {
                coincidences[a][b] += weight;
            }
        }
    }
    let totals: Vec<f64> = coincidences.iter().map(|row| row.iter().sum()).collect();
    let n: f64 = totals.iter().sum();
    let (mut observed, mut expected) = (0.0, 0.0);
    for a in 0..k {
        for b in a + 1..k {
            let distance = distance(level, &values, &totals, a, b);
            observed += coincidences[a][b] * distance;
            expected += totals[a] * totals[b] * distance;
        }
    }
    (expected > 0.0).then(|| 1.0 - (n - 1.0) * observed / expected)
}

/// The squared distance of the values at places `a` < `b`.
fn distance(level: Level, values: &[f64], totals: &[f64], a: usize, b: usize) -> f64 {
    match level {
        Level::Nominal => 1.0,
        Level::Interval => (values[b] - values[a]).powi(2),
        Level::Ordinal => {
            let between: f64 = totals[a..=b].iter().sum();
            (between - f64::midpoint(totals[a], totals[b])).powi(2)
        }
    }
}

/// Alpha with the percentiles of `resamples` draws of items with replacement.
pub fn alpha_interval(units: &[Vec<f64>], level: Level, resamples: usize, rng: &mut Rng) -> Option<Interval> {
    let value = alpha(units, level)?;
    bootstrap(units, resamples, rng, |sample| alpha(sample, level)).map(|(low, high)| Interval {
        value,
        low,
        high,
    })
}

/// The raw agreement with the percentiles of `resamples` draws of items with replacement.
pub fn raw_interval(units: &[Vec<f64>], resamples: usize, rng: &mut Rng) -> Option<Interval> {
    let value = raw(units)?;
    bootstrap(units, resamples, rng, raw).map(|(low, high)| Interval { value, low, high })
}

/// The 2.5% and 97.5% percentiles of a statistic over resampled items.
pub(crate) fn bootstrap(
    units: &[Vec<f64>],
    resamples: usize,
    rng: &mut Rng,
    statistic: impl Fn(&[Vec<f64>]) -> Option<f64>,
) -> Option<(f64, f64)> {
    let mut sample: Vec<Vec<f64>> = units.to_vec();
    let mut values: Vec<f64> = (0..resamples)
        .filter_map(|_| {
            for unit in &mut sample {
                unit.clone_from(&units[rng.below(units.len())]);
            }
            statistic(&sample)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)).round() as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

/// A value as a key: equal values, equal keys.
fn key(value: f64) -> u64 {
    // −0 and 0 are one value.
    (value + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    #[test]
    fn by_hand() {
        // Two people, four items, one difference. Coincidences: 1-1: 2, 2-2: 4, 1-2: 1 each way; n = 8.
        let units = [vec![1.0, 1.0], vec![2.0, 2.0], vec![2.0, 2.0], vec![1.0, 2.0]];
        assert_eq!(raw(&units), Some(0.75));
        let alpha = alpha(&units, Level::Nominal).unwrap();
        assert!((alpha - (1.0 - 7.0 * 1.0 / (3.0 * 5.0))).abs() < 1e-12);
        // p_o = 3/4, p_e = 1/2 · 1/4 + 1/2 · 3/4 = 1/2.
        assert_eq!(kappa(&[(1.0, 1.0), (2.0, 2.0), (2.0, 2.0), (1.0, 2.0)]), Some(0.5));
    }

    #[test]
    fn what_cannot_be_said_is_not() {
        assert_eq!(raw(&[vec![1.0]]), None);
        assert_eq!(alpha(&[vec![1.0], vec![2.0]], Level::Nominal), None);
        assert_eq!(alpha(&[vec![1.0, 1.0]], Level::Ordinal), None);
        assert_eq!(kappa(&[]), None);
        assert_eq!(kappa(&[(1.0, 1.0)]), None);
    }

    #[test]
    fn the_interval_holds_the_value_and_shrinks() {
        let units = |n: usize| -> Vec<Vec<f64>> {
            (0..n)
                .map(|i| vec![(i % 2) as f64, if i % 5 == 0 { 1.0 - (i % 2) as f64 } else { (i % 2) as f64 }])
                .collect()
        };
        let width = |n| {
            let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
            let interval = alpha_interval(&units(n), Level::Nominal, 300, &mut rng).unwrap();
            assert!(interval.low < interval.value && interval.value < interval.high);
            interval.high - interval.low
        };
        assert!(width(400) < 0.6 * width(100));
    }
}
