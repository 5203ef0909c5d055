//! Matrix products with a weight in panels: y = x·Wᵀ and its two derivatives.
//!
//! With bf16 weights both operands are rounded to bf16 and sums are f32: by pairs on AVX512-BF16 ([`super::dot`]), else
//! widened again and multiplied in f32 ([`super::tile`]).
#![expect(unsafe_code, reason = "hands disjoint tiles of one output to the product kernels")]

use super::buffer::Buffer;
use super::dot::{self, PairLhs, dot_tile, panels_at_once};
use super::half::{narrow, widen};
use super::panels::{
    Panels, gather_pairs, pair_columns, pair_rows, panels_len, transpose_paired, transpose_panel,
    transpose_widened,
};
use super::pool::{Pool, SharedMut};
use super::tile::{Isa, Lhs, Out, PANEL, Rhs, Start, tile};
use std::cell::RefCell;

/// Terms of an f32 chain computed per visit of a tile: a panel's worth of them fits the first-level cache.
const DEPTH: usize = 384;
/// Pairs of a bf16 chain whose panel is repacked at a time: 128 kB.
const PAIRS: usize = 1024;
/// Bytes of the left operand per task: they stay in the second-level cache across the panels of a weight.
const CHUNK: usize = 640 << 10;
/// Up to this many blocks of rows, the right operand is read from memory at the pace of the product.
const FEW: usize = 4;
/// Below this many elements an operand is packed by the calling thread: a fork costs more.
const SMALL: usize = 1 << 15;

/// Packing memory, kept between calls.
#[derive(Default)]
pub(crate) struct Packing {
    lhs: Buffer,
    pairs: Buffer<u32>,
}

/// The processor's means for a product.
pub(crate) struct Engine<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) isa: Isa,
    pub(crate) packing: &'a mut Packing,
}

/// Rows in blocks as equal as can be, none above the kernel's height, and the blocks in chunks.
#[derive(Clone, Copy)]
struct Blocks {
    rows: usize,
    count: usize,
    chunk: usize,
}

impl Blocks {
    /// `bytes` is the size of a row of the left operand.
    fn new(rows: usize, height: usize, bytes: usize) -> Self {
        Self { rows, count: rows.div_ceil(height), chunk: (CHUNK / (height * bytes).max(1)).max(1) }
    }

    fn start(self, block: usize) -> usize {
        block * self.rows / self.count
    }

    fn chunks(self) -> usize {
        self.count.div_ceil(self.chunk)
    }

    /// First row and height of each block of a chunk.
    fn of_chunk(self, chunk: usize) -> impl Iterator<Item = (usize, usize)> {
        let blocks = chunk * self.chunk..((chunk + 1) * self.chunk).min(self.count);
        blocks.map(move |block| (self.start(block), self.start(block + 1) - self.start(block)))
    }
}

/// Where the panels of the right operand come from: stored in the order of the product, or filled in by
/// `(panel, k0, depth, destination)` as `[depth][32]`.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    Stored(&'a [T]),
    Packed(&'a (dyn Fn(usize, usize, usize, &mut [T]) + Sync)),
}

/// The output: element (row, 32·panel + j) is at `row·row_stride + panel·panel_stride + j`.
struct Output<'a> {
    data: SharedMut<'a, f32>,
    row_stride: usize,
    panel_stride: usize,
}

impl Output<'_> {
    /// The tile at (row, panel), of `rows` × `cols`; `cols` may reach over several panels if these are adjacent.
    fn tile(&self, row: usize, panel: usize, rows: usize, cols: usize) -> Out {
        let at = row * self.row_stride + panel * self.panel_stride;
        let extent = (rows - 1) * self.row_stride + cols;
        assert!(at + extent <= self.data.len, "tile outside the output");
        Out { pointer: self.data.pointer_at(at), stride: self.row_stride }
    }

    /// Whether the panels of a row are adjacent.
    fn is_row_major(&self) -> bool {
        self.panel_stride == PANEL
    }
}

/// A panel's terms on the stack, on a cache line.
#[repr(align(64))]
struct PanelBlock([f32; DEPTH * PANEL]);

thread_local! {
    /// A panel's pairs, kept between tasks.
    static PANEL_PAIRS: RefCell<Buffer<u32>> = RefCell::default();
}

