//! Tasks: what people are asked.

use pavlov_schema::feedback::{Answer, NewResponse, NewTask, TaskKind};
use pavlov_schema::marks::marked_text;
use pavlov_schema::text::Text;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::projects::{json, to_json};
use super::styles;
use super::{AccountId, Project, ProjectId, Read, TaskId, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::queue::chance::{Decision, bits};
use crate::queue::{plan, screen, settle};
use crate::secret;

/// The longest prompt or response, in bytes.
const LONGEST: usize = 1_000_000;
/// Tasks in one call at most.
pub const MOST_TASKS: usize = 10_000;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for answers.
    Open,
    /// Has them.
    Done,
    /// People disagree; a reviewer decides.
    Adjudicate,
    /// An answer names its model; a manager decides.
    Held,
    /// Its answers are all the same; nobody is asked.
    Collapsed,
    /// Taken back by the sender, or too old.
    Withdrawn,
}

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskRole {
    /// To learn from.
    Live,
    /// To measure raters, served like any other.
    Gold,
    /// To teach raters, before their first live task.
    Calibration,
}

/// A task, without its words.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The row.
    pub id: TaskId,
    /// Names the task in addresses and the API.
    pub code: String,
    /// The project.
    pub project: ProjectId,
    /// The sender's name of it.
    pub key: Option<String>,
    /// What is asked.
    pub kind: TaskKind,
    /// What it is for.
    pub role: TaskRole,
    /// Where it stands.
    pub state: TaskState,
    /// Updates of the policy.
    pub policy_version: u64,
    /// The sentence in which an answer names its model.
    pub leak: Option<String>,
    /// How it was chosen when it was first served: `in_order`, `uniform`, `information`.
    pub selection: Option<String>,
    /// Its chance among the candidates then.
    pub propensity: Option<f64>,
    /// People who shall answer.
    pub overlap: u32,
    /// People who have.
    pub submitted: u32,
    /// People who are at it.
    pub leased: u32,
    /// When it came.
    pub created_at: Millis,
    /// When it was done.
    pub done_at: Option<Millis>,
}

/// The words of a task. They name policies: never for raters' pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    /// What was asked of the policies.
    pub prompt: Text,
    /// Their answers.
    pub responses: Vec<TaskResponse>,
    /// The right answer.
    pub gold: Option<Answer>,
    /// Why it is right.
    pub explanation: Option<String>,
}

/// An answer of a policy with its random name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResponse {
    /// Opaque and random: pages and replies name the answer by it.
    pub id: String,
    /// As it was sent.
    #[serde(flatten)]
    pub response: NewResponse,
}

/// What became of a task that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Added {
    /// Names the task.
    pub task: String,
    /// Where it stands.
    pub state: TaskState,
    /// Its key had been sent before; nothing was added.
    pub existed: bool,
}

pub(super) const COLUMNS: &str =
    "tasks.id, code, project, key, kind, role, state, policy_version, leak, selection, propensity, overlap,
    submitted, leased, created_at, done_at";

pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: row.get(0)?,
        code: row.get(1)?,
        project: row.get(2)?,
        key: row.get(3)?,
        kind: word(row, 4)?,
        role: word(row, 5)?,
        state: word(row, 6)?,
        policy_version: row.get::<_, i64>(7)? as u64,
        leak: row.get(8)?,
        selection: row.get(9)?,
        propensity: row.get(10)?,
        overlap: row.get(11)?,
        submitted: row.get(12)?,
        leased: row.get(13)?,
        created_at: row.get(14)?,
        done_at: row.get(15)?,
    })
}

/// A column that holds the name of an enum's variant.
pub(super) fn word<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text)).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

impl TaskState {
    /// The name in the database and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Adjudicate => "adjudicate",
            Self::Held => "held",
            Self::Collapsed => "collapsed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl TaskRole {
    /// The name in the database and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Gold => "gold",
            Self::Calibration => "calibration",
        }
    }
}

