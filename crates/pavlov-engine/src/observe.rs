//! What a pass lets its caller see beside its result: the residual stream, its derivative, and the gradient of each
//! example on its own.
//!
//! Layers of the stream are numbered as in [`crate::Intervention`].

use crate::activations::Activations;
use crate::backend::{Backend, TableStorage};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::factors::KroneckerFactors;
use crate::per_example::ExampleGradients;
use crate::{Error, Result};

/// What a backward pass is asked to keep, beside the gradients of the parameters.
pub struct Observed<'a, B: Backend = Cpu> {
    /// The derivatives with respect to the residual stream.
    pub streams: Option<&'a mut StreamGradients<B>>,
    /// The projected gradient of each example.
    pub examples: Option<&'a mut ExampleGradients<B>>,
    /// The second moments on both sides of linear layers.
    pub factors: Option<&'a mut KroneckerFactors<B>>,
}

impl<B: Backend> Default for Observed<'_, B> {
    fn default() -> Self {
        Self { streams: None, examples: None, factors: None }
    }
}

impl<B: Backend> Observed<'_, B> {
    /// Shows the rows of a linear layer: its input and the derivative of its output.
    pub(crate) fn see(&mut self, backend: &B, parameter: usize, rows: usize, x: &B::Buffer, dy: &B::Buffer) {
        if let Some(examples) = &mut self.examples {
            examples.add(backend, parameter, x, dy);
        }
        if let Some(factors) = &mut self.factors {
            factors.add(backend, parameter, rows, x, dy);
        }
    }

    /// Refuses a pass that did not come by a chosen layer.
    pub(crate) fn all_seen(&self) -> Result<()> {
        self.examples.as_ref().map_or(Ok(()), |examples| examples.all_seen())?;
        self.factors.as_ref().map_or(Ok(()), |factors| factors.all_seen())
    }
}

/// The derivative of a loss with respect to the residual stream at every layer and row, as of the last backward pass
/// that was given it. At a layer with interventions it is the derivative with respect to the changed stream: summed over
/// the rows of a [`crate::Change::Add`], the derivative with respect to its vector.
pub struct StreamGradients<B: Backend = Cpu> {
    layers: Vec<B::Buffer>,
    rows: usize,
}

impl<B: Backend> Default for StreamGradients<B> {
    fn default() -> Self {
        Self { layers: Vec::new(), rows: 0 }
    }
}

impl<B: Backend> StreamGradients<B> {
    /// Forgets the last pass.
    pub(crate) fn begin(&mut self, backend: &B, layers: usize, rows: usize) {
        self.layers.resize_with(layers + 1, || backend.zeros(0));
        self.rows = rows;
    }

    pub(crate) fn keep(&mut self, backend: &B, layer: usize, dx: &B::Buffer) {
        backend.copy(&mut self.layers[layer], dx);
    }
}

impl<B: Backend> Decoder<B> {
    /// The residual stream at a layer, after its interventions, at these rows of the batch of the forward pass that last
    /// used `acts`: \[rows, hidden_size\]. An error if there is no such layer, row or pass.
    pub fn stream(&self, acts: &Activations<B>, layer: usize, rows: &[u32]) -> Result<Vec<f32>> {
        self.read(&acts.streams, acts.plan.items.iter().map(|item| item.len).sum(), layer, rows)
    }

    /// The derivative with respect to the residual stream at a layer and these rows, \[rows, hidden_size\]. An error if
    /// there is no such layer, row or pass.
    pub fn stream_gradient(
        &self,
        gradients: &StreamGradients<B>,
        layer: usize,
        rows: &[u32],
    ) -> Result<Vec<f32>> {
        self.read(&gradients.layers, gradients.rows, layer, rows)
    }

    fn read(&self, streams: &[B::Buffer], held: usize, layer: usize, rows: &[u32]) -> Result<Vec<f32>> {
        let refuse =
            |problem: String| Err(Error::Observation(format!("the stream at layer {layer} {problem}")));
        let (layers, width) = (self.config().num_layers, self.config().hidden_size);
        if layer > layers {
            return refuse(format!("does not exist: layers are 0 to {layers}"));
        }
        if held == 0 || streams.len() <= layers {
            return refuse("was not computed: a pass over a batch comes first".into());
        }
        if rows.is_empty() {
            return refuse("was asked for no row".into());
        }
        if let Some(row) = rows.iter().find(|row| **row as usize >= held) {
            return refuse(format!("has no row {row}: the batch has {held} rows"));
        }
        let backend = &**self.backend();
        let mut chosen = backend.zeros(rows.len() * width);
        backend.embed(&mut chosen, &streams[layer], TableStorage::Rows, rows, width, false);
        let mut values = Vec::new();
        backend.download(&mut values, &chosen);
        Ok(values)
    }
}
