//! Arrays on cache-line boundaries: a 64-byte load that crosses a line costs two.
#![expect(unsafe_code, reason = "views an array of cache lines as the elements that it consists of")]

/// Elements of a cache line.
const PER_LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line<T>([T; PER_LINE]);

/// A growable array of four-byte numbers that starts on a cache line.
#[derive(Clone, Default)]
pub struct Buffer<T: Number = f32> {
    lines: Vec<Line<T>>,
    len: usize,
}

/// What a buffer holds: four bytes without padding, all of whose values are valid.
pub trait Number: Copy + Default + Send + Sync + sealed::Sealed {}
impl Number for f32 {}
impl Number for u32 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
}

impl<T: Number> Buffer<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([T::default(); PER_LINE]); len.div_ceil(PER_LINE)], len }
    }

    /// Makes room for `len` numbers, keeping the memory of a larger one; the contents are unspecified.
    pub(crate) fn resize(&mut self, len: usize) {
        if self.lines.len() * PER_LINE < len {
            // A new array, not a grown one: nothing of the old contents is worth copying.
            *self = Self::zeros(len);
        }
        self.len = len;
    }
}

impl<T: Number> Buffer<T> {
    /// The memory of the numbers.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: four-byte numbers without padding, of which any byte may be read.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len * size_of::<T>()) }
    }
}

impl<T: Number> std::ops::Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `Line` is `repr(C)` over 16 numbers without padding, and `len` numbers fit `lines`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
