//! Rotary positions, the feed-forward non-linearity, the embedding table and the optimizer's update.

use super::math::{sigmoid, tanh};
use super::panels::{join_panel, panel_index, split_panel};
use super::pool::{Pool, SharedMut};
use super::tile::PANEL;
use crate::config::Activation;
use multiversion::multiversion;

const ROWS: usize = 16;
const COLUMNS: usize = 64;
const FLAT: usize = 1 << 13;

/// Rotates the pairs (i, i + d/2) of every head of x \[rows, heads·d\] by the angle of the row's position; `inverse`
/// rotates back, which is also the derivative.
pub(crate) fn rotary(
    pool: &Pool,
    x: &mut [f32],
    width: usize,
    head_dim: usize,
    positions: &[u32],
    table: &[f32],
    inverse: bool,
) {
    pool.chunks(x, ROWS * width, |i, x| {
        let positions = &positions[i * ROWS..][..x.len() / width];
        for (row, position) in x.chunks_exact_mut(width).zip(positions) {
            let angles = &table[*position as usize * head_dim..][..head_dim];
            rotate_row(row, head_dim, angles, inverse);
        }
    });
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn rotate_row(row: &mut [f32], head_dim: usize, angles: &[f32], inverse: bool) {
    let (cos, sin) = angles.split_at(head_dim / 2);
    let sign = if inverse { -1.0 } else { 1.0 };
    for head in row.chunks_exact_mut(head_dim) {
        let (low, high) = head.split_at_mut(head_dim / 2);
        for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            let (x, y, s) = (*a, *b, sign * s);
            *a = x * c - y * s;
            *b = y * c + x * s;
        }
    }
}

/// out = act(gate)·up, or act(up) without a gate.
pub(crate) fn activate(pool: &Pool, kind: Activation, out: &mut [f32], gate: Option<&[f32]>, up: &[f32]) {
    pool.chunks(out, FLAT, |i, out| {
        let range = i * FLAT..i * FLAT + out.len();
        activate_range(kind, out, gate.map(|g| &g[range.clone()]), &up[range.clone()]);
    });
}

/// In place: `up` and `gate` become their derivatives given `dout`.
pub(crate) fn activate_backward(
    pool: &Pool,
    kind: Activation,
    dout: &[f32],
    gate: Option<&mut [f32]>,
    up: &mut [f32],
) {
    let gate = gate.map(SharedMut::new);
    pool.chunks(up, FLAT, |i, up| {
        let start = i * FLAT;
        #[expect(unsafe_code, reason = "each task writes its own range of the gate")]
        // SAFETY: chunks are disjoint ranges.
        let gate = gate.as_ref().map(|g| unsafe { g.slice(start, up.len()) });
        activate_backward_range(kind, &dout[start..start + up.len()], gate, up);
    });
}

const GELU_SCALE: f32 = 0.797_884_6; // sqrt(2/π)
const GELU_CUBE: f32 = 0.044_715;

/// The non-linearity and its derivative.
#[inline(always)]
fn value_and_slope(kind: Activation, x: f32) -> (f32, f32) {
    match kind {
        Activation::Silu => {
            let s = sigmoid(x);
            (x * s, s * (1.0 + x * (1.0 - s)))
        }
        Activation::GeluTanh => {
            let t = tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x));
            let slope = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * x * x);
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn activate_range(kind: Activation, out: &mut [f32], gate: Option<&[f32]>, up: &[f32]) {
    match (kind, gate) {
        (Activation::Silu, Some(gate)) => {
            for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
                *o = value_and_slope(Activation::Silu, *g).0 * u;
            }
        }
        (Activation::GeluTanh, Some(gate)) => {
            for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
                *o = value_and_slope(Activation::GeluTanh, *g).0 * u;
            }
        }
        (Activation::Silu, None) => {
            out.iter_mut().zip(up).for_each(|(o, u)| *o = value_and_slope(Activation::Silu, *u).0);
        }
        (Activation::GeluTanh, None) => {
            out.iter_mut().zip(up).for_each(|(o, u)| *o = value_and_slope(Activation::GeluTanh, *u).0);
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn activate_backward_range(kind: Activation, dout: &[f32], gate: Option<&mut [f32]>, up: &mut [f32]) {
    #[inline(always)]
    fn gated(kind: Activation, dout: &[f32], gate: &mut [f32], up: &mut [f32]) {
        for ((d, g), u) in dout.iter().zip(gate).zip(up) {
            let (value, slope) = value_and_slope(kind, *g);
            *g = d * *u * slope;
            *u = d * value;
        }
    }
    #[inline(always)]
    fn plain(kind: Activation, dout: &[f32], up: &mut [f32]) {
        dout.iter().zip(up).for_each(|(d, u)| *u = d * value_and_slope(kind, *u).1);
    }
    match (kind, gate) {
        (Activation::Silu, Some(gate)) => gated(Activation::Silu, dout, gate, up),
        (Activation::GeluTanh, Some(gate)) => gated(Activation::GeluTanh, dout, gate, up),
        (Activation::Silu, None) => plain(Activation::Silu, dout, up),
        (Activation::GeluTanh, None) => plain(Activation::GeluTanh, dout, up),
    }
}

/// x += y.
pub(crate) fn add(pool: &Pool, x: &mut [f32], y: &[f32]) {
    pool.chunks(x, FLAT, |i, x| {
        x.iter_mut().zip(&y[i * FLAT..]).for_each(|(x, y)| *x += y);
    });
}

/// How an embedding table lies: row by row, or in the panels of the head that it is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableLayout {
    Rows,
    Panels,
}

