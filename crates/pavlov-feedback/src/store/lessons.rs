//! Lessons: what reward models foretold of held-out judgments, as training told it.

use pavlov_schema::feedback::Learned;
use rusqlite::{Row, params};

use super::{ProjectId, Read, Write};
use crate::error::{Error, Result};

fn learned(row: &Row<'_>) -> rusqlite::Result<Learned> {
    Ok(Learned {
        run: row.get(0)?,
        cursor: row.get::<_, i64>(1)? as u64,
        judgments: row.get::<_, i64>(2)? as u64,
        held_out: row.get::<_, i64>(3)? as u64,
        accuracy: row.get(4)?,
        low: row.get(5)?,
        high: row.get(6)?,
    })
}

const COLUMNS: &str = "run, cursor, judgments, held_out, accuracy, low, high";

impl Read<'_> {
    /// Every lesson of a project: runs in the order they began, each in the order of the log.
    pub fn lessons(&self, project: ProjectId) -> Result<Vec<Learned>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM lessons WHERE project = ?1
             ORDER BY (SELECT min(id) FROM lessons first WHERE first.project = ?1 AND first.run = lessons.run), cursor"
        );
        self.list(&sql, [project], learned)
    }
}

impl Write<'_> {
    /// Adds a lesson; false if it was told before. Errors: a cursor that training was never given, and another lesson under the
    /// same run and cursor.
    pub fn add_lesson(&mut self, project: ProjectId, lesson: &Learned) -> Result<bool> {
        lesson.validate().map_err(Error::Invalid)?;
        let sealed = self.sealed_through(project)?;
        if lesson.cursor > sealed {
            let cursor = lesson.cursor;
            return Err(Error::invalid(format!(
                "`cursor` is {cursor} and records are sealed through {sealed}; give the cursor that came with the records"
            )));
        }
        if lesson.judgments > lesson.cursor || lesson.held_out > i64::MAX as u64 {
            let what = "more judgments than there are records; give the numbers that were counted";
            return Err(Error::invalid(what));
        }
        let sql = format!("SELECT {COLUMNS} FROM lessons WHERE project = ?1 AND run = ?2 AND cursor = ?3");
        match self.one(&sql, params![project, lesson.run, lesson.cursor as i64], learned)? {
            Some(known) if known == *lesson => return Ok(false),
            Some(_) => {
                let (run, cursor) = (&lesson.run, lesson.cursor);
                let what = format!(
                    "{run} has told another lesson of record {cursor}; give a new run a name of its own"
                );
                return Err(Error::Conflict(what));
            }
            None => {}
        }
        let sql = format!(
            "INSERT INTO lessons (project, {COLUMNS}, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        let Learned { run, cursor, judgments, held_out, accuracy, low, high } = lesson;
        let [cursor, judgments, held_out] = [cursor, judgments, held_out].map(|n| *n as i64);
        let row = params![project, run, cursor, judgments, held_out, accuracy, low, high, self.now];
        self.insert(&sql, row)?;
        Ok(true)
    }
}
