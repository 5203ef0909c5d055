//! The queue: who holds which task, until when.
//!
//! A lease takes one of a task's places until it is answered, skipped, given back or runs out. A rater holds at most one task of
//! a project: whoever comes again, by reloading or in another tab, gets the same one. An answer under a lease that has run out
//! still counts: nothing that was said is lost.

use std::collections::HashMap;
use std::sync::Arc;

use pavlov_schema::feedback::TaskKind;
use pavlov_schema::ranking::Order;
use pavlov_schema::text::Text;
use rusqlite::types::Type;
use rusqlite::{Row, params};
use serde::Serialize;

use super::next::{Found, Place};
use super::tasks::{TaskResponse, TaskRole, TaskState};
use super::{AccountId, Draft, Project, ProjectId, Read, TaskId, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::queue::plan;
use crate::secret;

/// What the writer keeps at hand of a project's queue.
#[derive(Debug)]
pub(super) struct QueueMemory {
    pub(super) project: Arc<Project>,
    /// Active times of the last answers, the newest last.
    pub(super) active_ms: Vec<u64>,
    /// Where each rater's last search among started tasks ended.
    pub(super) searched: HashMap<AccountId, Place>,
}

/// Active times that a lease's length looks at.
const RECENT: usize = 101;
/// Days after which ended leases are forgotten.
const FORGOTTEN_MS: Millis = 7 * 86_400_000;

/// What a rater is given. It holds no names of policies, seeds or scores.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// A task.
    Task(Box<Lease>),
    /// None.
    Nothing(Idle),
}

/// Why there is no task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// All tasks are answered.
    Done,
    /// None for this rater at this moment: others are at it, or everything open was answered by this one.
    NotNow,
    /// A person must look first; why.
    Paused(String),
    /// The project is closed.
    Closed,
}

/// A task as a rater holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Names the lease in replies.
    pub code: String,
    /// Names the task.
    pub task: String,
    /// What is asked.
    pub kind: TaskKind,
    /// What was asked of the policies.
    pub prompt: Text,
    /// The answers in the order of the screen, from left to right or from top to bottom.
    pub responses: Vec<Shown>,
    /// Of the calibration round: the right answer is told afterwards.
    pub calibration: bool,
    /// When it runs out without a sign of life.
    pub expires_at: Millis,
    /// What was begun.
    pub draft: Option<Draft>,
}

/// An answer on the screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Opaque and random.
    pub id: String,
    /// The answer.
    pub text: Text,
}

/// A row of leases.
#[derive(Clone, Debug)]
pub(super) struct LeaseRow {
    pub(super) id: i64,
    pub(super) code: String,
    pub(super) project: ProjectId,
    pub(super) task: TaskId,
    pub(super) pass: u8,
    pub(super) shown: Option<Order>,
    pub(super) counted: bool,
    pub(super) expires_at: Millis,
    pub(super) ended: bool,
}

const COLUMNS: &str = "id, code, project, task, pass, shown, counted, expires_at, ended_at IS NOT NULL";

fn lease(row: &Row<'_>) -> rusqlite::Result<LeaseRow> {
    Ok(LeaseRow {
        id: row.get(0)?,
        code: row.get(1)?,
        project: row.get(2)?,
        task: row.get(3)?,
        pass: row.get(4)?,
        shown: shown(row, 5)?,
        counted: row.get(6)?,
        expires_at: row.get(7)?,
        ended: row.get(8)?,
    })
}

/// A column that holds the order on the screen.
pub(super) fn shown(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Order>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    match Order::from_letters(text.chars()) {
        Some(order) => Ok(Some(order)),
        None => Err(rusqlite::Error::FromSqlConversionFailure(
            column,
            Type::Text,
            format!("`{text}` is no order of answers").into(),
        )),
    }
}

/// What such a column holds.
pub(super) fn shown_text(shown: Option<Order>) -> Option<String> {
    shown.map(|shown| shown.letters().collect())
}

/// The answers of a task in the order of a screen.
pub fn on_screen(responses: &[TaskResponse], shown: Option<Order>) -> Vec<Shown> {
    let order = shown.filter(|order| order.length() == responses.len());
    let one =
        |response: &TaskResponse| Shown { id: response.id.clone(), text: response.response.text.clone() };
    match order {
        Some(order) => order.answers().map(|answer| one(&responses[answer])).collect(),
        None => responses.iter().map(one).collect(),
    }
}

