//! The few ways in which the nouns talk to SQLite.

use rusqlite::{OptionalExtension, Params, Row};

use super::{Read, Write};
use crate::error::{Error, Result};

impl Read<'_> {
    /// The first row, if there is one.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.db.prepare_cached(sql)?.query_row(parameters, row).optional()?)
    }

    /// All rows.
    pub(super) fn list<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(parameters, row)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether there is a row.
    pub(super) fn exists(&self, sql: &str, parameters: impl Params) -> Result<bool> {
        Ok(self.db.prepare_cached(sql)?.exists(parameters)?)
    }

    /// The first column of the one row that there always is.
    pub(super) fn count(&self, sql: &str, parameters: impl Params) -> Result<u64> {
        Ok(self.db.prepare_cached(sql)?.query_row(parameters, |row| row.get::<_, i64>(0))?.max(0) as u64)
    }
}

impl Write<'_> {
    /// Runs a statement; the number of rows it changed.
    pub(super) fn execute(&self, sql: &str, parameters: impl Params) -> Result<usize> {
        Ok(self.db.prepare_cached(sql)?.execute(parameters)?)
    }

    /// Adds a row; its number.
    pub(super) fn insert(&self, sql: &str, parameters: impl Params) -> Result<i64> {
        Ok(self.db.prepare_cached(sql)?.insert(parameters)?)
    }

    /// Changes the one row there must be.
    pub(super) fn change_one(&self, sql: &str, parameters: impl Params, what: &'static str) -> Result<()> {
        match self.execute(sql, parameters)? {
            0 => Err(Error::NotFound(what)),
            _ => Ok(()),
        }
    }
}
