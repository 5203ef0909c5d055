//! The processor backend.

mod attention;
mod buffer;
mod dot;
mod elementwise;
mod half;
mod head;
mod linear;
mod math;
mod norm;
mod panels;
mod pool;
mod product;
mod tile;

pub use buffer::Buffer;
use buffer::Number;
pub use elementwise::AdamWStep;
pub use head::Score;
pub(crate) use head::exp_shifted;
pub use tile::Isa;

use crate::backend::{
    AttentionSaved, AttentionShape, Backend, Linear, LinearGradient, MatrixGradient, NormWeight,
    TableStorage, Updated, Weight,
};
use crate::config::Activation;
use crate::plan::AttentionPlan;
use crate::profile::{Operation, Profile, Work};
use elementwise::TableLayout;
use head::{Head, HeadScratch};
use linear::{Engine, Layer, LayerGradient, Packing};
use norm::Norm;
use panels::Panels;
use pool::Pool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tile::PANEL;
use xxhash_rust::xxh3::xxh3_64;

/// A matrix as bf16, in panels of pairs, and what rounding took away if it is kept: together the exact values. Or an array
/// of activations, paired in its own order.
pub struct Half {
    pairs: Buffer<u32>,
    rests: Option<Buffer<u32>>,
}

/// The processor: its threads and its widest instruction set.
pub struct Cpu {
    pool: Pool,
    isa: Isa,
    scratch: Mutex<(Packing, HeadScratch)>,
    profile: Profile,
}

impl Cpu {
    /// A backend on `threads` threads (0: as many as the machine has).
    pub fn new(threads: usize) -> Self {
        Self::with_isa(threads, Isa::detect())
    }

    /// A backend restricted to an instruction set, for comparing kernels.
    ///
    /// # Panics
    /// If this processor lacks it.
    pub fn with_isa(threads: usize, isa: Isa) -> Self {
        assert!(Isa::available().contains(&isa), "this processor does not have {isa:?}");
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        Self { pool: Pool::new(threads), isa, scratch: Mutex::default(), profile: Profile::default() }
    }

    /// Threads that kernels run on.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Gives every thread nothing to do and waits for all: what any operation on all threads costs at least.
    pub fn fork_and_join(&self) {
        self.pool.run(self.threads(), &|_| {});
    }

    /// One phrase for logs and manifests.
    pub fn describe(&self) -> String {
        let isa = match self.isa {
            Isa::Avx512Bf16 => "AVX-512 BF16",
            Isa::Avx512 => "AVX-512",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable",
        };
        format!(
            "{} {}, {isa} kernels, {} threads",
            std::env::consts::ARCH,
            std::env::consts::OS,
            self.threads()
        )
    }

    fn scratch(&self) -> MutexGuard<'_, (Packing, HeadScratch)> {
        // Scratch holds nothing between calls, so a panic elsewhere cannot have left it wrong.
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Digest of an array: of the digests of its blocks, so that threads share the work.
    fn digest_of<T: Number>(&self, data: &Buffer<T>) -> u64 {
        const BLOCK: usize = 1 << 20;
        let bytes = data.as_bytes();
        let mut digests = vec![0; bytes.len().div_ceil(BLOCK)];
        self.pool.chunks(&mut digests, 1, |i, digest| {
            digest[0] = xxh3_64(&bytes[i * BLOCK..((i + 1) * BLOCK).min(bytes.len())]);
        });
        xxh3_64(&digests.iter().flat_map(|digest| digest.to_le_bytes()).collect::<Vec<_>>())
    }

