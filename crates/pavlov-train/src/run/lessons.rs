//! What each lesson was worth before its update, for `lessons.jsonl`.

use pavlov_engine::{AdamW, Parameters};
use pavlov_schema::lessons::{GradientNorm, LessonLine};

/// Adds a lesson that told things which had these log-probabilities, in nats, before it was learned from.
pub(crate) fn tell(line: &mut LessonLine, logp: &[f32]) {
    line.nats.push(-logp.iter().map(|&logp| f64::from(logp)).sum::<f64>() as f32);
    line.labels.push(logp.len() as u32);
    line.energy.push(logp.iter().map(|&logp| (1.0 - f64::from(logp).exp()).powi(2)).sum::<f64>() as f32);
}

/// The square of the mean gradient over `lessons` of the `total` lessons of an update, of which `gradients` holds the sum
/// in units of the update's mean.
pub(crate) fn mean_square(
    gradients: &Parameters,
    optimizer: &AdamW,
    lessons: usize,
    total: usize,
) -> GradientNorm {
    let scale = (total as f64 / lessons.max(1) as f64).powi(2);
    GradientNorm {
        lessons,
        square: scale * gradients.global_norm().powi(2),
        adam: optimizer.square_of(gradients).map(|square| scale * square),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_and_energy_by_hand() {
        let mut line = LessonLine::default();
        tell(&mut line, &[0.5_f32.ln(), 0.25_f32.ln()]);
        tell(&mut line, &[0.0]);
        assert!((f64::from(line.nats[0]) - 8.0_f64.ln()).abs() < 1e-6);
        assert!((f64::from(line.energy[0]) - (0.25 + 0.5625)).abs() < 1e-6);
        assert_eq!((line.labels.as_slice(), line.nats[1], line.energy[1]), (&[2, 1][..], 0.0, 0.0));
    }
}
