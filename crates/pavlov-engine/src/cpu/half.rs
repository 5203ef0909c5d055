//! bf16 (the upper half of an f32) and pairs of them: two bf16 in a `u32`, the first in its lower half.
//!
//! A processor with AVX512-BF16 multiplies pairs and adds both products at once, so both operands of a product are laid
//! in pairs along the dimension that is summed over. An odd end is paired with zero.
#![expect(unsafe_code, reason = "AVX-512 conversions on raw pointers; tested against the portable ones")]

use multiversion::multiversion;

use super::pool::Pool;

/// Elements that one vector conversion makes.
#[cfg(target_arch = "x86_64")]
const WIDTH: usize = 16;

/// The f32 that a bf16 stands for.
#[inline(always)]
pub(crate) fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// The two f32 that a pair stands for.
#[inline(always)]
pub(crate) fn widen_pair(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)]
}

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16) as u16;
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

/// A pair of rounded numbers.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    u32::from(narrow(first)) | u32::from(narrow(second)) << 16
}

/// The nearest bf16, ties away from zero, and the signed rest: bits = half·2^16 + rest exactly. NaN stays NaN.
#[inline(always)]
pub(crate) fn split(x: f32) -> (u32, u32) {
    let bits = x.to_bits();
    let half = bits.wrapping_add(0x8000) >> 16;
    let nan = bits & 0x7FFF_FFFF > 0x7F80_0000;
    if nan { (bits >> 16 | 0x40, 0) } else { (half, bits & 0xFFFF) }
}

/// The number that [`split`] took apart.
#[inline(always)]
pub(crate) fn join(half: u32, rest: u32) -> f32 {
    let signed = (rest << 16) as i32 >> 16;
    f32::from_bits((half << 16).wrapping_add(signed as u32))
}

/// Pairs neighbours: `to[i]` is (x\[2i\], x\[2i + 1\]).
pub(crate) fn narrow_row(native: bool, x: &[f32], to: &mut [u32]) {
    assert_eq!(to.len(), x.len().div_ceil(2), "pairs of a row");
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if native {
        done = x.len() / (2 * WIDTH) * WIDTH;
        // SAFETY: `native` says that the processor has the instructions; `2·done` numbers and `done` pairs exist.
        unsafe { x86::narrow_row(x.as_ptr(), to.as_mut_ptr(), done) };
    }
    let _ = native;
    for (to, x) in to[done..].iter_mut().zip(x[2 * done..].chunks(2)) {
        *to = pair(x[0], x.get(1).copied().unwrap_or(0.0));
    }
}

/// Pairs of an array that one task makes.
const TASK: usize = 1 << 13;

/// Pairs the neighbours of an array, on all threads.
pub(crate) fn pack(pool: &Pool, native: bool, x: &[f32], to: &mut [u32]) {
    pool.chunks(to, TASK, |i, to| {
        let start = 2 * i * TASK;
        narrow_row(native, &x[start..(start + 2 * to.len()).min(x.len())], to);
    });
}

