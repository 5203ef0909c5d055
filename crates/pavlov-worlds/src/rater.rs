//! Simulated raters: people's judgments with a known law.
//!
//! A rater sees each answer's utility u = quality + length_bias · words and judges with logistic noise.
//!
//! Comparisons follow Davidson (1970), which is Bradley and Terry (1952) with ties. With x = (u_A − u_B) / temperature
//! + position_bias, where A is the answer shown first, and ν = tie_width:
//!
//! P(A) = e^{x/2} / Z, P(B) = e^{−x/2} / Z, P(tie) = ν / Z, Z = e^{x/2} + e^{−x/2} + ν.
//!
//! Ratings follow the proportional-odds model of McCullagh (1980): P(rating > k) = σ((u + offset − θ_k) / temperature).

use pavlov_schema::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};

use crate::error::{Result, require};
use crate::world::World;

/// What a rater sees of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// How good the answer is, in quality points from 0 to 1.
    pub quality: f64,
    /// How long it is, in words.
    pub words: usize,
}

impl Candidate {
    /// An answer to a world's question, with the quality of [`World::quality`].
    pub fn of(world: &World, completion: &str) -> Self {
        Self { quality: world.quality(completion), words: completion.split_whitespace().count() }
    }
}

/// A rater's verdict on two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The one shown first is better.
    A,
    /// The one shown second is better.
    B,
    /// Neither is better.
    Tie,
}

/// What a rater is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaterSettings {
    /// Noise, in quality points: the difference that makes the odds e to 1. Above 0; 1e-6 is as good as no noise.
    pub temperature: f64,
    /// Log-odds (nats) in favour of the answer shown first.
    pub position_bias: f64,
    /// Quality points that one more word is worth.
    pub length_bias: f64,
    /// Davidson's ν, 0 or more: 0 never ties; between equal answers a tie has probability ν / (2 + ν).
    pub tie_width: f64,
    /// The quality points at which the ratings 2, 3, 4 and 5 begin, rising.
    pub thresholds: [f64; 4],
    /// Generosity in ratings, in quality points.
    pub offset: f64,
}

impl Default for RaterSettings {
    /// A careful and unbiased rater: a right answer wins against one that mentions a wrong name 97 times in 100 of the
    /// decided comparisons, and equal answers tie once in three times.
    fn default() -> Self {
        Self {
            temperature: 0.15,
            position_bias: 0.0,
            length_bias: 0.0,
            tie_width: 1.0,
            thresholds: [0.15, 0.35, 0.6, 0.85],
            offset: 0.0,
        }
    }
}

/// A rater whose every verdict is fixed by its seed, its number, and the item judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Rater {
    seed: u64,
    id: u32,
    settings: RaterSettings,
}

impl Rater {
    /// The rater numbered `id` among those of a seed.
    pub fn new(seed: u64, id: u32, settings: RaterSettings) -> Result<Self> {
        let s = &settings;
        for (key, value) in [
            ("temperature", s.temperature),
            ("position_bias", s.position_bias),
            ("length_bias", s.length_bias),
            ("tie_width", s.tie_width),
            ("offset", s.offset),
            ("thresholds", s.thresholds.iter().sum()),
        ] {
            require(value.is_finite(), key, &value, "a finite number")?;
        }
        require(s.temperature >= 1e-6, "temperature", &s.temperature, "1e-6 or more")?;
        require(s.tie_width >= 0.0, "tie_width", &s.tie_width, "0 or more")?;
        let rising = s.thresholds.windows(2).all(|pair| pair[0] < pair[1]);
        require(rising, "thresholds", &format!("{:?}", s.thresholds), "four rising numbers")?;
        Ok(Self { seed, id, settings })
    }

    /// What the rater is like.
    pub fn settings(&self) -> &RaterSettings {
        &self.settings
    }

    fn utility(&self, candidate: Candidate) -> f64 {
        candidate.quality + self.settings.length_bias * candidate.words as f64
    }

    /// The probabilities of A, B and a tie, with A shown first.
    pub fn comparison_law(&self, a: Candidate, b: Candidate) -> [f64; 3] {
        let s = &self.settings;
        let x = (self.utility(a) - self.utility(b)) / s.temperature + s.position_bias;
        // Relative to the larger of the two, so that nothing overflows.
        let scale = (-x.abs() / 2.0).exp();
        let (better, worse, tie) = (1.0, (-x.abs()).exp(), s.tie_width * scale);
        let z = better + worse + tie;
        let [a, b] = if x >= 0.0 { [better, worse] } else { [worse, better] };
        [a / z, b / z, tie / z]
    }

    /// The probabilities of the ratings 1 to 5.
    pub fn rating_law(&self, candidate: Candidate) -> [f64; 5] {
        let s = &self.settings;
        let above = s.thresholds.map(|threshold| {
            let x = (self.utility(candidate) + s.offset - threshold) / s.temperature;
            1.0 / (1.0 + (-x).exp())
        });
        [1.0 - above[0], above[0] - above[1], above[1] - above[2], above[2] - above[3], above[3]]
    }

    /// Which of two answers is better, A being shown first. `item` names the question and the pair; asked again, the
    /// rater says the same.
    pub fn compare(&self, item: u64, a: Candidate, b: Candidate) -> Choice {
        match draw(&mut self.rng(0, item), &self.comparison_law(a, b)) {
            0 => Choice::A,
            1 => Choice::B,
            _ => Choice::Tie,
        }
    }

