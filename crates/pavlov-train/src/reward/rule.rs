//! Rewards that need no model: a closed list of rules.

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::reference::{reference_error, references};
use super::{Completion, number};
use crate::{Error, Result};

/// What a length counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Tokens, the end token included.
    #[default]
    Tokens,
    /// Characters (Unicode scalar values).
    Chars,
}

/// A built-in reward, as the configuration names it: `{ rule = "numeric", column = "answer" }`.
///
/// A `column` holds the reference: text, a number, or a list of either of which any one will do. A null
/// reference makes the rule not apply; a missing column is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// 1 if the completion is the reference, white space at the ends aside; else 0.
    Exact {
        /// The reference's column.
        column: String,
        /// Whether capitals and small letters are the same.
        #[serde(default)]
        ignore_case: bool,
    },
    /// 1 if the pattern is found in the completion; with a column, if in addition its first group (the whole
    /// match when it has none) is the reference; else 0. The syntax is that of the `regex` crate: no
    /// look-around, linear time.
    Regex {
        /// The pattern to find; its first match counts.
        pattern: String,
        /// The reference's column.
        #[serde(default)]
        column: Option<String>,
    },
    /// 1 if the completion answers with the reference's number, as GSM8K does it: the number after `####`,
    /// else the last one; commas, currency signs and trailing zeros aside; else 0.
    Numeric {
        /// The reference's column.
        column: String,
    },
    /// 1 at the target length, falling linearly to 0 at none and at twice the target: 1 − min(1, |n −
    /// target|/target).
    Length {
        /// What is counted.
        #[serde(default)]
        unit: LengthUnit,
        /// The length wanted, at least 1.
        target: usize,
    },
    /// DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13): 0 up to `max` − `buffer`, then falling
    /// linearly to −1 at `max`, and −1 beyond.
    SoftOverlong {
        /// What is counted.
        #[serde(default)]
        unit: LengthUnit,
        /// The length from which on the punishment is whole.
        max: usize,
        /// The length before `max` over which it grows, from 1 to `max`.
        buffer: usize,
    },
    /// 1 if the pattern matches the whole completion (in which `.` also stands for a line break), else 0.
    Format {
        /// The pattern, without anchors.
        pattern: String,
    },
}

/// A [`Rule`] whose settings have been checked and whose pattern is compiled.
#[derive(Clone, Debug)]
pub struct RuleReward {
    rule: Rule,
    pattern: Option<Regex>,
}

impl Rule {
    /// Its kind, which names it in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact { .. } => "exact",
            Self::Regex { .. } => "regex",
            Self::Numeric { .. } => "numeric",
            Self::Length { .. } => "length",
            Self::SoftOverlong { .. } => "soft_overlong",
            Self::Format { .. } => "format",
        }
    }
}

impl RuleReward {
    /// Checks the rule. Errors: a pattern that is none, or a length that cannot be.
    pub fn new(rule: Rule) -> Result<Self> {
        let setting =
            |key: &str, problem: String| Err(Error::Setting { key: format!("rewards.{key}"), problem });
        let pattern = match &rule {
            // The pattern must stand alone, so that it cannot close the group that is put around it.
            Rule::Format { pattern } if Regex::new(pattern).is_ok() => Some(format!(r"\A(?s:{pattern})\z")),
            Rule::Regex { pattern, .. } | Rule::Format { pattern } => Some(pattern.clone()),
            Rule::Length { target: 0, .. } => {
                return setting("target", "is 0; give a length of at least 1".into());
            }
            Rule::SoftOverlong { max, buffer, .. } if *buffer == 0 || buffer > max => {
                return setting("buffer", format!("is {buffer}; give a length from 1 to max = {max}"));
            }
            Rule::Exact { .. } | Rule::Numeric { .. } | Rule::Length { .. } | Rule::SoftOverlong { .. } => {
                None
            }
        };
        match pattern.as_deref().map(Regex::new).transpose() {
            Ok(pattern) => Ok(Self { rule, pattern }),
            Err(error) => {
                // The message has several lines, the last of which says what is wrong.
                let reason = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                setting("pattern", format!("is not a regular expression: {reason}"))
            }
        }
    }

