//! The second moments of what a linear layer reads and of the derivative of what it gives: the factors of K-FAC (Martens and
//! Grosse, arXiv:1503.05671).
//!
//! In their eigenvectors the gradients of single examples are nearly uncorrelated, which is what EK-FAC (George et al.,
//! arXiv:1806.03884) rests on; [`crate::ExampleGradients::in_bases`] gives the gradients there.

use crate::Result;
use crate::backend::{Backend, LinearGradient, MatrixGradient, Weight};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::per_example::{all_seen, find_linear};

/// One linear layer.
struct Layer<B: Backend> {
    parameter: usize,
    name: String,
    /// Of its input and of its output: width and sum.
    sides: [(usize, B::Buffer); 2],
    seen: bool,
}

/// Σ x·xᵀ \[in, in\] and Σ dy·dyᵀ \[out, out\] over the rows of every backward pass that was given them.
/// Of a matrix that several layers share each of them gives rows.
pub struct KroneckerFactors<B: Backend = Cpu> {
    layers: Vec<Layer<B>>,
    nothing: B::Buffer,
}

impl<B: Backend> KroneckerFactors<B> {
    /// Zeros, for these parameters, which are named as for [`crate::ExampleGradients::new`].
    pub fn new(decoder: &Decoder<B>, names: &[String]) -> Result<Self> {
        let backend = &**decoder.backend();
        let mut layers = Vec::<Layer<B>>::with_capacity(names.len());
        for name in names {
            let others = layers.iter().map(|layer| layer.name.as_str());
            let parameter = find_linear(decoder, name, others)?;
            let spec = &decoder.parameters()[parameter];
            let sides = [spec.cols, spec.rows].map(|n| (n, backend.zeros(backend.matrix_len(n, n))));
            layers.push(Layer { parameter, name: name.clone(), sides, seen: false });
        }
        Ok(Self { layers, nothing: backend.zeros(0) })
    }

    /// The sums of each parameter, of its input and of its output, row by row.
    pub fn sums(&self, backend: &B) -> impl Iterator<Item = (&str, [Vec<f32>; 2])> {
        self.layers.iter().map(|layer| {
            let sum = |(n, sum): &(usize, B::Buffer)| backend.download_matrix(sum, *n, *n);
            (layer.name.as_str(), [sum(&layer.sides[0]), sum(&layer.sides[1])])
        })
    }

    /// Begins a pass.
    pub(crate) fn begin(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.seen = false);
    }

    /// Adds a linear layer's rows, if the layer is chosen.
    pub(crate) fn add(&mut self, backend: &B, parameter: usize, rows: usize, x: &B::Buffer, dy: &B::Buffer) {
        let Some(layer) = self.layers.iter_mut().find(|layer| layer.parameter == parameter) else {
            return;
        };
        layer.seen = true;
        for ((n, sum), rows_of) in layer.sides.iter_mut().zip([x, dy]) {
            let weight = Weight { master: &self.nothing, compute: None, rows: *n, cols: *n };
            let dweight = Some(MatrixGradient { data: sum, accumulate: true });
            backend.linear_backward(
                rows_of,
                rows,
                &mut [LinearGradient { dy: rows_of, weight, dweight }],
                None,
            );
        }
    }

    /// Refuses a pass that did not come by a chosen layer.
    pub(crate) fn all_seen(&self) -> Result<()> {
        all_seen(self.layers.iter().map(|layer| (layer.name.as_str(), layer.seen)))
    }
}