    /// A rating from 1 to 5. `item` names the question and the answer; asked again, the rater says the same.
    pub fn rate(&self, item: u64, candidate: Candidate) -> u8 {
        1 + draw(&mut self.rng(1, item), &self.rating_law(candidate)) as u8
    }

    /// Numbers of this rater's own; `task` keeps comparisons and ratings apart.
    fn rng(&self, task: u64, item: u64) -> Rng {
        Rng::new(self.seed, Stream::Judge, u64::from(self.id) * 2 + task, item)
    }
}

/// A position, by its probability.
fn draw(rng: &mut Rng, law: &[f64]) -> usize {
    let mut left = rng.uniform_f64();
    for (i, p) in law.iter().enumerate() {
        if left < *p {
            return i;
        }
        left -= p;
    }
    // Rounding left a rest: the likeliest outcome, never an impossible one.
    (0..law.len()).max_by(|&i, &j| law[i].total_cmp(&law[j])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(quality: f64, words: usize) -> Candidate {
        Candidate { quality, words }
    }

    fn biased() -> RaterSettings {
        RaterSettings {
            temperature: 0.4,
            position_bias: 0.5,
            length_bias: 0.03,
            tie_width: 0.7,
            offset: -0.1,
            ..RaterSettings::default()
        }
    }

    /// Frequencies against a law, each within four standard errors.
    fn assert_law(verdicts: impl Iterator<Item = usize>, law: &[f64]) {
        let mut counts = vec![0_u32; law.len()];
        verdicts.for_each(|verdict| counts[verdict] += 1);
        let n = f64::from(counts.iter().sum::<u32>());
        for (count, p) in counts.iter().zip(law) {
            let error = (p * (1.0 - p) / n).sqrt();
            assert!((f64::from(*count) / n - p).abs() < 4.0 * error, "{counts:?} {law:?}");
        }
    }

    #[test]
    fn comparisons_follow_davidson_with_both_biases() {
        let rater = Rater::new(1, 2, biased()).unwrap();
        let (a, b) = (candidate(0.3, 8), candidate(0.5, 2));
        // x = (0.3 + 0.24 − 0.5 − 0.06) / 0.4 + 0.5 = 0.45, worked by hand.
        let (up, down, tie) = (0.225_f64.exp(), (-0.225_f64).exp(), 0.7);
        let law = [up, down, tie].map(|weight| weight / (up + down + tie));
        let verdicts = (0..20_000).map(|item| match rater.compare(item, a, b) {
            Choice::A => 0,
            Choice::B => 1,
            Choice::Tie => 2,
        });
        assert_law(verdicts, &law);
        for (exact, ours) in law.iter().zip(rater.comparison_law(a, b)) {
            assert!((exact - ours).abs() < 1e-12);
        }
    }

    #[test]
    fn without_ties_and_bias_it_is_bradley_and_terry() {
        let settings = RaterSettings { tie_width: 0.0, ..RaterSettings::default() };
        let law = Rater::new(0, 0, settings).unwrap().comparison_law(candidate(0.5, 5), candidate(0.2, 5));
        assert!((law[0] - 1.0 / (1.0 + (-2.0_f64).exp())).abs() < 1e-12);
        assert!(law[2].abs() < 1e-300);
    }

    #[test]
    fn ratings_follow_the_cumulative_link() {
        let rater = Rater::new(4, 9, biased()).unwrap();
        let answer = candidate(0.4, 6);
        // u + offset = 0.4 + 0.18 − 0.1 = 0.48 against thresholds 0.15, 0.35, 0.6 and 0.85.
        let above = [0.33, 0.13, -0.12, -0.37].map(|x: f64| 1.0 / (1.0 + (-x / 0.4).exp()));
        let law = [1.0 - above[0], above[0] - above[1], above[1] - above[2], above[2] - above[3], above[3]];
        assert_law((0..20_000).map(|item| usize::from(rater.rate(item, answer)) - 1), &law);
    }

    #[test]
    fn a_verdict_is_fixed_by_seed_rater_and_item() {
        let verdicts = |seed, id| {
            let rater = Rater::new(seed, id, RaterSettings::default()).unwrap();
            (0..200).map(|item| rater.rate(item, candidate(0.5, 5))).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(1, 1), verdicts(1, 1));
        assert_ne!(verdicts(1, 1), verdicts(1, 2));
        assert_ne!(verdicts(1, 1), verdicts(2, 1));
    }

    #[test]
    fn hardly_any_noise_means_the_better_one_wins() {
        let settings = RaterSettings { temperature: 1e-6, ..RaterSettings::default() };
        let rater = Rater::new(0, 0, settings).unwrap();
        for item in 0..1000 {
            assert_eq!(rater.compare(item, candidate(0.5, 1), candidate(0.3, 9)), Choice::A);
            assert_eq!(rater.rate(item, candidate(1.0, 1)), 5);
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let refused = |settings| Rater::new(0, 0, settings).unwrap_err().to_string();
        let good = RaterSettings::default;
        assert!(refused(RaterSettings { temperature: 0.0, ..good() }).starts_with("temperature = 0"));
        assert!(refused(RaterSettings { tie_width: -1.0, ..good() }).starts_with("tie_width = -1"));
        assert!(refused(RaterSettings { thresholds: [0.1, 0.3, 0.2, 0.4], ..good() }).contains("rising"));
        assert!(refused(RaterSettings { offset: f64::NAN, ..good() }).starts_with("offset = NaN"));
    }
}
