//! Tier B in numbers: a sparse linear model of what an answer earns when parts of it are written anew by the policy.
//!
//! A coalition keeps some segments and lets the policy write the others again, from left to right. The reward as a
//! function of what was kept, v(S), is fitted by a Lasso over segments and pairs of them (ContextCite, arXiv:2409.00729,
//! with pairs), then by least squares on what the Lasso kept. Features are centred (kept = ½, written anew = −½), so that
//! a segment's coefficient is its Shapley value in the fitted game: each pair is shared by its two segments.

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use super::rank::{pearson, spearman};
use super::values::estimate;
use crate::{Estimate, Unit};

/// Resamples of the intervals.
const RESAMPLES: usize = 200;
/// Permutations of the noise floor.
const PERMUTATIONS: usize = 100;
/// Rounds of coordinate descent at most.
const ROUNDS: usize = 200;

/// One coalition and what it earned, once a draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Ablation {
    /// For each segment, whether it was kept.
    pub kept: Vec<bool>,
    /// Rewards of its draws, in reward points; never empty.
    pub rewards: Vec<f64>,
}

impl Ablation {
    fn mean(&self) -> f64 {
        self.rewards.iter().sum::<f64>() / self.rewards.len() as f64
    }
}

/// Two segments whose effects do not add.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The two segments.
    pub segments: [usize; 2],
    /// What both bring together beyond what each brings, in reward points.
    pub effect: Estimate,
}

/// What each segment is worth, and whether that is a fair description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surrogate {
    /// The Shapley value of each segment in the fitted game, in reward points; 0 where the Lasso left it out.
    pub credits: Vec<Estimate>,
    /// Pairs that the Lasso kept.
    pub pairs: Vec<Pair>,
    /// The part of the explained variance that pairs hold which help each other towards this answer's reward.
    pub synergy: f64,
    /// Rank correlation of predicted with measured rewards of coalitions that were not fitted (linear datamodeling
    /// score); none where the reward of those does not vary.
    pub lds: Option<Estimate>,
    /// The most it could be with draws this noisy: the root of the reliability of the measured rewards.
    pub lds_ceiling: Option<f64>,
    /// (v(all) − v(none)) − Σ credits, in reward points: what the description leaves over.
    pub residual: f64,
}

/// Fits the surrogate. `whole` is v(all): what the answer earns; `nothing` is v(none): the mean of answers that are
/// written anew from the prompt.
///
/// # Panics
/// If there is no coalition.
pub fn surrogate(
    fitted: &[Ablation],
    held_out: &[Ablation],
    whole: f64,
    nothing: f64,
    rng: &mut Rng,
) -> Surrogate {
    let segments = fitted[0].kept.len();
    let features = Features::new(segments);
    let rows: Vec<Vec<f64>> = fitted.iter().map(|ablation| features.of(&ablation.kept)).collect();
    let targets: Vec<f64> = fitted.iter().map(Ablation::mean).collect();
    let support = features.lasso(&rows, &targets);
    let coefficients = least_squares(&rows, &targets, &support);
    let value = |f: usize| support.iter().position(|&s| s == f).map_or(0.0, |i| coefficients[1 + i]);

    // Intervals of every segment, also of those left out, and of the pairs that stayed.
    let shown: Vec<usize> = (0..segments).chain(support.iter().copied().filter(|&f| f >= segments)).collect();
    let mut draws = vec![Vec::with_capacity(RESAMPLES); shown.len()];
    for _ in 0..RESAMPLES {
        let chosen: Vec<usize> = (0..rows.len()).map(|_| rng.below(rows.len())).collect();
        let resampled: Vec<Vec<f64>> = chosen.iter().map(|&i| rows[i].clone()).collect();
        let its: Vec<f64> = chosen.iter().map(|&i| targets[i]).collect();
        for (draws, value) in draws.iter_mut().zip(&least_squares(&resampled, &its, &shown)[1..]) {
            draws.push(*value);
        }
    }
    let floors = noise_floors(&features, &rows, &targets, rng);
    let mut estimates = shown.iter().zip(draws).map(|(&f, draws)| {
        let floor = floors[usize::from(f >= segments)];
        estimate(value(f), draws, Unit::RewardPoints, rows.len()).above(floor)
    });
    let credits: Vec<Estimate> = estimates.by_ref().take(segments).collect();
    let pairs: Vec<Pair> = shown[segments..]
        .iter()
        .zip(estimates)
        .map(|(&f, effect)| Pair { segments: features.pairs[f - segments].into(), effect })
        .collect();

    let predict =
        |kept: &[bool]| -> f64 { features.of(kept).iter().enumerate().map(|(f, x)| x * value(f)).sum() };
    let predicted: Vec<f64> = held_out.iter().map(|ablation| predict(&ablation.kept)).collect();
    let measured: Vec<f64> = held_out.iter().map(Ablation::mean).collect();
    let both: Vec<(f64, f64)> = predicted.into_iter().zip(measured).collect();
    let correlation = |pairs: &[(f64, f64)]| {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        spearman(&a, &b).unwrap_or(f64::NAN)
    };
    let lds = Estimate::of(&both, Unit::Correlation, rng, correlation);
    let explained = credits.iter().map(|credit| credit.value).sum::<f64>();
    Surrogate {
        synergy: synergy(&credits, &pairs, whole - nothing),
        credits,
        pairs,
        lds: (!lds.value.is_nan()).then_some(lds),
        lds_ceiling: ceiling(held_out),
        residual: whole - nothing - explained,
    }
}

