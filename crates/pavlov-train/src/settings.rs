//! The settings of the loops: each key is defined once, with its default and its help.
//!
//! A configuration is flat: one TOML table, one `--set key=value` a key, one name in `--help`. In the code, keys that
//! several loops share are a struct of their own inside each loop's configuration.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// One key of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name, as the user writes it.
    pub name: &'static str,
    /// Its value where the user gives none; null for none at all.
    pub default: Value,
    /// What it does, with its unit and range.
    pub help: &'static str,
}

/// A configuration that the `settings!` macro defined.
pub trait Settings: Clone + Default {
    /// Takes the keys it knows out of `map`, over the values it has.
    fn take(&mut self, map: &mut Map<String, Value>) -> Result<()>;

    /// Adds every key that has a value to `map`.
    fn put(&self, map: &mut Map<String, Value>);

    /// Names and help texts in the order of definition.
    fn help() -> Vec<(&'static str, &'static str)>;

    /// Refuses values that cannot work, naming the key.
    fn check(&self) -> Result<()>;

    /// Every key, for `--help`.
    fn keys() -> Vec<Key> {
        let defaults = Self::default().to_map();
        let key = |(name, help): (&'static str, &'static str)| {
            let default = defaults.get(name).filter(|value| *value != "").cloned().unwrap_or_default();
            Key { name, default, help: help.trim() }
        };
        Self::help().into_iter().map(key).collect()
    }

    /// The defaults with the values of `map` over them, checked. An unknown key is an error.
    fn from_map(mut map: Map<String, Value>) -> Result<Self> {
        let mut settings = Self::default();
        settings.take(&mut map)?;
        if let Some(unknown) = map.keys().next() {
            let names = Self::help().into_iter().map(|(name, _)| name);
            let mend = match names.min_by_key(|name| distance(name, unknown)) {
                Some(near) if distance(near, unknown) <= 1 + unknown.len() / 3 => {
                    format!("is no key; is {near} meant?")
                }
                _ => "is no key; --help lists the keys".to_owned(),
            };
            return Err(Error::setting(unknown, mend));
        }
        settings.check()?;
        Ok(settings)
    }

    /// Every key that has a value.
    fn to_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        self.put(&mut map);
        map
    }

    /// The configuration as a TOML file, as resolved.
    fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(&self.to_map()).map_err(|e| Error::setting("config", e.to_string()))
    }
}

/// Reads a TOML file of settings.
pub fn read_toml(path: &Path) -> Result<Map<String, Value>> {
    let place = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::setting(&place, format!("cannot read: {e}")))?;
    toml::from_str(&text).map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        Error::setting(&format!("{place}:{line}"), e.message().replace('\n', " "))
    })
}

/// The key of the object by which the TOML parser stands for a date.
const DATE: &str = "$__toml_private_datetime";

/// Reads one `key=value`. The value is TOML where it is that (`3`, `1e-5`, `true`, `["a", "b"]`), else a string.
pub fn read_assignment(text: &str) -> Result<(String, Value)> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::setting(text, "has no `=`; write key=value"));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = toml::from_str::<Map<String, Value>>(&format!("value = {value}")).ok();
    // A date would become an object of the parser's own.
    let parsed = parsed.filter(|map| map.len() == 1 && map["value"].get(DATE).is_none());
    let parsed = parsed.and_then(|mut map| map.shift_remove("value"));
    Ok((key.to_owned(), parsed.unwrap_or_else(|| Value::from(value))))
}

/// Takes one key out of `map` into `value`, if it is there.
pub(crate) fn take_key<T: DeserializeOwned>(
    map: &mut Map<String, Value>,
    key: &str,
    value: &mut T,
) -> Result<()> {
    if let Some(given) = map.shift_remove(key) {
        *value = serde_json::from_value(given).map_err(|e| Error::setting(key, e.to_string()))?;
    }
    Ok(())
}

/// Adds one key to `map` unless it has no value.
pub(crate) fn put_key<T: Serialize>(map: &mut Map<String, Value>, key: &str, value: &T) {
    // Settings are numbers, strings and lists of them: they always have a JSON form.
    if let Ok(value) = serde_json::to_value(value)
        && !value.is_null()
    {
        map.insert(key.to_owned(), value);
    }
}

