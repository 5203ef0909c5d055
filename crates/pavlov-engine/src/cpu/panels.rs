//! How a weight lies in memory.
//!
//! A weight W \[out, in\] is kept in panels of 32 outputs, `panels[out / 32][in][out % 32]`, the order in which the
//! forward product reads it: decoding streams a weight once from memory whatever the number of rows, and nothing is
//! repacked between steps. A ragged last panel is padded with zeros, which stay zero under every update. In bf16 the order
//! is the same with neighbouring inputs paired, `panels[out / 32][in / 2][out % 32]`, and what rounding took away lies in the
//! same order beside it while the weight is trained.

use super::half::{interleave, join, narrow_row, split, transpose_pairs, widen_pair};
use super::pool::{Pool, SharedMut};
use super::tile::PANEL;
use multiversion::multiversion;

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
    /// Pairs of inputs.
    Bf16(&'a [u32]),
}

impl Panels<'_> {
    /// The panels of the outputs from `first` (a multiple of 32) on.
    pub(crate) fn at_row(self, first: usize, cols: usize) -> Self {
        debug_assert_eq!(first % PANEL, 0);
        match self {
            Self::F32(data) => Self::F32(&data[first * cols..]),
            Self::Bf16(data) => Self::Bf16(&data[first * cols.div_ceil(2)..]),
        }
    }

    pub(crate) fn is_bf16(self) -> bool {
        matches!(self, Self::Bf16(_))
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

/// Length in pairs of panels of `cols` inputs.
pub(crate) fn pairs_len(panels: usize, cols: usize) -> usize {
    panels / cols * cols.div_ceil(2)
}

/// Rounds panels of `cols` inputs to bf16 and, if asked, keeps the rests: together the exact values.
pub(crate) fn split_panels(
    pool: &Pool,
    panels: &[f32],
    cols: usize,
    pairs: &mut [u32],
    rests: Option<&mut [u32]>,
) {
    let (from, to) = (cols * PANEL, cols.div_ceil(2) * PANEL);
    let rests = rests.map(SharedMut::new);
    pool.chunks(pairs, to, |panel, pairs| {
        #[expect(unsafe_code, reason = "each task writes the rests of its own panel")]
        // SAFETY: panels are disjoint ranges.
        let rests = rests.as_ref().map(|rests| unsafe { rests.slice(panel * to, to) });
        split_panel(&panels[panel * from..][..from], pairs, rests);
    });
}

/// As [`split_panels`] for some inputs of one panel, an even number but at its end.
#[multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn split_panel(panel: &[f32], pairs: &mut [u32], mut rests: Option<&mut [u32]>) {
    for (q, (pairs, two)) in pairs.chunks_exact_mut(PANEL).zip(panel.chunks(2 * PANEL)).enumerate() {
        let (first, second) = two.split_at(PANEL);
        let mut rest = [0; PANEL];
        for i in 0..PANEL {
            let (low, high) = (split(first[i]), split(second.get(i).copied().unwrap_or(0.0)));
            pairs[i] = low.0 | high.0 << 16;
            rest[i] = low.1 | high.1 << 16;
        }
        if let Some(rests) = &mut rests {
            rests[q * PANEL..][..PANEL].copy_from_slice(&rest);
        }
    }
}

/// The values of some inputs of one panel, exact if their rests are given.
#[multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx512f", "x86_64+avx2+fma"))]
pub(crate) fn join_panel(pairs: &[u32], rests: Option<&[u32]>, panel: &mut [f32]) {
    for (q, (pairs, two)) in pairs.chunks_exact(PANEL).zip(panel.chunks_mut(2 * PANEL)).enumerate() {
        let rest: &[u32] = rests.map_or(&[0; PANEL], |rests| &rests[q * PANEL..][..PANEL]);
        let (first, second) = two.split_at_mut(PANEL);
        for i in 0..PANEL {
            first[i] = join(pairs[i] & 0xFFFF, rest[i] & 0xFFFF);
        }
        for (i, x) in second.iter_mut().enumerate() {
            *x = join(pairs[i] >> 16, rest[i] >> 16);
        }
    }
}

