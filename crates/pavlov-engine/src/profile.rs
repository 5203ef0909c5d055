//! Where the time of a step goes: a recorder that a device's operations report to, off unless somebody asks.
//!
//! FLOPs are the model's: a multiplication and an addition of every product once, without what is computed a second
//! time to save memory. Bytes are those that an operation must at least read and write once. Both give a floor to hold
//! a time against.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// y = x·Wᵀ of a linear layer, the sampler's language head among them.
    ProductForward,
    /// dx = dy·W and dW = dyᵀ·x of linear layers.
    ProductBackward,
    /// The language head with log-probability and entropy.
    Head,
    /// Its backward pass, to its input and its weight.
    HeadBackward,
    /// Attention.
    Attention,
    /// Its backward pass.
    AttentionBackward,
    /// Keys and values laid out for attention.
    KeyValueStore,
    /// Norms.
    Norm,
    /// Their backward pass, to input and parameters.
    NormBackward,
    /// Rotary positions, both ways.
    Rotary,
    /// The non-linearity.
    Activation,
    /// Its backward pass.
    ActivationBackward,
    /// Sums into the residual stream, scaling, sums for biases.
    Residual,
    /// Rows of tables.
    Embedding,
    /// Their backward pass.
    EmbeddingBackward,
    /// Weights and moments.
    Optimizer,
    /// Norms of gradients.
    GradientNorm,
    /// Weights and activations rounded to bf16, and back.
    Narrow,
    /// Zeros, copies, uploads and downloads.
    Memory,
    /// Digests of the weights.
    Digest,
    /// A token from its logits, on the host.
    Draw,
    /// Tokens into batches, on the host.
    Pack,
    /// Tokens into text, on the host.
    Text,
    /// Rewards and credit, on the host (a reward model's own operations are counted again).
    Reward,
    /// What each lesson was worth before its update, counted and written, on the host.
    Lessons,
    /// Files of a run, on the host.
    Files,
}

impl Operation {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProductForward => "product forward",
            Self::ProductBackward => "product backward",
            Self::Head => "head forward",
            Self::HeadBackward => "head backward",
            Self::Attention => "attention forward",
            Self::AttentionBackward => "attention backward",
            Self::KeyValueStore => "key-value store",
            Self::Norm => "norm forward",
            Self::NormBackward => "norm backward",
            Self::Rotary => "rotary",
            Self::Activation => "activation forward",
            Self::ActivationBackward => "activation backward",
            Self::Residual => "residual",
            Self::Embedding => "embedding forward",
            Self::EmbeddingBackward => "embedding backward",
            Self::Optimizer => "optimizer",
            Self::GradientNorm => "gradient norm",
            Self::Narrow => "narrow to bf16",
            Self::Memory => "memory",
            Self::Digest => "digest",
            Self::Draw => "sampling draw",
            Self::Pack => "packing",
            Self::Text => "tokens to text",
            Self::Reward => "rewards",
            Self::Lessons => "lessons",
            Self::Files => "files",
        }
    }
}

/// What one call has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications and additions.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Rows, outputs and inputs of a product.
    pub shape: Option<[usize; 3]>,
}

impl Work {
    /// Work that is memory alone: so many f32 read or written.
    pub fn floats(count: usize) -> Self {
        Self { bytes: 4 * count as u64, ..Self::default() }
    }

    /// `products` products of m × n × k that share their reading of the weight, `weight` bytes an element, and read or
    /// write `floats` f32 beside it.
    pub fn products(products: u64, [m, n, k]: [usize; 3], weight: usize, floats: usize) -> Self {
        Self {
            flops: 2 * products * (m * n * k) as u64,
            bytes: (weight * n * k + 4 * floats) as u64,
            shape: Some([m, n, k]),
        }
    }
}

/// Calls of one kind: an operation and, of products, their shape with the rows rounded up to a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The operation.
    pub operation: Operation,
    /// Rows (at most), outputs and inputs of a product.
    pub shape: Option<[usize; 3]>,
}

/// Sums over the calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Calls.
    pub calls: u64,
    /// Time in them.
    pub time: Duration,
    /// Their work.
    pub flops: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Record {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.time += other.time;
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// The recorder of a device.
#[derive(Debug, Default)]
pub struct Profile {
    on: AtomicBool,
    records: Mutex<BTreeMap<Kind, Record>>,
}

impl Profile {
    /// Starts or stops recording; what is recorded stays.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// What was recorded since the last call, which is forgotten.
    pub fn take(&self) -> BTreeMap<Kind, Record> {
        std::mem::take(&mut self.lock())
    }

    /// Measures until the returned timer is dropped; nothing, at the cost of one load, while recording is off.
    #[inline]
    pub fn time(&self, operation: Operation, work: impl FnOnce() -> Work) -> Option<Timer<'_>> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        Some(Timer { profile: self, operation, work: work(), start: Instant::now() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Kind, Record>> {
        // Sums are whole whenever the lock is free: nothing in between can panic.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is being measured.
#[derive(Debug)]
pub struct Timer<'a> {
    profile: &'a Profile,
    operation: Operation,
    work: Work,
    start: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let time = self.start.elapsed();
        let Work { flops, bytes, shape } = self.work;
        let shape = shape.map(|[m, n, k]| [m.next_power_of_two(), n, k]);
        let kind = Kind { operation: self.operation, shape };
        *self.profile.lock().entry(kind).or_default() += Record { calls: 1, time, flops, bytes };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_by_kind_and_only_while_it_is_on() {
        let profile = Profile::default();
        drop(profile.time(Operation::Norm, || unreachable!("nothing is computed while recording is off")));
        assert!(profile.take().is_empty());
        profile.switch(true);
        for m in [5, 8] {
            drop(profile.time(Operation::ProductForward, || Work::products(1, [m, 3, 2], 4, 7)));
        }
        drop(profile.time(Operation::Norm, || Work::floats(10)));
        profile.switch(false);
        let records = profile.take();
        let kind = |operation, shape| Kind { operation, shape };
        let product = records[&kind(Operation::ProductForward, Some([8, 3, 2]))];
        assert_eq!((product.calls, product.flops, product.bytes), (2, 2 * 13 * 6, 2 * (24 + 28)));
        let norm = records[&kind(Operation::Norm, None)];
        assert_eq!((records.len(), norm.calls, norm.bytes), (2, 1, 40));
        assert!(profile.take().is_empty());
    }
}
