//! The whole log of a project as rows of one format: however long it is, one page of it is in memory.

use std::collections::BTreeMap;

use super::export::{Format, export};
use crate::error::Result;
use crate::store::{ProjectId, Store};

/// Records in a page.
const PAGE: u32 = 1_000;

/// Pages of JSON lines, of the log as it was sealed when they were begun. Reads on threads that may wait.
#[derive(Debug)]
pub struct Pages {
    store: Store,
    project: ProjectId,
    format: Format,
    /// The last record that belongs to it.
    through: u64,
    /// The last record that was read; none after the end.
    after: Option<u64>,
    so_far: SoFar,
}

/// What was read until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Sealed records.
    pub records: usize,
    /// Rows that became of them.
    pub rows: usize,
    /// Why records are no rows, and how many.
    pub left_out: BTreeMap<&'static str, usize>,
}

impl Pages {
    /// Seals what is due, which ends the export there.
    ///
    /// # Panics
    /// In async code; so does the iterator.
    pub fn begin(store: &Store, project: ProjectId, format: Format) -> Result<Self> {
        let through = store.write_now(move |w| w.seal(project))?;
        Ok(Self { store: store.clone(), project, format, through, after: Some(0), so_far: SoFar::default() })
    }

    /// The last record of the log that can be in it.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// What was read until now.
    pub fn so_far(&self) -> &SoFar {
        &self.so_far
    }

    fn page(&mut self, after: u64) -> Result<String> {
        let (project, through) = (self.project, self.through);
        let versions = self.store.read_now(move |r| r.versions(project, after, through, PAGE))?;
        let full = versions.len() == PAGE as usize;
        self.after = versions.last().map(|last| last.record.seq).filter(|_| full);
        let made = export(&versions, self.format);
        self.so_far.records += versions.len();
        self.so_far.rows += made.rows.len();
        for (why, n) in &made.left_out {
            *self.so_far.left_out.entry(why).or_default() += n;
        }
        Ok(made.lines())
    }
}

impl Iterator for Pages {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let after = self.after.take()?;
        Some(self.page(after))
    }
}
