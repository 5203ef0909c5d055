//! The log of judgments: each time a rater speaks, one record is added.
//!
//! Nothing in the log ever changes. A later record may supersede an earlier one of the same answer: a correction says it
//! anew, an undo takes it back before it was sealed, a retraction after. `answers` holds what follows from the log, and is
//! written with it.

use pavlov_schema::ranking::Order;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::leases::{shown, shown_text};
use super::tasks::{Task, TaskRole, word};
use super::{AccountId, Project, Read, TaskId, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;

/// The longest idempotency key, in bytes.
const LONGEST_KEY: usize = 100;
/// The longest time an answer is believed to take: whoever looked away for a day did not look for a day.
const LONGEST_ACTIVE_MS: u64 = 86_400_000;

/// Why a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// A rater answered.
    Judgment,
    /// A rater said it anew, or an undo brought an earlier version back.
    Correction,
    /// A rater took an answer or a skip back before it was sealed.
    Undo,
    /// An answer was taken back after it was sealed.
    Retraction,
    /// A rater passed a task on.
    Skip,
    /// A reviewer decided.
    Adjudication,
}

/// Where a rater stands with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is answered.
    Answered,
    /// It was passed on.
    Skipped,
    /// The answer was taken back.
    Retracted,
}

/// What the log knows of something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Place in the log.
    pub seq: u64,
    /// Names the record.
    pub id: String,
    /// Why it was written.
    pub kind: LogKind,
    /// Names the task.
    pub task: String,
    /// When it can no longer be undone.
    pub seals_at: Millis,
    /// It had arrived before under the same key; nothing was added.
    pub repeated: bool,
}

/// A row of the log, as far as later records build on it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) id: String,
    pub(super) task: TaskId,
    pub(super) pass: u8,
    pub(super) record: LogKind,
    pub(super) first: i64,
    pub(super) supersedes: Option<i64>,
    pub(super) restores: Option<i64>,
    pub(super) payload: Option<String>,
    pub(super) shown: Option<Order>,
    pub(super) seals_at: Millis,
}

pub(super) const COLUMNS: &str =
    "seq, id, task, pass, record, coalesce(first, seq), supersedes, restores, payload, shown, seals_at_ms";

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get(0)?,
        id: row.get(1)?,
        task: row.get(2)?,
        pass: row.get(3)?,
        record: word(row, 4)?,
        first: row.get(5)?,
        supersedes: row.get(6)?,
        restores: row.get(7)?,
        payload: row.get(8)?,
        shown: shown(row, 9)?,
        seals_at: row.get(10)?,
    })
}

/// A record to be added.
pub(super) struct New<'a> {
    pub(super) project: &'a Project,
    pub(super) task: &'a Task,
    pub(super) rater: AccountId,
    pub(super) pass: u8,
    pub(super) record: LogKind,
    /// The record it supersedes.
    pub(super) after: Option<&'a Entry>,
    pub(super) restores: Option<i64>,
    pub(super) payload: Option<String>,
    pub(super) shown: Option<Order>,
    pub(super) key: &'a str,
    pub(super) active_ms: u64,
}

impl LogKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Judgment => "judgment",
            Self::Correction => "correction",
            Self::Undo => "undo",
            Self::Retraction => "retraction",
            Self::Skip => "skip",
            Self::Adjudication => "adjudication",
        }
    }
}

impl Standing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Skipped => "skipped",
            Self::Retracted => "retracted",
        }
    }
}

