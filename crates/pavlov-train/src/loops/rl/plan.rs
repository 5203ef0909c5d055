//! Which prompts each batch of answers is drawn for. It has no state: all follows from the number of the update.

use pavlov_schema::rng::{Rng, Stream};

use super::config::Batches;
use crate::run::TrainingConfig;
use crate::{Error, Result};

/// The course of a run over a data set of prompts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    prompts: usize,
    batches: Batches,
    shuffle: bool,
    seed: u64,
}

/// Where an update stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its batch of answers, from 0.
    pub(super) generation: u64,
    /// The update that is the first to learn from that batch, from 1: it names the file of rollouts.
    pub(super) first_step: u64,
    /// Which part of the batch it learns from, in updates' worth.
    pub(super) part: usize,
    /// Whether it is the first of the batch: the policy is still the one that drew it.
    pub(super) on_policy: bool,
}

impl Plan {
    /// Errors: fewer prompts than one batch of answers needs.
    pub(super) fn new(prompts: usize, batches: Batches, training: &TrainingConfig) -> Result<Self> {
        if prompts < batches.prompts {
            let problem = format!(
                "has {prompts} prompts, fewer than the {} of a batch of answers; give it more, or lower \
                 per_device_train_batch_size or steps_per_generation",
                batches.prompts
            );
            return Err(Error::setting("data", problem));
        }
        Ok(Self { prompts, batches, shuffle: training.shuffle_dataset, seed: training.seed })
    }

    /// Batches of answers in an epoch. Prompts that do not fill a batch are left out of the epoch; the next one has
    /// another order.
    fn per_epoch(&self) -> u64 {
        (self.prompts / self.batches.prompts) as u64
    }

    /// Updates in the whole run.
    pub(super) fn total(&self, training: &TrainingConfig) -> u64 {
        if training.max_steps > 0 {
            return training.max_steps;
        }
        let generations = (training.num_train_epochs * self.per_epoch() as f64).ceil() as u64;
        generations.max(1) * self.batches.updates as u64
    }

    /// The place of update `step`, from 1.
    pub(super) fn place(&self, step: u64) -> Place {
        let updates = self.batches.updates as u64;
        let (generation, within) = ((step - 1) / updates, ((step - 1) % updates) as usize);
        let parts = self.batches.prompts * self.batches.group / self.batches.update;
        Place {
            generation,
            first_step: generation * updates + 1,
            part: within % parts,
            on_policy: within == 0,
        }
    }

    /// The prompts of a batch of answers, as places in the data.
    pub(super) fn prompts(&self, generation: u64) -> Vec<usize> {
        let (epoch, within) = (generation / self.per_epoch(), (generation % self.per_epoch()) as usize);
        let mut order: Vec<usize> = (0..self.prompts).collect();
        if self.shuffle {
            Rng::new(self.seed, Stream::Data, epoch, 0).shuffle(&mut order);
        }
        order[within * self.batches.prompts..][..self.batches.prompts].to_vec()
    }

    /// How often the data is gone through after update `step`, from 1.
    pub(super) fn epoch(&self, step: u64) -> f64 {
        step as f64 / (self.batches.updates as u64 * self.per_epoch()) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCHES: Batches = Batches { group: 2, prompts: 4, micro: 2, update: 4, updates: 6 };

    #[test]
    fn updates_go_through_parts_and_iterations() {
        let training = TrainingConfig { num_train_epochs: 1.5, ..TrainingConfig::default() };
        let plan = Plan::new(9, BATCHES, &training).unwrap();
        // Two batches an epoch, three in one and a half; six updates each.
        assert_eq!(plan.total(&training), 18);
        let place = |step| plan.place(step);
        assert_eq!(place(1), Place { generation: 0, first_step: 1, part: 0, on_policy: true });
        assert_eq!(place(2), Place { generation: 0, first_step: 1, part: 1, on_policy: false });
        assert_eq!(place(3), Place { generation: 0, first_step: 1, part: 0, on_policy: false });
        assert_eq!(place(7), Place { generation: 1, first_step: 7, part: 0, on_policy: true });
        assert!((plan.epoch(12) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn no_prompt_twice_in_an_epoch_and_another_order_in_the_next() {
        let plan = Plan::new(9, BATCHES, &TrainingConfig::default()).unwrap();
        let epoch = |first: u64| [plan.prompts(first), plan.prompts(first + 1)].concat();
        let mut once = epoch(0);
        assert_ne!(once, epoch(2));
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 8);
        let few = Plan::new(3, BATCHES, &TrainingConfig::default()).unwrap_err().to_string();
        assert!(few.starts_with("data: has 3 prompts, fewer than the 4"), "{few}");
    }
}
