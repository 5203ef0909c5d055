//! Accounts: people who log in.

use rusqlite::{OptionalExtension, Row, params};

use super::{AccountId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The row.
    pub id: AccountId,
    /// Names the account in addresses and the API.
    pub code: String,
    /// The login name.
    pub name: String,
    /// Runs the installation.
    pub owner: bool,
    /// When it was made.
    pub created_at: Millis,
    /// When it was closed.
    pub closed_at: Option<Millis>,
}

const COLUMNS: &str = "id, code, name, owner, created_at, closed_at";

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: row.get(0)?,
        code: row.get(1)?,
        name: row.get(2)?,
        owner: row.get(3)?,
        created_at: row.get(4)?,
        closed_at: row.get(5)?,
    })
}

impl Read<'_> {
    /// Whether anyone owns the installation: until then the first one is to be made.
    pub fn has_owner(&self) -> Result<bool> {
        self.exists("SELECT 1 FROM accounts WHERE owner = 1 AND closed_at IS NULL", [])
    }

    /// Whether an owner can log in, by password or through a provider: a public address needs it.
    pub fn has_owner_who_can_log_in(&self) -> Result<bool> {
        let sql = "SELECT 1 FROM accounts WHERE owner = 1 AND closed_at IS NULL
                   AND (password IS NOT NULL OR id IN (SELECT account FROM identities))";
        self.exists(sql, [])
    }

    /// Whether an account of this name could be made.
    ///
    /// # Errors
    /// What is wrong with the name, or that it is taken.
    pub fn check_name(&self, name: &str) -> Result<()> {
        let name = name.trim();
        let fits = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if !fits {
            return Err(Error::invalid("a name needs 1 to 64 characters, none of them a control character"));
        }
        if self.account_named(name)?.is_some() {
            return Err(Error::Conflict(format!("the name \"{name}\" is taken; choose another")));
        }
        Ok(())
    }

    /// The account of a row.
    pub fn account(&self, id: AccountId) -> Result<Account> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE id = ?1");
        self.one(&sql, [id], account)?.ok_or(Error::NotFound("account"))
    }

    /// The account of a code.
    pub fn account_by_code(&self, code: &str) -> Result<Account> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE code = ?1");
        self.one(&sql, [code], account)?.ok_or(Error::NotFound("account"))
    }

    /// The account of a login name, in whatever case.
    pub fn account_named(&self, name: &str) -> Result<Option<Account>> {
        self.one(&format!("SELECT {COLUMNS} FROM accounts WHERE name = ?1"), [name.trim()], account)
    }

    /// All accounts, by name.
    pub fn accounts(&self) -> Result<Vec<Account>> {
        self.list(&format!("SELECT {COLUMNS} FROM accounts ORDER BY name"), [], account)
    }

    /// The stored hash of an account that is not closed, for [`secret::password_is`].
    pub fn password_hash(&self, id: AccountId) -> Result<Option<String>> {
        let sql = "SELECT password FROM accounts WHERE id = ?1 AND closed_at IS NULL";
        Ok(self.db.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?.flatten())
    }
}

impl Write<'_> {
    /// Makes an account. `password_hash` is from [`secret::hash_password`].
    pub fn create_account(
        &mut self,
        name: &str,
        password_hash: Option<&str>,
        owner: bool,
    ) -> Result<Account> {
        self.check_name(name)?;
        let name = name.trim();
        let sql =
            "INSERT INTO accounts (code, name, password, owner, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.insert(sql, params![secret::code()?, name, password_hash, owner, self.now])
            .and_then(|id| self.account(AccountId(id)))
    }

    /// Sets a password; every session of the account ends but the one of this hash.
    pub fn set_password(&mut self, id: AccountId, password_hash: &str, keep: Option<[u8; 32]>) -> Result<()> {
        self.change_one(
            "UPDATE accounts SET password = ?2 WHERE id = ?1",
            params![id, password_hash],
            "account",
        )?;
        let keep = keep.map_or(Vec::new(), Vec::from);
        self.execute("DELETE FROM sessions WHERE account = ?1 AND hash <> ?2", params![id, keep])?;
        Ok(())
    }

    /// Closes an account: no login, no token; what it said stays. The last owner cannot be closed.
    pub fn close_account(&mut self, id: AccountId) -> Result<()> {
        let others =
            self.exists("SELECT 1 FROM accounts WHERE owner = 1 AND closed_at IS NULL AND id <> ?1", [id])?;
        if self.account(id)?.owner && !others {
            return Err(Error::Conflict("this is the last owner; make another one first".into()));
        }
        self.execute(
            "UPDATE accounts SET closed_at = coalesce(closed_at, ?2) WHERE id = ?1",
            params![id, self.now],
        )?;
        self.execute("DELETE FROM sessions WHERE account = ?1", [id])?;
        self.execute(
            "UPDATE tokens SET revoked_at = coalesce(revoked_at, ?2) WHERE account = ?1",
            params![id, self.now],
        )?;
        self.give_back_leases(id)
    }
}
