//! The log of judgments: raters speak, and each time one record is added.
//!
//! Nothing in the log ever changes. A later record may supersede an earlier one of the same answer: a correction says it
//! anew, an undo takes it back before it was sealed, a retraction after. `answers` holds what follows from the log, and is
//! written with it.

use pavlov_schema::feedback::Answer;
use pavlov_schema::judgment::Side;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::leases::{LeaseRow, shown, shown_text};
use super::projects::to_json;
use super::tasks::{Task, TaskRole, TaskState, word};
use super::{AccountId, Lease, Project, ProjectId, Read, TaskId, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::queue::settle;
use crate::reply::{Asked, Reply};
use crate::secret;

/// The longest idempotency key, in bytes.
const LONGEST_KEY: usize = 100;
/// The longest reason of a skip or retraction, in bytes.
const LONGEST_REASON: usize = 2_000;
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

/// A rater's answer, as it arrives.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The lease's code.
    pub lease: String,
    /// The sender's name of this answer: sent again, it is the same answer.
    pub key: String,
    /// What was said.
    pub reply: Reply,
    /// Milliseconds the rater looked at the task.
    pub active_ms: u64,
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

/// What a submission gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The record.
    pub logged: Logged,
    /// After a task of the calibration round: whether it was right, and why.
    pub lesson: Option<Lesson>,
}

/// What the calibration round teaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Whether the answer was the right one.
    pub right: bool,
    /// The right one.
    pub gold: Answer,
    /// Why.
    pub explanation: Option<String>,
}

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

/// A row of the log, as far as later records build on it.
#[derive(Clone, Debug)]
struct Entry {
    seq: i64,
    id: String,
    task: TaskId,
    pass: u8,
    record: LogKind,
    first: i64,
    supersedes: Option<i64>,
    restores: Option<i64>,
    payload: Option<String>,
    shown: Option<[Side; 2]>,
    seals_at: Millis,
}

const COLUMNS: &str =
    "seq, id, task, pass, record, coalesce(first, seq), supersedes, restores, payload, shown, seals_at_ms";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
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
struct New<'a> {
    project: &'a Project,
    task: &'a Task,
    rater: AccountId,
    pass: u8,
    record: LogKind,
    /// The record it supersedes.
    after: Option<&'a Entry>,
    restores: Option<i64>,
    payload: Option<String>,
    shown: Option<[Side; 2]>,
    key: &'a str,
    active_ms: u64,
}

impl LogKind {
    fn name(self) -> &'static str {
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
    fn name(self) -> &'static str {
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

    fn entry(&self, seq: i64) -> Result<Entry> {
        let sql = format!("SELECT {COLUMNS} FROM judgments WHERE seq = ?1");
        self.one(&sql, [seq], entry)?.ok_or(Error::NotFound("answer"))
    }

    /// The record that holds of a rater's answer to a task.
    fn holding_entry(&self, task: TaskId, rater: AccountId, pass: u8) -> Result<Entry> {
        let sql =
            "SELECT seq FROM answers WHERE task = ?1 AND rater = ?2 AND pass = ?3 AND standing = 'answered'";
        let seq = self.one(sql, params![task, rater, pass], |row| row.get(0))?;
        self.entry(seq.ok_or(Error::NotFound("answer"))?)
    }

