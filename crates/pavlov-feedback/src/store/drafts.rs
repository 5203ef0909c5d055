//! Drafts: what a rater has begun to say, kept on the server until it is said.

use rusqlite::params;

use super::{AccountId, Read, TaskId, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};

/// The longest draft, in bytes.
const LONGEST: usize = 400_000;

/// A draft, opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Counts the changes of one page; an older one never overwrites a newer one.
    pub revision: u64,
    /// What the page wants to find again.
    pub body: String,
    /// When it was saved.
    pub updated_at: Millis,
}

impl Read<'_> {
    /// The draft of an account for a task.
    pub fn draft(&self, account: AccountId, task: TaskId) -> Result<Option<Draft>> {
        let sql = "SELECT revision, body, updated_at FROM drafts WHERE account = ?1 AND task = ?2";
        self.one(sql, params![account, task], |row| {
            let revision = row.get::<_, i64>(0)? as u64;
            Ok(Draft { revision, body: row.get(1)?, updated_at: row.get(2)? })
        })
    }
}

impl Write<'_> {
    /// Saves a draft under a lease, expired or not. One of a revision not above the saved one is ignored, and once the task is
    /// answered there are no drafts: the stale page of another tab changes nothing.
    pub fn save_draft(&mut self, account: AccountId, lease: &str, revision: u64, body: &str) -> Result<()> {
        if body.len() > LONGEST {
            return Err(Error::invalid(format!("a draft may have {LONGEST} bytes; submit or shorten it")));
        }
        let lease = self.lease_row(account, lease)?;
        if self.standing(lease.task, account, lease.pass)?.is_some() {
            return Err(Error::Answered);
        }
        let sql = "INSERT INTO drafts (account, task, revision, body, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET revision = excluded.revision, body = excluded.body, updated_at = excluded.updated_at
                   WHERE excluded.revision > revision";
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        self.execute(sql, params![account, lease.task, revision, body, self.now])?;
        Ok(())
    }

    pub(super) fn drop_draft(&mut self, account: AccountId, task: TaskId) -> Result<()> {
        self.execute("DELETE FROM drafts WHERE account = ?1 AND task = ?2", params![account, task])?;
        Ok(())
    }
}
