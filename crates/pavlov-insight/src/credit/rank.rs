//! Rank correlation: how far two measurements put the same things in the same order.

/// Spearman's ρ, ties counting with their mean rank; `None` where one of the two does not vary or fewer than three
/// things are compared.
///
/// # Panics
/// If the two are not equally long.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "one number of each kind per thing");
    if a.len() < 3 {
        return None;
    }
    pearson(&ranks(a), &ranks(b))
}

/// Pearson's r; `None` where one of the two does not vary.
pub(crate) fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let dot = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    let scale = (dot(a, ma, a, ma) * dot(b, mb, b, mb)).sqrt();
    (scale > 0.0).then(|| dot(a, ma, b, mb) / scale)
}

/// Ranks from 1; equal numbers share their mean rank.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&i, &j| x[i].total_cmp(&x[j]));
    let mut ranks = vec![0.0; x.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|&&i| x[i] <= x[order[start]]).count().max(1);
        let rank = start as f64 + f64::midpoint(equal as f64, 1.0);
        order[start..start + equal].iter().for_each(|&i| ranks[i] = rank);
        start += equal;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        // 1 − 6 Σd²/(n(n²−1)) with d = 0, 1, 1, 0.
        let rho = spearman(&[1.0, 2.0, 3.0, 4.0], &[10.0, 30.0, 20.0, 40.0]).unwrap();
        assert!((rho - 0.8).abs() < 1e-12, "{rho}");
        assert_eq!(spearman(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
    }
}
