//! The decoder's parameters, or their gradients, or an optimizer's moments: one array per parameter.

use crate::backend::{Backend, NormWeight, TableStorage, Weight};
use crate::config::{DecoderConfig, NormKind, ParameterKind, ParameterSpec};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::{Error, Result};
use pavlov_schema::rng::{Rng, Stream};
use std::sync::Arc;

/// Precision of the matrix products. Parameters, norms, softmax and sums are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Operands as they are.
    F32,
    /// Operands rounded to bf16, f32 accumulation.
    Bf16,
}

struct Tensor<B: Backend> {
    spec: ParameterSpec,
    data: B::Buffer,
    compute: Option<B::Half>,
}

/// One array per parameter of a decoder.
pub struct Parameters<B: Backend = Cpu> {
    backend: Arc<B>,
    tensors: Vec<Tensor<B>>,
    dtype: Dtype,
}

impl<B: Backend> Parameters<B> {
    /// Zeros for every parameter of a decoder.
    pub fn zeros(decoder: &Decoder<B>, dtype: Dtype) -> Self {
        Self::of(Arc::clone(decoder.backend()), decoder.config(), dtype)
    }

    pub(crate) fn of(backend: Arc<B>, config: &DecoderConfig, dtype: Dtype) -> Self {
        let tensors = config
            .parameters()
            .into_iter()
            .map(|spec| {
                let len = match spec.kind {
                    ParameterKind::Matrix => backend.matrix_len(spec.rows, spec.cols),
                    ParameterKind::Table | ParameterKind::Vector => spec.len(),
                };
                Tensor { data: backend.zeros(len), compute: None, spec }
            })
            .collect();
        let mut parameters = Self { backend, tensors, dtype };
        parameters.refresh();
        parameters
    }

    /// Random weights as transformers makes them: normal with deviation 0.02, norms at one, biases at zero.
    pub fn init(&mut self, seed: u64) {
        for index in 0..self.tensors.len() {
            let spec = self.tensors[index].spec.clone();
            let mut rng = Rng::new(seed, Stream::Init, 0, index as u64);
            let data: Vec<f32> = match spec.kind {
                ParameterKind::Matrix | ParameterKind::Table => {
                    (0..spec.len()).map(|_| 0.02 * rng.normal()).collect()
                }
                ParameterKind::Vector if spec.is_bias() => vec![0.0; spec.len()],
                ParameterKind::Vector => vec![1.0; spec.len()],
            };
            self.write(index, &data);
        }
        self.refresh();
    }

    /// Names and shapes in their fixed order.
    pub fn specs(&self) -> impl ExactSizeIterator<Item = &ParameterSpec> {
        self.tensors.iter().map(|t| &t.spec)
    }

    /// Precision of the products that read them.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.tensors.iter().map(|t| t.spec.len()).sum()
    }

    /// A parameter, row-major.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = &self.tensors[self.position(name)?];
        Ok(match tensor.spec.kind {
            ParameterKind::Matrix => {
                self.backend.download_matrix(&tensor.data, tensor.spec.rows, tensor.spec.cols)
            }
            ParameterKind::Table | ParameterKind::Vector => {
                let mut data = Vec::with_capacity(tensor.spec.len());
                self.backend.download(&mut data, &tensor.data);
                data
            }
        })
    }

    /// Overwrites a parameter with row-major data. Call [`Parameters::refresh`] after the last.
    pub fn set(&mut self, name: &str, data: &[f32]) -> Result<()> {
        let index = self.position(name)?;
        let needed = self.tensors[index].spec.len();
        if data.len() != needed {
            return Err(Error::Shape { name: name.into(), given: data.len(), needed });
        }
        self.write(index, data);
        Ok(())
    }

    /// Remakes the rounded copies that bf16 products read. Needed after every change of the values.
    pub fn refresh(&mut self) {
        if self.dtype == Dtype::Bf16 {
            for tensor in self.tensors.iter_mut().filter(|t| t.spec.kind == ParameterKind::Matrix) {
                self.backend.narrow(&mut tensor.compute, &tensor.data, tensor.spec.cols);
            }
        }
    }

    /// Copies all values from parameters of the same decoder.
    ///
    /// # Panics
    /// If the decoders differ.
    pub fn copy_from(&mut self, other: &Self) {
        assert!(self.specs().eq(other.specs()), "parameters of different decoders");
        for (to, from) in self.tensors.iter_mut().zip(&other.tensors) {
            self.backend.copy(&mut to.data, &from.data);
        }
        self.refresh();
    }

    /// Digest of the values that the products should read: what the trainer holds.
    pub fn digest(&self) -> u64 {
        self.fold_digests(|tensor| match (self.dtype, tensor.spec.kind) {
            (Dtype::Bf16, ParameterKind::Matrix) => {
                self.backend.digest_narrowed(&tensor.data, tensor.spec.cols)
            }
            _ => self.backend.digest(&tensor.data, None),
        })
    }

    /// Digest of the values that the products do read: what the sampler holds. Differs from [`Parameters::digest`] if a
    /// change was not followed by [`Parameters::refresh`].
    pub fn compute_digest(&self) -> u64 {
        self.fold_digests(|tensor| self.backend.digest(&tensor.data, tensor.compute.as_ref()))
    }

    fn fold_digests(&self, digest: impl Fn(&Tensor<B>) -> u64) -> u64 {
        self.tensors
            .iter()
            .fold(0, |sum: u64, t| sum.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ digest(t))
    }

    /// Zeros everywhere.
    pub fn zero(&mut self) {
        for tensor in &mut self.tensors {
            self.backend.fill_zero(&mut tensor.data);
        }
    }

    /// Multiplies every value.
    pub fn scale(&mut self, factor: f32) {
        for tensor in &mut self.tensors {
            self.backend.scale(&mut tensor.data, factor);
        }
    }

    /// Square root of the sum of all squares.
    pub fn global_norm(&self) -> f64 {
        self.tensors.iter().map(|t| self.backend.square_sum(&t.data)).sum::<f64>().sqrt()
    }

    /// The first parameter that holds a NaN or an infinity.
    pub fn find_not_finite(&self) -> Option<&str> {
        self.tensors
            .iter()
            .find(|t| !self.backend.square_sum(&t.data).is_finite())
            .map(|t| t.spec.name.as_str())
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.tensors
            .iter()
            .position(|t| t.spec.name == name)
            .ok_or_else(|| Error::UnknownParameter(name.into()))
    }

    fn write(&mut self, index: usize, data: &[f32]) {
        let tensor = &mut self.tensors[index];
        match tensor.spec.kind {
            ParameterKind::Matrix => {
                self.backend.upload_matrix(&mut tensor.data, tensor.spec.rows, tensor.spec.cols, data);
            }
            ParameterKind::Table | ParameterKind::Vector => self.backend.upload(&mut tensor.data, data),
        }
    }

    pub(crate) fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    pub(crate) fn buffer(&self, index: usize) -> &B::Buffer {
        &self.tensors[index].data
    }

    pub(crate) fn buffer_mut(&mut self, index: usize) -> &mut B::Buffer {
        &mut self.tensors[index].data
    }

    /// A parameter that an optimizer updates, and its rounded copy with the number of its inputs.
    pub(crate) fn updated(&mut self, index: usize) -> (&mut B::Buffer, Option<(&mut B::Half, usize)>) {
        let Tensor { spec, data, compute } = &mut self.tensors[index];
        (data, compute.as_mut().map(|half| (half, spec.cols)))
    }

    pub(crate) fn pair_mut(&mut self, first: usize, second: usize) -> (&mut B::Buffer, &mut B::Buffer) {
        let [a, b] = self
            .tensors
            .get_disjoint_mut([first, second])
            .expect("a norm's weight and bias are two parameters");
        (&mut a.data, &mut b.data)
    }

    pub(crate) fn weight(&self, index: usize) -> Weight<'_, B> {
        let Tensor { spec, data, compute } = &self.tensors[index];
        Weight { master: data, compute: compute.as_ref(), rows: spec.rows, cols: spec.cols }
    }

    pub(crate) fn norm(&self, ids: NormIds, kind: NormKind, eps: f32) -> NormWeight<'_, B> {
        let width = self.tensors[ids.weight].spec.cols;
        NormWeight {
            kind,
            width,
            eps,
            weight: self.buffer(ids.weight),
            bias: ids.bias.map(|b| self.buffer(b)),
        }
    }

    pub(crate) fn table_storage(&self, index: usize) -> TableStorage {
        match self.tensors[index].spec.kind {
            ParameterKind::Matrix => TableStorage::Matrix,
            ParameterKind::Table | ParameterKind::Vector => TableStorage::Rows,
        }
    }
}