impl TableLayout {
    /// Index of the first element of an entry, and the step to the next.
    fn entry(self, entry: usize, width: usize) -> (usize, usize) {
        match self {
            Self::Rows => (entry * width, 1),
            Self::Panels => (panel_index(entry, 0, width), PANEL),
        }
    }
}

/// x\[row\] (+)= table\[ids\[row\]\].
pub(crate) fn embed(
    pool: &Pool,
    x: &mut [f32],
    table: &[f32],
    layout: TableLayout,
    ids: &[u32],
    width: usize,
    accumulate: bool,
) {
    pool.chunks(x, ROWS * width, |i, x| {
        for (row, id) in x.chunks_exact_mut(width).zip(&ids[i * ROWS..]) {
            let (first, step) = layout.entry(*id as usize, width);
            for (x, e) in row.iter_mut().zip(table[first..].iter().step_by(step)) {
                *x = if accumulate { *x + e } else { *e };
            }
        }
    });
}

/// dtable\[ids\[row\]\] += dx\[row\], row after row.
pub(crate) fn embed_backward(
    pool: &Pool,
    dtable: &mut [f32],
    layout: TableLayout,
    ids: &[u32],
    dx: &[f32],
    width: usize,
) {
    let dtable = SharedMut::new(dtable);
    pool.run(width.div_ceil(COLUMNS), &|task| {
        let columns = task * COLUMNS..((task + 1) * COLUMNS).min(width);
        for (row, id) in dx.chunks_exact(width).zip(ids) {
            let (first, step) = layout.entry(*id as usize, width);
            for column in columns.clone() {
                #[expect(unsafe_code, reason = "each task writes its own columns of every entry")]
                // SAFETY: columns of distinct tasks are distinct elements of the table.
                let cell = unsafe { dtable.slice(first + column * step, 1) };
                cell[0] += row[column];
            }
        }
    });
}

/// What one AdamW update needs besides the tensors.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// 1 - lr·weight_decay.
    pub decay: f32,
    /// lr / (1 - β1^t).
    pub step_size: f32,
    /// sqrt(1 - β2^t).
    pub root_correction2: f32,
    /// 1 - β1, rounded once: from a rounded β2 of 0.999 it would be off by 5e-5 of itself.
    pub rise1: f32,
    /// β2.
    pub beta2: f32,
    /// 1 - β2.
    pub rise2: f32,
    /// ε.
    pub eps: f32,
    /// Factor on the gradient (clipping).
    pub grad_scale: f32,
}

/// One AdamW update in torch's order of operations (decoupled decay first, ε added after the corrected root).
pub(crate) fn adamw(pool: &Pool, step: AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let (m, v) = (SharedMut::new(m), SharedMut::new(v));
    pool.chunks(w, FLAT, |i, w| {
        let start = i * FLAT;
        #[expect(unsafe_code, reason = "each task updates its own range of the moments")]
        // SAFETY: chunks are disjoint ranges.
        let (m, v) = unsafe { (m.slice(start, w.len()), v.slice(start, w.len())) };
        adamw_range(step, w, &g[start..start + w.len()], m, v);
    });
}