/// The array that was packed, rounded.
pub(crate) fn unpack(pool: &Pool, pairs: &[u32], to: &mut [f32]) {
    pool.chunks(to, 2 * TASK, |i, to| widen_row(&pairs[i * TASK..], to));
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn widen_row(pairs: &[u32], to: &mut [f32]) {
    let whole = to.len() / 2;
    if let Some(last) = to.get_mut(2 * whole) {
        *last = widen_pair(pairs[whole])[0];
    }
    for (to, pair) in to.chunks_exact_mut(2).zip(pairs) {
        to.copy_from_slice(&widen_pair(*pair));
    }
}

/// Pairs two rows: `to[i]` is (first\[i\], second\[i\]); without a second row, (first\[i\], 0).
pub(crate) fn interleave(native: bool, first: &[f32], second: Option<&[f32]>, to: &mut [u32]) {
    assert!(to.len() == first.len() && second.is_none_or(|s| s.len() == to.len()), "rows of one pair");
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if native && let Some(second) = second {
        done = to.len() / WIDTH * WIDTH;
        // SAFETY: `native` says that the processor has the instructions; `done` elements of each exist.
        unsafe { x86::interleave(first.as_ptr(), second.as_ptr(), to.as_mut_ptr(), done) };
    }
    let _ = native;
    match second {
        Some(second) => {
            let rows = first[done..].iter().zip(&second[done..]);
            to[done..].iter_mut().zip(rows).for_each(|(to, (a, b))| *to = pair(*a, *b));
        }
        None => to.iter_mut().zip(first).for_each(|(to, a)| *to = pair(*a, 0.0)),
    }
}

/// Transposes pairs: `from[i][o]` is (w\[o\]\[2i\], w\[o\]\[2i + 1\]) for 32 rows o and up to 16 column pairs i;
/// `to[q][c]` becomes (w\[2q\]\[c\], w\[2q + 1\]\[c\]) for 16 row pairs q and 32 columns c, absent ones 0.
pub(crate) fn transpose_pairs(native: bool, from: &[u32], to: &mut [u32; 512]) {
    assert!(from.len() <= 512 && from.len().is_multiple_of(32), "up to 16 column pairs of 32 rows");
    #[cfg(target_arch = "x86_64")]
    if native && from.len() == 512 {
        // SAFETY: `native` says that the processor has the instructions; both blocks are whole.
        unsafe { x86::transpose_pairs(from.as_ptr(), to.as_mut_ptr()) };
        return;
    }
    let _ = native;
    to.fill(0);
    for (i, rows) in from.chunks_exact(32).enumerate() {
        for (q, two) in rows.chunks_exact(2).enumerate() {
            to[q * 32 + 2 * i] = (two[0] & 0xFFFF) | (two[1] << 16);
            to[q * 32 + 2 * i + 1] = (two[0] >> 16) | (two[1] & 0xFFFF_0000);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::WIDTH;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_permutexvar_epi16, _mm512_set_epi8, _mm512_set_epi16, _mm512_shuffle_epi8,
        _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
    };

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bits(x: __m512bh) -> __m512i {
        // SAFETY: both are 512 bits of which any are valid.
        unsafe { std::mem::transmute(x) }
    }

    /// # Safety
    /// The processor has AVX-512 with BW and BF16; `2·pairs` numbers and `pairs` pairs; a multiple of 16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn narrow_row(x: *const f32, to: *mut u32, pairs: usize) {
        for i in (0..pairs).step_by(WIDTH) {
            // SAFETY: the caller's promise.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(x.add(2 * i)), _mm512_loadu_ps(x.add(2 * i + 16)));
                _mm512_storeu_si512(to.add(i).cast(), bits(_mm512_cvtne2ps_pbh(high, low)));
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 with BW and BF16; `n` elements everywhere; a multiple of 16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn interleave(first: *const f32, second: *const f32, to: *mut u32, n: usize) {
        // Element i of the first row, then of the second.
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
            18, 2, 17, 1, 16, 0,
        );
        for i in (0..n).step_by(WIDTH) {
            // SAFETY: the caller's promise.
            unsafe {
                let (a, b) = (_mm512_loadu_ps(first.add(i)), _mm512_loadu_ps(second.add(i)));
                let both = bits(_mm512_cvtne2ps_pbh(b, a));
                _mm512_storeu_si512(to.add(i).cast(), _mm512_permutexvar_epi16(order, both));
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 with BW; 512 pairs on each side.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn transpose_pairs(from: *const u32, to: *mut u32) {
        // Seen as 64-bit elements (the pairs of two rows), this is a 16×16 transposition that exchanges the two middle
        // numbers of each element.
        #[rustfmt::skip]
        let middle = _mm512_set_epi8(
            15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0, 15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0,
            15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0, 15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0,
        );
        for (rows, columns) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            // SAFETY: an 8×8 quarter of 64-bit elements, inside both blocks.
            unsafe {
                let row = |i: usize| {
                    let x = _mm512_loadu_si512(from.add((rows + i) * 32 + 2 * columns).cast());
                    _mm512_shuffle_epi8(x, middle)
                };
                let x: [__m512i; 8] = std::array::from_fn(row);
                // Pairs of rows: even and odd columns.
                let a: [__m512i; 8] = std::array::from_fn(|i| {
                    let (low, high) = (x[i & !1], x[i | 1]);
                    if i % 2 == 0 {
                        _mm512_unpacklo_epi64(low, high)
                    } else {
                        _mm512_unpackhi_epi64(low, high)
                    }
                });
                // a[2p + s] holds, in 128-bit lane l, column 2l + s of rows 2p and 2p + 1.
                for s in 0..2 {
                    let b0 = _mm512_shuffle_i64x2::<0b10_00_10_00>(a[s], a[2 + s]);
                    let b1 = _mm512_shuffle_i64x2::<0b10_00_10_00>(a[4 + s], a[6 + s]);
                    let b2 = _mm512_shuffle_i64x2::<0b11_01_11_01>(a[s], a[2 + s]);
                    let b3 = _mm512_shuffle_i64x2::<0b11_01_11_01>(a[4 + s], a[6 + s]);
                    let put = |lane: usize, v: __m512i| {
                        let q = columns + 2 * lane + s;
                        _mm512_storeu_si512(to.add(q * 32 + 2 * rows).cast(), v);
                    };
                    put(0, _mm512_shuffle_i64x2::<0b10_00_10_00>(b0, b1));
                    put(2, _mm512_shuffle_i64x2::<0b11_01_11_01>(b0, b1));
                    put(1, _mm512_shuffle_i64x2::<0b10_00_10_00>(b2, b3));
                    put(3, _mm512_shuffle_i64x2::<0b11_01_11_01>(b2, b3));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tile::lacks_bf16;
    use pavlov_schema::rng::{Rng, Stream};

    #[test]
    fn narrowing_rounds_to_even() {
        assert_eq!(narrow(1.0), 0x3F80);
        assert_eq!(narrow(f32::from_bits(0x3F80_8000)), 0x3F80);
        assert_eq!(narrow(f32::from_bits(0x3F81_8000)), 0x3F82);
        assert_eq!(narrow(f32::from_bits(0x3F80_8001)), 0x3F81);
        assert_eq!(narrow(f32::MAX), 0x7F80);
        assert!(widen(narrow(f32::NAN)).is_nan());
        assert_eq!(widen(narrow(-2.5)), -2.5);
        assert_eq!(widen_pair(pair(1.5, -3.0)), [1.5, -3.0]);
    }

    /// What is split joins to the same bits, and its half is the nearest bf16.
    #[test]
    fn splitting_loses_nothing() {
        let mut rng = Rng::new(7, Stream::Init, 0, 0);
        let special = [0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::MIN_POSITIVE, 1e-40, -1e-45];
        let ties = [0x3F80_8000, 0x3F81_8000, 0xBF80_8000, 0x7F7F_8000].map(f32::from_bits);
        let random: Vec<f32> = (0..100_000).map(|_| f32::from_bits(rng.next_u64() as u32)).collect();
        for x in special.into_iter().chain(ties).chain(random) {
            let (half, rest) = split(x);
            if x.is_nan() {
                assert!(join(half, rest).is_nan() && widen(half as u16).is_nan());
                continue;
            }
            assert_eq!(join(half, rest).to_bits(), x.to_bits(), "{x}");
            let (error, spacing) = (f64::from(widen(half as u16)) - f64::from(x), f64::from(x.abs()) / 128.0);
            let overflows = widen(half as u16).is_infinite();
            assert!(overflows || error.abs() <= spacing / 2.0 + 1e-40, "{x} became {}", widen(half as u16));
        }
    }

    /// The vector conversions give the bits of the plain ones, on ragged lengths and poisoned outputs.
    #[test]
    fn vector_conversions_are_the_plain_ones() {
        if lacks_bf16() {
            return;
        }
        let mut rng = Rng::new(5, Stream::Init, 0, 0);
        for n in [1_usize, 2, 15, 16, 31, 32, 33, 64, 95, 130] {
            let (a, b): (Vec<f32>, Vec<f32>) = (0..n).map(|_| (rng.normal(), rng.normal())).unzip();
            let (mut fast, mut plain) = (vec![u32::MAX; n.div_ceil(2)], vec![0; n.div_ceil(2)]);
            narrow_row(true, &a, &mut fast);
            narrow_row(false, &a, &mut plain);
            assert_eq!(fast, plain);
            for second in [None, Some(&b[..])] {
                let (mut fast, mut plain) = (vec![u32::MAX; n], vec![0; n]);
                interleave(true, &a, second, &mut fast);
                interleave(false, &a, second, &mut plain);
                assert_eq!(fast, plain);
            }
        }
        let from: Vec<u32> = (0..512).map(|_| rng.normal().to_bits()).collect();
        for columns in [1, 7, 16] {
            let (mut fast, mut plain) = ([u32::MAX; 512], [u32::MAX; 512]);
            transpose_pairs(true, &from[..columns * 32], &mut fast);
            transpose_pairs(false, &from[..columns * 32], &mut plain);
            assert_eq!(fast, plain);
            // And the plain one against its definition.
            let at = |o: usize, c: usize| {
                if c / 2 < columns { from[c / 2 * 32 + o] >> (16 * (c % 2)) & 0xFFFF } else { 0 }
            };
            for (q, c) in (0..16).flat_map(|q| (0..32).map(move |c| (q, c))) {
                assert_eq!(plain[q * 32 + c], at(2 * q, c) | at(2 * q + 1, c) << 16, "({q}, {c})");
            }
        }
    }
}
