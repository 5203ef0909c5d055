//! Webhooks: where sealed records are announced, and what became of each announcement.

use rusqlite::{Row, params};

use super::{AccountId, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;

/// An address that wants to hear of sealed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The row.
    pub id: i64,
    /// Names it in addresses and the API.
    pub code: String,
    /// The project.
    pub project: ProjectId,
    /// Where it is posted to. The store does not judge it.
    pub url: String,
    /// The key of its signatures.
    pub secret: String,
    /// The last sealed record that was put into deliveries.
    pub cursor: u64,
}

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The row.
    pub id: i64,
    /// The webhook.
    pub webhook: i64,
    /// What is posted.
    pub body: String,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When the next one is due.
    pub next_at: Millis,
    /// When it arrived.
    pub delivered_at: Option<Millis>,
    /// When it was given up.
    pub dead_at: Option<Millis>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

const WEBHOOK: &str = "id, code, project, url, secret, cursor";
const DELIVERY: &str = "id, webhook, body, attempts, next_at, delivered_at, dead_at, error";

fn webhook(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    Ok(Webhook {
        id: row.get(0)?,
        code: row.get(1)?,
        project: row.get(2)?,
        url: row.get(3)?,
        secret: row.get(4)?,
        cursor: row.get::<_, i64>(5)? as u64,
    })
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: row.get(0)?,
        webhook: row.get(1)?,
        body: row.get(2)?,
        attempts: row.get(3)?,
        next_at: row.get(4)?,
        delivered_at: row.get(5)?,
        dead_at: row.get(6)?,
        error: row.get(7)?,
    })
}

impl Read<'_> {
    /// The webhooks of a project, or with none all of them.
    pub fn webhooks(&self, project: Option<ProjectId>) -> Result<Vec<Webhook>> {
        let sql = format!(
            "SELECT {WEBHOOK} FROM webhooks WHERE removed_at IS NULL AND (?1 IS NULL OR project = ?1) ORDER BY id"
        );
        self.list(&sql, [project], webhook)
    }

    /// A webhook of a project.
    pub fn webhook(&self, project: ProjectId, code: &str) -> Result<Webhook> {
        let found = self.webhooks(Some(project))?.into_iter().find(|webhook| webhook.code == code);
        found.ok_or(Error::NotFound("webhook"))
    }

    /// Deliveries whose attempt is due, the longest waiting first.
    pub fn due_deliveries(&self, limit: u32) -> Result<Vec<Delivery>> {
        let sql = format!(
            "SELECT {DELIVERY} FROM deliveries WHERE delivered_at IS NULL AND dead_at IS NULL AND next_at <= ?1
             AND webhook IN (SELECT id FROM webhooks WHERE removed_at IS NULL) ORDER BY next_at LIMIT ?2"
        );
        self.list(&sql, params![self.now, limit], delivery)
    }

    /// The last deliveries of a webhook, the newest first.
    pub fn deliveries(&self, webhook: i64, limit: u32) -> Result<Vec<Delivery>> {
        let sql = format!("SELECT {DELIVERY} FROM deliveries WHERE webhook = ?1 ORDER BY id DESC LIMIT ?2");
        self.list(&sql, params![webhook, limit], delivery)
    }
}

impl Write<'_> {
    /// Adds a webhook that hears of what is sealed from now on; its key is told here and on its page.
    pub fn create_webhook(&mut self, project: ProjectId, url: &str, by: AccountId) -> Result<Webhook> {
        let code = secret::code()?;
        let sql = "INSERT INTO webhooks (code, project, url, secret, cursor, created_by, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let cursor = self.sealed_through(project)? as i64;
        self.insert(sql, params![code, project, url, secret::token()?, cursor, by, self.now])?;
        self.webhook(project, &code)
    }

    /// Removes a webhook; its deliveries stay to be looked at.
    pub fn remove_webhook(&mut self, project: ProjectId, code: &str) -> Result<()> {
        let sql =
            "UPDATE webhooks SET removed_at = ?3 WHERE project = ?1 AND code = ?2 AND removed_at IS NULL";
        self.change_one(sql, params![project, code, self.now], "webhook")
    }

    /// Puts an announcement into the queue and moves the webhook's cursor on, both or neither.
    pub fn enqueue_delivery(&mut self, webhook: i64, body: &str, cursor: u64) -> Result<i64> {
        let sql = "UPDATE webhooks SET cursor = max(cursor, ?2) WHERE id = ?1";
        self.change_one(sql, params![webhook, cursor as i64], "webhook")?;
        let sql = "INSERT INTO deliveries (webhook, body, next_at) VALUES (?1, ?2, ?3)";
        self.insert(sql, params![webhook, body, self.now])
    }

    /// Notes that a delivery arrived.
    pub fn delivered(&mut self, id: i64) -> Result<()> {
        let sql = "UPDATE deliveries SET delivered_at = ?2, error = NULL WHERE id = ?1";
        self.change_one(sql, params![id, self.now], "delivery")
    }

    /// Notes that an attempt failed: the next one is at `next_at`, with none it is given up.
    pub fn delivery_failed(&mut self, id: i64, error: &str, next_at: Option<Millis>) -> Result<()> {
        let dead = next_at.is_none().then_some(self.now);
        let sql = "UPDATE deliveries SET attempts = attempts + 1, error = ?2, next_at = coalesce(?3, next_at), dead_at = ?4
                   WHERE id = ?1";
        self.change_one(sql, params![id, error, next_at, dead], "delivery")
    }

    /// Tries a delivery that was given up once more.
    pub fn retry_delivery(&mut self, id: i64) -> Result<()> {
        let sql = "UPDATE deliveries SET dead_at = NULL, attempts = 0, next_at = ?2 WHERE id = ?1 AND delivered_at IS NULL";
        self.change_one(sql, params![id, self.now], "delivery")
    }
}