/// Indices of a norm's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormIds {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// Indices of a linear layer's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearIds {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// Indices of a block's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockIds {
    pub(crate) norm1: NormIds,
    pub(crate) q: LinearIds,
    pub(crate) k: LinearIds,
    pub(crate) v: LinearIds,
    pub(crate) qk_norms: Option<[NormIds; 2]>,
    pub(crate) o: LinearIds,
    pub(crate) norm2: NormIds,
    pub(crate) gate: Option<LinearIds>,
    pub(crate) up: LinearIds,
    pub(crate) down: LinearIds,
}

/// Indices of all parameters, found once.
#[derive(Clone, Debug)]
pub(crate) struct ParameterIds {
    pub(crate) embed: usize,
    pub(crate) positions: Option<usize>,
    pub(crate) blocks: Vec<BlockIds>,
    pub(crate) norm: NormIds,
    /// The language head: its own matrix or the tied embedding.
    pub(crate) head: Option<usize>,
    pub(crate) score: Option<usize>,
}

impl ParameterIds {
    pub(crate) fn of(config: &DecoderConfig) -> Self {
        let specs = config.parameters();
        let find = |name: &str| specs.iter().position(|s| s.name == name);
        let must = |name: &str| find(name).unwrap_or_else(|| panic!("the parameter list lacks {name}"));
        let linear = |name: &str| LinearIds {
            weight: must(&format!("{name}.weight")),
            bias: find(&format!("{name}.bias")),
        };
        let norm = |name: &str| {
            let LinearIds { weight, bias } = linear(name);
            NormIds { weight, bias }
        };
        let blocks = (0..config.num_layers)
            .map(|layer| {
                let at = |name: &str| format!("model.layers.{layer}.{name}");
                BlockIds {
                    norm1: norm(&at("input_layernorm")),
                    q: linear(&at("self_attn.q_proj")),
                    k: linear(&at("self_attn.k_proj")),
                    v: linear(&at("self_attn.v_proj")),
                    qk_norms: config
                        .qk_norm
                        .then(|| [norm(&at("self_attn.q_norm")), norm(&at("self_attn.k_norm"))]),
                    o: linear(&at("self_attn.o_proj")),
                    norm2: norm(&at("post_attention_layernorm")),
                    gate: config.gated_mlp.then(|| linear(&at("mlp.gate_proj"))),
                    up: linear(&at("mlp.up_proj")),
                    down: linear(&at("mlp.down_proj")),
                }
            })
            .collect();
        let embed = must("model.embed_tokens.weight");
        let head = config.language_head.then(|| find("lm_head.weight").unwrap_or(embed));
        Self {
            embed,
            positions: find("model.embed_positions.weight"),
            blocks,
            norm: norm("model.norm"),
            head,
            score: find("score.weight"),
        }
    }
}