    fn product<T>(&self, run: impl FnOnce(&mut Engine<'_>, &mut HeadScratch) -> T) -> T {
        let (packing, head) = &mut *self.scratch();
        run(&mut Engine { pool: &self.pool, isa: self.isa, packing }, head)
    }
}

fn panels(w: Weight<'_, Cpu>) -> Panels<'_> {
    match w.compute {
        Some(half) => Panels::Bf16(&half.pairs),
        None => Panels::F32(w.master),
    }
}

fn norm_of<'a>(norm: &NormWeight<'a, Cpu>) -> Norm<'a> {
    let NormWeight { kind, width, eps, weight, bias } = *norm;
    Norm { kind, width, eps, weight, bias: bias.map(|b| &**b) }
}

fn shape_of(shape: AttentionShape) -> attention::Shape {
    let AttentionShape { heads, kv_heads, head_dim, window } = shape;
    attention::Shape { heads, kv_heads, head_dim, window }
}

fn layout_of(storage: TableStorage) -> TableLayout {
    match storage {
        TableStorage::Rows => TableLayout::Rows,
        TableStorage::Matrix => TableLayout::Panels,
    }
}

/// Bytes of an element of a weight as products read it.
fn element(w: Weight<'_, Cpu>) -> usize {
    if w.compute.is_some() { 2 } else { 4 }
}

/// The work of one product with a weight, with the f32 of its other operands.
fn product(w: Weight<'_, Cpu>, m: usize, floats: usize) -> Work {
    Work::products(1, [m, w.rows, w.cols], element(w), floats)
}

/// The work of products with weights that read the same rows: for each weight, how many products and the bytes of an
/// element, and the f32 of the other operands. The shape is that of all weights together.
fn products<'a>(
    passes: impl Iterator<Item = (Weight<'a, Cpu>, u64, usize)>,
    m: usize,
    floats: usize,
) -> Work {
    let (mut sum, mut outs) = (Work::floats(floats), 0);
    for (w, count, bytes) in passes {
        let work = Work::products(count, [m, w.rows, w.cols], bytes, 0);
        sum.flops += work.flops;
        sum.bytes += work.bytes;
        outs += w.rows;
        sum.shape = Some([m, outs, w.cols]);
    }
    sum
}

/// The work of the head's two gradients.
fn head_gradients(w: Weight<'_, Cpu>, targets: usize) -> Work {
    Work::products(2, [targets, w.rows, w.cols], 8 + element(w), 2 * targets * w.cols)
}

