//! A copy of the database while it is in use.

use std::fs::{self, File};
use std::path::Path;

use super::{Store, open};
use crate::error::{Error, Result};

impl Store {
    /// Copies the database into a new file while it is in use. Nothing is written beside the database, so that one whose disk is
    /// full can be saved to another. The file is whole or not there.
    ///
    /// # Errors
    /// [`Error::Storage`], which names the new file: it exists, cannot be written, or its disk is full.
    pub fn backup(&self, to: &Path) -> Result<()> {
        let wrong = |what: &str| Error::Storage { file: to.to_owned(), what: what.into() };
        if to.exists() {
            return Err(wrong("exists; name a new file"));
        }
        let name = to.file_name().ok_or_else(|| wrong("names no file; give it a file name"))?;
        let temporary = to.with_file_name(format!(".tmp-{}", name.to_string_lossy()));
        // What a killed backup left.
        drop(fs::remove_file(&temporary));
        let copied = self.copy(&temporary).and_then(|()| {
            let named = File::open(&temporary).and_then(|file| file.sync_all());
            named
                .and_then(|()| fs::rename(&temporary, to))
                .map_err(|error| Error::database(error.to_string()))
        });
        if copied.is_err() {
            drop(fs::remove_file(&temporary));
        }
        copied.map_err(|error| error.in_file(to))
    }

    fn copy(&self, to: &Path) -> Result<()> {
        open::reader(self.path())?.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        Ok(())
    }
}
