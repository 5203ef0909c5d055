//! [`Scored`] → [`Credited`]: which estimator of the gradient of expected reward a run uses.

use pavlov_schema::rollout::{Credited, Prompt, Rollout, Scored};
use serde::{Deserialize, Serialize};

use crate::estimator::{
    ScaleRewards, broadcast, group_advantages, k1_to_go, leave_one_out, pairwise_advantages,
};
use crate::reward::Waiting;
use crate::stage::score::{Judge, Judged, Reward, Source, ask, judge, score};
use crate::{Error, Result};

/// From the rewards of a group of answers to the advantage of each (`estimator`).
///
/// | estimator | advantage of answer i of G | expected gradient |
/// |---|---|---|
/// | `group_mean` | (rᵢ − mean(r)) / s, s by `scale_rewards` (GRPO, arXiv:2402.03300; s = 1: Dr. GRPO, arXiv:2503.20783) | (G−1)/G of the exact one if s = 1; with a deviation for s, that of another objective |
/// | `leave_one_out` | rᵢ − mean of the others (RLOO, arXiv:2402.14740) | exact |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Against the mean of the group, scaled by `scale_rewards`.
    #[default]
    GroupMean,
    /// Against the mean of the other answers. `scale_rewards` does not apply.
    LeaveOneOut,
}

/// Where the feedback of a run comes from, and how it becomes credit.
pub enum Feedback {
    /// Points for each answer.
    Points {
        /// What gives them.
        rewards: Vec<Reward>,
        /// From points to advantages.
        estimator: Estimator,
        /// What they are divided by.
        scale: ScaleRewards,
    },
    /// Verdicts on pairs of answers.
    Pairs(Judge),
}

impl Feedback {
    /// Scores the answers of one batch and credits their tokens. The `group` answers to a prompt lie together; `step` is
    /// the number of the update that learns from them first, from 1.
    pub fn credit(
        &mut self,
        prompts: &[Prompt],
        rollouts: Vec<Rollout>,
        group: usize,
        step: u64,
    ) -> Result<Vec<Credited>> {
        match self {
            Self::Points { rewards, estimator, scale } => {
                credit_points(score(rewards, prompts, rollouts)?, group, *estimator, *scale)
            }
            Self::Pairs(asked) => credit_pairs(judge(asked, prompts, rollouts, step)?),
        }
    }

    /// Asks the people there are about the answers of a batch, and waits. How many were left without an answer; `None`: `waiting`
    /// said no.
    pub fn ask(
        &mut self,
        prompts: &[Prompt],
        rollouts: &[Rollout],
        waiting: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<usize>> {
        match self {
            Self::Points { rewards, .. } | Self::Pairs(Judge::Rewards(rewards)) => {
                ask(rewards, prompts, rollouts, waiting)
            }
            Self::Pairs(Judge::People(people)) => people.ask_pairs(prompts, rollouts, waiting),
            Self::Pairs(Judge::Model(_) | Judge::Program(_) | Judge::Function(_)) => Ok(Some(0)),
        }
    }

    /// Whether one answer alone earns points, at any time: people are asked about what is learned from alone.
    pub fn gives_points(&self) -> bool {
        let (Self::Points { rewards, .. } | Self::Pairs(Judge::Rewards(rewards))) = self else {
            return false;
        };
        !rewards.iter().any(|reward| matches!(reward.source, Source::People(_)))
    }

    /// What each answer alone earns. Errors: a judge who only compares.
    pub fn points(&mut self, prompts: &[Prompt], rollouts: Vec<Rollout>) -> Result<Vec<Scored>> {
        match self {
            Self::Points { rewards, .. } | Self::Pairs(Judge::Rewards(rewards)) => {
                score(rewards, prompts, rollouts)
            }
            Self::Pairs(_) => Err(Error::setting("judge", "compares answers and gives none alone points")),
        }
    }
}

/// Credit from points: every token of an answer gets the answer's advantage. The answers to a prompt lie together.
pub fn credit_points(
    scored: Vec<Scored>,
    group_size: usize,
    estimator: Estimator,
    scale: ScaleRewards,
) -> Result<Vec<Credited>> {
    let rewards: Vec<f64> = scored.iter().map(|scored| scored.reward).collect();
    let (groups, method) = match (estimator, scale) {
        (Estimator::LeaveOneOut, _) => (leave_one_out(&rewards, group_size)?, "leave_one_out"),
        (Estimator::GroupMean, scale) => {
            let method = match scale {
                ScaleRewards::Group => "group_mean/group",
                ScaleRewards::Batch => "group_mean/batch",
                ScaleRewards::None => "group_mean/none",
            };
            (group_advantages(&rewards, group_size, scale)?, method)
        }
    };
    Ok(spread(scored, &groups.advantages, method))
}

/// Credit from verdicts: the better of two answers gains what the other loses.
pub fn credit_pairs(judged: Judged) -> Result<Vec<Credited>> {
    let advantages = pairwise_advantages(&judged.first_better)?;
    Ok(spread(judged.scored, &advantages, "pairwise"))
}

fn spread(scored: Vec<Scored>, advantages: &[f64], method: &str) -> Vec<Credited> {
    scored
        .into_iter()
        .zip(advantages)
        .map(|(scored, &advantage)| broadcast(scored, advantage, method))
        .collect()
}

/// Takes the KL to the reference still to come from each token's weight; the method's name says so.
pub fn shape_with_kl(credited: &mut [Credited], ref_logp: &[Vec<f32>], beta: f64) {
    assert_eq!(credited.len(), ref_logp.len(), "one reference a rollout");
    for (credited, ref_logp) in credited.iter_mut().zip(ref_logp) {
        k1_to_go(&mut credited.weights, &credited.scored.rollout.behaviour_logp, ref_logp, beta);
        credited.method.push_str("+k1");
    }
}
