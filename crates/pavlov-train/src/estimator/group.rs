//! Credit relative to the other answers to the same prompt.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a group's centred rewards are divided by (TRL's `scale_rewards`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The group's standard deviation: GRPO's paper. Groups that are nearly all right or all wrong weigh
    /// most.
    #[default]
    Group,
    /// The whole batch's standard deviation (arXiv:2508.08221).
    Batch,
    /// Nothing: Dr. GRPO (arXiv:2503.20783).
    None,
}

/// Added to every standard deviation before dividing, as in TRL.
const EPSILON: f64 = 1e-4;

/// What an estimator over groups returns.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAdvantages {
    /// One advantage per answer, in the order of the rewards.
    pub advantages: Vec<f64>,
    /// Groups given.
    pub groups: usize,
    /// Groups whose rewards are all equal. Their advantages are exactly 0: they teach nothing. TRL's
    /// `frac_reward_zero_std` is `zero_spread / groups`.
    pub zero_spread: usize,
    /// Mean over groups of the standard deviation of rewards within a group (TRL's `reward_std`), in reward
    /// points.
    pub mean_deviation: f64,
}

/// Aᵢ = (rᵢ − mean(r)) / (std(r) + 10⁻⁴) within each group of `group_size` consecutive rewards.
///
/// GRPO (arXiv:2402.03300, section 4.1.2) with TRL's choices: the deviation is the unbiased one (divisor
/// G − 1, as `torch.std`), taken over the group or over the batch, or not used at all. Errors: fewer than two
/// answers a group, rewards that do not fill whole groups, or a reward that is not finite.
pub fn group_advantages(rewards: &[f64], group_size: usize, scale: ScaleRewards) -> Result<GroupAdvantages> {
    let batch_deviation = deviation(rewards);
    over_groups(rewards, group_size, |group| {
        let mean = mean(group);
        let divisor = match scale {
            ScaleRewards::Group => deviation(group) + EPSILON,
            ScaleRewards::Batch => batch_deviation + EPSILON,
            ScaleRewards::None => 1.0,
        };
        group.iter().map(|reward| (reward - mean) / divisor).collect()
    })
}

/// Aᵢ = rᵢ − mean of the other G − 1 rewards = G/(G − 1) · (rᵢ − mean(r)): RLOO (Kool et al. 2019;
/// arXiv:2402.14740).
///
/// The baseline does not look at the answer it is for, so the gradient has exactly the size of the true one.
/// Errors as [`group_advantages`].
pub fn leave_one_out(rewards: &[f64], group_size: usize) -> Result<GroupAdvantages> {
    over_groups(rewards, group_size, |group| {
        let mean = mean(group);
        let factor = group.len() as f64 / (group.len() as f64 - 1.0);
        group.iter().map(|reward| factor * (reward - mean)).collect()
    })
}

