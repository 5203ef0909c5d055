//! Gradients that must be right in expectation, checked on a policy small enough to enumerate every answer:
//! no sampling, no tolerance but rounding.

use pavlov_train::estimator::{ScaleRewards, group_advantages, k1_to_go, leave_one_out, pairwise_advantages};
use pavlov_train::loss::{
    Clip, Counts, Normalization, k2_penalty, k3_penalty, policy_gradient, sequence_importance, token_shares,
};

const TOKENS: usize = 3;
const PARAMETERS: usize = 9;
/// Token 0 ends an answer; two tokens are the most. Every answer there is.
const ANSWERS: [&[usize]; 7] = [&[0], &[1, 0], &[1, 1], &[1, 2], &[2, 0], &[2, 1], &[2, 2]];
const REWARDS: [f64; 7] = [0.5, 1.0, 0.0, -2.0, 0.25, 3.0, 1.0];

type Gradient = [f64; PARAMETERS];

/// One row of logits for the empty prefix, one after token 1, one after token 2.
#[derive(Clone)]
struct Policy([f64; PARAMETERS]);

impl Policy {
    fn probability(&self, prefix: usize, token: usize) -> f64 {
        let logits = &self.0[prefix * TOKENS..][..TOKENS];
        logits[token].exp() / logits.iter().map(|logit| logit.exp()).sum::<f64>()
    }

    /// The context of each token of an answer: the first token, or the one before.
    fn steps(answer: &[usize]) -> impl Iterator<Item = (usize, usize)> {
        answer.iter().enumerate().map(move |(t, &token)| (if t == 0 { 0 } else { answer[t - 1] }, token))
    }

    fn logps(&self, answer: &[usize]) -> Vec<f32> {
        Self::steps(answer).map(|(prefix, token)| self.probability(prefix, token).ln() as f32).collect()
    }

    fn chance(&self, answer: &[usize]) -> f64 {
        Self::steps(answer).map(|(prefix, token)| self.probability(prefix, token)).product()
    }

    /// Adds `weight` Σₜ dₜ ∇log π(yₜ): what the engine's backward does with a loss's derivatives.
    fn backward(&self, answer: &[usize], d_logp: &[f32], weight: f64, gradient: &mut Gradient) {
        assert_eq!(answer.len(), d_logp.len());
        for ((prefix, token), &d) in Self::steps(answer).zip(d_logp) {
            for other in 0..TOKENS {
                let indicator = f64::from(u8::from(other == token));
                let score = indicator - self.probability(prefix, other);
                gradient[prefix * TOKENS + other] += weight * f64::from(d) * score;
            }
        }
    }

