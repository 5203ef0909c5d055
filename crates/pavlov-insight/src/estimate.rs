//! A measured number: its unit, its interval, and what the same measurement says where there is nothing to find.

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// log2 of a ratio of probabilities.
    Bits,
    /// Natural logarithm of a ratio of probabilities.
    Nats,
    /// Points of a reward.
    RewardPoints,
    /// Change of the log-odds of a behaviour, nats.
    LogOdds,
    /// Answers, examples or labels.
    Episodes,
    /// A share: 1 is all of it.
    Share,
    /// Standard deviations.
    Sigmas,
    /// A cosine or a rank correlation, from −1 to 1.
    Correlation,
}

/// A measured number with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The lower end of its 95% interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// What it counts.
    pub unit: Unit,
    /// What the same measurement gives on shuffled or random input: no smaller number means anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<f64>,
    /// How many independent observations it is made of.
    pub n: usize,
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

impl Estimate {
    /// The mean of independent observations with its percentile-bootstrap interval (Efron 1979); `rng` draws the
    /// resamples. No observation gives NaN, one an interval without width.
    pub fn mean(observations: &[f64], unit: Unit, rng: &mut Rng) -> Self {
        Self::of(observations, unit, rng, |sample| sample.iter().copied().sum::<f64>() / sample.len() as f64)
    }

    /// Any statistic of independent observations with its percentile-bootstrap interval.
    pub fn of<T: Copy>(
        observations: &[T],
        unit: Unit,
        rng: &mut Rng,
        statistic: impl Fn(&[T]) -> f64,
    ) -> Self {
        let n = observations.len();
        let value = if n == 0 { f64::NAN } else { statistic(observations) };
        if n < 2 {
            return Self { value, low: value, high: value, unit, noise_floor: None, n };
        }
        let mut sample = observations.to_vec();
        let mut values: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                sample.fill_with(|| observations[rng.below(n)]);
                statistic(&sample)
            })
            .filter(|value| !value.is_nan())
            .collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)).round() as usize).copied();
        let [low, high] = [0.025, 0.975].map(|share| at(share).unwrap_or(value));
        Self { value, low, high, unit, noise_floor: None, n }
    }

    /// This estimate beside what shuffled or random input gives.
    #[must_use]
    pub fn above(self, noise_floor: f64) -> Self {
        Self { noise_floor: Some(noise_floor), ..self }
    }

    /// Whether the interval lies beyond the noise floor (or zero), on either side.
    pub fn stands_out(&self) -> bool {
        let floor = self.noise_floor.unwrap_or(0.0).abs();
        self.low > floor || self.high < -floor
    }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    #[test]
    fn intervals_cover_the_mean_as_often_as_they_say() {
        let mut covered = 0;
        for trial in 0..200 {
            let mut rng = Rng::new(7, Stream::Bootstrap, 0, trial);
            let observations: Vec<f64> = (0..40).map(|_| f64::from(rng.normal()) + 3.0).collect();
            let estimate = Estimate::mean(&observations, Unit::Bits, &mut rng);
            assert!(estimate.low <= estimate.value && estimate.value <= estimate.high);
            covered += u32::from((estimate.low..=estimate.high).contains(&3.0));
        }
        // 95% of 200, less three standard deviations and the bootstrap's known shortness at n = 40.
        assert!((178..=200).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn what_stands_out_lies_beyond_the_noise() {
        let estimate =
            Estimate { value: 0.5, low: 0.3, high: 0.7, unit: Unit::Share, noise_floor: None, n: 9 };
        assert!(estimate.stands_out());
        assert!(!estimate.above(0.35).stands_out());
        assert!(Estimate { value: -0.5, low: -0.7, high: -0.3, ..estimate }.above(0.2).stands_out());
        assert!(Estimate::mean(&[], Unit::Bits, &mut Rng::new(0, Stream::Bootstrap, 0, 0)).value.is_nan());
    }
}
