//! The gradient noise scale: how many lessons a step needs before their common direction is as long as their noise.

use pavlov_schema::lessons::{GradientNorm, LessonLine};
use pavlov_schema::rng::Rng;

use crate::{Estimate, Unit};

/// More lessons than anybody has: stands for a noise scale without bound, which JSON has no number for.
pub const NO_DIRECTION: f64 = 1e9;

/// B_simple = tr Σ/|G|² (McCandlish et al., arXiv:1812.06162) from gradients over a small and a large number of lessons of
/// the same update: |G|² and tr Σ are averaged over updates separately, and divided at the end.
///
/// `square` picks the norm. None without updates of several forward passes; [`NO_DIRECTION`] says that so many updates
/// showed no common direction.
pub fn noise_scale(
    lines: &[LessonLine],
    square: impl Fn(&GradientNorm) -> Option<f64>,
    rng: &mut Rng,
) -> Option<Estimate> {
    let parts: Vec<(f64, f64)> = lines
        .iter()
        .filter_map(|line| {
            let pair = line.gradient?;
            signal_and_noise(
                (pair.small.lessons as f64, square(&pair.small)?),
                (pair.large.lessons as f64, square(&pair.large)?),
            )
        })
        .collect();
    (parts.len() > 1).then(|| Estimate::of(&parts, Unit::Episodes, rng, ratio))
}

/// Unbiased (|G|², tr Σ) from the squared lengths of mean gradients over `b` and `B` lessons; none where the two are equal.
pub fn signal_and_noise(small: (f64, f64), large: (f64, f64)) -> Option<(f64, f64)> {
    let ((b, small), (large_b, large)) = (small, large);
    if large_b <= b || b <= 0.0 {
        return None;
    }
    let signal = (large_b * large - b * small) / (large_b - b);
    let noise = (small - large) / (1.0 / b - 1.0 / large_b);
    Some((signal, noise))
}

fn ratio(parts: &[(f64, f64)]) -> f64 {
    let (signal, noise) = parts.iter().fold((0.0, 0.0), |(s, n), (signal, noise)| (s + signal, n + noise));
    if signal > 0.0 { (noise / signal).clamp(0.0, NO_DIRECTION) } else { NO_DIRECTION }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::lessons::GradientPair;
    use pavlov_schema::rng::Stream;

    use super::*;

    #[test]
    fn a_known_noise_scale_is_found() {
        // Per-lesson gradients: mean (1, 0, …), deviation 2 in each of 10 directions: tr Σ = 40, |G|² = 1.
        let mut rng = Rng::new(5, Stream::Probe, 0, 0);
        let mut line = || {
            let (b, all) = (4, 16);
            let mut sums = [[0.0_f64; 10]; 2];
            for i in 0..all {
                for (d, place) in (0..10).zip(0..) {
                    let g = f64::from(u8::from(place == 0)) + 2.0 * f64::from(rng.normal());
                    sums[1][d] += g;
                    if i < b {
                        sums[0][d] += g;
                    }
                }
            }
            let norm = |sum: &[f64; 10], lessons: usize| GradientNorm {
                lessons,
                square: sum.iter().map(|s| (s / lessons as f64).powi(2)).sum(),
                adam: None,
            };
            let gradient = Some(GradientPair { small: norm(&sums[0], b), large: norm(&sums[1], all) });
            LessonLine { gradient, ..LessonLine::default() }
        };
        let lines: Vec<LessonLine> = (0..400).map(|_| line()).collect();
        let mut rng = Rng::new(5, Stream::Bootstrap, 0, 0);
        let scale = noise_scale(&lines, |norm| Some(norm.square), &mut rng).unwrap();
        assert!((30.0..55.0).contains(&scale.value) && scale.low < 40.0 && scale.high > 40.0, "{scale:?}");
        assert!(noise_scale(&lines, |norm| norm.adam, &mut rng).is_none());
        assert!(signal_and_noise((4.0, 1.0), (4.0, 1.0)).is_none());
    }
}