impl Read<'_> {
    /// The lease of a code, active or not.
    pub(super) fn lease_row(&self, account: AccountId, code: &str) -> Result<LeaseRow> {
        let sql = format!("SELECT {COLUMNS} FROM leases WHERE code = ?1 AND account = ?2");
        self.one(&sql, params![code, account], lease)?.ok_or(Error::LeaseLost)
    }

    fn held(&self, project: ProjectId, account: AccountId) -> Result<Option<LeaseRow>> {
        let sql =
            format!("SELECT {COLUMNS} FROM leases WHERE project = ?1 AND account = ?2 AND ended_at IS NULL");
        self.one(&sql, params![project, account], lease)
    }

    /// Refuses a lease that is not of this account in this project.
    pub fn lease_is_of(&self, project: ProjectId, account: AccountId, code: &str) -> Result<()> {
        if self.lease_row(account, code)?.project == project { Ok(()) } else { Err(Error::LeaseLost) }
    }

    /// The task that an account holds in a project, without claiming one.
    pub fn holding(&self, project: ProjectId, account: AccountId) -> Result<Option<Lease>> {
        let held = self.held(project, account)?.filter(|held| held.expires_at > self.now);
        held.map(|held| self.lease_view(account, &held)).transpose()
    }

    /// What the rater sees of a lease.
    pub(super) fn lease_view(&self, account: AccountId, row: &LeaseRow) -> Result<Lease> {
        let (task, words) = (self.task_row(row.task)?, self.words(row.task)?);
        let responses = on_screen(&words.responses, row.shown);
        Ok(Lease {
            code: row.code.clone(),
            task: task.code,
            kind: task.kind,
            prompt: words.prompt,
            responses,
            calibration: task.role == TaskRole::Calibration,
            expires_at: row.expires_at,
            draft: self.draft(account, row.task)?,
        })
    }
}

