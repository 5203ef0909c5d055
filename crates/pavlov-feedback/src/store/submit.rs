//! What people say of a task: an answer, a skip, a correction, a reviewer's decision.

use pavlov_schema::feedback::Answer;
use pavlov_schema::ranking::Order;

use super::judgments::{LogKind, Logged, New, Standing};
use super::leases::LeaseRow;
use super::projects::to_json;
use super::tasks::{Task, TaskRole, TaskState};
use super::{AccountId, Project, ProjectId, Write};
use crate::error::{Error, Result};
use crate::queue::settle;
use crate::reply::{Asked, Reply};

/// The longest reason of a skip or retraction, in bytes.
const LONGEST_REASON: usize = 2_000;

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
        let new = New {
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
        };
        let logged = self.done_with(&row, &new, Standing::Answered, &settle::short(&answer.said))?;
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
        let new = New {
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
        };
        let logged = self.done_with(&row, &new, Standing::Skipped, "")?;
        self.tally_up(project.id, rater, [0, 1], 0)?;
        Ok(logged)
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
        let new = New {
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
        };
        let logged = self.replace(&new, &settle::short(&answer.said))?;
        self.settle(&project, &task)?;
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
        let new = New {
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
        };
        let logged = self.begin(&new, Standing::Answered, &settle::short(&answer.said))?;
        self.set_state(task.id, TaskState::Done)?;
        Ok(logged)
    }

    /// Logs what a rater said of a task that they held, and takes the task and the draft from them.
    fn done_with(&mut self, row: &LeaseRow, new: &New<'_>, standing: Standing, said: &str) -> Result<Logged> {
        let logged = self.begin(new, standing, said)?;
        self.end_lease(row)?;
        self.drop_draft(new.rater, row.task)?;
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
    fn checked(&self, project: &Project, task: &Task, shown: Option<Order>, reply: Reply) -> Result<Answer> {
        let words = self.words(task.id)?;
        reply.answer(Asked {
            kind: task.kind,
            responses: &words.responses,
            shown,
            settings: &project.settings,
        })
    }
}

pub(super) fn check_reason(reason: &str) -> Result<()> {
    if reason.len() > LONGEST_REASON {
        return Err(Error::invalid(format!("a reason may have {LONGEST_REASON} bytes; shorten it")));
    }
    Ok(())
}
