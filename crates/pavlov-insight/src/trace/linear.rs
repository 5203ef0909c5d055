//! Damped second moments of features and their inverse, block by block.

use std::ops::Range;

/// The second moment of feature vectors, one square block for each part of them.
#[derive(Clone, Debug)]
pub struct SecondMoment {
    blocks: Vec<(Range<usize>, Vec<f64>)>,
    n: usize,
}

/// The Cholesky factors of the damped blocks.
#[derive(Clone, Debug)]
pub struct Preconditioner {
    blocks: Vec<(Range<usize>, Vec<f64>)>,
}

impl SecondMoment {
    /// Zeros, for vectors with these parts.
    pub fn new(parts: impl Iterator<Item = Range<usize>>) -> Self {
        Self { blocks: parts.map(|part| (part.clone(), vec![0.0; part.len() * part.len()])).collect(), n: 0 }
    }

    /// Bytes of one for such parts.
    pub fn bytes(parts: impl Iterator<Item = Range<usize>>) -> u64 {
        parts.map(|part| (part.len() as u64).saturating_pow(2).saturating_mul(size_of::<f64>() as u64)).sum()
    }

    /// Adds a vector's outer products.
    pub fn add(&mut self, vector: &[f32]) {
        self.n += 1;
        for (part, block) in &mut self.blocks {
            let values = &vector[part.clone()];
            // The lower triangle.
            for (i, x) in values.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                let row = &mut block[i * values.len()..][..=i];
                row.iter_mut().zip(values).for_each(|(sum, y)| *sum += f64::from(x * y));
            }
        }
    }

    /// The inverse of each block's mean plus λ times the mean of its diagonal (LoGra's damping; λ = 0.1 there).
    pub fn damped(&self, lambda: f64) -> Preconditioner {
        let blocks = self.blocks.iter().map(|(part, block)| {
            let width = part.len();
            let mut mean: Vec<f64> = block.iter().map(|x| x / self.n.max(1) as f64).collect();
            let diagonal = (0..width).map(|i| mean[i * width + i]).sum::<f64>() / width as f64;
            // A block that never had a gradient stays one: it adds nothing.
            let added = if diagonal > 0.0 { lambda * diagonal } else { 1.0 };
            (0..width).for_each(|i| mean[i * width + i] += added);
            cholesky(&mut mean, width);
            (part.clone(), mean)
        });
        Preconditioner { blocks: blocks.collect() }
    }
}

/// The lower factor, in place of the lower triangle of a positive definite matrix.
fn cholesky(a: &mut [f64], n: usize) {
    for j in 0..n {
        for i in j..n {
            let (head, tail) = a.split_at(i * n);
            let row_j = if i == j { &tail[..j] } else { &head[j * n..j * n + j] };
            let sum: f64 = tail[..j].iter().zip(row_j).map(|(x, y)| x * y).sum();
            let value = a[i * n + j] - sum;
            a[i * n + j] = if i == j { value.max(f64::MIN_POSITIVE).sqrt() } else { value / a[j * n + j] };
        }
    }
}

impl Preconditioner {
    /// L⁻¹v: inner products of these are those of v in the inverse of the second moment.
    pub fn whiten(&self, vector: &[f32]) -> Vec<f32> {
        let mut white = vec![0.0; vector.len()];
        for (part, factor) in &self.blocks {
            let n = part.len();
            let mut solved = vec![0.0_f64; n];
            for i in 0..n {
                let sum: f64 = factor[i * n..i * n + i].iter().zip(&solved).map(|(l, x)| l * x).sum();
                solved[i] = (f64::from(vector[part.start + i]) - sum) / factor[i * n + i];
            }
            white[part.clone()].iter_mut().zip(&solved).for_each(|(w, x)| *w = *x as f32);
        }
        white
    }

    /// L⁻ᵀL⁻¹v: the damped inverse times v.
    pub fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let white = self.whiten(vector);
        let mut solved = vec![0.0; vector.len()];
        for (part, factor) in &self.blocks {
            let n = part.len();
            let mut x: Vec<f64> = white[part.clone()].iter().map(|w| f64::from(*w)).collect();
            for i in (0..n).rev() {
                x[i] /= factor[i * n + i];
                let xi = x[i];
                x[..i].iter_mut().zip(&factor[i * n..i * n + i]).for_each(|(x, l)| *x -= l * xi);
            }
            solved[part.clone()].iter_mut().zip(&x).for_each(|(s, x)| *s = *x as f32);
        }
        solved
    }
}

/// Inner product.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums side by side, which the compiler keeps in one register.
    let mut sums = [0.0_f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().map(|x| f64::from(*x)).sum::<f64>() + f64::from(rest)
}

/// Length; never 0, so that it can be divided by.
pub fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt().max(1e-30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_damped_inverse_is_one() {
        let vectors = [[1.0_f32, 2.0, 3.0], [0.5, -1.0, 1.0], [2.0, 0.0, -1.0], [0.0, 1.0, 4.0]];
        let mut moment = SecondMoment::new([0..2, 2..3].into_iter());
        for vector in &vectors {
            moment.add(vector);
        }
        let (lambda, query) = (0.1, [0.3_f32, -0.7, 2.0]);
        let solved = moment.damped(lambda).apply(&query);
        let mean = |i: usize, j: usize| vectors.iter().map(|v| f64::from(v[i] * v[j])).sum::<f64>() / 4.0;
        let damping = lambda * f64::midpoint(mean(0, 0), mean(1, 1));
        for (i, wanted) in query.iter().enumerate().take(2) {
            let row: f64 = (0..2)
                .map(|j| (mean(i, j) + if i == j { damping } else { 0.0 }) * f64::from(solved[j]))
                .sum();
            assert!((row - f64::from(*wanted)).abs() < 1e-6, "{row}");
        }
        assert!((f64::from(solved[2]) - 2.0 / (1.1 * mean(2, 2))).abs() < 1e-6);
        let white = moment.damped(lambda).whiten(&query);
        assert!((dot(&white, &white) - dot(&query, &solved)).abs() < 1e-5);
    }

    #[test]
    fn a_block_without_gradients_adds_nothing() {
        let mut moment = SecondMoment::new(std::iter::once(0..2));
        moment.add(&[0.0, 0.0]);
        assert_eq!(moment.damped(0.1).apply(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn products_of_any_length() {
        for n in [0, 1, 7, 8, 19] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(dot(&a, &a), (0..n).map(|i| (i * i) as f64).sum::<f64>());
        }
    }
}
