//! Several rewards, weighted.

use crate::{Error, Result};

/// One reward's points for every completion of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The reward's name, as in metrics (`rewards/{name}/mean`) and rollout files.
    pub name: String,
    /// What its points are multiplied with.
    pub weight: f64,
    /// Points per completion; `None` where it does not apply.
    pub rewards: Vec<Option<f64>>,
}

/// One completion's total and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// Σ weight · points over the rewards that apply.
    pub reward: f64,
    /// Name and points, before weighting, of the rewards that apply, in their order.
    pub parts: Vec<(String, f64)>,
}

/// The weighted sum of the rewards of each of `completions` completions.
///
/// As in TRL, a reward that does not apply is left out of the sum. Errors: points that are not finite; a
/// completion to which no reward applies, where TRL would go on with a total of 0 that nobody gave.
pub fn mix(parts: &[Part], completions: usize) -> Result<Vec<Mixed>> {
    for part in parts {
        assert_eq!(part.rewards.len(), completions, "reward '{}' must speak of every completion", part.name);
    }
    (0..completions).map(|row| mix_one(parts, row)).collect()
}

fn mix_one(parts: &[Part], row: usize) -> Result<Mixed> {
    let mut mixed = Mixed { reward: 0.0, parts: Vec::with_capacity(parts.len()) };
    for part in parts {
        let Some(points) = part.rewards[row] else { continue };
        if !points.is_finite() {
            return Err(Error::RewardNotFinite { row, value: points });
        }
        mixed.reward += part.weight * points;
        mixed.parts.push((part.name.clone(), points));
    }
    if mixed.parts.is_empty() {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        return Err(Error::NoReward { row, rewards: names.join(", ") });
    }
    Ok(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, weight: f64, rewards: &[Option<f64>]) -> Part {
        Part { name: name.into(), weight, rewards: rewards.to_vec() }
    }

    #[test]
    fn sums_what_applies() {
        let parts = [part("a", 2.0, &[Some(1.0), None]), part("b", -0.5, &[Some(3.0), Some(4.0)])];
        let mixed = mix(&parts, 2).unwrap();
        assert_eq!(mixed[0], Mixed { reward: 0.5, parts: vec![("a".into(), 1.0), ("b".into(), 3.0)] });
        assert_eq!(mixed[1], Mixed { reward: -2.0, parts: vec![("b".into(), 4.0)] });
    }

    #[test]
    fn refuses_an_invented_total() {
        let error = mix(&[part("a", 1.0, &[Some(0.0), None])], 2).unwrap_err().to_string();
        assert!(error.contains("completion 1") && error.contains("one of a gave null"), "{error}");
        let error = mix(&[part("a", 1.0, &[Some(f64::INFINITY)])], 1).unwrap_err().to_string();
        assert!(error.contains("completion 0 is inf"), "{error}");
    }
}