    /// The gradient of any exact objective, by central differences.
    fn gradient_of(&self, objective: impl Fn(&Policy) -> f64) -> Gradient {
        std::array::from_fn(|i| {
            let moved = |by: f64| {
                let mut policy = self.clone();
                policy.0[i] += by;
                objective(&policy)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        })
    }
}

fn policy() -> Policy {
    Policy([0.3, -0.2, 0.5, -0.4, 0.9, 0.1, 0.6, 0.0, -0.7])
}

fn reference() -> Policy {
    Policy([-0.5, 0.6, 0.1, 0.8, -0.3, 0.2, -0.1, 0.4, 0.3])
}

fn kl(policy: &Policy, reference: &Policy) -> f64 {
    ANSWERS.iter().map(|y| policy.chance(y) * (policy.chance(y) / reference.chance(y)).ln()).sum()
}

/// The mean over answers of `sampler` of the gradient a loss's derivatives make.
fn expected(policy: &Policy, sampler: &Policy, d_logp: impl Fn(&[usize]) -> Vec<f32>) -> Gradient {
    let mut gradient = [0.0; PARAMETERS];
    for answer in ANSWERS {
        policy.backward(answer, &d_logp(answer), sampler.chance(answer), &mut gradient);
    }
    gradient
}

fn distance(a: &Gradient, b: &Gradient) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn ones(answer: &[usize]) -> Vec<f64> {
    vec![1.0; answer.len()]
}

const OPEN: Clip = Clip { low: 0.2, high: 0.2, delta: None };

#[test]
fn k2_in_the_loss_has_the_gradient_of_the_kl() {
    let (policy, reference) = (policy(), reference());
    let exact = policy.gradient_of(|policy| kl(policy, &reference));
    let k2 = |y: &[usize]| {
        k2_penalty(&policy.logps(y), &reference.logps(y), &[y.len()], &ones(y), &[1.0], 1.0).d_logp
    };
    assert!(distance(&expected(&policy, &policy, k2), &exact) < 1e-6);
}

#[test]
fn k2_on_answers_of_an_older_policy_has_it_with_importance_weights() {
    let (policy, reference) = (policy(), reference());
    let older = Policy([0.1, 0.2, 0.1, -0.1, 0.4, 0.3, 0.2, 0.2, -0.2]);
    let exact = policy.gradient_of(|policy| kl(policy, &reference));
    let with = |weighted: bool| {
        expected(&policy, &older, |y| {
            let logp = policy.logps(y);
            let importance = if weighted {
                sequence_importance(&logp, &older.logps(y), &[y.len()], &ones(y))
            } else {
                vec![1.0]
            };
            k2_penalty(&logp, &reference.logps(y), &[y.len()], &ones(y), &importance, 1.0).d_logp
        })
    };
    assert!(distance(&with(true), &exact) < 1e-6);
    assert!(distance(&with(false), &exact) > 0.01);
}

#[test]
fn k1_in_the_reward_has_the_gradient_of_the_kl() {
    let (policy, reference) = (policy(), reference());
    let exact = policy.gradient_of(|policy| kl(policy, &reference));
    let beta = 0.5;
    let gradient = expected(&policy, &policy, |y| {
        let logp = policy.logps(y);
        let mut credit = vec![0.0; y.len()];
        k1_to_go(&mut credit, &logp, &reference.logps(y), beta);
        policy_gradient(&logp, &logp, &credit, &ones(y), &OPEN).d_logp
    });
    assert!(distance(&gradient, &exact.map(|g| beta * g)) < 1e-6);
}

#[test]
fn k3_in_the_loss_does_not_and_k1_in_the_loss_has_none() {
    let (policy, reference) = (policy(), reference());
    let exact = policy.gradient_of(|policy| kl(policy, &reference));
    let k3 = |y: &[usize]| k3_penalty(&policy.logps(y), &reference.logps(y), &ones(y), 1.0).d_logp;
    assert!(distance(&expected(&policy, &policy, k3), &exact) > 0.05);
    // k1 as a loss is Σ log π − log π_ref: derivative 1 for every token, whatever the reference.
    let k1 = expected(&policy, &policy, |y| vec![1.0; y.len()]);
    assert!(distance(&k1, &[0.0; PARAMETERS]) < 1e-12);
    // k2 token by token leaves out what a first token does to the contexts of the second.
    let token_by_token = expected(&policy, &policy, |y| {
        let pairs = policy.logps(y).into_iter().zip(reference.logps(y));
        pairs.map(|(logp, reference)| logp - reference).collect()
    });
    assert!(distance(&token_by_token, &exact) > 0.02);
}

/// The mean, over every group of `size` answers, of the ascent direction of the policy loss with these
/// advantages.
fn expected_over_groups(policy: &Policy, size: usize, advantages: impl Fn(&[usize]) -> Vec<f64>) -> Gradient {
    let mut gradient = [0.0; PARAMETERS];
    for code in 0..ANSWERS.len().pow(size as u32) {
        let group: Vec<usize> =
            (0..size).map(|place| code / ANSWERS.len().pow(place as u32) % ANSWERS.len()).collect();
        let chance: f64 = group.iter().map(|&i| policy.chance(ANSWERS[i])).product();
        let lengths: Vec<usize> = group.iter().map(|&i| ANSWERS[i].len()).collect();
        let tokens = lengths.iter().sum();
        // The normalisation without a length bias; with a longest completion of 1 it is a mean over answers.
        let counts = Counts { sequences: size, tokens, max_completion_length: 1 };
        let share = token_shares(Normalization::DrGrpo, &lengths, &vec![true; tokens], &counts);
        let logp: Vec<f32> = group.iter().flat_map(|&i| policy.logps(ANSWERS[i])).collect();
        let credit: Vec<f32> = advantages(&group)
            .iter()
            .zip(&lengths)
            .flat_map(|(&advantage, &length)| vec![advantage as f32; length])
            .collect();
        let mut d_logp = policy_gradient(&logp, &logp, &credit, &share, &OPEN).d_logp.into_iter();
        for &i in &group {
            let d: Vec<f32> = d_logp.by_ref().take(ANSWERS[i].len()).collect();
            policy.backward(ANSWERS[i], &d, -chance, &mut gradient);
        }
    }
    gradient
}

fn rewards(group: &[usize]) -> Vec<f64> {
    group.iter().map(|&i| REWARDS[i]).collect()
}

fn expected_reward(policy: &Policy) -> f64 {
    ANSWERS.iter().zip(REWARDS).map(|(y, reward)| policy.chance(y) * reward).sum()
}

#[test]
fn leave_one_out_is_the_gradient_of_expected_reward() {
    let policy = policy();
    let exact = policy.gradient_of(expected_reward);
    let estimate = expected_over_groups(&policy, 3, |g| leave_one_out(&rewards(g), 3).unwrap().advantages);
    assert!(distance(&estimate, &exact) < 1e-6);
}

/// The group's mean contains the answer itself, which costs a share 1/G of the gradient and turns nothing.
#[test]
fn the_group_mean_is_that_gradient_shortened_by_one_answer() {
    let policy = policy();
    let exact = policy.gradient_of(expected_reward);
    for size in [2, 3] {
        let advantages =
            |g: &[usize]| group_advantages(&rewards(g), size, ScaleRewards::None).unwrap().advantages;
        let estimate = expected_over_groups(&policy, size, advantages);
        let shortened = exact.map(|g| g * (size as f64 - 1.0) / size as f64);
        assert!(distance(&estimate, &shortened) < 1e-6);
    }
}

#[test]
fn pairwise_credit_is_the_gradient_of_winning_against_a_frozen_copy() {
    let policy = policy();
    let first_better = |i: usize, j: usize| 1.0 / (1.0 + (REWARDS[j] - REWARDS[i]).exp());
    let score_against_frozen = |player: &Policy| -> f64 {
        let mut score = 0.0;
        for (i, mine) in ANSWERS.iter().enumerate() {
            for (j, theirs) in ANSWERS.iter().enumerate() {
                score += player.chance(mine) * policy.chance(theirs) * (2.0 * first_better(i, j) - 1.0);
            }
        }
        score
    };
    let exact = policy.gradient_of(score_against_frozen);
    let estimate =
        expected_over_groups(&policy, 2, |g| pairwise_advantages(&[first_better(g[0], g[1])]).unwrap());
    assert!(distance(&estimate, &exact) < 1e-6);
}
