//! The decoder's parameters, or their gradients, or an optimizer's moments: one array per parameter.

use crate::backend::{Backend, MatrixGradient, NormWeight, TableStorage, Updated, Weight};
use crate::config::{DecoderConfig, NormKind, ParameterKind, ParameterSpec};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::lora::{self, Lora, LoraTarget};
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

/// What of a parameter is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Its values in f32.
    Values,
    /// As bf16, which products read; with the exact values if it is trained.
    Half,
    /// Nothing: the gradient of a frozen parameter.
    Nothing,
}

struct Tensor<B: Backend> {
    spec: ParameterSpec,
    held: Held,
    /// Empty unless values are held in f32.
    data: B::Buffer,
    half: Option<B::Half>,
    /// Of a frozen parameter, made when it was written: no step changes it.
    digest: u64,
    /// Whether it counts as zeros whatever is in its memory: a gradient since it was zeroed.
    cleared: bool,
}

/// An embedding table as it is held.
pub(crate) enum Table<'a, B: Backend> {
    Values(&'a B::Buffer, TableStorage),
    Half(&'a B::Half),
}

/// One array per parameter of a decoder.
pub struct Parameters<B: Backend = Cpu> {
    backend: Arc<B>,
    tensors: Vec<Tensor<B>>,
    dtype: Dtype,
}

impl<B: Backend> Tensor<B> {
    /// Zeros.
    fn new(backend: &B, spec: ParameterSpec, held: Held) -> Self {
        let mut tensor = Self { held, data: backend.zeros(0), half: None, digest: 0, cleared: false, spec };
        if held != Held::Nothing {
            tensor.store(backend, backend.zeros(tensor.len(backend)));
        }
        tensor
    }

    /// Whether it lies as a matrix: a table in bf16 does too.
    fn is_matrix(&self) -> bool {
        self.spec.kind == ParameterKind::Matrix || self.held == Held::Half
    }

    /// Length of its values in f32.
    fn len(&self, backend: &B) -> usize {
        if self.is_matrix() { backend.matrix_len(self.spec.rows, self.spec.cols) } else { self.spec.len() }
    }

    /// Writes its zeros if it only counts as them.
    fn settle(&mut self, backend: &B) {
        if std::mem::replace(&mut self.cleared, false) {
            backend.fill_zero(&mut self.data);
        }
    }

    /// Calls `read` with the values in f32.
    fn read<T>(&self, backend: &B, read: impl FnOnce(&B::Buffer) -> T) -> T {
        match &self.half {
            _ if self.cleared => read(&backend.zeros(self.len(backend))),
            Some(half) => {
                let mut values = backend.zeros(0);
                backend.widen(&mut values, half, self.spec.rows, self.spec.cols);
                read(&values)
            }
            _ => read(&self.data),
        }
    }

    /// Lets `change` change the values in f32.
    fn change(&mut self, backend: &B, change: impl FnOnce(&mut B::Buffer)) {
        self.settle(backend);
        let mut values = std::mem::replace(&mut self.data, backend.zeros(0));
        if let Some(half) = &self.half {
            backend.widen(&mut values, half, self.spec.rows, self.spec.cols);
        }
        change(&mut values);
        self.store(backend, values);
    }

    /// Lets `write` write new values in f32, given room for them.
    fn overwrite(&mut self, backend: &B, write: impl FnOnce(&mut B::Buffer)) {
        let mut values = std::mem::replace(&mut self.data, backend.zeros(0));
        if self.held == Held::Half {
            values = backend.zeros(self.len(backend));
        }
        write(&mut values);
        self.store(backend, values);
    }

    /// Row-major.
    fn values(&self, backend: &B) -> Vec<f32> {
        self.read(backend, |values| {
            if self.is_matrix() {
                return backend.download_matrix(values, self.spec.rows, self.spec.cols);
            }
            let mut data = Vec::with_capacity(self.spec.len());
            backend.download(&mut data, values);
            data
        })
    }

    /// Overwrites with row-major data of its length.
    fn write(&mut self, backend: &B, data: &[f32]) {
        let (matrix, rows, cols) = (self.is_matrix(), self.spec.rows, self.spec.cols);
        self.overwrite(backend, |values| {
            if matrix {
                backend.upload_matrix(values, rows, cols, data);
            } else {
                backend.upload(values, data);
            }
        });
    }

    fn store(&mut self, backend: &B, values: B::Buffer) {
        self.cleared = false;
        if self.held == Held::Half {
            backend.narrow(&mut self.half, &values, self.spec.cols, self.spec.trainable);
        } else {
            self.data = values;
        }
        if !self.spec.trainable {
            self.digest = backend.digest(&self.data, self.half.as_ref());
        }
    }
}

impl<B: Backend> Parameters<B> {
    /// Zeros for every parameter of a decoder.
    pub fn zeros(decoder: &Decoder<B>, dtype: Dtype) -> Self {
        let half = |spec: &ParameterSpec| match spec.kind {
            ParameterKind::Matrix => dtype == Dtype::Bf16,
            ParameterKind::Table => dtype == Dtype::Bf16 && !spec.trainable,
            ParameterKind::Vector => false,
        };
        Self::of(decoder, dtype, |spec| if half(spec) { Held::Half } else { Held::Values })
    }

    /// Zeros for every trainable parameter of a decoder: its gradient, or a moment of it.
    pub(crate) fn gradients(decoder: &Decoder<B>) -> Self {
        let held = |spec: &ParameterSpec| if spec.trainable { Held::Values } else { Held::Nothing };
        Self::of(decoder, Dtype::F32, held)
    }

    /// Room for no gradient: a backward pass that is given this computes none of a parameter.
    pub(crate) fn nothing(decoder: &Decoder<B>) -> Self {
        let mut nothing = Self::of(decoder, Dtype::F32, |_| Held::Nothing);
        nothing.tensors.iter_mut().for_each(|tensor| tensor.spec.trainable = false);
        nothing
    }

    fn of(decoder: &Decoder<B>, dtype: Dtype, held: impl Fn(&ParameterSpec) -> Held) -> Self {
        let backend = Arc::clone(decoder.backend());
        let tensor = |spec: &ParameterSpec| Tensor::new(&*backend, spec.clone(), held(spec));
        let tensors = decoder.parameters().iter().map(tensor).collect();
        Self { backend, tensors, dtype }
    }

    /// Random weights as transformers makes them: normal with deviation 0.02, norms at one, biases at zero; those of an
    /// adapter as PEFT makes them, so that it changes nothing at first.
    pub fn init(&mut self, seed: u64) {
        self.init_those(seed, |_| true);
    }

    /// As [`Parameters::init`], of the parameters that `wanted` picks.
    pub fn init_those(&mut self, seed: u64, wanted: impl Fn(&ParameterSpec) -> bool) {
        for index in 0..self.tensors.len() {
            let spec = self.tensors[index].spec.clone();
            if !wanted(&spec) {
                continue;
            }
            let mut rng = Rng::new(seed, Stream::Init, 0, index as u64);
            let data = lora::initial(&spec, &mut rng).unwrap_or_else(|| match spec.kind {
                ParameterKind::Matrix | ParameterKind::Table => {
                    (0..spec.len()).map(|_| 0.02 * rng.normal()).collect()
                }
                ParameterKind::Vector if spec.is_bias() => vec![0.0; spec.len()],
                ParameterKind::Vector => vec![1.0; spec.len()],
            });
            self.tensors[index].write(&self.backend, &data);
        }
    }

    /// Names and shapes of what is held, in their fixed order: all parameters, but gradients of the trainable ones only.
    pub fn specs(&self) -> impl Iterator<Item = &ParameterSpec> {
        self.tensors.iter().filter(|t| t.held != Held::Nothing).map(|t| &t.spec)
    }

    /// Precision of the products that read them.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.specs().map(ParameterSpec::len).sum()
    }

    /// Number of parameters that are trained.
    pub fn trainable_count(&self) -> usize {
        self.specs().filter(|spec| spec.trainable).map(ParameterSpec::len).sum()
    }

    /// A parameter, row-major.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.tensors[self.position(name)?].values(&self.backend))
    }

    /// Overwrites a parameter with row-major data.
    pub fn set(&mut self, name: &str, data: &[f32]) -> Result<()> {
        let index = self.position(name)?;
        let needed = self.tensors[index].spec.len();
        if data.len() != needed {
            return Err(Error::Shape { name: name.into(), given: data.len(), needed });
        }
        self.tensors[index].write(&self.backend, data);
        Ok(())
    }

    /// Copies all values from parameters of the same decoder.
    ///
    /// # Panics
    /// If the decoders differ.
    pub fn copy_from(&mut self, other: &Self) {
        assert!(self.specs().eq(other.specs()), "parameters of different decoders");
        let backend = &*self.backend;
        for (to, from) in self.tensors.iter_mut().zip(&other.tensors) {
            from.read(backend, |values| to.overwrite(backend, |data| backend.copy(data, values)));
        }
    }

    /// Number of parameters in the list, those that hold nothing too.
    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    pub(crate) fn spec(&self, index: usize) -> &ParameterSpec {
        &self.tensors[index].spec
    }

    /// Overwrites one parameter with from + share·(to − from); with one of them bit for bit at 0 and 1.
    ///
    /// # Panics
    /// If the decoders differ.
    pub(crate) fn blend_one(&mut self, index: usize, from: &Self, to: &Self, share: f32) {
        let (backend, tensor) = (&*self.backend, &mut self.tensors[index]);
        let (from, to) = (&from.tensors[index], &to.tensors[index]);
        assert!(tensor.spec == from.spec && tensor.spec == to.spec, "parameters of different decoders");
        let only = if share == 0.0 { from } else { to };
        only.read(backend, |values| tensor.overwrite(backend, |data| backend.copy(data, values)));
        if share > 0.0 && share < 1.0 {
            let mut rest = backend.zeros(0);
            from.read(backend, |values| backend.copy(&mut rest, values));
            backend.scale(&mut rest, 1.0 - share);
            tensor.change(backend, |data| {
                backend.scale(data, share);
                backend.add(data, &rest);
            });
        }
    }

    /// Takes over the values of the parameters of `other` that `wanted` picks and that are here too, and their memory
    /// where they are held the same way.
    pub fn take_over(&mut self, other: Self, wanted: impl Fn(&ParameterSpec) -> bool) -> Result<()> {
        let backend = &*self.backend;
        for mut from in other.tensors.into_iter().filter(|from| wanted(&from.spec)) {
            let Some(to) = self.tensors.iter_mut().find(|to| to.spec.name == from.spec.name) else {
                continue;
            };
            if to.spec == from.spec && to.held == from.held {
                std::mem::swap(to, &mut from);
            } else if to.spec.len() == from.spec.len() {
                to.write(backend, &from.values(backend));
            } else {
                let (given, needed) = (from.spec.len(), to.spec.len());
                return Err(Error::Shape { name: from.spec.name, given, needed });
            }
        }
        Ok(())
    }

    /// Lets `change` change the values of a matrix, given with its shape.
    pub(crate) fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut B::Buffer, usize, usize),
    ) -> Result<()> {
        let index = self.position(name)?;
        let tensor = &mut self.tensors[index];
        let (rows, cols) = (tensor.spec.rows, tensor.spec.cols);
        tensor.change(&self.backend, |data| change(data, rows, cols));
        Ok(())
    }

    /// Digest of the values that the products should read: what the trainer holds, rounded anew.
    pub fn digest(&self) -> u64 {
        self.fold_digests(|tensor| match &tensor.half {
            Some(half) => self.backend.digest_rounded(half, tensor.spec.cols),
            None => self.backend.digest(&tensor.data, None),
        })
    }

    /// Digest of the values that the products do read: what the sampler holds.
    pub fn compute_digest(&self) -> u64 {
        self.fold_digests(|tensor| self.backend.digest(&tensor.data, tensor.half.as_ref()))
    }

    fn fold_digests(&self, digest: impl Fn(&Tensor<B>) -> u64) -> u64 {
        // Nothing but a new value changes a frozen parameter, so that its digest is not taken again.
        let digest = |t: &Tensor<B>| if t.spec.trainable { digest(t) } else { t.digest };
        self.tensors
            .iter()
            .fold(0, |sum: u64, t| sum.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ digest(t))
    }

    /// Zeros in everything that is trained. Memory is not touched before something is added.
    pub fn zero(&mut self) {
        self.tensors.iter_mut().filter(|t| t.spec.trainable).for_each(|t| t.cleared = true);
    }

    /// Writes the zeros of what was zeroed and not added to.
    pub(crate) fn settle(&mut self) {
        for tensor in &mut self.tensors {
            tensor.settle(&self.backend);
        }
    }

    /// Multiplies every value that is trained.
    pub fn scale(&mut self, factor: f32) {
        self.settle();
        for tensor in self.tensors.iter_mut().filter(|t| t.spec.trainable) {
            self.backend.scale(&mut tensor.data, factor);
        }
    }

    /// Square root of the sum of all squares of what is trained.
    pub fn global_norm(&self) -> f64 {
        let trained = self.tensors.iter().filter(|t| t.spec.trainable && !t.cleared);
        trained.map(|t| self.backend.square_sum(&t.data)).sum::<f64>().sqrt()
    }

    /// The first parameter that holds a NaN or an infinity.
    pub fn find_not_finite(&self) -> Option<&str> {
        let sum = |t: &Tensor<B>| t.read(&self.backend, |values| self.backend.square_sum(values));
        self.tensors.iter().find(|t| !sum(t).is_finite()).map(|t| t.spec.name.as_str())
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.tensors
            .iter()
            .position(|t| t.spec.name == name && t.held != Held::Nothing)
            .ok_or_else(|| Error::UnknownParameter(name.into()))
    }

    pub(crate) fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    pub(crate) fn buffer(&self, index: usize) -> &B::Buffer {
        let tensor = &self.tensors[index];
        assert!(!tensor.cleared, "the gradient of {} was zeroed and not computed", tensor.spec.name);
        &tensor.data
    }

    /// Indices of what is trained.
    pub(crate) fn trained(&self) -> Vec<usize> {
        (0..self.tensors.len()).filter(|index| self.is_trained(*index)).collect()
    }

    pub(crate) fn is_trained(&self, index: usize) -> bool {
        self.tensors[index].spec.trainable
    }

    /// The values of what is trained, or its gradient; nothing of a frozen parameter.
    pub(crate) fn trained_mut(&mut self, index: usize) -> Option<&mut B::Buffer> {
        let tensor = &mut self.tensors[index];
        tensor.settle(&self.backend);
        tensor.spec.trainable.then_some(&mut tensor.data)
    }

    /// The same to read; nothing where it counts as zeros.
    pub(crate) fn read_trained(&self, index: usize) -> Option<&B::Buffer> {
        let tensor = &self.tensors[index];
        (tensor.spec.trainable && !tensor.cleared).then_some(&tensor.data)
    }

    /// The gradient of a matrix, if it is trained.
    pub(crate) fn matrix_gradient(&mut self, index: usize) -> Option<MatrixGradient<'_, B>> {
        self.matrix_gradients(&[index]).pop().flatten()
    }

    /// The gradients of several different matrices at once, of those that are trained.
    pub(crate) fn matrix_gradients(&mut self, indices: &[usize]) -> Vec<Option<MatrixGradient<'_, B>>> {
        let mut found: Vec<Option<MatrixGradient<'_, B>>> = indices.iter().map(|_| None).collect();
        let Some((first, last)) = indices.iter().min().zip(indices.iter().max()) else { return found };
        for (index, tensor) in self.tensors[*first..=*last].iter_mut().enumerate() {
            let place = indices.iter().position(|wanted| *wanted == first + index);
            if let (Some(place), true) = (place, tensor.spec.trainable) {
                let accumulate = !std::mem::replace(&mut tensor.cleared, false);
                found[place] = Some(MatrixGradient { data: &mut tensor.data, accumulate });
            }
        }
        found
    }

    /// A parameter that an optimizer updates.
    pub(crate) fn updated(&mut self, index: usize) -> Updated<'_, B> {
        let Tensor { spec, data, half, .. } = &mut self.tensors[index];
        match half {
            Some(half) => Updated::Half(half, spec.cols),
            None => Updated::Values(data),
        }
    }

    pub(crate) fn pair_mut(&mut self, first: usize, second: usize) -> (&mut B::Buffer, &mut B::Buffer) {
        for index in [first, second] {
            self.tensors[index].settle(&self.backend);
        }
        let [a, b] = self
            .tensors
            .get_disjoint_mut([first, second])
            .expect("a norm's weight and bias are two parameters");
        (&mut a.data, &mut b.data)
    }

    pub(crate) fn weight(&self, index: usize) -> Weight<'_, B> {
        let Tensor { spec, data, half, .. } = &self.tensors[index];
        Weight { master: data, compute: half.as_ref(), rows: spec.rows, cols: spec.cols }
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

    pub(crate) fn table(&self, index: usize) -> Table<'_, B> {
        let tensor = &self.tensors[index];
        match &tensor.half {
            Some(half) => Table::Half(half),
            _ => Table::Values(&tensor.data, self.table_storage(index)),
        }
    }

    pub(crate) fn table_storage(&self, index: usize) -> TableStorage {
        if self.tensors[index].is_matrix() { TableStorage::Matrix } else { TableStorage::Rows }
    }
}

