//! How well scores find causes: against planted ones, and against retraining.

use pavlov_schema::rng::Rng;

use crate::{Estimate, Unit};

/// Area under the curve of precision over recall (average precision) of scores for known causes; ties count as in the worst
/// order. NaN without a cause.
pub fn auprc(scored: &[(f64, bool)]) -> f64 {
    let causes = scored.iter().filter(|(_, cause)| *cause).count();
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let (mut found, mut sum) = (0, 0.0);
    for (i, _) in sorted.iter().enumerate().filter(|(_, (_, cause))| *cause) {
        found += 1;
        sum += f64::from(found) / (i + 1) as f64;
    }
    sum / causes as f64
}

/// Spearman's rank correlation; ties have their mean rank. NaN where one side does not vary.
pub fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |of: fn(&(f64, f64)) -> f64| {
        let values: Vec<f64> = pairs.iter().map(of).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut ranks = vec![0.0; values.len()];
        let mut start = 0;
        while start < order.len() {
            let end = start
                + order[start..]
                    .iter()
                    .take_while(|i| values[**i].total_cmp(&values[order[start]]).is_eq())
                    .count();
            order[start..end].iter().for_each(|i| ranks[*i] = (start + end - 1) as f64 / 2.0);
            start = end;
        }
        ranks
    };
    pearson(&ranks(|p| p.0), &ranks(|p| p.1))
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// The linear datamodeling score (Park et al., arXiv:2303.14186): rank correlation, over random subsets of the lessons, of the
/// sum of their scores with what retraining on them gave; mean over queries. The interval is over subsets: all queries share
/// their retrainings, so that one over queries would be too narrow.
///
/// `predicted[q][s]` and `found[q][s]` are of query q and subset s.
///
/// # Panics
/// If there is no query.
pub fn linear_datamodeling_score(predicted: &[Vec<f64>], found: &[Vec<f64>], rng: &mut Rng) -> Estimate {
    let subsets: Vec<usize> = (0..predicted[0].len()).collect();
    Estimate::of(&subsets, Unit::Correlation, rng, |sample| {
        let of_query = |(predicted, found): (&Vec<f64>, &Vec<f64>)| {
            let pair = |s: &usize| (predicted[*s], found[*s]);
            spearman(&sample.iter().map(pair).collect::<Vec<_>>())
        };
        let all = predicted.iter().zip(found).map(of_query);
        let scores: Vec<f64> = all.filter(|score| !score.is_nan()).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_numbers() {
        let scored = [(0.9, true), (0.8, false), (0.7, true), (0.1, false)];
        assert!((auprc(&scored) - f64::midpoint(1.0, 2.0 / 3.0)).abs() < 1e-12);
        // All the same: the causes come last.
        assert!((auprc(&[(0.0, true), (0.0, false), (0.0, false)]) - 1.0 / 3.0).abs() < 1e-12);
        assert!(auprc(&[(1.0, false)]).is_nan());
        assert!((spearman(&[(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)]) - 1.0).abs() < 1e-12);
        // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5/√(4.5·5).
        let ties = [(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (3.0, 4.0)];
        assert!((spearman(&ties) - 4.5 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-12);
        assert!(spearman(&[(1.0, 1.0), (1.0, 2.0)]).is_nan());
        // One query in the right order, one in the opposite.
        let rising: Vec<f64> = (0..8).map(f64::from).collect();
        let falling = rising.iter().rev().copied().collect();
        let mut rng = Rng::new(0, pavlov_schema::rng::Stream::Bootstrap, 0, 0);
        let all = [rising.clone(), falling];
        let found = [rising.clone(), rising];
        let one = linear_datamodeling_score(&all[..1], &found[..1], &mut rng);
        assert!((one.value - 1.0).abs() < 1e-12 && (one.low - 1.0).abs() < 1e-12);
        assert!(linear_datamodeling_score(&all, &found, &mut rng).value.abs() < 1e-12);
    }
}