/// The share of pairs that push towards the answer's own reward in the variance that the fit explains: a centred segment
/// has variance ¼, a pair 1/16.
fn synergy(credits: &[Estimate], pairs: &[Pair], total: f64) -> f64 {
    let square = |estimate: &Estimate| estimate.value * estimate.value;
    let main: f64 = credits.iter().map(square).sum::<f64>() / 4.0;
    let all: f64 = pairs.iter().map(|pair| square(&pair.effect)).sum::<f64>() / 16.0;
    // Above what the best of all pairs reaches by chance, and of a certain sign.
    let clear =
        |e: &Estimate| e.value.abs() > e.noise_floor.unwrap_or(0.0) && e.low.signum() * e.high.signum() > 0.0;
    let helping = pairs.iter().filter(|pair| pair.effect.value * total > 0.0 && clear(&pair.effect));
    let helping: f64 = helping.map(|pair| square(&pair.effect)).sum::<f64>() / 16.0;
    if helping > 0.0 { helping / (main + all) } else { 0.0 }
}

/// √reliability of the measured rewards, from their two halves (Spearman and Brown).
fn ceiling(held_out: &[Ablation]) -> Option<f64> {
    let half = |which: usize| -> Vec<f64> {
        let mean = |ablation: &Ablation| {
            let own: Vec<f64> = ablation.rewards.iter().skip(which).step_by(2).copied().collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        held_out.iter().map(mean).collect()
    };
    if held_out.iter().any(|ablation| ablation.rewards.len() < 2) {
        return None;
    }
    let r = pearson(&half(0), &half(1))?.max(0.0);
    Some((2.0 * r / (1.0 + r)).sqrt())
}

/// The largest coefficient of any segment and of any pair, at 95%, where rewards are exchanged among coalitions. Each
/// feature is regressed on alone: coalitions are random, so that features hardly correlate.
fn noise_floors(features: &Features, rows: &[Vec<f64>], targets: &[f64], rng: &mut Rng) -> [f64; 2] {
    let n = rows.len() as f64;
    let columns = standardised(rows, rows[0].len());
    let mut shuffled = targets.to_vec();
    let mut largest = [Vec::new(), Vec::new()];
    for _ in 0..PERMUTATIONS {
        rng.shuffle(&mut shuffled);
        let mut most = [0.0_f64; 2];
        for (f, column) in columns.iter().enumerate() {
            // The deviation of a centred segment is ½, that of a pair ¼.
            let (kind, deviation) = if f < features.segments { (0, 0.5) } else { (1, 0.25) };
            let slope = column.iter().zip(&shuffled).map(|(x, y)| x * y).sum::<f64>() / n / deviation;
            most[kind] = most[kind].max(slope.abs());
        }
        largest[0].push(most[0]);
        largest[1].push(most[1]);
    }
    largest.map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[(0.95 * (PERMUTATIONS - 1) as f64).round() as usize]
    })
}

