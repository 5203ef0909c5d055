//! Eigenvectors of symmetric matrices by Jacobi's rotations.

/// Sweeps after which rotations stop; eight or so are enough at any width.
const SWEEPS: usize = 30;

/// The orthonormal eigenvectors of a symmetric matrix \[n, n\], one a row, by descending eigenvalue.
///
/// # Panics
/// If the matrix has another size.
pub fn eigenvectors(matrix: &[f32], n: usize) -> Vec<f32> {
    assert_eq!(matrix.len(), n * n, "a square matrix");
    let mut a: Vec<f64> = matrix.iter().map(|x| f64::from(*x)).collect();
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let negligible = 1e-24 * a.iter().map(|x| x * x).sum::<f64>() / (n * n).max(1) as f64;
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q].powi(2) > negligible {
                    rotate(&mut a, &mut vectors, n, p, q);
                    turned = true;
                }
            }
        }
        if !turned {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]).then(i.cmp(j)));
    order.iter().flat_map(|i| vectors[i * n..(i + 1) * n].iter().map(|x| *x as f32)).collect()
}

/// The rotation in the plane of p < q after which a\[p, q\] is 0 (Golub and Van Loan, Matrix Computations, 8.5).
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let turn = |x: &mut f64, y: &mut f64| (*x, *y) = (c * (*x - t * *y), c * (t * *x + *y));
    let turn_rows = |of: &mut [f64]| {
        let (head, tail) = of.split_at_mut(q * n);
        head[p * n..][..n].iter_mut().zip(&mut tail[..n]).for_each(|(x, y)| turn(x, y));
    };
    turn_rows(a);
    turn_rows(vectors);
    for row in a.chunks_exact_mut(n) {
        let (mut x, mut y) = (row[p], row[q]);
        turn(&mut x, &mut y);
        (row[p], row[q]) = (x, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_schema::rng::{Rng, Stream};

    #[test]
    fn eigenvectors_by_hand() {
        // Eigenvalues 3 and 1, of (1, 1) and (1, −1).
        let found = eigenvectors(&[2.0, 1.0, 1.0, 2.0], 2);
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert!((found[0] * found[1] - 0.5).abs() < 1e-6 && (found[0].abs() - half).abs() < 1e-6);
        assert!((found[2] * found[3] + 0.5).abs() < 1e-6);
        assert_eq!(eigenvectors(&[1.0, 0.0, 0.0, 5.0], 2), [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_matrix_of_low_rank_is_made_diagonal() {
        let (n, rank) = (37, 5);
        let mut rng = Rng::new(1, Stream::Probe, 0, 0);
        let factor: Vec<f32> = (0..rank * n).map(|_| rng.normal()).collect();
        let entry = |i: usize, j: usize| (0..rank).map(|r| factor[r * n + i] * factor[r * n + j]).sum();
        let matrix: Vec<f32> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
        let found = eigenvectors(&matrix, n);
        let product = |v: &[f32], w: &[f32]| v.iter().zip(w).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let rows: Vec<&[f32]> = found.chunks_exact(n).collect();
        let image = |v: &[f32]| matrix.chunks_exact(n).map(|row| product(row, v) as f32).collect::<Vec<_>>();
        let values: Vec<f64> = rows.iter().map(|v| product(v, &image(v))).collect();
        for (i, v) in rows.iter().enumerate() {
            for (j, w) in rows.iter().enumerate() {
                let wanted = if i == j { [1.0, values[i]] } else { [0.0, 0.0] };
                assert!((product(v, w) - wanted[0]).abs() < 1e-5, "{i}, {j}");
                assert!((product(v, &image(w)) - wanted[1]).abs() < 1e-4, "{i}, {j}");
            }
        }
        assert!(
            values.is_sorted_by(|a, b| a >= &(b - 1e-5)) && values[rank - 1] > 1.0 && values[rank] < 1e-4
        );
    }
}
