//! Proxy against true reward: the curve of over-optimisation (Gao, Schulman and Hilton, arXiv:2210.10760).
//!
//! With d = √KL from the reference, true reward is R(d) = R₀ + d(α − β ln d) under reinforcement learning and
//! R(d) = R₀ + d(α − βd) for the best of n answers. Both are linear in R₀, α and β: ordinary least squares fits them. What an
//! interval is of is whatever was drawn (answers to a prompt): each resample of it makes all points, and so the curve, anew.

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::ledger::figure;
use crate::{Estimate, Unit};

/// How the policy is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimiser {
    /// R = R₀ + d(α − β ln d).
    Reinforcement,
    /// R = R₀ + d(α − βd).
    BestOfN,
}

/// A point of a run, or of the best of n.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// KL from the reference, nats an answer.
    pub kl: f64,
    /// Mean reward that is optimised, in its points.
    pub proxy: f64,
    /// Mean reward that is meant, in its points.
    pub gold: f64,
}

/// The curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// What kind of optimisation.
    pub optimiser: Optimiser,
    /// R₀, the true reward at the reference.
    pub start: Estimate,
    /// α, reward points a √nat.
    pub alpha: Estimate,
    /// β, the cost of optimising further: points a √nat, or of the best of n a nat.
    pub beta: Estimate,
    /// Share of the variance of the points' true reward that the curve explains.
    pub r_squared: f64,
    /// KL in nats at which the true reward is foretold to peak; none where β may be 0 or α is not above it.
    pub peak_kl: Option<Estimate>,
    /// Change of proxy and of true reward from the first third of the points to the last.
    pub gain: [Estimate; 2],
    /// The same from the third before the last to the last.
    pub late: [Estimate; 2],
    /// Whether of late the proxy rises and the true reward falls, each by more than chance.
    pub turned: bool,
    /// The points, in order.
    pub points: Vec<Point>,
}

/// Points that are needed beyond the reference.
pub const POINTS: usize = 4;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// The curve's terms beside R₀.
fn terms(kl: f64, optimiser: Optimiser) -> [f64; 2] {
    let d = kl.max(0.0).sqrt();
    match optimiser {
        _ if d == 0.0 => [0.0; 2],
        Optimiser::Reinforcement => [d, -d * d.ln()],
        Optimiser::BestOfN => [d, -d * d],
    }
}

/// R₀, α and β by least squares; `None` where the points lie at too few places.
pub fn least_squares(points: &[Point], optimiser: Optimiser) -> Option<[f64; 3]> {
    let n = points.len() as f64;
    let rows: Vec<[f64; 3]> = points
        .iter()
        .map(|point| {
            let [d, e] = terms(point.kl, optimiser);
            [d, e, point.gold]
        })
        .collect();
    let mean = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>() / n;
    let [d, e, r] = [mean(0), mean(1), mean(2)];
    let (mut aa, mut ab, mut bb, mut ar, mut br) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for row in &rows {
        let (x, y, gold) = (row[0] - d, row[1] - e, row[2] - r);
        (aa, ab, bb) = (aa + x * x, ab + x * y, bb + y * y);
        (ar, br) = (ar + x * gold, br + y * gold);
    }
    let determinant = aa * bb - ab * ab;
    let solvable = determinant > 1e-9 * aa * bb;
    solvable.then(|| {
        let (alpha, beta) = ((bb * ar - ab * br) / determinant, (aa * br - ab * ar) / determinant);
        [r - alpha * d - beta * e, alpha, beta]
    })
}

/// True reward on the curve.
fn curve([start, alpha, beta]: [f64; 3], kl: f64, optimiser: Optimiser) -> f64 {
    let [d, e] = terms(kl, optimiser);
    start + alpha * d + beta * e
}

