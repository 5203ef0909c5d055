//! What holds now: the answers that were not taken back, as pages and statistics read them.

use pavlov_schema::feedback::{Answer, TaskKind};
use pavlov_schema::ranking::Order;
use rusqlite::types::ValueRef;
use rusqlite::{Row, params};

use super::judgments::Standing;
use super::leases::shown;
use super::projects::json;
use super::tasks::{TaskRole, word};
use super::{AccountId, ProjectId, Read, TaskId};
use crate::clock::Millis;
use crate::error::{Error, Result};

/// An answer of the rater who looks.
#[derive(Clone, Debug, PartialEq)]
pub struct MyAnswer {
    /// The record that holds.
    pub seq: u64,
    /// Names the task.
    pub task: String,
    /// What was asked.
    pub kind: TaskKind,
    /// Whether it holds, was passed on, or taken back.
    pub standing: Standing,
    /// What was said; none of what was passed on or taken back.
    pub answer: Option<Answer>,
    /// The order on the screen.
    pub shown: Option<Order>,
    /// When.
    pub at_ms: Millis,
    /// When it can no longer be undone, or is past that.
    pub seals_at: Millis,
}

/// An answer to a task, for those who may see who said what.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskAnswer {
    /// The record that holds.
    pub seq: u64,
    /// Who.
    pub rater: AccountId,
    /// Its name in the project.
    pub pseudonym: String,
    /// 0: the first look, 1: the swapped repeat, 2: a reviewer's decision.
    pub pass: u8,
    /// Whether it holds, was passed on, or taken back.
    pub standing: Standing,
    /// What was said.
    pub answer: Option<Answer>,
    /// The order on the screen.
    pub shown: Option<Order>,
    /// When.
    pub at_ms: Millis,
    /// Milliseconds the rater looked at the task.
    pub active_ms: u64,
    /// The guidelines it was made under.
    pub guideline_version: u32,
}

/// The answer that a row's payload holds, if the standing is that of an answer.
fn answer(row: &Row<'_>, standing: Standing, column: usize) -> rusqlite::Result<Option<Answer>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ if standing != Standing::Answered => Ok(None),
        _ => json(row, column).map(Some),
    }
}

fn mine(row: &Row<'_>) -> rusqlite::Result<MyAnswer> {
    let standing = word(row, 3)?;
    Ok(MyAnswer {
        seq: row.get::<_, i64>(0)? as u64,
        task: row.get(1)?,
        kind: word(row, 2)?,
        standing,
        answer: answer(row, standing, 4)?,
        shown: shown(row, 5)?,
        at_ms: row.get(6)?,
        seals_at: row.get(7)?,
    })
}

fn of_task(row: &Row<'_>) -> rusqlite::Result<TaskAnswer> {
    let standing = word(row, 4)?;
    Ok(TaskAnswer {
        seq: row.get::<_, i64>(0)? as u64,
        rater: row.get(1)?,
        pseudonym: row.get(2)?,
        pass: row.get(3)?,
        standing,
        answer: answer(row, standing, 5)?,
        shown: shown(row, 6)?,
        at_ms: row.get(7)?,
        active_ms: row.get::<_, i64>(8)? as u64,
        guideline_version: row.get(9)?,
    })
}

impl Read<'_> {
    /// A rater's own answers in a project, the newest before record `before` (all: none) first. Repeats and gold look like any
    /// other.
    pub fn my_answers(
        &self,
        project: ProjectId,
        rater: AccountId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<MyAnswer>> {
        // From the log, whose index has a rater's records in their order: `answers` would be sorted first.
        let sql = "SELECT answers.seq, tasks.code, tasks.kind, standing, payload, shown, at_ms, seals_at_ms
                   FROM judgments INDEXED BY judgments_rater CROSS JOIN answers ON answers.task = judgments.task
                   AND answers.rater = ?2 AND answers.pass = judgments.pass AND answers.seq = judgments.seq
                   CROSS JOIN tasks ON tasks.id = answers.task
                   WHERE judgments.project = ?1 AND judgments.rater = ?2 AND judgments.seq < ?3 AND judgments.pass < 2
                   ORDER BY judgments.seq DESC LIMIT ?4";
        let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
        self.list(sql, params![project, rater, before, limit], mine)
    }

    /// Everything that was said about a task and not undone, in the order it was said.
    pub fn answers_of(&self, task: TaskId) -> Result<Vec<TaskAnswer>> {
        let sql = "SELECT answers.seq, answers.rater, pseudonym, answers.pass, standing, payload, shown, at_ms, active_ms,
                          guideline_version
                   FROM answers JOIN judgments ON judgments.seq = answers.seq
                   JOIN members ON members.project = answers.project AND members.account = answers.rater
                   WHERE answers.task = ?1 ORDER BY answers.first";
        self.list(sql, [task], of_task)
    }

    /// What colleagues said about a task that the viewer has answered, where the project does not blind raters to each other.
    /// Without names, and never of a task with a known answer.
    pub fn colleagues(&self, project: ProjectId, viewer: AccountId, task: &str) -> Result<Vec<Answer>> {
        let task = self.task(project, task)?;
        let answered = self.standing(task.id, viewer, 0)? == Some(Standing::Answered);
        if self.project(project)?.settings.blind_colleagues || !answered || task.role != TaskRole::Live {
            return Err(Error::Forbidden("colleagues' answers are hidden here".into()));
        }
        let others = self.answers_of(task.id)?.into_iter().filter(|one| one.rater != viewer && one.pass == 0);
        Ok(others.filter_map(|one| one.answer).collect())
    }

    /// The last record of a project, sealed or not: figures that were computed at it are still true at it.
    pub fn last_seq(&self, project: ProjectId) -> Result<u64> {
        let sql =
            "SELECT coalesce((SELECT seq FROM judgments WHERE project = ?1 ORDER BY seq DESC LIMIT 1), 0)";
        self.count(sql, [project])
    }
}
