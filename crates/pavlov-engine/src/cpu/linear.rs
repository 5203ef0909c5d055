//! Matrix products with a weight: y = x·Wᵀ and its two derivatives.
//!
//! A weight W \[out, in\] is kept in panels of 32 outputs, `panels[out / 32][in][out % 32]`, the order in which the
//! forward product reads it: decoding streams a weight once from memory whatever the number of rows, and nothing is
//! repacked between steps. A ragged last panel is padded with zeros, which stay zero under every update.
#![expect(unsafe_code, reason = "hands disjoint tiles of one output to the product kernel")]

use super::pool::{Pool, SharedMut};
use super::tile::{Isa, Lhs, Out, PANEL, Rhs, Start, narrow, tile, widen};

/// Terms of the chain computed per visit of a tile: a panel's worth of them fits the first-level cache.
const DEPTH: usize = 384;
/// Blocks of rows per task: their packed operand stays in the second-level cache across the panels of a weight.
const BLOCKS_PER_TASK: usize = 24;
/// Below this many elements an operand is packed by the calling thread: a fork costs more.
const SMALL: usize = 1 << 15;

/// Length of a weight of `rows` × `cols` in panels.
pub(crate) fn panels_len(rows: usize, cols: usize) -> usize {
    rows.div_ceil(PANEL) * PANEL * cols
}

/// Index of element (row, col) in panels.
pub(crate) fn panel_index(row: usize, col: usize, cols: usize) -> usize {
    (row / PANEL * cols + col) * PANEL + row % PANEL
}

/// A weight in panels, in the precision of the products.
#[derive(Clone, Copy)]
pub(crate) enum Panels<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

impl Panels<'_> {
    /// The panels of the outputs from `first` (a multiple of 32) on.
    pub(crate) fn at_row(self, first: usize, cols: usize) -> Self {
        debug_assert_eq!(first % PANEL, 0);
        match self {
            Self::F32(data) => Self::F32(&data[first * cols..]),
            Self::Bf16(data) => Self::Bf16(&data[first * cols..]),
        }
    }

    fn is_bf16(self) -> bool {
        matches!(self, Self::Bf16(_))
    }
}

/// Packing memory, kept between calls.
#[derive(Default)]
pub(crate) struct Packing {
    lhs: super::buffer::Buffer,
}

/// The processor's means for a product.
pub(crate) struct Engine<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) isa: Isa,
    pub(crate) packing: &'a mut Packing,
}

/// Rows in blocks as equal as can be, none above the kernel's height.
#[derive(Clone, Copy)]
struct Blocks {
    rows: usize,
    count: usize,
}

impl Blocks {
    fn new(rows: usize, isa: Isa) -> Self {
        Self { rows, count: rows.div_ceil(isa.rows()) }
    }

    fn start(self, block: usize) -> usize {
        block * self.rows / self.count
    }
}

/// Where a panel of the right operand comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Stored(Panels<'a>),
    /// Fills `[depth][32]` with the panel's terms `k0 .. k0 + depth`: (panel, k0, depth, destination).
    Packed(&'a (dyn Fn(usize, usize, usize, &mut [f32]) + Sync)),
}

/// How the output lies: element (row, 32·panel + j) is at `row·row_stride + panel·panel_stride + j`.
#[derive(Clone, Copy)]
struct Lay {
    row_stride: usize,
    panel_stride: usize,
}

