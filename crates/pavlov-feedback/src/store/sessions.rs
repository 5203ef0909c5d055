//! Sessions: a cookie's token stands for an account until it runs out.

use rusqlite::params;

use super::{AccountId, Read, Write};
use crate::clock::Millis;
use crate::error::Result;
use crate::secret;

/// Days after which an unused session runs out.
const IDLE_MS: Millis = 14 * 86_400_000;
/// Days after which any session runs out.
const LONGEST_MS: Millis = 90 * 86_400_000;
/// A session's last use is written at most this often: a write for every page would be one too many.
const SEEN_EVERY_MS: Millis = 3_600_000;

/// Who a cookie stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The hash of the token.
    pub hash: [u8; 32],
    /// Whose it is.
    pub account: AccountId,
    /// When its holder signed in.
    pub created_at: Millis,
    /// When it was last used, to the hour.
    pub seen_at: Millis,
    /// Whether [`Write::touch_session`] is due.
    pub touch: bool,
}

impl Read<'_> {
    /// The session of a cookie's token, if it still holds and the account is open.
    pub fn session(&self, token: &str) -> Result<Option<Session>> {
        let hash = secret::hash(token);
        let sql = "SELECT account, seen_at, sessions.created_at FROM sessions JOIN accounts ON accounts.id = account
                   WHERE hash = ?1 AND expires_at > ?2 AND closed_at IS NULL";
        self.one(sql, params![hash, self.now], |row| {
            let seen_at: Millis = row.get(1)?;
            let touch = self.now - seen_at > SEEN_EVERY_MS;
            Ok(Session { hash, account: row.get(0)?, created_at: row.get(2)?, seen_at, touch })
        })
    }
}

impl Write<'_> {
    /// Starts a session; the token for the cookie, which is stored nowhere. A login always starts a new one.
    pub fn start_session(&mut self, account: AccountId) -> Result<String> {
        self.execute("DELETE FROM sessions WHERE expires_at <= ?1", [self.now])?;
        let token = secret::token()?;
        let sql = "INSERT INTO sessions (hash, account, created_at, seen_at, expires_at) VALUES (?1, ?2, ?3, ?3, ?4)";
        self.execute(sql, params![secret::hash(&token), account, self.now, self.now + IDLE_MS])?;
        Ok(token)
    }

    /// Puts off the end of a session that is in use.
    pub fn touch_session(&mut self, hash: [u8; 32]) -> Result<()> {
        let sql = "UPDATE sessions SET seen_at = ?2, expires_at = min(?3, created_at + ?4) WHERE hash = ?1";
        self.execute(sql, params![hash, self.now, self.now + IDLE_MS, LONGEST_MS])?;
        Ok(())
    }

    /// Ends a session.
    pub fn end_session(&mut self, hash: [u8; 32]) -> Result<()> {
        self.execute("DELETE FROM sessions WHERE hash = ?1", [hash])?;
        Ok(())
    }
}
