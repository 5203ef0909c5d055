//! Rows of Parquet files as JSON objects.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::{Error, Result};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught and becomes an error that names the file: a panic hook has nothing to tell.
pub fn panics_are_caught() -> bool {
    CATCHING.get()
}

/// Calls `on_row` for every row and its number, from 1.
pub(crate) fn read(
    path: &Path,
    mut on_row: impl FnMut(parquet::record::Row, usize) -> std::result::Result<(), String>,
) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    // The reader asserts on some damaged files; such a file is bad input, not a bug of the program.
    CATCHING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let reader = SerializedFileReader::new(file).map_err(|e| damaged(path, &e.to_string()))?;
        let rows = reader.get_row_iter(None).map_err(|e| damaged(path, &e.to_string()))?;
        for (i, row) in rows.enumerate() {
            let row = row.map_err(|e| damaged(path, &e.to_string()))?;
            on_row(row, i + 1).map_err(|what| Error::Row { file: path.to_owned(), row: i + 1, what })?;
        }
        Ok(())
    }));
    CATCHING.set(false);
    result.unwrap_or_else(|_| Err(damaged(path, "its pages contradict its schema")))
}

fn damaged(path: &Path, what: &str) -> Error {
    let line = what.lines().next().unwrap_or_default();
    let line = line.strip_prefix("Parquet error: ").unwrap_or(line);
    // The reader names the Cargo feature that an unusual compression would need.
    let mend = if line.contains("Disabled feature") {
        "write it with zstd, snappy or no compression"
    } else {
        "write it again"
    };
    Error::file(path, format!("cannot be read as Parquet: {line}; {mend}"))
}
