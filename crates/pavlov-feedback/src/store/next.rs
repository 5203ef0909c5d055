//! The next task of a rater, found in the order that the project decided.

use pavlov_schema::ranking::Order;
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
/// Started tasks that are looked at where there is no fresh one. Whoever has answered more of them goes on there with the next
/// claim: nobody else's claim shall wait for a hundred thousand tasks to be looked through. It is what a project has open at
/// most unless it says otherwise.
const SEARCHED: u32 = 10_000;

/// A task's place among the started ones: its policy's version, the newest first, and its row.
pub(super) type Place = (i64, TaskId);

/// A task that was found for a rater.
pub(super) struct Found {
    pub(super) task: TaskId,
    /// How it was chosen, its chance, among how many; only when a live task is first given out.
    pub(super) chosen: Option<(&'static str, f64, u32)>,
    pub(super) pass: u8,
    /// Whether it takes one of the task's places.
    pub(super) counted: bool,
    /// A repeat's order.
    pub(super) shown: Option<Order>,
}

impl Write<'_> {
    /// The next task of a rater.
    pub(super) fn find(&mut self, project: &Project, account: AccountId) -> Result<Option<Found>> {
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

    /// A task with a free place: one begun by this rater, one begun by others, or a fresh one; the newest policy's first.
    fn live(&mut self, project: &Project, account: AccountId) -> Result<Option<Found>> {
        let counted = |(_, task)| Found { task, chosen: None, pass: 0, counted: true, shown: None };
        if let Some(task) = self.drafted(project.id, account)? {
            return Ok(Some(counted((0, task))));
        }
        let started = self.started(project.id, account, None, STARTED)?.0;
        let fresh = self.newest_fresh(project.id, account)?;
        match (started, fresh) {
            (Some(place), fresh) if fresh.is_none_or(|fresh| place.0 >= fresh) => Ok(Some(counted(place))),
            (_, Some(version)) => self.fresh(project, account, version),
            (_, None) => Ok(self.search(project.id, account)?.map(counted)),
        }
    }

    /// A started task with a place, looked for from where this rater's last search ended.
    fn search(&mut self, project: ProjectId, account: AccountId) -> Result<Option<Place>> {
        let from = self.queue(project)?.searched.get(&account).copied();
        let (mut found, mut end) = self.started(project, account, from, SEARCHED)?;
        if from.is_some() && found.is_none() && end.is_none() {
            // That was the end of all. Places before the one where this search began may have come free.
            (found, end) = self.started(project, account, None, SEARCHED)?;
        }
        let searched = &mut self.queue(project)?.searched;
        match found.or(end) {
            Some(place) => drop(searched.insert(account, place)),
            None => drop(searched.remove(&account)),
        }
        Ok(found)
    }
}

impl Read<'_> {
    /// A task with a known answer that the rater has not seen.
    fn known(&self, project: &Project, account: AccountId, role: TaskRole) -> Result<Option<Found>> {
        let sql = "SELECT id FROM tasks WHERE project = ?1 AND role = ?3 AND state = 'open' AND role <> 'live'
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2) ORDER BY shuffle LIMIT 1";
        let found = self.one(sql, params![project.id, account, role.name()], |row| row.get(0))?;
        Ok(found.map(|task| Found { task, chosen: None, pass: 0, counted: false, shown: None }))
    }

    /// An earlier comparison or ranking of the rater's, from the other end.
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
            let swapped = shown(row, 1)?.map(Order::reversed);
            Ok(Found { task: row.get(0)?, chosen: None, pass: 1, counted: false, shown: swapped })
        })
    }

    /// The newest policy of which there is a task that nobody has answered and this rater may.
    fn newest_fresh(&self, project: ProjectId, account: AccountId) -> Result<Option<i64>> {
        let sql = "SELECT policy_version FROM tasks INDEXED BY tasks_fresh WHERE project = ?1 AND state = 'open' AND role = 'live' AND submitted = 0
                   AND leased < overlap AND (author IS NULL OR author <> ?2)
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2)
                   ORDER BY policy_version DESC, id LIMIT 1";
        self.one(sql, params![project, account], |row| row.get(0))
    }

    fn drafted(&self, project: ProjectId, account: AccountId) -> Result<Option<TaskId>> {
        // A rater has few drafts and a project many tasks: CROSS fixes the order of the join.
        let sql = "SELECT tasks.id FROM drafts CROSS JOIN tasks ON tasks.id = drafts.task
                   WHERE account = ?2 AND project = ?1 AND state = 'open' AND role = 'live' AND overlap > submitted + leased
                   AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.task = tasks.id AND rater = ?2)
                   ORDER BY drafts.updated_at DESC LIMIT 1";
        self.one(sql, params![project, account], |row| row.get(0))
    }

    /// A task that others have answered and that has a place, among the next `most` behind `from`; and, where all of those were
    /// looked at and there may be more, the last one's place.
    fn started(
        &self,
        project: ProjectId,
        account: AccountId,
        from: Option<Place>,
        most: u32,
    ) -> Result<(Option<Place>, Option<Place>)> {
        // Two ranges of the index: the rest of the version where the last search ended, and the older ones.
        let ranges = match from {
            Some((version, task)) => [Some(("=", version, task)), Some(("<", version, TaskId(0)))],
            None => [Some(("<=", i64::MAX, TaskId(0))), None],
        };
        let (mut left, mut last) = (most, None);
        for (is, version, after) in ranges.into_iter().flatten() {
            let sql = format!(
                "SELECT policy_version, id, author IS NOT ?2 AND NOT EXISTS (SELECT 1 FROM answers WHERE task = tasks.id AND rater = ?2)
                 FROM tasks INDEXED BY tasks_started WHERE project = ?1 AND state = 'open' AND role = 'live'
                 AND submitted > 0 AND overlap > submitted + leased AND policy_version {is} ?4 AND id > ?5
                 ORDER BY policy_version DESC, id LIMIT ?3"
            );
            let mut statement = self.db.prepare_cached(&sql)?;
            let mut rows = statement.query(params![project, account, left, version, after])?;
            while let Some(row) = rows.next()? {
                let place = (row.get(0)?, row.get(1)?);
                if row.get(2)? {
                    return Ok((Some(place), None));
                }
                (last, left) = (Some(place), left - 1);
            }
            if left == 0 {
                return Ok((None, last));
            }
        }
        Ok((None, None))
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

#[cfg(test)]
mod tests {
    use pavlov_schema::feedback::{NewResponse, NewTask};

    use super::*;
    use crate::reply::{Pick, Reply, ScreenSaid};
    use crate::roles::Role;
    use crate::settings::Settings;
    use crate::store::{NewProject, Served, Submission};
    use crate::{Clock, Store};

    fn answer_all(w: &mut Write<'_>, project: ProjectId, rater: AccountId) -> Result<usize> {
        let mut n = 0;
        while let Served::Task(lease) = w.claim(project, rater)? {
            let said = ScreenSaid::Pairwise { pick: Pick::Left, strength: None, edit: None };
            let reply = Reply { said, rationale: None, flags: Vec::new(), marks: Vec::new() };
            let key = lease.code.clone();
            w.submit(rater, Submission { lease: lease.code, key, reply, active_ms: 1 })?;
            n += 1;
        }
        Ok(n)
    }

    #[test]
    fn a_search_goes_on_where_it_ended_and_misses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("feedback.db"), Clock::system()).unwrap();
        let settings = Settings {
            overlap: 2,
            shared_share: 0.0,
            gold_share: 0.0,
            repeat_share: 0.0,
            ..Settings::default()
        };
        let searched = store.write_now(move |w| {
            let owner = w.create_account("owner", None, true)?.id;
            let new = NewProject { name: "worlds".into(), settings, guidelines: String::new() };
            let project = w.create_project(&new, owner)?.id;
            let [ana, ben] = ["ana", "ben"].map(|name| w.create_account(name, None, false).unwrap().id);
            for rater in [ana, ben] {
                w.set_member(project, rater, Role::Rater)?;
            }
            // Three versions of a policy, three tasks each.
            let task = |i: u64| {
                let pair = ["one", "two"].map(|text| NewResponse::new(format!("{text} {i}").as_str()));
                let words = format!("prompt {i}");
                NewTask { policy_version: i / 3, ..NewTask::new(words.as_str().into(), pair.to_vec()) }
            };
            w.add_tasks(project, &(0..9).map(task).collect::<Vec<_>>())?;
            assert_eq!(answer_all(w, project, ana)?, 9);
            // Four at a time: the ends are in the order of the queue, and the last search comes to the end of all.
            let (mut from, mut ends) = (None, Vec::new());
            loop {
                let (found, end) = w.started(project, ana, from, 4)?;
                assert_eq!(found, None, "she has answered them all");
                ends.push(end.map(|(version, _)| version));
                from = end;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(ends, [Some(1), Some(0), None]);
            // Another rater finds the newest policy's first, and behind it the next one.
            let first = w.started(project, ben, None, 4)?.0.unwrap();
            let second = w.started(project, ben, Some(first), 4)?.0.unwrap();
            assert!(first.0 == 2 && second.0 == 2 && second.1 > first.1, "{first:?} {second:?}");
            // A search from the end of all begins anew.
            let last = w.started(project, ben, Some((0, TaskId(i64::MAX))), 4)?;
            assert_eq!(last, (None, None));
            w.queue(project)?.searched.insert(ben, (0, TaskId(i64::MAX)));
            assert_eq!(w.search(project, ben)?, Some(first));
            assert_eq!(answer_all(w, project, ben)?, 9);
            Ok(w.queue(project)?.searched.get(&ana).copied())
        });
        assert_eq!(searched.unwrap(), None);
    }
}
