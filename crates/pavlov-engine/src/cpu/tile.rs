//! The one product kernel: a tile of C = A·B with at most [`Isa::rows`] rows and 32 columns.
//!
//! Every element is the fused multiply-add chain `c ← a[k]·b[k] + c` over k in ascending order, whatever the instruction
//! set, the tile's shape or the blocking around it. An element's bits therefore depend on its row of A and its column of
//! B alone: not on the batch, the thread count or the processor.
#![expect(
    unsafe_code,
    reason = "AVX-512 and AVX2 kernels work on raw pointers; tested against the portable kernel"
)]

/// Columns of a tile, and of a panel of B.
pub(crate) const PANEL: usize = 32;

/// Instruction set of the kernels, found once at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit registers and products of bf16 pairs.
    Avx512Bf16,
    /// 512-bit registers.
    Avx512,
    /// 256-bit registers with fused multiply-add.
    Avx2,
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// The widest that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                let bf16 = std::arch::is_x86_feature_detected!("avx512bf16")
                    && std::arch::is_x86_feature_detected!("avx512bw");
                return if bf16 { Self::Avx512Bf16 } else { Self::Avx512 };
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Every instruction set that this processor has, the widest first.
    pub fn available() -> Vec<Self> {
        let all = [Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];
        let widest = Self::detect();
        all.into_iter().skip_while(|isa| *isa != widest).collect()
    }

    /// Whether it multiplies bf16 pairs; the others widen bf16 operands to f32.
    pub fn multiplies_bf16(self) -> bool {
        self == Self::Avx512Bf16
    }

    /// Most rows of a tile: as many as the registers hold accumulators for.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Avx512Bf16 | Self::Avx512 => 14,
            Self::Avx2 => 6,
            Self::Portable => 4,
        }
    }
}

/// Whether a test of the bf16 kernels cannot run on this processor, which it then says.
#[cfg(test)]
pub(crate) fn lacks_bf16() -> bool {
    use std::io::Write;
    let lacks = !Isa::detect().multiplies_bf16();
    if lacks {
        writeln!(std::io::stderr(), "not run: this processor has no AVX512-BF16")
            .expect("standard error is open");
    }
    lacks
}

/// The rows of A: element (or pair) k of row i is at `pointer[i * row + k * col]`.
#[derive(Clone, Copy)]
pub(crate) struct Lhs<T> {
    pub(crate) pointer: *const T,
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// The columns of B: element (k, j) is at `pointer[k * stride + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Rhs {
    pub(crate) pointer: *const f32,
    pub(crate) stride: usize,
}

/// The tile of C: element (i, j) is at `pointer[i * stride + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) pointer: *mut f32,
    pub(crate) stride: usize,
}

/// What the chain starts from.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    /// One value a column.
    Bias(*const f32),
    /// What C holds.
    Accumulate,
}

/// Computes a tile of `rows` × `cols` over `depth` terms.
///
/// # Safety
/// `1 <= rows <= isa.rows()`, `1 <= cols <= 32`; every element that the shapes name must be readable (A, B, bias) or
/// writable (C) and C must not overlap the operands; this processor must have `isa`. Elements of B beyond `cols` are not
/// read.
pub(crate) unsafe fn tile(
    isa: Isa,
    rows: usize,
    cols: usize,
    depth: usize,
    a: Lhs<f32>,
    b: Rhs,
    c: Out,
    start: Start,
) {
    debug_assert!(rows >= 1 && rows <= isa.rows() && (1..=PANEL).contains(&cols));
    // SAFETY: the caller's promises are those of the kernels.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 | Isa::Avx512 => x86::tile_avx512(rows, cols, depth, a, b, c, start),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::tile_avx2(rows, cols, depth, a, b, c, start),
            _ => tile_portable(rows, cols, depth, a, b, c, start),
        }
    }
}