/// The work of attention, whose backward pass is two of its forward passes; `arrays` of keys or values are read or
/// written beside `floats` of queries and outputs.
fn attended(shape: AttentionShape, plan: &AttentionPlan, passes: u64, [floats, arrays]: [usize; 2]) -> Work {
    let ancestors: usize = plan.spans.iter().map(|span| span.len).sum();
    let keys = ancestors + plan.items.iter().map(|item| item.offset + item.len).sum::<usize>();
    Work {
        flops: 4 * passes * plan.pairs(shape.window) * (shape.heads * shape.head_dim) as u64,
        bytes: 4 * (floats + arrays * keys * shape.kv_heads * shape.head_dim) as u64,
        shape: None,
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Half = Half;

    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn zeros(&self, len: usize) -> Buffer {
        Buffer::zeros(len)
    }

    fn resize(&self, buffer: &mut Buffer, len: usize) {
        buffer.resize(len);
    }

    fn upload(&self, buffer: &mut Buffer, data: &[f32]) {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(2 * data.len()));
        buffer.resize(data.len());
        buffer.copy_from_slice(data);
    }

    fn download(&self, to: &mut Vec<f32>, buffer: &Buffer) {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(2 * buffer.len()));
        to.clear();
        to.extend_from_slice(buffer);
    }

    fn fill_zero(&self, buffer: &mut Buffer) {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(buffer.len()));
        self.pool.chunks(buffer, 1 << 14, |_, x| x.fill(0.0));
    }

    fn copy(&self, to: &mut Buffer, from: &Buffer) {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(2 * from.len()));
        to.resize(from.len());
        self.pool.chunks(to, 1 << 14, |i, to| to.copy_from_slice(&from[i << 14..][..to.len()]));
    }

    fn matrix_len(&self, rows: usize, cols: usize) -> usize {
        panels::panels_len(rows, cols)
    }

    fn upload_matrix(&self, buffer: &mut Buffer, rows: usize, cols: usize, data: &[f32]) {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(2 * rows * cols));
        panels::to_panels(data, rows, cols, buffer);
    }

    fn download_matrix(&self, buffer: &Buffer, rows: usize, cols: usize) -> Vec<f32> {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(2 * rows * cols));
        panels::from_panels(buffer, rows, cols)
    }

    fn narrow(&self, half: &mut Option<Half>, buffer: &Buffer, cols: usize, exact: bool) {
        let _timer = self.profile.time(Operation::Narrow, || Work::floats(buffer.len() * 3 / 2));
        let zeros = || Buffer::zeros(panels::pairs_len(buffer.len(), cols));
        let half = half.get_or_insert_with(|| Half { pairs: zeros(), rests: exact.then(zeros) });
        let rests = half.rests.as_deref_mut();
        panels::split_panels(&self.pool, buffer, cols, &mut half.pairs, rests);
    }

    fn pack(&self, half: &mut Option<Half>, x: &Buffer) {
        let _timer = self.profile.time(Operation::Narrow, || Work::floats(x.len() * 3 / 2));
        let half = half.get_or_insert_with(|| Half { pairs: Buffer::zeros(0), rests: None });
        half.pairs.resize(x.len().div_ceil(2));
        half::pack(&self.pool, self.isa.multiplies_bf16(), x, &mut half.pairs);
    }

    fn unpack(&self, x: &mut Buffer, half: &Half) {
        let _timer = self.profile.time(Operation::Narrow, || Work::floats(x.len() * 3 / 2));
        assert_eq!(half.pairs.len(), x.len().div_ceil(2), "an array of another size was packed");
        half::unpack(&self.pool, &half.pairs, x);
    }

    fn digest(&self, buffer: &Buffer, compute: Option<&Half>) -> u64 {
        let _timer = self.profile.time(Operation::Digest, || Work::floats(buffer.len()));
        match compute {
            Some(half) => self.digest_of(&half.pairs),
            None => self.digest_of(buffer),
        }
    }

    fn digest_rounded(&self, half: &Half, cols: usize) -> u64 {
        let _timer = self.profile.time(Operation::Digest, || Work::floats(2 * half.pairs.len()));
        let mut rounded = Buffer::zeros(half.pairs.len());
        let panel = cols.div_ceil(2) * PANEL;
        self.pool.chunks(&mut rounded, panel, |i, to| {
            let mut exact = vec![0.0; cols * PANEL];
            let of = |pairs: &'_ [u32]| -> std::ops::Range<usize> {
                i * panel..(i * panel + panel).min(pairs.len())
            };
            let rests = half.rests.as_ref().map(|rests| &rests[of(rests)]);
            panels::join_panel(&half.pairs[of(&half.pairs)], rests, &mut exact);
            panels::split_panel(&exact, to, None);
        });
        self.digest_of(&rounded)
    }

    fn linear(&self, x: &Buffer, m: usize, layers: &mut [Linear<'_, Self>]) {
        let Some(input) = layers.first().map(|layer| layer.weight.cols) else { return };
        let _timer = self.profile.time(Operation::ProductForward, || {
            let passes = layers.iter().map(|layer| (layer.weight, 1, element(layer.weight)));
            products(passes, m, m * input + m * layers.iter().map(|layer| layer.weight.rows).sum::<usize>())
        });
        let mut layers: Vec<Layer<'_>> = layers
            .iter_mut()
            .map(|Linear { y, weight, bias, accumulate }| Layer {
                y,
                weight: panels(*weight),
                out: weight.rows,
                bias: bias.map(|b| &**b),
                accumulate: *accumulate,
            })
            .collect();
        self.product(|e, _| e.forward(x, [m, input], &mut layers));
    }

    fn linear_backward(
        &self,
        x: &Buffer,
        m: usize,
        layers: &mut [LinearGradient<'_, Self>],
        dx: Option<(&mut Buffer, bool)>,
    ) {
        let Some(input) = layers.first().map(|layer| layer.weight.cols) else { return };
        let _timer = self.profile.time(Operation::ProductBackward, || {
            let through = u64::from(dx.is_some());
            // A gradient is read and written in f32.
            let passes = layers.iter().map(|LinearGradient { weight, dweight, .. }| {
                let by_weight = if dweight.is_some() { (1, 8) } else { (0, 0) };
                (*weight, through + by_weight.0, element(*weight) * through as usize + by_weight.1)
            });
            let outs: usize = layers.iter().map(|layer| layer.weight.rows).sum();
            products(passes, m, m * outs + m * input * (1 + through as usize))
        });
        let mut layers: Vec<LayerGradient<'_>> = layers
            .iter_mut()
            .map(|LinearGradient { dy, weight, dweight }| LayerGradient {
                dy,
                weight: panels(*weight),
                out: weight.rows,
                dweight: dweight.as_mut().map(|dw| (&mut **dw.data, dw.accumulate)),
            })
            .collect();
        let dx = dx.map(|(dx, accumulate)| (&mut **dx, accumulate));
        self.product(|e, _| e.backward(x, [m, input], &mut layers, dx));
    }

    fn column_sums(&self, sums: &mut Buffer, x: &Buffer) {
        let _timer = self.profile.time(Operation::Residual, || Work::floats(x.len()));
        norm::column_sums(&self.pool, sums, x);
    }

    fn norm(&self, y: &mut Buffer, stats: &mut Buffer, x: &Buffer, norm: &NormWeight<'_, Self>) {
        let _timer = self.profile.time(Operation::Norm, || Work::floats(2 * x.len()));
        norm_of(norm).forward(&self.pool, y, stats, x);
    }

    fn norm_backward(
        &self,
        dx: &mut Buffer,
        dy: &Buffer,
        x: &Buffer,
        stats: &Buffer,
        norm: &NormWeight<'_, Self>,
        accumulate: bool,
    ) {
        let _timer = self
            .profile
            .time(Operation::NormBackward, || Work::floats((3 + usize::from(accumulate)) * x.len()));
        norm_of(norm).backward(&self.pool, dx, dy, x, stats, accumulate);
    }

    fn norm_backward_parameters(
        &self,
        dweight: &mut Buffer,
        dbias: Option<&mut Buffer>,
        dy: &Buffer,
        x: &Buffer,
        stats: &Buffer,
    ) {
        let _timer = self.profile.time(Operation::NormBackward, || Work::floats(2 * x.len()));
        norm::backward_parameters(&self.pool, dweight, dbias.map(|b| &mut **b), dy, x, stats);
    }

    fn rotary(
        &self,
        x: &mut Buffer,
        width: usize,
        head_dim: usize,
        positions: &[u32],
        table: &Buffer,
        inverse: bool,
    ) {
        let _timer = self.profile.time(Operation::Rotary, || Work::floats(2 * x.len()));
        elementwise::rotary(&self.pool, x, width, head_dim, positions, table, inverse);
    }

    fn activate(&self, out: &mut Buffer, kind: Activation, gate: Option<&Buffer>, up: &Buffer) {
        let _timer = self
            .profile
            .time(Operation::Activation, || Work::floats((2 + usize::from(gate.is_some())) * up.len()));
        elementwise::activate(&self.pool, kind, out, gate.map(|g| &**g), up);
    }

    fn activate_backward(&self, dout: &Buffer, kind: Activation, gate: Option<&mut Buffer>, up: &mut Buffer) {
        let _timer = self.profile.time(Operation::ActivationBackward, || {
            Work::floats((3 + 2 * usize::from(gate.is_some())) * up.len())
        });
        elementwise::activate_backward(&self.pool, kind, dout, gate.map(|g| &mut **g), up);
    }

    fn add(&self, x: &mut Buffer, y: &Buffer) {
        let _timer = self.profile.time(Operation::Residual, || Work::floats(3 * y.len()));
        elementwise::add(&self.pool, x, y);
    }

    fn scale(&self, x: &mut Buffer, factor: f32) {
        let _timer = self.profile.time(Operation::Residual, || Work::floats(2 * x.len()));
        elementwise::scale(&self.pool, x, factor);
    }

    fn embed(
        &self,
        x: &mut Buffer,
        table: &Buffer,
        storage: TableStorage,
        ids: &[u32],
        width: usize,
        accumulate: bool,
    ) {
        let _timer = self
            .profile
            .time(Operation::Embedding, || Work::floats((2 + usize::from(accumulate)) * ids.len() * width));
        elementwise::embed(&self.pool, x, table, layout_of(storage), ids, width, accumulate);
    }

    fn embed_backward(
        &self,
        dtable: &mut Buffer,
        storage: TableStorage,
        ids: &[u32],
        dx: &Buffer,
        width: usize,
    ) {
        let _timer = self.profile.time(Operation::EmbeddingBackward, || Work::floats(3 * ids.len() * width));
        elementwise::embed_backward(&self.pool, dtable, layout_of(storage), ids, dx, width);
    }

    fn put_rows(&self, x: &mut Buffer, rows: &[u32], values: &Buffer, width: usize) {
        let _timer = self.profile.time(Operation::Memory, || Work::floats(2 * rows.len() * width));
        for (row, value) in rows.iter().zip(values.chunks_exact(width)) {
            x[*row as usize * width..][..width].copy_from_slice(value);
        }
    }

    fn store_keys(&self, store: &mut Buffer, width: usize, x: &Buffer, plan: &AttentionPlan) {
        let _timer = self.profile.time(Operation::KeyValueStore, || Work::floats(2 * x.len()));
        attention::store_panels(&self.pool, store, width, x, plan);
    }

    fn store_values(
        &self,
        store: &mut Buffer,
        (width, head_dim): (usize, usize),
        x: &Buffer,
        plan: &AttentionPlan,
    ) {
        let _timer = self.profile.time(Operation::KeyValueStore, || Work::floats(2 * x.len()));
        attention::store_values(&self.pool, store, (width, head_dim), x, plan);
    }

    fn attention(
        &self,
        out: &mut Buffer,
        lse: &mut Buffer,
        q: &Buffer,
        key_store: &Buffer,
        values: &Buffer,
        shape: AttentionShape,
        plan: &AttentionPlan,
    ) {
        let _timer = self.profile.time(Operation::Attention, || attended(shape, plan, 1, [2 * q.len(), 2]));
        attention::forward(&self.pool, self.isa, shape_of(shape), plan, out, lse, q, key_store, values);
    }

    fn attention_backward(
        &self,
        [dq, dk, dv]: [&mut Buffer; 3],
        dout: &Buffer,
        saved: &AttentionSaved<'_, Self>,
        shape: AttentionShape,
        plan: &AttentionPlan,
    ) {
        let _timer =
            self.profile.time(Operation::AttentionBackward, || attended(shape, plan, 2, [4 * dout.len(), 4]));
        let AttentionSaved { q, k, key_store, value_store, out, lse } = *saved;
        let saved = attention::Saved { q, k, key_panels: key_store, value_panels: value_store, out, lse };
        attention::backward(&self.pool, self.isa, shape_of(shape), plan, saved, dout, dq, dk, dv);
    }

    fn score(
        &self,
        scores: &mut [Score],
        x: &Buffer,
        w: Weight<'_, Self>,
        targets: &[u32],
        inverse_temperature: f32,
    ) {
        let _timer = self.profile.time(Operation::Head, || product(w, targets.len(), targets.len() * w.cols));
        let head = Head { weight: panels(w), vocab: w.rows, hidden: w.cols, inverse_temperature };
        self.product(|e, scratch| head.forward(e, scratch, scores, x, targets));
    }

    fn score_backward(
        &self,
        dx: &mut Buffer,
        dw: Option<MatrixGradient<'_, Self>>,
        scores: &[Score],
        x: &Buffer,
        w: Weight<'_, Self>,
        targets: &[u32],
        gradients: [&[f32]; 2],
        inverse_temperature: f32,
    ) {
        let _timer = self.profile.time(Operation::HeadBackward, || head_gradients(w, targets.len()));
        let head = Head { weight: panels(w), vocab: w.rows, hidden: w.cols, inverse_temperature };
        let dw = dw.map(|dw| (&mut **dw.data, dw.accumulate));
        self.product(|e, scratch| head.backward(e, scratch, scores, x, targets, gradients, dx, dw));
    }

    fn square_sum(&self, x: &Buffer) -> f64 {
        let _timer = self.profile.time(Operation::GradientNorm, || Work::floats(x.len()));
        norm::square_sum(&self.pool, x, x, |a, b| a * b)
    }

    fn adam_square_sum(&self, g: &Buffer, v: &Buffer, root_correction: f32, eps: f32) -> f64 {
        let _timer = self.profile.time(Operation::GradientNorm, || Work::floats(2 * g.len()));
        norm::square_sum(&self.pool, g, v, |g, v| g * g / (v.sqrt() / root_correction + eps))
    }

    fn adamw(&self, step: AdamWStep, w: Updated<'_, Self>, g: &Buffer, m: &mut Buffer, v: &mut Buffer) {
        let bytes = || Work::floats(7 * g.len());
        let _timer = self.profile.time(Operation::Optimizer, bytes);
        match w {
            Updated::Values(w) => elementwise::adamw(&self.pool, step, w, g, m, v),
            Updated::Half(half, cols) => {
                let rests = half.rests.as_mut().expect("a matrix that is trained keeps its rests");
                elementwise::adamw_split(&self.pool, step, (&mut half.pairs, rests, cols), g, m, v);
            }
        }
    }

    fn widen(&self, buffer: &mut Buffer, half: &Half, rows: usize, cols: usize) {
        buffer.resize(panels::panels_len(rows, cols));
        let pairs = cols.div_ceil(2) * PANEL;
        self.pool.chunks(buffer, PANEL * cols, |panel, to| {
            let rests = half.rests.as_ref().map(|rests| &rests[panel * pairs..][..pairs]);
            panels::join_panel(&half.pairs[panel * pairs..][..pairs], rests, to);
        });
    }

    fn embed_half(&self, x: &mut Buffer, table: &Half, ids: &[u32], width: usize, accumulate: bool) {
        const ROWS: usize = 16;
        let _timer = self.profile.time(Operation::Embedding, || Work::floats(ids.len() * width * 3 / 2));
        self.pool.chunks(x, ROWS * width, |i, x| {
            for (row, id) in x.chunks_exact_mut(width).zip(&ids[i * ROWS..]) {
                // The entry's pairs lie a panel's width apart.
                let first = panels::panel_index(*id as usize, 0, width.div_ceil(2));
                for (q, two) in row.chunks_mut(2).enumerate() {
                    let at = first + q * PANEL;
                    let (pair, rest) = (table.pairs[at], table.rests.as_ref().map_or(0, |rests| rests[at]));
                    let values =
                        [half::join(pair & 0xFFFF, rest & 0xFFFF), half::join(pair >> 16, rest >> 16)];
                    for (x, e) in two.iter_mut().zip(values) {
                        *x = if accumulate { *x + e } else { e };
                    }
                }
            }
        });
    }
}
