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

/// The items that at least two people labelled, those with the same labels together: a million labels of four classes are some
/// hundred different items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Units {
    /// The values, from the lowest.
    values: Vec<f64>,
    /// For each kind of item: how often each value was given.
    kinds: Vec<Vec<f64>>,
    /// The kind of each item.
    items: Vec<u32>,
}

impl Units {
    /// The values given to each item, whose order is of no matter.
    pub fn new(items: impl IntoIterator<Item = Vec<f64>>) -> Self {
        let items: Vec<Vec<f64>> = items.into_iter().filter(|values| values.len() > 1).collect();
        let mut values: Vec<f64> = items.iter().flatten().copied().collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut kinds = Vec::new();
        let kind = |given: &Vec<f64>| {
            let mut counts = vec![0; values.len()];
            for value in given {
                counts[values.binary_search_by(|other| other.total_cmp(value)).unwrap_or(0)] += 1;
            }
            let next = kinds.len() as u32;
            *known.entry(counts).or_insert_with_key(|counts| {
                kinds.push(counts.iter().map(|&n| f64::from(n)).collect());
                next
            })
        };
        let items = items.iter().map(kind).collect();
        Self { values, kinds, items }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing was labelled twice.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The measure over all items. `None` without a pair, and of alpha where all values are one.
    pub fn measure(&self, measure: Measure) -> Option<f64> {
        let mut times = vec![0.0; self.kinds.len()];
        self.items.iter().for_each(|&kind| times[kind as usize] += 1.0);
        self.weighted(measure, &times)
    }

    /// The measures, with the 2.5% and 97.5% percentiles of `resamples` draws of items with replacement.
    pub fn intervals<const N: usize>(
        &self,
        measures: [Measure; N],
        resamples: usize,
        rng: &mut Rng,
    ) -> [Option<Interval>; N] {
        let mut drawn: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        for _ in 0..if self.is_empty() { 0 } else { resamples } {
            let mut times = vec![0.0; self.kinds.len()];
            for _ in 0..self.len() {
                times[self.items[rng.below(self.len())] as usize] += 1.0;
            }
            drawn.iter_mut().zip(measures).for_each(|(all, one)| all.extend(self.weighted(one, &times)));
        }
        std::array::from_fn(|i| {
            let (values, value) = (&mut drawn[i], self.measure(measures[i])?);
            percentiles(std::mem::take(values)).map(|(low, high)| Interval { value, low, high })
        })
    }

    /// The measure where each kind of item is there so many times.
    fn weighted(&self, measure: Measure, times: &[f64]) -> Option<f64> {
        match measure {
            Measure::Raw => self.raw(times),
            Measure::Alpha(level) => self.alpha(level, times),
        }
    }

    fn raw(&self, times: &[f64]) -> Option<f64> {
        let (mut same, mut pairs) = (0.0, 0.0);
        for (counts, times) in self.kinds.iter().zip(times) {
            let m: f64 = counts.iter().sum();
            same += times * counts.iter().map(|n| n * (n - 1.0)).sum::<f64>();
            pairs += times * m * (m - 1.0);
        }
        (pairs > 0.0).then(|| same / pairs)
    }

    /// Coincidences of values within items, each weighted 1 / (m_u − 1).
    fn alpha(&self, level: Level, times: &[f64]) -> Option<f64> {
        let k = self.values.len();
        let mut coincidences = vec![vec![0.0; k]; k];
        for (counts, times) in self.kinds.iter().zip(times) {
            let weight = times / (counts.iter().sum::<f64>() - 1.0);
            for a in 0..k {
                for b in 0..k {
                    let others = if a == b { counts[b] - 1.0 } else { counts[b] };
                    coincidences[a][b] += weight * counts[a] * others;
                }
            }
        }
        let totals: Vec<f64> = coincidences.iter().map(|row| row.iter().sum()).collect();
        let n: f64 = totals.iter().sum();
        let (mut observed, mut expected) = (0.0, 0.0);
        for a in 0..k {
            for b in a + 1..k {
                let distance = distance(level, &self.values, &totals, a, b);
                observed += coincidences[a][b] * distance;
                expected += totals[a] * totals[b] * distance;
            }
        }
        (expected > 0.0).then(|| 1.0 - (n - 1.0) * observed / expected)
    }
}

/// The 2.5% and 97.5% percentiles of a statistic that was computed of resamples.
pub(crate) fn percentiles(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)).round() as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

/// A measure of agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The share of pairs of people, over all items, who said the same.
    Raw,
    /// Krippendorff's (2011) alpha, 1 − D_o / D_e.
    Alpha(Level),
}