/// Linear layers of a block.
pub(crate) const LINEARS: usize = 7;

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
    pub(crate) lora: Option<LoraIds>,
}

/// The low-rank update of a linear layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoraIds {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) scale: f32,
    /// Which of its block's linear layers it belongs to, below [`LINEARS`].
    pub(crate) place: usize,
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
    pub(crate) fn of(config: &DecoderConfig, specs: &[ParameterSpec], lora: Option<&Lora>) -> Self {
        let find = |name: &str| specs.iter().position(|s| s.name == name);
        let must = |name: &str| find(name).unwrap_or_else(|| panic!("the parameter list lacks {name}"));
        let norm = |name: &str| NormIds {
            weight: must(&format!("{name}.weight")),
            bias: find(&format!("{name}.bias")),
        };
        let update = |name: &str, place: usize| {
            let target = lora?.of(name)?;
            let (a, b) = (must(&LoraTarget::a(&target.modules[0])), must(&LoraTarget::b(name)));
            Some(LoraIds { a, b, scale: target.scale, place })
        };
        let linear = |name: &str, place: usize| {
            let NormIds { weight, bias } = norm(name);
            LinearIds { weight, bias, lora: update(name, place) }
        };
        let blocks = (0..config.num_layers)
            .map(|layer| {
                let at = |name: &str| format!("model.layers.{layer}.{name}");
                BlockIds {
                    norm1: norm(&at("input_layernorm")),
                    q: linear(&at("self_attn.q_proj"), 0),
                    k: linear(&at("self_attn.k_proj"), 1),
                    v: linear(&at("self_attn.v_proj"), 2),
                    qk_norms: config
                        .qk_norm
                        .then(|| [norm(&at("self_attn.q_norm")), norm(&at("self_attn.k_norm"))]),
                    o: linear(&at("self_attn.o_proj"), 3),
                    norm2: norm(&at("post_attention_layernorm")),
                    gate: config.gated_mlp.then(|| linear(&at("mlp.gate_proj"), 4)),
                    up: linear(&at("mlp.up_proj"), 5),
                    down: linear(&at("mlp.down_proj"), 6),
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