impl Write<'_> {
    /// The task for a rater: the one held already, or the next of the queue.
    pub fn claim(&mut self, project: ProjectId, account: AccountId) -> Result<Served> {
        self.end_expired()?;
        let project = self.queue(project)?.project.clone();
        if project.closed_at.is_some() {
            return Ok(Served::Nothing(Idle::Closed));
        }
        let member = self.ensure_member(project.id, account)?;
        if let Some(reason) = member.paused {
            return Ok(Served::Nothing(Idle::Paused(reason)));
        }
        if let Some(held) = self.held(project.id, account)? {
            self.extend(&held)?;
            let held = self.lease_row(account, &held.code)?;
            return Ok(Served::Task(Box::new(self.lease_view(account, &held)?)));
        }
        match self.find(&project, account)? {
            Some(found) => {
                let row = self.give(&project, account, &found)?;
                Ok(Served::Task(Box::new(self.lease_view(account, &row)?)))
            }
            None => self.idle(project.id).map(Served::Nothing),
        }
    }

    /// A sign of life: the lease starts anew; when it runs out now. One that had run out is taken up again while the task has a
    /// place.
    pub fn heartbeat(&mut self, account: AccountId, code: &str) -> Result<Millis> {
        self.end_expired()?;
        let row = self.lease_row(account, code)?;
        if row.ended {
            let task = self.task_row(row.task)?;
            let free = task.state == TaskState::Open
                && (!row.counted || task.submitted + task.leased < task.overlap);
            let answered = self.standing(row.task, account, row.pass)?.is_some();
            if !free || answered || self.held(row.project, account)?.is_some() {
                return Err(Error::LeaseLost);
            }
            self.execute("UPDATE leases SET ended_at = NULL WHERE id = ?1", [row.id])?;
            self.count_lease(&row, 1)?;
        }
        self.extend(&row)
    }

    /// Gives a task back; somebody else may take it, and the draft stays.
    pub fn release(&mut self, account: AccountId, code: &str) -> Result<()> {
        let row = self.lease_row(account, code)?;
        self.end_lease(&row)
    }

    /// Gives back whatever an account holds.
    pub(super) fn give_back_leases(&mut self, account: AccountId) -> Result<()> {
        let sql = format!("SELECT {COLUMNS} FROM leases WHERE account = ?1 AND ended_at IS NULL");
        self.list(&sql, [account], lease)?.iter().try_for_each(|row| self.end_lease(row))
    }

    /// A new lease on a task that an account has just taken its answer back from. Another task it holds is given back.
    pub(super) fn lease_again(
        &mut self,
        account: AccountId,
        project: ProjectId,
        task: TaskId,
        pass: u8,
        shown: Option<Order>,
    ) -> Result<Lease> {
        if let Some(held) = self.held(project, account)? {
            self.end_lease(&held)?;
        }
        let counted = pass == 0 && self.task_row(task)?.role == TaskRole::Live;
        let project = self.queue(project)?.project.clone();
        let row = self.give(&project, account, &Found { task, chosen: None, pass, counted, shown })?;
        self.lease_view(account, &row)
    }

    /// Ends a lease, if it has not ended.
    pub(super) fn end_lease(&mut self, row: &LeaseRow) -> Result<()> {
        let sql = "UPDATE leases SET ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL";
        if self.execute(sql, params![row.id, self.now])? == 1 {
            self.count_lease(row, -1)?;
        }
        Ok(())
    }

    fn count_lease(&mut self, row: &LeaseRow, change: i32) -> Result<()> {
        if row.counted {
            self.execute("UPDATE tasks SET leased = leased + ?2 WHERE id = ?1", params![row.task, change])?;
        }
        Ok(())
    }

    /// Ends leases that have run out. At most some at a time: nobody's claim shall wait for a thousand others'.
    fn end_expired(&mut self) -> Result<()> {
        let sql =
            format!("SELECT {COLUMNS} FROM leases WHERE ended_at IS NULL AND expires_at <= ?1 LIMIT 100");
        for row in self.list(&sql, [self.now], lease)? {
            self.end_lease(&row)?;
        }
        let sql = "DELETE FROM leases WHERE id IN (SELECT id FROM leases WHERE ended_at < ?1 AND ended_at IS NOT NULL LIMIT 4)";
        self.execute(sql, [self.now - FORGOTTEN_MS])?;
        Ok(())
    }

    fn extend(&mut self, row: &LeaseRow) -> Result<Millis> {
        let queue = self.queue(row.project)?;
        let length = plan::lease_ms(&queue.project.settings, &queue.active_ms);
        let expires = self.now + length;
        self.execute("UPDATE leases SET expires_at = ?2 WHERE id = ?1", params![row.id, expires])?;
        Ok(expires)
    }

    fn give(&mut self, project: &Project, account: AccountId, found: &Found) -> Result<LeaseRow> {
        let shown = match found.shown {
            None => self.draw(found.task)?,
            shown => shown,
        };
        let queue = self.queue(project.id)?;
        let expires = plan::lease_ms(&queue.project.settings, &queue.active_ms) + self.now;
        let code = secret::code()?;
        let sql =
            "INSERT INTO leases (code, project, task, account, pass, shown, counted, opened_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.insert(
            sql,
            params![
                code,
                project.id,
                found.task,
                account,
                found.pass,
                shown_text(shown),
                found.counted,
                self.now,
                expires
            ],
        )?;
        let row = self.lease_row(account, &code)?;
        self.count_lease(&row, 1)?;
        if let Some((selection, propensity, candidates)) = found.chosen {
            self.execute(
                "UPDATE tasks SET selection = ?2, propensity = ?3, candidates = ?4 WHERE id = ?1",
                params![found.task, selection, propensity, candidates],
            )?;
        }
        Ok(row)
    }

    /// An order for the screen, where the task has one. From the system's generator: nobody can foresee it.
    fn draw(&self, task: TaskId) -> Result<Option<Order>> {
        let length = match self.task_row(task)?.kind {
            TaskKind::Pairwise => 2,
            TaskKind::Ranking => self.words(task)?.responses.len(),
            TaskKind::Pointwise | TaskKind::Demonstration | TaskKind::Edit => return Ok(None),
        };
        let numbers = (0..length).map(|_| secret::random_u64()).collect::<Result<Vec<u64>>>()?;
        let mut numbers = numbers.into_iter();
        // Of 2⁶⁴ numbers each of at most nine is equally often drawn, to one in 10¹⁸.
        Ok(Some(Order::drawn(length, |n| (numbers.next().unwrap_or(0) % n as u64) as usize)))
    }

    fn idle(&self, project: ProjectId) -> Result<Idle> {
        let open = self.task_count(project, TaskRole::Live, TaskState::Open)?;
        let done = self.task_count(project, TaskRole::Live, TaskState::Done)?;
        Ok(if open == 0 && done > 0 { Idle::Done } else { Idle::NotNow })
    }

    /// What the memory holds of a project.
    pub(super) fn queue(&mut self, id: ProjectId) -> Result<&mut QueueMemory> {
        if !self.memory.queues.contains_key(&id) {
            let project = self.project(id)?;
            let sql = "SELECT active_ms FROM judgments WHERE project = ?1 AND record = 'judgment' ORDER BY seq DESC LIMIT ?2";
            let recent = self.list(sql, params![id, RECENT as i64], |row| row.get::<_, i64>(0))?;
            let active_ms = recent.into_iter().rev().map(|ms| ms.max(0) as u64).collect();
            let project = Arc::new(project);
            self.memory.queues.insert(id, QueueMemory { project, active_ms, searched: HashMap::new() });
        }
        self.memory.queues.get_mut(&id).ok_or(Error::NotFound("project"))
    }

    /// Remembers how long an answer took.
    pub(super) fn remember_active(&mut self, id: ProjectId, active_ms: u64) -> Result<()> {
        let recent = &mut self.queue(id)?.active_ms;
        if recent.len() >= RECENT {
            recent.remove(0);
        }
        recent.push(active_ms);
        Ok(())
    }
}
