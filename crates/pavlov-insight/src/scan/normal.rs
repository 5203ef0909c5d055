//! The normal distribution, for signal detection and for alarms.

/// The quantile z with Φ(z) = p: ∓∞ at 0 and 1. Wichura's algorithm AS 241 (PPND7), to seven figures.
pub fn quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        let above = ((59.109_374_720 * r + 159.291_132_02) * r + 50.434_271_938) * r + 3.387_132_717_9;
        let below = ((67.187_563_600 * r + 78.757_757_664) * r + 17.895_169_469) * r + 1.0;
        return q * above / below;
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let z = if r <= 5.0 {
        let r = r - 1.6;
        let above = ((0.170_238_210_3 * r + 1.306_728_481_6) * r + 2.756_815_390_0) * r + 1.423_437_277_7;
        above / ((0.120_211_328_80 * r + 0.737_001_642_50) * r + 1.0)
    } else {
        let r = r - 5.0;
        let above = ((0.017_337_203_997 * r + 0.428_682_943_37) * r + 3.081_226_389_0) * r + 6.657_905_115_0;
        above / ((0.012_258_202_635 * r + 0.241_978_940_82) * r + 1.0)
    };
    if q < 0.0 { -z } else { z }
}

/// 1 − Φ(z), by inverting [`quantile`]: p-values need few figures.
pub fn upper_tail(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    // Bisection on log p: −z is the quantile of the upper tail.
    let (mut low, mut high) = (-745.0_f64, 0.5_f64.ln());
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if quantile(middle.exp()) < -z { low = middle } else { high = middle }
    }
    high.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_tables() {
        // Abramowitz and Stegun, table 26.1, and AS 241's own check values.
        for (p, z) in [
            (0.5, 0.0),
            (0.975, 1.959_964),
            (0.25, -0.674_489_7),
            (0.001, -3.090_232_3),
            (1e-20, -9.262_340_1),
        ] {
            assert!((quantile(p) - z).abs() < 2e-6 * (1.0 + z.abs()), "{p}: {}", quantile(p));
        }
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
    }

    #[test]
    fn tails_invert_quantiles() {
        for (z, p) in
            [(0.0, 0.5), (1.644_854, 0.05), (-1.644_854, 0.95), (3.090_232, 0.001), (6.0, 9.866e-10)]
        {
            assert!((upper_tail(z) / p - 1.0).abs() < 1e-4, "{z}: {}", upper_tail(z));
        }
    }
}