/// A panel's terms on the stack, on a cache line.
#[repr(align(64))]
struct PanelBlock([f32; DEPTH * PANEL]);

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
            (Some(bias), false) => Start::Bias(bias.as_ptr()),
            (Some(_), true) => panic!("a product either adds a bias or accumulates"),
        };
        self.pack_rows(x, m, input, weight.is_bf16());
        let lay = Lay { row_stride: out, panel_stride: PANEL };
        self.product(y, lay, [m, out, input], Source::Stored(weight), start);
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
        self.pack_rows(dy, m, out, weight.is_bf16());
        let transpose = |panel: usize, k0: usize, depth: usize, to: &mut [f32]| match weight {
            Panels::F32(data) => transpose_panel(data, |x| x, input, panel, k0, depth, to),
            Panels::Bf16(data) => transpose_panel(data, widen, input, panel, k0, depth, to),
        };
        let lay = Lay { row_stride: input, panel_stride: PANEL };
        let start = if accumulate { Start::Accumulate } else { Start::Zero };
        self.product(dx, lay, [m, input, out], Source::Packed(&transpose), start);
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
        // The padding columns of a ragged panel are computed too: their operand is zero, so they stay zero.
        let lay = Lay { row_stride: PANEL, panel_stride: input * PANEL };
        let padded = out.div_ceil(PANEL) * PANEL;
        self.product(dw, lay, [input, padded, m], Source::Packed(&gather), Start::Accumulate);
    }

    /// Packs x \[m, k\] as `[block][k][rows of the block]`.
    fn pack_rows(&mut self, x: &[f32], m: usize, k: usize, bf16: bool) {
        let blocks = Blocks::new(m, self.isa);
        self.pack(m, k, |block, to| {
            let (start, end) = (blocks.start(block), blocks.start(block + 1));
            let height = end - start;
            for (i, row) in x[start * k..end * k].chunks_exact(k).enumerate() {
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
        let blocks = Blocks::new(m, self.isa);
        self.pack(m, k, |block, to| {
            let (start, end) = (blocks.start(block), blocks.start(block + 1));
            for (t, cells) in to.chunks_exact_mut(end - start).enumerate() {
                let from = &x[t * m + start..t * m + end];
                if bf16 {
                    cells.iter_mut().zip(from).for_each(|(cell, x)| *cell = widen(narrow(*x)));
                } else {
                    cells.copy_from_slice(from);
                }
            }
        });
    }

    fn pack(&mut self, m: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let blocks = Blocks::new(m, self.isa);
        self.packing.lhs.resize(m * k);
        let shared = SharedMut::new(&mut self.packing.lhs);
        let task = |block: usize| {
            let (start, end) = (blocks.start(block), blocks.start(block + 1));
            // SAFETY: blocks are disjoint row ranges.
            fill(block, unsafe { shared.slice(start * k, (end - start) * k) });
        };
        if m * k < SMALL {
            (0..blocks.count).for_each(task);
        } else {
            self.pool.run(blocks.count, &task);
        }
    }

    /// C (start)= A·B over the packed left operand: A \[m, k\], B \[k, n\].
    fn product(&mut self, c: &mut [f32], lay: Lay, [m, n, k]: [usize; 3], rhs: Source<'_>, start: Start) {
        let isa = self.isa;
        let blocks = Blocks::new(m, isa);
        let panels = n.div_ceil(PANEL);
        let chunks = blocks.count.div_ceil(BLOCKS_PER_TASK);
        let packed = SharedRead(self.packing.lhs.as_ptr());
        let bias = SharedStart(start);
        let out = SharedMut::new(c);
        self.pool.run(chunks * panels, &|task| {
            let (chunk, panel) = (task / panels, task % panels);
            let cols = PANEL.min(n - panel * PANEL);
            let mut block_of_b = PanelBlock([0.0; DEPTH * PANEL]);
            for k0 in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - k0);
                let b = match rhs {
                    Source::Stored(Panels::F32(data)) => {
                        Rhs::F32(data[(panel * k + k0) * PANEL..][..depth * PANEL].as_ptr(), PANEL)
                    }
                    Source::Stored(Panels::Bf16(data)) => {
                        Rhs::Bf16(data[(panel * k + k0) * PANEL..][..depth * PANEL].as_ptr(), PANEL)
                    }
                    Source::Packed(fill) => {
                        fill(panel, k0, depth, &mut block_of_b.0[..depth * PANEL]);
                        Rhs::F32(block_of_b.0.as_ptr(), PANEL)
                    }
                };
                let start = if k0 == 0 { bias.at(panel) } else { Start::Accumulate };
                let last = ((chunk + 1) * BLOCKS_PER_TASK).min(blocks.count);
                for block in chunk * BLOCKS_PER_TASK..last {
                    let (first, end) = (blocks.start(block), blocks.start(block + 1));
                    let height = end - first;
                    let at = first * lay.row_stride + panel * lay.panel_stride;
                    let extent = (height - 1) * lay.row_stride + cols;
                    assert!(at + extent <= out.len, "tile outside the output");
                    // SAFETY: tiles of distinct tasks are disjoint and inside `c` (asserted); the packed operand holds
                    // m·k floats, block after block; the panel holds `depth` terms; `isa` was detected.
                    unsafe {
                        let a = Lhs { pointer: packed.at(first * k + k0 * height), row: 1, col: height };
                        let c = Out { pointer: out.pointer_at(at), stride: lay.row_stride };
                        tile(isa, height, cols, depth, a, b, c, start);
                    }
                }
            }
        });
    }
}

/// The packed operand, read by every task.
struct SharedRead(*const f32);
// SAFETY: read only while the run lasts.
unsafe impl Sync for SharedRead {}

/// The start of the chains, read by every task.
struct SharedStart(Start);
// SAFETY: a bias is read only, and outlives the run.
unsafe impl Sync for SharedStart {}

impl SharedStart {
    fn at(&self, panel: usize) -> Start {
        match self.0 {
            Start::Bias(bias) => Start::Bias(bias.wrapping_add(panel * PANEL)),
            other => other,
        }
    }
}

