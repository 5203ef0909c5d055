//! What training reads: the sealed part of the log.
//!
//! A record is sealed when its window is over. Sealing is itself written down before anything is handed out: whatever the
//! clock does later, a record that training saw is never undone. Among what is sealed, a record that was superseded within its
//! window is not shown: training sees what was meant, and later changes as records of their own.

use pavlov_schema::feedback::{RecordKind, SealedRecord};
use pavlov_schema::judgment::Response;
use rusqlite::{Row, params};

use super::leases::shown;
use super::projects::json;
use super::tasks::{TaskResponse, TaskRole, word};
use super::{ProjectId, Read, Store, Write};
use crate::clock::Millis;
use crate::error::Result;

/// A page of sealed records.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The records, in the order of the log.
    pub records: Vec<SealedRecord>,
    /// Where to go on. At least the cursor that was asked with; also past records that are not shown.
    pub cursor: u64,
    /// There may be more behind the cursor at once.
    pub more: bool,
}

/// A sealed record as an export reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The record.
    pub record: SealedRecord,
    /// Of the sealed records of its answer it is the last one, and no retraction.
    pub holds: bool,
}

impl Store {
    /// The sealed records behind a cursor (0: from the start), at most `limit`. The same cursor gives the same records again, and
    /// whoever stores the cursor with what was learned misses nothing. Excluded answers are left out.
    pub async fn sealed(&self, project: ProjectId, after: u64, limit: u32) -> Result<Sealed> {
        let through = self.write(move |w| w.seal(project)).await?;
        self.read(move |r| r.sealed(project, after, limit, through)).await
    }

    /// [`Self::sealed`] for callers that are not async.
    ///
    /// # Panics
    /// In async code.
    pub fn sealed_now(&self, project: ProjectId, after: u64, limit: u32) -> Result<Sealed> {
        let through = self.write_now(move |w| w.seal(project))?;
        self.read_now(move |r| r.sealed(project, after, limit, through))
    }
}

impl Read<'_> {
    /// The last record that was handed out as sealed.
    pub fn sealed_through(&self, project: ProjectId) -> Result<u64> {
        self.count("SELECT sealed_through FROM projects WHERE id = ?1", [project])
    }

    fn sealed(&self, project: ProjectId, after: u64, limit: u32, through: u64) -> Result<Sealed> {
        let sql = select("");
        let after_row = i64::try_from(after).unwrap_or(i64::MAX);
        let records = self.list(&sql, params![project, after_row, through as i64, limit], record)?;
        let more = limit > 0 && records.len() == limit as usize;
        let cursor = match records.last() {
            Some(last) if more => last.seq,
            None if limit == 0 => after,
            _ => after.max(through),
        };
        Ok(Sealed { records, cursor, more })
    }

    /// The records behind `after` of a log that was sealed up to `through`, at most `limit`, and which of them hold there.
    pub fn versions(&self, project: ProjectId, after: u64, through: u64, limit: u32) -> Result<Vec<Version>> {
        let sql = select(&format!(", {}", holds()));
        let version = |row: &Row<'_>| Ok(Version { record: record(row)?, holds: row.get(19)? });
        self.list(&sql, params![project, after as i64, through as i64, limit], version)
    }
}

/// Sealed records of project ?1 behind ?2 up to ?3, at most ?4: the columns of [`record`], and `more`.
fn select(more: &str) -> String {
    let shown = shown_to_training("j");
    format!(
        "SELECT j.seq, j.id, root.id, j.record, projects.name, tasks.code, tasks.key, tasks.policy_version, tasks.role,
                members.pseudonym, j.at_ms, j.guideline_version, j.active_ms, j.shown, j.propensity, j.pass,
                words.prompt, words.responses, j.payload{more}
         FROM judgments j
         JOIN judgments root ON root.seq = coalesce(j.first, j.seq)
         JOIN projects ON projects.id = j.project
         JOIN tasks ON tasks.id = j.task
         JOIN words ON words.task = j.task
         JOIN members ON members.project = j.project AND members.account = j.rater
         WHERE j.project = ?1 AND j.seq > ?2 AND j.seq <= ?3 AND {shown}
         ORDER BY j.seq LIMIT ?4"
    )
}