impl Engine<'_> {
    /// y (+)= x·Wᵀ (+ bias): x \[m, input\], W \[out, input\], y \[m, out\].
    pub(crate) fn forward(
        &mut self,
        y: &mut [f32],
        x: &[f32],
        weight: Panels<'_>,
        [m, out, input]: [usize; 3],
        bias: Option<&[f32]>,
        accumulate: bool,
    ) {
        check(x.len() == m * input && y.len() == m * out, "forward", m, out, input);
        let start = match (bias, accumulate) {
            (None, false) => Start::Zero,
            (None, true) => Start::Accumulate,
            (Some(bias), false) => {
                assert!(bias.len() >= out, "a bias of {} for {out} outputs", bias.len());
                Start::Bias(bias.as_ptr())
            }
            (Some(_), true) => panic!("a product either adds a bias or accumulates"),
        };
        let y = Output { data: SharedMut::new(y), row_stride: out, panel_stride: PANEL };
        match weight {
            Panels::Bf16(pairs) if self.isa.multiplies_bf16() => {
                let a = self.rows_as_pairs(x, m, input);
                self.dot(&y, [m, out, input.div_ceil(2)], a, Source::Stored(pairs), start);
            }
            Panels::Bf16(pairs) => {
                self.pack_rows(x, m, input, true);
                let widened = |panel: usize, k0: usize, depth: usize, to: &mut [f32]| {
                    let from = &pairs[(panel * input.div_ceil(2) + k0 / 2) * PANEL..];
                    for (two, from) in to.chunks_mut(2 * PANEL).zip(from.chunks_exact(PANEL)) {
                        for (i, x) in two.iter_mut().enumerate() {
                            *x = super::half::widen_pair(from[i % PANEL])[i / PANEL];
                        }
                    }
                    debug_assert_eq!(to.len(), depth * PANEL);
                };
                self.product(&y, [m, out, input], Source::Packed(&widened), start);
            }
            Panels::F32(data) => {
                self.pack_rows(x, m, input, false);
                self.product(&y, [m, out, input], Source::Stored(data), start);
            }
        }
    }

    /// dx (+)= dy·W.
    pub(crate) fn backward_input(
        &mut self,
        dx: &mut [f32],
        dy: &[f32],
        weight: Panels<'_>,
        [m, out, input]: [usize; 3],
        accumulate: bool,
    ) {
        check(dx.len() == m * input && dy.len() == m * out, "backward_input", m, out, input);
        let start = if accumulate { Start::Accumulate } else { Start::Zero };
        let dx = Output { data: SharedMut::new(dx), row_stride: input, panel_stride: PANEL };
        match weight {
            Panels::Bf16(pairs) if self.isa.multiplies_bf16() => {
                let a = self.rows_as_pairs(dy, m, out);
                let transpose = |panel: usize, q0: usize, depth: usize, to: &mut [u32]| {
                    transpose_paired(true, pairs, input, panel, (q0, depth), to);
                };
                self.dot(&dx, [m, input, out.div_ceil(2)], a, Source::Packed(&transpose), start);
            }
            _ => {
                self.pack_rows(dy, m, out, weight.is_bf16());
                let transpose = |panel: usize, k0: usize, depth: usize, to: &mut [f32]| match weight {
                    Panels::F32(data) => transpose_panel(data, input, panel, (k0, depth), to),
                    Panels::Bf16(pairs) => transpose_widened(pairs, input, panel, (k0, depth), to),
                };
                self.product(&dx, [m, input, out], Source::Packed(&transpose), start);
            }
        }
    }

    /// dW += dyᵀ·x, dW in panels. `bf16` rounds both operands.
    pub(crate) fn backward_weight(
        &mut self,
        dw: &mut [f32],
        dy: &[f32],
        x: &[f32],
        [m, out, input]: [usize; 3],
        bf16: bool,
    ) {
        check(x.len() == m * input && dy.len() == m * out, "backward_weight", m, out, input);
        assert!(dw.len() >= panels_len(out, input), "gradient of {} for {out}x{input}", dw.len());
        // The padding columns of a ragged panel are computed too: their operand is zero, so they stay zero.
        let padded = out.next_multiple_of(PANEL);
        let dw = Output { data: SharedMut::new(dw), row_stride: PANEL, panel_stride: input * PANEL };
        if bf16 && self.isa.multiplies_bf16() {
            let a = self.columns_as_pairs(x, m, input);
            let gather = |panel: usize, q0: usize, depth: usize, to: &mut [u32]| {
                gather_pairs(true, dy, (m, out), panel, q0, &mut to[..depth * PANEL]);
            };
            self.dot(&dw, [input, padded, m.div_ceil(2)], a, Source::Packed(&gather), Start::Accumulate);
            return;
        }
        self.pack_columns(x, m, input, bf16);
        let gather = |panel: usize, k0: usize, depth: usize, to: &mut [f32]| {
            let first = panel * PANEL;
            let cols = PANEL.min(out - first);
            for (t, row) in to.chunks_exact_mut(PANEL).enumerate().take(depth) {
                let from = &dy[(k0 + t) * out + first..][..cols];
                if bf16 {
                    row.iter_mut().zip(from).for_each(|(r, x)| *r = widen(narrow(*x)));
                } else {
                    row[..cols].copy_from_slice(from);
                }
                row[cols..].fill(0.0);
            }
        };
        self.product(&dw, [input, padded, m], Source::Packed(&gather), Start::Accumulate);
    }

    /// x \[m, k\] as pairs of neighbours.
    fn rows_as_pairs(&mut self, x: &[f32], m: usize, k: usize) -> PairLhs {
        let width = k.div_ceil(2);
        self.packing.pairs.resize(m * width);
        pair_rows(self.pool, true, x, k, &mut self.packing.pairs);
        PairLhs { pointer: self.packing.pairs.as_ptr(), row: width, col: 1 }
    }

    /// xᵀ for x \[m, width\], as pairs of rows of x.
    fn columns_as_pairs(&mut self, x: &[f32], m: usize, width: usize) -> PairLhs {
        self.packing.pairs.resize(m.div_ceil(2) * width);
        pair_columns(self.pool, true, x, width, &mut self.packing.pairs);
        PairLhs { pointer: self.packing.pairs.as_ptr(), row: 1, col: width }
    }

    /// C (start)= A·B over pairs: A \[m, depth\] is the packed operand, B \[depth, n\].
    fn dot(&self, c: &Output<'_>, [m, n, depth]: [usize; 3], a: PairLhs, rhs: Source<'_, u32>, start: Start) {
        let blocks = Blocks::new(m, dot::ROWS, depth * size_of::<u32>());
        let panels = n.div_ceil(PANEL);
        // With few rows a product streams B from memory once: long stretches of adjacent panels for each task.
        let few = blocks.count <= FEW;
        let groups = if few { panels.min(4 * self.pool.threads()) } else { panels };
        let wide = matches!(rhs, Source::Stored(_)) && c.is_row_major();
        let (a, start) = (Shared(a), Shared(start));
        self.pool.run(blocks.chunks() * groups, &|task| {
            let (chunk, group) = (task / groups, task % groups);
            let (mut panel, end) = (group * panels / groups, (group + 1) * panels / groups);
            while panel < end {
                let (first, height) = blocks.of_chunk(chunk).next().unwrap_or((0, 0));
                debug_assert!(height > 0, "chunk {chunk} from row {first}");
                let most = if wide { panels_at_once(height.min(dot::ROWS)) } else { 1 };
                let count = if blocks.count == 1 { most.min(end - panel) } else { 1 };
                let cols = (count * PANEL).min(n - panel * PANEL);
                let visit = |b: *const u32, b_panel: usize, q0: usize, depth: usize| {
                    for (i, (row, rows)) in blocks.of_chunk(chunk).enumerate() {
                        let out = c.tile(row, panel, rows, cols);
                        let start = if q0 == 0 { start.get().at(panel) } else { Start::Accumulate };
                        let a = a.get();
                        let a = PairLhs { pointer: a.pointer.wrapping_add(row * a.row + q0 * a.col), ..a };
                        // SAFETY: tiles of distinct tasks are disjoint and inside `c` (asserted); the packed operand
                        // holds m rows of pairs and the panels `depth` pairs; AVX512-BF16 was detected.
                        unsafe {
                            dot_tile(rows, cols, depth, a, (b, b_panel), out, start, few && wide && i == 0)
                        };
                    }
                };
                match rhs {
                    Source::Stored(data) => {
                        let of = |panel: usize| data[panel * depth * PANEL..][..depth * PANEL].as_ptr();
                        let last = panel + count - 1;
                        assert!((last + 1) * depth * PANEL <= data.len(), "panel {last} outside the weight");
                        visit(of(panel), depth * PANEL, 0, depth);
                    }
                    Source::Packed(fill) => PANEL_PAIRS.with_borrow_mut(|block| {
                        block.resize(PAIRS.min(depth) * PANEL);
                        for q0 in (0..depth).step_by(PAIRS) {
                            let depth = PAIRS.min(depth - q0);
                            fill(panel, q0, depth, &mut block[..depth * PANEL]);
                            visit(block.as_ptr(), 0, q0, depth);
                        }
                    }),
                }
                panel += count;
            }
        });
    }

    /// Packs x \[m, k\] as `[block][k][rows of the block]`.
    fn pack_rows(&mut self, x: &[f32], m: usize, k: usize, bf16: bool) {
        self.pack(m, k, |(start, height), to| {
            for (i, row) in x[start * k..(start + height) * k].chunks_exact(k).enumerate() {
                let cells = to[i..].iter_mut().step_by(height);
                if bf16 {
                    cells.zip(row).for_each(|(cell, x)| *cell = widen(narrow(*x)));
                } else {
                    cells.zip(row).for_each(|(cell, x)| *cell = *x);
                }
            }
        });
    }

    /// Packs xᵀ for x \[k, m\] as `[block][k][columns of the block]`.
    fn pack_columns(&mut self, x: &[f32], k: usize, m: usize, bf16: bool) {
        self.pack(m, k, |(start, height), to| {
            for (t, cells) in to.chunks_exact_mut(height).enumerate() {
                let from = &x[t * m + start..][..height];
                if bf16 {
                    cells.iter_mut().zip(from).for_each(|(cell, x)| *cell = widen(narrow(*x)));
                } else {
                    cells.copy_from_slice(from);
                }
            }
        });
    }

    fn pack(&mut self, m: usize, k: usize, fill: impl Fn((usize, usize), &mut [f32]) + Sync) {
        let blocks = Blocks::new(m, self.isa.rows(), k * size_of::<f32>());
        self.packing.lhs.resize(m * k);
        let shared = SharedMut::new(&mut self.packing.lhs);
        let task = |block: usize| {
            let (start, end) = (blocks.start(block), blocks.start(block + 1));
            // SAFETY: blocks are disjoint row ranges.
            fill((start, end - start), unsafe { shared.slice(start * k, (end - start) * k) });
        };
        if m * k < SMALL {
            (0..blocks.count).for_each(task);
        } else {
            self.pool.run(blocks.count, &task);
        }
    }

    /// C (start)= A·B over the packed left operand: A \[m, k\], B \[k, n\].
    fn product(&self, c: &Output<'_>, [m, n, k]: [usize; 3], rhs: Source<'_, f32>, start: Start) {
        let isa = self.isa;
        let blocks = Blocks::new(m, isa.rows(), k.min(DEPTH) * size_of::<f32>());
        let panels = n.div_ceil(PANEL);
        let (packed, start) = (Shared(self.packing.lhs.as_ptr()), Shared(start));
        self.pool.run(blocks.chunks() * panels, &|task| {
            let (chunk, panel) = (task / panels, task % panels);
            let cols = PANEL.min(n - panel * PANEL);
            let mut block_of_b = PanelBlock([0.0; DEPTH * PANEL]);
            for k0 in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - k0);
                let pointer = match rhs {
                    Source::Stored(data) => data[(panel * k + k0) * PANEL..][..depth * PANEL].as_ptr(),
                    Source::Packed(fill) => {
                        fill(panel, k0, depth, &mut block_of_b.0[..depth * PANEL]);
                        block_of_b.0.as_ptr()
                    }
                };
                let b = Rhs { pointer, stride: PANEL };
                let start = if k0 == 0 { start.get().at(panel) } else { Start::Accumulate };
                for (first, height) in blocks.of_chunk(chunk) {
                    let out = c.tile(first, panel, height, cols);
                    let pointer = packed.get().wrapping_add(first * k + k0 * height);
                    let a = Lhs { pointer, row: 1, col: height };
                    // SAFETY: tiles of distinct tasks are disjoint and inside `c` (asserted); the packed operand holds
                    // m·k floats, block after block; the panel holds `depth` terms; `isa` was detected.
                    unsafe { tile(isa, height, cols, depth, a, b, out, start) };
                }
            }
        });
    }
}

