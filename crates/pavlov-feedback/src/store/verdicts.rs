//! What statistics read of the answers that hold: numbers in place of names and texts, so that a million of them are some tens of
//! megabytes.

use std::collections::HashMap;

use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::TaskKind;
use pavlov_schema::marks::marked_text;
use pavlov_schema::ranking::Order;
use rusqlite::{Connection, Row, params};
use serde::Deserialize;

use super::leases::shown;
use super::open::CACHE;
use super::projects::json;
use super::tasks::{TaskResponse, TaskRole, word};
use super::{AccountId, ProjectId, Read, TaskId};
use crate::clock::Millis;
use crate::error::Result;
use crate::queue::rankings;
use crate::stats::style::{Counts, counts};

/// The answers of a project that hold. What they have in common stands once, and goes by its place.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    /// The tasks that were answered, in the order in which they came.
    pub tasks: Vec<JudgedTask>,
    /// Everybody who answered one.
    pub raters: Vec<AccountId>,
    /// The policies of the tasks.
    pub policies: Vec<String>,
    /// Everything that was said.
    pub said: Vec<Verdict>,
    /// Task by task.
    pub answers: Vec<Judged>,
}

/// An answered task.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedTask {
    /// The row.
    pub id: TaskId,
    /// Names it in addresses and the API.
    pub code: String,
    /// What it is for.
    pub role: TaskRole,
    /// Of a task with a known answer: the right one in short.
    pub gold: Option<String>,
    /// The policies of its answers, where known, by their place in [`Verdicts::policies`].
    pub policies: Vec<Option<u32>>,
    /// How its answers look.
    pub styles: Vec<Counts>,
}

/// Something that was said, of however many tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// In short: see [`crate::queue::settle::short`].
    pub short: String,
    /// As statistics tell it apart.
    pub voice: Voice,
}

/// What a verdict says.
#[derive(Clone, Debug, PartialEq)]
pub enum Voice {
    /// Which of two answers is better.
    Choice(Choice),
    /// The rank of each answer; none where none of them will do.
    Ranking(Option<Vec<u8>>),
    /// Points by question.
    Scores(Vec<(String, f64)>),
    /// A text; statistics compare none.
    Text,
}

/// An answer that holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The record.
    pub seq: u64,
    /// When.
    pub at_ms: Millis,
    /// The task, by its place in [`Verdicts::tasks`].
    pub task: u32,
    /// Who, by the place in [`Verdicts::raters`].
    pub rater: u32,
    /// What was said, by its place in [`Verdicts::said`].
    pub said: u32,
    /// Milliseconds the rater looked at the task.
    pub active_ms: u32,
    /// 0: the first look, 1: the swapped repeat, 2: a reviewer's decision.
    pub pass: u8,
    /// The order on the screen, of a comparison or ranking.
    pub shown: Option<Order>,
    /// The task was chosen for its information: no sample of anything.
    pub informed: bool,
    /// It is excluded from statistics and training.
    pub excluded: bool,
}

/// Gives each text a number, in the order in which they come.
#[derive(Default)]
struct Numbers {
    known: HashMap<String, u32>,
}

impl Numbers {
    /// The number of a text, and whether it is new.
    fn of(&mut self, text: &str) -> (u32, bool) {
        if let Some(&number) = self.known.get(text) {
            return (number, false);
        }
        let number = self.known.len() as u32;
        self.known.insert(text.to_owned(), number);
        (number, true)
    }
}

#[derive(Deserialize)]
struct Score {
    question: String,
    value: f64,
}

/// Which answers are excluded: all of some raters', and single records, in order.
#[derive(Default)]
struct Excluded {
    raters: Vec<AccountId>,
    records: Vec<u64>,
}

impl Excluded {
    fn has(&self, rater: AccountId, records: [u64; 2]) -> bool {
        self.raters.contains(&rater) || records.iter().any(|seq| self.records.binary_search(seq).is_ok())
    }
}

// Of each row only the columns that are read are looked up.
const SQL: &str = "WITH mine AS MATERIALIZED (SELECT id FROM tasks WHERE project = ?1 ORDER BY id)
    SELECT tasks.id, answers.seq, answers.first, answers.rater, answers.pass, said, at_ms, active_ms, shown,
           judgments.selection IS 'information', kind, tasks.role, gold, policy_a, policy_b,
           length_a, headers_a, lists_a, bold_a, length_b, headers_b, lists_b, bold_b,
           CASE kind WHEN 'pointwise' THEN payload ->> '$.said.pointwise.scores' END, code
    FROM mine CROSS JOIN tasks ON tasks.id = mine.id CROSS JOIN answers ON answers.task = mine.id
    CROSS JOIN judgments ON judgments.seq = answers.seq WHERE standing = 'answered'";