fn over_groups(
    rewards: &[f64],
    group_size: usize,
    advantages: impl Fn(&[f64]) -> Vec<f64>,
) -> Result<GroupAdvantages> {
    let setting = |problem: String| Error::Setting { key: "num_generations".into(), problem };
    if group_size < 2 {
        return Err(setting(format!(
            "is {group_size}; an answer needs at least one other to be compared with: give 2 or more"
        )));
    }
    if !rewards.len().is_multiple_of(group_size) {
        return Err(setting(format!(
            "is {group_size}, which does not divide the {} rewards into groups",
            rewards.len()
        )));
    }
    if let Some(row) = rewards.iter().position(|reward| !reward.is_finite()) {
        return Err(Error::RewardNotFinite { row, value: rewards[row] });
    }
    let groups = rewards.len() / group_size;
    let mut result = GroupAdvantages {
        advantages: Vec::with_capacity(rewards.len()),
        groups,
        zero_spread: 0,
        mean_deviation: 0.0,
    };
    for group in rewards.chunks_exact(group_size) {
        if group.iter().all(|reward| (reward - group[0]).abs() == 0.0) {
            // The mean of equal numbers may be off by a rounding, which a small deviation would blow up.
            result.zero_spread += 1;
            result.advantages.extend(std::iter::repeat_n(0.0, group_size));
        } else {
            result.mean_deviation += deviation(group) / groups as f64;
            result.advantages.extend(advantages(group));
        }
    }
    Ok(result)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The unbiased standard deviation, `torch.std`.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::normals;

    const SCALES: [ScaleRewards; 3] = [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None];

    fn draw(seed: u64, n: usize) -> Vec<f64> {
        normals(seed, n, 1.5).into_iter().map(f64::from).collect()
    }

    #[track_caller]
    fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        assert!(
            actual.iter().zip(expected).all(|(a, e)| (a - e).abs() < tolerance),
            "{actual:?} {expected:?}"
        );
    }

    #[test]
    fn hand_numbers() {
        // Mean 1, unbiased deviation √((1 + 1 + 0 + 0)/…): group one has deviation √2, group two 0.
        let rewards = [0.0, 2.0, 5.0, 5.0];
        let group = group_advantages(&rewards, 2, ScaleRewards::Group).unwrap();
        let unit = 1.0 / (2f64.sqrt() + 1e-4);
        assert_close(&group.advantages, &[-unit, unit, 0.0, 0.0], 1e-12);
        assert_eq!((group.groups, group.zero_spread), (2, 1));
        assert!((group.mean_deviation - 2f64.sqrt() / 2.0).abs() < 1e-12);
        // Batch: mean 3, squares 9 + 1 + 4 + 4 = 18, deviation √6.
        let batch = group_advantages(&rewards, 2, ScaleRewards::Batch).unwrap();
        let unit = 1.0 / (6f64.sqrt() + 1e-4);
        assert_close(&batch.advantages, &[-unit, unit, 0.0, 0.0], 1e-12);
        let none = group_advantages(&rewards, 2, ScaleRewards::None).unwrap();
        assert_eq!(none.advantages, [-1.0, 1.0, 0.0, 0.0]);
        let rloo = leave_one_out(&[1.0, 2.0, 6.0], 3).unwrap();
        assert_close(&rloo.advantages, &[-3.0, -1.5, 4.5], 1e-12);
    }

    #[test]
    fn equal_rewards_give_exactly_zero() {
        for scale in SCALES {
            let result = group_advantages(&[0.1; 6], 3, scale).unwrap();
            assert_eq!(result.advantages, [0.0; 6]);
            assert_eq!(result.zero_spread, 2);
        }
        assert_eq!(leave_one_out(&[0.1; 3], 3).unwrap().advantages, [0.0; 3]);
    }

    #[test]
    fn groups_sum_to_zero_and_ignore_a_shift() {
        for seed in 0..30 {
            let rewards = draw(seed, 12);
            // Each group has its own shift, except where the batch's deviation would see it.
            let shifted: Vec<f64> =
                rewards.iter().enumerate().map(|(i, r)| r + 3.0 * (i / 4) as f64).collect();
            let moved: Vec<f64> = rewards.iter().map(|r| r + 3.0).collect();
            for scale in SCALES {
                let here = group_advantages(&rewards, 4, scale).unwrap().advantages;
                assert!(here.chunks(4).all(|group| group.iter().sum::<f64>().abs() < 1e-9));
                let other = if scale == ScaleRewards::Batch { &moved } else { &shifted };
                assert_close(&group_advantages(other, 4, scale).unwrap().advantages, &here, 1e-9);
            }
            let here = leave_one_out(&rewards, 4).unwrap().advantages;
            assert_close(&leave_one_out(&shifted, 4).unwrap().advantages, &here, 1e-9);
        }
    }

    #[test]
    fn permuting_answers_permutes_advantages() {
        let rewards = draw(7, 8);
        let order = [2, 0, 3, 1, 5, 4, 7, 6];
        let permuted: Vec<f64> = order.iter().map(|&i| rewards[i]).collect();
        for scale in SCALES {
            let here = group_advantages(&rewards, 4, scale).unwrap().advantages;
            let there = group_advantages(&permuted, 4, scale).unwrap().advantages;
            assert_close(&there, &order.map(|i| here[i]), 1e-12);
        }
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        let lone = group_advantages(&[1.0, 2.0], 1, ScaleRewards::None).unwrap_err().to_string();
        assert!(lone.starts_with("num_generations: is 1"), "{lone}");
        assert!(leave_one_out(&[1.0], 1).is_err());
        assert!(group_advantages(&[1.0, 2.0, 3.0], 2, ScaleRewards::None).is_err());
        let nan = group_advantages(&[1.0, f64::NAN], 2, ScaleRewards::None).unwrap_err().to_string();
        assert!(nan.contains("completion 1 is NaN"), "{nan}");
    }
}