/// The KL at which the curve peaks: d = e^(α/β − 1), or α/2β. Beyond what any policy reaches it is cut off.
fn peak([_, alpha, beta]: [f64; 3], optimiser: Optimiser) -> f64 {
    let d = match optimiser {
        Optimiser::Reinforcement => (alpha / beta - 1.0).exp(),
        Optimiser::BestOfN => alpha / (2.0 * beta),
    };
    (d * d).min(1e9)
}

/// Change of proxy and of gold between two runs of points.
fn change(before: &[Point], after: &[Point]) -> [f64; 2] {
    let mean = |points: &[Point], get: fn(&Point) -> f64| {
        points.iter().map(get).sum::<f64>() / points.len().max(1) as f64
    };
    [|p: &Point| p.proxy, |p: &Point| p.gold].map(|get| mean(after, get) - mean(before, get))
}

/// Everything a fit says, as numbers: R₀, α, β, the peak, the gains, the late changes.
fn figures(points: &[Point], optimiser: Optimiser) -> Option<[f64; 8]> {
    let fitted = least_squares(points, optimiser)?;
    let (n, third) = (points.len(), points.len().div_ceil(3).min(points.len() / 2));
    let last = &points[n - third..];
    let gain = change(&points[..third], last);
    let late = change(&points[n.saturating_sub(2 * third)..n - third], last);
    Some([fitted[0], fitted[1], fitted[2], peak(fitted, optimiser), gain[0], gain[1], late[0], late[1]])
}

/// Fits the curve to points in their order. `again` makes all of them anew from resampled answers; `n` says how many
/// independent observations these are. `None` where fewer than [`POINTS`] lie beyond the reference, or they are at one place.
pub fn fit(
    points: Vec<Point>,
    n: usize,
    optimiser: Optimiser,
    rng: &mut Rng,
    again: impl Fn(&mut Rng) -> Vec<Point>,
) -> Option<Fit> {
    if points.iter().filter(|point| point.kl > 0.0).count() < POINTS {
        return None;
    }
    let found = figures(&points, optimiser)?;
    let resampled: Vec<[f64; 8]> = (0..RESAMPLES).filter_map(|_| figures(&again(rng), optimiser)).collect();
    let estimate = |i: usize, unit: Unit| {
        let mut values: Vec<f64> = resampled.iter().map(|r| r[i]).filter(|v| !v.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)).round() as usize).copied();
        let [low, high] = [0.025, 0.975].map(|share| at(share).unwrap_or(found[i]));
        Estimate { value: found[i], low, high, unit, noise_floor: None, n }
    };
    let points_of = |i: usize| estimate(i, Unit::RewardPoints);
    let [start, alpha, beta] = [0, 1, 2].map(points_of);
    let mean = points.iter().map(|p| p.gold).sum::<f64>() / points.len() as f64;
    let own = [found[0], found[1], found[2]];
    let residual: f64 = points.iter().map(|p| (p.gold - curve(own, p.kl, optimiser)).powi(2)).sum();
    let total: f64 = points.iter().map(|p| (p.gold - mean).powi(2)).sum();
    let late = [6, 7].map(points_of);
    Some(Fit {
        optimiser,
        start,
        alpha,
        beta,
        r_squared: if total > 0.0 { 1.0 - residual / total } else { 0.0 },
        peak_kl: (beta.low > 0.0 && alpha.value > 0.0).then(|| estimate(3, Unit::Nats)),
        gain: [4, 5].map(points_of),
        turned: late[0].low > 0.0 && late[1].high < 0.0,
        late,
        points,
    })
}

impl Fit {
    /// The true reward on the curve at a KL in nats.
    pub fn at(&self, kl: f64) -> f64 {
        curve([self.start, self.alpha, self.beta].map(|e| e.value), kl, self.optimiser)
    }

    /// KL of the farthest point.
    pub fn reach(&self) -> f64 {
        self.points.iter().map(|point| point.kl).fold(0.0, f64::max)
    }