/// The values of every item that at least two people labelled.
pub fn by_item(labels: &[Label]) -> Units {
    let mut items: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for label in labels {
        items.entry(label.item).or_default().push(label.value);
    }
    Units::new(items.into_values())
}

/// What two people said of the items both labelled, and how often.
type Table = BTreeMap<(u64, u64), f64>;

/// Cohen's (1960) kappa of two people over the items both labelled: (p_o − p_e) / (1 − p_e). `None` where both always say the one
/// same thing.
fn kappa(table: &Table) -> Option<f64> {
    let n: f64 = table.values().sum();
    let mut shares: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    let mut observed = 0.0;
    for (&(a, b), times) in table {
        shares.entry(a).or_default().0 += times / n;
        shares.entry(b).or_default().1 += times / n;
        observed += if a == b { times / n } else { 0.0 };
    }
    let expected: f64 = shares.values().map(|(a, b)| a * b).sum();
    (1.0 - expected > 1e-12).then(|| (observed - expected) / (1.0 - expected))
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
    let mut order: Vec<&Label> = labels.iter().collect();
    order.sort_by_key(|label| (label.item, label.rater));
    let mut pairs: BTreeMap<(usize, usize), Table> = BTreeMap::new();
    for said in order.chunk_by(|one, other| one.item == other.item) {
        for (i, one) in said.iter().enumerate() {
            for other in said[i + 1..].iter().filter(|other| other.rater != one.rater) {
                let table = pairs.entry((one.rater, other.rater)).or_default();
                *table.entry((key(one.value), key(other.value))).or_default() += 1.0;
            }
        }
    }
    let one = |((a, b), table): (_, Table)| PairKappa {
        a,
        b,
        items: table.values().sum::<f64>() as usize,
        kappa: kappa(&table),
    };
    pairs.into_iter().map(one).collect()
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

/// A value as a key: equal values, equal keys.
fn key(value: f64) -> u64 {
    // −0 and 0 are one value.
    (value + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    fn label(item: usize, rater: usize, value: f64) -> Label {
        Label { item, rater, value }
    }

    #[test]
    fn by_hand() {
        // Two people, four items, one difference. Coincidences: 1-1: 2, 2-2: 4, 1-2: 1 each way; n = 8.
        let items = [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0], [1.0, 2.0]];
        let units = Units::new(items.iter().map(|values| values.to_vec()));
        assert_eq!((units.len(), units.measure(Measure::Raw)), (4, Some(0.75)));
        let alpha = units.measure(Measure::Alpha(Level::Nominal)).unwrap();
        assert!((alpha - (1.0 - 7.0 * 1.0 / (3.0 * 5.0))).abs() < 1e-12);
        // p_o = 3/4, p_e = 1/2 · 1/4 + 1/2 · 3/4 = 1/2.
        let labels: Vec<Label> = (0..8).map(|i| label(i / 2, 3 + i % 2, items[i / 2][i % 2])).rev().collect();
        let pair = PairKappa { a: 3, b: 4, items: 4, kappa: Some(0.5) };
        assert_eq!(kappas(&labels), [pair]);
    }

    #[test]
    fn what_cannot_be_said_is_not() {
        let units = |items: &[&[f64]]| Units::new(items.iter().map(|values| values.to_vec()));
        assert_eq!(units(&[&[1.0]]).measure(Measure::Raw), None);
        assert_eq!(units(&[&[1.0], &[2.0]]).measure(Measure::Alpha(Level::Nominal)), None);
        assert_eq!(units(&[&[1.0, 1.0]]).measure(Measure::Alpha(Level::Ordinal)), None);
        let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
        assert_eq!(units(&[]).intervals([Measure::Raw], 10, &mut rng), [None]);
        assert_eq!(kappas(&[label(0, 0, 1.0), label(1, 1, 1.0)]), []);
        assert_eq!(kappas(&[label(0, 0, 1.0), label(0, 1, 1.0)])[0].kappa, None);
    }

    #[test]
    fn the_interval_holds_the_value_and_shrinks() {
        let units = |n: usize| {
            Units::new((0..n).map(|i| {
                let value = (i % 2) as f64;
                vec![value, if i % 5 == 0 { 1.0 - value } else { value }]
            }))
        };
        let width = |n| {
            let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
            let [interval] = units(n).intervals([Measure::Alpha(Level::Nominal)], 300, &mut rng);
            let interval = interval.unwrap();
            assert!(interval.low < interval.value && interval.value < interval.high);
            interval.high - interval.low
        };
        assert!(width(400) < 0.6 * width(100));
    }
}
