//! Small dense matrices: the dozen parameters of a board, never more than some hundreds.

/// Rows of numbers.
pub(super) type Matrix = Vec<Vec<f64>>;

/// Solves `a · x = b` for every column of `b`, by elimination with row exchanges. `None`: `a` is singular.
pub(super) fn solve(mut a: Matrix, mut b: Matrix) -> Option<Matrix> {
    let n = a.len();
    let scale = a.iter().flatten().fold(0.0_f64, |most, x| most.max(x.abs()));
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))?;
        if a[pivot][column].is_nan() || a[pivot][column].abs() <= 1e-13 * scale {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in column + 1..n {
            let factor = a[row][column] / a[column][column];
            subtract(&mut a, row, column, factor);
            subtract(&mut b, row, column, factor);
        }
    }
    for row in (0..n).rev() {
        for (other, factor) in a[row].iter().enumerate().skip(row + 1) {
            subtract(&mut b, row, other, *factor);
        }
        let pivot = a[row][row];
        b[row].iter_mut().for_each(|x| *x /= pivot);
    }
    Some(b)
}

/// `m[row] -= factor · m[other]`.
fn subtract(m: &mut [Vec<f64>], row: usize, other: usize, factor: f64) {
    for column in 0..m[row].len() {
        let taken = factor * m[other][column];
        m[row][column] -= taken;
    }
}

/// The inverse. `None`: singular.
pub(super) fn inverse(a: Matrix) -> Option<Matrix> {
    let n = a.len();
    let unit = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    solve(a, unit)
}

/// `a · b`.
pub(super) fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Matrix {
    let columns = b.first().map_or(0, Vec::len);
    let cell = |row: &[f64], j: usize| row.iter().zip(b).map(|(x, other)| x * other[j]).sum();
    a.iter().map(|row| (0..columns).map(|j| cell(row, j)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverts_by_hand() {
        let a = vec![vec![0.0, 2.0], vec![4.0, 1.0]];
        let inverse = inverse(a.clone()).unwrap();
        assert_eq!(inverse, [[-0.125, 0.25], [0.5, 0.0]]);
        assert_eq!(product(&a, &inverse), [[1.0, 0.0], [0.0, 1.0]]);
        assert!(super::inverse(vec![vec![1.0, 2.0], vec![2.0, 4.0]]).is_none());
    }
}