    /// What was found, in words.
    pub fn sentences(&self) -> Vec<String> {
        let with = |e: &Estimate| format!("{} ({} to {})", figure(e.value), figure(e.low), figure(e.high));
        let gained = |e: &Estimate| format!("{:+.3} points ({:+.3} to {:+.3})", e.value, e.low, e.high);
        let (way, law) = match self.optimiser {
            Optimiser::Reinforcement => ("Along the run", "d(α − β ln d)"),
            Optimiser::BestOfN => {
                ("Of the reference's own answers, the best of n by what is optimised", "d(α − βd)")
            }
        };
        let reach = self.reach();
        let mut said = vec![format!(
            "{way}: KL reaches {} nats an answer; what is optimised gains {}, what is meant {} (last third of {} points against \
             the first).",
            figure(reach),
            gained(&self.gain[0]),
            gained(&self.gain[1]),
            self.points.len()
        )];
        if self.turned {
            let mend = match self.optimiser {
                Optimiser::Reinforcement => {
                    "go back to an earlier checkpoint, or hold it nearer with a larger beta"
                }
                Optimiser::BestOfN => "so far it leads to its own faults; follow it less far",
            };
            said.push(format!(
                "ALARM: at the far end what is optimised rises by {} points and what is meant falls by {} points: {mend}.",
                with(&self.late[0]),
                with(&Estimate {
                    value: -self.late[1].value,
                    low: -self.late[1].high,
                    high: -self.late[1].low,
                    ..self.late[1]
                })
            ));
        }
        let peak = match &self.peak_kl {
            Some(peak) if peak.value > reach => {
                format!("a peak is foretold at {} nats, beyond what was measured: a guess", with(peak))
            }
            Some(peak) => format!("its peak is at {} nats", with(peak)),
            None => "no peak can be foretold from these points".to_owned(),
        };
        said.push(format!(
            "True reward = {} + {law} with d = √KL: α {}, β {}, R² {:.2}; {peak}.",
            with(&self.start),
            with(&self.alpha),
            with(&self.beta),
            self.r_squared
        ));
        said
    }
}

/// KL of the best of n from the policy that drew them: ln n − (n − 1)/n nats.
pub fn best_of_n_kl(n: usize) -> f64 {
    (n as f64).ln() - (n as f64 - 1.0) / n as f64
}

