//! TRL's metric names, from what a batch of rollouts earned and what an update did.

use pavlov_schema::rollout::{Credited, Finish};
use serde_json::json;

use super::objective::Sums;
use crate::run::Metrics;

/// Lengths, rewards and their spread over a batch of rollouts; `group_size` consecutive ones answer one prompt.
///
/// Lengths are in tokens, rewards in reward points. `reward_std` is the mean of the groups' standard deviations
/// (divisor G − 1), as is `rewards/NAME/std` over the whole batch.
pub(super) fn of_rollouts(rollouts: &[Credited], group_size: usize) -> Metrics {
    let mut metrics = Metrics::new();
    let mut add = |name: String, value: f64| {
        metrics.insert(name, json!(value));
    };
    let length = |credited: &Credited| credited.scored.rollout.tokens.len() as f64;
    let clipped = |credited: &&Credited| credited.scored.rollout.finish == Finish::Length;
    let all: Vec<f64> = rollouts.iter().map(length).collect();
    let terminated: Vec<f64> = rollouts.iter().filter(|r| !clipped(r)).map(length).collect();
    for (name, lengths) in [("length", &all), ("terminated_length", &terminated)] {
        // As in TRL, 0 where no answer ended.
        let or_zero = |value: f64| if lengths.is_empty() { 0.0 } else { value };
        add(format!("completions/mean_{name}"), or_zero(mean(lengths)));
        add(
            format!("completions/min_{name}"),
            or_zero(lengths.iter().copied().fold(f64::INFINITY, f64::min)),
        );
        add(format!("completions/max_{name}"), or_zero(lengths.iter().copied().fold(0.0, f64::max)));
    }
    let cut = rollouts.iter().filter(clipped).count();
    add("completions/clipped_ratio".into(), cut as f64 / rollouts.len().max(1) as f64);
    for name in part_names(rollouts) {
        let points: Vec<f64> = rollouts
            .iter()
            .filter_map(|r| r.scored.parts.iter().find(|(part, _)| part == name).map(|&(_, points)| points))
            .collect();
        add(format!("rewards/{name}/mean"), mean(&points));
        add(format!("rewards/{name}/std"), deviation(&points));
    }
    let rewards: Vec<f64> = rollouts.iter().map(|r| r.scored.reward).collect();
    let spreads: Vec<f64> = rewards.chunks(group_size).map(deviation).collect();
    add("reward".into(), mean(&rewards));
    add("reward_std".into(), mean(&spreads));
    // The estimators give exactly 0 to equal rewards and to ties, and to nothing else.
    let silent = |group: &&[Credited]| group.iter().all(|r| r.advantage.abs() == 0.0);
    let silent = rollouts.chunks(group_size).filter(silent).count();
    add("frac_reward_zero_std".into(), silent as f64 / spreads.len().max(1) as f64);
    metrics
}

/// Loss, clipping, entropy and KL of an update, in nats and reward points. `kl` is the mean of the k3 estimates, as
/// TRL logs it, whatever estimator trains.
pub(super) fn of_update(sums: &Sums, with_reference: bool) -> Metrics {
    let tokens = sums.tokens().max(1) as f64;
    let low = sums.clipped.low as f64 / tokens;
    let high = sums.clipped.high as f64 / tokens;
    let mut metrics = Metrics::from_iter([
        ("loss".to_owned(), json!(sums.loss)),
        ("policy_loss".to_owned(), json!(sums.policy_loss)),
        ("entropy".to_owned(), json!(sums.entropy / tokens)),
        ("clip_ratio/low_mean".to_owned(), json!(low)),
        ("clip_ratio/high_mean".to_owned(), json!(high)),
        ("clip_ratio/region_mean".to_owned(), json!(low + high)),
    ]);
    if with_reference {
        metrics.insert("kl".to_owned(), json!(sums.kl.k3 / sums.kl.tokens.max(1) as f64));
    }
    metrics
}

/// How far the trainer's log-probabilities are from those the sampler recorded, over the same weights: in nats, and as
/// a ratio of probabilities. Anything but rounding is a fault.
pub(super) fn of_sampling(sums: &Sums) -> Metrics {
    let tokens = sums.tokens().max(1) as f64;
    let (low, high) = sums.ratio_range.unwrap_or((1.0, 1.0));
    Metrics::from_iter([
        ("sampling/sampling_logp_difference/mean".to_owned(), json!(sums.difference / tokens)),
        ("sampling/sampling_logp_difference/max".to_owned(), json!(sums.worst_difference)),
        ("sampling/importance_sampling_ratio/min".to_owned(), json!(low)),
        ("sampling/importance_sampling_ratio/mean".to_owned(), json!(sums.ratio / tokens)),
        ("sampling/importance_sampling_ratio/max".to_owned(), json!(high)),
    ])
}

/// The names of the reward parts, in order of first appearance.
fn part_names(rollouts: &[Credited]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rollouts.iter().flat_map(|r| &r.scored.parts) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rollout::{Rollout, Scored};

    use super::*;

    fn rollout(
        length: usize,
        finish: Finish,
        reward: f64,
        advantage: f64,
        parts: &[(&str, f64)],
    ) -> Credited {
        let rollout = Rollout {
            prompt_id: "p".into(),
            prompt_index: 0,
            choice: 0,
            prompt_text: String::new(),
            prompt_tokens: vec![1],
            completion: String::new(),
            tokens: vec![1; length],
            behaviour_logp: vec![-1.0; length],
            finish,
            seed: 0,
            policy_version: 0,
        };
        let parts = parts.iter().map(|&(name, points)| (name.to_owned(), points)).collect();
        let scored = Scored { rollout, reward, parts };
        Credited { scored, advantage, weights: vec![0.0; length], method: String::new() }
    }

    #[test]
    fn hand_numbers() {
        let rollouts = [
            rollout(2, Finish::Eos, 1.0, -0.7, &[("exact", 1.0), ("length", 0.5)]),
            rollout(4, Finish::Eos, 3.0, 0.7, &[("exact", 0.0)]),
            rollout(8, Finish::Length, 2.0, 0.0, &[("exact", 0.0)]),
            rollout(2, Finish::Stop, 2.0, 0.0, &[("exact", 1.0)]),
        ];
        let metrics = of_rollouts(&rollouts, 2);
        let get = |name: &str| metrics[name].as_f64().unwrap();
        assert_eq!(get("completions/mean_length"), 4.0);
        assert_eq!((get("completions/min_length"), get("completions/max_length")), (2.0, 8.0));
        assert_eq!(get("completions/max_terminated_length"), 4.0);
        assert_eq!(get("completions/clipped_ratio"), 0.25);
        assert_eq!((get("rewards/exact/mean"), get("rewards/length/mean")), (0.5, 0.5));
        assert!((get("rewards/exact/std") - (1.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(get("reward"), 2.0);
        // Groups {1, 3} and {2, 2}: deviations √2 and 0.
        assert!((get("reward_std") - 2f64.sqrt() / 2.0).abs() < 1e-12);
        assert_eq!(get("frac_reward_zero_std"), 0.5);
    }
}
