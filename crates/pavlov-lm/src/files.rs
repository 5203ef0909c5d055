//! Reading and writing small files whole.

use std::fs;
use std::io::Write;
use std::path::Path;

use pavlov_schema::files::write_atomic;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// No configuration or tokenizer is larger; a larger file is not one.
const LARGEST: u64 = 512 << 20;

/// The bytes of a file.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(file).map_err(Error::io(file, "read"))?.len();
    if size > LARGEST {
        return Err(Error::file(
            file,
            format!("it has {size} bytes, too many for such a file; fetch it again"),
        ));
    }
    fs::read(file).map_err(Error::io(file, "read"))
}

/// A file that holds a JSON object.
pub(crate) fn read_json(file: &Path) -> Result<Map<String, Value>> {
    serde_json::from_slice(&read(file)?)
        .map_err(|e| Error::file(file, format!("it is not a JSON object ({e}); fetch the file again")))
}

/// A file that holds a JSON object; an empty object if there is no such file.
pub(crate) fn read_json_if_exists(file: &Path) -> Result<Map<String, Value>> {
    if file.exists() { read_json(file) } else { Ok(Map::new()) }
}

/// Writes a file so that the old one stays whole until the new one is.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    Ok(write_atomic(file, |out| out.write_all(bytes))?)
}

/// A JSON object as a file, indented as transformers writes it.
pub(crate) fn write_json(file: &Path, object: &Map<String, Value>) -> Result<()> {
    let mut text = serde_json::to_string_pretty(object).map_err(|e| Error::file(file, e.to_string()))?;
    text.push('\n');
    write(file, text.as_bytes())
}