/// Fills `to[o - k0][c]` with W\[o, 32·panel + c\] for the outputs o from `k0` on, a multiple of 32.
pub(crate) fn transpose_panel(panels: &[f32], input: usize, panel: usize, k0: usize, to: &mut [f32]) {
    let first = panel * PANEL;
    let cols = PANEL.min(input - first);
    for (group, rows) in to.chunks_mut(PANEL * PANEL).enumerate() {
        let from = &panels[((k0 / PANEL + group) * input + first) * PANEL..][..cols * PANEL];
        for (r, row) in rows.chunks_exact_mut(PANEL).enumerate() {
            for (cell, x) in row.iter_mut().zip(from[r..].iter().step_by(PANEL)) {
                *cell = *x;
            }
        }
    }
}

/// As [`transpose_panel`] of a weight in bf16, widened.
pub(crate) fn transpose_widened(pairs: &[u32], input: usize, panel: usize, k0: usize, to: &mut [f32]) {
    let first = panel * PANEL;
    let cols = PANEL.min(input - first);
    for (group, rows) in to.chunks_mut(PANEL * PANEL).enumerate() {
        let from = &pairs[((k0 / PANEL + group) * input.div_ceil(2) + first / 2) * PANEL..];
        for (r, row) in rows.chunks_exact_mut(PANEL).enumerate() {
            for (c, cell) in row.iter_mut().enumerate().take(cols) {
                *cell = widen_pair(from[c / 2 * PANEL + r])[c % 2];
            }
        }
    }
}

/// Fills `to[q - q0][c]` with (W\[2q, 32·panel + c\], W\[2q + 1, 32·panel + c\]) for the pairs of outputs from `q0` on, a
/// multiple of 16.
pub(crate) fn transpose_paired(
    native: bool,
    pairs: &[u32],
    input: usize,
    panel: usize,
    q0: usize,
    to: &mut [u32],
) {
    let (width, first) = (input.div_ceil(2), panel * PANEL / 2);
    let columns = (PANEL / 2).min(width - first);
    for (group, rows) in to.chunks_mut(PANEL * PANEL / 2).enumerate() {
        let from = &pairs[((q0 / 16 + group) * width + first) * PANEL..][..columns * PANEL];
        if let Ok(block) = rows.try_into() {
            transpose_pairs(native, from, block);
        } else {
            let mut block = [0; PANEL * PANEL / 2];
            transpose_pairs(native, from, &mut block);
            rows.copy_from_slice(&block[..rows.len()]);
        }
    }
}

/// Copies 32 columns of rows `2·q0 ..` of y \[m, width\] as pairs of rows, `to[q - q0][column]`, absent ones 0.
pub(crate) fn gather_pairs(
    native: bool,
    y: &[f32],
    (m, width): (usize, usize),
    panel: usize,
    q0: usize,
    to: &mut [u32],
) {
    let first = panel * PANEL;
    let cols = PANEL.min(width - first);
    for (i, to) in to.chunks_exact_mut(PANEL).enumerate() {
        let row = 2 * (q0 + i);
        let at = |row: usize| &y[row * width + first..][..cols];
        interleave(native, at(row), (row + 1 < m).then(|| at(row + 1)), &mut to[..cols]);
        to[cols..].fill(0);
    }
}

/// Pairs from a row of `width` numbers to the next: an odd number of cache lines, so that the rows of a tile do not share
/// cache sets.
pub(crate) fn pair_stride(width: usize) -> usize {
    (width.div_ceil(32) | 1) * 16
}

/// Copies x \[m, width\] as pairs of neighbours, `pair_stride` apart.
pub(crate) fn pair_rows(pool: &Pool, native: bool, x: &[f32], width: usize, to: &mut [u32]) {
    let (rows, stride) = (block_rows(width), pair_stride(width));
    pool.chunks(to, rows * stride, |block, to| {
        let from = x[block * rows * width..].chunks_exact(width);
        to.chunks_exact_mut(stride)
            .zip(from)
            .for_each(|(to, x)| narrow_row(native, x, &mut to[..width.div_ceil(2)]));
    });
}

/// Copies x \[m, width\] as pairs of rows, `[⌈m / 2⌉][width]`.
pub(crate) fn pair_columns(pool: &Pool, native: bool, x: &[f32], width: usize, to: &mut [u32]) {
    let rows = block_rows(width);
    pool.chunks(to, rows * width, |block, to| {
        let from = x[2 * block * rows * width..].chunks(2 * width);
        for (to, two) in to.chunks_exact_mut(width).zip(from) {
            let (first, second) = two.split_at(width);
            interleave(native, first, (!second.is_empty()).then_some(second), to);
        }
    });
}

/// Rows per task of a copy: some tens of thousands of elements, so that a small operand is copied by one thread.
fn block_rows(width: usize) -> usize {
    ((1 << 15) / width).max(1)
}
