//! How each rater judges.

use std::collections::BTreeMap;

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

use super::Interval;
use super::agreement::Label;

/// A rater's accuracy on items with a known answer: Beta(1 + right, 1 + wrong), mean and the 2.5% and 97.5% quantiles.
pub fn gold(right: usize, wrong: usize) -> Interval {
    let (a, b) = (1.0 + right as f64, 1.0 + wrong as f64);
    // The parameters are finite and above 0.
    let at = |p: f64| Beta::new(a, b).map_or(f64::NAN, |law| quantile(&law, p));
    Interval { value: a / (a + b), low: at(0.025), high: at(0.975) }
}

/// By bisection: the distribution function is exact to more digits than its library's inverse.
fn quantile(law: &Beta, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if law.cdf(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// What Dawid and Skene's (1979) model says. Its use is diagnosis: three decent raters change no majority.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DawidSkene {
    /// Share of each class among the items.
    pub prior: Vec<f64>,
    /// For each rater, row by row: given the true class, the chance of each label.
    pub confusion: Vec<Vec<Vec<f64>>>,
    /// For each item that was labelled, in the order of its number: the chance of each class.
    pub items: Vec<Vec<f64>>,
}

impl DawidSkene {
    /// The chance that a rater's label is the true class.
    pub fn accuracy(&self, rater: usize) -> f64 {
        let confusion = &self.confusion[rater];
        self.prior.iter().enumerate().map(|(c, p)| p * confusion[c][c]).sum()
    }
}

/// Items a rater must share with others before anything is said about them.
pub const LEAST_OVERLAP: usize = 20;

/// The raters who share at least [`LEAST_OVERLAP`] items with others.
pub fn overlapping(labels: &[Label], raters: usize) -> Vec<bool> {
    let mut people: BTreeMap<usize, usize> = BTreeMap::new();
    for label in labels {
        *people.entry(label.item).or_default() += 1;
    }
    let mut shared = vec![0; raters];
    labels.iter().filter(|label| people[&label.item] > 1).for_each(|label| shared[label.rater] += 1);
    shared.into_iter().map(|n| n >= LEAST_OVERLAP).collect()
}

/// Expectation maximisation from the majority's labels. Values are classes 0 … `classes` − 1; `smoothing` is added to every count
/// of a confusion (0 lets entries run to 0; 0.01 is a hundredth of a label); ends after `steps`, or when no class of an item moves by 1e-9.
pub fn dawid_skene(
    labels: &[Label],
    raters: usize,
    classes: usize,
    smoothing: f64,
    steps: usize,
) -> DawidSkene {
    let mut numbers: Vec<usize> = labels.iter().map(|label| label.item).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let said: Vec<Heard> = labels
        .iter()
        .map(|label| Heard {
            item: numbers.binary_search(&label.item).unwrap_or(0) as u32,
            rater: label.rater as u32,
            class: label.value as u32,
        })
        .collect();
    let mut items = vec![vec![0.0; classes]; numbers.len()];
    for one in &said {
        items[one.item as usize][one.class as usize] += 1.0;
    }
    for chances in &mut items {
        normalize(chances);
    }
    let (mut prior, mut confusion) = maximise(&said, &items, raters, classes, smoothing);
    for _ in 0..steps {
        let next = expect(&said, &prior, &confusion, numbers.len());
        let moved = items.iter().flatten().zip(next.iter().flatten()).map(|(a, b)| (a - b).abs());
        let moved = moved.fold(0.0, f64::max);
        items = next;
        (prior, confusion) = maximise(&said, &items, raters, classes, smoothing);
        if moved < 1e-9 {
            break;
        }
    }
    DawidSkene { prior, confusion, items }
}

/// A label, its item by its place.
struct Heard {
    item: u32,
    rater: u32,
    class: u32,
}

/// For each rater, row by row: given the true class, the chance of each label.
type Confusion = Vec<Vec<Vec<f64>>>;

/// T_i(c) ∝ p_c·Π_k π^k_{c,l_ik}.
fn expect(said: &[Heard], prior: &[f64], confusion: &Confusion, items: usize) -> Vec<Vec<f64>> {
    // By label first: what a label says of each class stands together.
    let classes = prior.len();
    let of_label = |rows: &Vec<Vec<f64>>| -> Vec<Vec<f64>> {
        (0..classes).map(|l| rows.iter().map(|row| row[l].max(1e-300).ln()).collect()).collect()
    };
    let logs: Vec<Vec<Vec<f64>>> = confusion.iter().map(of_label).collect();
    let mut next: Vec<Vec<f64>> = vec![prior.iter().map(|p| p.ln()).collect(); items];
    for one in said {
        let says = &logs[one.rater as usize][one.class as usize];
        next[one.item as usize].iter_mut().zip(says).for_each(|(sum, log)| *sum += log);
    }
    for chances in &mut next {
        let most = chances.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for log in chances.iter_mut() {
            *log = (*log - most).exp();
        }
        normalize(chances);
    }
    next
}

/// π^k_{cl} ∝ s + Σ_i T_i(c)·1[l_ik = l], and p_c the mean of T_i(c).
fn maximise(
    said: &[Heard],
    items: &[Vec<f64>],
    raters: usize,
    classes: usize,
    smoothing: f64,
) -> (Vec<f64>, Confusion) {
    let mut prior = vec![0.0; classes];
    for chances in items {
        prior.iter_mut().zip(chances).for_each(|(sum, p)| *sum += p);
    }
    normalize(&mut prior);
    let mut confusion = vec![vec![vec![smoothing; classes]; classes]; raters];
    for one in said {
        let rows = &mut confusion[one.rater as usize];
        rows.iter_mut().zip(&items[one.item as usize]).for_each(|(row, p)| row[one.class as usize] += p);
    }
    confusion.iter_mut().flatten().for_each(|row| normalize(row));
    (prior, confusion)
}

fn normalize(shares: &mut [f64]) {
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 {
        for share in shares {
            *share /= sum;
        }
    }
}

/// How much higher than others each rater rates the same items, and what remains of the ratings without it.
#[derive(Clone, Debug, PartialEq)]
pub struct Severity {
    /// Points above the others, by rater; 0 of who shares no item. Their sum is 0 among those who do.
    pub offset: Vec<f64>,
    /// The ratings, each without its rater's offset.
    pub corrected: Vec<f64>,
}

/// Additive severity: value = item + offset of the rater, least squares with one pseudo-rating of offset 0 a rater, so that few
/// items cannot make a large offset. Only items that several people rated tell raters apart.
pub fn severity(labels: &[Label], raters: usize) -> Severity {
    let mut items: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    labels.iter().enumerate().for_each(|(i, label)| items.entry(label.item).or_default().push(i));
    // Items eliminated: for each item, the ratings minus their mean leave offsets minus their mean.
    let mut matrix = vec![vec![0.0; raters]; raters];
    let mut right = vec![vec![0.0]; raters];
    for rows in items.values().filter(|rows| rows.len() > 1) {
        let n = rows.len() as f64;
        let mean = rows.iter().map(|&i| labels[i].value).sum::<f64>() / n;
        for &i in rows {
            let rater = labels[i].rater;
            matrix[rater][rater] += 1.0;
            right[rater][0] += labels[i].value - mean;
            for &j in rows {
                matrix[rater][labels[j].rater] -= 1.0 / n;
            }
        }
    }
    (0..raters).for_each(|i| matrix[i][i] += 1.0);
    // The pseudo-ratings make the matrix positive definite.
    let solved = super::matrix::solve(matrix, right).unwrap_or_else(|| vec![vec![0.0]; raters]);
    let offset: Vec<f64> = solved.into_iter().map(|row| row[0]).collect();
    let corrected = labels.iter().map(|label| label.value - offset[label.rater]).collect();
    Severity { offset, corrected }
}

/// Ratings, each minus its rater's mean, plus the mean of all: what a generous and a strict rater have in common where they rated
/// different items.
pub fn centred(labels: &[Label], raters: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); raters];
    for label in labels {
        let (sum, n) = &mut sums[label.rater];
        *sum += label.value;
        *n += 1.0;
    }
    let all = labels.iter().map(|label| label.value).sum::<f64>() / (labels.len().max(1)) as f64;
    labels.iter().map(|label| label.value - sums[label.rater].0 / sums[label.rater].1 + all).collect()
}

