//! Where the answers about a run are kept: `RUN/insight/NAME.json`, whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The file of one question.
pub fn path(run: &Path, name: &str) -> PathBuf {
    run.join("insight").join(format!("{name}.json"))
}

/// Keeps a report in its run.
pub fn save(run: &Path, name: &str, report: &impl Serialize) -> Result<PathBuf> {
    let path = path(run, name);
    let folder = path.parent().unwrap_or(run);
    fs::create_dir_all(folder)
        .map_err(|e| Error::Kept { file: folder.to_owned(), what: format!("cannot be made: {e}") })?;
    pavlov_schema::files::write_atomic(&path, |file| {
        serde_json::to_writer_pretty(file, report).map_err(io::Error::other)
    })?;
    Ok(path)
}

/// Reads a report; `None` where the question was not asked of this run.
pub fn load<T: DeserializeOwned>(run: &Path, name: &str) -> Result<Option<T>> {
    let path = path(run, name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::Kept { file: path, what: e.to_string() }),
    };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::Kept {
        file: path,
        what: format!("{e}; another version may have written it: run the command again"),
    })
}
