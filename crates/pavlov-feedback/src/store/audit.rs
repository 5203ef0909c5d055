//! The audit log: who did what to whom. Append-only, as the database itself enforces.

use rusqlite::{Row, params};
use serde_json::Value;

use super::{ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::Result;

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Its place.
    pub seq: u64,
    /// When.
    pub at_ms: Millis,
    /// In which project, if in one.
    pub project: Option<ProjectId>,
    /// Code of the account or token, or `command line`.
    pub actor: String,
    /// What was done, `noun.verb`.
    pub action: String,
    /// To what: a code or name.
    pub object: String,
    /// The rest.
    pub detail: Value,
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        seq: row.get::<_, i64>(0)? as u64,
        at_ms: row.get(1)?,
        project: row.get(2)?,
        actor: row.get(3)?,
        action: row.get(4)?,
        object: row.get(5)?,
        detail: super::projects::json(row, 6)?,
    })
}

impl Read<'_> {
    /// The newest entries before `before` (all: `u64::MAX`), newest first; of one project, or of everything.
    pub fn audit_entries(
        &self,
        project: Option<ProjectId>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>> {
        let sql = "SELECT seq, at_ms, project, actor, action, object, detail FROM audit
                   WHERE seq < ?2 AND (?1 IS NULL OR project = ?1) ORDER BY seq DESC LIMIT ?3";
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        self.list(sql, params![project, before, limit], entry)
    }
}

impl Write<'_> {
    /// Adds an entry, in the same transaction as what it tells of.
    pub fn audit(
        &mut self,
        project: Option<ProjectId>,
        actor: &str,
        action: &str,
        object: &str,
        detail: &Value,
    ) -> Result<()> {
        let sql = "INSERT INTO audit (at_ms, project, actor, action, object, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.insert(sql, params![self.now, project, actor, action, object, detail.to_string()])?;
        Ok(())
    }
}
