//! The gradient of each example on its own, under fixed random projections (LoGra; Choe et al., arXiv:2405.13954).
//!
//! The gradient of a linear layer W \[out, in\] is Σ over rows of dy·xᵀ. Projected on both sides it is
//! Σ (P_o·dy)·(P_i·x)ᵀ, \[k_o, k_i\]: of each example, from one backward pass over all of them, without any gradient
//! of full size. With normal entries of variance 1/k inner products are kept in expectation.

use crate::backend::{Backend, Linear, Weight};
use crate::config::{ParameterKind, ParameterSpec};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::plan::AttentionPlan;
use crate::{Error, Result};
use pavlov_schema::rng::{Rng, Stream};

/// A fixed random matrix \[k, width\], or none where k is no less than the width: nothing would be saved.
struct Projection<B: Backend> {
    matrix: Option<B::Buffer>,
    k: usize,
    width: usize,
}

impl<B: Backend> Projection<B> {
    fn random(backend: &B, most: usize, width: usize, rng: &mut Rng) -> Self {
        if most >= width {
            return Self { matrix: None, k: width, width };
        }
        let scale = 1.0 / (most as f32).sqrt();
        let data: Vec<f32> = (0..most * width).map(|_| scale * rng.normal()).collect();
        Self::given(backend, &data, width)
    }

    /// Rows of this width.
    fn given(backend: &B, data: &[f32], width: usize) -> Self {
        let k = data.len() / width;
        let mut matrix = backend.zeros(backend.matrix_len(k, width));
        backend.upload_matrix(&mut matrix, k, width, data);
        Self { matrix: Some(matrix), k, width }
    }

    /// `to` = x·Pᵀ, \[rows, k\], on the host.
    fn of(&self, backend: &B, x: &B::Buffer, rows: usize, scratch: &mut B::Buffer, to: &mut Vec<f32>) {
        let Some(matrix) = &self.matrix else {
            backend.download(to, x);
            return;
        };
        backend.resize(scratch, rows * self.k);
        let weight = Weight { master: matrix, compute: None, rows: self.k, cols: self.width };
        backend.linear(x, rows, &mut [Linear { y: scratch, weight, bias: None, accumulate: false }]);
        backend.download(to, scratch);
    }
}

/// Directions in which a parameter's gradient is looked at, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// The parameter.
    pub name: String,
    /// Of its inputs, each \[in\].
    pub input: Vec<f32>,
    /// Of its outputs, each \[out\].
    pub output: Vec<f32>,
}

/// One linear layer whose gradients are kept.
struct Chosen<B: Backend> {
    parameter: usize,
    name: String,
    input: Projection<B>,
    output: Projection<B>,
    /// Where its part of an example's vector begins.
    start: usize,
    seen: bool,
}

/// The projected gradient of each example in the batch of the last backward pass that was given it.
///
/// An example is a tree of the forest: a root and all that continues it. What shares a prompt's segment is one example;
/// to tell answers apart, each needs a root of its own.
pub struct ExampleGradients<B: Backend = Cpu> {
    chosen: Vec<Chosen<B>>,
    width: usize,
    /// Of each row its example.
    example: Vec<usize>,
    values: Vec<f32>,
    scratch: B::Buffer,
    projected: [Vec<f32>; 2],
}

impl<B: Backend> ExampleGradients<B> {
    /// Those of these parameters: matrices of linear layers in blocks (`model.layers.0.mlp.up_proj.weight`) or of their
    /// adapters (`….lora_A.weight`), frozen or trained. Inputs are projected to `most[0]` numbers and outputs to
    /// `most[1]`, by matrices that depend on the seed and the parameter's name alone; narrower ones are kept as they are.
    ///
    /// An error names a parameter that is no such matrix, or is named twice.
    pub fn new(decoder: &Decoder<B>, names: &[String], most: [usize; 2], seed: u64) -> Result<Self> {
        let problem = "gradients of examples need a linear layer and projections to at least 1";
        if names.is_empty() || most.contains(&0) {
            return Err(Error::Observation(problem.into()));
        }
        Self::of(decoder, names.iter().map(String::as_str), |name, [input, output]| {
            let backend = &**decoder.backend();
            let projection = |side: u64, most: usize, width: usize| {
                let index = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
                Projection::random(backend, most, width, &mut Rng::new(seed, Stream::Probe, side, index))
            };
            Ok([projection(0, most[0], input), projection(1, most[1], output)])
        })
    }

    /// Those of these parameters in bases of their inputs and outputs, or in the first directions of them. The gradients
    /// are kept as they are where a basis is whole and orthonormal, in other coordinates.
    ///
    /// An error names a parameter as [`ExampleGradients::new`] does, or a basis that does not fit it.
    pub fn in_bases(decoder: &Decoder<B>, bases: &[Basis]) -> Result<Self> {
        Self::of(decoder, bases.iter().map(|basis| basis.name.as_str()), |name, widths| {
            let basis = bases.iter().find(|basis| basis.name == name).expect("one of the names");
            for (directions, width) in [&basis.input, &basis.output].into_iter().zip(widths) {
                if directions.is_empty() || directions.len() % width != 0 {
                    return Err(Error::Shape { name: name.into(), given: directions.len(), needed: width });
                }
            }
            let backend = &**decoder.backend();
            let [input, output] = widths;
            Ok([
                Projection::given(backend, &basis.input, input),
                Projection::given(backend, &basis.output, output),
            ])
        })
    }