impl Read<'_> {
    /// The task of a code.
    pub fn task(&self, project: ProjectId, code: &str) -> Result<Task> {
        let sql = format!("SELECT {COLUMNS} FROM tasks WHERE code = ?1 AND project = ?2");
        self.one(&sql, params![code, project], task)?.ok_or(Error::NotFound("task"))
    }

    /// The task of a row.
    pub fn task_row(&self, id: TaskId) -> Result<Task> {
        let sql = format!("SELECT {COLUMNS} FROM tasks WHERE id = ?1");
        self.one(&sql, [id], task)?.ok_or(Error::NotFound("task"))
    }

    /// The task that was sent under a key.
    pub fn task_of_key(&self, project: ProjectId, key: &str) -> Result<Option<Task>> {
        let sql = format!("SELECT {COLUMNS} FROM tasks WHERE project = ?1 AND key = ?2");
        self.one(&sql, params![project, key], task)
    }

    /// Tasks in a state, the newest before row `before` (all: none) first.
    pub fn tasks(
        &self,
        project: ProjectId,
        state: TaskState,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Task>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tasks WHERE project = ?1 AND state = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4"
        );
        let before = before.unwrap_or(TaskId(i64::MAX));
        self.list(&sql, params![project, state.name(), before, limit], task)
    }

    /// The words of a task.
    pub fn words(&self, id: TaskId) -> Result<Words> {
        let sql = "SELECT prompt, responses, gold, explanation FROM words WHERE task = ?1";
        let read = |row: &Row<'_>| {
            let gold = match row.get_ref(2)? {
                rusqlite::types::ValueRef::Null => None,
                _ => Some(json(row, 2)?),
            };
            Ok(Words { prompt: json(row, 0)?, responses: json(row, 1)?, gold, explanation: row.get(3)? })
        };
        self.one(sql, [id], read)?.ok_or(Error::NotFound("task"))
    }

    /// Tasks of a role in a state.
    pub fn task_count(&self, project: ProjectId, role: TaskRole, state: TaskState) -> Result<u64> {
        let sql =
            "SELECT coalesce(sum(n), 0) FROM task_counts WHERE project = ?1 AND role = ?2 AND state = ?3";
        self.count(sql, params![project, role.name(), state.name()])
    }
}

impl Write<'_> {
    /// Adds tasks, all of them or none. A key that was sent before adds nothing. Refused with [`Error::Full`] where the project's
    /// cap of open tasks would be passed: the sender waits, so that answers are about policies of today.
    pub fn add_tasks(&mut self, project: ProjectId, new: &[NewTask]) -> Result<Vec<Added>> {
        let project = self.project(project)?;
        if project.closed_at.is_some() {
            return Err(Error::Conflict(format!("the project {} is closed; open it first", project.name)));
        }
        if new.len() > MOST_TASKS {
            return Err(Error::invalid(format!(
                "{} tasks in one call; send at most {MOST_TASKS}",
                new.len()
            )));
        }
        let mut added = Vec::with_capacity(new.len());
        for (i, task) in new.iter().enumerate() {
            let one = self.add_task(&project, task);
            added.push(one.map_err(|error| match error {
                Error::Invalid(what) => Error::Invalid(format!("task {}: {what}", i + 1)),
                other => other,
            })?);
        }
        let (open, cap) =
            (self.task_count(project.id, TaskRole::Live, TaskState::Open)?, project.settings.max_open_tasks);
        if open > cap && added.iter().any(|one| !one.existed) {
            let waiting = added.iter().filter(|one| !one.existed && one.state == TaskState::Open).count();
            return Err(Error::Full { open: open.saturating_sub(waiting as u64), cap });
        }
        self.withdraw_stale(&project)?;
        Ok(added)
    }

    fn add_task(&mut self, project: &Project, new: &NewTask) -> Result<Added> {
        if let Some(key) = &new.key
            && let Some(known) = self.task_of_key(project.id, key)?
        {
            return Ok(Added { task: known.code, state: known.state, existed: true });
        }
        let kind = new.kind.unwrap_or(project.settings.kind);
        check(new, kind)?;
        let (code, role) = (secret::code()?, role(new));
        let (state, leak) = first_state(new, kind, project.settings.hold_leaks);
        let author = new.author.as_deref().map(|name| self.author(project.id, name)).transpose()?.flatten();
        // Of a ranking two are not all: whoever asks reads its words.
        let responses = if kind == TaskKind::Ranking { &[] } else { &new.responses[..] };
        let policy = |i: usize| responses.get(i).and_then(|response| response.policy.clone());
        let [a, b] = styles::of(responses.iter().map(|response| &response.text));
        let id = TaskId(self.insert(
            "INSERT INTO tasks (code, project, key, kind, role, policy_version, predicted, gold, author, leak, state, created_at,
                                policy_a, length_a, headers_a, lists_a, bold_a, policy_b, length_b, headers_b, lists_b, bold_b,
                                overlap, shuffle)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, 1, 0)",
            params![
                code,
                project.id,
                new.key,
                kind.name(),
                role.name(),
                new.policy_version as i64,
                new.predicted.filter(|_| kind == TaskKind::Pairwise),
                new.gold.as_ref().map(|gold| settle::short(&gold.said)),
                author,
                leak,
                state.name(),
                self.now,
                policy(0),
                a[0],
                a[1],
                a[2],
                a[3],
                policy(1),
                b[0],
                b[1],
                b[2],
                b[3],
            ],
        )?);
        let overlap =
            new.overlap.unwrap_or_else(|| plan::overlap(&project.settings, project.salt, id.0 as u64));
        let shuffle = bits(project.salt, Decision::Shuffle, id.0 as u64);
        self.execute(
            "UPDATE tasks SET overlap = ?2, shuffle = ?3 WHERE id = ?1",
            params![id, overlap, shuffle],
        )?;
        let responses = new
            .responses
            .iter()
            .map(|response| Ok(TaskResponse { id: secret::code()?, response: response.clone() }));
        let responses = to_json(&responses.collect::<Result<Vec<_>>>()?)?;
        let gold = new.gold.as_ref().map(to_json).transpose()?;
        self.execute(
            "INSERT INTO words (task, prompt, responses, gold, explanation) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, to_json(&new.prompt)?, responses, gold, new.explanation],
        )?;
        Ok(Added { task: code, state, existed: false })
    }

    /// The account of a pseudonym. Somebody unknown is nobody's colleague.
    fn author(&self, project: ProjectId, pseudonym: &str) -> Result<Option<AccountId>> {
        let sql = "SELECT account FROM members WHERE project = ?1 AND pseudonym = ?2";
        self.one(sql, params![project, pseudonym], |row| row.get(0))
    }

    /// Withdraws open tasks that are too many updates behind the newest policy.
    fn withdraw_stale(&mut self, project: &Project) -> Result<()> {
        let Some(most) = project.settings.max_staleness else { return Ok(()) };
        let sql = "UPDATE tasks SET state = 'withdrawn' WHERE project = ?1 AND state = 'open' AND role = 'live' AND policy_version
                   < (SELECT max(policy_version) FROM tasks WHERE project = ?1 AND state = 'open' AND role = 'live') - ?2";
        self.execute(sql, params![project.id, i64::try_from(most).unwrap_or(i64::MAX)])?;
        Ok(())
    }

    /// Takes tasks back that wait for answers; how many did. Answers under way still count.
    pub fn withdraw_tasks(&mut self, project: ProjectId, codes: &[String]) -> Result<usize> {
        let sql = "UPDATE tasks SET state = 'withdrawn' WHERE project = ?1 AND code = ?2 AND state IN ('open', 'held', 'adjudicate')";
        codes.iter().try_fold(0, |n, code| Ok(n + self.execute(sql, params![project, code])?))
    }

    /// Lets a held task go to raters although an answer may name its model.
    pub fn release_held(&mut self, project: ProjectId, code: &str) -> Result<()> {
        let sql = "UPDATE tasks SET state = 'open' WHERE project = ?1 AND code = ?2 AND state = 'held'";
        self.change_one(sql, params![project, code], "held task")
    }

    /// Makes a gold task of one whose right answer is known now; the original stays what it was. The caller audits it.
    pub fn promote_to_gold(&mut self, project: ProjectId, code: &str, answer: &Answer) -> Result<Added> {
        let task = self.task(project, code)?;
        let words = self.words(task.id)?;
        let responses = words.responses.into_iter().map(|response| response.response).collect();
        let new = NewTask {
            key: Some(format!("gold/{code}")),
            kind: Some(task.kind),
            policy_version: task.policy_version,
            gold: Some(answer.clone()),
            ..NewTask::new(words.prompt, responses)
        };
        let project = self.project(project)?;
        self.add_task(&project, &new)
    }
}

