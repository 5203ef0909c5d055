//! Bearer tokens of the API: a person's, or a service's.

use rusqlite::types::ValueRef;
use rusqlite::{Row, params};

use super::projects::{json, to_json};
use super::{AccountId, ProjectId, Read, Write};
use crate::api::Scope;
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
    /// What it is limited to; none is all that its holder may.
    pub scopes: Option<Vec<Scope>>,
    /// When it was made.
    pub created_at: Millis,
    /// When it runs out.
    pub expires_at: Option<Millis>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
}

/// A token to be made.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// The account it acts for; none is a service.
    pub account: Option<AccountId>,
    /// The one project it is good for.
    pub project: Option<ProjectId>,
    /// What it is limited to.
    pub scopes: Option<Vec<Scope>>,
    /// Who makes it; none is the command line.
    pub by: Option<AccountId>,
    /// When it runs out.
    pub expires_at: Option<Millis>,
}

const COLUMNS: &str = "code, name, account, project, scopes, created_at, expires_at, revoked_at";

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        code: row.get(0)?,
        name: row.get(1)?,
        account: row.get(2)?,
        project: row.get(3)?,
        scopes: match row.get_ref(4)? {
            ValueRef::Null => None,
            _ => Some(json(row, 4)?),
        },
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        revoked_at: row.get(7)?,
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
    /// Makes a token that may all that its holder may; its secret, which is stored nowhere.
    pub fn create_token(
        &mut self,
        name: &str,
        account: Option<AccountId>,
        project: Option<ProjectId>,
        by: Option<AccountId>,
        expires_at: Option<Millis>,
    ) -> Result<String> {
        let new = NewToken { name: name.into(), account, project, scopes: None, by, expires_at };
        Ok(self.new_token(&new)?.0)
    }

    /// Makes a token; its secret, which is stored nowhere, and what is known of it.
    pub fn new_token(&mut self, new: &NewToken) -> Result<(String, Token)> {
        let name = new.name.trim();
        if name.is_empty() || name.len() > 200 {
            return Err(Error::invalid("a token needs a name of at most 200 bytes: say what it is for"));
        }
        let secret = secret::token()?;
        let sql = "INSERT INTO tokens (code, hash, name, account, project, scopes, created_by, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let hash = secret::hash(&secret);
        let scopes = new.scopes.as_ref().map(to_json).transpose()?;
        let (code, now) = (secret::code()?, self.now);
        let row = params![code, hash, name, new.account, new.project, scopes, new.by, now, new.expires_at];
        self.insert(sql, row)?;
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE code = ?1");
        let made = self.one(&sql, [code], token)?.ok_or(Error::NotFound("token"))?;
        Ok((secret, made))
    }

    /// Makes a token useless.
    pub fn revoke_token(&mut self, code: &str) -> Result<()> {
        let sql = "UPDATE tokens SET revoked_at = coalesce(revoked_at, ?2) WHERE code = ?1";
        self.change_one(sql, params![code, self.now], "token")
    }
}
