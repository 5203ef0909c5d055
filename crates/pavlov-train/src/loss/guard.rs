//! Guards and stable forms shared by the losses.

/// Largest log-ratio, in nats, that is exponentiated: e²⁰ ≈ 5·10⁸ still multiplies safely in `f32`.
pub const MAX_LOG_RATIO: f64 = 20.0;

/// log(new/old) in nats, clamped to ±[`MAX_LOG_RATIO`]. A token that does not count has log-ratio 0 (ratio
/// 1), never the ratio of whatever numbers fill its place.
pub fn log_ratio(new: f32, old: f32, counts: bool) -> f64 {
    if counts { (new as f64 - old as f64).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO) } else { 0.0 }
}

/// σ(x) = 1/(1 + e⁻ˣ), without overflow on either side.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// log(1 + eˣ), without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// log σ(x) = −softplus(−x).
pub fn log_sigmoid(x: f64) -> f64 {
    -softplus(-x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ratio_is_clamped_and_zero_where_masked() {
        assert_eq!(log_ratio(-1.0, -3.0, true), 2.0);
        assert_eq!(log_ratio(0.0, -100.0, true), 20.0);
        assert_eq!(log_ratio(-100.0, 0.0, true), -20.0);
        assert_eq!(log_ratio(f32::NAN, -1.0, false), 0.0);
    }

    #[test]
    fn stable_forms_hold_at_the_extremes() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!((sigmoid(2.0) - 0.880_797_077_977_882_3).abs() < 1e-15);
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert_eq!(sigmoid(1000.0), 1.0);
        assert_eq!(log_sigmoid(-1000.0), -1000.0);
        assert!((log_sigmoid(0.0) + std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(softplus(1000.0), 1000.0);
    }
}