/// A pointer that every task reads through.
struct Shared<T>(T);
// SAFETY: the packed operand and the bias are read only while the run lasts, and outlive it.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// A method, so that closures capture the wrapper, which is `Sync`, and not its raw field.
    fn get(&self) -> T {
        self.0
    }
}

impl Start {
    /// The start of the chains of a panel.
    fn at(self, panel: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(bias.wrapping_add(panel * PANEL)),
            other => other,
        }
    }
}

fn check(right: bool, what: &str, m: usize, out: usize, input: usize) {
    assert!(right, "{what}: operands do not have {m} rows of {out} outputs and {input} inputs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::panels::{from_panels, narrow_panels, pairs_len, panel_index, to_panels};
    use pavlov_schema::rng::{Rng, Stream};

    fn random(rng: &mut Rng, n: usize) -> Vec<f32> {
        (0..n).map(|_| rng.normal()).collect()
    }

    fn assert_close(actual: &[f32], expected: &[f64], what: &str) {
        assert_eq!(actual.len(), expected.len());
        for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
            assert!((f64::from(*a) - e).abs() <= 1e-4 * (1.0 + e.abs()), "{what}[{i}] = {a}, expected {e}");
        }
    }

    /// All three products against plain f64 sums, on ragged shapes, every instruction set, poisoned outputs.
    #[test]
    fn products_match_plain_sums() {
        let mut rng = Rng::new(2, Stream::Init, 0, 0);
        let pool = Pool::new(2);
        for isa in Isa::available() {
            for [m, out, input] in
                [[1, 1, 1], [3, 33, 5], [14, 32, 32], [29, 70, 95], [401, 97, 400], [5, 513, 64]]
            {
                let (x, w, dy) =
                    (random(&mut rng, m * input), random(&mut rng, out * input), random(&mut rng, m * out));
                let bias = random(&mut rng, out.next_multiple_of(PANEL));
                let mut panels = vec![f32::NAN; panels_len(out, input)];
                to_panels(&w, out, input, &mut panels);
                assert_eq!(from_panels(&panels, out, input), w);
                let mut packing = Packing::default();
                let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
                let sum = |n: usize, f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                let g = |v: &[f32], i: usize| f64::from(v[i]);

                let mut y = vec![f32::NAN; m * out];
                engine.forward(&mut y, &x, Panels::F32(&panels), [m, out, input], Some(&bias), false);
                let expected: Vec<f64> = (0..m * out)
                    .map(|i| {
                        let (r, c) = (i / out, i % out);
                        g(&bias, c) + sum(input, &|k| g(&x, r * input + k) * g(&w, c * input + k))
                    })
                    .collect();
                assert_close(&y, &expected, "y");

                let mut dx = vec![f32::NAN; m * input];
                engine.backward_input(&mut dx, &dy, Panels::F32(&panels), [m, out, input], false);
                engine.backward_input(&mut dx, &dy, Panels::F32(&panels), [m, out, input], true);
                let expected: Vec<f64> = (0..m * input)
                    .map(|i| {
                        let (r, c) = (i / input, i % input);
                        2.0 * sum(out, &|k| g(&dy, r * out + k) * g(&w, k * input + c))
                    })
                    .collect();
                assert_close(&dx, &expected, "dx");

                let mut dw = vec![0.0; panels.len()];
                engine.backward_weight(&mut dw, &dy, &x, [m, out, input], false);
                let expected: Vec<f64> = (0..out * input)
                    .map(|i| {
                        let (r, c) = (i / input, i % input);
                        sum(m, &|k| g(&dy, k * out + r) * g(&x, k * input + c))
                    })
                    .collect();
                assert_close(&from_panels(&dw, out, input), &expected, "dw");
                for row in out..out.next_multiple_of(PANEL) {
                    for c in 0..input {
                        assert_eq!(dw[panel_index(row, c, input)], 0.0, "padding of {out}x{input}");
                    }
                }
            }
        }
    }

    /// A row's result has the same bits alone and among others, on any thread count and instruction set.
    #[test]
    fn rows_do_not_depend_on_the_batch() {
        let mut rng = Rng::new(3, Stream::Init, 0, 0);
        let [m, out, input] = [45, 70, 500];
        let (x, w) = (random(&mut rng, m * input), random(&mut rng, out * input));
        let mut panels = vec![0.0; panels_len(out, input)];
        to_panels(&w, out, input, &mut panels);
        let mut pairs = vec![0; pairs_len(panels.len(), input)];
        narrow_panels(&Pool::new(1), false, &panels, input, &mut pairs);
        let mut all: Vec<Vec<f32>> = Vec::new();
        for (threads, isa) in
            [1, 3].into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
        {
            let pool = Pool::new(threads);
            let mut packing = Packing::default();
            let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
            for weight in [Panels::F32(&panels), Panels::Bf16(&pairs)] {
                let mut y = vec![f32::NAN; m * out];
                engine.forward(&mut y, &x, weight, [m, out, input], None, false);
                for (row, rows) in [(0, 1), (17, 2), (30, 4), (44, 1)] {
                    let mut alone = vec![f32::NAN; rows * out];
                    let some = &x[row * input..(row + rows) * input];
                    engine.forward(&mut alone, some, weight, [rows, out, input], None, false);
                    assert_eq!(alone, y[row * out..(row + rows) * out]);
                }
                if !weight.is_bf16() {
                    all.push(y);
                }
            }
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// The bf16 products are the f32 products of rounded operands: bit for bit where these are widened, within rounding
    /// where pairs are multiplied. Outputs are poisoned.
    #[test]
    fn bf16_rounds_the_operands_and_nothing_else() {
        let mut rng = Rng::new(4, Stream::Init, 0, 0);
        let pool = Pool::new(2);
        for [m, out, input] in
            [[1, 300, 63], [2, 70, 64], [4, 65, 130], [37, 65, 131], [513, 33, 2050], [5, 2100, 33]]
        {
            let (x, w, dy) =
                (random(&mut rng, m * input), random(&mut rng, out * input), random(&mut rng, m * out));
            let round = |v: &[f32]| v.iter().map(|x| widen(narrow(*x))).collect::<Vec<_>>();
            let mut panels = vec![0.0; panels_len(out, input)];
            to_panels(&w, out, input, &mut panels);
            let mut pairs = vec![0; pairs_len(panels.len(), input)];
            narrow_panels(&pool, false, &panels, input, &mut pairs);
            let (rounded, x16, dy16) = (round(&panels), round(&x), round(&dy));
            let shape = [m, out, input];
            for isa in Isa::available() {
                let mut packing = Packing::default();
                let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
                let compare = |a: &[f32], b: &[f32], depth: usize| {
                    // Operands are about 1 in size, so a sum of n terms is about √n and rounds n times.
                    let bound = if isa.multiplies_bf16() { 1e-6 * depth as f32 } else { 0.0 };
                    for (i, (a, b)) in a.iter().zip(b).enumerate() {
                        assert!((a - b).abs() <= bound, "{isa:?} {shape:?} [{i}]: {a} for {b}");
                    }
                };
                let (mut a, mut b) = (vec![f32::NAN; m * out], vec![f32::NAN; m * out]);
                engine.forward(&mut a, &x, Panels::Bf16(&pairs), shape, None, false);
                engine.forward(&mut b, &x16, Panels::F32(&rounded), shape, None, false);
                compare(&a, &b, input);
                let (mut a, mut b) = (vec![f32::NAN; m * input], vec![f32::NAN; m * input]);
                engine.backward_input(&mut a, &dy, Panels::Bf16(&pairs), shape, false);
                engine.backward_input(&mut b, &dy16, Panels::F32(&rounded), shape, false);
                compare(&a, &b, out);
                let (mut a, mut b) = (vec![1.0; panels.len()], vec![1.0; panels.len()]);
                engine.backward_weight(&mut a, &dy, &x, shape, true);
                engine.backward_weight(&mut b, &dy16, &x16, shape, false);
                compare(&a, &b, m);
            }
        }
    }
}
