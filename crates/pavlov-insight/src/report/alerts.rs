//! What a person should look at: signs in the curves that a run goes wrong.

use pavlov_schema::{Map, Value};
use serde::Serialize;

use crate::ledger::figure;
use crate::metrics::curve;

/// A sign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// What was seen, and what to do.
    pub text: String,
}

/// Points that the newest is compared over.
const RECENT: usize = 5;
/// KL in nats a token from which answers are another language model's.
const FAR: f64 = 0.5;
/// Share of groups without spread from which most answers teach nothing.
const SILENT: f64 = 0.8;
/// Share of its first entropy below which a policy says one thing only.
const COLLAPSED: f64 = 0.2;

/// The signs in a run's metrics.
pub fn alerts(lines: &[Map<String, Value>]) -> Vec<Alert> {
    [kl(lines), silent(lines), collapse(lines), apart(lines), disagreement(lines)]
        .into_iter()
        .flatten()
        .collect()
}

/// Mean of the last few values; none of fewer.
fn recent(points: &[(f64, f64)]) -> Option<f64> {
    let last = points.last_chunk::<RECENT>()?;
    Some(last.iter().map(|point| point.1).sum::<f64>() / RECENT as f64)
}

fn first(points: &[(f64, f64)]) -> Option<f64> {
    recent(points.get(..RECENT)?)
}

fn kl(lines: &[Map<String, Value>]) -> Option<Alert> {
    let now = recent(&curve(lines, "kl"))?;
    let text = format!(
        "KL to the reference is {} nats a token, over {FAR}: answers are those of another model; raise beta or lower the \
         learning rate",
        figure(now)
    );
    (now > FAR).then_some(Alert { name: "far from the reference", text })
}

fn silent(lines: &[Map<String, Value>]) -> Option<Alert> {
    let now = recent(&curve(lines, "frac_reward_zero_std"))?;
    let text = format!(
        "{:.0}% of groups earned all the same and teach nothing: ask harder or easier questions, or draw more answers to each",
        100.0 * now
    );
    (now > SILENT).then_some(Alert { name: "rewards without spread", text })
}

fn collapse(lines: &[Map<String, Value>]) -> Option<Alert> {
    // Of demonstrations it is meant to fall: only where the policy draws its own lessons is it a sign.
    let rewards = curve(lines, "reward");
    let points = curve(lines, "entropy");
    let (before, now) = (first(&points)?, recent(&points)?);
    let text = format!(
        "entropy fell from {} to {} nats a token: the policy says one thing only; lower the learning rate, or give it an \
         entropy bonus or a KL",
        figure(before),
        figure(now)
    );
    (!rewards.is_empty() && now < COLLAPSED * before).then_some(Alert { name: "entropy collapsed", text })
}

/// The reward in training rises while the held-out one has fallen by more than it rises and falls anyhow.
fn apart(lines: &[Map<String, Value>]) -> Option<Alert> {
    let (train, held_out) = (curve(lines, "reward"), curve(lines, "eval_reward"));
    if train.len() < 2 * RECENT || held_out.len() < 3 {
        return None;
    }
    let (before, now) = (recent(&train[..train.len() - RECENT])?, recent(&train)?);
    let best = held_out.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let steps: Vec<f64> = held_out.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs()).collect();
    let usual = steps.iter().sum::<f64>() / steps.len() as f64;
    let last = held_out.last()?.1;
    let text = format!(
        "the reward rises ({} to {}) while the held-out reward fell from {} to {}: it may be learning the reward's faults; \
         look at answers, and go back to an earlier checkpoint",
        figure(before),
        figure(now),
        figure(best),
        figure(last)
    );
    (now > before && best - last > usual.max(1e-9))
        .then_some(Alert { name: "reward up, held-out down", text })
}

fn disagreement(lines: &[Map<String, Value>]) -> Option<Alert> {
    const MOST: f64 = 0.2;
    let now = recent(&curve(lines, "sampling/sampling_logp_difference/max"))?;
    let text = format!(
        "sampler and trainer differ by up to {} nats a token: what is learned is not what was drawn; report it with the run's \
         config.toml",
        figure(now)
    );
    (now > MOST).then_some(Alert { name: "sampler and trainer disagree", text })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(n: usize, line: impl Fn(f64) -> Value) -> Vec<Map<String, Value>> {
        let lines = (0..n).map(|i| {
            let Value::Object(mut map) = line(i as f64 / (n as f64 - 1.0)) else { panic!("no object") };
            map.insert("step".into(), json!(i + 1));
            map
        });
        lines.collect()
    }

    fn names(lines: &[Map<String, Value>]) -> Vec<&'static str> {
        alerts(lines).iter().map(|alert| alert.name).collect()
    }

    #[test]
    fn each_sign_is_seen_and_a_healthy_run_has_none() {
        let healthy = |t: f64| {
            json!({"reward": t, "eval_reward": t, "kl": 0.05 * t, "entropy": 2.0 - t,
                                      "frac_reward_zero_std": 0.3, "sampling/sampling_logp_difference/max": 1e-5})
        };
        assert!(names(&run(20, healthy)).is_empty());
        assert_eq!(names(&run(20, |t| json!({"kl": 2.0 * t}))), ["far from the reference"]);
        assert_eq!(names(&run(20, |_| json!({"frac_reward_zero_std": 0.9}))), ["rewards without spread"]);
        assert_eq!(
            names(&run(20, |t| json!({"reward": t, "entropy": 2.0 * (1.0 - t)}))),
            ["entropy collapsed"]
        );
        assert_eq!(names(&run(20, |t| json!({"loss": 1.0 - t, "entropy": 2.0 * (1.0 - t)}))), [""; 0]);
        let hacked =
            |t: f64| json!({"reward": t, "eval_reward": if t < 0.5 { t } else { 1.0 - 2.0 * (t - 0.5) }});
        assert_eq!(names(&run(20, hacked)), ["reward up, held-out down"]);
        assert!(alerts(&[]).is_empty());
    }
}