/// Refuses a setting outside its range. `wanted` completes "must be".
pub(crate) fn require(holds: bool, key: &str, value: impl std::fmt::Display, wanted: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::setting(key, format!("is {value}; it must be {wanted}"))) }
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Defines a configuration: in brackets shared structs (with what this loop changes in their defaults), then the keys of
/// its own. The implementor writes `fn validate(&self) -> Result<()>` for its own keys.
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        pub struct $Name:ident {
            $([$($group:ident: $Group:ident { $($changed:ident: $to:expr),* $(,)? }),* $(,)?])?
            $($(#[doc = $help:literal])* $key:ident: $Type:ty = $default:expr),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $($(
                #[doc = concat!("The keys of [`", stringify!($Group), "`].")]
                pub $group: $Group,
            )*)?
            $($(#[doc = $help])* pub $key: $Type,)*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self {
                    // A group none of whose defaults change is the whole default.
                    $($(
                        #[allow(clippy::needless_update, reason = "the list of changes may be empty or whole")]
                        $group: $Group { $($changed: $to,)* ..$Group::default() },
                    )*)?
                    $($key: $default,)*
                }
            }
        }

        impl $crate::settings::Settings for $Name {
            fn take(&mut self, map: &mut serde_json::Map<String, serde_json::Value>) -> $crate::Result<()> {
                $($($crate::settings::Settings::take(&mut self.$group, map)?;)*)?
                $($crate::settings::take_key(map, stringify!($key), &mut self.$key)?;)*
                Ok(())
            }

            fn put(&self, map: &mut serde_json::Map<String, serde_json::Value>) {
                $($($crate::settings::Settings::put(&self.$group, map);)*)?
                $($crate::settings::put_key(map, stringify!($key), &self.$key);)*
            }

            fn help() -> Vec<(&'static str, &'static str)> {
                #[allow(unused_mut, reason = "a configuration may have no groups")]
                let mut help: Vec<(&'static str, &'static str)> = Vec::new();
                $($(help.extend(<$Group as $crate::settings::Settings>::help());)*)?
                help.extend([$((stringify!($key), concat!($($help),*))),*]);
                help
            }

            fn check(&self) -> $crate::Result<()> {
                $($($crate::settings::Settings::check(&self.$group)?;)*)?
                self.validate()
            }
        }
    };
}
pub(crate) use settings;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro makes public structs")]
mod tests {
    use super::*;
    use serde_json::json;

    settings! {
        /// Shared.
        pub struct Inner {
            /// The seed.
            seed: u64 = 1,
            /// The rate, per step,
            /// above 0.
            rate: f64 = 0.5,
        }
    }

    settings! {
        /// Whole.
        pub struct Outer {
            [inner: Inner { rate: 0.25 }]
            /// A file.
            file: Option<String> = None,
        }
    }

    impl Inner {
        fn validate(&self) -> Result<()> {
            require(self.rate > 0.0, "rate", self.rate, "above 0")
        }
    }

    impl Outer {
        #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the macro's contract")]
        fn validate(&self) -> Result<()> {
            Ok(())
        }
    }

    fn read(value: Value) -> std::result::Result<Outer, String> {
        let Value::Object(map) = value else { panic!("no object") };
        Outer::from_map(map).map_err(|e| e.to_string())
    }

    #[test]
    fn groups_are_flat_and_their_defaults_can_change() {
        let outer = read(json!({"seed": 7, "file": "a"})).unwrap();
        assert_eq!(outer, Outer { inner: Inner { seed: 7, rate: 0.25 }, file: Some("a".into()) });
        assert_eq!(Value::Object(outer.to_map()), json!({"seed": 7, "rate": 0.25, "file": "a"}));
        assert_eq!(outer.to_toml().unwrap(), "seed = 7\nrate = 0.25\nfile = \"a\"\n");
        let again: Map<String, Value> = toml::from_str(&outer.to_toml().unwrap()).unwrap();
        assert_eq!(Outer::from_map(again).unwrap(), outer);
    }

    #[test]
    fn keys_are_listed_with_default_and_help() {
        let keys = Outer::keys();
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        assert_eq!(names, ["seed", "rate", "file"]);
        assert_eq!(
            (&keys[1].default, keys[1].help, &keys[2].default),
            (&json!(0.25), "The rate, per step, above 0.", &Value::Null)
        );
    }

    #[test]
    fn wrong_settings_are_named_with_the_mend() {
        assert_eq!(read(json!({"rat": 1})).unwrap_err(), "rat: is no key; is rate meant?");
        assert_eq!(read(json!({"zzzzzzzzz": 1})).unwrap_err(), "zzzzzzzzz: is no key; --help lists the keys");
        assert_eq!(read(json!({"rate": 0})).unwrap_err(), "rate: is 0; it must be above 0");
        assert!(read(json!({"seed": -1})).unwrap_err().starts_with("seed: invalid value: integer `-1`"));
    }

    #[test]
    fn assignments_are_toml_or_text() {
        for (text, value) in [
            ("a=3", json!(3)),
            ("a = 1e-5", json!(1e-5)),
            ("a=true", json!(true)),
            ("a=[1, 2]", json!([1, 2])),
            ("a={ model = \"m\" }", json!({"model": "m"})),
            ("a=base/model", json!("base/model")),
            ("a=\"quoted\"", json!("quoted")),
            ("a=x=y", json!("x=y")),
            ("a=2026-01-31", json!("2026-01-31")),
            ("a=", json!("")),
        ] {
            assert_eq!(read_assignment(text).unwrap(), ("a".to_owned(), value), "{text}");
        }
        assert!(read_assignment("a").unwrap_err().to_string().contains("key=value"));
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "seed = 1\nrate = = 2\n").unwrap();
        let error = read_toml(&path).unwrap_err().to_string();
        assert!(error.contains("a.toml:2: "), "{error}");
    }
}