/// # Safety
/// As [`tile`].
unsafe fn tile_portable(rows: usize, cols: usize, depth: usize, a: Lhs<f32>, b: Rhs, c: Out, start: Start) {
    for i in 0..rows {
        let mut sums = [0.0_f32; PANEL];
        for (j, sum) in sums.iter_mut().enumerate().take(cols) {
            // SAFETY: inside the shapes that the caller promises.
            *sum = unsafe {
                match start {
                    Start::Zero => 0.0,
                    Start::Bias(bias) => *bias.add(j),
                    Start::Accumulate => *c.pointer.add(i * c.stride + j),
                }
            };
        }
        for k in 0..depth {
            // SAFETY: as above.
            let x = unsafe { *a.pointer.add(i * a.row + k * a.col) };
            for (j, sum) in sums.iter_mut().enumerate().take(cols) {
                // SAFETY: as above.
                let y = unsafe { *b.pointer.add(k * b.stride + j) };
                *sum = x.mul_add(y, *sum);
            }
        }
        for (j, sum) in sums.iter().enumerate().take(cols) {
            // SAFETY: as above.
            unsafe { *c.pointer.add(i * c.stride + j) = *sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lhs, Out, Rhs, Start};
    use std::arch::x86_64::{
        __m256, __m512, __mmask16, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps,
    };

    impl Rhs {
        /// # Safety
        /// The columns of the masks must be readable at `k`.
        #[target_feature(enable = "avx512f")]
        unsafe fn load512(self, k: usize, low: __mmask16, high: __mmask16) -> (__m512, __m512) {
            // SAFETY: the caller's promise; masked-off lanes are not read.
            unsafe {
                let p = self.pointer.add(k * self.stride);
                if low == 0xFFFF && high == 0xFFFF {
                    (_mm512_loadu_ps(p), _mm512_loadu_ps(p.add(16)))
                } else {
                    (_mm512_maskz_loadu_ps(low, p), _mm512_maskz_loadu_ps(high, p.wrapping_add(16)))
                }
            }
        }

        /// # Safety
        /// All 16 columns from `from` must be readable at `k`.
        #[target_feature(enable = "avx2")]
        unsafe fn load256(self, k: usize, from: usize) -> (__m256, __m256) {
            // SAFETY: the caller's promise.
            unsafe {
                let p = self.pointer.add(k * self.stride + from);
                (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8)))
            }
        }
    }

    /// # Safety
    /// As [`super::tile`].
    pub(super) unsafe fn tile_avx512(
        rows: usize,
        cols: usize,
        depth: usize,
        a: Lhs<f32>,
        b: Rhs,
        c: Out,
        start: Start,
    ) {
        macro_rules! by_rows {
            ($($n:literal)*) => {
                match rows {
                    $($n => if a.row == 1 {
                        kernel512::<$n, true>(cols, depth, a, b, c, start)
                    } else {
                        kernel512::<$n, false>(cols, depth, a, b, c, start)
                    },)*
                    _ => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        // SAFETY: the caller's promises.
        unsafe {
            by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    }

    /// `UNIT`: the rows of A are adjacent (`a.row == 1`, a packed operand), so their addresses are constants.
    #[target_feature(enable = "avx512f")]
    unsafe fn kernel512<const ROWS: usize, const UNIT: bool>(
        cols: usize,
        depth: usize,
        a: Lhs<f32>,
        b: Rhs,
        c: Out,
        start: Start,
    ) {
        let mask = |n: usize| -> __mmask16 { if n >= 16 { 0xFFFF } else { (1_u16 << n) - 1 } };
        let (low, high) = (mask(cols), mask(cols.saturating_sub(16)));
        let row = if UNIT { 1 } else { a.row };
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        // SAFETY: all addresses are inside the operands by the caller's promise; masked-off lanes are not touched.
        unsafe {
            match start {
                Start::Zero => {}
                Start::Bias(bias) => {
                    let pair = [
                        _mm512_maskz_loadu_ps(low, bias),
                        _mm512_maskz_loadu_ps(high, bias.wrapping_add(16)),
                    ];
                    sums = [pair; ROWS];
                }
                Start::Accumulate => {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let p = c.pointer.add(i * c.stride);
                        *sum =
                            [_mm512_maskz_loadu_ps(low, p), _mm512_maskz_loadu_ps(high, p.wrapping_add(16))];
                    }
                }
            }
            if low == 0xFFFF && high == 0xFFFF {
                for k in 0..depth {
                    let (b0, b1) = b.load512(k, 0xFFFF, 0xFFFF);
                    let column = a.pointer.add(k * a.col);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_ps(*column.add(i * row));
                        sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                        sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
                    }
                }
            } else {
                for k in 0..depth {
                    let (b0, b1) = b.load512(k, low, high);
                    let column = a.pointer.add(k * a.col);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_ps(*column.add(i * row));
                        sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                        sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                let p = c.pointer.add(i * c.stride);
                _mm512_mask_storeu_ps(p, low, sum[0]);
                _mm512_mask_storeu_ps(p.wrapping_add(16), high, sum[1]);
            }
        }
    }

    /// # Safety
    /// As [`super::tile`].
    pub(super) unsafe fn tile_avx2(
        rows: usize,
        cols: usize,
        depth: usize,
        a: Lhs<f32>,
        b: Rhs,
        c: Out,
        start: Start,
    ) {
        macro_rules! by_rows {
            ($from:expr, $($n:literal)*) => {
                match rows {
                    $($n => kernel256::<$n>($from, depth, a, b, c, start),)*
                    _ => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        // Whole halves of 16 columns take the vector kernel; a ragged rest takes the portable one.
        let whole = cols / 16;
        // SAFETY: the caller's promises.
        unsafe {
            for half in 0..whole {
                by_rows!(half * 16, 1 2 3 4 5 6);
            }
            if cols > whole * 16 {
                ragged256(rows, whole * 16, cols - whole * 16, depth, a, b, c, start);
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn ragged256(
        rows: usize,
        from: usize,
        cols: usize,
        depth: usize,
        a: Lhs<f32>,
        b: Rhs,
        c: Out,
        start: Start,
    ) {
        // SAFETY: the caller's promises, shifted to column `from`.
        unsafe {
            let b = Rhs { pointer: b.pointer.add(from), ..b };
            let start = match start {
                Start::Bias(bias) => Start::Bias(bias.add(from)),
                other => other,
            };
            let c = Out { pointer: c.pointer.add(from), stride: c.stride };
            super::tile_portable(rows, cols, depth, a, b, c, start);
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn kernel256<const ROWS: usize>(
        from: usize,
        depth: usize,
        a: Lhs<f32>,
        b: Rhs,
        c: Out,
        start: Start,
    ) {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        // SAFETY: all addresses are inside the operands by the caller's promise.
        unsafe {
            match start {
                Start::Zero => {}
                Start::Bias(bias) => {
                    let bias = bias.add(from);
                    sums = [[_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))]; ROWS];
                }
                Start::Accumulate => {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let p = c.pointer.add(i * c.stride + from);
                        *sum = [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))];
                    }
                }
            }
            for k in 0..depth {
                let (b0, b1) = b.load256(k, from);
                let column = a.pointer.add(k * a.col);
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*column.add(i * a.row));
                    sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                let p = c.pointer.add(i * c.stride + from);
                _mm256_storeu_ps(p, sum[0]);
                _mm256_storeu_ps(p.add(8), sum[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_schema::rng::{Rng, Stream};

    /// Every instruction set, shape, operand order and start gives the bits of the plain chain.
    #[test]
    fn every_kernel_is_the_plain_chain() {
        let mut rng = Rng::new(1, Stream::Init, 0, 0);
        for isa in Isa::available() {
            for rows in 1..=isa.rows() {
                for cols in [1, 5, 15, 16, 17, 31, 32] {
                    for depth in [0, 1, 7, 40] {
                        for (transposed, begin) in (0..6).map(|n| (n % 2 == 1, n / 2)) {
                            check(&mut rng, isa, [rows, cols, depth], transposed, begin);
                        }
                    }
                }
            }
        }
    }

    fn check(rng: &mut Rng, isa: Isa, [rows, cols, depth]: [usize; 3], transposed: bool, begin: usize) {
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let a = random(rows * depth);
        let b = random(depth * PANEL);
        let bias = random(PANEL);
        let before = random(rows * 40);
        let mut c = before.clone();
        let lhs = if transposed {
            Lhs { pointer: a.as_ptr(), row: 1, col: rows }
        } else {
            Lhs { pointer: a.as_ptr(), row: depth, col: 1 }
        };
        let rhs = Rhs { pointer: b.as_ptr(), stride: PANEL };
        let start = [Start::Zero, Start::Bias(bias.as_ptr()), Start::Accumulate][begin];
        // SAFETY: the operands above have the shapes named.
        unsafe { tile(isa, rows, cols, depth, lhs, rhs, Out { pointer: c.as_mut_ptr(), stride: 40 }, start) };
        for i in 0..rows {
            for j in 0..40 {
                let mut expected = before[i * 40 + j];
                if j < cols {
                    expected = [0.0, bias[j], expected][begin];
                    for k in 0..depth {
                        let x = a[if transposed { k * rows + i } else { i * depth + k }];
                        expected = x.mul_add(b[k * PANEL + j], expected);
                    }
                }
                assert_eq!(
                    c[i * 40 + j].to_bits(),
                    expected.to_bits(),
                    "{isa:?} {rows}x{cols}x{depth} transposed {transposed} start {begin} at ({i}, {j})"
                );
            }
        }
    }
}