impl Read<'_> {
    /// Every answer of a project that holds.
    pub fn verdicts(&self, project: ProjectId) -> Result<Verdicts> {
        // Of a large log nothing is found again in a cache of any size; a full one would stand beside what is computed now.
        self.db.execute_batch("PRAGMA cache_size = -4096")?;
        let found = self.all_verdicts(project);
        self.db.execute_batch(CACHE)?;
        found
    }

    fn all_verdicts(&self, project: ProjectId) -> Result<Verdicts> {
        let mut reading = Reading {
            db: self.db,
            found: Verdicts::default(),
            policies: Numbers::default(),
            said: Numbers::default(),
            raters: HashMap::new(),
            excluded: self.excluded(project)?,
        };
        let mut statement = self.db.prepare_cached(SQL)?;
        let mut rows = statement.query(params![project])?;
        while let Some(row) = rows.next()? {
            reading.take(row)?;
        }
        Ok(reading.found)
    }

    fn excluded(&self, project: ProjectId) -> Result<Excluded> {
        let standing = self.exclusions(project)?.into_iter().filter(|one| one.lifted_at.is_none());
        let mut found = Excluded::default();
        for one in standing {
            match one.seq {
                Some(seq) => found.records.push(seq),
                None => found.raters.push(one.rater),
            }
        }
        found.records.sort_unstable();
        Ok(found)
    }
}

/// Verdicts as they are read, and the numbers that were given so far.
struct Reading<'a> {
    db: &'a Connection,
    found: Verdicts,
    policies: Numbers,
    said: Numbers,
    raters: HashMap<AccountId, u32>,
    excluded: Excluded,
}

impl Reading<'_> {
    fn take(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let (id, kind): (TaskId, TaskKind) = (row.get(0)?, word(row, 10)?);
        if self.found.tasks.last().is_none_or(|last| last.id != id) {
            let task = self.task(row, id, kind)?;
            self.found.tasks.push(task);
        }
        let short = row.get_ref(5)?.as_str()?;
        let scores = row.get_ref(23)?.as_str_or_null()?;
        let (said, new) = self.said.of(scores.unwrap_or(short));
        if new {
            let voice = voice(row, kind, short, scores)?;
            self.found.said.push(Verdict { short: short.to_owned(), voice });
        }
        let account: AccountId = row.get(3)?;
        let next = self.raters.len() as u32;
        let rater = *self.raters.entry(account).or_insert(next);
        if rater == next {
            self.found.raters.push(account);
        }
        let (seq, first) = (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
        self.found.answers.push(Judged {
            seq,
            at_ms: row.get(6)?,
            task: (self.found.tasks.len() - 1) as u32,
            rater,
            said,
            active_ms: u32::try_from(row.get::<_, i64>(7)?).unwrap_or(u32::MAX),
            pass: row.get(4)?,
            shown: shown(row, 8)?,
            informed: row.get(9)?,
            excluded: self.excluded.has(account, [seq, first]),
        });
        Ok(())
    }

    fn task(&mut self, row: &Row<'_>, id: TaskId, kind: TaskKind) -> rusqlite::Result<JudgedTask> {
        let (policies, styles) =
            if kind == TaskKind::Ranking { self.ranked(id)? } else { self.compared(row)? };
        Ok(JudgedTask { id, code: row.get(24)?, role: word(row, 11)?, gold: row.get(12)?, policies, styles })
    }

    /// Policies and styles as they stand with the task, of up to two answers.
    fn compared(&mut self, row: &Row<'_>) -> rusqlite::Result<(Vec<Option<u32>>, Vec<Counts>)> {
        let (mut policies, mut styles) = (Vec::new(), Vec::new());
        for (policy, style) in [(13, 15), (14, 19)] {
            let Some(length) = row.get(style)? else { break };
            let count =
                |k: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<u32>>(style + k)?.unwrap_or(0));
            styles.push([length, count(1)?, count(2)?, count(3)?]);
            policies.push(self.policy(row.get_ref(policy)?.as_str_or_null()?));
        }
        Ok((policies, styles))
    }

    /// A ranking's are with its words.
    fn ranked(&mut self, id: TaskId) -> rusqlite::Result<(Vec<Option<u32>>, Vec<Counts>)> {
        let mut words = self.db.prepare_cached("SELECT responses FROM words WHERE task = ?1")?;
        let answers: Vec<TaskResponse> = words.query_row([id], |row| json(row, 0))?;
        let policies = answers.iter().map(|one| self.policy(one.response.policy.as_deref())).collect();
        Ok((policies, answers.iter().map(|one| counts(&marked_text(&one.response.text))).collect()))
    }

    fn policy(&mut self, name: Option<&str>) -> Option<u32> {
        let (number, new) = self.policies.of(name?);
        if new {
            self.found.policies.push(name?.to_owned());
        }
        Some(number)
    }
}

/// What a verdict says: a choice by its short form, scores by what the log has of them.
fn voice(row: &Row<'_>, kind: TaskKind, short: &str, scores: Option<&str>) -> rusqlite::Result<Voice> {
    match (kind, scores) {
        (TaskKind::Pairwise, _) => Ok(match short {
            "a" => Voice::Choice(Choice::A),
            "b" => Voice::Choice(Choice::B),
            "tie" => Voice::Choice(Choice::Tie),
            _ => Voice::Choice(Choice::BothBad),
        }),
        (TaskKind::Ranking, _) => Ok(Voice::Ranking(rankings::ranks(short))),
        (TaskKind::Pointwise, Some(_)) => {
            let scores: Vec<Score> = json(row, 23)?;
            Ok(Voice::Scores(scores.into_iter().map(|one| (one.question, one.value)).collect()))
        }
        (TaskKind::Pointwise | TaskKind::Demonstration | TaskKind::Edit, _) => Ok(Voice::Text),
    }
}