    /// What was logged under a key. One key names one thing that was said.
    fn logged_before(
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
    /// Takes a rater's answer. The same key again is the same answer; a lease that ran out is no reason to refuse one.
    pub fn submit(&mut self, rater: AccountId, submission: Submission) -> Result<Submitted> {
        let Submission { lease, key, reply, active_ms } = submission;
        if let Some((before, logged)) = self.logged_before(rater, &key, &[LogKind::Judgment])? {
            let lesson = self.lesson(before.task, before.payload.as_deref())?;
            return Ok(Submitted { logged, lesson });
        }
        let row = self.lease_row(rater, &lease)?;
        let project = self.queue(row.project)?.project.clone();
        let task = self.task_row(row.task)?;
        self.not_answered(&row, rater)?;
        let answer = self.checked(&project, &task, row.shown, reply)?;
        let payload = to_json(&answer)?;
        let logged = self.append(&New {
            project: &project,
            task: &task,
            rater,
            pass: row.pass,
            record: LogKind::Judgment,
            after: None,
            restores: None,
            payload: Some(payload.clone()),
            shown: row.shown,
            key: &key,
            active_ms,
        })?;
        self.end_lease(&row)?;
        self.drop_draft(rater, row.task)?;
        let said = settle::short(&answer.said);
        self.stand(&project, &task, rater, row.pass, &logged, Standing::Answered, &said)?;
        self.tally_up(project.id, rater, [1, 0], active_ms)?;
        self.remember_active(project.id, active_ms)?;
        self.count_answer(&project, &task, row.pass, 1)?;
        let lesson = self.lesson(task.id, Some(&payload))?;
        if lesson.is_some() {
            self.judge_calibration(&project, rater)?;
        }
        Ok(Submitted { logged, lesson })
    }

    /// Passes a task on to others; this rater does not get it again.
    pub fn skip(&mut self, rater: AccountId, lease: &str, key: &str, reason: &str) -> Result<Logged> {
        if let Some((_, logged)) = self.logged_before(rater, key, &[LogKind::Skip])? {
            return Ok(logged);
        }
        check_reason(reason)?;
        let row = self.lease_row(rater, lease)?;
        let project = self.queue(row.project)?.project.clone();
        let task = self.task_row(row.task)?;
        self.not_answered(&row, rater)?;
        let logged = self.append(&New {
            project: &project,
            task: &task,
            rater,
            pass: row.pass,
            record: LogKind::Skip,
            after: None,
            restores: None,
            payload: Some(serde_json::json!({ "reason": reason }).to_string()),
            shown: row.shown,
            key,
            active_ms: 0,
        })?;
        self.end_lease(&row)?;
        self.drop_draft(rater, row.task)?;
        self.stand(&project, &task, rater, row.pass, &logged, Standing::Skipped, "")?;
        self.tally_up(project.id, rater, [0, 1], 0)?;
        Ok(logged)
    }

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

    /// Says an answer anew, at any time. Training sees it as a record that takes the earlier one's place.
    pub fn correct(
        &mut self,
        project: ProjectId,
        rater: AccountId,
        task: &str,
        reply: Reply,
        key: &str,
        active_ms: u64,
    ) -> Result<Logged> {
        if let Some((_, logged)) = self.logged_before(rater, key, &[LogKind::Correction])? {
            return Ok(logged);
        }
        let project = self.queue(project)?.project.clone();
        let task = self.task(project.id, task)?;
        if task.role == TaskRole::Calibration {
            return Err(Error::Conflict(
                "an answer of the calibration round stays: its solution was told".into(),
            ));
        }
        let last = self.holding_entry(task.id, rater, 0)?;
        let answer = self.checked(&project, &task, last.shown, reply)?;
        let logged = self.append(&New {
            project: &project,
            task: &task,
            rater,
            pass: 0,
            record: LogKind::Correction,
            after: Some(&last),
            restores: None,
            payload: Some(to_json(&answer)?),
            shown: last.shown,
            key,
            active_ms,
        })?;
        self.now_holds(&task, rater, 0, &logged, &settle::short(&answer.said))?;
        self.settle(&project, &task)?;
        Ok(logged)
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

    /// A reviewer's decision on a task, in the task's own order of answers (`left` is the first one). It outweighs the raters'.
    pub fn adjudicate(
        &mut self,
        project: ProjectId,
        reviewer: AccountId,
        task: &str,
        reply: Reply,
        key: &str,
        active_ms: u64,
    ) -> Result<Logged> {
        if let Some((_, logged)) = self.logged_before(reviewer, key, &[LogKind::Adjudication])? {
            return Ok(logged);
        }
        let project = self.queue(project)?.project.clone();
        self.ensure_member(project.id, reviewer)?;
        let task = self.task(project.id, task)?;
        if task.role != TaskRole::Live || task.submitted == 0 {
            return Err(Error::Conflict("there is nothing to decide: nobody has answered this task".into()));
        }
        if self.exists("SELECT 1 FROM answers WHERE task = ?1 AND pass = 2", [task.id])? {
            return Err(Error::Conflict("a reviewer has decided this task already".into()));
        }
        let answer = self.checked(&project, &task, None, reply)?;
        let logged = self.append(&New {
            project: &project,
            task: &task,
            rater: reviewer,
            pass: 2,
            record: LogKind::Adjudication,
            after: None,
            restores: None,
            payload: Some(to_json(&answer)?),
            shown: None,
            key,
            active_ms,
        })?;
        let said = settle::short(&answer.said);
        self.stand(&project, &task, reviewer, 2, &logged, Standing::Answered, &said)?;
        self.set_state(task.id, TaskState::Done)?;
        Ok(logged)
    }

    /// Refuses an answer to what is answered.
    fn not_answered(&self, row: &LeaseRow, rater: AccountId) -> Result<()> {
        match self.standing(row.task, rater, row.pass)? {
            Some(_) => Err(Error::Answered),
            None => Ok(()),
        }
    }

    /// The reply as an answer to the task.
    fn checked(
        &self,
        project: &Project,
        task: &Task,
        shown: Option<[Side; 2]>,
        reply: Reply,
    ) -> Result<Answer> {
        let words = self.words(task.id)?;
        reply.answer(Asked {
            kind: task.kind,
            responses: &words.responses,
            shown,
            settings: &project.settings,
        })
    }

    /// Adds a record to the log.
    fn append(&mut self, new: &New<'_>) -> Result<Logged> {
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
        let logged = self.append(&New {
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
        })?;
        let said = answer_of(earlier).map(|answer| settle::short(&answer.said)).unwrap_or_default();
        self.now_holds(task, rater, last.pass, &logged, &said)?;
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

    /// Notes where a rater stands with a task.
    fn stand(
        &mut self,
        project: &Project,
        task: &Task,
        rater: AccountId,
        pass: u8,
        logged: &Logged,
        standing: Standing,
        said: &str,
    ) -> Result<()> {
        let sql = "INSERT INTO answers (task, rater, pass, project, first, seq, standing, role, said)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8)";
        let seq = logged.seq as i64;
        let row = params![task.id, rater, pass, project.id, seq, standing.name(), task.role.name(), said];
        self.execute(sql, row)?;
        Ok(())
    }

    /// Notes that a later record of an answer holds.
    fn now_holds(
        &mut self,
        task: &Task,
        rater: AccountId,
        pass: u8,
        logged: &Logged,
        said: &str,
    ) -> Result<()> {
        let sql = "UPDATE answers SET seq = ?4, said = ?5 WHERE task = ?1 AND rater = ?2 AND pass = ?3";
        self.execute(sql, params![task.id, rater, pass, logged.seq as i64, said])?;
        Ok(())
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

fn check_reason(reason: &str) -> Result<()> {
    if reason.len() > LONGEST_REASON {
        return Err(Error::invalid(format!("a reason may have {LONGEST_REASON} bytes; shorten it")));
    }
    Ok(())
}