/// As [`adamw`] for a matrix of `cols` inputs that lies as rounded pairs and their rests.
pub(crate) fn adamw_split(
    pool: &Pool,
    step: AdamWStep,
    (pairs, rests, cols): (&mut [u32], &mut [u32], usize),
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    /// Inputs at a time: their 16 kB stay in the first-level cache.
    const INPUTS: usize = 128;
    let (panel, pair_panel) = (cols * PANEL, cols.div_ceil(2) * PANEL);
    assert!(
        g.len() / panel == pairs.len() / pair_panel && rests.len() == pairs.len(),
        "panels of one matrix"
    );
    let (m, v, rests) = (SharedMut::new(m), SharedMut::new(v), SharedMut::new(rests));
    pool.chunks(pairs, pair_panel, |i, pairs| {
        let mut exact = [0.0; INPUTS * PANEL];
        for (at, pairs) in pairs.chunks_mut(INPUTS / 2 * PANEL).enumerate() {
            let start = i * panel + at * INPUTS * PANEL;
            let w = &mut exact[..(panel - at * INPUTS * PANEL).min(INPUTS * PANEL)];
            #[expect(unsafe_code, reason = "each task updates its own panel of the moments and the rests")]
            // SAFETY: panels are disjoint ranges.
            let (m, v, rests) = unsafe {
                let rests = rests.slice(i * pair_panel + at * INPUTS / 2 * PANEL, pairs.len());
                (m.slice(start, w.len()), v.slice(start, w.len()), rests)
            };
            join_panel(pairs, Some(rests), w);
            adamw_range(step, w, &g[start..start + w.len()], m, v);
            split_panel(w, pairs, Some(rests));
        }
    });
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn adamw_range(step: AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let AdamWStep { decay, step_size, root_correction2, rise1, beta2, rise2, eps, grad_scale } = step;
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * grad_scale;
        *w *= decay;
        *m += (g - *m) * rise1;
        *v = *v * beta2 + rise2 * g * g;
        *w -= step_size * (*m / (v.sqrt() / root_correction2 + eps));
    }
}

/// x *= factor.
pub(crate) fn scale(pool: &Pool, x: &mut [f32], factor: f32) {
    pool.chunks(x, FLAT, |_, x| x.iter_mut().for_each(|x| *x *= factor));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::panels::{pairs_len, panels_len, split_panels};
    use pavlov_schema::rng::{Rng, Stream};

    /// An update of a matrix that lies in two halves has the bits of the update of its values.
    #[test]
    fn a_split_matrix_is_updated_exactly() {
        let pool = Pool::new(2);
        let mut rng = Rng::new(14, Stream::Init, 0, 0);
        let step = AdamWStep {
            decay: 0.999,
            step_size: 0.01,
            root_correction2: 0.3,
            rise1: 0.1,
            beta2: 0.999,
            rise2: 0.001,
            eps: 1e-8,
            grad_scale: 0.7,
        };
        for [rows, cols] in [[1, 1], [33, 127], [70, 301], [64, 256]] {
            let len = panels_len(rows, cols);
            let mut random = |scale: f32| -> Vec<f32> { (0..len).map(|_| scale * rng.normal()).collect() };
            let (mut w, g) = (random(1.0), random(0.1));
            let mut moments = [random(0.1), random(0.1).iter().map(|x| x * x).collect()];
            let (mut pairs, mut rests) =
                (vec![0; pairs_len(len, cols)], vec![u32::MAX; pairs_len(len, cols)]);
            split_panels(&pool, &w, cols, &mut pairs, Some(&mut rests));
            let mut same = moments.clone();
            for _ in 0..3 {
                let [m, v] = &mut moments;
                adamw(&pool, step, &mut w, &g, m, v);
                let [m, v] = &mut same;
                adamw_split(&pool, step, (&mut pairs, &mut rests, cols), &g, m, v);
            }
            let (panel, pair_panel) = (cols * PANEL, cols.div_ceil(2) * PANEL);
            let mut joined = vec![f32::NAN; len];
            for (i, to) in joined.chunks_exact_mut(panel).enumerate() {
                join_panel(
                    &pairs[i * pair_panel..][..pair_panel],
                    Some(&rests[i * pair_panel..][..pair_panel]),
                    to,
                );
            }
            assert!(joined == w && same == moments, "{rows}x{cols}");
        }
    }
}