/// Segments, then pairs of them.
struct Features {
    segments: usize,
    pairs: Vec<(usize, usize)>,
}

impl Features {
    fn new(segments: usize) -> Self {
        let pairs = (0..segments).flat_map(|i| (i + 1..segments).map(move |j| (i, j))).collect();
        Self { segments, pairs }
    }

    fn of(&self, kept: &[bool]) -> Vec<f64> {
        let x = |i: usize| if kept[i] { 0.5 } else { -0.5 };
        (0..self.segments).map(x).chain(self.pairs.iter().map(|&(i, j)| x(i) * x(j))).collect()
    }

    /// The features that the Lasso keeps, ascending. Its penalty is the noise that one of so many features would show by
    /// chance, σ√(2 ln p / n), with σ from the residuals of the fit before.
    fn lasso(&self, rows: &[Vec<f64>], targets: &[f64]) -> Vec<usize> {
        let (n, p) = (rows.len() as f64, self.segments + self.pairs.len());
        let columns = standardised(rows, p);
        let mean = targets.iter().sum::<f64>() / n;
        let centred: Vec<f64> = targets.iter().map(|y| y - mean).collect();
        let deviation = |residual: &[f64]| (residual.iter().map(|r| r * r).sum::<f64>() / n).sqrt();
        let mut sigma = deviation(&centred);
        let mut coefficients = vec![0.0; p];
        for _ in 0..3 {
            let penalty = sigma * (2.0 * (p.max(2) as f64).ln() / n).sqrt();
            let residual = descend(&columns, &centred, &mut coefficients, penalty);
            sigma = deviation(&residual);
        }
        (0..p).filter(|&f| coefficients[f].abs() > 1e-9).collect()
    }
}

/// Columns of mean 0 and mean square 1; a constant column is all 0.
fn standardised(rows: &[Vec<f64>], p: usize) -> Vec<Vec<f64>> {
    let n = rows.len() as f64;
    (0..p)
        .map(|f| {
            let mean = rows.iter().map(|row| row[f]).sum::<f64>() / n;
            let square = rows.iter().map(|row| (row[f] - mean).powi(2)).sum::<f64>() / n;
            let scale = if square > 1e-12 { 1.0 / square.sqrt() } else { 0.0 };
            rows.iter().map(|row| (row[f] - mean) * scale).collect()
        })
        .collect()
}

/// Coordinate descent on ½·mean (y − Xβ)² + λ Σ|β| (Friedman, Hastie and Tibshirani 2010); returns the residual.
fn descend(columns: &[Vec<f64>], targets: &[f64], coefficients: &mut [f64], penalty: f64) -> Vec<f64> {
    let n = targets.len() as f64;
    let mut residual = targets.to_vec();
    for (column, &b) in columns.iter().zip(coefficients.iter()) {
        residual.iter_mut().zip(column).for_each(|(r, x)| *r -= b * x);
    }
    for _ in 0..ROUNDS {
        let mut moved = 0.0_f64;
        for (column, b) in columns.iter().zip(coefficients.iter_mut()) {
            let with = residual.iter().zip(column).map(|(r, x)| r * x).sum::<f64>() / n + *b;
            let new = with.signum() * (with.abs() - penalty).max(0.0);
            let change = new - *b;
            if change != 0.0 {
                residual.iter_mut().zip(column).for_each(|(r, x)| *r -= change * x);
                *b = new;
                moved = moved.max(change.abs());
            }
        }
        if moved < 1e-9 {
            break;
        }
    }
    residual
}

/// Intercept and coefficients of the chosen columns, by the normal equations with a trace of ridge, which settles columns
/// that a resample made equal.
fn least_squares(rows: &[Vec<f64>], targets: &[f64], columns: &[usize]) -> Vec<f64> {
    let p = columns.len() + 1;
    let x = |row: &[f64], i: usize| if i == 0 { 1.0 } else { row[columns[i - 1]] };
    let mut system = vec![vec![0.0; p + 1]; p];
    for (row, &y) in rows.iter().zip(targets) {
        for (i, equation) in system.iter_mut().enumerate() {
            let xi = x(row, i);
            for (j, sum) in equation[..p].iter_mut().enumerate() {
                *sum += xi * x(row, j);
            }
            equation[p] += xi * y;
        }
    }
    for (i, row) in system.iter_mut().enumerate() {
        row[i] += 1e-6;
    }
    solve(system)
}