    /// `project` is told a parameter's name and its inputs and outputs.
    fn of<'a>(
        decoder: &Decoder<B>,
        names: impl Iterator<Item = &'a str>,
        project: impl Fn(&str, [usize; 2]) -> Result<[Projection<B>; 2]>,
    ) -> Result<Self> {
        let (mut chosen, mut width) = (Vec::<Chosen<B>>::new(), 0);
        for name in names {
            let parameter = find_linear(decoder, name, chosen.iter().map(|other| other.name.as_str()))?;
            let spec = &decoder.parameters()[parameter];
            let [input, output] = project(name, [spec.cols, spec.rows])?;
            let size = input.k * output.k;
            chosen.push(Chosen { parameter, name: name.into(), input, output, start: width, seen: false });
            width += size;
        }
        let scratch = decoder.backend().zeros(0);
        Ok(Self {
            chosen,
            width,
            example: Vec::new(),
            values: Vec::new(),
            scratch,
            projected: [Vec::new(), Vec::new()],
        })
    }

    /// Length of an example's vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The part of an example's vector that belongs to each parameter, as \[k_o, k_i\] row by row.
    pub fn parts(&self) -> impl Iterator<Item = (&str, std::ops::Range<usize>, [usize; 2])> {
        self.chosen.iter().map(|c| {
            let shape = [c.output.k, c.input.k];
            (c.name.as_str(), c.start..c.start + shape[0] * shape[1], shape)
        })
    }

    /// The vector of each example, in the order of the forest's roots.
    pub fn examples(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// The projection of a gradient of full size, \[out, in\], or of a change of the parameter: what the vectors of the
    /// examples that it sums add up to.
    pub fn project(&self, backend: &B, name: &str, gradient: &[f32]) -> Result<Vec<f32>> {
        let Some(chosen) = self.chosen.iter().find(|chosen| chosen.name == name) else {
            return Err(Error::UnknownParameter(name.into()));
        };
        let (rows, cols) = (chosen.output.width, chosen.input.width);
        if gradient.len() != rows * cols {
            return Err(Error::Shape { name: name.into(), given: gradient.len(), needed: rows * cols });
        }
        let transposed = |data: &[f32], cols: usize| -> Vec<f32> {
            (0..cols).flat_map(|i| data.iter().skip(i).step_by(cols).copied()).collect()
        };
        let (mut buffer, mut scratch, mut half) = (backend.zeros(0), backend.zeros(0), Vec::new());
        backend.upload(&mut buffer, gradient);
        chosen.input.of(backend, &buffer, rows, &mut scratch, &mut half);
        backend.upload(&mut buffer, &transposed(&half, chosen.input.k));
        let mut projected = Vec::new();
        chosen.output.of(backend, &buffer, chosen.input.k, &mut scratch, &mut projected);
        Ok(transposed(&projected, chosen.output.k))
    }

    /// Makes room for the examples of a pass.
    pub(crate) fn begin(&mut self, plan: &AttentionPlan) {
        self.example.clear();
        self.example.resize(plan.items.iter().map(|item| item.len).sum(), 0);
        for (example, tree) in plan.trees.iter().enumerate() {
            for item in tree.iter().map(|item| &plan.items[*item]) {
                self.example[item.query..item.query + item.len].fill(example);
            }
        }
        self.values.clear();
        self.values.resize(plan.trees.len() * self.width, 0.0);
        self.chosen.iter_mut().for_each(|chosen| chosen.seen = false);
    }

    /// Adds what a linear layer's input and the derivative of its output give to each example, if the layer is chosen.
    pub(crate) fn add(&mut self, backend: &B, parameter: usize, x: &B::Buffer, dy: &B::Buffer) {
        let Some(chosen) = self.chosen.iter_mut().find(|chosen| chosen.parameter == parameter) else {
            return;
        };
        chosen.seen = true;
        let (rows, [dys, xs]) = (self.example.len(), &mut self.projected);
        chosen.output.of(backend, dy, rows, &mut self.scratch, dys);
        chosen.input.of(backend, x, rows, &mut self.scratch, xs);
        let (dys, xs) = (dys.chunks_exact(chosen.output.k), xs.chunks_exact(chosen.input.k));
        for ((example, dy), x) in self.example.iter().zip(dys).zip(xs) {
            let sums = &mut self.values[example * self.width + chosen.start..];
            for (sums, dy) in sums.chunks_exact_mut(chosen.input.k).zip(dy) {
                // Rows after an example's last target have no derivative.
                if *dy != 0.0 {
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += dy * x);
                }
            }
        }
    }

    /// Refuses a pass that did not come by a chosen layer.
    pub(crate) fn all_seen(&self) -> Result<()> {
        all_seen(self.chosen.iter().map(|chosen| (chosen.name.as_str(), chosen.seen)))
    }
}

/// The index of a parameter that is the matrix of a linear layer of a block. An error names one that is none, or that is
/// among the `others` already.
pub(crate) fn find_linear<'a, B: Backend>(
    decoder: &Decoder<B>,
    name: &str,
    mut others: impl Iterator<Item = &'a str>,
) -> Result<usize> {
    let linear = |spec: &ParameterSpec| {
        spec.name == name && spec.kind == ParameterKind::Matrix && name.starts_with("model.layers.")
    };
    let Some(parameter) = decoder.parameters().iter().position(linear) else {
        let problem = format!("{name} is no linear layer of a block: its gradient would not be seen");
        return Err(Error::Observation(problem));
    };
    if others.any(|other| other == name) {
        return Err(Error::Observation(format!("{name} is named twice")));
    }
    Ok(parameter)
}

/// Refuses a pass that did not come by a chosen layer.
pub(crate) fn all_seen<'a>(mut layers: impl Iterator<Item = (&'a str, bool)>) -> Result<()> {
    match layers.find(|(_, seen)| !seen) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Observation(format!("no gradient came by {name}"))),
    }
}
