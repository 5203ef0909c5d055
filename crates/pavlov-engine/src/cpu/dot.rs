//! The product kernel for bf16 pairs on AVX512-BF16: a tile of C = A·B with f32 sums.
//!
//! Every element is the chain `c ← c + (a[q]·b[q])` over the pairs q in ascending order, whatever the tile's shape or the
//! blocking around it: as in [`super::tile`], an element's bits depend on its row of A and its column of B alone.
#![expect(unsafe_code, reason = "AVX-512 kernels work on raw pointers; tested against a portable kernel")]

use super::tile::{Lhs, Out, PANEL, Start};

/// Most rows of a tile: 28 accumulators, two columns of B and one of A fill the 32 registers.
pub(crate) const ROWS: usize = 14;

/// How many panels of B a tile of `rows` rows takes at once: few rows alone have too few chains to hide the latency of
/// the instruction.
pub(crate) fn panels_at_once(rows: usize) -> usize {
    match rows {
        1 | 2 => 4,
        3..=5 => 2,
        _ => 1,
    }
}

/// Computes a tile of `rows` × `cols` over `depth` pairs. Column j of B lies in panels `[q][32]` that start `b_panel`
/// pairs apart; one of the steps of A is 1; `fetch` asks for them ahead, for a B that comes from memory (A must then be by rows).
///
/// # Safety
/// `1 <= rows <= 14`, `1 <= cols <= 32 · panels_at_once(rows)`; every element of A and C that the shapes name must be
/// readable or writable, whole panels of B too, and C must not overlap the operands; this
/// processor must have AVX512-BF16.
pub(crate) unsafe fn dot_tile(
    rows: usize,
    cols: usize,
    depth: usize,
    a: Lhs<u32>,
    (b, b_panel): (*const u32, usize),
    c: Out,
    start: Start,
    fetch: bool,
) {
    debug_assert!((1..=ROWS).contains(&rows) && (1..=PANEL * panels_at_once(rows)).contains(&cols));
    debug_assert!(a.row == 1 || a.col == 1);
    let panels = cols.div_ceil(PANEL);
    macro_rules! kernel {
        ($rows:literal, $panels:literal) => {
            match (a.col == 1, fetch) {
                (true, true) => {
                    x86::kernel::<$rows, $panels, true, true>(cols, depth, a, b, b_panel, c, start)
                }
                (true, false) => {
                    x86::kernel::<$rows, $panels, true, false>(cols, depth, a, b, b_panel, c, start)
                }
                (false, _) => {
                    x86::kernel::<$rows, $panels, false, false>(cols, depth, a, b, b_panel, c, start)
                }
            }
        };
    }
    macro_rules! by_rows {
        ($($n:literal)*) => {
            match (rows, panels) {
                (1, 2) => kernel!(1, 2),
                (1, 3) => kernel!(1, 3),
                (1, 4) => kernel!(1, 4),
                (2, 2) => kernel!(2, 2),
                (2, 3) => kernel!(2, 3),
                (2, 4) => kernel!(2, 4),
                (3, 2) => kernel!(3, 2),
                (4, 2) => kernel!(4, 2),
                (5, 2) => kernel!(5, 2),
                $(($n, 1) => kernel!($n, 1),)*
                _ => unreachable!("a tile of {rows} rows and {panels} panels"),
            }
        };
    }
    // SAFETY: the caller's promises are those of the kernels.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("only x86-64 has AVX512-BF16");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lhs, Out, Start};
    use std::arch::x86_64::{
        __m512, __m512bh, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_dpbf16_ps, _mm512_loadu_si512,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    };

    /// Pairs that a fetch is ahead: 4 kB of a panel, which the processor's own prefetching does not cross.
    const AHEAD: usize = 32;

    /// The columns of half a panel that exist, as a mask.
    fn mask(cols: usize, half: usize) -> __mmask16 {
        match cols.saturating_sub(16 * half) {
            n if n >= 16 => 0xFFFF,
            n => (1 << n) - 1,
        }
    }

    /// `BY_ROW`: the pairs of a row of A are adjacent; otherwise the rows of a pair are.
    ///
    /// # Safety
    /// As [`super::dot_tile`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn kernel<
        const ROWS: usize,
        const PANELS: usize,
        const BY_ROW: bool,
        const FETCH: bool,
    >(
        cols: usize,
        depth: usize,
        a: Lhs<u32>,
        b: *const u32,
        b_panel: usize,
        c: Out,
        start: Start,
    ) {
        let mut sums = [[[_mm512_setzero_ps(); 2]; PANELS]; ROWS];
        // SAFETY: all addresses are inside the operands by the caller's promise; masked-off lanes are not touched.
        unsafe {
            match start {
                Start::Zero => {}
                Start::Bias(bias) => {
                    let row: [[__m512; 2]; PANELS] = std::array::from_fn(|p| {
                        std::array::from_fn(|h| {
                            let at = 2 * p + h;
                            _mm512_maskz_loadu_ps(mask(cols, at), bias.wrapping_add(16 * at))
                        })
                    });
                    sums = [row; ROWS];
                }
                Start::Accumulate => each(&mut sums, |i, at, sum| {
                    let from = c.pointer.wrapping_add(i * c.stride + 16 * at);
                    *sum = _mm512_maskz_loadu_ps(mask(cols, at), from);
                }),
            }
            for q in 0..depth {
                if FETCH {
                    for p in 0..PANELS {
                        let ahead = b.wrapping_add(p * b_panel + (q + AHEAD) * 32);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
                    }
                }
                let column: [[__m512bh; 2]; PANELS] = std::array::from_fn(|p| {
                    std::array::from_fn(|h| {
                        pair(_mm512_loadu_si512(b.add(p * b_panel + q * 32 + 16 * h).cast()))
                    })
                });
                let from = if BY_ROW { a.pointer.add(q) } else { a.pointer.add(q * a.col) };
                for (i, sums) in sums.iter_mut().enumerate() {
                    let at = if BY_ROW { i * a.row } else { i };
                    let x = pair(_mm512_set1_epi32(*from.add(at) as i32));
                    for (sums, column) in sums.iter_mut().zip(&column) {
                        sums[0] = _mm512_dpbf16_ps(sums[0], x, column[0]);
                        sums[1] = _mm512_dpbf16_ps(sums[1], x, column[1]);
                    }
                }
            }
            each(&mut sums, |i, at, sum| {
                let to = c.pointer.wrapping_add(i * c.stride + 16 * at);
                _mm512_mask_storeu_ps(to, mask(cols, at), *sum);
            });
        }
    }

    /// Calls `f(row, half panel, sum)` for each accumulator.
    #[inline(always)]
    fn each<const ROWS: usize, const PANELS: usize>(
        sums: &mut [[[__m512; 2]; PANELS]; ROWS],
        mut f: impl FnMut(usize, usize, &mut __m512),
    ) {
        for (i, row) in sums.iter_mut().enumerate() {
            for (at, sum) in row.as_flattened_mut().iter_mut().enumerate() {
                f(i, at, sum);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pair(x: std::arch::x86_64::__m512i) -> __m512bh {
        // SAFETY: both are 512 bits of which any are valid.
        unsafe { std::mem::transmute(x) }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::half::{pair, widen_pair};
    use crate::cpu::tile::lacks_bf16;
    use pavlov_schema::rng::{Rng, Stream};

    /// Every shape, order of A and start against sums in f64, outputs poisoned; and an element's bits are those of a
    /// tile that holds it alone.
    #[test]
    fn tiles_are_the_plain_sums() {
        if lacks_bf16() {
            return;
        }
        let mut rng = Rng::new(6, Stream::Init, 0, 0);
        for rows in 1..=ROWS {
            for cols in [1_usize, 15, 16, 17, 32, 33, 50, 64, 70, 96, 128] {
                if cols.div_ceil(PANEL) > panels_at_once(rows) {
                    continue;
                }
                for depth in [0, 1, 7, 40] {
                    for begin in 0..3 {
                        check(&mut rng, [rows, cols, depth], begin);
                    }
                }
            }
        }
    }

    fn check(rng: &mut Rng, [rows, cols, depth]: [usize; 3], begin: usize) {
        const STRIDE: usize = 150;
        let panel = depth * PANEL;
        let mut pairs = |n: usize| -> Vec<u32> { (0..n).map(|_| pair(rng.normal(), rng.normal())).collect() };
        let (a, b) = (pairs(rows * depth), pairs(cols.div_ceil(PANEL) * panel));
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let bias = random(4 * PANEL);
        let mut before = random(rows * STRIDE);
        if begin < 2 {
            before.chunks_exact_mut(STRIDE).for_each(|row| row[..cols].fill(f32::NAN));
        }
        let transposed: Vec<u32> =
            (0..depth).flat_map(|q| (0..rows).map(move |i| (i, q))).map(|(i, q)| a[i * depth + q]).collect();
        let start = |j: usize| [Start::Zero, Start::Bias(bias[j..].as_ptr()), Start::Accumulate][begin];
        let run = |rows: usize, cols: usize, a: Lhs<u32>, at: (usize, usize), c: &mut [f32]| {
            let b = b[at.1 / PANEL * panel..].as_ptr();
            let c = Out { pointer: c[at.0 * STRIDE + at.1..].as_mut_ptr(), stride: STRIDE };
            // SAFETY: the operands have the shapes named; the test returned early without the instructions.
            unsafe { dot_tile(rows, cols, depth, a, (b, panel), c, start(at.1), cols.is_multiple_of(2)) };
        };
        let by_row = Lhs { pointer: a.as_ptr(), row: depth, col: 1 };
        let by_column = Lhs { pointer: transposed.as_ptr(), row: 1, col: rows };
        let (mut c, mut d, mut alone) = (before.clone(), before.clone(), before.clone());
        run(rows, cols, by_row, (0, 0), &mut c);
        run(rows, cols, by_column, (0, 0), &mut d);
        for i in 0..rows {
            for j in (0..cols).step_by(PANEL) {
                let a = Lhs { pointer: a[i * depth..].as_ptr(), ..by_row };
                run(1, PANEL.min(cols - j), a, (i, j), &mut alone);
            }
        }
        let same = |x: &[f32], y: &[f32]| x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits());
        assert!(same(&c, &d) && same(&c, &alone), "{rows}x{cols}x{depth} start {begin}");
        for (i, j) in (0..rows).flat_map(|i| (0..STRIDE).map(move |j| (i, j))) {
            let (at, found) = (i * STRIDE + j, c[i * STRIDE + j]);
            if j >= cols {
                assert_eq!(found.to_bits(), before[at].to_bits(), "outside the tile at ({i}, {j})");
                continue;
            }
            let terms = (0..depth).flat_map(|q| {
                let y = b[j / PANEL * panel + q * PANEL + j % PANEL];
                let (x, y) = (widen_pair(a[i * depth + q]), widen_pair(y));
                [f64::from(x[0]) * f64::from(y[0]), f64::from(x[1]) * f64::from(y[1])]
            });
            let first = f64::from([0.0, bias[j], before[at]][begin]);
            let (sum, size) = terms.fold((first, first.abs()), |(s, a), t| (s + t, a + t.abs()));
            // Each of the 2·depth additions rounds by at most half a unit in the last place of the running sum.
            let bound = (2 * depth + 1) as f64 * f64::from(f32::EPSILON) * size;
            assert!(
                (f64::from(found) - sum).abs() <= bound,
                "{rows}x{cols}x{depth} at ({i}, {j}): {found} for {sum}"
            );
        }
    }
}
