//! Statistics of judgments: pure functions from votes to numbers, with their uncertainty.
//!
//! - [`agreement`]: how far people say the same (raw, Cohen's kappa, Krippendorff's alpha);
//! - [`strength`]: how good policies are (Bradley-Terry, Davidson's ties, an order term, terms of [`style`]);
//! - [`people`]: how each rater judges (gold, Dawid-Skene, severity), [`crowd`]: by what they compare (Crowd-BT);
//! - [`bias`]: exact tests of single suspicions;
//! - [`probe`]: whether a board of votes may be believed at all.
//!
//! Raters, items and policies are numbered from 0 by the caller. **Votes on items that were chosen for their information are not
//! a sample of anything**: the caller gives the uniformly chosen part to all but [`people`]. What cannot be said is `None` or
//! [`strength::NotComparable`], never a number.

pub mod agreement;
pub mod bias;
pub mod crowd;
mod law;
mod matrix;
pub mod people;
pub mod probe;
pub mod strength;
pub mod style;

use serde::Serialize;

/// 0.975 quantile of the standard normal: half a 95% interval in standard errors.
pub(crate) const Z95: f64 = 1.959_963_984_540_054;

/// A number with the two ends of its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Interval {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// A share of trials with Wilson's (1927) interval. `None` without a trial.
    pub fn share(hits: usize, trials: usize) -> Option<Self> {
        if trials == 0 {
            return None;
        }
        let (n, p) = (trials as f64, hits as f64 / trials as f64);
        let z2 = Z95 * Z95 / n;
        let middle = (p + z2 / 2.0) / (1.0 + z2);
        let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n)).sqrt() / (1.0 + z2);
        Some(Self { value: p, low: (middle - half).max(0.0), high: (middle + half).min(1.0) })
    }

    /// An estimate with its standard error, taken as normal.
    pub fn normal(value: f64, error: f64) -> Self {
        Self { value, low: value - Z95 * error, high: value + Z95 * error }
    }
}
