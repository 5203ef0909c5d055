//! The queue: who holds which task, until when.
//!
//! A lease takes one of a task's places until it is answered, skipped, given back or runs out. A rater holds at most one task of
//! a project: whoever comes again, by reloading or in another tab, gets the same one. An answer under a lease that has run out
//! still counts: nothing that was said is lost.

use std::sync::Arc;

use pavlov_schema::feedback::TaskKind;
use pavlov_schema::judgment::Side;
use pavlov_schema::text::Text;
use rusqlite::{Row, params};
use serde::Serialize;

use super::tasks::{TaskRole, TaskState};
use super::{AccountId, Draft, Project, ProjectId, Read, TaskId, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::queue::plan::{self, Source};
use crate::queue::select;
use crate::secret;
use crate::settings::Selection;

/// What the writer keeps at hand of a project's queue.
#[derive(Debug)]
pub(super) struct QueueMemory {
    pub(super) project: Arc<Project>,
    /// Active times of the last answers, the newest last.
    pub(super) active_ms: Vec<u64>,
}

/// Active times that a lease's length looks at.
const RECENT: usize = 101;
/// Started tasks that are looked at before a fresh one is given.
const STARTED: u32 = 64;
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
    /// The answers in the order of the screen, from left to right.
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
    pub(super) shown: Option<[Side; 2]>,
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
pub(super) fn shown(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<[Side; 2]>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.map(|text| if text == "ba" { [Side::B, Side::A] } else { [Side::A, Side::B] }))
}

/// What such a column holds.
pub(super) fn shown_text(shown: Option<[Side; 2]>) -> Option<&'static str> {
    shown.map(|shown| if shown[0] == Side::A { "ab" } else { "ba" })
}