    /// Reward points of every completion.
    pub fn score(&self, completions: &[Completion]) -> Result<Vec<Option<f64>>> {
        completions.iter().enumerate().map(|(row, completion)| self.score_one(row, completion)).collect()
    }

    fn score_one(&self, row: usize, completion: &Completion) -> Result<Option<f64>> {
        let text = completion.text;
        let points = match &self.rule {
            Rule::Exact { column, ignore_case } => {
                let fold = |text: &str| if *ignore_case { text.to_lowercase() } else { text.to_owned() };
                let same = |reference: &String| fold(reference.trim()) == fold(text.trim());
                return Ok(references(self.rule.name(), row, completion, column)?
                    .map(|all| truth(all.iter().any(same))));
            }
            Rule::Regex { column, .. } => {
                let pattern = self.pattern.as_ref();
                // A group that took no part in the match gives nothing to compare.
                let group = usize::from(column.is_some() && pattern.is_some_and(|p| p.captures_len() > 1));
                let found =
                    pattern.and_then(|pattern| pattern.captures(text)).and_then(|found| found.get(group));
                let Some(column) = column else { return Ok(Some(truth(found.is_some()))) };
                let same =
                    |reference: &String| found.is_some_and(|found| found.as_str().trim() == reference.trim());
                return Ok(references(self.rule.name(), row, completion, column)?
                    .map(|all| truth(all.iter().any(same))));
            }
            Rule::Numeric { column } => return self.numeric(row, completion, column),
            Rule::Length { unit, target } => {
                let off = length(*unit, completion).abs_diff(*target) as f64 / *target as f64;
                1.0 - off.min(1.0)
            }
            Rule::SoftOverlong { unit, max, buffer } => {
                let over = length(*unit, completion).saturating_sub(max - buffer);
                -(over as f64 / *buffer as f64).min(1.0)
            }
            Rule::Format { .. } => truth(self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))),
        };
        Ok(Some(points))
    }

    fn numeric(&self, row: usize, completion: &Completion, column: &str) -> Result<Option<f64>> {
        let Some(references) = references(self.rule.name(), row, completion, column)? else {
            return Ok(None);
        };
        let given = number::answer(completion.text);
        let mut same = false;
        for reference in references {
            let wanted = number::answer(&reference).ok_or_else(|| {
                reference_error(
                    self.rule.name(),
                    row,
                    column,
                    "holds no number; mend the data or use another rule",
                )
            })?;
            same |= given.as_ref() == Some(&wanted);
        }
        Ok(Some(truth(same)))
    }
}

