//! How products are split into tasks: rows of the left operand in blocks and chunks, the right operand in panels.
#![expect(unsafe_code, reason = "hands disjoint tiles of one output to the product kernels")]

use super::buffer::{Buffer, Number};
use super::dot::{self, dot_tile, panels_at_once};
use super::pool::{Pool, SharedMut};
use super::tile::{Isa, Lhs, Out, PANEL, Rhs, Start, tile};
use std::cell::RefCell;
use std::thread::LocalKey;

/// Bytes of the left operand per task: they stay in the second-level cache across the panels of a weight.
const CHUNK: usize = 640 << 10;
/// Tasks for each thread, so that the last ones end together.
const TASKS: usize = 8;
/// Up to this many blocks of rows, the right operand is read from memory at the pace of the product.
const FEW: usize = 4;

/// What a kernel multiplies: f32, or pairs of bf16.
pub(super) trait Element: Number + 'static {
    /// Most terms (or pairs) of a panel that is packed at a time.
    const DEPTH: usize;

    /// Most rows of a tile.
    fn height(isa: Isa) -> usize;

    /// Panels that a tile of so many rows takes at once.
    fn panels_at_once(rows: usize) -> usize;

    /// A packed panel, kept between tasks.
    fn panel() -> &'static LocalKey<RefCell<Buffer<Self>>>;

    /// # Safety
    /// As [`tile`] and [`dot_tile`].
    unsafe fn tile(
        isa: Isa,
        shape: [usize; 3],
        a: Lhs<Self>,
        b: (*const Self, usize),
        c: Out,
        start: Start,
        fetch: bool,
    );
}

impl Element for f32 {
    const DEPTH: usize = 384;

    fn height(isa: Isa) -> usize {
        isa.rows()
    }

    fn panels_at_once(_: usize) -> usize {
        1
    }

    fn panel() -> &'static LocalKey<RefCell<Buffer>> {
        thread_local!(static PANEL_OF_F32: RefCell<Buffer> = RefCell::default());
        &PANEL_OF_F32
    }

    unsafe fn tile(
        isa: Isa,
        [rows, cols, depth]: [usize; 3],
        a: Lhs<f32>,
        (pointer, _): (*const f32, usize),
        c: Out,
        start: Start,
        _: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile(isa, rows, cols, depth, a, Rhs { pointer, stride: PANEL }, c, start) };
    }
}

impl Element for u32 {
    const DEPTH: usize = 1024;

    fn height(_: Isa) -> usize {
        dot::ROWS
    }

    fn panels_at_once(rows: usize) -> usize {
        panels_at_once(rows)
    }

    fn panel() -> &'static LocalKey<RefCell<Buffer<u32>>> {
        thread_local!(static PANEL_OF_PAIRS: RefCell<Buffer<u32>> = RefCell::default());
        &PANEL_OF_PAIRS
    }

    unsafe fn tile(
        _: Isa,
        [rows, cols, depth]: [usize; 3],
        a: Lhs<u32>,
        b: (*const u32, usize),
        c: Out,
        start: Start,
        fetch: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { dot_tile(rows, cols, depth, a, b, c, start, fetch) };
    }
}

/// Where the panels of the right operand come from: stored in the order of the product, or filled in by
/// `(panel, k0, destination)` as `[depth][32]`.
#[derive(Clone, Copy)]
pub(super) enum Source<'a, T> {
    Stored(&'a [T]),
    Packed(&'a (dyn Fn(usize, usize, &mut [T]) + Sync)),
}

/// A·B over `depth` terms (or pairs).
#[derive(Clone, Copy)]
pub(super) struct Term<'a, T> {
    pub(super) a: Lhs<T>,
    pub(super) b: Source<'a, T>,
    pub(super) depth: usize,
}

/// The output: element (row, 32·panel + j) is at `row·row_stride + panel·panel_stride + j`.
pub(super) struct Output<'a> {
    pub(super) data: SharedMut<'a, f32>,
    pub(super) row_stride: usize,
    pub(super) panel_stride: usize,
}

impl Output<'_> {
    /// The tile at (row, panel), of `rows` × `cols`; `cols` may reach over several panels if these are adjacent.
    fn tile(&self, row: usize, panel: usize, rows: usize, cols: usize) -> Out {
        let at = row * self.row_stride + panel * self.panel_stride;
        let extent = (rows - 1) * self.row_stride + cols;
        assert!(at + extent <= self.data.len, "tile outside the output");
        Out { pointer: self.data.pointer_at(at), stride: self.row_stride }
    }
}

/// C \[m, n\] (start)= the sum of its terms, one after another.
pub(super) struct Product<'a, T> {
    pub(super) c: Output<'a>,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) terms: Vec<Term<'a, T>>,
    pub(super) start: Start,
}

// SAFETY: operands and biases are read only while a run lasts, and outlive it; outputs are written in disjoint tiles.
unsafe impl<T: Sync> Sync for Product<'_, T> {}