/// A task that was found for a rater.
struct Found {
    task: TaskId,
    /// How it was chosen, its chance, among how many; only when a live task is first given out.
    chosen: Option<(&'static str, f64, u32)>,
    pass: u8,
    /// Whether it takes one of the task's places.
    counted: bool,
    /// A swapped repeat's order.
    shown: Option<[Side; 2]>,
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
        let mut responses: Vec<Shown> = words
            .responses
            .into_iter()
            .map(|response| Shown { id: response.id, text: response.response.text })
            .collect();
        if row.shown.is_some_and(|shown| shown[0] == Side::B) {
            responses.reverse();
        }
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
        shown: Option<[Side; 2]>,
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
        let kind = self.task_row(found.task)?.kind;
        let shown = match found.shown {
            None if kind == TaskKind::Pairwise => {
                // From the system's generator: nobody can foresee it.
                Some(if secret::random_u64()? & 1 == 0 { [Side::A, Side::B] } else { [Side::B, Side::A] })
            }
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
            self.memory.queues.insert(id, QueueMemory { project, active_ms });
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

    /// The next task of a rater.
    fn find(&self, project: &Project, account: AccountId) -> Result<Option<Found>> {
        let done = self.tally(project.id, account)?;
        let calibrated = match project.settings.calibration {
            0 => 0,
            _ => self.count(
                "SELECT count(*) FROM answers WHERE project = ?1 AND rater = ?2 AND role = 'calibration'",
                params![project.id, account],
            )?,
        };
        let done = done.answered + done.skipped;
        let source = plan::source(&project.settings, project.salt, account.0 as u64, done, calibrated);
        let first = match source {
            Source::Calibration => self.known(project, account, TaskRole::Calibration)?,
            Source::Gold => self.known(project, account, TaskRole::Gold)?,
            Source::Repeat => self.repeat(project, account)?,
            Source::Live => None,
        };
        match first {
            Some(found) => Ok(Some(found)),
            None => self.live(project, account),
        }
    }

    /// A task with a known answer that the rater has not seen.
    fn known(&self, project: &Project, account: AccountId, role: TaskRole) -> Result<Option<Found>> {
        let sql = "SELECT id FROM tasks WHERE project = ?1 AND role = ?3 AND state = 'open' AND role <> 'live'
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2) ORDER BY shuffle LIMIT 1";
        let found = self.one(sql, params![project.id, account, role.name()], |row| row.get(0))?;
        Ok(found.map(|task| Found { task, chosen: None, pass: 0, counted: false, shown: None }))
    }

    /// An earlier comparison of the rater's, with left and right swapped.
    fn repeat(&self, project: &Project, account: AccountId) -> Result<Option<Found>> {
        let sql = "SELECT seq FROM answers WHERE project = ?1 AND rater = ?2 AND role = 'live' ORDER BY seq DESC LIMIT 1 OFFSET ?3";
        let after = project.settings.repeat_after;
        let Some(latest) = self.one(sql, params![project.id, account, after], |row| row.get::<_, i64>(0))?
        else {
            return Ok(None);
        };
        let sql = "SELECT answers.task, judgments.shown FROM answers JOIN judgments ON judgments.seq = answers.seq
                   WHERE answers.project = ?1 AND answers.rater = ?2 AND answers.role = 'live' AND answers.seq <= ?3
                   AND answers.pass = 0 AND standing = 'answered' AND judgments.shown IS NOT NULL AND NOT EXISTS
                   (SELECT 1 FROM answers again WHERE again.task = answers.task AND again.rater = ?2 AND again.pass = 1)
                   ORDER BY answers.seq LIMIT 1";
        self.one(sql, params![project.id, account, latest], |row| {
            let swapped = shown(row, 1)?.map(|[left, right]| [right, left]);
            Ok(Found { task: row.get(0)?, chosen: None, pass: 1, counted: false, shown: swapped })
        })
    }

    /// A task with a free place: one begun by this rater, one begun by others, or a fresh one; the newest policy's first.
    fn live(&self, project: &Project, account: AccountId) -> Result<Option<Found>> {
        let counted = |task| Found { task, chosen: None, pass: 0, counted: true, shown: None };
        if let Some(task) = self.drafted(project.id, account)? {
            return Ok(Some(counted(task)));
        }
        let started = self.started(project.id, account, Some(STARTED))?;
        let newest = "SELECT policy_version FROM tasks WHERE project = ?1 AND state = 'open' AND role = 'live' AND submitted = 0
                      AND leased < overlap AND (author IS NULL OR author <> ?2)
                      AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2)
                      ORDER BY policy_version DESC, id LIMIT 1";
        let fresh: Option<i64> = self.one(newest, params![project.id, account], |row| row.get(0))?;
        match (started, fresh) {
            (Some((task, version)), fresh) if fresh.is_none_or(|fresh| version >= fresh) => {
                Ok(Some(counted(task)))
            }
            (_, Some(version)) => self.fresh(project, account, version),
            (_, None) => Ok(self.started(project.id, account, None)?.map(|(task, _)| counted(task))),
        }
    }

