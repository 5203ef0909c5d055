//! Taking back what was said: an undo before it is sealed, a retraction at any time.

use pavlov_schema::feedback::Answer;
use rusqlite::params;

use super::judgments::{COLUMNS, Entry, LogKind, Logged, New, entry};
use super::submit::check_reason;
use super::tasks::{Task, TaskRole};
use super::{AccountId, Lease, Project, ProjectId, Write};
use crate::error::{Error, Result};
use crate::queue::settle;

/// What an undo gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Undone {
    /// The record of the undo.
    pub logged: Logged,
    /// The task, held again by the rater; none where an earlier version of the answer holds again.
    pub lease: Option<Lease>,
    /// What was taken back, to begin from; none of a skip.
    pub answer: Option<Answer>,
}

impl Write<'_> {
    /// Takes back the last thing a rater said in a project, if it is not sealed. The task is the rater's again.
    pub fn undo(&mut self, project: ProjectId, rater: AccountId, key: &str) -> Result<Undone> {
        if let Some((before, logged)) =
            self.logged_before(rater, key, &[LogKind::Undo, LogKind::Correction])?
        {
            let taken = before.supersedes.map(|seq| self.entry(seq)).transpose()?;
            let answer = taken.as_ref().and_then(answer_of);
            return Ok(Undone { logged, lease: self.holding(project, rater)?, answer });
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM judgments said WHERE project = ?1 AND rater = ?2 AND record IN ('judgment', 'correction', 'skip')
             AND NOT EXISTS (SELECT 1 FROM judgments later WHERE later.supersedes = said.seq) ORDER BY seq DESC LIMIT 1"
        );
        let last =
            self.one(&sql, params![project, rater], entry)?.ok_or(Error::NotFound("answer to undo"))?;
        self.not_sealed(project, &last)?;
        let project = self.queue(project)?.project.clone();
        let task = self.task_row(last.task)?;
        let answer = answer_of(&last);
        if let Some(earlier) = self.earlier(&last)? {
            let logged = self.bring_back(&project, &task, rater, &last, &earlier, key)?;
            return Ok(Undone { logged, lease: None, answer });
        }
        let logged = self.take_back(&project, &task, rater, &last, key)?;
        let lease = self.lease_again(rater, project.id, task.id, last.pass, last.shown)?;
        Ok(Undone { logged, lease: Some(lease), answer })
    }

    /// Takes an answer back for good, sealed or not. The rater does not get the task again; others may.
    pub fn retract(
        &mut self,
        project: ProjectId,
        rater: AccountId,
        task: &str,
        reason: &str,
        key: &str,
    ) -> Result<Logged> {
        if let Some((_, logged)) = self.logged_before(rater, key, &[LogKind::Retraction])? {
            return Ok(logged);
        }
        check_reason(reason)?;
        let project = self.queue(project)?.project.clone();
        let task = self.task(project.id, task)?;
        let last = self.holding_entry(task.id, rater, 0)?;
        let logged = self.append(&New {
            project: &project,
            task: &task,
            rater,
            pass: 0,
            record: LogKind::Retraction,
            after: Some(&last),
            restores: None,
            payload: Some(serde_json::json!({ "reason": reason }).to_string()),
            shown: last.shown,
            key,
            active_ms: 0,
        })?;
        let sql = "UPDATE answers SET standing = 'retracted', seq = ?4 WHERE task = ?1 AND rater = ?2 AND pass = ?3";
        self.execute(sql, params![task.id, rater, 0, logged.seq as i64])?;
        self.tally_up(project.id, rater, [-1, 0], 0)?;
        self.count_answer(&project, &task, 0, -1)?;
        Ok(logged)
    }

    /// The version of an answer before this record: what an undo of it brings back. None: nothing was said before.
    fn earlier(&self, last: &Entry) -> Result<Option<Entry>> {
        // A record that brought a version back stands for that version.
        let version = last.restores.map(|seq| self.entry(seq)).transpose()?;
        let Some(before) = version.as_ref().unwrap_or(last).supersedes else { return Ok(None) };
        let before = self.entry(before)?;
        match before.restores {
            Some(seq) => self.entry(seq).map(Some),
            None => Ok(Some(before)),
        }
    }

    fn bring_back(
        &mut self,
        project: &Project,
        task: &Task,
        rater: AccountId,
        last: &Entry,
        earlier: &Entry,
        key: &str,
    ) -> Result<Logged> {
        let said = answer_of(earlier).map(|answer| settle::short(&answer.said)).unwrap_or_default();
        let new = New {
            project,
            task,
            rater,
            pass: last.pass,
            record: LogKind::Correction,
            after: Some(last),
            restores: Some(earlier.seq),
            payload: earlier.payload.clone(),
            shown: earlier.shown,
            key,
            active_ms: 0,
        };
        let logged = self.replace(&new, &said)?;
        self.settle(project, task)?;
        Ok(logged)
    }

    fn take_back(
        &mut self,
        project: &Project,
        task: &Task,
        rater: AccountId,
        last: &Entry,
        key: &str,
    ) -> Result<Logged> {
        if task.role == TaskRole::Calibration && last.record != LogKind::Skip {
            return Err(Error::Conflict(
                "an answer of the calibration round stays: its solution was told".into(),
            ));
        }
        let skip = last.record == LogKind::Skip;
        if !skip {
            let first = self.entry(last.first)?;
            self.not_sealed(project.id, &first)?;
        }
        let logged = self.append(&New {
            project,
            task,
            rater,
            pass: last.pass,
            record: LogKind::Undo,
            after: Some(last),
            restores: None,
            payload: None,
            shown: last.shown,
            key,
            active_ms: 0,
        })?;
        let sql = "DELETE FROM answers WHERE task = ?1 AND rater = ?2 AND pass = ?3";
        self.execute(sql, params![task.id, rater, last.pass])?;
        self.tally_up(project.id, rater, if skip { [0, -1] } else { [-1, 0] }, 0)?;
        if !skip {
            self.count_answer(project, task, last.pass, -1)?;
        }
        Ok(logged)
    }

    fn not_sealed(&self, project: ProjectId, entry: &Entry) -> Result<()> {
        let sealed = self.now >= entry.seals_at || entry.seq as u64 <= self.sealed_through(project)?;
        if sealed { Err(Error::Sealed) } else { Ok(()) }
    }
}

fn answer_of(entry: &Entry) -> Option<Answer> {
    match entry.record {
        LogKind::Judgment | LogKind::Correction | LogKind::Adjudication => {
            serde_json::from_str(entry.payload.as_deref()?).ok()
        }
        LogKind::Undo | LogKind::Retraction | LogKind::Skip => None,
    }
}
