//! The objective of one update as plain arithmetic on the numbers of each token.

use crate::loss::{
    Clip, ClipCounts, Counts, KlEstimator, KlSums, Normalization, entropy_bonus, k2_penalty, k3_penalty,
    kl_sums, policy_gradient, sequence_importance, token_shares,
};

/// What an update makes smaller: the policy loss, plus β times the KL to the reference, minus an entropy bonus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// The range of the importance ratio.
    pub clip: Clip,
    /// Which average over tokens and answers.
    pub normalization: Normalization,
    /// β, in reward points a nat; 0: no reference.
    pub beta: f64,
    /// How the KL enters.
    pub kl: KlEstimator,
    /// Reward points a nat of entropy.
    pub entropy_coef: f64,
}

/// The numbers of the answers of one micro-batch, one answer's tokens after another's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Tokens of each answer.
    pub lengths: Vec<usize>,
    /// log π of each token now, in nats.
    pub logp: Vec<f32>,
    /// Entropy of the distribution of each token now, in nats.
    pub entropy: Vec<f32>,
    /// log π of each token when it was drawn, in nats.
    pub old_logp: Vec<f32>,
    /// log π_ref of each token, in nats; empty without a reference.
    pub ref_logp: Vec<f32>,
    /// Credit of each token, in reward points.
    pub credit: Vec<f32>,
}

/// Sums over the tokens of an update, from which its metrics are made: parts of an update add up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// The policy loss.
    pub policy_loss: f64,
    /// The whole loss.
    pub loss: f64,
    /// Tokens the clip silenced.
    pub clipped: ClipCounts,
    /// Estimates of the KL to the reference.
    pub kl: KlSums,
    /// Σ entropy, in nats.
    pub entropy: f64,
    /// Σ |log π − log π_old|, in nats.
    pub difference: f64,
    /// Largest |log π − log π_old|, in nats.
    pub worst_difference: f64,
    /// Σ π/π_old.
    pub ratio: f64,
    /// Smallest and largest π/π_old.
    pub ratio_range: Option<(f64, f64)>,
}

/// The objective's derivatives on one micro-batch, and its sums.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivatives {
    /// ∂loss/∂logp, one per token.
    pub d_logp: Vec<f32>,
    /// ∂loss/∂entropy, one per token; empty without a bonus.
    pub d_entropy: Vec<f32>,
    /// What happened.
    pub sums: Sums,
}

impl Objective {
    /// The derivatives for one micro-batch of an update whose sizes are `counts`.
    pub fn derivatives(&self, numbers: &Numbers, counts: &Counts) -> Derivatives {
        let Numbers { lengths, logp, entropy, old_logp, ref_logp, credit } = numbers;
        let share = token_shares(self.normalization, lengths, &vec![true; logp.len()], counts);
        // 1. The clipped policy gradient.
        let policy = policy_gradient(logp, old_logp, credit, &share, &self.clip);
        let mut sums = Sums {
            policy_loss: policy.value,
            loss: policy.value,
            clipped: policy.clipped,
            entropy: entropy.iter().map(|&h| f64::from(h)).sum(),
            ..Sums::default()
        };
        let mut d_logp = policy.d_logp;
        // 2. The KL to the reference; in the reward it is part of the credit already.
        if !ref_logp.is_empty() {
            sums.kl = kl_sums(logp, ref_logp, &share);
            let penalty = match self.kl {
                KlEstimator::K1InReward => None,
                KlEstimator::K2 => {
                    let importance = sequence_importance(logp, old_logp, lengths, &share);
                    Some(k2_penalty(logp, ref_logp, lengths, &share, &importance, self.beta))
                }
                KlEstimator::K3 => Some(k3_penalty(logp, ref_logp, &share, self.beta)),
            };
            if let Some(penalty) = penalty {
                sums.loss += penalty.value;
                d_logp.iter_mut().zip(&penalty.d_logp).for_each(|(d, p)| *d += p);
            }
        }
        // 3. The entropy bonus.
        let mut d_entropy = Vec::new();
        if self.entropy_coef != 0.0 {
            let bonus = entropy_bonus(entropy, &share, self.entropy_coef);
            sums.loss += bonus.value;
            d_entropy = bonus.d_entropy;
        }
        sums.compare(logp, old_logp);
        Derivatives { d_logp, d_entropy, sums }
    }
}

impl Sums {
    /// Tokens summed over.
    pub fn tokens(&self) -> usize {
        self.clipped.tokens
    }

    fn compare(&mut self, logp: &[f32], old_logp: &[f32]) {
        for (&new, &old) in logp.iter().zip(old_logp) {
            let difference = f64::from(new) - f64::from(old);
            let ratio = difference.exp();
            self.difference += difference.abs();
            self.worst_difference = self.worst_difference.max(difference.abs());
            self.ratio += ratio;
            let (low, high) = self.ratio_range.unwrap_or((ratio, ratio));
            self.ratio_range = Some((low.min(ratio), high.max(ratio)));
        }
    }

    /// Adds the sums of another part of the same update.
    pub fn add(&mut self, other: &Self) {
        self.policy_loss += other.policy_loss;
        self.loss += other.loss;
        self.clipped.low += other.clipped.low;
        self.clipped.high += other.clipped.high;
        self.clipped.tokens += other.clipped.tokens;
        self.kl.k1 += other.kl.k1;
        self.kl.k2 += other.kl.k2;
        self.kl.k3 += other.kl.k3;
        self.kl.tokens += other.kl.tokens;
        self.entropy += other.entropy;
        self.difference += other.difference;
        self.worst_difference = self.worst_difference.max(other.worst_difference);
        self.ratio += other.ratio;
        self.ratio_range = match (self.ratio_range, other.ratio_range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }
}
