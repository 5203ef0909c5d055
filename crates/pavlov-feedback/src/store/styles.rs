//! How answers look, counted once when their task comes: statistics read a million answers without a text.

use pavlov_schema::marks::marked_text;
use pavlov_schema::text::Text;
use rusqlite::{Connection, params};
use serde::Deserialize;

use super::TaskId;
use crate::error::Result;
use crate::stats::style::{Counts, counts};

/// The style of each of a task's first two answers, as the columns of `tasks` have it: the length of an answer, and nothing of what it
/// has none.
pub(super) fn of<'a>(answers: impl Iterator<Item = &'a Text>) -> [[Option<u32>; 4]; 2] {
    let styles: Vec<Counts> = answers.take(2).map(|text| counts(&marked_text(text))).collect();
    let column = |side: usize, k: usize| styles.get(side).map(|style| style[k]).filter(|n| k == 0 || *n > 0);
    [0, 1].map(|side| [0, 1, 2, 3].map(|k| column(side, k)))
}

/// What is needed of a stored answer.
#[derive(Deserialize)]
struct Written {
    text: Text,
}

/// Counts the style of tasks that came before it was counted.
pub(super) fn count_all(db: &Connection) -> Result<()> {
    let mut words = db
        .prepare("SELECT task, responses FROM words JOIN tasks ON tasks.id = task WHERE kind <> 'ranking'")?;
    let mut change = db.prepare(
        "UPDATE tasks SET length_a = ?2, headers_a = ?3, lists_a = ?4, bold_a = ?5,
         length_b = ?6, headers_b = ?7, lists_b = ?8, bold_b = ?9 WHERE id = ?1",
    )?;
    let mut rows = words.query([])?;
    while let Some(row) = rows.next()? {
        let written: Vec<Written> = super::projects::json(row, 1)?;
        // Plain text needs no change: its length is known.
        if written.iter().take(2).any(|one| counts(&marked_text(&one.text))[1..] != [0, 0, 0]) {
            let [a, b] = of(written.iter().map(|one| &one.text));
            let task: TaskId = row.get(0)?;
            change.execute(params![task, a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])?;
        }
    }
    Ok(())
}