/// How a product is split: its rows in blocks as equal as can be, none above the kernel's height; blocks in chunks;
/// panels in groups. A task is a chunk by a group.
#[derive(Clone, Copy)]
struct Split {
    rows: usize,
    blocks: usize,
    chunk: usize,
    panels: usize,
    groups: usize,
}

impl Split {
    fn of<T: Element>(product: &Product<'_, T>, isa: Isa, threads: usize) -> Self {
        let (height, panels) = (T::height(isa), product.n.div_ceil(PANEL));
        let blocks = product.m.div_ceil(height);
        let deepest = product.terms.iter().map(|t| t.depth).max().unwrap_or(0);
        let cached = CHUNK / (height * deepest * size_of::<T>()).max(1);
        let balanced = (blocks * panels).div_ceil(TASKS * threads);
        // With few rows a product streams B from memory once: long stretches of adjacent panels for each task.
        let groups = if blocks <= FEW { panels.min(threads) } else { panels };
        let chunk = if blocks <= FEW { blocks } else { cached.min(balanced).max(FEW) };
        Self { rows: product.m, blocks, chunk, panels, groups }
    }

    fn tasks(self) -> usize {
        self.blocks.div_ceil(self.chunk) * self.groups
    }

    fn row(self, block: usize) -> usize {
        block * self.rows / self.blocks
    }

    /// First row and height of each block of a chunk.
    fn blocks(self, chunk: usize) -> impl Iterator<Item = (usize, usize)> {
        let blocks = chunk * self.chunk..((chunk + 1) * self.chunk).min(self.blocks);
        blocks.map(move |block| (self.row(block), self.row(block + 1) - self.row(block)))
    }
}

impl<T: Element> Product<'_, T> {
    /// Computes one task's tiles.
    fn run(&self, isa: Isa, split: Split, task: usize) {
        let (chunk, group) = (task / split.groups, task % split.groups);
        let (mut panel, end) =
            (group * split.panels / split.groups, (group + 1) * split.panels / split.groups);
        let stored = self.terms.iter().all(|term| matches!(term.b, Source::Stored(_)));
        let several = split.blocks == 1 && stored && self.c.panel_stride == PANEL;
        while panel < end {
            let most = if several { T::panels_at_once(self.m) } else { 1 };
            let count = most.min(end - panel);
            for (i, term) in self.terms.iter().enumerate() {
                let start = if i == 0 { self.start.at(panel) } else { Start::Accumulate };
                self.add(isa, split, chunk, (panel, count), term, start);
            }
            panel += count;
        }
    }

    /// Adds a term to the tiles of a chunk in `count` adjacent panels.
    fn add(
        &self,
        isa: Isa,
        split: Split,
        chunk: usize,
        (panel, count): (usize, usize),
        term: &Term<'_, T>,
        start: Start,
    ) {
        let cols = (count * PANEL).min(self.n - panel * PANEL);
        let visit = |b: *const T, apart: usize, k0: usize, depth: usize, fetch: bool| {
            for (i, (row, rows)) in split.blocks(chunk).enumerate() {
                let c = self.c.tile(row, panel, rows, cols);
                let start = if k0 == 0 { start } else { Start::Accumulate };
                let a = term.a;
                let a = Lhs { pointer: a.pointer.wrapping_add(row * a.row + k0 * a.col), ..a };
                // SAFETY: tiles of distinct tasks are disjoint and inside `c` (asserted); A has m rows of the term's
                // depth and the panels hold `depth` terms; the instruction set was detected.
                unsafe { T::tile(isa, [rows, cols, depth], a, (b, apart), c, start, fetch && i == 0) };
            }
        };
        match term.b {
            Source::Stored(data) => {
                let apart = term.depth * PANEL;
                let panels = &data[panel * apart..][..count * apart];
                visit(panels.as_ptr(), apart, 0, term.depth, split.blocks <= FEW);
            }
            Source::Packed(fill) => T::panel().with_borrow_mut(|packed| {
                packed.resize(T::DEPTH.min(term.depth) * PANEL);
                for k0 in (0..term.depth).step_by(T::DEPTH) {
                    let depth = T::DEPTH.min(term.depth - k0);
                    fill(panel, k0, &mut packed[..depth * PANEL]);
                    visit(packed.as_ptr(), 0, k0, depth, false);
                }
            }),
        }
    }
}

/// Computes all products, their tasks one after another.
pub(super) fn run<T: Element>(pool: &Pool, isa: Isa, products: &[Product<'_, T>]) {
    let splits: Vec<Split> = products.iter().map(|p| Split::of(p, isa, pool.threads())).collect();
    pool.run(splits.iter().map(|split| split.tasks()).sum(), &|mut task| {
        for (product, split) in products.iter().zip(&splits) {
            if task < split.tasks() {
                return product.run(isa, *split, task);
            }
            task -= split.tasks();
        }
    });
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
