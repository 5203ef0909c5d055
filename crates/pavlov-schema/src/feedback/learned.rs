//! What a reward model learned of the judgments so far.

use serde::{Deserialize, Serialize};

/// What a reward model foretold of held-out judgments once it had learned from what was sealed: a point of the curve of accuracy
/// over judgments collected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The run, and no other: its folder's name and a mark of its beginning.
    pub run: String,
    /// The last sealed record that was read. With `run` it names the point: told twice, it is one.
    pub cursor: u64,
    /// Judgments that were learned from.
    pub judgments: u64,
    /// Held-out judgments that `accuracy` is over: decided comparisons, or ratings.
    pub held_out: u64,
    /// Share of them that was foretold.
    pub accuracy: f64,
    /// The lower end of its 95% interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Learned {
    /// The longest name of a run, in characters.
    const LONGEST_RUN: usize = 200;

    /// Checks what the types do not say. The error says what is wrong and the mend.
    pub fn validate(&self) -> Result<(), String> {
        let length = self.run.chars().count();
        if self.run.trim().is_empty() || length > Self::LONGEST_RUN {
            return Err(format!("`run` has {length} characters; name the run in 1 to {}", Self::LONGEST_RUN));
        }
        if self.held_out == 0 {
            return Err("`held_out` is 0; an accuracy is over at least one judgment".into());
        }
        let Self { low, accuracy, high, .. } = *self;
        if !(0.0 <= low && low <= accuracy && accuracy <= high && high <= 1.0) {
            return Err(format!(
                "`accuracy` is {accuracy} between {low} and {high}; give shares from 0 to 1 in that order"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_point_of_the_curve_says_what_is_wrong() {
        let good = json!({"run": "reward-1f", "cursor": 9, "judgments": 8, "held_out": 2, "accuracy": 0.5, "low": 0.1, "high": 0.9});
        let read = |value: Value| serde_json::from_value::<Learned>(value).unwrap().validate();
        read(good.clone()).unwrap();
        for (key, wrong, wanted) in [
            ("run", json!(" "), "name the run"),
            ("held_out", json!(0), "at least one"),
            ("accuracy", json!(0.95), "in that order"),
            ("low", json!(-0.1), "from 0 to 1"),
            ("high", json!(1.1), "from 0 to 1"),
        ] {
            let mut value = good.clone();
            value[key] = wrong;
            assert!(read(value).unwrap_err().contains(wanted), "{key}");
        }
    }
}
