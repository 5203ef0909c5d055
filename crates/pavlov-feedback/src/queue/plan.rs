//! How many people answer a task, what a rater gets next, and for how long it is held.

use super::chance::{Decision, unit};
use crate::clock::Millis;
use crate::settings::Settings;

/// What the next task is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The calibration round.
    Calibration,
    /// Tasks with a known answer, served like any other.
    Gold,
    /// One's own earlier comparison, swapped.
    Repeat,
    /// Tasks that wait for answers.
    Live,
}

/// People who answer a live task: a share of the tasks goes to more.
pub fn overlap(settings: &Settings, salt: u64, task: u64) -> u32 {
    if unit(salt, Decision::Overlap, task) < settings.shared_share {
        settings.shared_overlap.max(settings.overlap)
    } else {
        settings.overlap
    }
}

/// What a rater's next task is taken from. `done` counts what the rater has answered or skipped, `calibrated` what of that
/// was in the calibration round.
pub fn source(settings: &Settings, salt: u64, rater: u64, done: u64, calibrated: u64) -> Source {
    if calibrated < u64::from(settings.calibration) {
        return Source::Calibration;
    }
    // Of each rater a sequence of its own.
    let chance = unit(salt, Decision::Source, rater << 32 | done & 0xFFFF_FFFF);
    if chance < settings.gold_share {
        Source::Gold
    } else if chance < settings.gold_share + settings.repeat_share {
        Source::Repeat
    } else {
        Source::Live
    }
}

/// How long a task is held without a sign of life: three times the median time of an answer, or the project's shortest lease
/// where that is longer. In milliseconds.
pub fn lease_ms(settings: &Settings, recent_active_ms: &[u64]) -> Millis {
    let mut sorted = recent_active_ms.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let three = Millis::try_from(median.saturating_mul(3)).unwrap_or(Millis::MAX).min(86_400_000);
    three.max(Millis::from(settings.lease_s) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_tasks_goes_to_more_people() {
        let settings = Settings { shared_share: 0.15, overlap: 1, shared_overlap: 3, ..Settings::default() };
        let n = 20_000;
        let shared = (0..n).filter(|&task| overlap(&settings, 7, task) == 3).count() as f64;
        let deviation = (0.15 * 0.85 / n as f64).sqrt();
        assert!((shared / n as f64 - 0.15).abs() < 4.0 * deviation, "{shared}");
        assert!((0..n).all(|task| overlap(&settings, 7, task) == overlap(&settings, 7, task)));
        assert!((0..n).any(|task| overlap(&settings, 7, task) != overlap(&settings, 8, task)));
    }

    #[test]
    fn calibration_comes_first_then_the_planned_shares() {
        let settings =
            Settings { calibration: 2, gold_share: 0.1, repeat_share: 0.05, ..Settings::default() };
        assert_eq!(source(&settings, 1, 1, 0, 0), Source::Calibration);
        assert_eq!(source(&settings, 1, 1, 1, 1), Source::Calibration);
        let n = 20_000_u64;
        let share = |wanted| {
            (0..n).filter(|&done| source(&settings, 1, 1, done, 2) == wanted).count() as f64 / n as f64
        };
        let near = |found: f64, p: f64| (found - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt();
        assert!(near(share(Source::Gold), 0.1) && near(share(Source::Repeat), 0.05));
        assert!(share(Source::Calibration) < 1e-12);
        let differs = |done| source(&settings, 1, 1, done, 2) != source(&settings, 1, 2, done, 2);
        assert!((0..n).any(differs), "two raters have one sequence");
    }

    #[test]
    fn a_lease_is_three_median_answers_long() {
        let settings = Settings { lease_s: 300, ..Settings::default() };
        assert_eq!(lease_ms(&settings, &[]), 300_000);
        assert_eq!(lease_ms(&settings, &[1_000, 2_000, 90_000]), 300_000);
        assert_eq!(lease_ms(&settings, &[200_000, 1_000, 150_000]), 450_000);
        assert_eq!(lease_ms(&settings, &[u64::MAX]), 86_400_000);
    }
}
