//! Proxy against true reward: the curve of over-optimisation (Gao, Schulman and Hilton, arXiv:2210.10760).
//!
//! With d = √KL from the reference, true reward rises by R(d) = d(α − β ln d) under reinforcement learning and by
//! R(d) = d(α − βd) for the best of n answers. Both are linear in α and β: ordinary least squares fits them.

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::{Estimate, Unit};

/// How the policy is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimiser {
    /// R = d(α − β ln d).
    Reinforcement,
    /// R = d(α − βd).
    BestOfN,
}

/// A point of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// KL from the reference, nats an answer.
    pub kl: f64,
    /// Gain of the reward that is optimised.
    pub proxy: f64,
    /// Gain of the reward that is meant.
    pub gold: f64,
}

/// The curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// What kind of optimisation.
    pub optimiser: Optimiser,
    /// α, reward points a √nat.
    pub alpha: Estimate,
    /// β, the cost of optimising further.
    pub beta: Estimate,
    /// Share of the variance of the true gain that the curve explains.
    pub r_squared: f64,
    /// KL in nats at which the true reward is foretold to peak; none where it does not fall.
    pub peak_kl: Option<f64>,
    /// Whether the newest third of the points has more proxy and less true reward than the third before.
    pub turned: bool,
    /// The points.
    pub points: Vec<Point>,
}

/// The reward's second term beside d.
fn second(optimiser: Optimiser, d: f64) -> f64 {
    match optimiser {
        Optimiser::Reinforcement => -d * d.ln(),
        Optimiser::BestOfN => -d * d,
    }
}

/// α and β by least squares; `None` for fewer than two different distances.
pub fn least_squares(points: &[(f64, f64)], optimiser: Optimiser) -> Option<[f64; 2]> {
    let (mut aa, mut ab, mut bb, mut ar, mut br) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for &(kl, gold) in points.iter().filter(|(kl, _)| *kl > 0.0) {
        let d = kl.sqrt();
        let e = second(optimiser, d);
        (aa, ab, bb) = (aa + d * d, ab + d * e, bb + e * e);
        (ar, br) = (ar + d * gold, br + e * gold);
    }
    let determinant = aa * bb - ab * ab;
    let solvable = determinant.abs() > 1e-12 * aa * bb;
    solvable.then(|| [(bb * ar - ab * br) / determinant, (aa * br - ab * ar) / determinant])
}

/// Fits the curve to at least four points, in the order of the run; `None` where there are fewer or they are all at one place.
pub fn fit(points: Vec<Point>, optimiser: Optimiser, rng: &mut Rng) -> Option<Fit> {
    let plain: Vec<(f64, f64)> = points.iter().map(|p| (p.kl.max(0.0), p.gold)).collect();
    if plain.iter().filter(|(kl, _)| *kl > 0.0).count() < 4 {
        return None;
    }
    let [alpha, beta] = least_squares(&plain, optimiser)?;
    let part = |index: usize| {
        move |sample: &[(f64, f64)]| least_squares(sample, optimiser).map_or(f64::NAN, |fitted| fitted[index])
    };
    let curve =
        |kl: f64| kl.sqrt() * alpha + if kl > 0.0 { second(optimiser, kl.sqrt()) * beta } else { 0.0 };
    let mean = plain.iter().map(|p| p.1).sum::<f64>() / plain.len() as f64;
    let residual: f64 = plain.iter().map(|p| (p.1 - curve(p.0)).powi(2)).sum();
    let total: f64 = plain.iter().map(|p| (p.1 - mean).powi(2)).sum();
    let third = points.len() / 3;
    let mean_of =
        |part: &[Point], get: fn(&Point) -> f64| part.iter().map(get).sum::<f64>() / part.len() as f64;
    let (newest, before) =
        (&points[points.len() - third..], &points[points.len() - 2 * third..points.len() - third]);
    let turned = third > 0
        && mean_of(newest, |p| p.proxy) > mean_of(before, |p| p.proxy)
        && mean_of(newest, |p| p.gold) < mean_of(before, |p| p.gold);
    Some(Fit {
        optimiser,
        alpha: Estimate::of(&plain, Unit::RewardPoints, rng, part(0)),
        beta: Estimate::of(&plain, Unit::RewardPoints, rng, part(1)),
        r_squared: 1.0 - residual / total,
        peak_kl: (beta > 0.0 && alpha > 0.0).then(|| peak(alpha, beta, optimiser).powi(2)),
        turned,
        points,
    })
}

/// The distance at which the curve peaks: d = e^(α/β − 1), or α/2β.
fn peak(alpha: f64, beta: f64, optimiser: Optimiser) -> f64 {
    match optimiser {
        Optimiser::Reinforcement => (alpha / beta - 1.0).exp(),
        Optimiser::BestOfN => alpha / (2.0 * beta),
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

    #[test]
    fn a_known_curve_is_recovered() {
        for optimiser in [Optimiser::Reinforcement, Optimiser::BestOfN] {
            let mut rng = Rng::new(3, Stream::Bootstrap, 0, 0);
            let points: Vec<Point> = (1..=40)
                .map(|i| {
                    let d = f64::from(i) * 0.1;
                    let gold = d * 1.2 + second(optimiser, d) * 0.5 + 0.01 * f64::from(rng.normal());
                    Point { kl: d * d, proxy: d, gold }
                })
                .collect();
            let fit = fit(points, optimiser, &mut rng).unwrap();
            assert!((fit.alpha.value - 1.2).abs() < 0.03 && (fit.beta.value - 0.5).abs() < 0.03, "{fit:?}");
            assert!(fit.r_squared > 0.95);
            let peak = fit.peak_kl.unwrap().sqrt();
            let wanted = if optimiser == Optimiser::BestOfN { 1.2 } else { (1.4_f64).exp() };
            assert!((peak / wanted - 1.0).abs() < 0.1, "{peak} {wanted}");
            assert_eq!(fit.turned, optimiser == Optimiser::BestOfN);
        }
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
        let point = |kl: f64| Point { kl, proxy: 0.0, gold: kl };
        assert!(
            fit(vec![point(1.0); 3], Optimiser::BestOfN, &mut Rng::new(0, Stream::Bootstrap, 0, 0)).is_none()
        );
        assert!(
            fit(vec![point(1.0); 9], Optimiser::BestOfN, &mut Rng::new(0, Stream::Bootstrap, 0, 0)).is_none()
        );
    }
}
