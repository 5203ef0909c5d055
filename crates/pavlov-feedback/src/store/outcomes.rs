//! What becomes of a task when its answers change, and of a rater after the calibration round.

use pavlov_schema::feedback::Answer;
use rusqlite::params;

use super::submit::Lesson;
use super::tasks::{Task, TaskRole, TaskState};
use super::{AccountId, Project, TaskId, Write};
use crate::error::Result;
use crate::queue::rankings;
use crate::queue::settle::{self, Settled};

impl Write<'_> {
    /// Counts an answer that came or went, and sees what becomes of the task.
    pub(super) fn count_answer(
        &mut self,
        project: &Project,
        task: &Task,
        pass: u8,
        change: i32,
    ) -> Result<()> {
        if pass != 0 {
            return Ok(());
        }
        self.execute("UPDATE tasks SET submitted = submitted + ?2 WHERE id = ?1", params![task.id, change])?;
        self.settle(project, task)
    }

    /// What becomes of a live task after its answers changed.
    pub(super) fn settle(&mut self, project: &Project, task: &Task) -> Result<()> {
        let task = self.task_row(task.id)?;
        let settles = matches!(task.state, TaskState::Open | TaskState::Done | TaskState::Adjudicate);
        if task.role != TaskRole::Live || !settles {
            return Ok(());
        }
        if task.submitted < task.overlap {
            return self.set_state(task.id, TaskState::Open);
        }
        let sql = "SELECT pass, said FROM answers WHERE task = ?1 AND standing = 'answered' AND pass <> 1";
        let said: Vec<(u8, String)> = self.list(sql, [task.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if said.iter().any(|(pass, _)| *pass == 2) {
            return self.set_state(task.id, TaskState::Done);
        }
        let verdicts: Vec<String> = said.into_iter().map(|(_, said)| said).collect();
        match settle::settle(&project.settings, &verdicts, task.overlap) {
            Settled::Done => self.set_state(task.id, TaskState::Done)?,
            Settled::Adjudicate => self.set_state(task.id, TaskState::Adjudicate)?,
            Settled::Ask(overlap) => {
                self.execute("UPDATE tasks SET overlap = ?2 WHERE id = ?1", params![task.id, overlap])?;
                return self.set_state(task.id, TaskState::Open);
            }
        }
        self.promote_unanimous(project, &task, &verdicts)
    }

    pub(super) fn set_state(&mut self, task: TaskId, state: TaskState) -> Result<()> {
        let done = (state == TaskState::Done).then_some(self.now);
        let sql = "UPDATE tasks SET state = ?2, done_at = ?3 WHERE id = ?1 AND state <> ?2";
        self.execute(sql, params![task, state.name(), done])?;
        Ok(())
    }

    /// A task that enough people answered alike measures others from now on; the audit log says so.
    fn promote_unanimous(&mut self, project: &Project, task: &Task, verdicts: &[String]) -> Result<()> {
        let wanted = project.settings.promote_unanimous as usize;
        let measures = |verdict: &str| !verdict.is_empty() && !rankings::decides_nothing(verdict);
        let alike =
            verdicts.first().is_some_and(|first| measures(first) && verdicts.iter().all(|v| v == first));
        if wanted == 0 || verdicts.len() < wanted || !alike {
            return Ok(());
        }
        let sql = "SELECT payload FROM judgments JOIN answers ON answers.seq = judgments.seq
                   WHERE answers.task = ?1 AND standing = 'answered' AND answers.pass = 0 LIMIT 1";
        let payload: Option<String> = self.one(sql, [task.id], |row| row.get(0))?;
        let Some(mut answer) = payload.and_then(|text| serde_json::from_str::<Answer>(&text).ok()) else {
            return Ok(());
        };
        (answer.rationale, answer.flags, answer.marks) = (None, Vec::new(), Vec::new());
        let added = self.promote_to_gold(project.id, &task.code, &answer)?;
        if !added.existed {
            let detail = serde_json::json!({ "answers": verdicts.len(), "gold": added.task });
            self.audit(Some(project.id), "queue", "task.promote", &task.code, &detail)?;
        }
        Ok(())
    }

    /// What a task of the calibration round teaches about an answer; none of others.
    pub(super) fn lesson(&self, task: TaskId, payload: Option<&str>) -> Result<Option<Lesson>> {
        if self.task_row(task)?.role != TaskRole::Calibration {
            return Ok(None);
        }
        let words = self.words(task)?;
        let answer = payload.and_then(|payload| serde_json::from_str::<Answer>(payload).ok());
        let (Some(gold), Some(answer)) = (words.gold, answer) else { return Ok(None) };
        let right = settle::right(&settle::short(&answer.said), &settle::short(&gold.said));
        Ok(Some(Lesson { right, gold, explanation: words.explanation }))
    }

    /// Pauses a rater whose calibration round is over and not passed: a manager looks at it.
    pub(super) fn judge_calibration(&mut self, project: &Project, rater: AccountId) -> Result<()> {
        let sql = "SELECT said, gold FROM answers JOIN tasks ON tasks.id = task
                   WHERE answers.project = ?1 AND rater = ?2 AND answers.role = 'calibration' AND standing = 'answered'";
        let said: Vec<(String, String)> =
            self.list(sql, params![project.id, rater], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (answered, right) =
            (said.len() as u32, said.iter().filter(|(said, gold)| settle::right(said, gold)).count());
        let settings = &project.settings;
        if answered >= settings.calibration
            && (right as f64) < settings.calibration_pass * f64::from(answered)
        {
            let reason =
                format!("the calibration round had {right} of {answered} right; a manager will look at it");
            self.set_paused(project.id, rater, Some(&reason))?;
            let code = self.account(rater)?.code;
            let detail = serde_json::json!({ "right": right, "answered": answered });
            self.audit(Some(project.id), "queue", "member.pause", &code, &detail)?;
        }
        Ok(())
    }
}