    fn drafted(&self, project: ProjectId, account: AccountId) -> Result<Option<TaskId>> {
        let sql = "SELECT tasks.id FROM drafts JOIN tasks ON tasks.id = drafts.task
                   WHERE account = ?2 AND project = ?1 AND state = 'open' AND role = 'live' AND submitted + leased < overlap
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.task = tasks.id AND rater = ?2)
                   ORDER BY drafts.updated_at DESC LIMIT 1";
        self.one(sql, params![project, account], |row| row.get(0))
    }

    /// A task that others have answered and that has a place, with its policy's version; among the first `most` of them only.
    fn started(
        &self,
        project: ProjectId,
        account: AccountId,
        most: Option<u32>,
    ) -> Result<Option<(TaskId, i64)>> {
        let sql = "SELECT id, policy_version FROM
                   (SELECT id, policy_version, author FROM tasks WHERE project = ?1 AND state = 'open' AND role = 'live'
                    AND submitted > 0 AND submitted + leased < overlap ORDER BY policy_version DESC, id LIMIT ?3) near
                   WHERE (author IS NULL OR author <> ?2)
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE task = near.id AND rater = ?2) LIMIT 1";
        let most = most.map_or(-1, i64::from);
        self.one(sql, params![project, account, most], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// A task of this policy's version that nobody has answered, chosen as the project says.
    fn fresh(&self, project: &Project, account: AccountId, version: i64) -> Result<Option<Found>> {
        let found =
            |task, chosen| Some(Found { task, chosen: Some(chosen), pass: 0, counted: true, shown: None });
        let base = "SELECT id, predicted, policy_a, policy_b FROM tasks WHERE project = ?1 AND state = 'open' AND role = 'live'
                    AND submitted = 0 AND leased < overlap AND policy_version = ?3 AND (author IS NULL OR author <> ?2)
                    AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2)";
        if project.settings.selection == Selection::InOrder {
            let sql = format!("{base} ORDER BY id LIMIT 1");
            let task = self.one(&sql, params![project.id, account, version], |row| row.get(0))?;
            return Ok(task.and_then(|task| found(task, ("in_order", 1.0, 1))));
        }
        let informed = project.settings.selection == Selection::Information;
        let most = if informed { select::CANDIDATES } else { 1 };
        // Neighbours in a random order, from a random place on, are a random few.
        let start = (secret::random_u64()? >> 1) as i64;
        let mut candidates: Vec<Candidate> = Vec::new();
        for (side, start) in [(">=", start), ("<", start)] {
            let sql = format!("{base} AND shuffle {side} ?4 ORDER BY shuffle LIMIT ?5");
            let rest = most - candidates.len();
            if rest > 0 {
                let parameters = params![project.id, account, version, start, rest as i64];
                candidates.extend(self.list(&sql, parameters, candidate)?);
            }
        }
        if !informed {
            return Ok(candidates.first().and_then(|(task, ..)| found(*task, ("uniform", 1.0, 1))));
        }
        let mut chances = Vec::new();
        for (_, predicted, a, b) in &candidates {
            chances.push(self.chance(project.id, *predicted, a.as_deref(), b.as_deref())?);
        }
        let (part, place) = (unit(secret::random_u64()?), unit(secret::random_u64()?));
        let Some(drawn) = select::draw(&chances, project.settings.uniform_share, part, place) else {
            return Ok(None);
        };
        let selection = if drawn.uniform { "uniform" } else { "information" };
        let chosen = (selection, drawn.propensity, candidates.len() as u32);
        Ok(found(candidates[drawn.place].0, chosen))
    }

    /// Chance that the first answer is preferred: as a reward model foretold, or by the strengths of the policies.
    fn chance(
        &self,
        project: ProjectId,
        predicted: Option<f64>,
        a: Option<&str>,
        b: Option<&str>,
    ) -> Result<f64> {
        if let Some(predicted) = predicted {
            return Ok(predicted);
        }
        let sql = "SELECT theta FROM strengths WHERE project = ?1 AND policy = ?2";
        let theta = |policy: Option<&str>| match policy {
            Some(policy) => self.one(sql, params![project, policy], |row| row.get::<_, f64>(0)),
            None => Ok(None),
        };
        Ok(match (theta(a)?, theta(b)?) {
            (Some(a), Some(b)) => select::preferred(a, b),
            // Of a policy nothing is known: its first comparisons tell the most.
            _ => 0.5,
        })
    }

    /// Tells the queue the strengths of the policies, for the choice of comparisons.
    pub fn set_strengths(&mut self, project: ProjectId, strengths: &[(String, f64)]) -> Result<()> {
        let sql = "INSERT INTO strengths (project, policy, theta) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET theta = excluded.theta";
        for (policy, theta) in strengths.iter().filter(|(_, theta)| theta.is_finite()) {
            self.execute(sql, params![project, policy, theta])?;
        }
        Ok(())
    }
}

/// An open task, as far as the choice of comparisons looks at it.
type Candidate = (TaskId, Option<f64>, Option<String>, Option<String>);

fn candidate(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

/// Uniform in [0, 1).
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
