//! Learning-rate schedules, step for step those of `transformers`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The shape after warm-up (`lr_scheduler_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// The peak throughout. As in `transformers`, it has no warm-up; asking for one is an error here, where
    /// `transformers` forgets it silently.
    Constant,
    /// The peak throughout, after warm-up.
    ConstantWithWarmup,
    /// A straight line from the peak to 0 at the last step.
    #[default]
    Linear,
    /// Half a cosine wave from the peak to 0 at the last step.
    Cosine,
}

/// A learning-rate schedule over a known number of optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    scheduler: Scheduler,
    warmup_steps: usize,
    total_steps: usize,
}

impl Schedule {
    /// A schedule of `total_steps` optimizer steps. As in `transformers`, `warmup_steps` > 0 wins over
    /// `warmup_ratio` (the share of all steps, rounded up).
    pub fn new(
        scheduler: Scheduler,
        warmup_steps: usize,
        warmup_ratio: f64,
        total_steps: usize,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&warmup_ratio) {
            let problem = format!("is {warmup_ratio}; give a share of all steps between 0 and 1");
            return Err(Error::Setting { key: "warmup_ratio".into(), problem });
        }
        let from_ratio = (total_steps as f64 * warmup_ratio).ceil() as usize;
        let warmup_steps = if warmup_steps > 0 { warmup_steps } else { from_ratio };
        if scheduler == Scheduler::Constant && warmup_steps > 0 {
            let problem = "constant has no warm-up; use constant_with_warmup or drop the warm-up".into();
            return Err(Error::Setting { key: "lr_scheduler_type".into(), problem });
        }
        Ok(Self { scheduler, warmup_steps, total_steps })
    }

    /// What the peak learning rate is multiplied with in optimizer step `step`, counted from 0. With warm-up
    /// the first step has factor 0, as in `transformers`.
    pub fn factor(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / decay_steps;
        match self.scheduler {
            Scheduler::Constant | Scheduler::ConstantWithWarmup => 1.0,
            Scheduler::Linear => (1.0 - progress).max(0.0),
            // Past the end the wave would rise again.
            Scheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(scheduler: Scheduler, warmup: usize, total: usize) -> Vec<f64> {
        let schedule = Schedule::new(scheduler, warmup, 0.0, total).unwrap();
        (0..=total).map(|step| schedule.factor(step)).collect()
    }

    #[track_caller]
    fn assert_close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-12, "{actual:?}");
        }
    }

    /// From the docstring tests of transformers' `test_optimization.py`: 10 steps, 2 of warm-up, peak 10.
    #[test]
    fn matches_transformers_step_for_step() {
        let linear = factors(Scheduler::Linear, 2, 10);
        assert_close(&linear[..10], &[0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
        let cosine = factors(Scheduler::Cosine, 2, 10);
        let expected = [0.0, 5.0, 10.0, 9.61, 8.53, 6.91, 5.0, 3.08, 1.46, 0.38];
        for (a, e) in cosine.iter().zip(expected) {
            assert!((10.0 * a - e).abs() < 0.01, "{cosine:?}");
        }
        assert_close(&factors(Scheduler::ConstantWithWarmup, 4, 6), &[0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_close(&factors(Scheduler::Constant, 0, 3), &[1.0; 4]);
    }

    #[test]
    fn ends_at_zero_and_stays_there() {
        for scheduler in [Scheduler::Linear, Scheduler::Cosine] {
            let schedule = Schedule::new(scheduler, 0, 0.1, 20).unwrap();
            assert!(schedule.factor(20).abs() < 1e-12 && schedule.factor(35).abs() < 1e-12);
            assert_eq!(schedule.factor(2), 1.0);
        }
    }

    #[test]
    fn the_ratio_rounds_up_and_steps_win_over_it() {
        assert_eq!(Schedule::new(Scheduler::Linear, 0, 0.03, 50).unwrap().warmup_steps, 2);
        assert_eq!(Schedule::new(Scheduler::Linear, 7, 0.03, 50).unwrap().warmup_steps, 7);
    }

    #[test]
    fn refuses_what_would_be_ignored() {
        let error = Schedule::new(Scheduler::Constant, 5, 0.0, 10).unwrap_err().to_string();
        assert!(error.contains("constant_with_warmup"), "{error}");
        assert!(Schedule::new(Scheduler::Linear, 0, 1.5, 10).is_err());
        assert!(Schedule::new(Scheduler::Linear, 0, f64::NAN, 10).is_err());
    }
}
