//! Which rows each update learns from.

use std::collections::VecDeque;

use pavlov_schema::rng::{Rng, Stream};

use crate::run::TrainingConfig;

/// When a forward pass is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// At this many rows.
    Rows(usize),
    /// Before it would hold more than this many tokens; a longer row is alone.
    Tokens(usize),
}

/// The order of a data set over a whole run. It has no state: what an update learns from follows from its number.
#[derive(Clone, Debug)]
pub struct Order {
    /// Tokens of each row.
    lengths: Vec<usize>,
    batching: Batching,
    accumulation: usize,
    shuffle: bool,
    seed: u64,
}

/// What one update learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// How often the data is gone through after this update.
    pub epoch: f64,
    /// The rows of each forward pass.
    pub parts: Vec<Vec<usize>>,
}

impl Planned {
    /// The rows of all forward passes.
    pub fn rows(&self) -> Vec<usize> {
        self.parts.concat()
    }
}

impl Order {
    /// The order of rows of these lengths, in tokens.
    pub fn new(lengths: Vec<usize>, batching: Batching, training: &TrainingConfig) -> Self {
        Self {
            lengths,
            batching,
            accumulation: training.gradient_accumulation_steps.max(1),
            shuffle: training.shuffle_dataset,
            seed: training.seed,
        }
    }

    /// The updates of one epoch. A last update may be smaller, as in transformers.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<Vec<usize>>> {
        let mut rows: Vec<usize> = (0..self.lengths.len()).collect();
        if self.shuffle {
            Rng::new(self.seed, Stream::Data, epoch, 0).shuffle(&mut rows);
        }
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut tokens = 0;
        for row in rows {
            let room = parts.last().is_some_and(|part| match self.batching {
                Batching::Rows(most) => part.len() < most.max(1),
                Batching::Tokens(most) => tokens + self.lengths[row] <= most,
            });
            if let Some(part) = parts.last_mut().filter(|_| room) {
                part.push(row);
            } else {
                tokens = 0;
                parts.push(vec![row]);
            }
            tokens += self.lengths[row];
        }
        parts.chunks(self.accumulation).map(<[_]>::to_vec).collect()
    }

    /// Updates in the whole run: `max_steps`, or those of `num_train_epochs` epochs, the last of which may be a part.
    pub fn total(&self, training: &TrainingConfig) -> u64 {
        if training.max_steps > 0 || self.lengths.is_empty() {
            return training.max_steps;
        }
        let whole = training.num_train_epochs.floor() as u64;
        let count = |epoch: u64| self.epoch(epoch).len() as u64;
        let steps = match self.batching {
            // Every epoch has as many.
            Batching::Rows(_) => whole * count(0),
            Batching::Tokens(_) => (0..whole).map(count).sum(),
        };
        let part = training.num_train_epochs - whole as f64;
        (steps + (part * count(whole) as f64).ceil() as u64).max(1)
    }

    /// The updates from number `first` (from 0) on, without end.
    ///
    /// # Panics
    /// If there are no rows.
    pub fn updates(&self, first: u64) -> impl Iterator<Item = Planned> + '_ {
        assert!(!self.lengths.is_empty(), "an order needs rows");
        let (mut epoch, mut left) = (0, first);
        let mut current = self.epoch(0);
        if matches!(self.batching, Batching::Rows(_)) {
            epoch = left / current.len() as u64;
            left %= current.len() as u64;
            current = self.epoch(epoch);
        }
        while left >= current.len() as u64 {
            left -= current.len() as u64;
            epoch += 1;
            current = self.epoch(epoch);
        }
        let mut count = current.len();
        let mut queue: VecDeque<Vec<Vec<usize>>> = current.into();
        queue.drain(..left as usize);
        std::iter::from_fn(move || {
            if queue.is_empty() {
                epoch += 1;
                queue = self.epoch(epoch).into();
                count = queue.len();
            }
            let parts = queue.pop_front()?;
            let done = (count - queue.len()) as f64 / count as f64;
            Some(Planned { epoch: epoch as f64 + done, parts })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(accumulation: usize, epochs: f64) -> TrainingConfig {
        TrainingConfig {
            gradient_accumulation_steps: accumulation,
            num_train_epochs: epochs,
            ..TrainingConfig::default()
        }
    }

    #[test]
    fn every_row_once_an_epoch_in_another_order() {
        let order = Order::new(vec![3; 10], Batching::Rows(3), &training(2, 1.0));
        let flat = |epoch| order.epoch(epoch).concat().concat();
        for epoch in 0..3 {
            let mut rows = flat(epoch);
            rows.sort_unstable();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(flat(0), flat(1));
        let sizes: Vec<Vec<usize>> =
            order.epoch(0).iter().map(|update| update.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [vec![3, 3], vec![3, 1]]);
    }

    #[test]
    fn packing_fills_up_to_the_budget() {
        let mut config = training(1, 1.0);
        config.shuffle_dataset = false;
        let order = Order::new(vec![4, 4, 3, 12, 1, 9], Batching::Tokens(10), &config);
        assert_eq!(order.epoch(0), [[vec![0, 1]], [vec![2]], [vec![3]], [vec![4, 5]]]);
    }

    #[test]
    fn totals_follow_epochs_or_steps() {
        let order =
            |config: &TrainingConfig| Order::new(vec![1; 10], Batching::Rows(2), config).total(config);
        assert_eq!(order(&training(1, 2.0)), 10);
        assert_eq!(order(&training(2, 1.0)), 3);
        assert_eq!(order(&training(2, 1.5)), 3 + 2);
        assert_eq!(order(&training(2, 0.01)), 1);
        assert_eq!(order(&TrainingConfig { max_steps: 7, ..training(1, 2.0) }), 7);
    }

    #[test]
    fn a_resumed_order_is_the_tail_of_the_whole() {
        for batching in [Batching::Rows(3), Batching::Tokens(7)] {
            let order = Order::new((0..11).map(|i| 1 + i % 5).collect(), batching, &training(2, 1.0));
            let whole: Vec<Planned> = order.updates(0).take(12).collect();
            for first in 0..12 {
                let tail: Vec<Planned> = order.updates(first as u64).take(12 - first).collect();
                assert_eq!(tail, whole[first..]);
            }
            assert!(whole.windows(2).all(|pair| pair[0].epoch < pair[1].epoch));
        }
    }
}
