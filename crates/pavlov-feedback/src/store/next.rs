//! The next task of a rater, found in the order that the project decided.

use pavlov_schema::judgment::Side;
use rusqlite::{Row, params};

use super::leases::shown;
use super::tasks::TaskRole;
use super::{AccountId, Project, ProjectId, Read, TaskId, Write};
use crate::error::Result;
use crate::queue::plan::{self, Source};
use crate::queue::select;
use crate::secret;
use crate::settings::Selection;

/// Started tasks that are looked at before a fresh one is given.
const STARTED: u32 = 64;

/// A task that was found for a rater.
pub(super) struct Found {
    pub(super) task: TaskId,
    /// How it was chosen, its chance, among how many; only when a live task is first given out.
    pub(super) chosen: Option<(&'static str, f64, u32)>,
    pub(super) pass: u8,
    /// Whether it takes one of the task's places.
    pub(super) counted: bool,
    /// A swapped repeat's order.
    pub(super) shown: Option<[Side; 2]>,
}

impl Read<'_> {
    /// The next task of a rater.
    pub(super) fn find(&self, project: &Project, account: AccountId) -> Result<Option<Found>> {
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
        let newest = "SELECT policy_version FROM tasks INDEXED BY tasks_fresh WHERE project = ?1 AND state = 'open' AND role = 'live' AND submitted = 0
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
        // A rater has few drafts and a project many tasks: CROSS fixes the order of the join.
        let sql = "SELECT tasks.id FROM drafts CROSS JOIN tasks ON tasks.id = drafts.task
                   WHERE account = ?2 AND project = ?1 AND state = 'open' AND role = 'live' AND overlap > submitted + leased
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
                   (SELECT id, policy_version, author FROM tasks INDEXED BY tasks_started WHERE project = ?1 AND state = 'open' AND role = 'live'
                    AND submitted > 0 AND overlap > submitted + leased ORDER BY policy_version DESC, id LIMIT ?3) near
                   WHERE (author IS NULL OR author <> ?2)
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE task = near.id AND rater = ?2) LIMIT 1";
        let most = most.map_or(-1, i64::from);
        self.one(sql, params![project, account, most], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// A task of this policy's version that nobody has answered, chosen as the project says.
    fn fresh(&self, project: &Project, account: AccountId, version: i64) -> Result<Option<Found>> {
        let found =
            |task, chosen| Some(Found { task, chosen: Some(chosen), pass: 0, counted: true, shown: None });
        let base = |index| {
            format!(
                "SELECT id, predicted, policy_a, policy_b FROM tasks INDEXED BY {index} WHERE project = ?1 AND state = 'open' AND role = 'live'
                 AND submitted = 0 AND leased < overlap AND policy_version = ?3 AND (author IS NULL OR author <> ?2)
                 AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2)"
            )
        };
        if project.settings.selection == Selection::InOrder {
            let sql = base("tasks_fresh") + " ORDER BY id LIMIT 1";
            let task = self.one(&sql, params![project.id, account, version], |row| row.get(0))?;
            return Ok(task.and_then(|task| found(task, ("in_order", 1.0, 1))));
        }
        let informed = project.settings.selection == Selection::Information;
        let base = base("tasks_fresh_shuffled");
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
}

impl Write<'_> {
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