/// The mean of labels, with an interval clustered by item and by rater (item + rater − both, and never less than either alone). `None` of
/// fewer than two items, whose error nobody knows.
pub fn clustered_mean(labels: &[Label]) -> Option<Interval> {
    let n = labels.len() as f64;
    let mean = labels.iter().map(|label| label.value).sum::<f64>() / n;
    let clustered = |cluster: &dyn Fn(&Label) -> (usize, usize)| -> (usize, f64) {
        let mut sums: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for label in labels {
            *sums.entry(cluster(label)).or_default() += label.value - mean;
        }
        (sums.len(), sums.values().map(|sum| sum * sum).sum())
    };
    let (items, by_item) = clustered(&|label| (label.item, 0));
    let (_, by_rater) = clustered(&|label| (label.rater, 0));
    let (_, by_both) = clustered(&|label| (label.item, label.rater));
    let variance = (by_item + by_rater - by_both).max(by_item).max(by_rater);
    (items > 1).then(|| Interval::normal(mean, variance.sqrt() / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rater_without_gold_is_unknown() {
        let unknown = gold(0, 0);
        assert!((unknown.value - 0.5).abs() < 1e-12 && (unknown.low - 0.025).abs() < 1e-9);
        assert!(gold(40, 2).low > 0.8);
    }

    #[test]
    fn a_strict_rater_is_found_and_corrected() {
        // Two people rate the same 30 items, the second one point lower; both centred and additive give the same ratings.
        let labels: Vec<Label> = (0..60)
            .map(|i| Label { item: i / 2, rater: i % 2, value: (i / 2 % 4) as f64 + 2.0 - (i % 2) as f64 })
            .collect();
        let severity = severity(&labels, 2);
        // Least squares with the pseudo-rating: ±15/31.
        assert!((severity.offset[0] - 15.0 / 31.0).abs() < 1e-12, "{:?}", severity.offset);
        for pair in centred(&labels, 2).chunks(2) {
            assert!((pair[0] - pair[1]).abs() < 1e-12);
        }
    }

    #[test]
    fn little_overlap_says_nothing() {
        let labels: Vec<Label> = (0..50)
            .map(|i| Label { item: i / 2 + usize::from(i >= 38) * i, rater: i % 2, value: 0.0 })
            .collect();
        assert_eq!(overlapping(&labels, 2), [false, false]);
        let labels: Vec<Label> = (0..40).map(|i| Label { item: i / 2, rater: i % 2, value: 0.0 }).collect();
        assert_eq!(overlapping(&labels, 2), [true, true]);
    }
}
