//! AdamW in torch's order of operations (Loshchilov and Hutter, arXiv:1711.05101), f32 state.

use crate::backend::{AdamWStep, Backend};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::parameters::Parameters;
use crate::{Error, Result};

/// The constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay per unit of learning rate, on every parameter.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// The defaults of transformers' trainer.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimizer and its moments.
pub struct AdamW<B: Backend = Cpu> {
    config: AdamWConfig,
    steps: u64,
    first: Parameters<B>,
    second: Parameters<B>,
}

/// Moments of one parameter, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Its name.
    pub name: String,
    /// Mean of the gradients.
    pub first: Vec<f32>,
    /// Mean of their squares.
    pub second: Vec<f32>,
}

impl<B: Backend> AdamW<B> {
    /// An optimizer that has taken no step.
    pub fn new(decoder: &Decoder<B>, config: AdamWConfig) -> Self {
        Self { config, steps: 0, first: decoder.gradients(), second: decoder.gradients() }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates `params` by `grad_scale`·`grads` at learning rate `lr`.
    pub fn step(&mut self, params: &mut Parameters<B>, grads: &Parameters<B>, lr: f64, grad_scale: f32) {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let step = AdamWStep {
            decay: (1.0 - lr * weight_decay) as f32,
            step_size: (lr / correction(beta1)) as f32,
            root_correction2: correction(beta2).sqrt() as f32,
            rise1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rise2: (1.0 - beta2) as f32,
            eps: eps as f32,
            grad_scale,
        };
        let backend = std::sync::Arc::clone(params.backend());
        for index in params.trained() {
            let moments = (self.first.trained_mut(index), self.second.trained_mut(index));
            let (Some(m), Some(v)) = moments else { continue };
            backend.adamw(step, params.updated(index), grads.buffer(index), m, v);
        }
    }

    /// Σ g²/(√v̂ + ε) of a gradient, with the second moment as it is now: its square in the metric that the next step is
    /// taken in. None before the first step.
    pub fn square_of(&self, grads: &Parameters<B>) -> Option<f64> {
        if self.steps == 0 {
            return None;
        }
        let root_correction = (1.0 - self.config.beta2.powf(self.steps as f64)).sqrt() as f32;
        let backend = grads.backend();
        let square = |index: &usize| {
            let (g, v) = (grads.read_trained(*index)?, self.second.read_trained(*index)?);
            Some(backend.adam_square_sum(g, v, root_correction, self.config.eps as f32))
        };
        Some(self.second.trained().iter().filter_map(square).sum())
    }

    /// The moments of every trainable parameter, for a checkpoint.
    pub fn state(&self) -> Result<Vec<Moments>> {
        let moments = |name: &String| {
            Ok(Moments { name: name.clone(), first: self.first.get(name)?, second: self.second.get(name)? })
        };
        self.first.specs().map(|s| moments(&s.name)).collect()
    }

    /// Takes over the state of a checkpoint, which must hold every trainable parameter.
    pub fn restore(&mut self, steps: u64, state: &[Moments]) -> Result<()> {
        let missing = self.first.specs().find(|s| !state.iter().any(|m| m.name == s.name));
        if let Some(spec) = missing {
            return Err(Error::UnknownParameter(format!("{} (missing in the optimizer state)", spec.name)));
        }
        for moments in state {
            self.first.set(&moments.name, &moments.first)?;
            self.second.set(&moments.name, &moments.second)?;
        }
        self.steps = steps;
        Ok(())
    }
}

/// The factor that brings a gradient of norm `norm` down to `max_norm`, as torch's `clip_grad_norm_`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0) as f32
}
