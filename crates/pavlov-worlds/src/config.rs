//! Which worlds are made, and how difficult they are.

use serde::{Deserialize, Serialize};

use crate::error::{Result, require};
use crate::words::{CONTAINERS, NAMES, PLACES, THINGS};
use crate::world::Kind;

/// Relative frequency of each kind of world; any non-negative numbers with a positive sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Things put into containers and carried about.
    pub movement: f64,
    /// Who is taller, older, faster, heavier.
    pub ordering: f64,
    /// How many are left.
    pub counting: f64,
    /// Who is whose mother, grandfather, sister.
    pub family: f64,
    /// Stories of the first, second or fourth kind that contradict themselves.
    pub contradiction: f64,
}

impl Weights {
    /// The weights beside their kinds, in a fixed order.
    pub(crate) fn by_kind(&self) -> [(Kind, f64); 5] {
        [
            (Kind::Movement, self.movement),
            (Kind::Ordering, self.ordering),
            (Kind::Counting, self.counting),
            (Kind::Family, self.family),
            (Kind::Contradiction, self.contradiction),
        ]
    }
}

/// The choices behind a [`Config`], before they are checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Relative frequency of each kind.
    pub kinds: Weights,
    /// Fewest statements in a story, at least 2.
    pub min_statements: usize,
    /// Most statements in a story, at most 12.
    pub max_statements: usize,
    /// How many names there are to choose from, 6 to 16.
    pub people: usize,
    /// How many small things there are to choose from, 2 to 8.
    pub things: usize,
    /// How many containers there are to choose from, 2 to 6.
    pub containers: usize,
    /// How many places there are to choose from, 3 to 8.
    pub places: usize,
    /// Largest number of items somebody has at first, 2 to 12.
    pub largest_start: u8,
    /// Largest number of items given, found or lost at once, 1 to 8.
    pub largest_change: u8,
    /// Probability that an answer in [`statement_text`](crate::statement_text), or the first in
    /// [`careless_answer`](crate::careless_answer), is the right one, 0 to 1.
    pub base_answer_accuracy: f64,
}

/// Checked [`Settings`]: every world they describe can be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Config(Settings);

impl Config {
    /// Checks the settings.
    pub fn new(settings: Settings) -> Result<Self> {
        let s = &settings;
        for (key, value, low, high) in [
            ("max_statements", s.max_statements, 2, 12),
            ("min_statements", s.min_statements, 2, s.max_statements),
            ("people", s.people, 6, NAMES.len()),
            ("things", s.things, 2, THINGS.len()),
            ("containers", s.containers, 2, CONTAINERS.len()),
            ("places", s.places, 3, PLACES.len()),
            ("largest_start", s.largest_start.into(), 2, 12),
            ("largest_change", s.largest_change.into(), 1, 8),
        ] {
            require((low..=high).contains(&value), key, &value, &format!("{low} to {high}"))?;
        }
        for (kind, weight) in s.kinds.by_kind() {
            let allowed = format!("a finite number, 0 or more, for {kind:?}");
            require(weight.is_finite() && weight >= 0.0, "kinds", &weight, &allowed)?;
        }
        let sum: f64 = s.kinds.by_kind().iter().map(|(_, weight)| weight).sum();
        require(sum.is_finite() && sum > 0.0, "kinds", &sum, "weights with a positive, finite sum")?;
        let accuracy = s.base_answer_accuracy;
        require((0.0..=1.0).contains(&accuracy), "base_answer_accuracy", &accuracy, "0 to 1")?;
        Ok(Self(settings))
    }

    /// The built-in demonstration: short stories that a transformer of a million parameters learns in part within
    /// minutes.
    pub fn demo() -> Self {
        Self(Settings {
            kinds: Weights { movement: 0.26, ordering: 0.24, counting: 0.2, family: 0.2, contradiction: 0.1 },
            min_statements: 2,
            max_statements: 3,
            people: 10,
            things: 4,
            containers: 3,
            places: 5,
            largest_start: 5,
            largest_change: 3,
            base_answer_accuracy: 0.5,
        })
    }

    /// Longer stories over the whole lexicon, for models and budgets beyond the demonstration.
    pub fn large() -> Self {
        Self(Settings {
            kinds: Weights {
                movement: 0.24,
                ordering: 0.22,
                counting: 0.22,
                family: 0.2,
                contradiction: 0.12,
            },
            min_statements: 3,
            max_statements: 8,
            people: NAMES.len(),
            things: THINGS.len(),
            containers: CONTAINERS.len(),
            places: PLACES.len(),
            largest_start: 9,
            largest_change: 5,
            base_answer_accuracy: 0.25,
        })
    }

    /// The settings, for changing one and checking again.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// The names stories choose from.
    pub(crate) fn names(&self) -> &'static [&'static str] {
        &NAMES[..self.0.people]
    }

    /// The small things stories choose from.
    pub(crate) fn things(&self) -> &'static [&'static str] {
        &THINGS[..self.0.things]
    }

    /// The containers stories choose from.
    pub(crate) fn containers(&self) -> &'static [&'static str] {
        &CONTAINERS[..self.0.containers]
    }

    /// The places stories choose from.
    pub(crate) fn places(&self) -> &'static [&'static str] {
        &PLACES[..self.0.places]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_pass_their_own_check() {
        for preset in [Config::demo(), Config::large()] {
            assert_eq!(Config::new(preset.settings().clone()), Ok(preset));
        }
    }

    #[test]
    fn an_error_names_the_setting_and_the_range() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Config::demo().settings().clone();
            change(&mut settings);
            Config::new(settings).unwrap_err().to_string()
        };
        assert_eq!(refused(|s| s.people = 3), "people = 3 is out of range: choose 6 to 16");
        assert_eq!(refused(|s| s.min_statements = 4), "min_statements = 4 is out of range: choose 2 to 3");
        assert!(refused(|s| s.kinds.family = f64::NAN).starts_with("kinds = NaN"));
        assert!(refused(|s| s.base_answer_accuracy = 1.5).starts_with("base_answer_accuracy = 1.5"));
        assert!(
            refused(|s| {
                s.kinds =
                    Weights { movement: 0.0, ordering: 0.0, counting: 0.0, family: 0.0, contradiction: 0.0 };
            })
            .contains("positive")
        );
    }
}