fn role(new: &NewTask) -> TaskRole {
    match (&new.gold, new.calibration) {
        (None, _) => TaskRole::Live,
        (Some(_), false) => TaskRole::Gold,
        (Some(_), true) => TaskRole::Calibration,
    }
}

/// Where a new task stands, and the sentence in which an answer names its model.
fn first_state(new: &NewTask, kind: TaskKind, hold_leaks: bool) -> (TaskState, Option<String>) {
    let leak = new.responses.iter().find_map(|response| screen::leak(&response.text));
    let compared = matches!(kind, TaskKind::Pairwise | TaskKind::Ranking);
    let same = compared && new.responses.windows(2).all(|two| screen::same(&two[0].text, &two[1].text));
    let state = if same {
        TaskState::Collapsed
    } else if leak.is_some() && hold_leaks {
        TaskState::Held
    } else {
        TaskState::Open
    };
    (state, leak)
}

/// Checks the task and what only the store limits; the error names the key and the mend.
fn check(new: &NewTask, kind: TaskKind) -> Result<()> {
    new.validate(kind).map_err(Error::Invalid)?;
    if new.overlap.is_some_and(|overlap| overlap > 100) {
        return Err(Error::invalid("`overlap` goes from 1 to 100"));
    }
    if new.policy_version > i64::MAX as u64 {
        return Err(Error::invalid("`policy_version` is a count of updates; give a smaller number"));
    }
    if new.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 200) {
        return Err(Error::invalid("`key` needs 1 to 200 bytes"));
    }
    for text in new.responses.iter().map(|response| &response.text).chain([&new.prompt]) {
        let bytes = marked_text(text).len();
        if bytes > LONGEST {
            return Err(Error::invalid(format!("a text has {bytes} bytes; {LONGEST} is the most")));
        }
    }
    Ok(())
}