impl Read<'_> {
    /// Where a rater stands with a task: 0 is the first look, 1 the swapped repeat, 2 a reviewer's decision.
    pub fn standing(&self, task: TaskId, rater: AccountId, pass: u8) -> Result<Option<Standing>> {
        let sql = "SELECT standing FROM answers WHERE task = ?1 AND rater = ?2 AND pass = ?3";
        self.one(sql, params![task, rater, pass], |row| word(row, 0))
    }

    pub(super) fn entry(&self, seq: i64) -> Result<Entry> {
        let sql = format!("SELECT {COLUMNS} FROM judgments WHERE seq = ?1");
        self.one(&sql, [seq], entry)?.ok_or(Error::NotFound("answer"))
    }

    /// The record that holds of a rater's answer to a task.
    pub(super) fn holding_entry(&self, task: TaskId, rater: AccountId, pass: u8) -> Result<Entry> {
        let sql =
            "SELECT seq FROM answers WHERE task = ?1 AND rater = ?2 AND pass = ?3 AND standing = 'answered'";
        let seq = self.one(sql, params![task, rater, pass], |row| row.get(0))?;
        self.entry(seq.ok_or(Error::NotFound("answer"))?)
    }

    /// What was logged under a key. One key names one thing that was said.
    pub(super) fn logged_before(
        &self,
        rater: AccountId,
        key: &str,
        kinds: &[LogKind],
    ) -> Result<Option<(Entry, Logged)>> {
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(Error::invalid(format!("an idempotency key needs 1 to {LONGEST_KEY} bytes")));
        }
        let sql = format!("SELECT {COLUMNS} FROM judgments WHERE rater = ?1 AND idempotency_key = ?2");
        let Some(found) = self.one(&sql, params![rater, key], entry)? else { return Ok(None) };
        if !kinds.contains(&found.record) {
            let what =
                format!("the idempotency key was used for a {} before; use a new one", found.record.name());
            return Err(Error::Conflict(what));
        }
        let logged = Logged {
            seq: found.seq as u64,
            id: found.id.clone(),
            kind: found.record,
            task: self.task_row(found.task)?.code,
            seals_at: found.seals_at,
            repeated: true,
        };
        Ok(Some((found, logged)))
    }
}

impl Write<'_> {
    /// Adds a record to the log.
    pub(super) fn append(&mut self, new: &New<'_>) -> Result<Logged> {
        let sql = "SELECT seals_at_ms FROM judgments WHERE project = ?1 ORDER BY seq DESC LIMIT 1";
        let latest: Option<Millis> = self.one(sql, [new.project.id], |row| row.get(0))?;
        let window = Millis::from(new.project.settings.undo_window_s) * 1000;
        // Records are sealed in the order of the log, also where the window was made shorter.
        let seals_at = (self.now + window).max(latest.unwrap_or(0));
        let id = secret::code()?;
        let selection = match (new.task.role, new.pass) {
            (TaskRole::Live, 1) => Some("repeat"),
            (TaskRole::Live, _) => new.task.selection.as_deref(),
            (role, _) => Some(role.name()),
        };
        let seq = self.insert(
            "INSERT INTO judgments (id, project, task, rater, pass, record, first, supersedes, restores, payload, shown, selection,
                                    propensity, idempotency_key, at_ms, seals_at_ms, guideline_version, active_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
            params![
                id,
                new.project.id,
                new.task.id,
                new.rater,
                new.pass,
                new.record.name(),
                new.after.map(|after| after.first),
                new.after.map(|after| after.seq),
                new.restores,
                new.payload,
                shown_text(new.shown),
                selection,
                new.task.propensity,
                new.key,
                self.now,
                seals_at,
                new.project.guideline_version,
                new.active_ms.min(LONGEST_ACTIVE_MS) as i64,
            ],
        )?;
        let (kind, task) = (new.record, new.task.code.clone());
        Ok(Logged { seq: seq as u64, id, kind, task, seals_at, repeated: false })
    }

    /// Adds the record that begins an answer, and notes where the rater stands with the task; `said` is the verdict in short.
    pub(super) fn begin(&mut self, new: &New<'_>, standing: Standing, said: &str) -> Result<Logged> {
        let logged = self.append(new)?;
        let sql = "INSERT INTO answers (task, rater, pass, project, first, seq, standing, role, said)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8)";
        let (task, seq) = (new.task, logged.seq as i64);
        let (standing, role) = (standing.name(), task.role.name());
        self.execute(sql, params![task.id, new.rater, new.pass, new.project.id, seq, standing, role, said])?;
        Ok(logged)
    }

    /// Adds a record that takes the place of an earlier one of its answer, and notes that it holds.
    pub(super) fn replace(&mut self, new: &New<'_>, said: &str) -> Result<Logged> {
        let logged = self.append(new)?;
        let sql = "UPDATE answers SET seq = ?4, said = ?5 WHERE task = ?1 AND rater = ?2 AND pass = ?3";
        self.execute(sql, params![new.task.id, new.rater, new.pass, logged.seq as i64, said])?;
        Ok(logged)
    }
}
