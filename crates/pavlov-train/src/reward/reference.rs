//! Reading a rule's reference answers from the data.

use serde_json::Value;

use super::Completion;
use crate::{Error, Result};

/// The reference answers in a column, as texts; `None` for null, to which the rule does not apply.
pub(super) fn references(
    rule: &'static str,
    row: usize,
    completion: &Completion,
    column: &str,
) -> Result<Option<Vec<String>>> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(reference_error(rule, row, column, "must hold text, a number, or a list of them"))
        }
    };
    match completion.columns.get(column) {
        None => Err(reference_error(rule, row, column, "is not in the data; name one that is")),
        Some(Value::Null) => Ok(None),
        Some(Value::Array(values)) => values.iter().map(one).collect::<Result<_>>().map(Some),
        Some(value) => one(value).map(|text| Some(vec![text])),
    }
}

/// What is wrong with the reference of one completion.
pub(super) fn reference_error(rule: &'static str, row: usize, column: &str, problem: &str) -> Error {
    Error::Reference { rule, row, column: column.to_owned(), problem: problem.to_owned() }
}
