//! Which of some open comparisons to ask about: the one whose outcome tells the most, without losing honest statistics.
//!
//! A candidate is drawn with chance `uniform/m + (1 − uniform)·w_i/Σw` among the m candidates, themselves drawn at random;
//! w is the entropy of the foretold outcome. That chance is stored as the propensity: 1/(m · propensity) weighs the selected
//! tasks back to a uniform sample.

/// Candidates among which one is drawn.
pub const CANDIDATES: usize = 32;

/// A drawn candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Its place among the candidates.
    pub place: usize,
    /// Drawn by the uniform part: the slice from which agreement, bias and strengths are estimated.
    pub uniform: bool,
    /// Its chance to be drawn, of either part.
    pub propensity: f64,
}

/// What the outcome of a comparison would tell, in nats: the entropy of a coin with this chance.
pub fn information(chance: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    let chance = chance.clamp(0.0, 1.0);
    term(chance) + term(1.0 - chance)
}

/// Chance that the first of two policies is preferred, by their Bradley-Terry strengths.
pub fn preferred(theta_a: f64, theta_b: f64) -> f64 {
    1.0 / (1.0 + (theta_b - theta_a).exp())
}

/// Draws one of the candidates by their chances of preference. `part` and `place` are uniform in [0, 1): the first decides
/// whether the uniform part draws, the second what. None of none.
pub fn draw(chances: &[f64], uniform_share: f64, part: f64, place: f64) -> Option<Drawn> {
    let m = chances.len();
    let weights: Vec<f64> = chances.iter().map(|&chance| information(chance)).collect();
    let total: f64 = weights.iter().sum();
    // Outcomes that are all certain tell nothing: then every draw is uniform.
    let share = if total > 0.0 { uniform_share } else { 1.0 };
    let uniform = part < share;
    let drawn = if uniform {
        ((place * m as f64) as usize).min(m.checked_sub(1)?)
    } else {
        let mut left = place * total;
        let stop = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little at the end.
        stop.or_else(|| weights.iter().rposition(|&weight| weight > 0.0))?
    };
    let informed = if total > 0.0 { weights[drawn] / total } else { 0.0 };
    let propensity = share / m as f64 + (1.0 - share) * informed;
    Some(Drawn { place: drawn, uniform, propensity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_schema::rng::{Rng, Stream};

    #[test]
    fn the_entropy_of_known_coins() {
        assert!((information(0.5) - 2.0_f64.ln()).abs() < 1e-15);
        assert!((information(0.25) - 0.562_335_144_618_808_3).abs() < 1e-15);
        assert_eq!((information(0.0), information(1.0), information(7.0)), (0.0, 0.0, 0.0));
        assert!((preferred(1.0, 0.0) - 0.731_058_578_630_004_9).abs() < 1e-15);
        assert!(preferred(0.0, 2000.0) < 1e-300);
    }

    #[test]
    fn propensities_are_the_true_frequencies() {
        let chances = [0.5, 0.9, 0.99, 1.0];
        let mut rng = Rng::new(3, Stream::Feedback, 0, 0);
        let n = 200_000;
        let mut counts = [0_u32; 4];
        let mut told = [0.0; 4];
        let mut uniform = 0;
        for _ in 0..n {
            let drawn = draw(&chances, 0.2, rng.uniform_f64(), rng.uniform_f64()).unwrap();
            counts[drawn.place] += 1;
            told[drawn.place] = drawn.propensity;
            uniform += u32::from(drawn.uniform);
        }
        assert!((told.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{told:?}");
        for (count, p) in counts.into_iter().zip(told) {
            let found = f64::from(count) / f64::from(n);
            assert!((found - p).abs() < 4.0 * (p * (1.0 - p) / f64::from(n)).sqrt(), "{found} {p}");
        }
        assert!((f64::from(uniform) / f64::from(n) - 0.2).abs() < 0.005);
        // The certain one is drawn by the uniform part alone; the most uncertain one most often.
        assert!((told[3] - 0.05).abs() < 1e-12 && told[0] > told[1] && told[1] > told[2]);
    }

    #[test]
    fn borders() {
        assert_eq!(draw(&[], 0.2, 0.0, 0.0), None);
        let certain = draw(&[1.0, 0.0], 0.2, 0.9, 0.99).unwrap();
        assert_eq!(certain, Drawn { place: 1, uniform: true, propensity: 0.5 });
        let last = draw(&[0.5, 0.5], 0.2, 0.9, 0.999_999_999_999_999_9).unwrap();
        assert_eq!((last.place, last.uniform), (1, false));
    }
}