/// The expected proxy and gold reward of the best (by proxy) of n answers, for n = 1…N, from N answers to one prompt: the
/// unbiased estimate over all subsets (Nakano et al., arXiv:2112.09332, appendix I).
pub fn best_of_n(answers: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = sorted.len();
    (1..=total)
        .map(|n| {
            // P(the i-th smallest is the best of n) = C(i, n − 1)/C(N, n); by ratios, from the largest down.
            let mut chance = n as f64 / total as f64;
            let (mut proxy, mut gold) = (0.0, 0.0);
            for i in (n - 1..total).rev() {
                proxy += chance * sorted[i].0;
                gold += chance * sorted[i].1;
                chance *= (i + 1 - n) as f64 / i.max(1) as f64;
            }
            (proxy, gold)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    /// Points on a curve, each the mean of 40 noisy groups.
    fn noisy(kls: &[f64], fitted: [f64; 3], optimiser: Optimiser, noise: f64, rng: &mut Rng) -> Fit {
        let groups: Vec<(f64, Vec<f64>)> = kls
            .iter()
            .map(|&kl| {
                let mut one = || curve(fitted, kl, optimiser) + noise * f64::from(rng.normal());
                (kl, (0..40).map(|_| one()).collect())
            })
            .collect();
        let point = |kl: f64, gold: f64| Point { kl, proxy: kl.sqrt(), gold };
        let mean = |golds: &[f64]| golds.iter().sum::<f64>() / golds.len() as f64;
        let points = groups.iter().map(|(kl, golds)| point(*kl, mean(golds))).collect();
        fit(points, 40 * kls.len(), optimiser, rng, |rng| {
            let resampled = groups.iter().map(|(kl, golds)| {
                let golds: Vec<f64> = golds.iter().map(|_| golds[rng.below(golds.len())]).collect();
                point(*kl, mean(&golds))
            });
            resampled.collect()
        })
        .unwrap()
    }

    #[test]
    fn a_known_curve_is_recovered() {
        let mut rng = Rng::new(3, Stream::Bootstrap, 0, 0);
        let kls: Vec<f64> = (1..=40).map(|i| (f64::from(i) * 0.1).powi(2)).collect();
        for optimiser in [Optimiser::Reinforcement, Optimiser::BestOfN] {
            let fit = noisy(&kls, [0.4, 1.2, 0.5], optimiser, 0.06, &mut rng);
            for (found, wanted) in [(fit.start, 0.4), (fit.alpha, 1.2), (fit.beta, 0.5)] {
                assert!((found.value - wanted).abs() < 0.05, "{fit:?}");
                assert!(found.low < wanted && wanted < found.high, "{fit:?}");
            }
            assert!(fit.r_squared > 0.95);
            let wanted: f64 = if optimiser == Optimiser::BestOfN { 1.2 } else { (1.4_f64).exp() };
            let peak = fit.peak_kl.unwrap();
            assert!(peak.low < wanted * wanted && wanted * wanted < peak.high, "{peak:?}");
            // The best of n falls after d = 1.2, and these points go on to 4.
            assert_eq!(fit.turned, optimiser == Optimiser::BestOfN);
            assert_eq!(fit.sentences().iter().any(|s| s.contains("ALARM")), fit.turned);
        }
    }

    #[test]
    fn intervals_cover_the_curve_and_chance_neither_turns_nor_peaks() {
        let kls: Vec<f64> = (1..=12).map(|i| 0.01 * f64::from(i)).collect();
        let (mut covered, mut turned, mut peaks) = (0, 0, 0);
        for trial in 0..100 {
            let mut rng = Rng::new(5, Stream::Bootstrap, 0, trial);
            let fit = noisy(&kls, [0.5, 0.3, 0.0], Optimiser::Reinforcement, 0.5, &mut rng);
            covered += u32::from((fit.alpha.low..=fit.alpha.high).contains(&0.3));
            peaks += u32::from(fit.peak_kl.is_some());
            let flat = noisy(&kls, [0.5, 0.0, 0.0], Optimiser::Reinforcement, 0.5, &mut rng);
            turned += u32::from(flat.turned);
        }
        // 95% and 2.5% of 100, within three standard deviations.
        assert!(covered >= 88 && turned <= 8 && peaks <= 8, "{covered} {turned} {peaks}");
    }

    #[test]
    fn the_best_of_n_by_hand() {
        // Of 1, 2, 3 with gold 10, 20, 0: pairs (1,2), (1,3), (2,3) have the best 2, 3, 3.
        let curve = best_of_n(&[(3.0, 0.0), (1.0, 10.0), (2.0, 20.0)]);
        let wanted = [(2.0, 10.0), (8.0 / 3.0, 20.0 / 3.0), (3.0, 0.0)];
        for (found, wanted) in curve.iter().zip(wanted) {
            assert!((found.0 - wanted.0).abs() < 1e-12 && (found.1 - wanted.1).abs() < 1e-12, "{curve:?}");
        }
        assert!((best_of_n_kl(2) - (2.0_f64.ln() - 0.5)).abs() < 1e-12);
    }

    #[test]
    fn too_little_is_no_curve() {
        let fitted = |kls: &[f64]| {
            let points: Vec<Point> = kls.iter().map(|&kl| Point { kl, proxy: 0.0, gold: kl }).collect();
            let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
            fit(points.clone(), 1, Optimiser::BestOfN, &mut rng, |_| points.clone())
        };
        assert!(fitted(&[0.0, 1.0, 2.0, 3.0]).is_none() && fitted(&[1.0; 9]).is_none());
        assert!(fitted(&[0.0, 1.0, 2.0, 3.0, 4.0]).is_some());
    }
}