/// Whether a record was said, not taken back within its window, and is not excluded.
fn shown_to_training(j: &str) -> String {
    format!(
        "{j}.record IN ('judgment', 'correction', 'retraction', 'adjudication')
         AND NOT EXISTS (SELECT 1 FROM judgments next WHERE next.supersedes = {j}.seq AND next.at_ms < {j}.seals_at_ms)
         AND NOT EXISTS (SELECT 1 FROM exclusions WHERE exclusions.project = {j}.project AND exclusions.rater = {j}.rater
                         AND (exclusions.seq IS NULL OR exclusions.seq IN ({j}.seq, {j}.first)) AND lifted_at IS NULL)"
    )
}

/// Whether record `j` holds among the records up to ?3. Few are superseded at all, and that one look tells.
fn holds() -> String {
    let shown = shown_to_training("later");
    format!(
        "j.record <> 'retraction'
         AND NOT (EXISTS (SELECT 1 FROM judgments next WHERE next.supersedes = j.seq)
                  AND EXISTS (SELECT 1 FROM judgments later WHERE later.task = j.task AND later.first = coalesce(j.first, j.seq)
                              AND later.seq > j.seq AND later.seq <= ?3 AND {shown}))"
    )
}

impl Write<'_> {
    /// Seals whatever is due; the last sealed record.
    pub fn seal(&mut self, project: ProjectId) -> Result<u64> {
        let known = self.sealed_through(project)?;
        let due = self.last_due(project, known)?;
        if due > known {
            let sql = "UPDATE projects SET sealed_through = ?2 WHERE id = ?1";
            self.execute(sql, params![project, due as i64])?;
        }
        Ok(due)
    }

    /// The last record that is due, at least `known`. Sealing times grow with the log, so it is found by halving: the first
    /// reader of a year's log would else hold the writer for a walk over all of it.
    fn last_due(&self, project: ProjectId, known: u64) -> Result<u64> {
        let sql =
            "SELECT coalesce((SELECT seq FROM judgments WHERE project = ?1 ORDER BY seq DESC LIMIT 1), 0)";
        let mut end: u64 = self.count(sql, [project])?;
        let mut due = known;
        while due < end {
            let middle = due + (end - due).div_ceil(2);
            let sql = "SELECT seq, seals_at_ms FROM judgments WHERE project = ?1 AND seq >= ?2 ORDER BY seq LIMIT 1";
            let found = self.one(sql, params![project, middle as i64], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Millis>(1)?))
            })?;
            match found {
                Some((seq, seals_at)) if seals_at <= self.now => due = seq,
                _ => end = middle - 1,
            }
        }
        Ok(due)
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<SealedRecord> {
    let record: RecordKind = word(row, 3)?;
    let responses: Vec<TaskResponse> = json(row, 17)?;
    let responses = responses.into_iter().map(|TaskResponse { id, response }| Response {
        id: Some(id),
        text: response.text,
        policy: response.policy,
        seed: response.seed,
    });
    Ok(SealedRecord {
        seq: row.get::<_, i64>(0)? as u64,
        id: row.get(1)?,
        answer_id: row.get(2)?,
        record,
        project: row.get(4)?,
        task: row.get(5)?,
        key: row.get(6)?,
        policy_version: row.get::<_, i64>(7)? as u64,
        gold: word::<TaskRole>(row, 8)? != TaskRole::Live,
        annotator: row.get(9)?,
        at_ms: row.get(10)?,
        guideline_version: row.get(11)?,
        active_ms: row.get::<_, i64>(12)? as u64,
        shown: shown(row, 13)?,
        propensity: row.get(14)?,
        repeat: row.get::<_, u8>(15)? == 1,
        prompt: json(row, 16)?,
        responses: responses.collect(),
        answer: if record == RecordKind::Retraction { None } else { Some(json(row, 18)?) },
    })
}
