//! The one step from gradients to weights.

use pavlov_engine::{AdamW, Parameters, clip_factor};

use crate::{Error, Result};

/// Clips the gradients to `max_norm` (0: not at all) and updates the weights; returns the norm before clipping.
///
/// A gradient that is not finite is an error that names the tensor; the weights stay as they were. `step` counts from
/// 1 and `rows` are the places in the data, from 0, for that error.
pub fn update(
    params: &mut Parameters,
    grads: &Parameters,
    optimizer: &mut AdamW,
    learning_rate: f64,
    max_norm: f64,
    (step, rows): (u64, &[usize]),
) -> Result<f64> {
    let norm = grads.global_norm();
    if !norm.is_finite() {
        let what = match grads.find_not_finite() {
            Some(tensor) => format!("the gradient of {tensor}"),
            None => "the gradient's norm".to_owned(),
        };
        return Err(Error::NotFinite { step, what, rows: name_rows(rows) });
    }
    let factor = if max_norm > 0.0 { clip_factor(norm, max_norm) } else { 1.0 };
    optimizer.step(params, grads, learning_rate, factor);
    Ok(norm)
}

/// The numbers of rows, from 1, for an error: the first of them. Answers to one prompt, which follow each other, name its
/// row once.
pub fn name_rows(rows: &[usize]) -> String {
    const NAMED: usize = 12;
    let mut rows = rows.to_vec();
    rows.dedup();
    let mut names: Vec<String> = rows.iter().take(NAMED).map(|row| (row + 1).to_string()).collect();
    if rows.len() > NAMED {
        names.push("…".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_from_one_and_cut() {
        assert_eq!(name_rows(&[0, 4]), "1, 5");
        assert_eq!(name_rows(&[4, 4, 4, 0, 0, 0]), "5, 1", "three answers to each prompt");
        assert!(name_rows(&(0..50).collect::<Vec<_>>()).ends_with("12, …"));
    }
}
