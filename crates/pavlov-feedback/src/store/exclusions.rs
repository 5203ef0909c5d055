//! Exclusions: answers that neither statistics nor training shall use. Never without a reason, and never a deletion.

use rusqlite::{Row, params};

use super::{AccountId, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;

/// One exclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Names it in addresses and the API.
    pub code: String,
    /// Whose answers.
    pub rater: AccountId,
    /// The one record meant; none means all of the rater's.
    pub seq: Option<u64>,
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: AccountId,
    /// When.
    pub at_ms: Millis,
    /// When it was lifted.
    pub lifted_at: Option<Millis>,
}

fn exclusion(row: &Row<'_>) -> rusqlite::Result<Exclusion> {
    Ok(Exclusion {
        code: row.get(0)?,
        rater: row.get(1)?,
        seq: row.get::<_, Option<i64>>(2)?.map(|seq| seq as u64),
        reason: row.get(3)?,
        by: row.get(4)?,
        at_ms: row.get(5)?,
        lifted_at: row.get(6)?,
    })
}

impl Read<'_> {
    /// All exclusions of a project, lifted ones too, the newest first.
    pub fn exclusions(&self, project: ProjectId) -> Result<Vec<Exclusion>> {
        let sql = "SELECT code, rater, seq, reason, by, at_ms, lifted_at FROM exclusions
                   WHERE project = ?1 ORDER BY id DESC";
        self.list(sql, [project], exclusion)
    }
}

impl Write<'_> {
    /// Excludes a rater's answers, or the one record `seq`. The caller audits it.
    pub fn exclude(
        &mut self,
        project: ProjectId,
        rater: AccountId,
        seq: Option<u64>,
        reason: &str,
        by: AccountId,
    ) -> Result<String> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(Error::invalid("an exclusion needs a reason"));
        }
        let seq = seq.map(|seq| seq as i64);
        if let Some(seq) = seq {
            let sql = "SELECT 1 FROM judgments WHERE seq = ?1 AND project = ?2 AND rater = ?3";
            if !self.exists(sql, params![seq, project, rater])? {
                return Err(Error::NotFound("answer"));
            }
        }
        let code = secret::code()?;
        let sql = "INSERT INTO exclusions (code, project, rater, seq, reason, by, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.insert(sql, params![code, project, rater, seq, reason, by, self.now])?;
        Ok(code)
    }

    /// Lifts an exclusion; it stays in the list.
    pub fn lift_exclusion(&mut self, project: ProjectId, code: &str, by: AccountId) -> Result<()> {
        let sql = "UPDATE exclusions SET lifted_by = ?3, lifted_at = ?4 WHERE project = ?1 AND code = ?2 AND lifted_at IS NULL";
        self.change_one(sql, params![project, code, by, self.now], "exclusion")
    }
}
