//! Figures that are kept as things happen, so that no page counts a million rows.

use rusqlite::params;
use serde::Serialize;

use super::tasks::{TaskRole, TaskState};
use super::{AccountId, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::Result;

/// What a rater has done in a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Tally {
    /// Answers that hold.
    pub answered: u64,
    /// Tasks passed on.
    pub skipped: u64,
    /// Milliseconds looked at tasks.
    pub active_ms: u64,
    /// When the last was said.
    pub last_at: Millis,
}

/// Where a project stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Progress {
    /// Live tasks that wait for answers.
    pub open: u64,
    /// Live tasks that have them.
    pub done: u64,
    /// Live tasks that wait for a reviewer.
    pub adjudicate: u64,
    /// Tasks that wait for a manager, for an answer may name its model.
    pub held: u64,
    /// Pairs that were the same to a reader.
    pub collapsed: u64,
    /// Taken back, or too old.
    pub withdrawn: u64,
    /// Tasks with a known answer, the calibration round's too.
    pub gold: u64,
    /// Answers that hold.
    pub answered: u64,
    /// Tasks passed on.
    pub skipped: u64,
    /// Raters who hold a task.
    pub active_raters: u64,
    /// Answers in the last hour.
    pub last_hour: u64,
    /// Milliseconds from a live task's coming to an answer: the median of the last answers. A trainer that waits, waits as long.
    pub latency_ms: Option<u64>,
}

/// A rater's figures for the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SessionStats {
    /// In all.
    pub tally: Tally,
    /// Answers in the last twelve hours that hold, a thousand at most.
    pub today: u64,
    /// Milliseconds of the median of the last answers.
    pub median_ms: Option<u64>,
}

impl Read<'_> {
    /// What a rater has done in a project.
    pub fn tally(&self, project: ProjectId, rater: AccountId) -> Result<Tally> {
        let sql =
            "SELECT answered, skipped, active_ms, last_at FROM tallies WHERE project = ?1 AND rater = ?2";
        let found = self.one(sql, params![project, rater], |row| {
            let number = |i| row.get::<_, i64>(i).map(|n| n.max(0) as u64);
            Ok(Tally {
                answered: number(0)?,
                skipped: number(1)?,
                active_ms: number(2)?,
                last_at: row.get(3)?,
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    /// Where a project stands.
    pub fn progress(&self, project: ProjectId) -> Result<Progress> {
        let live = |state| self.task_count(project, TaskRole::Live, state);
        let sum = |column: &str| {
            let sql = format!("SELECT coalesce(sum({column}), 0) FROM tallies WHERE project = ?1");
            self.count(&sql, [project])
        };
        Ok(Progress {
            open: live(TaskState::Open)?,
            done: live(TaskState::Done)?,
            adjudicate: live(TaskState::Adjudicate)?,
            held: live(TaskState::Held)?,
            collapsed: live(TaskState::Collapsed)?,
            withdrawn: live(TaskState::Withdrawn)?,
            gold: self.count(
                "SELECT coalesce(sum(n), 0) FROM task_counts WHERE project = ?1 AND role <> 'live'",
                [project],
            )?,
            answered: sum("answered")?,
            skipped: sum("skipped")?,
            active_raters: self.count(
                "SELECT count(*) FROM leases WHERE project = ?1 AND ended_at IS NULL AND expires_at > ?2",
                params![project, self.now],
            )?,
            last_hour: self.count(
                "SELECT coalesce(sum(n), 0) FROM minutes WHERE project = ?1 AND minute >= ?2",
                params![project, self.now / MINUTE - 60],
            )?,
            latency_ms: self.latency(project)?,
        })
    }

    fn latency(&self, project: ProjectId) -> Result<Option<u64>> {
        let sql = "SELECT judgments.at_ms - tasks.created_at FROM judgments JOIN tasks ON tasks.id = judgments.task
                   WHERE judgments.project = ?1 AND record = 'judgment' AND tasks.role = 'live' ORDER BY seq DESC LIMIT 101";
        Ok(median(self.list(sql, [project], |row| row.get::<_, i64>(0))?))
    }

    /// A rater's figures.
    pub fn session_stats(&self, project: ProjectId, rater: AccountId) -> Result<SessionStats> {
        // What was taken back counts here as little as in all.
        let recent = "SELECT at_ms, active_ms FROM judgments WHERE project = ?1 AND rater = ?2 AND record = 'judgment'
                      AND EXISTS (SELECT 1 FROM answers WHERE answers.task = judgments.task AND answers.rater = ?2
                                  AND answers.pass = judgments.pass AND answers.first = judgments.seq AND standing = 'answered')
                      ORDER BY seq DESC LIMIT 1000";
        let recent: Vec<(Millis, i64)> =
            self.list(recent, params![project, rater], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let today = recent.iter().filter(|(at, _)| self.now - at < 12 * 3_600_000).count() as u64;
        let median_ms = median(recent.iter().take(21).map(|(_, ms)| *ms).collect());
        Ok(SessionStats { tally: self.tally(project, rater)?, today, median_ms })
    }
}

const MINUTE: Millis = 60_000;

fn median(mut times: Vec<i64>) -> Option<u64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|ms| (*ms).max(0) as u64)
}

impl Write<'_> {
    /// Counts answers and skips that came (1) or went (−1).
    pub(super) fn tally_up(
        &mut self,
        project: ProjectId,
        rater: AccountId,
        [answered, skipped]: [i64; 2],
        active_ms: u64,
    ) -> Result<()> {
        let sql = "INSERT INTO tallies (project, rater, answered, skipped, active_ms, last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT DO UPDATE SET answered = answered + excluded.answered, skipped = skipped + excluded.skipped,
                   active_ms = active_ms + excluded.active_ms, last_at = excluded.last_at";
        self.execute(
            sql,
            params![project, rater, answered, skipped, active_ms.min(86_400_000) as i64, self.now],
        )?;
        if answered > 0 {
            let sql = "INSERT INTO minutes (project, minute, n) VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET n = n + 1";
            self.execute(sql, params![project, self.now / MINUTE])?;
        }
        Ok(())
    }
}