fn length(unit: LengthUnit, completion: &Completion) -> usize {
    match unit {
        LengthUnit::Tokens => completion.tokens,
        LengthUnit::Chars => completion.text.chars().count(),
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[cfg(test)]
mod tests {
    use pavlov_schema::text::Text;
    use serde_json::{Value, json};

    use super::*;

    fn score(rule: Value, text: &str, tokens: usize, columns: Value) -> Result<Option<f64>> {
        let rule = RuleReward::new(serde_json::from_value(rule).unwrap())?;
        let (prompt, columns) = (Text::Plain("?".into()), serde_json::from_value(columns).unwrap());
        let scores = rule.score(&[Completion { prompt: &prompt, text, tokens, columns: &columns }])?;
        assert_eq!(scores.len(), 1);
        Ok(scores[0])
    }

    #[track_caller]
    fn assert_scores(rule: &Value, columns: &Value, expected: &[(&str, f64)]) {
        for (text, points) in expected {
            assert_eq!(score(rule.clone(), text, 0, columns.clone()).unwrap(), Some(*points), "{text}");
        }
    }

    #[test]
    fn exact() {
        let columns = json!({"answer": "the tin", "any": ["tin", "box"], "n": 7});
        let rule = json!({"rule": "exact", "column": "answer"});
        assert_scores(&rule, &columns, &[(" the tin\n", 1.0), ("The tin", 0.0), ("the tin.", 0.0)]);
        let rule = json!({"rule": "exact", "column": "any", "ignore_case": true});
        assert_scores(&rule, &columns, &[("BOX", 1.0), ("tin", 1.0), ("bag", 0.0)]);
        assert_scores(&json!({"rule": "exact", "column": "n"}), &columns, &[("7", 1.0)]);
    }

    #[test]
    fn regex() {
        let columns = json!({"answer": "B"});
        let found = json!({"rule": "regex", "pattern": "(?i)because"});
        assert_scores(&found, &columns, &[("Because.", 1.0), ("So.", 0.0)]);
        let same = json!({"rule": "regex", "pattern": r"answer: (\w)", "column": "answer"});
        assert_scores(&same, &columns, &[("answer: B", 1.0), ("answer: A", 0.0), ("B", 0.0)]);
        // The whole match is "B", but the group that would hold the answer took no part in it.
        let optional = json!({"rule": "regex", "pattern": "(?:is (.))?B", "column": "answer"});
        assert_scores(&optional, &columns, &[("B", 0.0), ("is BB", 1.0)]);
    }

    #[test]
    fn numeric() {
        let columns = json!({"answer": "2 * 21 = 42\n#### 42", "n": -1.5});
        let rule = json!({"rule": "numeric", "column": "answer"});
        assert_scores(
            &rule,
            &columns,
            &[("so #### $42.00", 1.0), ("it is 42", 1.0), ("#### 43", 0.0), ("", 0.0)],
        );
        assert_scores(&json!({"rule": "numeric", "column": "n"}), &columns, &[("-1.50", 1.0), ("1.5", 0.0)]);
    }

    #[test]
    fn lengths() {
        let target = json!({"rule": "length", "target": 4, "unit": "chars"});
        assert_scores(&target, &json!({}), &[("äöüß", 1.0), ("abc", 0.75), ("abcdefgh", 0.0), ("", 0.0)]);
        let overlong = json!({"rule": "soft_overlong", "max": 10, "buffer": 4});
        for (tokens, points) in [(6, 0.0), (7, -0.25), (10, -1.0), (99, -1.0)] {
            assert_eq!(score(overlong.clone(), "", tokens, json!({})).unwrap(), Some(points));
        }
    }

    #[test]
    fn format_must_match_the_whole() {
        let rule = json!({"rule": "format", "pattern": "<think>.*</think>.+|none"});
        let expected =
            [("<think>a\nb</think>c", 1.0), ("x<think></think>c", 0.0), ("none", 1.0), ("none.", 0.0)];
        assert_scores(&rule, &json!({}), &expected);
    }

    #[test]
    fn null_does_not_apply() {
        let rule = json!({"rule": "numeric", "column": "answer"});
        assert_eq!(score(rule, "7", 1, json!({"answer": null})).unwrap(), None);
    }

    #[test]
    fn bad_rules_and_data_are_named() {
        for (rule, columns, words) in [
            (
                json!({"rule": "regex", "pattern": "("}),
                json!({}),
                "rewards.pattern: is not a regular expression",
            ),
            (json!({"rule": "format", "pattern": "a)|(?:b"}), json!({}), "rewards.pattern"),
            (json!({"rule": "length", "target": 0}), json!({}), "rewards.target"),
            (json!({"rule": "soft_overlong", "max": 3, "buffer": 4}), json!({}), "rewards.buffer"),
            (json!({"rule": "exact", "column": "gold"}), json!({"a": 1}), "column 'gold' is not in the data"),
            (json!({"rule": "exact", "column": "a"}), json!({"a": {}}), "must hold text"),
            (
                json!({"rule": "numeric", "column": "a"}),
                json!({"a": "many"}),
                "completion 0: column 'a' holds no number",
            ),
        ] {
            let error = score(rule, "x", 1, columns).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
        assert!(serde_json::from_value::<Rule>(json!({"rule": "exakt", "column": "a"})).is_err());
        assert!(serde_json::from_value::<Rule>(json!({"rule": "numeric", "column": "a", "x": 1})).is_err());
    }
}