/// Gaussian elimination with pivoting; each row has its right side at its end.
fn solve(mut system: Vec<Vec<f64>>) -> Vec<f64> {
    let p = system.len();
    for i in 0..p {
        let pivot = (i..p).max_by(|&a, &b| system[a][i].abs().total_cmp(&system[b][i].abs())).unwrap_or(i);
        system.swap(i, pivot);
        let top = system[i].clone();
        for row in &mut system[i + 1..] {
            let factor = row[i] / top[i];
            row.iter_mut().zip(&top).skip(i).for_each(|(a, b)| *a -= factor * b);
        }
    }
    let mut solution = vec![0.0; p];
    for i in (0..p).rev() {
        let known: f64 = (i + 1..p).map(|j| system[i][j] * solution[j]).sum();
        solution[i] = (system[i][p] - known) / system[i][i];
    }
    solution
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    /// Random coalitions of a game with noise.
    fn ablations(n: usize, draws: usize, seed: u64, game: impl Fn(&[bool]) -> f64) -> Vec<Ablation> {
        let mut rng = Rng::new(seed, Stream::Probe, 0, 0);
        (0..n)
            .map(|_| {
                let kept: Vec<bool> = (0..8).map(|_| rng.below(2) == 1).collect();
                let value = game(&kept);
                let rewards = (0..draws).map(|_| value + 0.3 * f64::from(rng.normal())).collect();
                Ablation { kept, rewards }
            })
            .collect()
    }

    fn fit(game: impl Fn(&[bool]) -> f64 + Copy) -> Surrogate {
        let mut rng = Rng::new(1, Stream::Bootstrap, 0, 0);
        let (fitted, held) = (ablations(300, 1, 2, game), ablations(32, 8, 3, game));
        surrogate(&fitted, &held, game(&[true; 8]), game(&[false; 8]), &mut rng)
    }

    #[test]
    fn additive_parts_get_their_weights_and_no_pairs() {
        let on = |kept: bool, points: f64| if kept { points } else { 0.0 };
        let fit = fit(|kept| on(kept[1], 1.0) + on(kept[4], -0.5));
        let credits: Vec<f64> = fit.credits.iter().map(|c| c.value).collect();
        assert!((credits[1] - 1.0).abs() < 0.1 && (credits[4] + 0.5).abs() < 0.1, "{credits:?}");
        assert!(fit.credits[1].stands_out() && fit.credits[4].stands_out());
        assert!(credits.iter().enumerate().filter(|(i, c)| ![1, 4].contains(i) && **c != 0.0).count() <= 1);
        assert!(fit.synergy < 0.02 && fit.residual.abs() < 0.15, "{} {}", fit.synergy, fit.residual);
        assert!(fit.lds.unwrap().value > 0.8 && fit.lds_ceiling.unwrap() > 0.8);
    }

    /// XOR of two segments against the policy's own half-and-half: neither is worth anything alone.
    #[test]
    fn what_only_both_bring_is_a_pair() {
        let fit = fit(|kept| if kept[2] && kept[5] { 1.0 } else { 0.5 });
        let credits: Vec<f64> = fit.credits.iter().map(|c| c.value).collect();
        // Shapley: each gets half of the half point.
        assert!((credits[2] - 0.25).abs() < 0.08 && (credits[5] - 0.25).abs() < 0.08, "{credits:?}");
        let strongest = fit.pairs.iter().max_by(|a, b| a.effect.value.total_cmp(&b.effect.value)).unwrap();
        assert_eq!(strongest.segments, [2, 5]);
        assert!(strongest.effect.low > 0.0 && (strongest.effect.value - 0.5).abs() < 0.2);
        assert!((fit.synergy - 1.0 / 3.0).abs() < 0.15, "{}", fit.synergy);
    }

    #[test]
    fn noise_gets_nothing() {
        let fit = fit(|_| 0.0);
        assert!(fit.credits.iter().all(|c| !c.stands_out()), "{:?}", fit.credits);
        assert!(fit.synergy < 0.01);
    }
}
