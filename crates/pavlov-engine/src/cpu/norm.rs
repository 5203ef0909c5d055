//! Root-mean-square and layer normalisation of rows, and their derivatives.

use super::math::{LANES, add_lanes, sum1, sum2};
use super::pool::{Pool, SharedMut};
use crate::config::NormKind;
use multiversion::multiversion;

/// Rows per task.
const ROWS: usize = 16;
/// Columns per task where a sum runs over rows.
const COLUMNS: usize = 64;

/// A norm of rows of `width`.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) kind: NormKind,
    pub(crate) width: usize,
    pub(crate) eps: f32,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
}

impl Norm<'_> {
    /// y = norm(x); `stats` gets (mean, 1/deviation) of each row.
    pub(crate) fn forward(self, pool: &Pool, y: &mut [f32], stats: &mut [f32], x: &[f32]) {
        let width = self.width;
        let stats = SharedMut::new(stats);
        pool.chunks(y, ROWS * width, |i, y| {
            let rows = y.len() / width;
            #[expect(unsafe_code, reason = "each task writes the statistics of its own rows")]
            // SAFETY: chunks are distinct rows.
            let stats = unsafe { stats.slice(2 * i * ROWS, 2 * rows) };
            forward_rows(self, y, stats, &x[i * ROWS * width..][..rows * width]);
        });
    }

    /// dx (+)= the derivative through the norm of dy, given x and its statistics.
    pub(crate) fn backward(
        self,
        pool: &Pool,
        dx: &mut [f32],
        dy: &[f32],
        x: &[f32],
        stats: &[f32],
        accumulate: bool,
    ) {
        let width = self.width;
        pool.chunks(dx, ROWS * width, |i, dx| {
            let at = i * ROWS * width;
            let stats = &stats[2 * i * ROWS..][..2 * dx.len() / width];
            backward_rows(self, dx, &dy[at..][..dx.len()], &x[at..][..dx.len()], stats, accumulate);
        });
    }
}

/// dweight += Σ_rows dy·x̂ and, if given, dbias += Σ_rows dy.
pub(crate) fn backward_parameters(
    pool: &Pool,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
) {
    let width = dweight.len();
    pool.chunks(dweight, COLUMNS, |i, dweight| weight_columns(dweight, i * COLUMNS, width, dy, x, stats));
    if let Some(dbias) = dbias {
        column_sums(pool, dbias, dy);
    }
}

/// sums += Σ_rows x.
pub(crate) fn column_sums(pool: &Pool, sums: &mut [f32], x: &[f32]) {
    let width = sums.len();
    pool.chunks(sums, COLUMNS, |i, sums| sum_columns(sums, i * COLUMNS, width, x));
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn forward_rows(norm: Norm<'_>, y: &mut [f32], stats: &mut [f32], x: &[f32]) {
    let n = norm.width as f32;
    for ((y, x), stat) in
        y.chunks_exact_mut(norm.width).zip(x.chunks_exact(norm.width)).zip(stats.chunks_exact_mut(2))
    {
        let mean = match norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => sum1(x, |x| x) / n,
        };
        let variance = sum1(x, |x| (x - mean) * (x - mean)) / n;
        let inverse = 1.0 / (variance + norm.eps).sqrt();
        stat[0] = mean;
        stat[1] = inverse;
        match norm.bias {
            None => {
                for ((y, x), w) in y.iter_mut().zip(x).zip(norm.weight) {
                    *y = (x - mean) * inverse * w;
                }
            }
            Some(bias) => {
                for (((y, x), w), b) in y.iter_mut().zip(x).zip(norm.weight).zip(bias) {
                    *y = (x - mean) * inverse * w + b;
                }
            }
        }
    }
}

/// With x̂ = (x - mean)·r and g = w·dy: dx = r·(g - \[mean of g\] - x̂·mean of (g·x̂)), the bracket for layer norm only.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn backward_rows(norm: Norm<'_>, dx: &mut [f32], dy: &[f32], x: &[f32], stats: &[f32], accumulate: bool) {
    let n = norm.width as f32;
    let rows =
        dx.chunks_exact_mut(norm.width).zip(dy.chunks_exact(norm.width)).zip(x.chunks_exact(norm.width));
    for (((dx, dy), x), stat) in rows.zip(stats.chunks_exact(2)) {
        let (mean, inverse) = (stat[0], stat[1]);
        let keep = if accumulate { 1.0 } else { 0.0 };
        // First g into a pass of sums, without storing it.
        let mut dot = [0.0_f32; LANES];
        let mut sum = [0.0_f32; LANES];
        let mut add = |dy: &[f32], w: &[f32], x: &[f32]| {
            for (i, ((dy, w), x)) in dy.iter().zip(w).zip(x).enumerate() {
                let g = dy * w;
                dot[i] += g * ((x - mean) * inverse);
                sum[i] += g;
            }
        };
        let whole = norm.width / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let lanes = at..at + LANES;
            add(&dy[lanes.clone()], &norm.weight[lanes.clone()], &x[lanes]);
        }
        add(&dy[whole..], &norm.weight[whole..], &x[whole..]);
        let dot = add_lanes(dot) / n;
        let sum = if norm.kind == NormKind::Layer { add_lanes(sum) / n } else { 0.0 };
        for (((dx, dy), w), x) in dx.iter_mut().zip(dy).zip(norm.weight).zip(x) {
            let before = if keep > 0.0 { *dx } else { 0.0 };
            *dx = before + inverse * (dy * w - sum - (x - mean) * inverse * dot);
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn weight_columns(dweight: &mut [f32], first: usize, width: usize, dy: &[f32], x: &[f32], stats: &[f32]) {
    let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(stats.chunks_exact(2));
    for ((dy, x), stat) in rows {
        let (dy, x) = (&dy[first..first + dweight.len()], &x[first..first + dweight.len()]);
        for ((dw, dy), x) in dweight.iter_mut().zip(dy).zip(x) {
            *dw += dy * ((x - stat[0]) * stat[1]);
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn sum_columns(sums: &mut [f32], first: usize, width: usize, x: &[f32]) {
    for row in x.chunks_exact(width) {
        for (sum, x) in sums.iter_mut().zip(&row[first..]) {
            *sum += x;
        }
    }
}

/// Σ `term`(x, y) in f64, in one fixed order.
pub(crate) fn square_sum(
    pool: &Pool,
    x: &[f32],
    y: &[f32],
    term: impl Fn(f32, f32) -> f32 + Copy + Send + Sync,
) -> f64 {
    const CHUNK: usize = 1 << 14;
    /// Chunks per task: long stretches are read faster.
    const STRETCH: usize = 32;
    let mut partial = vec![0.0_f64; x.len().div_ceil(CHUNK)];
    pool.chunks(&mut partial, STRETCH, |i, sums| {
        let chunks = x[i * STRETCH * CHUNK..].chunks(CHUNK).zip(y[i * STRETCH * CHUNK..].chunks(CHUNK));
        for (sum, (x, y)) in sums.iter_mut().zip(chunks) {
            *sum = f64::from(sum2(x, y, term));
        }
    });
    partial.iter().sum()
}