impl SharedRead {
    /// Block at `offset`. A method, so that closures capture the wrapper, which is `Sync`, and not its raw field.
    fn at(&self, offset: usize) -> *const f32 {
        self.0.wrapping_add(offset)
    }
}

fn check(right: bool, what: &str, m: usize, out: usize, input: usize) {
    assert!(right, "{what}: operands do not have {m} rows of {out} outputs and {input} inputs");
}

/// Fills `to[o - k0][c]` with W\[o, 32·panel + c\] for o in `k0 .. k0 + depth`; `k0` is a multiple of 32.
fn transpose_panel<T: Copy>(
    panels: &[T],
    widen: impl Fn(T) -> f32,
    input: usize,
    panel: usize,
    k0: usize,
    depth: usize,
    to: &mut [f32],
) {
    let first = panel * PANEL;
    let cols = PANEL.min(input - first);
    for (group, rows) in to[..depth * PANEL].chunks_mut(PANEL * PANEL).enumerate() {
        let from = &panels[((k0 / PANEL + group) * input + first) * PANEL..][..cols * PANEL];
        for (r, row) in rows.chunks_exact_mut(PANEL).enumerate() {
            for (cell, x) in row.iter_mut().zip(from[r..].iter().step_by(PANEL)) {
                *cell = widen(*x);
            }
        }
    }
}

/// Fills panels from a row-major weight.
pub(crate) fn to_panels(row_major: &[f32], rows: usize, cols: usize, panels: &mut [f32]) {
    panels.fill(0.0);
    for (r, row) in row_major.chunks_exact(cols).enumerate().take(rows) {
        let base = panel_index(r, 0, cols);
        for (c, x) in row.iter().enumerate() {
            panels[base + c * PANEL] = *x;
        }
    }
}

/// The row-major weight that panels hold.
pub(crate) fn from_panels(panels: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut row_major = vec![0.0; rows * cols];
    for (r, row) in row_major.chunks_exact_mut(cols).enumerate() {
        let base = panel_index(r, 0, cols);
        for (c, x) in row.iter_mut().enumerate() {
            *x = panels[base + c * PANEL];
        }
    }
    row_major
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let mut all: Vec<Vec<f32>> = Vec::new();
        for (threads, isa) in
            [1, 3].into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
        {
            let pool = Pool::new(threads);
            let mut packing = Packing::default();
            let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
            let mut y = vec![0.0; m * out];
            engine.forward(&mut y, &x, Panels::F32(&panels), [m, out, input], None, false);
            for row in [0, 17, 44] {
                let mut alone = vec![0.0; out];
                let one = &x[row * input..(row + 1) * input];
                engine.forward(&mut alone, one, Panels::F32(&panels), [1, out, input], None, false);
                assert_eq!(alone, y[row * out..(row + 1) * out]);
            }
            all.push(y);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// The bf16 products are the f32 products of rounded operands, bit for bit.
    #[test]
    fn bf16_rounds_the_operands_and_nothing_else() {
        let mut rng = Rng::new(4, Stream::Init, 0, 0);
        let pool = Pool::new(2);
        let [m, out, input] = [37, 65, 130];
        let (x, w, dy) =
            (random(&mut rng, m * input), random(&mut rng, out * input), random(&mut rng, m * out));
        let round = |v: &[f32]| v.iter().map(|x| widen(narrow(*x))).collect::<Vec<_>>();
        let mut panels = vec![0.0; panels_len(out, input)];
        to_panels(&w, out, input, &mut panels);
        let half: Vec<u16> = panels.iter().map(|x| narrow(*x)).collect();
        let rounded = round(&panels);
        let shape = [m, out, input];
        let mut packing = Packing::default();
        let mut engine = Engine { pool: &pool, isa: Isa::detect(), packing: &mut packing };
        let (mut a, mut b) = (vec![0.0; m * out], vec![0.0; m * out]);
        engine.forward(&mut a, &x, Panels::Bf16(&half), shape, None, false);
        engine.forward(&mut b, &round(&x), Panels::F32(&rounded), shape, None, false);
        assert_eq!(a, b);
        let (mut a, mut b) = (vec![0.0; m * input], vec![0.0; m * input]);
        engine.backward_input(&mut a, &dy, Panels::Bf16(&half), shape, false);
        engine.backward_input(&mut b, &round(&dy), Panels::F32(&rounded), shape, false);
        assert_eq!(a, b);
        let (mut a, mut b) = (vec![0.0; panels.len()], vec![0.0; panels.len()]);
        engine.backward_weight(&mut a, &dy, &x, shape, true);
        engine.backward_weight(&mut b, &round(&dy), &round(&x), shape, false);
        assert_eq!(a, b);
    }
}
