//! Typed access to a JSON object from a file, with errors that name the file and the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// No layer count, width or vocabulary is larger.
const LARGEST: u64 = 1 << 31;
/// Deeper models do not exist; a larger number would only exhaust the memory.
const MOST_LAYERS: usize = 4096;

/// The keys of a JSON object. A key that is null is taken as absent.
pub(crate) struct Keys<'a> {
    file: &'a Path,
    prefix: String,
    json: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(file: &'a Path, json: &'a Map<String, Value>) -> Self {
        Self { file, prefix: String::new(), json }
    }

    /// The keys of an object under one of these.
    pub(crate) fn inside(&self, key: &str, json: &'a Map<String, Value>) -> Self {
        Self { file: self.file, prefix: format!("{}{key}.", self.prefix), json }
    }

    pub(crate) fn file(&self) -> &Path {
        self.file
    }

    /// Whether the key is there, if only as null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.json.contains_key(key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The error that a key's value is wrong.
    pub(crate) fn wrong(&self, key: &str, what: &str) -> Error {
        Error::file(self.file, format!("key {}{key}: {what}", self.prefix))
    }

    fn required(&self, key: &str) -> Result<&'a Value> {
        self.get(key)
            .ok_or_else(|| self.wrong(key, "it is missing; add it as the model's authors publish it"))
    }

    fn to_size(&self, key: &str, value: &Value) -> Result<usize> {
        match value.as_u64() {
            Some(size) if (1..=LARGEST).contains(&size) => Ok(size as usize),
            _ => Err(self
                .wrong(key, &format!("{} is not a whole number from 1 to 2^31; correct it", short(value)))),
        }
    }

    /// A positive whole number.
    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        self.to_size(key, self.required(key)?)
    }

    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        self.get(key).map_or(Ok(default), |value| self.to_size(key, value))
    }

    /// A whole number that may be 0.
    pub(crate) fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            _ => self.size_or(key, default),
        }
    }

    pub(crate) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| {
            self.wrong(key, &format!("{} is not a number from 0 on; correct it", short(value)))
        })
    }

    /// A required number above 0.
    pub(crate) fn positive(&self, key: &str) -> Result<f64> {
        self.required(key)?;
        match self.number_or(key, 0.0)? {
            number if number > 0.0 => Ok(number),
            _ => Err(self.wrong(key, "it must be positive; correct it")),
        }
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value
            .as_bool()
            .ok_or_else(|| self.wrong(key, &format!("{} is not true or false; correct it", short(value))))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&'a str> {
        let value = self.required(key)?;
        value
            .as_str()
            .ok_or_else(|| self.wrong(key, &format!("{} is not a string; correct it", short(value))))
    }

    pub(crate) fn text_or<'b>(&self, key: &str, default: &'b str) -> Result<&'b str>
    where
        'a: 'b,
    {
        if self.get(key).is_some() { self.text(key) } else { Ok(default) }
    }

    /// One value a layer.
    pub(crate) fn repeated(&self, window: Option<usize>, layers: usize) -> Result<Vec<Option<usize>>> {
        if layers > MOST_LAYERS {
            let what = format!(
                "{layers} layers are more than the {MOST_LAYERS} that a file can ask for; correct it"
            );
            return Err(self.wrong("number of layers", &what));
        }
        Ok(vec![window; layers])
    }
}

/// A value as JSON, cut where it gets long.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
