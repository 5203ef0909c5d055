//! Bearer tokens of the API: a person's, or a service's.

use rusqlite::{Row, params};

use super::{AccountId, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;

/// A token that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Names it in addresses and the API; not the secret.
    pub code: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// The account it acts for; none is a service.
    pub account: Option<AccountId>,
    /// The one project it is good for; none is every one that the account has, or every one for a service.
    pub project: Option<ProjectId>,
    /// When it was made.
    pub created_at: Millis,
    /// When it runs out.
    pub expires_at: Option<Millis>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
}

const COLUMNS: &str = "code, name, account, project, created_at, expires_at, revoked_at";

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        code: row.get(0)?,
        name: row.get(1)?,
        account: row.get(2)?,
        project: row.get(3)?,
        created_at: row.get(4)?,
        expires_at: row.get(5)?,
        revoked_at: row.get(6)?,
    })
}

impl Read<'_> {
    /// The token of a secret, if it still holds.
    pub fn token(&self, secret: &str) -> Result<Option<Token>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tokens WHERE hash = ?1 AND revoked_at IS NULL
             AND (expires_at IS NULL OR expires_at > ?2)"
        );
        self.one(&sql, params![secret::hash(secret), self.now], token)
    }

    /// The tokens of a project, or with none all of them; the newest first.
    pub fn tokens(&self, project: Option<ProjectId>) -> Result<Vec<Token>> {
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE ?1 IS NULL OR project = ?1 ORDER BY id DESC");
        self.list(&sql, [project], token)
    }

    /// The tokens that act for an account, the newest first.
    pub fn tokens_of(&self, account: AccountId) -> Result<Vec<Token>> {
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE account = ?1 ORDER BY id DESC");
        self.list(&sql, [account], token)
    }
}

impl Write<'_> {
    /// Makes a token; its secret, which is stored nowhere.
    pub fn create_token(
        &mut self,
        name: &str,
        account: Option<AccountId>,
        project: Option<ProjectId>,
        by: Option<AccountId>,
        expires_at: Option<Millis>,
    ) -> Result<String> {
        if name.trim().is_empty() || name.len() > 200 {
            return Err(Error::invalid("a token needs a name of at most 200 bytes: say what it is for"));
        }
        let secret = secret::token()?;
        let sql =
            "INSERT INTO tokens (code, hash, name, account, project, created_by, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let hash = secret::hash(&secret);
        let row = params![secret::code()?, hash, name.trim(), account, project, by, self.now, expires_at];
        self.insert(sql, row)?;
        Ok(secret)
    }

    /// Makes a token useless.
    pub fn revoke_token(&mut self, code: &str) -> Result<()> {
        let sql = "UPDATE tokens SET revoked_at = coalesce(revoked_at, ?2) WHERE code = ?1";
        self.change_one(sql, params![code, self.now], "token")
    }
}
